//! The ring of the crate hash_ring 0.2: XXH64 points of `host:port:k`, on a circle of 64 bits.
//!
//! Source: hash_ring 0.2.0 `src/hash_ring.rs` with its `NodeInfo`. Each pick there clones the list of points and walks it;
//! here it is a binary search in a flat array. The crate takes the number of points per node from its caller; we have one
//! number for all.

use super::{Member, xxh};
use std::sync::Arc;

/// As many as a ketama ring has.
pub(super) const POINTS_PER_SERVER: u32 = 160;

#[derive(Clone, Debug)]
pub(super) struct HashRing {
    /// Invariant: strictly ascending, not empty.
    values: Arc<[u64]>,
    /// Invariant: one longer than `values`, the first again at the end: the wrap.
    owners: Arc<[u32]>,
}

impl HashRing {
    /// Expects members. Of equal points the later server's wins (a map is overwritten).
    pub(super) fn build(members: &[Member]) -> Self {
        let mut points = std::collections::BTreeMap::new();
        for (server, member) in members.iter().enumerate() {
            for k in 0..POINTS_PER_SERVER {
                points.insert(xxh::xxh64(format!("{}:{k}", node(member)).as_bytes()), server as u32);
            }
        }
        let first = points.values().next().copied();
        Self { values: points.keys().copied().collect(), owners: points.into_values().chain(first).collect() }
    }

    #[inline]
    pub(super) fn owner(&self, hash: u64) -> u32 {
        self.owners[self.values.partition_point(|&value| value < hash)]
    }

    /// The servers of that point and of all behind it, once around.
    pub(super) fn owners_from(&self, hash: u64) -> impl Iterator<Item = u32> {
        let at = self.values.partition_point(|&value| value < hash);
        let owners = &self.owners[..self.values.len()];
        owners[at..].iter().chain(&owners[..at]).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

fn node(member: &Member) -> String {
    match (&member.name, member.port) {
        (Some(name), _) => name.clone(),
        (None, Some(port)) => format!("{}:{port}", member.host),
        (None, None) => member.host.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::equal;
    use super::*;

    #[test]
    fn as_the_crate() {
        for servers in [3, 7] {
            let members = equal(servers, 11211);
            let ours = HashRing::build(&members);
            let theirs =
                ::hash_ring::HashRing::new(members.iter().map(node).collect(), POINTS_PER_SERVER as isize);
            for key in (0..5_000).map(|i| format!("user:{i}:profile")) {
                let owner = ours.owner(xxh::xxh64(key.as_bytes())) as usize;
                assert_eq!(theirs.get_node(key.clone()), Some(&node(&members[owner])), "{key}");
            }
        }
    }
}
