//! A line from a server that was asked in the meta dialect.

use nom::Parser;
use nom::bytes::complete::take;
use nom::combinator::{rest, verify};

use crate::protocol::ascii::parse_token::{Parsed, canonical_u64, token};
use crate::protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX_MAX};

/// The first word of a meta reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaCode {
    Va,
    Hd,
    En,
    Nf,
    Ns,
    Ex,
    Me,
    Mn,
}

/// One line of a meta reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaReply<'a> {
    pub code: MetaCode,
    /// Only `VA`: bytes of the data block, which CRLF follows.
    pub len: usize,
    /// All flags as written. For `ME` what follows the key.
    pub flags: &'a [u8],
    /// The token of `O`, without the letter.
    pub opaque: Option<&'a [u8]>,
    /// The key of `ME`, or the token of `k`: base64 when the request's was.
    pub key: Option<&'a [u8]>,
}

/// Reads one line, already without its line end. `None`: an error line (which
/// [`crate::protocol::ascii::parse_reply`] knows) or a server out of step.
#[must_use]
pub fn parse_reply(line: &[u8]) -> Option<MetaReply<'_>> {
    let (after, code) = code(line).ok()?;
    let reply = MetaReply { code, len: 0, flags: after, opaque: None, key: None };
    match code {
        MetaCode::Mn => after.is_empty().then_some(reply),
        MetaCode::Me => {
            let (flags, key) =
                verify(token, |k: &[u8]| k.len() <= KEY_BYTES_MAX).parse_complete(after).ok()?;
            Some(MetaReply { flags, key: Some(key), ..reply })
        }
        MetaCode::Va => {
            let (flags, len) = value_len(after).ok()?;
            with_flags(MetaReply { len, flags, ..reply })
        }
        _ => with_flags(reply),
    }
}

/// `line` without the flag that carries our own opaque, which the client never asked for.
pub fn write_line_without_opaque(line: &[u8], out: &mut Vec<u8>) {
    let mut rest = line;
    // The first word is the code; `VA`'s length is digits and the code is two letters, so neither looks
    // like a flag ` O…`.
    while let Some(space) = memchr::memchr(b' ', rest) {
        let (before, at_space) = rest.split_at_checked(space).unwrap_or((rest, &[]));
        out.extend_from_slice(before);
        let end = at_space.iter().skip(1).position(|b| *b == b' ').map(|n| n.saturating_add(1));
        let (flag, after) =
            at_space.split_at_checked(end.unwrap_or(at_space.len())).unwrap_or((at_space, &[]));
        if flag.starts_with(b" O") {
            out.extend_from_slice(after);
            return;
        }
        out.extend_from_slice(flag);
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// The two letters, and then a space or the end.
fn code(line: &[u8]) -> Parsed<'_, MetaCode> {
    let (after, word) = take(2usize).parse_complete(line)?;
    let code = match word {
        b"VA" => MetaCode::Va,
        b"HD" => MetaCode::Hd,
        b"EN" => MetaCode::En,
        b"NF" => MetaCode::Nf,
        b"NS" => MetaCode::Ns,
        b"EX" => MetaCode::Ex,
        b"ME" => MetaCode::Me,
        b"MN" => MetaCode::Mn,
        _ => return Err(nom::Err::Error(())),
    };
    verify(rest, is_end_or_space).map(|_| code).parse_complete(after).map(|(_, code)| (after, code))
}

/// ` <size>`, and then a space or the end.
fn value_len(after: &[u8]) -> Parsed<'_, usize> {
    let (after, _) = nom::bytes::complete::tag(" ").parse_complete(after)?;
    let (after, length) = canonical_u64(after)?;
    match usize::try_from(length) {
        Ok(len) if len <= VALUE_BYTES_MAX_MAX && is_end_or_space(after) => Ok((after, len)),
        _ => Err(nom::Err::Error(())),
    }
}

/// Finds opaque and key. Two of one kind are nothing that a server would write.
fn with_flags(mut reply: MetaReply<'_>) -> Option<MetaReply<'_>> {
    let mut after = reply.flags;
    while let Ok((rest, flag)) = token(after) {
        after = rest;
        let (letter, argument) = flag.split_first()?;
        let place = match letter {
            b'O' => &mut reply.opaque,
            b'k' => &mut reply.key,
            _ => continue,
        };
        if place.replace(argument).is_some() {
            return None;
        }
    }
    Some(reply)
}

fn is_end_or_space(after: &[u8]) -> bool {
    matches!(after.first(), None | Some(b' '))
}
