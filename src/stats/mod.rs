//! What is counted: one block of counters per worker, summed when somebody asks.
//!
//! A counter has one writer, its worker: adding is a plain load and store, nothing is shared, nothing locked.

mod list;
mod log_rate;
mod servers;

pub use list::{COUNTERS, CounterInfo, Counters};
pub use log_rate::LogRate;
pub use servers::{RESULTS, ServerStats, Servers, Traffic};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

/// The counters of all workers.
#[derive(Clone, Debug)]
pub struct Stats {
    workers: Arc<[Arc<Counters>]>,
}

impl Stats {
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Arc::new(Counters::default())).collect() }
    }

    /// The block of one worker.
    #[must_use]
    pub fn of(&self, worker: usize) -> Arc<Counters> {
        Arc::clone(&self.workers[worker])
    }

    /// The sum of one counter over all workers.
    #[must_use]
    pub fn sum(&self, pick: impl Fn(&Counters) -> &Counter) -> u64 {
        self.workers.iter().fold(0_u64, |sum, w| sum.wrapping_add(pick(w).value()))
    }

    /// Every server, by its address, the same in all workers.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerStats> {
        let mut sums = Vec::new();
        self.workers.iter().for_each(|worker| worker.servers.sum(&mut sums));
        sums
    }

    #[must_use]
    pub fn workers_count(&self) -> usize {
        self.workers.len()
    }
}
