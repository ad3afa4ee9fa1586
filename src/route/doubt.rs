//! What is legal in a tree of routes and most likely not meant. Each of these has cost somebody a night: a failover to the same
//! servers, deletes that a rate limit throws away, a ring whose members have no names.
//!
//! Routes are looked at as they were written, because a built tree no longer knows where in the text it comes from.

use super::hash_func::read_function;
use super::registry::{self, Kind};
use crate::config::{At, Config, Dialect, Endpoint, Findings, Node, OnDown, Path, Pool, Problem, quoted};
use crate::hash::Placement;
use std::cell::Cell;

/// Tells all that looks wrong in a tree that can be built.
pub(super) fn look(config: &Config, findings: &Findings) {
    let doubter = Doubter { config, findings, is_host_told: Cell::new(false) };
    let root = &Path::ROOT;
    let Node::Map(document) = &config.routes.document else { return };
    let has = |wanted: &str| document.iter().any(|(key, _)| key == wanted);
    for (key, node) in document {
        let path = root.key(key);
        match key.as_str() {
            // it says where we are, too; mcrouter's files have it from a flag
            "default_route"
                if config.routes.dialect == Dialect::Mcrouter
                    || config.pools.iter().any(|pool| pool.location.is_some()) => {}
            "default_route" | "send_invalid_route_to_default" if !has("routes") => {
                findings.warn(&path, At::Key, Problem::new("it does nothing without `routes`"));
            }
            "route" => doubter.first(node, &path),
            "routes" => {
                if let Node::Map(entries) = node {
                    entries.iter().for_each(|(prefix, node)| doubter.first(node, &path.key(prefix)));
                }
            }
            _ => {}
        }
        doubter.walk(node, &path);
    }
    doubter.pools();
}

struct Doubter<'a> {
    config: &'a Config,
    findings: &'a Findings,
    /// That hosts are told apart otherwise than by mcrouter, which is told once.
    is_host_told: Cell<bool>,
}

/// A route as written: `{type: failover, children: […]}`, or `failover: …` with its keys or with the main one alone.
struct Written<'a> {
    kind: &'static Kind,
    /// The node behind `kind: …`, or the map with `type`.
    node: &'a Node,
    /// The node is the value of the main key.
    is_bare: bool,
    path: Path<'a>,
}

impl<'a> Written<'a> {
    fn node(&self, key: &str) -> Option<&'a Node> {
        match self.node {
            node if self.is_bare => (key == self.kind.bare).then_some(node),
            Node::Map(map) => map.iter().find(|(k, _)| k == key).map(|(_, node)| node),
            _ => None,
        }
    }

    fn is(&self, short: &str) -> bool {
        self.kind.short == short
    }

    fn list(&self, key: &str) -> &'a [Node] {
        if let Some(Node::List(list)) = self.node(key) { list } else { &[] }
    }

    fn warn(&self, findings: &Findings, key: &str, entry: Option<usize>, problem: Problem) {
        let of_key = self.path.key(key);
        let path = if self.is_bare && key == self.kind.bare { &self.path } else { &of_key };
        match entry {
            Some(index) => findings.warn(&path.index(index), At::Value, problem),
            None => findings.warn(path, At::Key, problem),
        }
    }
}

impl Doubter<'_> {
    /// Every route below.
    fn walk(&self, node: &Node, path: &Path<'_>) {
        match node {
            Node::List(list) => {
                list.iter().enumerate().for_each(|(i, node)| self.walk(node, &path.index(i)));
            }
            Node::Map(map) => {
                if let Some((name, is_typed)) = self.kind_of(map)
                    && let Some(kind) = registry::find(name)
                {
                    let below = path.key(name);
                    let written = if is_typed {
                        Written { kind, node, is_bare: false, path: *path }
                    } else {
                        let node = &map[0].1;
                        let has_keys = matches!(node, Node::Map(inner)
                            if inner.iter().any(|(k, _)| kind.keys.iter().any(|key| key.name == k)));
                        Written { kind, node, is_bare: !has_keys, path: below }
                    };
                    self.route(&written);
                }
                map.iter().for_each(|(key, node)| self.walk(node, &path.key(key)));
            }
            _ => {}
        }
    }

    /// The name of a route's kind, and whether it stands under `type`.
    fn kind_of<'n>(&self, map: &'n [(String, Node)]) -> Option<(&'n str, bool)> {
        match map.iter().find(|(key, _)| key == "type") {
            Some((_, Node::Text(kind))) => Some((kind, true)),
            _ => match map {
                [(name, _)] if self.config.routes.dialect == Dialect::Ringway => Some((name, false)),
                _ => None,
            },
        }
    }

    /// The route that all requests come to.
    fn first(&self, node: &Node, path: &Path<'_>) {
        let Node::Map(map) = node else { return };
        let Some((name, _)) = self.kind_of(map) else { return };
        if registry::find(name).is_some_and(|kind| kind.short == "all_async") {
            let problem = Problem::new("every get is a miss here: `all_async` waits for no reply")
                .help("use `operation` to send only updates or deletes this way");
            self.findings.warn(path, At::Value, problem);
        }
    }

    fn route(&self, route: &Written<'_>) {
        self.by_host(route);
        self.same_again(route);
        self.no_failover(route);
        self.lost_deletes(route);
        self.empty_shadows(route);
        self.no_transition(route);
        if route.is("hash") {
            self.nameless(route);
        }
        if route.is("prefix") && route.node("wildcard").is_none() {
            let problem =
                Problem::new("keys without one of these prefixes get an error: there is no `wildcard`");
            route.warn(self.findings, "policies", None, problem);
        }
    }

    /// The same place twice, where the second is there for when the first does not help.
    fn same_again(&self, route: &Written<'_>) {
        let (key, why) = match route.kind.short {
            "failover" | "latest" | "miss_failover" => {
                ("children", "what failed there is tried there again: a failover to itself")
            }
            "hedge" => ("children", "the second question goes where the first one went"),
            "all_sync" | "all_async" | "all_initial" | "all_fastest" | "all_majority" => {
                ("children", "it is asked twice")
            }
            _ => return self.same_pair(route),
        };
        let list = route.list(key);
        for (i, node) in list.iter().enumerate() {
            // a pool that sends its keys elsewhere while a server is out can be asked once more
            if route.is("failover") && self.pool_of(node).is_some_and(|pool| pool.on_down != OnDown::Fail) {
                continue;
            }
            let earlier = list[..i].iter().find_map(|first| self.sameness(first, node));
            if let Some(same) = earlier {
                route.warn(self.findings, key, Some(i), Problem::new(format!("{same}: {why}")));
            }
        }
    }

    fn same_pair(&self, route: &Written<'_>) {
        let (first, second, why) = match route.kind.short {
            "failover_with_exptime" => ("normal", "failover", "a failover to itself"),
            "warm_up" => ("cold", "warm", "there is nothing to warm up from"),
            "migrate" => ("from", "to", "nothing moves"),
            "l1l2_cache" => ("l1", "l2", "there is no second level"),
            _ => return,
        };
        let (Some(a), Some(b)) = (route.node(first), route.node(second)) else { return };
        let same = match b {
            Node::List(list) => list.iter().find_map(|b| self.sameness(a, b)),
            _ => self.sameness(a, b),
        };
        if let Some(same) = same {
            let problem = Problem::new(format!("{same} as under `{first}`: {why}"));
            route.warn(self.findings, second, None, problem);
        }
    }

    /// Why two routes are one, in words.
    fn sameness(&self, a: &Node, b: &Node) -> Option<String> {
        if a == b {
            return Some(match b {
                Node::Text(name) => format!("{} once more", quoted(name)),
                _ => "the same route once more".to_owned(),
            });
        }
        let (a, b) = (self.pool_of(a)?, self.pool_of(b)?);
        let members = |pool: &Pool| {
            let mut members: Vec<_> = pool.servers.iter().map(|s| (s.address(), s.member.clone())).collect();
            if pool.hash.placement.hashes_names() {
                members.sort_by(|a, b| a.0.cmp(&b.0)); // their order does not count
            }
            members
        };
        let has_any = a.source.is_some() || !a.servers.is_empty();
        let is_same = has_any
            && a.source == b.source
            && a.servers.len() == b.servers.len()
            && a.hash == b.hash
            && members(a) == members(b);
        is_same.then(|| format!("{} has the servers of {}, placed alike", quoted(&b.name), quoted(&a.name)))
    }

    /// The pool that a text names as a route.
    fn pool_of(&self, node: &Node) -> Option<&Pool> {
        let Node::Text(text) = node else { return None };
        let name = text.strip_prefix("PoolRoute|").or_else(|| text.strip_prefix("pool|")).unwrap_or(text);
        self.config.pool(name)
    }

    /// A failover that never is one.
    fn no_failover(&self, route: &Written<'_>) {
        if route.is("failover") {
            let is_several = |text: &str| text.starts_with("Pool|");
            let only = match route.node("children") {
                Some(Node::List(list)) if list.len() == 1 => list.first(),
                Some(node @ Node::Text(_)) => Some(node),
                _ => None,
            };
            if let Some(Node::Text(name)) = only
                && !is_several(name)
            {
                let problem = Problem::new(format!("there is nothing to fail over to but {}", quoted(name)));
                route.warn(self.findings, "children", None, problem);
            }
        }
        if matches!(route.node("failover_errors"), Some(Node::List(list)) if list.is_empty()) {
            let problem = Problem::new("an empty list: no failure is reason enough, it never fails over");
            route.warn(self.findings, "failover_errors", None, problem);
        }
    }

    /// A delete beyond the rate is told as `NOT_FOUND` and sent nowhere: what it should have removed stays.
    fn lost_deletes(&self, route: &Written<'_>) {
        let is_told = matches!(route.node("over"), Some(Node::Text(over)) if over == "error");
        if let Some(Node::Map(rates)) = route.node("rates")
            && rates.iter().any(|(key, _)| key == "deletes_rate")
            && route.node("fallback").is_none()
            && !is_told
        {
            let problem =
                Problem::new("deletes beyond the rate are thrown away, and clients are told NOT_FOUND")
                    .help("write `over: error`, or leave `deletes_rate` out");
            route.warn(self.findings, "rates", None, problem);
        }
    }

    /// mcrouter's number of a host is made of its address, ours of its name.
    fn by_host(&self, route: &Written<'_>) {
        let is_by_host = ["host_id", "latest", "key_split"].into_iter().any(|short| route.is(short));
        if self.config.routes.dialect == Dialect::Mcrouter && is_by_host && !self.is_host_told.replace(true) {
            let problem = Problem::new("which of them this host takes is not what mcrouter would take here")
                .help("hosts share them out as before, by ringway's own number of a host");
            self.findings.warn(&route.path, At::Value, problem);
        }
    }

    /// Shadows that never get a request.
    fn empty_shadows(&self, route: &Written<'_>) {
        let list = route.list("shadows");
        for (i, shadow) in list.iter().enumerate() {
            let Node::Map(shadow) = shadow else { continue };
            let of = |wanted: &str| shadow.iter().find(|(key, _)| key == wanted).map(|(_, node)| node);
            let is_empty = |range: &str| match of(range) {
                Some(Node::List(pair)) => matches!(pair.as_slice(), [a, b] if number(a) == number(b)),
                _ => false,
            };
            let why = if is_empty("index_range") {
                "`index_range` holds no server: its end is exclusive"
            } else if is_empty("key_fraction_range") && of("keys_to_shadow").is_none() {
                "`key_fraction_range` holds no key"
            } else if of("requests_fraction").and_then(number) == Some(0.0) {
                "`requests_fraction` is 0"
            } else if self.config.routes.dialect == Dialect::Mcrouter
                && ["key_fraction_range", "keys_to_shadow", "key_fraction_range_rv"]
                    .iter()
                    .all(|k| of(k).is_none())
            {
                "without `key_fraction_range` or `keys_to_shadow` it is meant for no key"
            } else {
                continue;
            };
            route.warn(self.findings, "shadows", Some(i), Problem::new(format!("nothing is copied: {why}")));
        }
    }

    /// Children have places, not names; a ring of names makes some up, and the order counts after all.
    fn nameless(&self, route: &Written<'_>) {
        if let Some(placement) = route.node("hash_func").and_then(|node| read_function(node).ok())
            && placement.hashes_names()
        {
            let message = format!("`{}` hashes names, and children have none", placement.name());
            let problem = Problem::new(message)
                .help("their places are hashed instead; use `ch3`, `jump`, or `rendezvous` with `tags`");
            route.warn(self.findings, "hash_func", None, problem);
        }
    }

    /// Where something is done at each server by itself, former servers are not asked.
    fn no_transition(&self, route: &Written<'_>) {
        let pool = route.node("pool").filter(|_| route.is("pool")).and_then(|node| self.pool_of(node));
        let Some(pool) = pool.filter(|pool| pool.transition.is_some()) else { return };
        let wraps = ["shadows", "max_outstanding", "slow_warmup"];
        if let Some(key) = wraps.into_iter().find(|key| route.node(key).is_some()) {
            let message =
                format!("with `{key}` the `transition` of {} does nothing here", quoted(&pool.name));
            route.warn(self.findings, key, None, Problem::new(message));
        }
    }

    /// Transitions of pools whose keys cannot be followed.
    fn vain_transitions(&self) {
        let pools = Path::ROOT.key("pools");
        for pool in self.config.pools.iter().filter(|pool| pool.transition.is_some()) {
            let name = pool.hash.placement.name();
            let is_embedded = pool.servers.iter().any(|s| matches!(s.endpoint, Endpoint::Embedded(_)));
            let problem = match pool.hash.placement {
                _ if is_embedded => Problem::new("embedded shards begin empty when their number changes"),
                Placement::Random => {
                    Problem::new("with `random` a key has no server that it could move from")
                }
                Placement::Modula | Placement::Gomemcache | Placement::Crc32 => {
                    let message = format!(
                        "with `{name}` nearly all keys move when a server comes or goes, and are copied"
                    );
                    Problem::new(message).help("a ring, as `ketama`, moves only those that have to")
                }
                _ if pool.tko.is_none() => {
                    Problem::new("with `tko: off` a former server that is down is asked again for every miss")
                }
                _ => continue,
            };
            self.findings.warn(&pools.key(&pool.name).key("transition"), At::Key, problem);
        }
    }

    /// A ring of names where most servers have one: the others were forgotten.
    fn pools(&self) {
        self.vain_transitions();
        let pools = Path::ROOT.key("pools");
        for pool in self.config.pools.iter().filter(|pool| pool.hash.placement.hashes_names()) {
            let named_count = pool.servers.iter().filter(|server| server.member.name.is_some()).count();
            let nameless = pool.servers.iter().position(|server| server.member.name.is_none());
            if let Some(first) = nameless
                && named_count * 2 > pool.servers.len()
            {
                let of_pool = pools.key(&pool.name);
                let servers = of_pool.key("servers");
                let message = format!(
                    "{named_count} of {} servers have a `name`, this one has not",
                    pool.servers.len()
                );
                let problem = Problem::new(message)
                    .help("where it moves to another address, its keys go to other servers");
                self.findings.warn(&servers.index(first), At::Value, problem);
            }
        }
    }
}

fn number(node: &Node) -> Option<f64> {
    match node {
        Node::Integer(value) => Some(*value as f64),
        Node::Float(value) => Some(*value),
        _ => None,
    }
}
