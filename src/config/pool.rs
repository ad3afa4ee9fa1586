//! A pool: a named list of servers and a way to place keys.

use crate::hash::{Member, Spec};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    pub servers: Vec<Server>,
    pub hash: Spec,
    /// From the moment a request is queued until its reply has come.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    /// What a client is told of a get that failed.
    pub on_error: OnError,
    /// Connections per worker and server.
    pub connections_count: usize,
    /// Requests waiting for one server in one worker, sent or not.
    pub outstanding_count_max: usize,
}

/// One server, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub endpoint: Endpoint,
    /// What the placement hashes.
    pub member: Member,
}

impl Server {
    /// What people call it: its name, else its address as written.
    #[must_use]
    pub fn label(&self) -> String {
        if let Some(name) = &self.member.name {
            return name.clone();
        }
        match &self.endpoint {
            Endpoint::Address(a) => a.to_string(),
            Endpoint::Host(host, port) => format!("{host}:{port}"),
            Endpoint::Unix(path) => format!("unix:{}", path.display()),
            Endpoint::Embedded(e) => format!("embedded-{}", e.shard),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Address(SocketAddr),
    /// Resolved when a connection is made.
    Host(String, u16),
    Unix(PathBuf),
    Embedded(Embedded),
}

/// An in-process cache in the place of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Which of the pool's shards.
    pub shard: usize,
    /// Bytes that this shard may hold.
    pub memory_bytes_max: usize,
}

/// What becomes of a get whose server fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// One error line for the whole command.
    #[default]
    Error,
    /// As if the keys were not there.
    Miss,
}
