//! What all sessions of a worker share.

use super::multi::{Multi, Split};
use super::session::Session;
use crate::admin::Admin;
use crate::config::Limits;
use crate::net::ReadBlock;
use crate::protocol::WireBuf;
use crate::route::Root;
use crate::stats::Counters;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// One per worker.
pub struct Context {
    pub(super) root: RefCell<Rc<Root>>,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: Limits,
    pub(super) block: Rc<RefCell<ReadBlock>>,
    pub(super) admin: Rc<Admin>,
    /// Clients of the whole process.
    clients: Arc<AtomicUsize>,
    /// This worker's share of `buffer_bytes_max`.
    buffer_bytes_max: usize,
    /// Bytes that this worker's sessions hold.
    buffer_bytes: Cell<usize>,
    sessions: RefCell<HashMap<u64, Weak<Session>>>,
    next_session: Cell<u64>,
    draining: Cell<bool>,
    spare: RefCell<Spare>,
}

/// Used again instead of allocated again.
#[derive(Default)]
struct Spare {
    bufs: Vec<WireBuf>,
    #[expect(clippy::vec_box, reason = "they move between here and the queue as boxes")]
    multis: Vec<Box<Multi>>,
    splits: Vec<Split>,
}

/// More than this many spare ones are given back.
const SPARE_COUNT_MAX: usize = 1024;
/// A spare buffer that grew beyond this is given back.
const SPARE_BYTES_MAX: usize = 16 * 1024;

impl Context {
    #[must_use]
    pub fn new(
        root: Rc<Root>,
        counters: Arc<Counters>,
        limits: Limits,
        block: Rc<RefCell<ReadBlock>>,
        admin: Rc<Admin>,
        clients: Arc<AtomicUsize>,
        workers: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            root: RefCell::new(root),
            counters,
            buffer_bytes_max: (limits.buffer_bytes_max / workers.max(1)).max(1),
            limits,
            block,
            admin,
            clients,
            buffer_bytes: Cell::new(0),
            sessions: RefCell::default(),
            next_session: Cell::new(0),
            draining: Cell::new(false),
            spare: RefCell::default(),
        })
    }

    pub(super) fn root(&self) -> Rc<Root> {
        Rc::clone(&self.root.borrow())
    }

    /// A place for one more client of the process; `false`: there is none.
    pub(super) fn admit(&self) -> bool {
        let admitted = self.clients.fetch_add(1, Relaxed) < self.limits.clients_count_max;
        if !admitted {
            self.clients.fetch_sub(1, Relaxed);
        }
        admitted
    }

    pub(super) fn register(&self, session: &Rc<Session>) -> u64 {
        let id = self.next_session.get();
        self.next_session.set(id + 1);
        self.sessions.borrow_mut().insert(id, Rc::downgrade(session));
        self.counters.curr_connections.add(1);
        self.counters.total_connections.add(1);
        id
    }

    pub(super) fn unregister(&self, id: u64) {
        self.sessions.borrow_mut().remove(&id);
        self.clients.fetch_sub(1, Relaxed);
        self.counters.curr_connections.sub(1);
    }

    /// From now on sessions end when their requests are answered.
    pub fn drain(&self) {
        self.draining.set(true);
        for session in self.sessions() {
            session.wake();
        }
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Those that are there now.
    pub(super) fn sessions(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().values().filter_map(Weak::upgrade).collect()
    }

    #[must_use]
    pub fn sessions_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// A session holds this many bytes more.
    pub(super) fn hold(&self, count: usize) {
        self.buffer_bytes.set(self.buffer_bytes.get() + count);
        self.counters.buffer_bytes.add(count as u64);
    }

    pub(super) fn release(&self, count: usize) {
        self.buffer_bytes.set(self.buffer_bytes.get().saturating_sub(count));
        self.counters.buffer_bytes.sub(count as u64);
    }

    /// Whether all buffers together are over their bound, and this session, which wants `held` in all,
    /// has more than its share: then it is the one that has to go.
    pub(super) fn is_over_budget(&self, held: usize) -> bool {
        self.buffer_bytes.get() > self.buffer_bytes_max
            && held > self.buffer_bytes_max / self.sessions.borrow().len().max(1)
    }

    pub(super) fn spare_buf(&self) -> WireBuf {
        self.spare.borrow_mut().bufs.pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, mut buf: WireBuf) {
        buf.clear();
        let mut spare = self.spare.borrow_mut();
        if spare.bufs.len() < SPARE_COUNT_MAX && buf.held_bytes() <= SPARE_BYTES_MAX {
            spare.bufs.push(buf);
        }
    }

    pub(super) fn spare_multi(&self) -> Box<Multi> {
        self.spare.borrow_mut().multis.pop().unwrap_or_default()
    }

    pub(super) fn give_back_multi(&self, mut multi: Box<Multi>) {
        multi.clear();
        let mut spare = self.spare.borrow_mut();
        if spare.multis.len() < SPARE_COUNT_MAX && multi.held_bytes() <= 4 * SPARE_BYTES_MAX {
            spare.multis.push(multi);
        }
    }

    pub(super) fn spare_split(&self) -> Split {
        self.spare.borrow_mut().splits.pop().unwrap_or_default()
    }

    pub(super) fn give_back_split(&self, mut split: Split) {
        split.clear();
        let mut spare = self.spare.borrow_mut();
        // One is enough unless a leaf that answers at once makes a session ask again.
        if spare.splits.len() < 4 && split.held_bytes() <= 4 * SPARE_BYTES_MAX {
            spare.splits.push(split);
        }
    }
}
