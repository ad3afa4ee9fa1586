//! Replies as they come from a server's socket: lines and data blocks, handed to whoever is next in line.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic))]

use super::connection::Connection;
use super::inflight::{Asked, Check, Verdict};
use crate::net::{LargeReader, ReadBlock, Stream};
use crate::protocol::ascii::{Framed, frame};
use crate::protocol::limits::{LINE_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use crate::protocol::{Cause, Chunks, Found, Reply, SHARED_BYTES_MIN, Status, Value, meta};
use crate::route::Slot;
use bytes::{Buf, BytesMut};
use std::cell::RefCell;
use std::task::{Context, Poll};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By the server: end of stream, reset, broken pipe.
    Closed,
    /// It said what it was not asked.
    Desync,
    /// Its replies stayed out for too long.
    TooLate,
    /// Nobody sends there any more, and all that was asked is answered.
    Retired,
}

impl Ended {
    pub(super) const fn cause(self) -> Cause {
        match self {
            Self::Closed | Self::Retired => Cause::Closed,
            Self::Desync => Cause::Desync,
            Self::TooLate => Cause::Timeout,
        }
    }
}

/// Where we are in the stream of replies.
#[derive(Default)]
pub(super) struct Reader {
    /// Bytes of a reply that is not whole yet.
    rest: BytesMut,
    /// `rest` is not looked at again before it has grown to this.
    rest_bytes_min: usize,
    /// A large value under way, and its line.
    large: Option<(Vec<u8>, usize, LargeReader)>,
    /// The value of a single classic get is here, its `END` is not.
    held: Option<(Vec<u8>, Chunks)>,
    /// Lines are put together here when our opaque is taken out of them.
    line: Vec<u8>,
    /// The values of one read are gathered here.
    found: Vec<Found>,
}

/// What one look at the bytes brought.
enum Step {
    /// This many bytes are done with.
    Used(usize),
    /// The reply is not whole; look again when there are this many bytes.
    Wait(usize),
    /// After this many bytes a large value begins.
    Large {
        start: usize,
        length: usize,
        index: usize,
        line: Vec<u8>,
    },
    Desync,
}

impl Reader {
    /// One read, and all replies that it completes. `Ready(Ok)`: there may be more to read.
    pub(super) fn poll(
        &mut self,
        connection: &Connection,
        stream: &mut Stream,
        block: &RefCell<ReadBlock>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Ended>> {
        if let Some((_, _, reader)) = &mut self.large {
            let read = reader.poll_read(stream, cx);
            let count = match read {
                Poll::Ready(Ok(count)) if count > 0 => count,
                Poll::Ready(_) => return Poll::Ready(Err(Ended::Closed)),
                Poll::Pending => return Poll::Pending,
            };
            self.keep_within_budget(connection);
            if let Err(ended) = self.finish_large(connection) {
                return Poll::Ready(Err(ended));
            }
            // It has been handed on; for a while nothing more may come that would say so.
            connection.account_read(self.held_bytes());
            return Poll::Ready(Ok(count));
        }
        let mut block = block.borrow_mut();
        let count = match block.poll_read(stream, cx) {
            Poll::Ready(Ok(count)) if count > 0 => count,
            Poll::Ready(_) => return Poll::Ready(Err(Ended::Closed)),
            Poll::Pending => return Poll::Pending,
        };
        let result = self.on_block(connection, &mut block).map(|()| count);
        drop(block);
        self.keep_within_budget(connection);
        Poll::Ready(result)
    }

    /// What is read is held for somebody, and within the bound; else it is only counted off.
    fn keep_within_budget(&mut self, connection: &Connection) {
        connection.account_read(self.held_bytes());
        let Some((_, _, reader)) = &mut self.large else { return };
        let is_awaited = connection
            .with_inflight(|i| i.front().and_then(|entry| entry.slot.as_ref()).is_some_and(Slot::is_awaited));
        let is_kept = is_awaited && connection.shared.budget.make_room();
        if !is_kept && !reader.is_given_up() {
            reader.give_up();
            connection.give_up_front();
            connection.account_read(self.held_bytes());
        }
    }

    fn held_bytes(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |(_, _, reader)| reader.held_bytes());
        let held = self.held.as_ref().map_or(0, |(_, chunks)| chunks.held_bytes());
        large + held + self.rest.capacity()
    }

    fn on_block(&mut self, connection: &Connection, block: &mut ReadBlock) -> Result<(), Ended> {
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(block.bytes());
            return self.on_rest(connection);
        }
        let mut start = 0;
        while let Some(bytes) = block.bytes().get(start..).filter(|bytes| !bytes.is_empty()) {
            match self.step(connection, bytes) {
                Step::Used(count) => start += count,
                Step::Wait(bytes_min) => {
                    self.rest.extend_from_slice(bytes);
                    self.rest_bytes_min = bytes_min;
                    return Ok(());
                }
                Step::Large { start: at, length, index, line } => {
                    // The value keeps the block; nothing of it is copied.
                    let mut bytes = block.take(start + at);
                    self.begin_large(connection, line, index, length, |r| r.take_from(&mut bytes))?;
                    self.rest.extend_from_slice(&bytes);
                    return self.on_rest(connection);
                }
                Step::Desync => return Err(Ended::Desync),
            }
        }
        Ok(())
    }

    fn on_rest(&mut self, connection: &Connection) -> Result<(), Ended> {
        while !self.rest.is_empty() && self.rest.len() >= self.rest_bytes_min && self.large.is_none() {
            let rest = std::mem::take(&mut self.rest);
            let step = self.step(connection, &rest);
            self.rest = rest;
            match step {
                Step::Used(count) => {
                    self.rest.advance(count);
                    self.rest_bytes_min = 0;
                }
                Step::Wait(bytes_min) => self.rest_bytes_min = bytes_min,
                Step::Large { start, length, index, line } => {
                    self.rest.advance(start);
                    self.rest_bytes_min = 0;
                    let mut bytes = std::mem::take(&mut self.rest).freeze();
                    self.begin_large(connection, line, index, length, |r| r.take_from(&mut bytes))?;
                    self.rest.extend_from_slice(&bytes);
                }
                Step::Desync => return Err(Ended::Desync),
            }
        }
        if self.rest.is_empty() {
            self.rest = BytesMut::new(); // an idle connection holds nothing
        }
        Ok(())
    }

    /// Looks at the front of `bytes` for the next reply.
    fn step(&mut self, connection: &Connection, bytes: &[u8]) -> Step {
        let used = connection.take_values(bytes, &mut self.found);
        if used > 0 {
            return Step::Used(used);
        }
        let (line, consumed) = match frame(bytes, 0) {
            // A server's lines end in CRLF and are short, whatever they begin with: framing is shared with clients,
            // who may do otherwise.
            Framed::Line { line, consumed } if line.len() + 2 == consumed => (line, consumed),
            // Not even the beginning of a line may come while nothing is due: what is asked next would be answered by it.
            Framed::Incomplete
                if bytes.len() <= LINE_BYTES_MAX
                    && (self.held.is_some() || connection.with_inflight(|i| i.is_due())) =>
            {
                return Step::Wait(bytes.len() + 1);
            }
            _ => return Step::Desync,
        };
        if let Some((head, chunks)) = self.held.take() {
            return self.end_of_held(connection, line, consumed, &head, &chunks);
        }
        let (verdict, check, asked) = connection.with_inflight(|inflight| {
            if !inflight.is_due() {
                return (Verdict::Desync, Check::Kind, Asked::FlushAll);
            }
            let verdict = inflight.judge(line);
            let front = inflight.front();
            (verdict, front.map_or(Check::Kind, |e| e.check), front.map_or(Asked::FlushAll, |e| e.asked))
        });
        match verdict {
            Verdict::Done(status) => {
                let Some(entry) = connection.pop() else { return Step::Desync };
                let shown = self.shown(line, check, status, asked);
                connection.answer(entry, &Reply::line(status, shown));
                Step::Used(consumed)
            }
            // more than any memcached has
            Verdict::Value { length, .. } if length > VALUE_BYTES_MAX_MAX => Step::Desync,
            Verdict::Value { length, index } if length < SHARED_BYTES_MIN => {
                let Some(data) = bytes.get(consumed..consumed + length + 2) else {
                    return Step::Wait(consumed + length + 2);
                };
                let Some(data) = data.strip_suffix(b"\r\n") else { return Step::Desync };
                let end = consumed + length + 2;
                self.small_value(connection, bytes, end, asked, check, index, line, data)
            }
            Verdict::Value { length, index } => {
                let line = self.shown(line, check, Status::Hit, asked).to_vec();
                Step::Large { start: consumed, length, index, line }
            }
            Verdict::Desync => Step::Desync,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one reply, taken apart above")]
    fn small_value(
        &mut self,
        connection: &Connection,
        bytes: &[u8],
        end: usize,
        asked: Asked,
        check: Check,
        index: usize,
        line: &[u8],
        data: &[u8],
    ) -> Step {
        /// What closes a classic get.
        const END: &[u8] = b"END\r\n";
        let reply = |line, status| Reply::with_value(status, line, Value::Slice(data));
        match asked {
            Asked::Multi(_) => {
                connection.hit(index, &reply(line, Status::Hit));
                Step::Used(end)
            }
            Asked::One(op) if op.is_meta() => {
                let Some(entry) = connection.pop() else { return Step::Desync };
                let status = value_status(asked);
                let shown = self.shown(line, check, status, asked);
                connection.answer(entry, &reply(shown, status));
                Step::Used(end)
            }
            _ => {
                let rest = bytes.get(end..).unwrap_or_default();
                if rest.starts_with(END) {
                    let Some(entry) = connection.pop() else { return Step::Desync };
                    connection.answer(entry, &reply(line, Status::Hit));
                    return Step::Used(end + END.len());
                }
                if END.starts_with(rest) { Step::Wait(end + END.len()) } else { Step::Desync }
            }
        }
    }

    /// The line that the client shall see: ours without our opaque; nothing for the end of a classic get.
    fn shown<'a>(&'a mut self, line: &'a [u8], check: Check, status: Status, asked: Asked) -> &'a [u8] {
        match (check, asked) {
            (Check::OwnOpaque(_), _) if status != Status::ErrorLine => {
                self.line.clear();
                meta::write_line_without_opaque(line, &mut self.line);
                &self.line
            }
            (_, Asked::Multi(_) | Asked::One(_)) if line == b"END" => &[],
            _ => line,
        }
    }

    fn begin_large(
        &mut self,
        connection: &Connection,
        line: Vec<u8>,
        index: usize,
        length: usize,
        fill: impl FnOnce(&mut LargeReader),
    ) -> Result<(), Ended> {
        let mut reader = LargeReader::new(length + 2);
        fill(&mut reader);
        self.large = Some((line, index, reader));
        self.finish_large(connection)
    }

    /// Hands a large value on when it is whole.
    fn finish_large(&mut self, connection: &Connection) -> Result<(), Ended> {
        if !self.large.as_ref().is_some_and(|(_, _, r)| r.is_complete()) {
            return Ok(());
        }
        let Some((line, index, reader)) = self.large.take() else { return Ok(()) };
        let chunks = if reader.is_given_up() {
            connection.pass_over(reader.length());
            Some(Chunks::default())
        } else {
            reader.finish()
        };
        let Some(chunks) = chunks else { return Err(Ended::Desync) };
        let asked = connection.with_inflight(|i| i.front().map(|e| e.asked)).ok_or(Ended::Desync)?;
        match asked {
            Asked::Multi(_) => {
                let reply = Reply::with_value(Status::Hit, &line, Value::Shared(&chunks));
                connection.hit(index, &reply);
            }
            Asked::One(op) if op.is_meta() => {
                let entry = connection.pop().ok_or(Ended::Desync)?;
                let status = value_status(asked);
                connection.answer(entry, &Reply::with_value(status, &line, Value::Shared(&chunks)));
            }
            _ => self.held = Some((line, chunks)),
        }
        Ok(())
    }

    /// The line after the large value of a single get must be `END`.
    fn end_of_held(
        &self,
        connection: &Connection,
        line: &[u8],
        consumed: usize,
        head: &[u8],
        chunks: &Chunks,
    ) -> Step {
        if line != b"END" {
            return Step::Desync;
        }
        let Some(entry) = connection.pop() else { return Step::Desync };
        let reply = Reply::with_value(Status::Hit, head, Value::Shared(chunks));
        connection.answer(entry, &reply);
        Step::Used(consumed)
    }
}

/// What a reply with a value means: a number for `ma`, else a hit.
fn value_status(asked: Asked) -> Status {
    match asked {
        Asked::One(crate::protocol::Op::MetaArithmetic) => Status::Number,
        _ => Status::Hit,
    }
}
