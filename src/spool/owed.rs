//! What each server is owed: which keys have a pending delete, known to all workers and small enough to stay in memory.
//!
//! An entry is 20 bytes: 96 bits of a seeded hash of the key, and the number of its delete. With the table's own byte and its
//! free places that is 24 to 48 bytes a pending delete, whatever the key's length. (Two of ten million keys have the same
//! hash once in 10^15 times.)
//!
//! ```text
//!      numbers:  … 17 18 19 │ 20 21 22 │ 23 24 …
//!                   settled │  closing │ still open
//! ```
//! *Settled* deletes may be delivered: the server has answered after they were written, and since then whatever was on its
//! way to it has arrived. *Closing* ones wait for that. A further delete of a key whose delete is still *open* needs no
//! entry of its own: that one is delivered late enough for both. (With `age_max` one that has waited for a while is closed
//! too: it would be given up too early for both.)

use crate::route::Mark;
use crate::sync::Lock;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// From here on numbers are those of other processes' deletes, which are theirs to deliver.
pub(super) const THEIRS: u64 = 1 << 63;

/// 96 bits of a hash.
pub(super) type KeyHash = [u32; 3];

/// One server.
#[derive(Debug)]
pub struct Owed {
    pub address: String,
    seed: u64,
    count: AtomicUsize,
    /// Up to here deletes may be delivered.
    settled: AtomicU64,
    /// Up to here they wait for what is on its way; never less than `settled`.
    closing: AtomicU64,
    /// When the oldest pending one was written, as far as is known.
    oldest_ms: AtomicU64,
    keys: Lock<Keys>,
}

type Keys = HashMap<KeyHash, [u32; 2], BuildHasherDefault<AsItIs>>;

/// The keys of the table are hashes already, seeded ones.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // an array is written as its length, which is always the same, and then as one slice of its bytes
        let mut low = [0; 8];
        let count = bytes.len().min(8);
        low[..count].copy_from_slice(&bytes[..count]);
        self.0 = u64::from_le_bytes(low);
    }
}

const fn packed(number: u64) -> [u32; 2] {
    [(number >> 32) as u32, number as u32]
}

const fn unpacked([high, low]: [u32; 2]) -> u64 {
    (high as u64) << 32 | low as u64
}

impl Owed {
    pub(super) fn new(address: &str, seed: u64) -> Self {
        Self {
            address: address.to_owned(),
            seed,
            count: AtomicUsize::new(0),
            settled: AtomicU64::new(0),
            closing: AtomicU64::new(0),
            oldest_ms: AtomicU64::new(0),
            keys: Lock::default(),
        }
    }

    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        let hash = xxh3_128_with_seed(key, self.seed);
        [hash as u32, (hash >> 32) as u32, (hash >> 64) as u32]
    }

    /// Pending deletes. What any of them needs is looked at only when this is not 0.
    #[inline]
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Acquire)
    }

    pub(super) fn mark(&self, key: &[u8]) -> Option<Mark> {
        let number = self.number(self.hash(key))?;
        Some(Mark { number, may_cancel: number <= self.settled.load(Acquire) })
    }

    /// Whether a delete of this key is pending.
    #[must_use]
    pub fn is_pending(&self, key: &[u8]) -> bool {
        self.number(self.hash(key)).is_some()
    }

    /// The pending delete of this key is done with; its number, for the store.
    pub fn take_out(&self, key: &[u8]) -> Option<u64> {
        let hash = self.hash(key);
        self.number(hash).filter(|number| self.remove(hash, *number))
    }

    /// The number of the pending delete.
    pub(super) fn number(&self, hash: KeyHash) -> Option<u64> {
        self.keys.lock().get(&hash).map(|number| unpacked(*number))
    }

    /// Whether an entry that is there already stands for one more delete of this key too.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        let keys = self.keys.lock();
        let is_open = |number| number > self.closing.load(Relaxed) && number < THEIRS;
        keys.get(&self.hash(key)).is_some_and(|number| is_open(unpacked(*number)))
    }

    /// An entry is written. Returns the number of the one that it replaces.
    pub(super) fn add(&self, hash: KeyHash, number: u64, time_ms: u64) -> Option<u64> {
        let mut keys = self.keys.lock();
        let former = keys.insert(hash, packed(number));
        if keys.len() == 1 {
            self.oldest_ms.store(time_ms, Relaxed);
        }
        self.count.store(keys.len(), Release);
        former.map(unpacked)
    }

    /// This very entry is done with; `false`: it is none, or there is a newer one.
    pub(super) fn remove(&self, hash: KeyHash, number: u64) -> bool {
        let mut keys = self.keys.lock();
        let is_this = keys.get(&hash).is_some_and(|known| unpacked(*known) == number);
        if is_this {
            keys.remove(&hash);
            if keys.is_empty() {
                *keys = Keys::default();
            }
            self.count.store(keys.len(), Release);
        }
        is_this
    }

    /// All entries of these numbers are done with, whatever their keys; how many there were.
    pub(super) fn remove_all(&self, numbers: &RangeInclusive<u64>) -> usize {
        let mut keys = self.keys.lock();
        let count = keys.len();
        keys.retain(|_, number| !numbers.contains(&unpacked(*number)));
        if keys.is_empty() {
            *keys = Keys::default();
        }
        self.count.store(keys.len(), Release);
        count - keys.len()
    }

    /// From now on a further delete needs an entry of its own: all so far wait for what is on its way to the server, or are
    /// too old to stand for it.
    pub(super) fn close(&self, number: u64) {
        let _keys = self.keys.lock(); // nobody looks at the number and acts on it later
        self.closing.fetch_max(number, Relaxed);
    }

    /// What was on its way when these were written has arrived.
    pub(super) fn settle(&self, number: u64) {
        self.settled.fetch_max(number, Release);
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled.load(Acquire)
    }

    /// Everything up to this time is done with.
    pub(super) fn oldest_is(&self, time_ms: u64) {
        self.oldest_ms.store(time_ms, Relaxed);
    }

    /// When the oldest pending one was written; `None`: there is none.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<u64> {
        (self.count() > 0).then(|| self.oldest_ms.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_of_a_key_counts() {
        let owed = Owed::new("a", 1);
        let hash = owed.hash(b"k");
        assert_eq!((owed.count(), owed.mark(b"k")), (0, None));
        assert_eq!(owed.add(hash, 5, 100), None);
        assert_eq!(owed.add(hash, 1 << 33, 200), Some(5));
        assert!(!owed.remove(hash, 5), "an older one is none any more");
        assert_eq!((owed.count(), owed.oldest_ms()), (1, Some(200)));
        assert!(owed.remove(hash, 1 << 33));
        assert_eq!((owed.count(), owed.oldest_ms()), (0, None));
    }

    #[test]
    fn an_entry_stands_for_another_delete_only_while_it_is_open() {
        let owed = Owed::new("a", 1);
        owed.add(owed.hash(b"k"), 5, 0);
        assert!(owed.covers(b"k") && !owed.covers(b"other"));
        owed.add(owed.hash(b"theirs"), THEIRS + 1, 0);
        assert!(!owed.covers(b"theirs") && owed.mark(b"theirs").is_some_and(|mark| !mark.may_cancel));
        assert_eq!(owed.mark(b"k"), Some(Mark { number: 5, may_cancel: false }));
        owed.close(5);
        assert!(!owed.covers(b"k"), "it may be on its way to the server already");
        owed.settle(5);
        assert_eq!(owed.mark(b"k"), Some(Mark { number: 5, may_cancel: true }));
        owed.add(owed.hash(b"k"), 6, 0);
        assert_eq!(owed.mark(b"k"), Some(Mark { number: 6, may_cancel: false }));
    }

    #[test]
    fn entries_go_by_their_numbers_when_nobody_knows_their_keys() {
        let owed = Owed::new("a", 1);
        for number in [5, 6, 7, THEIRS + 6] {
            owed.add(owed.hash(&[number as u8, (number >> 63) as u8]), number, 0);
        }
        assert_eq!((owed.remove_all(&(6..=7)), owed.count()), (2, 2));
        assert!(owed.is_pending(&[5, 0]) && owed.is_pending(&[6, 1]) && !owed.is_pending(&[6, 0]));
        assert_eq!((owed.remove_all(&(0..=u64::MAX)), owed.count()), (2, 0));
    }

    #[test]
    fn a_pending_delete_takes_no_more_than_it_says() {
        // the table's places are powers of two and seven of eight are used: a place has 20 bytes and one more
        assert_eq!(size_of::<(KeyHash, [u32; 2])>(), 20);
    }
}
