//! Delivery: each server that is owed deletes gets them, in order, over a connection of its own, when it is back.
//!
//! ```text
//!  server is out ──► it answers ──► `settle` ──► deletes, oldest first ──► nothing pending
//!        ▲                              (reads are misses all the while)          │
//!        └───────────────────────── a delivery fails ◄────────────────────────────┘
//! ```
//! `settle` is for what was on its way to the server when it stopped: a `set` in the buffers of a stopped process is carried
//! out when that goes on, and must not come behind the delete. One worker does all this.

use super::book::{Book, Numbers};
use super::entry::Why;
use super::owed::Owed;
use super::store::{Cursor, Pending, Wanted};
use super::writer::Writer;
use crate::config::OnGone;
use crate::protocol::{Op, Reply, Request, Status};
use crate::route::{Call, Leaf, Sink, Slot, with_delete};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Deletes on their way to one server at once.
pub const UNDER_WAY_COUNT_MAX: usize = 512;
/// How often a server that is out is looked at; somebody else probes it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After a failed delivery: first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Nobody has this key.
const PROBE_KEY: &[u8] = b"__ringway_probe__";

/// Where deletes are delivered to, by the configuration that serves now.
pub trait Targets {
    /// A connection of our own to the server of this address; `None`: it is in no pool, and nobody asks it any more. It takes
    /// [`UNDER_WAY_COUNT_MAX`] requests at once.
    fn leaf(&self, address: &str) -> Option<Rc<dyn Leaf>>;

    /// Who of this pool has the key, which the server of this address was owed.
    fn owner(&self, address: &str, pool: &str, key: &[u8]) -> Owner;
}

/// Who has a key whose server is in no pool any more.
pub enum Owner {
    /// The server of this address.
    Is(String),
    /// The same server still, which is known by this now: what is owed to it moves there whatever `on_gone` says.
    Renamed(String),
    /// Not all of the pool's servers are known yet.
    NotYet,
    /// The pool is gone.
    Nobody,
}

/// How deletes are delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) settle: Duration,
    pub(super) per_second_max: usize,
    pub(super) on_gone: OnGone,
}

/// For one that delivers no more.
struct Nowhere;

impl Targets for Nowhere {
    fn leaf(&self, _address: &str) -> Option<Rc<dyn Leaf>> {
        None
    }

    fn owner(&self, _address: &str, _pool: &str, _key: &[u8]) -> Owner {
        Owner::NotYet
    }
}

/// Delivers until it is told to end.
pub struct Replay {
    writer: Writer,
    book: Arc<Book>,
    pace: Pace,
    targets: RefCell<Rc<dyn Targets>>,
    /// Servers that somebody sees to.
    seen_to: RefCell<HashSet<String>>,
    tasks: RefCell<JoinSet<()>>,
}

impl Replay {
    pub(super) fn start(writer: Writer, book: Arc<Book>, pace: Pace, targets: Rc<dyn Targets>) -> Rc<Self> {
        let (targets, seen_to) = (RefCell::new(targets), RefCell::default());
        let replay = Rc::new(Self { writer, book, pace, targets, seen_to, tasks: RefCell::default() });
        replay.tasks.borrow_mut().spawn_local(Rc::clone(&replay).run());
        replay
    }

    /// Delivers no more; its connections end. What is pending is the next process's.
    pub fn end(&self) {
        self.tasks.borrow_mut().abort_all();
        *self.targets.borrow_mut() = Rc::new(Nowhere);
    }

    /// Another configuration serves.
    pub fn adopt(&self, targets: Rc<dyn Targets>) {
        *self.targets.borrow_mut() = targets;
        self.book.forget_unused();
    }

    async fn run(self: Rc<Self>) {
        loop {
            for owed in self.book.servers() {
                if owed.count() > 0 && self.seen_to.borrow_mut().insert(owed.address.clone()) {
                    let mut tasks = self.tasks.borrow_mut();
                    while tasks.try_join_next().is_some() {} // those that are done
                    tasks.spawn_local(Rc::clone(&self).see_to(owed));
                }
            }
            self.book.bell.notified().await;
        }
    }

    async fn see_to(self: Rc<Self>, owed: Arc<Owed>) {
        let mut pause = PAUSE_MIN;
        while owed.count() > 0 {
            let leaf = self.targets.borrow().leaf(&owed.address);
            let before_count = owed.count();
            let went_well = match &leaf {
                Some(leaf) if leaf.is_out() => {
                    sleep(LOOK_EVERY).await;
                    continue;
                }
                Some(leaf) => self.deliver(&owed, &**leaf).await,
                None => self.give_away(&owed).await,
            };
            // What is another process's stays, and is looked for in all that is pending.
            let is_less = owed.count() < before_count;
            pause = if went_well && is_less { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            if owed.count() > 0 {
                sleep(pause).await;
            }
        }
        self.seen_to.borrow_mut().remove(&owed.address);
        // What came between the last look and this is not forgotten.
        if owed.count() > 0 {
            self.book.bell.notify_one();
        }
    }

    /// Once through all that is pending; `false`: something failed.
    async fn deliver(&self, owed: &Arc<Owed>, leaf: &dyn Leaf) -> bool {
        let newest = self.book.newest.load(Relaxed);
        if newest > owed.settled() {
            owed.close(newest);
            if !answers(leaf).await {
                return false;
            }
            sleep(self.pace.settle).await;
            owed.settle(newest);
        }
        let mut due = Instant::now();
        let (mut cursor, mut went_well, mut pause) = (Some(Cursor::default()), true, PAUSE_MIN);
        while let Some(from) = cursor {
            let Ok((batch, next)) = self.writer.look(owed, from, UNDER_WAY_COUNT_MAX).await else {
                return false;
            };
            if !batch.is_empty() {
                sleep_until(due).await;
                let took = Duration::from_secs_f64(batch.len() as f64 / self.pace.per_second_max as f64);
                due = due.max(Instant::now() - Duration::from_millis(50)) + took;
                let (best, worst) = self.send(owed, leaf, &batch).await;
                if worst == Sent::NoAnswer {
                    return false;
                }
                if best == Sent::Done {
                    pause = PAUSE_MIN;
                } else {
                    // it may well refuse them all, and has trouble enough
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                went_well &= worst == Sent::Done;
                if let (true, Some(last)) = (went_well, batch.last()) {
                    owed.oldest_is(last.time_ms);
                }
            }
            cursor = next;
        }
        went_well
    }

    /// Sends some deletes at once and waits for all answers: the best and the worst of them.
    async fn send(&self, owed: &Owed, leaf: &dyn Leaf, batch: &[Pending]) -> (Sent, Sent) {
        let replies = Rc::new(Replies::of(batch.len()));
        for (pending, token) in batch.iter().zip(0_u64..) {
            let slot = Slot::new(Rc::clone(&replies) as Rc<dyn Sink>, token);
            with_delete(&pending.key, |delete| leaf.send(delete, &Call::default(), slot));
        }
        let told = replies.all().await;
        let is_delivered = |(pending, told): &(&Pending, Sent)| {
            *told == Sent::Done && owed.remove(owed.hash(&pending.key), pending.number)
        };
        let delivered = batch.iter().zip(told.iter().copied()).filter(is_delivered);
        let numbers: Vec<u64> = delivered.map(|(pending, _)| pending.number).collect();
        let failed_count = told.iter().filter(|told| **told != Sent::Done).count();
        Numbers::add(&self.book.numbers.replay_errors, failed_count);
        if !numbers.is_empty() {
            self.writer.done(Why::Delivered, numbers);
        }
        let worst = told.iter().copied().max().unwrap_or(Sent::Done);
        (told.into_iter().min().unwrap_or(Sent::Done), worst)
    }

    /// The server is in no pool any more: its deletes go to whoever has their keys now, or to nobody.
    async fn give_away(&self, owed: &Arc<Owed>) -> bool {
        let newest = self.book.newest.load(Relaxed);
        owed.close(newest);
        owed.settle(newest);
        let mut cursor = Some(Cursor::default());
        let (mut moved_count, mut dropped_count, mut is_whole) = (0, 0, true);
        while let Some(from) = cursor {
            let Ok((batch, next)) = self.writer.look(owed, from, UNDER_WAY_COUNT_MAX).await else {
                return false;
            };
            let (inbox, mut written) = unbounded_channel();
            let (mut dropped, mut waiting_count) = (Vec::new(), 0);
            for (pending, token) in batch.iter().zip(0_u64..) {
                let owner = self.targets.borrow().owner(&owed.address, &pending.pool, &pending.key);
                let owner = match (owner, self.pace.on_gone) {
                    (Owner::NotYet, _) => {
                        is_whole = false;
                        continue;
                    }
                    (Owner::Is(owner), OnGone::Owner) | (Owner::Renamed(owner), _) => owner,
                    (Owner::Is(_), OnGone::Drop) | (Owner::Nobody, _) => {
                        dropped.push(pending);
                        continue;
                    }
                };
                let wanted = Wanted {
                    owed: self.book.server(&owner),
                    pool: pending.pool.as_str().into(),
                    key: pending.key.as_slice().into(),
                };
                if self.writer.take(wanted, token, &inbox).is_err() {
                    return false;
                }
                waiting_count += 1;
            }
            let mut moved = Vec::new();
            for _ in 0..waiting_count {
                let Some((token, Ok(()))) = written.recv().await else { return false };
                moved.extend(usize::try_from(token).ok().and_then(|token| batch.get(token)));
            }
            moved_count += self.forget(owed, Why::Moved, &moved);
            dropped_count += self.forget(owed, Why::Dropped, &dropped);
            cursor = next;
        }
        if moved_count + dropped_count > 0 {
            tracing::warn!(
                server = %owed.address, moved_count, dropped_count,
                "deletes were waiting for a server that is in no pool any more"
            );
        }
        is_whole
    }

    fn forget(&self, owed: &Owed, why: Why, gone: &[&Pending]) -> usize {
        let ours = gone.iter().filter(|pending| owed.remove(owed.hash(&pending.key), pending.number));
        let numbers: Vec<u64> = ours.map(|pending| pending.number).collect();
        let count = numbers.len();
        if count > 0 {
            self.writer.done(why, numbers);
        }
        count
    }
}

/// Whether the server answers a request now.
async fn answers(leaf: &dyn Leaf) -> bool {
    let replies = Rc::new(Replies::of(1));
    let slot = Slot::new(Rc::clone(&replies) as Rc<dyn Sink>, 0);
    leaf.send(&Request::new(Op::Get, PROBE_KEY), &Call::default(), slot);
    replies.all().await.first() == Some(&Sent::Done)
}

/// What became of a delete, the better the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    /// The server has done what it was told, or never will.
    Done,
    /// It answered, with an error: a proxy may have trouble with this key, and none with the next one.
    Refused,
    /// It gave no answer; what comes behind need not be tried.
    NoAnswer,
}

/// Waits for several replies.
struct Replies {
    told: RefCell<Vec<Sent>>,
    waiting_count: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Replies {
    fn of(count: usize) -> Self {
        let (told, waiting_count) = (RefCell::new(vec![Sent::NoAnswer; count]), Cell::new(count));
        Self { told, waiting_count, waker: RefCell::default() }
    }

    async fn all(&self) -> Vec<Sent> {
        poll_fn(|cx| {
            if self.waiting_count.get() == 0 {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        self.told.take()
    }
}

impl Sink for Replies {
    fn is_waiting(&self) -> bool {
        true
    }

    fn fill(&self, token: u64, reply: &Reply<'_>) {
        // What the server calls our fault it will never take: to try again is of no use.
        let sent = match reply.status {
            Status::ErrorLine if reply.line.starts_with(b"CLIENT_ERROR") => Sent::Done,
            Status::ErrorLine => Sent::Refused,
            Status::Failed(_) => Sent::NoAnswer,
            _ => Sent::Done,
        };
        let mut all = self.told.borrow_mut();
        if let Some(told) = usize::try_from(token).ok().and_then(|token| all.get_mut(token)) {
            *told = sent;
        }
        self.waiting_count.set(self.waiting_count.get() - 1);
        if self.waiting_count.get() == 0
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }
}
