//! ShardSplitRoute, `shard_splits` of a pool: shards that are asked for too often, in several copies.
//!
//! A shard is what stands between the first two colons of a key: `user:7:name`. A split one has so many copies, of which each
//! host has its own: copy 0 is the key itself, copy 2 is `user:7ba:name`. Gets, updates, arithmetic, touch: the host's own
//! copy. Deletes: all copies, the own is waited for (`fanout_deletes: false`: only the own). Keys of other shards: unchanged.
//! A split may change its size over a time: each host at its own moment, and deletes reach the copies of both sizes.
//! Source: mcrouter's `ShardSplitRoute`, `ShardSplitter`.

use super::host_id::host_id;
use super::registry::{Key, Kind, Params};
use super::rekey::send_as;
use super::{Call, Explained, PoolRoute, Route, Slot, When};
use crate::config::value::{self, expected};
use crate::config::{At, Node, Path, Problem, Section, quoted};
use crate::protocol::{Class, Op, Request};
use crate::time::Clock;
use std::collections::HashMap;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "ShardSplitRoute",
    short: "shard_split",
    bare: "target",
    keys: &[
        Key { name: "target", what: "where all copies go" },
        Key { name: "shard_splits", what: "a map from shards to how many copies they have" },
    ],
    build,
};

/// One letter and two: mcrouter's bound.
const SPLITS_COUNT_MAX: usize = 26 * 26 + 1;
const SPLIT_KEYS: &[&str] =
    &["old_split_size", "new_split_size", "split_start", "migration_period", "fanout_deletes"];
/// mcrouter's. Ours has none: half of a change is more likely a slip.
const SPLIT_DEFAULTS: &[(&str, i128)] =
    &[("old_split_size", 1), ("new_split_size", 1), ("split_start", 0), ("migration_period", 0)];

const REFUSAL: &[u8] = b"SERVER_ERROR The key provided is invalid";

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let target = params.child("target")?;
    params.require("shard_splits")?;
    of(params, target)
}

/// `shard_splits` in front of this target.
pub(super) fn of(params: &Params<'_>, target: Rc<dyn Route>) -> Option<Rc<dyn Route>> {
    let path = params.path().key("shard_splits");
    let node = params.section.node("shard_splits")?;
    let Node::Map(shards) = node else {
        params.fault("shard_splits", expected("a map from shards to numbers of copies", node));
        return None;
    };
    let read = |(shard, node): &(String, Node)| {
        let path = path.key(shard);
        if shard.is_empty() || shard.bytes().any(|b| b <= b' ' || b == b':' || b == 127) {
            let problem = Problem::new(format!("{} is no shard", quoted(shard)));
            params.section.findings.fault(
                &path,
                At::Key,
                problem.help("what stands between two colons of a key"),
            );
        }
        Some((shard.clone().into_bytes().into_boxed_slice(), Split::read(params, node, &path)?))
    };
    // every one is read, so that the first fault does not hide the next
    let splits: Option<HashMap<_, _>> = shards.iter().map(read).collect::<Vec<_>>().into_iter().collect();
    Some(Rc::new(ShardSplit { target, splits: splits?, host: host_id(), clock: Clock::System }))
}

/// How many copies one shard has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Split {
    old: usize,
    new: usize,
    /// Unix seconds; until then it is the old size.
    start: u64,
    /// Seconds over which hosts go over to the new size.
    period: u64,
    fanout_deletes: bool,
}

impl Split {
    fn read(params: &Params<'_>, node: &Node, path: &Path<'_>) -> Option<Self> {
        let sizes = 1..=SPLITS_COUNT_MAX;
        let findings = params.section.findings;
        if !matches!(node, Node::Map(_)) {
            let fixed =
                value::count(node, &sizes).map_err(|problem| findings.fault(path, At::Value, problem));
            let size = fixed.ok()?;
            return Some(Self { old: size, new: size, start: 0, period: 0, fanout_deletes: true });
        }
        let whole = params.is_mcrouter().then(|| with_defaults(node));
        let node = whole.as_ref().unwrap_or(node);
        let section = Section::open(node, path, findings, "a number of copies, or a map")?;
        section.refuse_unknown(SPLIT_KEYS, &[]);
        let split = Params { section, ..*params };
        let seconds = |key: &str| {
            split.require(key);
            split.integer(key, 0..=i64::from(u32::MAX)).and_then(|seconds| u64::try_from(seconds).ok())
        };
        let size = |key: &str| {
            split.require(key);
            split.count(key, sizes.clone())
        };
        let (old, new) = (size("old_split_size"), size("new_split_size"));
        let (start, period) = (seconds("split_start"), seconds("migration_period"));
        let fanout_deletes = split.flag("fanout_deletes", true);
        Some(Self { old: old?, new: new?, start: start?, period: period?, fanout_deletes })
    }

    /// How many there are for this host, and how many there may be for others.
    fn sizes(&self, host: u64, now: u64) -> (usize, usize) {
        if now < self.start {
            return (self.old, self.old);
        }
        if now >= self.start + self.period {
            return (self.new, self.new);
        }
        let own = if now < self.start + host % self.period { self.old } else { self.new };
        (own, self.old.max(self.new))
    }
}

/// A split of mcrouter's with what it leaves out, as ours wants it.
pub(super) fn with_defaults(split: &Node) -> Node {
    let Node::Map(map) = split else { return split.clone() };
    let is_missing = |key: &str| map.iter().all(|(known, _)| known != key);
    let defaults = SPLIT_DEFAULTS.iter().filter(|(key, _)| is_missing(key));
    let defaults = defaults.map(|(key, value)| ((*key).to_owned(), Node::Integer(*value)));
    Node::Map(map.iter().cloned().chain(defaults).collect())
}

struct ShardSplit {
    target: Rc<dyn Route>,
    splits: HashMap<Box<[u8]>, Split>,
    host: u64,
    clock: Clock,
}

/// The copies that a request goes to.
struct Copies {
    /// Where the shard ends in the key.
    at: usize,
    own: usize,
    /// All that there are.
    count: usize,
}

impl ShardSplit {
    fn copies(&self, op: Op, key: &[u8]) -> Option<Copies> {
        let start = memchr::memchr(b':', key)? + 1;
        let at = start + memchr::memchr(b':', &key[start..])?;
        let split = self.splits.get(&key[start..at])?;
        let (own, all) = split.sizes(self.host, self.clock.now().unix_seconds.into());
        let own_count = u64::try_from(own).unwrap_or(1);
        let count = if op.class() == Class::DeleteLike && split.fanout_deletes { all } else { 1 };
        Some(Copies { at, own: usize::try_from(self.host % own_count).unwrap_or(0), count })
    }

    fn send_to(&self, copy: usize, at: usize, request: &Request<'_>, call: &Call, slot: Slot) {
        if copy == 0 {
            return self.target.send(request, call, slot);
        }
        send_as(&*self.target, &key_of(request.key, at, copy), REFUSAL, request, call, slot);
    }
}

/// `user:7:name` and copy 2: `user:7ba:name`.
fn key_of(key: &[u8], at: usize, copy: usize) -> Vec<u8> {
    if copy == 0 {
        return key.to_vec();
    }
    // at most 675, so both are letters
    let letter = |number: usize| u8::try_from(number).map_or(b'z', |number| b'a' + number);
    let (first, second) = (letter((copy - 1) % 26), letter((copy - 1) / 26));
    [&key[..at], &[first, second], &key[at..]].concat()
}

impl Route for ShardSplit {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let Some(Copies { at, own, count }) = self.copies(request.op, request.key) else {
            return self.target.send(request, call, slot);
        };
        self.send_to(own, at, request, call, slot);
        if count > 1 {
            for copy in (0..count).filter(|copy| *copy != own) {
                self.send_to(copy, at, request, call, Slot::nowhere());
            }
        }
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        match self.copies(op, key) {
            Some(copies) if copies.own != 0 || copies.count > 1 => None,
            _ => self.target.pool(op, key),
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("shard_split");
        let Some(Copies { at, own, count }) = self.copies(request.op, request.key) else {
            return here.with(When::Now, self.target.explain(request));
        };
        let below = |copy: usize| {
            let key = key_of(request.key, at, copy);
            let target = self.target.explain(&Request { key: &key, ..*request });
            Explained::new(format!("copy {copy}: {}", key.escape_ascii())).with(When::Now, target)
        };
        let others = (0..count).filter(|copy| count > 1 && *copy != own);
        others.fold(here.with(When::Now, below(own)), |here, copy| here.with(When::Beside, below(copy)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_have_letters() {
        let key = |copy| String::from_utf8(key_of(b"u:7:x", 3, copy)).unwrap();
        assert_eq!(
            [0, 1, 2, 26, 27, 676].map(key),
            ["u:7:x", "u:7aa:x", "u:7ba:x", "u:7za:x", "u:7ab:x", "u:7zz:x"]
        );
    }

    #[test]
    fn a_split_changes_over_a_time() {
        let split = Split { old: 2, new: 5, start: 1000, period: 100, fanout_deletes: true };
        let host = 30; // goes over at 1030
        assert_eq!([999, 1029, 1030, 1099, 1100].map(|now| split.sizes(host, now).0), [2, 2, 5, 5, 5]);
        assert_eq!([999, 1000, 1099, 1100].map(|now| split.sizes(host, now).1), [2, 5, 5, 5]);
    }
}
