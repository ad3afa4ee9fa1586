//! The rings of a configuration, built once for all workers by the main thread: a thousand servers take it some ten
//! milliseconds, in which a worker would serve nobody. One that stays as it was is not built again.

use super::windows::Windows;
use crate::config::{Config, Pool};
use crate::hash::{Member, Ring, Spec, SpecError};
use crate::sync::Lock;
use std::collections::HashMap;
use std::sync::Arc;

/// By the name of the pool: as it is now, and as it was where keys have moved of late.
#[derive(Default)]
pub(super) struct Rings {
    by_pool: HashMap<String, Vec<Arc<Built>>>,
}

struct Built {
    spec: Spec,
    members: Vec<Member>,
    /// Held only while it is copied; what is long in it is shared by the copies.
    ring: Lock<Ring>,
}

impl Rings {
    /// Those of all pools, which the tree has whatever its routes ask; `former` has some of them, most likely.
    pub(super) fn of(config: &Config, windows: &Windows, former: &Self) -> Self {
        let mut rings = Self::default();
        for pool in &config.pools {
            let was = windows.of_pool(&pool.name).iter().map(|window| &window.former);
            for pool in std::iter::once(pool).chain(was) {
                // What is wrong with it the workers find too, and tell.
                let _ = rings.add(pool, former);
            }
        }
        rings
    }

    fn add(&mut self, pool: &Pool, former: &Self) -> Result<(), SpecError> {
        let members = pool.members();
        let built = match former.find(pool, &members) {
            Some(built) => Arc::clone(built),
            None => {
                let ring = Lock::new(Ring::build(&pool.hash, &members)?);
                Arc::new(Built { spec: pool.hash.clone(), members, ring })
            }
        };
        self.by_pool.entry(pool.name.clone()).or_default().push(built);
        Ok(())
    }

    /// A copy for a worker.
    pub(super) fn of_pool(&self, pool: &Pool) -> Result<Ring, SpecError> {
        let members = pool.members();
        self.find(pool, &members)
            .map_or_else(|| Ring::build(&pool.hash, &members), |built| Ok(built.ring.lock().clone()))
    }

    fn find(&self, pool: &Pool, members: &[Member]) -> Option<&Arc<Built>> {
        let of_pool = self.by_pool.get(&pool.name)?;
        of_pool.iter().find(|built| built.spec == pool.hash && built.members == members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use tokio::time::Instant;

    /// The rings of these pools, one configuration after the other.
    fn rings(pools: &[&str]) -> Vec<Vec<Arc<Built>>> {
        let (mut rings, mut windows) = (Rings::default(), Windows::default());
        let mut all = Vec::new();
        for pool in pools {
            let text = format!("pools: {{main: {{{pool}}}}}\nroute: main\n");
            let (config, _) = config::from_text("test", &text, |_, _| {}).unwrap_or_else(|f| panic!("{f}"));
            let config = Arc::new(config);
            windows = Windows::of(&config, &windows, Instant::now());
            rings = Rings::of(&config, &windows, &rings);
            all.push(rings.by_pool["main"].clone());
        }
        all
    }

    #[test]
    fn what_stays_is_not_built_again() {
        let of = |pools: &[&str]| {
            let all = rings(pools);
            (all[1].len(), Arc::ptr_eq(&all[0][0], &all[1][0]))
        };
        assert_eq!(of(&["servers: [a, b]", "servers: [a, b], timeout: 3s"]), (1, true));
        assert_eq!(
            of(&["servers: [a name=n, b]", "servers: [c name=n, b]"]),
            (1, false),
            "its host is compared too"
        );
        assert_eq!(of(&["servers: [a, b]", "servers: [a, c]"]), (1, false));
        assert_eq!(of(&["servers: [a, b]", "servers: [a, b], hash: jump"]), (1, false));
    }

    #[test]
    fn a_ring_that_was_is_kept_as_long_as_keys_are_looked_for_on_it() {
        let young = "transition: {for: 10s}";
        let all = rings(&[&format!("servers: [a, b], {young}"), &format!("servers: [a, b, c], {young}")]);
        assert_eq!(all[1].len(), 2);
        assert!(all[1].iter().any(|built| Arc::ptr_eq(built, &all[0][0])));
    }
}
