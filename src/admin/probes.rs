//! What probes ask: does the process live, and is it ready for clients.
//!
//! *Live* is about the process alone: every worker's event loop turns. Servers that are away change nothing about it, or a
//! dead memcached would have its proxies restarted. *Ready* says whether clients should be sent here.

use crate::sync::Lock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Between two beats of a worker's pulse.
pub const BEAT: Duration = Duration::from_secs(1);
/// A worker that has not turned for so long hangs. The longest turn known, taking over a configuration of a thousand pools,
/// is far below it.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A worker's sign of life: it alone beats, others look how long ago that was.
#[derive(Debug)]
pub struct Pulse {
    started: Instant,
    beat_ms: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { started: Instant::now(), beat_ms: AtomicU64::new(0) }
    }
}

impl Pulse {
    pub fn beat(&self) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat_ms.store(now_ms, Relaxed);
    }

    /// Time since the last beat.
    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.load(Relaxed)))
    }
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Starting,
    Serving,
    /// Not when another process has taken over: that one serves, on the same admin port.
    Draining,
}

/// What probes are answered from. Written by the main thread.
#[derive(Debug, Default)]
pub struct Probes(Lock<State>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// By the number of the worker.
    pulses: Vec<(usize, Arc<Pulse>)>,
    /// Pools of which no server was ever found, by name.
    undiscovered: Vec<String>,
}

impl Probes {
    pub fn enter(&self, phase: Phase) {
        self.0.lock().phase = phase;
    }

    /// The workers there are now.
    pub fn watch(&self, pulses: Vec<(usize, Arc<Pulse>)>) {
        self.0.lock().pulses = pulses;
    }

    /// The pools that have never had an answer about their servers. While there are any, the process is not ready.
    pub fn set_undiscovered(&self, pools: Vec<String>) {
        self.0.lock().undiscovered = pools;
    }

    /// # Errors
    /// Which worker hangs.
    pub fn live(&self) -> Result<(), String> {
        let state = self.0.lock();
        for (worker, pulse) in &state.pulses {
            let silence = pulse.silence();
            if silence > SILENCE_MAX {
                return Err(format!("worker {worker} has not turned for {} s", silence.as_secs()));
            }
        }
        Ok(())
    }

    /// # Errors
    /// Why clients should not be sent here.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.0.lock();
        match state.phase {
            Phase::Serving if state.undiscovered.is_empty() => Ok(()),
            Phase::Serving => Err(format!("no servers are known yet of {}", state.undiscovered.join(", "))),
            Phase::Starting => Err("starting".to_owned()),
            Phase::Draining => Err("draining".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_while_it_serves_and_knows_its_servers() {
        let probes = Probes::default();
        assert_eq!(probes.ready(), Err("starting".into()));
        probes.enter(Phase::Serving);
        assert_eq!(probes.ready(), Ok(()));
        probes.set_undiscovered(vec!["near".into(), "far".into()]);
        assert_eq!(probes.ready(), Err("no servers are known yet of near, far".into()));
        assert_eq!(probes.live(), Ok(()), "that is no reason to restart it");
        probes.set_undiscovered(Vec::new());
        probes.enter(Phase::Draining);
        assert_eq!(probes.ready(), Err("draining".into()));
        assert_eq!(probes.live(), Ok(()), "nor is that");
    }

    #[test]
    fn a_worker_without_a_beat_is_told() {
        let probes = Probes::default();
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let hangs = Arc::new(Pulse { started: ago(60), beat_ms: AtomicU64::new(1_000) });
        let turns = Arc::new(Pulse { started: ago(60), beat_ms: AtomicU64::new(1_000) });
        turns.beat();
        probes.watch(vec![(0, turns), (1, Arc::clone(&hangs))]);
        assert_eq!(probes.live(), Err("worker 1 has not turned for 59 s".into()));
        hangs.beat();
        assert_eq!(probes.live(), Ok(()));
    }
}
