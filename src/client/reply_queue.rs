//! Replies leave in the order in which the requests came.
//!
//! ```text
//!   out (bytes to write) ◄── front: answered → written straight into `out`
//!                            next:  answered → kept in a buffer of its own until it is the front
//!                            …      waiting
//! ```
//!
//! A long get may be several of them, its pieces: what ends it is written behind the last one's values.

use super::context::Context;
use super::multi::{Multi, Piece};
use crate::protocol::{Class, Op, Reply, Status, Values, WireBuf};
use crate::route::Moves;
use std::collections::VecDeque;

/// How a reply is to be told to this client.
#[derive(Debug)]
pub(super) struct How {
    pub(super) op: Op,
    /// `noreply`, or meta `q`.
    pub(super) quiet: bool,
    /// Of the value that came with the request, and is held until a server has it.
    pub(super) value_bytes: u32,
    /// Told instead of whatever the server says: the request was refused here, the server only tidies up.
    pub(super) instead: Option<&'static str>,
    /// The line of a meta miss with the echoes that were asked for, where a failure is told as a miss.
    pub(super) miss_line: Option<Box<[u8]>>,
}

impl How {
    pub(super) const fn plain(op: Op, quiet: bool) -> Self {
        Self { op, quiet, value_bytes: 0, instead: None, miss_line: None }
    }
}

/// One request's place in the order.
enum Place {
    Waiting(How),
    Multi(How, Box<Multi>),
    /// One question to many servers, one answer.
    All {
        waiting: usize,
        failed: Option<Vec<u8>>,
        quiet: bool,
    },
    Done(WireBuf),
    /// Answered, but not the whole of what was asked: how it ends is told when the last has come and all before it have left.
    DonePiece(Box<DonePiece>),
}

#[derive(Default)]
struct DonePiece {
    values: WireBuf,
    error: Option<Vec<u8>>,
    is_last: bool,
}

struct Item {
    place: Place,
    /// The last of the requests that came together.
    last_of_batch: bool,
}

/// What the session has to do after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing to write yet.
    None,
    /// Nothing to write, but a request less to wait for.
    Silent,
    /// There is something to write, and more of the same batch is under way.
    Partial,
    /// A batch is answered: write now.
    Batch,
}

/// The replies of one client.
#[derive(Default)]
pub(super) struct ReplyQueue {
    /// Bytes to be written.
    pub(super) out: WireBuf,
    items: VecDeque<Item>,
    /// Requests under way that have no item of their own: all but one of an item's keys that travel alone.
    more_count: usize,
    /// The first error line of a get of which pieces have left.
    piece_error: Option<Vec<u8>>,
    /// Number of the front item; items are numbered in the order of requests.
    first: u64,
    /// Bytes of replies that have come and not left.
    reply_bytes: usize,
    /// Bytes of what the requests under way have brought with them: the lines of multi-key gets, and values.
    asked_bytes: usize,
    /// Memory held in items: done ones, and what multi-key gets have gathered.
    items_held: usize,
    /// What the byte budget knows of this queue.
    accounted: usize,
    /// How large this client's replies are: up at once, down slowly.
    reply_bytes_estimate: ReplyBytes,
    /// A reply has come.
    is_known: bool,
    /// Something that moves much is under way, or was when what is under way was asked.
    moves_much: bool,
}

/// What a new client's replies are expected to hold, at least.
pub(super) const NEW_REPLY_BYTES: usize = 64 * 1024;

/// What a reply is expected to hold before it is known. New clients are not trusted with a thousand requests
/// at once: each might bring a megabyte.
#[derive(Clone, Copy)]
struct ReplyBytes(usize);

impl Default for ReplyBytes {
    fn default() -> Self {
        Self(NEW_REPLY_BYTES)
    }
}

/// Numbers and parts share a token: the low bits are the part of a multi-key get.
const PART_BITS: u32 = 20;

/// Servers that one get may be split over.
pub(super) const PARTS_MAX: usize = 1 << PART_BITS;

pub(super) const fn part_token(token: u64, part: usize) -> u64 {
    token | part as u64
}

fn part_of(token: u64) -> usize {
    usize::try_from(token & (PARTS_MAX as u64 - 1)).unwrap_or(0)
}

impl ReplyQueue {
    /// For a client of which nothing is known: its replies are expected to be as large as those of others.
    pub(super) fn expecting(reply_bytes: usize) -> Self {
        Self { reply_bytes_estimate: ReplyBytes(reply_bytes), ..Self::default() }
    }

    /// Requests that are not answered completely. A multi-key get is one, but keys of it that travel alone are each.
    pub(super) fn requests_count(&self) -> usize {
        self.items.len() + self.more_count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Keys of a get are under way of which there are more.
    pub(super) fn is_within_get(&self) -> bool {
        matches!(self.items.back(), Some(Item { place: Place::Multi(_, multi), .. }) if multi.piece == Piece::Front)
    }

    pub(super) const fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// What the byte budget knows of.
    pub(super) const fn accounted(&self) -> usize {
        self.accounted
    }

    /// What has come, and what the requests under way are expected to bring, or have brought with them: that is held as
    /// long, so a client whose gets find nothing cannot ask for thousands of keys a thousand times over.
    pub(super) fn expected_bytes(&self) -> usize {
        let by_estimate = self.items.len().saturating_mul(self.reply_bytes_estimate.0);
        self.reply_bytes.saturating_add(by_estimate.max(self.asked_bytes))
    }

    /// What a request that comes now is expected to move. (Large values that are set do not count: they are held here until a
    /// server has them, and the sooner it has the better.) The first requests of a client count always: nobody knows what it
    /// asks for. What comes behind one that moves much counts as that until all is answered: requests of one client must not
    /// overtake each other. `keys`: how many it is for.
    #[inline]
    pub(super) fn moves(&mut self, keys: usize) -> Moves {
        /// Less is small, or as large as what nobody knows yet is expected to be.
        const BULK_BYTES_MIN: usize = NEW_REPLY_BYTES + 1;
        let reply_bytes = self.reply_bytes_estimate.0;
        let is_much = !self.is_known || reply_bytes >= BULK_BYTES_MIN;
        self.moves_much = is_much || (self.moves_much && !self.items.is_empty());
        match (self.is_known, self.moves_much) {
            (false, _) => Moves::Unknown(keys),
            (true, true) => Moves::Much(reply_bytes.max(1)),
            (true, false) => Moves::Little,
        }
    }

    /// `is_answer`: a server said it. What is said in its place tells nothing of how large replies are. `keys`: how many were
    /// asked for; 0 when it was no get.
    fn learn(&mut self, context: &Context, reply_bytes: usize, is_answer: bool, keys: usize) {
        if !is_answer {
            return;
        }
        context.learn_reply(reply_bytes);
        if !std::mem::replace(&mut self.is_known, true) && keys > 0 {
            context.first_replies.learn(reply_bytes, keys);
        }
        let estimate = &mut self.reply_bytes_estimate.0;
        *estimate =
            if reply_bytes >= *estimate { reply_bytes } else { *estimate - (*estimate - reply_bytes) / 8 };
    }

    /// A place for one request; the token that its reply comes with.
    pub(super) fn push(&mut self, how: How) -> u64 {
        self.asked_bytes += how.value_bytes as usize;
        self.add(Place::Waiting(how))
    }

    pub(super) fn push_multi(&mut self, how: How, multi: Box<Multi>) -> u64 {
        self.items_held += multi.held();
        self.asked_bytes += multi.asked_bytes();
        self.more_count += multi.more_count();
        self.add(Place::Multi(how, multi))
    }

    pub(super) fn push_all(&mut self, servers: usize, quiet: bool) -> u64 {
        self.add(Place::All { waiting: servers, failed: None, quiet })
    }

    /// An answer that is there already: a line without its line end.
    pub(super) fn push_line(&mut self, context: &Context, line: &str) {
        self.push_bytes(context, &[line.as_bytes(), b"\r\n"]);
    }

    /// An answer that is there already, line ends included.
    pub(super) fn push_bytes(&mut self, context: &Context, parts: &[&[u8]]) {
        let count: usize = parts.iter().map(|p| p.len()).sum();
        if self.items.is_empty() {
            if !self.out.has_room() {
                self.out = context.spare_buf();
            }
            self.out.begin_message();
            for part in parts {
                self.out.put(part);
            }
        } else {
            let mut buf = context.spare_buf();
            for part in parts {
                buf.put(part);
            }
            self.items_held += buf.held_bytes();
            self.add(Place::Done(buf));
        }
        self.reply_bytes += count;
        self.settle(context);
    }

    fn add(&mut self, place: Place) -> u64 {
        let token = (self.first + self.items.len() as u64) << PART_BITS;
        self.items.push_back(Item { place, last_of_batch: false });
        token
    }

    /// No more requests came with those that are queued.
    pub(super) fn end_batch(&mut self) {
        if let Some(item) = self.items.back_mut() {
            item.last_of_batch = true;
        }
    }

    /// A value of a multi-key get.
    pub(super) fn hit(&mut self, context: &Context, token: u64, index: usize, reply: &Reply<'_>) {
        if let Some(Item { place: Place::Multi(_, multi), .. }) = self.item(token) {
            let before = multi.held();
            let bytes = multi.hit(part_of(token), index, reply);
            let more = multi.held() - before;
            self.reply_bytes += bytes;
            self.items_held += more;
            self.settle(context);
        }
    }

    /// Values of a multi-key get, one behind the other.
    pub(super) fn hits(&mut self, context: &Context, token: u64, values: &Values<'_>) {
        let part = usize::try_from(token & (PARTS_MAX as u64 - 1)).unwrap_or(0);
        if let Some(Item { place: Place::Multi(_, multi), .. }) = self.item(token) {
            let before = multi.held();
            let bytes = multi.hits(part, values);
            let more = multi.held() - before;
            self.reply_bytes += bytes;
            self.items_held += more;
            self.settle(context);
        }
    }

    /// A reply has come.
    pub(super) fn fill(&mut self, context: &Context, token: u64, reply: &Reply<'_>) -> Progress {
        let progress = self.fill_place(context, token, reply);
        self.settle(context);
        progress
    }

    fn fill_place(&mut self, context: &Context, token: u64, reply: &Reply<'_>) -> Progress {
        if let Some(line) = reply.accepted {
            // No route above had a better answer: it will be delivered, which is as good as done.
            return self.fill_place(context, token, &Reply::line(Status::Deleted, line));
        }
        let is_front = token >> PART_BITS == self.first;
        let Some(item) = self.item(token) else { return Progress::None };
        let Place::Waiting(how) = &item.place else { return self.fill_part(context, token, reply) };
        let value_bytes = how.value_bytes as usize;
        let is_answer = !matches!(reply.status, Status::Failed(_));
        let keys = usize::from(how.op.is_classic_get() || how.op == Op::MetaGet);
        count(context, how, reply);
        if is_front {
            if !self.out.has_room() {
                self.out = context.spare_buf();
            }
            self.out.begin_message();
            let before = self.out.len();
            // Borrowed apart: the front's `how` and `out` are different fields.
            let Some(Item { place: Place::Waiting(how), .. }) = self.items.front() else {
                return Progress::None;
            };
            write_reply(how, reply, &mut self.out);
            let held = self.out.len() - before;
            self.learn(context, held, is_answer, keys);
            self.reply_bytes += held;
            self.asked_bytes -= value_bytes;
            return self.advance(context);
        }
        let mut buf = context.spare_buf();
        write_reply(how, reply, &mut buf);
        let (bytes, held) = (buf.len(), buf.held_bytes());
        item.place = Place::Done(buf);
        self.learn(context, bytes, is_answer, keys);
        self.reply_bytes += bytes;
        self.asked_bytes -= value_bytes;
        self.items_held += held;
        Progress::None
    }

    /// One of several replies that make one answer has come.
    fn fill_part(&mut self, context: &Context, token: u64, reply: &Reply<'_>) -> Progress {
        if reply.status == Status::Hit {
            // A key of a multi-key get that travelled alone is answered as a get of one key is.
            self.hit(context, token, 0, reply);
        }
        let Some(item) = self.item(token) else { return Progress::None };
        match &mut item.place {
            Place::Multi(how, multi) => {
                multi.waiting = multi.waiting.saturating_sub(1);
                if is_told_as_error(how, reply) && multi.error.is_none() {
                    multi.error = Some(reply.line.to_vec());
                }
                if reply.status.is_error() {
                    count_error(context, reply);
                    multi.is_partial = true;
                }
                if multi.waiting > 0 {
                    return Progress::None;
                }
            }
            Place::All { waiting, failed, .. } => {
                *waiting = waiting.saturating_sub(1);
                if reply.status.is_error() && failed.is_none() {
                    *failed = Some(reply.line.to_vec());
                }
                if *waiting > 0 {
                    return Progress::None;
                }
            }
            Place::Waiting(_) | Place::Done(_) | Place::DonePiece(_) => {
                debug_assert!(false, "a request is answered once");
                return Progress::None;
            }
        }
        let (more_count, was_within_get) = (self.more_count, self.is_within_get());
        self.finish_gathered(context, token);
        let has_room = self.more_count < more_count || (was_within_get && !self.is_within_get());
        match token >> PART_BITS == self.first {
            true => self.advance(context),
            false if has_room => Progress::Silent,
            false => Progress::None,
        }
    }

    /// All parts are there: one answer is made of them.
    fn finish_gathered(&mut self, context: &Context, token: u64) {
        let mut buf = context.spare_buf();
        let Some(item) = self.item(token) else { return };
        let (mut replaced_bytes, mut replaced_held, mut asked_bytes, mut more_count) = (0, 0, 0, 0);
        let mut piece = None;
        let (mut is_answer, mut keys, mut found) = (true, 0, None);
        match std::mem::replace(&mut item.place, Place::Done(WireBuf::new())) {
            Place::Multi(_, mut multi) => {
                multi.write_values(&mut buf);
                match multi.piece {
                    Piece::Whole => end_get(multi.error.as_deref(), &mut buf),
                    Piece::Front => piece = Some((multi.error.take(), false)),
                    Piece::Last => piece = Some((multi.error.take(), true)),
                }
                let counters = &context.counters;
                counters.get_hits.add(multi.hits as u64);
                debug_assert!(multi.hits <= multi.keys_count(), "a key is found once");
                counters.get_misses.add(multi.keys_count().saturating_sub(multi.hits) as u64);
                replaced_bytes = multi.reply_bytes();
                replaced_held = multi.held();
                asked_bytes = multi.asked_bytes();
                more_count = multi.more_count();
                if multi.is_partial {
                    // What was found tells of sizes all the same, even if it is not shown.
                    (is_answer, keys, found) = (multi.hits > 0, multi.hits, Some(replaced_bytes));
                } else {
                    keys = multi.keys_count();
                }
                context.give_back_multi(multi);
            }
            Place::All { failed, quiet, .. } => {
                if !quiet {
                    buf.put(failed.as_deref().unwrap_or(b"OK"));
                    buf.put(b"\r\n");
                }
            }
            Place::Waiting(_) | Place::Done(_) | Place::DonePiece(_) => {}
        }
        let (bytes, held) = (buf.len(), buf.held_bytes());
        item.place = match piece {
            None => Place::Done(buf),
            Some((error, is_last)) => Place::DonePiece(Box::new(DonePiece { values: buf, error, is_last })),
        };
        self.learn(context, found.unwrap_or(bytes), is_answer, keys);
        self.reply_bytes = self.reply_bytes + bytes - replaced_bytes;
        self.items_held = self.items_held + held - replaced_held;
        self.asked_bytes -= asked_bytes;
        self.more_count -= more_count;
    }

    /// The front is answered: takes it off, and what follows as far as it is answered too.
    fn advance(&mut self, context: &Context) -> Progress {
        let mut progress = Progress::Partial;
        let mut front_written = matches!(self.items.front(), Some(Item { place: Place::Waiting(_), .. }));
        while let Some(item) = self.items.front_mut() {
            match &mut item.place {
                Place::Done(buf) => {
                    let buf = std::mem::take(buf);
                    self.write_on(context, buf);
                }
                Place::DonePiece(piece) => {
                    let DonePiece { values, error, is_last } = std::mem::take(&mut **piece);
                    self.write_on(context, values);
                    if self.piece_error.is_none() {
                        self.piece_error = error;
                    }
                    if is_last {
                        let before = self.out.len();
                        end_get(self.piece_error.take().as_deref(), &mut self.out);
                        self.reply_bytes += self.out.len() - before;
                    }
                }
                Place::Waiting(_) if front_written => {}
                _ => break,
            }
            front_written = false;
            self.first += 1;
            if self.items.pop_front().is_some_and(|item| item.last_of_batch) {
                progress = Progress::Batch;
            }
        }
        if self.items.is_empty() {
            progress = Progress::Batch;
        }
        if self.out.is_empty() { Progress::Silent } else { progress }
    }

    /// A get of which a piece has failed ends here: the rest of its keys need not be asked for. Whether it is so.
    pub(super) fn end_failed_get(&mut self, context: &Context) -> bool {
        let is_last = |item: &Item| match &item.place {
            Place::Multi(_, multi) => multi.piece == Piece::Last,
            Place::DonePiece(piece) => piece.is_last,
            _ => false,
        };
        if self.piece_error.is_none() || self.items.iter().any(is_last) {
            return false; // or it was the get before this one
        }
        if self.items.is_empty() {
            let error = self.piece_error.take().unwrap_or_default();
            self.push_bytes(context, &[&error, b"\r\n"]);
        } else {
            self.add(Place::DonePiece(Box::new(DonePiece { is_last: true, ..DonePiece::default() })));
        }
        true
    }

    /// An answer whose turn has come.
    fn write_on(&mut self, context: &Context, mut answer: WireBuf) {
        self.items_held -= answer.held_bytes();
        if self.out.is_empty() {
            std::mem::swap(&mut self.out, &mut answer);
        } else {
            self.out.append(&mut answer);
        }
        context.give_back(answer);
    }

    /// `count` bytes have been written.
    pub(super) fn on_written(&mut self, context: &Context, count: usize) {
        self.reply_bytes = self.reply_bytes.saturating_sub(count);
        if self.out.is_empty() {
            context.give_back(std::mem::take(&mut self.out));
        }
        const ITEMS_KEPT_MAX: usize = 256;
        if self.items.is_empty() && self.items.capacity() > ITEMS_KEPT_MAX {
            self.items = VecDeque::new();
        }
        self.settle(context);
    }

    /// Nobody is there to take the replies.
    pub(super) fn abandon(&mut self, context: &Context) {
        context.budget.change(self.accounted, 0);
        *self = Self { first: self.first + self.items.len() as u64, ..Self::default() };
    }

    /// Tells the byte budget what is held now.
    fn settle(&mut self, context: &Context) {
        let now = self.out.held_bytes() + self.items_held + self.items.len() * size_of::<Item>();
        context.budget.change(std::mem::replace(&mut self.accounted, now), now);
    }

    fn item(&mut self, token: u64) -> Option<&mut Item> {
        let index = usize::try_from((token >> PART_BITS).checked_sub(self.first)?).ok()?;
        self.items.get_mut(index)
    }
}

/// What stands behind the values of a get.
fn end_get(error: Option<&[u8]>, out: &mut WireBuf) {
    out.put(error.unwrap_or(b"END"));
    out.put(b"\r\n");
}

/// The reply as this client shall see it.
fn write_reply(how: &How, reply: &Reply<'_>, out: &mut WireBuf) {
    if let Some(line) = how.instead {
        if !how.quiet {
            out.put(line.as_bytes());
            out.put(b"\r\n");
        }
        return;
    }
    let failed = reply.status.is_error();
    let told_as_miss = failed && !is_told_as_error(how, reply);
    let status = if told_as_miss { Status::Miss } else { reply.status };
    if how.quiet && is_left_out(how.op, status) {
        return;
    }
    if told_as_miss {
        if how.op.is_classic_get() {
            out.put(b"END\r\n");
        } else {
            out.put(how.miss_line.as_deref().unwrap_or(b"EN"));
            out.put(b"\r\n");
        }
        return;
    }
    if !reply.line.is_empty() {
        out.put(reply.line);
        out.put(b"\r\n");
    }
    if let Some(value) = reply.value {
        out.put_value(value);
        out.put(b"\r\n");
    }
    if how.op.is_classic_get() && !failed {
        out.put(b"END\r\n");
    }
}

/// With `on_error: miss`, a get whose server failed, or has trouble of its own, missed. What the client did
/// wrong is told in any case.
fn is_told_as_error(how: &How, reply: &Reply<'_>) -> bool {
    let of_server = matches!(reply.status, Status::Failed(_)) || reply.line.starts_with(b"SERVER_ERROR");
    reply.status.is_error() && !(reply.miss_on_error && of_server && how.op.class() == Class::GetLike)
}

/// What a quiet request does not want to hear (memcached's `proto_text.c`): after `noreply` nothing at all;
/// with `q` the answer that means "as expected".
const fn is_left_out(op: Op, status: Status) -> bool {
    match op {
        Op::MetaGet => matches!(status, Status::Miss),
        Op::MetaSet => matches!(status, Status::Stored),
        Op::MetaDelete => matches!(status, Status::Deleted),
        Op::MetaArithmetic => matches!(status, Status::Number),
        _ => true,
    }
}

fn count_error(context: &Context, reply: &Reply<'_>) {
    let counters = &context.counters;
    let is_clients = reply.status == Status::ErrorLine && reply.line.starts_with(b"CLIENT_ERROR");
    if is_clients { &counters.client_errors } else { &counters.server_errors }.add(1);
}

fn count(context: &Context, how: &How, reply: &Reply<'_>) {
    let counters = &context.counters;
    match reply.status {
        Status::Hit if how.op != Op::MetaDebug => counters.get_hits.add(1),
        Status::Miss if how.op != Op::MetaDebug => counters.get_misses.add(1),
        Status::Failed(_) | Status::ErrorLine => {
            count_error(context, reply);
            if how.op.class() == Class::GetLike {
                counters.get_misses.add(1);
            }
        }
        _ => {}
    }
}
