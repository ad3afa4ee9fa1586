//! A get with several keys: what its parts bring, and the one answer made of them.
//!
//! Each server gets the keys that are its own in one request. Its answers come in the order of those keys,
//! so putting the parts together again is a merge: for each key asked for, look at the head of its part.

use crate::protocol::{Chunks, Keys, Reply, Value, WireBuf};

/// A multi-key get under way. Used again and again: see `Context::spare_multi`.
#[derive(Default)]
pub(super) struct Multi {
    /// For each key, in the order asked for: which part has it.
    part_of: Vec<u32>,
    parts: Vec<Part>,
    /// How many of `parts` are in use.
    parts_count: usize,
    /// Parts that are not answered yet.
    pub(super) waiting: usize,
    /// Keys found.
    pub(super) hits: usize,
    /// Bytes of the values found, as they will be written.
    reply_bytes: usize,
    /// Memory held, for the byte budget.
    held: usize,
    /// The first error line. With one, the values are not shown.
    pub(super) error: Option<Vec<u8>>,
}

/// Which keys go to which leaf. Used again and again, and only while a get is sent.
#[derive(Default)]
pub(super) struct Split {
    /// The leaf of each key.
    pub(super) leaves: Vec<u32>,
    /// Leaf, and places of its keys in the client's line.
    parts: Vec<(usize, Vec<(u32, u32)>)>,
    parts_count: usize,
    /// By leaf, its part and one more; 0 is none. However many servers and keys there are, one look is enough.
    part_by_leaf: Vec<u32>,
}

impl Split {
    pub(super) fn parts(&self) -> &[(usize, Vec<(u32, u32)>)] {
        &self.parts[..self.parts_count]
    }

    pub(super) fn clear(&mut self) {
        for (leaf, ranges) in &mut self.parts[..self.parts_count] {
            self.part_by_leaf[*leaf] = 0;
            ranges.clear();
        }
        self.parts_count = 0;
        self.leaves.clear();
    }

    pub(super) fn held_bytes(&self) -> usize {
        (self.leaves.capacity() + self.part_by_leaf.capacity()) * 4
            + self.parts.iter().map(|(_, r)| r.capacity() * 8).sum::<usize>()
    }

    fn part_of(&mut self, leaf: usize) -> usize {
        if self.part_by_leaf.len() <= leaf {
            self.part_by_leaf.resize(leaf + 1, 0);
        }
        let part = &mut self.part_by_leaf[leaf];
        if *part > 0 {
            return *part as usize - 1;
        }
        *part = u32::try_from(self.parts_count + 1).unwrap_or(u32::MAX);
        if self.parts_count == self.parts.len() {
            self.parts.push((leaf, Vec::new()));
        }
        self.parts[self.parts_count].0 = leaf;
        self.parts_count += 1;
        self.parts_count - 1
    }
}

/// What one server answered.
#[derive(Default)]
struct Part {
    /// The values found, in the order of the part's keys.
    blocks: Vec<Block>,
    /// Their bytes: whole `VALUE` blocks, or the line alone where the value is shared.
    bytes: Vec<u8>,
    // While merging:
    next_key: usize,
    next_block: usize,
    next_byte: usize,
}

impl Part {
    fn room_bytes(&self) -> usize {
        self.bytes.capacity() + self.blocks.capacity() * size_of::<Block>()
    }
}

struct Block {
    /// Of the key, in this part.
    index: usize,
    /// Where this block's bytes end.
    end: usize,
    large: Option<Chunks>,
}

impl Multi {
    /// Sorts keys into parts, by `split.leaves`.
    pub(super) fn split(&mut self, keys: &Keys<'_>, split: &mut Split) {
        for (i, range) in keys.ranges.iter().enumerate() {
            let Some(leaf) = split.leaves.get(i) else { break };
            let part = split.part_of(*leaf as usize);
            split.parts[part].1.push(*range);
            self.part_of.push(u32::try_from(part).unwrap_or(0));
        }
        self.parts_count = split.parts_count;
        if self.parts.len() < self.parts_count {
            self.parts.resize_with(self.parts_count, Part::default);
        }
        self.waiting = self.parts_count;
        self.held = self.part_of.capacity() * size_of::<u32>();
    }

    pub(super) const fn keys_count(&self) -> usize {
        self.part_of.len()
    }

    /// The `index`-th key of a part was found. Returns the bytes that will be written for it.
    pub(super) fn hit(&mut self, part: usize, index: usize, reply: &Reply<'_>) -> usize {
        let Some(part) = self.parts.get_mut(part) else { return 0 };
        let before = part.bytes.len();
        let room_before = part.room_bytes();
        part.bytes.extend_from_slice(reply.line);
        part.bytes.extend_from_slice(b"\r\n");
        let mut large = None;
        let mut shared = 0;
        match reply.value {
            Some(Value::Slice(value)) => {
                part.bytes.extend_from_slice(value);
                part.bytes.extend_from_slice(b"\r\n");
            }
            Some(Value::Shared(chunks)) => {
                shared = chunks.len() + 2;
                self.held += chunks.held_bytes();
                large = Some(chunks.clone());
            }
            None => {}
        }
        part.blocks.push(Block { index, end: part.bytes.len(), large });
        self.hits += 1;
        self.held += part.room_bytes() - room_before;
        let added = part.bytes.len() - before + shared;
        self.reply_bytes += added;
        added
    }

    pub(super) const fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// The whole answer, in the order of the keys asked for.
    pub(super) fn write(&mut self, out: &mut WireBuf) {
        if let Some(error) = &self.error {
            out.put(error);
            out.put(b"\r\n");
            return;
        }
        for index in &self.part_of {
            let part = &mut self.parts[*index as usize];
            let key = part.next_key;
            part.next_key += 1;
            let Some(block) = part.blocks.get(part.next_block).filter(|b| b.index == key) else { continue };
            out.put(&part.bytes[part.next_byte..block.end]);
            if let Some(chunks) = &block.large {
                out.put_value(Value::Shared(chunks));
                out.put(b"\r\n");
            }
            part.next_byte = block.end;
            part.next_block += 1;
        }
        out.put(b"END\r\n");
    }

    pub(super) fn clear(&mut self) {
        for part in &mut self.parts[..self.parts_count] {
            part.blocks.clear();
            part.bytes.clear();
            (part.next_key, part.next_block, part.next_byte) = (0, 0, 0);
        }
        self.part_of.clear();
        self.parts_count = 0;
        self.waiting = 0;
        self.hits = 0;
        self.reply_bytes = 0;
        self.held = 0;
        self.error = None;
    }

    pub(super) fn held_bytes(&self) -> usize {
        let of_parts: usize = self.parts.iter().map(Part::room_bytes).sum();
        of_parts + self.part_of.capacity() * 4
    }
}
