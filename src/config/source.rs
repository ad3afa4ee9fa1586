//! Where a pool's servers come from when the configuration does not list them: names that are asked for again and again.
//! Here they are only read; `discovery` asks.
//!
//! ```text
//! dns: NAME[:PORT]                      every address is a server, and its address is its identity
//! srv: _PORT._tcp.NAME                  every target is a server, and its name is its identity
//! statefulset: {name, service, ...}     pods by their names: NAME-0, NAME-1, …
//! config_endpoint: HOST[:PORT]          what ElastiCache and Memorystore answer to `config get cluster`
//! file: PATH                            lines of `HOST:PORT [NAME] [WEIGHT]`, written by somebody else
//! ```

use super::fault::{At, Findings, Problem, quoted};
use super::node::Node;
use super::path::Path;
use super::pool::{Endpoint, Server};
use super::section::{Hint, Section};
use super::server::{PORT_DEFAULT, check_host, parse_port};
use super::value;
use crate::hash::{Member, Spec};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The keys of a pool of which exactly one says where its servers come from; the first two list them.
pub(super) const SOURCES: &[&str] =
    &["servers", "embedded", "dns", "srv", "statefulset", "config_endpoint", "file"];
pub(super) const STATEFULSET_KEYS: &[&str] =
    &["name", "service", "namespace", "port", "replicas", "cluster_domain"];
pub(super) const REFRESH_KEYS: &[&str] = &["min", "max"];
const STATEFULSET_HINTS: &[Hint] =
    &[("replica_count", "write `replicas`"), ("domain", "write `cluster_domain`")];
/// Kubernetes' own default.
const CLUSTER_DOMAIN_DEFAULT: &str = "cluster.local";
pub(super) const REPLICAS: RangeInclusive<usize> = 1..=4_096;
/// A name server that is asked more often than this by every node answers nobody else.
const REFRESHES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
const LEAVES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);
/// A pod of a StatefulSet that was killed was back after 10 to 20 s, and an image may have to be fetched.
const LEAVE_AFTER_NAMED: Duration = Duration::from_secs(60);
/// Spellings of Thanos and of those who took them over, and what they stand for.
const ALIASES: &[(&str, bool)] =
    &[("dns+", false), ("dnssrv+", true), ("dnssrvnoa+", true), ("dnssrv:", true)];

/// Where a pool's servers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolSource {
    /// Every address of the name is a server.
    Dns {
        name: String,
        port: u16,
    },
    /// Every target of the name is a server; only those of this port, where one is given.
    Srv {
        name: String,
        port: Option<u16>,
    },
    StatefulSet(StatefulSet),
    ConfigEndpoint {
        host: String,
        port: u16,
    },
    File(PathBuf),
}

/// Pods that have names of their own behind a headless service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatefulSet {
    pub name: String,
    pub service: String,
    /// `None`: ours, by the search list.
    pub namespace: Option<String>,
    pub port: u16,
    /// `None`: as many as there are names.
    pub replicas_count: Option<usize>,
    pub cluster_domain: String,
}

/// How a pool's names are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    pub on_empty: OnEmpty,
    /// Names are asked for again when their time to live is over, but not sooner and not later than this.
    pub refresh_min: Duration,
    pub refresh_max: Duration,
    /// A server that is gone stays for so long: it may only be restarted.
    pub leave_after: Duration,
}

/// What becomes of a pool whose names have no servers any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnEmpty {
    /// Those that were there stay.
    #[default]
    Keep,
    /// Requests fail: there is no server.
    Error,
    /// The same, but gets are told as misses.
    Miss,
}

impl OnEmpty {
    /// The names, as written in a configuration.
    pub const ALL: &'static [(&'static str, Self)] =
        &[("keep", Self::Keep), ("error", Self::Error), ("miss", Self::Miss)];
}

impl Follow {
    pub(super) const DEFAULT: Self = Self {
        on_empty: OnEmpty::Keep,
        refresh_min: Duration::from_secs(1),
        refresh_max: Duration::from_secs(60),
        leave_after: Duration::ZERO,
    };

    /// The defaults that go with this source.
    pub(crate) const fn of(source: &PoolSource) -> Self {
        let is_named = matches!(source, PoolSource::Srv { .. } | PoolSource::StatefulSet(_));
        let leave_after = if is_named { LEAVE_AFTER_NAMED } else { Duration::ZERO };
        Self { leave_after, ..Self::DEFAULT }
    }

    /// `on_empty`, `refresh` and `leave_after` of a pool.
    pub(super) fn read(section: &Section<'_>, source: Option<&PoolSource>) -> Self {
        let default = source.map_or(Self::DEFAULT, Self::of);
        let on_empty =
            section.value("on_empty", |node| value::choice(node, "`keep`, `error` or `miss`", OnEmpty::ALL));
        let leave_after = section.value("leave_after", |node| value::duration(node, &LEAVES));
        let (min, max) = read_refresh(section).unwrap_or((None, None));
        let refresh_min = min.unwrap_or(default.refresh_min.min(max.unwrap_or(default.refresh_min)));
        Self {
            on_empty: on_empty.unwrap_or(default.on_empty),
            refresh_min,
            refresh_max: max.unwrap_or(default.refresh_max).max(refresh_min),
            leave_after: leave_after.unwrap_or(default.leave_after),
        }
    }
}

impl Default for Follow {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl PoolSource {
    /// Whether a server that comes back with another address is the same server.
    #[must_use]
    pub const fn knows_names(&self) -> bool {
        !matches!(self, Self::Dns { .. })
    }

    /// The spelling of an entry that stands for several servers: `dns+NAME:PORT`, `dnssrv+NAME`, `dnssrvnoa+NAME`.
    /// `None`: it is none.
    pub(crate) fn of_entry(text: &str) -> Option<Result<Self, Problem>> {
        let (prefix, is_srv) = ALIASES.iter().find(|(prefix, _)| text.starts_with(prefix))?;
        let name = &text[prefix.len()..];
        Some(if *is_srv { parse_srv(name) } else { parse_dns(name) })
    }

    /// The one of these keys that the pool has.
    pub(super) fn read(section: &Section<'_>, key: &str) -> Option<Self> {
        let port = section.value("port", port_of);
        match key {
            "dns" => {
                let source = section.value(key, |node| parse_dns(&value::text(node, "a name")?))?;
                let Self::Dns { name, .. } = &source else { return Some(source) };
                let is_twice = matches!(section.node(key), Some(Node::Text(text)) if text.contains(':'));
                if port.is_some() && is_twice {
                    section.fault("port", Problem::new("the port is written twice"));
                }
                Some(port.map_or_else(|| source.clone(), |port| Self::Dns { name: name.clone(), port }))
            }
            "srv" => {
                let Self::Srv { name, .. } =
                    section.value(key, |node| parse_srv(&value::text(node, "a name")?))?
                else {
                    return None;
                };
                let Some(port_name) = section.value("port_name", port_name_of) else {
                    return Some(Self::Srv { name, port });
                };
                if name.starts_with('_') {
                    let help = format!("write `srv: {}`", name.splitn(3, '.').nth(2).unwrap_or_default());
                    section.fault("port_name", Problem::new("the port's name is written twice").help(help));
                }
                Some(Self::Srv { name: format!("_{port_name}._tcp.{name}"), port })
            }
            "statefulset" => {
                let path = section.path.key(key);
                StatefulSet::read(section.node(key)?, &path, section.findings).map(Self::StatefulSet)
            }
            "config_endpoint" => section.value(key, |node| {
                let (host, port) = host_and_port(&value::text(node, "an address")?)?;
                Ok(Self::ConfigEndpoint { host, port })
            }),
            "file" => section.value(key, |node| match value::text(node, "a path")?.as_str() {
                "" => Err(Problem::new("expected a path").help("as in `file: /etc/ringway/servers`")),
                path => Ok(Self::File(path.into())),
            }),
            _ => None,
        }
    }
}

/// As it is told to people: `dns cache.example:11211`.
impl fmt::Display for PoolSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns { name, port } => write!(f, "dns {name}:{port}"),
            Self::Srv { name, port: None } => write!(f, "srv {name}"),
            Self::Srv { name, port: Some(port) } => write!(f, "srv {name} of port {port}"),
            Self::StatefulSet(set) => write!(f, "statefulset {}", set.host_of("N")),
            Self::ConfigEndpoint { host, port } => write!(f, "config_endpoint {host}:{port}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

impl StatefulSet {
    /// The name of one pod: with a namespace the whole name, without one for the search list.
    #[must_use]
    pub fn host(&self, ordinal: usize) -> String {
        self.host_of(&ordinal.to_string())
    }

    /// Which pod has this name, of those that [`Self::host`] makes.
    #[must_use]
    pub fn ordinal(&self, host: &str) -> Option<usize> {
        let rest = host.strip_prefix(&self.name)?.strip_prefix('-')?;
        rest.split('.').next()?.parse().ok()
    }

    fn host_of(&self, ordinal: &str) -> String {
        let Self { name, service, namespace, cluster_domain, .. } = self;
        match namespace {
            Some(namespace) => format!("{name}-{ordinal}.{service}.{namespace}.svc.{cluster_domain}"),
            None => format!("{name}-{ordinal}.{service}"),
        }
    }

    fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Self> {
        let section = Section::open(node, path, findings, "a map with `name`, `service` and `namespace`")?;
        section.refuse_unknown(STATEFULSET_KEYS, STATEFULSET_HINTS);
        let name = section.value("name", |node| host_of(node, "a StatefulSet's name"));
        if section.node("name").is_none() {
            let help = "as in `statefulset: {name: memcached, namespace: cache}`";
            findings.fault(path, At::Key, Problem::new("the StatefulSet's `name` is missing").help(help));
        }
        let service = section.value("service", |node| host_of(node, "a service's name"));
        let namespace = section.value("namespace", |node| host_of(node, "a namespace"));
        let port = section.value("port", port_of);
        let replicas = section.value("replicas", |node| match node {
            Node::Text(text) if text == "auto" => Ok(None),
            _ => value::count(node, &REPLICAS)
                .map(Some)
                .map_err(|problem| problem.help("or `auto`: as many as there are names")),
        });
        let domain = section.value("cluster_domain", |node| host_of(node, "a domain"));
        if domain.is_some() && section.node("namespace").is_none() {
            let problem = Problem::new("`cluster_domain` does nothing without `namespace`");
            findings.fault(&path.key("cluster_domain"), At::Key, problem);
        }
        let name = name?;
        Some(Self {
            service: service.unwrap_or_else(|| name.clone()),
            name,
            namespace,
            port: port.unwrap_or(PORT_DEFAULT),
            replicas_count: replicas.flatten(),
            cluster_domain: domain.unwrap_or_else(|| CLUSTER_DOMAIN_DEFAULT.to_owned()),
        })
    }
}

impl Server {
    /// One that was found by its name; `address`: where it is now, where that is known.
    #[must_use]
    pub fn found(host: &str, port: u16, address: Option<SocketAddr>) -> Self {
        let host = host.to_owned();
        let endpoint = match address {
            Some(address) => Endpoint::Named { host: host.clone(), port, address },
            None => Endpoint::Host(host.clone(), port),
        };
        Self::new(endpoint, Member { host, port: Some(port), name: None, weight: 1 })
    }

    /// One whose address is all that there is.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let host = address.ip().to_string();
        let member = Member { host, port: Some(address.port()), name: None, weight: 1 };
        Self::new(Endpoint::Address(address), member)
    }
}

/// What goes with a source and stands where there is none; and lists of one entry for each server, where nobody knows how
/// many there are.
pub(super) fn check_company(section: &Section<'_>, source: Option<&PoolSource>, follows_hosts: bool) {
    let refuse = |key: &str, help: &str| {
        if section.node(key).is_some() {
            let problem = Problem::new(format!("`{key}` has no place here")).help(help);
            section.findings.fault(&section.path.key(key), At::Key, problem);
        }
    };
    if !matches!(source, Some(PoolSource::Dns { .. } | PoolSource::Srv { .. })) {
        refuse("port", "it goes with `dns` and `srv`");
    }
    if !matches!(source, Some(PoolSource::Srv { .. })) {
        refuse("port_name", "it goes with `srv`");
    }
    if source.is_none() {
        refuse("on_empty", "it goes with `dns`, `srv`, `statefulset`, `config_endpoint` and `file`");
        refuse("leave_after", "it goes with `dns`, `srv`, `statefulset`, `config_endpoint` and `file`");
        if !follows_hosts {
            refuse("refresh", "no name is asked for here");
        }
    } else {
        for list in ["weights", "tags", "failure_domains"] {
            refuse(list, "one for each server: but nobody knows how many there will be");
        }
    }
}

/// A placement by places in the list moves keys whenever a server in the middle comes or goes.
pub(super) fn warn_places(section: &Section<'_>, source: Option<&PoolSource>, hash: &Spec) {
    let key = match source {
        Some(PoolSource::Dns { .. }) => "dns",
        Some(PoolSource::Srv { .. }) => "srv",
        _ => return,
    };
    if !hash.placement.hashes_names() {
        let message =
            format!("`hash: {}` places keys by a server's place in the list", hash.placement.name());
        let help = "where servers come and go most keys move; use `ketama`, or a `statefulset`";
        section.findings.warn(&section.path.key(key), At::Key, Problem::new(message).help(help));
    }
}

fn read_refresh(section: &Section<'_>) -> Option<(Option<Duration>, Option<Duration>)> {
    let path = section.path.key("refresh");
    let refresh = Section::open(
        section.node("refresh")?,
        &path,
        section.findings,
        "a map as in `{min: 1s, max: 60s}`",
    )?;
    refresh.refuse_unknown(REFRESH_KEYS, &[]);
    let time = |key| refresh.value(key, |node| value::duration(node, &REFRESHES));
    let (min, max) = (time("min"), time("max"));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        refresh.fault("min", Problem::new("`min` is more than `max`"));
    }
    Some((min, max))
}

/// `NAME[:PORT]`.
fn parse_dns(text: &str) -> Result<PoolSource, Problem> {
    if text.starts_with('_') {
        let help = format!("write `srv: {text}`");
        return Err(Problem::new(format!("{} is a service's name", quoted(text))).help(help));
    }
    let (name, port) = host_and_port(text)?;
    if name.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(Problem::new(format!("{} is an address, not a name", quoted(&name)))
            .help("addresses are written under `servers`"));
    }
    Ok(PoolSource::Dns { name, port })
}

/// A name without a port: that comes with the answer.
fn parse_srv(text: &str) -> Result<PoolSource, Problem> {
    if text.contains(':') {
        let problem =
            Problem::new("the answer has the ports").help("for those of one port only: `port: 11211`");
        return Err(problem.at(text));
    }
    check_host(text)?;
    Ok(PoolSource::Srv { name: text.to_owned(), port: None })
}

fn host_and_port(text: &str) -> Result<(String, u16), Problem> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, parse_port(port)?),
        None => (text, PORT_DEFAULT),
    };
    if host.parse::<std::net::Ipv4Addr>().is_err() {
        check_host(host)?;
    }
    Ok((host.to_owned(), port))
}

fn host_of(node: &Node, what: &str) -> Result<String, Problem> {
    let text = value::text(node, what)?;
    check_host(&text)?;
    Ok(text.trim_end_matches('.').to_owned())
}

fn port_of(node: &Node) -> Result<u16, Problem> {
    match node {
        Node::Integer(port) => u16::try_from(*port).ok().filter(|port| *port != 0),
        _ => None,
    }
    .ok_or_else(|| value::expected("a port from 1 to 65535", node))
}

/// As a Service has it: at most 15 letters, digits and dashes.
fn port_name_of(node: &Node) -> Result<String, Problem> {
    let name = value::text(node, "a port's name")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > 15 || !name.chars().all(legal) {
        let problem = Problem::new(format!("{} is not a port's name", quoted(&name)));
        return Err(problem.help("1 to 15 letters, digits and dashes, as in a Service"));
    }
    Ok(name)
}
