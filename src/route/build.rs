//! From the routes as written to the tree that a worker uses.
//!
//! A handle is a name (of a pool, of a named handle, of a route without keys), a short form (`FailoverRoute|Pool|A`),
//! a map (`{type: failover, children: […]}`, or ours: `{failover: […]}`), or a list where several are wanted.

use super::doubt;
use super::expect;
use super::keep_prefix::KeepPrefix;
use super::member::RouteMember;
use super::on_down::Plan;
use super::registry::{self, KINDS, Params};
use super::root::Prefixes;
use super::transition::{Past, Transition};
use super::{Explained, Fed, Leaf, PoolRoute, Root, Route, Target};
use super::{domain, pool, shadow};
use crate::config::{
    At, Config, DEFAULT_PREFIX, Dialect, Endpoint, Findings, Location, Node, OnDown, Path, Pool, Problem,
    RouteNode, Section, Server, nearest_help, quoted, value,
};
use crate::hash::{Member, Ring, Spec, SpecError};
use crate::protocol::Request;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// Routes within routes. Deeper ones are not written by hand, and the tree is walked by recursion.
const NESTED_MAX: usize = 64;
/// Routes that one request may come by, counted wherever they are used: handles that are made of handles, each used twice,
/// are a few lines, and a request that is sent on for ever.
const ROUTES_COUNT_MAX: usize = 1_000_000;

/// Who makes the ends of the tree.
pub trait Leaves {
    /// `lanes` leaves for each server of the pool, in the order of its list; and the number of lanes.
    fn of_pool(&self, pool: &Pool) -> (Vec<Rc<dyn Leaf>>, usize);

    /// The pool's ring, which may have been built before.
    ///
    /// # Errors
    /// What is wrong with it, where it has not been checked.
    fn ring(&self, pool: &Pool) -> Result<Ring, SpecError> {
        Ring::build(&pool.hash, &pool.members())
    }

    /// What is still to be remembered of this pool's past.
    fn past(&self, pool: &Pool) -> Option<Past> {
        let _ = pool;
        None
    }

    /// Who is told of deletes.
    fn fed(&self) -> Option<Fed> {
        None
    }
}

/// Builds the tree of a configuration that has been checked.
///
/// # Errors
/// What is wrong, where it has not been checked.
pub fn build(config: &Config, leaves: &dyn Leaves) -> Result<Root, String> {
    let findings = Findings::default();
    let builder = Builder::new(config, leaves, &findings);
    match builder.root() {
        Some(root) if findings.faults_count() == 0 => Ok(root),
        _ => Err(findings.first().unwrap_or_else(|| "the routes lead nowhere".into())),
    }
}

/// What becomes of a request, without sending it anywhere; nothing is connected.
///
/// # Errors
/// As [`build`].
pub fn explain(config: &Config, request: &Request<'_>) -> Result<Explained, String> {
    Ok(unconnected(config)?.explain(request))
}

/// A tree whose ends lead nowhere, to be asked where requests would go.
///
/// # Errors
/// As [`build`].
pub fn unconnected(config: &Config) -> Result<Root, String> {
    build(config, &NoLeaves)
}

/// Looks at the routes of a configuration: builds them without any server.
pub fn check(config: &Config, findings: &Findings) {
    let builder = Builder { is_draft: true, ..Builder::new(config, &NoLeaves, findings) };
    let is_built = builder.root().is_some();
    expect::check(config, findings);
    if is_built && findings.faults_count() == 0 {
        doubt::look(config, findings);
    }
}

/// [`check`]; and the `tests` of the configuration have to come out as they say.
pub fn check_and_test(config: &Config, findings: &Findings) {
    check(config, findings);
    if findings.faults_count() == 0 {
        expect::run(config, findings);
    }
}

/// What a tree is built from.
pub struct Builder<'a> {
    config: &'a Config,
    leaves: &'a dyn Leaves,
    findings: &'a Findings,
    /// The tree is only looked at: rings are checked and not built.
    is_draft: bool,
    by_name: HashMap<&'a str, &'a Pool>,
    /// `None`: something is wrong with it, which is on record.
    pools: RefCell<HashMap<String, Option<Rc<PoolRoute>>>>,
    /// Pools of which the members are being built.
    pools_under_way: RefCell<BTreeSet<String>>,
    named: RefCell<HashMap<String, Named>>,
    used_handles: RefCell<BTreeSet<String>>,
    /// Pools that wait for their gutters.
    under_way: RefCell<BTreeSet<String>>,
    /// Keys of mcrouter's that no route reads, told already.
    unread: RefCell<BTreeSet<String>>,
    depth: Cell<usize>,
    /// Met so far.
    routes_count: Cell<usize>,
    /// Of handles, and of pools that have routes among their members: how many routes they stand for.
    sizes: RefCell<HashMap<String, usize>>,
}

#[derive(Clone)]
enum Named {
    /// Under way: who meets it now is part of itself.
    Building,
    Built(Option<Rc<dyn Route>>),
}

impl<'a> Builder<'a> {
    fn new(config: &'a Config, leaves: &'a dyn Leaves, findings: &'a Findings) -> Self {
        Self {
            config,
            leaves,
            findings,
            is_draft: false,
            by_name: config.pools.iter().map(|pool| (pool.name.as_str(), pool)).collect(),
            pools: RefCell::default(),
            pools_under_way: RefCell::default(),
            named: RefCell::default(),
            used_handles: RefCell::default(),
            under_way: RefCell::default(),
            unread: RefCell::default(),
            depth: Cell::new(0),
            routes_count: Cell::new(0),
            sizes: RefCell::default(),
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.config.routes.dialect
    }

    /// No value of a client is longer.
    pub(super) fn value_bytes_max(&self) -> usize {
        self.config.settings.limits.value_bytes_max
    }

    fn root(&self) -> Option<Root> {
        let document = Section::open(&self.config.routes.document, &Path::ROOT, self.findings, "routes")?;
        // What is named is checked even where nobody uses it.
        let named = self.named_handles(&document);
        let entries = self.entries(&document);
        named?;
        let (default, prefixes) = entries?;
        self.warn_unused();
        // `flush_all` goes to every server of every pool, those included that no route leads to.
        let pools = Path::ROOT.key("pools");
        let all = self.config.pools.iter().map(|pool| self.pool(&pool.name, &pools.key(&pool.name)));
        Some(Root::new(default, prefixes, self.leaves.fed(), all.collect::<Option<_>>()?))
    }

    /// `route`, or `routes` with their prefixes; and which is the default.
    fn entries(&self, document: &Section<'a>) -> Option<(Rc<dyn Route>, Option<Prefixes>)> {
        let what = "a routing prefix such as `/region/cluster/`";
        let default = document.value("default_route", |node| {
            let text = value::text(node, what)?;
            if is_prefix(&text) { Ok(text) } else { Err(value::expected(what, node)) }
        });
        let default = default.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
        let to_default = document.value("send_invalid_route_to_default", value::boolean).unwrap_or(false);
        let mut entries: Vec<(String, Rc<dyn Route>)> =
            match (document.node("route"), document.node("routes")) {
                (Some(_), Some(_)) => {
                    let problem = Problem::new("Invalid config: both 'route' and 'routes' are specified");
                    self.findings.fault(&Path::ROOT.key("routes"), At::Key, problem);
                    return None;
                }
                (Some(node), None) => {
                    let route = self.handle(node, &Path::ROOT.key("route"))?;
                    if self.dialect() == Dialect::Ringway {
                        return Some((route, None));
                    }
                    vec![(default.clone(), route)]
                }
                (None, Some(node)) => self.read_routes(node)?,
                (None, None) => {
                    let problem = Problem::new("No route/routes in config");
                    self.findings.fault(&Path::ROOT, At::Value, problem);
                    return None;
                }
            };
        let Some(index) = entries.iter().position(|(prefix, _)| *prefix == default) else {
            let problem = Problem::new(format!("invalid default route: {default}"));
            let problem = problem.help("`default_route` is one of the prefixes under `routes`");
            self.findings.fault(&Path::ROOT.key("routes"), At::Key, problem);
            return None;
        };
        let first = entries.remove(index);
        entries.insert(0, first);
        let default = Rc::clone(&entries[0].1);
        let entries = entries.into_iter().map(|(prefix, route)| (Rc::from(prefix.as_bytes()), route));
        let are_kept = self.config.pools.iter().any(|pool| pool.keeps_prefix);
        Some((default, Some(Prefixes::new(entries.collect(), to_default, are_kept))))
    }

    /// `routes`: a map from prefixes to routes, or a list of `{aliases: […], route: …}`.
    fn read_routes(&self, node: &Node) -> Option<Vec<(String, Rc<dyn Route>)>> {
        let path = Path::ROOT.key("routes");
        let mut entries = Vec::new();
        let mut is_sound = true;
        let mut add = |prefix: &str, path: &Path<'_>, route: Option<&Rc<dyn Route>>| {
            if !is_prefix(prefix) {
                let problem = Problem::new(format!("{} is no routing prefix", quoted(prefix)));
                self.findings.fault(path, At::Key, problem.help("as in `/region/cluster/`"));
                is_sound = false;
            } else if let Some(route) = route {
                entries.push((prefix.to_owned(), Rc::clone(route)));
            } else {
                is_sound = false;
            }
        };
        match node {
            Node::Map(map) => {
                for (prefix, node) in map {
                    let path = path.key(prefix);
                    let route = self.handle(node, &path);
                    add(prefix, &path, route.as_ref());
                }
            }
            Node::List(list) => {
                for (i, node) in list.iter().enumerate() {
                    let path = path.index(i);
                    let entry =
                        Section::open(node, &path, self.findings, "a map with `aliases` and `route`")?;
                    let (aliases, route) = (path.key("aliases"), path.key("route"));
                    let (Some(Node::List(names)), Some(node)) = (entry.node("aliases"), entry.node("route"))
                    else {
                        let problem = Problem::new("expected `aliases`, a list of prefixes, and `route`");
                        self.findings.fault(&path, At::Value, problem);
                        return None;
                    };
                    let built = self.handle(node, &route);
                    for (i, name) in names.iter().enumerate() {
                        let prefix = if let Node::Text(name) = name { name.as_str() } else { "" };
                        add(prefix, &aliases.index(i), built.as_ref());
                    }
                }
            }
            other => {
                let problem = value::expected("a map from prefixes to routes, or a list", other);
                self.findings.fault(&path, At::Value, problem);
                return None;
            }
        }
        is_sound.then_some(entries)
    }

    /// `named_handles`: a map from names to handles, or mcrouter's list of objects that have a `name`.
    fn named_handles(&self, document: &Section<'a>) -> Option<()> {
        let path = Path::ROOT.key("named_handles");
        match document.node("named_handles") {
            None => Some(()),
            Some(Node::Map(entries)) => {
                let built = entries.iter().map(|(name, _)| self.named(name, &path.key(name)).map(drop));
                built.collect::<Vec<_>>().into_iter().collect()
            }
            Some(Node::List(list)) => {
                let one = |(i, node): (usize, &Node)| self.handle(node, &path.index(i)).map(drop);
                list.iter().enumerate().map(one).collect::<Vec<_>>().into_iter().collect()
            }
            Some(other) => {
                let problem = value::expected("a map from names to routes", other);
                self.findings.fault(&path, At::Value, problem);
                None
            }
        }
    }

    /// One route.
    pub(super) fn handle(&self, node: &Node, path: &Path<'_>) -> Option<Rc<dyn Route>> {
        let too_many = || {
            let text = format!("routes nested deeper than {NESTED_MAX}, or more than {ROUTES_COUNT_MAX}");
            self.findings.fault(path, At::Value, Problem::new(text));
            None
        };
        if self.depth.get() >= NESTED_MAX || self.routes_count.get() >= ROUTES_COUNT_MAX {
            return too_many();
        }
        self.depth.set(self.depth.get() + 1);
        self.routes_count.set(self.routes_count.get() + 1);
        let built = match node {
            Node::Text(text) => self.by_name(text, path),
            Node::Map(map) => self.of_map(node, map, path),
            Node::List(list) => match list.as_slice() {
                [only] => self.handle(only, &path.index(0)),
                _ => {
                    let text = format!("one route is wanted here, not {}", list.len());
                    self.findings.fault(path, At::Value, Problem::new(text));
                    None
                }
            },
            _ => {
                let problem = value::expected("a route or the name of a pool", node);
                let problem = match node {
                    Node::Null => problem.help("the route that knows nothing is written in quotes: \"null\""),
                    _ => problem,
                };
                self.findings.fault(path, At::Value, problem);
                None
            }
        };
        self.depth.set(self.depth.get() - 1);
        if built.is_some() && self.routes_count.get() > ROUTES_COUNT_MAX { too_many() } else { built }
    }

    /// Several routes: a list of them, or one; `Pool|name` and `{type: Pool}` stand for all servers of a pool.
    pub(super) fn children(&self, node: &Node, path: &Path<'_>) -> Option<Vec<Rc<dyn Route>>> {
        match node {
            Node::List(list) => {
                let each = list.iter().enumerate().map(|(i, node)| self.children(node, &path.index(i)));
                // every one is read, so that the first fault does not hide the next
                let each: Option<Vec<_>> = each.collect::<Vec<_>>().into_iter().collect();
                Some(each?.into_iter().flatten().collect())
            }
            Node::Text(text) if text.is_empty() => Some(Vec::new()),
            Node::Text(text) if text.starts_with("Pool|") && !self.is_named(text) => {
                self.destinations(&text["Pool|".len()..], path)
            }
            Node::Map(map) if node_text(map, "type") == Some("Pool") => {
                let name = node_text(map, "pool").or_else(|| node_text(map, "name")).unwrap_or_default();
                self.destinations(name, path)
            }
            // mcrouter's ShadowRoute stands for as many routes as it has children
            Node::Map(map) if matches!(node_text(map, "type"), Some("ShadowRoute" | "shadow")) => {
                let section = Section::open(node, path, self.findings, "the keys of a route")?;
                shadow::children(&Params { builder: self, kind: &shadow::KIND, section })
            }
            _ => Some(vec![self.handle(node, path)?]),
        }
    }

    /// The servers of a pool, each as a route of its own.
    pub(super) fn destinations(&self, name: &str, path: &Path<'_>) -> Option<Vec<Rc<dyn Route>>> {
        let route = self.pool(name, path)?;
        if self.by_name.get(name)?.source.is_some() && route.servers().next().is_none() {
            return Some(vec![route]); // its names have no servers now: it says so, where an empty list would be silent
        }
        let servers = route.servers().map(|leaf| Rc::clone(leaf) as Rc<dyn Route>);
        let domains = &self.by_name.get(name)?.failure_domains;
        if domains.is_empty() {
            return Some(servers.collect());
        }
        Some(servers.zip(domains).map(|(server, domain)| domain::of(server, domain)).collect())
    }

    /// How a pool places its keys, and its members as its ring sees them.
    pub(super) fn placed(&self, name: &str) -> Option<(Spec, Vec<Member>)> {
        self.by_name.get(name).map(|pool| (pool.hash.clone(), pool.members()))
    }

    /// What a pool does about servers that are out, if anything.
    pub(super) fn plan(&self, name: &str, path: &Path<'_>) -> Option<Option<Plan>> {
        match &self.by_name.get(name)?.on_down {
            OnDown::Fail => Some(None),
            OnDown::Eject => Some(Some(Plan::Eject)),
            OnDown::Failover { gutter: None, exptime_s } => Some(Some(Plan::Next { exptime_s: *exptime_s })),
            OnDown::Failover { gutter: Some(gutter), exptime_s } => {
                let gutter = self.pool_route(gutter, path)?;
                Some(Some(Plan::Gutter { gutter, exptime_s: *exptime_s }))
            }
        }
    }

    fn ring(&self, pool: &Pool) -> Result<Ring, SpecError> {
        if self.is_draft { Ring::unplaced(&pool.hash, &pool.members()) } else { self.leaves.ring(pool) }
    }

    /// What mcrouter's pool of this name is instead of a pool.
    pub(super) fn instead_of(&self, name: &str) -> Option<Node> {
        let is_mcrouters = self.dialect() == Dialect::Mcrouter;
        self.by_name.get(name).filter(|_| is_mcrouters).and_then(|pool| pool::instead_of(pool))
    }

    pub(super) fn pool_route(&self, name: &str, path: &Path<'_>) -> Option<Rc<dyn Route>> {
        self.pool(name, path).map(|pool| pool as Rc<dyn Route>)
    }

    pub(super) fn pool(&self, name: &str, path: &Path<'_>) -> Option<Rc<PoolRoute>> {
        if let Some(pool) = self.pools.borrow().get(name) {
            self.count_again(&format!("Pool|{name}"));
            return pool.clone();
        }
        let Some(pool) = self.by_name.get(name).copied() else {
            let names: Vec<&str> = self.config.pools.iter().map(|pool| pool.name.as_str()).collect();
            let problem = Problem::new(format!("there is no pool {}", quoted(name)));
            self.findings.fault(path, At::Value, problem.help(nearest_help(name, &names)));
            return None;
        };
        let ring = match self.ring(pool) {
            Ok(ring) => ring,
            Err(error) => {
                // most likely on record already, with its place in the pool
                if self.findings.faults_count() == 0 {
                    let problem = Problem::new(format!("pool {}: {error}", quoted(name)));
                    self.findings.fault(path, At::Value, problem);
                }
                return None;
            }
        };
        if !self.pools_under_way.borrow_mut().insert(name.to_owned()) {
            let problem = Problem::new(format!("the pool {} is part of itself", quoted(name)));
            self.findings.fault(path, At::Value, problem);
            return None;
        }
        let before = self.routes_count.get();
        let leaves = self.leaves_of(pool);
        self.count_since(before, &format!("Pool|{name}"));
        self.pools_under_way.borrow_mut().remove(name);
        let Some((leaves, lanes)) = leaves else {
            self.pools.borrow_mut().insert(name.to_owned(), None);
            return None;
        };
        let transition = self.transition(pool, &leaves, lanes);
        let route = PoolRoute::new(pool.name.clone(), ring, leaves, lanes, pool.on_error);
        let mut route = route.with_domains(&pool.failure_domains).with_transition(transition);
        if pool.on_down != OnDown::Fail {
            if !self.under_way.borrow_mut().insert(name.to_owned()) {
                let problem = Problem::new(format!("the pool {} is its own gutter", quoted(name)));
                self.findings.fault(path, At::Value, problem);
                return None;
            }
            let path = Path::ROOT.key("pools");
            let plan = self.plan(name, &path.key(name).key("on_down").key("gutter"));
            self.under_way.borrow_mut().remove(name);
            if let Some(plan) = plan? {
                route = route.with_plan(self.placed(name)?, plan);
            }
        }
        let route = Rc::new(route);
        self.pools.borrow_mut().insert(pool.name.clone(), Some(Rc::clone(&route)));
        Some(route)
    }

    /// The leaves of a pool, `lanes` for each member in the order of the list, and how many that are.
    fn leaves_of(&self, pool: &Pool) -> Option<(Vec<Rc<dyn Leaf>>, usize)> {
        let is_server = |server: &&Server| !matches!(server.endpoint, Endpoint::Route(_));
        let (mut leaves, lanes) = if pool.servers.iter().all(|server| is_server(&server)) {
            self.leaves.of_pool(pool)
        } else {
            let servers = pool.servers.iter().filter(is_server).cloned().collect();
            let (of_servers, lanes) = self.leaves.of_pool(&Pool { servers, ..pool.clone() });
            (self.with_members(pool, of_servers, lanes)?, lanes)
        };
        if pool.keeps_prefix {
            leaves = leaves.into_iter().map(|leaf| Rc::new(KeepPrefix(leaf)) as Rc<dyn Leaf>).collect();
        }
        Some((leaves, lanes))
    }

    /// `leaves`: those of the pool as it is now.
    fn transition(&self, pool: &Pool, leaves: &[Rc<dyn Leaf>], lanes: usize) -> Option<Rc<Transition>> {
        let mut past = self.leaves.past(pool)?;
        if pool.keeps_prefix {
            for leaf in past.changes.iter_mut().flat_map(|change| &mut change.gone).flatten() {
                *leaf = Rc::new(KeepPrefix(Rc::clone(leaf)));
            }
        }
        Transition::start(past, pool, leaves, lanes)
    }

    /// Routes among the servers, each in its place.
    fn with_members(
        &self,
        pool: &Pool,
        of_servers: Vec<Rc<dyn Leaf>>,
        lanes: usize,
    ) -> Option<Vec<Rc<dyn Leaf>>> {
        let pools = Path::ROOT.key("pools");
        let path = pools.key(&pool.name);
        let path = path.key("servers");
        let mut of_servers = of_servers.into_iter();
        let mut leaves = Some(Vec::with_capacity(pool.servers.len() * lanes));
        for (i, server) in pool.servers.iter().enumerate() {
            let Endpoint::Route(RouteNode { node, .. }) = &server.endpoint else {
                let mut of_server = of_servers.by_ref().take(lanes);
                leaves.iter_mut().for_each(|leaves| leaves.extend(of_server.by_ref()));
                continue;
            };
            let path = path.index(i);
            let route = match self.dialect() {
                Dialect::Ringway => self.handle(node, &path.key("route")),
                Dialect::Mcrouter => self.handle(node, &path),
            };
            let member = route.map(|route| Rc::new(RouteMember::new(route, server.label())) as Rc<dyn Leaf>);
            // every one is built, so that the first fault does not hide the next
            leaves = leaves.zip(member).map(|(mut leaves, member)| {
                leaves.extend(std::iter::repeat_n(member, lanes));
                leaves
            });
        }
        leaves
    }

    fn by_name(&self, text: &str, path: &Path<'_>) -> Option<Rc<dyn Route>> {
        if self.is_named(text) {
            return self.named(text, path);
        }
        if let Some((name, rest)) = text.split_once('|') {
            let Some(kind) = registry::find(name) else { return self.unknown(name, path) };
            let node = Node::Map(vec![(kind.bare.to_owned(), Node::Text(rest.to_owned()))]);
            return self.of_kind(kind, &node, path);
        }
        if self.by_name.contains_key(text) && self.dialect() == Dialect::Ringway {
            return self.pool_route(text, path);
        }
        match registry::find(text) {
            Some(kind) => self.of_kind(kind, &Node::Map(Vec::new()), path),
            None => self.unknown(text, path),
        }
    }

    /// `{type: …}`, or ours: one key that is a route's name.
    fn of_map(&self, node: &Node, map: &[(String, Node)], path: &Path<'_>) -> Option<Rc<dyn Route>> {
        if let Some(kind) = node_text(map, "type") {
            let Some(kind) = registry::find(kind) else { return self.unknown_type(kind, path) };
            let name = node_text(map, "name");
            if let Some(Named::Built(built)) = name.and_then(|name| self.named.borrow().get(name).cloned()) {
                self.count_again(name.unwrap_or_default());
                return built; // the first of a name is the one
            }
            let before = self.routes_count.get();
            let built = self.of_kind(kind, node, path);
            if let Some(name) = name {
                self.count_since(before, name);
                self.named.borrow_mut().insert(name.to_owned(), Named::Built(built.clone()));
            }
            return built;
        }
        let [(name, value)] = map else {
            let problem = Problem::new("a route has a `type`, or is written `name: …` with one key");
            let help = "as in `failover: [main, gutter]`, or `{type: failover, children: [main, gutter]}`";
            self.findings.fault(path, At::Value, problem.help(help));
            return None;
        };
        let Some(kind) = registry::find(name) else { return self.unknown(name, &path.key(name)) };
        let path = path.key(name);
        if let Node::Map(inner) = value
            && (kind.keys.iter().any(|key| inner.iter().any(|(k, _)| k == key.name)) || inner.is_empty())
        {
            return self.of_kind(kind, value, &path);
        }
        let bare = Node::Map(match value {
            Node::Null => Vec::new(),
            _ => vec![(kind.bare.to_owned(), value.clone())],
        });
        self.of_kind(kind, &bare, &path)
    }

    pub(super) fn of_kind(
        &self,
        kind: &'static registry::Kind,
        node: &Node,
        path: &Path<'_>,
    ) -> Option<Rc<dyn Route>> {
        let section = Section::open(node, path, self.findings, "the keys of a route")?;
        let known: Vec<&str> = kind.keys.iter().map(|key| key.name).chain(["type", "name"]).collect();
        match self.dialect() {
            Dialect::Ringway => section.refuse_unknown(&known, &[]),
            Dialect::Mcrouter => self.warn_unread(&section, &known),
        }
        (kind.build)(&Params { builder: self, kind, section })
    }

    /// Each key that is not read is told once.
    fn warn_unread(&self, section: &Section<'_>, known: &[&str]) {
        for key in section.keys().filter(|key| !known.contains(key)) {
            if self.unread.borrow_mut().insert(key.to_owned()) {
                let problem = Problem::new(format!("{} is not read", quoted(key)));
                self.findings.warn(&section.path.key(key), At::Key, problem);
            }
        }
    }

    /// What is met again is walked again by every request.
    fn count_again(&self, name: &str) {
        let size = self.sizes.borrow().get(name).copied().unwrap_or(0);
        self.routes_count.set(self.routes_count.get().saturating_add(size));
    }

    fn count_since(&self, before: usize, name: &str) {
        let size = self.routes_count.get().saturating_sub(before);
        self.sizes.borrow_mut().insert(name.to_owned(), size);
    }

    fn is_named(&self, name: &str) -> bool {
        self.named.borrow().contains_key(name) || self.written_handle(name).is_some()
    }

    fn written_handle(&self, name: &str) -> Option<&'a Node> {
        let Node::Map(document) = &self.config.routes.document else { return None };
        let (_, handles) = document.iter().find(|(key, _)| key == "named_handles")?;
        match handles {
            Node::Map(handles) => handles.iter().find(|(key, _)| key == name).map(|(_, node)| node),
            Node::List(list) => list
                .iter()
                .find(|node| matches!(node, Node::Map(map) if node_text(map, "name") == Some(name))),
            _ => None,
        }
    }

    fn named(&self, name: &str, path: &Path<'_>) -> Option<Rc<dyn Route>> {
        if self.depth.get() > 0 {
            self.used_handles.borrow_mut().insert(name.to_owned());
        }
        let known = self.named.borrow().get(name).cloned();
        match known {
            Some(Named::Built(route)) => {
                self.count_again(name);
                return route;
            }
            Some(Named::Building) => {
                let problem = Problem::new(format!("the handle {} is part of itself", quoted(name)));
                self.findings.fault(path, At::Value, problem);
                return None;
            }
            None => {}
        }
        let node = self.written_handle(name)?;
        let before = self.routes_count.get();
        self.named.borrow_mut().insert(name.to_owned(), Named::Building);
        let handles = Path::ROOT.key("named_handles");
        let built = self.handle(node, &handles.key(name));
        self.count_since(before, name);
        self.named.borrow_mut().insert(name.to_owned(), Named::Built(built.clone()));
        built
    }

    /// An object's type; in the words that mcrouter's users search for.
    fn unknown_type(&self, name: &str, path: &Path<'_>) -> Option<Rc<dyn Route>> {
        if self.dialect() == Dialect::Ringway {
            return self.unknown(name, &path.key("type"));
        }
        let problem = Problem::new(format!("Unknown RouteHandle: {name}")).with_line();
        self.findings.fault(path, At::Value, problem);
        None
    }

    fn unknown(&self, name: &str, path: &Path<'_>) -> Option<Rc<dyn Route>> {
        // A million unknown names are not a million distances.
        if self.findings.is_full() {
            self.findings.count_one_more();
            return None;
        }
        let problem = if self.dialect() == Dialect::Mcrouter {
            Problem::new(format!("Unknown type or Missing Name Handle : {name}"))
        } else {
            let mut known: Vec<&str> = self.config.pools.iter().map(|pool| pool.name.as_str()).collect();
            known.extend(KINDS.iter().map(|kind| kind.short));
            Problem::new(format!("there is no pool {}", quoted(name))).help(nearest_help(name, &known))
        };
        self.findings.fault(path, At::Value, problem);
        None
    }

    fn warn_unused(&self) {
        let (used, pools) = (self.pools.borrow(), Path::ROOT.key("pools"));
        for pool in self.config.pools.iter().filter(|pool| !used.contains_key(&pool.name)) {
            let problem = Problem::new("no route leads to this pool");
            self.findings.warn(&pools.key(&pool.name), At::Key, problem);
        }
        let (used, handles) = (self.used_handles.borrow(), Path::ROOT.key("named_handles"));
        if let Node::Map(document) = &self.config.routes.document
            && let Some((_, Node::Map(written))) = document.iter().find(|(key, _)| key == "named_handles")
        {
            for (name, _) in written.iter().filter(|(name, _)| !used.contains(name)) {
                let problem = Problem::new("no route uses this handle");
                self.findings.warn(&handles.key(name), At::Key, problem);
            }
        }
    }
}

/// `/region/cluster/`.
pub(super) fn is_prefix(text: &str) -> bool {
    text.parse::<Location>().is_ok()
}

fn node_text<'n>(map: &'n [(String, Node)], key: &str) -> Option<&'n str> {
    match map.iter().find(|(k, _)| k == key) {
        Some((_, Node::Text(text))) => Some(text),
        _ => None,
    }
}

/// For checking: leaves that lead nowhere.
struct NoLeaves;

impl Leaves for NoLeaves {
    fn of_pool(&self, pool: &Pool) -> (Vec<Rc<dyn Leaf>>, usize) {
        let name: Rc<str> = pool.name.as_str().into();
        let leaf = |server: &Server| {
            let (label, address) = (server.label(), server.address());
            Rc::new(NoLeaf { label, address, pool: Rc::clone(&name) }) as Rc<dyn Leaf>
        };
        (pool.servers.iter().map(leaf).collect(), 1)
    }
}

struct NoLeaf {
    label: String,
    address: String,
    pool: Rc<str>,
}

impl Route for NoLeaf {
    fn send(&self, _request: &Request<'_>, _call: &super::Call, slot: super::Slot) {
        drop(slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let Self { label, address, pool } = self;
        let told =
            if label == address { format!("server {label}") } else { format!("server {label}, {address}") };
        let (name, address, pool) = (label.clone(), address.clone(), pool.to_string());
        Explained::server(told, Target { name, address, pool, key: request.key.to_vec() })
    }
}

impl Leaf for NoLeaf {
    fn send_multi(&self, _request: &crate::protocol::MultiGet<'_>, _call: &super::Call, slot: super::Slot) {
        drop(slot);
    }

    fn flush_all(&self, _delay: i32, slot: super::Slot) {
        drop(slot);
    }

    fn name(&self) -> &str {
        &self.label
    }
}
