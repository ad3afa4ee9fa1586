//! Where a reply goes: the slot that travels with a request, and whoever waits behind it.

use crate::protocol::{Cause, Reply, Values};
use std::cell::Cell;
use std::rc::Rc;

/// Where replies go: the queue of a client, or a route that waits for several children.
pub trait Sink {
    /// The `index`-th key of a multi-key get was found.
    fn hit(&self, _token: u64, _index: usize, _reply: &Reply<'_>) {
        debug_assert!(false, "a request for one key is answered by one reply");
    }

    /// Several keys of a multi-key get were found: their `VALUE` blocks as the server wrote them.
    fn hits(&self, token: u64, values: &Values<'_>) {
        for (index, reply) in values.iter() {
            self.hit(token, index, &reply);
        }
    }

    /// The request is answered. Called once for each token.
    fn fill(&self, token: u64, reply: &Reply<'_>);

    /// Whether anybody still wants what is sent here. Who passes replies on says what those say who get them
    /// (`is_awaited_in`).
    fn is_waiting(&self) -> bool;

    /// What routes hold for it has changed, in bytes.
    fn hold(&self, _before: usize, _now: usize) {}

    /// Whether routes may hold more for it.
    fn has_room(&self) -> bool {
        true
    }
}

/// The place where one reply is awaited. Filling it consumes it; one that is dropped unfilled answers
/// `SERVER_ERROR aborted`, so that no request is ever left without an answer.
pub struct Slot {
    sink: Option<Rc<dyn Sink>>,
    token: u64,
}

impl Slot {
    #[must_use]
    pub fn new(sink: Rc<dyn Sink>, token: u64) -> Self {
        Self { sink: Some(sink), token }
    }

    /// A slot that nobody looks at.
    #[must_use]
    pub const fn nowhere() -> Self {
        Self { sink: None, token: 0 }
    }

    pub fn hit(&self, index: usize, reply: &Reply<'_>) {
        if let Some(sink) = &self.sink {
            sink.hit(self.token, index, reply);
        }
    }

    /// Who waits, and its token: for telling it of a part while the slot stays where it is.
    #[must_use]
    pub fn waiting(&self) -> Option<(Rc<dyn Sink>, u64)> {
        Some((Rc::clone(self.sink.as_ref()?), self.token))
    }

    /// Whether anybody still wants the reply. It is filled in any case.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.is_waiting())
    }

    #[inline]
    pub fn fill(mut self, reply: &Reply<'_>) {
        if let Some(sink) = self.sink.take() {
            sink.fill(self.token, reply);
        }
    }
}

/// Whether anybody wants the reply for which a sink keeps a slot, among other things, until it passes it on.
pub(super) fn is_awaited_in<T>(kept: &Cell<Option<T>>, slot_of: impl FnOnce(&T) -> &Slot) -> bool {
    let inside = kept.take();
    let is_awaited = inside.as_ref().is_some_and(|inside| slot_of(inside).is_awaited());
    kept.set(inside);
    is_awaited
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.fill(self.token, &Reply::failed(Cause::Aborted));
        }
    }
}
