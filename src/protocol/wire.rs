//! Bytes on their way: [`Value`] is a data block, [`WireBuf`] what waits to be written to a socket.
//!
//! Small parts are copied into one growing block, large ones travel as shared [`Bytes`] and leave by a
//! vectored write: a value of [`SHARED_BYTES_MIN`] or more is never copied inside the proxy.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// From here on a value is shared and not copied. Below, a copy that stays in the cache costs less than
/// the bookkeeping, and a slice that is kept does not pin the block it was read into.
pub const SHARED_BYTES_MIN: usize = 16 * 1024;

/// Blocks of a WireBuf that grew beyond this are given back when they run empty.
const BLOCK_BYTES_KEPT_MAX: usize = 64 * 1024;

/// A data block without its line end.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Slice(&'a [u8]),
    /// A large one, in the pieces in which it was read.
    Shared(&'a Chunks),
}

impl Value<'_> {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Slice(s) => s.len(),
            Self::Shared(c) => c.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece: copies when they are not.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Self::Slice(s) => s.to_vec(),
            Self::Shared(c) => c.parts.iter().flat_map(|p| p.iter().copied()).collect(),
        }
    }
}

/// A large value in pieces.
#[derive(Clone, Debug, Default)]
pub struct Chunks {
    parts: Vec<Bytes>,
    len: usize,
    /// Bytes of the blocks that the parts lie in, beyond the parts themselves.
    pinned: usize,
}

impl Chunks {
    pub fn push(&mut self, part: Bytes) {
        self.push_of_block(part, 0);
    }

    /// A part that keeps a block of this size alive.
    pub fn push_of_block(&mut self, part: Bytes, block_bytes: usize) {
        self.pinned += block_bytes.saturating_sub(part.len());
        self.len += part.len();
        if !part.is_empty() {
            self.parts.push(part);
        }
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory held, for the byte budget: the blocks, not the slices.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.len + self.pinned
    }

    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Cuts the last `count` bytes off and tells whether they were `expected`.
    /// (A data block is read together with its line end; this takes the line end away.)
    pub fn strip_suffix(&mut self, expected: &[u8]) -> bool {
        let mut rest = expected;
        while let Some((last, before)) = rest.split_last() {
            let Some(part) = self.parts.last_mut() else { return false };
            if part.last() != Some(last) {
                return false;
            }
            part.truncate(part.len() - 1);
            self.len -= 1;
            if part.is_empty() {
                self.parts.pop();
            }
            rest = before;
        }
        true
    }
}

/// What waits to be written: shared pieces first, then the block of small parts.
#[derive(Debug, Default)]
pub struct WireBuf {
    /// Invariant: no piece is empty. All of them are older than what is in `block`.
    shared: VecDeque<Piece>,
    block: Vec<u8>,
    /// Invariant: `written <= block.len()`.
    written: usize,
    /// Invariant: bytes in `shared` plus `block.len() - written`.
    len: usize,
    /// Invariant: the `held` of all in `shared`.
    shared_held: usize,
}

/// A shared piece, and the memory that is free again when it is written.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    held: usize,
}

impl WireBuf {
    #[must_use]
    pub const fn new() -> Self {
        Self { shared: VecDeque::new(), block: Vec::new(), written: 0, len: 0, shared_held: 0 }
    }

    /// Bytes not yet written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Room for this many bytes of small parts, taken at once.
    pub fn reserve(&mut self, count: usize) {
        self.block.reserve(count);
    }

    /// Each word with a space before it.
    pub fn put_words<'a>(&mut self, words: impl Iterator<Item = &'a [u8]>) {
        let before = self.block.len();
        for word in words {
            self.block.push(b' ');
            self.block.extend_from_slice(word);
        }
        self.len += self.block.len() - before;
    }

    pub fn put_number(&mut self, number: u64) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    pub fn put_value(&mut self, value: Value<'_>) {
        match value {
            Value::Slice(s) => self.put(s),
            Value::Shared(chunks) => {
                // Blocks that are larger than the parts in them count with the first one.
                let mut pinned = chunks.pinned;
                for part in chunks.parts() {
                    self.put_shared(part.clone(), std::mem::take(&mut pinned));
                }
            }
        }
    }

    /// Adds a piece without copying it; a small one is copied all the same. It pins so many bytes beside its own.
    fn put_shared(&mut self, bytes: Bytes, pinned: usize) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.put(&bytes);
        }
        self.seal_block();
        self.len += bytes.len();
        let held = bytes.len() + pinned;
        self.push_piece(Piece { bytes, held });
    }

    fn push_piece(&mut self, piece: Piece) {
        self.shared_held += piece.held;
        self.shared.push_back(piece);
    }

    /// Takes all that `other` holds, in order, behind what is here.
    pub fn append(&mut self, other: &mut Self) {
        if other.shared.is_empty() {
            self.put(&other.block[other.written..]);
        } else {
            self.seal_block();
            for piece in other.shared.drain(..) {
                self.len += piece.bytes.len();
                self.push_piece(piece);
            }
            self.put(&other.block[other.written..]);
        }
        other.clear();
    }

    pub fn clear(&mut self) {
        if !self.shared.is_empty() {
            self.shared.clear();
        }
        self.shared_held = 0;
        self.written = 0;
        self.len = 0;
        if self.block.capacity() > BLOCK_BYTES_KEPT_MAX {
            self.block = Vec::new();
        } else {
            self.block.clear();
        }
    }

    /// Whether small parts can be added without an allocation.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.block.capacity() > 0
    }

    /// The block, for a fast write when nothing is shared.
    #[must_use]
    pub fn single(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.block[self.written..])
    }

    /// Memory held, for the byte budget: blocks, not slices. An empty one keeps a little room that nobody counts.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        if self.len == 0 {
            return 0;
        }
        self.room_bytes() + self.shared_held + self.shared.len() * size_of::<Piece>()
    }

    /// The room for small parts that this has, used or not.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        self.block.capacity()
    }

    fn seal_block(&mut self) {
        if self.written == self.block.len() {
            self.block.clear();
        } else {
            let held = self.block.capacity();
            let mut bytes = Bytes::from(std::mem::take(&mut self.block));
            bytes.advance(self.written);
            self.push_piece(Piece { bytes, held });
        }
        self.written = 0;
    }
}

impl Buf for WireBuf {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.shared.front().map_or(&self.block[self.written..], |piece| &piece.bytes)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advance past the end");
        self.len -= count;
        while count > 0 {
            let Some(piece) = self.shared.front_mut() else {
                self.written += count;
                break;
            };
            if count < piece.bytes.len() {
                piece.bytes.advance(count);
                break;
            }
            count -= piece.bytes.len();
            self.shared_held -= piece.held;
            self.shared.pop_front();
        }
        if self.len == 0 {
            self.clear();
        }
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let block = &self.block[self.written..];
        let pieces =
            self.shared.iter().map(|piece| &piece.bytes[..]).chain((!block.is_empty()).then_some(block));
        let mut count = 0;
        for (slot, piece) in out.iter_mut().zip(pieces) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }
}
