//! What `ringway spool` changes in a spool that no process has: deletes are put in, or delivered.

use super::book::Book;
use super::courier::{Answer, Courier, UNDER_WAY_COUNT_MAX, Words};
use super::disk::{Directory, Disk};
use super::entry::{Delete, Why};
use super::home::{self, Shelf, SpoolError};
use super::owed::Owed;
use super::store::{Bounds, Cursor, Store, Wanted};
use super::writer::now_ms;
use crate::config::OnFull;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn unbounded() -> Bounds {
    Bounds { bytes_max: u64::MAX, age_max: None, on_full: OnFull::Error, syncs_each: false }
}

/// A directory of our own beside those of processes; a ringway that runs takes it over when this is dropped.
pub struct Import {
    store: Store,
    disk: Arc<dyn Disk>,
    book: Arc<Book>,
    shelf: Shelf,
}

impl Import {
    /// # Errors
    /// As [`home::check`]; or when nothing can be written.
    pub fn into(dir: &Path) -> Result<Self, SpoolError> {
        home::check(dir, false)?;
        let shelf = home::new_shelf(dir).map_err(|error| SpoolError::new(dir, error))?;
        let disk: Arc<dyn Disk> = Arc::new(Directory::new(&shelf.path));
        let book = Arc::new(Book::default());
        let store = Store::open(Arc::clone(&disk), Arc::clone(&book), unbounded());
        Ok(Self { store: store.map_err(|error| SpoolError::new(dir, error))?, disk, book, shelf })
    }

    /// Puts deletes in.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn add(&mut self, deletes: &[Delete]) -> io::Result<()> {
        let wanted = |delete: &Delete| Wanted {
            owed: self.book.server(&delete.address),
            pool: delete.pool.as_str().into(),
            key: delete.key.as_slice().into(),
        };
        let wanted: Vec<Wanted> = deletes.iter().map(wanted).collect();
        let time_ms = deletes.first().map_or_else(now_ms, |delete| delete.time_ms);
        self.store.append(&wanted, time_ms).map_err(|refused| io::Error::other(refused.0))
    }

    /// All of it is safe.
    ///
    /// # Errors
    /// When it is not.
    pub fn finish(mut self) -> io::Result<()> {
        self.store.take_dirty().iter().try_for_each(|file| file.sync())?;
        self.disk.sync()?;
        self.shelf.remove_if_empty();
        Ok(())
    }
}

/// What became of the deletes for one server.
#[derive(Debug)]
pub struct Delivered {
    pub address: String,
    pub delivered_count: usize,
    pub left_count: usize,
    /// Why some are left.
    pub error: Option<io::Error>,
}

/// Delivers what processes that ended have left, server by server, oldest first. `tick` hears of each delivery.
///
/// # Errors
/// When the spool cannot be read.
pub fn deliver(
    dir: &Path,
    per_second_max: usize,
    mut tick: impl FnMut(usize),
) -> Result<Vec<Delivered>, SpoolError> {
    home::check(dir, false)?;
    let mut all = Vec::new();
    for shelf in home::abandoned(dir).map_err(|error| SpoolError::new(dir, error))? {
        let failed = |error: &dyn std::fmt::Display| SpoolError::new(&shelf.path, error);
        let disk: Arc<dyn Disk> = Arc::new(Directory::new(&shelf.path));
        let book = Arc::new(Book::default());
        let mut store = Store::open(disk, Arc::clone(&book), unbounded()).map_err(|error| failed(&error))?;
        for owed in book.servers() {
            let mut delivered_count = 0;
            let mut told = |count| {
                delivered_count += count;
                tick(count);
            };
            let error = deliver_to(&owed, &mut store, per_second_max, &mut told).err();
            let (address, left_count) = (owed.address.clone(), owed.count());
            all.push(Delivered { address, delivered_count, left_count, error });
        }
        store.close(now_ms());
        shelf.remove_if_empty();
    }
    Ok(all)
}

fn deliver_to(
    owed: &Owed,
    store: &mut Store,
    per_second_max: usize,
    told: &mut impl FnMut(usize),
) -> io::Result<()> {
    let mut server = Courier::connect(&owed.address)?;
    owed.settle(u64::MAX);
    let began = Instant::now();
    let mut sent_count = 0;
    let (mut cursor, mut refused) = (Some(Cursor::default()), None);
    while let Some(from) = cursor {
        let (batch, next) = store.look(owed, from, UNDER_WAY_COUNT_MAX)?;
        server.send(batch.iter().map(|pending| pending.key.as_slice()), Words::Plain)?;
        let mut numbers = Vec::with_capacity(batch.len());
        for pending in &batch {
            // What the server calls our fault it will never take. Trouble with one key is none with the next.
            if let Answer::Error(line) = server.answer()? {
                refused.get_or_insert(line);
                continue;
            }
            if owed.remove(owed.hash(&pending.key), pending.number) {
                numbers.push(pending.number);
            }
        }
        told(numbers.len());
        store.done(Why::Delivered, numbers);
        sent_count += batch.len();
        let due = Duration::from_secs_f64(sent_count as f64 / per_second_max as f64);
        #[expect(clippy::disallowed_methods, reason = "a verb of the command line, no worker")]
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        cursor = next;
    }
    refused.map_or(Ok(()), |line| Err(io::Error::other(format!("it answered: {line}"))))
}
