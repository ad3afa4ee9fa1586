//! One server: how many failures in a row, whether it is knocked out, and who looks after it.
//!
//! The direct path looks at one atomic number, `gate`. All that changes it happens under a lock: failures are rare, and
//! answers only matter while there have been timeouts.

use super::backoff::Backoff;
use super::fail_open::Guard;
use crate::sync::Lock;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::time::Duration;
use tokio::sync::Notify;

/// When a pool's servers are knocked out, and when they are looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Timeouts in a row until a server is soft knocked out.
    pub timeouts_count: u32,
    pub probe_first: Duration,
    pub probe_max: Duration,
}

/// Why a server is out, in mcrouter's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Timeout = 0,
    ConnectError = 1,
    ConnectTimeout = 2,
}

impl Reason {
    const ALL: [Self; 3] = [Self::Timeout, Self::ConnectError, Self::ConnectTimeout];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "mc_res_timeout",
            Self::ConnectError => "mc_res_connect_error",
            Self::ConnectTimeout => "mc_res_connect_timeout",
        }
    }

    /// What a client is told whose request is not sent.
    #[must_use]
    pub const fn line(self) -> &'static str {
        match self {
            Self::Timeout => "SERVER_ERROR Server unavailable. Reason: mc_res_timeout",
            Self::ConnectError => "SERVER_ERROR Server unavailable. Reason: mc_res_connect_error",
            Self::ConnectTimeout => "SERVER_ERROR Server unavailable. Reason: mc_res_connect_timeout",
        }
    }

    /// It can be reached but does not answer; otherwise it cannot even be reached.
    #[must_use]
    pub const fn is_soft(self) -> bool {
        matches!(self, Self::Timeout)
    }
}

/// The health of one server, by its address; all workers and pools share it.
#[derive(Debug, Default)]
pub struct Server {
    /// What of `state` the direct path has to know: one of the values below.
    gate: AtomicU32,
    state: Lock<State>,
    totals: Arc<Totals>,
    /// Connections on which a reply is overdue.
    behind_count: AtomicUsize,
    /// There are none any more: for the prober.
    caught_up: Notify,
}

/// One that was out when the last worker forgot it is no longer counted.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some(out) = self.state.lock().out.take() {
            self.totals.sub(out.reason);
            out.guard.leave();
        }
    }
}

/// Nothing is known against the server.
const CLEAR: u32 = 0;
/// It has failed of late, but is asked.
const SUSPECT: u32 = 1;
/// It is out; the reason is added.
const OUT: u32 = 2;
/// It is out, and nobody probes it any more: added to the above.
const ORPHAN: u32 = 8;

#[derive(Debug, Default)]
struct State {
    /// Timeouts in a row; once it is out, whatever failed.
    failures_count: u32,
    out: Option<Out>,
}

#[derive(Debug)]
struct Out {
    reason: Reason,
    /// It timed out on requests: `version` alone proves nothing.
    was_soft: bool,
    has_prober: bool,
    rules: Rules,
    guard: Arc<Guard>,
}

impl Server {
    pub(super) fn new(totals: Arc<Totals>) -> Self {
        let (gate, state, behind_count) = (AtomicU32::default(), Lock::default(), AtomicUsize::default());
        Self { gate, state, totals, behind_count, caught_up: Notify::new() }
    }

    /// Why it must not be sent to; `None` if it may.
    #[inline]
    pub fn reason(&self) -> Option<Reason> {
        let gate = self.gate.load(Relaxed);
        if gate < OUT { None } else { Reason::ALL.get((gate & !ORPHAN) as usize - OUT as usize).copied() }
    }

    /// Another number whenever some server of the process has gone out, has come back, or has lost its prober.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.totals.changes.load(Acquire)
    }

    /// A server answered a request, and with no error: timeouts before it do not count any more.
    #[inline]
    pub fn on_answer(&self) {
        if self.gate.load(Relaxed) == SUSPECT {
            self.clear();
        }
    }

    /// A request was not answered in time. Returns the prober if that knocks the server out.
    pub fn on_timeout(self: &Arc<Self>, rules: &Rules, guard: &Arc<Guard>) -> Option<Prober> {
        self.on_failure(Reason::Timeout, rules, guard)
    }

    /// No connection could be made, or it broke. Returns the prober if that knocks the server out.
    pub fn on_no_connection(
        self: &Arc<Self>,
        reason: Reason,
        rules: &Rules,
        guard: &Arc<Guard>,
    ) -> Option<Prober> {
        self.on_failure(reason, rules, guard)
    }

    /// A reply is overdue on a connection, for as long as this is kept. Meanwhile the server does not come back.
    #[must_use]
    pub fn fall_behind(self: &Arc<Self>) -> Behind {
        self.behind_count.fetch_add(1, Relaxed);
        Behind(Arc::clone(self))
    }

    fn on_failure(self: &Arc<Self>, reason: Reason, rules: &Rules, guard: &Arc<Guard>) -> Option<Prober> {
        let mut state = self.state.lock();
        state.failures_count = state.failures_count.saturating_add(1);
        if let Some(out) = &mut state.out {
            out.fail(reason, &self.totals);
            self.publish(&state);
            return None;
        }
        let is_enough = !reason.is_soft() || state.failures_count >= rules.timeouts_count;
        if !is_enough || !guard.enter() {
            self.publish(&state);
            return None;
        }
        self.totals.add(reason);
        let was_soft = reason.is_soft();
        state.out = Some(Out { reason, was_soft, has_prober: true, rules: *rules, guard: Arc::clone(guard) });
        self.publish(&state);
        Some(Prober::new(self, rules))
    }

    /// Makes the caller the prober of a server that is out and has lost its own.
    #[must_use]
    pub fn adopt(self: &Arc<Self>) -> Option<Prober> {
        if self.gate.load(Relaxed) & ORPHAN == 0 {
            return None;
        }
        let mut state = self.state.lock();
        let out = state.out.as_mut().filter(|out| !out.has_prober)?;
        out.has_prober = true;
        let prober = Prober::new(self, &out.rules);
        self.publish(&state);
        Some(prober)
    }

    /// Failures in a row, and whether it is out.
    pub(super) fn failures(&self) -> (u32, bool) {
        let state = self.state.lock();
        (state.failures_count, state.out.is_some())
    }

    #[cold]
    fn clear(&self) {
        let mut state = self.state.lock();
        // Once it is out only its prober brings it back.
        if state.out.is_none() {
            state.failures_count = 0;
            self.publish(&state);
        }
    }

    fn publish(&self, state: &State) {
        let gate = match &state.out {
            Some(out) => OUT + out.reason as u32 + if out.has_prober { 0 } else { ORPHAN },
            None if state.failures_count > 0 => SUSPECT,
            None => CLEAR,
        };
        let before = self.gate.swap(gate, Relaxed);
        if gate.max(OUT - 1) != before.max(OUT - 1) {
            // Who sees this sees the gate too.
            self.totals.changes.fetch_add(1, Release);
        }
    }
}

/// See [`Server::fall_behind`].
#[derive(Debug)]
pub struct Behind(Arc<Server>);

impl Drop for Behind {
    fn drop(&mut self) {
        if self.0.behind_count.fetch_sub(1, Release) == 1 {
            self.0.caught_up.notify_one();
        }
    }
}

impl Out {
    /// It failed again. What cannot be reached at all is worse than what is slow; it stays so.
    fn fail(&mut self, reason: Reason, totals: &Totals) {
        if reason.is_soft() {
            self.was_soft = true;
            return;
        }
        totals.sub(self.reason);
        self.reason = reason;
        totals.add(reason);
    }
}

/// How many servers are out now.
#[derive(Debug, Default)]
pub struct Totals {
    soft_count: AtomicU64,
    hard_count: AtomicU64,
    changes: AtomicU64,
}

impl Totals {
    /// Hard ones, and soft ones.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.hard_count.load(Relaxed), self.soft_count.load(Relaxed))
    }

    fn add(&self, reason: Reason) {
        self.of(reason).fetch_add(1, Relaxed);
    }

    fn sub(&self, reason: Reason) {
        self.of(reason).fetch_sub(1, Relaxed);
    }

    const fn of(&self, reason: Reason) -> &AtomicU64 {
        if reason.is_soft() { &self.soft_count } else { &self.hard_count }
    }
}

/// The right and the duty to find out when a server is back: there is one for each server that is out, all workers
/// together. One that is dropped before leaves the server to whoever asks for it next ([`Server::adopt`]).
#[derive(Debug)]
pub struct Prober {
    server: Arc<Server>,
    backoff: Backoff,
    is_done: bool,
}

/// What brought a server back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// A new connection, and `version` on it.
    Version,
    /// A request.
    Request,
}

impl Prober {
    fn new(server: &Arc<Server>, rules: &Rules) -> Self {
        let backoff = Backoff::new(rules.probe_first, rules.probe_max);
        Self { server: Arc::clone(server), backoff, is_done: false }
    }

    /// How long to wait for the next probe. `random` is any number.
    pub fn pause(&mut self, random: u64) -> Duration {
        self.backoff.pause(random)
    }

    /// What the server has to answer to be back.
    #[must_use]
    pub fn needs(&self) -> Answered {
        let was_soft = self.server.state.lock().out.as_ref().is_some_and(|out| out.was_soft);
        if was_soft { Answered::Request } else { Answered::Version }
    }

    /// Resolves when no reply of the server is overdue.
    ///
    /// A probe has a connection of its own, and is answered while those that requests use are far behind. What would be sent
    /// on these now would come too late as well, and knock the server out again.
    pub async fn caught_up(&self) {
        while self.server.behind_count.load(Acquire) > 0 {
            self.server.caught_up.notified().await; // or was before: then it is looked at once more
        }
    }

    /// The probe failed.
    pub fn on_failure(&mut self, reason: Reason) {
        let mut state = self.server.state.lock();
        state.failures_count = state.failures_count.saturating_add(1);
        if let Some(out) = &mut state.out {
            out.fail(reason, &self.server.totals);
        }
        self.server.publish(&state);
    }

    /// The probe was answered: the server is back, unless more is needed by now.
    ///
    /// # Errors
    /// The prober again, when the server has to answer a request.
    pub fn on_answer(mut self, answered: Answered) -> Result<(), Self> {
        let server = Arc::clone(&self.server);
        let mut state = server.state.lock();
        match state.out.take_if(|out| answered == Answered::Request || !out.was_soft) {
            Some(out) => {
                state.failures_count = 0;
                server.publish(&state);
                server.totals.sub(out.reason);
                out.guard.leave();
                self.is_done = true;
                Ok(())
            }
            None => {
                drop(state);
                Err(self)
            }
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut state = self.server.state.lock();
        if let Some(out) = &mut state.out {
            out.has_prober = false;
        }
        self.server.publish(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fail_open::FailOpen;
    use super::super::{Health, Suspect};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_nobody_has_is_forgotten() {
        let (health, server, guard) = one();
        let prober = server.on_no_connection(Reason::ConnectError, &RULES, &guard);
        health.forget_unused();
        assert_eq!(health.suspects().len(), 1, "it is still in use");
        // without a look at the list: a prober may be the last who has it
        drop((prober, server, guard));
        assert_eq!((health.suspects().len(), health.totals().counts()), (0, (0, 0)));
    }

    const RULES: Rules = Rules {
        timeouts_count: 3,
        probe_first: Duration::from_millis(100),
        probe_max: Duration::from_secs(10),
    };

    fn one() -> (Health, Arc<Server>, Arc<Guard>) {
        let health = Health::default();
        let (server, guard) = (health.server("a:1"), health.guard("main", None));
        (health, server, guard)
    }

    #[test]
    fn three_timeouts_in_a_row_are_soft() {
        let (health, server, guard) = one();
        let timeout = || server.on_timeout(&RULES, &guard);
        assert!(timeout().is_none() && timeout().is_none());
        server.on_answer();
        assert!(timeout().is_none() && timeout().is_none(), "an answer came between");
        assert_eq!(server.reason(), None);
        let prober = timeout().expect("the third in a row");
        assert_eq!((server.reason(), prober.needs()), (Some(Reason::Timeout), Answered::Request));
        server.on_answer();
        assert_eq!(server.reason(), Some(Reason::Timeout), "an answer from before brings nothing back");
        assert!(timeout().is_none(), "there is a prober");
        assert_eq!(health.totals().counts(), (0, 1));
        let suspect = Suspect { address: "a:1".into(), is_out: true, failures_count: 4 };
        assert_eq!(health.suspects(), [suspect]);
        let prober = prober.on_answer(Answered::Version).expect_err("it has to answer a request");
        prober.on_answer(Answered::Request).expect("that was one");
        assert_eq!((server.reason(), health.totals().counts()), (None, (0, 0)));
        assert_eq!(health.suspects(), []);
        assert!(timeout().is_none(), "counted from the beginning");
    }

    #[test]
    fn no_connection_is_hard_at_once() {
        let (health, server, guard) = one();
        let refused = || server.on_no_connection(Reason::ConnectError, &RULES, &guard);
        let prober = refused().expect("at once");
        assert!(refused().is_none());
        assert_eq!((server.reason(), prober.needs()), (Some(Reason::ConnectError), Answered::Version));
        assert_eq!(health.totals().counts(), (1, 0));
        prober.on_answer(Answered::Version).expect("it can be reached");
        assert_eq!(server.reason(), None);
    }

    #[test]
    fn what_is_slow_and_then_gone_is_hard_and_has_to_answer_a_request() {
        let (health, server, guard) = one();
        let mut prober = (0..3).find_map(|_| server.on_timeout(&RULES, &guard)).expect("the third");
        prober.on_failure(Reason::ConnectTimeout);
        assert_eq!(server.reason(), Some(Reason::ConnectTimeout));
        assert_eq!(health.totals().counts(), (1, 0));
        assert_eq!(prober.needs(), Answered::Request);
    }

    #[test]
    fn a_prober_that_goes_is_replaced_by_one() {
        let (_, server, guard) = one();
        let prober = server.on_no_connection(Reason::ConnectError, &RULES, &guard);
        assert!(server.adopt().is_none(), "it has one");
        drop(prober);
        assert_eq!(server.reason(), Some(Reason::ConnectError));
        let prober = server.adopt().expect("it has lost it");
        assert!(server.adopt().is_none());
        prober.on_answer(Answered::Version).expect("it can be reached");
        assert!(server.adopt().is_none(), "it is back");
    }

    #[test]
    fn workers_that_fail_at_once_make_one_prober() {
        for _ in 0..50 {
            let (health, server, guard) = one();
            let (server, guard) = (&server, &guard);
            let probers: Vec<Prober> = std::thread::scope(|scope| {
                let fail = move || server.on_no_connection(Reason::ConnectError, &RULES, guard);
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(fail)).collect();
                threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
            });
            assert_eq!((probers.len(), health.totals().counts()), (1, (1, 0)));
        }
    }

    /// Something that happens to one of a few servers.
    #[derive(Clone, Debug)]
    enum Event {
        Answer,
        Timeout,
        NoConnection(bool),
        Probe(Result<Answered, Reason>),
        DropProber,
        Adopt,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            2 => Just(Event::Answer),
            6 => Just(Event::Timeout),
            1 => any::<bool>().prop_map(Event::NoConnection),
            2 => prop_oneof![
                Just(Ok(Answered::Version)),
                Just(Ok(Answered::Request)),
                Just(Err(Reason::Timeout)),
                Just(Err(Reason::ConnectError)),
            ]
            .prop_map(Event::Probe),
            1 => Just(Event::DropProber),
            1 => Just(Event::Adopt),
        ]
    }

    /// What is known of one server, written down in the plainest way.
    #[derive(Default)]
    struct Model {
        timeouts: u32,
        reason: Option<Reason>,
        was_soft: bool,
        prober: Option<Prober>,
    }

    proptest! {
        #[test]
        fn one_prober_and_true_counts_whatever_happens(
            events in proptest::collection::vec((0..4_usize, event()), 0..200),
        ) {
            const SERVERS: usize = 4;
            let bounds = FailOpen { upper_count: 3, lower_count: 1 };
            let health = Health::default();
            let guard = health.guard("main", Some(bounds));
            let servers: Vec<_> = (0..SERVERS).map(|i| health.server(&i.to_string())).collect();
            let mut models: Vec<Model> = (0..SERVERS).map(|_| Model::default()).collect();
            let mut is_open = false;
            for (i, event) in events {
                let server = &servers[i];
                let failed = match event {
                    Event::Timeout => Some(Reason::Timeout),
                    Event::NoConnection(true) => Some(Reason::ConnectError),
                    Event::NoConnection(false) => Some(Reason::ConnectTimeout),
                    _ => None,
                };
                let out = models.iter().filter(|model| model.reason.is_some()).count();
                let model = &mut models[i];
                if let Some(reason) = failed {
                    let prober = server.on_failure(reason, &RULES, &guard);
                    model.timeouts += 1;
                    let is_enough = reason != Reason::Timeout || model.timeouts >= 3;
                    let goes = model.reason.is_none() && is_enough && !is_open;
                    prop_assert_eq!(prober.is_some(), goes);
                    if goes {
                        model.prober = prober;
                        is_open = out + 1 >= bounds.upper_count;
                    }
                    if goes || model.reason.is_some() {
                        model.was_soft |= reason == Reason::Timeout;
                        if goes || reason != Reason::Timeout {
                            model.reason = Some(reason);
                        }
                    }
                }
                match event {
                    Event::Answer => {
                        server.on_answer();
                        if model.reason.is_none() {
                            model.timeouts = 0;
                        }
                    }
                    Event::Probe(result) => if let Some(mut prober) = model.prober.take() {
                        match result {
                            Err(reason) => {
                                prober.on_failure(reason);
                                model.was_soft |= reason == Reason::Timeout;
                                if reason != Reason::Timeout {
                                    model.reason = Some(reason);
                                }
                                model.prober = Some(prober);
                            }
                            Ok(answered) => {
                                let is_back = answered == Answered::Request || !model.was_soft;
                                model.prober = prober.on_answer(answered).err();
                                prop_assert_eq!(model.prober.is_none(), is_back);
                                if is_back {
                                    *model = Model::default();
                                    is_open = is_open && out - 1 > bounds.lower_count;
                                }
                            }
                        }
                    },
                    Event::DropProber => model.prober = None,
                    Event::Adopt => {
                        let adopted = server.adopt();
                        prop_assert_eq!(adopted.is_some(), model.reason.is_some() && model.prober.is_none());
                        model.prober = adopted.or(model.prober.take());
                    }
                    Event::Timeout | Event::NoConnection(_) => {}
                }
                prop_assert_eq!(server.reason(), model.reason);
                let count = |soft| {
                    let is = |model: &&Model| model.reason.is_some_and(|reason| reason.is_soft() == soft);
                    models.iter().filter(is).count() as u64
                };
                prop_assert_eq!(health.totals().counts(), (count(false), count(true)));
                prop_assert!(count(true) + count(false) <= bounds.upper_count as u64);
            }
        }
    }
}
