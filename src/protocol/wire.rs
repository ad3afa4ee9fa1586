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
const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// From here on a block takes no further message: one of small parts still finds room in it.
const BLOCK_BYTES_FULL: usize = BLOCK_BYTES_MAX - SHARED_BYTES_MIN;

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

    /// Takes another one's parts behind its own.
    pub fn append(&mut self, other: Self) {
        self.len += other.len;
        self.pinned += other.pinned;
        self.parts.extend(other.parts);
    }

    /// The bytes of this range, not copied. What the blocks hold beyond counts once, with the piece that begins at 0.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let mut slice = Self { pinned: if range.start == 0 { self.pinned } else { 0 }, ..Self::default() };
        let mut at = 0;
        for part in &self.parts {
            let (start, end) = (range.start.clamp(at, at + part.len()), range.end.clamp(at, at + part.len()));
            if start < end {
                slice.push(part.slice(start - at..end - at));
            }
            at += part.len();
        }
        slice
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

    /// For what gathers until a peer takes it, before each message: blocks that double without end, for many peers who read
    /// nothing at the same time, leave the allocator with as much again in smaller ones that nobody wants.
    #[inline]
    pub fn begin_message(&mut self) {
        if self.block.len() >= BLOCK_BYTES_FULL {
            self.begin_block();
        }
    }

    /// Whoever filled one block gets the next at once and in full.
    #[cold]
    fn begin_block(&mut self) {
        self.seal_block();
        self.block.reserve_exact(BLOCK_BYTES_MAX);
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

    /// Adds a large piece that somebody else keeps, and counts, until long after it is written.
    pub fn put_lent(&mut self, bytes: Bytes) {
        self.seal_block();
        self.len += bytes.len();
        if !bytes.is_empty() {
            self.push_piece(Piece { bytes, held: 0 });
        }
    }

    fn push_piece(&mut self, piece: Piece) {
        self.shared_held += piece.held;
        self.shared.push_back(piece);
    }

    /// Takes all that `other` holds, in order, behind what is here.
    pub fn append(&mut self, other: &mut Self) {
        self.begin_message();
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

    /// Moves the first `count` bytes behind what `into` has. Large pieces are not copied.
    pub fn move_front(&mut self, mut count: usize, into: &mut Self) {
        debug_assert!(count <= self.len, "more than there is");
        while count > 0 {
            match self.shared.front_mut() {
                Some(piece) if piece.bytes.len() <= count => {
                    let Some(Piece { bytes, held }) = self.shared.pop_front() else { return };
                    count -= bytes.len();
                    self.len -= bytes.len();
                    self.shared_held -= held;
                    let pinned = held.saturating_sub(bytes.len());
                    if held == 0 { into.put_lent(bytes) } else { into.put_shared(bytes, pinned) }
                }
                _ => {
                    into.put(&self.chunk()[..count]);
                    self.advance(count);
                    return;
                }
            }
        }
        if self.len == 0 {
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        if !self.shared.is_empty() {
            self.shared.clear();
        }
        self.shared_held = 0;
        self.written = 0;
        self.len = 0;
        if self.block.capacity() > BLOCK_BYTES_MAX {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LARGE: usize = SHARED_BYTES_MIN;

    /// All that is left, taken `step` bytes at a time.
    fn drained(wire: &mut WireBuf, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while wire.has_remaining() {
            let taken = wire.chunk().len().min(step);
            assert!(taken > 0, "no piece is empty");
            bytes.extend_from_slice(&wire.chunk()[..taken]);
            wire.advance(taken);
            assert_eq!(wire.is_empty(), wire.remaining() == 0);
        }
        bytes
    }

    fn chunks(parts: &[&[u8]]) -> Chunks {
        let mut chunks = Chunks::default();
        parts.iter().for_each(|part| chunks.push(Bytes::copy_from_slice(part)));
        chunks
    }

    #[test]
    fn from_16_kib_a_value_is_shared() {
        assert_eq!((SHARED_BYTES_MIN, BLOCK_BYTES_MAX), (16_384, 65_536));
        for (len, is_shared) in [(LARGE - 1, false), (LARGE, true), (LARGE + 1, true)] {
            let (mut wire, value) = (WireBuf::new(), chunks(&[&vec![b'v'; len]]));
            wire.put_value(Value::Shared(&value));
            assert_eq!((wire.len(), wire.single().is_none()), (len, is_shared));
            assert_eq!(wire.chunk().as_ptr() == value.parts()[0].as_ptr(), is_shared);
        }
    }

    #[test]
    fn values_tell_their_bytes_in_whatever_pieces() {
        let value = chunks(&[b"ab", b"", b"c"]);
        assert_eq!((value.len(), value.is_empty(), value.parts().len()), (3, false, 2));
        assert_eq!(Value::Shared(&value).to_vec(), b"abc");
        assert_eq!(Value::Slice(b"ab").to_vec(), b"ab");
        assert!(!Value::Slice(b"a").is_empty() && !Value::Shared(&value).is_empty());
        assert!(Value::Slice(b"").is_empty() && Value::Shared(&Chunks::default()).is_empty());
        assert!(Chunks::default().is_empty());
    }

    #[test]
    fn chunks_count_the_blocks_that_they_keep() {
        let mut value = chunks(&[b"ab"]);
        assert_eq!(value.held_bytes(), 2);
        value.push_of_block(Bytes::from_static(b"cde"), 100);
        value.push_of_block(Bytes::from_static(b"cde"), 1); // the block is not told in full
        assert_eq!((value.len(), value.held_bytes()), (8, 2 + 100 + 3));
    }

    #[test]
    fn chunks_are_cut_and_put_together() {
        let mut value = chunks(&[b"abc", b"defg"]);
        value.push_of_block(Bytes::from_static(b"h"), 10);
        let slices = [0..2, 2..5, 5..8].map(|range| value.slice(range));
        let texts = slices.each_ref().map(|slice| Value::Shared(slice).to_vec());
        assert_eq!(texts, [b"ab".to_vec(), b"cde".to_vec(), b"fgh".to_vec()]);
        assert_eq!(slices.each_ref().map(Chunks::held_bytes), [2 + 9, 3, 3]);
        assert_eq!(value.slice(8..8).len(), 0);
        let mut whole = Chunks::default();
        slices.into_iter().for_each(|slice| whole.append(slice));
        assert_eq!((Value::Shared(&whole).to_vec(), whole.len()), (b"abcdefgh".to_vec(), 8));
        assert_eq!(whole.held_bytes(), value.held_bytes());
    }

    #[test]
    fn a_line_end_is_stripped_across_pieces() {
        for (parts, is_whole, rest) in [
            (&[&b"ab\r\n"[..]][..], true, &b"ab"[..]),
            (&[b"ab\r", b"\n"], true, b"ab"),
            (&[b"ab", b"\r", b"\n"], true, b"ab"),
            (&[b"\r\n"], true, b""),
            (&[b"ab\n"], false, b"ab"),
            (&[b"ab\rx"], false, b"ab\rx"),
            (&[b"\n"], false, b""),
        ] {
            let mut value = chunks(parts);
            assert_eq!(value.strip_suffix(b"\r\n"), is_whole, "{parts:?}");
            assert_eq!(
                (Value::Shared(&value).to_vec(), value.len()),
                (rest.to_vec(), rest.len()),
                "{parts:?}"
            );
            assert!(value.parts().iter().all(|p| !p.is_empty()));
        }
    }

    #[test]
    fn a_block_that_grew_large_is_given_back_when_it_runs_empty() {
        let mut wire = WireBuf::new();
        assert!(!wire.has_room() && wire.is_empty());
        for (len, is_kept) in [(10, true), (BLOCK_BYTES_MAX, true), (BLOCK_BYTES_MAX + 1, false)] {
            let mut wire = WireBuf { block: Vec::with_capacity(len), ..WireBuf::new() };
            wire.put(&vec![b'a'; len]);
            assert!(wire.has_room() && !wire.is_empty() && wire.held_bytes() >= len);
            wire.advance(len);
            assert_eq!((wire.has_room(), wire.room_bytes() >= len), (is_kept, is_kept), "{len}");
            assert_eq!((wire.held_bytes(), wire.single()), (0, Some(&b""[..])));
        }
        wire.put(b"a");
        wire.put_value(Value::Shared(&chunks(&[&[b'v'; LARGE]])));
        wire.clear();
        assert!(wire.is_empty() && wire.single().is_some() && wire.held_bytes() == 0);
    }

    #[test]
    fn held_bytes_count_blocks_and_not_slices() {
        let mut value = Chunks::default();
        value.push_of_block(Bytes::from(vec![b'v'; LARGE]), 50_000);
        value.push(Bytes::from(vec![b'w'; LARGE]));
        let mut wire = WireBuf { block: Vec::with_capacity(40), ..WireBuf::new() };
        wire.put(b"line");
        wire.put_value(Value::Shared(&value));
        // the sealed block of 40, and both parts with what they pin
        let pieces = size_of::<Piece>();
        assert_eq!(wire.held_bytes(), 40 + 50_000 + LARGE + 3 * pieces);
        let mut all = WireBuf { block: Vec::with_capacity(7), ..WireBuf::new() };
        all.append(&mut wire);
        assert_eq!((wire.len(), wire.held_bytes()), (0, 0));
        assert_eq!(all.held_bytes(), 7 + 40 + 50_000 + LARGE + 3 * pieces);
        all.put(b"x");
        all.advance(4 + LARGE);
        assert_eq!(all.held_bytes(), all.room_bytes() + LARGE + pieces);
        all.advance(LARGE);
        assert_eq!((all.held_bytes(), all.single()), (all.room_bytes(), Some(&b"x"[..])));
    }

    #[test]
    fn a_vectored_write_sees_every_piece_once() {
        let mut wire = WireBuf::new();
        wire.put(b"a");
        wire.put_value(Value::Shared(&chunks(&[&[b'v'; LARGE]])));
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(wire.chunks_vectored(&mut slices), 2);
        wire.put(b"b");
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(wire.chunks_vectored(&mut slices), 3);
        assert_eq!([&*slices[0], &*slices[2]], [b"a", b"b"]);
        assert_eq!(slices[1].len(), LARGE);
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(wire.chunks_vectored(&mut slices), 2);
        assert_eq!(WireBuf::new().chunks_vectored(&mut slices), 0);
    }

    proptest! {
        /// Whatever is put in and however it is taken out, the bytes leave in order.
        #[test]
        fn bytes_leave_in_order(
            steps in prop::collection::vec((0u8..4, 0usize..3 * LARGE), 1..12), step in 1usize..40_000,
        ) {
            let (mut wire, mut expected) = (WireBuf::new(), Vec::new());
            for (number, (kind, len)) in steps.into_iter().enumerate() {
                let bytes = vec![u8::try_from(number).unwrap_or(0); len];
                match kind {
                    0 => wire.put(&bytes),
                    1 => wire.put_value(Value::Shared(&chunks(&[&bytes]))),
                    2 => {
                        let mut other = WireBuf::new();
                        other.put(b"dropped");
                        other.put_value(Value::Shared(&chunks(&[&bytes])));
                        other.put(b"behind");
                        other.advance(7);
                        wire.append(&mut other);
                        prop_assert!(other.is_empty());
                    }
                    _ => {
                        let taken = len.min(wire.len());
                        wire.advance(taken);
                        expected.drain(..taken);
                    }
                }
                if kind < 3 {
                    expected.extend_from_slice(&bytes);
                }
                if kind == 2 {
                    expected.extend_from_slice(b"behind");
                }
                prop_assert_eq!(wire.len(), expected.len());
                prop_assert_eq!(wire.remaining(), expected.len());
                prop_assert_eq!(wire.is_empty(), expected.is_empty());
            }
            prop_assert_eq!(drained(&mut wire, step), expected);
            prop_assert!(wire.is_empty() && wire.single() == Some(&b""[..]));
        }
    }

    #[test]
    fn messages_gather_in_blocks_of_one_size() {
        let mut wire = WireBuf::new();
        for _ in 0..1_000 {
            wire.begin_message();
            wire.put(&[b'a'; 999]);
        }
        let messages_in_a_block = BLOCK_BYTES_FULL.div_ceil(999);
        assert_eq!(
            (wire.len(), wire.shared.len()),
            (999_000, 1_000 / messages_in_a_block - 1),
            "the last is not full"
        );
        assert!(wire.shared.iter().all(|piece| piece.held <= BLOCK_BYTES_MAX), "none is larger");
        assert!(wire.held_bytes() <= 2 * wire.len());
        let mut all = WireBuf::new();
        all.put(b"b");
        all.append(&mut wire);
        assert_eq!((all.len(), drained(&mut all, 100_000).len()), (999_001, 999_001));
    }

    #[test]
    fn a_peer_that_never_takes_all_does_not_make_it_grow() {
        let mut buf = WireBuf::new();
        buf.put(&[0; 1000]);
        for round in 1..10_000_u32 {
            buf.begin_message();
            buf.put(&[u8::try_from(round % 256).unwrap_or(0); 1000]);
            buf.advance(1000);
            assert_eq!(buf.chunk()[0], u8::try_from(round % 256).unwrap_or(0), "the order stays");
        }
        assert_eq!(buf.len(), 1000);
        assert!(buf.held_bytes() <= 4 * BLOCK_BYTES_MAX, "{} bytes are held", buf.held_bytes());
    }
}
