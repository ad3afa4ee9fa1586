//! A line from a server that was asked in the classic dialect.
//!
//! Strict on purpose: memcached writes each reply in one form. Anything else means that we and the server
//! no longer agree where we are in the stream, and the connection must go.

use crate::protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX_MAX};

use super::parse_token::canonical_u64;
use super::scan::first_word;

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

/// How the line before a data block begins.
pub const VALUE: &[u8] = b"VALUE ";

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

/// `VALUE <key> <flags> <bytes>[ <cas unique>]`. By hand: this line comes once for every key of every get, and
/// combinators take three times the instructions.
fn value(line: &[u8]) -> Option<ReplyLine<'_>> {
    let rest = line.strip_prefix(VALUE)?;
    let key = first_word(rest);
    let rest = rest.get(key.len()..)?;
    let (flags, rest) = field(rest)?;
    let (length, rest) = field(rest)?;
    let (cas, rest) = match rest {
        [] => (None, rest),
        _ => field(rest).map(|(cas, rest)| (Some(cas), rest))?,
    };
    let len = usize::try_from(length).ok()?;
    let fits = !key.is_empty() && key.len() <= KEY_BYTES_MAX && len <= VALUE_BYTES_MAX_MAX && rest.is_empty();
    fits.then_some(ReplyLine::Value { key, flags, len, cas })
}

/// What follows the key in a `VALUE` block: ` <flags> <bytes>[ <cas unique>]` and the data block with its line end.
/// Gives back what follows the line, and what follows the block. `None` when it is not all there, when the data block has
/// `value_bytes_max` or more, or when anything is odd: then [`parse_reply`] has to look at the line.
#[inline]
#[must_use]
pub fn after_value_key(tail: &[u8], has_cas: bool, value_bytes_max: usize) -> Option<(&[u8], &[u8])> {
    let (_, rest) = field(tail)?;
    let (length, mut rest) = field(rest)?;
    if has_cas {
        (_, rest) = field(rest)?;
    }
    let length = usize::try_from(length).ok().filter(|length| *length < value_bytes_max)?;
    let data = rest.strip_prefix(b"\r\n")?;
    Some((data, data.get(length..)?.strip_prefix(b"\r\n")?))
}

/// A space and a number as memcached writes it: no sign, no leading zero.
#[inline]
fn field(input: &[u8]) -> Option<(u64, &[u8])> {
    /// So many digits always fit.
    const DIGITS_SHORT_MAX: usize = 19;
    let digits = input.strip_prefix(b" ")?;
    let (mut number, mut rest) = (0_u64, digits);
    while let [digit @ b'0'..=b'9', more @ ..] = rest {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0')));
        rest = more;
    }
    match (digits.len().wrapping_sub(rest.len()), digits.first()) {
        (1, _) => Some((number, rest)),
        (0, _) | (_, Some(b'0')) => None,
        (2..=DIGITS_SHORT_MAX, _) => Some((number, rest)),
        _ => canonical_u64(digits).ok().map(|(rest, number)| (number, rest)),
    }
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
