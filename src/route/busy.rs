//! Keys for which something is under way in several steps: whatever comes for such a key meanwhile waits for its turn, so
//! that steps of two requests never mix.

use super::{Call, Slot};
use crate::protocol::{Cause, Class, OwnedRequest, Reply, Request};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use tokio::sync::oneshot;

/// Requests that wait for their turn, for all keys together.
const WAITING_COUNT_MAX: usize = 65_536;
/// Copies under way at once, of one worker.
const COPIES_COUNT_MAX: usize = 64;

type Queue = VecDeque<oneshot::Sender<()>>;

/// Of one pool of one worker; it outlives the tree, as what is under way does.
#[derive(Default)]
pub struct Busy {
    /// Who waits for each key that is taken.
    keys: RefCell<HashMap<Rc<[u8]>, Queue>>,
    waiting_count: Cell<usize>,
    copies_count: Cell<usize>,
}

/// The right to do something with a key, or the place in the queue for it. Dropped, it goes to the next.
pub(super) struct Turn {
    busy: Rc<Busy>,
    key: Rc<[u8]>,
    /// `None`: it has come.
    queued: Option<oneshot::Receiver<()>>,
}

/// One copy under way.
pub(super) struct Permit(Rc<Busy>);

impl Busy {
    pub(super) fn is_taken(&self, key: &[u8]) -> bool {
        let keys = self.keys.borrow();
        !keys.is_empty() && keys.contains_key(key)
    }

    /// A turn: at once, or behind those that wait already. `None`: too many wait.
    pub(super) fn turn(self: &Rc<Self>, key: &[u8]) -> Option<Turn> {
        let mut keys = self.keys.borrow_mut();
        let known = keys.get_key_value(key).map(|(key, _)| Rc::clone(key));
        let Some(key) = known else {
            let key: Rc<[u8]> = key.into();
            keys.insert(Rc::clone(&key), Queue::new());
            return Some(Turn { busy: Rc::clone(self), key, queued: None });
        };
        if self.waiting_count.get() >= WAITING_COUNT_MAX {
            return None;
        }
        let (call, queued) = oneshot::channel();
        keys.get_mut(&key)?.push_back(call);
        self.waiting_count.set(self.waiting_count.get() + 1);
        Some(Turn { busy: Rc::clone(self), key, queued: Some(queued) })
    }

    pub(super) fn permit(self: &Rc<Self>) -> Option<Permit> {
        let count = self.copies_count.get();
        (count < COPIES_COUNT_MAX).then(|| {
            self.copies_count.set(count + 1);
            Permit(Rc::clone(self))
        })
    }

    /// The next one's turn; nobody waits: the key is free.
    fn pass_on(&self, key: &[u8]) {
        loop {
            let next = {
                let mut keys = self.keys.borrow_mut();
                let next = keys.get_mut(key).and_then(Queue::pop_front);
                if next.is_none() {
                    keys.remove(key);
                }
                next
            };
            let Some(next) = next else { return };
            self.waiting_count.set(self.waiting_count.get() - 1);
            // who does not wait any more is passed over
            if next.send(()).is_ok() {
                return;
            }
        }
    }
}

impl Turn {
    /// Whether others were before it.
    pub(super) fn is_queued(&self) -> bool {
        self.queued.is_some()
    }

    /// Until it has come.
    pub(super) async fn come(&mut self) {
        if let Some(queued) = &mut self.queued {
            // nobody gives up a queue without calling those who wait in it
            let _ = queued.await;
            self.queued = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let has_come = match &mut self.queued {
            None => true,
            Some(queued) => queued.try_recv().is_ok(),
        };
        if has_come {
            self.busy.pass_on(&self.key);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.copies_count.set(self.0.copies_count.get() - 1);
    }
}

/// Bytes of keys and values that wait for their turn in one route.
const ORDERED_BYTES_MAX: usize = 16 << 20;
/// What nobody waits for only waits while it is less than this with all others: it slows nobody down who sends it.
const UNAWAITED_BYTES_MAX: usize = ORDERED_BYTES_MAX / 16;

/// Requests of one client for one key, where some take several steps: what comes behind such a one goes when its last step has
/// left. (Those of others need not wait: nobody knows who was first. Nor does what comes after a reload.)
#[derive(Default)]
pub(super) struct InOrder {
    busy: Rc<Busy>,
    bytes: Rc<Cell<usize>>,
}

/// What a request that waits holds.
pub(super) fn bytes_of(request: &Request<'_>) -> usize {
    request.key.len() + request.value.len()
}

/// So many bytes wait.
struct Waits {
    all: Rc<Cell<usize>>,
    bytes: usize,
}

impl Waits {
    fn new(all: &Rc<Cell<usize>>, bytes: usize) -> Self {
        all.set(all.get() + bytes);
        Self { all: Rc::clone(all), bytes }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}

impl InOrder {
    /// Whether something of this client is under way that a request for this key has to wait for.
    #[inline]
    pub(super) fn is_taken(&self, call: &Call, key: &[u8]) -> bool {
        !self.busy.keys.borrow().is_empty() && self.busy.is_taken(&Self::place(call, key))
    }

    /// Calls `send` when it is the turn of this request; what is behind it waits until that has dropped the turn.
    pub(super) fn send(
        &self,
        request: &Request<'_>,
        call: &Call,
        slot: Slot,
        send: impl FnOnce(&Request<'_>, &Call, Slot, Turn) + 'static,
    ) {
        let place = Self::place(call, request.key);
        let may_come = !self.busy.is_taken(&place) || self.has_room(request, &slot);
        let Some(mut turn) = may_come.then(|| self.busy.turn(&place)).flatten() else {
            return slot.fill(&Reply::failed(Cause::Busy));
        };
        if !turn.is_queued() {
            return send(request, call, slot, turn);
        }
        let waits = Waits::new(&self.bytes, bytes_of(request));
        let (request, call) = (OwnedRequest::new(request), call.clone());
        tokio::task::spawn_local(async move {
            turn.come().await;
            drop(waits);
            send(&request.as_request(), &call, slot, turn);
        });
    }

    /// Whether one more may wait. One always may, however large, and deletes: there is a bound for how many.
    fn has_room(&self, request: &Request<'_>, slot: &Slot) -> bool {
        let bytes_max = if slot.is_awaited() { ORDERED_BYTES_MAX } else { UNAWAITED_BYTES_MAX };
        let waiting = self.bytes.get();
        waiting == 0 || request.op.class() == Class::DeleteLike || waiting + bytes_of(request) <= bytes_max
    }

    fn place(call: &Call, key: &[u8]) -> Vec<u8> {
        let client = call.asker.as_ref().map_or(0, |asker| Rc::as_ptr(asker).cast::<()>().addr());
        [&client.to_ne_bytes(), key].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Waiting;
    use super::super::stage::{run, settle};
    use super::*;
    use crate::protocol::{Op, Value};

    #[test]
    fn one_after_the_other_in_the_order_in_which_they_came() {
        run(async {
            let busy = Rc::new(Busy::default());
            let done = Rc::new(RefCell::new(Vec::new()));
            let first = busy.turn(b"k").unwrap();
            assert!(!first.is_queued() && busy.is_taken(b"k") && !busy.is_taken(b"j"));
            for number in 0..4 {
                let (mut turn, done) = (busy.turn(b"k").unwrap(), Rc::clone(&done));
                assert!(turn.is_queued());
                let waits = tokio::task::spawn_local(async move {
                    turn.come().await;
                    done.borrow_mut().push(number);
                });
                if number == 1 {
                    waits.abort();
                }
            }
            assert!(!busy.turn(b"j").unwrap().is_queued(), "another key");
            settle().await;
            assert!(done.borrow().is_empty());
            drop(first);
            settle().await;
            assert_eq!(*done.borrow(), [0, 2, 3], "who gave up is passed over");
            assert!(!busy.is_taken(b"k") && busy.waiting_count.get() == 0);
        });
    }

    #[test]
    fn a_turn_that_has_come_and_is_not_taken_goes_on() {
        let busy = Rc::new(Busy::default());
        let (first, second, third) = (busy.turn(b"k"), busy.turn(b"k"), busy.turn(b"k"));
        drop(first);
        drop(second);
        assert!(busy.is_taken(b"k"));
        drop(third);
        assert!(!busy.is_taken(b"k"));
    }

    #[test]
    fn what_waits_has_a_bound_in_bytes() {
        run(async {
            let order = InOrder::default();
            let value = vec![b'x'; 1 << 20];
            let sent = Rc::new(Cell::new(0));
            let ask = |op: Op, is_awaited: bool| {
                let (waiting, slot) = Waiting::slot();
                let slot = if is_awaited { slot } else { Slot::nowhere() };
                let request = Request { value: Value::Slice(&value), ..Request::new(op, b"k") };
                let sent = Rc::clone(&sent);
                order.send(&request, &Call::default(), slot, move |_, _, _, turn| {
                    sent.set(sent.get() + 1);
                    drop(turn);
                });
                waiting
            };
            let first = order.busy.turn(&InOrder::place(&Call::default(), b"k"));
            let waiting: Vec<_> = (0..20).map(|_| ask(Op::Set, true)).collect();
            let is_busy = |one: &Rc<Waiting>| one.reply().is_some_and(|reply| reply.contains("307 busy"));
            assert_eq!(waiting.iter().filter(|one| is_busy(one)).count(), 5);
            (0..3).for_each(|_| drop(ask(Op::Set, false)));
            ask(Op::Delete, true);
            drop(first);
            settle().await;
            assert_eq!((sent.get(), order.bytes.get()), (15 + 1, 0));
            // one that waits alone always may, also where nobody waits for it
            let first = order.busy.turn(&InOrder::place(&Call::default(), b"k"));
            (0..2).for_each(|_| drop(ask(Op::Set, false)));
            drop(first);
            settle().await;
            assert_eq!((sent.get(), order.bytes.get()), (16 + 1, 0));
        });
    }

    #[test]
    fn so_many_copies_at_once() {
        let busy = Rc::new(Busy::default());
        let mut permits: Vec<Permit> = (0..COPIES_COUNT_MAX).filter_map(|_| busy.permit()).collect();
        assert!(permits.len() == COPIES_COUNT_MAX && busy.permit().is_none());
        permits.pop();
        assert!(busy.permit().is_some());
    }
}
