//! MD5 (RFC 1321), of which rings want little: whole digests while they are built, the first word of a key's after that.
//!
//! The key's is the hot path. A key of up to 55 bytes is one block, whose 64 steps wait for one another: about 100 ns that no
//! processor shortens. So for the keys of a multi-get [`first_words`] runs eight blocks side by side, one per vector lane (the crate wide, because what the
//! compiler makes of a plain loop changes with the weather).
//! The crate md-5 (its door is here) does digests and longer keys and is the oracle of the tests.

use md5::{Digest, Md5};
use std::ops::{BitAnd, BitOr, BitXor, Not};
use wide::u32x8;

/// Keys per call of [`first_words`].
pub(super) const LANES: usize = 8;

/// A key must leave room for the 0x80 and the length in its block.
const KEY_BYTES_MAX: usize = 55;

pub(super) fn digest(text: &[u8]) -> [u8; 16] {
    Md5::digest(text).into()
}

/// A digest as people read it.
#[must_use]
pub fn md5_hex(text: &[u8]) -> String {
    digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The four little-endian words of a digest: a ketama point each.
pub(super) fn words(text: &[u8]) -> [u32; 4] {
    let digest = digest(text);
    let (words, _) = digest.as_chunks::<4>();
    std::array::from_fn(|at| u32::from_le_bytes(words[at]))
}

/// The first little-endian word of the digest: the hash of a key in ketama.
#[inline]
pub(super) fn first_word(key: &[u8]) -> u32 {
    if key.len() > KEY_BYTES_MAX {
        return words(key)[0];
    }
    first_word_of_block(&block_of(key))
}

/// [`first_word`] of each key.
pub(super) fn first_words(keys: &[&[u8]; LANES]) -> [u32; LANES] {
    // Row i has the i-th word of every key's block, as `block_of` makes it; what no key reaches stays zero.
    let mut rows = [[0; LANES]; 16];
    for (lane, key) in keys.iter().enumerate() {
        let key = &key[..key.len().min(KEY_BYTES_MAX)];
        let (words, tail) = key.as_chunks::<4>();
        for (row, word) in rows.iter_mut().zip(words) {
            row[lane] = u32::from_le_bytes(*word);
        }
        rows[words.len()][lane] = tail.iter().rev().fold(0x80, |word, byte| word << 8 | u32::from(*byte));
        rows[14][lane] = (key.len() << 3) as u32;
    }
    let mut found = first_word_of_block(&rows.map(u32x8::new)).to_array();
    for (key, word) in keys.iter().zip(&mut found) {
        if key.len() > KEY_BYTES_MAX {
            *word = words(key)[0];
        }
    }
    found
}

/// The only block of a short message: the message, 0x80, zeros, its length in bits.
#[inline(always)]
fn block_of(key: &[u8]) -> [u32; 16] {
    let mut bytes = [0; 64];
    bytes[..key.len()].copy_from_slice(key);
    bytes[key.len()] = 0x80;
    bytes[56] = (key.len() << 3) as u8;
    bytes[57] = (key.len() >> 5) as u8;
    let (words, _) = bytes.as_chunks::<4>();
    std::array::from_fn(|at| u32::from_le_bytes(words[at]))
}

/// A word, or a vector with one word of each lane.
trait Word:
    Copy + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self> + Not<Output = Self>
{
    fn of(word: u32) -> Self;
    fn plus(self, other: Self) -> Self;
    fn turn<const BITS: u32>(self) -> Self;
}

impl Word for u32 {
    #[inline(always)]
    fn of(word: u32) -> Self {
        word
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    #[inline(always)]
    fn turn<const BITS: u32>(self) -> Self {
        self.rotate_left(BITS)
    }
}

impl Word for u32x8 {
    #[inline(always)]
    fn of(word: u32) -> Self {
        Self::splat(word)
    }

    /// Vectors wrap around.
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }

    #[inline(always)]
    fn turn<const BITS: u32>(self) -> Self {
        (self << BITS) | (self >> (32 - BITS))
    }
}

/// MD5 of one block, or of one per lane.
#[inline(always)]
fn first_word_of_block<W: Word>(block: &[W; 16]) -> W {
    let mut state = INIT.map(W::of);
    let input = |word: usize, sine: usize| block[word % 16].plus(W::of(SINES[sine]));
    round::<W, 7, 12, 17, 22>(&mut state, |b, c, d| d ^ (b & (c ^ d)), |i| input(i, i));
    round::<W, 5, 9, 14, 20>(&mut state, |b, c, d| c ^ (d & (b ^ c)), |i| input(5 * i + 1, 16 + i));
    round::<W, 4, 11, 16, 23>(&mut state, |b, c, d| b ^ c ^ d, |i| input(3 * i + 5, 32 + i));
    round::<W, 6, 10, 15, 21>(&mut state, |b, c, d| c ^ (b | !d), |i| input(7 * i, 48 + i));
    state[0].plus(W::of(INIT[0]))
}

/// Sixteen steps; `input` is the message word plus the constant of each.
#[inline(always)]
fn round<W: Word, const T0: u32, const T1: u32, const T2: u32, const T3: u32>(
    state: &mut [W; 4],
    mix: impl Fn(W, W, W) -> W,
    input: impl Fn(usize) -> W,
) {
    // Written out: in a loop every step would compute where its word is.
    steps::<W, T0, T1, T2, T3>(state, &mix, [input(0), input(1), input(2), input(3)]);
    steps::<W, T0, T1, T2, T3>(state, &mix, [input(4), input(5), input(6), input(7)]);
    steps::<W, T0, T1, T2, T3>(state, &mix, [input(8), input(9), input(10), input(11)]);
    steps::<W, T0, T1, T2, T3>(state, &mix, [input(12), input(13), input(14), input(15)]);
}

/// Four steps. The turns are constants because vectors are turned by a variable number of bits only at great cost.
#[inline(always)]
fn steps<W: Word, const T0: u32, const T1: u32, const T2: u32, const T3: u32>(
    state: &mut [W; 4],
    mix: &impl Fn(W, W, W) -> W,
    input: [W; 4],
) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.plus(input[0]).plus(mix(b, c, d)).turn::<T0>().plus(b);
    d = d.plus(input[1]).plus(mix(a, b, c)).turn::<T1>().plus(a);
    c = c.plus(input[2]).plus(mix(d, a, b)).turn::<T2>().plus(d);
    b = b.plus(input[3]).plus(mix(c, d, a)).turn::<T3>().plus(c);
    *state = [a, b, c, d];
}

const INIT: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// floor(2^32 * |sin(i + 1)|).
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sines() {
        for (i, &sine) in SINES.iter().enumerate() {
            assert_eq!(sine, (((i + 1) as f64).sin().abs() * 4_294_967_296.0) as u32);
        }
    }

    #[test]
    fn known_points() {
        assert_eq!(words(b"server1-8")[0], 3_853_726_576);
        assert_eq!(words(b"server1-8")[3], 2_667_054_752);
        assert_eq!(first_word(b"apple"), 3_195_025_439);
    }

    #[test]
    fn as_the_crate_at_every_length() {
        let text: Vec<u8> = (0..300u32).map(|i| (i * 167 + 13) as u8).collect();
        for len in 0..=300 {
            assert_eq!(first_word(&text[..len]), words(&text[..len])[0], "length {len}");
        }
    }

    proptest! {
        #[test]
        fn lanes_as_the_crate(keys: [Vec<u8>; LANES]) {
            let keys = keys.each_ref().map(Vec::as_slice);
            prop_assert_eq!(first_words(&keys), keys.map(|key| words(key)[0]));
            prop_assert_eq!(first_words(&keys), keys.map(first_word));
        }
    }
}
