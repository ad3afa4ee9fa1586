//! What holds for the whole process: listeners, workers, bounds, time limits.

use super::Listen;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub listen: Vec<Listen>,
    pub workers: Workers,
    pub limits: Limits,
    /// `flush_all` goes to every server; otherwise it is refused.
    pub allow_flush: bool,
    /// How long replies under way may take after SIGTERM.
    pub drain_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// As many as cores that the container may use.
    Auto,
    Count(usize),
}

/// Every bound of the process. Each is at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections, all workers together.
    pub clients_count_max: usize,
    /// Requests of one client that are not answered yet; beyond it that client is not read.
    pub client_outstanding_count_max: usize,
    /// Reply bytes that one client has not taken yet; beyond it that client is not read.
    pub client_reply_bytes_max: usize,
    /// The largest data block that is passed on.
    pub value_bytes_max: usize,
    /// Bytes in all buffers of the process; beyond it the client that brings more is closed.
    pub buffer_bytes_max: usize,
    /// Timed-out requests whose late replies one connection still waits for; beyond it the connection is closed.
    pub late_count_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_count_max: 16_384,
            client_outstanding_count_max: 1_024,
            client_reply_bytes_max: 4 << 20,
            value_bytes_max: crate::protocol::limits::VALUE_BYTES_MAX_DEFAULT,
            buffer_bytes_max: 512 << 20,
            late_count_max: 1_000,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![Listen::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], 5000)))],
            workers: Workers::Auto,
            limits: Limits::default(),
            allow_flush: false,
            drain_timeout: Duration::from_secs(5),
        }
    }
}
