//! Sockets: one stream type for all kinds, listeners, blocks to read into.

mod block;
mod budget;
mod descriptors;
mod inherited;
mod listen;
mod stream;

pub use block::{BLOCK_BYTES, LargeReader, ReadBlock};
pub use budget::Budget;
pub use descriptors::{SpareDescriptor, raise_files_max};
pub use listen::{BindError, Bound, BoundAddress, Listener, activated, bind};
pub use stream::{Stream, poll_write_all};
