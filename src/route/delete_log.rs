//! Deletes that a server could not be told of, and what else of that server must not be believed meanwhile.
//!
//! [`Logged`] stands before one server's leaf, so every route above has it, whatever it is. A delete that fails is given to
//! the [`DeleteLog`]; the client is answered when that has it safely. From then on, until the log has delivered it, the
//! server may show what was deleted, so nothing that it has under this key is looked at:
//!
//! | operation on a key whose delete is pending | what becomes of it |
//! |---|---|
//! | reads (`get` … `gats`, `mg`, `me`) | a miss; while the server is out a failure, so that routes ask others |
//! | `set`, `ms` without conditions | as ever; when it is stored the pending delete is cancelled |
//! | everything else | the delete is sent in front of it on the same connection |
//! | `delete`, `md` | as ever |
//!
//! This file knows no file and no thread: `spool/` does. A server without pending deletes costs a look at one number.

use super::failure::Failures;
use super::slot::is_awaited_in;
use super::{Call, Explained, Kind, Leaf, Route, Sink, Slot, rekey};
use crate::protocol::{
    Cause, Class, Keys, Meta, MultiGet, Op, OwnedRequest, Reply, Request, Status, answer, letter_bit,
};
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::oneshot;

/// Keeps the deletes of one server.
pub trait DeleteLog {
    /// Nothing is pending: then no key has to be looked up.
    fn is_empty(&self) -> bool;

    /// The delete of this key that is pending, if any.
    fn mark(&self, key: &[u8]) -> Option<Mark>;

    /// The server has something newer than this very delete.
    fn cancel(&self, key: &[u8], mark: Mark);

    /// Takes a delete over. `then` is called once it is safe, or cannot be kept.
    fn take(&self, key: &[u8], then: Taken);
}

/// Hears whether a delete is kept.
pub type Taken = Box<dyn FnOnce(Result<(), Refused>)>;

/// One pending delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub number: u64,
    /// What was on its way to the server before this delete has arrived there: what is stored now is newer.
    pub may_cancel: bool,
}

/// A delete could not be kept: what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

/// What is a delete, and what is said of one that was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedTerms {
    /// [`Status::Deleted`] or [`Status::NotFound`].
    pub answer: Status,
    /// Routes above see the failure, so that they can ask others as well; otherwise they see the answer.
    pub fails_over: bool,
    /// `touch`, `set` and `ms` with a negative time are deletes too.
    pub negative_exptime: bool,
    /// Of the pool: failed gets are told to clients as misses.
    pub miss_on_error: bool,
}

/// A leaf whose failed deletes are kept.
pub struct Logged {
    inner: Rc<dyn Leaf>,
    log: Rc<dyn DeleteLog>,
    terms: LoggedTerms,
}

impl Logged {
    #[must_use]
    pub fn new(inner: Rc<dyn Leaf>, log: Rc<dyn DeleteLog>, terms: LoggedTerms) -> Self {
        Self { inner, log, terms }
    }

    fn delete(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let mark = if self.log.is_empty() { None } else { self.log.mark(request.key) };
        let kept = Kept {
            request: OwnedRequest::new(request),
            slot,
            log: Rc::clone(&self.log),
            terms: self.terms,
            mark,
        };
        self.inner.send(request, call, Slot::new(Rc::new(Failing(Cell::new(Some(kept)))), 0));
    }

    /// A request for a key whose delete is pending.
    #[cold]
    fn marked(&self, request: &Request<'_>, call: &Call, slot: Slot, mark: Mark) {
        if self.inner.is_out() {
            return self.fail(slot);
        }
        let is_read = request.op.class() == Class::GetLike || request.op == Op::MetaDebug;
        if is_read {
            return answer::reply_with(request, Status::Miss, |reply| slot.fill(reply));
        }
        if !overwrites(request) {
            let refused = Rc::new(Cell::new(false));
            let in_front = Slot::new(Rc::new(Front(Rc::clone(&refused))), 0);
            with_delete(request.key, |delete| self.inner.send(delete, call, in_front));
            if refused.get() {
                return self.fail(slot);
            }
        }
        let makes_new = overwrites(request) || request.op == Op::Add;
        if !(makes_new && mark.may_cancel) {
            return self.inner.send(request, call, slot);
        }
        let newer =
            Newer { key: request.key.into(), mark, log: Rc::clone(&self.log), slot: Cell::new(Some(slot)) };
        self.inner.send(request, call, Slot::new(Rc::new(newer), 0));
    }

    fn fail(&self, slot: Slot) {
        slot.fill(&Reply { miss_on_error: self.terms.miss_on_error, ..Reply::failed(Cause::Tko) });
    }
}

impl Route for Logged {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let is_kept = call.kind != Kind::Shadow && !call.is_unlogged;
        if is_kept && is_delete(request, self.terms.negative_exptime) {
            return self.delete(request, call, slot);
        }
        match if self.log.is_empty() { None } else { self.log.mark(request.key) } {
            None => self.inner.send(request, call, slot),
            Some(mark) => self.marked(request, call, slot, mark),
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.inner.explain(request)
    }
}

impl Leaf for Logged {
    /// Keys whose deletes are pending are left out.
    fn send_multi(&self, request: &MultiGet<'_>, call: &Call, slot: Slot) {
        if self.log.is_empty() {
            return self.inner.send_multi(request, call, slot);
        }
        let is_shown = |index: &usize| self.log.mark(request.keys.key(*index)).is_none();
        let places: Vec<usize> = (0..request.keys.len()).filter(is_shown).collect();
        if places.len() == request.keys.len() {
            return self.inner.send_multi(request, call, slot);
        }
        if self.inner.is_out() {
            return self.fail(slot);
        }
        if places.is_empty() {
            return slot.fill(&Reply::line(Status::Ok, b""));
        }
        let ranges: Vec<(u32, u32)> =
            places.iter().filter_map(|place| request.keys.ranges.get(*place).copied()).collect();
        let shown = MultiGet { keys: Keys { text: request.keys.text, ranges: &ranges }, ..*request };
        let renumbered = Renumbered { places, slot: Cell::new(Some(slot)) };
        self.inner.send_multi(&shown, call, Slot::new(Rc::new(renumbered), 0));
    }

    fn is_tree(&self) -> bool {
        self.inner.is_tree()
    }

    fn flush_all(&self, delay: i32, slot: Slot) {
        self.inner.flush_all(delay, slot);
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn warm(&self) -> Option<oneshot::Receiver<()>> {
        self.inner.warm()
    }

    fn is_out(&self) -> bool {
        self.inner.is_out()
    }

    fn keeps(&self, request: &Request<'_>) -> bool {
        is_delete(request, self.terms.negative_exptime)
    }

    fn changes(&self) -> u64 {
        self.inner.changes()
    }
}

/// Calls `send` with a delete of this key, in base64 where it cannot be written otherwise.
pub fn with_delete(key: &[u8], send: impl FnOnce(&Request<'_>)) {
    if rekey::is_sendable(key, false) {
        return send(&Request::new(Op::Delete, key));
    }
    let mut request = Request::new(Op::MetaDelete, key);
    request.meta = Meta { flags: b"b", letters: letter_bit(b'b'), token_count: 3, ..Meta::EMPTY };
    rekey::with_key(&request, key, |request, _| send(request));
}

/// Whether it makes sure that what was under the key is not shown any more.
pub(super) fn is_delete(request: &Request<'_>, with_negative_exptime: bool) -> bool {
    match request.op {
        Op::Delete | Op::MetaDelete => true,
        Op::Touch | Op::Set => with_negative_exptime && request.exptime < 0,
        Op::MetaSet => {
            let is_negative = |time: &[u8]| time.starts_with(b"-");
            with_negative_exptime
                && overwrites(request)
                && request.meta.token_of(b'T').is_some_and(is_negative)
        }
        _ => false,
    }
}

/// Whether this answer to a delete says that what was there before is not shown any more: not when its condition did not hold,
/// nor when it only marked the item.
fn leaves_nothing_old(request: &Request<'_>, status: Status) -> bool {
    match status {
        Status::Deleted => !(request.meta.has(b'I') || request.meta.has(b'x')),
        Status::NotFound | Status::Touched | Status::Stored => true,
        _ => false,
    }
}

/// Whether it stores, whatever was there before.
fn overwrites(request: &Request<'_>) -> bool {
    let meta = &request.meta;
    match request.op {
        Op::Set => true,
        Op::MetaSet => {
            let is_set =
                meta.token_of(b'M').is_none_or(|mode| mode.is_empty() || mode.eq_ignore_ascii_case(b"S"));
            is_set && !meta.has(b'C') && !meta.has(b'I')
        }
        _ => false,
    }
}

/// A delete that may fail.
struct Kept {
    request: OwnedRequest,
    slot: Slot,
    log: Rc<dyn DeleteLog>,
    terms: LoggedTerms,
    /// Of an earlier one.
    mark: Option<Mark>,
}

/// Waits for what the server says to a delete.
struct Failing(Cell<Option<Kept>>);

impl Sink for Failing {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.0, |kept| &kept.slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        let Some(kept) = self.0.take() else { return };
        // Nobody will answer: the worker ends, and its connections with it. The log takes this one still.
        let is_aborted = reply.status == Status::Failed(Cause::Aborted);
        if !(Failures::FAILOVER.has(reply) || is_aborted) {
            let request = kept.request.as_request();
            let is_gone = || leaves_nothing_old(&request, reply.status);
            if let Some(mark) = kept.mark.filter(|mark| mark.may_cancel && is_gone()) {
                kept.log.cancel(request.key, mark);
            }
            return kept.slot.fill(reply);
        }
        let (cause, line) = (reply.status, reply.line.to_vec());
        let Kept { request, slot, log, terms, .. } = kept;
        let told = request.clone();
        let then = Box::new(move |taken: Result<(), Refused>| match taken {
            Ok(()) => tell_accepted(&told.as_request(), terms, &Reply::line(cause, &line), slot),
            // No failure of a server: who asks another one now would hide that this one was not told.
            Err(Refused(line)) => slot.fill(&Reply::line(Status::Failed(Cause::Aborted), line.as_bytes())),
        });
        log.take(request.as_request().key, then);
    }
}

fn tell_accepted(request: &Request<'_>, terms: LoggedTerms, failure: &Reply<'_>, slot: Slot) {
    let status = match request.op {
        Op::Set | Op::MetaSet => Status::Stored,
        Op::Touch if terms.answer == Status::Deleted => Status::Touched,
        _ => terms.answer,
    };
    answer::reply_with(request, status, |reply| {
        if terms.fails_over {
            slot.fill(&Reply { accepted: Some(reply.line), ..*failure });
        } else {
            slot.fill(reply);
        }
    });
}

/// The reply to a delete that was put in front of a request. Whether it worked is told by the log's own delivery; one that
/// was not even queued keeps the request behind it from going.
struct Front(Rc<Cell<bool>>);

impl Sink for Front {
    fn is_waiting(&self) -> bool {
        true
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        self.0.set(reply.status.is_error());
    }
}

/// A request that makes the pending delete needless if it is stored.
struct Newer {
    key: Box<[u8]>,
    mark: Mark,
    log: Rc<dyn DeleteLog>,
    slot: Cell<Option<Slot>>,
}

impl Sink for Newer {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.slot, |slot| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        let Some(slot) = self.slot.take() else { return };
        if reply.status == Status::Stored {
            self.log.cancel(&self.key, self.mark);
        }
        slot.fill(reply);
    }
}

/// A get of some of the keys that were asked for.
struct Renumbered {
    /// Where each of those that are asked for stands in the client's list.
    places: Vec<usize>,
    slot: Cell<Option<Slot>>,
}

impl Sink for Renumbered {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.slot, |slot| slot)
    }

    fn hit(&self, _token: u64, index: usize, reply: &Reply<'_>) {
        let (slot, place) = (self.slot.take(), self.places.get(index));
        if let (Some(slot), Some(place)) = (&slot, place) {
            slot.hit(*place, reply);
        }
        self.slot.set(slot);
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        if let Some(slot) = self.slot.take() {
            slot.fill(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Say, Scripted, Waiting};
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// Keeps in memory what a spool would write.
    #[derive(Default)]
    struct Kept {
        marks: RefCell<BTreeMap<Vec<u8>, Mark>>,
        is_full: Cell<bool>,
        waiting: RefCell<Vec<Taken>>,
    }

    impl DeleteLog for Kept {
        fn is_empty(&self) -> bool {
            self.marks.borrow().is_empty()
        }

        fn mark(&self, key: &[u8]) -> Option<Mark> {
            self.marks.borrow().get(key).copied()
        }

        fn cancel(&self, key: &[u8], mark: Mark) {
            self.marks.borrow_mut().retain(|known, own| known != key || *own != mark);
        }

        fn take(&self, key: &[u8], then: Taken) {
            if self.is_full.get() {
                return then(Err(Refused("SERVER_ERROR the spool is full")));
            }
            self.marks.borrow_mut().insert(key.to_vec(), Mark { number: 1, may_cancel: true });
            self.waiting.borrow_mut().push(then);
        }
    }

    impl Kept {
        fn written(&self) {
            self.waiting.take().into_iter().for_each(|then| then(Ok(())));
        }
    }

    const TERMS: LoggedTerms = LoggedTerms {
        answer: Status::Deleted,
        fails_over: true,
        negative_exptime: false,
        miss_on_error: false,
    };

    fn logged(terms: LoggedTerms, says: Vec<Say>) -> (Rc<Scripted>, Rc<Kept>, Logged) {
        let (server, log) = (Scripted::new("a", says), Rc::new(Kept::default()));
        let leaf =
            Logged::new(Rc::clone(&server) as Rc<dyn Leaf>, Rc::clone(&log) as Rc<dyn DeleteLog>, terms);
        (server, log, leaf)
    }

    fn ask(leaf: &Logged, request: &Request<'_>) -> Rc<Waiting> {
        let (waiting, slot) = Waiting::slot();
        leaf.send(request, &Call::default(), slot);
        waiting
    }

    fn said(leaf: &Logged, op: Op) -> Option<String> {
        ask(leaf, &Request::new(op, b"k")).reply()
    }

    #[test]
    fn the_client_waits_until_a_failed_delete_is_safe() {
        let (_, log, leaf) = logged(TERMS, vec![Say::Fail(Cause::Timeout)]);
        let waiting = ask(&leaf, &Request::new(Op::Delete, b"k"));
        assert_eq!(waiting.reply(), None);
        log.written();
        assert_eq!(waiting.reply().as_deref(), Some("SERVER_ERROR Reply timeout"), "routes see the failure");
    }

    #[test]
    fn a_way_that_wants_no_log_sees_the_failure() {
        let (_, log, leaf) = logged(TERMS, vec![Say::Fail(Cause::Timeout)]);
        let way = super::super::unlogged::Unlogged(Rc::new(leaf));
        let (waiting, slot) = Waiting::slot();
        way.send(&Request::new(Op::Delete, b"k"), &Call::default(), slot);
        assert_eq!(waiting.reply().as_deref(), Some("SERVER_ERROR Reply timeout"));
        assert!(log.is_empty());
    }

    #[test]
    fn mcrouters_answer_hides_the_failure() {
        let terms = LoggedTerms { answer: Status::NotFound, fails_over: false, ..TERMS };
        let (_, log, leaf) = logged(terms, vec![Say::Line(Status::ErrorLine, "SERVER_ERROR out of memory")]);
        let waiting = ask(&leaf, &Request::new(Op::Delete, b"k"));
        log.written();
        assert_eq!(waiting.reply().as_deref(), Some("NOT_FOUND"));
    }

    #[test]
    fn what_is_no_failure_of_the_server_is_not_kept() {
        let says =
            vec![Say::Line(Status::NotFound, "NOT_FOUND"), Say::Line(Status::ErrorLine, "CLIENT_ERROR bad")];
        let (_, log, leaf) = logged(TERMS, says);
        for wanted in ["NOT_FOUND", "CLIENT_ERROR bad"] {
            assert_eq!(said(&leaf, Op::Delete).as_deref(), Some(wanted));
        }
        assert!(log.is_empty());
    }

    #[test]
    fn what_is_on_its_way_when_the_worker_ends_is_kept() {
        let (_, log, leaf) = logged(TERMS, vec![Say::Fail(Cause::Aborted)]);
        let waiting = ask(&leaf, &Request::new(Op::Delete, b"k"));
        assert!(!log.is_empty());
        log.written();
        assert!(waiting.reply().is_some());
    }

    #[test]
    fn a_shadow_is_nobodys_loss() {
        let (_, log, leaf) = logged(TERMS, vec![Say::Fail(Cause::Tko)]);
        let (waiting, slot) = Waiting::slot();
        let call = Call { kind: Kind::Shadow, ..Call::default() };
        leaf.send(&Request::new(Op::Delete, b"k"), &call, slot);
        assert!(waiting.reply().is_some_and(|line| line.starts_with("SERVER_ERROR")) && log.is_empty());
    }

    #[test]
    fn without_room_the_client_is_told() {
        let (_, log, leaf) = logged(TERMS, vec![Say::Fail(Cause::Tko)]);
        log.is_full.set(true);
        assert_eq!(said(&leaf, Op::Delete).as_deref(), Some("SERVER_ERROR the spool is full"));
    }

    /// A leaf with a pending delete of `k`.
    fn pending(says: Vec<Say>) -> (Rc<Scripted>, Rc<Kept>, Logged) {
        let (server, log, leaf) = logged(TERMS, says);
        log.marks.borrow_mut().insert(b"k".to_vec(), Mark { number: 7, may_cancel: true });
        (server, log, leaf)
    }

    #[test]
    fn what_was_deleted_is_not_read() {
        let (server, _, leaf) = pending(vec![Say::Hit("other")]);
        for op in [Op::Get, Op::Gets, Op::Gat, Op::Gats] {
            assert_eq!(said(&leaf, op).as_deref(), Some(""), "{op:?}");
        }
        let mut request = Request::new(Op::MetaGet, b"k");
        request.meta =
            Meta { token: b"k", flags: b"v Oxy k", opaque: Some(b"xy"), token_count: 5, ..Meta::EMPTY };
        assert_eq!(ask(&leaf, &request).reply().as_deref(), Some("EN Oxy kk"));
        assert!(server.heard().is_empty(), "the server is not even asked");
        assert_eq!(ask(&leaf, &Request::new(Op::Get, b"o")).reply().as_deref(), Some("VALUE o 0 5|other"));
        server.set_out(true);
        assert_eq!(said(&leaf, Op::Get).as_deref(), Some("SERVER_ERROR unavailable"), "routes ask others");
    }

    #[test]
    fn what_is_stored_is_newer_and_what_is_not_is_not() {
        let stored = || Say::Line(Status::Stored, "STORED");
        let (_, log, leaf) = pending(vec![Say::Line(Status::ErrorLine, "SERVER_ERROR no"), stored()]);
        assert_eq!(said(&leaf, Op::Set).as_deref(), Some("SERVER_ERROR no"));
        assert!(!log.is_empty());
        assert_eq!(said(&leaf, Op::Set).as_deref(), Some("STORED"));
        assert!(log.is_empty());
        // a set that was sent before what is on its way has arrived proves nothing
        let (_, log, leaf) = pending(vec![stored()]);
        log.marks.borrow_mut().insert(b"k".to_vec(), Mark { number: 7, may_cancel: false });
        said(&leaf, Op::Set);
        assert!(!log.is_empty());
    }

    #[test]
    fn what_builds_on_the_old_value_gets_the_delete_in_front() {
        let deleted = || Say::Line(Status::Deleted, "DELETED");
        let (server, log, leaf) = pending(vec![
            deleted(),
            Say::Line(Status::NotFound, "NOT_FOUND"),
            deleted(),
            Say::Line(Status::NotStored, "NOT_STORED"),
            deleted(),
            Say::Line(Status::Stored, "STORED"),
        ]);
        assert_eq!(said(&leaf, Op::Incr).as_deref(), Some("NOT_FOUND"));
        assert_eq!(said(&leaf, Op::Append).as_deref(), Some("NOT_STORED"));
        assert!(!log.is_empty());
        assert_eq!(said(&leaf, Op::Add).as_deref(), Some("STORED"));
        assert!(log.is_empty(), "an add that is stored is newer");
        let heard = server.heard();
        assert_eq!(heard[..3], ["delete k", "incr k 0", "delete k"]);
    }

    #[test]
    fn a_request_does_not_go_when_the_delete_in_front_cannot() {
        let (server, _, leaf) = pending(vec![Say::Fail(Cause::QueueFull)]);
        assert_eq!(said(&leaf, Op::Incr).as_deref(), Some("SERVER_ERROR unavailable"));
        assert_eq!(server.heard(), ["delete k"]);
    }

    #[test]
    fn a_delete_that_works_makes_the_pending_one_needless() {
        let (_, log, leaf) = pending(vec![Say::Line(Status::NotFound, "NOT_FOUND")]);
        assert_eq!(said(&leaf, Op::Delete).as_deref(), Some("NOT_FOUND"));
        assert!(log.is_empty());
    }

    #[test]
    fn a_delete_that_deletes_nothing_leaves_the_pending_one() {
        let meta = |op, flags: &'static [u8], letters| {
            let token_count = 3;
            Request {
                meta: Meta { token: b"k", flags, letters, token_count, ..Meta::EMPTY },
                ..Request::new(op, b"k")
            }
        };
        for (request, says) in [
            (meta(Op::MetaDelete, b"C9", letter_bit(b'C')), Say::Line(Status::Exists, "EX")),
            (meta(Op::MetaDelete, b"I", letter_bit(b'I')), Say::Line(Status::Deleted, "HD")),
            (meta(Op::MetaDelete, b"x", letter_bit(b'x')), Say::Line(Status::Deleted, "HD")),
        ] {
            let (_, log, leaf) = pending(vec![says]);
            assert!(ask(&leaf, &request).reply().is_some());
            assert!(!log.is_empty(), "{request:?}");
        }
        let adds = Request {
            meta: Meta { flags: b"T-1 MA", letters: letter_bit(b'T') | letter_bit(b'M'), ..Meta::EMPTY },
            ..Request::new(Op::MetaSet, b"k")
        };
        assert!(!is_delete(&adds, true), "what is there stays there");
    }

    #[test]
    fn negative_times_are_deletes_where_that_is_wanted() {
        let mut touch = Request::new(Op::Touch, b"k");
        touch.exptime = -1;
        assert!(!is_delete(&touch, false) && is_delete(&touch, true));
        assert!(!is_delete(&Request::new(Op::Touch, b"k"), true));
        let mut set = Request::new(Op::MetaSet, b"k");
        set.meta = Meta { flags: b"T-1", letters: letter_bit(b'T'), ..Meta::EMPTY };
        assert!(is_delete(&set, true) && !is_delete(&set, false));
    }

    #[test]
    fn a_key_that_cannot_be_written_goes_in_base64() {
        let line = |key: &[u8]| {
            let mut out = crate::protocol::WireBuf::new();
            with_delete(key, |request| match request.op {
                Op::Delete => crate::protocol::ascii::write_request(request, &mut out),
                _ => drop(crate::protocol::meta::write_request(request, None, &mut out)),
            });
            String::from_utf8(out.single().unwrap().to_vec()).unwrap()
        };
        assert_eq!(line(b"plain\xff"[..5].into()), "delete plain\r\n");
        assert_eq!(line(b"a b\0"), "md YSBiAA== b\r\n");
    }
}
