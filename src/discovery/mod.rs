//! From names to servers, while they come and go. It says which servers a pool has; what becomes of that is not its affair.
//!
//! ```text
//!             thread ─────────────────────────────────────────► Sets ─► proxy (a reload with other servers)
//!               │  ▲ asks, sets, when to look again
//!   answers     ▼  │
//! asker ────► core ─► table (questions, times, last good answers) · search (names in full)
//!  │            └───► set (what the answers come to) ─► settle (hold-down, who is only restarted)
//!  └─ dns (hickory) · cluster (`config get cluster`) · file
//! ```
//!
//! `core` and what is below it is pure: tests and `tests/prove` give it answers and the time.

mod answer;
mod asker;
mod cluster;
mod core;
mod dns;
mod file;
mod own;
mod search;
mod set;
mod settle;
mod table;
#[cfg(test)]
mod tests;
mod thread;

pub use self::core::{ASKS_COUNT_MAX, Core, Turn};
pub use answer::{Answer, Kind, Listed, Question, Records, Target};
pub use own::Own;
pub use search::{ResolvConf, Search};
pub use set::{Followed, IsOwn};
pub use settle::HOLD_DOWN;
pub use table::{Ask, Refresh, Told};

use crate::config::{Config, OnEmpty, OnError, PoolSource, Server};
use crate::stats::DiscoveryStats;
use crate::sync::Lock;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thread::{Order, Outlet};
use tokio::sync::mpsc::UnboundedSender;

/// What has not answered by then is followed all the same; until it does its pools have no servers.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Follows the names of a configuration. The thread ends when this is dropped.
pub struct Discovery {
    sets: Arc<Sets>,
    orders: UnboundedSender<Order>,
}

impl Discovery {
    /// `tell` is called whenever a set has changed.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(stats: Arc<DiscoveryStats>, tell: Box<dyn Fn() + Send>) -> io::Result<Self> {
        let sets = Arc::new(Sets::default());
        let orders = thread::start(Outlet { sets: Arc::clone(&sets), stats, tell })?;
        Ok(Self { sets, orders })
    }

    /// Follows these pools of a configuration and nothing else, and waits for the first answers, for so long at most.
    /// `own`: where ringway listens. Whether all is known.
    pub fn follow(&self, config: &Config, followed: Vec<Followed>, own: Own, wait: Duration) -> bool {
        let (known, all) = std::sync::mpsc::channel();
        let resolver = config.settings.resolver.clone();
        // A thread that has ended drops `known`, and nobody waits.
        let _ = self.orders.send(Order { followed, resolver, own, known });
        all.recv_timeout(wait).is_ok()
    }

    /// Puts the servers that are known now into the pools of a configuration that is followed.
    pub fn fill(&self, config: &mut Config) {
        self.sets.fill(config);
    }
}

/// Puts the servers that are found now into the pools of a configuration, without following them any further. The pools of which
/// nothing was found out.
#[must_use]
pub fn fill_once(config: &mut Config) -> Vec<String> {
    /// Somebody sits before it and waits.
    const WAIT: Duration = Duration::from_secs(3);
    let followed = Followed::of(config);
    if followed.is_empty() {
        return Vec::new();
    }
    let stats = Arc::new(DiscoveryStats::default());
    if let Ok(discovery) = Discovery::start(Arc::clone(&stats), Box::new(|| ())) {
        discovery.follow(config, followed.clone(), Vec::new(), WAIT);
        discovery.fill(config);
    }
    let facts = stats.facts();
    let is_unknown = |followed: &Followed| facts.pools.get(&followed.pool).is_none_or(|pool| !pool.is_known);
    followed.into_iter().filter(is_unknown).map(|followed| followed.pool).collect()
}

/// The servers of all followed pools, as they are known now.
#[derive(Default)]
struct Sets(Lock<BTreeMap<String, Set>>);

/// Of one pool.
struct Set {
    /// Whose servers these are: a pool of the same name in another configuration may mean others.
    source: Option<PoolSource>,
    listed: Vec<Server>,
    /// `None`: not known yet.
    servers: Option<Vec<Server>>,
}

impl Sets {
    fn follow(&self, followed: &[Followed]) {
        let mut sets = self.0.lock();
        let mut former = std::mem::take(&mut *sets);
        for Followed { pool, source, servers, known, .. } in followed {
            let same = former.remove(pool).filter(|set| set.source == *source && set.listed == *servers);
            let new = || Set { source: source.clone(), listed: servers.clone(), servers: known.clone() };
            sets.insert(pool.clone(), same.unwrap_or_else(new));
        }
    }

    fn set(&self, pool: &str, servers: Vec<Server>) {
        if let Some(set) = self.0.lock().get_mut(pool) {
            set.servers = Some(servers);
        }
    }

    fn fill(&self, config: &mut Config) {
        let sets = self.0.lock();
        for pool in &mut config.pools {
            let set = sets.get(&pool.name).filter(|set| set.source == pool.source);
            if let Some(servers) = set.and_then(|set| set.servers.as_ref()) {
                pool.servers.clone_from(servers);
            }
            if pool.source.is_some() && pool.servers.is_empty() {
                // nobody fails but the pool itself
                pool.on_error =
                    if pool.follow.on_empty == OnEmpty::Miss { OnError::Miss } else { OnError::Error };
            }
        }
    }
}
