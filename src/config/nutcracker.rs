//! twemproxy's configuration as our YAML: `ringway convert nutcracker.yml`.
//!
//! Each of its pools listens by itself; ours is one listener for all pools. So one pool becomes one configuration.

use super::document::placed;
use super::fault::{At, Fault, Faults, Finding, Findings, Problem, Source, quoted};
use super::node::Node;
use super::path::Path;
use super::pool::{Pool, Server};
use super::position::Positions;
use super::section::{Section, nearest_help};
use super::server::parse;
use super::value::{self, expected};
use super::{Config, Listen, OnDown, Routes, Settings, Tko, Warning, yaml};
use crate::hash::{KeyHash, Placement, Spec};
use std::sync::Arc;
use std::time::Duration;

const KEYS: &[&str] = &[
    "servers",
    "listen",
    "hash",
    "hash_tag",
    "distribution",
    "timeout",
    "redis",
    "server_connections",
    "auto_eject_hosts",
    "server_failure_limit",
    "server_retry_timeout",
];
/// What changes nothing about where keys are.
const UNREAD: &[&str] =
    &["backlog", "client_connections", "preconnect", "redis_auth", "redis_db", "tcpkeepalive"];
/// twemproxy's.
const FAILURE_LIMIT_DEFAULT: u32 = 2;
const RETRY_DEFAULT: Duration = Duration::from_secs(30);
/// twemproxy waits for ever; so long nobody does.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Of a port that is not part of a server's name.
const PORT_UNNAMED: u16 = 11_211;

/// Reads one pool of twemproxy's file; `name` may be left out when there is one only.
pub fn from_nutcracker(file: &str, text: &str, name: Option<&str>) -> Result<(Config, Vec<Warning>), Faults> {
    let source = Arc::new(Source { name: file.to_owned(), text: text.to_owned() });
    let findings = Findings::default();
    let (config, syntax) = match yaml::read(&source, &findings) {
        Ok(node) => (read_top(&node, name, &findings), None),
        Err(fault) => (None, Some(*fault)),
    };
    let is_sound = findings.faults_count() == 0;
    let syntax: Vec<Fault> = syntax.into_iter().collect();
    let (faults, warnings) = placed(findings, syntax, |list| {
        let positions = Positions::of(text);
        let place = |f: &Finding| positions.place(&f.steps, f.at, f.problem.word.as_deref());
        list.iter().map(|finding| (Arc::clone(&source), place(finding))).collect()
    });
    match config {
        Some(config) if is_sound => Ok((config, warnings)),
        _ => Err(faults),
    }
}

/// Whether a file is twemproxy's: maps with `servers` and no `pools`.
pub(super) fn is_nutcrackers(text: &str) -> bool {
    let source = Arc::new(Source { name: String::new(), text: text.to_owned() });
    let Ok(Node::Map(top)) = yaml::read(&source, &Findings::default()) else { return false };
    let is_pool =
        |node: &Node| matches!(node, Node::Map(pool) if pool.iter().any(|(key, _)| key == "servers"));
    !top.is_empty() && top.iter().all(|(key, node)| key != "pools" && is_pool(node))
}

fn read_top(node: &Node, wanted: Option<&str>, findings: &Findings) -> Option<Config> {
    let root = Path::ROOT;
    let Node::Map(pools) = node else {
        findings.fault(&root, At::Value, expected("a map of pools", node));
        return None;
    };
    let names: Vec<&str> = pools.iter().map(|(name, _)| name.as_str()).collect();
    let found = match (wanted, pools.as_slice()) {
        (Some(wanted), _) => pools.iter().find(|(name, _)| name == wanted),
        (None, [only]) => Some(only),
        (None, _) => {
            let problem = Problem::new(format!("{} pools, each with a listener of its own", pools.len()));
            let help = format!("convert them one by one: `--pool {}`", names.first().unwrap_or(&"NAME"));
            findings.fault(&root, At::Value, problem.help(help));
            return None;
        }
    };
    let Some((name, node)) = found else {
        let problem = Problem::new(format!("there is no pool {}", quoted(wanted.unwrap_or_default())));
        findings.fault(&root, At::Value, problem.help(nearest_help(wanted.unwrap_or_default(), &names)));
        return None;
    };
    let path = root.key(name);
    let section = Section::open(node, &path, findings, "a pool, a map with `servers`")?;
    let listen = read_listen(&section);
    let pool = read_pool(name, &section)?;
    let mut settings = Settings::default();
    if let Some(listen) = listen {
        settings.listen = vec![listen];
    }
    Some(Config { settings, routes: Routes::to_pool(name), pools: vec![pool] })
}

fn read_pool(name: &str, section: &Section<'_>) -> Option<Pool> {
    for key in section.keys().filter(|key| !KEYS.contains(key)) {
        let problem = Problem::new(format!("{} is left out", quoted(key)));
        let problem =
            if UNREAD.contains(&key) { problem } else { problem.help("twemproxy does not know it") };
        section.findings.warn(&section.path.key(key), At::Key, problem);
    }
    let _ = section.value("redis", |node| match value::boolean(node)? {
        true => Err(Problem::new("a pool of Redis servers").help("ringway speaks memcached only")),
        false => Ok(()),
    });
    let (on_down, tko) = read_ejection(section);
    let placement = match section.node("distribution") {
        None => Some(Placement::Twemproxy),
        Some(_) => section.value("distribution", |node| {
            let all = [
                ("ketama", Placement::Twemproxy),
                ("modula", Placement::Modula),
                ("random", Placement::Random),
            ];
            value::choice(node, "`ketama`, `modula` or `random`", &all)
        }),
    };
    let key_hash = section.value("hash", |node| value::choice(node, "a hash of keys", KeyHash::ALL));
    let hash_tag = section.value("hash_tag", |node| match value::text(node, "two characters")?.as_bytes() {
        [open, close] => Ok((*open, *close)),
        _ => Err(expected("two characters", node)),
    });
    let timeout = section.value("timeout", |node| value::count(node, &(1..=3_600_000)));
    let connections = section.value("server_connections", |node| value::count(node, &(1..=128)));
    let servers = read_servers(section, placement)?;
    let placement = placement?;
    let timeout = timeout.map_or(TIMEOUT_DEFAULT, |ms| Duration::from_millis(ms as u64));
    Some(Pool {
        hash: Spec {
            placement,
            key_hash: placement.has_key_hash().then(|| key_hash.unwrap_or(KeyHash::Fnv1a64)),
            hash_tag,
            hash_stop: false,
            ..Spec::default()
        },
        timeout,
        connect_timeout: timeout,
        connections_count: connections.unwrap_or(1),
        on_down,
        tko: Some(tko),
        ..Pool::with_defaults(name, servers)
    })
}

/// `auto_eject_hosts`. Ours puts nobody back who does not answer; until then it asks with growing pauses.
fn read_ejection(section: &Section<'_>) -> (OnDown, Tko) {
    let ejects = section.value("auto_eject_hosts", value::boolean) == Some(true);
    let limit = section.value("server_failure_limit", |node| value::count(node, &(1..=1_000_000)));
    let retry = section.value("server_retry_timeout", |node| value::count(node, &(1..=3_600_000)));
    if !ejects {
        return (OnDown::Fail, Tko::DEFAULT);
    }
    let limit = limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(FAILURE_LIMIT_DEFAULT);
    let retry = retry.map_or(RETRY_DEFAULT, |ms| Duration::from_millis(ms as u64));
    let probe_max = Tko::DEFAULT.probe_max.max(retry);
    (OnDown::Eject, Tko { timeouts_count: limit, probe_first: retry, probe_max, ..Tko::DEFAULT })
}

/// `host:port:weight name`, `/path:weight name`.
fn read_servers(section: &Section<'_>, placement: Option<Placement>) -> Option<Vec<Server>> {
    let Some(Node::List(list)) = section.node("servers") else {
        let problem = Problem::new("expected `servers`, a list");
        section.findings.fault(section.path, At::Key, problem);
        return None;
    };
    let path = section.path.key("servers");
    let read = |(i, node): (usize, &Node)| {
        let server = value::text(node, "a server").and_then(|text| read_server(&text));
        server.map_err(|problem| section.findings.fault(&path.index(i), At::Value, problem)).ok()
    };
    // every one is read, so that the first fault does not hide the next
    let servers: Vec<Option<Server>> = list.iter().enumerate().map(read).collect();
    let mut servers: Vec<Server> = servers.into_iter().collect::<Option<_>>()?;
    match placement {
        // its modula counts in the order of names: shorter ones first, then by their bytes
        Some(Placement::Modula) => servers.sort_by_key(|server| {
            let name = name_of(server);
            (name.len(), name)
        }),
        Some(Placement::Random) => servers.iter_mut().for_each(|server| server.member.weight = 1),
        _ => {}
    }
    Some(servers)
}

fn read_server(text: &str) -> Result<Server, Problem> {
    let mut words = text.split_whitespace();
    let address = words.next().unwrap_or_default();
    let wrong =
        || Problem::new(format!("{} is no server", quoted(text))).help("as in `10.0.0.1:11211:1 name`");
    let (address, weight) = address.rsplit_once(':').ok_or_else(wrong)?;
    let scheme = if address.starts_with('/') { "unix:" } else { "" };
    let name = words.next().map_or_else(String::new, |name| format!(" name={name}"));
    parse(&format!("{scheme}{address} weight={weight}{name}"))
}

/// What twemproxy calls a server.
fn name_of(server: &Server) -> String {
    match (&server.member.name, server.member.port) {
        (Some(name), _) => name.clone(),
        (None, Some(port)) if port != PORT_UNNAMED => format!("{}:{port}", server.member.host),
        (None, _) => server.member.host.clone(),
    }
}

/// Nobody listens on a name here; what cannot be taken over is told.
fn read_listen(section: &Section<'_>) -> Option<Listen> {
    let node = section.node("listen")?;
    let text = if let Node::Text(text) = node { text.as_str() } else { "" };
    let address = text.split_whitespace().next().unwrap_or_default();
    let address = match address.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None if address.starts_with('/') => format!("unix:{address}"),
        None => address.to_owned(),
    };
    let listen = address.parse().ok();
    if listen.is_none() {
        let problem = Problem::new(format!("{} is left out", quoted(text)));
        section.findings.warn(
            &section.path.key("listen"),
            At::Value,
            problem.help("write `listen` yourself"),
        );
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "alpha:\n  listen: 127.0.0.1:22121\n  hash: murmur\n  hash_tag: \"{}\"\n  timeout: 400\n  \
        auto_eject_hosts: true\n  server_retry_timeout: 2000\n  servers:\n   - 10.0.0.1:11211:2 a\n   - /run/mc.sock:1\n";

    #[test]
    fn a_pool_of_twemproxy() {
        assert!(is_nutcrackers(FILE) && !is_nutcrackers("pools: {a: {servers: [x]}}"));
        let (config, warnings) = from_nutcracker("n.yml", FILE, None).unwrap();
        let pool = &config.pools[0];
        assert_eq!((pool.hash.placement, pool.hash.key_hash), (Placement::Twemproxy, Some(KeyHash::Murmur)));
        assert_eq!((pool.servers[0].label(), pool.servers[0].member.weight), ("a".to_owned(), 2));
        assert_eq!(pool.servers[1].label(), "unix:/run/mc.sock");
        assert_eq!(config.settings.listen[0].to_string(), "127.0.0.1:22121");
        let told: Vec<String> = warnings.iter().map(|warning| warning.0.path.clone()).collect();
        assert!(told.is_empty(), "{told:?}");
        let tko = pool.tko.as_ref().unwrap();
        let ejected = (&pool.on_down, tko.timeouts_count, tko.probe_first);
        assert_eq!(ejected, (&OnDown::Eject, 2, Duration::from_millis(2000)));
    }

    #[test]
    fn what_cannot_be_converted() {
        let told = |text: &str, pool| from_nutcracker("n.yml", text, pool).unwrap_err().to_string();
        let two = format!("{FILE}{}", FILE.replace("alpha", "beta"));
        assert!(told(&two, None).contains("2 pools, each with a listener"), "{}", told(&two, None));
        assert!(from_nutcracker("n.yml", &two, Some("beta")).is_ok());
        assert!(told(&two, Some("gamma")).contains("there is no pool `gamma`"));
        assert!(told("a: {redis: true, servers: [\"h:1:1\"]}", None).contains("a pool of Redis servers"));
        assert!(told("a: {servers: [\"h\", \"h:1:x\"], hash: sha1}", None).lines().count() == 3);
    }
}
