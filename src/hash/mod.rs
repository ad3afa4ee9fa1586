//! Which server of a pool has a key: each placement as the client or proxy it is named after does it, bit for bit.
//!
//! Pure: no IO, no clock. A [`Ring`] is built once from a [`Spec`] and the pool's members and asked once per key.

mod ch3;
mod const_shard;
mod crc32;
mod hash_ring;
mod jump;
mod ketama;
mod key_hash;
mod longer;
mod md5;
mod modula;
mod murmur64a;
mod names;
mod points;
mod pymemcache;
mod random;
mod rendezvous;
mod rule;
mod scope;
mod spec;
mod spooky;
#[cfg(test)]
mod tests;
mod weighted_ch3;
mod xxh;

pub use ch3::hash as murmur64a;
pub use md5::md5_hex;
pub use names::{KeyHash, Placement};
pub use rendezvous::Rendezvous;
pub use spec::{Member, SALT_BYTES_MAX, Spec, SpecError};
pub use spooky::{hash32 as spooky32, hash64 as spooky64};
pub use weighted_ch3::{weighted_ch3, weights_for};

use longer::{with_number, with_tail};
use rule::{Reason, Rule};
use scope::Scope;

/// Which member has a key. Immutable, in flat arrays; asking allocates nothing.
///
/// Not `Sync` (the placement `random` keeps its state in a cell): each worker has its own. A copy costs little, long tables are
/// shared.
#[derive(Clone, Debug)]
pub struct Ring {
    len: usize,
    placement: Placement,
    scope: Scope,
    /// Hashed behind what the scope leaves of the key; mostly empty.
    salt: Box<str>,
    /// `None` with fewer than two members: where there is no choice nothing is hashed, as in all the originals.
    rule: Option<Rule>,
}

impl Ring {
    /// A ring without members is a ring too; it has nobody to pick.
    pub fn build(spec: &Spec, members: &[Member]) -> Result<Self, SpecError> {
        spec::check(spec, members)?;
        let rule = if members.len() > 1 { Some(Rule::build(spec, members)?) } else { None };
        let scope = Scope { hash_tag: spec.hash_tag, hash_stop: spec.hash_stop };
        let salt = spec.salt.as_str().into();
        Ok(Self { len: members.len(), placement: spec.placement, scope, salt, rule })
    }

    /// Whether [`build`](Self::build) would succeed, without the work: a thousand rings of a hundred servers are sixteen million
    /// points.
    pub fn check(spec: &Spec, members: &[Member]) -> Result<(), SpecError> {
        spec::check(spec, members)?;
        if members.len() > 1 { Rule::check(spec, members) } else { Ok(()) }
    }

    /// A ring that was checked and is never asked: it picks nobody.
    pub fn unplaced(spec: &Spec, members: &[Member]) -> Result<Self, SpecError> {
        Self::check(spec, members)?;
        let scope = Scope { hash_tag: spec.hash_tag, hash_stop: spec.hash_stop };
        Ok(Self { len: members.len(), placement: spec.placement, scope, salt: "".into(), rule: None })
    }

    /// The index of the key's member; `None` if there are no members.
    #[inline]
    pub fn pick(&self, key: &[u8]) -> Option<usize> {
        match &self.rule {
            Some(rule) => Some(self.index(rule, key) as usize),
            None => (self.len == 1).then_some(0),
        }
    }

    /// As [`pick`](Self::pick) where there is a choice and the key decides it: `None` with fewer than two members, and with the
    /// placement `random`.
    pub fn place(&self, key: &[u8]) -> Option<usize> {
        if self.placement == Placement::Random || self.rule.is_none() { None } else { self.pick(key) }
    }

    /// The key's member among those that are accepted: further along the ring where there is one, the next best by rendezvous,
    /// and elsewhere whom the key gets with a number behind it. `None` if nobody is accepted.
    pub fn pick_where(&self, key: &[u8], accepts: impl Fn(usize) -> bool) -> Option<usize> {
        let accepts = |index: u32| accepts(index as usize);
        match &self.rule {
            Some(rule) => with_tail(self.scope.of(key), self.salt.as_bytes(), |key| {
                rule.index_where(key, self.len as u32, accepts).map(|index| index as usize)
            }),
            None => (self.len == 1 && accepts(0)).then_some(0),
        }
    }

    /// Appends what [`pick`](Self::pick) says of each key, in order; nothing if there are no members. Cheaper than to ask for
    /// the keys of a multi-get one by one where they are hashed with MD5.
    pub fn pick_many<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>, out: &mut Vec<u32>) {
        let Some(rule) = &self.rule else {
            let only = keys.into_iter().filter(|_| self.len == 1);
            return out.extend(only.map(|_| 0));
        };
        let table = if self.salt.is_empty() { rule.behind_md5() } else { None };
        let Some(table) = table else {
            return out.extend(keys.into_iter().map(|key| self.index(rule, key)));
        };
        let mut keys = keys.into_iter().map(|key| self.scope.of(key));
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
            table.indexes(&hashes[..filled], out);
        }
    }

    /// The same as [`pick`](Self::pick), with the reasons.
    pub fn explain<'k>(&self, key: &'k [u8]) -> Explained<'k> {
        let hashed = self.scope.of(key);
        let reason = match &self.rule {
            None => Reason { function: "none", hash: None, index: self.pick(key), points: self.len },
            Some(rule) => with_tail(hashed, self.salt.as_bytes(), |key| rule.explain(key, self.len)),
        };
        let Reason { function, hash, index, points } = reason;
        Explained { hashed, function, hash, index, points }
    }

    #[inline]
    fn index(&self, rule: &Rule, key: &[u8]) -> u32 {
        with_tail(self.scope.of(key), self.salt.as_bytes(), |key| rule.index(key))
    }

    /// What is hashed behind each key; mostly empty.
    pub fn salt(&self) -> &str {
        &self.salt
    }

    /// The placement's name, as in a configuration.
    pub fn placement(&self) -> &'static str {
        self.placement.name()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The server of `key` by mcrouter's `Ch3` with a number as the salt, as `DeterministicOrderPolicy` asks for one server after the
/// other. (Its first number is 2.) 0 if there are fewer than two.
#[must_use]
pub fn ch3_with_salt(key: &[u8], salt: u32, count: usize) -> usize {
    if count < 2 {
        return 0;
    }
    with_number(key, salt, |key| ch3::index(ch3::hash(key), count as u32)) as usize
}

/// The same by `WeightedCh3`.
#[must_use]
pub fn weighted_ch3_with_salt(key: &[u8], salt: u32, weights: &[f64]) -> usize {
    with_number(key, salt, |key| weighted_ch3(key, weights))
}

/// A batch of MD5 lanes takes as long as about three keys alone.
const WORTH_A_BATCH: usize = 3;

/// Why a key is where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained<'k> {
    /// The part of the key that counts; the salt is hashed behind it.
    pub hashed: &'k [u8],
    /// The hash function, `none` with fewer than two members, `shard` where the key names its server, or `random`.
    pub function: &'static str,
    /// Of the hashed part; with the three kinds of rendezvous, of it and the winner. `None` where nothing is hashed.
    pub hash: Option<u64>,
    /// `None` without members and where every pick is another (`random`).
    pub index: Option<usize>,
    /// Points on the ring or slots in the list; the number of members where there is neither.
    pub points: usize,
}
