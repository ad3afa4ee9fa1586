//! The embedded server: a bounded in-process cache with the semantics of memcached 1.6.45.
//!
//! ```text
//! leaf ─► Cache: copy the value ─► lock ─► execute ─► classic │ meta_get │ meta_change ─► unlock ─► reply
//!                                              store │ arithmetic (decide)  shard (bound, expiry, cas)
//! ```
//! A request is one atomic step under the lock of the part that has its key (a cache of less than 128 MiB is
//! one part). The reply is handed out after the lock is given back, so that who takes it may ask the cache
//! again; until then its value is shared, not copied.

mod arithmetic;
mod classic;
mod entry;
mod execute;
mod expiry;
mod leaf;
mod line;
mod meta;
mod meta_change;
mod meta_get;
mod shard;
mod slab;
mod store;
#[cfg(test)]
mod tests;

pub use leaf::CacheLeaf;

use crate::protocol::{MultiGet, Op, Reply, Request, Status, Value};
use crate::sync::Lock;
use crate::time::Now;
use entry::Data;
use execute::Body;
use line::Line;
use shard::{Shard, Turn};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A cache of twice as much or more is cut into parts. What is done under a lock now and then (a sweep, slots
/// that are given back) takes milliseconds for so much, and all workers wait for it.
const PART_BYTES_MIN: usize = 64 << 20;
/// A part has room for so many items of the largest size.
const PART_ITEMS_MIN: usize = 32;
const PARTS_MAX: usize = 1_024;

/// One shard of the embedded server, shared by all workers.
pub struct Cache {
    /// Invariant: not empty. Each has its keys, an equal share of the memory, and its own cas uniques.
    parts: Box<[Lock<Shard>]>,
    /// Which part has a key. Keyed, as keys come from clients.
    hasher: RandomState,
    /// Nothing larger is even copied.
    item_bytes_max: usize,
}

/// What a shard holds, and what it had to let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub items: u64,
    /// Keys, values, what an entry costs beside them, and what is kept of those that are gone: never above the
    /// shard's bound.
    pub bytes: u64,
    /// Entries that left before their time, for want of room.
    pub evictions: u64,
    /// Dead entries that were found and dropped.
    pub expired: u64,
}

impl Cache {
    /// A shard of at most `memory_bytes_max`, for items (memcached's reckoning: 48 bytes of header, key,
    /// value and a little more) of at most `item_bytes_max`, which is memcached's `-I`.
    #[must_use]
    pub fn new(memory_bytes_max: usize, item_bytes_max: usize) -> Self {
        let part_bytes_min = PART_BYTES_MIN.max(item_bytes_max.saturating_mul(PART_ITEMS_MIN));
        let count = (memory_bytes_max / part_bytes_min).clamp(1, PARTS_MAX);
        let part = |index: usize| {
            let turn = Turn::of(index as u32, count as u32);
            Lock::new(Shard::new(memory_bytes_max / count, item_bytes_max, turn))
        };
        Self { parts: (0..count).map(part).collect(), hasher: RandomState::new(), item_bytes_max }
    }

    fn part(&self, key: &[u8]) -> &Lock<Shard> {
        match &*self.parts {
            [only] => only,
            // Never empty, and below its length.
            parts => &parts[self.hasher.hash_one(key) as usize % parts.len()],
        }
    }

    /// Answers one request with exactly one reply. `out` runs without the lock.
    pub fn execute(&self, request: &Request<'_>, now: Now, out: &mut dyn FnMut(&Reply<'_>)) {
        let mut line = Line::new();
        let has_value = request.op.has_value() && request.value.len() <= self.item_bytes_max;
        let data = has_value.then(|| Data::of_value(request.value));
        let key = if request.op == Op::MetaDebug { meta_get::debug_key(request) } else { request.key };
        let (status, body) = execute::execute(&mut self.part(key).lock(), request, data, now, &mut line);
        reply(status, &line, &body, out);
    }

    /// Answers a get of several keys: `hit` for each that is found, in the order of the keys. Each key is
    /// one step; others may come between.
    pub fn get_multi(&self, request: &MultiGet<'_>, now: Now, hit: &mut dyn FnMut(usize, &Reply<'_>)) {
        for (index, key) in request.keys.iter().enumerate() {
            let mut line = Line::new();
            let (status, body) =
                classic::get(&mut self.part(key).lock(), request.op, key, request.exptime, now, &mut line);
            if status == Status::Hit {
                reply(status, &line, &body, &mut |reply| hit(index, reply));
            }
        }
    }

    /// Empties the shard: at once for a `delay` of 0 or less, else as memcached does, one second before
    /// `delay` (read as an exptime) is over. A later call takes the place of one that has not begun. Each part
    /// is one step; others may come between.
    pub fn flush_all(&self, delay: i32, now: Now) {
        for part in &*self.parts {
            if delay > 0 {
                part.lock().flush_after(delay, now);
            } else {
                // Bound to a name so that the old entries are dropped after the lock is given back.
                let old = part.lock().clear();
                drop(old);
            }
        }
    }

    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let mut stats = CacheStats::default();
        for part in &*self.parts {
            let shard = part.lock();
            stats.items += shard.len() as u64;
            stats.bytes += shard.bytes();
            stats.evictions += shard.evictions;
            stats.expired += shard.expired;
        }
        stats
    }
}

fn reply(status: Status, line: &Line, body: &Body, out: &mut dyn FnMut(&Reply<'_>)) {
    let mut text = itoa::Buffer::new();
    let value = match body {
        Body::None => None,
        Body::Data(data) => Some(data.value()),
        Body::Number(number) => Some(Value::Slice(text.format(*number).as_bytes())),
    };
    out(&Reply { status, line: line.as_slice(), value, miss_on_error: false, accepted: None });
}
