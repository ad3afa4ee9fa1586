//! How a pool places keys: `hash`, `key_hash`, `hash_tag`, `hash_stop`, `signed_char`.

use super::fault::Problem;
use super::pool::Server;
use super::section::{Hint, Section};
use super::value;
use super::yaml::Node;
use crate::hash::{KeyHash, Member, Placement, Ring, Spec};

/// The keys of a pool that are read here.
pub(super) const KEYS: &[&str] = &["hash", "key_hash", "hash_tag", "hash_stop", "signed_char"];
/// What twemproxy and mcrouter call these things.
pub(super) const HINTS: &[Hint] = &[
    ("distribution", "write `hash: twemproxy` for twemproxy's ketama, or `hash: modula`, `hash: random`"),
    ("hash_func", "write `hash: ch3` or `hash: crc32`"),
];

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
    let placement = placement.unwrap_or(Placement::Ketama);
    let is_mcrouters = matches!(placement, Placement::Ch3 | Placement::Crc32);
    Spec {
        placement,
        key_hash,
        hash_tag: section.value("hash_tag", read_tag),
        // Only mcrouter's clients rely on it; for all others it would move keys that hold `|#|` by chance.
        hash_stop: section.value("hash_stop", value::boolean).unwrap_or(is_mcrouters),
        signed_char: section.value("signed_char", value::boolean).unwrap_or(true),
    }
}

/// Whether a ring can be built: the last word is that of the room `hash`.
pub(super) fn check(spec: &Spec, servers: &[Server]) -> Result<(), Problem> {
    let members: Vec<Member> = servers.iter().map(|server| server.member.clone()).collect();
    Ring::build(spec, &members).map(drop).map_err(|error| Problem::new(error.to_string()))
}

fn read_tag(node: &Node) -> Result<(u8, u8), Problem> {
    let what = "two ASCII characters";
    match value::text(node, what)?.as_bytes() {
        [open, close] if open.is_ascii_graphic() && close.is_ascii_graphic() => Ok((*open, *close)),
        _ => Err(value::expected(what, node).help("as in \"{}\": of `user:{42}:name` only `42` is hashed")),
    }
}
