//! Names to addresses. For now: the host name of a server entry, asked for whenever a connection is made.

mod dns;

pub use dns::Resolver;
