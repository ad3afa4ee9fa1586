//! One connection to a server: requests of all clients go out in batches, replies come back in order.
//!
//! ```text
//!  sessions ── send ──► out (bytes) + inflight (who waits) ──► one write per turn ──► server
//!  sessions ◄─ fill ─── slot of the oldest request ◄────────── one read per turn ◄────┘
//! ```
//! A connection object outlives its sockets: while there is none, requests queue up (and one attempt to
//! connect is under way) or fail at once (the last attempt failed a moment ago).

use super::connect::{ConnectFailure, connect};
use super::inflight::{Asked, Check, Entry, Inflight, New};
use super::reader::{Ended, Reader};
use crate::config::{Endpoint, Pool};
use crate::discovery::Resolver;
use crate::net::{ReadBlock, Stream, poll_write_all};
use crate::protocol::{Cause, MultiGet, Op, Reply, Request, Status, WireBuf, ascii, meta};
use crate::route::Slot;
use crate::stats::Counters;
use bytes::Buf;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// What all connections of a worker share.
#[derive(Clone)]
pub struct Shared {
    pub counters: Arc<Counters>,
    pub block: Rc<RefCell<ReadBlock>>,
    pub resolver: Resolver,
    /// Late replies that one connection waits for.
    pub late_count_max: usize,
    /// Request bytes that wait to be written to all servers, and their bound.
    pub queued_bytes: Rc<Cell<usize>>,
    pub queued_bytes_max: usize,
}

/// How one server is talked to.
pub(super) struct Terms {
    pub(super) label: String,
    pub(super) endpoint: Endpoint,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) outstanding_count_max: usize,
}

impl Terms {
    pub(super) fn new(pool: &Pool, label: String, endpoint: Endpoint) -> Self {
        Self {
            label,
            endpoint,
            timeout: pool.timeout,
            connect_timeout: pool.connect_timeout,
            outstanding_count_max: pool.outstanding_count_max,
        }
    }
}

/// First pause after a failed attempt to connect; it doubles up to the second, with up to half as much jitter.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// A late reply that is overdue by this many timeouts will not come: the connection is given up.
const LATE_TIMEOUTS_MAX: u32 = 3;

pub(super) struct Connection {
    terms: Rc<Terms>,
    shared: Shared,
    state: RefCell<State>,
    waker: RefCell<Option<Waker>>,
    /// The task has been woken and has not run yet.
    awake: Cell<bool>,
    /// What `queued_bytes` knows of this connection.
    accounted: Cell<usize>,
    /// The server takes lines by length (memcached 1.6.40 and later): see [`is_only_for_modern`].
    modern: Cell<bool>,
    /// Something was read since this was last looked at.
    progress: Cell<bool>,
    /// When trouble with this server was last logged.
    logged: Cell<Option<Instant>>,
    /// Not a byte has come since the connection had nothing to do.
    quiet_since_idle: Cell<bool>,
}

#[derive(Default)]
struct State {
    out: WireBuf,
    inflight: Inflight,
    /// The next number for requests that need an opaque of ours.
    opaque: u32,
    /// Request lines are put together here for the inflight queue.
    line: WireBuf,
    /// Set while the last attempt to connect failed: until when, and what requests are told.
    refused: Option<(Instant, Cause, String)>,
    attempts: u32,
}

impl Connection {
    /// A connection and its task.
    pub(super) fn spawn(terms: Rc<Terms>, shared: Shared) -> Rc<Self> {
        let connection = Rc::new(Self {
            terms,
            shared,
            state: RefCell::default(),
            waker: RefCell::new(None),
            awake: Cell::new(false),
            accounted: Cell::new(0),
            modern: Cell::new(false),
            progress: Cell::new(false),
            logged: Cell::new(None),
            quiet_since_idle: Cell::new(true),
        });
        tokio::task::spawn_local(run(Rc::clone(&connection)));
        connection
    }

    pub(super) fn send(&self, request: &Request<'_>, slot: Slot) {
        let Some(slot) = self.admit(slot) else { return };
        if !self.modern.get() && is_only_for_modern(request) {
            return slot.fill(&Reply::line(Status::ErrorLine, b"CLIENT_ERROR bad command line format"));
        }
        let mut state = self.state.borrow_mut();
        let State { out, inflight, opaque, line, .. } = &mut *state;
        let before = out.len();
        let mut check = Check::Kind;
        let mut repeatable = false;
        line.clear();
        if request.op.is_meta() {
            let own = *opaque;
            if meta::write_request(request, Some(own), out) {
                *opaque = own.wrapping_add(1);
                check = Check::OwnOpaque(own);
            } else if let Some(given) = request.meta.opaque {
                line.put(given);
                check = Check::Opaque { start: 0 };
            } else if request.op == Op::MetaDebug && !request.meta.has(b'b') {
                line.put(request.key);
                check = Check::Keys { start: 0 };
            }
        } else if request.op.is_classic_get() {
            // The line is "<op> [exptime ]<key>": kept to check the key, and to be sent again.
            ascii::write_request(request, line);
            out.put(line.single().unwrap_or_default());
            let start = line.len() - 2 - request.key.len();
            check = Check::Keys { start: u32::try_from(start).unwrap_or(0) };
            repeatable = matches!(request.op, Op::Get | Op::Gets);
        } else {
            ascii::write_request(request, out);
        }
        let size = out.len() - before;
        let kept = line.single().unwrap_or_default();
        let kept = kept.strip_suffix(b"\r\n").unwrap_or(kept);
        let new = New {
            asked: Asked::One(request.op),
            check,
            deadline: self.deadline(),
            resent: false,
            repeatable,
            line: kept,
            size,
        };
        self.enqueue(inflight, new, slot);
    }

    pub(super) fn send_multi(&self, request: &MultiGet<'_>, slot: Slot) {
        let Some(slot) = self.admit(slot) else { return };
        if !self.modern.get() && request.keys.iter().any(|key| memchr::memchr(0, key).is_some()) {
            return slot.fill(&Reply::line(Status::ErrorLine, b"CLIENT_ERROR bad command line format"));
        }
        let mut state = self.state.borrow_mut();
        let State { out, inflight, line, .. } = &mut *state;
        line.clear();
        ascii::write_multi_get(request, line);
        let kept = line.single().unwrap_or_default();
        out.put(kept);
        let size = kept.len();
        let kept = kept.strip_suffix(b"\r\n").unwrap_or(kept);
        // "<op> " or "<op> <exptime> " comes before the keys.
        let mut start = request.op.name().len() + 1;
        if matches!(request.op, Op::Gat | Op::Gats) {
            start += itoa::Buffer::new().format(request.exptime).len() + 1;
        }
        let new = New {
            asked: Asked::Multi(request.op),
            check: Check::Keys { start: u32::try_from(start).unwrap_or(0) },
            deadline: self.deadline(),
            resent: false,
            repeatable: matches!(request.op, Op::Get | Op::Gets),
            line: kept,
            size,
        };
        self.enqueue(inflight, new, slot);
        line.clear();
    }

    pub(super) fn flush_all(&self, delay: i32, slot: Slot) {
        let Some(slot) = self.admit(slot) else { return };
        let mut state = self.state.borrow_mut();
        let before = state.out.len();
        state.out.put(b"flush_all ");
        state.out.put_number(u64::from(delay.max(0).unsigned_abs()));
        state.out.put(b"\r\n");
        let size = state.out.len() - before;
        let new = New {
            asked: Asked::FlushAll,
            check: Check::Kind,
            deadline: self.deadline(),
            resent: false,
            repeatable: false,
            line: &[],
            size,
        };
        self.enqueue(&mut state.inflight, new, slot);
    }

    /// Whether a request may be queued now; if not, it is answered.
    fn admit(&self, slot: Slot) -> Option<Slot> {
        let state = self.state.borrow();
        if state.inflight.len() >= self.terms.outstanding_count_max {
            drop(state);
            self.shared.counters.server_queue_full.add(1);
            let text = format!(
                "SERVER_ERROR Max pending requests ({}) reached for destination \"{}\".",
                self.terms.outstanding_count_max, self.terms.label
            );
            slot.fill(&Reply::line(Status::Failed(Cause::QueueFull), text.as_bytes()));
            return None;
        }
        if self.shared.queued_bytes.get() >= self.shared.queued_bytes_max {
            drop(state);
            self.shared.counters.server_queue_full.add(1);
            slot.fill(&Reply::line(
                Status::Failed(Cause::QueueFull),
                b"SERVER_ERROR Max pending bytes reached: servers do not take what they are sent.",
            ));
            return None;
        }
        if let Some((until, cause, text)) = &state.refused
            && Instant::now() < *until
        {
            let (cause, text) = (*cause, text.clone());
            drop(state);
            slot.fill(&Reply::line(Status::Failed(cause), text.as_bytes()));
            return None;
        }
        Some(slot)
    }

    /// When a request that is queued now has waited long enough.
    fn deadline(&self) -> Instant {
        Instant::now() + self.terms.timeout
    }

    fn enqueue(&self, inflight: &mut Inflight, new: New<'_>, slot: Slot) {
        if inflight.is_empty() {
            self.quiet_since_idle.set(true);
        }
        self.account(self.accounted.get() + new.size);
        inflight.push(new, slot);
        self.shared.counters.server_outstanding.add(1);
        if !self.awake.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// So many bytes wait to be written now.
    fn account(&self, bytes: usize) {
        let all = &self.shared.queued_bytes;
        all.set((all.get() + bytes).saturating_sub(self.accounted.replace(bytes)));
    }

    fn set_waker(&self, cx: &Context<'_>) {
        self.awake.set(false);
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    /// Resolves when a request is queued.
    async fn requests(&self) {
        poll_fn(|cx| {
            self.set_waker(cx);
            if self.state.borrow().inflight.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Answers a request, or throws the reply away when nobody waits any more.
    pub(super) fn answer(&self, entry: Entry, reply: &Reply<'_>) {
        let counters = &self.shared.counters;
        counters.server_outstanding.sub(1);
        match entry.slot {
            Some(slot) => slot.fill(reply),
            None => counters.server_late.add(1),
        }
    }

    /// The oldest request is answered: take it out of the queue.
    pub(super) fn pop(&self) -> Option<Entry> {
        self.state.borrow_mut().inflight.pop()
    }

    pub(super) fn with_inflight<R>(&self, look: impl FnOnce(&mut Inflight) -> R) -> R {
        look(&mut self.state.borrow_mut().inflight)
    }

    /// A value of the multi-key get at the front. (Nothing is borrowed while it is told: whoever hears it may turn
    /// around and send something over this very connection.)
    pub(super) fn hit(&self, index: usize, reply: &Reply<'_>) {
        let waiting = {
            let inflight = &mut self.state.borrow_mut().inflight;
            inflight.count_off();
            inflight.front().and_then(|entry| entry.slot.as_ref()).and_then(Slot::waiting)
        };
        if let Some((sink, token)) = waiting {
            sink.hit(token, index, reply);
        }
    }

    fn fail(&self, entry: Entry, reply: &Reply<'_>) {
        self.shared.counters.server_outstanding.sub(1);
        if let Some(slot) = entry.slot {
            slot.fill(reply);
        }
    }

    /// No connection: everything that waits is told why, and so is what comes in the next moments.
    fn on_refused(&self, failure: &ConnectFailure) {
        self.shared.counters.server_connect_errors.add(1);
        let entries: Vec<Entry> = {
            let mut state = self.state.borrow_mut();
            let doubled = RETRY_PAUSE_MIN * 2_u32.pow(state.attempts.min(16));
            let pause = jittered(doubled.min(RETRY_PAUSE_MAX));
            state.attempts = state.attempts.saturating_add(1);
            state.refused = Some((Instant::now() + pause, failure.cause, failure.text.clone()));
            state.out.clear();
            state.inflight.drain().collect()
        };
        self.account(0);
        if self.state.borrow().attempts == 1 && self.may_log() {
            tracing::warn!(server = %self.terms.label, "cannot connect: {}", failure.text);
        }
        let reply = Reply::line(Status::Failed(failure.cause), failure.text.as_bytes());
        for entry in entries {
            self.fail(entry, &reply);
        }
    }

    fn on_connected(&self, modern: bool) {
        self.modern.set(modern);
        self.expire(Instant::now());
        let mut state = self.state.borrow_mut();
        // What nobody waits for any more is not sent.
        let (late, unsent) = state.inflight.lose();
        let waiting = unsent.min(state.out.len());
        state.out.advance(waiting);
        self.shared.counters.server_outstanding.sub(late.len() as u64);
        self.account(state.out.len());
        if state.attempts > 0 {
            tracing::info!(server = %self.terms.label, "connected again");
        }
        state.attempts = 0;
        state.refused = None;
        self.shared.counters.server_connects.add(1);
        self.shared.counters.server_connections.add(1);
        self.quiet_since_idle.set(true);
    }

    /// The connection is lost: what was on it fails, or is sent once more where that is harmless.
    fn on_lost(&self, ended: Ended) {
        let counters = &self.shared.counters;
        counters.server_connections.sub(1);
        counters.server_closed.add(1);
        let again = ended == Ended::Closed && self.quiet_since_idle.get();
        let mut failed = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            let State { out, inflight, .. } = &mut *state;
            let (lost, torn) = inflight.lose();
            out.advance(torn.min(out.len()));
            let mut resend = Vec::new();
            for (entry, line) in lost {
                if again && entry.repeatable && !entry.resent && entry.slot.is_some() {
                    resend.push((entry, line));
                } else {
                    failed.push(entry);
                }
            }
            if !resend.is_empty() {
                resend_first(out, inflight, resend, counters);
            }
        }
        self.account(self.state.borrow().out.len());
        if ended == Ended::Desync {
            counters.desync_detected.add(1);
            if self.may_log() {
                tracing::error!(server = %self.terms.label, "the server answered what it was not asked; connection closed");
            }
        } else if !failed.is_empty() && self.may_log() {
            tracing::warn!(server = %self.terms.label, failed = failed.len(), "connection lost: {}", ended.cause().line());
        }
        let reply = Reply::failed(ended.cause());
        for entry in failed {
            self.fail(entry, &reply);
        }
    }

    /// A server that comes and goes many times a second is told of once a second; counters have the rest.
    fn may_log(&self) -> bool {
        let now = Instant::now();
        let may = self.logged.get().is_none_or(|last| now - last >= Duration::from_secs(1));
        if may {
            self.logged.set(Some(now));
        }
        may
    }

    /// Answers requests whose time has passed. Their places in the queue stay.
    fn expire(&self, now: Instant) {
        let mut expired = Vec::new();
        self.state.borrow_mut().inflight.expire(now, |slot| expired.push(slot));
        let reply = Reply::failed(Cause::Timeout);
        for slot in expired {
            self.shared.counters.server_timeouts.add(1);
            slot.fill(&reply);
        }
    }

    /// Too many late replies, or one that is hopelessly late while nothing else comes either.
    fn is_hopeless(&self, now: Instant) -> bool {
        let state = self.state.borrow();
        let overdue = state
            .inflight
            .front_deadline()
            .is_some_and(|d| now.saturating_duration_since(d) > self.terms.timeout * LATE_TIMEOUTS_MAX);
        let progress = self.progress.take();
        state.inflight.late() > self.shared.late_count_max || (overdue && !progress)
    }
}

/// Puts requests in front of those that wait, so that the order of one client's requests stays.
fn resend_first(
    out: &mut WireBuf,
    inflight: &mut Inflight,
    resend: Vec<(Entry, Vec<u8>)>,
    counters: &Counters,
) {
    let mut waiting = std::mem::take(out);
    let mut fresh = Inflight::default();
    for (entry, line) in resend {
        let Some(slot) = entry.slot else { continue };
        counters.server_resent.add(1);
        out.put(&line);
        out.put(b"\r\n");
        let new = New {
            asked: entry.asked,
            check: entry.check,
            deadline: entry.deadline,
            resent: true,
            repeatable: true,
            line: &line,
            size: line.len() + 2,
        };
        fresh.push(new, slot);
    }
    out.append(&mut waiting);
    inflight.prepend(fresh);
}

/// The life of a connection.
async fn run(connection: Rc<Connection>) {
    loop {
        connection.requests().await;
        match connect_and_expire(&connection).await {
            Ok((stream, modern)) => {
                connection.on_connected(modern);
                let ended = serve(&connection, stream).await;
                connection.on_lost(ended);
            }
            Err(failure) => connection.on_refused(&failure),
        }
    }
}

/// Connects, while requests whose time passes meanwhile are answered.
async fn connect_and_expire(connection: &Connection) -> Result<(Stream, bool), ConnectFailure> {
    let terms = &connection.terms;
    let mut connecting = pin!(connect(&terms.endpoint, &connection.shared.resolver, terms.connect_timeout));
    loop {
        let first = connection.with_inflight(|inflight| inflight.next_deadline());
        let until = first.unwrap_or_else(|| Instant::now() + terms.timeout);
        tokio::select! {
            result = &mut connecting => return result, // polled by reference: nothing is lost
            () = tokio::time::sleep_until(until.into()) => connection.expire(Instant::now()),
        }
    }
}

/// What memcached before 1.6.40 does not read as we do: it ends a line at a NUL byte, and refuses a meta set of
/// twenty tokens without passing over its data block. Either would make it take data for commands.
fn is_only_for_modern(request: &Request<'_>) -> bool {
    const META_TOKENS_OLD_MAX: u8 = 19;
    if request.op.is_meta() {
        let sent = request.meta.token_count - u8::from(request.meta.has(b'q'));
        return (request.op == Op::MetaSet && sent > META_TOKENS_OLD_MAX)
            || memchr::memchr(0, request.meta.token).is_some()
            || memchr::memchr(0, request.meta.flags).is_some();
    }
    memchr::memchr(0, request.key).is_some()
}

/// Writes batches and reads replies until the connection ends.
///
/// All state lives in the connection and the reader, none in this future: it may be dropped at any point.
async fn serve(connection: &Connection, mut stream: Stream) -> Ended {
    let mut reader = Reader::default();
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        connection.set_waker(cx);
        if let Poll::Ready(ended) = poll_once(connection, &mut stream, &mut reader, cx) {
            return Poll::Ready(ended);
        }
        poll_timer(connection, &mut timer, cx)
    })
    .await
}

fn poll_once(
    connection: &Connection,
    stream: &mut Stream,
    reader: &mut Reader,
    cx: &mut Context<'_>,
) -> Poll<Ended> {
    let counters = &connection.shared.counters;
    // What has been received is still read after a write failed: those were answers.
    let mut write_failed = false;
    {
        let mut state = connection.state.borrow_mut();
        let State { out, inflight, .. } = &mut *state;
        if !out.is_empty() {
            let before = out.len();
            let written = poll_write_all(stream, cx, out);
            let count = before - out.len();
            inflight.on_written(count);
            counters.server_bytes_written.add(count as u64);
            write_failed = matches!(written, Poll::Ready(Err(_)));
            connection.account(out.len());
        }
    }
    loop {
        match reader.poll(connection, stream, &connection.shared.block, cx) {
            Poll::Ready(Ok(count)) => {
                connection.quiet_since_idle.set(false);
                connection.progress.set(true);
                counters.server_bytes_read.add(count as u64);
            }
            Poll::Ready(Err(ended)) => return Poll::Ready(ended),
            Poll::Pending if write_failed => return Poll::Ready(Ended::Closed),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// One timer for the whole connection: it is set for the oldest request and looked at when it fires,
/// so in steady state it costs nothing per request.
fn poll_timer(
    connection: &Connection,
    timer: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<Ended> {
    loop {
        if let Some(sleep) = timer {
            if sleep.is_elapsed() {
                // Already fired and not set again: nothing was outstanding then.
            } else if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let now = Instant::now();
        connection.expire(now);
        if connection.is_hopeless(now) {
            return Poll::Ready(Ended::TooLate);
        }
        let next = {
            let mut state = connection.state.borrow_mut();
            state.inflight.shrink();
            let hopeless_at = state
                .inflight
                .front_deadline()
                .map(|d| d + connection.terms.timeout * (LATE_TIMEOUTS_MAX + 1));
            state.inflight.next_deadline().or(hopeless_at)
        };
        let Some(next) = next else { return Poll::Pending };
        match timer {
            Some(sleep) => sleep.as_mut().reset(next.into()),
            None => *timer = Some(Box::pin(tokio::time::sleep_until(next.into()))),
        }
    }
}

/// `pause` and up to half of it more, so that workers and nodes do not knock in step.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0_u8) % 1000;
    pause + pause.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 2000.0)
}
