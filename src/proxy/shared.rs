//! What all workers share, whatever the configuration.

use super::common::Common;
use super::events::Event;
use super::worker::Plan;
use crate::admin::Process;
use crate::config::Config;
use crate::health::Health;
use crate::net::Bound;
use crate::spool::Spool;
use crate::stats::{Counters, Stats};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;

/// One per process.
pub(super) struct Shared {
    pub(super) process: Arc<Process>,
    pub(super) spool: Option<Arc<Spool>>,
    pub(super) stats: Stats,
    pub(super) health: Arc<Health>,
    /// Clients of the whole process.
    pub(super) clients: Arc<AtomicUsize>,
    /// For what has something to tell to the main thread.
    pub(super) tell: Sender<Event>,
}

impl Shared {
    /// For one of so many workers.
    pub(super) fn plan(
        &self,
        config: &Arc<Config>,
        common: &Arc<Common>,
        workers_count: usize,
        counters: Arc<Counters>,
        listeners: Vec<Bound>,
    ) -> Plan {
        Plan {
            config: Arc::clone(config),
            counters,
            process: Arc::clone(&self.process),
            clients: Arc::clone(&self.clients),
            health: Arc::clone(&self.health),
            common: Arc::clone(common),
            spool: self.spool.clone(),
            delivers: false,
            workers_count,
            listeners,
        }
    }

    /// The process ends: what its spool has accepted is safe.
    pub(super) fn close_spool(&self) {
        if let Some(spool) = &self.spool {
            spool.close();
        }
    }
}
