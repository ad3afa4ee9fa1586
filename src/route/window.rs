//! One change of a pool's servers, as all workers see it: what the pool was before, until when that counts, and which of its
//! servers can no longer be believed.

use crate::config::{Pool, Transition};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use tokio::time::Instant;

/// Shared by all workers.
pub struct Window {
    /// The pool before the change.
    pub former: Pool,
    pub until: Instant,
    pub settings: Transition,
    pace: Arc<Pace>,
    /// By server of `former`: something that it was to forget was not heard of, so that what it has may be old.
    doubted: Box<[AtomicBool]>,
}

impl Window {
    /// `pace` is that of all windows of a pool.
    #[must_use]
    pub fn new(former: Pool, until: Instant, settings: Transition, pace: Arc<Pace>) -> Self {
        let doubted = former.servers.iter().map(|_| AtomicBool::new(false)).collect();
        Self { former, until, settings, pace, doubted }
    }

    #[must_use]
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// From now on nothing that this server has is believed, for the rest of the window.
    pub fn doubt(&self, server: usize) {
        if let Some(doubted) = self.doubted.get(server) {
            doubted.store(true, Relaxed);
        }
    }

    #[must_use]
    pub fn doubts(&self, server: usize) -> bool {
        self.doubted.get(server).is_none_or(|doubted| doubted.load(Relaxed))
    }
}

/// How fast items are copied: evenly, with a tenth of a second's worth at once.
pub struct Pace {
    since: Instant,
    /// When the next one is due, in nanoseconds.
    next_ns: AtomicU64,
}

/// So much may be done ahead of its time.
const AHEAD_NS: u64 = 100_000_000;

impl Default for Pace {
    fn default() -> Self {
        Self { since: Instant::now(), next_ns: AtomicU64::new(0) }
    }
}

impl Pace {
    /// Whether one more may begin now, at so many a second.
    pub(super) fn take(&self, rate_per_s: u32) -> bool {
        let step_ns = 1_000_000_000 / u64::from(rate_per_s.max(1));
        let now_ns = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let take = |next_ns: u64| {
            (next_ns <= now_ns.saturating_add(AHEAD_NS)).then(|| next_ns.max(now_ns).saturating_add(step_ns))
        };
        self.next_ns.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::run;
    use super::*;
    use std::time::Duration;

    #[test]
    fn so_many_a_second() {
        run(async {
            let pace = Pace::default();
            let burst = (0..1_000).filter(|_| pace.take(100)).count();
            assert_eq!(burst, 11, "a tenth of a second's, and the one that is due");
            tokio::time::advance(Duration::from_secs(1)).await;
            let later = (0..1_000).filter(|_| pace.take(100)).count();
            assert_eq!(later, 11, "what was not used is not saved up");
            let mut count = 0;
            for _ in 0..1_000 {
                tokio::time::advance(Duration::from_millis(1)).await;
                count += u32::from(pace.take(100));
            }
            assert!((99..=101).contains(&count), "{count}");
        });
    }
}
