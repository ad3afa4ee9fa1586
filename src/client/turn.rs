//! When a client that sent several requests together is answered, and when one that sends without end has its next turn.
//!
//! A client whose whole batch is answered is written to at once. One of which only a part is answered waits
//! for the rest, but never longer than [`PARTIAL_US_MAX`], and not at all once the worker has nothing else to
//! do: answering in bits breaks a client's pipeline into small bursts, waiting for a slow server would let it
//! hold back everybody else's answers.
//!
//! Clients that had their turn and have more to do wait in a line. Of these [`TURNS_AT_A_TIME`] have another one each time
//! that the sockets were looked at: were it all of them, whoever asks little would wait for all of them, once on the way to
//! a server and once on the way back.

use super::session::Session;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest that an answer which is due waits for the rest of its batch while the worker is busy.
const PARTIAL_US_MAX: u64 = 50;

/// Clients out of turn that come between two looks at the sockets: a millisecond's work at most.
const TURNS_AT_A_TIME: usize = 4;

thread_local! {
    /// Sessions of this worker that had their turn and have more to do, the next one first.
    static LATER: RefCell<VecDeque<Rc<Session>>> = const { RefCell::new(VecDeque::new()) };
    /// Somebody gives them their turns.
    static IS_LED: Cell<bool> = const { Cell::new(false) };
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

/// A session had its turn and has more to do.
pub(super) fn add_later(session: Rc<Session>) {
    LATER.with_borrow_mut(|later| later.push_back(session));
    if !IS_LED.replace(true) {
        tokio::task::spawn_local(lead(Leader));
    }
}

/// Clients wait for another turn.
#[must_use]
pub fn is_behind() -> bool {
    LATER.with_borrow(|later| !later.is_empty())
}

/// Gives those who wait their turns, until there are none.
async fn lead(_leader: Leader) {
    while is_behind() {
        tokio::task::yield_now().await; // the sockets are looked at
        for _ in 0..TURNS_AT_A_TIME {
            let Some(session) = LATER.with_borrow_mut(VecDeque::pop_front) else { break };
            session.wake_for_turn();
        }
    }
}

/// There is one as long as this is held. What is left when the runtime ends goes with it.
struct Leader;

impl Drop for Leader {
    fn drop(&mut self) {
        IS_LED.set(false);
        drop(LATER.take());
    }
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
