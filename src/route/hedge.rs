//! HedgeRoute: when the first child is slow, a second one is asked too, and the first good answer wins.
//!
//! Gets that change nothing: the first child; if it has not answered after `after` (a time, or `p95`: slower than nineteen of twenty answers so
//! far), the next child is asked as well, and so on; a failure asks the next at once. At most `extra` of all requests, one
//! in twenty, are asked twice, so that a pool that is slow as a whole does not get twice the load. All other operations: the
//! first child only, because doing them twice is not the same as once.

use super::call::Kind as CallKind;
use super::failure::Failures;
use super::gather::{Answers, answer_later};
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When, null};
use crate::config::{Node, value};
use crate::protocol::{Op, OwnedReply, OwnedRequest, Request};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

pub(super) const KIND: Kind = Kind {
    name: "HedgeRoute",
    short: "hedge",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes, in the order in which they are asked" },
        Key { name: "after", what: "how long the first may take: `p95` (default) or a time such as `5ms`" },
        Key { name: "extra", what: "the share of requests that may be asked twice, 0 to 1 (0.05)" },
    ],
    build,
};

const EXTRA_DEFAULT: f64 = 0.05;
/// Extra requests that may come at once after a quiet time.
const BURST: f64 = 10.0;
/// What a get takes before anything is known.
const FIRST_ESTIMATE: Duration = Duration::from_millis(10);

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let children = params.children("children");
    let range = Duration::from_micros(10)..=Duration::from_secs(60);
    let after = params.section.value("after", |node| match node {
        Node::Text(text) if text == "p95" => Ok(None),
        _ => value::duration(node, &range).map(Some).map_err(|p| p.help("`p95`, or a time such as `5ms`")),
    });
    if params.has("after") && after.is_none() {
        return None;
    }
    let share = params.number("extra", 0.0..=1.0);
    if params.has("extra") && share.is_none() {
        return None;
    }
    let mut children = children?;
    Some(match children.len() {
        0 => null::route(),
        1 => children.remove(0),
        _ => Rc::new(Hedge(Rc::new(Inner {
            children,
            after: after.flatten(),
            usual: Cell::new(FIRST_ESTIMATE),
            share: share.unwrap_or(EXTRA_DEFAULT),
            tokens: Cell::new(BURST),
        }))),
    })
}

struct Hedge(Rc<Inner>);

struct Inner {
    /// At least two.
    children: Vec<Rc<dyn Route>>,
    /// `None`: longer than nineteen of twenty answers took.
    after: Option<Duration>,
    /// What nineteen of twenty answers of the first child stay below, as far as is known.
    usual: Cell<Duration>,
    share: f64,
    tokens: Cell<f64>,
}

impl Inner {
    fn patience(&self) -> Duration {
        self.after.unwrap_or(self.usual.get())
    }

    /// Up by nineteen steps for an answer that took longer, down by one for each that did not: in balance where one in twenty
    /// takes longer.
    fn learn(&self, was_longer: bool) {
        let usual = self.usual.get();
        let step = (usual / 400).max(Duration::from_micros(1));
        self.usual.set(if was_longer { usual + step * 19 } else { usual.saturating_sub(step) });
    }

    fn may_ask_twice(&self) -> bool {
        let tokens = self.tokens.get();
        let may = tokens >= 1.0;
        self.tokens.set(if may { tokens - 1.0 } else { tokens });
        may
    }

    async fn first_good(
        self: Rc<Self>,
        request: OwnedRequest,
        call: Call,
        mut answers: Answers,
    ) -> OwnedReply {
        let began = Instant::now();
        let call = call.to(CallKind::Failover);
        let mut others = self.children[1..].iter();
        let mut last = None;
        let mut first_is_due = true;
        loop {
            let left = self.patience();
            let answer = match timeout(left, answers.next()).await {
                Ok(answer) => answer,
                // Nothing of an answer is lost when the wait for it is given up.
                Err(_) => {
                    if std::mem::take(&mut first_is_due) {
                        self.learn(true);
                    }
                    // who may not be asked for this is still there for when the first one fails
                    if !others.as_slice().is_empty()
                        && self.may_ask_twice()
                        && let Some(next) = others.next()
                    {
                        answers.ask(&**next, &request.as_request(), &call);
                        continue;
                    }
                    answers.next().await
                }
            };
            let Some((index, reply)) = answer else { return super::all::or_aborted(last) };
            if index == 0 && std::mem::take(&mut first_is_due) {
                self.learn(began.elapsed() > self.usual.get());
            }
            if !Failures::FAILOVER.has(&reply.as_reply()) {
                return reply;
            }
            last = Some(reply);
            if let Some(next) = others.next() {
                answers.ask(&**next, &request.as_request(), &call);
            }
        }
    }
}

/// Whether asking twice is the same as asking once: not `gat`, nor an `mg` that sets a time to live, makes an item or wins the
/// right to fill one.
fn changes_nothing(request: &Request<'_>) -> bool {
    match request.op {
        Op::Get | Op::Gets => true,
        Op::MetaGet => !b"TNRE".iter().any(|letter| request.meta.has(*letter)),
        _ => false,
    }
}

impl Route for Hedge {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let inner = &self.0;
        if !changes_nothing(request) {
            return inner.children[0].send(request, call, slot);
        }
        inner.tokens.set((inner.tokens.get() + inner.share).min(BURST));
        let answers = Answers::of(&*inner.children[0], request, call);
        answer_later(slot, Rc::clone(inner).first_good(OwnedRequest::new(request), call.clone(), answers));
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let mut children = self.0.children.iter().map(|child| child.explain(request));
        let here = Explained::new("hedge");
        let Some(first) = children.next() else { return here };
        let here = here.with(When::Now, first);
        if !changes_nothing(request) {
            return here;
        }
        let after = self.0.after.map_or("p95".to_owned(), |after| format!("{after:?}"));
        children.fold(here, |here, child| here.with(When::If(format!("if slower than {after}")), child))
    }
}
