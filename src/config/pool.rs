//! A pool: a named list of servers and a way to place keys.

use super::distance::{Location, Vantage, warn_slow_connect};
use super::embedded;
use super::fault::{At, Findings, Problem, quoted};
use super::node::Node;
use super::on_down::OnDown;
use super::path::Path;
use super::placement;
use super::section::{Hint, Section};
use super::server;
use super::source::{self, Follow, PoolSource};
use super::tko::Tko;
use super::transition::Transition;
use super::value::{self, TIMEOUTS};
use crate::hash::{Member, Spec};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// mcrouter's `server_timeout`.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// Within a data centre a connection takes a millisecond; a lost SYN is sent again after a second.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_millis(500);
/// One per worker pipelines well; memcached's author calls a hundred "terrible".
const CONNECTIONS: RangeInclusive<usize> = 1..=128;
const OUTSTANDING: RangeInclusive<usize> = 1..=1_000_000;
/// Some 5 MiB of queue entries; at 100,000 requests a second it is full after 160 ms.
const OUTSTANDING_DEFAULT: usize = 16_384;
/// `modula` keeps a list as long as the sum of the weights.
const WEIGHT_SUM_MAX: u64 = 4 << 20;
/// More of them no pool has, listed or found.
pub const SERVERS_COUNT_MAX: usize = 16_384;

pub(super) const KEYS: &[&str] = &[
    "servers",
    "embedded",
    "dns",
    "srv",
    "statefulset",
    "config_endpoint",
    "file",
    "port",
    "port_name",
    "on_empty",
    "refresh",
    "leave_after",
    "timeout",
    "connect_timeout",
    "on_error",
    "on_down",
    "tko",
    "connections",
    "outstanding_max",
    "keep_routing_prefix",
    "spool",
    "failure_domains",
    "region",
    "cluster",
    "warm_connect",
    "transition",
];
const HINTS: &[Hint] = &[
    ("server_connections", "write `connections`"),
    ("server_timeout", "write `timeout`"),
    ("auto_eject_hosts", "write `on_down: eject`"),
    ("server_retry_timeout", "write `tko: {probe_timeout_initial: 30s}`"),
    ("server_failure_limit", "write `tko: {timeouts_until_tko: 2}`"),
    ("tko_tracker", "write `tko: {fail_open: {upper: 50%, lower: 25%}}`"),
    ("timeouts_until_tko", "write `tko: {timeouts_until_tko: 3}`"),
    ("preconnect", "write `warm_connect`; at the start connections are opened by the first request"),
    ("tcpkeepalive", "connections to servers always have keepalive: leave it out"),
    ("backlog", "leave it out"),
    ("redis", "ringway speaks memcached only"),
    ("replicas", "it goes into `statefulset`"),
    ("service", "it goes into `statefulset`"),
    ("namespace", "it goes into `statefulset`"),
    ("client_connections", "write `clients_max` under `limits`, for all clients together"),
    ("listen", "`listen` stands at the top of the file: one listener serves all pools"),
];

/// A named list of servers and a way to place keys on them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub name: String,
    /// With a `source` those that are known now; none in a configuration as it was read.
    pub servers: Vec<Server>,
    /// Where the servers come from; `None`: the configuration lists them.
    pub source: Option<PoolSource>,
    /// How names are followed.
    pub follow: Follow,
    pub hash: Spec,
    /// From the moment a request is queued until its reply has come.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    /// What a client is told of a get that failed.
    pub on_error: OnError,
    /// What becomes of the keys of a server that is knocked out.
    pub on_down: OnDown,
    /// When its servers are knocked out; `None`: never.
    pub tko: Option<Tko>,
    /// Connections per worker and server.
    pub connections_count: usize,
    /// Requests waiting for one server in one worker, sent or not.
    pub outstanding_count_max: usize,
    /// Servers get keys with their routing prefix.
    pub keeps_prefix: bool,
    /// Deletes that fail go to the spool, where there is one.
    pub is_spooled: bool,
    /// What else fails with a server, its rack or its zone: one for each server, or none at all.
    pub failure_domains: Vec<String>,
    /// How far away it is, where that is said.
    pub location: Option<Location>,
    /// Servers that are new are connected to before they are used.
    pub warms_connections: bool,
    /// What becomes of keys that move when its servers change; `None`: they are missed.
    pub transition: Option<Transition>,
}

/// One server, as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub endpoint: Endpoint,
    /// What the placement hashes.
    pub member: Member,
    /// Instead of the pool's.
    pub timeout: Option<Duration>,
    pub connect_timeout: Option<Duration>,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Address(SocketAddr),
    /// A name that has no address yet: nothing can be connected.
    Host(String, u16),
    /// A name, which stays, and where it is now.
    Named {
        host: String,
        port: u16,
        address: SocketAddr,
    },
    Unix(PathBuf),
    Embedded(Embedded),
    /// A route instead of a server.
    Route(RouteNode),
}

/// A route as written. What is not a number (NaN) is never equal to itself, and no route reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteNode {
    pub node: Arc<Node>,
    /// In the list of the pool's members: a route has no address.
    pub place: usize,
}

impl Eq for RouteNode {}

impl std::hash::Hash for RouteNode {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.place.hash(state);
    }
}

/// An in-process cache in the place of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Embedded {
    /// Which of the pool's shards.
    pub shard: usize,
    /// Bytes that this shard may hold.
    pub memory_bytes_max: usize,
}

/// What becomes of a get whose server fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// One error line for the whole command.
    #[default]
    Error,
    /// As if the keys were not there.
    Miss,
}

impl OnError {
    /// The names, as written in a configuration.
    pub const ALL: &'static [(&'static str, Self)] = &[("error", Self::Error), ("miss", Self::Miss)];
}

impl Server {
    /// With the timeouts of its pool.
    pub(super) fn new(endpoint: Endpoint, member: Member) -> Self {
        Self { endpoint, member, timeout: None, connect_timeout: None }
    }

    /// What people call it: its name, else its address as written.
    #[must_use]
    pub fn label(&self) -> String {
        self.member.name.clone().unwrap_or_else(|| self.lasting_address())
    }

    /// What stays when a name leads elsewhere, or nowhere yet: `host:port` where there is one, else its address.
    #[must_use]
    pub fn lasting_address(&self) -> String {
        match &self.endpoint {
            Endpoint::Named { host, port, .. } => format!("{host}:{port}"),
            endpoint => endpoint.address(),
        }
    }

    /// Where it is: `ip:port`, `host:port`, `unix:path`, `embedded-N`, `route-N`.
    #[must_use]
    pub fn address(&self) -> String {
        self.endpoint.address()
    }
}

impl Endpoint {
    /// `ip:port`, `host:port`, `unix:path`, `embedded-N`, `route-N`.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Address(a) => a.to_string(),
            Self::Host(host, port) => format!("{host}:{port}"),
            Self::Named { address, .. } => address.to_string(),
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Embedded(e) => format!("embedded-{}", e.shard),
            Self::Route(route) => format!("route-{}", route.place),
        }
    }
}

impl Server {
    /// A route has no address; its place in the list stands for it.
    pub(super) fn at_place(mut self, place: usize) -> Self {
        if let Endpoint::Route(route) = &mut self.endpoint {
            route.place = place;
            self.member.host = self.endpoint.address();
        }
        self
    }
}

impl Pool {
    /// The servers as the placement sees them, in the order of the list.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.servers.iter().map(|server| server.member.clone()).collect()
    }

    /// How long a server may take to answer, and to take a connection.
    #[must_use]
    pub fn timeouts_of(&self, server: &Server) -> (Duration, Duration) {
        let timeout = server.timeout.unwrap_or(self.timeout);
        // one that has little time has no more of it to connect
        let least = server.timeout.map_or(self.connect_timeout, |own| own.min(self.connect_timeout));
        (timeout, server.connect_timeout.unwrap_or(least))
    }

    /// A pool of these servers with every default.
    pub(super) fn with_defaults(name: &str, servers: Vec<Server>) -> Self {
        Self {
            name: name.to_owned(),
            servers,
            source: None,
            follow: Follow::DEFAULT,
            // The hash stop is mcrouter's; elsewhere it would part us from the clients that place keys alike.
            hash: Spec { hash_stop: false, ..Spec::default() },
            timeout: TIMEOUT_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            on_error: OnError::default(),
            on_down: OnDown::default(),
            tko: Some(Tko::DEFAULT),
            connections_count: 1,
            outstanding_count_max: OUTSTANDING_DEFAULT,
            keeps_prefix: false,
            is_spooled: true,
            failure_domains: Vec::new(),
            location: None,
            warms_connections: true,
            transition: None,
        }
    }

    /// Reads one entry of `pools`. What is wrong goes to `findings`; the pool is then not to be used.
    pub(super) fn read(
        name: &str,
        node: &Node,
        path: &Path<'_>,
        findings: &Findings,
        vantage: &Vantage,
    ) -> Option<Self> {
        let faults_count = findings.faults_count();
        let section = Section::open(node, path, findings, "a pool, a map with `servers` or `embedded`")?;
        let known: Vec<&str> = KEYS.iter().chain(placement::KEYS).copied().collect();
        let hints: Vec<Hint> = HINTS.iter().chain(placement::HINTS).copied().collect();
        section.refuse_unknown(&known, &hints);

        let hash = placement::read(&section);
        let (entries, source) = read_servers(&section);
        let follow = Follow::read(&section, source.as_ref());
        let is_host = |server: &Option<Server>| {
            server.as_ref().is_none_or(|server| matches!(server.endpoint, Endpoint::Host(..)))
        };
        source::check_company(&section, source.as_ref(), entries.iter().any(is_host));
        source::warn_places(&section, source.as_ref(), &hash);
        check_weights(&section, &entries, &hash);
        let failure_domains = match source {
            Some(_) => Vec::new(), // refused above
            None => {
                placement::check_lists(&section, &hash, entries.len());
                read_domains(&section, entries.len())
            }
        };
        let servers: Vec<Server> = entries.into_iter().flatten().collect();
        if findings.faults_count() == faults_count
            && let Err(problem) = placement::check(&hash, &servers)
        {
            findings.fault(&path.key("hash"), At::Value, problem);
        }
        let timeout = section.value("timeout", |node| value::duration(node, &TIMEOUTS));
        let location = Location::read(&section);
        let by_distance = location.as_ref().and_then(|there| vantage.timeout_to(there));
        let timeout_or_default = timeout.or(by_distance).unwrap_or(TIMEOUT_DEFAULT);
        let connect_timeout = section.value("connect_timeout", |node| value::duration(node, &TIMEOUTS));
        if let (Some(connect), true) =
            (connect_timeout, section.node("timeout").is_none() || timeout.is_some())
        {
            warn_slow_connect(findings, &path.key("connect_timeout"), connect, timeout_or_default);
        }
        let on_error =
            section.value("on_error", |node| value::choice(node, "`error` or `miss`", OnError::ALL));
        let tko = match section.node("tko") {
            Some(node) => Tko::read(node, &path.key("tko"), findings),
            None => Some(Tko::DEFAULT),
        };
        let on_down = section.node("on_down");
        if let (Some(_), Some(Node::Text(off))) = (on_down, section.node("tko"))
            && off == "off"
        {
            let problem = Problem::new("with `tko: off` nobody finds out that a server is down");
            findings.warn(&path.key("on_down"), At::Key, problem);
        }
        let on_down = on_down.and_then(|node| OnDown::read(node, &path.key("on_down"), findings));
        let connections = section.value("connections", |node| value::count(node, &CONNECTIONS));
        let keeps_prefix = section.value("keep_routing_prefix", value::boolean);
        let transition = section.node("transition");
        let transition = transition.and_then(|n| Transition::read(n, &path.key("transition"), findings));
        let is_spooled = section.value("spool", value::boolean);
        let outstanding = section.value("outstanding_max", |node| value::count(node, &OUTSTANDING));
        Some(Self {
            name: name.to_owned(),
            servers,
            source,
            follow,
            hash,
            timeout: timeout_or_default,
            connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT_DEFAULT.min(timeout_or_default)),
            on_error: on_error.unwrap_or_default(),
            on_down: on_down.unwrap_or_default(),
            tko,
            connections_count: connections.unwrap_or(1),
            outstanding_count_max: outstanding.unwrap_or(OUTSTANDING_DEFAULT),
            keeps_prefix: keeps_prefix.unwrap_or(false),
            is_spooled: is_spooled.unwrap_or(true),
            failure_domains,
            location,
            warms_connections: section.value("warm_connect", value::boolean).unwrap_or(true),
            transition,
        })
    }
}

/// `failure_domains`: names or numbers, one for each server.
pub(super) fn read_domains(section: &Section<'_>, servers_count: usize) -> Vec<String> {
    let what = "a list of names or numbers, one for each server";
    let read = |node: &Node| {
        let Node::List(list) = node else { return Err(value::expected(what, node)) };
        if list.len() != servers_count {
            let problem = Problem::new(format!("{} failure domains for {servers_count} servers", list.len()));
            return Err(problem.help("one for each server, in the order of `servers`"));
        }
        let domain = |node: &Node| match node {
            Node::Integer(number) => Ok(number.to_string()),
            _ => value::text(node, what),
        };
        list.iter().map(domain).collect()
    };
    section.value("failure_domains", read).unwrap_or_default()
}

/// What is listed, or where it comes from: exactly one of [`source::SOURCES`].
fn read_servers(section: &Section<'_>) -> (Vec<Option<Server>>, Option<PoolSource>) {
    let (path, findings) = (section.path, section.findings);
    let keys: Vec<&str> = source::SOURCES.iter().copied().filter(|key| section.node(key).is_some()).collect();
    let none = (Vec::new(), None);
    match keys.as_slice() {
        [] => {
            let help = "write `servers: [\"10.0.0.1:11211\"]`, or `embedded: {memory: 64MiB}`";
            findings.fault(path, At::Key, Problem::new("a pool without servers").help(help));
            none
        }
        [first, second, ..] => {
            let help = match *second {
                "embedded" => "an embedded cache and real servers are two pools",
                _ => "its servers come from one place",
            };
            let message = format!("a pool has `{first}` or `{second}`, not both");
            findings.fault(&path.key(second), At::Key, Problem::new(message).help(help));
            none
        }
        ["embedded"] => match section.node("embedded") {
            Some(node) => {
                let shards = embedded::read(node, &path.key("embedded"), findings);
                (shards.into_iter().map(Some).collect(), None)
            }
            None => none,
        },
        ["servers"] => match section.node("servers") {
            Some(Node::List(list)) => match entry_for_several(list) {
                Some(Ok(source)) => (Vec::new(), Some(source)),
                Some(Err(problem)) => {
                    findings.fault(&path.key("servers").index(0), At::Value, problem);
                    none
                }
                None => (read_list(list, &path.key("servers"), findings), None),
            },
            Some(node) => {
                let problem = value::expected("a list of servers", node);
                let problem = problem.help("as in `servers: [\"10.0.0.1:11211\"]`");
                findings.fault(&path.key("servers"), At::Value, problem);
                none
            }
            None => none,
        },
        [key] => (Vec::new(), PoolSource::read(section, key)),
    }
}

/// The only entry of a list, where it stands for several servers.
fn entry_for_several(list: &[Node]) -> Option<Result<PoolSource, Problem>> {
    let [Node::Text(entry)] = list else { return None };
    PoolSource::of_entry(entry)
}

fn read_list(list: &[Node], path: &Path<'_>, findings: &Findings) -> Vec<Option<Server>> {
    if list.is_empty() || list.len() > SERVERS_COUNT_MAX {
        let message = format!("{} servers", list.len());
        let help = format!("a pool has 1 to {SERVERS_COUNT_MAX} servers");
        findings.fault(path, At::Key, Problem::new(message).help(help));
        return Vec::new(); // a ring of a million would be built to check the routes
    }
    let read = |(i, node)| server::read(node, &path.index(i), findings).map(|server| server.at_place(i));
    let entries: Vec<Option<Server>> = list.iter().enumerate().map(read).collect();
    for (i, problem) in doubles(&entries) {
        findings.fault(&path.index(i), At::Value, problem);
    }
    entries
}

/// Servers that cannot be told apart: the same address or the same name as one before.
pub(super) fn doubles(entries: &[Option<Server>]) -> Vec<(usize, Problem)> {
    let mut addresses = HashMap::new();
    let mut labels = HashMap::new();
    let mut problems = Vec::new();
    for (i, server) in entries.iter().enumerate().filter_map(|(i, s)| s.as_ref().map(|s| (i, s))) {
        if let Some(first) = addresses.insert(server.address(), i) {
            let message = format!("the address {} is listed twice", quoted(&server.address()));
            problems.push((i, Problem::new(message).help(format!("first as servers[{first}]"))));
        } else if let Some(first) = labels.insert(server.label(), i) {
            let message = format!("the name {} is used twice", quoted(&server.label()));
            problems.push((i, Problem::new(message).help(format!("first by servers[{first}]"))));
        }
    }
    problems
}

fn check_weights(section: &Section<'_>, entries: &[Option<Server>], hash: &Spec) {
    let path = section.path.key("servers");
    let weights = || entries.iter().map(|server| server.as_ref().map_or(1, |server| server.member.weight));
    let sum: u64 = weights().map(u64::from).sum();
    if sum > WEIGHT_SUM_MAX {
        let problem = Problem::new(format!("the weights sum up to {sum}"));
        section.findings.fault(&path, At::Key, problem.help(format!("at most {WEIGHT_SUM_MAX}")));
    }
    // One is told, not each: it is the placement that does not fit.
    if !hash.placement.has_weights()
        && let Some((i, weight)) = weights().enumerate().find(|(_, weight)| *weight != 1)
    {
        let (what, help) = if hash.placement.has_weight_list() {
            (
                "takes no weights from the servers' entries",
                "write `weights: [1, 0.5]` beside `hash`, one for each server",
            )
        } else {
            ("knows no weights", "leave the weights out, or use `ketama`, `twemproxy` or `modula`")
        };
        let problem = Problem::new(format!("`hash: {}` {what}", hash.placement.name()))
            .help(help)
            .at(&format!("weight={weight}"));
        section.findings.fault(&path.index(i), At::Value, problem);
    }
}
