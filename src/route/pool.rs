//! PoolRoute: the server of a pool that a key belongs to.

use super::Leaf;
use crate::config::OnError;
use crate::hash::Ring;
use crate::protocol::Keys;
use std::rc::Rc;

/// A pool as a worker uses it: the ring, and a leaf for each place on it.
pub struct PoolRoute {
    name: String,
    ring: Ring,
    /// `leaves[server * lanes + lane]`.
    leaves: Vec<Rc<dyn Leaf>>,
    /// Connections per server; one key always takes the same, so that its requests stay in order.
    lanes: usize,
    on_error: OnError,
}

impl PoolRoute {
    /// `leaves`: `lanes` for each server, in the order of the ring's members.
    #[must_use]
    pub fn new(name: String, ring: Ring, leaves: Vec<Rc<dyn Leaf>>, lanes: usize, on_error: OnError) -> Self {
        debug_assert_eq!(leaves.len(), ring.len() * lanes, "a leaf for each lane of each server");
        Self { name, ring, leaves, lanes, on_error }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which leaf has the key; `None` when the pool is empty.
    #[inline]
    #[must_use]
    pub fn pick(&self, key: &[u8]) -> Option<usize> {
        let server = self.ring.pick(key)?;
        Some(self.lane(server, key))
    }

    /// [`Self::pick`] for many keys at once, which is cheaper for hashes that can be computed side by side.
    pub fn pick_many(&self, keys: &Keys<'_>, out: &mut Vec<u32>) {
        self.ring.pick_many(keys.iter(), out);
        if self.lanes > 1 {
            for (index, key) in out.iter_mut().zip(keys.iter()) {
                *index = u32::try_from(self.lane(*index as usize, key)).unwrap_or(0);
            }
        }
    }

    fn lane(&self, server: usize, key: &[u8]) -> usize {
        if self.lanes == 1 {
            server
        } else {
            server * self.lanes + crc32fast::hash(key) as usize % self.lanes
        }
    }

    #[must_use]
    pub fn leaf(&self, index: usize) -> Option<&Rc<dyn Leaf>> {
        self.leaves.get(index)
    }

    /// One leaf for each server.
    pub fn servers(&self) -> impl Iterator<Item = &Rc<dyn Leaf>> {
        self.leaves.iter().step_by(self.lanes)
    }

    /// Whether a failed get is told to the client as a miss.
    #[must_use]
    pub fn is_miss_on_error(&self) -> bool {
        self.on_error == OnError::Miss
    }
}
