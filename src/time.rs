//! What time it is: read once per request at the edge, passed as an argument everywhere else.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, in the whole seconds that memcached counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Seconds since 1970; fits until 2106.
    pub unix_seconds: u32,
}

/// Where "now" comes from: the system, or in tests a hand that moves it.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The wall clock. It steps when somebody sets it: for moments that are agreed on with others.
    System,
    /// As the wall clock when the process first asked, and from there on without a step: for what lasts so
    /// many seconds. memcached reckons so (`clock_handler` and `realtime` in memcached.c).
    Steady,
    Manual(Rc<Cell<u32>>),
}

impl Clock {
    #[must_use]
    pub fn now(&self) -> Now {
        let unix_seconds = match self {
            Self::System => whole_seconds(since_1970()),
            Self::Steady => whole_seconds(ANCHOR.at(Instant::now())),
            Self::Manual(seconds) => seconds.get(),
        };
        Now { unix_seconds }
    }
}

/// One for the process: workers share what is kept by this clock, so they have to agree on it.
static ANCHOR: LazyLock<Anchor> =
    LazyLock::new(|| Anchor { since_1970: since_1970(), taken: Instant::now() });

/// The same moment by the wall clock and by the one that never steps.
struct Anchor {
    since_1970: Duration,
    taken: Instant,
}

impl Anchor {
    /// The time since 1970 at `now`, whatever became of the wall clock.
    fn at(&self, now: Instant) -> Duration {
        self.since_1970.saturating_add(now.saturating_duration_since(self.taken))
    }
}

/// By the wall clock. One that is before 1970 counts as 1970: wrong for expiry, but no reason to stop.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_goes_on_from_its_anchor_and_asks_no_wall_clock() {
        let taken = Instant::now();
        // A moment in 2027, that no wall clock shows here.
        let anchor = Anchor { since_1970: Duration::from_millis(1_800_000_000_700), taken };
        for (later_ms, seconds) in
            [(0, 1_800_000_000), (299, 1_800_000_000), (300, 1_800_000_001), (60_000, 1_800_000_060)]
        {
            let now = anchor.at(taken + Duration::from_millis(later_ms));
            assert_eq!(whole_seconds(now), seconds, "{later_ms} ms later");
        }
    }

    #[test]
    fn all_threads_have_the_same_steady_clock() {
        let before = Clock::Steady.now();
        let elsewhere = std::thread::spawn(|| Clock::Steady.now()).join().unwrap();
        assert!(before <= elsewhere && elsewhere <= Clock::Steady.now());
    }
}
