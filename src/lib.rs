//! ringway: a memcached-protocol sharding proxy. The rooms, in reading order:

pub mod config; // what we were told to do
pub mod hash; // key to server
pub mod protocol; // bytes to requests and replies, and back
pub mod route; // the tree that a request walks
// the embedded server
pub mod cache;
// for all rooms
pub mod sync;
pub mod time;
