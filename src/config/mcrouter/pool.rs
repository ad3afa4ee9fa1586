//! A pool with mcrouter's keys and defaults.

use super::{McrouterOptions, server};
use crate::config::distance::{Location, Vantage};
use crate::config::pool::read_domains;
use crate::config::server::check_name;
use crate::config::value::{self, expected};
use crate::config::{
    At, FailOpen, Findings, Follow, Node, OnDown, OnError, Path, Pool, PoolSource, Problem, Section, Server,
    Share, quoted,
};
use crate::hash::{Placement, Spec, weights_for};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

const TIMEOUTS_MS: RangeInclusive<usize> = 1..=1_000_000;
/// `--target-max-pending-requests`.
const OUTSTANDING_COUNT_MAX: usize = 100_000;
const SERVERS_COUNT_MAX: usize = 16_384;
const CONNECTIONS_COUNT_MAX: usize = 128;

/// The keys that are read here. Others are told once and passed over.
const KEYS: &[&str] = &[
    "servers",
    "name",
    "protocol",
    "server_timeout",
    "connect_timeout",
    "keep_routing_prefix",
    "weights",
    "tags",
    "hostnames",
    "additional_fanout",
    "error_on_empty",
    "security_mech",
    "security_mech_within_dc",
    "security_mech_cross_dc",
    "use_ssl",
    "port_override",
    "tko_tracker",
    "failure_domains",
    "region",
    "cluster",
];
/// Of `tko_tracker`: numbers of servers, or shares of them.
const FAIL_OPEN: [Thresholds; 2] = [
    ("num_tko_threshold_upper", "num_tko_threshold_lower", Share::Count),
    ("percent_tko_threshold_upper", "percent_tko_threshold_lower", Share::Percent),
];

/// The keys of the upper and the lower one, and what they count.
type Thresholds = (&'static str, &'static str, fn(usize) -> Share);

impl Pool {
    /// Reads one entry of `pools`. What is wrong goes to `findings`; keys that are not read go to `unread`, to be told once.
    pub(super) fn read_mcrouters(
        name: &str,
        node: &Node,
        path: &Path<'_>,
        findings: &Findings,
        options: &McrouterOptions,
        vantage: &Vantage,
        unread: &mut HashSet<String>,
    ) -> Option<Self> {
        let section = Section::open(node, path, findings, "a pool, an object with `servers`")?;
        if let Node::Map(map) = node {
            for (key, _) in map.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
                if unread.insert(key.clone()) {
                    let problem = Problem::new(format!("{} is not read", quoted(key)));
                    findings.warn(&path.key(key), At::Key, problem);
                }
            }
        }
        check_transport(&section);
        let source = read_source(&section);
        let servers = if source.is_some() { Some(Vec::new()) } else { read_servers(&section) };
        let timeout_ms = section.value("server_timeout", |node| value::count(node, &TIMEOUTS_MS));
        let connect_ms = section.value("connect_timeout", |node| value::count(node, &TIMEOUTS_MS));
        let fanout = section.value("additional_fanout", |node| value::count(node, &(0..=32_768)));
        let hash = read_hash(&section, servers.as_ref().map_or(0, Vec::len));
        let failure_domains = read_domains(&section, servers.as_ref().map_or(0, Vec::len));
        let is_error_on_empty = section.value("error_on_empty", value::boolean).unwrap_or(true);
        let is_empty = source.is_none() && servers.as_ref().is_some_and(Vec::is_empty);
        let ms = |ms: usize| Duration::from_millis(ms as u64);
        let timeout = timeout_ms.map_or(options.server_timeout, ms);
        // mcrouter's order: the distance counts more than what the pool says, and changes nothing about connecting
        let location = Location::read_mcrouters(&section);
        let by_distance = location.as_ref().and_then(|there| vantage.timeout_to(there));
        Some(Self {
            name: name.to_owned(),
            hash,
            servers: servers?,
            follow: source.as_ref().map_or_else(Follow::default, Follow::of),
            source,
            timeout: by_distance.unwrap_or(timeout),
            connect_timeout: connect_ms.map_or(timeout, ms),
            // of a pool that lists no servers: whether it is as good as none
            on_error: if is_error_on_empty || !is_empty { OnError::Error } else { OnError::Miss },
            on_down: OnDown::Fail,
            tko: options.tko(read_tracker(&section)),
            connections_count: (fanout.unwrap_or(0) + 1).min(CONNECTIONS_COUNT_MAX),
            outstanding_count_max: OUTSTANDING_COUNT_MAX,
            keeps_prefix: section.value("keep_routing_prefix", value::boolean).unwrap_or(false),
            is_spooled: true,
            failure_domains,
            location,
            warms_connections: true,
            transition: None,
        })
    }
}

/// `tko_tracker`: when so many servers are knocked out, no further one is.
fn read_tracker(section: &Section<'_>) -> Option<FailOpen> {
    let path = section.path.key("tko_tracker");
    let tracker =
        Section::open(section.node("tko_tracker")?, &path, section.findings, "an object of thresholds")?;
    for (upper, lower, share) in FAIL_OPEN {
        if tracker.node(upper).is_none() {
            continue;
        }
        let count = |key, least| tracker.value(key, |node| value::count(node, &(least..=1_000_000)));
        let upper = count(upper, 1)?;
        let lower = if tracker.node(lower).is_some() { count(lower, 0)? } else { upper };
        if lower > upper {
            section.fault("tko_tracker", Problem::new("the lower threshold is greater than the upper"));
            return None;
        }
        // where both are the same it ends with the first server that is back: in our words, with one less
        return Some(FailOpen { upper: share(upper), lower: share(lower.min(upper - 1)) });
    }
    let problem = Problem::new("no upper threshold").help("as in `{\"num_tko_threshold_upper\": 5}`");
    section.fault("tko_tracker", problem);
    None
}

/// What would need another way to talk to servers.
fn check_transport(section: &Section<'_>) {
    let _ = section.value("protocol", |node| server::check_protocol(&value::text(node, "a protocol")?));
    for key in ["security_mech", "security_mech_within_dc", "security_mech_cross_dc"] {
        let _ = section.value(key, |node| server::check_mech(&value::text(node, "a security mechanism")?));
    }
    let _ = section.value("use_ssl", |node| match value::boolean(node)? {
        true => server::check_mech("ssl"),
        false => Ok(()),
    });
}

/// Ours: one entry that stands for several servers, `dnssrv+_memcache._tcp.cache.example`.
fn read_source(section: &Section<'_>) -> Option<PoolSource> {
    let Some(Node::List(list)) = section.node("servers") else { return None };
    let [Node::Text(entry)] = list.as_slice() else { return None };
    match PoolSource::of_entry(entry)? {
        Ok(source) => Some(source),
        Err(problem) => {
            section.findings.fault(&section.path.key("servers").index(0), At::Value, problem);
            None
        }
    }
}

fn read_servers(section: &Section<'_>) -> Option<Vec<Server>> {
    let list = match section.node("servers") {
        Some(Node::List(list)) => list,
        Some(other) => {
            section.fault("servers", expected("an array of servers", other));
            return None;
        }
        None => {
            section.findings.fault(section.path, At::Key, Problem::new("pool: no servers"));
            return None;
        }
    };
    if list.len() > SERVERS_COUNT_MAX {
        let problem = Problem::new(format!("{} servers", list.len()));
        section.fault("servers", problem.help(format!("at most {SERVERS_COUNT_MAX}")));
        return None;
    }
    let port = section.value("port_override", |node| {
        value::count(node, &(1..=65_535)).map(|port| u16::try_from(port).unwrap_or(0))
    });
    let path = section.path.key("servers");
    let read = |(i, node): (usize, &Node)| {
        let read = match node {
            Node::Text(text) => server::parse(text, port),
            Node::Map(_) => Ok(server::of_route(node)),
            other => Err(expected("a server, as in `10.0.0.1:11211`", other)),
        };
        read.map(|server| server.at_place(i))
            .map_err(|problem| section.findings.fault(&path.index(i), At::Value, problem))
            .ok()
    };
    // every one is read, so that the first fault does not hide the next
    let servers: Vec<Option<Server>> = list.iter().enumerate().map(read).collect();
    let mut servers: Vec<Server> = servers.into_iter().collect::<Option<_>>()?;
    name_servers(section, &mut servers);
    Some(servers)
}

/// `hostnames`: what to call them. Statistics have a name as one word, so what would part a word is replaced; a name that is
/// none, or another's, is left out.
fn name_servers(section: &Section<'_>, servers: &mut [Server]) {
    let Some(node) = section.node("hostnames") else { return };
    let names: Option<Vec<&str>> = match node {
        Node::List(list) => {
            list.iter().map(|n| if let Node::Text(t) = n { Some(t.as_str()) } else { None }).collect()
        }
        _ => None,
    };
    match names {
        Some(names) if names.len() == servers.len() => {
            let mut taken = HashSet::new();
            for (server, name) in servers.iter_mut().zip(names) {
                let parts = |c: char| c.is_whitespace() || c.is_control();
                let name = name.replace(parts, "_");
                let is_name = check_name(&name).is_ok() && taken.insert(name.clone());
                server.member.name = is_name.then_some(name);
            }
        }
        _ => section.fault("hostnames", Problem::new("expected an array of names, one for each server")),
    }
}

/// Weights make it `WeightedCh3`; all else stands with the route (`hash`), which takes the tags from here.
fn read_hash(section: &Section<'_>, servers_count: usize) -> Spec {
    let weights = section.value("weights", |node| {
        let weight = |node: &Node| match node {
            Node::Integer(weight) => Some(*weight as f64),
            Node::Float(weight) => Some(*weight),
            _ => None,
        };
        let list = if let Node::List(list) = node { list.as_slice() } else { &[] };
        let weights: Option<Vec<f64>> = list.iter().map(weight).collect();
        weights
            .filter(|weights| matches!(node, Node::List(_)) && weights.iter().all(|w| *w >= 0.0))
            .ok_or_else(|| expected("an array of weights, one for each server", node))
    });
    match weights {
        Some(weights) if servers_count > 0 => Spec {
            placement: Placement::WeightedCh3,
            weights: weights_for(servers_count, weights.into_iter().map(|weight| weight.min(1.0)).collect()),
            ..Spec::default()
        },
        _ => Spec { placement: Placement::Ch3, ..Spec::default() },
    }
}
