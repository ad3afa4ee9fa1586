//! `asynclog: false` of a PoolRoute: deletes that fail on this way are told to have failed, though there is a spool.
//!
//! All operations: to the child. Whether another way to the same servers keeps its deletes is that way's affair.

use super::{Call, Chosen, Explained, PoolRoute, Route, Slot};
use crate::protocol::{Op, Request};
use std::rc::Rc;

pub(super) struct Unlogged(pub(super) Rc<dyn Route>);

impl Route for Unlogged {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.0.send(request, &Call { is_unlogged: true, ..call.clone() }, slot);
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        self.0.pool(op, key)
    }

    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        self.0.chosen(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.0.explain(request)
    }
}
