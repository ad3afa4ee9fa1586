//! The classic commands, and the framing that both dialects share.
//!
//! Framing knows nothing of commands but one thing: `get` and `gets` may be long. It is kept apart from
//! parsing because it must be repeatable: a line cut into any number of segments is framed the same way.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic, clippy::arithmetic_side_effects))]

mod parse_reply;
mod parse_request;
pub(super) mod parse_token;
mod scan;
mod write_request;

#[cfg(test)]
mod tests;

pub use parse_reply::{ReplyLine, VALUE, after_value_key, parse_reply};
pub use parse_request::{Scratch, parse_more_keys, parse_request};
pub use scan::first_word;
pub use write_request::{write_multi_get, write_request};

use super::limits::{GET_LINE_BYTES_MAX, LINE_BYTES_MAX};

/// Where the first line of a buffer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// Not yet a whole line.
    Incomplete,
    /// A line without its `\n` (and without one `\r` before it); `consumed` bytes including the line end.
    Line { line: &'a [u8], consumed: usize },
    /// No newline within what memcached would buffer: the connection is closed without a word.
    TooLong,
}

/// Finds the first line of `buffer`. `scanned` bytes at its front are already known to hold no newline, so
/// that a slow sender does not make us look at the same bytes again.
#[must_use]
pub fn frame(buffer: &[u8], scanned: usize) -> Framed<'_> {
    let unseen = buffer.get(scanned..).unwrap_or_default();
    let Some(found) = memchr::memchr(b'\n', unseen) else {
        return if is_too_long(buffer, buffer.len()) { Framed::TooLong } else { Framed::Incomplete };
    };
    let newline = scanned.saturating_add(found);
    // memcached lets a longer line pass when it comes in one segment. We do not: the answer must not depend
    // on how the network cut the bytes, and a line that we pass on must not close a shared connection.
    if is_too_long(buffer, newline) {
        return Framed::TooLong;
    }
    let line = buffer.get(..newline).unwrap_or_default();
    Framed::Line { line: line.strip_suffix(b"\r").unwrap_or(line), consumed: newline.saturating_add(1) }
}

/// Whether `length` bytes without a newline are more than memcached waits with.
fn is_too_long(buffer: &[u8], length: usize) -> bool {
    length > LINE_BYTES_MAX && (length > GET_LINE_BYTES_MAX || !is_long_get(buffer))
}

/// Whether this is a line that memcached lets grow: `get ` or `gets ` after at most 100 spaces
/// (`proto_text.c`, try_read_command_ascii).
fn is_long_get(buffer: &[u8]) -> bool {
    const SPACES_MAX: usize = 100;
    let spaces = buffer.iter().take_while(|b| **b == b' ').count();
    let rest = buffer.get(spaces..).unwrap_or_default();
    spaces <= SPACES_MAX && (rest.starts_with(b"get ") || rest.starts_with(b"gets "))
}
