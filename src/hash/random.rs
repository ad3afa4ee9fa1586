//! `random`: any server for any key, as twemproxy's `distribution: random` (which knows no weights either).

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// xorshift64* (Marsaglia, Vigna): plenty for spreading load, three shifts per pick.
#[derive(Debug)]
pub(super) struct Random {
    /// Invariant: never zero.
    state: Cell<u64>,
}

/// Starts elsewhere too.
impl Clone for Random {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl Random {
    /// Each ring starts elsewhere, so that workers and nodes do not walk in step.
    pub(super) fn new() -> Self {
        Self { state: Cell::new(RandomState::new().build_hasher().finish() | 1) }
    }

    #[inline]
    pub(super) fn below(&self, count: u32) -> u32 {
        let mut state = self.state.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.state.set(state);
        let draw = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((draw * u64::from(count)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_gets_its_share() {
        let random = Random::new();
        let mut drawn = [0u32; 3];
        (0..30_000).for_each(|_| drawn[random.below(3) as usize] += 1);
        assert!(drawn.iter().all(|&times| (9_000..11_000).contains(&times)), "{drawn:?}");
    }
}
