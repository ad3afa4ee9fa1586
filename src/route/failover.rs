//! FailoverRoute: the first child, and after a failure the next.
//!
//! All operations: to the first child; when its reply is one of `failover_errors`, to the next, and so on; the answer is the
//! first reply that is none of them, else the last. A miss is an answer, unless `on` has `miss`. Which errors count may
//! differ for gets, updates and deletes (`failover_errors.rs`), and so may the order of the others (`failover_policy.rs`).

use super::attempt::{Retry, attempt};
use super::call::Kind as CallKind;
use super::failover_errors::{ERRORS_KEY, Errors};
use super::failover_policy::{HASH_KEY, POLICY_KEY, Policy, TAGS_KEY, Walk};
use super::failure::Failure;
use super::gather::Answers;
use super::pairing::{Asked, PAIRING_KEY, Pairs};
use super::registry::{Key, Kind, Params};
use super::rekey::send_as;
use super::{Call, Explained, Route, Slot, When, null, vivify};
use crate::config::{Node, Section, value};
use crate::protocol::{OwnedReply, OwnedRequest, Reply, Request, Status};
use std::cell::Cell;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "FailoverRoute",
    short: "failover",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes, in the order in which they are tried" },
        ERRORS_KEY,
        LIMIT_KEY,
        TAG_KEY,
        POLICY_KEY,
        HASH_KEY,
        TAGS_KEY,
        PAIRING_KEY,
        Key { name: "on", what: "what makes it try the next: [error] (default), [miss], [error, miss]" },
    ],
    build,
};

pub(super) const LIMIT_KEY: Key =
    Key { name: "failover_limit", what: "failovers per request: rate, and burst" };
pub(super) const TAG_KEY: Key =
    Key { name: "failover_tag", what: "whether keys with a hash stop get `:failover=N` behind them" };

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let children = params.children("children");
    let errors = Errors::read(params);
    let on_miss = read_on(params);
    of(params, children?, errors?, on_miss?)
}

/// A failover over these children, with the limit and the tag of these parameters.
pub(super) fn of(
    params: &Params<'_>,
    mut children: Vec<Rc<dyn Route>>,
    errors: Errors,
    on_miss: bool,
) -> Option<Rc<dyn Route>> {
    let limit = if params.has(LIMIT_KEY.name) { Some(Limit::read(params)?) } else { None };
    let tags = params.flag(TAG_KEY.name, false);
    Some(match children.len() {
        0 => null::route(),
        1 => children.remove(0),
        count => {
            let policy = Policy::read(params, count)?;
            let pairs = params.flag(PAIRING_KEY.name, false).then(Pairs::default);
            let route = Failover(Rc::new(Inner { children, errors, on_miss, policy, limit, tags, pairs }));
            if on_miss { vivify::after_a_look(route) } else { Rc::new(route) }
        }
    })
}

/// How many failovers there may be: so many per request, saved up to `burst`. Failures that cost the server nothing, because
/// there is no connection, are free.
struct Limit {
    rate: f64,
    burst: f64,
    tokens: Cell<f64>,
}

impl Limit {
    fn read(params: &Params<'_>) -> Option<Self> {
        let path = params.path().key(LIMIT_KEY.name);
        let node = params.section.node(LIMIT_KEY.name)?;
        let section = Section::open(node, &path, params.section.findings, "a map with `rate`")?;
        section.refuse_unknown(&["rate", "burst"], &[]);
        let limit = Params { section, ..*params };
        limit.require("rate")?;
        let rate = limit.number("rate", 0.0..=1.0)?;
        let burst = limit.number("burst", 1.0..=1e9);
        if limit.has("burst") && burst.is_none() {
            return None;
        }
        let burst = burst.unwrap_or(1000.0); // mcrouter's
        Some(Self { rate, burst, tokens: Cell::new(burst) })
    }

    fn on_request(&self) {
        self.tokens.set((self.tokens.get() + self.rate).min(self.burst));
    }

    fn allows(&self, failed: &Reply<'_>) -> bool {
        let is_free = Failure::of(failed).is_some_and(Failure::is_free);
        let tokens = self.tokens.get();
        if !is_free && tokens < 1.0 {
            return false;
        }
        self.tokens.set(if is_free { tokens } else { tokens - 1.0 });
        true
    }
}

fn read_on(params: &Params<'_>) -> Option<bool> {
    let Some(node) = params.section.node("on") else { return Some(false) };
    let words: &[Node] = if let Node::List(list) = node { list } else { std::slice::from_ref(node) };
    const WORDS: &[(&str, bool)] = &[("error", false), ("miss", true)];
    let mut on_miss = false;
    for word in words {
        match value::choice(word, "`error` or `miss`", WORDS) {
            Ok(is_miss) => on_miss |= is_miss,
            Err(problem) => {
                params.fault("on", problem);
                return None;
            }
        }
    }
    Some(on_miss)
}

/// What a client is told of a key that has no room for the tag.
const REFUSAL: &[u8] = b"SERVER_ERROR The key provided is invalid";

struct Failover(Rc<Inner>);

struct Inner {
    /// At least two.
    children: Vec<Rc<dyn Route>>,
    errors: Errors,
    on_miss: bool,
    policy: Policy,
    limit: Option<Limit>,
    /// Keys with a hash stop tell the other children that they come by failover.
    tags: bool,
    pairs: Option<Pairs>,
}

impl Inner {
    /// `nth`: how many were asked before.
    fn send_to(&self, (child, nth): Asked, request: &Request<'_>, call: &Call, slot: Slot) {
        let child = &*self.children[child];
        if nth == 0 || !self.tags || memchr::memmem::find(request.key, b"|#|").is_none() {
            return child.send(request, call, slot);
        }
        let key = [request.key, format!(":failover={nth}").as_bytes()].concat();
        send_as(child, &key, REFUSAL, request, call, slot);
    }

    async fn ask(&self, asked: Asked, request: &OwnedRequest, call: &Call) -> OwnedReply {
        let mut answers = Answers::new(call);
        answers.expect(|slot| self.send_to(asked, &request.as_request(), call, slot));
        answers.only().await
    }
}

impl Route for Failover {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if let Some(limit) = &self.0.limit {
            limit.on_request();
        }
        if let Some(asked) = self.0.pairs.as_ref().and_then(|pairs| pairs.find(request)) {
            return self.0.send_to(asked, request, call, slot);
        }
        attempt(&self.0, &*self.0.children[0], request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let Inner { children, policy, .. } = &*self.0;
        let first = Explained::new(policy.label()).with(When::Now, children[0].explain(request));
        let others = Walk::new(policy, children, request.op, request.key).all(request);
        others
            .into_iter()
            .fold(first, |here, child| here.with(When::OnError, children[child].explain(request)))
    }
}

impl Retry for Inner {
    fn is_final(&self, request: &Request<'_>, reply: &Reply<'_>) -> bool {
        let missed = self.on_miss && matches!(reply.status, Status::Miss | Status::NotFound);
        !missed && !self.errors.has(request, reply)
    }

    async fn go_on(self: Rc<Self>, request: OwnedRequest, call: Call, first: OwnedReply) -> OwnedReply {
        let call = call.to(CallKind::Failover);
        let mut walk = {
            let request = request.as_request();
            Walk::new(&self.policy, &self.children, request.op, request.key)
        };
        let mut last = first;
        for nth in 1.. {
            let Some(child) = walk.next(&request.as_request(), &last.as_reply()) else { break };
            if self.limit.as_ref().is_some_and(|limit| !limit.allows(&last.as_reply())) {
                break;
            }
            last = self.ask((child, nth), &request, &call).await;
            self.policy.learn(child, &last.as_reply());
            if self.is_final(&request.as_request(), &last.as_reply()) {
                if let Some(pairs) = &self.pairs {
                    pairs.keep(&request.as_request(), &last.as_reply(), (child, nth));
                }
                break;
            }
        }
        last
    }
}
