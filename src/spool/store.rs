//! The segments of one directory, as the writing thread has them: what is appended, found again, delivered and removed.
//!
//! ```text
//!  append ─► current segment ─► (full) ─► older segments ─► (nothing pending in it) ─► removed
//!                  ▲                           │
//!                  └──── what is needed of it ─┴─► (no room, or a part of it cannot be read) ─► removed
//! ```
//! No clock but for ages, no thread: `writer.rs` calls it, tests call it over a disk that loses power.

use super::book::{Book, Numbers};
use super::disk::{Disk, Growing};
use super::entry::{DELETE_BYTES, Delete, Entry, NUMBERS_COUNT_MAX, Why, write_delete, write_done};
use super::owed::Owed;
use super::segment::{HEADER_BYTES, Header, Reading, SegmentId, header_of};
use crate::config::OnFull;
use crate::route::Refused;
use crate::stats::LogRate;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A segment is closed when it has this size, or an eighth of all.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// The one that is written to stays up to this size when nothing is pending any more.
const USED_AGAIN_BYTES_MAX: u64 = 1 << 20;
/// Deletes that are copied with one write: less than the least `bytes_max`.
const ABSORBED_COUNT: usize = 2_048;
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
    /// Those that were found to be no entries.
    broken_bytes: u64,
    /// The number of its last delete.
    last: u64,
    /// Deletes in it, their bytes, and how many of them are pending.
    count: u64,
    deletes_bytes: u64,
    pending_count: u64,
    /// Older segments, and of how many deletes in each it says that they are done with.
    speaks_of: BTreeMap<u64, u64>,
    begun: Instant,
    /// Since when it is too old for further deletes: it gets none, and those in it stand for none. From here on it ages, so
    /// none of them is given up too early.
    closed: Option<Instant>,
}

/// What a segment holds that must not go with it.
#[derive(Default)]
struct Needed {
    /// Those that are pending.
    deletes: Vec<Delete>,
    /// What it says of older segments that are still there.
    done: Vec<(Why, Vec<u64>)>,
    broken_bytes: u64,
}

impl Wanted {
    fn size(&self) -> usize {
        DELETE_BYTES + self.pool.len() + self.owed.address.len() + self.key.len()
    }
}

impl Segment {
    fn new(id: SegmentId, bytes: u64) -> Self {
        Self {
            id,
            bytes,
            broken_bytes: 0,
            last: 0,
            count: 0,
            deletes_bytes: 0,
            pending_count: 0,
            speaks_of: BTreeMap::new(),
            begun: Instant::now(),
            closed: None,
        }
    }

    /// It has this delete, pending or not.
    fn note(&mut self, delete: &Delete) {
        self.count += 1;
        self.deletes_bytes +=
            (DELETE_BYTES + delete.pool.len() + delete.address.len() + delete.key.len()) as u64;
        self.last = self.last.max(delete.number);
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
        if let Header::Newer(version) = header_of(disk, &name)? {
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
        for (id, bytes) in ids {
            self.bytes += bytes;
            self.next_number = self.next_number.max(id.number + 1);
            self.segments.insert(id.number, Segment::new(*id, *bytes));
            let disk = Arc::clone(&self.disk);
            let mut reading = Reading::whole(&*disk, *id);
            while let Some(entry) = reading.next()? {
                match entry {
                    Entry::Delete(delete) => {
                        self.next_number = self.next_number.max(delete.number + 1);
                        if done.binary_search(&delete.number).is_err() {
                            let owed = self.book.server(&delete.address);
                            self.add(&owed, &delete, id.number);
                        } else if let Some(segment) = self.segments.get_mut(&id.number) {
                            segment.note(&delete);
                        }
                    }
                    Entry::Done { numbers, .. } => {
                        // also of a delete that cannot be read any more: its number must not be given out again
                        let last = numbers.iter().max().map_or(0, |number| number.saturating_add(1));
                        self.next_number = self.next_number.max(last);
                        self.speaks(id.number, &numbers);
                    }
                }
            }
            self.found_broken(id.number, reading.broken_bytes);
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
            segment.note(delete);
            segment.pending_count += 1;
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
        for number in numbers {
            let of = self.segment_of(*number).filter(|of| *of != segment);
            if let (Some(of), Some(segment)) = (of, self.segments.get_mut(&segment)) {
                *segment.speaks_of.entry(of).or_default() += 1;
            }
        }
    }

    /// So many bytes of a segment are no entries.
    fn found_broken(&mut self, segment: u64, bytes: u64) {
        let Some(segment) = self.segments.get_mut(&segment) else { return };
        // it is read more than once
        let more = bytes.saturating_sub(segment.broken_bytes);
        segment.broken_bytes += more;
        Numbers::add(&self.book.numbers.broken_bytes, usize::try_from(more).unwrap_or(0));
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
            && segment.bytes < bytes_max
            && segment.closed.is_none()
        {
            return Ok(segment.id);
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
        self.segments.insert(id.number, Segment::new(id, HEADER_BYTES as u64));
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
            self.bytes += bytes.len() as u64;
        }
        if written.is_err() {
            self.current = None;
            // Each attempt has a file of its own: one in which nothing was promised must not stay.
            self.remove_needless();
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

    #[cold]
    fn failed_to_read(&self, error: &io::Error) {
        static TOLD: LogRate = LogRate::new();
        Numbers::add(&self.book.numbers.disk_errors, 1);
        if TOLD.may_log() {
            tracing::error!("the spool cannot be read: {error}");
        }
    }

    /// Sees to it that so many bytes more stay within the bound.
    fn make_room(&mut self, bytes: u64) -> Result<(), Refused> {
        let has_room = |store: &Self| store.bytes + bytes <= store.bounds.bytes_max;
        // each of them once: what is written anew is needed
        for _ in 0..self.segments.len() {
            if has_room(self) || !self.rewrite_sparse() {
                break;
            }
        }
        // what will never have room is no reason to give others up
        if self.bounds.on_full == OnFull::DropOldest && bytes <= self.bounds.bytes_max {
            while !has_room(self) && self.drop_oldest() {}
        }
        if has_room(self) { Ok(()) } else { Err(FULL) }
    }

    /// Rewrites a segment of which less than half is needed. `false`: there is none, or it cannot be done.
    fn rewrite_sparse(&mut self) -> bool {
        let is_sparse = |segment: &&Segment| self.needed_bytes(segment) * 2 < segment.bytes;
        let sparse = self.segments.values().find(is_sparse).map(|segment| segment.id);
        sparse.is_some_and(|id| self.rewrite(id))
    }

    /// What [`Self::rewrite`] would have to write, about.
    fn needed_bytes(&self, segment: &Segment) -> u64 {
        let is_there = |(of, _): &(&u64, &u64)| self.segments.contains_key(*of);
        let done_count: u64 = segment.speaks_of.iter().filter(is_there).map(|(_, count)| count).sum();
        done_count * 8 + segment.deletes_bytes * segment.pending_count / segment.count.max(1)
    }

    /// Writes what is needed of a segment anew, and removes it. What it says of older ones goes along: one of them that stays
    /// for long would keep it, and this one the next. `false`: that cannot be done, and it stays.
    fn rewrite(&mut self, id: SegmentId) -> bool {
        let needed = match self.needed_of(id) {
            Ok(needed) => needed,
            Err(error) => {
                self.failed_to_read(&error);
                return false;
            }
        };
        self.leave(id);
        if let Some(first) = needed.deletes.first() {
            let time_ms = first.time_ms;
            let wanted: Vec<Wanted> = needed.deletes.iter().map(|delete| self.wanted(delete)).collect();
            // for this once beyond the bound: what it frees is more
            let bytes_max = std::mem::replace(&mut self.bounds.bytes_max, u64::MAX);
            let rewritten = self.append(&wanted, time_ms);
            self.bounds.bytes_max = bytes_max;
            if rewritten.is_err() || self.make_safe().is_err() {
                return false;
            }
        }
        for (why, numbers) in needed.done {
            // written with what else is done with; until then it costs a delivery too many at worst
            self.done.entry(why as u8).or_insert((why, Vec::new())).1.extend(numbers);
        }
        self.found_broken(id.number, needed.broken_bytes);
        let lost_count = self.lose(id);
        Numbers::add(&self.book.numbers.dropped, lost_count);
        self.remove(id);
        self.remove_needless();
        true
    }

    /// What was appended is safe, and that it is there.
    fn make_safe(&mut self) -> io::Result<()> {
        let appended = self.take_dirty().iter().try_for_each(|file| file.sync());
        let safe = appended.and_then(|()| self.disk.sync());
        safe.inspect_err(|error| self.sync_failed(error))
    }

    /// Takes out of the books what is pending in a segment, though it cannot be read there any more; how much there was.
    fn lose(&self, id: SegmentId) -> usize {
        let Some(segment) = self.segments.get(&id.number) else { return 0 };
        if segment.pending_count == 0 {
            return 0; // as nearly always: the books are long
        }
        let numbers = id.number..=segment.last;
        let count: usize = self.book.servers().iter().map(|owed| owed.remove_all(&numbers)).sum();
        static TOLD: LogRate = LogRate::new();
        if count > 0 && TOLD.may_log() {
            tracing::error!(deletes = count, "deletes of the spool cannot be read any more, and are lost");
        }
        count
    }

    fn needed_of(&self, id: SegmentId) -> io::Result<Needed> {
        let mut needed = Needed::default();
        let mut reading = Reading::whole(&*self.disk, id);
        while let Some(entry) = reading.next()? {
            match entry {
                Entry::Delete(delete) if self.is_pending(&delete) => needed.deletes.push(delete),
                Entry::Delete(_) => {}
                Entry::Done { why, mut numbers } => {
                    numbers.retain(|number| self.segment_of(*number).is_some_and(|of| of != id.number));
                    needed.done.push((why, numbers));
                }
            }
        }
        needed.broken_bytes = reading.broken_bytes;
        Ok(needed)
    }

    fn is_pending(&self, delete: &Delete) -> bool {
        let owed = self.book.server(&delete.address);
        owed.number(owed.hash(&delete.key)) == Some(delete.number)
    }

    /// A delete that stands somewhere already, to be kept here.
    fn wanted(&self, delete: &Delete) -> Wanted {
        let owed = self.book.server(&delete.address);
        Wanted { owed, pool: delete.pool.as_str().into(), key: delete.key.as_slice().into() }
    }

    /// Opens another directory, for [`Self::absorb`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_other(&self, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let other = Self::open(disk, Arc::new(Book::default()), self.bounds.clone())?;
        let broken_bytes = other.book.numbers.broken_bytes.load(Relaxed);
        self.book.numbers.broken_bytes.fetch_add(broken_bytes, Relaxed);
        Ok(other)
    }

    /// Copies what is pending in another directory, in its order, and removes each segment there that has been copied. What a
    /// segment says of older ones is not needed when its turn comes, because those have gone before it.
    ///
    /// # Errors
    /// When there is no room, or a disk fails. What has not been copied is still there: another call goes on with it.
    pub fn absorb(&mut self, theirs: &mut Self, time_ms: u64) -> Result<usize, StoreError> {
        let mut count = 0;
        let ids: Vec<SegmentId> = theirs.segments.values().map(|segment| segment.id).collect();
        for id in ids {
            let deletes = theirs.needed_of(id)?.deletes;
            let (mut copied_count, mut copied) = (0, Ok(()));
            for deletes in deletes.chunks(ABSORBED_COUNT) {
                let wanted: Vec<Wanted> = deletes.iter().map(|delete| self.wanted(delete)).collect();
                copied = self.append(&wanted, time_ms);
                if copied.is_err() {
                    break;
                }
                copied_count += deletes.len();
            }
            self.make_safe()?;
            let copies = deletes.iter().take(copied_count);
            count += copies.filter(|delete| theirs.take_out(delete)).count();
            copied.map_err(|refused| {
                let is_full = refused.0 == FULL.0;
                io::Error::other(if is_full { "the spool is full" } else { "the spool cannot be written" })
            })?;
            let lost_count = theirs.lose(id);
            Numbers::add(&self.book.numbers.dropped, lost_count);
            theirs.remove_file(id)?;
            theirs.segments.remove(&id.number);
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
        let deletes = self.needed_of(id).unwrap_or_default().deletes;
        let read_count = deletes.iter().filter(|delete| self.take_out(delete)).count();
        static TOLD: LogRate = LogRate::new();
        if read_count > 0 && TOLD.may_log() {
            tracing::warn!(deletes = read_count, "deletes of the spool are given up, the oldest first");
        }
        let count = read_count + self.lose(id);
        Numbers::add(&self.book.numbers.dropped, count);
        self.remove(id);
    }

    /// This delete of a segment is pending no more. `false`: it was not.
    fn take_out(&mut self, delete: &Delete) -> bool {
        let owed = self.book.server(&delete.address);
        let is_out = owed.remove(owed.hash(&delete.key), delete.number);
        if is_out {
            self.forget(delete.number);
        }
        is_out
    }

    /// Gives up what has waited for too long. Only time in which the process runs counts: no clock that is set can make a
    /// delete old.
    pub fn expire(&mut self, now: Instant) {
        let Some(age_max) = self.bounds.age_max else { return };
        let is_over = |since: Instant, age: Duration| now.saturating_duration_since(since) > age;
        let mut closed = 0_u64;
        for segment in self.segments.values_mut() {
            if segment.closed.is_none() && is_over(segment.begun, age_max / 8) {
                segment.closed = Some(now);
                closed = closed.max(segment.last);
            }
        }
        if closed > 0 {
            // a delete that comes from now on must not be given up with one that came long before it
            self.book.servers().iter().for_each(|owed| owed.close(closed));
        }
        let is_old = |segment: &&Segment| segment.closed.is_some_and(|closed| is_over(closed, age_max));
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
                let speaks = segment.speaks_of.keys().any(|of| self.segments.contains_key(of));
                segment.pending_count == 0 && !is_in_use && !speaks
            };
            let found = self.segments.values().find(|segment| is_needless(segment));
            let Some(id) = found.map(|segment| segment.id) else { return self.tell_sizes() };
            self.remove(id);
        }
    }

    fn remove(&mut self, id: SegmentId) {
        self.leave(id);
        let Some(segment) = self.segments.remove(&id.number) else { return };
        self.bytes -= segment.bytes;
        if let Err(error) = self.remove_file(id) {
            self.failed(&error);
        }
    }

    /// This one is not written to any more.
    fn leave(&mut self, id: SegmentId) {
        if self.current.as_ref().is_some_and(|(number, _)| *number == id.number) {
            self.current = None;
        }
    }

    fn remove_file(&self, id: SegmentId) -> io::Result<()> {
        match self.disk.remove(&id.name()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // somebody else's doing
            removed => removed,
        }
    }

    /// Pending deletes of a server that may be delivered, oldest first, and where to go on; `None`: that is all.
    ///
    /// # Errors
    /// When the disk cannot be read now. What can never be read any more is lost, and keeps nothing else.
    pub fn look(
        &mut self,
        owed: &Owed,
        from: Cursor,
        count_max: usize,
    ) -> io::Result<(Vec<Pending>, Option<Cursor>)> {
        let (mut found, mut looked) = (Vec::new(), 0);
        let disk = Arc::clone(&self.disk);
        let segments = self.segments.range(from.segment..).map(|(_, segment)| segment);
        let ids: Vec<SegmentId> = segments.filter(|s| s.pending_count > 0).map(|s| s.id).collect();
        for id in ids {
            let is_first = id.number == from.segment && from.offset > 0;
            let mut reading = match is_first {
                true => Reading::from(&*disk, id, from.offset),
                false => Reading::whole(&*disk, id),
            };
            let next = loop {
                if found.len() >= count_max || looked >= LOOK_COUNT_MAX {
                    break Some(Cursor { segment: id.number, offset: reading.offset() });
                }
                let entry = reading.next().inspect_err(|error| self.failed_to_read(error))?;
                let Some(entry) = entry else { break None };
                looked += 1;
                if let Entry::Delete(delete) = entry
                    && delete.address == owed.address
                    && delete.number <= owed.settled()
                    && owed.number(owed.hash(&delete.key)) == Some(delete.number)
                {
                    let Delete { number, time_ms, pool, key, .. } = delete;
                    found.push(Pending { number, time_ms, pool, key });
                }
            };
            if reading.is_hurt {
                // What was found is then pending under another number as well, and is delivered twice.
                self.rewrite(id);
            }
            if next.is_some() {
                return Ok((found, next));
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
