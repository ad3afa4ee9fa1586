//! RoutingGroupRoute: a child for each class of operations.
//!
//! Gets, updates, deletes and arithmetic: to the child of their class in `routing_group_policies`, else to
//! `default_policy`; `touch` and `me` belong to no class.

use super::registry::{Key, Kind, Params};
use super::{Call, Explained, PoolRoute, Route, Slot, When};
use crate::config::value;
use crate::protocol::{Class, Op, Request};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "RoutingGroupRoute",
    short: "routing_group",
    bare: "default_policy",
    keys: &[
        Key { name: "default_policy", what: "the route of operations of other classes" },
        Key {
            name: "routing_group_policies",
            what: "get_like, update_like, delete_like, arithmetic_like: routes",
        },
    ],
    build,
};

const CLASSES: &[(&str, Class)] = &[
    ("get_like", Class::GetLike),
    ("update_like", Class::UpdateLike),
    ("delete_like", Class::DeleteLike),
    ("arithmetic_like", Class::ArithmeticLike),
];

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let default = params.child("default_policy");
    let parse = |name: &str| {
        value::choice(&crate::config::Node::Text(name.to_owned()), "a class of operations", CLASSES)
    };
    let policies = params.routes_by("routing_group_policies", "a map from classes to routes", parse)?;
    Some(Rc::new(RoutingGroup { default: default?, policies }))
}

struct RoutingGroup {
    default: Rc<dyn Route>,
    policies: Vec<(Class, Rc<dyn Route>)>,
}

impl RoutingGroup {
    fn child(&self, op: Op) -> &Rc<dyn Route> {
        let class = op.class();
        self.policies.iter().find(|(c, _)| *c == class).map_or(&self.default, |(_, route)| route)
    }
}

impl Route for RoutingGroup {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.child(request.op).send(request, call, slot);
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        self.child(op).pool(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new(format!("routing_group of {}", request.op.name()));
        here.with(When::Now, self.child(request.op).explain(request))
    }
}
