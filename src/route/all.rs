//! AllSyncRoute, AllAsyncRoute, AllInitialRoute, AllFastestRoute, AllMajorityRoute: every child is asked.
//!
//! All operations go to all children at once. They differ in whom they wait for and whose reply they give:
//!
//! | route | waits for | answers |
//! |---|---|---|
//! | `all_sync` | all | the worst reply |
//! | `all_async` | nobody | not stored, not found; with `reply: stored` success |
//! | `all_initial` | the first child | its reply, even an error |
//! | `all_fastest` | the first reply that is no failover error | that; if all failed, the last |
//! | `all_majority` | more than half of one result | the most frequent; of several the worst |

use super::failure::{Failure, Failures, severity};
use super::gather::{Answers, answer_later};
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When, null};
use crate::config::value;
use crate::protocol::{Class, OwnedReply, Request, Status, answer};
use std::rc::Rc;

pub(super) const SYNC: Kind = Kind {
    name: "AllSyncRoute",
    short: "all_sync",
    bare: "children",
    keys: KEYS,
    build: |params| build(params, Mode::Sync),
};
pub(super) const ASYNC: Kind = Kind {
    name: "AllAsyncRoute",
    short: "all_async",
    bare: "children",
    keys: &[
        CHILDREN,
        Key { name: "reply", what: "`default` (mcrouter's: not stored, not found) or `stored` (success)" },
    ],
    build: build_async,
};
pub(super) const INITIAL: Kind = Kind {
    name: "AllInitialRoute",
    short: "all_initial",
    bare: "children",
    keys: KEYS,
    build: |params| build(params, Mode::Initial),
};
pub(super) const FASTEST: Kind = Kind {
    name: "AllFastestRoute",
    short: "all_fastest",
    bare: "children",
    keys: KEYS,
    build: |params| build(params, Mode::Fastest),
};
pub(super) const MAJORITY: Kind = Kind {
    name: "AllMajorityRoute",
    short: "all_majority",
    bare: "children",
    keys: KEYS,
    build: |params| build(params, Mode::Majority),
};

const CHILDREN: Key = Key { name: "children", what: "the routes that are asked" };
const KEYS: &[Key] = &[CHILDREN];

fn build(params: &Params<'_>, mode: Mode) -> Option<Rc<dyn Route>> {
    let mut children = params.children("children")?;
    Some(match children.len() {
        0 => null::route(),
        // one child that is waited for is the child
        1 if !matches!(mode, Mode::Async { .. }) => children.remove(0),
        _ => Rc::new(All { children, mode }),
    })
}

fn build_async(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    const REPLIES: &[(&str, bool)] = &[("default", false), ("stored", true)];
    let says_stored = params.section.value("reply", |node| value::choice(node, "a reply", REPLIES));
    build(params, Mode::Async { says_stored: says_stored.unwrap_or(false) })
}

#[derive(Clone, Copy)]
enum Mode {
    Sync,
    Async { says_stored: bool },
    Initial,
    Fastest,
    Majority,
}

struct All {
    /// At least one; at least two where somebody is waited for.
    children: Vec<Rc<dyn Route>>,
    mode: Mode,
}

impl Route for All {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        match self.mode {
            Mode::Initial => {
                let Some((first, others)) = self.children.split_first() else { return drop(slot) };
                first.send(request, call, slot);
                send_to_nobody(others, request, call);
            }
            Mode::Async { says_stored } => {
                send_to_nobody(&self.children, request, call);
                if says_stored {
                    answer::reply_with(request, success(request), |reply| slot.fill(reply));
                } else {
                    null::fill_default(request, slot);
                }
            }
            Mode::Sync => answer_later(slot, worst(Answers::of_all(&self.children, request, call))),
            Mode::Fastest => answer_later(slot, fastest(Answers::of_all(&self.children, request, call))),
            Mode::Majority => {
                let answers = Answers::of_all(&self.children, request, call);
                answer_later(slot, majority(answers, self.children.len()));
            }
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let (label, waits_for) = match self.mode {
            Mode::Sync => ("all_sync: the worst reply", self.children.len()),
            Mode::Async { .. } => ("all_async", 0),
            Mode::Initial => ("all_initial: the first child's reply", 1),
            Mode::Fastest => ("all_fastest: the first good reply", self.children.len()),
            Mode::Majority => ("all_majority: the most frequent reply", self.children.len()),
        };
        let mut here = Explained::new(label);
        for (i, child) in self.children.iter().enumerate() {
            here = here.with(if i < waits_for { When::Now } else { When::Beside }, child.explain(request));
        }
        here
    }
}

pub(super) fn send_to_nobody(children: &[Rc<dyn Route>], request: &Request<'_>, call: &Call) {
    for child in children {
        child.send(request, call, Slot::nowhere());
    }
}

/// What a client would call success.
fn success(request: &Request<'_>) -> Status {
    match request.op.class() {
        Class::UpdateLike => Status::Stored,
        Class::DeleteLike => Status::Deleted,
        Class::Other if request.op == crate::protocol::Op::Touch => Status::Touched,
        // a value or a number nobody can make up
        _ => answer::default_status(request.op),
    }
}

/// Waits for all. The first of the worst is the answer.
pub(super) async fn worst(mut answers: Answers) -> OwnedReply {
    let mut worst: Option<(u8, usize, OwnedReply)> = None;
    while let Some((index, reply)) = answers.next().await {
        let badness = severity(&reply.as_reply());
        // of equals that of the first child, so that the answer does not depend on who is faster
        let is_worse = worst.as_ref().is_none_or(|(b, i, _)| badness > *b || badness == *b && index < *i);
        if is_worse {
            worst = Some((badness, index, reply));
        }
    }
    or_aborted(worst.map(|(_, _, reply)| reply))
}

async fn fastest(mut answers: Answers) -> OwnedReply {
    let mut last = None;
    while let Some((_, reply)) = answers.next().await {
        if !Failures::FAILOVER.has(&reply.as_reply()) {
            return reply;
        }
        last = Some(reply);
    }
    or_aborted(last)
}

async fn majority(mut answers: Answers, count: usize) -> OwnedReply {
    let mut votes: Vec<(Result<Status, Failure>, usize, OwnedReply)> = Vec::new();
    while let Some((_, reply)) = answers.next().await {
        let result = Failure::of(&reply.as_reply()).map_or(Ok(reply.status), Err);
        let index = match votes.iter().position(|(known, ..)| *known == result) {
            Some(index) => index,
            None => {
                votes.push((result, 0, reply));
                votes.len() - 1
            }
        };
        votes[index].1 += 1;
        if votes[index].1 > count / 2 {
            return votes.swap_remove(index).2;
        }
    }
    let most = votes.into_iter().max_by_key(|(_, votes, reply)| (*votes, severity(&reply.as_reply())));
    or_aborted(most.map(|(.., reply)| reply))
}

/// Nobody answered: there was nobody, which `build` does not let happen.
pub(super) fn or_aborted(reply: Option<OwnedReply>) -> OwnedReply {
    let aborted = crate::protocol::Reply::failed(crate::protocol::Cause::Aborted);
    reply.unwrap_or_else(|| OwnedReply::new(&aborted))
}
