//! The bounded store under the lock: entries by key, eviction, expiry, cas uniques.
//!
//! The bound is kept by `quick_cache` (CLOCK-Pro) and is exact as long as an entry grows only through
//! `insert`: what is changed in place here never gets heavier.

use super::entry::Entry;
use super::expiry::{Flush, NEVER, is_dead};
use super::slab;
use crate::protocol::SHARED_BYTES_MIN;
use crate::time::Now;
use quick_cache::unsync::Cache as Store;
use quick_cache::{Lifecycle, Weighter};
use std::collections::hash_map::RandomState;

/// What an entry costs beside the bytes of its key and its value.
///
/// Measured with a counting allocator that rounds as mimalloc does, full caches of 4 to 64 MiB and values of
/// 10 to 1,000 bytes: 123 to 200. It is 88 bytes of slab slot (up to twice that just after its vector has
/// doubled), up to 16 of hash table, and two allocations with their rounding and the head of an `Arc`.
pub(super) const ENTRY_BYTES: usize = 208;

/// What a large value costs in addition: `Bytes`, its shared head, and the list of its one piece.
const LARGE_BYTES: usize = 256;

/// An item may fill at most this share of the shard: `quick_cache` refuses what is over its hot part (0.97).
const HOT_SHARE: f64 = 0.96;

/// For each of so many bytes of memory one evicted key is remembered (as a hash), so that a key that comes
/// back is kept longer. At about 100 bytes each that is one part in a hundred, and taken off the bound.
const BYTES_PER_GHOST: usize = 10_000;
const GHOST_SHARE: usize = 100;

/// Expired entries that nobody asks for are looked for by writes: every so many seconds, so many entries.
const SWEEP_SECONDS: u32 = 4;
const SWEEP_COUNT: usize = 8_192;

type Items = Store<Box<[u8]>, Entry, Weigh, RandomState, CountEvictions>;

pub(super) struct Shard {
    items: Items,
    memory_bytes_max: usize,
    item_bytes_max: usize,
    /// The last cas unique that was given out; they only grow.
    cas_last: u64,
    flush: Flush,
    /// Some entry has, or had, a deadline: a sweep may find something.
    may_expire: bool,
    sweep_at: u32,
    /// How many entries the sweep has already passed in its round.
    sweep_passed: usize,
    pub evictions: u64,
    pub expired: u64,
}

impl Shard {
    pub(super) fn new(memory_bytes_max: usize, item_bytes_max: usize) -> Self {
        Self {
            items: new_items(memory_bytes_max),
            memory_bytes_max,
            item_bytes_max,
            // The first one given out is 2, as in memcached: a client may well take 1 for "none".
            cas_last: 1,
            flush: Flush::default(),
            may_expire: false,
            sweep_at: 0,
            sweep_passed: 0,
            evictions: 0,
            expired: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// All that is charged: keys, values and [`ENTRY_BYTES`] each. Never above the shard's bound.
    pub(super) fn bytes(&self) -> u64 {
        self.items.weight()
    }

    /// Whether an item may be stored at all.
    pub(super) fn fits(&self, key_len: usize, flags: u32, value_len: usize) -> bool {
        slab::item_bytes(key_len, flags, value_len) <= self.item_bytes_max
            && weight(key_len, value_len) <= hot_bytes(self.items.capacity())
    }

    /// A new cas unique.
    pub(super) const fn next_cas(&mut self) -> u64 {
        self.cas_last += 1;
        self.cas_last
    }

    /// Looks at, or changes, the entry of `key` and counts that as a use (it is evicted later).
    /// A dead entry is dropped and counts as none.
    pub(super) fn hit<R>(
        &mut self,
        key: &[u8],
        now: Now,
        look: impl FnOnce(&mut Entry, &mut Cas<'_>) -> R,
    ) -> Option<R> {
        let mut entry = self.items.get_mut(key)?;
        if !is_dead(entry.deadline, entry.used, self.flush, now) {
            return Some(look(&mut entry, &mut Cas(&mut self.cas_last)));
        }
        drop(entry);
        self.drop_dead(key);
        None
    }

    /// As [`Shard::hit`], but no use of the entry.
    pub(super) fn peek<R>(
        &mut self,
        key: &[u8],
        now: Now,
        look: impl FnOnce(&mut Entry, &mut Cas<'_>) -> R,
    ) -> Option<R> {
        let mut entry = self.items.peek_mut(key)?;
        if !is_dead(entry.deadline, entry.used, self.flush, now) {
            return Some(look(&mut entry, &mut Cas(&mut self.cas_last)));
        }
        drop(entry);
        self.drop_dead(key);
        None
    }

    /// Stores an entry in the place of whatever is there. The caller has asked [`Shard::fits`].
    pub(super) fn put(&mut self, key: &[u8], entry: Entry) {
        self.may_expire |= entry.deadline != NEVER;
        let weight_new = weight(key.len(), entry.data.len());
        if let Some(mut old) = self.items.peek_mut(key)
            && weight_new <= weight(key.len(), old.data.len())
        {
            *old = entry;
            return;
        }
        let mut evicted = 0;
        self.items.insert_with_lifecycle(Box::from(key), entry, &mut evicted);
        self.evictions += evicted;
    }

    /// A deadline was set in place.
    pub(super) const fn note_deadline(&mut self) {
        self.may_expire = true;
    }

    /// Takes the entry out; whether there was a live one.
    pub(super) fn remove(&mut self, key: &[u8], now: Now) -> bool {
        self.items.remove(key).is_some_and(|(_, entry)| !is_dead(entry.deadline, entry.used, self.flush, now))
    }

    /// Empties the shard. The old entries are handed out, to be dropped where nobody waits for the lock.
    pub(super) fn clear(&mut self) -> impl Sized + use<> {
        self.flush = Flush::default();
        self.may_expire = false;
        self.sweep_passed = 0;
        std::mem::replace(&mut self.items, new_items(self.memory_bytes_max))
    }

    /// Lets a flush begin later.
    pub(super) const fn flush_after(&mut self, delay: i32, now: Now) {
        self.flush = Flush::after(delay, now);
        self.may_expire = true;
    }

    /// Now and then drops some of the dead entries that nobody asks for; called by every write.
    pub(super) fn sweep(&mut self, now: Now) {
        if !self.may_expire || now.unix_seconds < self.sweep_at {
            return;
        }
        self.sweep_at = now.unix_seconds.saturating_add(SWEEP_SECONDS);
        let flush = self.flush;
        let mut seen = 0;
        let dead: Vec<Box<[u8]>> = self
            .items
            .iter()
            .skip(self.sweep_passed)
            .take(SWEEP_COUNT)
            .inspect(|_| seen += 1)
            .filter(|(_, entry)| is_dead(entry.deadline, entry.used, flush, now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &dead {
            self.drop_dead(key);
        }
        self.sweep_passed = if seen < SWEEP_COUNT { 0 } else { self.sweep_passed + seen - dead.len() };
    }

    fn drop_dead(&mut self, key: &[u8]) {
        self.items.remove(key);
        self.expired += 1;
    }
}

/// The source of cas uniques, for who holds an entry.
pub(super) struct Cas<'a>(&'a mut u64);

impl Cas<'_> {
    pub(super) const fn next(&mut self) -> u64 {
        *self.0 += 1;
        *self.0
    }
}

fn new_items(memory_bytes_max: usize) -> Items {
    let capacity = memory_bytes_max - memory_bytes_max / GHOST_SHARE;
    // `quick_cache` remembers half as many ghosts as it expects items.
    let ghosts = memory_bytes_max / BYTES_PER_GHOST;
    // Keys come from clients: a keyed hasher, so that nobody can aim them at one bucket.
    Items::with(2 * ghosts, capacity as u64, Weigh, RandomState::new(), CountEvictions)
}

fn hot_bytes(capacity: u64) -> u64 {
    (capacity as f64 * HOT_SHARE) as u64
}

fn weight(key_len: usize, value_len: usize) -> u64 {
    let large = if value_len < SHARED_BYTES_MIN { 0 } else { LARGE_BYTES };
    (key_len + value_len + ENTRY_BYTES + large) as u64
}

/// The weight of an entry: [`ENTRY_BYTES`] and what its key and value measure.
#[derive(Clone)]
struct Weigh;

impl Weighter<Box<[u8]>, Entry> for Weigh {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry) -> u64 {
        weight(key.len(), entry.data.len())
    }
}

/// Counts what had to leave for something new.
#[derive(Clone)]
struct CountEvictions;

impl Lifecycle<Box<[u8]>, Entry> for CountEvictions {
    type RequestState = u64;

    fn before_evict(&self, evicted: &mut u64, _key: &Box<[u8]>, _entry: &mut Entry) {
        *evicted += 1;
    }
}
