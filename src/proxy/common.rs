//! What all workers have in common while a configuration serves, made by the main thread before they hear of it.

use super::caches::Caches;
use super::owed_as::OwedAs;
use super::rings::Rings;
use super::windows::Windows;
use crate::config::Config;
use std::sync::Arc;
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Common {
    pub(super) caches: Caches,
    pub(super) rings: Rings,
    pub(super) windows: Windows,
    pub(super) owed_as: OwedAs,
}

impl Common {
    /// That of a configuration which takes the place of the one that `former` is of.
    pub(super) fn of(config: &Arc<Config>, former: &Self, now: Instant) -> Self {
        let windows = Windows::of(config, &former.windows, now);
        let rings = Rings::of(config, &windows, &former.rings);
        let owed_as = OwedAs::of(config, &windows);
        Self { caches: Caches::of(config, &former.caches), rings, windows, owed_as }
    }
}
