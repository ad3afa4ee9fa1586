//! How often one cause may be logged, so that no peer can fill a disk; counters have the rest.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Lines of one cause in one second, all workers together.
const LINES_PER_SECOND_MAX: u64 = 10;

/// One cause: a `static` beside the place that logs it.
#[derive(Debug)]
pub struct LogRate {
    /// The second (upper half) and the lines in it (lower half).
    window: AtomicU64,
}

impl LogRate {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a static needs a const function")]
    pub const fn new() -> Self {
        Self { window: AtomicU64::new(0) }
    }

    /// Whether one more line is within bounds; it is then counted.
    #[must_use]
    pub fn may_log(&self) -> bool {
        static START: OnceLock<Instant> = OnceLock::new();
        self.may_log_at(START.get_or_init(Instant::now).elapsed().as_secs())
    }

    fn may_log_at(&self, second: u64) -> bool {
        let count = |window: u64| {
            let (then, lines) = (window >> 32, window & u64::from(u32::MAX));
            let lines = if then == second { lines } else { 0 };
            (lines < LINES_PER_SECOND_MAX).then_some(second << 32 | (lines + 1))
        };
        self.window.fetch_update(Relaxed, Relaxed, count).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second() {
        let rate = LogRate::new();
        for second in [0, 1, 5] {
            let lines = (0..1000).filter(|_| rate.may_log_at(second)).count();
            assert_eq!(lines, 10, "in second {second}");
        }
    }
}
