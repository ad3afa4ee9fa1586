//! Which server of a pool has a key: each placement as the client or proxy it is named after does it, bit for bit.
//!
//! Pure: no IO, no clock. A [`Ring`] is built once from a [`Spec`] and the pool's members and asked once per key.

mod ch3;
mod crc32;
mod hash_ring;
mod jump;
mod ketama;
mod key_hash;
mod md5;
mod modula;
mod murmur64a;
mod names;
mod points;
mod pymemcache;
mod random;
mod rule;
mod scope;
mod spooky;
#[cfg(test)]
mod tests;
mod xxh;

pub use names::{KeyHash, Placement};
pub use spooky::{hash32 as spooky32, hash64 as spooky64};

use rule::Rule;
use scope::Scope;

/// Which member has a key. Immutable, in flat arrays; asking allocates nothing.
///
/// Not `Sync` (the placement `random` keeps its state in a cell): each worker builds its own.
#[derive(Debug)]
pub struct Ring {
    len: usize,
    scope: Scope,
    /// `None` with fewer than two members: where there is no choice nothing is hashed, as in all the originals.
    rule: Option<Rule>,
}

impl Ring {
    /// A ring without members is a ring too; it has nobody to pick.
    pub fn build(spec: &Spec, members: &[Member]) -> Result<Self, SpecError> {
        check(spec, members)?;
        let rule = if members.len() > 1 { Some(Rule::build(spec, members)?) } else { None };
        let scope = Scope { hash_tag: spec.hash_tag, hash_stop: spec.hash_stop };
        Ok(Self { len: members.len(), scope, rule })
    }

    /// The index of the key's member; `None` if there are no members.
    #[inline]
    pub fn pick(&self, key: &[u8]) -> Option<usize> {
        match &self.rule {
            Some(rule) => Some(rule.index(self.scope.of(key)) as usize),
            None => (self.len == 1).then_some(0),
        }
    }

    /// Appends what [`pick`](Self::pick) says of each key, in order; nothing if there are no members. Cheaper than to ask for
    /// the keys of a multi-get one by one where they are hashed with MD5.
    pub fn pick_many<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>, out: &mut Vec<u32>) {
        let Some(rule) = &self.rule else {
            let only = keys.into_iter().filter(|_| self.len == 1);
            return out.extend(only.map(|_| 0));
        };
        let mut keys = keys.into_iter().map(|key| self.scope.of(key));
        let Some(table) = rule.behind_md5() else {
            return out.extend(keys.map(|key| rule.index(key)));
        };
        let mut batch = [&[][..]; md5::LANES];
        loop {
            let mut filled = 0;
            for (place, key) in batch.iter_mut().zip(keys.by_ref()) {
                *place = key;
                filled += 1;
            }
            if filled < WORTH_A_BATCH {
                return out.extend(batch[..filled].iter().map(|key| rule.index(key)));
            }
            let hashes = rule::md5_of_each(&batch);
            out.extend(hashes[..filled].iter().map(|&hash| table.index(hash)));
        }
    }

    /// The same as [`pick`](Self::pick), with the reasons.
    pub fn explain<'k>(&self, key: &'k [u8]) -> Explained<'k> {
        let hashed = self.scope.of(key);
        let (function, hash, index, points) = match &self.rule {
            None => ("none", None, self.pick(key), self.len),
            Some(Rule::Hashed { digest, table }) => {
                let hash = digest.of(hashed);
                (digest.name(), Some(hash), Some(table.index(hash) as usize), table.points())
            }
            Some(Rule::Pymemcache(pymemcache)) => {
                let (score, index) = pymemcache.best(hashed);
                ("murmur3_32", Some(score.into()), Some(index as usize), self.len)
            }
            Some(Rule::Random { .. }) => ("random", None, None, self.len),
        };
        Explained { hashed, function, hash, index, points }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A batch of MD5 lanes takes as long as about three keys alone.
const WORTH_A_BATCH: usize = 3;

/// Why a key is where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained<'k> {
    /// The part of the key that counts.
    pub hashed: &'k [u8],
    /// The hash function, `none` with fewer than two members, or `random`.
    pub function: &'static str,
    /// Of the hashed part; with `pymemcache`, the winner's score. `None` where nothing is hashed.
    pub hash: Option<u64>,
    /// `None` without members and where every pick is another (`random`).
    pub index: Option<usize>,
    /// Points on the ring or slots in the list; the number of members where there is neither.
    pub points: usize,
}

/// How a pool places keys, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub placement: Placement,
    /// The hash function of keys where the placement lets one choose. `None` = its own default: md5 for `ketama`, fnv1a_64 for
    /// `twemproxy` and `modula` (libmemcached's default distribution is `modula` with `one_at_a_time`).
    pub key_hash: Option<KeyHash>,
    /// Two bytes, e.g. `{` and `}`: only what is between them is hashed (twemproxy's `hash_tag`).
    pub hash_tag: Option<(u8, u8)>,
    /// mcrouter's hash stop: what follows `|#|` is not hashed.
    pub hash_stop: bool,
    /// Bytes above 0x7f are negative, as C's `char` is on x86; false = as on ARM.
    pub signed_char: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            placement: Placement::Ketama,
            key_hash: None,
            hash_tag: None,
            hash_stop: true,
            signed_char: true,
        }
    }
}

/// A server as the placement sees it: the strings that were configured, never a resolved address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Host name or address as written; the path for a unix socket.
    pub host: String,
    /// `None` for a unix socket.
    pub port: Option<u16>,
    /// A node name of its own (`name=` in the server entry).
    pub name: Option<String>,
    pub weight: u32,
}

/// Why a pool cannot be placed as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub String);

fn check(spec: &Spec, members: &[Member]) -> Result<(), SpecError> {
    let placement = spec.placement.name();
    if spec.key_hash.is_some() && !spec.placement.has_key_hash() {
        return Err(SpecError(format!(
            "placement `{placement}` has a hash function of its own; only ketama, twemproxy and modula let one choose"
        )));
    }
    if spec.placement == Placement::Ch3 && members.len() > ch3::SERVERS_MAX {
        return Err(SpecError(format!("placement `ch3` ends at {} servers", ch3::SERVERS_MAX)));
    }
    for Member { host, weight, .. } in members {
        if *weight == 0 {
            return Err(SpecError(format!("server `{host}` has weight 0; the least is 1")));
        }
        if *weight > 1 && !spec.placement.has_weights() {
            return Err(SpecError(format!(
                "placement `{placement}` knows no weights, but server `{host}` has {weight}; only ketama, twemproxy and \
                 modula do"
            )));
        }
    }
    Ok(())
}
