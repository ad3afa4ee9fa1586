//! Questions to the program itself that are asked by keys: `get __mcrouter__.version`. mcrouter's, so that its tools and
//! habits go on working. Whatever is wrong with a question is told in the value, as mcrouter does it.

use super::Process;
use crate::config::{Config, DEFAULT_PREFIX, Node, Server};
use crate::protocol::{Op, Request, limits::KEY_BYTES_MAX};
use crate::route::{Explained, Root, Route, host_id};
use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// What such a key begins with.
pub const KEY_PREFIX: &[u8] = b"__mcrouter__.";

/// mcrouter's tools look for its name.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " ringway mcrouter");

/// The answer to what stands behind the prefix.
pub(super) fn answer(process: &Process, question: &[u8], root: &Root) -> String {
    let question = String::from_utf8_lossy(question);
    let (name, arguments) = match question.split_once('(') {
        Some((name, rest)) => match rest.strip_suffix(')') {
            Some(arguments) => (name, arguments),
            None => return format!("ERROR: no `)` at the end of {question}"),
        },
        None => (&*question, ""),
    };
    match told(process, name, arguments, root) {
        Ok(text) => text,
        Err(why) => format!("ERROR: {why}"),
    }
}

fn told(process: &Process, name: &str, arguments: &str, root: &Root) -> Result<String, String> {
    let current = process.current();
    let about = &current.about;
    Ok(match name {
        "version" => VERSION.to_owned(),
        "config_age" => process.config_age_s().to_string(),
        "config_file" => about.file.clone().unwrap_or_default(),
        "config_md5_digest" => about.digest(),
        "config_sources_info" => {
            Node::map(about.sources.iter().map(|(name, md5)| (name.as_str(), Node::from(md5.as_str()))))
                .to_json()
        }
        "preprocessed_config" => {
            about.document.as_ref().map(Node::to_json).ok_or("there is no configuration file")?
        }
        "global_params" => match &about.global_params {
            Node::Null => "{}".to_owned(),
            params => params.to_json(),
        },
        "hostid" => host_id().to_string(),
        "verbosity" => verbosity(arguments)?,
        "get_bucket" => return Err("get_bucket: no pool has buckets".to_owned()),
        "pools" => pools(current.config()?),
        "failure_domains" => failure_domains(current.config()?, arguments)?,
        "options" => options(process, arguments)?,
        "route" => {
            let out: HashSet<String> = process.servers_that_are_out();
            let walked = walk(name, arguments, root)?;
            let asked = walked.would_ask(&|target| out.contains(&target.address));
            asked.iter().map(|target| target.address.as_str()).collect::<Vec<_>>().join("\r\n")
        }
        "route_handles" => walk(name, arguments, root)?.indented().replace('\n', "\r\n"),
        _ => return Err(format!("unknown command: {name}")),
    })
}

/// 0 is what `--log-level info` says, and less; each level beyond is one more.
fn verbosity(wanted: &str) -> Result<String, String> {
    if !wanted.is_empty() {
        return Err("verbosity: it does not change while clients are served (`--log-level`)".to_owned());
    }
    Ok(match LevelFilter::current() {
        LevelFilter::TRACE => "2",
        LevelFilter::DEBUG => "1",
        _ => "0",
    }
    .to_owned())
}

/// What Meta's own servers have beside memcached's commands goes the way of these.
const OPS_OF_MCROUTER: &[(&str, Op)] =
    &[("lease-get", Op::Get), ("metaget", Op::Get), ("lease-set", Op::Set)];

/// `op,key`; a key may hold commas.
fn walk(name: &str, arguments: &str, root: &Root) -> Result<Explained, String> {
    let (op, key) = arguments.split_once(',').ok_or_else(|| format!("{name}: as in {name}(get,key)"))?;
    let known = Op::ALL.into_iter().map(|op| (op.name(), op));
    let op =
        known.chain(OPS_OF_MCROUTER.iter().copied()).find_map(|(name, known)| (name == op).then_some(known));
    let op = op.ok_or_else(|| format!("{name}: unknown op"))?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(format!("{name}: a key has 1 to {KEY_BYTES_MAX} bytes"));
    }
    Ok(root.explain(&Request::new(op, key.as_bytes())))
}

/// Names of pools and addresses of their servers.
fn pools(config: &Config) -> String {
    let addresses = |pool: &crate::config::Pool| Node::texts(pool.servers.iter().map(|s| s.address()));
    Node::map(config.pools.iter().map(|pool| (pool.name.as_str(), addresses(pool)))).to_json()
}

/// Addresses of a pool's servers and what else fails with each.
fn failure_domains(config: &Config, pool: &str) -> Result<String, String> {
    let pool = config.pool(pool).ok_or_else(|| format!("failure_domains: no pool `{pool}`"))?;
    let domain = |(server, domain): (&Server, &String)| (server.address(), Node::from(domain.as_str()));
    Ok(Node::map(pool.servers.iter().zip(&pool.failure_domains).map(domain)).to_json())
}

/// A name and its value a line, or the value of the one that is asked for. mcrouter's names where it has the same, then ours.
fn options(process: &Process, wanted: &str) -> Result<String, String> {
    let current = process.current();
    let settings = &current.settings;
    let limits = &settings.limits;
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    let or_zero = |time: Option<Duration>| time.map_or(0, |time| time.as_millis()).to_string();
    let [within_cluster, cross_cluster, cross_region] = settings.distance_timeouts.list().map(or_zero);
    let default_route = current.config().map_or(DEFAULT_PREFIX, |config| config.routes.default_prefix());
    let own = [
        ("config_file", current.about.file.clone().unwrap_or_default()),
        ("default_route", default_route.to_owned()),
        ("num_proxies", process.workers_count().to_string()),
        ("listen_addresses", listen.join(",")),
        ("enable_flush_cmd", settings.allow_flush.to_string()),
        ("max_conns", limits.clients_count_max.to_string()),
        ("max_client_outstanding_reqs", limits.client_outstanding_count_max.to_string()),
        ("within_cluster_timeout_ms", within_cluster),
        ("cross_cluster_timeout_ms", cross_cluster),
        ("cross_region_timeout_ms", cross_region),
        ("strict", settings.strict.to_string()),
        ("drain_delay_ms", settings.drain_delay.as_millis().to_string()),
        ("drain_timeout_ms", settings.drain_timeout.as_millis().to_string()),
        ("client_reply_bytes_max", limits.client_reply_bytes_max.to_string()),
        ("value_bytes_max", limits.value_bytes_max.to_string()),
        ("buffer_bytes_max", limits.buffer_bytes_max.to_string()),
        ("client_idle_timeout_ms", or_zero(limits.client_idle_timeout)),
        ("client_stall_timeout_ms", or_zero(limits.client_stall_timeout)),
        ("late_replies_max", limits.late_count_max.to_string()),
        ("bulk_bytes_max", limits.bulk_bytes_max.to_string()),
    ];
    // mcrouter's, where its file is served, are told as it tells them
    let told = current.about.options.iter().cloned();
    let is_told = |name: &str| current.about.options.iter().any(|(told, _)| *told == name);
    let mut all: Vec<(&str, String)> = own.into_iter().filter(|(name, _)| !is_told(name)).collect();
    all.extend(told);
    if !wanted.is_empty() {
        let found = all.into_iter().find(|(name, _)| *name == wanted);
        return found.map(|(_, value)| value).ok_or_else(|| format!("options: no option `{wanted}`"));
    }
    let mut text = String::new();
    for (name, value) in all {
        // writing to a String cannot fail
        let _ = writeln!(text, "{name} {value}");
    }
    Ok(text)
}
