//! ringway: a memcached-protocol sharding proxy. The rooms, in reading order; `ARCHITECTURE.md` is the map.

// Bytes to requests and replies, and back.
pub mod protocol;

// Key to server.
pub mod hash;

// What we were told to do.
pub mod config;

// What a client sees.
pub mod client;

// The tree that a request walks.
pub mod route;

// Connections to servers.
pub mod upstream;

// Whether a server may be sent to.
pub mod health;

// The embedded server.
pub mod cache;

// Deletes that must not be lost.
pub mod spool;

// Questions to the program itself.
pub mod admin;

// What is counted.
pub mod stats;

// Names to addresses.
pub mod discovery;

// Sockets.
pub mod net;

// The life of the process.
pub mod proxy;

// The load tool.
pub mod bench;

// The command line.
pub mod cli;

// The only `unsafe`.
pub mod raw;

// The mutex that few share.
pub mod sync;

// What time it is.
pub mod time;
