//! FailoverRoute: the first child, and after a failure the next.
//!
//! All operations: to the first child; when its reply is one of `failover_errors`, to the next, and so on; the answer is the
//! first reply that is none of them, else the last. A miss is an answer, unless `on` has `miss`. Which errors count may
//! differ for gets, updates and deletes; arithmetic and touch always use mcrouter's set.

use super::attempt::{Retry, attempt};
use super::call::Kind as CallKind;
use super::failure::{Failure, Failures};
use super::gather::Answers;
use super::registry::{Key, Kind, Params};
use super::rekey::send_as;
use super::{Call, Explained, Route, Slot, When, null};
use crate::config::{At, Node, Problem, Section, nearest_help, quoted, value};
use crate::protocol::{Class, OwnedReply, OwnedRequest, Reply, Request, Status};
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
        Key { name: "on", what: "what makes it try the next: [error] (default), [miss], [error, miss]" },
    ],
    build,
};

pub(super) const LIMIT_KEY: Key =
    Key { name: "failover_limit", what: "failovers per request: rate, and burst" };
pub(super) const TAG_KEY: Key =
    Key { name: "failover_tag", what: "whether keys with a hash stop get `:failover=N` behind them" };
pub(super) const ERRORS_KEY: Key = Key {
    name: "failover_errors",
    what: "names of errors that are reason enough, for all, or in a map for gets, updates and deletes",
};

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
        _ => Rc::new(Failover(Rc::new(Inner { children, errors, on_miss, limit, tags }))),
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
        let is_free = matches!(
            Failure::of(failed),
            Some(Failure::Tko | Failure::ConnectError | Failure::ConnectTimeout)
        );
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

/// Which failures are reason enough, by class of operation.
#[derive(Clone, Copy)]
pub(super) struct Errors {
    gets: Failures,
    updates: Failures,
    deletes: Failures,
}

impl Default for Errors {
    fn default() -> Self {
        Self { gets: Failures::FAILOVER, updates: Failures::FAILOVER, deletes: Failures::FAILOVER }
    }
}

impl Errors {
    /// Reads `failover_errors`: a list for all three, or a map of lists; what is missing keeps mcrouter's set.
    pub(super) fn read(params: &Params<'_>) -> Option<Self> {
        let mut errors = Self::default();
        let key = ERRORS_KEY.name;
        let path = params.path().key(key);
        match params.section.node(key) {
            None => {}
            Some(node @ Node::List(_)) => {
                let set = read_set(params, node, &path)?;
                errors = Self { gets: set, updates: set, deletes: set };
            }
            Some(Node::Map(entries)) => {
                for (name, node) in entries {
                    let path = path.key(name);
                    let set = read_set(params, node, &path)?;
                    match name.as_str() {
                        "gets" => errors.gets = set,
                        "updates" => errors.updates = set,
                        "deletes" => errors.deletes = set,
                        _ => {
                            let problem = Problem::new(format!("unknown key {}", quoted(name)));
                            let problem = problem.help("one of `gets`, `updates`, `deletes`");
                            params.section.findings.fault(&path, At::Key, problem);
                            return None;
                        }
                    }
                }
            }
            Some(other) => {
                params.fault(key, value::expected("a list of errors", other));
                return None;
            }
        }
        Some(errors)
    }

    /// Whether this reply to this request is reason enough.
    pub(super) fn has(&self, request: &Request<'_>, reply: &Reply<'_>) -> bool {
        let set = match request.op.class() {
            Class::GetLike => self.gets,
            Class::UpdateLike => self.updates,
            Class::DeleteLike => self.deletes,
            Class::ArithmeticLike | Class::Other => Failures::FAILOVER,
        };
        set.has(reply)
    }
}

fn read_set(params: &Params<'_>, node: &Node, path: &crate::config::Path<'_>) -> Option<Failures> {
    let Node::List(list) = node else {
        params.section.findings.fault(path, At::Value, value::expected("a list of errors", node));
        return None;
    };
    let mut set = Failures::NONE;
    for (i, word) in list.iter().enumerate() {
        let name = if let Node::Text(name) = word { name.as_str() } else { "" };
        match Failure::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, failure)) => set = set.with(*failure),
            None => {
                let known: Vec<&str> = Failure::ALL.iter().map(|(name, _)| *name).collect();
                // mcrouter's words
                let problem = Problem::new(format!("Failover error {name} is not a valid error result"));
                let problem = problem.help(nearest_help(name, &known));
                params.section.findings.fault(&path.index(i), At::Value, problem);
                return None;
            }
        }
    }
    Some(set)
}

/// What a client is told of a key that has no room for the tag.
const REFUSAL: &[u8] = b"SERVER_ERROR The key provided is invalid";

struct Failover(Rc<Inner>);

struct Inner {
    /// At least two.
    children: Vec<Rc<dyn Route>>,
    errors: Errors,
    on_miss: bool,
    limit: Option<Limit>,
    /// Keys with a hash stop tell the other children that they come by failover.
    tags: bool,
}

impl Inner {
    async fn ask(&self, index: usize, request: &OwnedRequest, call: &Call) -> OwnedReply {
        let (child, request) = (&*self.children[index], request.as_request());
        if !self.tags || memchr::memmem::find(request.key, b"|#|").is_none() {
            return Answers::of(child, &request, call).only().await;
        }
        let key = [request.key, format!(":failover={index}").as_bytes()].concat();
        let mut answers = Answers::new();
        answers.expect(|slot| send_as(child, &key, REFUSAL, &request, call, slot));
        answers.only().await
    }
}

impl Route for Failover {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if let Some(limit) = &self.0.limit {
            limit.on_request();
        }
        attempt(&self.0, &*self.0.children[0], request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("failover");
        let mut children = self.0.children.iter().map(|child| child.explain(request));
        let Some(first) = children.next() else { return here };
        children.fold(here.with(When::Now, first), |here, child| here.with(When::OnError, child))
    }
}

impl Retry for Inner {
    fn is_final(&self, request: &Request<'_>, reply: &Reply<'_>) -> bool {
        let missed = self.on_miss && matches!(reply.status, Status::Miss | Status::NotFound);
        !missed && !self.errors.has(request, reply)
    }

    async fn go_on(self: Rc<Self>, request: OwnedRequest, call: Call, first: OwnedReply) -> OwnedReply {
        let call = call.to(CallKind::Failover);
        let mut last = first;
        for index in 1..self.children.len() {
            if self.limit.as_ref().is_some_and(|limit| !limit.allows(&last.as_reply())) {
                break;
            }
            last = self.ask(index, &request, &call).await;
            if self.is_final(&request.as_request(), &last.as_reply()) {
                break;
            }
        }
        last
    }
}
