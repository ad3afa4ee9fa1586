//! The main thread's part while the load runs: start the threads, show how it goes, heed Ctrl-C, gather the counts.

use super::load::{Load, Progress, Span};
use super::plan::Plan;
use super::report::grouped;
use super::tally::Tally;
use indicatif::{ProgressBar, ProgressStyle};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Between two looks at the counts.
const GLANCE: Duration = Duration::from_millis(200);

/// Threads under load.
pub(super) struct Running {
    progress: Vec<Arc<Progress>>,
    results: mpsc::UnboundedReceiver<io::Result<Tally>>,
}

impl Running {
    /// A thread for each load.
    pub(super) fn start(loads: impl IntoIterator<Item = Load>, span: Span) -> io::Result<Self> {
        let (done, results) = mpsc::unbounded_channel();
        let mut progress = Vec::new();
        for (index, load) in loads.into_iter().enumerate() {
            let mine = Arc::new(Progress::default());
            progress.push(Arc::clone(&mine));
            let done = done.clone();
            std::thread::Builder::new().name(format!("bench-{index}")).spawn(move || {
                // Nobody takes it when the main thread has given up: then nobody needs it.
                let _ = done.send(load.run(span, mine));
            })?;
        }
        Ok(Self { progress, results })
    }

    /// Until all threads have ended: what each counted, and whether Ctrl-C ended it.
    pub(super) async fn watch(mut self, bar: &Bar) -> io::Result<(Vec<Tally>, bool)> {
        let (mut tallies, mut interrupted) = (Vec::new(), false);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut glance = tokio::time::interval(GLANCE);
        // All arms are cancel-safe: a channel, a signal and an interval lose nothing when dropped.
        while tallies.len() < self.progress.len() {
            tokio::select! {
                result = self.results.recv() => match result {
                    Some(tally) => tallies.push(tally?),
                    None => return Err(io::Error::other("a thread of the load has died")),
                },
                Some(()) = interrupt.recv() => {
                    interrupted = true;
                    self.progress.iter().for_each(|p| p.stop.store(true, Relaxed));
                }
                _ = glance.tick() => bar.show(&self.progress),
            }
        }
        bar.clear();
        Ok((tallies, interrupted))
    }
}

/// A line on standard error that tells how it goes; nothing where that is not a terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    start: Instant,
    what: What,
}

enum What {
    Fill { keys: u32 },
    Load { total: Duration },
}

impl Bar {
    pub(super) fn of_fill(plan: &Plan) -> Self {
        Self::new(u64::from(plan.keys_count), What::Fill { keys: plan.keys_count })
    }

    pub(super) fn of_load(plan: &Plan) -> Self {
        let total = plan.warm_up + plan.duration;
        Self::new(u64::try_from(total.as_millis()).unwrap_or(u64::MAX), What::Load { total })
    }

    fn new(len: u64, what: What) -> Self {
        let style =
            ProgressStyle::with_template("{bar:20} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(len).with_style(style);
        Self { bar, start: Instant::now(), what }
    }

    fn show(&self, progress: &[Arc<Progress>]) {
        let sum = |count: fn(&Progress) -> u64| progress.iter().map(|p| count(p)).sum::<u64>();
        let answered = sum(|p| p.answered.load(Relaxed));
        let (errors, wrong) = (sum(|p| p.errors.load(Relaxed)), sum(|p| p.wrong.load(Relaxed)));
        let elapsed = self.start.elapsed();
        match self.what {
            What::Fill { keys } => {
                self.bar.set_position(answered);
                self.bar.set_message(format!(
                    "setting the keys: {} of {}, {errors} errors",
                    grouped(answered),
                    grouped(keys.into())
                ));
            }
            What::Load { total } => {
                self.bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
                self.bar.set_message(format!(
                    "{:.1} s of {:.1} s: {} answers, {errors} errors, {wrong} wrong",
                    elapsed.as_secs_f64(),
                    total.as_secs_f64(),
                    grouped(answered),
                ));
            }
        }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
