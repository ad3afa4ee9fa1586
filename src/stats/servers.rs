//! What a worker counts for each server: how many results of each kind, how long answers take, how many are under way.

use super::Counter;
use crate::sync::Lock;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Results by mcrouter's names, in the order in which it tells them.
pub const RESULTS: &[&str] = &[
    "deleted",
    "touched",
    "found",
    "notfound",
    "notstored",
    "stored",
    "ok",
    "exists",
    "timeout",
    "connect_timeout",
    "connect_error",
    "busy",
    "tko",
    "aborted",
    "client_error",
    "local_error",
    "remote_error",
];
/// The place of the first failure among them.
const FAILURES_FROM: usize = 8;
/// One of so many answers is timed.
const TIMED_EVERY: u64 = 16;
/// Each measurement counts for an eighth.
const SMOOTHING: i64 = 8;

/// What one worker counts for one server of one pool.
#[derive(Debug, Default)]
pub struct Traffic {
    results: [Counter; RESULTS.len()],
    /// Requests that wait for their answers.
    pub outstanding: Counter,
    /// Connections that are open.
    pub connections: Counter,
    answers: Counter,
    latency_ns: Counter,
    /// The place of the last failure in [`RESULTS`]; 0: there was none.
    last_failure: Counter,
}

impl Traffic {
    /// A request came to this end: a place in [`RESULTS`].
    #[inline]
    pub fn count(&self, result: usize) {
        let Some(counter) = self.results.get(result) else { return };
        counter.add(1);
        if result >= FAILURES_FROM {
            self.last_failure.set(result as u64);
        }
    }

    /// Whether the time of this answer is wanted: a look at the clock for each would cost more than all else here.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.answers.add(1);
        self.answers.value() % TIMED_EVERY == 1
    }

    pub fn learn(&self, took: Duration) {
        let took = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
        let known = self.latency_ns.value().cast_signed();
        let now = if known == 0 { took } else { known + (took - known) / SMOOTHING };
        self.latency_ns.set(now.max(1).cast_unsigned());
    }
}

/// The servers that a worker has.
#[derive(Debug, Default)]
pub struct Servers(Lock<Vec<Listed>>);

#[derive(Debug)]
struct Listed {
    address: Arc<str>,
    timeout: Duration,
    pool: Arc<str>,
    /// Those that nobody has any longer are forgotten.
    traffic: Weak<Traffic>,
}

/// One server, all workers and pools with the same timeout together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    pub address: String,
    pub timeout: Duration,
    pub pools: Vec<String>,
    /// By their places in [`RESULTS`].
    pub results: Vec<u64>,
    pub outstanding_count: u64,
    pub connections_count: u64,
    /// Of those workers that have measured something, in the middle.
    pub latency: Option<Duration>,
    pub last_failure: Option<&'static str>,
}

impl Servers {
    /// One more server of this pool.
    pub fn enlist(&self, address: &str, timeout: Duration, pool: &str) -> Arc<Traffic> {
        let traffic = Arc::new(Traffic::default());
        let listed =
            Listed { address: address.into(), timeout, pool: pool.into(), traffic: Arc::downgrade(&traffic) };
        let mut list = self.0.lock();
        // a thousand come at once: not a look at all others for each
        if list.len() == list.capacity() {
            list.retain(|listed| listed.traffic.strong_count() > 0);
            let count = list.len();
            list.reserve(count);
        }
        list.push(listed);
        traffic
    }

    /// Adds what this worker has counted.
    pub(super) fn sum(&self, sums: &mut Vec<ServerStats>) {
        for listed in self.0.lock().iter() {
            let Some(traffic) = listed.traffic.upgrade() else { continue };
            let known = |sum: &ServerStats| sum.address == *listed.address && sum.timeout == listed.timeout;
            let place = sums.iter().position(known).unwrap_or_else(|| {
                let (address, timeout) = (listed.address.to_string(), listed.timeout);
                let results = vec![0; RESULTS.len()];
                sums.push(ServerStats { address, timeout, results, ..ServerStats::default() });
                sums.len() - 1
            });
            let Some(sum) = sums.get_mut(place) else { continue };
            sum.add(&traffic, &listed.pool);
        }
    }
}

impl ServerStats {
    fn add(&mut self, traffic: &Traffic, pool: &str) {
        if !self.pools.iter().any(|known| known == pool) {
            self.pools.push(pool.to_owned());
        }
        for (sum, counter) in self.results.iter_mut().zip(&traffic.results) {
            *sum += counter.value();
        }
        self.outstanding_count = self.outstanding_count.wrapping_add(traffic.outstanding.value());
        self.connections_count = self.connections_count.wrapping_add(traffic.connections.value());
        let latency = Duration::from_nanos(traffic.latency_ns.value());
        if !latency.is_zero() {
            self.latency = Some(self.latency.map_or(latency, |known| (known + latency) / 2));
        }
        let failure = usize::try_from(traffic.last_failure.value()).unwrap_or(0);
        if failure > 0 {
            self.last_failure = RESULTS.get(failure).copied();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stats;
    use super::*;

    #[test]
    fn workers_and_pools_are_one() {
        let stats = Stats::new(2);
        let second = Duration::from_secs(1);
        let (of_one, of_other) = (stats.of(0), stats.of(1));
        let all = [
            of_one.servers.enlist("a:1", second, "main"),
            of_one.servers.enlist("a:1", second, "gutter"),
            of_other.servers.enlist("a:1", second, "main"),
            of_other.servers.enlist("a:1", second * 2, "main"),
        ];
        for traffic in &all {
            traffic.count(2);
            traffic.count(8);
            traffic.outstanding.add(3);
            assert!(traffic.is_timed() && !traffic.is_timed());
            traffic.learn(Duration::from_micros(100));
        }
        let told = stats.servers();
        assert_eq!(told.len(), 2);
        assert_eq!(
            (told[0].pools.join(","), told[0].results[2], told[0].results[8]),
            ("main,gutter".into(), 3, 3)
        );
        assert_eq!((told[0].outstanding_count, told[0].last_failure), (9, Some("timeout")));
        assert_eq!(told[1].latency, Some(Duration::from_micros(100)));
        drop(all);
        assert_eq!(stats.servers(), []);
    }
}
