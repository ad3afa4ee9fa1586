//! Rendezvous hashing as pymemcache's `HashClient`: the server whose `murmur3_32("host:port-key")` is highest has the key.
//!
//! Sources: pymemcache `client/rendezvous.py`, `client/murmur3.py`, `client/hash.py`. The key is a `str` there: murmur3 walks
//! its code points and takes the low byte of each. (Keys given as Python `bytes` are formatted as `b'foo'` before they are
//! hashed, so they land elsewhere; no proxy can tell.)

use super::Member;

#[derive(Clone, Debug)]
pub(super) struct Pymemcache {
    prefixes: Box<[Prefix]>,
}

impl Pymemcache {
    pub(super) fn build(members: &[Member]) -> Self {
        Self { prefixes: members.iter().map(|member| Prefix::of(&node(member))).collect() }
    }

    /// The highest score and the server that has it.
    pub(super) fn best(&self, key: &[u8]) -> (u32, u32) {
        if key.is_ascii() {
            return self.best_of_str(key);
        }
        self.best_of_str(as_python_str(key, &mut [0; KEY_CHARS_MAX]))
    }

    /// The server with the highest score among those that are accepted.
    pub(super) fn best_where(&self, key: &[u8], accepts: impl Fn(u32) -> bool) -> Option<u32> {
        let mut low_bytes = [0; KEY_CHARS_MAX];
        let key = if key.is_ascii() { key } else { as_python_str(key, &mut low_bytes) };
        let all = (0..).zip(&self.prefixes).filter(|(server, _)| accepts(*server));
        all.max_by_key(|(_, prefix)| (prefix.score(key), &prefix.node)).map(|(server, _)| server)
    }

    /// `key` as the low byte of each character.
    #[inline]
    fn best_of_str(&self, key: &[u8]) -> (u32, u32) {
        let (mut highest, mut winner) = (0, 0);
        for (server, prefix) in self.prefixes.iter().enumerate() {
            let score = prefix.score(key);
            if score > highest || score == highest && prefix.node > self.prefixes[winner].node {
                (highest, winner) = (score, server);
            }
        }
        (highest, winner as u32)
    }
}

/// Longer ones are no memcached keys with a salt; they are hashed byte by byte.
const KEY_CHARS_MAX: usize = 512;

/// The low byte of each code point; bytes that are no UTF-8 stand for themselves.
fn as_python_str<'a>(key: &'a [u8], low_bytes: &'a mut [u8; KEY_CHARS_MAX]) -> &'a [u8] {
    if key.len() > KEY_CHARS_MAX {
        return key;
    }
    let Ok(text) = str::from_utf8(key) else { return key };
    let mut chars = 0;
    for (low_byte, char) in low_bytes.iter_mut().zip(text.chars()) {
        *low_byte = char as u32 as u8;
        chars += 1;
    }
    &low_bytes[..chars]
}

fn node(member: &Member) -> String {
    match (&member.name, member.port) {
        (Some(name), _) => name.clone(),
        (None, Some(port)) => format!("{}:{port}", member.host),
        (None, None) => member.host.clone(),
    }
}

/// A server's half of the hashed text, hashed as far as it goes: only the key is left to do per pick.
#[derive(Clone, Debug)]
struct Prefix {
    /// Decides ties: the larger string wins.
    node: String,
    /// murmur3 after all full blocks of `node-`.
    state: u32,
    /// The bytes after these, lowest first, and how many bits they are: 0, 8, 16 or 24.
    carry: u64,
    carry_bits: u32,
    len: u32,
}

impl Prefix {
    fn of(node: &str) -> Self {
        let text = format!("{node}-");
        let (blocks, tail) = text.as_bytes().as_chunks::<4>();
        Self {
            state: blocks.iter().fold(0, |state, block| mix(state, u32::from_le_bytes(*block))),
            carry: tail.iter().rev().fold(0, |carry, &byte| carry << 8 | u64::from(byte)),
            carry_bits: 8 * tail.len() as u32,
            len: text.len() as u32,
            node: node.into(),
        }
    }

    /// murmur3_32 of this prefix and the key, seed 0.
    #[inline]
    fn score(&self, key: &[u8]) -> u32 {
        let (mut state, mut carry, mut bits) = (self.state, self.carry, self.carry_bits);
        let (blocks, tail) = key.as_chunks::<4>();
        for block in blocks {
            carry |= u64::from(u32::from_le_bytes(*block)) << bits;
            state = mix(state, carry as u32);
            carry >>= 32;
        }
        for &byte in tail {
            carry |= u64::from(byte) << bits;
            bits += 8;
            if bits == 32 {
                state = mix(state, carry as u32);
                (carry, bits) = (0, 0);
            }
        }
        if bits > 0 {
            state ^= scramble(carry as u32);
        }
        finish(state ^ self.len.wrapping_add(key.len() as u32))
    }
}

fn mix(state: u32, block: u32) -> u32 {
    (state ^ scramble(block)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn scramble(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn finish(state: u32) -> u32 {
    let state = (state ^ state >> 16).wrapping_mul(0x85eb_ca6b);
    let state = (state ^ state >> 13).wrapping_mul(0xc2b2_ae35);
    state ^ state >> 16
}

#[cfg(test)]
mod tests {
    use super::super::tests::equal;
    use super::*;

    #[test]
    fn known_answer_of_murmur3_32() {
        assert_eq!(murmur3_plain(b"hello"), 613_153_351);
    }

    fn murmur3_plain(text: &[u8]) -> u32 {
        let (blocks, tail) = text.as_chunks::<4>();
        let state = blocks.iter().fold(0, |state, block| mix(state, u32::from_le_bytes(*block)));
        let last = tail.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        finish(state ^ scramble(last) ^ text.len() as u32)
    }

    #[test]
    fn split_anywhere_gives_the_same() {
        let text = "some-longer-text-with-many-dashes-0123456-789ab-c";
        for (at, _) in text.match_indices('-') {
            assert_eq!(
                Prefix::of(&text[..at]).score(&text.as_bytes()[at + 1..]),
                murmur3_plain(text.as_bytes())
            );
        }
    }

    #[test]
    fn of_equal_scores_the_larger_string_wins() {
        // Equal nodes always tie; the first of them stays, as in the original.
        let twins = Pymemcache::build(&[equal(1, 11211), equal(1, 11211)].concat());
        assert_eq!(twins.best(b"foo").1, 0);
        let mut tied = Pymemcache::build(&equal(3, 11211));
        let first = Prefix { node: "a".into(), ..Prefix::of("x") };
        tied.prefixes = Box::new([
            first,
            Prefix { node: "c".into(), ..Prefix::of("x") },
            Prefix { node: "b".into(), ..Prefix::of("x") },
        ]);
        assert_eq!(tied.best(b"foo").1, 1);
    }

    #[test]
    fn keys_are_python_strings() {
        let mut room = [0; KEY_CHARS_MAX];
        assert_eq!(as_python_str("clé".as_bytes(), &mut room), b"cl\xe9");
        assert_eq!(as_python_str("€5".as_bytes(), &mut room), b"\xac5");
        assert_eq!(as_python_str(b"\xff\xfe", &mut room), b"\xff\xfe");
    }
}
