//! Connections of the spool's own: what its deletes are delivered over, and who has a key now.

use super::common::Common;
use crate::config::{Config, Endpoint, Pool, Server};
use crate::hash::Ring;
use crate::route::{Leaf, split_prefix};
use crate::spool::{Owner, Targets, UNDER_WAY_COUNT_MAX};
use crate::upstream::{Destination, Shared};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a server that was asked for what it had is waited for after that: each worker ends it by its own clock.
const GRACE: Duration = Duration::from_secs(1);
/// How long names may take to lead somewhere: after that what is owed to an address is nobody's of theirs.
const NAMES_TIME_MAX: Duration = Duration::from_secs(60);

/// Of one configuration.
pub(super) struct Couriers {
    made_at: Instant,
    config: Arc<Config>,
    common: Arc<Common>,
    shared: Shared,
    /// By what the server is owed as; made when the first delete is to be delivered.
    leaves: RefCell<HashMap<String, Courier>>,
    rings: RefCell<HashMap<String, Option<Rc<Ring>>>>,
}

struct Courier {
    leaf: Rc<dyn Leaf>,
    /// Of a server that has left its pool; `None`: it is in one.
    until: Option<Instant>,
}

impl Couriers {
    pub(super) fn new(config: Arc<Config>, common: Arc<Common>, shared: Shared) -> Self {
        let (leaves, rings) = (RefCell::default(), RefCell::default());
        Self { made_at: Instant::now(), config, common, shared, leaves, rings }
    }

    fn ring(&self, pool: &Pool) -> Option<Rc<Ring>> {
        let build = || Ring::build(&pool.hash, &pool.members()).ok().map(Rc::new);
        self.rings.borrow_mut().entry(pool.name.clone()).or_insert_with(build).clone()
    }

    /// The first pool that has it, for how it is talked to; or a former one, of which it is still asked for what it had: it must
    /// not show what was deleted.
    fn find<'a>(&'a self, address: &str) -> Option<(&'a Pool, &'a Server, Option<Instant>)> {
        let pools = &self.config.pools;
        let is_this = |server: &Server| is_server(server) && self.common.owed_as.name(server) == address;
        let of_pool =
            |pool: &'a Pool| Some((pool, pool.servers.iter().find(|server| is_this(server))?, None));
        pools.iter().find_map(of_pool).or_else(|| {
            let gone = pools.iter().flat_map(|pool| self.common.windows.gone(pool));
            let (window, server) =
                gone.filter(|(_, server)| is_this(server)).max_by_key(|(window, _)| window.until)?;
            let until = window.until + GRACE;
            (Instant::now() < until).then_some((&window.former, server, Some(until)))
        })
    }

    /// What the server at this address is owed as, if that is not the address: it was written before its name led there, by another
    /// proxy, or when another server had the name.
    fn renamed(&self, address: &str) -> Option<String> {
        let mut asked = self.common.windows.asked(&self.config);
        let server = asked.find(|server| is_server(server) && server.address() == address)?;
        Some(self.common.owed_as.name(server)).filter(|name| name != address)
    }
}

const fn is_server(server: &Server) -> bool {
    !matches!(server.endpoint, Endpoint::Embedded(_) | Endpoint::Route(_))
}

impl Targets for Couriers {
    fn leaf(&self, address: &str) -> Option<Rc<dyn Leaf>> {
        let now = Instant::now();
        let is_over = |courier: &Courier| courier.until.is_some_and(|until| until <= now);
        let mut leaves = self.leaves.borrow_mut();
        leaves.retain(|_, courier| !is_over(courier));
        if let Some(courier) = leaves.get(address) {
            return Some(Rc::clone(&courier.leaf));
        }
        let (pool, server, until) = self.find(address)?;
        // so many go at once, whatever clients may have under way
        let outstanding_count_max = pool.outstanding_count_max.max(UNDER_WAY_COUNT_MAX);
        let pool = Pool { connections_count: 1, outstanding_count_max, ..pool.clone() };
        let leaf = Destination::of_server(&pool, server, &self.shared).pop()?;
        leaves.insert(address.to_owned(), Courier { leaf: Rc::clone(&leaf), until });
        Some(leaf)
    }

    fn owner(&self, address: &str, pool: &str, key: &[u8]) -> Owner {
        let Some(pool) = self.config.pool(pool) else { return Owner::Nobody };
        if pool.servers.is_empty() {
            return Owner::NotYet; // their names have not been found yet
        }
        if let Some(name) = self.renamed(address) {
            return Owner::Renamed(name);
        }
        let is_nowhere_yet = |server: &Server| matches!(server.endpoint, Endpoint::Host(..));
        if address.parse::<SocketAddr>().is_ok()
            && self.made_at.elapsed() < NAMES_TIME_MAX
            && pool.servers.iter().any(is_nowhere_yet)
        {
            return Owner::NotYet; // it may be where one of these names leads to
        }
        // what a server with `keep_routing_prefix` is owed has the prefix, which is no part of what is hashed
        let hashed = if pool.keeps_prefix { split_prefix(key).map_or(key, |(_, rest)| rest) } else { key };
        let server = self.ring(pool).and_then(|ring| pool.servers.get(ring.pick(hashed)?));
        // one that is no server (a route, an embedded cache) is owed nothing
        match server.filter(|server| is_server(server)) {
            Some(server) => Owner::Is(self.common.owed_as.name(server)),
            None => Owner::Nobody,
        }
    }
}
