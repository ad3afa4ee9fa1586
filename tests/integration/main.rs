//! What only real sockets and real processes can show.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

/// The conversations of `tests/transcripts`, held with memcached, the embedded cache and the proxy.
mod transcripts;
