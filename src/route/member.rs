//! A member of a pool that is a route: a place on the ring like a server's, with a tree behind it.

use super::{Call, Explained, Leaf, Route, Slot};
use crate::protocol::{MultiGet, Reply, Request, Status};
use std::rc::Rc;

pub(super) struct RouteMember {
    route: Rc<dyn Route>,
    name: String,
}

impl RouteMember {
    pub(super) fn new(route: Rc<dyn Route>, name: String) -> Self {
        Self { route, name }
    }
}

impl Route for RouteMember {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.route.send(request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.route.explain(request)
    }
}

impl Leaf for RouteMember {
    fn send_multi(&self, _request: &MultiGet<'_>, _call: &Call, slot: Slot) {
        debug_assert!(false, "keys of a tree travel alone");
        drop(slot);
    }

    fn is_tree(&self) -> bool {
        true
    }

    /// The servers behind it are those of other pools, which are emptied too.
    fn flush_all(&self, _delay: i32, slot: Slot) {
        slot.fill(&Reply::line(Status::Ok, b"OK"));
    }

    fn name(&self) -> &str {
        &self.name
    }
}
