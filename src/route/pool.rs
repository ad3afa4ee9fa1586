//! PoolRoute: the server of a pool that a key belongs to.
//!
//! All operations: to the one server that the pool's ring gives for the key. There is no second server: when it is
//! down, its keys fail.

use super::hash::{HashRoute, build_ring, read_spec};
use super::outstanding_limit::{self, OUTSTANDING_COUNT_MAX};
use super::registry::{Key, Kind, Params};
use super::{Call, Chosen, Explained, Leaf, Route, Slot, When, rate_limit, shadow};
use crate::config::{Node, OnError, Section};
use crate::hash::{Explained as Why, Member, Ring};
use crate::protocol::{Cause, Keys, Op, Reply, Request};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "PoolRoute",
    short: "pool",
    bare: "pool",
    keys: &[
        Key { name: "pool", what: "the pool's name" },
        Key {
            name: "hash",
            what: "how keys are placed, instead of what the pool says: as the keys of `hash`",
        },
        Key { name: "shadows", what: "copies of requests to other places, as in `shadow`" },
        Key { name: "rates", what: "so many requests a second, as in `rate_limit`" },
        Key { name: "fallback", what: "with `rates`: where requests beyond go" },
        Key { name: "over", what: "with `rates`: `default` or `error`" },
        Key { name: "max_outstanding", what: "requests under way to one server at once; the others wait" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let name = params.text("pool", "the name of a pool")?;
    let mut route = params.pool("pool", &name)?;
    let members = params.builder.pool_members(&name);
    if let Some(ring) = own_ring(params, &members)? {
        route = Rc::new(route.with_ring(ring));
    }
    let is_plain = !["shadows", "rates", "max_outstanding"].iter().any(|key| params.has(key));
    if is_plain {
        return Some(route);
    }
    // from the servers outwards, as mcrouter's makePoolRoute: limit, shadows, choice, rates
    let (ring, mut servers) = params.members(&name)?;
    let ring = own_ring(params, &members)?.unwrap_or(ring);
    let count_max = params.count("max_outstanding", 0..=OUTSTANDING_COUNT_MAX);
    if let Some(count_max @ 1..) = count_max {
        servers = servers.into_iter().map(|server| outstanding_limit::of(server, count_max)).collect();
    }
    let servers = shadow::shadowed(params, servers)?;
    let route: Rc<dyn Route> = Rc::new(HashRoute::new(ring, servers));
    if params.has("rates") { rate_limit::of(params, route) } else { Some(route) }
}

/// `hash`: a name, or a map with the keys of HashRoute.
fn own_ring(params: &Params<'_>, members: &[Member]) -> Option<Option<Ring>> {
    let Some(node) = params.section.node("hash") else { return Some(None) };
    let path = params.path().key("hash");
    let named = match node {
        Node::Text(_) => Node::Map(vec![("hash_func".to_owned(), node.clone())]),
        _ => node.clone(),
    };
    let section =
        Section::open(&named, &path, params.section.findings, "a hash function, or a map of its keys")?;
    let spec = read_spec(&section, members.len())?;
    build_ring(&section, &spec, members).map(Some)
}

/// A pool as a worker uses it: the ring, and a leaf for each place on it.
pub struct PoolRoute {
    name: String,
    ring: Ring,
    /// `leaves[server * lanes + lane]`.
    leaves: Vec<Rc<dyn Leaf>>,
    /// Connections per server; one key always takes the same, so that its requests stay in order.
    lanes: usize,
    on_error: OnError,
    /// What else fails with a server, by server; empty where nobody has said.
    domains: Rc<[String]>,
}

impl PoolRoute {
    /// `leaves`: `lanes` for each server, in the order of the ring's members.
    #[must_use]
    pub fn new(name: String, ring: Ring, leaves: Vec<Rc<dyn Leaf>>, lanes: usize, on_error: OnError) -> Self {
        debug_assert_eq!(leaves.len(), ring.len() * lanes, "a leaf for each lane of each server");
        Self { name, ring, leaves, lanes, on_error, domains: Rc::default() }
    }

    /// With what else fails when a server does, by server.
    #[must_use]
    pub fn with_domains(self, domains: &[String]) -> Self {
        Self { domains: domains.into(), ..self }
    }

    /// The same servers, placed in another way.
    fn with_ring(&self, ring: Ring) -> Self {
        let leaves = self.leaves.iter().map(Rc::clone).collect();
        let domains = Rc::clone(&self.domains);
        Self { name: self.name.clone(), ring, leaves, lanes: self.lanes, on_error: self.on_error, domains }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which leaf has the key; `None` when the pool is empty.
    #[inline]
    #[must_use]
    pub fn pick(&self, key: &[u8]) -> Option<usize> {
        let server = self.ring.pick(key)?;
        Some(self.lane(server, key))
    }

    /// [`Self::pick`] for many keys at once, which is cheaper for hashes that can be computed side by side.
    pub fn pick_many(&self, keys: &Keys<'_>, out: &mut Vec<u32>) {
        self.ring.pick_many(keys.iter(), out);
        if self.lanes > 1 {
            for (index, key) in out.iter_mut().zip(keys.iter()) {
                *index = u32::try_from(self.lane(*index as usize, key)).unwrap_or(0);
            }
        }
    }

    fn lane(&self, server: usize, key: &[u8]) -> usize {
        if self.lanes == 1 {
            server
        } else {
            server * self.lanes + crc32fast::hash(key) as usize % self.lanes
        }
    }

    #[must_use]
    pub fn leaf(&self, index: usize) -> Option<&Rc<dyn Leaf>> {
        self.leaves.get(index)
    }

    /// Whether its leaves want failed gets to be told to clients as misses.
    pub(super) fn is_miss_on_error(&self) -> bool {
        self.on_error == OnError::Miss
    }

    /// Why the key is where it is, in words.
    fn reason(&self, why: &Why<'_>, key: &[u8]) -> String {
        let Some(hash) = why.hash else {
            return if self.ring.len() < 2 { "nothing to choose" } else { "another server each time" }.into();
        };
        let mut part = if why.hashed == key { String::new() } else { " (part of the key)".to_owned() };
        if !self.ring.salt().is_empty() {
            part.push_str(&format!(" and the salt `{}`", self.ring.salt()));
        }
        let hashed = String::from_utf8_lossy(why.hashed);
        let points = if why.points == self.ring.len() {
            String::new()
        } else {
            format!(", among {} points", why.points)
        };
        format!("{} of `{hashed}`{part} = {hash}{points}", why.function)
    }

    /// One leaf for each server.
    pub fn servers(&self) -> impl Iterator<Item = &Rc<dyn Leaf>> {
        self.leaves.iter().step_by(self.lanes)
    }
}

impl Route for PoolRoute {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        match self.pick(request.key).and_then(|index| self.leaf(index)) {
            Some(leaf) => leaf.send(request, call, slot),
            None => slot.fill(&Reply::failed(Cause::NoServer)),
        }
    }

    fn pool(&self, _op: Op, _key: &[u8]) -> Option<&PoolRoute> {
        Some(self)
    }

    fn chosen(&self, _op: Op, key: &[u8]) -> Chosen<'_> {
        let place = self.ring.place(key);
        let domain = match self.domains.as_ref() {
            [only] => Some(only.as_str()),
            domains => place.and_then(|place| domains.get(place)).map(String::as_str),
        };
        Chosen { place, domain }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let why = self.ring.explain(request.key);
        let placed = Explained::new(format!("{}: {}", self.ring.placement(), self.reason(&why, request.key)));
        let placed = match why.index.and_then(|index| self.leaves.get(index * self.lanes)) {
            Some(leaf) => placed.with(When::Now, leaf.explain(request)),
            None => placed.with(When::Now, Explained::new(format!("any of {} servers", self.ring.len()))),
        };
        Explained::new(format!("pool {}", self.name)).with(When::Now, placed)
    }
}
