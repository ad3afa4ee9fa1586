//! RandomRoute: any of several children.
//!
//! All operations: to one child, another each time, all alike.

use super::draw::Draw;
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When};
use crate::protocol::{Cause, Reply, Request};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "RandomRoute",
    short: "random",
    bare: "children",
    keys: &[Key { name: "children", what: "the routes to choose from" }],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    Some(Rc::new(RandomRoute { children: params.children("children")?, draw: Draw::new() }))
}

struct RandomRoute {
    children: Vec<Rc<dyn Route>>,
    draw: Draw,
}

impl RandomRoute {
    fn next(&self) -> Option<&Rc<dyn Route>> {
        self.children.get(self.draw.below(self.children.len()))
    }
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
