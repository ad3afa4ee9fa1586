//! Other processes with the same `dir`, above all the one that this one takes over from: what they have accepted must not be
//! read here either, and is theirs to deliver until they end.
//!
//! Their segments are read as they grow. Their deletes are marked in the books with numbers that no entry has, so none is
//! delivered, cancelled or taken for an entry of ours.

use super::book::Book;
use super::disk::{Directory, Disk};
use super::entry::Entry;
use super::home::{self, Shelf};
use super::owed::{KeyHash, Owed, THEIRS};
use super::segment::{HEADER_BYTES, Header, Reading, SegmentId, read_header};
use super::store::Store;
use crate::stats::LogRate;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All that are there now, and our own place among them.
pub(super) struct Neighbours {
    dir: PathBuf,
    own: Shelf,
    shelves: BTreeMap<PathBuf, BTreeMap<SegmentId, Watched>>,
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
    /// Looks at all that are there.
    pub(super) fn new(dir: PathBuf, own: Shelf, book: &Book) -> io::Result<Self> {
        let mut neighbours = Self { dir, own, shelves: BTreeMap::new() };
        neighbours.watch(book)?;
        Ok(neighbours)
    }

    /// Whether there is nobody else.
    pub(super) fn is_empty(&self) -> bool {
        self.shelves.is_empty()
    }

    /// Looks at what is new, and takes over from those that have ended.
    pub(super) fn look(&mut self, store: &mut Store, book: &Book) {
        // Nothing is lost by an error: it is looked at again, and at every start.
        for shelf in home::abandoned(&self.dir).unwrap_or_default() {
            match super::absorb(store, &shelf) {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "deletes of a process that ended are taken over"),
                Err(error) => tell(&shelf.path, &error),
            }
            // only now: what is pending has a mark of our own
            self.forget(&shelf.path);
        }
        if let Err(error) = self.watch(book)
            && error.kind() != io::ErrorKind::NotFound
        {
            tell(&self.dir, &error);
        }
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
        if let Header::Newer(_) = read_header(&disk.read(&id.name(), 0, HEADER_BYTES)?) {
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
