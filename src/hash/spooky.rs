//! SpookyHash V2, Bob Jenkins' public-domain hash of 128 bits: what mcrouter takes for fractions of keys.
//!
//! Source: burtleburtle.net/bob/hash/spooky.html; mcrouter uses folly's copy. Short messages keep four words of state and
//! take 32 bytes at a time, long ones twelve words and 96 bytes. All reads are little-endian.

/// The lower half of [`hash64`], with a seed of 32 bits.
#[must_use]
pub fn hash32(key: &[u8], seed: u32) -> u32 {
    hash64(key, seed.into()) as u32
}

/// The first word of `hash128`, both seeds being the same.
#[must_use]
pub fn hash64(key: &[u8], seed: u64) -> u64 {
    hash128(key, [seed; 2])[0]
}

#[must_use]
fn hash128(key: &[u8], seeds: [u64; 2]) -> [u64; 2] {
    if key.len() < SHORT_BYTES { short(key, seeds) } else { long(key, seeds) }
}

/// Odd, not zero, and without a pattern, says its author.
const CONST: u64 = 0xdead_beef_dead_beef;
/// Words of state of a long message.
const WORDS: usize = 12;
const BLOCK_BYTES: usize = 8 * WORDS;
/// From here on a message is long.
const SHORT_BYTES: usize = 2 * BLOCK_BYTES;

/// Rotations of one round over a short message's whole state, in the order of the steps.
const SHORT_MIX: [u32; 12] = [50, 52, 30, 41, 54, 48, 38, 37, 62, 34, 5, 36];
const SHORT_END: [u32; 11] = [15, 52, 26, 51, 28, 9, 47, 54, 32, 25, 63];
const LONG_MIX: [u32; WORDS] = [11, 32, 43, 31, 17, 28, 39, 57, 55, 54, 22, 46];
const LONG_END: [u32; WORDS] = [44, 15, 34, 21, 38, 33, 10, 13, 38, 53, 42, 54];

fn short(key: &[u8], [a, b]: [u64; 2]) -> [u64; 2] {
    let mut state = [a, b, CONST, CONST];
    let (blocks, rest) = key.as_chunks::<32>();
    for block in blocks {
        let [w0, w1, w2, w3] = words(block);
        add(&mut state, [0, 0, w0, w1]);
        short_mix(&mut state);
        add(&mut state, [w2, w3, 0, 0]);
    }
    let (half, tail) = rest.as_chunks::<16>();
    for half in half {
        let [w0, w1] = words(half);
        add(&mut state, [0, 0, w0, w1]);
        short_mix(&mut state);
    }
    // Only the lowest byte of the length fits beside the last 15 bytes; a short message has no more.
    let length = (key.len() as u64) << 56;
    let [w0, w1] = if tail.is_empty() {
        [CONST, CONST]
    } else {
        let mut last = [0; 16];
        last[..tail.len()].copy_from_slice(tail);
        words(&last)
    };
    add(&mut state, [0, 0, w0, w1.wrapping_add(length)]);
    short_end(&mut state);
    [state[0], state[1]]
}

fn short_mix(state: &mut [u64; 4]) {
    for (step, rotation) in SHORT_MIX.into_iter().enumerate() {
        let (this, next, over) = ((step + 2) % 4, (step + 3) % 4, step % 4);
        state[this] = state[this].rotate_left(rotation).wrapping_add(state[next]);
        state[over] ^= state[this];
    }
}

fn short_end(state: &mut [u64; 4]) {
    for (step, rotation) in SHORT_END.into_iter().enumerate() {
        let (this, before) = ((step + 3) % 4, (step + 2) % 4);
        state[this] ^= state[before];
        state[before] = state[before].rotate_left(rotation);
        state[this] = state[this].wrapping_add(state[before]);
    }
}

fn long(key: &[u8], [a, b]: [u64; 2]) -> [u64; 2] {
    let mut state: [u64; WORDS] = std::array::from_fn(|i| [a, b, CONST][i % 3]);
    let (blocks, rest) = key.as_chunks::<BLOCK_BYTES>();
    for block in blocks {
        long_mix(&mut state, words(block));
    }
    let mut last = [0; BLOCK_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    last[BLOCK_BYTES - 1] = rest.len() as u8;
    add(&mut state, words(&last));
    for _ in 0..3 {
        long_end(&mut state);
    }
    [state[0], state[1]]
}

fn long_mix(state: &mut [u64; WORDS], data: [u64; WORDS]) {
    for (i, rotation) in LONG_MIX.into_iter().enumerate() {
        let [next, third, eleventh, twelfth] = [1, 2, 10, 11].map(|ahead| (i + ahead) % WORDS);
        state[i] = state[i].wrapping_add(data[i]);
        state[third] ^= state[eleventh];
        state[twelfth] ^= state[i];
        state[i] = state[i].rotate_left(rotation);
        state[twelfth] = state[twelfth].wrapping_add(state[next]);
    }
}

fn long_end(state: &mut [u64; WORDS]) {
    for (i, rotation) in LONG_END.into_iter().enumerate() {
        let [next, third, twelfth] = [1, 2, 11].map(|ahead| (i + ahead) % WORDS);
        state[twelfth] = state[twelfth].wrapping_add(state[next]);
        state[third] ^= state[twelfth];
        state[next] = state[next].rotate_left(rotation);
    }
}

fn add<const N: usize>(state: &mut [u64; N], words: [u64; N]) {
    for (state, word) in state.iter_mut().zip(words) {
        *state = state.wrapping_add(word);
    }
}

/// `bytes` has eight times `N` of them.
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its author's own results: of the bytes 128, 129, … 255, 0, 1, …, so many as the place in the list says.
    #[test]
    fn as_its_author_published() {
        let message: Vec<u8> = (0..512).map(|i| (i + 128) as u8).collect();
        let published = include_str!("fixtures/spooky.txt");
        let published = published.lines().filter(|line| !line.starts_with('#'));
        let hashes: Vec<&str> = published.flat_map(str::split_whitespace).collect();
        assert_eq!(hashes.len(), 512);
        for (len, hash) in hashes.into_iter().enumerate() {
            assert_eq!(format!("{:08x}", hash32(&message[..len], 0)), hash, "of {len} bytes");
        }
    }

    /// Values that other implementations publish in their tests.
    #[test]
    fn known_answers() {
        assert_eq!(hash32(b"hello", 0), 0xd382_e6ca);
        assert_eq!(hash32("你好".as_bytes(), 0), 0x38c1_de3e);
        assert_eq!(hash32(b"Hello, World!", 0), 0x4a0d_b65a);
    }

    #[test]
    fn widths_are_parts_of_one_hash() {
        for len in [0, 5, 200] {
            let key = vec![7; len];
            let [first, _] = hash128(&key, [9, 9]);
            assert_eq!((hash64(&key, 9), hash32(&key, 9)), (first, first as u32));
            assert_ne!(hash128(&key, [9, 9]), hash128(&key, [9, 8]));
        }
    }
}
