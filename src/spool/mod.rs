//! Deletes that must not be lost: written down before the client is answered, delivered when their server is back.
//!
//! ```text
//!  leaf (route::Logged) ─► log ─► writer ─► store ─► segment ─► entry, disk
//!        │ reads: is a delete pending?  │              ▲
//!        └────────► owed (in `book`) ◄──┘              │ look
//!                     ▲                                │
//!                     └──────── replay ── deletes ─────┴──► server
//! ```
//! Beside it the feed (`feed/`): what was acknowledged, for others to follow.
//!
//! `docs/spool-format.md` has the files, `ARCHITECTURE.md` the reasons.

pub mod asynclog;
mod book;
pub mod by_hand;
mod courier;
pub mod disk;
mod entry;
pub mod feed;
pub mod follow;
pub mod home;
mod log;
pub mod mcrouter;
mod neighbours;
pub mod offline;
mod owed;
pub mod power;
mod replay;
mod segment;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use book::{Book, Numbers};
pub use entry::{Delete, Why};
pub use home::{SpoolError, check, look};
pub use owed::Owed;
pub use replay::{Owner, Replay, Targets, UNDER_WAY_COUNT_MAX};
pub use store::{Bounds, Cursor, Pending, Store, StoreError, Wanted};

use crate::config::{self, AsynclogFormat, Sync};
use crate::protocol::Status;
use crate::route::{DeleteLog, Fed, LoggedTerms};
use asynclog::Asynclog;
use disk::{Directory, Disk};
use feed::FeedFile;
use mcrouter::Version;
use neighbours::Neighbours;
use replay::Pace;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use writer::{Writer, now_ms};

/// The spool of the process.
pub struct Spool {
    config: config::Spool,
    book: Arc<Book>,
    writer: Writer,
    /// `None`: nobody is told of deletes.
    feed: Option<feed::Writer>,
}

/// A worker's part of it.
pub struct Desk {
    spool: Arc<Spool>,
    desk: Rc<log::Desk>,
}

impl Spool {
    /// Opens the directory, and takes over what processes that ended have left there.
    ///
    /// # Errors
    /// When it cannot be used; then nothing was changed.
    pub fn open(config: &config::Spool) -> Result<Arc<Self>, SpoolError> {
        let dir = &config.dir;
        let failed = |error: &dyn std::fmt::Display| SpoolError::new(dir, error);
        check(dir, config.creates_dir)?;
        let syncs_each = config.sync == Sync::Each;
        let open_feed = |feed: &config::Feed| FeedFile::open(&feed.file, feed.bytes_max as u64, syncs_each);
        let asynclog = config.asynclog.as_ref().map(open_asynclog).transpose()?;
        let feed_file = config.feed.as_ref().map(open_feed).transpose()?;
        let book = Arc::new(Book::default());
        let bounds = Bounds {
            bytes_max: config.bytes_max as u64,
            age_max: config.age_max,
            on_full: config.on_full,
            syncs_each,
        };
        let mut abandoned = home::abandoned(dir).map_err(|error| failed(&error))?;
        // Most often there is one. It is used where it is; what others hold is copied.
        let shelf = match abandoned.pop() {
            Some(shelf) => shelf,
            None => home::new_shelf(dir).map_err(|error| failed(&error))?,
        };
        let disk: Arc<dyn Disk> = Arc::new(Directory::new(&shelf.path));
        let mut store = Store::open(Arc::clone(&disk), Arc::clone(&book), bounds)
            .map_err(|error| SpoolError::new(&shelf.path, error))?;
        // What the process before this one has accepted must not be read here either.
        let neighbours = Neighbours::new(dir.clone(), shelf, abandoned, &mut store, &book, now_ms())?;
        let broken_bytes = book.numbers.broken_bytes.load(Relaxed);
        if broken_bytes > 0 {
            tracing::warn!(
                broken_bytes,
                "the spool holds what is no entry: cut off when the process or the power went"
            );
        }
        if book.pending() > 0 {
            tracing::info!(pending = book.pending(), "deletes are waiting in the spool");
        }
        let writer = Writer::start(store, disk, config.sync, Arc::clone(&book), neighbours, asynclog)
            .map_err(|error| failed(&error))?;
        let start_feed = |file| feed::Writer::start(file, Arc::clone(&book));
        let feed = feed_file.map(start_feed).transpose().map_err(|error| failed(&error))?;
        Ok(Arc::new(Self { config: config.clone(), book, writer, feed }))
    }

    /// What it was opened with.
    #[must_use]
    pub const fn config(&self) -> &config::Spool {
        &self.config
    }

    /// What is pending, and what has been counted.
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// For the worker that this is called in.
    #[must_use]
    pub fn desk(self: &Arc<Self>) -> Desk {
        let desk = log::Desk::new(self.writer.clone(), Arc::clone(&self.book));
        Desk { spool: Arc::clone(self), desk }
    }

    /// Delivers from the worker that this is called in. One does.
    #[must_use]
    pub fn replay(&self, targets: Rc<dyn Targets>) -> Rc<Replay> {
        let pace = Pace {
            settle: self.config.settle,
            per_second_max: self.config.replay_per_second_max,
            on_gone: self.config.on_gone,
        };
        Replay::start(self.writer.clone(), Arc::clone(&self.book), pace, targets)
    }

    /// All that was accepted is safe; nothing more is.
    pub fn close(&self) {
        self.writer.close();
        if let Some(feed) = &self.feed {
            feed.close();
        }
    }

    /// How long the oldest pending delete has waited.
    #[must_use]
    pub fn oldest_s(&self) -> u64 {
        self.book.oldest_ms().map_or(0, age_s)
    }
}

impl Desk {
    /// The log of one server.
    #[must_use]
    pub fn log(&self, address: &str, pool: &str) -> Rc<dyn DeleteLog> {
        Rc::new(self.desk.log(address, pool))
    }

    /// Who is told of deletes that were acknowledged.
    #[must_use]
    pub fn fed(&self) -> Option<Fed> {
        let feed = Rc::new(self.desk.feed(self.spool.feed.clone()?));
        Some(Fed { feed, negative_exptime: self.spool.config.spools_negative_exptime })
    }

    /// What is a delete, and what is said of it. `miss_on_error` is the pool's.
    #[must_use]
    pub fn terms(&self, miss_on_error: bool) -> LoggedTerms {
        let config = &self.spool.config;
        LoggedTerms {
            answer: match config.answer {
                config::Answer::Deleted => Status::Deleted,
                config::Answer::NotFound => Status::NotFound,
            },
            fails_over: config.fails_over,
            negative_exptime: config.spools_negative_exptime,
            miss_on_error,
        }
    }
}

fn open_asynclog(config: &config::Asynclog) -> Result<Asynclog, SpoolError> {
    home::check_asynclog(config)?;
    let version = match config.format {
        AsynclogFormat::As1 => Version::As1,
        AsynclogFormat::As2 => Version::As2,
    };
    Ok(Asynclog::shared(&config.dir, version))
}

/// Seconds since then.
#[must_use]
pub fn age_s(time_ms: u64) -> u64 {
    now_ms().saturating_sub(time_ms) / 1_000
}
