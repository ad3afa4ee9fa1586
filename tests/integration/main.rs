//! What only real sockets and real processes can show.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[allow(dead_code, reason = "shared with tests/prove, which needs other parts of it")]
#[path = "../support/mod.rs"]
mod support;

/// `get __mcrouter__.…`: what a running process tells of itself, and to whom.
mod admin_keys;
mod admin_port;
/// What is answered here and goes to no server: stats, version, flush_all, other protocols.
mod administration;
/// Real client libraries speak through ringway.
mod clients;
/// What only a clock that is moved can show.
mod clock;
/// Names that are followed while servers come, go and move.
mod discovery;
/// Disks that fill up or cannot be written, under the spool and the feed.
mod disks;
/// Every route, with every operation, over children that hit, miss and fail.
mod every_route;
/// A server that stalls, resets, lies or leaves: no client ever gets an answer that is not its own.
mod faults;
/// Deletes told to others: none is left out, none is passed by in silence.
mod feed;
/// mcrouter's hash functions and a second implementation of them give the same answers.
mod hand_over;
mod hashes;
/// Servers that fail are knocked out, looked after by one prober, and come back.
mod health;
/// Every bound: reached, told or waited for, and nobody else notices.
mod limits;
mod long_gets;
/// Multi-key gets: one command per server, one answer in the order of the asking.
mod multiget;
/// Connections that clients share: order, batches, noreply, clients that do not read.
mod pipelining;
/// Keys are where the clients and proxies of old put them: those write, ringway reads.
mod placement;
/// The life of the process: start, addresses, faults at start, signals.
mod process;
/// Another configuration while clients are served.
mod reload;
/// Two processes on one port, for updates where sockets cannot be handed over.
mod reuse_port;
/// Trees of routes in front of real servers.
mod routes;
/// The JSON Schema for editors and the reader of configurations say the same.
mod schema;
/// Deletes that a server could not be told of: kept, hidden from readers, delivered.
mod spool;
/// How long an answer may take: by distance, by pool, by server.
mod timeouts;
/// The conversations of `tests/transcripts`, held with memcached, the embedded cache and the proxy.
mod transcripts;
/// Servers that come and go: with a transition nobody misses what was there, and nobody reads what is old.
mod transition;
