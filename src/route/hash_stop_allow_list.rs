//! HashStopAllowListRoute: only some keys may have a hash stop (`|#|`).
//!
//! All operations: to the target, unless the key has a hash stop and begins with none of `prefixes`; then an error.

use super::registry::{Key, Kind, Params};
use super::{Call, Explained, PoolRoute, Route, Slot, When};
use crate::config::{Node, value};
use crate::protocol::{Cause, Op, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "HashStopAllowListRoute",
    short: "hash_stop_allow_list",
    bare: "target",
    keys: &[
        Key { name: "target", what: "where requests go" },
        Key { name: "prefixes", what: "beginnings of keys that may have a hash stop" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let target = params.child("target");
    let read = |node: &Node| match node {
        Node::List(list) => list.iter().map(|n| value::text(n, "a beginning of keys")).collect(),
        _ => Err(value::expected("a list of beginnings of keys", node)),
    };
    params.require("prefixes")?;
    let prefixes: Vec<String> = params.section.value("prefixes", read)?;
    let prefixes = prefixes.into_iter().map(String::into_bytes).collect();
    Some(Rc::new(AllowList { target: target?, prefixes }))
}

struct AllowList {
    target: Rc<dyn Route>,
    prefixes: Vec<Vec<u8>>,
}

impl AllowList {
    fn allows(&self, key: &[u8]) -> bool {
        memchr::memmem::find(key, b"|#|").is_none() || self.prefixes.iter().any(|p| key.starts_with(p))
    }
}

impl Route for AllowList {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if self.allows(request.key) {
            return self.target.send(request, call, slot);
        }
        slot.fill(&Reply::line(Status::Failed(Cause::Local), b"SERVER_ERROR Hash stop not permitted"));
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        if self.allows(key) { self.target.pool(op, key) } else { None }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        if !self.allows(request.key) {
            return Explained::new("hash_stop_allow_list: not permitted");
        }
        Explained::new("hash_stop_allow_list").with(When::Now, self.target.explain(request))
    }
}
