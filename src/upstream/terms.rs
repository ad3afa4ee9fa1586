//! What connections are made with: what all of a worker share, and how one server is talked to.

use super::connect::Dial;
use super::tko::Tko;
use crate::config::{Endpoint, OnError, Pool, Server};
use crate::health::Health;
use crate::net::{Budget, FirstReplies, ReadBlock};
use crate::stats::{Counters, Traffic};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What all connections of a worker share.
#[derive(Clone)]
pub struct Shared {
    pub counters: Arc<Counters>,
    pub block: Rc<RefCell<ReadBlock>>,
    pub dial: Dial,
    /// What all workers know together of the servers.
    pub health: Arc<Health>,
    /// Where the jitter of pauses comes from, so that workers and nodes do not knock in step.
    pub jitter_seed: u64,
    /// Late replies that one connection waits for.
    pub late_count_max: Rc<Cell<usize>>,
    /// What one connection has under way of requests that move much.
    pub bulk_bytes_max: Rc<Cell<usize>>,
    /// What all buffers of the worker may hold.
    pub budget: Rc<Budget>,
    /// What new clients are expected to ask for.
    pub first_replies: Rc<FirstReplies>,
}

/// How one server is talked to.
pub(super) struct Terms {
    /// The name of its pool.
    pub(super) pool: String,
    pub(super) label: String,
    pub(super) endpoint: Endpoint,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) outstanding_count_max: usize,
    /// Failed gets are told to clients as misses.
    pub(super) miss_on_error: bool,
    pub(super) tko: Tko,
    pub(super) traffic: Arc<Traffic>,
}

impl Terms {
    pub(super) fn new(pool: &Pool, server: &Server, shared: &Shared) -> Self {
        let (timeout, connect_timeout) = pool.timeouts_of(server);
        Self {
            pool: pool.name.clone(),
            label: server.label(),
            endpoint: server.endpoint.clone(),
            tko: Tko::new(pool, server, &shared.health),
            traffic: shared.counters.servers.enlist(&server.address(), timeout, &pool.name),
            timeout,
            connect_timeout,
            outstanding_count_max: pool.outstanding_count_max,
            miss_on_error: pool.on_error == OnError::Miss,
        }
    }
}
