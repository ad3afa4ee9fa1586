//! Time in memcached's terms: what an exptime means, and when an entry is dead.

use crate::protocol::limits::RELATIVE_EXPTIME_MAX;
use crate::time::Now;

/// No end.
pub(super) const NEVER: u32 = 0;
/// A moment that is always over: what a negative exptime stands for.
const LONG_AGO: u32 = 1;

/// The unix second at which an entry with this exptime ends; [`NEVER`] for 0.
pub(super) const fn deadline(exptime: i32, now: Now) -> u32 {
    if exptime == 0 {
        NEVER
    } else if exptime < 0 {
        LONG_AGO
    } else if exptime > RELATIVE_EXPTIME_MAX {
        exptime.cast_unsigned()
    } else {
        now.unix_seconds.saturating_add(exptime.cast_unsigned())
    }
}

/// The remaining seconds, as `t` writes them: for an entry that ended in this very request memcached
/// shows a 32-bit number that wrapped, and so do we.
pub(super) const fn remaining(deadline: u32, now: Now) -> u32 {
    deadline.wrapping_sub(now.unix_seconds)
}

/// A `flush_all` that lies ahead or has begun to bite (memcached's `oldest_live`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flush {
    /// From this second on whatever was last used in it or before is gone; 0: nothing is flushed.
    oldest_live: u32,
}

impl Flush {
    /// As memcached reckons: the second *before* the one that was asked for.
    pub(super) const fn after(delay: i32, now: Now) -> Self {
        Self { oldest_live: deadline(delay, now).saturating_sub(1) }
    }

    pub(super) const fn is_set(self) -> bool {
        self.oldest_live != 0
    }

    const fn takes(self, used: u32, now: Now) -> bool {
        self.is_set() && self.oldest_live <= now.unix_seconds && used <= self.oldest_live
    }
}

/// Whether an entry is as good as gone.
pub(super) const fn is_dead(deadline: u32, used: u32, flush: Flush, now: Now) -> bool {
    (deadline != NEVER && deadline <= now.unix_seconds) || flush.takes(used, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exptime_is_relative_up_to_thirty_days() {
        let now = Now { unix_seconds: 1_800_000_000 };
        for (exptime, expected) in [
            (0, NEVER),
            (-1, LONG_AGO),
            (i32::MIN, LONG_AGO),
            (1, 1_800_000_001),
            (2_592_000, 1_802_592_000),
            (2_592_001, 2_592_001),
            (i32::MAX, 2_147_483_647),
        ] {
            assert_eq!(deadline(exptime, now), expected, "{exptime}");
        }
    }

    #[test]
    fn an_entry_ends_with_its_last_second() {
        let at = |unix_seconds| Now { unix_seconds };
        assert!(!is_dead(100, 50, Flush::default(), at(99)));
        assert!(is_dead(100, 50, Flush::default(), at(100)));
        assert!(!is_dead(NEVER, 50, Flush::default(), at(u32::MAX)));
    }

    #[test]
    fn a_flush_bites_one_second_early_and_for_one_second_on_new_entries_too() {
        let at = |unix_seconds| Now { unix_seconds };
        let flush = Flush::after(3, at(10));
        assert!(!is_dead(NEVER, 10, flush, at(11)));
        assert!(is_dead(NEVER, 10, flush, at(12)));
        assert!(is_dead(NEVER, 12, flush, at(12)));
        assert!(!is_dead(NEVER, 13, flush, at(13)));
    }
}
