//! A get with several keys: what its parts bring, and the one answer made of them.
//!
//! Each server gets the keys that are its own in one request. Its answers come in the order of those keys,
//! so putting the parts together again is a merge: for each key asked for, look at the head of its part.

use crate::protocol::{Chunks, Found, Keys, Reply, Value, Values, WireBuf};
use std::collections::VecDeque;

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
    /// Bytes of the client's line, from its first key to its last.
    asked_bytes: usize,
    /// Keys that travel alone: requests of their own.
    pub(super) alone_count: usize,
    pub(super) piece: Piece,
    /// The first error line. With one, the values of this piece are not shown.
    pub(super) error: Option<Vec<u8>>,
    /// Of some keys nothing is known, even if that is told as misses.
    pub(super) is_partial: bool,
}

/// Which keys of a get are asked for together: of those that travel alone only so many are under way at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Piece {
    #[default]
    Whole,
    /// Others come behind these.
    Front,
    Last,
}

/// Which keys go to which leaf. Used again and again, and only while a get is sent.
#[derive(Default)]
pub(super) struct Split {
    /// The leaf of each key.
    pub(super) leaves: Vec<u32>,
    /// Leaf, and places of its keys in the client's line.
    parts: Vec<(usize, Vec<(u32, u32)>)>,
    parts_count: usize,
    /// The part of each leaf that has one, else [`Self::NONE`].
    part_of_leaf: Vec<u32>,
}

impl Split {
    const NONE: u32 = u32::MAX;

    pub(super) fn parts(&self) -> &[(usize, Vec<(u32, u32)>)] {
        &self.parts[..self.parts_count]
    }

    pub(super) fn clear(&mut self) {
        for (leaf, ranges) in &mut self.parts[..self.parts_count] {
            ranges.clear();
            self.part_of_leaf[*leaf] = Self::NONE;
        }
        self.parts_count = 0;
        self.leaves.clear();
    }

    pub(super) fn held_bytes(&self) -> usize {
        (self.leaves.capacity() + self.part_of_leaf.capacity()) * 4
            + self.parts.iter().map(|(_, r)| r.capacity() * 8).sum::<usize>()
    }

    fn part_of(&mut self, leaf: u32) -> u32 {
        match self.part_of_leaf.get(leaf as usize) {
            Some(&part) if part != Self::NONE => part,
            _ => self.add_part(leaf as usize),
        }
    }

    #[cold]
    fn add_part(&mut self, leaf: usize) -> u32 {
        if self.part_of_leaf.len() <= leaf {
            self.part_of_leaf.resize(leaf + 1, Self::NONE);
        }
        if self.parts_count == self.parts.len() {
            self.parts.push((leaf, Vec::new()));
        }
        let part = u32::try_from(self.parts_count).unwrap_or(0);
        self.parts[self.parts_count].0 = leaf;
        self.part_of_leaf[leaf] = part;
        self.parts_count += 1;
        part
    }
}

/// What one server answered.
#[derive(Default)]
struct Part {
    /// The values found, in the order of the part's keys.
    blocks: Vec<Block>,
    /// Their bytes: whole `VALUE` blocks, or the line alone where the value is shared.
    bytes: Vec<u8>,
    /// The shared ones, in the same order.
    large: VecDeque<Chunks>,
    // While merging:
    next_key: u32,
    next_block: usize,
    next_byte: usize,
    written: usize,
}

impl Part {
    fn room_bytes(&self) -> usize {
        self.bytes.capacity() + self.blocks.capacity() * size_of::<Block>()
    }

    /// Steps over the next key, and what was found under it.
    fn next(&mut self, out: &mut WireBuf) {
        let key = self.next_key;
        self.next_key += 1;
        let Some(block) = self.blocks.get(self.next_block).filter(|block| block.index == key) else { return };
        self.next_byte = block.end;
        self.next_block += 1;
        if block.is_large {
            self.flush(out);
            if let Some(chunks) = self.large.pop_front() {
                out.put_value(Value::Shared(&chunks));
                out.put(b"\r\n");
            }
        }
    }

    /// Writes what was stepped over.
    fn flush(&mut self, out: &mut WireBuf) {
        out.put(&self.bytes[self.written..self.next_byte]);
        self.written = self.next_byte;
    }
}

struct Block {
    /// Of the key, in this part.
    index: u32,
    /// The value is the next one of `Part::large`.
    is_large: bool,
    /// Where this block's bytes end.
    end: usize,
}

impl Multi {
    /// Sorts keys into parts, by `split.leaves`: as many of them as have one.
    pub(super) fn split(&mut self, keys: &Keys<'_>, split: &mut Split) {
        let count = split.leaves.len().min(keys.len());
        self.part_of.reserve(count);
        for i in 0..count {
            let part = split.part_of(split.leaves[i]);
            split.parts[part as usize].1.push(keys.ranges[i]);
            self.part_of.push(part);
        }
        self.parts_count = split.parts_count;
        if self.parts.len() < self.parts_count {
            self.parts.resize_with(self.parts_count, Part::default);
        }
        self.waiting = self.parts_count;
        self.held = self.part_of.capacity() * size_of::<u32>() + self.parts_count * size_of::<Part>();
        let to_last = |last: usize| (keys.ranges[last].1 - keys.ranges[0].0) as usize;
        self.asked_bytes = count.checked_sub(1).map_or(0, to_last);
    }

    pub(super) const fn asked_bytes(&self) -> usize {
        self.asked_bytes
    }

    /// Requests beyond the one that every get is.
    pub(super) const fn more_count(&self) -> usize {
        self.alone_count.saturating_sub(1)
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
        let (mut is_large, mut shared) = (false, 0);
        match reply.value {
            Some(Value::Slice(value)) => {
                part.bytes.extend_from_slice(value);
                part.bytes.extend_from_slice(b"\r\n");
            }
            Some(Value::Shared(chunks)) => {
                (is_large, shared) = (true, chunks.len() + 2);
                self.held += chunks.held_bytes();
                part.large.push_back(chunks.clone());
            }
            None => {}
        }
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        part.blocks.push(Block { index, is_large, end: part.bytes.len() });
        self.hits += 1;
        self.held += part.room_bytes() - room_before;
        let added = part.bytes.len() - before + shared;
        self.reply_bytes += added;
        added
    }

    pub(super) const fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// Several keys of a part were found: their bytes are copied together. Returns the bytes that will be written.
    pub(super) fn hits(&mut self, part: usize, values: &Values<'_>) -> usize {
        let Some(part) = self.parts.get_mut(part) else { return 0 };
        let before = part.bytes.len();
        let room_before = part.room_bytes();
        part.bytes.extend_from_slice(values.bytes);
        let block = |found: &Found| Block { index: found.index, is_large: false, end: before + found.end };
        part.blocks.extend(values.found.iter().map(block));
        self.hits += values.found.len();
        self.held += part.room_bytes() - room_before;
        self.reply_bytes += values.bytes.len();
        values.bytes.len()
    }

    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// What was found, in the order of the keys asked for; nothing where there was an error.
    pub(super) fn write_values(&mut self, out: &mut WireBuf) {
        if self.error.is_some() {
            return;
        }
        out.reserve(self.parts[..self.parts_count].iter().map(|part| part.bytes.len()).sum());
        // Keys that follow one another and are of the same part are written together.
        let mut at = 0;
        for index in &self.part_of {
            if *index != at {
                self.parts[at as usize].flush(out);
                at = *index;
            }
            self.parts[at as usize].next(out);
        }
        if let Some(part) = self.parts.get_mut(at as usize) {
            part.flush(out);
        }
    }

    pub(super) fn clear(&mut self) {
        for part in &mut self.parts[..self.parts_count] {
            part.blocks.clear();
            part.bytes.clear();
            part.large.clear();
            (part.next_key, part.next_block, part.next_byte, part.written) = (0, 0, 0, 0);
        }
        self.part_of.clear();
        self.parts_count = 0;
        self.waiting = 0;
        self.hits = 0;
        self.reply_bytes = 0;
        self.held = 0;
        self.asked_bytes = 0;
        self.alone_count = 0;
        self.piece = Piece::Whole;
        self.error = None;
        self.is_partial = false;
    }

    pub(super) fn held_bytes(&self) -> usize {
        let of_parts: usize = self.parts.iter().map(Part::room_bytes).sum();
        of_parts + self.parts.capacity() * size_of::<Part>() + self.part_of.capacity() * 4
    }
}
