//! L1L2CacheRoute: a small near cache before a large far one.
//!
//! Gets: `l1`; after a miss or a failure `l2`, and what it has is added to `l1` for `upgradingL1Exptime` seconds, beside the
//! client's answer. All other operations: `l1` only; put an `operation` route above it to send updates and deletes to both.
//!
//! With `ncacheUpdatePeriod` `l1` remembers what `l2` does not have: after its miss an item of our own is added to `l1`, which
//! is a miss for clients until it expires (`ncacheExptime`). Of so many such misses one looks into `l2` again, beside the
//! answer. `mg` with `N` is told the miss, too. Source: mcrouter's `L1L2CacheRoute`.

use super::attempt::{Retry, attempt};
use super::copy::{self, Found, Item, KeepsCas};
use super::gather::answer_later;
use super::marked::{self, Marked, without_tokens};
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When, vivify};
use crate::protocol::{Class, OwnedReply, OwnedRequest, Reply, Request, Status, Value};
use std::cell::Cell;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "L1L2CacheRoute",
    short: "l1l2_cache",
    bare: "l1",
    keys: &[
        Key { name: "l1", what: "the near cache" },
        Key { name: "l2", what: "the far one" },
        Key { name: "upgradingL1Exptime", what: "the time to live of what is copied into l1" },
        Key {
            name: "ncacheUpdatePeriod",
            what: "of so many misses that l1 remembers one asks l2 again (0: none is remembered)",
        },
        Key { name: "ncacheExptime", what: "how long l1 remembers a miss (0: for ever)" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let (l1, l2) = (params.child("l1"), params.child("l2"));
    params.require("upgradingL1Exptime");
    let exptime = params.exptime("upgradingL1Exptime")?;
    let miss_exptime = params.exptime("ncacheExptime").unwrap_or(0);
    let period = params.count("ncacheUpdatePeriod", 0..=PERIOD_COUNT_MAX).unwrap_or(0);
    let left = Cell::new(period);
    let route = L1L2(Rc::new(Inner {
        l1: l1?,
        l2: l2?,
        exptime,
        miss_exptime,
        period,
        left,
        keeps_cas: KeepsCas::default(),
    }));
    Some(if period > 0 { Rc::new(route) } else { vivify::after_a_look(route) })
}

/// Beyond it nobody would ever look again.
const PERIOD_COUNT_MAX: usize = 1_000_000_000;
/// What stands for a miss in `l1`.
const MISS: &[u8] = b"ncache";

struct L1L2(Rc<Inner>);

struct Inner {
    l1: Rc<dyn Route>,
    l2: Rc<dyn Route>,
    exptime: i32,
    /// Of a miss that is remembered.
    miss_exptime: i32,
    /// 0: no miss is remembered.
    period: usize,
    /// Misses until `l2` is asked again.
    left: Cell<usize>,
    keeps_cas: KeepsCas,
}

impl Route for L1L2 {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let near = &*self.0.l1;
        if request.op.class() != Class::GetLike {
            near.send(request, call, slot);
        } else if self.0.period > 0 {
            // nothing is made for `N` where a miss is remembered
            without_tokens(request, b"N", |get| {
                marked::look(&self.0, &Levels(Rc::clone(&self.0)), get, call, slot);
            });
        } else {
            attempt(&self.0, near, request, call, slot);
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

/// Both levels, before anybody has looked whether a hit is a remembered miss.
struct Levels(Rc<Inner>);

impl Route for Levels {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        attempt(&self.0, &*self.0.l1, request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.0.l1.explain(request)
    }
}

impl Inner {
    /// Where items are copied to.
    fn near(&self) -> (&dyn Route, &KeepsCas) {
        (&*self.l1, &self.keeps_cas)
    }

    fn remembered_miss(&self) -> Item {
        Item::made(MISS, Self::MARK, self.miss_exptime)
    }

    /// What `l2` has by now takes the place of the remembered miss, or the miss lives on.
    fn look_again(self: Rc<Self>, request: OwnedRequest, call: Call) {
        let found = copy::look_only(&*self.l2, &request.as_request(), &call);
        answer_later(Slot::nowhere(), async move {
            let request = request.as_request();
            match found.await {
                Found::Item(item) => item.set(self.near(), &request, &call, Some(self.exptime)),
                _ => self.remembered_miss().set(self.near(), &request, &call, None),
            }
            marked::miss(&request)
        });
    }
}

impl Marked for Inner {
    /// mcrouter's `MC_MSG_FLAG_NEGATIVE_CACHE`.
    const MARK: u32 = 0x10000;
    const HIDES: bool = true;

    fn is_ours(&self, value: &Value<'_>) -> bool {
        value.len() == MISS.len() && value.to_vec() == MISS
    }

    fn shown(&self, flags: u32) -> u32 {
        flags
    }

    async fn resolve(self: Rc<Self>, request: OwnedRequest, call: Call, _item: OwnedReply) -> OwnedReply {
        let miss = marked::miss(&request.as_request());
        if self.left.get() <= 1 {
            self.left.set(self.period);
            self.look_again(request, call);
        } else {
            self.left.set(self.left.get() - 1);
        }
        miss
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
                item.add(self.near(), &request, &call, Some(self.exptime), Slot::nowhere());
                item.answer(&request)
            }
            // l2 is the one that knows
            Found::Failed(reply) => reply,
            Found::Miss if self.period > 0 => {
                let request = request.as_request();
                self.remembered_miss().add(self.near(), &request, &call, None, Slot::nowhere());
                marked::miss(&request)
            }
            Found::Miss if first.status.is_error() => marked::miss(&request.as_request()),
            Found::Miss => first,
        }
    }
}
