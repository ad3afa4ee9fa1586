//! OutstandingLimitRoute, `max_outstanding` of a pool: so many requests are under way to a child, the others wait.
//!
//! All operations: to the child while fewer than `max_outstanding` wait for its answers; else in a queue, first come, first
//! served.

use super::busy::bytes_of;
use super::registry::{Key, Kind, Params};
use super::slot::is_awaited_in;
use super::{Call, Chosen, Explained, Route, Sink, Slot, When};
use crate::protocol::{Cause, Class, Op, OwnedRequest, Reply, Request};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

pub(super) const KIND: Kind = Kind {
    name: "OutstandingLimitRoute",
    short: "outstanding_limit",
    bare: "target",
    keys: &[
        Key { name: "target", what: "where requests go" },
        Key { name: "max_outstanding", what: "how many may be under way at once" },
    ],
    build,
};

/// mcrouter's largest.
pub(super) const OUTSTANDING_COUNT_MAX: usize = 1_000_000;
/// Requests that wait here for their turn. mcrouter has no bound.
const QUEUED_COUNT_MAX: usize = 65_536;
/// Keys and values of these; what is larger waits when it is the only one, and deletes wait in any case.
const QUEUED_BYTES_MAX: usize = 16 << 20;

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let target = params.child("target");
    params.require("max_outstanding");
    let count_max = params.count("max_outstanding", 1..=OUTSTANDING_COUNT_MAX)?;
    Some(of(target?, count_max))
}

/// At most so many requests to this child at once.
pub(super) fn of(target: Rc<dyn Route>, count_max: usize) -> Rc<dyn Route> {
    let limit = |this: &Weak<Limit>| Limit {
        target,
        count_max,
        count: Cell::new(0),
        queue: RefCell::default(),
        queued_bytes: Cell::new(0),
        is_draining: Cell::new(false),
        this: Weak::clone(this),
    };
    Rc::new_cyclic(limit)
}

struct Limit {
    target: Rc<dyn Route>,
    count_max: usize,
    /// Under way.
    count: Cell<usize>,
    queue: RefCell<VecDeque<(OwnedRequest, Call, Slot)>>,
    queued_bytes: Cell<usize>,
    is_draining: Cell<bool>,
    this: Weak<Self>,
}

impl Limit {
    fn go(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let Some(this) = self.this.upgrade() else { return drop(slot) };
        self.count.set(self.count.get() + 1);
        let turn = Turn { limit: this, slot: Cell::new(Some(slot)) };
        self.target.send(request, call, Slot::new(Rc::new(turn), 0));
    }
}

/// One request under way; when it is answered the next may go.
struct Turn {
    limit: Rc<Limit>,
    slot: Cell<Option<Slot>>,
}

impl Sink for Turn {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.slot, |slot| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        self.limit.count.set(self.limit.count.get() - 1);
        if let Some(slot) = self.slot.take() {
            slot.fill(reply);
        }
        // A child that answers at once comes back here from within `go`: the outermost one goes on.
        if self.limit.is_draining.replace(true) {
            return;
        }
        while self.limit.count.get() < self.limit.count_max {
            let Some((request, call, slot)) = self.limit.queue.borrow_mut().pop_front() else { break };
            let request = request.as_request();
            self.limit.queued_bytes.set(self.limit.queued_bytes.get() - bytes_of(&request));
            self.limit.go(&request, &call, slot);
        }
        self.limit.is_draining.set(false);
    }
}

impl Route for Limit {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let mut queue = self.queue.borrow_mut();
        // nobody passes those that wait, not even where there is room that they are about to take
        if queue.is_empty() && self.count.get() < self.count_max {
            drop(queue);
            return self.go(request, call, slot);
        }
        let queued_bytes = self.queued_bytes.get() + bytes_of(request);
        let is_much = queued_bytes > QUEUED_BYTES_MAX && !queue.is_empty();
        if queue.len() >= QUEUED_COUNT_MAX || (is_much && request.op.class() != Class::DeleteLike) {
            drop(queue);
            return slot.fill(&Reply::failed(Cause::Busy));
        }
        self.queued_bytes.set(queued_bytes);
        queue.push_back((OwnedRequest::new(request), call.clone(), slot));
    }

    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        self.target.chosen(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let label = format!("outstanding_limit: {} at once", self.count_max);
        Explained::new(label).with(When::Now, self.target.explain(request))
    }
}
