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
}

impl Chunks {
    pub fn push(&mut self, part: Bytes) {
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
    shared: VecDeque<Bytes>,
    block: Vec<u8>,
    /// Invariant: `written <= block.len()`.
    written: usize,
    /// Invariant: bytes in `shared` plus `block.len() - written`.
    len: usize,
}

impl WireBuf {
    #[must_use]
    pub const fn new() -> Self {
        Self { shared: VecDeque::new(), block: Vec::new(), written: 0, len: 0 }
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

    pub fn put_number(&mut self, number: u64) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    pub fn put_value(&mut self, value: Value<'_>) {
        match value {
            Value::Slice(s) => self.put(s),
            Value::Shared(chunks) => {
                for part in chunks.parts() {
                    self.put_shared(part.clone());
                }
            }
        }
    }

    /// Adds a piece without copying it; a small one is copied all the same.
    pub fn put_shared(&mut self, piece: Bytes) {
        if piece.len() < SHARED_BYTES_MIN {
            return self.put(&piece);
        }
        self.seal_block();
        self.len += piece.len();
        self.shared.push_back(piece);
    }

    /// Takes all that `other` holds, in order, behind what is here.
    pub fn append(&mut self, other: &mut Self) {
        if other.shared.is_empty() {
            self.put(&other.block[other.written..]);
        } else {
            self.seal_block();
            for piece in other.shared.drain(..) {
                self.len += piece.len();
                self.shared.push_back(piece);
            }
            self.put(&other.block[other.written..]);
        }
        other.clear();
    }

    pub fn clear(&mut self) {
        if !self.shared.is_empty() {
            self.shared.clear();
        }
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

    /// Capacity held, for the byte budget: the block, not the slice.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.block.capacity() + self.shared.iter().map(Bytes::len).sum::<usize>()
    }

    /// A peer that always leaves some bytes while more come must not make the block grow for ever. What stays is moved
    /// only when it is less than what goes.
    fn drop_written(&mut self) {
        if self.written > BLOCK_BYTES_KEPT_MAX && self.written > self.block.len() / 2 {
            self.block.drain(..self.written);
            self.written = 0;
        }
    }

    fn seal_block(&mut self) {
        if self.written == self.block.len() {
            self.block.clear();
        } else {
            let mut block = Bytes::from(std::mem::take(&mut self.block));
            block.advance(self.written);
            self.shared.push_back(block);
        }
        self.written = 0;
    }
}

impl Buf for WireBuf {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.shared.front().map_or(&self.block[self.written..], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advance past the end");
        self.len -= count;
        while count > 0 {
            let Some(piece) = self.shared.front_mut() else {
                self.written += count;
                self.drop_written();
                break;
            };
            if count < piece.len() {
                piece.advance(count);
                break;
            }
            count -= piece.len();
            self.shared.pop_front();
        }
        if self.len == 0 {
            self.clear();
        }
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let block = &self.block[self.written..];
        let pieces = self.shared.iter().map(|b| &b[..]).chain((!block.is_empty()).then_some(block));
        let mut count = 0;
        for (slot, piece) in out.iter_mut().zip(pieces) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES_KEPT_MAX, WireBuf};
    use bytes::Buf;

    #[test]
    fn a_peer_that_never_takes_all_does_not_make_it_grow() {
        let mut buf = WireBuf::new();
        buf.put(&[0; 1000]);
        for round in 1..10_000_u32 {
            buf.put(&[u8::try_from(round % 256).unwrap_or(0); 1000]);
            buf.advance(1000);
            assert_eq!(buf.chunk()[0], u8::try_from(round % 256).unwrap_or(0), "the order stays");
        }
        assert_eq!(buf.len(), 1000);
        assert!(buf.held_bytes() <= 4 * BLOCK_BYTES_KEPT_MAX, "{} bytes are held", buf.held_bytes());
    }
}
