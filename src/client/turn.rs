//! When a client that sent several requests together is answered.
//!
//! A client whose whole batch is answered is written to at once. One of which only a part is answered waits
//! for the rest, but never longer than [`PARTIAL_US_MAX`], and not at all once the worker has nothing else to
//! do: answering in bits breaks a client's pipeline into small bursts, waiting for a slow server would let it
//! hold back everybody else's answers.

use super::session::Session;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest that an answer which is due waits for the rest of its batch while the worker is busy.
const PARTIAL_US_MAX: u64 = 50;

thread_local! {
    /// Sessions of this worker with answers to write and others of the same batch under way.
    /// (Thread-local because the runtime's park hook can reach nothing else.)
    static PARTIALS: RefCell<Vec<Rc<Session>>> = const { RefCell::new(Vec::new()) };
    /// What clients did in this period.
    static LOAD: Cell<Load> = const { Cell::new(Load { requests: 0, waited: 0, clients: 0 }) };
    static PERIOD: Cell<u32> = const { Cell::new(1) };
    /// When the first of the partial ones was added.
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A session has answers to write, and others of the same batch under way.
pub(super) fn add_partial(session: Rc<Session>) {
    if SINCE.get().is_none() {
        SINCE.set(Some(Instant::now()));
    }
    PARTIALS.with_borrow_mut(|p| p.push(session));
}

/// The worker has nothing else to do: nobody waits any longer.
pub fn on_park() {
    if SINCE.get().is_some() {
        wake_all();
    }
}

/// What clients did since the load was last taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Requests dispatched.
    pub requests: u64,
    /// Those of them that came after the answer to the same client's last one, and alone.
    pub waited: u64,
    /// Different clients among them.
    pub clients: u64,
}

/// What this worker's clients did since this was last asked.
#[must_use]
pub fn take_load() -> Load {
    PERIOD.set(PERIOD.get().wrapping_add(1));
    LOAD.take()
}

pub(super) fn count_request() {
    let mut load = LOAD.get();
    load.requests += 1;
    LOAD.set(load);
}

/// A read brought something from a client. `seen_in`: the period in which it was last counted; `waited`: all
/// that it asked before is answered.
pub(super) fn count_read(seen_in: &Cell<u32>, waited: bool) {
    let mut load = LOAD.get();
    load.waited += u64::from(waited);
    if seen_in.replace(PERIOD.get()) != PERIOD.get() {
        load.clients += 1;
    }
    LOAD.set(load);
}

/// The worker is busy, but somebody has waited long enough.
pub(super) fn wake_overdue() {
    if SINCE.get().is_some_and(|s| s.elapsed() >= Duration::from_micros(PARTIAL_US_MAX)) {
        wake_all();
    }
}

fn wake_all() {
    SINCE.set(None);
    let mut sessions = PARTIALS.take();
    for session in sessions.drain(..) {
        session.wake_partial();
    }
    // Waking adds nothing, so the vector goes back with the room it has.
    PARTIALS.set(sessions);
}
