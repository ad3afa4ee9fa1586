//! MissFailoverRoute: the first child, and after a miss the next.
//!
//! Gets and deletes: child after child until one hits (or deletes); else the last reply, or with `return_best_on_error` the
//! best. All other operations: the first child only.

use super::attempt::{Retry, attempt};
use super::call::Kind as CallKind;
use super::failure::severity;
use super::gather::Answers;
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When, null, vivify};
use crate::protocol::{Class, OwnedReply, OwnedRequest, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "MissFailoverRoute",
    short: "miss_failover",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes, in the order in which they are tried" },
        Key { name: "return_best_on_error", what: "if none hits: the best reply, not the last (false)" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let mut children = params.children("children")?;
    let returns_best = params.flag("return_best_on_error", false);
    Some(match children.len() {
        0 => null::route(),
        1 => children.remove(0),
        _ => vivify::after_a_look(MissFailover(Rc::new(Inner { children, returns_best }))),
    })
}

struct MissFailover(Rc<Inner>);

struct Inner {
    /// At least two.
    children: Vec<Rc<dyn Route>>,
    returns_best: bool,
}

fn walks_on(request: &Request<'_>) -> bool {
    matches!(request.op.class(), Class::GetLike | Class::DeleteLike)
}

impl Route for MissFailover {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if walks_on(request) {
            attempt(&self.0, &*self.0.children[0], request, call, slot);
        } else {
            self.0.children[0].send(request, call, slot);
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("miss_failover");
        let count = if walks_on(request) { self.0.children.len() } else { 1 };
        let mut children = self.0.children[..count].iter().map(|child| child.explain(request));
        let Some(first) = children.next() else { return here };
        children.fold(here.with(When::Now, first), |here, child| here.with(When::OnMiss, child))
    }
}

impl Retry for Inner {
    fn is_final(&self, _request: &Request<'_>, reply: &Reply<'_>) -> bool {
        matches!(reply.status, Status::Hit | Status::Deleted | Status::Ok)
    }

    async fn go_on(self: Rc<Self>, request: OwnedRequest, call: Call, first: OwnedReply) -> OwnedReply {
        let call = call.to(CallKind::Failover);
        let mut answer = first;
        for child in &self.children[1..] {
            let reply = Answers::of(&**child, &request.as_request(), &call).only().await;
            if self.is_final(&request.as_request(), &reply.as_reply()) {
                return reply;
            }
            if !self.returns_best || severity(&reply.as_reply()) < severity(&answer.as_reply()) {
                answer = reply;
            }
        }
        answer
    }
}
