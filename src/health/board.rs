//! All servers of the process by address, all pools by name: made when workers are built, asked by `stats`.

use super::fail_open::{FailOpen, Guard};
use super::tko::{Server, Totals};
use crate::sync::Lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What the process knows of all its servers' health.
#[derive(Debug, Default)]
pub struct Health {
    /// Each as long as somebody has it.
    servers: Lock<BTreeMap<String, Weak<Server>>>,
    guards: Lock<BTreeMap<String, Arc<Guard>>>,
    totals: Arc<Totals>,
}

/// A server that has failed of late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub address: String,
    pub is_out: bool,
    pub failures_count: u32,
}

impl Health {
    /// The server at this address as configured: the same for all workers and pools.
    #[must_use]
    pub fn server(&self, address: &str) -> Arc<Server> {
        let mut servers = self.servers.lock();
        if let Some(server) = servers.get(address).and_then(Weak::upgrade) {
            return server;
        }
        let server = Arc::new(Server::new(Arc::clone(&self.totals)));
        servers.insert(address.to_owned(), Arc::downgrade(&server));
        server
    }

    /// The guard of the pool of this name: the same for all workers. `bounds`: of a new one.
    #[must_use]
    pub fn guard(&self, pool: &str, bounds: Option<FailOpen>) -> Arc<Guard> {
        let mut guards = self.guards.lock();
        let guard = guards.entry(pool.to_owned()).or_insert_with(|| Arc::new(Guard::new(bounds)));
        Arc::clone(guard)
    }

    /// The pool of this name has these bounds from now on.
    pub fn bound(&self, pool: &str, bounds: Option<FailOpen>) {
        self.guard(pool, bounds).set_bounds(bounds);
    }

    /// Servers that no worker has any longer are forgotten: their number must not grow with every change.
    pub fn forget_unused(&self) {
        self.servers.lock().retain(|_, server| server.strong_count() > 0);
        self.guards.lock().retain(|_, guard| Arc::strong_count(guard) > 1);
    }

    /// Whether the server at this address is out because it does not answer; `Some(false)`: because it cannot be reached.
    #[must_use]
    pub fn is_soft(&self, address: &str) -> Option<bool> {
        let server = self.servers.lock().get(address).and_then(Weak::upgrade);
        server?.reason().map(super::tko::Reason::is_soft)
    }

    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Those that have failed of late, by address.
    #[must_use]
    pub fn suspects(&self) -> Vec<Suspect> {
        // (The last who has one may be this: so it does not go while the list is locked.)
        let known = self.servers.lock().clone();
        let all = known.into_iter().filter_map(|(address, server)| {
            let (failures_count, is_out) = server.upgrade()?.failures();
            Some(Suspect { address, is_out, failures_count })
        });
        all.filter(|suspect| suspect.is_out || suspect.failures_count > 0).collect()
    }

    /// How often pools failed open, and how often that ended.
    #[must_use]
    pub fn fail_open_counts(&self) -> (u64, u64) {
        let guards = self.guards.lock();
        guards.values().map(|guard| guard.counts()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }
}
