//! What is counted: one block of counters per worker, summed when somebody asks.
//!
//! A counter has one writer, its worker: adding is a plain load and store, nothing is shared, nothing locked.

mod discovery;
mod list;
mod log_rate;
mod servers;

pub use discovery::{DiscoveryFacts, DiscoveryStats, PoolFacts};
pub use list::{COUNTERS, CounterInfo, CounterKind, Counters};
pub use log_rate::LogRate;
pub use servers::{RESULTS, ServerStats, Servers, Traffic};

use crate::sync::Lock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// For gauges.
    #[inline]
    pub fn sub(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(count), Relaxed);
    }

    fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// The worker has ended, and with it whatever was now.
    pub fn clear_gauges(&self) {
        COUNTERS.iter().filter(|c| c.kind == CounterKind::Gauge).for_each(|c| (c.pick)(self).set(0));
    }
}

/// The counters of all workers, also of those that are no more: what they have counted goes on to count.
#[derive(Clone, Debug)]
pub struct Stats {
    workers: Arc<Lock<Vec<Arc<Counters>>>>,
    /// Workers there are now.
    workers_count: Arc<AtomicUsize>,
    discovery: Arc<DiscoveryStats>,
}

impl Stats {
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let blocks = (0..workers).map(|_| Arc::default()).collect();
        let workers_count = Arc::new(AtomicUsize::new(workers));
        Self { workers: Arc::new(Lock::new(blocks)), workers_count, discovery: Arc::default() }
    }

    /// What came of following names.
    #[must_use]
    pub fn discovery(&self) -> Arc<DiscoveryStats> {
        Arc::clone(&self.discovery)
    }

    /// The block of one worker.
    #[must_use]
    pub fn of(&self, worker: usize) -> Arc<Counters> {
        Arc::clone(&self.workers.lock()[worker])
    }

    /// A block for one more worker.
    #[must_use]
    pub fn add(&self) -> Arc<Counters> {
        let block = Arc::default();
        self.workers.lock().push(Arc::clone(&block));
        block
    }

    /// There are so many workers from now on.
    pub fn set_workers_count(&self, count: usize) {
        self.workers_count.store(count, Relaxed);
    }

    /// The sum of one counter over all workers.
    #[must_use]
    pub fn sum(&self, pick: impl Fn(&Counters) -> &Counter) -> u64 {
        self.workers.lock().iter().fold(0_u64, |sum, w| sum.wrapping_add(pick(w).value()))
    }

    /// Every server, by its address, the same in all workers.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerStats> {
        let mut sums = Vec::new();
        self.workers.lock().iter().for_each(|worker| worker.servers.sum(&mut sums));
        sums
    }

    #[must_use]
    pub fn workers_count(&self) -> usize {
        self.workers_count.load(Relaxed)
    }
}
