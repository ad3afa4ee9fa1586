//! `mg` with `N` (vivify on miss) where a get has more than one place to look.
//!
//! memcached makes an empty item for `N` where it has none, tells one client that it is the one to fill it (`W`), and never
//! answers with a miss. A route that goes on after a miss would stop at the empty item, and one that asks several places at once
//! would leave one in each of them. So all places are asked without `N` first; only when none has the item, or one that was asked is out,
//! the request goes its way as it is. mcrouter's lease-gets ask the other places, too.

use super::attempt::{Retry, attempt};
use super::gather::Answers;
use super::marked::without_tokens;
use super::{Call, Explained, Route, Slot};
use crate::protocol::{Op, OwnedReply, OwnedRequest, Reply, Request, Status};
use std::rc::Rc;

/// `route`, which looks in several places.
pub(super) fn after_a_look(route: impl Route + 'static) -> Rc<dyn Route> {
    Rc::new(Vivify(Rc::new(Inner { route: Box::new(route) })))
}

/// Whether the request makes an empty item where there is none.
pub(super) fn vivifies(request: &Request<'_>) -> bool {
    request.op == Op::MetaGet && request.meta.has(b'N')
}

struct Vivify(Rc<Inner>);

struct Inner {
    route: Box<dyn Route>,
}

impl Route for Vivify {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if vivifies(request) {
            attempt(&self.0, &Look(&*self.0.route), request, call, slot);
        } else {
            self.0.route.send(request, call, slot);
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.0.route.explain(request)
    }
}

/// The same request without `N`.
struct Look<'a>(&'a dyn Route);

impl Route for Look<'_> {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        without_tokens(request, b"N", |look| self.0.send(look, call, slot));
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.0.explain(request)
    }
}

impl Retry for Inner {
    fn is_final(&self, _request: &Request<'_>, reply: &Reply<'_>) -> bool {
        reply.status == Status::Hit
    }

    async fn go_on(self: Rc<Self>, request: OwnedRequest, call: Call, _first: OwnedReply) -> OwnedReply {
        Answers::of(&*self.route, &request.as_request(), &call).only().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Say;
    use super::super::stage::{run, settle, tree};
    use crate::protocol::{Cause, Status};

    const EN: Say = Say::Line(Status::Miss, "EN");
    const HD: Say = Say::Line(Status::Stored, "HD");
    const MADE: Say = Say::Meta("VA 0 W", "");
    const ASKED: &str = "mg k v N30";

    #[test]
    fn what_another_place_has_is_not_made_anew() {
        run(async {
            for (route, asked_of_b, copied) in [
                ("{warm_up: {cold: a, warm: b}}", "mg k v f t c", true),
                ("{type: l1l2_cache, l1: a, l2: b, upgradingL1Exptime: 9}", "mg k v f t c", true),
                ("{miss_failover: [a, b]}", "mg k v", false),
                ("{type: failover, children: [a, b], on: [error, miss]}", "mg k v", false),
            ] {
                let item = if copied { "VA 3 f0 t9 c5" } else { "VA 3" };
                let made = || Say::Meta("VA 0 W", "");
                let a = if copied { vec![EN, HD, EN, made()] } else { vec![EN, EN, made()] };
                let tree = tree(route, [("a", a), ("b", vec![Say::Meta(item, "abc"), EN])]);
                assert_eq!(tree.ask(ASKED).await, "VA 3|abc", "{route}");
                settle().await;
                let copy = copied.then_some("ms k 3 F0 T9 ME E5|abc");
                assert_eq!(
                    tree.heard("a"),
                    ["mg k v"].into_iter().chain(copy).collect::<Vec<_>>(),
                    "{route}"
                );
                assert_eq!(tree.heard("b"), [asked_of_b], "{route}");
                assert_eq!(tree.ask(ASKED).await, "VA 0 W|", "{route}");
                assert_eq!(tree.heard("a"), ["mg k v", ASKED], "{route}");
                assert_eq!(tree.heard("b"), [asked_of_b], "{route}");
            }
        });
    }

    #[test]
    fn a_place_that_is_out_keeps_nobody_from_filling_another() {
        run(async {
            for route in ["{miss_failover: [a, b]}", "{type: failover, children: [a, b], on: [error, miss]}"]
            {
                let tree = tree(route, [("a", vec![EN, MADE]), ("b", vec![Say::Fail(Cause::Tko)])]);
                assert_eq!(tree.ask(ASKED).await, "VA 0 W|", "{route}");
            }
        });
    }

    /// It would take the place of the miss that was just remembered, or the other way round.
    #[test]
    fn nothing_is_made_where_a_miss_is_remembered() {
        run(async {
            let route = "{type: l1l2_cache, l1: a, l2: b, upgradingL1Exptime: 30, ncacheUpdatePeriod: 2}";
            let tree = tree(route, [("a", vec![EN, HD]), ("b", vec![EN])]);
            assert_eq!(tree.ask(ASKED).await, "EN");
            settle().await;
            assert_eq!(tree.heard("a"), ["mg k v f", "ms k 6 F65536 T0 ME|ncache"]);
        });
    }

    #[test]
    fn one_copy_alone_is_made_of_several() {
        run(async {
            let route = "{type: key_split, destination: a, replicas: 3, all_sync: false, first_hit: true}";
            let tree = tree(route, [("a", vec![EN, EN, EN, MADE, EN, EN, EN])]);
            assert_eq!(tree.ask(ASKED).await, "VA 0 W|");
            let heard = tree.heard("a");
            assert!(heard[..3].iter().all(|get| !get.contains('N')), "{heard:?}");
            assert!(heard.len() == 4 && heard[3].ends_with(" v N30"), "{heard:?}");
            assert_eq!(tree.ask("mg k v R30").await, "EN");
            assert_eq!(tree.heard("a").iter().filter(|get| get.contains("R30")).count(), 1);
        });
    }
}
