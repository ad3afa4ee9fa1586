//! The bounded store under the lock: entries by key, eviction, expiry, cas uniques.
//!
//! The bound is kept by `quick_cache` (CLOCK-Pro) and is exact as long as an entry grows only through
//! `insert`: what is changed in place here never gets heavier. Its slab and its table never shrink, so their
//! slots are charged apart from the entries: see [`SLOT_BYTES`].

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
const ENTRY_BYTES: usize = 208;

/// The part of [`ENTRY_BYTES`] that stays when the entry goes: its slot, for the next one. 88 bytes of slab
/// and 23 of hash table (5 for a bucket; one that has just doubled to be rid of its tombstones is filled to
/// 7/32). So it is taken off the capacity of the store for as many entries as there ever were at once.
const SLOT_BYTES: usize = 112;

/// The capacity shrinks for slots in steps of this share, and of so many bytes at most: `set_capacity` forgets
/// a ghost each time, by rounding, and one write shall not evict too much.
const SLOTS_STEP_SHARE: usize = 64;
const SLOTS_STEP_BYTES_MAX: usize = 1 << 20;

/// Slots are given back, with the store, when three of four stand empty: not for less than this share of the
/// shard, and not when more entries would have to move, which takes about 10 ms.
const SLOTS_SHARE_MIN: usize = 16;
const MOVED_COUNT_MAX: usize = 65_536;

/// What a large value costs in addition: `Bytes`, its shared head, and the list of its one piece.
const LARGE_BYTES: usize = 256;

/// An item may fill at most this share of the shard: `quick_cache` refuses what is over its hot part (0.97).
const HOT_SHARE: f64 = 0.96;

/// For each of so many bytes of memory one evicted key is remembered (as a hash), so that a key that comes
/// back is kept longer. At about 100 bytes each that is one part in a hundred, and taken off the bound.
const BYTES_PER_GHOST: usize = 10_000;
const GHOST_SHARE: usize = 100;

/// Expired entries that nobody asks for are looked for by writes: every so many seconds, so many at once.
/// `quick_cache` has no cursor: each sweep walks the slab from its start. That is at most 3 ms for 64 MiB, and
/// to drop those that were found as much again.
const SWEEP_SECONDS: u32 = 4;
const SWEEP_COUNT: usize = 8_192;
/// A walk over so many slots takes a hundredth of a second; so it leaves out a round for each such number. Only
/// where values may be so large that there are few parts.
const SWEEP_SLOTS_PER_ROUND: usize = 1_000_000;

type Items = Store<Box<[u8]>, Entry, Weigh, RandomState, CountEvictions>;

pub(super) struct Shard {
    /// Invariant: its capacity is `capacity_max(memory_bytes_max) - slots_bytes`.
    items: Items,
    memory_bytes_max: usize,
    item_bytes_max: usize,
    /// The most entries that `items` had at once.
    /// Invariant: `slots * SLOT_BYTES <= slots_bytes`, which is about half of the shard at most: an entry takes
    /// nearly as much beside its slot.
    slots: usize,
    slots_bytes: usize,
    /// The last cas unique that was given out; they only grow.
    cas_last: u64,
    flush: Flush,
    /// Some entry has, or had, a deadline: a sweep may find something.
    may_expire: bool,
    turn: Turn,
    sweep_at: u32,
    pub evictions: u64,
    pub expired: u64,
}

impl Shard {
    pub(super) fn new(memory_bytes_max: usize, item_bytes_max: usize, turn: Turn) -> Self {
        Self {
            items: new_items(memory_bytes_max),
            memory_bytes_max,
            item_bytes_max,
            slots: 0,
            slots_bytes: 0,
            // The first one given out is 2, as in memcached: a client may well take 1 for "none".
            cas_last: 1,
            flush: Flush::default(),
            may_expire: false,
            turn,
            sweep_at: 0,
            evictions: 0,
            expired: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// All that is charged: keys, values and [`ENTRY_BYTES`] each, and slots without an entry. Never above the
    /// shard's bound.
    pub(super) fn bytes(&self) -> u64 {
        self.items.weight() + (self.slots * SLOT_BYTES) as u64
    }

    /// Whether an item may be stored at all, if need be in a store of its own.
    pub(super) fn fits(&self, key_len: usize, flags: u32, value_len: usize) -> bool {
        let capacity = capacity_max(self.memory_bytes_max).saturating_sub(slots_step(self.memory_bytes_max));
        slab::item_bytes(key_len, flags, value_len) <= self.item_bytes_max
            && weight(key_len, value_len) <= hot_bytes(capacity as u64)
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
        self.give_slots_back();
        self.charge_slot();
        if weight_new > hot_bytes(self.items.capacity()) {
            // It fits, but not beside the slots of all that were here: they go with the store. It would have
            // evicted most of the entries in any case.
            self.items.remove(key);
            self.evictions += self.items.len() as u64;
            drop(self.start_over());
        }
        self.insert(Box::from(key), entry);
    }

    fn insert(&mut self, key: Box<[u8]>, entry: Entry) {
        self.charge_slot();
        let mut evicted = 0;
        self.items.insert_with_lifecycle(key, entry, &mut evicted);
        self.evictions += evicted;
        self.slots = self.slots.max(self.items.len());
    }

    /// Takes one more slot off the capacity. Before it is needed, so that what has to go for it is older than
    /// what comes.
    fn charge_slot(&mut self) {
        if (self.items.len() + 1) * SLOT_BYTES <= self.slots_bytes {
            return;
        }
        self.slots_bytes += slots_step(self.memory_bytes_max);
        let before = self.items.len();
        self.items.set_capacity(capacity_max(self.memory_bytes_max).saturating_sub(self.slots_bytes) as u64);
        self.evictions += (before - self.items.len()) as u64;
    }

    /// Moves what is left into a store that is as small, when there is much to win.
    fn give_slots_back(&mut self) {
        let len = self.items.len();
        let is_much = self.slots * SLOT_BYTES > self.memory_bytes_max / SLOTS_SHARE_MIN;
        if !is_much || len >= self.slots / 4 || len > MOVED_COUNT_MAX {
            return;
        }
        let mut old = self.start_over();
        for (key, entry) in old.drain() {
            self.insert(key, entry);
        }
    }

    /// Begins with an empty store; gives back the old one.
    fn start_over(&mut self) -> Items {
        self.slots = 0;
        self.slots_bytes = 0;
        std::mem::replace(&mut self.items, new_items(self.memory_bytes_max))
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
        self.start_over()
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
        let left_out = u32::try_from(self.slots / SWEEP_SLOTS_PER_ROUND).unwrap_or(u32::MAX);
        let pause = self.turn.seconds.saturating_mul(left_out);
        self.sweep_at = self.turn.after(now.unix_seconds.saturating_add(pause));
        let flush = self.flush;
        let dead: Vec<Box<[u8]>> = self
            .items
            .iter()
            .filter(|(_, entry)| is_dead(entry.deadline, entry.used, flush, now))
            .take(SWEEP_COUNT)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &dead {
            self.drop_dead(key);
        }
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

/// Which seconds are a shard's to sweep in. Each part of a cache has others, so that nobody has to wait for
/// one after the other (but after a rest): one a second, of some milliseconds, is less than a hundredth of
/// the time.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    /// Invariant: `part < seconds`.
    part: u32,
    seconds: u32,
}

impl Turn {
    /// That of one of so many parts, counted from 0.
    pub(super) fn of(part: u32, parts: u32) -> Self {
        Self { part, seconds: parts.max(SWEEP_SECONDS) }
    }

    /// The next one after a second.
    fn after(self, second: u32) -> u32 {
        let gone = second.saturating_add(self.seconds - self.part) % self.seconds;
        second.saturating_add(self.seconds - gone)
    }
}

/// What a store without a slot may hold.
const fn capacity_max(memory_bytes_max: usize) -> usize {
    memory_bytes_max - memory_bytes_max / GHOST_SHARE
}

fn slots_step(memory_bytes_max: usize) -> usize {
    (memory_bytes_max / SLOTS_STEP_SHARE).clamp(SLOT_BYTES, SLOTS_STEP_BYTES_MAX)
}

fn new_items(memory_bytes_max: usize) -> Items {
    let capacity = capacity_max(memory_bytes_max);
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
    (key_len + value_len + ENTRY_BYTES - SLOT_BYTES + large) as u64
}

/// The weight of an entry: what its key and value measure, and [`ENTRY_BYTES`] without its slot.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::Data;

    const NOW: Now = Now { unix_seconds: 1_800_000_000 };
    const MEMORY: usize = 4 << 20;

    fn shard() -> Shard {
        Shard::new(MEMORY, 1 << 20, Turn::of(0, 1))
    }

    /// Puts so many values of a length, each under a key of its own, and reads each once: those that nobody
    /// reads never push the older ones out. Looks at the bound meanwhile.
    fn fill(shard: &mut Shard, count: usize, length: usize) {
        let value = vec![b'x'; length];
        for index in 0..count {
            let key = format!("{length}-{index}");
            shard.put(key.as_bytes(), Entry::new(Data::of_parts(&[&value[..]]), 2, NOW));
            let found = shard.hit(key.as_bytes(), NOW, |entry, _| entry.data.len());
            assert_eq!(found, Some(length), "what was just put is there");
            if index % 500 == 0 || index + 1 == count {
                let held = held_bytes(shard);
                assert!(held <= MEMORY, "{held} bytes are held after {index} values of {length}");
                assert!(shard.bytes() <= MEMORY as u64, "{} bytes are charged", shard.bytes());
                assert!(shard.slots * SLOT_BYTES <= shard.slots_bytes);
            }
        }
    }

    /// What the store holds at least: slab and table as it measures them, and keys and values.
    fn held_bytes(shard: &Shard) -> usize {
        let data: usize = shard.items.iter().map(|(key, entry)| key.len() + entry.data.len()).sum();
        shard.items.memory_used().total() + data
    }

    #[test]
    fn the_bound_holds_when_items_become_larger_and_smaller() {
        let mut shard = shard();
        for (count, length) in [(30_000, 1), (10_000, 300), (6_000, 1_000), (1_000, 10_000), (30_000, 2)] {
            fill(&mut shard, count, length);
        }
    }

    #[test]
    fn slots_cost_no_more_than_they_are_charged() {
        let mut shard = shard();
        fill(&mut shard, 60_000, 1);
        let ghosts = MEMORY / BYTES_PER_GHOST;
        let used = shard.items.memory_used().total();
        assert!(used <= (shard.slots + ghosts) * SLOT_BYTES + 1_000, "{used} for {} slots", shard.slots);
    }

    #[test]
    fn values_get_the_room_of_slots_that_nobody_needs() {
        let mut shard = shard();
        fill(&mut shard, 30_000, 1);
        let slots = shard.slots;
        fill(&mut shard, 2_000, 10_000);
        assert!(shard.slots < slots / 8, "{} of {slots} are left", shard.slots);
        assert!(shard.items.weight() > (MEMORY * 8 / 10) as u64, "{} of {MEMORY}", shard.items.weight());
    }

    #[test]
    fn what_is_moved_for_its_slots_stays() {
        let mut shard = shard();
        fill(&mut shard, 18_000, 1);
        for index in 1_000..18_000 {
            assert!(shard.remove(format!("1-{index}").as_bytes(), NOW));
        }
        fill(&mut shard, 1, 5);
        assert_eq!((shard.len(), shard.slots, shard.evictions), (1_001, 1_001, 0));
        for index in 0..1_000 {
            assert_eq!(
                shard.peek(format!("1-{index}").as_bytes(), NOW, |entry, _| entry.data.len()),
                Some(1)
            );
        }
    }

    #[test]
    fn the_parts_of_a_cache_take_turns() {
        let turns: Vec<u32> = (0..8).map(|part| Turn::of(part, 8).after(1_000)).collect();
        assert_eq!(turns, [1_008, 1_001, 1_002, 1_003, 1_004, 1_005, 1_006, 1_007]);
        assert_eq!(
            [1_000, 1_001, 1_003, 1_004].map(|second| Turn::of(0, 1).after(second)),
            [1_004, 1_004, 1_004, 1_008]
        );
        assert_eq!(Turn::of(1, 2).after(u32::MAX), u32::MAX);
    }
}
