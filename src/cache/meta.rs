//! What all meta operations share: the numbers on their flags, and the flags that are echoed.

use super::expiry::deadline;
use super::line::Line;
use crate::protocol::{Meta, Request};
use crate::time::Now;

/// The arguments of a meta line, taken from its flags in one pass.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// `T`: as a deadline.
    pub deadline: Option<u32>,
    /// `N`: the deadline of what is made on a miss.
    pub vivify: Option<u32>,
    /// `R`: who sees a deadline before this one, wins.
    pub recache: u32,
    /// `C`
    pub compare: Option<u64>,
    /// `E`
    pub cas: Option<u64>,
    /// `F`
    pub client_flags: u32,
    /// `J`
    pub initial: u64,
    /// `D`
    pub delta: Option<u64>,
    /// The first character of `M`, 0 when it has none.
    pub mode: Option<u8>,
}

impl Arguments {
    /// The parser let only good numbers through; a bad one counts as 0.
    pub(super) fn of(meta: &Meta<'_>, now: Now) -> Self {
        let mut arguments = Self::default();
        for (letter, token) in meta.iter() {
            match letter {
                b'T' => arguments.deadline = Some(deadline(parse_i32(token), now)),
                b'N' => arguments.vivify = Some(deadline(parse_i32(token), now)),
                b'R' => arguments.recache = deadline(parse_i32(token), now),
                b'C' => arguments.compare = Some(parse_u64(token)),
                b'E' => arguments.cas = Some(parse_u64(token)),
                b'F' => arguments.client_flags = u32::try_from(parse_u64(token)).unwrap_or(0),
                b'J' => arguments.initial = parse_u64(token),
                b'D' => arguments.delta = Some(parse_u64(token)),
                b'M' => arguments.mode = Some(token.first().copied().unwrap_or(0)),
                _ => {}
            }
        }
        arguments
    }
}

/// `O` and `k` in the order of the request: what every meta answer gives back.
pub(super) fn put_echoes(line: &mut Line, request: &Request<'_>) {
    for (letter, token) in request.meta.iter() {
        put_echo(line, request, letter, token, request.meta.has(b'b'));
    }
}

/// The echo of one flag, when it is one that is echoed.
pub(super) fn put_echo(line: &mut Line, request: &Request<'_>, letter: u8, token: &[u8], base64: bool) {
    match letter {
        b'O' => {
            line.put(b" O");
            line.put(token);
        }
        b'k' => line.put_key(request.key, base64),
        _ => {}
    }
}

fn parse_u64(token: &[u8]) -> u64 {
    parse(token)
}

fn parse_i32(token: &[u8]) -> i32 {
    parse(token)
}

fn parse<T: std::str::FromStr + Default>(token: &[u8]) -> T {
    str::from_utf8(token).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}
