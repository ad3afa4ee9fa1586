//! `embedded`: in-process caches in the place of servers.

use super::fault::{At, Findings, Problem};
use super::node::Node;
use super::path::Path;
use super::pool::{Embedded, Endpoint, Server};
use super::section::Section;
use super::value;
use crate::hash::Member;
use std::ops::RangeInclusive;

pub(super) const KEYS: &[&str] = &["shards", "memory"];
const SHARDS: RangeInclusive<usize> = 1..=256;
/// Of the whole pool.
const MEMORY: RangeInclusive<usize> = (1 << 20)..=(1 << 44);
pub(super) const MEMORY_DEFAULT: usize = 64 << 20;
/// A shard of less could not hold one value of memcached's default size.
const SHARD_BYTES_MIN: usize = 1 << 20;

/// Reads `embedded: {shards: 1, memory: 64MiB}`; `memory` is the pool's, each shard has an equal part.
pub(super) fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Vec<Server> {
    let Some(section) = Section::open(node, path, findings, "a map as in `{shards: 1, memory: 64MiB}`")
    else {
        return Vec::new();
    };
    section.refuse_unknown(KEYS, &[("memory_bytes_max", "write `memory`")]);
    let shards = section.value("shards", |node| value::count(node, &SHARDS)).unwrap_or(1);
    let memory = section.value("memory", |node| value::bytes(node, &MEMORY)).unwrap_or(MEMORY_DEFAULT);
    if memory / shards < SHARD_BYTES_MIN {
        let message = format!("{} for {shards} shards", value::show_bytes(memory));
        let help = "each shard needs 1MiB; `memory` is that of all of them";
        findings.fault(&path.key("memory"), At::Value, Problem::new(message).help(help));
    }
    servers(shards, memory)
}

/// The shards of an embedded pool, as servers named `embedded-0`, `embedded-1`, ….
pub(super) fn servers(shards: usize, memory_bytes: usize) -> Vec<Server> {
    let memory_bytes_max = memory_bytes / shards;
    (0..shards)
        .map(|shard| {
            let member = Member { host: format!("embedded-{shard}"), port: None, name: None, weight: 1 };
            Server::new(Endpoint::Embedded(Embedded { shard, memory_bytes_max }), member)
        })
        .collect()
}
