//! Invalidations that are told to others: a client hears that its delete is done when the feed has it.
//!
//! Taken at the root, so each request counts once, under the key that the client wrote, whatever routes stand below. What is told
//! is what was acknowledged: a delete that a server carried out, or that was taken over for later. One that failed is not, and
//! neither is one that came from a feed: two that follow each other would tell each other the same for ever.

use super::delete_log::is_delete;
use super::slot::is_awaited_in;
use super::{Refused, Sink, Slot, Taken, rekey};
use crate::protocol::{Cause, Meta, Op, OwnedReply, Reply, Request, Status, letter_bit};
use std::cell::Cell;
use std::rc::Rc;

/// The opaque of deletes that come from a feed.
const RELAYED: &[u8] = b"ringway-feed";

/// Takes what was acknowledged.
pub trait Feed {
    /// `then` is called once others can read it, or cannot.
    fn tell(&self, key: &[u8], then: Taken);
}

/// Which requests are told, and to whom.
#[derive(Clone)]
pub struct Fed {
    pub feed: Rc<dyn Feed>,
    /// `touch`, `set` and `ms` with a negative time are deletes too.
    pub negative_exptime: bool,
}

impl Fed {
    /// The slot to send the request with.
    pub(super) fn around(&self, request: &Request<'_>, slot: Slot) -> Slot {
        if !is_delete(request, self.negative_exptime) || request.meta.opaque == Some(RELAYED) {
            return slot;
        }
        let told = Told { key: request.key.into(), feed: Rc::clone(&self.feed), slot: Cell::new(Some(slot)) };
        Slot::new(Rc::new(told), 0)
    }
}

/// Calls `send` with a delete of this key that no feed tells again.
pub fn with_relayed(key: &[u8], send: impl FnOnce(&Request<'_>)) {
    const FLAGS: &[u8] = b"b Oringway-feed";
    let mut request = Request::new(Op::MetaDelete, key);
    let letters = letter_bit(b'O');
    request.meta = Meta { flags: &FLAGS[2..], letters, opaque: Some(RELAYED), token_count: 3, ..Meta::EMPTY };
    if rekey::is_sendable(key, false) {
        return send(&request);
    }
    let letters = letters | letter_bit(b'b');
    request.meta = Meta { flags: FLAGS, letters, token_count: 4, ..request.meta };
    rekey::with_key(&request, key, |request, _| send(request));
}

/// Waits for what becomes of a delete.
struct Told {
    key: Box<[u8]>,
    feed: Rc<dyn Feed>,
    slot: Cell<Option<Slot>>,
}

impl Sink for Told {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.slot, |slot| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        let Some(slot) = self.slot.take() else { return };
        if !is_acknowledged(reply) {
            return slot.fill(reply);
        }
        let reply = OwnedReply::new(reply);
        let then = move |told: Result<(), Refused>| match told {
            Ok(()) => slot.fill(&reply.as_reply()),
            Err(Refused(line)) => slot.fill(&Reply::line(Status::Failed(Cause::Aborted), line.as_bytes())),
        };
        self.feed.tell(&self.key, Box::new(then));
    }
}

/// Whether the client is told that what it wanted gone is gone.
fn is_acknowledged(reply: &Reply<'_>) -> bool {
    let is_done =
        matches!(reply.status, Status::Deleted | Status::NotFound | Status::Stored | Status::Touched);
    is_done || reply.accepted.is_some()
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Waiting;
    use super::*;
    use crate::protocol::Op;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Kept(RefCell<Vec<(Vec<u8>, Taken)>>);

    impl Feed for Kept {
        fn tell(&self, key: &[u8], then: Taken) {
            self.0.borrow_mut().push((key.to_vec(), then));
        }
    }

    fn fed(negative_exptime: bool) -> (Rc<Kept>, Fed) {
        let kept = Rc::new(Kept::default());
        (Rc::clone(&kept), Fed { feed: kept, negative_exptime })
    }

    fn answered(fed: &Fed, request: &Request<'_>, reply: &Reply<'_>) -> Rc<Waiting> {
        let (waiting, slot) = Waiting::slot();
        fed.around(request, slot).fill(reply);
        waiting
    }

    #[test]
    fn the_client_waits_until_others_can_read_it() {
        let (kept, fed) = fed(false);
        let waiting =
            answered(&fed, &Request::new(Op::Delete, b"k"), &Reply::line(Status::Deleted, b"DELETED"));
        assert_eq!(waiting.reply(), None);
        let (key, then) = kept.0.borrow_mut().pop().unwrap();
        assert_eq!(key, b"k");
        then(Ok(()));
        assert_eq!(waiting.reply().as_deref(), Some("DELETED"));
    }

    #[test]
    fn what_cannot_be_told_is_an_error() {
        let (kept, fed) = fed(false);
        let waiting =
            answered(&fed, &Request::new(Op::Delete, b"k"), &Reply::line(Status::NotFound, b"NOT_FOUND"));
        let (_, then) = kept.0.borrow_mut().pop().unwrap();
        then(Err(Refused("SERVER_ERROR no")));
        assert_eq!(waiting.reply().as_deref(), Some("SERVER_ERROR no"));
    }

    #[test]
    fn what_failed_is_not_told_and_what_waits_in_the_spool_is() {
        let (kept, fed) = fed(false);
        let delete = Request::new(Op::Delete, b"k");
        let failed = Reply::failed(Cause::Timeout);
        let waiting = answered(&fed, &delete, &failed);
        assert_eq!(waiting.reply().as_deref(), Some("SERVER_ERROR Reply timeout"));
        answered(&fed, &Request::new(Op::MetaDelete, b"k"), &Reply::line(Status::Exists, b"EX"));
        assert!(kept.0.borrow().is_empty());
        answered(&fed, &delete, &Reply { accepted: Some(b"DELETED"), ..failed });
        assert_eq!(kept.0.borrow().len(), 1);
    }

    #[test]
    fn what_came_from_a_feed_is_not_told_again() {
        let (kept, fed) = fed(false);
        for key in [&b"k"[..], b"k k"] {
            with_relayed(key, |request| {
                let waiting = answered(&fed, request, &Reply::line(Status::Deleted, b"HD"));
                assert_eq!(waiting.reply().as_deref(), Some("HD"));
            });
        }
        assert!(kept.0.borrow().is_empty());
    }

    #[test]
    fn a_set_that_is_over_at_once_is_told_where_it_counts_as_a_delete() {
        for (negative_exptime, exptime, count) in [(true, -1, 1), (true, 0, 0), (false, -1, 0)] {
            let (kept, fed) = fed(negative_exptime);
            let set = Request { exptime, ..Request::new(Op::Set, b"k") };
            answered(&fed, &set, &Reply::line(Status::Stored, b"STORED"));
            assert_eq!(kept.0.borrow().len(), count);
        }
    }
}
