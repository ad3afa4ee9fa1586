//! What all sessions of a worker share.

use super::multi::{Multi, Split};
use super::reply_queue::NEW_REPLY_BYTES;
use super::session::{Leave, Session};
use crate::admin::Admin;
use crate::config::{Limits, Settings};
use crate::net::{Budget, FirstReplies, ReadBlock, Stream};
use crate::protocol::WireBuf;
use crate::protocol::ascii::Scratch;
use crate::route::Root;
use crate::stats::Counters;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::Notify;

/// One per worker.
pub struct Context {
    pub(super) root: RefCell<Rc<Root>>,
    pub(super) counters: Arc<Counters>,
    limits: Cell<Limits>,
    /// Only lines and keys that memcached's documentation allows.
    is_strict: Cell<bool>,
    pub(super) block: Rc<RefCell<ReadBlock>>,
    pub(super) admin: Rc<Admin>,
    /// Clients of the whole process.
    clients: Arc<AtomicUsize>,
    /// This worker's share of `buffer_bytes_max`.
    pub(super) budget: Rc<Budget>,
    /// For the line that is taken apart now, whoever's it is.
    pub(super) scratch: Cell<Scratch>,
    /// By their age.
    sessions: RefCell<BTreeMap<u64, Weak<Session>>>,
    next_session: Cell<u64>,
    /// Of those with a lower number all are told to leave.
    told_below: Cell<u64>,
    /// Where sockets of clients go that leave between two requests; `None`: they are closed.
    moves_to: RefCell<Option<MovesTo>>,
    /// What routes hold of the budget.
    held_by_routes: Cell<usize>,
    spare: RefCell<Spare>,
    /// How large replies are now and then: up at once, down slowly. A new client gets no larger window than this leaves,
    /// or hundreds of them could queue gigabytes in front of everybody else's requests before they are known.
    new_reply_bytes: Cell<usize>,
    /// What replies hold on the mean.
    mean_reply_bytes: RecentMean,
    pub(super) first_replies: Rc<FirstReplies>,
    /// What very long gets have used and dropped since that was last told.
    dropped_bytes: Cell<usize>,
    dropped_much: Notify,
    timeouts_changed: Notify,
}

/// Takes the socket of a client on to somebody else who serves it.
pub type MovesTo = Arc<dyn Fn(OwnedFd) + Send + Sync>;

/// So much is dropped by very long gets before somebody is told. A collection costs as much as a few of them.
const DROPPED_BYTES_MAX: usize = 8 << 20;

/// Used again instead of allocated again.
#[derive(Default)]
struct Spare {
    /// Room in all of `bufs` and `multis`.
    bytes: usize,
    bufs: Vec<WireBuf>,
    #[expect(clippy::vec_box, reason = "they move between here and the queue as boxes")]
    multis: Vec<Box<Multi>>,
    splits: Vec<Split>,
}

/// So many replies tell how large they are on the mean: enough that a few large ones are no alarm, and few enough that a
/// flood of them is known within a moment.
const LAST_REPLIES: usize = 256;

/// The mean of the last [`LAST_REPLIES`]; older ones are forgotten bit by bit.
#[derive(Default)]
struct RecentMean {
    sum: Cell<usize>,
}

impl RecentMean {
    fn add(&self, value: usize) {
        let sum = self.sum.get();
        self.sum.set(sum - sum / LAST_REPLIES + value);
    }

    fn get(&self) -> usize {
        self.sum.get() / LAST_REPLIES
    }
}

/// Servers that answer at all are kept busy by so many. What is more only makes everybody wait.
const MANY_COUNT: usize = 512;
/// What one client may have under way of many.
const SHARE_COUNT_MAX: usize = 32;
/// Enough to be read and written in few calls.
pub(super) const SHARE_COUNT_MIN: usize = 8;
/// All spare buffers of a worker together; what is more is freed.
const SPARE_BYTES_ALL_MAX: usize = 2 << 20;
/// A spare buffer that grew beyond this is freed.
const SPARE_BYTES_MAX: usize = 16 * 1024;

impl Spare {
    fn has_place(&self, bytes: usize) -> bool {
        bytes > 0 && bytes <= SPARE_BYTES_MAX && self.bytes + bytes <= SPARE_BYTES_ALL_MAX
    }
}

impl Context {
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "what a worker has")]
    pub fn new(
        root: Rc<Root>,
        counters: Arc<Counters>,
        settings: &Settings,
        block: Rc<RefCell<ReadBlock>>,
        admin: Rc<Admin>,
        clients: Arc<AtomicUsize>,
        budget: Rc<Budget>,
        first_replies: Rc<FirstReplies>,
    ) -> Rc<Self> {
        let context = Rc::new(Self {
            root: RefCell::new(root),
            counters,
            budget,
            scratch: Cell::default(),
            limits: Cell::new(settings.limits),
            is_strict: Cell::new(settings.strict),
            block,
            admin,
            clients,
            sessions: RefCell::default(),
            next_session: Cell::new(0),
            told_below: Cell::new(0),
            moves_to: RefCell::new(None),
            held_by_routes: Cell::new(0),
            spare: RefCell::default(),
            new_reply_bytes: Cell::new(NEW_REPLY_BYTES),
            mean_reply_bytes: RecentMean::default(),
            first_replies,
            dropped_bytes: Cell::new(0),
            dropped_much: Notify::new(),
            timeouts_changed: Notify::new(),
        });
        let this = Rc::downgrade(&context);
        context.budget.on_short(move |wanted_bytes| {
            if let Some(context) = this.upgrade() {
                context.relieve(wanted_bytes);
            }
        });
        context
    }

    #[inline]
    pub(super) fn learn_reply(&self, reply_bytes: usize) {
        self.mean_reply_bytes.add(reply_bytes);
        let expected = self.new_reply_bytes.get();
        if reply_bytes > expected {
            self.new_reply_bytes.set(reply_bytes);
        } else if expected > NEW_REPLY_BYTES {
            self.new_reply_bytes.set(expected - (expected - NEW_REPLY_BYTES).div_ceil(1024));
        }
    }

    /// Whether half of what may be held is, or the replies to all that servers are asked for, could they come at once, would
    /// be more than that. Requests of clients that have left count too: whatever they asked for has to be read before what
    /// comes behind it. (A get that is split counts with each of its parts.)
    pub(super) fn much_is_under_way(&self) -> bool {
        if self.budget.held_bytes() > self.budget.bytes_max() / 2 {
            return true;
        }
        self.outstanding_count().saturating_mul(self.mean_reply_bytes.get()) > self.budget.bytes_max()
    }

    /// Requests that wait for servers, whoever asked, but for copies: nobody waits for these, and nobody has to be slower because
    /// their servers are.
    fn outstanding_count(&self) -> usize {
        let counters = &self.counters;
        let count = counters.server_outstanding.value().saturating_sub(counters.server_copies.value());
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// What one client may have under way: never less than [`SHARE_COUNT_MIN`], and all it likes while few requests wait for
    /// servers. Then the less the more they are: a few clients with all that one may have would fill the queue of a server (a
    /// pool's `outstanding_max`) and everybody would be refused, and a hundred with 32 each make it tens of milliseconds long.
    pub(super) fn share_count(&self) -> usize {
        match self.outstanding_count() {
            0..=MANY_COUNT => usize::MAX,
            many => (SHARE_COUNT_MAX * MANY_COUNT / many).max(SHARE_COUNT_MIN),
        }
    }

    pub(super) fn new_reply_bytes(&self) -> usize {
        self.new_reply_bytes.get()
    }

    pub(super) fn root(&self) -> Rc<Root> {
        Rc::clone(&self.root.borrow())
    }

    #[inline]
    pub(super) fn limits(&self) -> Limits {
        self.limits.get()
    }

    #[inline]
    pub(super) fn is_strict(&self) -> bool {
        self.is_strict.get()
    }

    /// From the next request on. What is under way ends on the tree that it began with.
    pub fn adopt(&self, root: Rc<Root>, settings: &Settings) {
        let former = self.root.replace(root);
        let before = self.limits.replace(settings.limits);
        self.is_strict.set(settings.strict);
        if before.client_timeouts() != settings.limits.client_timeouts() {
            self.timeouts_changed.notify_one();
        }
        // Only now: what ends with it may look at the new one.
        drop(former);
    }

    /// Resolves when clients may stand still for longer or shorter than before.
    pub(super) async fn timeouts_changed(&self) {
        self.timeouts_changed.notified().await;
    }

    /// A place for one more client of the process; `false`: there is none. One that has `moved` here had one.
    pub(super) fn admit(&self, moved: bool) -> bool {
        let admitted = self.clients.fetch_add(1, Relaxed) < self.limits().clients_count_max || moved;
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

    /// Tells so many more clients to leave when all that they have asked is answered, the oldest first.
    pub fn ask_to_leave(&self, count: usize) {
        let told: Vec<(u64, Rc<Session>)> = {
            let sessions = self.sessions.borrow();
            let not_told = sessions.range(self.told_below.get()..).take(count);
            not_told.filter_map(|(id, session)| Some((*id, session.upgrade()?))).collect()
        };
        for (id, session) in told {
            self.told_below.set(id + 1);
            session.leave(Leave::WhenQuiet);
        }
    }

    /// Clients that leave from now on are not closed; somebody else goes on serving them.
    pub fn move_clients_to(&self, whom: MovesTo) {
        *self.moves_to.borrow_mut() = Some(whom);
    }

    /// A client has left with nothing under way, its socket is still open.
    pub(super) fn on_left(&self, stream: Stream) {
        if let Some(whom) = &*self.moves_to.borrow()
            && let Ok(socket) = stream.into_descriptor()
        {
            whom(socket);
        }
    }

    /// Tells all clients to leave as soon as no request of theirs is half read.
    pub fn urge_to_leave(&self) {
        self.told_below.set(self.next_session.get());
        for session in self.sessions() {
            session.leave(Leave::BetweenRequests);
        }
    }

    /// Those that are there now.
    pub(super) fn sessions(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().values().filter_map(Weak::upgrade).collect()
    }

    /// The same without a list of them. `look` must neither begin nor end one.
    pub(super) fn each_session(&self, look: impl Fn(&Session)) {
        for session in self.sessions.borrow().values().filter_map(Weak::upgrade) {
            look(&session);
        }
    }

    /// A get of thousands of keys was taken apart in so many bytes, which are dropped. Splitting, writing and reading it
    /// took some more of them in pieces that grew: about four times as many.
    pub(super) fn on_scratch_dropped(&self, bytes: usize) {
        let dropped = self.dropped_bytes.get() + 4 * bytes;
        let is_much = dropped >= DROPPED_BYTES_MAX;
        self.dropped_bytes.set(if is_much { 0 } else { dropped });
        if is_much {
            self.dropped_much.notify_one();
        }
    }

    /// Resolves when very long gets have left much memory that nobody needs.
    pub async fn much_is_dropped(&self) {
        self.dropped_much.notified().await;
    }

    /// Clients that have left since the worker started.
    #[must_use]
    pub fn gone_count(&self) -> u64 {
        let connected = self.sessions.borrow().len() as u64;
        self.next_session.get().saturating_sub(connected)
    }

    #[must_use]
    pub fn sessions_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// A route that held so much of what children have answered holds more, or less.
    pub(super) fn on_held_by_routes(&self, before: usize, now: usize) {
        self.held_by_routes.set(self.held_by_routes.get() + now - before);
        self.budget.change(before, now);
    }

    /// Memory is short: closes clients until so many bytes are free, but for what routes hold: that is not theirs to free.
    /// First those that do not take their replies, or hold the most of unfinished requests; then whoever holds the most,
    /// unless it is not clients who hold it. Whoever holds little is not the cause, unless all who hold little together are.
    fn relieve(&self, wanted_bytes: usize) {
        /// What every client may hold.
        const OWN_BYTES_MIN: usize = 4 * 1024;
        const LITTLE_BYTES: usize = 64 * 1024;
        let Some(wanted_bytes) = wanted_bytes.checked_sub(self.held_by_routes.get()) else { return };
        let held = |session: Rc<Session>| Some((session.held_bytes()?, session));
        let mut holders: Vec<_> = self.sessions().into_iter().filter_map(held).collect();
        holders.retain(|((_, bytes), session)| *bytes > OWN_BYTES_MIN && !session.is_condemned());
        let sum_over = |bytes_min: usize| -> usize {
            holders.iter().map(|((_, bytes), _)| *bytes).filter(|bytes| *bytes > bytes_min).sum()
        };
        let (all, much) = (sum_over(0), sum_over(LITTLE_BYTES));
        let spares_little = all - much < wanted_bytes;
        let is_enough = if spares_little { much } else { all } >= wanted_bytes;
        holders.retain(|((_, bytes), _)| *bytes > LITTLE_BYTES || !spares_little);
        holders.sort_unstable_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        let mut freed = 0;
        for ((is_own_fault, bytes), session) in holders {
            if freed >= wanted_bytes || !(is_enough || is_own_fault) {
                break;
            }
            freed += bytes;
            self.counters.slow_clients_closed.add(1);
            session.condemn();
        }
    }

    pub(super) fn spare_buf(&self) -> WireBuf {
        let mut spare = self.spare.borrow_mut();
        let buf = spare.bufs.pop().unwrap_or_default();
        spare.bytes -= buf.room_bytes();
        buf
    }

    pub(super) fn give_back(&self, mut buf: WireBuf) {
        buf.clear();
        let mut spare = self.spare.borrow_mut();
        if spare.has_place(buf.room_bytes()) {
            spare.bytes += buf.room_bytes();
            spare.bufs.push(buf);
        }
    }

    pub(super) fn spare_multi(&self) -> Box<Multi> {
        let mut spare = self.spare.borrow_mut();
        let multi = spare.multis.pop().unwrap_or_default();
        spare.bytes -= multi.held_bytes();
        multi
    }

    pub(super) fn give_back_multi(&self, mut multi: Box<Multi>) {
        multi.clear();
        let mut spare = self.spare.borrow_mut();
        let bytes = multi.held_bytes();
        if spare.has_place(bytes) {
            spare.bytes += bytes;
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
