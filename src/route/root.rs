//! The root of the tree: where every request starts.

use super::{Leaf, PoolRoute};
use std::rc::Rc;

/// A worker's tree.
pub struct Root {
    pools: Vec<PoolRoute>,
    /// The pool that requests go to.
    default: usize,
}

impl Root {
    /// # Panics
    /// When `default` is not the index of a pool: a checked configuration names one that exists.
    #[must_use]
    pub fn new(pools: Vec<PoolRoute>, default: usize) -> Self {
        assert!(default < pools.len(), "the route names a pool that exists");
        Self { pools, default }
    }

    /// The pool of a key.
    #[inline]
    #[must_use]
    pub fn pool(&self) -> &PoolRoute {
        &self.pools[self.default]
    }

    /// Every server of every pool.
    pub fn servers(&self) -> impl Iterator<Item = &Rc<dyn Leaf>> {
        self.pools.iter().flat_map(PoolRoute::servers)
    }
}
