//! The one thread that touches the disk, and the one that waits for it where no client does.
//!
//! ```text
//!  workers ── take ──► orders ─► [writer] ── one write for all that wait (and one sync: `each`) ──► segments
//!     ▲                             │  └── each `sync` ──► [syncer] ── fdatasync
//!     └────────── inbox ◄───────────┘
//! ```

use super::asynclog::Asynclog;
use super::book::{Book, Numbers};
use super::disk::{Disk, Growing};
use super::entry::{Delete, Why};
use super::neighbours::Neighbours;
use super::owed::Owed;
use super::store::{Cursor, FULL, Pending, Store, Wanted};
use crate::config::Sync;
use crate::route::Refused;
use crate::stats::LogRate;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// Deletes that wait to be written, of all workers; more are refused. One write takes them all.
const WAITING_COUNT_MAX: usize = 65_536;
/// Deletes of one write.
const BATCH_COUNT_MAX: usize = 4_096;
/// How often the writer looks for what nobody tells it of: what is done with, what is too old.
const HOUSEKEEPING: Duration = Duration::from_millis(200);
/// The same while other processes use the directory too.
const BESIDE_OTHERS: Duration = Duration::from_millis(20);
/// How often the log is told that deletes wait for long.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// A server that is away for longer than this is worth a line.
const OLD: Duration = Duration::from_secs(60);

/// What became of a delete: whose it is, and whether it is kept.
pub(super) type Written = (u64, Result<(), Refused>);

/// What the writer is told.
enum Order {
    Take(Wanted, Taker),
    Done(Why, Vec<u64>),
    Look(Arc<Owed>, Cursor, usize, oneshot::Sender<io::Result<(Vec<Pending>, Option<Cursor>)>>),
    Close(Sender<()>),
}

/// Who waits for a delete to be written.
struct Taker {
    token: u64,
    inbox: UnboundedSender<Written>,
}

/// The writer, as others see it.
#[derive(Clone)]
pub(super) struct Writer {
    orders: Sender<Order>,
    waiting_count: Arc<AtomicUsize>,
    book: Arc<Book>,
}

impl Writer {
    /// Starts the threads.
    pub(super) fn start(
        store: Store,
        disk: Arc<dyn Disk>,
        sync: Sync,
        book: Arc<Book>,
        neighbours: Neighbours,
        asynclog: Option<Asynclog>,
    ) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let waiting_count = Arc::new(AtomicUsize::new(0));
        let syncer = match sync {
            Sync::Every(pause) => Some(Syncer::start(disk, pause, Arc::clone(&book))?),
            Sync::None | Sync::Each => None,
        };
        let desk = Desk {
            store,
            syncer,
            neighbours,
            asynclog,
            book: Arc::clone(&book),
            waiting_count: Arc::clone(&waiting_count),
            kept_at: Instant::now(),
            warned_at: None,
        };
        thread::Builder::new().name("ringway-spool".to_owned()).spawn(move || desk.serve(&received))?;
        Ok(Self { orders, waiting_count, book })
    }

    /// Wants a delete to be kept. What becomes of it goes to `inbox`, with `token`.
    pub(super) fn take(
        &self,
        wanted: Wanted,
        token: u64,
        inbox: &UnboundedSender<Written>,
    ) -> Result<(), Refused> {
        if self.waiting_count.fetch_add(1, Relaxed) >= WAITING_COUNT_MAX {
            self.waiting_count.fetch_sub(1, Relaxed);
            Numbers::add(&self.book.numbers.refused, 1);
            return Err(FULL);
        }
        let taker = Taker { token, inbox: inbox.clone() };
        self.orders.send(Order::Take(wanted, taker)).map_err(|_| FULL)
    }

    /// These are done with, and out of the books.
    pub(super) fn done(&self, why: Why, numbers: Vec<u64>) {
        // The writer ends with the process.
        let _ = self.orders.send(Order::Done(why, numbers));
    }

    /// As [`Store::look`].
    pub(super) async fn look(
        &self,
        owed: &Arc<Owed>,
        from: Cursor,
        count_max: usize,
    ) -> io::Result<(Vec<Pending>, Option<Cursor>)> {
        let (tell, told) = oneshot::channel();
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.orders.send(Order::Look(Arc::clone(owed), from, count_max, tell)).map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }

    /// Finishes: all that was ordered before is carried out and safe.
    pub(super) fn close(&self) {
        let (tell, told) = mpsc::channel();
        if self.orders.send(Order::Close(tell)).is_ok() {
            let _ = told.recv(); // an end without a word is an end too
        }
    }
}

/// What the writing thread has.
struct Desk {
    store: Store,
    syncer: Option<Syncer>,
    neighbours: Neighbours,
    /// What is written is written in mcrouter's way too.
    asynclog: Option<Asynclog>,
    book: Arc<Book>,
    waiting_count: Arc<AtomicUsize>,
    kept_at: Instant,
    warned_at: Option<Instant>,
}

impl Desk {
    fn serve(mut self, orders: &Receiver<Order>) {
        loop {
            let first = match orders.recv_timeout(self.pause()) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            };
            let mut batch: Vec<(Wanted, Taker)> = Vec::new();
            let mut next = first;
            // Whatever waits is written with one call; other orders are carried out in their place.
            while let Some(order) = next {
                match order {
                    Order::Take(wanted, taker) => batch.push((wanted, taker)),
                    Order::Done(why, numbers) => self.store.done(why, numbers),
                    Order::Look(owed, from, count_max, tell) => {
                        self.write(&mut batch);
                        // Who asked may have been replaced.
                        let _ = tell.send(self.store.look(&owed, from, count_max));
                    }
                    Order::Close(tell) => {
                        self.write(&mut batch);
                        self.finish();
                        let _ = tell.send(());
                        return;
                    }
                }
                next = if batch.len() < BATCH_COUNT_MAX { orders.try_recv().ok() } else { None };
            }
            self.write(&mut batch);
            if self.kept_at.elapsed() >= self.pause() {
                self.keep_house();
            }
        }
    }

    /// Until the house is looked after again: soon, while somebody else accepts deletes beside us.
    fn pause(&self) -> Duration {
        if self.neighbours.is_empty() { HOUSEKEEPING } else { BESIDE_OTHERS }
    }

    fn write(&mut self, batch: &mut Vec<(Wanted, Taker)>) {
        if batch.is_empty() {
            return;
        }
        let (wanted, takers): (Vec<Wanted>, Vec<Taker>) = std::mem::take(batch).into_iter().unzip();
        let time_ms = now_ms();
        let written = self.store.append(&wanted, time_ms);
        self.waiting_count.fetch_sub(takers.len(), Relaxed);
        if written.is_err() {
            Numbers::add(&self.book.numbers.refused, takers.len());
        } else if let Some(asynclog) = &mut self.asynclog
            && let Err(error) = write_all(asynclog, &wanted, time_ms)
        {
            // It is safe here, and will be delivered: no client need hear of it.
            Numbers::add(&self.book.numbers.asynclog_errors, takers.len());
            static TOLD: LogRate = LogRate::new();
            if TOLD.may_log() {
                tracing::warn!("the asynclog cannot be written: {error}");
            }
        }
        for Taker { token, inbox } in takers {
            // A worker that has ended waits for nothing.
            let _ = inbox.send((token, written));
        }
        self.give_to_sync();
    }

    /// Hands what is not safe yet to the thread that sees to it.
    fn give_to_sync(&mut self) {
        let dirty = self.store.take_dirty();
        if let Some(syncer) = &self.syncer {
            for file in dirty {
                // One that has ended is told of by its own line.
                let _ = syncer.files.send(file);
            }
            if let Ok(error) = syncer.failures.try_recv() {
                self.store.sync_failed(&error);
            }
        }
    }

    fn keep_house(&mut self) {
        self.kept_at = Instant::now();
        self.store.expire(self.kept_at);
        self.store.write_done(now_ms());
        self.neighbours.look(&mut self.store, &self.book, now_ms());
        self.give_to_sync();
        let age = self.book.oldest_ms().map(|oldest| now_ms().saturating_sub(oldest));
        let is_old = age.is_some_and(|age| u128::from(age) > OLD.as_millis());
        if is_old && self.warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned_at = Some(Instant::now());
            let pending = self.book.pending();
            tracing::warn!(
                pending,
                oldest_s = age.unwrap_or(0) / 1_000,
                "deletes wait in the spool for their servers"
            );
        }
    }

    fn finish(&mut self) {
        self.store.close(now_ms());
        for file in self.store.take_dirty() {
            if let Err(error) = file.sync() {
                tracing::error!("the spool cannot be written: {error}");
            }
        }
        if let Some(syncer) = self.syncer.take() {
            drop(syncer.files);
            let _ = syncer.thread.join(); // it has nothing to say but what it has logged
        }
        self.neighbours.leave();
    }
}

fn write_all(asynclog: &mut Asynclog, wanted: &[Wanted], time_ms: u64) -> io::Result<()> {
    for Wanted { owed, pool, key } in wanted {
        let (pool, address, key) = (pool.to_string(), owed.address.clone(), key.to_vec());
        asynclog.write(&Delete { number: 0, time_ms, pool, address, key })?;
    }
    asynclog.flush()
}

/// For people who read entries; nothing is decided by it.
pub(super) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Makes files safe, so that the writer need not wait for it.
struct Syncer {
    files: Sender<Arc<dyn Growing>>,
    failures: Receiver<io::Error>,
    thread: JoinHandle<()>,
}

impl Syncer {
    fn start(disk: Arc<dyn Disk>, pause: Duration, book: Arc<Book>) -> io::Result<Self> {
        let (files, given) = mpsc::channel::<Arc<dyn Growing>>();
        let (tell, failures) = mpsc::channel();
        let thread = thread::Builder::new().name("ringway-sync".to_owned()).spawn(move || {
            let mut is_open = true;
            while is_open && let Ok(first) = given.recv() {
                // what comes meanwhile is made safe with it
                let deadline = Instant::now() + pause;
                let mut dirty = vec![first];
                while let Some(left) = deadline.checked_duration_since(Instant::now()) {
                    match given.recv_timeout(left) {
                        Ok(file) if dirty.iter().any(|known| Arc::ptr_eq(known, &file)) => {}
                        Ok(file) => dirty.push(file),
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => {
                            is_open = false;
                            break;
                        }
                    }
                }
                let began = Instant::now();
                let synced = dirty.iter().try_for_each(|file| file.sync()).and_then(|()| disk.sync());
                match synced {
                    Ok(()) => book.numbers.synced(began.elapsed()),
                    // nobody listens any more when the process ends
                    Err(error) => drop(tell.send(error)),
                }
            }
        })?;
        Ok(Self { files, failures, thread })
    }
}
