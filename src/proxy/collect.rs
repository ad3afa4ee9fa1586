//! `collect`: what a worker does in the moment before it waits for events.
//!
//! A wake-up costs several microseconds of CPU, most of a request's price when requests come one at a time. A
//! worker that sleeps for a moment first finds several of them at once. That saves CPU and costs latency, so
//! `auto` does it only while enough requests come in such a moment, and never for longer than [`AUTO_TIME`];
//! a request passes through at most two of them, one on its way in and one on its way out.

use crate::client;
use crate::config::Collect;
use rustix::thread::{Timespec, nanosleep, set_current_timer_slack};
use std::cell::Cell;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// How long `auto` sleeps.
const AUTO_TIME: Duration = Duration::from_micros(50);
/// Requests that have to come in [`AUTO_TIME`] for it to be worth it.
const AUTO_REQUESTS_MIN: f64 = 3.0;
/// The rate is measured over so long.
const WINDOW: Duration = Duration::from_millis(2);
/// Timers of a thread are late by so much, to save wake-ups; 50 µs by default, which is all of our sleep.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::new(1_000).expect("not zero");

/// Of one worker; called whenever it has nothing left to do.
pub(super) struct Collector {
    collect: Collect,
}

thread_local! {
    static WINDOW_START: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

impl Collector {
    /// To be made in the worker's own thread.
    pub(super) fn new(collect: Collect) -> Self {
        if collect != Collect::Off {
            // A kernel that refuses makes the sleeps longer, nothing else.
            let _ = set_current_timer_slack(Some(TIMER_SLACK_NS));
        }
        Self { collect }
    }

    pub(super) fn on_park(&self) {
        match self.collect {
            Collect::Off => {}
            Collect::Time(time) => sleep(time),
            Collect::Auto => {
                if is_busy() {
                    sleep(AUTO_TIME);
                }
            }
        }
        client::on_park();
    }
}

/// Whether so many requests came in the last window that a sleep would bring several.
fn is_busy() -> bool {
    let (now, count) = (Instant::now(), client::requests_count());
    match WINDOW_START.get() {
        Some((start, before)) => {
            let time = now - start;
            if time >= WINDOW {
                #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
                let rate = (count - before) as f64 / time.as_secs_f64();
                IS_BUSY.set(rate * AUTO_TIME.as_secs_f64() >= AUTO_REQUESTS_MIN);
                WINDOW_START.set(Some((now, count)));
            }
        }
        None => WINDOW_START.set(Some((now, count))),
    }
    IS_BUSY.get()
}

fn sleep(time: Duration) {
    let time = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    // Woken early by a signal: then there is something to do.
    let _ = nanosleep(&time);
}
