//! `modula`: the hash modulo a list in which each server stands as often as it weighs.
//!
//! Source: twemproxy `nc_modula.c`. With all weights 1 this is libmemcached's default `hash % n` too (hash.cc,
//! `MEMCACHED_DISTRIBUTION_MODULA`, which knows no weights); that client hashes with `one_at_a_time` unless told otherwise.

use super::{Member, SpecError};

/// The list is not written out: a server owns the slots from its predecessor's end up to its own.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    /// Invariant: strictly ascending, not empty.
    ends: Box<[u32]>,
    /// Invariant: the last of `ends`.
    total: u32,
}

impl Slots {
    pub(super) fn build(members: &[Member]) -> Result<Self, SpecError> {
        let mut total = 0u32;
        let mut ends = Vec::with_capacity(members.len());
        for member in members {
            total = total
                .checked_add(member.weight)
                .ok_or_else(|| SpecError("the sum of all weights is above 4294967295".into()))?;
            ends.push(total);
        }
        Ok(Self { ends: ends.into(), total })
    }

    #[inline]
    pub(super) fn index(&self, hash: u32) -> u32 {
        let slot = hash % self.total;
        self.ends.partition_point(|&end| end <= slot) as u32
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::weighted;
    use super::*;

    #[test]
    fn each_server_stands_as_often_as_it_weighs() {
        let slots = Slots::build(&weighted(&[2, 1, 3])).unwrap();
        let list: Vec<u32> = (0..12).map(|hash| slots.index(hash)).collect();
        assert_eq!(list, [0, 0, 1, 2, 2, 2, 0, 0, 1, 2, 2, 2]);
        assert_eq!(slots.index(u32::MAX), list[(u32::MAX % 6) as usize]);
        assert!(Slots::build(&weighted(&[u32::MAX, 1])).is_err());
    }
}
