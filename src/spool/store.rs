//! The segments of one directory, as the writing thread has them: what is appended, found again, delivered and removed.
//!
//! ```text
//!  append ─► current segment ─► (full) ─► older segments ─► (nothing pending in it) ─► removed
//! ```
//! No clock but for ages, no thread: `writer.rs` calls it, tests call it over a disk that loses power.

use super::book::{Book, Numbers};
use super::disk::{Disk, Growing};
use super::entry::{DELETE_BYTES, Delete, Entry, NUMBERS_COUNT_MAX, Why, write_delete, write_done};
use super::owed::Owed;
use super::segment::{HEADER_BYTES, Header, Reading, SegmentId, read_header};
use crate::config::OnFull;
use crate::route::Refused;
use crate::stats::LogRate;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A segment is closed when it has this size, or an eighth of all.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// The one that is written to stays up to this size when nothing is pending any more.
const USED_AGAIN_BYTES_MAX: u64 = 1 << 20;
/// Deletes that are copied with one write.
const ABSORBED_COUNT: usize = 4_096;
/// Entries that one look for pending ones passes by before somebody else has a turn.
const LOOK_COUNT_MAX: usize = 50_000;

pub(super) const FULL: Refused = Refused("SERVER_ERROR the spool is full, the delete is lost");
const BROKEN: Refused = Refused("SERVER_ERROR the spool cannot be written, the delete is lost");
const TOO_LONG: Refused = Refused("SERVER_ERROR the delete does not fit into the spool");

/// What bounds a store.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub bytes_max: u64,
    pub age_max: Option<Duration>,
    pub on_full: OnFull,
    /// Nothing counts as written before it is safe.
    pub syncs_each: bool,
}

/// A delete to be kept.
pub struct Wanted {
    pub owed: Arc<Owed>,
    pub pool: Arc<str>,
    pub key: Box<[u8]>,
}

/// A delete to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub number: u64,
    pub time_ms: u64,
    pub pool: String,
    pub key: Vec<u8>,
}

/// Where a look for pending deletes goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    segment: u64,
    offset: u64,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0} is of a newer version ({1}); nothing was changed")]
    Newer(String, u16),
    #[error("{0} is none of the spool's files; nothing was changed")]
    Foreign(String),
}

/// The segments of one directory.
pub struct Store {
    disk: Arc<dyn Disk>,
    book: Arc<Book>,
    bounds: Bounds,
    /// By the numbers that they begin with.
    segments: BTreeMap<u64, Segment>,
    current: Option<(u64, Arc<dyn Growing>)>,
    /// Files with something that is not safe yet.
    dirty: Vec<Arc<dyn Growing>>,
    next_number: u64,
    bytes: u64,
    /// Done with, and not written down yet.
    done: BTreeMap<u8, (Why, Vec<u64>)>,
    /// What is written with one call.
    buffer: Vec<u8>,
}

struct Segment {
    id: SegmentId,
    bytes: u64,
    /// The number of its last delete.
    last: u64,
    /// Deletes in it, and how many of them are pending.
    count: u64,
    pending_count: u64,
    /// Older segments of which it says that something in them is done with.
    speaks_of: BTreeSet<u64>,
    begun: Instant,
    appended: Instant,
}

impl Wanted {
    fn size(&self) -> usize {
        DELETE_BYTES + self.pool.len() + self.owed.address.len() + self.key.len()
    }
}

impl Segment {
    fn new(id: SegmentId, bytes: u64, now: Instant) -> Self {
        let (begun, appended) = (now, now);
        Self { id, bytes, last: 0, count: 0, pending_count: 0, speaks_of: BTreeSet::new(), begun, appended }
    }
}

/// The segments of a directory and their sizes, in their order.
///
/// # Errors
/// When something in it is none of ours, or newer than we are. Nothing is changed.
pub(super) fn check_shelf(disk: &dyn Disk) -> Result<Vec<(SegmentId, u64)>, StoreError> {
    let mut ids = Vec::new();
    for (name, bytes) in disk.list()? {
        let id = SegmentId::parse(&name).ok_or_else(|| StoreError::Foreign(name.clone()))?;
        if let Header::Newer(version) = read_header(&disk.read(&name, 0, HEADER_BYTES)?) {
            return Err(StoreError::Newer(name, version));
        }
        ids.push((id, bytes));
    }
    ids.sort();
    Ok(ids)
}

impl Store {
    /// Takes over what a directory holds: from now on it is pending.
    ///
    /// # Errors
    /// When the directory holds what is not ours, or cannot be read. Nothing is changed.
    pub fn open(disk: Arc<dyn Disk>, book: Arc<Book>, bounds: Bounds) -> Result<Self, StoreError> {
        let ids = check_shelf(&*disk)?;
        let mut store = Self {
            disk,
            book,
            bounds,
            segments: BTreeMap::new(),
            current: None,
            dirty: Vec::new(),
            next_number: 1,
            bytes: 0,
            done: BTreeMap::new(),
            buffer: Vec::new(),
        };
        store.take_in(&ids)?;
        Ok(store)
    }

    fn take_in(&mut self, ids: &[(SegmentId, u64)]) -> io::Result<()> {
        let done = self.read_done(ids)?;
        let now = Instant::now();
        for (id, bytes) in ids {
            self.bytes += bytes;
            self.next_number = self.next_number.max(id.number + 1);
            self.segments.insert(id.number, Segment::new(*id, *bytes, now));
            let disk = Arc::clone(&self.disk);
            let mut reading = Reading::whole(&*disk, *id);
            while let Some(entry) = reading.next()? {
                match entry {
                    Entry::Delete(delete) => {
                        self.next_number = self.next_number.max(delete.number + 1);
                        if done.binary_search(&delete.number).is_err() {
                            let owed = self.book.server(&delete.address);
                            self.add(&owed, &delete, id.number);
                        }
                    }
                    Entry::Done { numbers, .. } => self.speaks(id.number, &numbers),
                }
            }
            Numbers::add(&self.book.numbers.broken_bytes, usize::try_from(reading.broken_bytes).unwrap_or(0));
        }
        self.book.newest.store(self.next_number - 1, Relaxed);
        self.remove_needless();
        Ok(())
    }

    /// The numbers of all that is done with, in order.
    fn read_done(&self, ids: &[(SegmentId, u64)]) -> io::Result<Vec<u64>> {
        let mut done = Vec::new();
        for (id, _) in ids {
            let mut reading = Reading::whole(&*self.disk, *id);
            while let Some(entry) = reading.next()? {
                if let Entry::Done { numbers, .. } = entry {
                    done.extend(numbers);
                }
            }
        }
        done.sort_unstable();
        Ok(done)
    }

    /// A delete stands in a segment.
    fn add(&mut self, owed: &Owed, delete: &Delete, segment: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.count += 1;
            segment.pending_count += 1;
            segment.last = segment.last.max(delete.number);
        }
        let former = owed.add(owed.hash(&delete.key), delete.number, delete.time_ms);
        if let Some(former) = former {
            self.forget(former);
        }
    }

    /// One pending delete less in the segment that has it.
    fn forget(&mut self, number: u64) {
        let segment = self.segment_of(number).and_then(|segment| self.segments.get_mut(&segment));
        if let Some(segment) = segment {
            segment.pending_count = segment.pending_count.saturating_sub(1);
        }
    }

    /// The segment that has the delete of this number, if it is still there.
    fn segment_of(&self, number: u64) -> Option<u64> {
        let (id, segment) = self.segments.range(..=number).next_back()?;
        (number <= segment.last).then_some(*id)
    }

    /// A segment says that these are done with.
    fn speaks(&mut self, segment: u64, numbers: &[u64]) {
        let of: BTreeSet<u64> = numbers
            .iter()
            .filter_map(|number| self.segment_of(*number))
            .filter(|of| *of != segment)
            .collect();
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.speaks_of.extend(of);
        }
    }

    /// Writes deletes down, all or none; they are pending when this returns.
    ///
    /// # Errors
    /// What each client is told.
    pub fn append(&mut self, wanted: &[Wanted], time_ms: u64) -> Result<(), Refused> {
        let size: usize = wanted.iter().map(Wanted::size).sum();
        self.make_room(size as u64)?;
        let segment = self.writable(time_ms).map_err(|error| self.failed(&error))?;
        let mut deletes: Vec<Delete> = Vec::with_capacity(wanted.len());
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut written = Ok(());
        for want in wanted {
            let (pool, address) = (want.pool.to_string(), want.owed.address.clone());
            let delete = Delete { number: self.next_number, time_ms, pool, address, key: want.key.to_vec() };
            if !write_delete(&delete, segment.salt, &mut buffer) {
                written = Err(TOO_LONG);
            }
            // Even what fails may be found there one day, so the number is used.
            self.next_number += 1;
            deletes.push(delete);
        }
        let written = written.and_then(|()| self.write(&buffer).map_err(|error| self.failed(&error)));
        self.buffer = buffer;
        written?;
        self.book.newest.store(self.next_number - 1, Relaxed);
        for (want, delete) in wanted.iter().zip(&deletes) {
            self.add(&want.owed, delete, segment.number);
        }
        Numbers::add(&self.book.numbers.written, deletes.len());
        self.tell_sizes();
        self.book.bell.notify_one();
        Ok(())
    }

    /// The segment that is written to; a new one where there is none, or it is large or old enough.
    fn writable(&mut self, time_ms: u64) -> io::Result<SegmentId> {
        let bytes_max = SEGMENT_BYTES_MAX.min(self.bounds.bytes_max / 8);
        if let Some((number, _)) = &self.current
            && let Some(segment) = self.segments.get(number)
        {
            let is_old = self.bounds.age_max.is_some_and(|age| segment.begun.elapsed() > age / 8);
            if segment.bytes < bytes_max && !is_old {
                return Ok(segment.id);
            }
        }
        self.current = None;
        let salt = RandomState::new().hash_one(self.next_number) as u32;
        let id = SegmentId { number: self.next_number, salt };
        self.next_number += 1;
        let file = self.disk.create(&id.name())?;
        let mut made = file.append(&id.header(time_ms));
        if self.bounds.syncs_each {
            // what is promised later must be found: the file's name too
            made = made.and_then(|()| self.disk.sync());
        }
        made.inspect_err(|_| {
            // An empty file more or less: what matters is that nothing was promised.
            let _ = self.disk.remove(&id.name());
        })?;
        self.bytes += HEADER_BYTES as u64;
        self.segments.insert(id.number, Segment::new(id, HEADER_BYTES as u64, Instant::now()));
        self.current = Some((id.number, file));
        Ok(id)
    }

    /// Appends to the current segment. After a failure it is not written to any more: nobody knows how it ends.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some((number, file)) = &self.current else { return Err(io::ErrorKind::NotFound.into()) };
        let (number, file) = (*number, Arc::clone(file));
        let mut written = file.append(bytes);
        if self.bounds.syncs_each {
            written = written.and_then(|()| self.sync_file(&*file));
        } else if !self.dirty.iter().any(|dirty| Arc::ptr_eq(dirty, &file)) {
            self.dirty.push(file);
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.bytes += bytes.len() as u64;
            segment.appended = Instant::now();
            self.bytes += bytes.len() as u64;
        }
        if written.is_err() {
            self.current = None;
        }
        written
    }

    fn sync_file(&self, file: &dyn Growing) -> io::Result<()> {
        let began = Instant::now();
        file.sync()?;
        self.book.numbers.synced(began.elapsed());
        Ok(())
    }

    /// Files with something that is not safe yet; the caller sees to them.
    pub fn take_dirty(&mut self) -> Vec<Arc<dyn Growing>> {
        std::mem::take(&mut self.dirty)
    }

    /// A file could not be made safe: what comes goes to another one.
    pub fn sync_failed(&mut self, error: &io::Error) {
        self.failed(error);
        self.current = None;
    }

    #[cold]
    fn failed(&self, error: &io::Error) -> Refused {
        static TOLD: LogRate = LogRate::new();
        Numbers::add(&self.book.numbers.disk_errors, 1);
        if TOLD.may_log() {
            tracing::error!("the spool cannot be written: {error}");
        }
        if error.kind() == io::ErrorKind::StorageFull { FULL } else { BROKEN }
    }

    /// Sees to it that so many bytes more stay within the bound.
    fn make_room(&mut self, bytes: u64) -> Result<(), Refused> {
        if self.bytes + bytes <= self.bounds.bytes_max {
            return Ok(());
        }
        while self.bytes + bytes > self.bounds.bytes_max && self.rewrite_sparse() {}
        if self.bounds.on_full == OnFull::DropOldest {
            while self.bytes + bytes > self.bounds.bytes_max && self.drop_oldest() {}
        }
        if self.bytes + bytes <= self.bounds.bytes_max { Ok(()) } else { Err(FULL) }
    }

    /// Writes what is pending in a segment of which most is done with anew, and removes that. `false`: there is none.
    fn rewrite_sparse(&mut self) -> bool {
        let is_sparse = |segment: &Segment| segment.pending_count * 2 < segment.count;
        let current = self.current.as_ref().map(|(number, _)| *number);
        let sparse = self.segments.values().find(|s| is_sparse(s) && Some(s.id.number) != current);
        let Some(id) = sparse.map(|segment| segment.id) else { return false };
        let Ok(deletes) = self.pending_in(id) else { return false };
        let wanted = |delete: Delete| Wanted {
            owed: self.book.server(&delete.address),
            pool: delete.pool.as_str().into(),
            key: delete.key.into(),
        };
        let time_ms = deletes.first().map_or(0, |delete| delete.time_ms);
        let wanted: Vec<Wanted> = deletes.into_iter().map(wanted).collect();
        if !wanted.is_empty() {
            // for this once beyond the bound: what it frees is more
            let bytes_max = std::mem::replace(&mut self.bounds.bytes_max, u64::MAX);
            let rewritten = self.append(&wanted, time_ms);
            self.bounds.bytes_max = bytes_max;
            let safe = self.take_dirty().iter().try_for_each(|file| file.sync());
            if rewritten.is_err() || safe.is_err() {
                return false;
            }
        }
        self.remove_needless();
        !self.segments.contains_key(&id.number)
    }

    /// The deletes of a segment that are pending.
    fn pending_in(&self, id: SegmentId) -> io::Result<Vec<Delete>> {
        let mut found = Vec::new();
        let mut reading = Reading::whole(&*self.disk, id);
        while let Some(entry) = reading.next()? {
            if let Entry::Delete(delete) = entry
                && self.is_pending(&delete)
            {
                found.push(delete);
            }
        }
        Ok(found)
    }

    fn is_pending(&self, delete: &Delete) -> bool {
        let owed = self.book.server(&delete.address);
        owed.number(owed.hash(&delete.key)) == Some(delete.number)
    }

    /// Copies what is pending in another directory, in its order, and removes it there.
    ///
    /// # Errors
    /// As [`Self::open`]; or when there is no room. Then it is left as it was.
    pub fn absorb(&mut self, disk: Arc<dyn Disk>, time_ms: u64) -> Result<usize, StoreError> {
        let theirs = Self::open(disk, Arc::new(Book::default()), self.bounds.clone())?;
        let mut count = 0;
        for segment in theirs.segments.values() {
            for deletes in theirs.pending_in(segment.id)?.chunks(ABSORBED_COUNT) {
                let wanted = |delete: &Delete| Wanted {
                    owed: self.book.server(&delete.address),
                    pool: delete.pool.as_str().into(),
                    key: delete.key.as_slice().into(),
                };
                let wanted: Vec<Wanted> = deletes.iter().map(wanted).collect();
                self.append(&wanted, time_ms).map_err(|refused| io::Error::other(refused.0))?;
                count += wanted.len();
            }
        }
        self.take_dirty().iter().try_for_each(|file| file.sync())?;
        self.disk.sync()?;
        for segment in theirs.segments.values() {
            theirs.disk.remove(&segment.id.name())?;
        }
        Ok(count)
    }

    /// Gives the oldest segment up. `false`: there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(id) = self.segments.values().next().map(|segment| segment.id) else { return false };
        self.drop_segment(id);
        true
    }

    fn drop_segment(&mut self, id: SegmentId) {
        let deletes = self.pending_in(id).unwrap_or_default();
        for delete in &deletes {
            let owed = self.book.server(&delete.address);
            owed.remove(owed.hash(&delete.key), delete.number);
        }
        Numbers::add(&self.book.numbers.dropped, deletes.len());
        static TOLD: LogRate = LogRate::new();
        if TOLD.may_log() {
            tracing::warn!(deletes = deletes.len(), "deletes of the spool are given up, the oldest first");
        }
        self.remove(id);
    }

    /// Gives up what has waited for too long. Only time in which the process runs counts: no clock that is set can make a
    /// delete old.
    pub fn expire(&mut self) {
        let Some(age_max) = self.bounds.age_max else { return };
        let is_old = |segment: &&Segment| segment.appended.elapsed() > age_max;
        let old: Vec<SegmentId> = self.segments.values().filter(is_old).map(|segment| segment.id).collect();
        old.into_iter().for_each(|id| self.drop_segment(id));
        self.tell_sizes();
    }

    /// These entries are done with; whoever says so has taken them out of the books.
    pub fn done(&mut self, why: Why, numbers: Vec<u64>) {
        let counter = match why {
            Why::Delivered => &self.book.numbers.replayed,
            Why::Cancelled => &self.book.numbers.cancelled,
            Why::Dropped => &self.book.numbers.dropped,
            Why::Moved => &self.book.numbers.moved,
        };
        Numbers::add(counter, numbers.len());
        for number in &numbers {
            self.forget(*number);
        }
        self.done.entry(why as u8).or_insert((why, Vec::new())).1.extend(numbers);
        self.remove_needless();
        if self.done.values().any(|(_, numbers)| numbers.len() >= NUMBERS_COUNT_MAX) {
            self.write_done(0);
        }
    }

    /// Writes down what is done with. It is only a help: what is not written is delivered once more.
    pub fn write_done(&mut self, time_ms: u64) {
        for (why, mut numbers) in std::mem::take(&mut self.done).into_values() {
            // those whose segments are gone need not be spoken of
            numbers.retain(|number| self.segment_of(*number).is_some());
            for numbers in numbers.chunks(NUMBERS_COUNT_MAX) {
                let Ok(id) = self.writable(time_ms) else { return };
                let mut bytes = Vec::new();
                if !write_done(why, numbers, id.salt, &mut bytes) || self.write(&bytes).is_err() {
                    return;
                }
                self.speaks(id.number, numbers);
            }
        }
        self.tell_sizes();
    }

    /// Removes segments in which nothing is pending, and that say nothing of others that are still there.
    fn remove_needless(&mut self) {
        loop {
            let current = self.current.as_ref().map(|(number, _)| *number);
            let is_needless = |segment: &Segment| {
                // a small one that is written to is used again, or each delete would cost a file of its own
                let is_in_use = Some(segment.id.number) == current && segment.bytes < USED_AGAIN_BYTES_MAX;
                let speaks = segment.speaks_of.iter().any(|of| self.segments.contains_key(of));
                segment.pending_count == 0 && !is_in_use && !speaks
            };
            let found = self.segments.values().find(|segment| is_needless(segment));
            let Some(id) = found.map(|segment| segment.id) else { return self.tell_sizes() };
            self.remove(id);
        }
    }

    fn remove(&mut self, id: SegmentId) {
        if self.current.as_ref().is_some_and(|(number, _)| *number == id.number) {
            self.current = None;
        }
        let Some(segment) = self.segments.remove(&id.number) else { return };
        self.bytes -= segment.bytes;
        if let Err(error) = self.disk.remove(&id.name()) {
            self.failed(&error);
        }
    }

    /// Pending deletes of a server that may be delivered, oldest first, and where to go on; `None`: that is all.
    pub fn look(
        &self,
        owed: &Owed,
        from: Cursor,
        count_max: usize,
    ) -> io::Result<(Vec<Pending>, Option<Cursor>)> {
        let (mut found, mut looked) = (Vec::new(), 0);
        for (number, segment) in self.segments.range(from.segment..) {
            if segment.pending_count == 0 {
                continue;
            }
            let is_first = *number == from.segment && from.offset > 0;
            let mut reading = if is_first {
                Reading::from(&*self.disk, segment.id, from.offset)
            } else {
                Reading::whole(&*self.disk, segment.id)
            };
            loop {
                if found.len() >= count_max || looked >= LOOK_COUNT_MAX {
                    return Ok((found, Some(Cursor { segment: *number, offset: reading.offset() })));
                }
                let Some(entry) = reading.next()? else { break };
                looked += 1;
                if let Entry::Delete(delete) = entry
                    && delete.address == owed.address
                    && delete.number <= owed.settled()
                    && owed.number(owed.hash(&delete.key)) == Some(delete.number)
                {
                    let Delete { number, time_ms, pool, key, .. } = delete;
                    found.push(Pending { number, time_ms, pool, key });
                }
            }
        }
        Ok((found, None))
    }

    /// Nothing is written any more: what nobody needs is removed.
    pub fn close(&mut self, time_ms: u64) {
        if self.book.pending() > 0 {
            return self.write_done(time_ms);
        }
        self.current = None;
        self.done.clear();
        let all: Vec<SegmentId> = self.segments.values().map(|segment| segment.id).collect();
        all.into_iter().for_each(|id| self.remove(id));
        self.tell_sizes();
    }

    fn tell_sizes(&self) {
        self.book.numbers.bytes.store(self.bytes, Relaxed);
        self.book.numbers.segments.store(self.segments.len() as u64, Relaxed);
    }
}
