//! The embedded server: a bounded in-process cache with the semantics of memcached 1.6.45.
//!
//! ```text
//! leaf ─► Cache: copy the value ─► lock ─► execute ─► classic │ meta_get │ meta_change ─► unlock ─► reply
//!                                              store │ arithmetic (decide)  shard (bound, expiry, cas)
//! ```
//! A request is one atomic step under the shard's lock. The reply is handed out after the lock is given
//! back, so that who takes it may ask the cache again; until then its value is shared, not copied.

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

use crate::protocol::{MultiGet, Reply, Request, Status, Value};
use crate::sync::Lock;
use crate::time::Now;
use entry::Data;
use execute::Body;
use line::Line;
use shard::Shard;

/// One shard of the embedded server, shared by all workers.
pub struct Cache {
    shard: Lock<Shard>,
    /// Nothing larger is even copied.
    item_bytes_max: usize,
}

/// What a shard holds, and what it had to let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub items: u64,
    /// Keys, values, and what an entry costs beside them: never above the shard's bound.
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
        Self { shard: Lock::new(Shard::new(memory_bytes_max, item_bytes_max)), item_bytes_max }
    }

    /// Answers one request with exactly one reply. `out` runs without the lock.
    pub fn execute(&self, request: &Request<'_>, now: Now, out: &mut dyn FnMut(&Reply<'_>)) {
        let mut line = Line::new();
        let has_value = request.op.has_value() && request.value.len() <= self.item_bytes_max;
        let data = has_value.then(|| Data::of_value(request.value));
        let (status, body) = execute::execute(&mut self.shard.lock(), request, data, now, &mut line);
        reply(status, &line, &body, out);
    }

    /// Answers a get of several keys: `hit` for each that is found, in the order of the keys. Each key is
    /// one step; others may come between.
    pub fn get_multi(&self, request: &MultiGet<'_>, now: Now, hit: &mut dyn FnMut(usize, &Reply<'_>)) {
        for (index, key) in request.keys.iter().enumerate() {
            let mut line = Line::new();
            let (status, body) =
                classic::get(&mut self.shard.lock(), request.op, key, request.exptime, now, &mut line);
            if status == Status::Hit {
                reply(status, &line, &body, &mut |reply| hit(index, reply));
            }
        }
    }

    /// Empties the shard: at once for a `delay` of 0 or less, else as memcached does, one second before
    /// `delay` (read as an exptime) is over. A later call takes the place of one that has not begun.
    pub fn flush_all(&self, delay: i32, now: Now) {
        if delay > 0 {
            self.shard.lock().flush_after(delay, now);
        } else {
            // Bound to a name so that the old entries are dropped after the lock is given back.
            let old = self.shard.lock().clear();
            drop(old);
        }
    }

    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let shard = self.shard.lock();
        CacheStats {
            items: shard.len() as u64,
            bytes: shard.bytes(),
            evictions: shard.evictions,
            expired: shard.expired,
        }
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
