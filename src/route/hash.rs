//! HashRoute: one of several children, by the key.
//!
//! All operations: to one child. Children are counted, not named: they keep their keys only while children are added or
//! removed at the end of the list (`ch3`, the default).

use super::registry::{Key, Kind, Params};
use super::{Call, Explained, PoolRoute, Route, Slot, When};
use crate::config::{Problem, value};
use crate::hash::{Member, Placement, Ring, Spec};
use crate::protocol::{Cause, Op, Reply, Request};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "HashRoute",
    short: "hash",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes to choose from" },
        Key { name: "hash_func", what: "how: Ch3 (default), Crc32, …, or the name of a placement" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let children = params.children("children")?;
    let placement =
        params.section.value("hash_func", |node| match value::text(node, "a hash function")?.as_str() {
            "Ch3" => Ok(Placement::Ch3),
            "Crc32" => Ok(Placement::Crc32),
            _ => value::choice(node, "a hash function", Placement::ALL),
        });
    if params.has("hash_func") && placement.is_none() {
        return None;
    }
    let spec = Spec { placement: placement.unwrap_or(Placement::Ch3), ..Spec::default() };
    let member = |i: usize| Member { host: format!("child-{i}"), port: None, name: None, weight: 1 };
    let members: Vec<Member> = (0..children.len()).map(member).collect();
    match Ring::build(&spec, &members) {
        Ok(ring) => Some(Rc::new(HashRoute { ring, children })),
        Err(error) => {
            params.fault("hash_func", Problem::new(error.to_string()));
            None
        }
    }
}

impl HashRoute {
    /// `children`: one for each member of the ring.
    pub(super) fn new(ring: Ring, children: Vec<Rc<dyn Route>>) -> Self {
        Self { ring, children }
    }
}

pub(super) struct HashRoute {
    ring: Ring,
    children: Vec<Rc<dyn Route>>,
}

impl HashRoute {
    fn child(&self, key: &[u8]) -> Option<&Rc<dyn Route>> {
        self.children.get(self.ring.pick(key)?)
    }
}

impl Route for HashRoute {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        match self.child(request.key) {
            Some(child) => child.send(request, call, slot),
            None => slot.fill(&Reply::failed(Cause::NoServer)),
        }
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        self.child(key)?.pool(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("hash");
        match self.child(request.key) {
            Some(child) => here.with(When::Now, child.explain(request)),
            None => here,
        }
    }
}
