//! What every key holds. A value is a function of its key and nothing else, so any hit can be checked byte for byte,
//! whoever set it and when, and nothing has to be kept in memory for it.
//!
//! A value begins with a tag that no other key has, so that one key's value under another is always seen; after it comes
//! noise from a block that is read round and round from a place of the key's own. The block's length is prime: a piece that
//! is moved within a large value by the size of some buffer lies at other bytes.

use super::plan::{Plan, Sizes};

/// Fits a second-level cache, so that checking a value costs little more than reading it.
const NOISE_BYTES: usize = 65_521;
/// The tag, in hexadecimal digits.
const TAG_BYTES: usize = 16;

/// Keys by number, and the value of each.
pub(super) struct Data {
    prefix: Vec<u8>,
    sizes: Sizes,
    noise: Box<[u8]>,
    /// Makes the tags of two prefixes differ.
    salt: u64,
}

impl Data {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut state = 0;
        let noise = std::iter::repeat_with(|| {
            state += 1;
            // Printable, so that a value can be looked at; never CR or LF, so that lost framing is noticed.
            b'!' + (mix(state) % 90) as u8
        });
        let salt = plan.key_prefix.bytes().fold(0, |salt, byte| mix(salt ^ u64::from(byte)));
        let prefix = plan.key_prefix.clone().into_bytes();
        Self { prefix, sizes: plan.value_bytes, noise: noise.take(NOISE_BYTES).collect(), salt }
    }

    /// Appends the key.
    #[inline]
    pub(super) fn write_key(&self, key: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(itoa::Buffer::new().format(key).as_bytes());
    }

    /// The number of a key as a server wrote it.
    #[inline]
    pub(super) fn number(&self, key: &[u8]) -> Option<u32> {
        let digits = key.strip_prefix(self.prefix.as_slice())?;
        let number = decimal(digits)?;
        // One spelling only: a key with a zero in front is another key.
        (digits.len() == 1 || digits[0] != b'0').then_some(u32::try_from(number).ok()?)
    }

    /// How long the value of `key` is.
    #[inline]
    pub(super) fn value_len(&self, key: u32) -> usize {
        if self.sizes.bytes_min == self.sizes.bytes_max {
            return self.sizes.bytes_min as usize;
        }
        let fraction = (mix(u64::from(key) ^ SIZE_SALT) >> 11) as f64 / (1_u64 << 53) as f64;
        self.sizes.at(fraction) as usize
    }

    /// Appends the value of `key`.
    pub(super) fn write_value(&self, key: u32, out: &mut Vec<u8>) {
        let len = self.value_len(key);
        let (tag, mut at) = self.start(key);
        out.extend_from_slice(&tag[..len.min(TAG_BYTES)]);
        let mut rest = len.saturating_sub(TAG_BYTES);
        while rest > 0 {
            let piece = &self.noise[at..(at + rest).min(NOISE_BYTES)];
            out.extend_from_slice(piece);
            rest -= piece.len();
            at = 0;
        }
    }

    /// Whether `bytes` are what the value of `key` holds from `from` on.
    pub(super) fn is_value(&self, key: u32, from: usize, bytes: &[u8]) -> bool {
        let (tag, start) = self.start(key);
        let (head, mut rest) = bytes.split_at(TAG_BYTES.saturating_sub(from).min(bytes.len()));
        if !head.is_empty() && head != &tag[from..from + head.len()] {
            return false;
        }
        let mut at = (start + (from + head.len()).saturating_sub(TAG_BYTES)) % NOISE_BYTES;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(NOISE_BYTES - at));
            if piece != &self.noise[at..at + piece.len()] {
                return false;
            }
            rest = after;
            at = 0;
        }
        true
    }

    /// The tag of a key's value, and where in the noise it goes on.
    fn start(&self, key: u32) -> ([u8; TAG_BYTES], usize) {
        let number = mix(u64::from(key) ^ self.salt);
        let mut tag = [0; TAG_BYTES];
        for (place, nibble) in tag.iter_mut().zip((0..64).step_by(4)) {
            *place = b"0123456789abcdef"[(number >> nibble) as usize & 15];
        }
        (tag, number as usize % NOISE_BYTES)
    }
}

/// Any number that the sizes are not correlated with the tags by.
const SIZE_SALT: u64 = 0x5bd1_e995_97f4_a7c1;

/// An unsigned decimal number of at most ten digits.
#[inline]
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits.iter().try_fold(0, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u64::from(digit))
    })
}

/// splitmix64's finisher: a bijection, so that different numbers stay different.
#[inline]
pub(super) const fn mix(number: u64) -> u64 {
    let x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(prefix: &str, sizes: &str) -> Data {
        Data::new(&Plan {
            key_prefix: prefix.into(),
            value_bytes: sizes.parse().unwrap(),
            ..super::super::tests::plan()
        })
    }

    fn value(data: &Data, key: u32) -> Vec<u8> {
        let mut out = Vec::new();
        data.write_value(key, &mut out);
        out
    }

    #[test]
    fn a_value_is_known_from_any_place_on() {
        let data = data("k", "0-200000:log");
        for key in 0..200 {
            let value = value(&data, key);
            assert_eq!(value.len(), data.value_len(key));
            for from in [0, 1, 15, 16, 17, 65_521, 65_537].into_iter().filter(|f| *f <= value.len()) {
                assert!(data.is_value(key, from, &value[from..]), "{key} from {from}");
            }
        }
    }

    #[test]
    fn one_wrong_byte_is_seen_wherever_it_is() {
        let data = data("k", "70000");
        let mut value = value(&data, 7);
        for at in [0, 15, 16, 4_096, 65_536, 69_999] {
            value[at] ^= 1;
            assert!(!data.is_value(7, 0, &value), "at {at}");
            value[at] ^= 1;
        }
        value.swap(0, 1);
        assert!(!data.is_value(8, 0, &value));
    }

    #[test]
    fn no_two_keys_and_no_two_prefixes_share_a_value() {
        let (a, b) = (data("a", "100"), data("b", "100"));
        assert_ne!(value(&a, 1), value(&a, 2));
        assert_ne!(value(&a, 1), value(&b, 1));
    }

    #[test]
    fn keys_are_read_back_as_written() {
        let data = data("key:", "1");
        for key in [0, 9, 10, u32::MAX] {
            let mut text = Vec::new();
            data.write_key(key, &mut text);
            assert_eq!(data.number(&text), Some(key));
        }
        for text in ["key:", "key:01", "key:x", "kex:1", "key:4294967296", "1"] {
            assert_eq!(data.number(text.as_bytes()), None, "{text}");
        }
    }
}
