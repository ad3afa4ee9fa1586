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
use super::{Call, Explained, Route, Slot, When, null};
use crate::config::{At, Node, Problem, nearest_help, quoted, value};
use crate::protocol::{Class, OwnedReply, OwnedRequest, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "FailoverRoute",
    short: "failover",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes, in the order in which they are tried" },
        ERRORS_KEY,
        Key { name: "on", what: "what makes it try the next: [error] (default), [miss], [error, miss]" },
    ],
    build,
};

pub(super) const ERRORS_KEY: Key = Key {
    name: "failover_errors",
    what: "names of errors that are reason enough, for all, or in a map for gets, updates and deletes",
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let children = params.children("children");
    let errors = Errors::read(params);
    let on_miss = read_on(params);
    Some(of(children?, errors?, on_miss?))
}

/// A failover over these children.
pub(super) fn of(mut children: Vec<Rc<dyn Route>>, errors: Errors, on_miss: bool) -> Rc<dyn Route> {
    match children.len() {
        0 => null::route(),
        1 => children.remove(0),
        _ => Rc::new(Failover(Rc::new(Inner { children, errors, on_miss }))),
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

struct Failover(Rc<Inner>);

struct Inner {
    /// At least two.
    children: Vec<Rc<dyn Route>>,
    errors: Errors,
    on_miss: bool,
}

impl Route for Failover {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
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
        for child in &self.children[1..] {
            last = Answers::of(&**child, &request.as_request(), &call).only().await;
            if self.is_final(&request.as_request(), &last.as_reply()) {
                break;
            }
        }
        last
    }
}
