//! `collect`: what a worker does in the moment before it waits for events.
//!
//! A wake-up costs several microseconds of CPU, most of a request's price when requests come one at a time. A
//! worker that sleeps for a moment first finds several of them at once, and so do the servers and clients that
//! it writes to. That saves CPU and costs latency. `auto` sleeps for a tenth of the time that servers take to
//! answer, [`AUTO_TIME_MAX`] at most, and only while several requests come in such a moment. A request passes
//! through at most two of these, one on its way in and one on its way out. `benches/README.md` has the curve.

use crate::client;
use crate::config::Collect;
use crate::stats::Counters;
use rustix::thread::{Timespec, nanosleep, set_current_timer_slack};
use std::cell::RefCell;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest sleep of `auto`.
const AUTO_TIME_MAX: Duration = Duration::from_micros(60);
/// The share of the servers' time that `auto` sleeps.
const AUTO_SHARE: f64 = 0.1;
/// Requests that have to be expected during the sleep for it to be worth it.
const AUTO_REQUESTS_MIN: f64 = 3.0;
/// Rate and servers' time are measured over so long.
const WINDOW: Duration = Duration::from_millis(2);
/// Timers of a thread are late by so much, to save wake-ups; 50 µs by default, which is all of our sleep.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::new(1_000).expect("not zero");

/// Of one worker; called whenever it has nothing left to do.
pub(super) struct Collector {
    collect: Collect,
    counters: Arc<Counters>,
}

/// What `auto` measures.
struct Window {
    start: Instant,
    /// Requests until then.
    requests: u64,
    /// Requests waiting for servers, summed over looks.
    outstanding: u64,
    looks: u64,
    /// What the last window came to.
    time: Option<Duration>,
}

thread_local! {
    static LAST: RefCell<Option<Window>> = const { RefCell::new(None) };
}

impl Collector {
    /// To be made in the worker's own thread.
    pub(super) fn new(collect: Collect, counters: Arc<Counters>) -> Self {
        if collect != Collect::Off {
            // A kernel that refuses makes the sleeps longer, nothing else.
            let _ = set_current_timer_slack(Some(TIMER_SLACK_NS));
        }
        Self { collect, counters }
    }

    pub(super) fn on_park(&self) {
        let time = match self.collect {
            Collect::Off => None,
            Collect::Time(time) => Some(time),
            Collect::Auto => self.auto_time(),
        };
        if let Some(time) = time {
            let time = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
            // Woken early by a signal: then there is something to do.
            let _ = nanosleep(&time);
        }
        client::on_park();
    }

    fn auto_time(&self) -> Option<Duration> {
        let (now, requests) = (Instant::now(), client::requests_count());
        LAST.with_borrow_mut(|last| {
            let window =
                last.get_or_insert(Window { start: now, requests, outstanding: 0, looks: 0, time: None });
            window.outstanding += self.counters.server_outstanding.value();
            window.looks += 1;
            if now - window.start >= WINDOW {
                let time = window.time_for(now, requests);
                *window = Window { start: now, requests, outstanding: 0, looks: 0, time };
            }
            window.time
        })
    }
}

impl Window {
    /// How long to sleep, by what was seen until `now`; `None`: not at all.
    #[expect(clippy::cast_precision_loss, reason = "rates need not be exact")]
    fn time_for(&self, now: Instant, requests: u64) -> Option<Duration> {
        let rate = (requests - self.requests) as f64 / (now - self.start).as_secs_f64();
        let outstanding = self.outstanding as f64 / self.looks.max(1) as f64;
        // Little's law: what is under way, divided by what comes per second, is how long each is under way.
        let time = (AUTO_SHARE * outstanding / rate).min(AUTO_TIME_MAX.as_secs_f64());
        (rate * time >= AUTO_REQUESTS_MIN).then(|| Duration::from_secs_f64(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `auto` does at `rate` requests a second of which each is at the servers for `server_us`.
    fn time_at(rate: u64, server_us: u64) -> Option<u128> {
        let start = Instant::now();
        let outstanding = rate * server_us / 1_000_000;
        let window = Window { start, requests: 0, outstanding: outstanding * 10, looks: 10, time: None };
        window.time_for(start + Duration::from_secs(1), rate).map(|time| time.as_micros())
    }

    #[test]
    fn auto_sleeps_only_while_requests_are_many() {
        assert_eq!(time_at(0, 0), None, "an idle worker must not delay the next request");
        assert_eq!(time_at(20_000, 150), None);
        assert_eq!(time_at(60_000, 200), None);
        assert_eq!(time_at(100_000, 400), Some(40));
        assert_eq!(time_at(600_000, 1_000), Some(60), "never longer than the bound");
        assert_eq!(time_at(200_000, 0), None, "with an embedded cache there is nothing to wait for");
    }
}
