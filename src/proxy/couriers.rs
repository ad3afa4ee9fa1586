//! Connections of the spool's own: what its deletes are delivered over, and who has a key now.

use crate::config::{Config, Endpoint, Pool, Server};
use crate::hash::Ring;
use crate::route::{Leaf, split_prefix};
use crate::spool::{Owner, Targets};
use crate::upstream::{Destination, Shared};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Of one configuration.
pub(super) struct Couriers {
    config: Arc<Config>,
    shared: Shared,
    /// By address; made when the first delete is to be delivered.
    leaves: RefCell<HashMap<String, Rc<dyn Leaf>>>,
    rings: RefCell<HashMap<String, Option<Rc<Ring>>>>,
}

impl Couriers {
    pub(super) fn new(config: Arc<Config>, shared: Shared) -> Self {
        Self { config, shared, leaves: RefCell::default(), rings: RefCell::default() }
    }

    fn ring(&self, pool: &Pool) -> Option<Rc<Ring>> {
        let build = || Ring::build(&pool.hash, &pool.members()).ok().map(Rc::new);
        self.rings.borrow_mut().entry(pool.name.clone()).or_insert_with(build).clone()
    }
}

/// The first pool that has it, for how it is talked to.
fn find<'a>(config: &'a Config, address: &str) -> Option<(&'a Pool, &'a Server)> {
    let is_server = |server: &&Server| !matches!(server.endpoint, Endpoint::Embedded(_) | Endpoint::Route(_));
    let of_pool = |pool: &'a Pool| {
        let server = pool.servers.iter().filter(is_server).find(|server| server.address() == address);
        server.map(|server| (pool, server))
    };
    config.pools.iter().find_map(of_pool)
}

impl Targets for Couriers {
    fn leaf(&self, address: &str) -> Option<Rc<dyn Leaf>> {
        if let Some(leaf) = self.leaves.borrow().get(address) {
            return Some(Rc::clone(leaf));
        }
        let (pool, server) = find(&self.config, address)?;
        let pool = Pool { connections_count: 1, ..pool.clone() };
        let leaf = Destination::of_server(&pool, server, &self.shared).pop()?;
        self.leaves.borrow_mut().insert(address.to_owned(), Rc::clone(&leaf));
        Some(leaf)
    }

    fn owner(&self, pool: &str, key: &[u8]) -> Owner {
        let Some(pool) = self.config.pool(pool) else { return Owner::Nobody };
        if pool.servers.is_empty() {
            return Owner::NotYet; // their names have not been found yet
        }
        // what a server with `keep_routing_prefix` is owed has the prefix, which is no part of what is hashed
        let hashed = if pool.keeps_prefix { split_prefix(key).map_or(key, |(_, rest)| rest) } else { key };
        let server = self.ring(pool).and_then(|ring| pool.servers.get(ring.pick(hashed)?));
        // one that is no server (a route, an embedded cache) is owed nothing
        match server.and_then(|server| find(&self.config, &server.address())) {
            Some((_, server)) => Owner::Is(server.address()),
            None => Owner::Nobody,
        }
    }
}
