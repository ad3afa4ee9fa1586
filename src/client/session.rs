//! One client: read, parse, dispatch, reply, until it leaves or is told to.
//!
//! The session's task is woken by its socket and by its replies; a poll writes what is answered, takes
//! requests apart as far as the client's bounds allow, and reads on. All state is in [`Session`] and
//! [`Input`], none in a future that could be dropped half-way.

use super::context::Context;
use super::dispatch::Next;
use super::reply_queue::{Progress, ReplyQueue};
use super::turn;
use crate::net::{LargeReader, Stream, poll_write_all};
use crate::protocol::ascii::{Framed, Scratch, frame, parse_request};
use crate::protocol::{Line, LineError, Reply, SHARED_BYTES_MIN, Value};
use crate::route::Sink;
use bytes::{Buf, BytesMut};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context as Cx, Poll, Waker};

/// What a client's replies find their way back to.
pub(super) struct Session {
    pub(super) context: Rc<Context>,
    pub(super) queue: RefCell<ReplyQueue>,
    /// To put itself on the list of partially answered ones.
    this: Weak<Self>,
    waker: RefCell<Option<Waker>>,
    /// Woken, and not polled since.
    awake: Cell<bool>,
    /// Nothing is read before replies have left, or come: even those that say nothing wake the task.
    waits_for_replies: Cell<bool>,
    /// On the list of partially answered ones.
    partial: Cell<bool>,
    /// When it was last counted among the active clients.
    seen_in: Cell<u32>,
    /// The task has ended; replies are thrown away.
    gone: Cell<bool>,
    /// The client holds more than its share while memory is short.
    condemned: Cell<bool>,
}

/// What has been read and not been dispatched.
#[derive(Default)]
struct Input {
    rest: BytesMut,
    /// The front of `rest` known to hold no line end.
    scanned: usize,
    /// `rest` is not looked at again before it has grown to this.
    rest_bytes_min: usize,
    mode: Mode,
    scratch: Scratch,
    /// No more requests are taken.
    closing: bool,
    /// Nothing has been read yet.
    fresh: bool,
    /// Bytes of `rest` and of a large value that the byte budget knows of.
    accounted: usize,
}

#[derive(Default)]
enum Mode {
    #[default]
    Lines,
    /// A large value under way; its line, kept to be parsed again when the value is whole.
    Large(Vec<u8>, LargeReader),
    /// This many bytes are passed over.
    Swallow(u64),
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
/// Room for the keys of an ordinary multi-key get.
const SCRATCH_BYTES_KEPT_MAX: usize = 64 * 1024;
/// The first byte of a binary request.
const BINARY_MAGIC: u8 = 0x80;

/// Serves one client until it is gone.
pub(super) async fn serve(context: Rc<Context>, mut stream: Stream) {
    let session = Rc::new_cyclic(|this| Session {
        context: Rc::clone(&context),
        queue: RefCell::default(),
        this: Weak::clone(this),
        waker: RefCell::new(None),
        awake: Cell::new(false),
        waits_for_replies: Cell::new(false),
        partial: Cell::new(false),
        seen_in: Cell::new(0),
        gone: Cell::new(false),
        condemned: Cell::new(false),
    });
    let id = context.register(&session);
    let mut input = Input { fresh: true, ..Input::default() };
    poll_fn(|cx| session.poll(&mut stream, &mut input, cx)).await;
    session.gone.set(true);
    session.queue.borrow_mut().abandon(&context);
    context.release(input.accounted);
    context.unregister(id);
}

impl Session {
    fn poll(self: &Rc<Self>, stream: &mut Stream, input: &mut Input, cx: &mut Cx<'_>) -> Poll<()> {
        turn::wake_overdue();
        self.set_waker(cx);
        loop {
            if self.poll_write(stream, cx).is_err() || self.condemned.get() {
                return Poll::Ready(());
            }
            if self.context.is_draining() && matches!(input.mode, Mode::Lines) && input.rest.is_empty() {
                input.closing = true;
            }
            let (idle, blocked) = {
                let queue = self.queue.borrow();
                (queue.is_empty() && queue.out.is_empty(), self.is_full(&queue))
            };
            self.waits_for_replies.set(input.closing || blocked);
            if input.closing {
                return if idle { Poll::Ready(()) } else { Poll::Pending };
            }
            if blocked {
                return Poll::Pending; // woken when replies leave
            }
            if input.has_work() {
                self.on_rest(input);
                self.account(input);
                continue;
            }
            match self.poll_read(stream, input, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => input.closing = true,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The client's bounds are reached: it is not read until replies have left.
    fn is_full(&self, queue: &ReplyQueue) -> bool {
        let limits = &self.context.limits;
        queue.len() >= limits.client_outstanding_count_max
            || queue.held() >= limits.client_reply_bytes_max
            || (!queue.is_empty() && queue.expected_bytes() >= limits.client_reply_bytes_max)
    }

    fn poll_write(&self, stream: &mut Stream, cx: &mut Cx<'_>) -> Result<(), ()> {
        let mut queue = self.queue.borrow_mut();
        let before = queue.out.len();
        if before == 0 {
            return Ok(());
        }
        let result = poll_write_all(stream, cx, &mut queue.out);
        let written = before - queue.out.len();
        self.context.counters.bytes_written.add(written as u64);
        queue.on_written(&self.context, written);
        if queue.out.is_empty() {
            self.context.give_back(std::mem::take(&mut queue.out));
        }
        match result {
            Poll::Ready(Err(_)) => Err(()),
            _ => Ok(()),
        }
    }

    /// One read and all that it brings. `false`: the client sends no more.
    fn poll_read(self: &Rc<Self>, stream: &mut Stream, input: &mut Input, cx: &mut Cx<'_>) -> Poll<bool> {
        let count = if let Mode::Large(_, reader) = &mut input.mode {
            let read = reader.poll_read(stream, cx);
            let Poll::Ready(Ok(count)) = read else { return read.map(|_| false) };
            self.finish_large(input);
            count
        } else {
            let mut block = self.context.block.borrow_mut();
            let read = block.poll_read(stream, cx);
            let Poll::Ready(Ok(count)) = read else { return read.map(|_| false) };
            if count > 0 {
                turn::count_read(&self.seen_in, self.queue.borrow().is_empty());
                self.on_block(input, &mut block);
            }
            count
        };
        self.context.counters.bytes_read.add(count as u64);
        self.account(input);
        Poll::Ready(count > 0)
    }

    fn on_block(self: &Rc<Self>, input: &mut Input, block: &mut crate::net::ReadBlock) {
        if !input.rest.is_empty() {
            input.rest.extend_from_slice(block.bytes());
            return self.on_rest(input);
        }
        let mut start = 0;
        while start < block.bytes().len() && !input.closing {
            if self.is_full(&self.queue.borrow()) {
                input.rest.extend_from_slice(&block.bytes()[start..]);
                break;
            }
            match self.step(input, &block.bytes()[start..]) {
                Step::Used(count) => start += count,
                Step::Wait(bytes_min) => {
                    input.rest.extend_from_slice(&block.bytes()[start..]);
                    input.rest_bytes_min = bytes_min;
                    break;
                }
                Step::Large { start: at, length } => {
                    let line = block.bytes()[start..start + at].to_vec();
                    // The value keeps the block; nothing of it is copied.
                    let mut bytes = block.take(start + at);
                    self.begin_large(input, line, length, &mut bytes);
                    input.rest.extend_from_slice(&bytes);
                    return self.on_rest(input);
                }
                Step::Swallow { start: at, count } => {
                    start += at;
                    let here = count.min((block.bytes().len() - start) as u64);
                    start += usize::try_from(here).unwrap_or(0);
                    if count > here {
                        input.mode = Mode::Swallow(count - here);
                    }
                }
                Step::Close => input.closing = true,
            }
        }
        self.end_batch();
    }

    /// Requests that did not arrive in one piece, or that had to wait.
    fn on_rest(self: &Rc<Self>, input: &mut Input) {
        while input.has_work() && !input.closing && !self.is_full(&self.queue.borrow()) {
            let rest = std::mem::take(&mut input.rest);
            let step = self.step(input, &rest);
            input.rest = rest;
            match step {
                Step::Used(count) => input.used(count),
                Step::Wait(bytes_min) => input.rest_bytes_min = bytes_min,
                Step::Large { start, length } => {
                    let line = input.rest[..start].to_vec();
                    input.used(start);
                    let mut bytes = std::mem::take(&mut input.rest).freeze();
                    self.begin_large(input, line, length, &mut bytes);
                    input.rest.extend_from_slice(&bytes);
                }
                Step::Swallow { start, count } => {
                    input.used(start);
                    let here = count.min(input.rest.len() as u64);
                    input.used(usize::try_from(here).unwrap_or(0));
                    if count > here {
                        input.mode = Mode::Swallow(count - here);
                    }
                }
                Step::Close => input.closing = true,
            }
        }
        if input.rest.is_empty() {
            input.rest = BytesMut::new(); // an idle client holds nothing
        }
        self.end_batch();
    }

    /// Looks at the front of `bytes` for the next request, and dispatches it when it is whole.
    fn step(self: &Rc<Self>, input: &mut Input, bytes: &[u8]) -> Step {
        if let Mode::Swallow(count) = &mut input.mode {
            let here = (*count).min(bytes.len() as u64);
            *count -= here;
            if *count == 0 {
                input.mode = Mode::Lines;
            }
            return Step::Used(usize::try_from(here).unwrap_or(0));
        }
        if std::mem::take(&mut input.fresh) && bytes.first() == Some(&BINARY_MAGIC) {
            self.queue.borrow_mut().push_line(&self.context, BINARY_REFUSED);
            return Step::Close;
        }
        let (line, consumed) = match frame(bytes, input.scanned) {
            Framed::Line { line, consumed } => (line, consumed),
            Framed::Incomplete => {
                input.scanned = bytes.len();
                return Step::Wait(bytes.len() + 1);
            }
            Framed::TooLong => return Step::Close,
        };
        input.scanned = 0;
        match parse_request(line, consumed, &mut input.scratch) {
            Ok(Line::Storage(request, length)) => {
                if length > self.context.limits.value_bytes_max {
                    self.too_large(&request);
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
                        self.dispatch(&Line::Storage(request, length));
                    }
                    None => self.bad_chunk(request.quiet && !request.op.is_meta()),
                }
                Step::Used(consumed + length + 2)
            }
            Ok(line) => match self.dispatch(&line) {
                Next::Go => Step::Used(consumed),
                Next::Close => Step::Close,
            },
            Err(error) => self.refuse(&error, consumed),
        }
    }

    /// A line that is no request.
    fn refuse(self: &Rc<Self>, error: &LineError, consumed: usize) -> Step {
        self.context.counters.client_errors.add(1);
        if let Some(answer) = error.answer {
            self.queue.borrow_mut().push_line(&self.context, answer);
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
    fn bad_chunk(&self, quiet: bool) {
        self.context.counters.client_errors.add(1);
        if !quiet {
            self.queue.borrow_mut().push_line(&self.context, "CLIENT_ERROR bad data chunk");
        }
    }

    fn begin_large(
        self: &Rc<Self>,
        input: &mut Input,
        line: Vec<u8>,
        length: usize,
        bytes: &mut bytes::Bytes,
    ) {
        let mut reader = LargeReader::new(length + 2);
        reader.take_from(bytes);
        input.mode = Mode::Large(line, reader);
        self.finish_large(input);
    }

    /// Dispatches a large value when it is whole. Its line is parsed a second time, which costs nothing
    /// beside the value and keeps nothing borrowed in between.
    fn finish_large(self: &Rc<Self>, input: &mut Input) {
        let Mode::Large(_, reader) = &input.mode else { return };
        let over = self.context.is_over_budget(reader.held_bytes());
        if !reader.is_complete() && !over {
            return;
        }
        let Mode::Large(line, reader) = std::mem::take(&mut input.mode) else { return };
        let missing = reader.missing();
        let Framed::Line { line: text, consumed } = frame(&line, 0) else { return };
        let Ok(Line::Storage(mut request, length)) = parse_request(text, consumed, &mut input.scratch) else {
            return;
        };
        if over {
            // memcached's words for it; it drops the old item as well.
            self.refuse_value(&request, "SERVER_ERROR out of memory storing object");
            input.mode = if missing > 0 { Mode::Swallow(missing as u64) } else { Mode::Lines };
            return;
        }
        match reader.finish() {
            Some(chunks) => {
                request.value = Value::Shared(&chunks);
                self.dispatch(&Line::Storage(request, length));
            }
            None => self.bad_chunk(request.quiet && !request.op.is_meta()),
        }
        self.end_batch();
    }

    /// Tells the byte budget what half-read requests hold. A line that has no end while memory is short is
    /// not waited for; a large value is refused in [`Self::finish_large`].
    fn account(&self, input: &mut Input) {
        if input.scratch.held_bytes() > SCRATCH_BYTES_KEPT_MAX {
            input.scratch = Scratch::default();
        }
        let held = input.held_bytes();
        match held.checked_sub(input.accounted) {
            Some(more) => self.context.hold(more),
            None => self.context.release(input.accounted - held),
        }
        input.accounted = held;
        if matches!(input.mode, Mode::Lines) && held > SHARED_BYTES_MIN && self.context.is_over_budget(held) {
            self.context.counters.slow_clients_closed.add(1);
            self.condemned.set(true);
        }
        self.check_budget(); // answers of our own come without a fill
    }

    fn end_batch(&self) {
        self.queue.borrow_mut().end_batch();
    }

    fn set_waker(&self, cx: &Cx<'_>) {
        self.awake.set(false);
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&self) {
        if !self.awake.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// The rest of its batch is not waited for any longer.
    pub(super) fn wake_partial(&self) {
        self.partial.set(false);
        self.wake();
    }

    fn on_progress(&self, progress: Progress) {
        match progress {
            Progress::None => {}
            Progress::Silent => {
                if self.waits_for_replies.get() {
                    self.wake();
                }
            }
            Progress::Batch => self.wake(),
            Progress::Partial => {
                if !self.awake.get()
                    && !self.partial.replace(true)
                    && let Some(this) = self.this.upgrade()
                {
                    turn::add_partial(this);
                }
            }
        }
    }
}

impl Sink for Session {
    fn hit(&self, token: u64, index: usize, reply: &Reply<'_>) {
        if self.gone.get() {
            return;
        }
        self.queue.borrow_mut().hit(&self.context, token, index, reply);
        self.check_budget();
    }

    fn fill(&self, token: u64, reply: &Reply<'_>) {
        if self.gone.get() {
            return;
        }
        let progress = self.queue.borrow_mut().fill(&self.context, token, reply);
        self.on_progress(progress);
        self.check_budget();
    }
}

impl Session {
    /// A client that does not take its replies while memory is short has to go.
    fn check_budget(&self) {
        let held = self.queue.borrow().held();
        if held >= SHARED_BYTES_MIN && self.context.is_over_budget(held) && !self.condemned.replace(true) {
            self.context.counters.slow_clients_closed.add(1);
            self.gone.set(true);
            self.queue.borrow_mut().abandon(&self.context);
            self.wake();
        }
    }
}

impl Input {
    /// Something in `rest` can be looked at.
    fn has_work(&self) -> bool {
        !self.rest.is_empty()
            && self.rest.len() >= self.rest_bytes_min
            && !matches!(self.mode, Mode::Large(..))
    }

    fn held_bytes(&self) -> usize {
        let large = match &self.mode {
            Mode::Large(_, reader) => reader.held_bytes(),
            Mode::Lines | Mode::Swallow(_) => 0,
        };
        large + self.rest.capacity()
    }

    fn used(&mut self, count: usize) {
        self.rest.advance(count);
        self.rest_bytes_min = 0;
        self.scanned = 0;
    }
}
