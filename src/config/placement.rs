//! How a pool places keys: `hash`, `key_hash`, `hash_tag`, `hash_stop`, `signed_char`, `salt`, `weights`, `tags`.

use super::fault::{At, Problem, quoted};
use super::node::Node;
use super::pool::Server;
use super::section::{Hint, Section};
use super::value;
use crate::hash::{KeyHash, Member, Placement, Ring, SALT_BYTES_MAX, Spec};
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// The keys of a pool that are read here.
pub(super) const KEYS: &[&str] =
    &["hash", "key_hash", "hash_tag", "hash_stop", "signed_char", "salt", "weights", "tags"];
/// What twemproxy and mcrouter call these things.
pub(super) const HINTS: &[Hint] = &[
    ("distribution", "write `hash: twemproxy` for twemproxy's ketama, or `hash: modula`, `hash: random`"),
    (
        "hash_func",
        "write `hash: ch3`, `weighted_ch3`, `crc32`, `const_shard`, `rendezvous`, `weighted_rendezvous`",
    ),
];

/// Of a placement that may give a server no keys at all.
const WEIGHTS: RangeInclusive<f64> = 0.0..=1.0;
const TAG_BYTES_MAX: usize = 250;

/// Reads how keys are placed.
pub(super) fn read(section: &Section<'_>) -> Spec {
    let placement = section.value("hash", |node| match node {
        Node::Text(name) if KeyHash::from_name(name).is_some() && Placement::from_name(name).is_none() => {
            Err(Problem::new(format!("`{name}` is a hash of keys, not a placement"))
                .help(format!("write `hash: twemproxy` and `key_hash: {name}`")))
        }
        Node::Map(_) => Err(value::expected("a placement", node)
            .help("write its name, `hash: twemproxy`, and its options beside it, `key_hash: fnv1a_64`")),
        _ => value::choice(node, "a placement", Placement::ALL),
    });
    let key_hash = section.value("key_hash", |node| {
        let key_hash = value::choice(node, "a hash of keys", KeyHash::ALL)?;
        match placement {
            Some(placement) if !placement.has_key_hash() => {
                Err(Problem::new(format!("`{}` has a hash of its own", placement.name()))
                    .help("`key_hash` goes with `ketama`, `twemproxy` and `modula`"))
            }
            _ => Ok(key_hash),
        }
    });
    // What goes with an unknown placement nobody knows.
    if placement.is_some() || section.node("hash").is_none() {
        check_company(section, placement.unwrap_or(Placement::Ketama));
    }
    let placement = placement.unwrap_or(Placement::Ketama);
    Spec {
        placement,
        key_hash,
        hash_tag: section.value("hash_tag", read_tag),
        // Only mcrouter's clients rely on it; for all others it would move keys that hold `|#|` by chance.
        hash_stop: section.value("hash_stop", value::boolean).unwrap_or(placement.is_mcrouters()),
        signed_char: section.value("signed_char", value::boolean).unwrap_or(true),
        salt: section.value("salt", read_salt).unwrap_or_default(),
        weights: if placement.has_weight_list() {
            read_list(section, "weights", "as in `weights: [1, 0.5, 1]`", read_weight)
        } else {
            Vec::new()
        },
        tags: if placement.has_tags() {
            read_list(section, "tags", "as in `tags: [a, b, c]`", read_tag_of_server)
        } else {
            Vec::new()
        },
    }
}

/// Whether `salt`, `weights` and `tags` stand where they do something.
fn check_company(section: &Section<'_>, placement: Placement) {
    let name = placement.name();
    if section.node("salt").is_some() && placement == Placement::Random {
        section.fault("salt", Problem::new(format!("`{name}` hashes nothing")).help("leave it out"));
    }
    let lists = [
        ("weights", "`weighted_ch3` and `weighted_rendezvous`", placement.has_weight_list()),
        ("tags", "`rendezvous` and `weighted_rendezvous`", placement.has_tags()),
    ];
    for (list, with, has) in lists {
        let is_there = section.node(list).is_some();
        if has && !is_there {
            let example = if list == "tags" { "[a, b]" } else { "[1, 0.5]" };
            let problem = Problem::new(format!("`{name}` needs `{list}`"));
            section.fault("hash", problem.help(format!("one for each server, as in `{list}: {example}`")));
        }
        if !has && is_there {
            let help = if list == "weights" && placement.has_weights() {
                "write a whole number behind the server's address, as in `10.0.0.1:11211 weight=2`".to_owned()
            } else {
                format!("`{list}` goes with {with}")
            };
            section.fault(list, Problem::new(format!("`{name}` knows no list of {list}")).help(help));
        }
    }
}

/// Whether the lists have one entry for each server, once it is known how many there are.
pub(super) fn check_lists(section: &Section<'_>, spec: &Spec, servers_count: usize) {
    for (list, len) in [("weights", spec.weights.len()), ("tags", spec.tags.len())] {
        if len != 0 && len != servers_count {
            let problem = Problem::new(format!("{len} {list} for {servers_count} servers"));
            section.fault(list, problem.help("one for each server, in the order of `servers`"));
        }
    }
    let mut seen = HashMap::new();
    for (i, tag) in spec.tags.iter().enumerate() {
        if let Some(first) = seen.insert(tag, i) {
            let problem = Problem::new(format!("the tag {} is used twice", quoted(tag)));
            let problem = problem.help(format!("first as tags[{first}]; one of the two would get no keys"));
            section.findings.fault(&section.path.key("tags").index(i), At::Value, problem);
        }
    }
}

/// Whether a ring could be built: the last word is that of the room `hash`.
pub(super) fn check(spec: &Spec, servers: &[Server]) -> Result<(), Problem> {
    let members: Vec<Member> = servers.iter().map(|server| server.member.clone()).collect();
    Ring::check(spec, &members).map_err(|error| Problem::new(error.to_string()))
}

fn read_tag(node: &Node) -> Result<(u8, u8), Problem> {
    let what = "two ASCII characters";
    match value::text(node, what)?.as_bytes() {
        [open, close] if open.is_ascii_graphic() && close.is_ascii_graphic() => Ok((*open, *close)),
        _ => Err(value::expected(what, node).help("as in \"{}\": of `user:{42}:name` only `42` is hashed")),
    }
}

fn read_salt(node: &Node) -> Result<String, Problem> {
    let salt = value::text(node, "a text that is hashed behind each key")?;
    if salt.len() > SALT_BYTES_MAX {
        let problem = Problem::new(format!("a salt of {} bytes", salt.len()));
        return Err(problem.help(format!("at most {SALT_BYTES_MAX}")));
    }
    Ok(salt)
}

/// Each entry that is wrong is told; then there is no list.
fn read_list<T>(
    section: &Section<'_>,
    key: &str,
    example: &str,
    read: impl Fn(&Node) -> Result<T, Problem>,
) -> Vec<T> {
    let Some(node) = section.node(key) else { return Vec::new() };
    let Node::List(list) = node else {
        section.fault(key, value::expected("a list, one entry for each server", node).help(example));
        return Vec::new();
    };
    if list.is_empty() {
        section.fault(key, Problem::new("an empty list").help(example));
    }
    let path = section.path.key(key);
    let mut values = Vec::new();
    for (i, node) in list.iter().enumerate() {
        match read(node) {
            Ok(value) => values.push(value),
            Err(problem) => section.findings.fault(&path.index(i), At::Value, problem),
        }
    }
    if values.len() == list.len() { values } else { Vec::new() }
}

fn read_weight(node: &Node) -> Result<f64, Problem> {
    let weight = match node {
        Node::Integer(weight) => *weight as f64,
        Node::Float(weight) => *weight,
        _ => f64::NAN,
    };
    if WEIGHTS.contains(&weight) {
        return Ok(weight);
    }
    Err(value::expected(&format!("a weight from {} to {}", WEIGHTS.start(), WEIGHTS.end()), node))
}

fn read_tag_of_server(node: &Node) -> Result<String, Problem> {
    let tag = value::text(node, "a tag, the text that is hashed for this server")?;
    if tag.is_empty() || tag.len() > TAG_BYTES_MAX {
        let problem = Problem::new(format!("a tag of {} bytes", tag.len()));
        return Err(problem.help(format!("1 to {TAG_BYTES_MAX}")));
    }
    Ok(tag)
}
