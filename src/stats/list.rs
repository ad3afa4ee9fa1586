//! The single table of counters: name, sentence. Those with memcached's names mean what they mean there.

use super::{Counter, Servers};

/// A counter's place in the block, its name and what it counts.
pub struct CounterInfo {
    pub name: &'static str,
    pub help: &'static str,
    pub pick: fn(&Counters) -> &Counter,
}

macro_rules! counters {
    ($($name:ident: $help:literal,)*) => {
        /// The counters of one worker.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $help] pub $name: Counter,)*
            /// What is counted for each server by itself.
            pub servers: Servers,
        }

        /// All of them, in the order of `stats`.
        pub const COUNTERS: &[CounterInfo] = &[
            $(CounterInfo { name: stringify!($name), help: $help, pick: |c| &c.$name },)*
        ];
    };
}

counters! {
    curr_connections: "clients connected now",
    total_connections: "clients accepted since start",
    rejected_connections: "clients turned away because of clients_max, or because no descriptor was left",
    accept_errors: "attempts to accept a client that failed",
    idle_kicks: "clients closed because they were idle for longer than client_idle_timeout",
    stalled_clients_closed: "clients closed because they stopped within a request, or before taking their replies",
    cmd_get: "keys asked for by get, gets, gat, gats and mg",
    cmd_set: "storage commands: set, add, replace, append, prepend, cas and ms",
    cmd_touch: "touch, gat and gats",
    cmd_delete: "delete and md",
    cmd_incr_decr: "incr, decr and ma",
    cmd_flush: "flush_all",
    cmd_meta: "meta commands among all of these",
    get_hits: "keys that were found",
    get_misses: "keys that were not",
    bytes_read: "bytes read from clients",
    bytes_written: "bytes written to clients",
    client_errors: "requests refused because of what the client sent",
    server_errors: "requests answered with an error because of a server",
    server_bytes_read: "bytes read from servers",
    server_bytes_written: "bytes written to servers",
    server_connections: "connections to servers open now",
    server_connects: "connections to servers made since start",
    server_connect_errors: "attempts to connect that failed",
    server_tkos: "times that a server was knocked out",
    server_tko_requests: "requests that failed at once because their server is knocked out",
    server_probes: "attempts to find out whether a server that is knocked out is back",
    server_closed: "connections to servers that have ended, whoever ended them",
    server_outstanding: "requests waiting for a server now",
    server_copies: "those of them for whose answers nobody waited from the beginning: for shadows, and the like",
    server_timeouts: "requests to servers that were not answered in time",
    server_late: "replies that came after their time and were thrown away",
    server_resent: "gets sent again because they met a connection closed while idle",
    server_queue_full: "requests refused because too many were waiting for that server, or there was no memory for them",
    desync_detected: "replies that did not belong to the request in their place; must stay 0",
    slow_clients_closed: "clients closed because memory was short and they held the most of it",
    transition_hits_old: "misses of a key's new server that its former one had, see transition",
    transition_copies: "items copied from a key's former server to its new one",
    transition_skipped: "items of a former server that were not copied because of the rate, or because too many were under way",
    buffer_bytes: "memory that requests and replies under way hold now, of buffer_bytes_max",
}
