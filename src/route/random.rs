//! RandomRoute: any of several children.
//!
//! All operations: to one child, another each time, all alike.

use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When};
use crate::protocol::{Cause, Reply, Request};
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "RandomRoute",
    short: "random",
    bare: "children",
    keys: &[Key { name: "children", what: "the routes to choose from" }],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let state = Cell::new(RandomState::new().hash_one(0_u8));
    Some(Rc::new(RandomRoute { children: params.children("children")?, state }))
}

struct RandomRoute {
    children: Vec<Rc<dyn Route>>,
    state: Cell<u64>,
}

impl RandomRoute {
    /// The high half, scaled, has no bias worth the name for lists of children.
    fn next(&self) -> Option<&Rc<dyn Route>> {
        let index = ((draw(&self.state) >> 32) * self.children.len() as u64) >> 32;
        self.children.get(usize::try_from(index).unwrap_or(0))
    }
}

/// A random number: splitmix64.
pub(super) fn draw(state: &Cell<u64>) -> u64 {
    let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(next);
    let mut x = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Route for RandomRoute {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        match self.next() {
            Some(child) => child.send(request, call, slot),
            None => slot.fill(&Reply::failed(Cause::NoServer)),
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("random");
        let chance = format!("one time in {}", self.children.len());
        self.children.iter().fold(here, |here, c| here.with(When::If(chance.clone()), c.explain(request)))
    }
}
