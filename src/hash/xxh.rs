//! The two xxHash functions that placements use; the door of the crate xxhash-rust.

/// XXH3 with seed 0, the default key hash of memcached's built-in proxy.
#[inline]
pub(super) fn xxh3(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// XXH64 with seed 0, the hash of the crate hash_ring 0.2.
#[inline]
pub(super) fn xxh64(key: &[u8]) -> u64 {
    xxhash_rust::xxh64::xxh64(key, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the xxHash project's own sanity checks for the empty input.
    #[test]
    fn known_answers() {
        assert_eq!(xxh3(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
    }
}
