//! WarmUpRoute: a cold cache is filled from a warm one by those who ask.
//!
//! Gets: the cold child; after a miss the warm one, and what it has is added to the cold one with its flags, its cas and its
//! remaining time to live (or `exptime`), beside the client's answer. `gets`, `gat` and `gats`, and `mg` that asks for the
//! cas or changes the item: the item is added first, and then the cold child is asked again, so that what the client is
//! told is true there. `mg` with `N` asks both without it first. All other operations: the cold child only.
//!
//! A failure of the cold child is an answer; a failure of the warm one is a miss, which is what the cold one said.

use super::attempt::{Retry, attempt};
use super::copy::{self, Found, KeepsCas};
use super::gather::Answers;
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When, vivify};
use crate::protocol::{Class, Op, OwnedReply, OwnedRequest, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "WarmUpRoute",
    short: "warm_up",
    bare: "cold",
    keys: &[
        Key { name: "cold", what: "the route that is filled" },
        Key { name: "warm", what: "the route that has the items" },
        Key { name: "exptime", what: "the time to live of what is copied; by default what is left of it" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let (cold, warm) = (params.child("cold"), params.child("warm"));
    let exptime = params.exptime("exptime");
    if params.has("exptime") && exptime.is_none() {
        return None;
    }
    Some(vivify::after_a_look(WarmUp(Rc::new(Inner {
        cold: cold?,
        warm: warm?,
        exptime,
        keeps_cas: KeepsCas::default(),
    }))))
}

struct WarmUp(Rc<Inner>);

struct Inner {
    cold: Rc<dyn Route>,
    warm: Rc<dyn Route>,
    exptime: Option<i32>,
    keeps_cas: KeepsCas,
}

impl Route for WarmUp {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if request.op.class() == Class::GetLike {
            attempt(&self.0, &*self.0.cold, request, call, slot);
        } else {
            self.0.cold.send(request, call, slot);
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("warm_up").with(When::Now, self.0.cold.explain(request));
        if request.op.class() != Class::GetLike {
            return here;
        }
        here.with(When::OnMiss, self.0.warm.explain(request))
    }
}

/// Whether the cold child has to give the answer: a cas is its own, and it changes the item while it gives it.
fn needs_the_cold_one(request: &Request<'_>) -> bool {
    match request.op {
        Op::Get => false,
        Op::MetaGet => b"cTNR".iter().any(|letter| request.meta.has(*letter)),
        _ => true,
    }
}

impl Retry for Inner {
    fn is_final(&self, _request: &Request<'_>, reply: &Reply<'_>) -> bool {
        reply.status != Status::Miss
    }

    async fn go_on(self: Rc<Self>, request: OwnedRequest, call: Call, first: OwnedReply) -> OwnedReply {
        let again = needs_the_cold_one(&request.as_request());
        let found = if again {
            // What the client wants done to the item is done in the cold cache, not in the warm one.
            copy::look_only(&*self.warm, &request.as_request(), &call).await
        } else {
            copy::look(&*self.warm, &request.as_request(), &call).await
        };
        let Found::Item(item) = found else { return first };
        let request = request.as_request();
        let cold = (&*self.cold, &self.keeps_cas);
        if !again {
            item.add(cold, &request, &call, self.exptime, Slot::nowhere());
            return item.answer(&request);
        }
        let mut added = Answers::new(&call);
        added.expect(|slot| item.add(cold, &request, &call, self.exptime, slot));
        added.only().await;
        Answers::of(&*self.cold, &request, &call).only().await
    }
}
