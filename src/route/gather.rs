//! Asking several children and waiting for their replies: what collecting routes are made of.
//!
//! Requests are sent at once, from within [`Route::send`], so that a client's next request for the same key cannot
//! overtake them. Only the waiting is a task of its own.

use super::call::Kind;
use super::{Call, Route, Sink, Slot};
use crate::protocol::{Cause, OwnedReply, Reply, Request};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Replies of children that were asked, in the order in which they come. All that have come are counted as held until this
/// is dropped, taken or not: whoever takes one keeps it until it knows the others.
pub(super) struct Answers {
    inbox: Rc<Inbox>,
    asked_count: usize,
    taken_count: usize,
}

struct Inbox {
    arrived: RefCell<VecDeque<(usize, OwnedReply)>>,
    waker: RefCell<Option<Waker>>,
    /// Who waits in the end. Without one nothing is known of that.
    asker: Option<Rc<dyn Sink>>,
    /// What the asker was told.
    held_bytes: Cell<usize>,
    /// The route is done: what comes now is too late.
    is_over: Cell<bool>,
}

impl Inbox {
    fn holds(&self, bytes: usize) {
        self.hold(self.held_bytes.replace(bytes), bytes);
    }
}

impl Sink for Inbox {
    /// Even what is too late: routes below would take it for failed and go on.
    fn is_waiting(&self) -> bool {
        true
    }

    fn fill(&self, token: u64, reply: &Reply<'_>) {
        if self.is_over.get() {
            return;
        }
        let index = usize::try_from(token).unwrap_or(usize::MAX);
        let has_room = reply.value.is_none() || self.has_room();
        let reply = OwnedReply::new(&if has_room {
            *reply
        } else {
            Reply { miss_on_error: reply.miss_on_error, ..Reply::failed(Cause::NoMemory) }
        });
        self.holds(self.held_bytes.get() + reply.held_bytes());
        self.arrived.borrow_mut().push_back((index, reply));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn hold(&self, before: usize, now: usize) {
        if let Some(asker) = &self.asker {
            asker.hold(before, now);
        }
    }

    fn has_room(&self) -> bool {
        self.asker.as_ref().is_none_or(|asker| asker.has_room())
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.inbox.is_over.set(true);
        self.inbox.arrived.take();
        self.inbox.holds(0);
    }
}

impl Answers {
    /// For whoever asked. A copy that a client does not wait for is none of its concern.
    pub(super) fn new(call: &Call) -> Self {
        let inbox = Inbox {
            arrived: RefCell::default(),
            waker: RefCell::default(),
            asker: call.asker.clone().filter(|_| call.kind != Kind::Shadow),
            held_bytes: Cell::new(0),
            is_over: Cell::new(false),
        };
        Self { inbox: Rc::new(inbox), asked_count: 0, taken_count: 0 }
    }

    /// All of them, at once; their replies carry their place in the list.
    pub(super) fn of_all(children: &[Rc<dyn Route>], request: &Request<'_>, call: &Call) -> Self {
        let mut answers = Self::new(call);
        for child in children {
            answers.ask(&**child, request, call);
        }
        answers
    }

    /// One child alone.
    pub(super) fn of(child: &dyn Route, request: &Request<'_>, call: &Call) -> Self {
        let mut answers = Self::new(call);
        answers.ask(child, request, call);
        answers
    }

    /// Asks one more.
    pub(super) fn ask(&mut self, child: &dyn Route, request: &Request<'_>, call: &Call) {
        self.expect(|slot| child.send(request, call, slot));
    }

    /// One more reply is waited for, in the slot that `send` gets.
    pub(super) fn expect(&mut self, send: impl FnOnce(Slot)) {
        let token = self.asked_count as u64;
        self.asked_count += 1;
        send(Slot::new(Rc::clone(&self.inbox) as Rc<dyn Sink>, token));
    }

    /// The next reply, and who gave it; `None` when all have answered.
    pub(super) async fn next(&mut self) -> Option<(usize, OwnedReply)> {
        if self.taken_count == self.asked_count {
            return None;
        }
        let answer = poll_fn(|cx| match self.inbox.arrived.borrow_mut().pop_front() {
            Some(answer) => Poll::Ready(answer),
            None => {
                *self.inbox.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await;
        self.taken_count += 1;
        Some(answer)
    }

    /// The reply of the only child that was asked.
    pub(super) async fn only(mut self) -> OwnedReply {
        debug_assert_eq!(self.asked_count, 1);
        match self.next().await {
            Some((_, reply)) => reply,
            None => OwnedReply::new(&Reply::failed(Cause::Aborted)),
        }
    }
}

/// Goes on beside everything else and answers in the end. A task that is dropped answers `SERVER_ERROR aborted`, as
/// every slot does.
pub(super) fn answer_later(slot: Slot, reply: impl Future<Output = OwnedReply> + 'static) {
    tokio::task::spawn_local(async move {
        let reply = reply.await;
        slot.fill(&reply.as_reply());
    });
}
