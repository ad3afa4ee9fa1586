//! mcrouter's `ConstShard`: the key says itself which server has it, by the number between its first two colons, as in
//! `user:3:profile`. Keys that name no server of the list are placed by Ch3.
//!
//! Source: mcrouter `routes/ShardHashFunc.cpp`.

use super::ch3;
use memchr::memchr;

/// The server that the key names.
pub(super) fn named(key: &[u8], count: u32) -> Option<u32> {
    let rest = &key[memchr(b':', key)? + 1..];
    let digits = &rest[..memchr(b':', rest)?];
    // No sign, no space: only digits. The parser below refuses none and too many.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    u32::try_from(number).ok().filter(|number| *number < count)
}

pub(super) fn index(key: &[u8], count: u32) -> u32 {
    named(key, count).unwrap_or_else(|| ch3::index(ch3::hash(key), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of mcrouter's `routes/test/ShardHashFuncTest.cpp`.
    #[test]
    fn as_mcrouters_own_tests() {
        for (key, server) in [("b:3:meh", 3), ("bl:2:meh", 2), ("bla:1:meh", 1), ("blah:0:meh", 0)] {
            assert_eq!((named(key.as_bytes(), 4), index(key.as_bytes(), 4)), (Some(server), server), "{key}");
        }
        for (key, server) in
            [("blahmeh", 2), ("blah:meh", 0), ("blah::meh", 1), ("blah:12c34:meh", 0), ("blah:4:meh", 3)]
        {
            assert_eq!((named(key.as_bytes(), 4), index(key.as_bytes(), 4)), (None, server), "{key}");
        }
    }

    #[test]
    fn what_counts_as_a_number() {
        for (key, server) in [
            (":1:", Some(1)),
            ("a:0000000000000000000000001:b", Some(1)),
            ("a:18446744073709551616:b", None),
            ("a:4294967297:b", None),
            ("a:+1:b", None),
            ("a: 1:b", None),
            ("a:-1:b", None),
            ("a:1", None),
            ("a:x:1:b", None),
        ] {
            assert_eq!(named(key.as_bytes(), 4), server, "{key}");
        }
    }
}
