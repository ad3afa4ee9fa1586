//! `collect`: what a worker does in the moment before it waits for events.
//!
//! A wake-up costs several microseconds of CPU, most of a request's price when requests come one at a time. A
//! worker that sleeps for a moment first finds several of them at once, and so do the servers and clients that
//! it then writes to. That saves CPU, here and there, and costs latency: a request passes through at most two
//! of these moments, one on its way in and one on its way out. `benches/README.md` has the curve.

use crate::client::{self, Load};
use crate::config::Collect;
use rustix::thread::{Timespec, nanosleep, set_current_timer_slack};
use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// The longest sleep of `auto`.
const AUTO_TIME_MAX: Duration = Duration::from_micros(60);
/// The shortest that saves more than it costs.
const AUTO_TIME_MIN: Duration = Duration::from_micros(20);
/// Requests a second from which on `auto` sleeps at all. Below, the next one is so far away that waiting for
/// it is mere delay.
const AUTO_RATE_MIN: f64 = 65_000.0;
/// A client that asks one thing at a time is slowed by every moment that its answer takes longer, so the sleep
/// may take no more than this share of the time between its requests.
const AUTO_SHARE: f64 = 0.04;
/// Whether such clients get more done with the sleep or without depends on who is short of CPU: if servers or
/// clients are, bigger batches make up for it. So both are tried, and what brings the higher rate is kept: for
/// so many periods,
const KEPT_PERIODS: u32 = 270;
/// and then the other one for so many,
const TRIED_PERIODS: u32 = 30;
/// and the sleep is worth it from this much more on.
const WORTH_IT: f64 = 1.02;
/// Share of requests that come before the last one's answer, or several at a time, from which on clients count
/// as such that do not wait: a moment more costs them nothing.
const AUTO_EAGER_MIN: f64 = 0.02;
/// The load is measured over so long.
const PERIOD: Duration = Duration::from_millis(2);
/// Timers of a thread are late by so much, to save wake-ups; 50 µs by default, which is all of our sleep.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::new(1_000).expect("not zero");

thread_local! {
    /// What the configuration says. (Thread-local like the rest: the runtime's hook has nothing but the thread.)
    static COLLECT: Cell<Collect> = const { Cell::new(Collect::Off) };
    /// Since when the load is measured.
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    /// What the load of the last period came to.
    static AUTO_TIME: Cell<Option<Duration>> = const { Cell::new(None) };
    static TRIAL: RefCell<Trial> = const { RefCell::new(Trial::NEW) };
}

/// With the sleep, or without: which one brings more?
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Requests a second, over some twenty periods: a single one says little.
    rate: f64,
    /// Requests a second without and with the sleep; 0: not known yet.
    rates: [f64; 2],
    sleeps: bool,
    /// This is the one that was not the better one when it was tried last.
    is_trial: bool,
    periods: u32,
}

impl Trial {
    const NEW: Self = Self { rate: 0.0, rates: [0.0; 2], sleeps: false, is_trial: true, periods: 0 };
    /// How much the last period counts.
    const WEIGHT: f64 = 0.1;

    /// The rate that a period brought, made smooth.
    fn smooth(&mut self, rate: f64) -> f64 {
        self.rate += (rate - self.rate) * Self::WEIGHT / 2.0;
        self.rate
    }

    /// A period has brought this rate. Whether the next one sleeps.
    fn next(&mut self, rate: f64) -> bool {
        self.periods += 1;
        if self.periods > 1 {
            // The first period after a change still has requests of the other one under way.
            let known = &mut self.rates[usize::from(self.sleeps)];
            *known = if *known == 0.0 { rate } else { *known + (rate - *known) * Self::WEIGHT };
        }
        let length = if self.is_trial { TRIED_PERIODS } else { KEPT_PERIODS };
        if self.periods >= length {
            self.periods = 0;
            let [without, with] = self.rates;
            let better = with > without * WORTH_IT;
            let untried = without == 0.0 || with == 0.0;
            let was_trial = self.is_trial;
            self.is_trial = untried || !was_trial;
            let next = if self.is_trial { !self.sleeps } else { better };
            if next == self.sleeps {
                self.periods = 1; // nothing changes, nothing has to settle
            }
            self.sleeps = next;
        }
        self.sleeps
    }
}

/// How this thread, a worker's, does it from now on.
pub(super) fn set(collect: Collect) {
    if collect != Collect::Off {
        // A kernel that refuses makes the sleeps longer, nothing else.
        let _ = set_current_timer_slack(Some(TIMER_SLACK_NS));
    }
    COLLECT.set(collect);
}

/// Called whenever a worker has nothing left to do.
pub(super) fn on_park() {
    let time = match COLLECT.get() {
        Collect::Off => None,
        Collect::Time(time) => Some(time),
        Collect::Auto => auto_time_now(),
    };
    if let Some(time) = time
        && !client::is_behind()
    {
        let time = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        // Woken early by a signal: then there is something to do.
        let _ = nanosleep(&time);
    }
    client::on_park();
}

fn auto_time_now() -> Option<Duration> {
    let now = Instant::now();
    let since = SINCE.get().unwrap_or(now);
    if SINCE.get().is_none() || now - since >= PERIOD {
        SINCE.set(Some(now));
        AUTO_TIME.set(auto_time(client::take_load(), now - since));
    }
    AUTO_TIME.get()
}

/// How long to sleep under this load; `None`: not at all.
#[expect(clippy::cast_precision_loss, reason = "rates need not be exact")]
fn auto_time(load: Load, period: Duration) -> Option<Duration> {
    let rate = load.requests as f64 / period.as_secs_f64();
    if rate.is_nan() {
        return None; // nothing was measured yet
    }
    let smooth = TRIAL.with_borrow_mut(|trial| trial.smooth(rate));
    if smooth < AUTO_RATE_MIN {
        TRIAL.set(Trial { rate: smooth, ..Trial::NEW });
        return None;
    }
    let eager = load.requests.saturating_sub(load.waited);
    if eager as f64 >= AUTO_EAGER_MIN * load.requests as f64 {
        return Some(AUTO_TIME_MAX);
    }
    let between = load.clients as f64 / smooth;
    let time = Duration::from_secs_f64(AUTO_SHARE * between).clamp(AUTO_TIME_MIN, AUTO_TIME_MAX);
    TRIAL.with_borrow_mut(|trial| trial.next(rate)).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `auto` does when so many clients send `pipeline` requests at a time, `rate` a second in all.
    fn time_at(rate: u64, clients: u64, pipeline: u64) -> Option<u128> {
        TRIAL.set(Trial { rate: rate as f64, ..Trial::NEW });
        let load = Load { requests: rate, waited: rate / pipeline, clients };
        auto_time(load, Duration::from_secs(1)).map(|time| time.as_micros())
    }

    #[test]
    fn auto_sleeps_only_while_requests_are_many() {
        assert_eq!(auto_time(Load::default(), Duration::ZERO), None);
        assert_eq!(time_at(20_000, 50, 1), None);
        assert_eq!(time_at(60_000, 50, 1), None);
        assert_eq!(time_at(100_000, 5, 16), Some(60), "clients that do not wait");
    }

    /// Share of the periods in which it sleeps, when the sleep brings `with` and its absence `without`.
    fn share_of_sleep(without: f64, with: f64) -> f64 {
        let mut trial = Trial::NEW;
        let mut sleeps = false;
        let mut count = 0;
        for period in 0..31_000 {
            sleeps = trial.next(if sleeps { with } else { without });
            count += u32::from(sleeps && period >= 1_000);
        }
        f64::from(count) / 30_000.0
    }

    #[test]
    fn what_brings_more_is_kept() {
        assert!(share_of_sleep(100.0, 110.0) > 0.85);
        assert!(share_of_sleep(110.0, 100.0) < 0.15);
        assert!(share_of_sleep(100.0, 100.0) < 0.15, "nothing won, nothing done");
    }
}
