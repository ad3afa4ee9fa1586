//! Where socket bytes land: one block per worker for everything small, and pieces of their own for large values.
//!
//! All sockets of a worker are read into the same block, one after the other: it stays in the cache, and an
//! idle client holds no buffer at all. What is left over of a read (half a request) is copied out; a large
//! value takes the block with it, and the worker gets a new one.

use super::Stream;
use crate::protocol::{Chunks, SHARED_BYTES_MIN};
use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::io::AsyncReadExt;

/// Room for one read. A read that does not fill it needs no second one to learn that there is no more.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// The block that all sockets of a worker are read into.
#[derive(Debug)]
pub struct ReadBlock {
    block: BytesMut,
}

impl Default for ReadBlock {
    fn default() -> Self {
        Self { block: BytesMut::with_capacity(BLOCK_BYTES) }
    }
}

impl ReadBlock {
    /// One read. The bytes are then in [`Self::bytes`]; 0 is the end of the stream.
    pub fn poll_read(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.block.clear();
        let room = self.block.capacity();
        let mut limited = (&mut self.block).limit(room);
        // Cancel-safe: either bytes are in the block, or nothing was read.
        pin!(stream.read_buf(&mut limited)).poll(cx)
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.block
    }

    /// What was read, from `start` on, as shared bytes; the worker goes on with a new block.
    pub fn take(&mut self, start: usize) -> Bytes {
        let mut all = std::mem::replace(&mut self.block, BytesMut::with_capacity(BLOCK_BYTES)).freeze();
        all.split_off(start)
    }
}

/// Collects one large data block with its line end, in the pieces in which it is read.
#[derive(Debug)]
pub struct LargeReader {
    chunks: Chunks,
    piece: BytesMut,
    /// Of the whole, line end included.
    length: usize,
    /// Bytes of it that have not come yet.
    missing: usize,
    /// Nobody wants the value any more: what comes is passed over.
    is_unwanted: bool,
}

impl LargeReader {
    /// `length`: of the data block with its line end. Memory is taken as bytes arrive, never by announcement.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self {
            chunks: Chunks::default(),
            piece: BytesMut::new(),
            length,
            missing: length,
            is_unwanted: false,
        }
    }

    /// From now on nothing is kept, only counted off.
    pub fn give_up(&mut self) {
        self.is_unwanted = true;
        self.chunks = Chunks::default();
        self.piece = BytesMut::new();
    }

    #[must_use]
    pub const fn is_given_up(&self) -> bool {
        self.is_unwanted
    }

    /// Takes from the front of `bytes` what belongs to the value.
    pub fn take_from(&mut self, bytes: &mut Bytes) {
        debug_assert!(self.piece.is_empty(), "pieces are read in order");
        let part = bytes.split_to(self.missing.min(bytes.len()));
        self.missing -= part.len();
        if self.is_unwanted {
            return;
        }
        // A few bytes must not keep the whole block that they were read into.
        let small = part.len() < SHARED_BYTES_MIN;
        if small {
            self.chunks.push(Bytes::copy_from_slice(&part));
        } else {
            self.chunks.push_of_block(part, BLOCK_BYTES);
        }
    }

    /// Of the data block with its line end.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Bytes that have not come yet.
    #[must_use]
    pub const fn missing(&self) -> usize {
        self.missing
    }

    /// Bytes held so far.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.chunks.held_bytes() + self.piece.capacity()
    }

    /// One read of nothing but this value. 0 is the end of the stream.
    pub fn poll_read(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.piece.capacity() == 0 {
            self.piece = BytesMut::with_capacity(self.missing.min(BLOCK_BYTES));
        }
        let room = (self.piece.capacity() - self.piece.len()).min(self.missing);
        let mut limited = (&mut self.piece).limit(room);
        let read = pin!(stream.read_buf(&mut limited)).poll(cx);
        if let Poll::Ready(Ok(count)) = read {
            self.missing -= count;
            if self.is_unwanted {
                self.piece.clear();
            } else if self.missing == 0 || count == room {
                self.chunks.push(std::mem::take(&mut self.piece).freeze());
            }
        } else if self.piece.is_empty() {
            self.piece = BytesMut::new(); // whoever sends nothing holds nothing
        }
        read
    }

    /// The value without its line end; `None` when it does not end in CRLF.
    #[must_use]
    pub fn finish(mut self) -> Option<Chunks> {
        debug_assert!(self.is_complete(), "asked before it was whole");
        self.chunks.strip_suffix(b"\r\n").then_some(self.chunks)
    }
}
