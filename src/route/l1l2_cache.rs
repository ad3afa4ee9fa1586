//! L1L2CacheRoute: a small near cache before a large far one.
//!
//! Gets: `l1`; after a miss or a failure `l2`, and what it has is added to `l1` for `upgradingL1Exptime` seconds, beside the
//! client's answer. All other operations: `l1` only; put an `operation` route above it to send updates and deletes to both.

use super::attempt::{Retry, attempt};
use super::copy::{self, Found};
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When};
use crate::protocol::{Class, OwnedReply, OwnedRequest, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "L1L2CacheRoute",
    short: "l1l2_cache",
    bare: "l1",
    keys: &[
        Key { name: "l1", what: "the near cache" },
        Key { name: "l2", what: "the far one" },
        Key { name: "upgradingL1Exptime", what: "the time to live of what is copied into l1" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let (l1, l2) = (params.child("l1"), params.child("l2"));
    params.require("upgradingL1Exptime");
    let exptime = params.exptime("upgradingL1Exptime")?;
    Some(Rc::new(L1L2(Rc::new(Inner { l1: l1?, l2: l2?, exptime }))))
}

struct L1L2(Rc<Inner>);

struct Inner {
    l1: Rc<dyn Route>,
    l2: Rc<dyn Route>,
    exptime: i32,
}

impl Route for L1L2 {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if request.op.class() == Class::GetLike {
            attempt(&self.0, &*self.0.l1, request, call, slot);
        } else {
            self.0.l1.send(request, call, slot);
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("l1l2_cache").with(When::Now, self.0.l1.explain(request));
        if request.op.class() != Class::GetLike {
            return here;
        }
        here.with(When::If("after a miss or an error".into()), self.0.l2.explain(request))
    }
}

impl Retry for Inner {
    fn is_final(&self, _request: &Request<'_>, reply: &Reply<'_>) -> bool {
        reply.status != Status::Miss && !reply.status.is_error()
    }

    async fn go_on(self: Rc<Self>, request: OwnedRequest, call: Call, first: OwnedReply) -> OwnedReply {
        match copy::look(&*self.l2, &request.as_request(), &call).await {
            Found::Item(item) => {
                let request = request.as_request();
                item.add(&*self.l1, &request, &call, Some(self.exptime), Slot::nowhere());
                item.answer(&request)
            }
            // l2 is the one that knows
            Found::Failed(reply) => reply,
            Found::Miss if first.status.is_error() => {
                let mut line = Vec::new();
                crate::protocol::answer::write_line(&request.as_request(), Status::Miss, &mut line);
                OwnedReply { status: Status::Miss, line, value: None, miss_on_error: false }
            }
            Found::Miss => first,
        }
    }
}
