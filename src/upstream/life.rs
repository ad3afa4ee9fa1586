//! The life of a connection's socket: connect, write batches, read replies, lose it, try again.
//!
//! A connection outlives its sockets. What was queued while there is none waits for the next one; what was on one
//! that is lost fails, each with its cause, or is sent once more where that is harmless.

use super::connect::{ConnectFailure, connect};
use super::connection::{Connection, State};
use super::dialect::Dialect;
use super::inflight::{Entry, Inflight, New};
use super::reader::{Ended, Reader};
use super::terms::{Shared, Terms};
use crate::net::{Stream, poll_write_all, wake_after_others};
use crate::protocol::{Cause, Reply, Status, WireBuf};
use crate::stats::{Counters, LogRate};
use bytes::Buf;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A late reply that is overdue by this many timeouts will not come: the connection is given up.
const LATE_TIMEOUTS_MAX: u32 = 3;

/// What is read of one connection before others have their turn.
const TURN_BYTES_MAX: usize = 512 * 1024;

/// What is logged, each cause within its own rate. Never a byte that a peer sent.
mod told {
    use crate::stats::LogRate;

    pub(super) static REFUSED: LogRate = LogRate::new();
    pub(super) static LOST: LogRate = LogRate::new();
    pub(super) static DESYNC: LogRate = LogRate::new();
}

/// A connection and its task.
pub(super) fn spawn(terms: Rc<Terms>, shared: Shared) -> Rc<Connection> {
    let connection = Rc::new(Connection::new(terms, shared));
    tokio::task::spawn_local(run(Task(Rc::clone(&connection))));
    connection
}

/// The task of a connection. When it ends because the worker does, nobody will answer what is left; by itself that would not
/// go: it knows clients, they know the tree, and that has the connection.
struct Task(Rc<Connection>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.fail_queued(&Reply::failed(Cause::Aborted));
    }
}

async fn run(task: Task) {
    let connection = &task.0;
    while connection.requests().await {
        // While the server is out nobody but its prober knocks.
        if let Some(reason) = connection.terms.tko.reason() {
            connection.fail_queued(&Reply::line(Status::Failed(Cause::Tko), reason.line().as_bytes()));
            connection.warming.take();
            continue;
        }
        match connect_and_expire(connection).await {
            Ok((stream, dialect)) => {
                connection.on_connected(dialect);
                connection.warming.take();
                let ended = serve(connection, stream).await;
                connection.on_lost(ended);
            }
            Err(failure) => {
                connection.on_refused(&failure);
                connection.warming.take();
            }
        }
    }
}

/// Connects, while requests whose time passes meanwhile are answered.
async fn connect_and_expire(connection: &Connection) -> Result<(Stream, Dialect), ConnectFailure> {
    let terms = &connection.terms;
    let mut connecting = pin!(connect(&terms.endpoint, &connection.shared.dial, terms.connect_timeout));
    loop {
        let first = connection.state.borrow().next_deadline();
        let until = first.unwrap_or_else(|| Instant::now() + terms.timeout);
        tokio::select! {
            biased; // no throw of dice: a simulation brings the same again
            result = &mut connecting => return result, // polled by reference: nothing is lost
            () = tokio::time::sleep_until(until) => connection.expire(Instant::now()),
        }
    }
}

/// Writes batches and reads replies until the connection ends.
///
/// All state lives in the connection and the reader, none in this future: it may be dropped at any point.
async fn serve(connection: &Connection, mut stream: Stream) -> Ended {
    let mut reader = Reader::default();
    let mut timer = Timer::default();
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
    connection.release();
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
        }
    }
    let mut turn_bytes = 0;
    while turn_bytes < TURN_BYTES_MAX {
        match reader.poll(connection, stream, &connection.shared.block, cx) {
            Poll::Ready(Ok(count)) => {
                connection.quiet_since_idle.set(false);
                connection.heard_at.set(Instant::now());
                counters.server_bytes_read.add(count as u64);
                turn_bytes += count;
            }
            Poll::Ready(Err(ended)) => return Poll::Ready(ended),
            Poll::Pending if write_failed => return Poll::Ready(Ended::Closed),
            Poll::Pending => break,
        }
    }
    if connection.answered.take() {
        connection.terms.tko.on_answer();
    }
    let state = connection.state.borrow();
    connection.account(&state);
    if turn_bytes >= TURN_BYTES_MAX {
        connection.awake.set(true);
        wake_after_others(cx);
    } else if state.bulk.may_release(connection.shared.bulk_bytes_max.get(), &state.inflight) {
        connection.wake();
    }
    let is_done = connection.retired.get() && state.next_deadline().is_none();
    if is_done { Poll::Ready(Ended::Retired) } else { Poll::Pending }
}

#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// It watches late replies, which may take longer than a request that comes now.
    for_late_alone: bool,
}

/// One timer for the whole connection: it is set for the oldest request and looked at when it fires,
/// so in steady state it costs nothing per request.
fn poll_timer(connection: &Connection, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<Ended> {
    loop {
        if let Some(sleep) = &mut timer.sleep {
            let is_waited_for = || connection.state.borrow().next_deadline().is_some();
            if sleep.is_elapsed() || (timer.for_late_alone && is_waited_for()) {
                // Already fired and not set again: nothing was outstanding then. Or set for later than what has come.
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
            state.bulk.shrink();
            let next = state.next_deadline();
            timer.for_late_alone = next.is_none();
            if next.is_none() && connection.retired.get() {
                return Poll::Ready(Ended::Retired); // nobody waits for what is late
            }
            next.or_else(|| connection.hopeless_at(&state))
        };
        let Some(next) = next else { return Poll::Pending };
        match &mut timer.sleep {
            Some(sleep) => sleep.as_mut().reset(next),
            None => timer.sleep = Some(Box::pin(tokio::time::sleep_until(next))),
        }
    }
}

impl Connection {
    /// Resolves when a request is queued, or one is expected; `false`: there will be none.
    async fn requests(&self) -> bool {
        poll_fn(|cx| {
            self.set_waker(cx);
            if self.state.borrow().count() > 0 || self.warming.borrow().is_some() {
                return Poll::Ready(true);
            }
            if self.retired.get() { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }

    /// No connection: everything that waits is told why, and the server is knocked out.
    fn on_refused(&self, failure: &ConnectFailure) {
        self.shared.counters.server_connect_errors.add(1);
        let tko = &self.terms.tko;
        let prober = tko.on_no_connection(failure.cause, &failure.text, &self.shared.counters);
        // Where servers are not knocked out, this is told instead.
        if tko.reason().is_none() && self.may_log(&told::REFUSED) {
            tracing::warn!(server = %self.terms.label, "cannot connect: {}", failure.text);
        }
        self.probe(prober);
        self.fail_queued(&Reply::line(Status::Failed(failure.cause), failure.text.as_bytes()));
    }

    /// Answers all that is queued; nothing of it is on a connection.
    fn fail_queued(&self, reply: &Reply<'_>) {
        let entries: Vec<Entry> = {
            let mut state = self.state.borrow_mut();
            let State { out, inflight, bulk, .. } = &mut *state;
            out.clear();
            let entries = inflight.drain().chain(bulk.drain()).collect();
            self.awaited_dialect.set(Dialect::Classic);
            self.account(&state);
            entries
        };
        for entry in entries {
            self.fail(entry, reply);
        }
    }

    fn on_connected(&self, dialect: Dialect) {
        let was = self.dialect.replace(Some(dialect));
        let awaited = self.awaited_dialect.replace(Dialect::Classic);
        if dialect < awaited || Some(dialect) < was {
            // An older server than was expected: what is queued may be what it reads otherwise.
            self.fail_queued(&Reply::failed(Cause::Closed));
        }
        self.expire(Instant::now());
        let mut state = self.state.borrow_mut();
        // What nobody waits for any more is not sent.
        let (_, unsent) = state.inflight.lose();
        let waiting = unsent.min(state.out.len());
        state.out.advance(waiting);
        self.account(&state);
        self.shared.counters.server_connects.add(1);
        self.shared.counters.server_connections.add(1);
        self.terms.traffic.connections.add(1);
        self.quiet_since_idle.set(true);
    }

    /// The connection is lost: what was on it fails, or is sent once more where that is harmless.
    fn on_lost(&self, ended: Ended) {
        let counters = &self.shared.counters;
        counters.server_connections.sub(1);
        self.terms.traffic.connections.sub(1);
        counters.server_closed.add(1);
        if !matches!(ended, Ended::TooLate | Ended::Retired) {
            self.probe(self.terms.tko.on_disconnect(ended.cause(), counters));
        }
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
            self.account_read(0);
            self.passed_over_bytes.set(0);
            self.account(&state);
        }
        if ended == Ended::Desync {
            counters.desync_detected.add(1);
            if self.may_log(&told::DESYNC) {
                tracing::error!(server = %self.terms.label, "the server answered what it was not asked; connection closed");
            }
        } else if ended != Ended::Retired && !failed.is_empty() && self.may_log(&told::LOST) {
            tracing::warn!(server = %self.terms.label, failed = failed.len(), "connection lost: {}", ended.cause().line());
        }
        let reply = Reply::failed(ended.cause());
        for entry in failed {
            self.fail(entry, &reply);
        }
    }

    /// Lets go what may go of the requests that move much; those that nobody wants any more are answered here.
    fn release(&self) {
        let dropped = {
            let mut state = self.state.borrow_mut();
            let State { out, inflight, bulk, .. } = &mut *state;
            let Shared { bulk_bytes_max, first_replies, .. } = &self.shared;
            bulk.release(bulk_bytes_max.get(), out, inflight, &self.quiet_since_idle, first_replies)
        };
        let reply = Reply::failed(Cause::Aborted);
        for entry in dropped {
            self.fail(entry, &reply);
        }
    }

    /// A server that comes and goes many times a second is told of once a second; counters have the rest.
    fn may_log(&self, cause: &LogRate) -> bool {
        let now = Instant::now();
        let due = self.logged.get().is_none_or(|last| now - last >= Duration::from_secs(1));
        let may = due && cause.may_log();
        if may {
            self.logged.set(Some(now));
        }
        may
    }

    /// Answers requests whose time has passed. Their places in the queue stay.
    fn expire(&self, now: Instant) {
        let (mut expired, mut blamed) = (Vec::new(), 0);
        let mut on_expired = |slot, waited: bool, deadline| {
            // A server that answers all the time is not to blame for what came to it late, or never.
            let was_silent = self.heard_at.get() + self.terms.timeout <= deadline;
            blamed += usize::from(!waited || was_silent);
            expired.push(slot);
        };
        let mut state = self.state.borrow_mut();
        state.inflight.expire(now, &mut on_expired);
        state.bulk.expire(now, &mut on_expired);
        self.account(&state);
        drop(state);
        let reply = Reply::failed(Cause::Timeout);
        // Counted before anybody is told: who then turns to another server shall not come back to this one.
        self.shared.counters.server_timeouts.add(expired.len() as u64);
        for _ in 0..blamed {
            self.probe(self.terms.tko.on_timeout(&self.shared.counters));
        }
        for slot in expired {
            self.tell(slot, &reply);
        }
    }

    /// Too many late replies, or one that is hopelessly late while nothing else comes either.
    fn is_hopeless(&self, now: Instant) -> bool {
        let state = self.state.borrow();
        state.inflight.late() > self.shared.late_count_max.get()
            || self.hopeless_at(&state).is_some_and(|at| now >= at)
    }

    /// When the oldest reply is hopelessly late, if it has not come by then, nor anything else.
    fn hopeless_at(&self, state: &State) -> Option<Instant> {
        let timeout = self.terms.timeout;
        let overdue_at = state.inflight.front_deadline()? + timeout * LATE_TIMEOUTS_MAX;
        Some(overdue_at.max(self.heard_at.get() + timeout))
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
        let bulk_bytes = entry.bulk_bytes();
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
            shared: None,
            size: line.len() + 2,
            bulk_bytes,
            unknown_keys: 0,
            waited: false,
        };
        fresh.push(new, slot);
    }
    out.append(&mut waiting);
    inflight.prepend(fresh);
}
