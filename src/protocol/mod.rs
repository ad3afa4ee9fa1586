//! The text protocol of memcached, classic and meta: bytes to types and types to bytes.
//!
//! No IO, no clock, no config. The grammar is that of memcached 1.6.45, to the letter: a client cannot tell
//! ringway from it. Framing (finding the end of a line) is `memchr`; what is on a line is taken apart with
//! nom in the `parse_*` files. "Not yet" is [`ascii::Framed::Incomplete`], never an error.
//!
//! Towards servers a request is always written anew from its parsed fields, never copied from the client's
//! line: what two parsers could read differently never gets onto a shared connection.

#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

pub mod answer;
pub mod ascii;
pub mod limits;
pub mod meta;
mod op;
mod owned;
mod reply;
mod request;
mod wire;

#[cfg(test)]
mod tests;

pub use op::{Class, Op};
pub use owned::{OwnedReply, OwnedRequest, OwnedValue};
pub use reply::{Cause, Found, Reply, Status, Values};
pub use request::{Keys, Meta, MultiGet, Request, letter_bit};
pub use wire::{Chunks, SHARED_BYTES_MIN, Value, WireBuf};

/// A whole line from a client, understood.
#[derive(Clone, Copy, Debug)]
pub enum Line<'a> {
    /// Complete as it stands.
    Request(Request<'a>),
    /// A storage command: a data block of this many bytes and CRLF follows.
    Storage(Request<'a>, usize),
    /// A classic get with two keys or more.
    MultiGet(MultiGet<'a>),
    Admin(Admin<'a>),
}

impl Line<'_> {
    /// Whether the keys, as they are on the line, are as memcached's documentation has them: no control characters. (The
    /// server takes them, and so do we unless told otherwise; who puts foreign text into keys may want to know.)
    #[must_use]
    pub fn has_plain_keys(&self) -> bool {
        let is_plain = |key: &[u8]| !key.iter().any(u8::is_ascii_control);
        match self {
            Self::Request(request) | Self::Storage(request, _) if request.op.is_meta() => {
                is_plain(request.meta.token)
            }
            Self::Request(request) | Self::Storage(request, _) => is_plain(request.key),
            Self::MultiGet(request) => request.keys.iter().all(is_plain),
            Self::Admin(_) => true,
        }
    }

    /// What is said instead of doing it; a data block is passed over.
    #[must_use]
    pub fn refused(&self) -> LineError {
        match self {
            Self::Request(request) => LineError::BAD_FORMAT.unless(request.quiet && !request.op.is_meta()),
            Self::Storage(request, length) => LineError::BAD_FORMAT
                .unless(request.quiet && !request.op.is_meta())
                .swallowing(u32::try_from(*length).unwrap_or(u32::MAX)),
            Self::MultiGet(_) | Self::Admin(_) => LineError::BAD_FORMAT,
        }
    }
}

/// Commands that ask or tell the program, not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin<'a> {
    Version,
    /// `verbosity <n>`.
    Verbosity {
        quiet: bool,
    },
    Quit,
    /// `mn`.
    MetaNoop,
    /// `flush_all [delay]`; no delay, or one of 0 or less, is now.
    FlushAll {
        delay: i32,
        quiet: bool,
    },
    /// `stats [what …]`: the rest of the line.
    Stats(&'a [u8]),
}

/// A line that is no request: what the client is told, and where the next line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineError {
    /// The answer without its line end. `None`: nothing is said (an error after `noreply`; HTTP).
    pub answer: Option<&'static str>,
    /// Bytes after the line that belong to it and are passed over: the data block and its CRLF.
    pub swallow: u64,
    /// The connection ends after the answer.
    pub close: bool,
}

impl LineError {
    /// `ERROR`: no such command.
    pub(crate) const UNKNOWN: Self = Self::said("ERROR");
    /// What memcached says of most that it cannot read.
    pub(crate) const BAD_FORMAT: Self = Self::said("CLIENT_ERROR bad command line format");

    /// Where `strict`: a line ended in a bare newline. Whatever follows may be what somebody hid in a key.
    pub(crate) const BARE_NEWLINE: Self =
        Self { close: true, ..Self::said("CLIENT_ERROR line ends without carriage return") };

    /// An answer, and the next line follows at once.
    pub(crate) const fn said(answer: &'static str) -> Self {
        Self { answer: Some(answer), swallow: 0, close: false }
    }

    /// The same, but nothing is said when `quiet` (the line ended in `noreply`).
    pub(crate) const fn unless(self, quiet: bool) -> Self {
        Self { answer: if quiet { None } else { self.answer }, ..self }
    }

    /// The same, passing over a data block of `data_bytes` and its CRLF.
    pub(crate) const fn swallowing(self, data_bytes: u32) -> Self {
        // Widening: `u64::from` is not const.
        Self { swallow: data_bytes as u64 + 2, ..self }
    }
}
