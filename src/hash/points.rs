//! Points on a circle of 32 bits and the first one at or after a hash.

use std::sync::Arc;

/// Points in two flat arrays, and a third that leads to the right neighbourhood at once. Copies share them.
#[derive(Clone, Debug)]
pub(super) struct Points {
    /// Invariant: ascending.
    values: Arc<[u32]>,
    /// `owners[i]` is the server of `values[i]`. Invariant: one longer than `values`, the first again at the end: the wrap.
    owners: Arc<[u32]>,
    /// `starts[b]` is the first point whose upper bits are ≥ b; there are about two buckets per point, so that the scan from
    /// there ends after a step or two.
    starts: Arc<[u32]>,
    /// `hash >> shift` is the bucket. Invariant: < 32 and fits `starts`.
    shift: u32,
}

impl Points {
    /// From (value, server) in any order. Of equal values the one that sorts first wins, i.e. the lower server.
    /// `None` without points.
    pub(super) fn build(mut points: Vec<(u32, u32)>) -> Option<Self> {
        points.sort_unstable();
        let &(_, first_owner) = points.first()?;
        let bits = (2 * points.len()).next_power_of_two().ilog2().clamp(1, 24);
        let shift = u32::BITS - bits;
        let mut start = 0;
        let starts = (0..1u32 << bits).map(|bucket| {
            start += points[start..].iter().take_while(|point| point.0 >> shift < bucket).count();
            start as u32
        });
        Some(Self {
            starts: starts.collect(),
            values: points.iter().map(|point| point.0).collect(),
            owners: points.iter().map(|point| point.1).chain([first_owner]).collect(),
            shift,
        })
    }

    /// The server of the first point ≥ `hash`; past the last point, of the first.
    #[inline]
    pub(super) fn owner(&self, hash: u32) -> u32 {
        let start = self.starts[(hash >> self.shift) as usize] as usize;
        let passed = self.values[start..].iter().take_while(|&&value| value < hash).count();
        self.owners[start + passed]
    }

    /// The servers of that point and of all behind it, once around.
    pub(super) fn owners_from(&self, hash: u32) -> impl Iterator<Item = u32> {
        let at = self.values.partition_point(|&value| value < hash);
        let owners = &self.owners[..self.values.len()];
        owners[at..].iter().chain(&owners[..at]).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    #[cfg(test)]
    pub(super) fn point(&self, at: usize) -> (u32, u32) {
        (self.values[at], self.owners[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn at_a_point_after_it_and_past_the_last() {
        let points = Points::build(vec![(30, 2), (10, 0), (20, 1), (20, 0)]).unwrap();
        for (hash, owner) in [(0, 0), (10, 0), (11, 0), (20, 0), (21, 2), (30, 2), (31, 0), (u32::MAX, 0)] {
            assert_eq!(points.owner(hash), owner, "{hash}");
        }
        assert!(Points::build(vec![]).is_none());
    }

    proptest! {
        #[test]
        fn as_a_plain_search(points in prop::collection::vec((any::<u32>(), 0u32..9), 1..700), hashes: [u32; 64]) {
            let mut sorted = points.clone();
            sorted.sort_unstable();
            let built = Points::build(points).unwrap();
            for hash in hashes.into_iter().chain(sorted.iter().map(|point| point.0)).chain([0, u32::MAX]) {
                let first = sorted.iter().find(|point| point.0 >= hash).unwrap_or(&sorted[0]);
                prop_assert_eq!(built.owner(hash), first.1);
            }
        }
    }
}
