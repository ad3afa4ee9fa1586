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
    /// mcrouter's `Crc32`.
    Crc32,
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
        ("crc32", Self::Crc32),
        ("hash_ring", Self::HashRing),
        ("random", Self::Random),
    ];
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
}
