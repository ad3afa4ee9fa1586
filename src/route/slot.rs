//! Where a reply goes: the slot that travels with a request, and whoever waits behind it.

use crate::protocol::{Cause, Reply, Values};
use std::rc::Rc;

/// Where replies go: the queue of a client, or a route that waits for several children.
pub trait Sink {
    /// The `index`-th key of a multi-key get was found.
    fn hit(&self, token: u64, index: usize, reply: &Reply<'_>);

    /// Several keys of a multi-key get were found: their `VALUE` blocks as the server wrote them.
    fn hits(&self, token: u64, values: &Values<'_>) {
        for (index, reply) in values.iter() {
            self.hit(token, index, &reply);
        }
    }

    /// The request is answered. Called once for each token.
    fn fill(&self, token: u64, reply: &Reply<'_>);

    /// Whether anybody still wants what is sent here.
    fn is_waiting(&self) -> bool {
        true
    }

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

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.fill(self.token, &Reply::failed(Cause::Aborted));
        }
    }
}
