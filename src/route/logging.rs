//! LoggingRoute: tells the log of every request and its reply.
//!
//! All operations: to the target; then one line at level `info` with the operation, the key and what became of it, never
//! with a value. A line costs more than the request: for looking at one prefix, not for everything.

use super::gather::{Answers, answer_later};
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When};
use crate::protocol::Request;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "LoggingRoute",
    short: "logging",
    bare: "target",
    keys: &[Key { name: "target", what: "where requests go" }],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    Some(Rc::new(Logging { target: params.child("target")? }))
}

struct Logging {
    target: Rc<dyn Route>,
}

impl Route for Logging {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let key = request.key.escape_ascii().to_string();
        let (op, value_bytes) = (request.op.name(), request.value.len());
        let answer = Answers::of(&*self.target, request, call);
        answer_later(slot, async move {
            let reply = answer.only().await;
            let reply_bytes = reply.value.as_ref().map_or(0, |value| value.as_value().len());
            tracing::info!(op, key, value_bytes, status = ?reply.status, reply_bytes, "request");
            reply
        });
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        Explained::new("logging").with(When::Now, self.target.explain(request))
    }
}
