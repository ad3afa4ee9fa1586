//! CRC-32 (IEEE) and the two placements that are a plain modulo of it: gomemcache and mcrouter's `Crc32`.
//!
//! Sources: gomemcache `memcache/selector.go` (`PickServer`), mcrouter `lib/fbi/hash.c` (`crc32_hash`) and
//! `lib/Crc32HashFunc.h`. Both count servers in list order and know no weights.

/// gomemcache copies the key into a buffer of this size before it hashes; longer keys are cut.
const GOMEMCACHE_KEY_BYTES_MAX: usize = 256;

#[inline]
pub(super) fn ieee(key: &[u8]) -> u32 {
    crc32fast::hash(key)
}

#[inline]
pub(super) fn gomemcache(key: &[u8]) -> u32 {
    ieee(key.get(..GOMEMCACHE_KEY_BYTES_MAX).unwrap_or(key))
}

/// mcrouter drops the highest bit before the modulo.
#[inline]
pub(super) fn mcrouter_index(crc: u32, count: u32) -> u32 {
    (crc & 0x7fff_ffff) % count
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Row, mcrouter_rows};
    use super::*;

    #[test]
    fn as_mcrouters_own_code() {
        for Row { key, crc32, .. } in mcrouter_rows() {
            assert_eq!(ieee(key.as_bytes()), crc32, "{key}");
        }
    }

    #[test]
    fn check_value_and_cut() {
        assert_eq!(ieee(b"123456789"), 0xcbf4_3926);
        assert_eq!(gomemcache(&[b'x'; 300]), ieee(&[b'x'; 256]));
        assert_eq!(mcrouter_index(0xffff_ffff, 10), 0x7fff_ffff % 10);
    }
}
