//! What is asked: the choice of the next request, and its words.

use super::data::{Data, mix};
use super::plan::{Dialect, Plan};

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The key, or the first of several that follow each other (and begin again at 0 after the last one).
    pub(super) key: u32,
    pub(super) is_set: bool,
    /// When it was sent; at a fixed rate, when it ought to have been.
    pub(super) at_ns: u64,
}

/// What all requests of a run have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) dialect: Dialect,
    pub(super) keys_count: u32,
    pub(super) keys_per_get: u32,
}

impl Shape {
    pub(super) const fn new(plan: &Plan) -> Self {
        Self { dialect: plan.dialect, keys_count: plan.keys_count, keys_per_get: plan.keys_per_get }
    }

    /// The key `place` after `first`.
    const fn key_at(&self, first: u32, place: u32) -> u32 {
        // In 64 bits: the sum of two keys may be more than a u32 holds.
        ((first as u64 + place as u64) % self.keys_count as u64) as u32
    }

    /// The inverse of [`Self::key_at`].
    pub(super) const fn place_of(&self, first: u32, key: u32) -> u32 {
        if key >= first { key - first } else { self.keys_count - first + key }
    }

    /// Appends the request to `out`.
    pub(super) fn write(&self, asked: Asked, data: &Data, out: &mut Vec<u8>) {
        match (self.dialect, asked.is_set) {
            (Dialect::Classic, true) => self.write_set(b"set ", b" 0 0 ", asked.key, data, out),
            (Dialect::Meta, true) => self.write_set(b"ms ", b" ", asked.key, data, out),
            (Dialect::Classic, false) => {
                out.extend_from_slice(b"get");
                for place in 0..self.keys_per_get {
                    out.push(b' ');
                    data.write_key(self.key_at(asked.key, place), out);
                }
                out.extend_from_slice(b"\r\n");
            }
            (Dialect::Meta, false) => {
                out.extend_from_slice(b"mg ");
                data.write_key(asked.key, out);
                out.extend_from_slice(b" v\r\n");
            }
        }
    }

    fn write_set(&self, command: &[u8], middle: &[u8], key: u32, data: &Data, out: &mut Vec<u8>) {
        out.extend_from_slice(command);
        data.write_key(key, out);
        out.extend_from_slice(middle);
        out.extend_from_slice(itoa::Buffer::new().format(data.value_len(key)).as_bytes());
        out.extend_from_slice(b"\r\n");
        data.write_value(key, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Where the next request comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Every key once, to be set.
    Each { next: u32, end: u32 },
    /// Any key with the same chance; a set with the chance `sets_below / 2^32`.
    Random { state: u64, keys_count: u32, sets_below: u64 },
}

impl Source {
    pub(super) const fn each(plan: &Plan) -> Self {
        Self::Each { next: 0, end: plan.keys_count }
    }

    /// Threads draw from sequences of their own.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is 0 to 1")]
    pub(super) fn random(plan: &Plan, thread: usize) -> Self {
        Self::Random {
            // The last bit: xorshift never leaves zero.
            state: mix(plan.seed ^ mix(thread as u64)) | 1,
            keys_count: plan.keys_count,
            sets_below: (plan.sets.0 * 2_f64.powi(32)) as u64,
        }
    }

    /// The next key and whether it is to be set; `None` when there is nothing more to do.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(u32, bool)> {
        match self {
            Self::Each { next, end } => {
                let key = *next;
                *next += u32::from(key < *end);
                (key < *end).then_some((key, true))
            }
            Self::Random { state, keys_count, sets_below } => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let (high, low) = (*state >> 32, *state & u64::from(u32::MAX));
                // A multiplication instead of a remainder: no division, and as even.
                let key = (low * u64::from(*keys_count)) >> 32;
                Some((u32::try_from(key).unwrap_or(0), high < *sets_below))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(asked: Asked, plan: &Plan) -> String {
        let mut out = Vec::new();
        Shape::new(plan).write(asked, &Data::new(plan), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_are_what_the_protocol_says() {
        let mut plan = Plan { value_bytes: "3".parse().unwrap(), ..super::super::tests::plan() };
        let (get, set) =
            (Asked { key: 9, is_set: false, at_ns: 0 }, Asked { key: 9, is_set: true, at_ns: 0 });
        assert_eq!(written(get, &plan), "get k9\r\n");
        assert!(written(set, &plan).starts_with("set k9 0 0 3\r\n"));
        plan.keys_per_get = 3;
        assert_eq!(written(get, &plan), "get k9 k0 k1\r\n");
        plan.dialect = Dialect::Meta;
        assert_eq!(written(get, &plan), "mg k9 v\r\n");
        let set = written(set, &plan);
        assert!(set.starts_with("ms k9 3\r\n") && set.len() == 14, "{set:?}");
    }

    #[test]
    fn places_and_keys_are_inverse() {
        let shape = Shape { keys_count: 10, ..Shape::new(&super::super::tests::plan()) };
        for first in 0..10 {
            for place in 0..10 {
                assert_eq!(shape.place_of(first, shape.key_at(first, place)), place);
            }
        }
    }

    #[test]
    fn the_share_of_sets_is_kept() {
        let plan = super::super::tests::plan();
        let mut source = Source::random(&plan, 0);
        let sets = (0..100_000).filter(|_| source.next().unwrap().1).count();
        assert!((9_000..11_000).contains(&sets), "{sets}");
        let mut each = Source::each(&plan);
        assert_eq!(std::iter::from_fn(|| each.next()).count(), 10);
    }
}
