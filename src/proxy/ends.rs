//! The ends of a worker's tree: connections to servers, and the shards of embedded caches.
//!
//! They outlive the tree. When the configuration changes, a server that is still there and talked to in the same way
//! keeps its connections and all that is under way on them; only what is new is made, only what is gone ends.

use super::caches::Caches;
use crate::cache::CacheLeaf;
use crate::config::{Config, Endpoint, Pool, Server};
use crate::route::{self, Leaf, Leaves, Root};
use crate::time::Clock;
use crate::upstream::{Destination, Shared};
use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Of one worker.
pub(super) struct Ends {
    shared: Shared,
    pools: HashMap<String, Known>,
}

/// Where a server is, what it is called in logs, and its own timeouts.
type Identity = (Endpoint, String, [Option<Duration>; 2]);

/// The servers of one pool.
struct Known {
    /// How they are talked to: the pool without its servers, its placement, where it is, and who stands in for whom.
    terms: Pool,
    leaves: HashMap<Identity, Vec<Rc<dyn Leaf>>>,
}

impl Ends {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, pools: HashMap::new() }
    }

    /// The tree of a configuration, with the ends that are there already as far as they fit.
    pub(super) fn build(&mut self, config: &Config, caches: &Caches) -> Result<Root, String> {
        self.shared.late_count_max.set(config.settings.limits.late_count_max);
        let former = mem::take(&mut self.pools);
        let building = Building { shared: &self.shared, caches, former: &former, made: RefCell::default() };
        match route::build(config, &building) {
            Ok(root) => {
                self.pools = building.made.into_inner();
                Ok(root)
            }
            Err(error) => {
                self.pools = former;
                Err(error)
            }
        }
    }
}

struct Building<'a> {
    shared: &'a Shared,
    caches: &'a Caches,
    former: &'a HashMap<String, Known>,
    made: RefCell<HashMap<String, Known>>,
}

impl Building<'_> {
    fn of_server(&self, pool: &Pool, server: &Server, former: Option<&Known>) -> Vec<Rc<dyn Leaf>> {
        if let Endpoint::Embedded(embedded) = server.endpoint
            && let Some(cache) = self.caches.get(&pool.name, embedded.shard)
        {
            return vec![Rc::new(CacheLeaf::new(Arc::clone(cache), server.label(), Clock::System))];
        }
        let known = former.and_then(|known| known.leaves.get(&identity(server)));
        known.cloned().unwrap_or_else(|| Destination::of_server(pool, server, self.shared))
    }
}

impl Leaves for Building<'_> {
    fn of_pool(&self, pool: &Pool) -> (Vec<Rc<dyn Leaf>>, usize) {
        let terms = Pool {
            servers: Vec::new(),
            source: None,
            follow: Default::default(),
            hash: Default::default(),
            on_down: Default::default(),
            failure_domains: Vec::new(),
            location: None,
            ..pool.clone()
        };
        let former = self.former.get(&pool.name).filter(|known| known.terms == terms);
        Destination::expect_servers(pool, self.shared);
        let embedded = pool.servers.iter().any(|s| matches!(s.endpoint, Endpoint::Embedded(_)));
        let lanes = if embedded { 1 } else { pool.connections_count.max(1) };
        let mut leaves = Vec::with_capacity(pool.servers.len() * lanes);
        let mut by_server = HashMap::with_capacity(pool.servers.len());
        for server in &pool.servers {
            let of_server = self.of_server(pool, server, former);
            leaves.extend(of_server.iter().cloned());
            by_server.insert(identity(server), of_server);
        }
        self.made.borrow_mut().insert(pool.name.clone(), Known { terms, leaves: by_server });
        (leaves, lanes)
    }
}

/// Its weight and its place in the list are the ring's affair.
fn identity(server: &Server) -> Identity {
    (server.endpoint.clone(), server.label(), [server.timeout, server.connect_timeout])
}
