//! The rule of a placement: a hash of the key and a table that turns it into a server, or one of those that have no such
//! halves.

use super::hash_ring::HashRing;
use super::longer::with_number;
use super::modula::Slots;
use super::points::Points;
use super::pymemcache::Pymemcache;
use super::random::Random;
use super::rendezvous::Rendezvous;
use super::{
    KeyHash, Member, Placement, Spec, SpecError, ch3, const_shard, crc32, jump, ketama, md5, weighted_ch3,
    xxh,
};

/// For at least two servers.
#[derive(Clone, Debug)]
pub(super) enum Rule {
    Hashed { digest: Digest, table: Table },
    Pymemcache(Pymemcache),
    Rendezvous(Rendezvous),
    WeightedCh3 { weights: Box<[f64]> },
    ConstShard { count: u32 },
    Random { random: Random, count: u32 },
}

/// With half of the servers out, one key in four billion needs more.
const AGAIN_COUNT_MAX: u32 = 32;

/// Why a rule picks what it picks: the fields of `Explained`.
pub(super) struct Reason {
    pub(super) function: &'static str,
    pub(super) hash: Option<u64>,
    pub(super) index: Option<usize>,
    pub(super) points: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Digest {
    Key { hash: KeyHash, signed_char: bool },
    Gomemcache,
    Crc32,
    Murmur64a,
    Xxh3,
    Xxh64,
}

/// Turns hashes of 32 bits (the first three and `Crc32`) or 64 bits into indexes.
#[derive(Clone, Debug)]
pub(super) enum Table {
    Points(Points),
    Slots(Slots),
    Modulo { count: u32 },
    Crc32 { count: u32 },
    Ch3 { count: u32 },
    Jump { count: u32 },
    HashRing(HashRing),
}

impl Rule {
    /// `members` are valid for `spec`: see `check` in `spec`.
    pub(super) fn build(spec: &Spec, members: &[Member]) -> Result<Self, SpecError> {
        let count = members.len() as u32;
        let key =
            |default| Digest::Key { hash: spec.key_hash.unwrap_or(default), signed_char: spec.signed_char };
        let (digest, table) = match spec.placement {
            Placement::Ketama => (key(KeyHash::Md5), Table::Points(ketama::libmemcached(members)?)),
            Placement::Twemproxy => (key(KeyHash::Fnv1a64), Table::Points(ketama::twemproxy(members)?)),
            Placement::Spymemcached => (key(KeyHash::Md5), Table::Points(ketama::spymemcached(members)?)),
            Placement::Modula => (key(KeyHash::Fnv1a64), Table::Slots(Slots::build(members)?)),
            Placement::Gomemcache => (Digest::Gomemcache, Table::Modulo { count }),
            Placement::Crc32 => (Digest::Crc32, Table::Crc32 { count }),
            Placement::Ch3 => (Digest::Murmur64a, Table::Ch3 { count }),
            Placement::Jump => (Digest::Xxh3, Table::Jump { count }),
            Placement::HashRing => (Digest::Xxh64, Table::HashRing(HashRing::build(members))),
            Placement::Pymemcache => return Ok(Self::Pymemcache(Pymemcache::build(members))),
            Placement::Rendezvous => return Ok(Self::Rendezvous(Rendezvous::build(&spec.tags, None)?)),
            Placement::WeightedRendezvous => {
                return Ok(Self::Rendezvous(Rendezvous::build(&spec.tags, Some(&spec.weights))?));
            }
            Placement::WeightedCh3 => {
                return Ok(Self::WeightedCh3 { weights: spec.weights.as_slice().into() });
            }
            Placement::ConstShard => return Ok(Self::ConstShard { count }),
            Placement::Random => return Ok(Self::Random { random: Random::new(), count }),
        };
        Ok(Self::Hashed { digest, table })
    }

    /// Whether it could be built. Those that make something of each name, and refuse nothing, are not tried out.
    pub(super) fn check(spec: &Spec, members: &[Member]) -> Result<(), SpecError> {
        match spec.placement {
            Placement::Ketama | Placement::Twemproxy => ketama::check(members),
            Placement::Spymemcached | Placement::HashRing | Placement::Pymemcache => Ok(()),
            _ => Self::build(spec, members).map(drop),
        }
    }

    #[inline]
    pub(super) fn index(&self, key: &[u8]) -> u32 {
        match self {
            Self::Hashed { digest, table } => table.index(digest.of(key)),
            Self::Pymemcache(pymemcache) => pymemcache.best(key).1,
            Self::Rendezvous(rendezvous) => rendezvous.best(key),
            Self::WeightedCh3 { weights } => weighted_ch3::index(key, weights),
            Self::ConstShard { count } => const_shard::index(key, *count),
            Self::Random { random, count } => random.below(*count),
        }
    }

    /// The first choice among the servers that are accepted, of so many.
    pub(super) fn index_where(&self, key: &[u8], servers: u32, accepts: impl Fn(u32) -> bool) -> Option<u32> {
        match self {
            Self::Hashed { digest, table: Table::Points(points) } => {
                return points.owners_from(digest.of(key) as u32).find(|server| accepts(*server));
            }
            Self::Hashed { digest, table: Table::HashRing(ring) } => {
                return ring.owners_from(digest.of(key)).find(|server| accepts(*server));
            }
            Self::Pymemcache(pymemcache) => return pymemcache.best_where(key, accepts),
            Self::Rendezvous(rendezvous) => return rendezvous.best_where(key, accepts),
            _ => {}
        }
        // Where the others are in a row, so that each of them gets its share of what one leaves behind.
        let first = self.index(key);
        if accepts(first) {
            return Some(first);
        }
        let again = (1..=AGAIN_COUNT_MAX).map(|number| with_number(key, number, |key| self.index(key)));
        let mut in_a_row = (1..servers).map(|step| (first + step) % servers);
        again.into_iter().find(|server| accepts(*server)).or_else(|| in_a_row.find(|server| accepts(*server)))
    }

    /// [`Self::index`] with the reasons, among so many servers.
    pub(super) fn explain(&self, key: &[u8], servers: usize) -> Reason {
        let of = |function, hash: u64, index: u32| Reason {
            function,
            hash: Some(hash),
            index: Some(index as usize),
            points: servers,
        };
        match self {
            Self::Hashed { digest, table } => {
                let hash = digest.of(key);
                Reason { points: table.points(), ..of(digest.name(), hash, table.index(hash)) }
            }
            Self::Pymemcache(pymemcache) => {
                let (score, index) = pymemcache.best(key);
                of("murmur3_32", score.into(), index)
            }
            Self::Rendezvous(rendezvous) => {
                let index = rendezvous.best(key);
                of(Digest::Murmur64a.name(), rendezvous.mixed(index, key), index)
            }
            Self::WeightedCh3 { weights } => {
                of(Digest::Murmur64a.name(), ch3::hash(key), weighted_ch3::index(key, weights))
            }
            Self::ConstShard { count } => match const_shard::named(key, *count) {
                Some(server) => of("shard", server.into(), server),
                None => of(Digest::Murmur64a.name(), ch3::hash(key), const_shard::index(key, *count)),
            },
            Self::Random { .. } => Reason { function: "random", hash: None, index: None, points: servers },
        }
    }

    /// The table behind keys hashed with MD5: those are worth hashing [`md5::LANES`] at a time.
    #[inline]
    pub(super) fn behind_md5(&self) -> Option<&Table> {
        match self {
            Self::Hashed { digest: Digest::Key { hash: KeyHash::Md5, .. }, table } => Some(table),
            _ => None,
        }
    }
}

/// [`Digest::of`] with MD5 for each key.
pub(super) fn md5_of_each(keys: &[&[u8]; md5::LANES]) -> [u64; md5::LANES] {
    let hashes = md5::first_words(keys);
    std::array::from_fn(|lane| if keys[lane].is_empty() { 0 } else { hashes[lane].into() })
}

impl Digest {
    #[inline]
    pub(super) fn of(self, key: &[u8]) -> u64 {
        match self {
            Self::Key { hash, signed_char } => hash.hash(key, signed_char).into(),
            Self::Gomemcache => crc32::gomemcache(key).into(),
            Self::Crc32 => crc32::ieee(key).into(),
            Self::Murmur64a => ch3::hash(key),
            Self::Xxh3 => xxh::xxh3(key),
            Self::Xxh64 => xxh::xxh64(key),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Key { hash, .. } => hash.name(),
            Self::Gomemcache | Self::Crc32 => KeyHash::Crc32a.name(),
            Self::Murmur64a => "murmur64a",
            Self::Xxh3 => "xxh3",
            Self::Xxh64 => "xxh64",
        }
    }
}

impl Table {
    #[inline]
    pub(super) fn index(&self, hash: u64) -> u32 {
        match self {
            Self::Points(points) => points.owner(hash as u32),
            Self::Slots(slots) => slots.index(hash as u32),
            Self::Modulo { count } => hash as u32 % count,
            Self::Crc32 { count } => crc32::mcrouter_index(hash as u32, *count),
            Self::Ch3 { count } => ch3::index(hash, *count),
            Self::Jump { count } => jump::index(hash, *count),
            Self::HashRing(ring) => ring.owner(hash),
        }
    }

    /// [`Self::index`] of each hash.
    pub(super) fn indexes(&self, hashes: &[u64], out: &mut Vec<u32>) {
        match self {
            // What a ketama ring has: asked once which table it is.
            Self::Points(points) => out.extend(hashes.iter().map(|&hash| points.owner(hash as u32))),
            _ => out.extend(hashes.iter().map(|&hash| self.index(hash))),
        }
    }

    /// How many points or slots share the keys out; the number of servers where there is no such thing.
    pub(super) fn points(&self) -> usize {
        match self {
            Self::Points(points) => points.len(),
            Self::Slots(slots) => slots.total() as usize,
            Self::HashRing(ring) => ring.len(),
            Self::Modulo { count } | Self::Crc32 { count } | Self::Ch3 { count } | Self::Jump { count } => {
                *count as usize
            }
        }
    }
}
