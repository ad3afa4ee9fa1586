//! PrefixSelectorRoute: a child for each beginning of a key.
//!
//! All operations: to the child whose prefix is the longest that the key begins with, else to `wildcard`. The key goes on as
//! it is. mcrouter knows this route only at the root; here it may stand anywhere.

use super::registry::{Key, Kind, Params};
use super::{Call, Explained, PoolRoute, Route, Slot, When};
use crate::protocol::{Cause, Op, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "PrefixSelectorRoute",
    short: "prefix",
    bare: "wildcard",
    keys: &[
        Key { name: "policies", what: "a map from beginnings of keys to routes" },
        Key { name: "wildcard", what: "the route of all other keys" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let wildcard = params.child_or_nothing("wildcard");
    let policies =
        params.routes_by("policies", "a map from beginnings of keys to routes", |p| Ok(p.to_owned()));
    let mut policies: Vec<_> = policies?.into_iter().map(|(p, route)| (p.into_bytes(), route)).collect();
    policies.sort_by(|a, b| a.0.cmp(&b.0));
    Some(Rc::new(PrefixSelector { policies, wildcard: wildcard? }))
}

struct PrefixSelector {
    /// In the order of bytes, so that the longest prefix of a key is the last that it begins with.
    policies: Vec<(Vec<u8>, Rc<dyn Route>)>,
    wildcard: Option<Rc<dyn Route>>,
}

impl PrefixSelector {
    /// The prefixes of one key form a chain in the sorted list, mostly of one: go back from where the key would stand.
    fn child(&self, key: &[u8]) -> Option<&Rc<dyn Route>> {
        let mut end = self.policies.partition_point(|(prefix, _)| prefix.as_slice() <= key);
        while end > 0 {
            let (prefix, route) = &self.policies[end - 1];
            if key.starts_with(prefix) {
                return Some(route);
            }
            // whatever shares less with the key than this one does cannot be reached by going back one by one
            let shared = prefix.iter().zip(key).take_while(|(a, b)| a == b).count();
            end = self.policies[..end - 1].partition_point(|(prefix, _)| prefix.as_slice() <= &key[..shared]);
        }
        self.wildcard.as_ref()
    }
}

impl Route for PrefixSelector {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        match self.child(request.key) {
            Some(child) => child.send(request, call, slot),
            None => slot.fill(&Reply::line(Status::Failed(Cause::Local), NO_ROUTE)),
        }
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        self.child(key)?.pool(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("prefix");
        match self.child(request.key) {
            Some(child) => here.with(When::Now, child.explain(request)),
            None => here,
        }
    }
}

/// mcrouter's words.
pub(super) const NO_ROUTE: &[u8] = b"SERVER_ERROR RootRoute: No rh found";
