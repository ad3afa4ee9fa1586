//! The single table of counters: kind, name, sentence. Those with memcached's names mean what they mean there.

use super::{Counter, Servers};

/// What a number is, and what may set it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// Since the start, or since `stats reset`.
    Count,
    /// Since the start: what must stay 0, which any client could else hide, and what memcached leaves too.
    Kept,
    /// What is now. It ends with the worker that counts it.
    Gauge,
}

/// A counter's place in the block, its name and what it counts.
pub struct CounterInfo {
    pub kind: CounterKind,
    pub name: &'static str,
    pub help: &'static str,
    pub pick: fn(&Counters) -> &Counter,
}

macro_rules! counters {
    ($($kind:ident $name:ident: $help:literal,)*) => {
        /// The counters of one worker.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $help] pub $name: Counter,)*
            /// What is counted for each server by itself.
            pub servers: Servers,
        }

        /// All of them, in the order of `stats`.
        pub const COUNTERS: &[CounterInfo] = &[
            $(CounterInfo { kind: CounterKind::$kind, name: stringify!($name), help: $help, pick: |c| &c.$name },)*
        ];
    };
}

counters! {
    Gauge curr_connections: "clients connected now",
    Kept total_connections: "clients accepted since start",
    Count rejected_connections: "clients turned away because of clients_max, or because no descriptor was left",
    Count accept_errors: "attempts to accept a client that failed",
    Count idle_kicks: "clients closed because they were idle for longer than client_idle_timeout",
    Count stalled_clients_closed: "clients closed because they stopped within a request, or before taking their replies",
    Count cmd_get: "keys asked for by get, gets, gat, gats and mg",
    Count cmd_set: "storage commands: set, add, replace, append, prepend, cas and ms",
    Count cmd_touch: "touch, gat and gats",
    Count cmd_delete: "delete and md",
    Count cmd_incr_decr: "incr, decr and ma",
    Count cmd_flush: "flush_all",
    Count cmd_meta: "meta commands among all of these",
    Count get_hits: "keys that were found",
    Count get_misses: "keys that were not",
    Count bytes_read: "bytes read from clients",
    Count bytes_written: "bytes written to clients",
    Count client_errors: "requests refused because of what the client sent",
    Count server_errors: "requests answered with an error because of a server",
    Count server_bytes_read: "bytes read from servers",
    Count server_bytes_written: "bytes written to servers",
    Gauge server_connections: "connections to servers open now",
    Count server_connects: "connections to servers made since start",
    Count server_connect_errors: "attempts to connect that failed",
    Count server_tkos: "times that a server was knocked out",
    Count server_tko_requests: "requests that failed at once because their server is knocked out",
    Count server_probes: "attempts to find out whether a server that is knocked out is back",
    Count server_closed: "connections to servers that have ended, whoever ended them",
    Gauge server_outstanding: "requests waiting for a server now",
    Gauge server_copies: "those of them for whose answers nobody waited from the beginning: for shadows, and the like",
    Count server_timeouts: "requests to servers that were not answered in time",
    Count server_late: "replies that came after their time and were thrown away",
    Count server_resent: "gets sent again because they met a connection closed while idle",
    Count server_queue_full: "requests refused because too many were waiting for that server, or there was no memory for them",
    Kept desync_detected: "replies that did not belong to the request in their place; must stay 0",
    Count slow_clients_closed: "clients closed because memory was short and they held the most of it",
    Count transition_hits_old: "misses of a key's new server that its former one had, see transition",
    Count transition_copies: "items copied from a key's former server to its new one",
    Count transition_skipped: "items of a former server that were not copied because of the rate, or because too many were under way",
    Gauge buffer_bytes: "memory that requests and replies under way hold now, of buffer_bytes_max",
}
