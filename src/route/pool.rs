//! PoolRoute: the server of a pool that a key belongs to.
//!
//! All operations: to the one server that the pool's ring gives for the key. While that is out, its keys fail, or go where
//! the pool's `on_down` says (`on_down.rs`).

use super::former_server::lane;
use super::hash::{HashRoute, delegated};
use super::hash_func::{build_ring, named, read_spec};
use super::on_down::{Goes, Plan, Watch, delete_at_both};
use super::outstanding_limit::{self, OUTSTANDING_COUNT_MAX};
use super::registry::{Key, Kind, Params};
use super::slow_warm_up::WarmUp;
use super::transition::Transition;
use super::unlogged::Unlogged;
use super::{Call, Chosen, Explained, Leaf, Route, Slot, When, rate_limit, shadow, shard_split};
use crate::config::{Node, OnError, Pool, Section};
use crate::hash::{Explained as Why, Member, Ring, Spec};
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
        Key { name: "shard_splits", what: "shards in several copies, as in `shard_split`" },
        Key { name: "max_outstanding", what: "requests under way to one server at once; the others wait" },
        Key { name: "asynclog", what: "false: deletes that fail on this way do not go to the spool" },
        Key { name: "slow_warmup", what: "a cold server gets few gets, as in `slow_warm_up`" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let name = params.text("pool", "the name of a pool")?;
    let mut route = params.pool("pool", &name)?;
    if let Some(node) = params.builder.instead_of(&name) {
        return params.builder.handle(&node, params.path());
    }
    let mut placed = params.builder.placed(&name)?;
    let plan = params.builder.plan(&name, params.path())?;
    let (hash, path) = (params.section.node("hash").map(named), params.path().key("hash"));
    let hash = match &hash {
        Some(hash) => {
            let what = "a hash function, or a map of its keys";
            Some(Params { section: Section::open(hash, &path, params.section.findings, what)?, ..*params })
        }
        None => None,
    };
    let delegated = hash.as_ref().and_then(|hash| Some((delegated(&hash.section)?, hash)));
    if let (Some(hash), None) = (&hash, &delegated) {
        placed.0 = read_spec(&hash.section, placed.1.len())?;
        build_ring(&hash.section, &placed.0, &placed.1)?;
        route = Rc::new(route.placed_by(placed.clone(), plan.clone())?);
    }
    let wraps = ["shadows", "max_outstanding", "slow_warmup"].iter().any(|key| params.has(key));
    let mut outer: Rc<dyn Route> = Rc::clone(&route) as Rc<dyn Route>;
    // from the servers outwards, as mcrouter's makePoolRoute: limit, warming up, shadows, choice, rates, splits
    if wraps || delegated.is_some() {
        let servers = wrapped(params, params.builder.destinations(&name, params.path())?)?;
        outer = match delegated {
            Some((build, hash)) => build(hash, servers)?,
            None => {
                let ring = Ring::build(&placed.0, &placed.1).ok()?;
                let leaves = route.servers().map(Rc::clone).collect();
                let watch = plan.map(|plan| Watch::new(plan, placed, leaves, &servers));
                Rc::new(HashRoute::new(ring, servers).with_watch(watch))
            }
        };
    }
    if params.has("rates") {
        outer = rate_limit::of(params, outer)?;
    }
    if params.has("shard_splits") {
        outer = shard_split::of(params, outer)?;
    }
    Some(if params.flag("asynclog", true) { outer } else { Rc::new(Unlogged(outer)) })
}

/// The route that a pool of mcrouter's without servers is: `error_on_empty` says which, and `on_error` has it. One whose servers
/// are found by a name is a pool, even while nobody has looked.
pub(super) fn instead_of(pool: &Pool) -> Option<Node> {
    let is_null = pool.on_error == OnError::Miss;
    let text = format!("HashRoute with empty children, name: {}", pool.name);
    (pool.servers.is_empty() && pool.source.is_none()).then(|| match is_null {
        true => Node::from("NullRoute"),
        false => Node::map([("type", Node::from("ErrorRoute")), ("response", Node::Text(text))]),
    })
}

/// What is done at each server by itself.
fn wrapped(params: &Params<'_>, mut servers: Vec<Rc<dyn Route>>) -> Option<Vec<Rc<dyn Route>>> {
    let count_max = params.count("max_outstanding", 0..=OUTSTANDING_COUNT_MAX);
    if let Some(count_max @ 1..) = count_max {
        servers = servers.into_iter().map(|server| outstanding_limit::of(server, count_max)).collect();
    }
    if let Some(node) = params.section.node("slow_warmup") {
        let path = params.path().key("slow_warmup");
        let section = Section::open(node, &path, params.section.findings, "a map with `failoverTarget`")?;
        let warm_up = WarmUp::read(&Params { section, ..*params })?;
        servers = servers.into_iter().map(|server| warm_up.around(server)).collect();
    }
    shadow::shadowed(params, servers)
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
    no_server_line: Box<str>,
    /// What else fails with a server, by server; empty where nobody has said.
    domains: Rc<[String]>,
    /// `None`: keys of a server that is out fail.
    watch: Option<Watch>,
    /// What becomes of keys that were another server's until lately.
    transition: Option<Rc<Transition>>,
}

impl PoolRoute {
    /// `leaves`: `lanes` for each server, in the order of the ring's members.
    #[must_use]
    pub fn new(name: String, ring: Ring, leaves: Vec<Rc<dyn Leaf>>, lanes: usize, on_error: OnError) -> Self {
        debug_assert_eq!(leaves.len(), ring.len() * lanes, "a leaf for each lane of each server");
        let no_server_line = format!("{}: {name}", Cause::NoServer.line()).into();
        let (domains, watch, transition) = (Rc::default(), None, None);
        Self { name, ring, leaves, lanes, on_error, no_server_line, domains, watch, transition }
    }

    /// With what else fails when a server does, by server.
    #[must_use]
    pub fn with_domains(self, domains: &[String]) -> Self {
        Self { domains: domains.into(), ..self }
    }

    /// The same servers, placed in another way, and with another plan for those that are out.
    pub(super) fn placed_by(&self, placed: (Spec, Vec<Member>), plan: Option<Plan>) -> Option<Self> {
        let leaves: Vec<Rc<dyn Leaf>> = self.leaves.iter().map(Rc::clone).collect();
        let ring = Ring::build(&placed.0, &placed.1).ok()?;
        let route = Self::new(self.name.clone(), ring, leaves, self.lanes, self.on_error);
        let transition = self.transition.as_ref().and_then(|transition| transition.placed_by(&placed.0));
        let route = route.with_domains(&self.domains).with_transition(transition);
        Some(match plan {
            Some(plan) => route.with_plan(placed, plan),
            None => route,
        })
    }

    /// With this plan for servers that are out.
    pub(super) fn with_plan(mut self, placed: (Spec, Vec<Member>), plan: Plan) -> Self {
        let targets: Vec<Rc<dyn Route>> =
            self.leaves.iter().map(|leaf| Rc::clone(leaf) as Rc<dyn Route>).collect();
        self.watch = Some(Watch::new(plan, placed, self.servers().map(Rc::clone).collect(), &targets));
        self
    }

    pub(super) fn with_transition(self, transition: Option<Rc<Transition>>) -> Self {
        Self { transition, ..self }
    }

    /// Its servers changed lately: some keys are looked for at two of them.
    #[inline]
    pub(super) fn is_in_transition(&self) -> bool {
        self.open_transition().is_some()
    }

    #[inline]
    fn open_transition(&self) -> Option<&Transition> {
        self.transition.as_deref().filter(|transition| transition.is_open())
    }

    /// Whether keys of servers that are out go elsewhere.
    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Whether some of its members are routes.
    pub(super) fn has_trees(&self) -> bool {
        self.leaves.iter().any(|leaf| leaf.is_tree())
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which leaf has the key; `None` when the pool is empty.
    #[inline]
    #[must_use]
    pub fn pick(&self, key: &[u8]) -> Option<usize> {
        Some(self.lane(self.server(key)?, key))
    }

    /// The key's place on the ring.
    #[inline]
    fn server(&self, key: &[u8]) -> Option<usize> {
        match &self.watch {
            None => self.ring.pick(key),
            Some(watch) => self.pick_watched(watch, key),
        }
    }

    #[inline(never)]
    fn pick_watched(&self, watch: &Watch, key: &[u8]) -> Option<usize> {
        self.server_that(&watch.goes(&self.ring, key)?, key)
    }

    fn server_that(&self, goes: &Goes<'_>, key: &[u8]) -> Option<usize> {
        match *goes {
            Goes::Home(server) | Goes::Next(server) => Some(server),
            Goes::Gutter(_) => self.ring.pick(key),
        }
    }

    /// [`Self::pick`] for many keys at once, which is cheaper for hashes that can be computed side by side. For pools that do
    /// nothing about servers that are out.
    pub fn pick_many(&self, keys: &Keys<'_>, out: &mut Vec<u32>) {
        self.ring.pick_many(keys.iter(), out);
        if self.lanes > 1 {
            for (index, key) in out.iter_mut().zip(keys.iter()) {
                *index = u32::try_from(self.lane(*index as usize, key)).unwrap_or(0);
            }
        }
    }

    #[inline]
    fn lane(&self, server: usize, key: &[u8]) -> usize {
        if self.lanes == 1 { server } else { self.lane_of_several(server, key) }
    }

    #[inline(never)]
    fn lane_of_several(&self, server: usize, key: &[u8]) -> usize {
        server * self.lanes + lane(key, self.lanes)
    }

    /// Who stands in for a key's server while that is out.
    fn target<'a>(&self, watch: &'a Watch, goes: &Goes<'a>, key: &[u8]) -> Option<&'a Rc<dyn Route>> {
        match *goes {
            Goes::Gutter(gutter) => Some(gutter),
            Goes::Next(server) => watch.target(self.lane(server, key)),
            Goes::Home(_) => None,
        }
    }

    /// Servers that have left the pool and may still have its keys.
    pub(super) fn gone_servers(&self) -> Vec<Rc<dyn Leaf>> {
        self.open_transition().map(Transition::gone).unwrap_or_default()
    }

    /// Keys that were another server's until lately take the long way.
    #[inline(never)]
    fn send_in_transition(&self, transition: &Transition, request: &Request<'_>, call: &Call, slot: Slot) {
        // Looked at once: a server may come back between two looks.
        let goes = self.watch.as_ref().and_then(|watch| Some((watch, watch.goes(&self.ring, request.key)?)));
        let server = match &goes {
            Some((_, goes)) => self.server_that(goes, request.key),
            None => self.server(request.key),
        };
        let server =
            server.filter(|server| transition.is_open() && transition.has_moved(request.key, *server));
        let Some(server) = server else { return self.send_on(request, call, slot) };
        let target = goes.as_ref().and_then(|(watch, goes)| self.target(watch, goes, request.key)).cloned();
        let leaf = || Some(Rc::clone(self.leaf(self.lane(server, request.key))?) as Rc<dyn Route>);
        let send = |slot: Slot| match target.or_else(leaf) {
            Some(now) => transition.send(server, now, request, call, slot),
            None => slot.fill(&self.no_server()),
        };
        match goes.as_ref().and_then(|(watch, goes)| watch.owed(&self.ring, request, goes)) {
            Some(owed) => delete_at_both(owed, send, request, call, slot),
            None => send(slot),
        }
    }

    #[inline]
    fn send_on(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if let Some(watch) = &self.watch {
            return self.send_watched(watch, request, call, slot);
        }
        match self.pick(request.key).and_then(|index| self.leaf(index)) {
            Some(leaf) => leaf.send(request, call, slot),
            None => slot.fill(&self.no_server()),
        }
    }

    fn send_watched(&self, watch: &Watch, request: &Request<'_>, call: &Call, slot: Slot) {
        let Some(goes) = watch.goes(&self.ring, request.key) else { return slot.fill(&self.no_server()) };
        let target = match (self.target(watch, &goes, request.key), &goes) {
            (Some(target), _) => Some(&**target),
            (None, Goes::Home(server) | Goes::Next(server)) => {
                self.leaf(self.lane(*server, request.key)).map(|leaf| &**leaf as &dyn Route)
            }
            (None, Goes::Gutter(_)) => None,
        };
        let send = |slot: Slot| match target {
            Some(target) => target.send(request, call, slot),
            None => slot.fill(&self.no_server()),
        };
        match watch.owed(&self.ring, request, &goes) {
            Some(owed) => delete_at_both(owed, send, request, call, slot),
            None => send(slot),
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

    /// What a pool says that has no servers: those of its names are gone, or not found yet.
    #[must_use]
    pub fn no_server(&self) -> Reply<'_> {
        let miss_on_error = self.on_error == OnError::Miss;
        Reply { miss_on_error, line: self.no_server_line.as_bytes(), ..Reply::failed(Cause::NoServer) }
    }

    /// All that it sends over: each server's connections.
    pub(super) fn leaves(&self) -> &[Rc<dyn Leaf>] {
        &self.leaves
    }

    /// One leaf for each server.
    pub fn servers(&self) -> impl Iterator<Item = &Rc<dyn Leaf>> {
        self.leaves.iter().step_by(self.lanes)
    }
}

impl Route for PoolRoute {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        match &self.transition {
            None => self.send_on(request, call, slot),
            Some(transition) => self.send_in_transition(transition, request, call, slot),
        }
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        if let Some(transition) = self.open_transition()
            && self.server(key).is_some_and(|server| transition.has_moved(key, server))
        {
            return None;
        }
        match &self.watch {
            None => Some(self),
            Some(watch) => watch.pool(&self.ring, self, op, key),
        }
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
        let mut here = Explained::new(format!("pool {}", self.name)).with(When::Now, placed);
        let former = self.open_transition().zip(why.index);
        if let Some(former) = former.and_then(|(open, server)| open.former_owner(request.key, server)) {
            let when = When::If("it had this key: after a miss, until the transition ends".into());
            here = here.with(when, former.explain(request));
        }
        let home = why.index.zip(self.watch.as_ref());
        match home.and_then(|(home, watch)| watch.explain(&self.ring, home, request)) {
            Some((when, instead)) => here.with(when, instead),
            None => here,
        }
    }
}
