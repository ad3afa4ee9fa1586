//! The load of one thread: an event loop over its connections that sends, reads, checks and counts.
//!
//! ```text
//! wait ─► read ─► answers checked, counted ─► closed loop: as many new requests ─► write
//!   └──── fixed rate: requests that are due ──────────────────────────────────────┘
//! ```

use super::connection::Connection;
use super::data::Data;
use super::observe::Observer;
use super::plan::{PIPELINE_COUNT_MAX, Plan};
use super::poller::{Event, Events, Poller};
use super::request::{Asked, Shape, Source};
use super::tally::Tally;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Answers are awaited this long after the last request was sent.
pub(super) const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two attempts to connect again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// One read; large values come in several.
const BLOCK_BYTES: usize = 64 * 1024;

/// When a thread's load begins, when it counts and when it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: Instant,
    /// From here on it counts.
    pub(super) warm_up: Duration,
    /// Nothing is sent after this, from `start`.
    pub(super) end: Duration,
    /// With no answer for this long it ends too.
    pub(super) stall: Option<Duration>,
}

/// When requests are due at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) interval_ns: f64,
    /// Threads take turns: the first request of the second one is due a little later.
    pub(super) first_ns: f64,
    /// Requests that were due are sent at least this often.
    pub(super) tick: Duration,
}

/// What the main thread sees of the load while it runs.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) stop: AtomicBool,
    pub(super) answered: AtomicU64,
    pub(super) wrong: AtomicU64,
    pub(super) errors: AtomicU64,
}

/// One thread's load.
pub(super) struct Load {
    plan: Arc<Plan>,
    data: Arc<Data>,
    progress: Arc<Progress>,
    observer: Option<Observer>,
    shape: Shape,
    source: Source,
    pace: Option<Pace>,
    pipeline_count: usize,
    poller: Poller,
    connections: Vec<Connection>,
    start: Instant,
    tally: Tally,
    /// Requests without an answer, over all connections.
    outstanding: usize,
    /// At a fixed rate: requests that have been sent, and the connection whose turn it is.
    sent: u64,
    turn: usize,
    /// Connections with something to write since the last flush.
    unflushed: Vec<usize>,
    /// Nothing more is to be sent.
    exhausted: bool,
    last_answer_ns: u64,
    reconnect_at_ns: Option<u64>,
}

impl Load {
    /// Connects.
    ///
    /// # Errors
    /// When one of the connections cannot be had.
    pub(super) fn new(
        plan: &Arc<Plan>,
        data: &Arc<Data>,
        source: Source,
        pace: Option<Pace>,
        pipeline_count: usize,
        connections_count: usize,
    ) -> io::Result<Self> {
        let mut poller = Poller::new()?;
        if let Some(pace) = pace {
            poller.tick(pace.tick)?;
        }
        let connections: io::Result<Vec<_>> =
            (0..connections_count).map(|index| Connection::open(index, &plan.target, &poller)).collect();
        Ok(Self {
            plan: Arc::clone(plan),
            data: Arc::clone(data),
            progress: Arc::default(),
            observer: None,
            shape: Shape::new(plan),
            source,
            pace,
            pipeline_count: if pace.is_some() { PIPELINE_COUNT_MAX } else { pipeline_count },
            poller,
            connections: connections?,
            start: Instant::now(),
            tally: Tally::default(),
            outstanding: 0,
            sent: 0,
            turn: 0,
            unflushed: Vec::new(),
            exhausted: false,
            last_answer_ns: 0,
            reconnect_at_ns: None,
        })
    }

    /// Of several threads one looks at the processes.
    #[must_use]
    pub(super) fn observe(self, pids: &[u32]) -> Self {
        Self { observer: Some(Observer::new(pids.to_vec())), ..self }
    }

    /// Runs to the end of `span`.
    ///
    /// # Errors
    /// When the kernel's list of sockets fails: nothing about the target.
    pub(super) fn run(mut self, span: Span, progress: Arc<Progress>) -> io::Result<Tally> {
        self.progress = progress;
        self.start = span.start;
        let mut block = vec![0; BLOCK_BYTES];
        let mut events = Events::new();
        let (warm_up_ns, end_ns) = (nanos(span.warm_up), nanos(span.end));
        let mut begun_ns = None;
        if self.pace.is_none() {
            (0..self.connections.len()).for_each(|index| self.refill(index));
            self.flush();
        }
        loop {
            let now = self.now();
            if begun_ns.is_none() && now >= warm_up_ns {
                begun_ns = Some(now);
                self.tally.begin();
                if let Some(observer) = &mut self.observer {
                    observer.begin();
                }
            }
            self.reconnect(now);
            if let (Some(pace), false) = (self.pace, self.exhausted) {
                self.send_due(pace, now.min(end_ns));
            }
            self.exhausted |= now >= end_ns;
            if self.is_over(now, end_ns, span.stall) {
                break;
            }
            let count = self.poller.wait(&mut events)?;
            for at in 0..count {
                match events.get(at) {
                    Some(Event::Socket { index, readable, writable }) => {
                        self.on_event(index, readable, writable, &mut block);
                    }
                    Some(Event::Tick) => self.poller.on_tick()?,
                    None => {}
                }
            }
            self.publish();
        }
        Ok(self.finish(begun_ns, end_ns))
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    fn is_over(&self, now: u64, end_ns: u64, stall: Option<Duration>) -> bool {
        self.progress.stop.load(Relaxed)
            || (self.exhausted && self.outstanding == 0)
            || now >= end_ns.saturating_add(nanos(DRAIN_TIME_MAX))
            || stall.is_some_and(|stall| now > self.last_answer_ns + nanos(stall))
    }

    fn on_event(&mut self, index: usize, readable: bool, writable: bool, block: &mut [u8]) {
        // Only news are reported: what is there has to be read to its end, which a short read is.
        while readable && self.read(index, block) == Some(block.len()) {}
        if self.pace.is_none() {
            self.refill(index);
        }
        if writable {
            self.unflushed.push(index);
        }
        self.flush();
    }

    /// One read, and what it brought; how many bytes. `None`: there was nothing, or the connection has ended.
    fn read(&mut self, index: usize, block: &mut [u8]) -> Option<usize> {
        let connection = &mut self.connections[index];
        let count = match connection.read(block) {
            Ok(count) => count?,
            Err(error) => {
                self.close(index, &error.to_string());
                return None;
            }
        };
        // After the read: what the kernel still had to copy is part of the latency.
        let now = nanos(self.start.elapsed());
        match connection.on_bytes(&block[..count], now, &self.shape, &self.data, &mut self.tally) {
            Ok(0) => {}
            Ok(answers) => {
                self.outstanding -= answers;
                self.last_answer_ns = now;
            }
            Err(why) => {
                self.close(index, &why);
                return None;
            }
        }
        Some(count)
    }

    /// Closed loop: as many requests as the connection has room for.
    fn refill(&mut self, index: usize) {
        if self.exhausted || !self.connections[index].has_room(self.pipeline_count) {
            return;
        }
        let now = self.now();
        while self.connections[index].has_room(self.pipeline_count) {
            let Some((key, is_set)) = self.source.next() else {
                self.exhausted = true;
                return;
            };
            self.push(index, Asked { key, is_set, at_ns: now });
        }
    }

    /// Fixed rate: all requests that are due until `now`, in turn over the connections. What finds no room
    /// stays due, and its latency grows meanwhile: that the target is slow must not make it look better.
    fn send_due(&mut self, pace: Pace, now: u64) {
        loop {
            let due = pace.due(self.sent);
            if due > now {
                break;
            }
            let Some(index) = self.next_with_room() else { break };
            let Some((key, is_set)) = self.source.next() else { break };
            self.push(index, Asked { key, is_set, at_ns: due });
            self.tally.lateness.saturating_record(now - due);
            self.sent += 1;
        }
        self.flush();
    }

    fn next_with_room(&mut self) -> Option<usize> {
        for _ in 0..self.connections.len() {
            let index = self.turn;
            self.turn = if index + 1 == self.connections.len() { 0 } else { index + 1 };
            if self.connections[index].has_room(self.pipeline_count) {
                return Some(index);
            }
        }
        None
    }

    fn push(&mut self, index: usize, asked: Asked) {
        if self.connections[index].push(asked, &self.shape, &self.data) {
            self.unflushed.push(index);
        }
        self.outstanding += 1;
    }

    fn flush(&mut self) {
        while let Some(index) = self.unflushed.pop() {
            if let Err(error) = self.connections[index].flush(&self.poller) {
                self.close(index, &error.to_string());
            }
        }
    }

    /// A connection has ended; the requests on it are lost.
    fn close(&mut self, index: usize, why: &str) {
        let unanswered = self.connections[index].close();
        self.outstanding -= unanswered;
        self.tally.on_error(unanswered as u64, || format!("connection lost: {why}"));
        let pause = nanos(RECONNECT_PAUSE);
        let at = self.now() + pause;
        self.reconnect_at_ns.get_or_insert(at);
    }

    /// Connects again what was lost. It may wait for the target's answer: the run has failed anyway, but it
    /// shall show whether the target comes back.
    fn reconnect(&mut self, now: u64) {
        if self.exhausted || self.reconnect_at_ns.is_none_or(|at| now < at) {
            return;
        }
        self.reconnect_at_ns = None;
        for index in 0..self.connections.len() {
            if self.connections[index].is_open() {
                continue;
            }
            if let Err(error) = self.connections[index].connect(&self.plan.target, &self.poller) {
                self.tally.on_error(1, || format!("cannot connect again: {error}"));
                let at = self.now() + nanos(RECONNECT_PAUSE);
                self.reconnect_at_ns = Some(at);
                break;
            }
            if self.pace.is_none() {
                self.refill(index);
            }
        }
        self.flush();
    }

    fn publish(&self) {
        self.progress.answered.store(self.tally.answered, Relaxed);
        self.progress.wrong.store(self.tally.wrong, Relaxed);
        self.progress.errors.store(self.tally.errors, Relaxed);
    }

    fn finish(mut self, begun_ns: Option<u64>, end_ns: u64) -> Tally {
        self.tally.observed = self.observer.take().and_then(Observer::end);
        let now = self.now();
        // Cut short by hand, what is under way is nobody's fault.
        if !self.progress.stop.load(Relaxed) {
            let unanswered = self.outstanding as u64;
            self.tally.on_error(unanswered, || {
                format!("no answer within {DRAIN_TIME_MAX:?} after the last request")
            });
        }
        if let Some(pace) = self.pace {
            // They count with the time that they have waited so far; it would have been more.
            let mut due = pace.due(self.sent);
            while due < end_ns.min(now) {
                self.tally.latency.saturating_record(now.min(end_ns) - due);
                self.tally.unsent += 1;
                due = pace.due(self.sent + self.tally.unsent);
            }
        }
        let measured = self.last_answer_ns.saturating_sub(begun_ns.unwrap_or(0)).max(1);
        self.tally.elapsed = Duration::from_nanos(measured);
        self.tally
    }
}

impl Pace {
    /// When the `number`-th request is due, in nanoseconds from the start.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a run's nanoseconds fit 53 bits"
    )]
    fn due(&self, number: u64) -> u64 {
        (self.first_ns + number as f64 * self.interval_ns) as u64
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
