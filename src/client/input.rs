//! What a client has sent and is not dispatched yet: lines, data blocks, what has to be passed over.
//!
//! Bytes are looked at where they were read. Only what is not whole is kept: a few bytes in `rest`, a large value
//! in the blocks that it was read into.

use super::dispatch::{Next, PIECE_KEYS_COUNT_MAX};
use super::multi::Piece;
use super::session::Session;
use super::sweep::PROGRESS_BYTES;
use super::turn;
use crate::net::{LargeReader, ReadBlock, Stream};
use crate::protocol::ascii::{Framed, Scratch, frame, parse_more_keys, parse_request};
use crate::protocol::{Line, LineError, MultiGet, Op, SHARED_BYTES_MIN, Value};
use bytes::{Buf, Bytes, BytesMut};
use std::rc::Rc;
use std::task::{Context as Cx, Poll};

/// What has been read and not been dispatched.
#[derive(Default)]
pub(super) struct Input {
    rest: BytesMut,
    /// What was before it in the same piece of memory, and is done with.
    used_bytes: usize,
    /// The front of `rest` known to hold no line end.
    scanned: usize,
    /// `rest` is not looked at again before it has grown to this.
    rest_bytes_min: usize,
    mode: Mode,
    /// What this client may still do before others have their turn.
    turn_left: u32,
    /// No more requests are taken.
    pub(super) closing: bool,
    /// Something has been read.
    begun: bool,
}

#[derive(Default)]
enum Mode {
    #[default]
    Lines,
    /// A large value under way; its line, kept to be parsed again when the value is whole.
    Large(Vec<u8>, LargeReader),
    /// This many bytes are passed over.
    Swallow(u64),
    /// A get of which keys are left to be sent: so many bytes of its line, and of the line's end.
    Keys { op: Op, exptime: i32, text_bytes: usize, end_bytes: usize },
}

/// What one look at the bytes brought.
enum Step {
    Used(usize),
    /// Not whole; look again when there are this many bytes.
    Wait(usize),
    /// After this many bytes a large value of that length begins.
    Large {
        start: usize,
        length: usize,
    },
    /// After this many bytes, that many are passed over.
    Swallow {
        start: usize,
        count: u64,
    },
    Close,
}

/// What binary-protocol clients are told; they cannot read it, but whoever looks at the wire can.
const BINARY_REFUSED: &str = "ERROR ringway speaks memcached's text protocol, not the binary one";
/// Room for the keys of an ordinary multi-key get; what grew beyond is freed.
const SCRATCH_BYTES_KEPT_MAX: usize = 64 * 1024;
/// Bytes in front of unfinished input that may stay until they are moved away from.
const USED_BYTES_MAX: usize = 64 * 1024;
/// What a client may do in one turn: a line counts as one, and so do [`STEP_BYTES`] that are read. It is some tenth of a
/// millisecond. Whoever sends without end would else keep a worker for as long as its socket has something, and a
/// hundred of them everybody for seconds. (memcached's `-R` is 20 requests.)
const TURN_STEPS_MAX: u32 = 256;
const STEP_BYTES: usize = 1024;
/// The first byte of a binary request.
const BINARY_MAGIC: u8 = 0x80;

impl Input {
    pub(super) const fn begin_turn(&mut self) {
        self.turn_left = TURN_STEPS_MAX;
    }

    /// What is left has to wait until others had theirs.
    pub(super) const fn has_had_its_turn(&self) -> bool {
        self.turn_left == 0
    }

    /// One read and what it brings. `false`: the client sends no more.
    pub(super) fn poll_read(
        &mut self,
        session: &Rc<Session>,
        stream: &mut Stream,
        cx: &mut Cx<'_>,
    ) -> Poll<bool> {
        let count = if let Mode::Large(_, reader) = &mut self.mode {
            let read = reader.poll_read(stream, cx);
            let Poll::Ready(Ok(count)) = read else { return read.map(|_| false) };
            self.finish_large(session);
            count
        } else {
            let mut block = session.context.block.borrow_mut();
            let read = block.poll_read(stream, cx);
            let Poll::Ready(Ok(count)) = read else { return read.map(|_| false) };
            if count > 0 {
                turn::count_read(&session.seen_in, session.queue.borrow().is_empty());
                self.on_block(session, &mut block);
            }
            count
        };
        let steps = u32::try_from(count / STEP_BYTES).unwrap_or(u32::MAX);
        self.turn_left = self.turn_left.saturating_sub(steps);
        session.context.counters.bytes_read.add(count as u64);
        session.move_on(count as u64);
        self.account(session);
        Poll::Ready(count > 0)
    }

    fn on_block(&mut self, session: &Rc<Session>, block: &mut ReadBlock) {
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(block.bytes());
            return self.on_rest(session);
        }
        let mut start = 0;
        while start < block.bytes().len() && !self.closing {
            if self.has_to_wait(session) {
                self.rest.extend_from_slice(&block.bytes()[start..]);
                break;
            }
            match self.step(session, &block.bytes()[start..]) {
                Step::Used(count) => start += count,
                Step::Wait(bytes_min) => {
                    self.rest.extend_from_slice(&block.bytes()[start..]);
                    self.rest_bytes_min = bytes_min;
                    break;
                }
                Step::Large { start: at, length } => {
                    let line = block.bytes()[start..start + at].to_vec();
                    // The value keeps the block; nothing of it is copied.
                    let mut bytes = block.take(start + at);
                    self.begin_large(session, line, length, &mut bytes);
                    self.rest.extend_from_slice(&bytes);
                    return self.on_rest(session);
                }
                Step::Swallow { start: at, count } => {
                    start += at;
                    let here = count.min((block.bytes().len() - start) as u64);
                    start += usize::try_from(here).unwrap_or(0);
                    if count > here {
                        self.mode = Mode::Swallow(count - here);
                    }
                }
                Step::Close => self.closing = true,
            }
        }
        session.end_batch();
    }

    /// Requests that did not arrive in one piece, or that had to wait.
    pub(super) fn on_rest(&mut self, session: &Rc<Session>) {
        while self.has_work() && !self.closing && !self.has_to_wait(session) {
            let rest = std::mem::take(&mut self.rest);
            let step = self.step(session, &rest);
            self.rest = rest;
            match step {
                Step::Used(count) => self.used(count),
                Step::Wait(bytes_min) => self.rest_bytes_min = bytes_min,
                Step::Large { start, length } => {
                    let line = self.rest[..start].to_vec();
                    self.used(start);
                    // Copied: what it lies in may be as large as the longest line that came before it.
                    let here = self.rest.len().min(length + 2);
                    let mut bytes = Bytes::copy_from_slice(&self.rest[..here]);
                    self.used(here);
                    self.begin_large(session, line, length, &mut bytes);
                }
                Step::Swallow { start, count } => {
                    self.used(start);
                    let here = count.min(self.rest.len() as u64);
                    self.used(usize::try_from(here).unwrap_or(0));
                    if count > here {
                        self.mode = Mode::Swallow(count - here);
                    }
                }
                Step::Close => self.closing = true,
            }
        }
        if self.rest.is_empty() {
            (self.rest, self.used_bytes) = (BytesMut::new(), 0); // an idle client holds nothing
        } else if self.used_bytes > USED_BYTES_MAX.max(self.rest.len()) {
            // What waits for its turn must not keep a megabyte of requests that are long under way.
            (self.rest, self.used_bytes) = (BytesMut::from(&self.rest[..]), 0);
        }
        session.end_batch();
    }

    /// No request is taken now: replies have to leave, or others have their turn.
    fn has_to_wait(&self, session: &Session) -> bool {
        self.has_had_its_turn() || session.is_full(&session.queue.borrow())
    }

    /// Looks at the front of `bytes` for the next request, and dispatches it when it is whole.
    fn step(&mut self, session: &Rc<Session>, bytes: &[u8]) -> Step {
        self.turn_left = self.turn_left.saturating_sub(1);
        if session.is_condemned() {
            return Step::Close; // perhaps for want of memory for the request before this one
        }
        if let Mode::Swallow(count) = &mut self.mode {
            let here = (*count).min(bytes.len() as u64);
            *count -= here;
            if *count == 0 {
                self.mode = Mode::Lines;
            }
            return Step::Used(usize::try_from(here).unwrap_or(0));
        }
        if let Mode::Keys { .. } = self.mode {
            return self.step_keys(session, bytes);
        }
        if !std::mem::replace(&mut self.begun, true) && bytes.first() == Some(&BINARY_MAGIC) {
            session.queue.borrow_mut().push_line(&session.context, BINARY_REFUSED);
            return Step::Close;
        }
        let (line, consumed) = match frame(bytes, self.scanned) {
            Framed::Line { line, consumed } => (line, consumed),
            Framed::Incomplete => {
                self.scanned = bytes.len();
                return Step::Wait(bytes.len() + 1);
            }
            Framed::TooLong => return Step::Close,
        };
        self.scanned = 0;
        session.move_on(PROGRESS_BYTES);
        let mut scratch = session.context.scratch.take();
        let step = self.step_line(session, bytes, line, consumed, &mut scratch);
        if scratch.held_bytes() <= SCRATCH_BYTES_KEPT_MAX {
            session.context.scratch.set(scratch);
        } else {
            session.context.on_scratch_dropped(scratch.held_bytes());
        }
        step
    }

    fn step_line(
        &mut self,
        session: &Rc<Session>,
        bytes: &[u8],
        line: &[u8],
        consumed: usize,
        scratch: &mut Scratch,
    ) -> Step {
        let is_strict = session.context.is_strict();
        if is_strict && !bytes[..consumed].ends_with(b"\r\n") {
            return Self::refuse(session, &LineError::BARE_NEWLINE, consumed);
        }
        match parse_request(line, consumed, scratch) {
            Ok(line) if is_strict && !line.has_plain_keys() => {
                Self::refuse(session, &line.refused(), consumed)
            }
            Ok(Line::Storage(request, length)) => {
                if length > session.context.limits().value_bytes_max {
                    session.too_large(&request);
                    return Step::Swallow { start: consumed, count: length as u64 + 2 };
                }
                let Some(data) = bytes.get(consumed..consumed + length + 2) else {
                    return if length < SHARED_BYTES_MIN {
                        Step::Wait(consumed + length + 2)
                    } else {
                        Step::Large { start: consumed, length }
                    };
                };
                if length >= SHARED_BYTES_MIN {
                    return Step::Large { start: consumed, length };
                }
                let mut request = request;
                match data.strip_suffix(b"\r\n") {
                    Some(value) => {
                        request.value = Value::Slice(value);
                        session.dispatch(&Line::Storage(request, length));
                    }
                    None => Self::bad_chunk(session, request.quiet && !request.op.is_meta()),
                }
                Step::Used(consumed + length + 2)
            }
            Ok(line) => match session.dispatch(&line) {
                Next::Go => Step::Used(consumed),
                Next::GoLater => {
                    self.turn_left = 0;
                    Step::Used(consumed)
                }
                Next::KeysLeft { sent_count } => {
                    let Line::MultiGet(MultiGet { op, exptime, keys }) = line else { return Step::Close };
                    let start = keys.start_of(sent_count);
                    let (text_bytes, end_bytes) = (keys.text.len() - start, consumed - keys.text.len());
                    self.keep_keys(Mode::Keys { op, exptime, text_bytes, end_bytes }, sent_count);
                    Step::Used(start)
                }
                Next::Close => Step::Close,
            },
            Err(error) => Self::refuse(session, &error, consumed),
        }
    }

    /// More keys of a get: those before them are answered.
    fn step_keys(&mut self, session: &Rc<Session>, bytes: &[u8]) -> Step {
        let Mode::Keys { op, exptime, text_bytes, end_bytes } = std::mem::take(&mut self.mode) else {
            return Step::Close;
        };
        session.move_on(PROGRESS_BYTES);
        if session.queue.borrow_mut().end_failed_get(&session.context) {
            return Step::Used(text_bytes + end_bytes);
        }
        let mut scratch = session.context.scratch.take();
        let text = &bytes[..text_bytes];
        let (keys, mut next) = parse_more_keys(text, PIECE_KEYS_COUNT_MAX, &mut scratch);
        let piece = if next.is_some() { Piece::Front } else { Piece::Last };
        let mut count = keys.len();
        if let Next::KeysLeft { sent_count } = session.multi_get(&MultiGet { op, exptime, keys }, piece) {
            (count, next) = (sent_count, Some(keys.start_of(sent_count)));
        }
        session.context.scratch.set(scratch);
        let Some(start) = next else { return Step::Used(text_bytes + end_bytes) };
        self.keep_keys(Mode::Keys { op, exptime, text_bytes: text_bytes - start, end_bytes }, count);
        Step::Used(start)
    }

    /// What is left of a get; each key that was sent was as much work as a request.
    fn keep_keys(&mut self, left: Mode, sent_count: usize) {
        self.turn_left = self.turn_left.saturating_sub(u32::try_from(sent_count).unwrap_or(u32::MAX));
        self.mode = left;
    }

    /// A line that is no request.
    fn refuse(session: &Session, error: &LineError, consumed: usize) -> Step {
        session.context.counters.client_errors.add(1);
        if let Some(answer) = error.answer {
            session.queue.borrow_mut().push_line(&session.context, answer);
        }
        if error.close {
            Step::Close
        } else if error.swallow > 0 {
            Step::Swallow { start: consumed, count: error.swallow }
        } else {
            Step::Used(consumed)
        }
    }

    /// The data block does not end where it was said to: memcached takes exactly `bytes + 2` and goes on.
    fn bad_chunk(session: &Session, quiet: bool) {
        session.context.counters.client_errors.add(1);
        if !quiet {
            session.queue.borrow_mut().push_line(&session.context, "CLIENT_ERROR bad data chunk");
        }
    }

    fn begin_large(&mut self, session: &Rc<Session>, line: Vec<u8>, length: usize, bytes: &mut Bytes) {
        let mut reader = LargeReader::new(length + 2);
        reader.take_from(bytes);
        self.mode = Mode::Large(line, reader);
        self.finish_large(session);
    }

    /// Dispatches a large value when it is whole. Its line is parsed a second time, which costs nothing
    /// beside the value and keeps nothing borrowed in between.
    fn finish_large(&mut self, session: &Rc<Session>) {
        let Mode::Large(_, reader) = &self.mode else { return };
        let over = !session.context.budget.make_room();
        if !reader.is_complete() && !over {
            return;
        }
        let Mode::Large(line, reader) = std::mem::take(&mut self.mode) else { return };
        if session.is_condemned() {
            self.closing = true;
            return;
        }
        let missing = reader.missing();
        let mut scratch = Scratch::default(); // a large value is seldom enough
        let Framed::Line { line: text, consumed } = frame(&line, 0) else { return };
        let Ok(Line::Storage(mut request, length)) = parse_request(text, consumed, &mut scratch) else {
            return;
        };
        if over {
            // memcached's words for it; it drops the old item as well.
            session.refuse_value(&request, "SERVER_ERROR out of memory storing object");
            self.mode = if missing > 0 { Mode::Swallow(missing as u64) } else { Mode::Lines };
            return;
        }
        match reader.finish() {
            Some(chunks) => {
                request.value = Value::Shared(&chunks);
                session.dispatch(&Line::Storage(request, length));
            }
            None => Self::bad_chunk(session, request.quiet && !request.op.is_meta()),
        }
        session.end_batch();
    }

    /// Tells the byte budget what half-read requests hold, and makes room where that is too much: then it may be this
    /// very client who has to go.
    pub(super) fn account(&self, session: &Session) {
        let held = self.held_bytes();
        session.context.budget.change(session.input_held.replace(held), held);
        session.make_room();
    }

    /// Something in `rest` can be looked at.
    pub(super) fn has_work(&self) -> bool {
        !self.rest.is_empty()
            && self.rest.len() >= self.rest_bytes_min
            && !matches!(self.mode, Mode::Large(..))
    }

    /// No request has begun to come.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.mode, Mode::Lines) && self.rest.is_empty()
    }

    fn held_bytes(&self) -> usize {
        let large = match &self.mode {
            Mode::Large(_, reader) => reader.held_bytes(),
            Mode::Lines | Mode::Swallow(_) | Mode::Keys { .. } => 0,
        };
        large + self.rest.capacity() + self.used_bytes
    }

    fn used(&mut self, count: usize) {
        self.rest.advance(count);
        self.used_bytes += count;
        self.rest_bytes_min = 0;
        self.scanned = 0;
    }
}
