//! Jump hash as memcached's built-in proxy does it over XXH3: "A Fast, Minimal Memory, Consistent Hash Algorithm".
//!
//! Source: memcached `proxy_jump_hash.c`. Only the number of servers and their order count; there are no weights.

/// Expects `count` ≥ 1.
pub(super) fn index(mut hash: u64, count: u32) -> u32 {
    let (mut bucket, mut next) = (0, 0);
    while next < i64::from(count) {
        bucket = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1u64 << 31) as f64 / ((hash >> 33) + 1) as f64)) as i64;
    }
    bucket as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the paper's reference code, as the test tables of its well-known ports have them.
    #[test]
    fn known_answers() {
        for (hash, count, bucket) in
            [(1, 1, 0), (42, 57, 43), (0xdead_10cc, 1, 0), (0xdead_10cc, 666, 361), (256, 1024, 520)]
        {
            assert_eq!(index(hash, count), bucket, "{hash} of {count}");
        }
    }

    #[test]
    fn a_server_appended_takes_only_what_it_keeps() {
        for key in 0..2_000u64 {
            let hash = super::super::xxh::xxh3(&key.to_le_bytes());
            for count in 1..40 {
                let (before, after) = (index(hash, count), index(hash, count + 1));
                assert!(before == after || after == count);
            }
        }
    }
}
