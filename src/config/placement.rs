//! How a pool places keys: `hash`, `key_hash`, `hash_tag`, `hash_stop`, `signed_char`.

use super::fault::Problem;
use super::section::{Hint, Section};
use super::value;
use super::yaml::Node;
use crate::hash::{KeyHash, Placement, Spec};

/// The keys of a pool that are read here.
pub(super) const KEYS: &[&str] = &["hash", "key_hash", "hash_tag", "hash_stop", "signed_char"];
/// What twemproxy and mcrouter call these things.
pub(super) const HINTS: &[Hint] = &[
    ("distribution", "write `hash: twemproxy` for twemproxy's ketama, or `hash: modula`, `hash: random`"),
    ("hash_func", "write `hash: ch3` or `hash: crc32`"),
];

/// Placements whose hash of keys can be chosen.
const KEY_HASH_FREE: &[Placement] = &[Placement::Ketama, Placement::Twemproxy, Placement::Modula];
/// Placements that give heavier servers more keys.
const WEIGHTED: &[Placement] = &[Placement::Ketama, Placement::Twemproxy, Placement::Modula];

pub(super) fn read(section: &Section<'_>) -> Spec {
    let placement = section.value("hash", |node| match node {
        Node::Text(name) if is_key_hash(name) && !is_placement(name) => {
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
            Some(placement) if !KEY_HASH_FREE.contains(&placement) => {
                Err(Problem::new(format!("`{}` has a hash of its own", name_of(placement)))
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

/// Whether weights other than 1 mean anything to this placement.
pub(super) fn is_weighted(placement: Placement) -> bool {
    WEIGHTED.contains(&placement)
}

/// The name of a placement, as written in a configuration.
#[must_use]
pub fn name_of(placement: Placement) -> &'static str {
    Placement::ALL.iter().find(|(_, p)| *p == placement).map_or("", |(name, _)| name)
}

fn is_placement(name: &str) -> bool {
    Placement::ALL.iter().any(|(known, _)| *known == name)
}

fn is_key_hash(name: &str) -> bool {
    KeyHash::ALL.iter().any(|(known, _)| *known == name)
}

fn read_tag(node: &Node) -> Result<(u8, u8), Problem> {
    let what = "two ASCII characters";
    match value::text(node, what)?.as_bytes() {
        [open, close] if open.is_ascii_graphic() && close.is_ascii_graphic() => Ok((*open, *close)),
        _ => Err(value::expected(what, node).help("as in \"{}\": of `user:{42}:name` only `42` is hashed")),
    }
}
