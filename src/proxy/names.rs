//! The names of a configuration: followed by a thread of their own, which says when they have other servers.

use super::events::Event;
use crate::config::{Config, Listen};
use crate::discovery::{Discovery, FIRST_WAIT, Followed, Own};
use crate::stats::DiscoveryStats;
use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// What is known of the names of the configuration that serves.
pub(super) struct Names {
    /// Made when there is something to follow.
    discovery: OnceCell<Discovery>,
    stats: Arc<DiscoveryStats>,
    tell: Sender<Event>,
}

impl Names {
    /// `tell` hears of every change.
    pub(super) const fn new(stats: Arc<DiscoveryStats>, tell: Sender<Event>) -> Self {
        Self { discovery: OnceCell::new(), stats, tell }
    }

    /// From now on the names of this configuration; what it is with their servers, as far as they are known within a moment.
    /// `listening`: where ringway listens already, on whatever sockets.
    pub(super) fn follow(&self, config: &Config, listening: impl Iterator<Item = SocketAddr>) -> Config {
        self.follow_these(config, Followed::of(config), listening);
        self.filled(config)
    }

    /// Back to the configuration that serves on, because the one that was followed since does not come to serve. `serves`: with
    /// its servers, or until somebody answers again nothing would be known of them.
    pub(super) fn follow_again(
        &self,
        config: &Config,
        serves: &Config,
        listening: impl Iterator<Item = SocketAddr>,
    ) {
        self.follow_these(config, Followed::of_serving(config, serves), listening);
        self.on_served(None, serves); // pools that the other one did not have
    }

    fn follow_these(
        &self,
        config: &Config,
        followed: Vec<Followed>,
        listening: impl Iterator<Item = SocketAddr>,
    ) {
        let Some(discovery) = self.discovery_for(&followed) else { return };
        let listens = config.settings.listen.iter().filter_map(|listen| match listen {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) | Listen::Fd(_) => None,
        });
        let own: Own = listening.chain(listens).collect();
        if !discovery.follow(config, followed, own, FIRST_WAIT) {
            tracing::warn!(
                "some names are not resolved yet; who asks for their servers is told an error until they are"
            );
        }
    }

    /// A configuration that is followed, with the servers that are known now.
    pub(super) fn filled(&self, config: &Config) -> Config {
        let mut filled = config.clone();
        if let Some(discovery) = self.discovery.get() {
            discovery.fill(&mut filled);
        }
        filled
    }

    /// Pools of whose servers nothing is known yet.
    pub(super) fn undiscovered(&self) -> Vec<String> {
        let facts = self.stats.facts();
        facts.pools.into_iter().filter(|(_, pool)| !pool.is_known).map(|(name, _)| name).collect()
    }

    /// Every worker serves with these servers now. `before`: with which it did until then.
    pub(super) fn on_served(&self, before: Option<&Config>, now: &Config) {
        for pool in &now.pools {
            let former = before.and_then(|before| before.pool(&pool.name));
            let is_change = former.is_some_and(|former| former.servers != pool.servers);
            self.stats.on_served(&pool.name, pool.servers.len(), is_change);
        }
    }

    fn discovery_for(&self, followed: &[Followed]) -> Option<&Discovery> {
        if self.discovery.get().is_none() && !followed.is_empty() {
            let tell = self.tell.clone();
            let tell = move || {
                // When the main thread has ended, nobody is left to be told.
                let _ = tell.send(Event::Members);
            };
            match Discovery::start(Arc::clone(&self.stats), Box::new(tell)) {
                Ok(discovery) => drop(self.discovery.set(discovery)),
                Err(error) => tracing::error!("names are not followed: {error}"),
            }
        }
        self.discovery.get()
    }
}
