//! One server as a worker sees it: a leaf for each of its connections.

use super::connection::Connection;
use super::life;
use super::terms::{Shared, Terms};
use super::tko::bounds_of;
use crate::config::{Pool, Server};
use crate::protocol::{MultiGet, Request};
use crate::route::{Call, Explained, Leaf, Route, Slot, Target};
use std::rc::Rc;
use tokio::sync::oneshot;

/// One connection to a server, shared by all clients of the worker.
pub struct Destination {
    terms: Rc<Terms>,
    connection: Rc<Connection>,
}

impl Destination {
    /// How many servers the pool has now: a share of them may be knocked out at a time.
    pub fn expect_servers(pool: &Pool, shared: &Shared) {
        if pool.tko.is_some() {
            shared.health.bound(&pool.name, bounds_of(pool));
        }
    }

    /// The leaves of a server, one for each of the pool's `connections`; they connect when the first
    /// request comes.
    #[must_use]
    pub fn of_server(pool: &Pool, server: &Server, shared: &Shared) -> Vec<Rc<dyn Leaf>> {
        let terms = Rc::new(Terms::new(pool, server, shared));
        (0..pool.connections_count)
            .map(|_| {
                let connection = life::spawn(Rc::clone(&terms), shared.clone());
                Rc::new(Self { terms: Rc::clone(&terms), connection }) as Rc<dyn Leaf>
            })
            .collect()
    }
}

/// Whoever waits for a reply still gets it; then the connection is closed.
impl Drop for Destination {
    fn drop(&mut self) {
        self.connection.retire();
    }
}

impl Route for Destination {
    #[inline]
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.connection.send(request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let target = Target {
            name: self.terms.label.clone(),
            address: self.terms.endpoint.address(),
            pool: self.terms.pool.clone(),
            key: request.key.to_vec(),
        };
        Explained::server(format!("server {}", self.terms.label), target)
    }
}

impl Leaf for Destination {
    fn send_multi(&self, request: &MultiGet<'_>, call: &Call, slot: Slot) {
        self.connection.send_multi(request, call, slot);
    }

    fn flush_all(&self, delay: i32, slot: Slot) {
        self.connection.flush_all(delay, slot);
    }

    fn name(&self) -> &str {
        &self.terms.label
    }

    fn warm(&self) -> Option<oneshot::Receiver<()>> {
        Some(self.connection.warm())
    }

    #[inline]
    fn is_out(&self) -> bool {
        let is_out = self.terms.tko.reason().is_some();
        if is_out {
            // Nobody will send anything to it, so who asks sees to it that somebody probes.
            self.connection.probe(self.terms.tko.adopt());
        }
        is_out
    }

    fn changes(&self) -> u64 {
        self.terms.tko.changes()
    }
}
