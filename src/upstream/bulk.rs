//! Requests that are expected to move much wait in front of the connection, not on it.
//!
//! Replies come in the order of requests, so whoever asks behind a hundred values of a megabyte waits for all of them.
//! Only so much of the kind is under way at a time (`bulk_bytes_max`), and one at least; what is more stays here, in order, and small requests pass by.
//!
//! What must not overtake does not. While something of a client that moves much is under way, all that it asks counts as
//! that (`client/reply_queue.rs`). And whoever comes with a key that is changed by something that waits, be it another
//! client or a route, waits behind it: for one key a connection stays a queue.

use super::inflight::{Entry, Inflight};
use crate::net::FirstReplies;
use crate::protocol::WireBuf;
use bytes::Buf;
use std::cell::Cell;
use std::collections::VecDeque;

/// Keys are told apart by so many numbers; two with the same one wait for each other.
const PLACES: usize = 1024;
/// The place of all keys together.
const ALL: usize = PLACES;

/// What a request changes.
pub(super) enum Changes<'a> {
    Nothing,
    Key(&'a [u8]),
    All,
}

/// Those that wait. Their bytes and their entries lie apart from what is on the connection, or goes there next.
#[derive(Default)]
pub(super) struct Bulk {
    out: WireBuf,
    waiting: Inflight,
    /// For each that waits: the place of the key that it changes, if it does.
    places: VecDeque<Option<usize>>,
    /// How many change a key with this place, or all; nothing as long as none has ever waited.
    changes: Vec<u32>,
}

fn place_of(key: &[u8]) -> usize {
    crc32fast::hash(key) as usize % PLACES
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
            bulk_bytes > 0 || keys.any(|key| self.is_changed(key))
        }
    }

    /// Where a request that has to wait is written, and its entry kept.
    #[cold]
    pub(super) fn begin(&mut self, changes: Changes<'_>) -> (&mut WireBuf, &mut Inflight) {
        if self.changes.is_empty() {
            self.changes = vec![0; PLACES + 1];
        }
        let place = match changes {
            Changes::Nothing => None,
            Changes::Key(key) => Some(place_of(key)),
            Changes::All => Some(ALL),
        };
        if let Some(count) = place.and_then(|place| self.changes.get_mut(place)) {
            *count += 1;
        }
        self.places.push_back(place);
        (&mut self.out, &mut self.waiting)
    }

    fn is_changed(&self, key: &[u8]) -> bool {
        [place_of(key), ALL].iter().any(|place| self.changes.get(*place).is_some_and(|count| *count > 0))
    }

    /// The oldest waits no longer.
    fn forget_place(&mut self) {
        if let Some(place) = self.places.pop_front().flatten()
            && let Some(count) = self.changes.get_mut(place)
        {
            *count -= 1;
        }
    }

    pub(super) const fn waiting(&self) -> &Inflight {
        &self.waiting
    }

    pub(super) const fn waiting_mut(&mut self) -> &mut Inflight {
        &mut self.waiting
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
            self.forget_place();
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
        self.changes.fill(0);
        self.waiting.drain()
    }

    /// Memory held, for the byte budget.
    pub(super) fn held_bytes(&self) -> usize {
        let places = self.places.len() * size_of::<Option<usize>>();
        self.out.held_bytes() + self.waiting.held_bytes() + places
    }
}
