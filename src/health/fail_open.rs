//! When too many servers of a pool are out, the fault is more likely ours or the network's: then no more are taken out.

use crate::sync::Lock;

/// Servers that are out: from `upper` on no further one is knocked out, until no more than `lower` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailOpen {
    pub upper_count: usize,
    pub lower_count: usize,
}

/// Counts the servers of one pool that are out.
#[derive(Debug, Default)]
pub struct Guard {
    state: Lock<State>,
}

#[derive(Debug, Default)]
struct State {
    bounds: Option<FailOpen>,
    out_count: usize,
    is_open: bool,
    entered_count: u64,
    exited_count: u64,
}

impl Guard {
    #[must_use]
    pub const fn new(bounds: Option<FailOpen>) -> Self {
        let state = State { bounds, out_count: 0, is_open: false, entered_count: 0, exited_count: 0 };
        Self { state: Lock::new(state) }
    }

    /// From now on with these; whether the pool is open is looked at when the next server goes or comes.
    pub(super) fn set_bounds(&self, bounds: Option<FailOpen>) {
        let mut state = self.state.lock();
        state.bounds = bounds;
        state.is_open &= bounds.is_some();
    }

    /// One more is to go out; whether it may.
    pub(super) fn enter(&self) -> bool {
        let mut state = self.state.lock();
        if state.is_open {
            return false;
        }
        state.out_count += 1;
        if state.bounds.is_some_and(|bounds| state.out_count >= bounds.upper_count) {
            state.is_open = true;
            state.entered_count += 1;
        }
        true
    }

    /// One that was let out is back.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        state.out_count -= 1;
        if state.is_open && state.bounds.is_some_and(|bounds| state.out_count <= bounds.lower_count) {
            state.is_open = false;
            state.exited_count += 1;
        }
    }

    /// How often the pool failed open, and how often that ended.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.entered_count, state.exited_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_the_bounds_it_stays_as_it_is() {
        let guard = Guard::new(Some(FailOpen { upper_count: 3, lower_count: 1 }));
        assert!(guard.enter() && guard.enter() && guard.enter());
        assert!(!guard.enter(), "three are enough");
        guard.leave();
        assert!(!guard.enter(), "two are still more than one");
        guard.leave();
        assert_eq!(guard.counts(), (1, 1));
        assert!(guard.enter() && guard.enter());
        assert!(!guard.enter());
        assert_eq!(guard.counts(), (2, 1));
    }

    #[test]
    fn bounds_can_change() {
        let guard = Guard::new(Some(FailOpen { upper_count: 1, lower_count: 0 }));
        assert!(guard.enter() && !guard.enter());
        guard.set_bounds(None);
        assert!(guard.enter());
        guard.set_bounds(Some(FailOpen { upper_count: 3, lower_count: 0 }));
        assert!(guard.enter() && !guard.enter(), "the third opens it");
    }

    #[test]
    fn without_bounds_all_may_go() {
        let guard = Guard::new(None);
        assert!((0..100).all(|_| guard.enter()));
    }
}
