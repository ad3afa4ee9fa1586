//! What routes read in a key.

/// The part of a key that counts: what follows a hash stop (`|#|`) does not.
pub(super) fn routing_key(key: &[u8]) -> &[u8] {
    match memchr::memmem::find(key, b"|#|") {
        Some(at) => &key[..at],
        None => key,
    }
}

/// A part of all keys, from `start` to `end` of 0 to 1, by mcrouter's hash for fractions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fraction {
    start: f64,
    end: f64,
}

impl Fraction {
    pub(super) const fn new(start: f64, end: f64) -> Self {
        Self { start, end }
    }

    /// Whether the key is in it. mcrouter compares the hash with both ends times 2^32.
    pub(super) fn has(self, key: &[u8]) -> bool {
        const ALL: f64 = 4_294_967_296.0;
        let hash = f64::from(crate::hash::spooky32(routing_key(key), 0));
        self.start * ALL <= hash && hash < self.end * ALL
    }
}

/// The first parts of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    pub(super) count: u8,
    pub(super) delimiter: u8,
}

impl Parts {
    /// They, without the delimiter behind them; the whole key where there are no more.
    pub(super) fn of(self, key: &[u8]) -> &[u8] {
        let last = usize::from(self.count) - 1;
        memchr::memchr_iter(self.delimiter, key).nth(last).map_or(key, |end| &key[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parts() {
        let parts = |count| Parts { count, delimiter: b':' };
        assert_eq!(parts(1).of(b"a:b:c"), b"a");
        assert_eq!(parts(2).of(b"a:b:c"), b"a:b");
        assert_eq!(parts(3).of(b"a:b:c"), b"a:b:c");
        assert_eq!(parts(9).of(b"abc"), b"abc");
        assert_eq!(parts(1).of(b":"), b"");
    }
}
