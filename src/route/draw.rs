//! Chance: which of several, or whether at all. Each route has its own, and starts elsewhere than that of another worker.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// splitmix64.
pub(super) struct Draw(Cell<u64>);

impl Draw {
    pub(super) fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0_u8)))
    }

    /// Any number.
    pub(super) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    /// One of so many. The high half, scaled, has no bias worth the name for lists of children.
    pub(super) fn below(&self, count: usize) -> usize {
        let index = ((self.next() >> 32) * count as u64) >> 32;
        usize::try_from(index).unwrap_or(0)
    }

    /// True in this share of all cases.
    pub(super) fn is_within(&self, share: f64) -> bool {
        share >= 1.0 || ((self.next() >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept() {
        let draw = Draw::new();
        let mut counts = [0; 4];
        (0..40_000).for_each(|_| counts[draw.below(4)] += 1);
        assert!(counts.iter().all(|count| (9_000..11_000).contains(count)), "{counts:?}");
        let within = (0..10_000).filter(|_| draw.is_within(0.3)).count();
        assert!((2_700..3_300).contains(&within), "{within}");
        assert!((0..100).all(|_| draw.is_within(1.0) && !draw.is_within(0.0)));
    }
}
