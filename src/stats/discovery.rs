//! What came of following names: written by the thread that asks, read by `stats` and by whoever wants to know whether the
//! process is ready.

use crate::sync::Lock;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// Shared by the thread and its readers.
#[derive(Debug, Default)]
pub struct DiscoveryStats(Lock<DiscoveryFacts>);

/// All of it at one moment.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryFacts {
    pub answers_count: u64,
    pub failures_count: u64,
    pub changes_count: u64,
    pub last_success: Option<SystemTime>,
    pub pools: BTreeMap<String, PoolFacts>,
}

/// Of one pool that is followed.
#[derive(Clone, Debug, Default)]
pub struct PoolFacts {
    pub members_count: usize,
    pub changes_count: u64,
    pub is_known: bool,
}

impl DiscoveryStats {
    #[must_use]
    pub fn facts(&self) -> DiscoveryFacts {
        self.0.lock().clone()
    }

    /// These pools are followed, and no others.
    pub fn follow<'p>(&self, pools: impl Iterator<Item = &'p str>) {
        let mut facts = self.0.lock();
        let mut former = std::mem::take(&mut facts.pools);
        facts.pools = pools.map(|p| (p.to_owned(), former.remove(p).unwrap_or_default())).collect();
    }

    pub fn on_answer(&self) {
        let mut facts = self.0.lock();
        facts.answers_count += 1;
        facts.last_success = Some(SystemTime::now());
    }

    pub fn on_failure(&self) {
        self.0.lock().failures_count += 1;
    }

    /// A pool that is followed serves with so many servers from now on; `is_change`: they are others than before.
    pub fn on_served(&self, pool: &str, members_count: usize, is_change: bool) {
        let mut facts = self.0.lock();
        let Some(pool) = facts.pools.get_mut(pool) else { return };
        pool.members_count = members_count;
        pool.changes_count += u64::from(is_change);
        facts.changes_count += u64::from(is_change);
    }

    /// Of these nobody knows the servers yet, of all others somebody does. Whether that is news.
    pub fn set_unknown<'p>(&self, pools: impl Iterator<Item = &'p str>) -> bool {
        let unknown: BTreeSet<&str> = pools.collect();
        let mut is_news = false;
        for (name, pool) in &mut self.0.lock().pools {
            let was_known = std::mem::replace(&mut pool.is_known, !unknown.contains(name.as_str()));
            is_news |= was_known != pool.is_known;
        }
        is_news
    }
}
