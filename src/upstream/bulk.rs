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
use std::collections::VecDeque;
use tokio::time::Instant;

/// Keys are told apart by so many numbers; two with the same one wait for each other.
const PLACES: u16 = 1024;
/// The place of all keys together.
const ALL: u16 = PLACES;
/// Who has more keys stands for all.
const KEYS_MAX: usize = 64;

/// Those that wait. Their bytes and their entries lie apart from what is on the connection, or goes there next.
#[derive(Default)]
pub(super) struct Bulk {
    out: WireBuf,
    waiting: Inflight,
    /// The places of the keys that nobody may pass with, and for each that waits how many of them are its own.
    places: VecDeque<u16>,
    place_counts: VecDeque<u16>,
    /// How often each place, or the one for all, is among them; nothing as long as none has ever waited.
    marks: Vec<u32>,
}

fn place_of(key: &[u8]) -> u16 {
    (crc32fast::hash(key) % u32::from(PLACES)) as u16
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
        self.begin_at(keys.map(place_of))
    }

    /// The same of one that is about all keys.
    #[cold]
    pub(super) fn begin_for_all(&mut self) -> (&mut WireBuf, &mut Inflight) {
        self.begin_at(std::iter::once(ALL))
    }

    fn begin_at(&mut self, places: impl Iterator<Item = u16>) -> (&mut WireBuf, &mut Inflight) {
        if self.marks.is_empty() {
            self.marks = vec![0; usize::from(PLACES) + 1];
        }
        let mut count = 0;
        for place in places {
            self.places.push_back(place);
            self.marks[usize::from(place)] += 1;
            count += 1;
        }
        self.place_counts.push_back(count);
        (&mut self.out, &mut self.waiting)
    }

    fn is_marked(&self, key: &[u8]) -> bool {
        [place_of(key), ALL].iter().any(|place| self.marks[usize::from(*place)] > 0)
    }

    /// The oldest waits no longer.
    fn forget_places(&mut self) {
        let count = self.place_counts.pop_front().unwrap_or_default();
        for place in self.places.drain(..usize::from(count)) {
            self.marks[usize::from(place)] -= 1;
        }
    }

    pub(super) const fn waiting(&self) -> &Inflight {
        &self.waiting
    }

    /// Takes the slots of those whose time has passed, and forgets them: they were never sent. Returns how many.
    pub(super) fn expire(&mut self, now: Instant, on_expired: impl FnMut(Slot, bool, Instant)) -> u64 {
        self.waiting.expire(now, on_expired);
        let mut count = 0;
        // those who wait have come one after the other, with the same timeout
        while self.waiting.front().is_some_and(|entry| entry.slot.is_none()) {
            self.forget_places();
            let size = self.waiting.discard().map_or(0, |entry| entry.size());
            self.out.advance(size);
            count += 1;
        }
        count
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
            self.forget_places();
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
        self.places.clear();
        self.place_counts.clear();
        self.marks.fill(0);
        self.waiting.drain()
    }

    /// Memory held, for the byte budget.
    pub(super) fn held_bytes(&self) -> usize {
        let places = (self.places.len() + self.place_counts.len()) * size_of::<u16>();
        self.out.held_bytes() + self.waiting.held_bytes() + places
    }
}
