//! The end of the process: not ready any more, nobody new, all that was asked is answered.

use super::events::Events;
use super::reload::Serving;
use super::worker::Worker;
use crate::admin::Phase;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The same wish told twice at once (by `timeout`, by a terminal) is one wish.
const SAME_WISH: Duration = Duration::from_millis(20);
/// Between two looks at whether the workers are done.
const TICK: Duration = Duration::from_millis(10);

/// Leaves, after the signal of this name. A second one ends it at once.
pub(super) fn drain(serving: &Serving, name: &str, events: &Events) -> ExitCode {
    let told = Instant::now();
    let settings = &serving.read.settings;
    let (delay, timeout) = (settings.drain_delay, settings.drain_timeout);
    serving.process.probes().enter(Phase::Draining);
    let second = || {
        let again = events.stop_within(TICK).filter(|_| told.elapsed() >= SAME_WISH);
        again.inspect(|name| tracing::warn!("{name} again: leaving at once")).is_some()
    };
    if !delay.is_zero() {
        tracing::info!(
            "{name}: not ready any more, and serving for {delay:?} yet; a second signal ends at once"
        );
        while told.elapsed() < delay {
            if second() {
                return ExitCode::FAILURE;
            }
        }
    }
    tracing::info!(
        "{name}: finishing what is in flight, for {timeout:?} at most; a second signal ends at once"
    );
    for worker in &serving.workers {
        worker.drain(timeout);
    }
    let deadline = Instant::now() + timeout;
    loop {
        if serving.workers.iter().all(Worker::is_done) {
            tracing::info!("all clients are answered; leaving");
            return ExitCode::SUCCESS;
        }
        if Instant::now() >= deadline {
            tracing::warn!("drain_timeout is over; leaving with clients unanswered");
            return ExitCode::SUCCESS;
        }
        if second() {
            return ExitCode::FAILURE;
        }
    }
}
