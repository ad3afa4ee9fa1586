//! mcrouter's default placement `Ch3`: "furc", a walk down a binary tree by the bits of MurmurHash64A.
//!
//! Source: mcrouter `lib/fbi/hash.c`. Consistent only while servers are appended or removed at the end of the list.

use super::murmur64a;

/// Chosen by its authors "for optimum diffusion including recursive application".
pub(super) const SEED: u64 = 4_193_360_111;
/// Walks before giving up with server 0.
const TRIES_MAX: u32 = 32;
/// Distance between the bits that are read for one level; also bounds the number of servers.
const SHIFT: u32 = 23;
pub(super) const SERVERS_MAX: usize = 1 << SHIFT;

/// MurmurHash64A with mcrouter's seed: the key's hash; `index` makes all further bits from it.
pub fn hash(key: &[u8]) -> u64 {
    murmur64a::hash(key, SEED)
}

/// Expects 2 ≤ `count` ≤ [`SERVERS_MAX`].
pub(super) fn index(hash: u64, count: u32) -> u32 {
    let mut bits = Bits { first: hash, word: hash, word_at: 0 };
    let mut depth = u32::BITS - (count - 1).leading_zeros();
    let mut at = depth;
    for _ in 0..TRIES_MAX {
        while bits.bit(at) == 0 {
            depth -= 1;
            if depth == 0 {
                return 0;
            }
            at = depth;
        }
        at += SHIFT;
        let mut server = 1;
        for _ in 1..depth {
            server = server << 1 | bits.bit(at);
            at += SHIFT;
        }
        if server < count {
            return server;
        }
    }
    0
}

/// An endless stream of bits: the hash, the hash of the hash, and so on.
struct Bits {
    first: u64,
    /// Word number `word_at` of the stream, the last one that was looked at.
    word: u64,
    word_at: u32,
}

impl Bits {
    fn bit(&mut self, at: u32) -> u32 {
        let wanted = at / u64::BITS;
        if wanted < self.word_at {
            (self.word, self.word_at) = (self.first, 0);
        }
        while self.word_at < wanted {
            self.word = murmur64a::hash_word(self.word, SEED);
            self.word_at += 1;
        }
        (self.word >> (at % u64::BITS)) as u32 & 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Row, mcrouter_rows};
    use super::*;

    #[test]
    fn as_mcrouters_own_code() {
        let mut compared = 0;
        for Row { key, murmur64a, ch3, .. } in mcrouter_rows() {
            assert_eq!(hash(key.as_bytes()), murmur64a, "{key}");
            for (count, server) in ch3 {
                if count > 1 {
                    assert_eq!(index(murmur64a, count), server, "{key} of {count}");
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 300 * 12);
    }

    #[test]
    fn a_server_appended_takes_only_what_it_keeps() {
        for key in 0..2_000u32 {
            let hash = hash(format!("key:{key}").as_bytes());
            for count in 2..40 {
                let (before, after) = (index(hash, count), index(hash, count + 1));
                assert!(before == after || after == count);
            }
        }
    }
}
