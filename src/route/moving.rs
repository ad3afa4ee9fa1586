//! Requests for a key that has moved from one server to another, while the change is young (`transition.rs`).
//!
//! The rule that keeps this right: **what a former server has is never older than what the new one has.** So whatever changes
//! an item at its new server makes the former ones forget it, and a delete goes to the former ones first.
//!
//! | request | at the new server | at the former ones |
//! |---|---|---|
//! | gets | first; a hit is the answer | after a miss: asked, the latest first; what is found is the answer, and is copied |
//! | gets of a cas | the same; asked again when the item is copied | the same |
//! | `set` | at once | forget it |
//! | what needs an item: `append`, `incr`, `cas`, `touch`, `gat`, … | first; when nothing is there, again behind a copy | asked for the item; then forget it |
//! | what needs none: `add`, `ma` with `N`, … | behind a copy, if there is one | asked first; then forget it |
//! | deletes | when all former ones have answered | first, the oldest first |
//!
//! A copy is `ms … ME`: it never puts anything over what is there. Afterwards the former server is asked once more: if the
//! item is gone there, or another, somebody deleted or changed it meanwhile, perhaps through another proxy, and the copy is
//! taken back, by its cas. As deletes are answered by the former server before they are sent to the new one, either the delete
//! comes behind the copy, or the copy is seen to be wrong. Within a worker nothing of this mixes at all: a key that is being
//! copied or deleted is `Busy`, and later requests for it wait.

use super::busy::{Busy, Permit, Turn};
use super::copy::{self, Found, Item, KeepsCas, with_flags};
use super::former_server::Old;
use super::gather::{Answers, answer_later};
use super::marked::{number, without_value};
use super::slot::is_awaited_in;
use super::window::Pace;
use super::{Call, Route, Sink, Slot};
use crate::config::Transition as Settings;
use crate::protocol::{Cause, Op, OwnedReply, OwnedRequest, Reply, Request, Status};
use crate::stats::Counters;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// What all moved keys of a pool share.
pub(super) struct Shared {
    pub(super) busy: Rc<Busy>,
    pub(super) counters: Arc<Counters>,
    pub(super) settings: Settings,
    pub(super) pace: Arc<Pace>,
    pub(super) keeps_cas: KeepsCas,
}

/// A key that has moved.
pub(super) struct Moved {
    pub(super) now: Rc<dyn Route>,
    /// At least one, the oldest first.
    pub(super) olds: Vec<Rc<Old>>,
    pub(super) shared: Rc<Shared>,
}

/// What a request is to the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Reads it, wherever it is.
    Read,
    /// Reads what only its own server can tell.
    Own,
    /// Puts another one, whatever is there.
    Put,
    /// Changes the one that is there.
    Change,
    /// Makes one where there is none.
    Make,
    Delete,
    /// Neither.
    Other,
}

impl Deed {
    fn of(request: &Request<'_>) -> Self {
        let has = |letters: &[u8]| letters.iter().any(|letter| request.meta.has(*letter));
        match request.op {
            Op::Get => Self::Read,
            Op::Gets => Self::Own,
            Op::MetaGet if has(b"N") => Self::Make,
            Op::MetaGet if has(b"T") => Self::Change,
            Op::MetaGet if has(b"cCR") => Self::Own,
            Op::MetaGet => Self::Read,
            Op::Set => Self::Put,
            Op::Add => Self::Make,
            Op::MetaSet => match request.meta.token_of(b'M').and_then(<[u8]>::first) {
                Some(b'E') => Self::Make,
                Some(b'A' | b'P') if has(b"N") => Self::Make,
                Some(b'A' | b'P' | b'R') => Self::Change,
                _ if has(b"C") => Self::Change,
                _ => Self::Put,
            },
            Op::MetaArithmetic if has(b"N") => Self::Make,
            Op::Replace | Op::Append | Op::Prepend | Op::Cas | Op::Incr | Op::Decr | Op::MetaArithmetic => {
                Self::Change
            }
            Op::Touch | Op::Gat | Op::Gats => Self::Change,
            Op::MetaDelete if has(b"CIxTE") => Self::Change,
            Op::Delete | Op::MetaDelete => Self::Delete,
            Op::MetaDebug => Self::Other,
        }
    }
}

/// Whether the reply says that nothing is there.
const fn is_not_there(status: Status) -> bool {
    matches!(status, Status::Miss | Status::NotFound | Status::NotStored)
}

/// Whether the item may be another one now.
const fn may_have_changed(status: Status) -> bool {
    match status {
        Status::Miss | Status::NotFound | Status::NotStored | Status::Exists => false,
        // it was not sent at all
        Status::Failed(cause) => !matches!(
            cause,
            Cause::Tko
                | Cause::Connect
                | Cause::ConnectTimeout
                | Cause::QueueFull
                | Cause::NoServer
                | Cause::Busy
        ),
        _ => true,
    }
}

impl Moved {
    pub(super) fn send(self, request: &Request<'_>, call: &Call, slot: Slot) {
        let deed = Deed::of(request);
        let needs_turn = match deed {
            Deed::Delete => true,
            Deed::Make => self.shared.settings.copies,
            _ => false,
        };
        if needs_turn || self.shared.busy.is_taken(request.key) {
            let Some(turn) = self.shared.busy.turn(request.key) else {
                return slot.fill(&Reply::failed(Cause::Busy));
            };
            return answer_later(slot, self.in_turn(deed, OwnedRequest::new(request), call.clone(), turn));
        }
        match deed {
            Deed::Put => {
                self.forget(request, call);
                self.now.send(request, call, slot);
            }
            Deed::Other => self.now.send(request, call, slot),
            _ => {
                let now = Rc::clone(&self.now);
                let kept = Cell::new(Some((self, OwnedRequest::new(request), call.clone(), slot)));
                now.send(request, call, Slot::new(Rc::new(First { deed, kept }), 0));
            }
        }
    }

    /// All former servers shall forget the key.
    fn forget(&self, request: &Request<'_>, call: &Call) {
        for old in &self.olds {
            old.forget(request, call);
        }
    }

    fn ask(&self, request: &Request<'_>, call: &Call) -> impl Future<Output = OwnedReply> + 'static {
        Answers::of(&*self.now, request, call).only()
    }

    /// Behind what was under way before, or because it takes several steps.
    async fn in_turn(self, deed: Deed, request: OwnedRequest, call: Call, mut turn: Turn) -> OwnedReply {
        turn.come().await;
        let asked = request.as_request();
        match deed {
            Deed::Delete => return self.delete(&asked, &call).await,
            Deed::Make => {
                if self.shared.settings.copies {
                    self.copy_over(&asked, &call).await;
                }
                let reply = self.ask(&asked, &call).await;
                if may_have_changed(reply.status) {
                    self.forget(&asked, &call);
                }
                return reply;
            }
            Deed::Change => {
                let reply = self.ask(&asked, &call).await;
                return self.change(&asked, &call, reply).await;
            }
            Deed::Put => self.forget(&asked, &call),
            Deed::Read | Deed::Own | Deed::Other => {}
        }
        // What was before it has copied what there was. The next one may go on when this is sent.
        let reply = self.ask(&asked, &call);
        drop(turn);
        reply.await
    }

    /// The new server has answered that nothing is there.
    async fn go_on(self, deed: Deed, request: OwnedRequest, call: Call, first: OwnedReply) -> OwnedReply {
        let shared = Rc::clone(&self.shared);
        let asked = request.as_request();
        if !self.olds.iter().any(|old| old.may_be_asked()) || (deed != Deed::Read && !shared.settings.copies)
        {
            return first;
        }
        if deed == Deed::Change || shared.busy.is_taken(asked.key) {
            let Some(mut turn) = shared.busy.turn(asked.key) else { return first };
            let was_queued = turn.is_queued();
            turn.come().await;
            if deed == Deed::Change {
                let again = if was_queued { self.ask(&asked, &call).await } else { first };
                return self.change(&asked, &call, again).await;
            }
            let again = self.ask(&asked, &call);
            drop(turn);
            return again.await;
        }
        let Some(permit) = self.permit() else {
            if deed != Deed::Read {
                return first;
            }
            let Some((item, _)) = self.find(&asked, &call).await else { return first };
            return item.answer(&asked);
        };
        let Some(turn) = shared.busy.turn(asked.key) else { return first };
        if deed == Deed::Own {
            let is_there = self.copy_over(&asked, &call).await;
            return if is_there { self.ask(&asked, &call).await } else { first };
        }
        let Some((item, old)) = self.find(&asked, &call).await else { return first };
        let mut added = Answers::new(&call);
        added.expect(|slot| {
            item.add_and_tell_cas(&*self.now, &asked, &call, shared.keeps_cas.get(), slot);
        });
        let cas = item.cas;
        let answer = item.answer(&asked);
        let going_on = async move {
            let reply = added.only().await;
            let _ = self.added(&reply, cas, &old, &request.as_request(), &call).await;
            drop((turn, permit));
        };
        tokio::task::spawn_local(going_on);
        answer
    }

    /// The right to copy one more item.
    fn permit(&self) -> Option<Permit> {
        let Shared { busy, settings, pace, counters, .. } = &*self.shared;
        if !settings.copies {
            return None;
        }
        let permit = busy.permit().filter(|_| pace.take(settings.rate_per_s));
        if permit.is_none() {
            counters.transition_skipped.add(1);
        }
        permit
    }

    /// The reply to what needs an item, or to the same once more where a copy could be made.
    async fn change(&self, asked: &Request<'_>, call: &Call, mut reply: OwnedReply) -> OwnedReply {
        let is_missed = is_not_there(reply.status) && self.shared.settings.copies;
        if is_missed && self.copy_over(asked, call).await {
            reply = self.ask(asked, call).await;
        }
        if may_have_changed(reply.status) {
            self.forget(asked, call);
        }
        reply
    }

    /// The former ones first: see above.
    async fn delete(&self, asked: &Request<'_>, call: &Call) -> OwnedReply {
        let mut was_there = false;
        for old in &self.olds {
            if old.is_doubted() {
                // whatever becomes of it: nobody asks it any more
                old.forget_and_tell(asked, call, Slot::nowhere());
                continue;
            }
            let mut answers = Answers::new(call);
            answers.expect(|slot| old.forget_and_tell(asked, call, slot));
            let reply = answers.only().await;
            was_there |= reply.status == Status::Deleted;
            if reply.status.is_error() {
                old.doubt();
            }
        }
        let reply = self.ask(asked, call).await;
        if reply.status == Status::NotFound && was_there {
            return without_value(asked, Status::Deleted);
        }
        reply
    }

    /// The item as a former server has it.
    async fn find(&self, asked: &Request<'_>, call: &Call) -> Option<(Item, Rc<Old>)> {
        for old in self.olds.iter().rev().filter(|old| old.may_be_asked()) {
            let found = copy::look(&**old.leaf(asked.key), asked, call).await;
            if let Found::Item(item) = found
                && !item.is_stale
                && !old.is_doubted()
            {
                self.shared.counters.transition_hits_old.add(1);
                return Some((item, Rc::clone(old)));
            }
        }
        None
    }

    /// Whether the new server has the item now, because a former one had it.
    async fn copy_over(&self, asked: &Request<'_>, call: &Call) -> bool {
        let look = with_flags(Op::MetaGet, Vec::new(), asked, OwnedRequest::new);
        let Some((item, old)) = self.find(&look.as_request(), call).await else { return false };
        loop {
            let keeps_cas = self.shared.keeps_cas.get();
            let mut added = Answers::new(call);
            added.expect(|slot| item.add_and_tell_cas(&*self.now, asked, call, keeps_cas, slot));
            match self.added(&added.only().await, item.cas, &old, asked, call).await {
                Some(is_there) => return is_there,
                None if keeps_cas => {} // once more without
                None => return false,
            }
        }
    }

    /// An item was added at the new server, which has answered: whether it is there now. `None`: it may be added if it is given
    /// a cas of its own.
    async fn added(
        &self,
        reply: &OwnedReply,
        cas: u64,
        old: &Old,
        asked: &Request<'_>,
        call: &Call,
    ) -> Option<bool> {
        match reply.status {
            Status::Stored => {}
            Status::NotStored => return Some(true), // somebody was faster
            _ if self.shared.keeps_cas.is_refusal(&reply.as_reply()) => return None,
            _ => return Some(false),
        }
        let mut answers = Answers::new(call);
        with_flags(Op::MetaGet, b"c".to_vec(), asked, |again| {
            answers.expect(|slot| old.leaf(asked.key).send(again, call, slot));
        });
        let again = answers.only().await;
        if again.status == Status::Hit && cas_of(&again.line) == Some(cas) && !old.is_doubted() {
            self.shared.counters.transition_copies.add(1);
            return Some(true);
        }
        // Somebody deleted it, or put another one, while it was copied.
        let own = cas_of(&reply.line).filter(|own| *own != 0);
        let compare = own.map_or_else(Vec::new, |own| format!("C{own}").into_bytes());
        let mut answers = Answers::new(call);
        with_flags(Op::MetaDelete, compare, asked, |delete| {
            answers.expect(|slot| self.now.send(delete, call, slot));
        });
        answers.only().await;
        Some(false)
    }
}

fn cas_of(line: &[u8]) -> Option<u64> {
    line.split(|b| *b == b' ').skip(1).find_map(|word| number(word.strip_prefix(b"c")?))
}

/// Waits for the new server's reply, which mostly is the answer.
struct First {
    deed: Deed,
    /// Taken when the reply comes.
    kept: Cell<Option<(Moved, OwnedRequest, Call, Slot)>>,
}

impl Sink for First {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.kept, |(.., slot)| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        let Some((moved, request, call, slot)) = self.kept.take() else { return };
        if is_not_there(reply.status) {
            return answer_later(slot, moved.go_on(self.deed, request, call, OwnedReply::new(reply)));
        }
        if matches!(self.deed, Deed::Change | Deed::Make) && may_have_changed(reply.status) {
            moved.forget(&request.as_request(), &call);
        }
        slot.fill(reply);
    }
}
