//! Sockets: one stream type for all kinds, listeners, blocks to read into, what buffers and new clients may have, and the way of sockets to another process.

mod block;
mod budget;
mod descriptors;
mod first_replies;
mod inherited;
mod listen;
mod passing;
mod stream;

pub use block::{BLOCK_BYTES, LargeReader, ReadBlock};
pub use budget::Budget;
pub use descriptors::{SpareDescriptor, raise_files_max};
pub use first_replies::FirstReplies;
pub use inherited::is_activated;
pub use listen::{BindError, Bound, BoundAddress, Listener, SocketFile, activated, bind};
pub use passing::{Door, PASSED_COUNT_MAX, Packet, Passage};
pub use stream::{Stream, poll_write_all, wake_after_others};
