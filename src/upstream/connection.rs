//! What one connection to a server has queued and how it is answered: requests of all clients go out in batches,
//! replies come back in order.
//!
//! ```text
//!  sessions ── send ──► out (bytes) + inflight (who waits) ──► one write per turn ──► server
//!  sessions ◄─ fill ─── slot of the oldest request ◄────────── one read per turn ◄────┘
//! ```
//! A connection object outlives its sockets (`life.rs`): while there is none, requests queue up (and one attempt
//! to connect is under way) or fail at once (the server is knocked out).

use super::bulk::Bulk;
use super::dialect::Dialect;
use super::inflight::{Asked, Check, Entry, Inflight, New};
use super::probe;
use super::terms::{Shared, Terms};
use crate::health::{Behind, Prober, Reason};
use crate::protocol::{
    Cause, Class, Found, MultiGet, Op, Reply, Request, SHARED_BYTES_MIN, Status, Values, WireBuf, ascii, meta,
};
use crate::route::{Call, Moves, Slot};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(super) struct Connection {
    pub(super) terms: Rc<Terms>,
    pub(super) shared: Shared,
    pub(super) state: RefCell<State>,
    pub(super) waker: RefCell<Option<Waker>>,
    /// The task has been woken and has not run yet.
    pub(super) awake: Cell<bool>,
    /// What the byte budget knows of this connection.
    pub(super) accounted: Cell<usize>,
    /// Those of it that the reader holds.
    read_bytes: Cell<usize>,
    /// What the server's counters know of the requests that wait here.
    counted: Cell<u64>,
    /// And the worker's of those that nobody waited for from the beginning.
    counted_copies: Cell<u64>,
    /// How the server reads. `None`: nobody has seen it yet.
    pub(super) dialect: Cell<Option<Dialect>>,
    /// What it must read at least if all that waits for the first look is to be sent.
    pub(super) awaited_dialect: Cell<Dialect>,
    /// When the server last said something on it.
    pub(super) heard_at: Cell<Instant>,
    /// When trouble with this server was last logged.
    pub(super) logged: Cell<Option<Instant>>,
    /// Not a byte has come since the connection had nothing to do.
    pub(super) quiet_since_idle: Cell<bool>,
    /// A request was answered, and with no error, since this was last looked at.
    pub(super) answered: Cell<bool>,
    /// Nobody will send anything any more: it ends when all that was asked is answered.
    pub(super) retired: Cell<bool>,
    /// Bytes of values that came for the request at the front when nobody waited for them any more.
    pub(super) passed_over_bytes: Cell<usize>,
    /// Somebody wants it to be open before anything is asked; dropped when it is, or cannot be.
    pub(super) warming: RefCell<Option<oneshot::Sender<()>>>,
    /// As long as the oldest reply is overdue.
    behind: RefCell<Option<Behind>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) out: WireBuf,
    pub(super) inflight: Inflight,
    /// What moves much and has to wait until less of the kind is on the connection.
    pub(super) bulk: Bulk,
    /// The next number for requests that need an opaque of ours.
    pub(super) opaque: u32,
    /// Request lines are put together here for the inflight queue.
    pub(super) line: WireBuf,
}

impl State {
    /// Requests that are not answered, sent or not.
    pub(super) fn count(&self) -> usize {
        self.inflight.len() + self.bulk.waiting().len()
    }

    /// Those of them for which nobody ever waited.
    const fn copies_count(&self) -> usize {
        self.inflight.copies_count() + self.bulk.waiting().copies_count()
    }

    /// The deadline of the oldest request that is still waited for.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let (sent, waiting) = (self.inflight.next_deadline(), self.bulk.waiting().next_deadline());
        sent.into_iter().chain(waiting).min()
    }

    fn held_bytes(&self) -> usize {
        self.out.held_bytes() + self.inflight.held_bytes() + self.bulk.held_bytes()
    }
}

impl Connection {
    pub(super) fn new(terms: Rc<Terms>, shared: Shared) -> Self {
        Self {
            terms,
            shared,
            state: RefCell::default(),
            waker: RefCell::new(None),
            awake: Cell::new(false),
            accounted: Cell::new(0),
            counted: Cell::new(0),
            counted_copies: Cell::new(0),
            read_bytes: Cell::new(0),
            dialect: Cell::new(None),
            awaited_dialect: Cell::new(Dialect::Classic),
            heard_at: Cell::new(Instant::now()),
            logged: Cell::new(None),
            quiet_since_idle: Cell::new(true),
            answered: Cell::new(false),
            retired: Cell::new(false),
            passed_over_bytes: Cell::new(0),
            warming: RefCell::new(None),
            behind: RefCell::new(None),
        }
    }

    /// Its last owner is gone.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.wake();
    }

    /// Connects, though nothing is asked yet; what is returned ends with the attempt.
    pub(super) fn warm(&self) -> oneshot::Receiver<()> {
        let (tell, ended) = oneshot::channel();
        *self.warming.borrow_mut() = Some(tell);
        self.wake();
        ended
    }

    pub(super) fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let may_be_dropped = request.op.class() != Class::DeleteLike;
        let Some(slot) = self.admit(slot, request.value.len(), may_be_dropped) else { return };
        if self.is_old() && !self.may_read(Dialect::needed_for(request)) {
            return self.refuse(Dialect::needed_for(request), slot);
        }
        let mut state = self.state.borrow_mut();
        let State { out, inflight, bulk, opaque, line } = &mut *state;
        let is_read = matches!(request.op, Op::Get | Op::Gets);
        let keys = std::iter::once(request.key);
        let (bulk_bytes, unknown_keys) = self.expected(call.moves);
        let has_to_wait = bulk.has_to_wait(keys.clone(), bulk_bytes, self.has_bulk_room(inflight));
        let (out, inflight) =
            if has_to_wait { bulk.begin(keys, is_read, bulk_bytes) } else { (out, inflight) };
        out.begin_message();
        let before = out.len();
        let mut check = Check::Kind;
        let mut repeatable = false;
        line.clear();
        if request.op.is_meta() {
            let own = *opaque;
            if meta::write_request(request, Some(own), out) {
                *opaque = own.wrapping_add(1);
                check = Check::OwnOpaque(own);
            } else if let Some(given) = request.meta.opaque {
                line.put(given);
                check = Check::Opaque { start: 0 };
            } else if request.op == Op::MetaDebug && !request.meta.has(b'b') {
                line.put(request.key);
                check = Check::Keys { start: 0 };
            }
        } else if request.op.is_classic_get() {
            // The line is "<op> [exptime ]<key>": kept to check the key, and to be sent again.
            ascii::write_request(request, line);
            out.put(line.single().unwrap_or_default());
            let start = line.len() - 2 - request.key.len();
            check = Check::Keys { start: u32::try_from(start).unwrap_or(0) };
            repeatable = is_read;
        } else {
            ascii::write_request(request, out);
        }
        let size = out.len() - before;
        let kept = line.single().unwrap_or_default();
        let kept = kept.strip_suffix(b"\r\n").unwrap_or(kept);
        let new = New {
            asked: Asked::One(request.op),
            check,
            deadline: self.deadline(),
            resent: false,
            repeatable,
            line: kept,
            shared: None,
            size,
            bulk_bytes,
            unknown_keys,
            waited: has_to_wait,
        };
        self.enqueue(inflight, new, slot);
        self.account(&state);
    }

    pub(super) fn send_multi(&self, request: &MultiGet<'_>, call: &Call, slot: Slot) {
        let Some(slot) = self.admit(slot, request.keys.text.len(), true) else { return };
        if self.is_old() && !self.may_read(Dialect::needed_for_multi(request)) {
            return self.refuse(Dialect::needed_for_multi(request), slot);
        }
        let mut state = self.state.borrow_mut();
        let State { out, inflight, bulk, line, .. } = &mut *state;
        let (bulk_bytes, unknown_keys) = self.expected(call.moves);
        let is_read = matches!(request.op, Op::Get | Op::Gets);
        let keys = request.keys.iter();
        let has_to_wait = bulk.has_to_wait(keys.clone(), bulk_bytes, self.has_bulk_room(inflight));
        let (out, inflight) =
            if has_to_wait { bulk.begin(keys, is_read, bulk_bytes) } else { (out, inflight) };
        out.begin_message();
        line.clear();
        ascii::write_multi_get(request, line);
        let kept = line.single().unwrap_or_default();
        let size = kept.len();
        let mut shared = None;
        if size < SHARED_BYTES_MIN {
            out.put(kept);
        } else {
            // One copy of a long list of keys, for writing and for checking the reply.
            let mut whole = Bytes::copy_from_slice(kept);
            out.put_lent(whole.clone());
            whole.truncate(size - 2); // without its line end
            shared = Some(whole);
        }
        let kept = kept.strip_suffix(b"\r\n").unwrap_or(kept);
        // "<op> " or "<op> <exptime> " comes before the keys.
        let mut start = request.op.name().len() + 1;
        if matches!(request.op, Op::Gat | Op::Gats) {
            start += itoa::Buffer::new().format(request.exptime).len() + 1;
        }
        let new = New {
            asked: Asked::Multi(request.op),
            check: Check::Keys { start: u32::try_from(start).unwrap_or(0) },
            deadline: self.deadline(),
            resent: false,
            repeatable: is_read,
            line: kept,
            shared,
            size,
            bulk_bytes,
            unknown_keys,
            waited: has_to_wait,
        };
        self.enqueue(inflight, new, slot);
        line.clear();
        self.account(&state);
    }

    pub(super) fn flush_all(&self, delay: i32, slot: Slot) {
        let Some(slot) = self.admit(slot, 0, false) else { return };
        let mut state = self.state.borrow_mut();
        let State { out, inflight, bulk, .. } = &mut *state;
        // it is about all keys: whatever waits has come before it
        let has_to_wait = !bulk.waiting().is_empty();
        let (out, inflight) = if has_to_wait { bulk.begin_for_all() } else { (out, inflight) };
        out.begin_message();
        let before = out.len();
        out.put(b"flush_all ");
        out.put_number(u64::from(delay.max(0).unsigned_abs()));
        out.put(b"\r\n");
        let size = out.len() - before;
        let new = New {
            asked: Asked::FlushAll,
            check: Check::Kind,
            deadline: self.deadline(),
            resent: false,
            repeatable: false,
            line: &[],
            shared: None,
            size,
            bulk_bytes: 0,
            unknown_keys: 0,
            waited: has_to_wait,
        };
        self.enqueue(inflight, new, slot);
        self.account(&state);
    }

    /// Whether a request of so many bytes, its key and a few words aside, may be queued now; if not, it is answered.
    ///
    /// What nobody waits for slows nobody down who sends it: copies for a shadow that hangs would fill the queue. So they leave half
    /// of it to what somebody waits for; but deletes are not dropped while there is room.
    fn admit(&self, slot: Slot, bytes: usize, may_be_dropped: bool) -> Option<Slot> {
        let (count, count_max) = (self.state.borrow().count(), self.terms.outstanding_count_max);
        let is_half_full = count >= count_max.div_ceil(2);
        if count >= count_max || (is_half_full && may_be_dropped && !slot.is_awaited()) {
            self.shared.counters.server_queue_full.add(1);
            let text = format!(
                "SERVER_ERROR Max pending requests ({}) reached for destination \"{}\".",
                self.terms.outstanding_count_max, self.terms.label
            );
            self.tell(slot, &Reply::line(Status::Failed(Cause::QueueFull), text.as_bytes()));
            return None;
        }
        let budget = &self.shared.budget;
        let is_large = bytes >= SHARED_BYTES_MIN;
        if !(if is_large { budget.make_room() } else { budget.make_little_room() }) {
            self.shared.counters.server_queue_full.add(1);
            let text = b"SERVER_ERROR Max pending bytes reached: memory is short.";
            self.tell(slot, &Reply::line(Status::Failed(Cause::QueueFull), text));
            return None;
        }
        if let Some(reason) = self.terms.tko.reason() {
            self.tell_tko(slot, reason);
            return None;
        }
        Some(slot)
    }

    /// Whether the server may read something otherwise than we mean it.
    fn is_old(&self) -> bool {
        self.dialect.get() != Some(Dialect::Today)
    }

    /// Whether it reads what needs this. As long as nobody knows, such a request is queued, and fails when it does not.
    #[cold]
    fn may_read(&self, needed: Dialect) -> bool {
        match self.dialect.get() {
            Some(dialect) => dialect >= needed,
            None => {
                self.awaited_dialect.set(self.awaited_dialect.get().max(needed));
                true
            }
        }
    }

    #[cold]
    fn refuse(&self, needed: Dialect, slot: Slot) {
        // it may be a newer one by now: without a connection nobody would see it
        drop(self.warm());
        slot.fill(&Reply::line(Status::ErrorLine, needed.refusal()));
    }

    /// Nothing is sent to a server that is knocked out.
    #[cold]
    fn tell_tko(&self, slot: Slot, reason: Reason) {
        self.shared.counters.server_tko_requests.add(1);
        self.probe(self.terms.tko.adopt());
        self.tell(slot, &Reply::line(Status::Failed(Cause::Tko), reason.line().as_bytes()));
    }

    /// Sees to the server if that is for us to do.
    pub(super) fn probe(&self, prober: Option<Prober>) {
        if let Some(prober) = prober {
            probe::spawn(prober, Rc::clone(&self.terms), self.shared.clone());
        }
    }

    /// When a request that is queued now has waited long enough.
    fn deadline(&self) -> Instant {
        Instant::now() + self.terms.timeout
    }

    /// Bytes that a request is expected to move, where that is much, else 0; and by how many keys that is reckoned where
    /// nobody knows it.
    fn expected(&self, moves: Moves) -> (usize, u32) {
        match moves {
            Moves::Little => (0, 0),
            Moves::Much(bytes) => (bytes, 0),
            Moves::Unknown(keys) => {
                (self.shared.first_replies.expected_bytes(keys), u32::try_from(keys).unwrap_or(u32::MAX))
            }
        }
    }

    /// Whether more that moves much may go on the connection now.
    fn has_bulk_room(&self, inflight: &Inflight) -> bool {
        inflight.has_bulk_room(self.shared.bulk_bytes_max.get())
    }

    /// `queue`: the connection's own, or of those that wait in front of it. Only the former tells that it has nothing to do.
    fn enqueue(&self, queue: &mut Inflight, new: New<'_>, slot: Slot) {
        if !new.waited && queue.is_empty() {
            self.quiet_since_idle.set(true);
        }
        queue.push(new, slot);
        self.wake();
    }

    #[inline]
    pub(super) fn wake(&self) {
        if !self.awake.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Tells the byte budget what is held now, the counters what waits, and the server's health what is late.
    pub(super) fn account(&self, state: &State) {
        if state.inflight.late() > 0 || self.behind.borrow().is_some() {
            self.account_late(state);
        }
        let waiting = state.count() as u64;
        let more = waiting.wrapping_sub(self.counted.replace(waiting));
        self.terms.traffic.outstanding.add(more);
        self.shared.counters.server_outstanding.add(more);
        let copies = state.copies_count() as u64;
        self.shared.counters.server_copies.add(copies.wrapping_sub(self.counted_copies.replace(copies)));
        let now = state.held_bytes() + self.read_bytes.get();
        self.shared.budget.change(self.accounted.replace(now), now);
    }

    /// Tells the server's health whether the connection is behind.
    #[cold]
    fn account_late(&self, state: &State) {
        let is_behind = state.inflight.is_behind();
        let mut behind = self.behind.borrow_mut();
        if is_behind != behind.is_some() {
            *behind = is_behind.then(|| self.terms.tko.fall_behind());
        }
    }

    /// The reader holds so many bytes of replies that are not whole.
    pub(super) fn account_read(&self, bytes: usize) {
        let before = self.read_bytes.replace(bytes);
        let now = self.accounted.get() + bytes - before;
        self.shared.budget.change(self.accounted.replace(now), now);
    }

    pub(super) fn set_waker(&self, cx: &Context<'_>) {
        self.awake.set(false);
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    /// Answers a request, or throws the reply away when nobody waits any more.
    pub(super) fn answer(&self, entry: Entry, reply: &Reply<'_>) {
        if (entry.slot.is_some() || entry.given_up) && !reply.status.is_error() {
            self.answered.set(true);
        }
        match entry.slot {
            Some(slot) => {
                let Terms { traffic, timeout, .. } = &*self.terms;
                if traffic.is_timed() {
                    let left = entry.deadline.saturating_duration_since(Instant::now());
                    traffic.learn(timeout.saturating_sub(left));
                }
                self.tell(slot, reply);
            }
            None => {
                self.shared.counters.server_late.add(u64::from(!entry.given_up));
                self.learn_late(&entry, reply);
            }
        }
    }

    /// What comes too late for a new client tells of those who come next too, or they would go on waiting in front of a server
    /// that is slow, until all of them are too late.
    fn learn_late(&self, entry: &Entry, reply: &Reply<'_>) {
        let value_bytes = reply.value.map_or(0, |value| value.len()) + self.passed_over_bytes.take();
        if let Some(keys) = entry.unknown_get_keys()
            && !matches!(reply.status, Status::Failed(_))
        {
            self.shared.first_replies.learn(reply.line.len() + value_bytes, keys);
        }
    }

    /// A value has come, or a part of several, and nobody waits for it any more.
    pub(super) fn pass_over(&self, bytes: usize) {
        self.passed_over_bytes.set(self.passed_over_bytes.get() + bytes);
    }

    /// The oldest request is answered: take it out of the queue.
    pub(super) fn pop(&self) -> Option<Entry> {
        self.state.borrow_mut().inflight.pop()
    }

    pub(super) fn with_inflight<R>(&self, look: impl FnOnce(&mut Inflight) -> R) -> R {
        look(&mut self.state.borrow_mut().inflight)
    }

    /// A value of the multi-key get at the front. (Nothing is borrowed while it is told: whoever hears it may turn
    /// around and send something over this very connection.)
    pub(super) fn hit(&self, index: usize, reply: &Reply<'_>) {
        let waiting = {
            let inflight = &mut self.state.borrow_mut().inflight;
            inflight.count_off();
            inflight.front().and_then(|entry| entry.slot.as_ref()).and_then(Slot::waiting)
        };
        match waiting {
            Some((sink, token)) => sink.hit(token, index, reply),
            None => self.pass_over(reply.value.map_or(0, |value| value.len())),
        }
    }

    /// There is no room for the value of the oldest request, and it is told so; or nobody waits for it. The value is passed over.
    pub(super) fn give_up_front(&self) {
        let slot = self.state.borrow_mut().inflight.give_up_front();
        if let Some(slot) = slot.filter(Slot::is_awaited) {
            self.tell(slot, &Reply::failed(Cause::NoMemory));
        }
    }

    /// Hands on the values at the front of `bytes` that answer the multi-key get at the front. Returns the bytes that they
    /// take; `found` is only room to work in.
    pub(super) fn take_values(&self, bytes: &[u8], found: &mut Vec<Found>) -> usize {
        found.clear();
        let (used, waiting) = self.with_inflight(|inflight| {
            let used = inflight.take_values(bytes, found);
            if used == 0 {
                return (0, None);
            }
            (used, inflight.front().and_then(|entry| entry.slot.as_ref()).and_then(Slot::waiting))
        });
        match waiting {
            Some((sink, token)) => sink.hits(token, &Values { bytes: &bytes[..used], found }),
            None => self.pass_over(used),
        }
        used
    }

    pub(super) fn fail(&self, entry: Entry, reply: &Reply<'_>) {
        if let Some(slot) = entry.slot {
            self.tell(slot, reply);
        }
    }

    /// Answers, with what the pool wants clients to be told of failures.
    #[inline]
    pub(super) fn tell(&self, slot: Slot, reply: &Reply<'_>) {
        self.terms.traffic.count(result_of(reply));
        slot.fill(&Reply { miss_on_error: self.terms.miss_on_error, ..*reply });
    }
}

/// A reply's place in [`crate::stats::RESULTS`]: the words by which routes tell failures apart as well (`route/failure.rs`).
#[inline]
fn result_of(reply: &Reply<'_>) -> usize {
    match reply.status {
        Status::Deleted => 0,
        Status::Touched => 1,
        Status::Hit => 2,
        Status::Miss | Status::NotFound => 3,
        Status::NotStored => 4,
        Status::Stored | Status::Number => 5,
        Status::Ok => 6,
        Status::Exists => 7,
        Status::Failed(cause) => match cause {
            Cause::Timeout => 8,
            Cause::ConnectTimeout => 9,
            Cause::Connect => 10,
            Cause::Busy => 11,
            Cause::Tko => 12,
            Cause::Aborted => 13,
            Cause::QueueFull | Cause::NoMemory | Cause::Local | Cause::NoServer => 15,
            Cause::Closed | Cause::Desync => 16,
        },
        Status::ErrorLine if reply.line.starts_with(b"CLIENT_ERROR") => 14,
        Status::ErrorLine if reply.is_busy() => 11,
        Status::ErrorLine => 16,
    }
}
