//! A server that had keys which others have since a change (`transition.rs`): asked for items, and told to forget them.

use super::copy::with_flags;
use super::window::Window;
use super::{Call, Leaf, Sink, Slot};
use crate::protocol::{Op, Reply, Request};
use std::rc::Rc;
use std::sync::Arc;

/// A server that had keys which others have now.
pub(super) struct Old {
    /// One for each lane, at least one.
    leaves: Vec<Rc<dyn Leaf>>,
    window: Arc<Window>,
    /// In the former pool.
    index: usize,
}

impl Old {
    /// `leaves`: one for each lane; `None` without any. `index`: its place in the former pool.
    pub(super) fn new(leaves: Vec<Rc<dyn Leaf>>, window: &Arc<Window>, index: usize) -> Option<Rc<Self>> {
        (!leaves.is_empty()).then(|| Rc::new(Self { leaves, window: Arc::clone(window), index }))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(self.any_leaf(), other.any_leaf())
    }

    /// Its connections.
    pub(super) fn leaves(&self) -> &[Rc<dyn Leaf>] {
        &self.leaves
    }

    pub(super) fn any_leaf(&self) -> &Rc<dyn Leaf> {
        &self.leaves[0]
    }

    pub(super) fn leaf(&self, key: &[u8]) -> &Rc<dyn Leaf> {
        &self.leaves[lane(key, self.leaves.len())]
    }

    /// Whether what it has can be believed, and it can be asked at all.
    pub(super) fn may_be_asked(&self) -> bool {
        !self.is_doubted() && !self.any_leaf().is_out()
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.window.doubts(self.index)
    }

    /// It was to forget something, and nobody knows whether it has.
    pub(super) fn doubt(&self) {
        self.window.doubt(self.index);
    }

    /// Tells it to forget the key; nobody waits. Whatever is asked of it later is asked behind this.
    pub(super) fn forget(self: &Rc<Self>, request: &Request<'_>, call: &Call) {
        self.forget_and_tell(request, call, Slot::new(Rc::clone(self) as Rc<dyn Sink>, 0));
    }

    pub(super) fn forget_and_tell(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if request.meta.has(b'b') {
            return with_flags(Op::MetaDelete, Vec::new(), request, |delete| {
                self.leaf(request.key).send(delete, call, slot);
            });
        }
        self.leaf(request.key).send(&Request::new(Op::Delete, request.key), call, slot);
    }
}

/// Whether it has forgotten.
impl Sink for Old {
    fn is_waiting(&self) -> bool {
        true
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        if reply.status.is_error() {
            self.doubt();
        }
    }
}

/// One key always takes the same connection, so that its requests stay in order.
pub(super) fn lane(key: &[u8], lanes: usize) -> usize {
    if lanes <= 1 { 0 } else { crc32fast::hash(key) as usize % lanes }
}
