//! ringway: a memcached-protocol sharding proxy. The rooms, in reading order:

pub mod protocol; // bytes to requests and replies, and back
pub mod hash; // key to server
pub mod config; // what we were told to do
pub mod stats; // what is counted
pub mod discovery; // names to addresses
pub mod net; // sockets
pub mod route; // the tree that a request walks
pub mod upstream; // connections to servers
pub mod cache; // the embedded server
pub mod admin; // questions to the program itself
pub mod client; // what a client sees
pub mod proxy; // the life of the process
pub mod bench; // load for any memcached-speaking address; apart from all the others
// for all rooms:
pub mod sync;
pub mod time;
