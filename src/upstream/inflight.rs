//! Which reply belongs to which request: first in, first out, and checked.
//!
//! Pure: no socket, no clock. A request that timed out keeps its place, so that its late reply is counted
//! off and thrown away. The key of every `VALUE` and the opaque of every meta reply is compared with what is
//! due in that place; a reply that does not fit is a [`Verdict::Desync`] and ends the connection, because a
//! wrong value is worse than any error.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic))]

use crate::net::FirstReplies;
use crate::protocol::ascii::{self, ReplyLine};
use crate::protocol::meta::{self, MetaCode};
use crate::protocol::{Found, Op, SHARED_BYTES_MIN, Status};
use crate::route::Slot;
use bytes::Bytes;
use std::collections::VecDeque;
use tokio::time::Instant;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    One(Op),
    /// A classic get with several keys.
    Multi(Op),
    FlushAll,
}

/// How the reply is recognised as the one that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// By its kind alone.
    Kind,
    /// By the key, or keys: `line[start..]`, to the line's end.
    Keys { start: u32 },
    /// By the number that we gave as opaque; the client does not see it.
    OwnOpaque(u32),
    /// By the client's opaque: `line[start..]`, to the line's end.
    Opaque { start: u32 },
}

/// One request that is queued or sent.
pub(super) struct Entry {
    /// `None`: timed out, or given up; the reply will be thrown away.
    pub(super) slot: Option<Slot>,
    pub(super) asked: Asked,
    pub(super) check: Check,
    pub(super) deadline: Instant,
    /// It came in time, or the beginning of it, but its value is passed over.
    pub(super) given_up: bool,
    /// Nobody ever waited for the reply.
    is_copy: bool,
    /// Sent a second time.
    pub(super) resent: bool,
    /// The line is kept whole and may be sent again: repeating it is harmless.
    pub(super) repeatable: bool,
    /// Bytes of this entry in the line store, or [`SHARED_LINE`].
    line_bytes: u32,
    /// Where the request ends in the stream of bytes to this server.
    end: u64,
    /// Its own bytes in that stream.
    size: u64,
    /// Bytes that it is expected to move, where that is much.
    bulk_bytes: usize,
    /// Keys of a new client's request, where that is reckoned by them for want of better knowledge.
    unknown_keys: u32,
    /// It waits in front of the connection, or did before it came here.
    waited: bool,
    /// Multi-key gets: how many keys are counted off, and where the next one starts in the line.
    next_key: u32,
    next_at: u32,
    /// The same once the value that was judged last has been handed on. A line whose value is not whole yet is
    /// judged again.
    after: (u32, u32),
}

impl Entry {
    /// Its own bytes in the stream to the server.
    pub(super) fn size(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// Bytes that it is expected to move, where that is much; else 0.
    pub(super) const fn bulk_bytes(&self) -> usize {
        self.bulk_bytes
    }

    /// Keys of a new client's get; `None`: it is something else.
    pub(super) fn unknown_get_keys(&self) -> Option<usize> {
        let is_get = match self.asked {
            Asked::One(op) => op.is_classic_get() || op == Op::MetaGet,
            Asked::Multi(_) => true,
            Asked::FlushAll => false,
        };
        (is_get && self.unknown_keys > 0).then_some(self.unknown_keys as usize)
    }

    /// Whether somebody waits for the reply, or nobody ever did, or the request changes something.
    pub(super) fn is_wanted(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| self.is_copy || !self.repeatable || slot.is_awaited())
    }
}

/// What a reply line means for the oldest request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The request is answered by this line.
    Done(Status),
    /// A data block of this length follows; for a multi-key get it belongs to the key with this index.
    Value { length: usize, index: usize },
    /// Not an answer to what was asked.
    Desync,
}

/// Requests of one connection in the order in which they are sent.
#[derive(Default)]
pub(super) struct Inflight {
    entries: VecDeque<Entry>,
    lines: LineStore,
    /// Invariant: the number of entries without a slot.
    late: usize,
    /// Bytes queued and bytes written since the connection object exists.
    queued_at: u64,
    written_at: u64,
    /// Invariant: the sum of all entries' own.
    bulk_bytes: usize,
    /// Invariant: the number of entries for which nobody ever waited.
    copies_count: usize,
    /// Some deadline may be earlier than one in front of it: the request waited elsewhere before.
    is_mixed: bool,
}

impl Inflight {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether more that moves much may come, by what those under way are expected to move.
    pub(super) const fn has_bulk_room(&self, bulk_bytes_max: usize) -> bool {
        self.bulk_bytes < bulk_bytes_max
    }

    /// Requests that timed out or were given up, whose replies have not come.
    pub(super) const fn late(&self) -> usize {
        self.late
    }

    /// Whether the oldest request timed out and is not answered yet. (One that came late to the connection says nothing of the
    /// server.)
    pub(super) fn is_behind(&self) -> bool {
        let is_overdue = |oldest: &Entry| oldest.slot.is_none() && !oldest.given_up && !oldest.waited;
        self.is_due() && self.entries.front().is_some_and(is_overdue)
    }

    /// Requests for which nobody ever waited.
    pub(super) const fn copies_count(&self) -> usize {
        self.copies_count
    }

    pub(super) fn front_deadline(&self) -> Option<Instant> {
        self.entries.front().map(|e| e.deadline)
    }

    /// The deadline of the oldest request that is still waited for.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let mut deadlines = self.entries.iter().filter(|e| e.slot.is_some()).map(|e| e.deadline);
        if self.is_mixed { deadlines.min() } else { deadlines.next() }
    }

    /// Adds a request of `size` bytes. `line` is what checking and sending again need of it.
    pub(super) fn push(&mut self, new: New<'_>, slot: Slot) {
        self.queued_at += new.size as u64;
        self.bulk_bytes += new.bulk_bytes;
        let line_bytes = match &new.shared {
            Some(line) => self.lines.push_shared(line.clone()),
            None => self.lines.push(new.line),
        };
        let is_copy = !slot.is_awaited();
        self.copies_count += usize::from(is_copy);
        self.entries.push_back(Entry {
            slot: Some(slot),
            given_up: false,
            is_copy,
            asked: new.asked,
            check: new.check,
            deadline: new.deadline,
            resent: new.resent,
            repeatable: new.repeatable,
            line_bytes,
            end: self.queued_at,
            size: new.size as u64,
            bulk_bytes: new.bulk_bytes,
            unknown_keys: new.unknown_keys,
            waited: new.waited,
            next_key: 0,
            next_at: match new.check {
                Check::Keys { start } => start,
                _ => 0,
            },
            after: (0, 0),
        });
    }

    pub(super) fn on_written(&mut self, count: usize) {
        self.written_at += count as u64;
    }

    /// Whether a reply is due at all: the oldest request has at least begun to go out.
    pub(super) fn is_due(&self) -> bool {
        self.entries.front().is_some_and(|e| e.end - e.size < self.written_at)
    }

    /// Judges a reply line (without its line end) against the oldest request.
    pub(super) fn judge(&mut self, line: &[u8]) -> Verdict {
        let Some(entry) = self.entries.front_mut() else { return Verdict::Desync };
        let expected = self.lines.first(entry.line_bytes);
        match entry.asked {
            Asked::One(op) if op.is_meta() => judge_meta(op, entry.check, expected, line),
            Asked::One(op) => judge_classic(op, entry.check, expected, line),
            Asked::Multi(op) => judge_multi(op, entry, expected, line),
            Asked::FlushAll => match ascii::parse_reply(line) {
                Some(ReplyLine::Ok) => Verdict::Done(Status::Ok),
                Some(ReplyLine::Error) => Verdict::Done(Status::ErrorLine),
                _ => Verdict::Desync,
            },
        }
    }

    /// Takes from the front of `bytes` what are whole small values of the multi-key get at the front, all in one go:
    /// each is compared with the key that is due, noted in `found` and counted off. Returns the bytes that they take.
    /// Stops at whatever else comes: that is for [`Self::judge`].
    pub(super) fn take_values(&mut self, bytes: &[u8], found: &mut Vec<Found>) -> usize {
        if !self.is_due() {
            return 0;
        }
        let Some(Entry { asked: Asked::Multi(op), line_bytes, next_key, next_at, .. }) =
            self.entries.front_mut()
        else {
            return 0;
        };
        let line = self.lines.first(*line_bytes);
        let mut keys = line.get(*next_at as usize..).unwrap_or_default();
        let mut index = *next_key;
        let mut rest = bytes;
        'values: while let Some(value) = rest.strip_prefix(ascii::VALUE) {
            // A server leaves out what it does not have.
            let tail = loop {
                if keys.is_empty() {
                    break 'values;
                }
                let due = ascii::first_word(keys);
                keys = keys.get(due.len() + 1..).unwrap_or_default();
                index += 1;
                if let Some(tail) = value.strip_prefix(due)
                    && tail.first() == Some(&b' ')
                {
                    break tail;
                }
            };
            let Some((data, after)) = ascii::after_value_key(tail, has_cas(*op), SHARED_BYTES_MIN) else {
                break;
            };
            let (line_end, end) = (bytes.len() - data.len(), bytes.len() - after.len());
            found.push(Found { index: index - 1, line_end, end });
            rest = after;
            *next_key = index;
            *next_at = u32::try_from(line.len() - keys.len()).unwrap_or(u32::MAX);
        }
        bytes.len() - rest.len()
    }

    /// The oldest request.
    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// The value that was judged last is handed on: its key, and those before it, are counted off.
    pub(super) fn count_off(&mut self) {
        if let Some(entry) = self.entries.front_mut() {
            (entry.next_key, entry.next_at) = entry.after;
        }
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.lines.pop(entry.line_bytes);
        self.bulk_bytes -= entry.bulk_bytes;
        self.copies_count -= usize::from(entry.is_copy);
        self.is_mixed &= !self.entries.is_empty();
        if entry.slot.is_none() {
            self.late -= 1;
        }
        Some(entry)
    }

    /// Takes out the oldest request, which has not been sent and will not be.
    pub(super) fn discard(&mut self) -> Option<Entry> {
        let entry = self.pop()?;
        self.written_at += entry.size;
        Some(entry)
    }

    /// Moves the oldest request, which has not been sent and is waited for, behind those of `into`. What nobody knew when it
    /// came counts as what is known now.
    pub(super) fn move_front(&mut self, into: &mut Self, first_replies: &FirstReplies) {
        let Some(&Entry { line_bytes, .. }) = self.entries.front() else { return };
        if line_bytes == SHARED_LINE {
            let line = self.lines.shared.front().cloned().unwrap_or_default();
            into.lines.push_shared(line);
        } else {
            into.lines.push(self.lines.first(line_bytes));
        }
        let Some(mut entry) = self.discard() else { return };
        debug_assert!(entry.slot.is_some(), "it would be late at once");
        if entry.unknown_keys > 0 {
            entry.bulk_bytes = first_replies.expected_bytes(entry.unknown_keys as usize);
        }
        into.queued_at += entry.size;
        into.bulk_bytes += entry.bulk_bytes;
        into.copies_count += usize::from(entry.is_copy);
        into.is_mixed |= into.entries.back().is_some_and(|last| last.deadline > entry.deadline);
        entry.end = into.queued_at;
        into.entries.push_back(entry);
    }

    /// Takes the slots of requests whose time has passed; their places stay. Told with each: whether it waited in front of the
    /// connection, and its deadline.
    pub(super) fn expire(&mut self, now: Instant, mut on_expired: impl FnMut(Slot, bool, Instant)) {
        for entry in &mut self.entries {
            if entry.deadline > now {
                if self.is_mixed {
                    continue;
                }
                break; // one timeout for all: the rest is younger
            }
            if let Some(slot) = entry.slot.take() {
                self.late += 1;
                on_expired(slot, entry.waited, entry.deadline);
            }
        }
    }

    /// Takes the slot of the oldest request; its place stays until its reply has come.
    pub(super) fn give_up_front(&mut self) -> Option<Slot> {
        let front = self.entries.front_mut()?;
        let slot = front.slot.take()?;
        front.given_up = true;
        self.late += 1;
        Some(slot)
    }

    /// Memory held, for the byte budget.
    pub(super) fn held_bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>() + self.lines.held_bytes()
    }

    /// The connection is lost. Takes out what had begun to go out, and what nobody waits for any more; the rest
    /// stays queued for the next one.
    /// Returns the lost requests with their lines, and how many bytes of the write buffer belong to them.
    pub(super) fn lose(&mut self) -> (Vec<(Entry, Vec<u8>)>, usize) {
        let mut lost = Vec::new();
        while self.is_due() || self.entries.front().is_some_and(|entry| entry.slot.is_none()) {
            let line_bytes = self.entries.front().map_or(0, |e| e.line_bytes);
            let line = self.lines.first(line_bytes).to_vec();
            let Some(entry) = self.pop() else { break };
            lost.push((entry, line));
        }
        // Up to the first request that stays. What was answered before it was sent whole is no longer among the
        // entries, but its rest is still in the write buffer: it must not be taken for a request.
        let next = self.entries.front().map_or(self.queued_at, |entry| entry.end - entry.size);
        let torn = next.saturating_sub(self.written_at);
        self.written_at = next;
        (lost, usize::try_from(torn).unwrap_or(usize::MAX))
    }

    /// Puts requests in front of all others; none of either has been written.
    pub(super) fn prepend(&mut self, mut first: Self) {
        debug_assert_eq!(self.written_at + self.entries.iter().map(|e| e.size).sum::<u64>(), self.queued_at);
        let added = first.queued_at;
        for entry in &mut first.entries {
            entry.end += self.written_at;
        }
        for entry in &mut self.entries {
            entry.end += added;
        }
        self.queued_at += added;
        self.bulk_bytes += first.bulk_bytes;
        self.copies_count += first.copies_count;
        self.is_mixed |= first.is_mixed || !first.entries.is_empty();
        first.lines.append(&mut self.lines);
        self.lines = first.lines;
        first.entries.append(&mut self.entries);
        self.entries = first.entries;
    }

    /// Takes out everything, queued or sent. The caller empties its write buffer too.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.written_at = self.queued_at;
        self.lines.clear();
        (self.late, self.bulk_bytes, self.copies_count, self.is_mixed) = (0, 0, 0, false);
        self.entries.drain(..)
    }

    /// How many requests, and how many bytes of lines, there is memory for.
    #[cfg(test)]
    pub(super) fn room(&self) -> (usize, usize) {
        (self.entries.capacity(), self.lines.bytes.capacity())
    }

    /// Gives memory back after a burst.
    pub(super) fn shrink(&mut self) {
        const KEPT_COUNT_MAX: usize = 4096;
        if self.entries.is_empty() && self.entries.capacity() > KEPT_COUNT_MAX {
            self.entries = VecDeque::new();
        }
    }
}

/// A request to be added.
pub(super) struct New<'a> {
    pub(super) asked: Asked,
    pub(super) check: Check,
    pub(super) deadline: Instant,
    pub(super) resent: bool,
    pub(super) repeatable: bool,
    pub(super) line: &'a [u8],
    /// The same where it is large and shared with the write buffer; `line` does not count then.
    pub(super) shared: Option<Bytes>,
    pub(super) size: usize,
    /// Bytes that it is expected to move, where that is much; else 0.
    pub(super) bulk_bytes: usize,
    /// Keys that this was reckoned by, where nobody knows it; else 0.
    pub(super) unknown_keys: u32,
    /// It has to wait in front of the connection.
    pub(super) waited: bool,
}

fn judge_classic(op: Op, check: Check, expected: &[u8], line: &[u8]) -> Verdict {
    use ReplyLine as R;
    let Some(reply) = ascii::parse_reply(line) else { return Verdict::Desync };
    let status = match (op, reply) {
        (_, R::Error) => Status::ErrorLine,
        (Op::Get | Op::Gets | Op::Gat | Op::Gats, R::Value { key, len, cas, .. }) => {
            let Check::Keys { start } = check else { return Verdict::Desync };
            return if expected.get(start as usize..) == Some(key) && cas.is_some() == has_cas(op) {
                Verdict::Value { length: len, index: 0 }
            } else {
                Verdict::Desync
            };
        }
        (Op::Get | Op::Gets | Op::Gat | Op::Gats, R::End) => Status::Miss,
        (Op::Set | Op::Add | Op::Replace | Op::Append | Op::Prepend | Op::Cas, R::Stored) => Status::Stored,
        (Op::Set | Op::Add | Op::Replace | Op::Append | Op::Prepend | Op::Cas, R::NotStored) => {
            Status::NotStored
        }
        (Op::Cas, R::Exists) => Status::Exists,
        (Op::Cas | Op::Incr | Op::Decr | Op::Delete | Op::Touch, R::NotFound) => Status::NotFound,
        (Op::Incr | Op::Decr, R::Number(_)) => Status::Number,
        (Op::Delete, R::Deleted) => Status::Deleted,
        (Op::Touch, R::Touched) => Status::Touched,
        _ => return Verdict::Desync,
    };
    Verdict::Done(status)
}

/// The servers answer in the order of the keys and leave out what they do not have: count off until it fits.
fn judge_multi(op: Op, entry: &mut Entry, expected: &[u8], line: &[u8]) -> Verdict {
    match ascii::parse_reply(line) {
        Some(ReplyLine::Value { key, len, cas, .. }) if cas.is_some() == has_cas(op) => {
            let (mut index, mut at) = (entry.next_key, entry.next_at);
            while let Some(rest) = expected.get(at as usize..).filter(|r| !r.is_empty()) {
                let due = memchr::memchr(b' ', rest).and_then(|end| rest.get(..end)).unwrap_or(rest);
                at = at.saturating_add(u32::try_from(due.len()).unwrap_or(u32::MAX)).saturating_add(1);
                if due == key {
                    entry.after = (index + 1, at);
                    return Verdict::Value { length: len, index: index as usize };
                }
                index += 1;
            }
            Verdict::Desync
        }
        Some(ReplyLine::End) => Verdict::Done(Status::Ok),
        Some(ReplyLine::Error) => Verdict::Done(Status::ErrorLine),
        _ => Verdict::Desync,
    }
}

fn judge_meta(op: Op, check: Check, expected: &[u8], line: &[u8]) -> Verdict {
    let Some(reply) = meta::parse_reply(line) else {
        return match ascii::parse_reply(line) {
            Some(ReplyLine::Error) => Verdict::Done(Status::ErrorLine),
            _ => Verdict::Desync,
        };
    };
    let fits = match check {
        Check::OwnOpaque(number) => {
            reply.opaque.is_some_and(|o| o == itoa::Buffer::new().format(number).as_bytes())
        }
        Check::Opaque { start } => expected.get(start as usize..) == reply.opaque,
        Check::Keys { start } if reply.code == MetaCode::Me => expected.get(start as usize..) == reply.key,
        Check::Keys { .. } | Check::Kind => true,
    };
    if !fits {
        return Verdict::Desync;
    }
    let status = match (op, reply.code) {
        (Op::MetaGet | Op::MetaArithmetic, MetaCode::Va) => {
            return Verdict::Value { length: reply.len, index: 0 };
        }
        (Op::MetaGet, MetaCode::Hd) | (Op::MetaDebug, MetaCode::Me) => Status::Hit,
        (Op::MetaGet | Op::MetaDebug, MetaCode::En) => Status::Miss,
        (Op::MetaSet, MetaCode::Hd) => Status::Stored,
        (Op::MetaDelete, MetaCode::Hd) => Status::Deleted,
        (Op::MetaArithmetic, MetaCode::Hd) => Status::Number,
        (Op::MetaSet | Op::MetaDelete | Op::MetaArithmetic, MetaCode::Nf) => Status::NotFound,
        (Op::MetaSet | Op::MetaDelete | Op::MetaArithmetic, MetaCode::Ns) => Status::NotStored,
        (Op::MetaSet | Op::MetaDelete | Op::MetaArithmetic, MetaCode::Ex) => Status::Exists,
        _ => return Verdict::Desync,
    };
    Verdict::Done(status)
}

const fn has_cas(op: Op) -> bool {
    matches!(op, Op::Gets | Op::Gats)
}

/// Stands for the length of a line that is not among the others.
const SHARED_LINE: u32 = u32::MAX;

/// Request lines one behind the other, oldest first: no allocation for each of them. Large ones are kept apart: in one
/// growing piece they would take three times their bytes.
#[derive(Default)]
struct LineStore {
    bytes: Vec<u8>,
    start: usize,
    shared: VecDeque<Bytes>,
    /// Invariant: the bytes in `shared`.
    shared_bytes: usize,
}

impl LineStore {
    /// Moved to the front when this much is used up, and given back when empty and larger.
    const SLACK_BYTES: usize = 64 * 1024;

    /// Returns what the line is asked for with.
    fn push(&mut self, line: &[u8]) -> u32 {
        if self.start > Self::SLACK_BYTES && self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(line);
        u32::try_from(line.len()).unwrap_or(0) // the longest line has a few MiB
    }

    fn push_shared(&mut self, line: Bytes) -> u32 {
        self.shared_bytes += line.len();
        self.shared.push_back(line);
        SHARED_LINE
    }

    /// Takes all lines of `other` behind its own.
    fn append(&mut self, other: &mut Self) {
        self.bytes.extend_from_slice(other.bytes.get(other.start..).unwrap_or_default());
        self.shared.append(&mut other.shared);
        self.shared_bytes += other.shared_bytes;
        other.clear();
    }

    /// The oldest.
    fn first(&self, line_bytes: u32) -> &[u8] {
        if line_bytes == SHARED_LINE {
            return self.shared.front().map_or(&[], |line| line);
        }
        self.bytes.get(self.start..).and_then(|rest| rest.get(..line_bytes as usize)).unwrap_or_default()
    }

    fn pop(&mut self, line_bytes: u32) {
        if line_bytes == SHARED_LINE {
            self.shared_bytes -= self.shared.pop_front().map_or(0, |line| line.len());
            return;
        }
        self.start += line_bytes as usize;
        if self.start == self.bytes.len() {
            self.clear_bytes();
        }
    }

    fn clear(&mut self) {
        self.shared = VecDeque::new();
        self.shared_bytes = 0;
        self.clear_bytes();
    }

    fn clear_bytes(&mut self) {
        self.start = 0;
        if self.bytes.capacity() > 4 * Self::SLACK_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }

    /// Memory held; when empty, a little room that nobody counts.
    fn held_bytes(&self) -> usize {
        self.shared_bytes + if self.bytes.is_empty() { 0 } else { self.bytes.capacity() }
    }
}
