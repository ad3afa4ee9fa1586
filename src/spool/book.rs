//! All servers that are owed deletes, and what has been counted of them: shared by all threads.

use super::owed::Owed;
use crate::sync::Lock;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Notify;

/// What the process knows of its spool.
pub struct Book {
    seed: u64,
    servers: Lock<BTreeMap<String, Arc<Owed>>>,
    /// Rung when something becomes pending.
    pub(super) bell: Notify,
    /// No entry so far has a greater number.
    pub(super) newest: AtomicU64,
    pub numbers: Numbers,
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub struct Numbers {
    pub written: AtomicU64,
    /// Deletes for which an entry stood that was there already.
    pub collapsed: AtomicU64,
    pub replayed: AtomicU64,
    pub cancelled: AtomicU64,
    pub dropped: AtomicU64,
    /// Given to the server that has the key now.
    pub moved: AtomicU64,
    /// Told to clients as errors.
    pub refused: AtomicU64,
    /// Deliveries that failed; each is tried again.
    pub replay_errors: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_us: AtomicU64,
    pub sync_us_max: AtomicU64,
    pub disk_errors: AtomicU64,
    /// Deletes that others can read in the feed, and those that they cannot.
    pub feed_written: AtomicU64,
    pub feed_refused: AtomicU64,
    /// Deletes that are in no file of mcrouter's, though they should be.
    pub asynclog_errors: AtomicU64,
    /// Found to be no entries when segments were read.
    pub broken_bytes: AtomicU64,
    /// Now.
    pub bytes: AtomicU64,
    pub segments: AtomicU64,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            seed: RandomState::new().hash_one(0_u8),
            servers: Lock::default(),
            bell: Notify::new(),
            newest: AtomicU64::new(0),
            numbers: Numbers::default(),
        }
    }
}

impl Book {
    /// The server of this address.
    #[must_use]
    pub fn server(&self, address: &str) -> Arc<Owed> {
        let mut servers = self.servers.lock();
        if let Some(owed) = servers.get(address) {
            return Arc::clone(owed);
        }
        let owed = Arc::new(Owed::new(address, self.seed));
        servers.insert(address.to_owned(), Arc::clone(&owed));
        owed
    }

    /// Every server that is known, by address.
    #[must_use]
    pub fn servers(&self) -> Vec<Arc<Owed>> {
        self.servers.lock().values().cloned().collect()
    }

    /// Servers that nobody has and that are owed nothing are forgotten.
    pub(super) fn forget_unused(&self) {
        self.servers.lock().retain(|_, owed| owed.count() > 0 || Arc::strong_count(owed) > 1);
    }

    /// Deletes that are pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.servers.lock().values().map(|owed| owed.count()).sum()
    }

    /// When the oldest of them was written.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<u64> {
        self.servers.lock().values().filter_map(|owed| owed.oldest_ms()).min()
    }
}

impl Numbers {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn synced(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.syncs.fetch_add(1, Relaxed);
        self.sync_us.fetch_add(took_us, Relaxed);
        self.sync_us_max.fetch_max(took_us, Relaxed);
    }
}
