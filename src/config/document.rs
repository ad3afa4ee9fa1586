//! The whole document in our dialect: its top keys, the pools, the route; and what only shows when all is read.

use super::about::{About, Loaded, Origin};
use super::distance::{DEFAULT_PREFIX, DistanceTimeouts, Vantage};
use super::fault::{At, Fault, Faults, Finding, Findings, Problem, Source, Warning, quoted};
use super::node::Node;
use super::path::{Path, Shown};
use super::pool::Pool;
use super::position::Positions;
use super::runtime_vars::RuntimeVars;
use super::section::{Hint, Section};
use super::settings::{self, Limits, Settings};
use super::value;
use super::yaml;
use super::{CheckRoutes, Config, Dialect, Endpoint, Listen, McrouterOptions, Place, Routes};
use std::sync::Arc;

pub(super) const KEYS: &[&str] =
    &["pools", "route", "routes", "named_handles", "default_route", "send_invalid_route_to_default", "tests"];
/// What [`Routes`] keeps.
const ROUTE_KEYS: &[&str] =
    &["route", "routes", "named_handles", "default_route", "send_invalid_route_to_default", "tests"];
/// Keys that stand a level too high: the most common slip, worth more than "unknown".
const IN_A_POOL: &str = "it belongs in a pool: `pools: {main: {…}}`";
const HINTS: &[Hint] = &[
    ("servers", IN_A_POOL),
    ("hash", IN_A_POOL),
    ("timeout", IN_A_POOL),
    ("connect_timeout", IN_A_POOL),
    ("on_error", IN_A_POOL),
    ("on_down", IN_A_POOL),
    ("connections", IN_A_POOL),
    ("outstanding_max", IN_A_POOL),
    ("embedded", IN_A_POOL),
    ("dns", IN_A_POOL),
    ("srv", IN_A_POOL),
    ("statefulset", IN_A_POOL),
    ("on_empty", IN_A_POOL),
    ("region", IN_A_POOL),
    ("cluster", IN_A_POOL),
    ("clients_max", "it belongs under `limits`"),
    ("client_outstanding_max", "it belongs under `limits`"),
    ("client_reply_bytes_max", "it belongs under `limits`"),
    ("value_bytes_max", "it belongs under `limits`"),
    ("buffer_bytes_max", "it belongs under `limits`"),
    ("client_idle_timeout", "it belongs under `limits`"),
    ("client_stall_timeout", "it belongs under `limits`"),
    ("late_replies_max", "it belongs under `limits`"),
];
const NAME_BYTES_MAX: usize = 64;

/// Reads a document that is known to be UTF-8 and not too long.
pub(super) fn read(
    source: &Arc<Source>,
    origin: &Origin,
    variables: Option<&RuntimeVars>,
    check: CheckRoutes,
) -> Result<Loaded, Faults> {
    let findings = Findings::default();
    let (mut config, document, syntax) = match yaml::read(source, &findings) {
        Ok(node) => (read_top(&node, &findings), origin.keeps_document.then_some(node), None),
        Err(fault) => (None, None, Some(*fault)),
    };
    if origin.options != McrouterOptions::default() || !origin.params.is_empty() {
        let problem = Problem::new("flags for mcrouter's files do nothing with this one");
        findings.warn(&Path::ROOT, At::Value, problem.help("`ringway convert` writes what they say"));
    }
    RuntimeVars::put_and_check(variables, config.as_mut(), check, &findings);
    let is_sound = findings.faults_count() == 0 && syntax.is_none();
    let (faults, warnings) = placed(findings, syntax.into_iter().collect(), |list| {
        let positions = Positions::of(&source.text);
        let place = |f: &Finding| positions.place(&f.steps, f.at, f.problem.word.as_deref());
        list.iter().map(|finding| (Arc::clone(source), place(finding))).collect()
    });
    match config {
        Some(config) if is_sound => Ok(Loaded {
            config,
            warnings,
            about: About::of([source].into_iter().chain(variables.map(|v| &v.source)), document),
        }),
        _ => Err(faults),
    }
}

/// The settings alone. What is wrong with one of them leaves it at its default.
pub(super) fn settings_of(source: &Arc<Source>) -> Result<Settings, String> {
    let findings = Findings::default();
    let node = yaml::read(source, &findings).map_err(|fault| fault.message)?;
    let top = Section::open(&node, &Path::ROOT, &findings, "a map").ok_or("it is no map")?;
    Ok(Settings::read(&top))
}

fn read_top(node: &Node, findings: &Findings) -> Option<Config> {
    let root = &Path::ROOT;
    if *node == Node::Null {
        let help = "the least is `pools: {main: {servers: [\"10.0.0.1:11211\"]}}`";
        findings.fault(root, At::Value, Problem::new("the file is empty").help(help));
        return None;
    }
    let top = Section::open(node, root, findings, "a map with `pools` and `route`")?;
    let known: Vec<&str> = settings::KEYS.iter().chain(KEYS).copied().collect();
    top.refuse_unknown_with(&known, |key, node| match node {
        // A file of twemproxy, or a pool without its frame.
        Node::Map(map) if map.iter().any(|(key, _)| key == "servers") => {
            Some(format!("a pool stands under `pools`: `pools: {{{key}: {{…}}}}`"))
        }
        _ => HINTS.iter().find(|(name, _)| *name == key).map(|(_, hint)| (*hint).to_owned()),
    });
    let settings = Settings::read(&top);
    let default_prefix = match top.node("default_route") {
        Some(Node::Text(prefix)) => prefix,
        _ => DEFAULT_PREFIX,
    };
    let pools = read_pools(&top, &Vantage::new(default_prefix, settings.distance_timeouts))?;
    let routes = read_routes(&top, &pools);
    let config = Config {
        settings,
        pools: pools.into_iter().map(|(_, pool)| pool).collect::<Option<_>>()?,
        routes: routes?,
    };
    if config.pools.iter().all(|pool| pool.location.is_none()) {
        DistanceTimeouts::warn_unused(&top);
    }
    warn_small_shards(&config, root, findings);
    warn_public(&config, root, findings);
    warn_circle(&config, root, findings);
    Some(config)
}

/// Names with their pools; `None` where the pool is wrong, so that the route can still be checked by name.
fn read_pools<'a>(top: &Section<'a>, vantage: &Vantage) -> Option<Vec<(&'a str, Option<Pool>)>> {
    let root = top.path;
    let path = root.key("pools");
    let Some(node) = top.node("pools") else {
        let help = "write `pools: {main: {servers: [\"10.0.0.1:11211\"]}}`";
        top.findings.fault(root, At::Value, Problem::new("`pools` is missing").help(help));
        return None;
    };
    let Node::Map(entries) = node else {
        let help = "as in `pools: {main: {servers: [\"10.0.0.1:11211\"]}}`";
        top.fault("pools", value::expected("a map of pools", node).help(help));
        return None;
    };
    if entries.is_empty() {
        top.findings.fault(&path, At::Key, Problem::new("there is no pool"));
    }
    let read = |(name, node): &'a (String, Node)| {
        let path = path.key(name);
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(legal) {
            let help = format!("1 to {NAME_BYTES_MAX} letters, digits, `-`, `_`, `.`");
            let problem = Problem::new(format!("{} is not a pool's name", quoted(name)));
            top.findings.fault(&path, At::Key, problem.help(help));
        }
        (name.as_str(), Pool::read(name, node, &path, top.findings, vantage))
    };
    Some(entries.iter().map(read).collect())
}

/// Keeps what says where requests go; with one pool nothing has to say it.
fn read_routes(top: &Section<'_>, pools: &[(&str, Option<Pool>)]) -> Option<Routes> {
    let mut kept: Vec<(String, Node)> = Vec::new();
    for key in ROUTE_KEYS {
        kept.extend(top.node(key).map(|node| ((*key).to_owned(), node.clone())));
    }
    if !kept.iter().any(|(key, _)| key == "route" || key == "routes") {
        let [(name, _)] = pools else {
            if let Some((first, _)) = pools.first() {
                let help = format!("write `route: {first}`");
                let problem = Problem::new("`route` is missing, and there are several pools").help(help);
                top.findings.fault(top.path, At::Value, problem);
            }
            return None;
        };
        kept.push(("route".to_owned(), Node::Text((*name).to_owned())));
    }
    Some(Routes { dialect: Dialect::Ringway, document: Node::Map(kept) })
}

/// Whoever reaches the port reads and writes the cache; tens of thousands of memcached servers were on the internet.
fn warn_public(config: &Config, root: &Path<'_>, findings: &Findings) {
    let is_public = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(ip) => {
            let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64; // RFC 6598
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || is_shared)
        }
        std::net::IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
    };
    for listen in &config.settings.listen {
        if let Listen::Tcp(address) = listen
            && is_public(address.ip())
        {
            let message =
                format!("`{address}` is a public address: whoever reaches it reads and writes the cache");
            let problem = Problem::new(message)
                .help("memcached's protocol knows no passwords; a private address is safer");
            findings.warn(&root.key("listen"), At::Value, problem);
        }
    }
}

/// A server that is ringway's own address: each request would come back, as long as connections last.
fn warn_circle(config: &Config, root: &Path<'_>, findings: &Findings) {
    let is_own = |endpoint: &Endpoint| {
        config.settings.listen.iter().any(|listen| match (listen, endpoint) {
            (Listen::Tcp(own), Endpoint::Address(server)) => {
                let is_any = own.ip().is_unspecified() && server.ip().is_loopback();
                own.port() != 0 && own.port() == server.port() && (is_any || own.ip() == server.ip())
            }
            (Listen::Unix(own), Endpoint::Unix(server)) => own == server,
            _ => false,
        })
    };
    let pools = root.key("pools");
    for pool in &config.pools {
        if let Some(index) = pool.servers.iter().position(|server| is_own(&server.endpoint)) {
            let problem = Problem::new("ringway itself listens there: requests would go round in a circle");
            findings.warn(&pools.key(&pool.name).key("servers").index(index), At::Value, problem);
        }
    }
}

fn warn_small_shards(config: &Config, root: &Path<'_>, findings: &Findings) {
    for pool in &config.pools {
        let Some(Endpoint::Embedded(shard)) = pool.servers.first().map(|server| &server.endpoint) else {
            continue;
        };
        let value_max = config.settings.limits.value_bytes_max;
        // memcached's default fits any legal shard nearly; only a raised limit is worth a word.
        if shard.memory_bytes_max < value_max && value_max > Limits::default().value_bytes_max {
            let message = format!(
                "a shard holds {}, less than one value may have (`value_bytes_max`, {})",
                value::show_bytes(shard.memory_bytes_max),
                value::show_bytes(value_max)
            );
            findings.warn(&root.key("pools").key(&pool.name).key("embedded"), At::Key, Problem::new(message));
        }
    }
}

/// Gives every finding its place, in the order of the text. An aliased map is read once per use: what is wrong in it is told
/// once. `locate` finds the places of all of them, and is not asked when there are none.
pub(super) fn placed(
    findings: Findings,
    mut faults: Vec<Fault>,
    locate: impl FnOnce(&[Finding]) -> Vec<(Arc<Source>, Place)>,
) -> (Faults, Vec<Warning>) {
    let (list, more_count) = findings.finish();
    let mut warnings = Vec::new();
    let places = if list.is_empty() { Vec::new() } else { locate(&list) };
    for (finding, (source, place)) in list.into_iter().zip(places) {
        let mut message = finding.problem.message;
        if finding.problem.ends_with_line {
            message.push_str(&format!(" line: {}", place.line));
        }
        let path = Shown(&finding.steps).to_string();
        let fault = Fault { source, path, message, help: finding.problem.help, place: Some(place) };
        if finding.is_warning {
            warnings.push(Warning(fault));
        } else {
            faults.push(fault);
        }
    }
    let start = |fault: &Fault| fault.place.as_ref().map(|place| (place.line, place.column));
    let order = |a: &Fault, b: &Fault| (&a.source.name, start(a)).cmp(&(&b.source.name, start(b)));
    faults.sort_by(order);
    faults.dedup_by(|b, a| a.source == b.source && a.place == b.place && a.message == b.message);
    warnings.sort_by(|a, b| order(&a.0, &b.0));
    (Faults { list: faults, more_count, asked: Vec::new() }, warnings)
}
