//! StagingRoute: a second cache is filled and kept as the first one is, before it is used.
//!
//! The client always gets the reply of `warm`, and nobody waits for `staging`, except for deletes. Gets: `warm`; after a hit
//! `staging` is asked too, so that it knows what is used, and what it lacks is added with its flags, its cas and its remaining
//! time to live. `gets`: the same without adding. `set`, `cas` and `ms`: `warm`; when it has stored the value, it is set in
//! `staging` as well, whatever its cas is there. Deletes: both at once, the worse reply. All other operations: `warm`, and then
//! `staging`, unless that failed.
//!
//! mcrouter asks with `metaget`, which only Meta's own servers have; here it is `mg`.

use super::all::worst;
use super::attempt::{Retry, attempt};
use super::copy::{self, Found, KeepsCas};
use super::failure::Failure;
use super::gather::{Answers, answer_later};
use super::marked::without_tokens;
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When};
use crate::protocol::{Class, Meta, Op, OwnedReply, OwnedRequest, Reply, Request, Status, letter_bit};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "StagingRoute",
    short: "staging",
    bare: "warm",
    keys: &[
        Key { name: "warm", what: "the route that answers" },
        Key { name: "staging", what: "the route that is to be like it" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let (warm, staging) = (params.child("warm"), params.child("staging"));
    Some(Rc::new(Staging(Rc::new(Inner { warm: warm?, staging: staging?, keeps_cas: KeepsCas::default() }))))
}

struct Staging(Rc<Inner>);

struct Inner {
    warm: Rc<dyn Route>,
    staging: Rc<dyn Route>,
    keeps_cas: KeepsCas,
}

/// What is done in the second cache after the first one has answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Look, and add what is not there.
    Add,
    /// Look.
    Look,
    /// Set it, whatever is there.
    Set,
    /// The same.
    Same,
}

fn then(request: &Request<'_>) -> Then {
    match request.op {
        Op::Get => Then::Add,
        // one that changes the item is done again
        Op::MetaGet if !request.meta.has(b'T') => Then::Add,
        Op::Gets => Then::Look,
        Op::Set | Op::Cas | Op::MetaSet => Then::Set,
        _ => Then::Same,
    }
}

impl Route for Staging {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let Inner { warm, staging, .. } = &*self.0;
        if request.op.class() == Class::DeleteLike {
            let both = [Rc::clone(warm), Rc::clone(staging)];
            return answer_later(slot, worst(Answers::of_all(&both, request, call)));
        }
        attempt(&self.0, &**warm, request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("staging").with(When::Now, self.0.warm.explain(request));
        let staging = self.0.staging.explain(request);
        if request.op.class() == Class::DeleteLike {
            return here.with(When::Now, staging);
        }
        here.with(When::Beside, staging)
    }
}

impl Retry for Inner {
    fn is_final(&self, request: &Request<'_>, reply: &Reply<'_>) -> bool {
        match then(request) {
            Then::Add | Then::Look => reply.status != Status::Hit,
            Then::Set => reply.status != Status::Stored,
            Then::Same => Failure::of(reply).is_some(),
        }
    }

    async fn go_on(self: Rc<Self>, request: OwnedRequest, call: Call, first: OwnedReply) -> OwnedReply {
        let staging = &*self.staging;
        let asked = request.as_request();
        match then(&asked) {
            Then::Add => drop(tokio::task::spawn_local(Rc::clone(&self).add(request, call))),
            Then::Look => with_look(&asked, |look| staging.send(look, &call, Slot::nowhere())),
            Then::Set => with_set(&asked, |set| staging.send(set, &call, Slot::nowhere())),
            // whoever wins the right to fill an item fills it in both: nobody hears of a second one
            Then::Same => without_tokens(&asked, b"NR", |same| staging.send(same, &call, Slot::nowhere())),
        }
        first
    }
}

impl Inner {
    /// Copies the item, if it is not there yet. A server that fails gets nothing.
    async fn add(self: Rc<Self>, request: OwnedRequest, call: Call) {
        let request = request.as_request();
        let mut answers = Answers::new(&call);
        with_look(&request, |look| answers.expect(|slot| self.staging.send(look, &call, slot)));
        if answers.only().await.status != Status::Miss {
            return;
        }
        if let Found::Item(item) = copy::look_only(&*self.warm, &request, &call).await {
            item.add((&*self.staging, &self.keeps_cas), &request, &call, None, Slot::nowhere());
        }
    }
}

/// `mg` of the same key, without anything that would come back.
fn with_look(request: &Request<'_>, send: impl FnOnce(&Request<'_>)) {
    let is_base64 = request.meta.has(b'b');
    let meta = Meta {
        token: if request.op.is_meta() { request.meta.token } else { request.key },
        flags: if is_base64 { b"b" } else { b"" },
        letters: if is_base64 { letter_bit(b'b') } else { 0 },
        opaque: None,
        token_count: if is_base64 { 3 } else { 2 },
    };
    send(&Request { meta, ..Request::new(Op::MetaGet, request.key) });
}

/// The same value, without a cas to compare with.
fn with_set(request: &Request<'_>, send: impl FnOnce(&Request<'_>)) {
    if request.op == Op::Cas {
        return send(&Request { op: Op::Set, number: 0, ..*request });
    }
    without_tokens(request, b"C", send);
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Say;
    use super::super::stage::{DELETED, MISS, NOT_FOUND, STORED, TIMEOUT, run, settle, tree};
    use crate::protocol::Status;

    const ROUTE: &str = "{staging: {warm: a, staging: b}}";
    const EN: Say = Say::Line(Status::Miss, "EN");
    const HD: Say = Say::Line(Status::Stored, "HD");

    #[test]
    fn what_is_hit_is_added_where_it_is_not() {
        run(async {
            let tree = tree(
                ROUTE,
                [
                    (
                        "a",
                        vec![MISS, TIMEOUT, Say::Hit("1"), Say::Hit("1"), Say::Meta("VA 3 f7 t90 c5", "abc")],
                    ),
                    ("b", vec![Say::Line(Status::Hit, "HD"), EN, HD]),
                ],
            );
            assert_eq!(tree.ask("get k").await, "");
            assert_eq!(tree.ask("get k").await, "SERVER_ERROR Reply timeout");
            assert_eq!(tree.heard("b").len(), 0, "only what is hit");
            assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
            assert_eq!(tree.heard("b"), ["mg k"]);
            assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
            settle().await;
            assert_eq!(tree.heard("a").last().unwrap(), "mg k v f t c");
            assert_eq!(tree.heard("b"), ["mg k", "ms k 3 F7 T90 ME E5|abc"]);
        });
    }

    /// Whoever is told to fill it there would not hear of it.
    #[test]
    fn nothing_is_made_in_the_second_cache() {
        run(async {
            let item = || Say::Meta("VA 3 f0 t90 c5", "abc");
            let tree = tree(
                ROUTE,
                [
                    (
                        "a",
                        vec![
                            item(),
                            item(),
                            Say::Meta("VA 0 W", ""),
                            Say::Meta("VA 0 f0 t9 c6 Z", ""),
                            item(),
                        ],
                    ),
                    ("b", vec![EN, HD, EN, HD]),
                ],
            );
            assert_eq!(tree.ask("mg k v N30 t").await, "VA 3 f0 t90 c5|abc");
            settle().await;
            assert_eq!(tree.heard("b"), ["mg k", "ms k 3 F0 T90 ME E5|abc"]);
            assert_eq!(tree.ask("mg k v N30").await, "VA 0 W|");
            settle().await;
            assert_eq!(tree.heard("b"), ["mg k"], "an item that is not filled is none");
            assert_eq!(tree.ask("mg k v N30 T60 R9").await, "VA 3 f0 t90 c5|abc");
            assert_eq!(tree.heard("b"), ["mg k v T60"]);
        });
    }

    #[test]
    fn a_second_cache_that_fails_is_left_alone() {
        run(async {
            let tree = tree(ROUTE, [("a", vec![Say::Hit("1"), STORED]), ("b", vec![TIMEOUT, TIMEOUT])]);
            assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
            assert_eq!(tree.ask("set k 0 0 1|x").await, "STORED");
            assert_eq!(tree.heard("b"), ["mg k", "set k 0 0 1|x"]);
        });
    }

    #[test]
    fn what_is_stored_is_set_there_too() {
        run(async {
            let ex = || Say::Line(Status::Exists, "EXISTS");
            let tree = tree(
                ROUTE,
                [("a", vec![STORED, ex(), STORED, HD, TIMEOUT]), ("b", (0..9).map(|_| Say::Wait).collect())],
            );
            for (asked, answer, sent) in [
                ("set k 1 2 1|x", "STORED", Some("set k 1 2 1|x")),
                ("cas k 1 2 1 77|x", "EXISTS", None),
                ("cas k 1 2 1 77|x", "STORED", Some("set k 1 2 1|x")),
                ("ms k 1 T3 C77 F5|x", "HD", Some("ms k 1 T3 F5|x")),
                ("set k 1 2 1|x", "SERVER_ERROR Reply timeout", None),
            ] {
                assert_eq!(tree.ask(asked).await, answer);
                assert_eq!(tree.heard("b"), sent.into_iter().collect::<Vec<_>>(), "{asked}");
            }
        });
    }

    #[test]
    fn deletes_are_waited_for_and_the_rest_is_done_twice() {
        run(async {
            let tree = tree(
                ROUTE,
                [
                    ("a", vec![DELETED, DELETED, Say::Line(Status::Number, "5"), TIMEOUT, Say::Hit("1")]),
                    ("b", vec![NOT_FOUND, TIMEOUT, Say::Wait, Say::Wait]),
                ],
            );
            assert_eq!(tree.ask("delete k").await, "NOT_FOUND");
            assert_eq!(tree.ask("md k").await, "SERVER_ERROR Reply timeout", "the worse one");
            assert_eq!(tree.ask("incr k 1").await, "5");
            assert_eq!(tree.ask("touch k 1").await, "SERVER_ERROR Reply timeout");
            assert_eq!(tree.ask("gets k").await, "VALUE k 0 1|1");
            assert_eq!(tree.heard("b"), ["delete k", "md k", "incr k 1", "mg k"]);
        });
    }
}
