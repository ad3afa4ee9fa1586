//! mcrouter's `Rendezvous` and `WeightedRendezvous`: each server's tag gives the key a score, the highest has it. The order of
//! the servers does not count, and a server that leaves takes only its own keys along.
//!
//! Sources: mcrouter `lib/RendezvousHashFunc.cpp`, `lib/WeightedRendezvousHashFunc.cpp`, `lib/RendezvousHashHelper.h`. Scores
//! are doubles there. Of two equal ones the later server wins, but for the best of weighted ones, where the first does.

use super::{SpecError, ch3, murmur64a};

const KEY_SEED: u64 = 2_718_281_828;
/// Of CityHash's `Hash128to64`.
const M: u64 = 0x9ddf_ea08_eb38_2d69;
/// A double holds so many bits.
const FRACTION_BITS: u32 = 53;

/// Scores the tags of a list for a key.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    tags: Box<[u64]>,
    weights: Weights,
}

#[derive(Clone, Debug)]
enum Weights {
    /// `Rendezvous`.
    None,
    /// `WeightedRendezvous` where all weigh the same: no logarithm is needed, as in mcrouter.
    Equal,
    Each(Box<[f64]>),
}

impl Rendezvous {
    /// With `weights` it is mcrouter's `WeightedRendezvous`; then there is one for each tag, not negative.
    pub fn build(tags: &[impl AsRef<[u8]>], weights: Option<&[f64]>) -> Result<Self, SpecError> {
        let tags = tags.iter().map(|tag| murmur64a::hash(tag.as_ref(), ch3::SEED)).collect::<Box<[u64]>>();
        let weights = match weights {
            None => Weights::None,
            Some(weights) if weights.len() != tags.len() => {
                return Err(SpecError(format!("{} weights for {} tags", weights.len(), tags.len())));
            }
            Some(weights) if !weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0) => {
                return Err(SpecError("a weight is not negative".into()));
            }
            Some([first, rest @ ..]) if *first > 0.0 && rest.iter().all(|weight| weight == first) => {
                Weights::Equal
            }
            Some(weights) => Weights::Each(weights.into()),
        };
        Ok(Self { tags, weights })
    }

    /// The index of the tag with the highest score; `None` if there are no tags.
    pub fn pick(&self, key: &[u8]) -> Option<usize> {
        (!self.tags.is_empty()).then(|| self.best(key) as usize)
    }

    /// Appends the indexes of all tags, the best one first.
    pub fn rank(&self, key: &[u8], out: &mut Vec<u32>) {
        let key = key_hash(key);
        let start = out.len();
        out.extend(0..self.tags.len() as u32);
        // Scores are asked for again and again rather than kept: there is nowhere to keep them without allocating.
        let score = |index: u32| self.score(index as usize, key);
        out[start..].sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)).then(b.cmp(&a)));
    }

    /// 0 if there are no tags.
    pub(super) fn best(&self, key: &[u8]) -> u32 {
        let key = key_hash(key);
        let of_equal_the_last = matches!(self.weights, Weights::None);
        let (mut winner, mut highest) = (0, 0.0);
        for index in 0..self.tags.len() {
            let score = self.score(index, key);
            if score > highest || of_equal_the_last && score == highest {
                (winner, highest) = (index, score);
            }
        }
        winner as u32
    }

    /// The same among those that are accepted.
    pub(super) fn best_where(&self, key: &[u8], accepts: impl Fn(u32) -> bool) -> Option<u32> {
        let key = key_hash(key);
        let of_equal_the_last = matches!(self.weights, Weights::None);
        let mut best: Option<(u32, f64)> = None;
        for index in (0..self.tags.len() as u32).filter(|index| accepts(*index)) {
            let score = self.score(index as usize, key);
            let is_better = |highest| score > highest || of_equal_the_last && score == highest;
            if best.is_none_or(|(_, highest)| is_better(highest)) {
                best = Some((index, score));
            }
        }
        best.map(|(winner, _)| winner)
    }

    /// The mixed hash that the score of a tag is made of.
    pub(super) fn mixed(&self, index: u32, key: &[u8]) -> u64 {
        mix(self.tags[index as usize], key_hash(key))
    }

    #[inline]
    fn score(&self, index: usize, key: u64) -> f64 {
        let hash = mix(self.tags[index], key);
        let fraction = hash & ((1 << FRACTION_BITS) - 1);
        match &self.weights {
            Weights::None => hash as f64,
            Weights::Equal => fraction as f64,
            Weights::Each(weights) => {
                let uniform = fraction as f64 / (1u64 << FRACTION_BITS) as f64;
                weights[index] * (1.0 / -uniform.ln())
            }
        }
    }
}

fn key_hash(key: &[u8]) -> u64 {
    murmur64a::hash(key, KEY_SEED)
}

/// CityHash's `Hash128to64`.
#[inline]
fn mix(upper: u64, lower: u64) -> u64 {
    let a = (lower ^ upper).wrapping_mul(M);
    let a = a ^ a >> 47;
    let b = (upper ^ a).wrapping_mul(M);
    (b ^ b >> 47).wrapping_mul(M)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_bytes, counts};
    use super::*;

    fn tags(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("xxx.{i}.yy")).collect()
    }

    fn plain(count: usize) -> Rendezvous {
        Rendezvous::build(&tags(count), None).unwrap()
    }

    fn weighted(weights: &[f64]) -> Rendezvous {
        Rendezvous::build(&tags(weights.len()), Some(weights)).unwrap()
    }

    fn key(i: usize) -> Vec<u8> {
        format!("mykey:{i}").into_bytes()
    }

    fn shares(of: &Rendezvous, keys: usize) -> Vec<usize> {
        counts(of.tags.len(), (0..keys).map(|i| of.pick(&key(i)).unwrap()))
    }

    /// How many of 10,000 keys are elsewhere without the tag at `at` of 499.
    fn moved_without(at: usize, build: impl Fn(&[String]) -> Rendezvous) -> usize {
        let all = tags(499);
        let mut rest = all.clone();
        rest.remove(at);
        let (before, after) = (build(&all), build(&rest));
        (0..10_000)
            .filter(|&i| all[before.best(&key(i)) as usize] != rest[after.best(&key(i)) as usize])
            .count()
    }

    /// The rows of mcrouter's `lib/test/RendezvousHashTest.cpp`.
    #[test]
    fn as_mcrouters_own_tests() {
        let (bytes, _) = all_bytes();
        let keys = [&bytes, &b"sample"[..], b"", b"mykey"];
        assert_eq!(keys.map(|key| plain(3).best(key)), [1, 1, 1, 1]);
        assert_eq!(keys.map(|key| plain(343).best(key)), [183, 45, 291, 132]);
        assert_eq!(shares(&plain(3), 1_000), [337, 353, 310]);
        assert_eq!(shares(&plain(10), 10_000), [947, 1026, 1028, 981, 1016, 970, 1013, 939, 1023, 1057]);
        let build = |tags: &[String]| Rendezvous::build(tags, None).unwrap();
        assert_eq!([0, 498, 249].map(|at| moved_without(at, build)), [14, 24, 15]);
    }

    /// The rows of mcrouter's `lib/test/WeightedRendezvousHashTest.cpp`.
    #[test]
    fn weighted_as_mcrouters_own_tests() {
        let (bytes, _) = all_bytes();
        let keys = [&bytes, &b"sample"[..], b"", b"mykey"];
        assert_eq!(keys.map(|key| weighted(&[1.0; 3]).best(key)), [1, 0, 2, 1]);
        assert_eq!(keys.map(|key| weighted(&[1.0; 343]).best(key)), [142, 115, 279, 302]);
        assert_eq!(shares(&weighted(&[1.0; 3]), 10_000), [3409, 3360, 3231]);
        assert_eq!(shares(&weighted(&[1.0, 0.5, 0.1]), 10_000), [6292, 3118, 590]);
        assert_eq!(shares(&weighted(&[1.0, 0.0, 0.5]), 10_000), [6737, 0, 3263]);
        assert_eq!(
            shares(&weighted(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]), 10_000),
            [1381, 1299, 1283, 1359, 1296, 667, 669, 665, 672, 709]
        );
        let build = |tags: &[String]| Rendezvous::build(tags, Some(&vec![1.0; tags.len()])).unwrap();
        assert_eq!([0, 498, 249].map(|at| moved_without(at, build)), [19, 17, 21]);
    }

    #[test]
    fn equal_weights_need_no_logarithm() {
        let tags = tags(20);
        let (equal, each) = (weighted(&[0.7; 20]), Weights::Each(Box::new([0.7; 20])));
        let each = Rendezvous {
            tags: tags.iter().map(|t| murmur64a::hash(t.as_bytes(), ch3::SEED)).collect(),
            weights: each,
        };
        for i in 0..2_000 {
            assert_eq!(equal.best(&key(i)), each.best(&key(i)));
        }
    }

    #[test]
    fn the_ranking_is_who_would_win_without_those_before() {
        let tags = tags(6);
        let weights = [1.0, 0.5, 0.2, 1.0, 0.8, 0.3];
        for weights in [None, Some(&weights[..]), Some(&[1.0; 6][..])] {
            let all = Rendezvous::build(&tags, weights).unwrap();
            for i in 0..200 {
                let mut ranked = vec![77];
                all.rank(&key(i), &mut ranked);
                let mut left: Vec<usize> = (0..6).collect();
                for &index in &ranked[1..] {
                    let rest: Vec<&String> = left.iter().map(|&i| &tags[i]).collect();
                    let weights = weights.map(|all| left.iter().map(|&i| all[i]).collect::<Vec<_>>());
                    let rest = Rendezvous::build(&rest, weights.as_deref()).unwrap();
                    assert_eq!(left.remove(rest.pick(&key(i)).unwrap()), index as usize);
                }
                assert!(left.is_empty() && ranked[0] == 77);
            }
        }
    }

    #[test]
    fn of_equal_scores() {
        let twins = ["a", "a", "a"];
        let ranked = |of: &Rendezvous| {
            let mut out = Vec::new();
            of.rank(b"foo", &mut out);
            (of.best(b"foo"), out)
        };
        assert_eq!(ranked(&Rendezvous::build(&twins, None).unwrap()), (2, vec![2, 1, 0]));
        assert_eq!(ranked(&Rendezvous::build(&twins, Some(&[0.5; 3])).unwrap()), (0, vec![2, 1, 0]));
        assert_eq!(ranked(&Rendezvous::build(&twins, Some(&[0.0; 3])).unwrap()), (0, vec![2, 1, 0]));
        assert_eq!(Rendezvous::build(&[""; 0], None).unwrap().pick(b"foo"), None);
    }

    #[test]
    fn weights_that_do_not_fit() {
        for weights in [&[1.0][..], &[1.0, -0.1], &[f64::NAN, 1.0], &[f64::INFINITY, 1.0]] {
            assert!(Rendezvous::build(&["a", "b"], Some(weights)).is_err(), "{weights:?}");
        }
    }
}
