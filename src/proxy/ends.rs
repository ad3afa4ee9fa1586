//! The ends of a worker's tree: connections to servers, and the shards of embedded caches.
//!
//! They outlive the tree. When the configuration changes, a server that is still there and talked to in the same way
//! keeps its connections and all that is under way on them; only what is new is made, only what is gone ends.

use super::common::Common;
use crate::cache::CacheLeaf;
use crate::config::{Config, Endpoint, OnError, Pool, Server};
use crate::hash::{Ring, SpecError};
use crate::route::{self, Busy, Change, Fed, Leaf, Leaves, Logged, Past, Root, Window};
use crate::spool::Desk;
use crate::time::Clock;
use crate::upstream::{Destination, Shared};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::mem;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// Of one worker.
pub(super) struct Ends {
    shared: Shared,
    /// `None`: there is no spool, deletes that fail are told to have failed.
    desk: Option<Desk>,
    pools: HashMap<String, Known>,
}

/// Where a server is, what it is called in logs, its own timeouts, and whether its name is another one's (`owed_as.rs`).
type Identity = (Endpoint, String, [Option<Duration>; 2], bool);

/// The servers of one pool.
struct Known {
    /// How they are talked to: the pool without its servers, its placement, where it is, and who stands in for whom.
    terms: Pool,
    leaves: HashMap<Identity, Vec<Rc<dyn Leaf>>>,
    /// Those of servers that have left, as long as the tree still asks them.
    gone: HashMap<Identity, Vec<Weak<dyn Leaf>>>,
    busy: Rc<Busy>,
}

impl Known {
    fn leaves_of(&self, server: &Identity) -> Option<Vec<Rc<dyn Leaf>>> {
        self.leaves
            .get(server)
            .cloned()
            .or_else(|| self.gone.get(server)?.iter().map(Weak::upgrade).collect())
    }
}

/// A tree that is ready when its new servers are connected to, or cannot be.
pub(super) struct Built {
    pub(super) root: Root,
    warming: Vec<Rc<dyn Leaf>>,
    before: Before,
}

/// The ends of the tree before.
pub(super) struct Before(Vec<Rc<dyn Leaf>>);

/// Connections that are begun or ended at once; then requests have their turn. A thousand at once, and they wait for tens of
/// milliseconds.
const AT_ONCE_COUNT_MAX: usize = 64;
const TURN: Duration = Duration::from_millis(1);

impl Built {
    /// Each attempt to connect is bounded by its `connect_timeout`; nobody waits for another one's.
    pub(super) async fn warmed(self) -> (Root, Before) {
        let mut warming = Vec::with_capacity(self.warming.len());
        for (index, leaf) in self.warming.iter().enumerate() {
            if index > 0 && index.is_multiple_of(AT_ONCE_COUNT_MAX) {
                tokio::time::sleep(TURN).await;
            }
            warming.extend(leaf.warm());
        }
        for end in warming {
            // the other end is dropped, whatever came of it
            let _ = end.await;
        }
        (self.root, self.before)
    }
}

impl Before {
    /// Lets go of those that only this holds, once another tree serves: their connections end.
    pub(super) async fn let_go(mut self) {
        self.0.retain(|leaf| Rc::strong_count(leaf) == 1);
        while !self.0.is_empty() {
            self.0.truncate(self.0.len().saturating_sub(AT_ONCE_COUNT_MAX));
            tokio::time::sleep(TURN).await;
        }
    }
}

impl Ends {
    pub(super) fn new(shared: Shared, desk: Option<Desk>) -> Self {
        Self { shared, desk, pools: HashMap::new() }
    }

    /// The tree of a configuration, with the ends that are there already as far as they fit.
    pub(super) fn build(&mut self, config: &Config, common: &Common) -> Result<Built, String> {
        self.shared.late_count_max.set(config.settings.limits.late_count_max);
        self.shared.bulk_bytes_max.set(config.settings.limits.bulk_bytes_max);
        let former = mem::take(&mut self.pools);
        let building = Building {
            shared: &self.shared,
            desk: self.desk.as_ref(),
            common,
            former: &former,
            made: RefCell::default(),
            warming: RefCell::default(),
        };
        match route::build(config, &building) {
            Ok(root) => {
                self.pools = building.made.into_inner();
                let warming = building.warming.into_inner();
                let before = former.into_values().flat_map(|known| known.leaves.into_values().flatten());
                Ok(Built { root, warming, before: Before(before.collect()) })
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
    desk: Option<&'a Desk>,
    common: &'a Common,
    former: &'a HashMap<String, Known>,
    made: RefCell<HashMap<String, Known>>,
    warming: RefCell<Vec<Rc<dyn Leaf>>>,
}

impl Building<'_> {
    /// Its weight and its place in the list are the ring's affair.
    fn identity(&self, server: &Server) -> Identity {
        let is_elsewhere = self.common.owed_as.is_elsewhere(server);
        (server.endpoint.clone(), server.label(), [server.timeout, server.connect_timeout], is_elsewhere)
    }

    fn of_server(&self, pool: &Pool, server: &Server, former: Option<&Known>) -> Vec<Rc<dyn Leaf>> {
        if let Endpoint::Embedded(embedded) = server.endpoint
            && let Some(cache) = self.common.caches.get(&pool.name, embedded.shard)
        {
            return vec![Rc::new(CacheLeaf::new(Arc::clone(cache), server.label(), Clock::Steady))];
        }
        if let Some(known) = former.and_then(|known| known.leaves_of(&self.identity(server))) {
            return known;
        }
        let leaves = self.connected(pool, server);
        // At the start nobody uses anything else meanwhile: the first request connects.
        if pool.warms_connections && !self.former.is_empty() {
            self.warming.borrow_mut().extend(leaves.iter().cloned());
        }
        leaves
    }

    /// Connections to a server; with a spool its failed deletes are kept.
    fn connected(&self, pool: &Pool, server: &Server) -> Vec<Rc<dyn Leaf>> {
        let leaves = Destination::of_server(pool, server, self.shared);
        let is_server = !matches!(server.endpoint, Endpoint::Embedded(_) | Endpoint::Route(_));
        let Some(desk) = self.desk.filter(|_| pool.is_spooled && is_server) else { return leaves };
        let log = desk.log(&self.common.owed_as.name(server), &pool.name);
        let terms = desk.terms(pool.on_error == OnError::Miss);
        let logged = |leaf| Rc::new(Logged::new(leaf, Rc::clone(&log), terms)) as Rc<dyn Leaf>;
        leaves.into_iter().map(logged).collect()
    }

    /// The leaves of a former pool's servers, of those that are not in it any more. A worker that is new has to make them.
    fn gone(&self, window: &Window, pool: &Pool) -> Vec<Vec<Rc<dyn Leaf>>> {
        let labels: HashSet<String> = pool.servers.iter().map(Server::label).collect();
        let known = self.former.get(&pool.name);
        let leaves = |server: &Server| {
            if labels.contains(&server.label()) {
                return Vec::new();
            }
            let known = known.and_then(|known| known.leaves_of(&self.identity(server)));
            known.unwrap_or_else(|| match server.endpoint {
                Endpoint::Embedded(_) | Endpoint::Route(_) => Vec::new(),
                _ => self.connected(&window.former, server),
            })
        };
        window.former.servers.iter().map(leaves).collect()
    }
}

impl Leaves for Building<'_> {
    fn fed(&self) -> Option<Fed> {
        self.desk.and_then(Desk::fed)
    }

    fn of_pool(&self, pool: &Pool) -> (Vec<Rc<dyn Leaf>>, usize) {
        let terms = Pool {
            servers: Vec::new(),
            source: None,
            follow: Default::default(),
            hash: Default::default(),
            on_down: Default::default(),
            failure_domains: Vec::new(),
            location: None,
            warms_connections: false,
            transition: None,
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
            by_server.insert(self.identity(server), of_server);
        }
        let busy = self.former.get(&pool.name).map(|known| Rc::clone(&known.busy)).unwrap_or_default();
        let known = Known { terms, leaves: by_server, gone: HashMap::new(), busy };
        self.made.borrow_mut().insert(pool.name.clone(), known);
        (leaves, lanes)
    }

    fn ring(&self, pool: &Pool) -> Result<Ring, SpecError> {
        self.common.rings.of_pool(pool)
    }

    fn past(&self, pool: &Pool) -> Option<Past> {
        let windows = self.common.windows.of_pool(&pool.name);
        let mut made = self.made.borrow_mut();
        let known = made.get_mut(&pool.name)?;
        let mut changes = Vec::with_capacity(windows.len());
        for window in windows {
            let gone = self.gone(window, pool);
            for (server, leaves) in window.former.servers.iter().zip(&gone).filter(|(_, l)| !l.is_empty()) {
                known.gone.insert(self.identity(server), leaves.iter().map(Rc::downgrade).collect());
            }
            let ring = self.ring(&window.former).ok()?; // what was a ring is one again
            changes.push(Change { window: Arc::clone(window), gone, ring });
        }
        let (busy, counters) = (Rc::clone(&known.busy), Arc::clone(&self.shared.counters));
        (!changes.is_empty()).then_some(Past { changes, busy, counters })
    }
}
