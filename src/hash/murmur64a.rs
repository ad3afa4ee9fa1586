//! MurmurHash64A, Austin Appleby's hash of 64 bits for little-endian machines: what mcrouter's placements are made of.
//!
//! Source: mcrouter `lib/fbi/hash.c`.

const M: u64 = 0xc6a4_a793_5bd1_e995;
const R: u32 = 47;

#[inline]
pub(super) fn hash(key: &[u8], seed: u64) -> u64 {
    let (blocks, tail) = key.as_chunks::<8>();
    let mut h = seed ^ (key.len() as u64).wrapping_mul(M);
    for block in blocks {
        h = (h ^ scramble(u64::from_le_bytes(*block))).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        h = (h ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    finish(h)
}

/// The hash of the eight bytes of `word`.
#[inline]
pub(super) fn hash_word(word: u64, seed: u64) -> u64 {
    finish((seed ^ M.wrapping_mul(8) ^ scramble(word)).wrapping_mul(M))
}

fn scramble(block: u64) -> u64 {
    let block = block.wrapping_mul(M);
    (block ^ block >> R).wrapping_mul(M)
}

fn finish(h: u64) -> u64 {
    let h = (h ^ h >> R).wrapping_mul(M);
    h ^ h >> R
}

#[cfg(test)]
mod tests {
    use super::super::ch3::SEED;
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(hash(b"12345678", SEED), 13_504_005_775_894_998_976);
        assert_eq!(hash(b"123456789abcdef", SEED), 13_627_367_976_189_347_166);
        assert_eq!(hash_word(u64::from_le_bytes(*b"12345678"), SEED), hash(b"12345678", SEED));
    }
}
