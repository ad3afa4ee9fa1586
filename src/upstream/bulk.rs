//! Requests that are expected to move much wait in front of the connection, not on it.
//!
//! Replies come in the order of requests, so whoever asks behind a hundred values of a megabyte waits for all of them.
//! Only so much of the kind is under way at a time (`bulk_bytes_max`), and one at least; what is more stays here, in order, and small requests pass by.
//!
//! What must not overtake does not. While something of a client that moves much is under way, all that it asks counts as
//! that (`client/reply_queue.rs`). And whoever comes with a key that is changed by something that waits, be it another
//! client or a route, waits behind it, and so does what comes with one of its own keys then, because its client does not
//! know that it waits: for one key a connection stays a queue.

use super::inflight::{Entry, Inflight};
use crate::net::FirstReplies;
use crate::protocol::WireBuf;
use crate::route::Slot;
use bytes::Buf;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque, hash_map};
use std::hash::BuildHasher;
use tokio::time::Instant;

/// What stands for all keys together.
const ALL: u64 = u64::MAX;
/// Who has more keys stands for all.
const KEYS_MAX: usize = 64;

/// Those that wait. Their bytes and their entries lie apart from what is on the connection, or goes there next.
#[derive(Default)]
pub(super) struct Bulk {
    out: WireBuf,
    waiting: Inflight,
    /// The keys that nobody may pass with, each as a hash that no client can foresee (those of another with the same would wait
    /// as well), and for each that waits how many of them are its own.
    keys: VecDeque<u64>,
    key_counts: VecDeque<u16>,
    /// How often each is among them.
    marks: HashMap<u64, u32>,
}

impl Bulk {
    /// Whether a request for these keys that moves so many bytes, or few (0), has to wait here. `has_room`: the connection
    /// may have more of its kind under way.
    #[inline]
    pub(super) fn has_to_wait<'k>(
        &self,
        mut keys: impl Iterator<Item = &'k [u8]>,
        bulk_bytes: usize,
        has_room: bool,
    ) -> bool {
        if self.waiting.is_empty() {
            bulk_bytes > 0 && !has_room
        } else {
            bulk_bytes > 0 || keys.any(|key| self.is_marked(key))
        }
    }

    /// Where a request that has to wait is written, and its entry kept. Nobody passes it with one of these keys, unless it
    /// only reads and moves so many bytes that its client knows it for one that waits.
    #[cold]
    pub(super) fn begin<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
        is_read: bool,
        bulk_bytes: usize,
    ) -> (&mut WireBuf, &mut Inflight) {
        if is_read && bulk_bytes > 0 {
            return self.begin_at(std::iter::empty());
        }
        if keys.clone().nth(KEYS_MAX).is_some() {
            return self.begin_for_all();
        }
        let hasher = self.marks.hasher().clone();
        self.begin_at(keys.map(|key| hasher.hash_one(key)))
    }

    /// The same of one that is about all keys.
    #[cold]
    pub(super) fn begin_for_all(&mut self) -> (&mut WireBuf, &mut Inflight) {
        self.begin_at(std::iter::once(ALL))
    }

    fn begin_at(&mut self, keys: impl Iterator<Item = u64>) -> (&mut WireBuf, &mut Inflight) {
        let mut count = 0;
        for key in keys {
            self.keys.push_back(key);
            *self.marks.entry(key).or_default() += 1;
            count += 1;
        }
        self.key_counts.push_back(count);
        (&mut self.out, &mut self.waiting)
    }

    fn is_marked(&self, key: &[u8]) -> bool {
        let is_marked = |key| self.marks.contains_key(&key);
        !self.marks.is_empty() && (is_marked(ALL) || is_marked(self.marks.hasher().hash_one(key)))
    }

    /// The oldest waits no longer.
    fn forget_keys(&mut self) {
        let count = self.key_counts.pop_front().unwrap_or_default();
        for key in self.keys.drain(..usize::from(count)) {
            if let hash_map::Entry::Occupied(mut count) = self.marks.entry(key) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        if self.marks.is_empty() {
            self.marks = HashMap::new(); // there may have been many
        }
    }

    pub(super) const fn waiting(&self) -> &Inflight {
        &self.waiting
    }

    /// Takes the slots of those whose time has passed, and forgets them: they were never sent.
    pub(super) fn expire(&mut self, now: Instant, on_expired: impl FnMut(Slot, bool, Instant)) {
        self.waiting.expire(now, on_expired);
        // those who wait have come one after the other, with the same timeout
        while self.waiting.front().is_some_and(|entry| entry.slot.is_none()) {
            self.forget_keys();
            let size = self.waiting.discard().map_or(0, |entry| entry.size());
            self.out.advance(size);
        }
    }

    /// Whether something may go now.
    pub(super) fn may_release(&self, bulk_bytes_max: usize, inflight: &Inflight) -> bool {
        !self.waiting.is_empty() && inflight.has_bulk_room(bulk_bytes_max)
    }

    /// Moves what may go now behind what is on the connection. Returns what is not sent, because nobody waits for it any
    /// more, or it would change nothing.
    pub(super) fn release(
        &mut self,
        bulk_bytes_max: usize,
        out: &mut WireBuf,
        inflight: &mut Inflight,
        quiet_since_idle: &Cell<bool>,
        first_replies: &FirstReplies,
    ) -> Vec<Entry> {
        let mut dropped = Vec::new();
        while self.may_release(bulk_bytes_max, inflight)
            && let Some(entry) = self.waiting.front()
        {
            let (size, is_wanted) = (entry.size(), entry.is_wanted());
            self.forget_keys();
            if is_wanted {
                if inflight.is_empty() {
                    quiet_since_idle.set(true);
                }
                self.waiting.move_front(inflight, first_replies);
                out.begin_message();
                self.out.move_front(size, out);
            } else {
                dropped.extend(self.waiting.discard());
                self.out.advance(size);
            }
        }
        dropped
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.out.clear();
        self.keys.clear();
        self.key_counts.clear();
        self.marks = HashMap::new();
        self.waiting.drain()
    }

    /// Gives memory back after a burst.
    pub(super) fn shrink(&mut self) {
        self.waiting.shrink();
        if self.key_counts.is_empty() {
            (self.keys, self.key_counts) = (VecDeque::new(), VecDeque::new());
        }
    }

    /// Memory held, for the byte budget.
    pub(super) fn held_bytes(&self) -> usize {
        let keys = self.keys.len() * size_of::<u64>() + self.key_counts.len() * size_of::<u16>();
        let marks = self.marks.len() * size_of::<(u64, u32)>();
        self.out.held_bytes() + self.waiting.held_bytes() + keys + marks
    }
}
