//! Other processes with the same `dir`, above all the one that this one takes over from: what they have accepted must not be
//! read here either, and is theirs to deliver until they end.
//!
//! Their segments are read as they grow. Their deletes are marked in the books with numbers that no entry has, so none is
//! delivered, cancelled or taken for an entry of ours.
//!
//! ```text
//!  in use ─► (its process ends) ─► left ─► (all of it is copied and safe) ─► gone
//!                                   ▲  │ no room, or the disk fails: a second later
//!                                   └──┘
//! ```

use super::book::Book;
use super::disk::{Directory, Disk};
use super::entry::Entry;
use super::home::{self, Shelf, SpoolError};
use super::owed::{KeyHash, Owed, THEIRS};
use super::segment::{HEADER_BYTES, Header, Reading, SegmentId, header_of};
use super::store::{Store, StoreError};
use crate::stats::LogRate;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failure to take over: what is in the way does not go by itself.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// All that are there now, and our own place among them.
pub(super) struct Neighbours {
    dir: PathBuf,
    own: Shelf,
    /// Those in use, and those of `left`.
    shelves: BTreeMap<PathBuf, BTreeMap<SegmentId, Watched>>,
    /// Of processes that have ended, locked for us, and not taken over yet.
    left: Vec<Left>,
    /// Nothing is taken over before.
    try_at: Instant,
}

/// What a process that ended has left.
struct Left {
    shelf: Shelf,
    /// It knows what has been copied, so a second try goes on where the first one stopped.
    store: Store,
}

/// A segment of somebody else's.
#[derive(Default)]
struct Watched {
    /// Read up to here.
    offset: u64,
    /// By number.
    marks: HashMap<u64, (Arc<Owed>, KeyHash)>,
}

impl Watched {
    fn forget(&mut self, number: u64) -> bool {
        let mark = self.marks.remove(&number);
        mark.is_some_and(|(owed, hash)| owed.remove(hash, THEIRS + number))
    }

    fn forget_all(&mut self) {
        for (number, (owed, hash)) in self.marks.drain() {
            owed.remove(hash, THEIRS + number);
        }
    }
}

impl Neighbours {
    /// Takes over from those that have ended, and looks at all that are there.
    pub(super) fn new(
        dir: PathBuf,
        own: Shelf,
        abandoned: Vec<Shelf>,
        store: &mut Store,
        book: &Book,
        time_ms: u64,
    ) -> Result<Self, SpoolError> {
        let (shelves, try_at) = (BTreeMap::new(), Instant::now());
        let mut neighbours = Self { dir, own, shelves, left: Vec::new(), try_at };
        for shelf in abandoned {
            let path = shelf.path.clone();
            let left = Left::open(shelf, store).map_err(|error| SpoolError::new(&path, error))?;
            neighbours.left.push(left);
        }
        neighbours.take_over(store, time_ms);
        let watched = neighbours.watch(book);
        watched.map_err(|error| SpoolError::new(&neighbours.dir, error))?;
        Ok(neighbours)
    }

    /// Whether there is nobody else.
    pub(super) fn is_empty(&self) -> bool {
        self.shelves.is_empty()
    }

    /// Looks at what is new, and takes over from those that have ended.
    pub(super) fn look(&mut self, store: &mut Store, book: &Book, time_ms: u64) {
        if Instant::now() >= self.try_at {
            self.find_left(store);
            self.take_over(store, time_ms);
        }
        if let Err(error) = self.watch(book)
            && error.kind() != io::ErrorKind::NotFound
        {
            tell(&self.dir, &error);
        }
    }

    /// Locks what processes have left since.
    fn find_left(&mut self, store: &Store) {
        // Nothing is lost by an error: it is looked at again, and at every start.
        for shelf in home::abandoned(&self.dir).unwrap_or_default() {
            let path = shelf.path.clone();
            match Left::open(shelf, store) {
                Ok(left) => self.left.push(left),
                Err(error) => self.try_later(&path, &error),
            }
        }
    }

    /// Makes ours what has been left. Where that fails its marks stay, and its keys are misses.
    fn take_over(&mut self, store: &mut Store, time_ms: u64) {
        for mut left in std::mem::take(&mut self.left) {
            match store.absorb(&mut left.store, time_ms) {
                Ok(count) => {
                    if count > 0 {
                        tracing::info!(count, "deletes of a process that ended are taken over");
                    }
                    left.shelf.remove_if_empty();
                    // only now: what is pending has a mark of our own
                    self.forget(&left.shelf.path);
                }
                Err(error) => {
                    self.try_later(&left.shelf.path, &error);
                    self.left.push(left);
                }
            }
        }
    }

    fn try_later(&mut self, path: &Path, error: &StoreError) {
        self.try_at = Instant::now() + TRY_AGAIN;
        tell(path, &format_args!("the deletes of a process that ended are not taken over yet: {error}"));
    }

    /// The process ends.
    pub(super) fn leave(&self) {
        self.own.remove_if_empty();
    }

    fn watch(&mut self, book: &Book) -> io::Result<()> {
        let found = home::shelves(&self.dir)?;
        let gone: Vec<PathBuf> = self.shelves.keys().filter(|path| !found.contains(path)).cloned().collect();
        gone.iter().for_each(|path| self.forget(path));
        for path in found {
            // what is left is in use too: we have its lock
            if path != self.own.path && (self.shelves.contains_key(&path) || home::is_in_use(&path)) {
                look_at(&path, self.shelves.entry(path.clone()).or_default(), book)?;
            }
        }
        Ok(())
    }

    /// What this one had is ours by now, or done with.
    fn forget(&mut self, path: &Path) {
        for mut watched in self.shelves.remove(path).into_iter().flat_map(BTreeMap::into_values) {
            watched.forget_all();
        }
    }
}

impl Left {
    fn open(shelf: Shelf, store: &Store) -> Result<Self, StoreError> {
        let disk: Arc<dyn Disk> = Arc::new(Directory::new(&shelf.path));
        let store = store.open_other(disk)?;
        Ok(Self { shelf, store })
    }
}

/// What is wrong is seen at each look, several times a second.
fn tell(path: &Path, error: &dyn Display) {
    static TOLD: LogRate = LogRate::new();
    if TOLD.may_log() {
        tracing::error!("{}: {error}", path.display());
    }
}

fn look_at(path: &Path, segments: &mut BTreeMap<SegmentId, Watched>, book: &Book) -> io::Result<()> {
    let disk = Directory::new(path);
    let mut found: Vec<(SegmentId, u64)> = Vec::new();
    for (name, bytes) in disk.list()? {
        found.extend(SegmentId::parse(&name).map(|id| (id, bytes)));
    }
    found.sort();
    // a segment is removed when nothing in it is pending
    let gone: Vec<SegmentId> =
        segments.keys().filter(|id| !found.iter().any(|(there, _)| there == *id)).copied().collect();
    for id in gone {
        if let Some(mut watched) = segments.remove(&id) {
            watched.forget_all();
        }
    }
    let mut done = Vec::new();
    for (id, bytes) in found {
        let watched = segments.entry(id).or_default();
        if watched.offset >= bytes {
            continue;
        }
        if let Header::Newer(_) = header_of(&disk, &id.name())? {
            continue; // whoever writes that knows how to wait for us
        }
        let mut reading = Reading::from(&disk, id, watched.offset.max(HEADER_BYTES as u64));
        loop {
            // an entry that is being written is read the next time
            watched.offset = reading.offset();
            match reading.next()? {
                Some(Entry::Delete(delete)) => {
                    let owed = book.server(&delete.address);
                    let hash = owed.hash(&delete.key);
                    if owed.number(hash).is_none_or(|number| number >= THEIRS) {
                        owed.add(hash, THEIRS + delete.number, delete.time_ms);
                        watched.marks.insert(delete.number, (owed, hash));
                    }
                }
                Some(Entry::Done { numbers, .. }) => done.extend(numbers),
                None => break,
            }
        }
    }
    for number in done {
        segments.values_mut().any(|watched| watched.forget(number));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::power::{Fails, Power};
    use super::super::store::{Bounds, Wanted};
    use super::*;
    use crate::config::OnFull;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn scratch(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("ringway-neighbours-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path); // of a test that was killed
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn opened(disk: impl Disk + 'static) -> (Store, Arc<Book>) {
        let bounds = Bounds { bytes_max: 1 << 20, age_max: None, on_full: OnFull::Error, syncs_each: true };
        let book = Arc::new(Book::default());
        (Store::open(Arc::new(disk), Arc::clone(&book), bounds).unwrap(), book)
    }

    /// The number of the pending delete.
    fn number(book: &Book) -> Option<u64> {
        let owed = book.server("a:1");
        owed.number(owed.hash(b"k"))
    }

    #[test]
    fn what_cannot_be_taken_over_is_hidden_from_readers_until_it_can() {
        for ends_first in [true, false] {
            let scratch = scratch(if ends_first { "start" } else { "later" });
            let dir = &scratch.0;
            let theirs = home::new_shelf(dir).unwrap();
            let path = theirs.path.clone();
            let (mut store, book) = opened(Directory::new(&path));
            let wanted = Wanted { owed: book.server("a:1"), pool: "p".into(), key: (*b"k").into() };
            store.append(&[wanted], 0).unwrap();
            drop(store);
            let theirs = Some(theirs).filter(|_| !ends_first);

            let own = home::new_shelf(dir).unwrap();
            let disk = Power::default();
            let (mut store, book) = opened(disk.clone());
            disk.fail_at(disk.calls_count(), Fails::Full);
            let abandoned = home::abandoned(dir).unwrap();
            assert_eq!(abandoned.len(), usize::from(ends_first));
            let mut neighbours =
                Neighbours::new(dir.clone(), own, abandoned, &mut store, &book, 0).expect("it can serve");
            drop(theirs);
            if ends_first {
                neighbours.try_at += Duration::from_secs(3_600); // not yet, however slow the machine is
            }
            neighbours.look(&mut store, &book, 0);
            assert!(number(&book) >= Some(THEIRS), "it is not to be read, nor ours to deliver");
            assert!(!neighbours.is_empty() && neighbours.left.len() == 1 && path.exists());

            // there is room again, and a second has passed
            neighbours.try_at = Instant::now();
            neighbours.look(&mut store, &book, 0);
            assert!(number(&book).is_some_and(|number| number < THEIRS), "it is ours");
            assert!(neighbours.is_empty() && neighbours.left.is_empty() && !path.exists());
        }
    }
}
