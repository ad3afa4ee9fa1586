//! A configuration as our YAML: what `ringway convert` prints.

use super::distance::{DistanceTimeouts, Vantage};
use super::node::Node;
use super::value::{show_bytes, show_duration};
use super::{Config, Endpoint, OnDown, OnError, Pool, PoolSource, Server, Settings, Share, Tko};
use crate::hash::{KeyHash, Placement};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

/// A longer list of single values has a line for each.
const LINE_BYTES_MAX: usize = 100;
/// Words that YAML does not take for text.
const NOT_TEXT: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
const NAME_BYTES_MAX: usize = 64;

/// Pools with every key that counts, and the routes, which are in our words.
#[must_use]
pub fn to_yaml(config: &Config) -> String {
    let names = legal_names(config);
    let vantage = Vantage::of(config);
    let pool = |pool: &Pool| (names.get(&pool.name).unwrap_or(&pool.name).clone(), pool_node(pool, &vantage));
    let mut top = Vec::new();
    if config.settings.listen != Settings::default().listen {
        let listen = config.settings.listen.iter().map(|listen| Node::Text(listen.to_string())).collect();
        top.push(("listen".to_owned(), Node::List(listen)));
    }
    if config.settings.allow_flush {
        top.push(("allow_flush".to_owned(), Node::Bool(true)));
    }
    let value_bytes_max = config.settings.limits.value_bytes_max;
    if value_bytes_max != Settings::default().limits.value_bytes_max {
        let limit = ("value_bytes_max".to_owned(), Node::Text(show_bytes(value_bytes_max)));
        top.push(("limits".to_owned(), Node::Map(vec![limit])));
    }
    for (key, timeout) in DistanceTimeouts::KEYS.into_iter().zip(config.settings.distance_timeouts.list()) {
        top.extend(timeout.map(|timeout| (key.to_owned(), Node::Text(show_duration(timeout)))));
    }
    top.push(("pools".to_owned(), Node::Map(config.pools.iter().map(pool).collect())));
    if let Node::Map(routes) = &config.routes.document {
        top.extend(routes.iter().cloned());
    }
    let mut text = String::new();
    write_map(&mut text, &top, 0);
    text
}

/// For each pool whose name our dialect does not allow one that it does.
#[must_use]
pub fn legal_names(config: &Config) -> HashMap<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_legal = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(legal);
    let (sound, others): (Vec<_>, Vec<_>) =
        config.pools.iter().map(|p| &p.name).partition(|name| is_legal(name));
    let mut taken: HashSet<String> = sound.into_iter().cloned().collect();
    let mut names = HashMap::new();
    for name in others {
        let base: String =
            name.chars().map(|c| if legal(c) { c } else { '-' }).take(NAME_BYTES_MAX - 8).collect();
        let free = (1..).map(|i| if i == 1 { base.clone() } else { format!("{base}-{i}") });
        let free =
            free.into_iter().find(|name| !name.is_empty() && !taken.contains(name)).unwrap_or_default();
        taken.insert(free.clone());
        names.insert(name.clone(), free);
    }
    names
}

fn pool_node(pool: &Pool, vantage: &Vantage) -> Node {
    let text = |text: &str| Node::Text(text.to_owned());
    let list = |texts: Vec<String>| Node::List(texts.into_iter().map(Node::Text).collect());
    let mut map: Vec<(String, Node)> = Vec::new();
    let mut add = |key: &str, node: Node| map.push((key.to_owned(), node));
    let embedded = pool.servers.iter().find_map(|server| match server.endpoint {
        Endpoint::Embedded(embedded) => Some(embedded.memory_bytes_max),
        _ => None,
    });
    match embedded {
        Some(bytes) => {
            let shards = pool.servers.len();
            let of = vec![
                ("shards".to_owned(), Node::Integer(shards as i128)),
                ("memory".to_owned(), Node::Text(show_bytes(bytes * shards))),
            ];
            add("embedded", Node::Map(of));
        }
        None => match &pool.source {
            Some(source) => source_nodes(source).into_iter().for_each(|(key, node)| add(key, node)),
            None => add("servers", Node::List(pool.servers.iter().map(server_node).collect())),
        },
    }
    let hash = &pool.hash;
    add("hash", text(hash.placement.name()));
    if let Some(key_hash) = hash.key_hash {
        add("key_hash", text(KeyHash::name(key_hash)));
    }
    if let Some((open, close)) = hash.hash_tag {
        add("hash_tag", Node::Text([char::from(open), char::from(close)].iter().collect()));
    }
    if hash.placement != Placement::Random {
        add("hash_stop", Node::Bool(hash.hash_stop));
    }
    if !hash.salt.is_empty() {
        add("salt", text(&hash.salt));
    }
    if !hash.weights.is_empty() {
        add("weights", Node::List(hash.weights.iter().map(|weight| Node::Float(*weight)).collect()));
    }
    if !hash.tags.is_empty() {
        add("tags", list(hash.tags.clone()));
    }
    if let Some(there) = &pool.location {
        add("region", text(&there.region));
        add("cluster", text(&there.cluster));
    }
    // what follows from the distance goes on doing so
    if pool.location.as_ref().and_then(|there| vantage.timeout_to(there)) != Some(pool.timeout) {
        add("timeout", Node::Text(show_duration(pool.timeout)));
    }
    add("connect_timeout", Node::Text(show_duration(pool.connect_timeout)));
    let on_error =
        OnError::ALL.iter().find(|(_, value)| *value == pool.on_error).map_or("error", |(name, _)| name);
    add("on_error", text(on_error));
    add("on_down", on_down_node(&pool.on_down));
    add("tko", pool.tko.as_ref().map_or_else(|| text("off"), tko_node));
    if pool.keeps_prefix {
        add("keep_routing_prefix", Node::Bool(true));
    }
    if !pool.is_spooled {
        add("spool", Node::Bool(false));
    }
    add("connections", Node::Integer(pool.connections_count as i128));
    add("outstanding_max", Node::Integer(pool.outstanding_count_max as i128));
    if !pool.warms_connections {
        add("warm_connect", Node::Bool(false));
    }
    if let Some(transition) = &pool.transition {
        let map = vec![
            ("for".to_owned(), Node::Text(show_duration(transition.time))),
            ("copy".to_owned(), Node::Bool(transition.copies)),
            ("rate".to_owned(), Node::Integer(transition.rate_per_s.into())),
        ];
        add("transition", Node::Map(map));
    }
    if !pool.failure_domains.is_empty() {
        add("failure_domains", list(pool.failure_domains.clone()));
    }
    Node::Map(map)
}

/// The keys of a pool whose servers are followed. (`convert` meets those that stand in entries of other programs.)
fn source_nodes(source: &PoolSource) -> Vec<(&'static str, Node)> {
    let port = |port: u16| ("port", Node::Integer(port.into()));
    match source {
        PoolSource::Dns { name, port: number } => vec![("dns", Node::Text(name.clone())), port(*number)],
        PoolSource::Srv { name, port: number } => {
            [("srv", Node::Text(name.clone()))].into_iter().chain(number.map(port)).collect()
        }
        PoolSource::ConfigEndpoint { host, port } => {
            vec![("config_endpoint", Node::Text(format!("{host}:{port}")))]
        }
        PoolSource::File(path) => vec![("file", Node::Text(path.display().to_string()))],
        PoolSource::StatefulSet(set) => {
            let text = |text: &str| Node::Text(text.to_owned());
            let mut map = vec![("name", text(&set.name)), ("service", text(&set.service))];
            if let Some(namespace) = &set.namespace {
                map.extend([("namespace", text(namespace)), ("cluster_domain", text(&set.cluster_domain))]);
            }
            map.push(port(set.port));
            map.extend(set.replicas_count.map(|count| ("replicas", Node::Integer(count as i128))));
            vec![("statefulset", Node::map(map))]
        }
    }
}

fn on_down_node(on_down: &OnDown) -> Node {
    let text = |text: &str| Node::Text(text.to_owned());
    match on_down {
        OnDown::Fail => text("fail"),
        OnDown::Eject => text("eject"),
        OnDown::Failover { gutter, exptime_s } => {
            let exptime = show_duration(Duration::from_secs(u64::from(exptime_s.unsigned_abs())));
            let mut map = vec![("type".to_owned(), text("failover")), ("exptime".to_owned(), text(&exptime))];
            map.extend(gutter.iter().map(|gutter| ("gutter".to_owned(), text(gutter))));
            Node::Map(map)
        }
    }
}

fn tko_node(tko: &Tko) -> Node {
    let duration = |duration| Node::Text(show_duration(duration));
    let share = |share| match share {
        Share::Count(count) => Node::Integer(count as i128),
        Share::Percent(percent) => Node::Text(format!("{percent}%")),
    };
    let mut map = vec![
        ("timeouts_until_tko".to_owned(), Node::Integer(tko.timeouts_count.into())),
        ("probe_timeout_initial".to_owned(), duration(tko.probe_first)),
        ("probe_timeout_max".to_owned(), duration(tko.probe_max)),
        ("tko_on_disconnect".to_owned(), Node::Bool(tko.on_disconnect)),
    ];
    if let Some(open) = &tko.fail_open {
        let shares = [("upper", share(open.upper)), ("lower", share(open.lower))];
        let shares = shares.map(|(key, node)| (key.to_owned(), node)).into();
        map.push(("fail_open".to_owned(), Node::Map(shares)));
    }
    Node::Map(map)
}

fn server_node(server: &Server) -> Node {
    let place = match &server.endpoint {
        Endpoint::Route(route) => ("route".to_owned(), (*route.node).clone()),
        _ if server.timeout.or(server.connect_timeout).is_none() => return Node::Text(server_text(server)),
        endpoint => ("address".to_owned(), Node::Text(endpoint.address())),
    };
    let mut map = vec![place];
    if server.member.weight != 1 {
        map.push(("weight".to_owned(), Node::Integer(server.member.weight.into())));
    }
    map.extend(server.member.name.iter().map(|name| ("name".to_owned(), Node::Text(name.clone()))));
    for (key, time) in [("timeout", server.timeout), ("connect_timeout", server.connect_timeout)] {
        map.extend(time.map(|time| (key.to_owned(), Node::Text(show_duration(time)))));
    }
    Node::Map(map)
}

fn server_text(server: &Server) -> String {
    let mut text = server.address();
    if server.member.weight != 1 {
        let _ = write!(text, " weight={}", server.member.weight);
    }
    if let Some(name) = &server.member.name {
        let _ = write!(text, " name={name}");
    }
    text
}

fn write_map(text: &mut String, map: &[(String, Node)], indent: usize) {
    for (key, node) in map {
        let _ = write!(text, "{:indent$}{}:", "", scalar_text(key));
        write_value(text, node, indent + 2);
    }
}

/// Behind a key and its colon.
fn write_value(text: &mut String, node: &Node, indent: usize) {
    if let Some(short) = in_one_line(node) {
        let _ = writeln!(text, " {short}");
        return;
    }
    text.push('\n');
    match node {
        Node::Map(map) => write_map(text, map, indent),
        Node::List(list) => list.iter().for_each(|item| write_item(text, item, indent)),
        _ => {}
    }
}

fn write_item(text: &mut String, item: &Node, indent: usize) {
    if let Some(short) = in_one_line(item) {
        let _ = writeln!(text, "{:indent$}- {short}", "");
        return;
    }
    let mut inner = String::new();
    match item {
        Node::Map(map) => write_map(&mut inner, map, indent + 2),
        Node::List(list) => list.iter().for_each(|item| write_item(&mut inner, item, indent + 2)),
        _ => {}
    }
    // the first line of what is inside stands behind the dash
    let _ = write!(text, "{:indent$}- {}", "", inner.trim_start());
}

/// A single value, or a short list of them.
fn in_one_line(node: &Node) -> Option<String> {
    match node {
        Node::Null => Some("null".into()),
        Node::Bool(value) => Some(value.to_string()),
        Node::Integer(value) => Some(value.to_string()),
        Node::Float(value) => Some(format!("{value:?}")),
        Node::Text(text) => Some(scalar_text(text)),
        Node::List(list) => {
            let single = |node: &Node| match node {
                Node::List(_) | Node::Map(_) => None,
                node => in_one_line(node),
            };
            let line = format!("[{}]", list.iter().map(single).collect::<Option<Vec<_>>>()?.join(", "));
            (line.len() <= LINE_BYTES_MAX).then_some(line)
        }
        Node::Map(map) if map.is_empty() => Some("{}".into()),
        Node::Map(_) => None,
    }
}

/// Plain where nobody can take it for something else, else in quotes.
fn scalar_text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begins = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    if begins && text.chars().all(plain) && !NOT_TEXT.contains(&text.to_lowercase().as_str()) {
        return text.to_owned();
    }
    let is_duration =
        text.len() < 12 && text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(['s', 'm', 'h']);
    if is_duration && text.chars().all(|c| c.is_ascii_alphanumeric()) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Findings, Source, yaml};
    use std::sync::Arc;

    #[test]
    fn what_is_written_is_read_back() {
        let texts = [
            "",
            "plain",
            "true",
            "1",
            "1.5s",
            "100ms",
            "a: b",
            "- x",
            "é\"\\\n\u{7f}",
            "[::1]:1",
            "/././",
            "#",
            "0x1",
            "1e3",
        ];
        let list = Node::List(texts.iter().map(|text| Node::Text((*text).to_owned())).collect());
        let inner = Node::Map(vec![("k".into(), Node::Float(1.0)), ("%".into(), list.clone())]);
        let nested = Node::List(vec![
            inner.clone(),
            Node::List(vec![inner.clone(), Node::Null]),
            Node::Map(Vec::new()),
        ]);
        let map = vec![
            ("a".into(), list),
            ("b c".into(), nested),
            ("d".into(), inner),
            ("e".into(), Node::List(Vec::new())),
        ];
        let mut text = String::new();
        write_map(&mut text, &map, 0);
        let source = Arc::new(Source { name: "t".into(), text: text.clone() });
        let read = yaml::read(&source, &Findings::default()).map_err(|fault| fault.to_string());
        assert_eq!(read, Ok(Node::Map(map)), "{text}");
    }
}
