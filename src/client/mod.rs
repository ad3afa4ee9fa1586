//! What a client sees: it is accepted, read, answered in order, and bounded in all that it may hold.

mod context;
mod dispatch;
mod input;
mod listener;
mod multi;
mod reply_queue;
mod session;
mod sweep;
#[cfg(test)]
mod tests;
mod turn;

pub use context::{Context, MovesTo};
pub use listener::{accept, admit, admit_moved};
pub use sweep::sweep;
pub use turn::{Load, is_behind, on_park, take_load};
