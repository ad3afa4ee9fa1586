//! The side towards servers: destinations, their connections, and the pairing of replies with requests.

mod bulk;
mod connect;
mod connection;
#[cfg(test)]
mod conversations;
mod destination;
mod dialect;
mod inflight;
mod life;
mod probe;
mod reader;
mod terms;
#[cfg(test)]
mod tests;
mod tko;

pub use connect::Dial;
pub use destination::Destination;
pub use terms::Shared;
