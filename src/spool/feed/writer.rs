//! The one thread that writes to the feed: one write for all that wait, then their clients are answered.

use super::super::book::{Book, Numbers};
use super::super::writer::{Written, now_ms};
use super::FeedFile;
use crate::route::Refused;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Deletes that wait to be written, of all workers; more are refused.
const WAITING_COUNT_MAX: usize = 65_536;
/// Deletes of one write.
const BATCH_COUNT_MAX: usize = 4_096;
/// How often the log is told that it cannot be written.
const COMPLAINS_EVERY: Duration = Duration::from_secs(10);

const FULL: Refused = Refused("SERVER_ERROR the delete is done, but the feed cannot keep up");
const BROKEN: Refused = Refused("SERVER_ERROR the delete is done, but the feed cannot be written");

enum Order {
    Tell(Box<[u8]>, Teller),
    Close(Sender<()>),
}

/// Who waits.
struct Teller {
    token: u64,
    inbox: UnboundedSender<Written>,
}

/// The writer, as workers see it.
#[derive(Clone)]
pub(in super::super) struct Writer {
    orders: Sender<Order>,
    waiting_count: Arc<AtomicUsize>,
    book: Arc<Book>,
}

impl Writer {
    /// Starts the thread.
    pub(in super::super) fn start(file: FeedFile, book: Arc<Book>) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let writer = Self { orders, waiting_count: Arc::default(), book };
        let (waiting_count, book) = (Arc::clone(&writer.waiting_count), Arc::clone(&writer.book));
        let desk = Desk { file, waiting_count, book, complained_at: None };
        thread::Builder::new().name("ringway-feed".to_owned()).spawn(move || desk.serve(&received))?;
        Ok(writer)
    }

    /// Wants others to read it. What becomes of it goes to `inbox`, with `token`.
    pub(in super::super) fn tell(
        &self,
        key: &[u8],
        token: u64,
        inbox: &UnboundedSender<Written>,
    ) -> Result<(), Refused> {
        if self.waiting_count.fetch_add(1, Relaxed) >= WAITING_COUNT_MAX {
            self.waiting_count.fetch_sub(1, Relaxed);
            Numbers::add(&self.book.numbers.feed_refused, 1);
            return Err(FULL);
        }
        self.orders.send(Order::Tell(key.into(), Teller { token, inbox: inbox.clone() })).map_err(|_| BROKEN)
    }

    /// Finishes: all that was told before is written and safe.
    pub(in super::super) fn close(&self) {
        let (tell, told) = mpsc::channel();
        if self.orders.send(Order::Close(tell)).is_ok() {
            let _ = told.recv(); // an end without a word is an end too
        }
    }
}

struct Desk {
    file: FeedFile,
    waiting_count: Arc<AtomicUsize>,
    book: Arc<Book>,
    complained_at: Option<Instant>,
}

impl Desk {
    fn serve(mut self, orders: &Receiver<Order>) {
        while let Ok(first) = orders.recv() {
            let (mut keys, mut tellers) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(order) = next {
                match order {
                    Order::Tell(key, teller) => {
                        keys.push(key);
                        tellers.push(teller);
                    }
                    Order::Close(tell) => {
                        self.write(&keys, tellers);
                        if let Err(error) = self.file.sync() {
                            self.complain(&error);
                        }
                        let _ = tell.send(()); // whoever waits for it
                        return;
                    }
                }
                next = if keys.len() < BATCH_COUNT_MAX { orders.try_recv().ok() } else { None };
            }
            self.write(&keys, tellers);
        }
    }

    fn write(&mut self, keys: &[Box<[u8]>], tellers: Vec<Teller>) {
        if keys.is_empty() {
            return;
        }
        let written = self.file.append(keys.iter().map(AsRef::as_ref), now_ms());
        self.waiting_count.fetch_sub(tellers.len(), Relaxed);
        let numbers = &self.book.numbers;
        let counter = if written.is_ok() { &numbers.feed_written } else { &numbers.feed_refused };
        Numbers::add(counter, tellers.len());
        let written = written.map_err(|error| {
            self.complain(&error);
            BROKEN
        });
        for Teller { token, inbox } in tellers {
            // A worker that has ended waits for nothing.
            let _ = inbox.send((token, written));
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained_at.is_none_or(|at| at.elapsed() >= COMPLAINS_EVERY) {
            self.complained_at = Some(Instant::now());
            tracing::error!("the feed cannot be written: {error}");
        }
    }
}
