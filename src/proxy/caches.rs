//! The shards of embedded pools, shared by all workers. One that stays as it is keeps its items when the configuration
//! changes.

use crate::cache::Cache;
use crate::config::{Config, Endpoint};
use std::collections::BTreeMap;
use std::sync::Arc;

/// By pool and shard.
#[derive(Default)]
pub(super) struct Caches {
    shards: BTreeMap<(String, usize), Shard>,
}

#[derive(Clone)]
struct Shard {
    memory_bytes_max: usize,
    value_bytes_max: usize,
    cache: Arc<Cache>,
}

impl Caches {
    /// Those of a configuration; what `former` has and is as large is taken over with all that is in it.
    pub(super) fn of(config: &Config, former: &Self) -> Self {
        let value_bytes_max = config.settings.limits.value_bytes_max;
        let mut shards = BTreeMap::new();
        for pool in &config.pools {
            for server in &pool.servers {
                let Endpoint::Embedded(embedded) = server.endpoint else { continue };
                let memory_bytes_max = embedded.memory_bytes_max;
                let name = (pool.name.clone(), embedded.shard);
                let is_same = |shard: &&Shard| {
                    (shard.memory_bytes_max, shard.value_bytes_max) == (memory_bytes_max, value_bytes_max)
                };
                let shard = former.shards.get(&name).filter(is_same).cloned().unwrap_or_else(|| {
                    let cache = Arc::new(Cache::new(memory_bytes_max, value_bytes_max));
                    Shard { memory_bytes_max, value_bytes_max, cache }
                });
                shards.insert(name, shard);
            }
        }
        Self { shards }
    }

    pub(super) fn get(&self, pool: &str, shard: usize) -> Option<&Arc<Cache>> {
        self.shards.get(&(pool.to_owned(), shard)).map(|shard| &shard.cache)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    pub(super) fn all(&self) -> Vec<Arc<Cache>> {
        self.shards.values().map(|shard| Arc::clone(&shard.cache)).collect()
    }

    /// What all of them may hold.
    pub(super) fn memory_bytes_max(&self) -> usize {
        self.shards.values().map(|shard| shard.memory_bytes_max).sum()
    }
}
