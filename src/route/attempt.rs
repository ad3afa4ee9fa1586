//! One child is asked first, and mostly that is all: the others are asked only when its reply is not final.
//!
//! Failover, miss-failover, warm-up and two-level caches have this in common. The first try costs one allocation and
//! no task; a final reply goes to whoever waits without being copied.

use super::gather::answer_later;
use super::slot::is_awaited_in;
use super::{Call, Route, Sink, Slot};
use crate::protocol::{OwnedReply, OwnedRequest, Reply, Request};
use std::cell::Cell;
use std::rc::Rc;

/// A route that may have to go on after its first child's reply.
pub(super) trait Retry: 'static {
    /// Whether this reply is the answer.
    fn is_final(&self, request: &Request<'_>, reply: &Reply<'_>) -> bool;

    /// Makes an answer of what the first child said and what others will say.
    fn go_on(
        self: Rc<Self>,
        request: OwnedRequest,
        call: Call,
        first: OwnedReply,
    ) -> impl Future<Output = OwnedReply> + 'static;
}

struct Attempt<R> {
    route: Rc<R>,
    /// Taken when the reply comes.
    kept: Cell<Option<(OwnedRequest, Call, Slot)>>,
}

/// Asks `first`; a reply that is not final goes to [`Retry::go_on`].
pub(super) fn attempt<R: Retry>(
    route: &Rc<R>,
    first: &dyn Route,
    request: &Request<'_>,
    call: &Call,
    slot: Slot,
) {
    let kept = Cell::new(Some((OwnedRequest::new(request), call.clone(), slot)));
    let sink = Rc::new(Attempt { route: Rc::clone(route), kept });
    first.send(request, call, Slot::new(sink, 0));
}

impl<R: Retry> Sink for Attempt<R> {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.kept, |(.., slot)| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        let Some((request, call, slot)) = self.kept.take() else { return };
        if self.route.is_final(&request.as_request(), reply) {
            return slot.fill(reply);
        }
        let route = Rc::clone(&self.route);
        answer_later(slot, route.go_on(request, call, OwnedReply::new(reply)));
    }
}
