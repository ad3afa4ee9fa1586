//! The meta commands: `mg ms md ma me`.
//!
//! Requests arrive through [`crate::protocol::ascii::parse_request`], which knows the command word. Flags
//! are checked once, kept as written and passed on but for `q`: what is quiet is decided at the client's
//! side, towards servers every request has one reply.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic, clippy::arithmetic_side_effects))]

mod parse_reply;
mod parse_request;
mod write_request;

#[cfg(test)]
mod tests;

pub use parse_reply::{MetaCode, MetaReply, parse_reply, write_line_without_opaque};
pub(super) use parse_request::parse_request;
pub use write_request::write_request;
