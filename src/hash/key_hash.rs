//! The hash functions for keys: twemproxy's `hash:` = libmemcached's `MEMCACHED_BEHAVIOR_HASH`.
//!
//! Sources: twemproxy `src/hashkit/nc_*.c`, libmemcached `src/libhashkit/*.cc`; they agree bit for bit.
//!
//! Some read the key as C's `char`, which is signed on x86 and unsigned on ARM, so bytes from 0x80 on give other results
//! there: one_at_a_time and the fnv family at every byte, hsieh at the last of a key whose length is 4n + 3. crc32 reads
//! `char` too but keeps only its low eight bits; the rest reads `unsigned char`.

use super::{KeyHash, crc32, md5};

impl KeyHash {
    /// An empty key hashes to 0 whatever the function (twemproxy `nc_server.c`, `server_pool_hash`).
    #[inline]
    pub fn hash(self, key: &[u8], signed_char: bool) -> u32 {
        if key.is_empty() {
            return 0;
        }
        match (self, signed_char) {
            (Self::Md5, _) => md5::first_word(key),
            (Self::Fnv1a64, true) => fnv1a(FNV_64_INIT, FNV_64_PRIME, key, signed),
            (Self::Fnv1a64, false) => fnv1a(FNV_64_INIT, FNV_64_PRIME, key, unsigned),
            (Self::Fnv1a32, true) => fnv1a(FNV_32_INIT, FNV_32_PRIME, key, signed),
            (Self::Fnv1a32, false) => fnv1a(FNV_32_INIT, FNV_32_PRIME, key, unsigned),
            (Self::Fnv1_64, true) => fnv1(FNV_64_INIT, FNV_64_PRIME, key, signed),
            (Self::Fnv1_64, false) => fnv1(FNV_64_INIT, FNV_64_PRIME, key, unsigned),
            (Self::Fnv1_32, true) => fnv1(FNV_32_INIT, FNV_32_PRIME, key, signed),
            (Self::Fnv1_32, false) => fnv1(FNV_32_INIT, FNV_32_PRIME, key, unsigned),
            (Self::OneAtATime, true) => one_at_a_time(key, signed),
            (Self::OneAtATime, false) => one_at_a_time(key, unsigned),
            (Self::Hsieh, true) => hsieh(key, signed),
            (Self::Hsieh, false) => hsieh(key, unsigned),
            // libmemcached's idea of CRC-32: fifteen bits of it.
            (Self::Crc32, _) => crc32::ieee(key) >> 16 & 0x7fff,
            (Self::Crc32a, _) => crc32::ieee(key),
            (Self::Crc16, _) => crc16(key),
            (Self::Murmur, _) => murmur2(key),
            (Self::Jenkins, _) => jenkins(key),
        }
    }
}

#[inline(always)]
fn signed(byte: u8) -> u32 {
    byte.cast_signed() as u32
}

#[inline(always)]
fn unsigned(byte: u8) -> u32 {
    byte.into()
}

// fnv1a_64 is computed in 32 bits by the originals (a slip that became the rule); fnv1_64 in 64 bits and cut at the end,
// which gives the same 32 bits as cutting at the start. So all four are one of two loops over u32.
const FNV_64_INIT: u32 = 0xcbf2_9ce4_8422_2325_u64 as u32;
const FNV_64_PRIME: u32 = 0x0100_0000_01b3_u64 as u32;
const FNV_32_INIT: u32 = 0x811c_9dc5;
const FNV_32_PRIME: u32 = 0x0100_0193;

#[inline(always)]
fn fnv1a(init: u32, prime: u32, key: &[u8], widen: impl Fn(u8) -> u32) -> u32 {
    key.iter().fold(init, |hash, &byte| (hash ^ widen(byte)).wrapping_mul(prime))
}

#[inline(always)]
fn fnv1(init: u32, prime: u32, key: &[u8], widen: impl Fn(u8) -> u32) -> u32 {
    key.iter().fold(init, |hash, &byte| hash.wrapping_mul(prime) ^ widen(byte))
}

/// Bob Jenkins' one-at-a-time; the default of libmemcached.
#[inline(always)]
fn one_at_a_time(key: &[u8], widen: impl Fn(u8) -> u32) -> u32 {
    let hash = key.iter().fold(0u32, |hash, &byte| {
        let hash = hash.wrapping_add(widen(byte));
        let hash = hash.wrapping_add(hash << 10);
        hash ^ hash >> 6
    });
    let hash = hash.wrapping_add(hash << 3);
    let hash = hash ^ hash >> 11;
    hash.wrapping_add(hash << 15)
}

/// Paul Hsieh's SuperFastHash.
fn hsieh(key: &[u8], widen: impl Fn(u8) -> u32) -> u32 {
    let pair = |low, high| u32::from(u16::from_le_bytes([low, high]));
    let (blocks, tail) = key.as_chunks::<4>();
    let mut hash = 0u32;
    for &[a, b, c, d] in blocks {
        hash = hash.wrapping_add(pair(a, b));
        hash = hash << 16 ^ pair(c, d) << 11 ^ hash;
        hash = hash.wrapping_add(hash >> 11);
    }
    match *tail {
        [a, b, c] => {
            hash = hash.wrapping_add(pair(a, b));
            hash ^= hash << 16;
            hash ^= widen(c) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [a, b] => {
            hash = hash.wrapping_add(pair(a, b));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [a] => {
            hash = hash.wrapping_add(a.into());
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    for (left, right) in [(3, 5), (4, 17), (25, 6)] {
        hash ^= hash << left;
        hash = hash.wrapping_add(hash >> right);
    }
    hash
}

/// twemproxy's CRC-16 (`nc_crc16.c`): the CCITT polynomial, kept in 32 bits, so that what is shifted out of the lower
/// sixteen stays above them. Found by looking where nutcracker 0.5.0 puts 10,000 keys.
fn crc16(key: &[u8]) -> u32 {
    const TABLE: [u16; 256] = crc16_table();
    let step = |crc: u32, &byte: &u8| crc << 8 ^ u32::from(TABLE[usize::from((crc >> 8) as u8 ^ byte)]);
    key.iter().fold(0, step)
}

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ ((crc >> 15) * 0x1021);
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// MurmurHash2 with a seed that depends on the length.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let len = key.len() as u32;
    let (blocks, tail) = key.as_chunks::<4>();
    let mut hash = 0xdead_beef_u32.wrapping_mul(len) ^ len;
    for block in blocks {
        let word = u32::from_le_bytes(*block).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M);
    }
    if !tail.is_empty() {
        hash = (hash ^ word_of(tail)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

/// Bob Jenkins' lookup3 (`hashlittle`) with initval 13.
fn jenkins(key: &[u8]) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(key.len() as u32).wrapping_add(13);
    let (mut a, mut b, mut c) = (start, start, start);
    // The last block, full or not, is mixed differently.
    let last_at = key.len().saturating_sub(1) / 12 * 12;
    let (blocks, last) = key.split_at(last_at);
    let add = |a: u32, b: u32, c: u32, block: &[u8]| {
        let word = |at: usize| word_of(block.get(at..block.len().min(at + 4)).unwrap_or_default());
        (a.wrapping_add(word(0)), b.wrapping_add(word(4)), c.wrapping_add(word(8)))
    };
    // The three variables take turns; renaming them after each step brings them home after every third.
    for block in blocks.chunks_exact(12) {
        (a, b, c) = add(a, b, c, block);
        for turn in [4, 6, 8, 16, 19, 4] {
            let mixed = a.wrapping_sub(c) ^ c.rotate_left(turn);
            (a, b, c) = (b, c.wrapping_add(b), mixed);
        }
    }
    (a, b, c) = add(a, b, c, last);
    for turn in [14, 11, 25, 16, 4, 14, 24] {
        let mixed = (c ^ b).wrapping_sub(b.rotate_left(turn));
        (a, b, c) = (b, mixed, a);
    }
    b
}

/// Up to four bytes, little-endian, what is missing being zero.
fn word_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: &str, key: &str, signed_char: bool) -> u32 {
        KeyHash::from_name(name).unwrap().hash(key.as_bytes(), signed_char)
    }

    /// twemproxy `src/test_all.c`.
    #[test]
    fn known_answers_of_apple() {
        for (name, value) in [
            ("fnv1a_64", 1_488_911_807),
            ("md5", 3_195_025_439),
            ("one_at_a_time", 2_297_466_611),
            ("crc32", 10_542),
            ("crc32a", 2_838_417_488),
            ("fnv1_64", 473_199_127),
            ("fnv1_32", 67_176_023),
            ("fnv1a_32", 280_767_167),
            ("hsieh", 3_738_850_110),
            ("murmur", 4_142_305_122),
            ("jenkins", 1_442_444_624),
        ] {
            assert_eq!((hash(name, "apple", true), hash(name, "apple", false)), (value, value), "{name}");
            assert_eq!(hash(name, "", true), 0, "{name} of nothing");
        }
        assert_eq!(hash("crc16", "123456789", true) & 0xffff, 0x31c3, "the check value of CRC-16/XMODEM");
    }

    #[test]
    fn char_is_signed_on_x86_only() {
        assert_eq!(hash("fnv1a_64", "clé", true), 503_911_478);
        assert_eq!(hash("fnv1a_64", "clé", false), 525_515_318);
        for (name, _) in KeyHash::ALL {
            // Seven bytes, so that hsieh meets its one signed byte.
            let differs = hash(name, "abcdcé", true) != hash(name, "abcdcé", false);
            let signed = matches!(*name, "one_at_a_time" | "hsieh") || name.starts_with("fnv");
            assert_eq!(differs, signed, "{name}");
        }
    }

    /// twemproxy's C functions, compiled with gcc's -fsigned-char (the first row of a key) and -funsigned-char (the second).
    #[test]
    fn known_answers_above_0x7f() {
        let names = ["hsieh", "one_at_a_time", "fnv1_64", "fnv1_32", "fnv1a_32"];
        for (key, signed_char, values) in [
            ("clé", true, [386_485_210, 1_968_136_217, 4_044_155_928, 2_864_616_632, 1_733_572_406]),
            ("clé", false, [386_485_210, 2_949_898_794, 4_044_054_040, 1_086_189_240, 2_626_955_574]),
            ("café:1", true, [528_478_793, 3_193_958_049, 1_292_952_426, 27_709_866, 2_645_428_008]),
            ("café:1", false, [528_478_793, 1_017_031_808, 678_983_018, 1_102_545_834, 2_147_555_112]),
            ("€", true, [3_317_549_316, 1_783_791_021, 2_487_353_715, 3_516_160_179, 814_493_227]),
            ("€", false, [3_658_913_200, 669_348_174, 1_782_223_475, 3_201_820_083, 697_271_083]),
        ] {
            assert_eq!(names.map(|name| hash(name, key, signed_char)), values, "{key} {signed_char}");
        }
    }
}
