//! A member of a pool that is a route: a place on the ring like a server's, with a tree behind it.

use super::{Call, Explained, Leaf, Route, Sink, Slot};
use crate::protocol::{MultiGet, OwnedReply, Reply, Request, Status};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub(super) struct RouteMember {
    route: Rc<dyn Route>,
    name: String,
}

impl RouteMember {
    pub(super) fn new(route: Rc<dyn Route>, name: String) -> Self {
        Self { route, name }
    }
}

impl Route for RouteMember {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.route.send(request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.route.explain(request)
    }
}

impl Leaf for RouteMember {
    /// A tree is asked for one key at a time.
    fn send_multi(&self, request: &MultiGet<'_>, call: &Call, slot: Slot) {
        let replies = Rc::new(Replies {
            arrived: RefCell::new(vec![None; request.keys.len()]),
            waiting: Cell::new(request.keys.len()),
            slot: Cell::new(Some(slot)),
        });
        for (i, key) in request.keys.iter().enumerate() {
            let alone = Request { exptime: request.exptime, ..Request::new(request.op, key) };
            let slot = Slot::new(Rc::clone(&replies) as Rc<dyn Sink>, i as u64);
            self.route.send(&alone, call, slot);
        }
    }

    /// The servers behind it are those of other pools, which are emptied too.
    fn flush_all(&self, _delay: i32, slot: Slot) {
        slot.fill(&Reply::line(Status::Ok, b"OK"));
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The replies to the keys of one get, which are told in the order of the keys.
struct Replies {
    arrived: RefCell<Vec<Option<OwnedReply>>>,
    waiting: Cell<usize>,
    slot: Cell<Option<Slot>>,
}

impl Sink for Replies {
    fn is_waiting(&self) -> bool {
        let slot = self.slot.take();
        let is_waiting = slot.as_ref().is_some_and(Slot::is_awaited);
        self.slot.set(slot);
        is_waiting
    }

    fn hit(&self, _token: u64, _index: usize, _reply: &Reply<'_>) {
        debug_assert!(false, "a request for one key is answered by one reply");
    }

    fn fill(&self, token: u64, reply: &Reply<'_>) {
        let index = usize::try_from(token).unwrap_or(usize::MAX);
        if let Some(place) = self.arrived.borrow_mut().get_mut(index) {
            *place = Some(OwnedReply::new(reply));
        }
        self.waiting.set(self.waiting.get().saturating_sub(1));
        if self.waiting.get() > 0 {
            return;
        }
        let Some(slot) = self.slot.take() else { return };
        let replies = self.arrived.take();
        let replies = || replies.iter().enumerate().filter_map(|(i, reply)| Some((i, reply.as_ref()?)));
        for (i, reply) in replies().filter(|(_, reply)| reply.status == Status::Hit) {
            slot.hit(i, &reply.as_reply());
        }
        match replies().find(|(_, reply)| reply.status.is_error()) {
            Some((_, error)) => slot.fill(&error.as_reply()),
            None => slot.fill(&Reply::line(Status::Ok, b"")),
        }
    }
}
