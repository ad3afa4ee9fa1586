//! A line from a server that was asked in the classic dialect.
//!
//! Strict on purpose: memcached writes each reply in one form. Anything else means that we and the server
//! no longer agree where we are in the stream, and the connection must go.

use nom::bytes::complete::{tag, take_while1};
use nom::combinator::{all_consuming, opt};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use crate::protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX_MAX};

use super::parse_token::canonical_u64;

/// One line of a classic reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyLine<'a> {
    /// A data block of `len` bytes and CRLF follows. `cas` only for `gets` and `gats`.
    Value {
        key: &'a [u8],
        flags: u64,
        len: usize,
        cas: Option<u64>,
    },
    End,
    Stored,
    NotStored,
    Exists,
    NotFound,
    Deleted,
    Touched,
    Number(u64),
    Ok,
    Version(&'a [u8]),
    /// `ERROR…`, `CLIENT_ERROR…`, `SERVER_ERROR…`: the whole line is the answer.
    Error,
}

/// Reads one line, already without its line end. `None`: the server is out of step.
#[must_use]
pub fn parse_reply(line: &[u8]) -> Option<ReplyLine<'_>> {
    Some(match line {
        [b'V', b'A', ..] => return value(line),
        b"END" => ReplyLine::End,
        b"STORED" => ReplyLine::Stored,
        b"NOT_STORED" => ReplyLine::NotStored,
        b"EXISTS" => ReplyLine::Exists,
        b"NOT_FOUND" => ReplyLine::NotFound,
        b"DELETED" => ReplyLine::Deleted,
        b"TOUCHED" => ReplyLine::Touched,
        b"OK" => ReplyLine::Ok,
        [b'0'..=b'9', ..] => return number(line),
        _ if is_error(line) => ReplyLine::Error,
        _ => ReplyLine::Version(line.strip_prefix(b"VERSION ")?),
    })
}

/// `VALUE <key> <flags> <bytes>[ <cas unique>]`.
fn value(line: &[u8]) -> Option<ReplyLine<'_>> {
    let field = || preceded(tag(" "), canonical_u64);
    let fields: IResult<_, _, ()> =
        all_consuming((preceded(tag("VALUE "), take_while1(|b| b != b' ')), field(), field(), opt(field())))
            .parse_complete(line);
    let (_, (key, flags, length, cas)) = fields.ok()?;
    let len = usize::try_from(length).ok()?;
    (key.len() <= KEY_BYTES_MAX && len <= VALUE_BYTES_MAX_MAX).then_some(ReplyLine::Value {
        key,
        flags,
        len,
        cas,
    })
}

/// What `incr` and `decr` answer. A stored number keeps its width, so spaces may trail.
fn number(line: &[u8]) -> Option<ReplyLine<'_>> {
    let (rest, number) = canonical_u64(line).ok()?;
    rest.iter().all(|b| *b == b' ').then_some(ReplyLine::Number(number))
}

fn is_error(line: &[u8]) -> bool {
    // `ERROR Too many open connections`, `SERVER_ERROR: shutdown not enabled`: what follows varies.
    [b"ERROR".as_slice(), b"CLIENT_ERROR", b"SERVER_ERROR"].iter().any(|word| {
        line.strip_prefix(*word).is_some_and(|rest| matches!(rest.first(), None | Some(b' ' | b':')))
    })
}
