//! The names of placements and key hashes, as written in a configuration.

/// How keys are spread over the servers of a pool; each is bit-exact with what it is named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// libmemcached weighted ketama = php `LIBKETAMA_COMPATIBLE` = pylibmc `ketama_weighted`.
    Ketama,
    Twemproxy,
    Spymemcached,
    /// Rendezvous over murmur3_32.
    Pymemcache,
    /// crc32 modulo.
    Gomemcache,
    Modula,
    Jump,
    /// mcrouter's default.
    Ch3,
    /// mcrouter's `WeightedCh3`.
    WeightedCh3,
    /// mcrouter's `Crc32`.
    Crc32,
    /// mcrouter's `ConstShard`.
    ConstShard,
    /// mcrouter's `Rendezvous`.
    Rendezvous,
    /// mcrouter's `WeightedRendezvous`.
    WeightedRendezvous,
    /// What the crate hash_ring 0.2 does.
    HashRing,
    Random,
}

/// Hash functions for keys: those of twemproxy's `hash:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHash {
    OneAtATime,
    Md5,
    Crc16,
    Crc32,
    Crc32a,
    Fnv1_64,
    Fnv1a64,
    Fnv1_32,
    Fnv1a32,
    Hsieh,
    Murmur,
    Jenkins,
}

impl Placement {
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("ketama", Self::Ketama),
        ("twemproxy", Self::Twemproxy),
        ("spymemcached", Self::Spymemcached),
        ("pymemcache", Self::Pymemcache),
        ("gomemcache", Self::Gomemcache),
        ("modula", Self::Modula),
        ("jump", Self::Jump),
        ("ch3", Self::Ch3),
        ("weighted_ch3", Self::WeightedCh3),
        ("crc32", Self::Crc32),
        ("const_shard", Self::ConstShard),
        ("rendezvous", Self::Rendezvous),
        ("weighted_rendezvous", Self::WeightedRendezvous),
        ("hash_ring", Self::HashRing),
        ("random", Self::Random),
    ];

    /// Whether `key_hash` may be chosen.
    pub fn has_key_hash(self) -> bool {
        matches!(self, Self::Ketama | Self::Twemproxy | Self::Modula)
    }

    /// Whether servers may weigh more than 1.
    pub fn has_weights(self) -> bool {
        matches!(self, Self::Ketama | Self::Twemproxy | Self::Modula)
    }

    /// Whether there is a list of weights, one per server.
    pub fn has_weight_list(self) -> bool {
        matches!(self, Self::WeightedCh3 | Self::WeightedRendezvous)
    }

    /// Whether there is a list of tags, one per server.
    pub fn has_tags(self) -> bool {
        matches!(self, Self::Rendezvous | Self::WeightedRendezvous)
    }

    /// Whether a server's name, or its address where it has none, says which keys it gets; the order of the list does not.
    pub fn hashes_names(self) -> bool {
        matches!(
            self,
            Self::Ketama | Self::Twemproxy | Self::Spymemcached | Self::Pymemcache | Self::HashRing
        )
    }

    /// Whether it is one of mcrouter's, whose clients count on the hash stop.
    pub fn is_mcrouters(self) -> bool {
        matches!(self, Self::Crc32 | Self::Rendezvous | Self::WeightedRendezvous) || self.is_ch3()
    }

    /// Whether keys are placed by Ch3, all or some of them.
    pub(super) fn is_ch3(self) -> bool {
        matches!(self, Self::Ch3 | Self::WeightedCh3 | Self::ConstShard)
    }

    /// As written in a configuration.
    pub fn name(self) -> &'static str {
        name_in(Self::ALL, self)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        value_in(Self::ALL, name)
    }

    /// All names, in the order of the documentation.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|&(name, _)| name)
    }
}

impl KeyHash {
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("one_at_a_time", Self::OneAtATime),
        ("md5", Self::Md5),
        ("crc16", Self::Crc16),
        ("crc32", Self::Crc32),
        ("crc32a", Self::Crc32a),
        ("fnv1_64", Self::Fnv1_64),
        ("fnv1a_64", Self::Fnv1a64),
        ("fnv1_32", Self::Fnv1_32),
        ("fnv1a_32", Self::Fnv1a32),
        ("hsieh", Self::Hsieh),
        ("murmur", Self::Murmur),
        ("jenkins", Self::Jenkins),
    ];

    /// As written in a configuration.
    pub fn name(self) -> &'static str {
        name_in(Self::ALL, self)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        value_in(Self::ALL, name)
    }

    /// All names, in the order of the documentation.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|&(name, _)| name)
    }
}

fn name_in<T: Copy + PartialEq>(all: &[(&'static str, T)], value: T) -> &'static str {
    all.iter().find(|row| row.1 == value).map_or("?", |row| row.0)
}

fn value_in<T: Copy>(all: &[(&'static str, T)], name: &str) -> Option<T> {
    all.iter().find(|row| row.0 == name).map(|row| row.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_value() {
        for &(name, value) in Placement::ALL {
            assert_eq!((value.name(), Placement::from_name(name)), (name, Some(value)));
        }
        for &(name, value) in KeyHash::ALL {
            assert_eq!((value.name(), KeyHash::from_name(name)), (name, Some(value)));
        }
        assert_eq!((Placement::names().count(), KeyHash::names().count()), (15, 12));
        assert_eq!(Placement::from_name("Ketama"), None);
    }
}
