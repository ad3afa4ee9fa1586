//! memcached's item sizes, which clients can see: in `object too large for cache`, in `incr` of something
//! too big to be a number, and in `me`.

/// The header of an item (`sizeof(item)`).
const HEADER_BYTES: usize = 48;
/// `slab_chunk_size_max`: larger items are kept in pieces, and are no numbers.
pub(super) const CHUNK_BYTES_MAX: usize = 512 * 1024;
/// The smallest slab class: a header and the default of `-n`.
const CLASS_BYTES_MIN: usize = 96;

/// What an item costs in memcached: header, key and NUL, flags when there are any, value and CRLF, cas.
pub(super) const fn item_bytes(key_len: usize, flags: u32, value_len: usize) -> usize {
    let flags_bytes = if flags == 0 { 0 } else { 4 };
    HEADER_BYTES + key_len + 1 + flags_bytes + value_len + 2 + 8
}

/// The slab class of an item, with the default growth factor of 1.25 and chunks aligned to 8 bytes.
pub(super) const fn class_of(item_bytes: usize) -> u32 {
    let mut class = 1;
    let mut class_bytes = CLASS_BYTES_MIN;
    while class_bytes < item_bytes {
        class_bytes = (class_bytes * 5 / 4).next_multiple_of(8);
        class += 1;
        if class_bytes * 5 > CHUNK_BYTES_MAX * 4 {
            // The last class is of CHUNK_BYTES_MAX and takes what is left.
            break;
        }
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked of memcached 1.6.45: `set a 0 0 <n>`, `me a`.
    #[test]
    fn sizes_and_classes_are_memcacheds() {
        for (value_len, size, class) in [
            (1, 61, 1),
            (35, 95, 1),
            (36, 96, 1),
            (100, 160, 4),
            (1_000, 1_060, 12),
            (5_000, 5_060, 19),
            (20_000, 20_060, 25),
            (300_000, 300_060, 37),
            (393_000, 393_060, 38),
            (400_000, 400_060, 39),
            (520_000, 520_060, 39),
            (1_048_516, 1_048_576, 39),
        ] {
            assert_eq!((item_bytes(1, 0, value_len), class_of(size)), (size, class), "{value_len}");
        }
        assert_eq!(item_bytes(3, 5, 3), 69);
    }
}
