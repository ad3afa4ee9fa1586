//! The cache as the end of a route: it answers at once.

use super::Cache;
use crate::protocol::{MultiGet, Reply, Request, Status};
use crate::route::{Call, Explained, Leaf, Route, Slot, Target};
use crate::time::Clock;
use std::sync::Arc;

/// One worker's way to a shard that all workers share.
pub struct CacheLeaf {
    cache: Arc<Cache>,
    name: String,
    clock: Clock,
}

impl CacheLeaf {
    #[must_use]
    pub const fn new(cache: Arc<Cache>, name: String, clock: Clock) -> Self {
        Self { cache, name, clock }
    }
}

impl Route for CacheLeaf {
    fn send(&self, request: &Request<'_>, _call: &Call, slot: Slot) {
        let mut slot = Some(slot);
        self.cache.execute(request, self.clock.now(), &mut |reply| {
            if let Some(slot) = slot.take() {
                slot.fill(reply);
            }
        });
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let (name, address) = (self.name.clone(), self.name.clone());
        let target = Target { name, address, pool: String::new(), key: request.key.to_vec() };
        Explained::server(format!("server {}", self.name), target)
    }
}

impl Leaf for CacheLeaf {
    fn send_multi(&self, request: &MultiGet<'_>, _call: &Call, slot: Slot) {
        self.cache.get_multi(request, self.clock.now(), &mut |index, reply| slot.hit(index, reply));
        slot.fill(&Reply::line(Status::Ok, b""));
    }

    fn flush_all(&self, delay: i32, slot: Slot) {
        self.cache.flush_all(delay, self.clock.now());
        slot.fill(&Reply::line(Status::Ok, b"OK"));
    }

    fn name(&self) -> &str {
        &self.name
    }
}
