//! The side towards servers: destinations, their connections, and the pairing of replies with requests.

mod connect;
mod connection;
mod destination;
mod inflight;
mod life;
mod reader;
#[cfg(test)]
mod tests;

pub use connect::Dial;
pub use connection::Shared;
pub use destination::Destination;
