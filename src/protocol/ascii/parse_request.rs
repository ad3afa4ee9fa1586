//! A line from a client to a [`Line`]: which command, which dialect, and the classic commands themselves.
//!
//! The order of the checks is memcached's (`proto_parser.c`, `proto_text.c`), because it decides which error
//! is said, whether the data block is passed over, and whether `noreply` still hides it.

use crate::protocol::limits::{GET_KEYS_MAX, KEY_BYTES_MAX};
use crate::protocol::{Admin, Keys, Line, LineError, MultiGet, Op, Request, meta};

use super::parse_token::{
    TOKENS_SEEN_MAX, Tokens, data_len, loose_exptime, loose_flags, strict_i32, strict_u32, strict_u64,
};
use super::scan::words;

/// memcached refuses raw lines shorter than this, line end included, before it looks at them.
const RAW_LINE_BYTES_MIN: usize = 4;

const BAD_EXPTIME: LineError = LineError::said("CLIENT_ERROR invalid exptime argument");
const TOO_MANY_KEYS: LineError = LineError::said("CLIENT_ERROR too many keys in one get");
const BAD_DELTA: LineError = LineError::said("CLIENT_ERROR invalid numeric delta argument");

/// Reused between lines: the decoded base64 key, the key ranges of multi-gets.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(in crate::protocol) key: Vec<u8>,
    ranges: Vec<(u32, u32)>,
}

impl Scratch {
    /// Bytes held, for a byte budget.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.key.capacity().saturating_add(self.ranges.capacity().saturating_mul(size_of::<(u32, u32)>()))
    }
}

/// Takes a framed line apart. `consumed` is that of the frame.
///
/// # Errors
/// The line is no request; the error says what the client is told and where the next line begins.
pub fn parse_request<'a>(
    line: &'a [u8],
    consumed: usize,
    scratch: &'a mut Scratch,
) -> Result<Line<'a>, LineError> {
    if consumed < RAW_LINE_BYTES_MIN {
        return Err(LineError::BAD_FORMAT);
    }
    let end = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    let (command, arguments) = line.split_at_checked(end).unwrap_or((line, &[]));
    match command {
        b"get" => get(Op::Get, line, arguments, &mut scratch.ranges),
        b"gets" => get(Op::Gets, line, arguments, &mut scratch.ranges),
        b"gat" => get_and_touch(Op::Gat, line, arguments, &mut scratch.ranges),
        b"gats" => get_and_touch(Op::Gats, line, arguments, &mut scratch.ranges),
        b"set" => storage(Op::Set, arguments),
        b"add" => storage(Op::Add, arguments),
        b"replace" => storage(Op::Replace, arguments),
        b"append" => storage(Op::Append, arguments),
        b"prepend" => storage(Op::Prepend, arguments),
        b"cas" => storage(Op::Cas, arguments),
        b"incr" => arithmetic(Op::Incr, arguments),
        b"decr" => arithmetic(Op::Decr, arguments),
        b"delete" => delete(arguments),
        b"touch" => touch(arguments),
        b"mg" => meta::parse_request(Op::MetaGet, arguments, &mut scratch.key),
        b"ms" => meta::parse_request(Op::MetaSet, arguments, &mut scratch.key),
        b"md" => meta::parse_request(Op::MetaDelete, arguments, &mut scratch.key),
        b"ma" => meta::parse_request(Op::MetaArithmetic, arguments, &mut scratch.key),
        b"me" => meta::parse_request(Op::MetaDebug, arguments, &mut scratch.key),
        b"mn" => Ok(Line::Admin(Admin::MetaNoop)),
        b"version" => Ok(Line::Admin(Admin::Version)),
        b"quit" => Ok(Line::Admin(Admin::Quit)),
        b"stats" => Ok(Line::Admin(Admin::Stats(trim_spaces(arguments)))),
        // Refused whatever follows, `noreply` or `HTTP/` included: memcached looks at neither here.
        b"watch" => Err(LineError::UNKNOWN),
        _ => other(line),
    }
}

/// `get|gets <key>+`. No `noreply` here: a key of that name is a key.
fn get<'a>(
    op: Op,
    line: &'a [u8],
    arguments: &'a [u8],
    ranges: &'a mut Vec<(u32, u32)>,
) -> Result<Line<'a>, LineError> {
    keys(op, 0, line, Tokens::new(arguments), ranges)
}

/// `gat|gats <exptime> <key>+`.
fn get_and_touch<'a>(
    op: Op,
    line: &'a [u8],
    arguments: &'a [u8],
    ranges: &'a mut Vec<(u32, u32)>,
) -> Result<Line<'a>, LineError> {
    let mut tokens = Tokens::new(arguments);
    let exptime = tokens.next().ok_or(LineError::BAD_FORMAT)?;
    // Arity comes before numbers: `gat x` is a bad line, `gat x key` a bad exptime.
    if tokens.clone().next().is_none() {
        return Err(LineError::BAD_FORMAT);
    }
    let exptime = strict_i32(exptime).ok_or(BAD_EXPTIME)?;
    keys(op, exptime, line, tokens, ranges)
}

/// One key makes a request, several a multi-get. One that is too long refuses the whole line.
fn keys<'a>(
    op: Op,
    exptime: i32,
    line: &'a [u8],
    mut tokens: Tokens<'a>,
    ranges: &'a mut Vec<(u32, u32)>,
) -> Result<Line<'a>, LineError> {
    let text = tokens.rest();
    let first = tokens.next().ok_or(LineError::BAD_FORMAT)?;
    if tokens.rest().iter().all(|b| *b == b' ') {
        return Ok(Line::Request(Request { exptime, ..Request::new(op, short_key(first)?) }));
    }
    // Framing bounds a line far below 4 GiB; a longer one is refused.
    u32::try_from(line.len()).map_err(|_| LineError::BAD_FORMAT)?;
    let offset = line.len().checked_sub(text.len()).and_then(|offset| u32::try_from(offset).ok());
    ranges.clear();
    // counted before they are kept, where a line is long enough to hold too many
    if text.len() / 2 >= GET_KEYS_MAX && memchr::memchr_iter(b' ', text).count() > GET_KEYS_MAX {
        return Err(TOO_MANY_KEYS);
    }
    let mut longest = 0;
    words(text, offset.ok_or(LineError::BAD_FORMAT)?, |start, end| {
        longest = longest.max(end.wrapping_sub(start));
        ranges.push((start, end));
    });
    if ranges.len() > GET_KEYS_MAX {
        return Err(TOO_MANY_KEYS);
    }
    if usize::try_from(longest).is_ok_and(|longest| longest > KEY_BYTES_MAX) {
        return Err(LineError::BAD_FORMAT);
    }
    Ok(Line::MultiGet(MultiGet { op, exptime, keys: Keys { text: line, ranges } }))
}

/// Keys of a line that [`parse_request`] has taken for a multi-get, from one of them on: `count_max` at most, and where the
/// next begins if there are others.
pub fn parse_more_keys<'a>(
    text: &'a [u8],
    count_max: usize,
    scratch: &'a mut Scratch,
) -> (Keys<'a>, Option<usize>) {
    let ranges = &mut scratch.ranges;
    ranges.clear();
    let mut tokens = Tokens::new(text);
    while ranges.len() < count_max
        && let Some(key) = tokens.next()
    {
        let end = text.len().saturating_sub(tokens.rest().len());
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX); // a line is far below 4 GiB
        ranges.push((place(end.saturating_sub(key.len())), place(end)));
    }
    let seen = text.len().saturating_sub(tokens.rest().len());
    let spaces = tokens.rest().iter().position(|b| *b != b' ');
    (Keys { text, ranges }, spaces.map(|spaces| seen.saturating_add(spaces)))
}

/// `<key> <flags> <exptime> <bytes> [<cas unique>] [noreply]`. Once `<bytes>` is known the data block is
/// passed over whatever else is wrong; before that nothing is, and the data is read as commands.
fn storage(op: Op, arguments: &[u8]) -> Result<Line<'_>, LineError> {
    let mut tokens = Tokens::new(arguments);
    let (Some(key), Some(flags), Some(exptime), Some(bytes)) =
        (tokens.next(), tokens.next(), tokens.next(), tokens.next())
    else {
        return Err(LineError::BAD_FORMAT);
    };
    let length = data_len(bytes).ok_or(LineError::BAD_FORMAT)?;
    let Tail { first: unique, quiet } = tail(tokens, 5);
    let refused = LineError::BAD_FORMAT.unless(quiet).swallowing(length);
    if key.len() > KEY_BYTES_MAX {
        return Err(refused);
    }
    let flags = loose_flags(flags).ok_or(refused)?;
    let exptime = loose_exptime(exptime).ok_or(refused)?;
    let number = match op {
        Op::Cas => unique.and_then(strict_u64).ok_or(refused)?,
        _ => 0,
    };
    let request = Request { quiet, flags, exptime, number, ..Request::new(op, key) };
    Ok(Line::Storage(request, usize::try_from(length).map_err(|_| refused)?))
}

/// `incr|decr <key> <delta> [noreply]`.
fn arithmetic(op: Op, arguments: &[u8]) -> Result<Line<'_>, LineError> {
    let (key, delta, quiet) = key_and_number(arguments)?;
    let number = strict_u64(delta).ok_or(BAD_DELTA.unless(quiet))?;
    Ok(Line::Request(Request { quiet, number, ..Request::new(op, key) }))
}

/// `touch <key> <exptime> [noreply]`.
fn touch(arguments: &[u8]) -> Result<Line<'_>, LineError> {
    let (key, exptime, quiet) = key_and_number(arguments)?;
    let exptime = strict_i32(exptime).ok_or(BAD_EXPTIME.unless(quiet))?;
    Ok(Line::Request(Request { quiet, exptime, ..Request::new(Op::Touch, key) }))
}

/// A key, a number not yet read, and whether the line ends in `noreply`: the number itself may be that
/// word, which makes it wrong and the error unsaid.
fn key_and_number(arguments: &[u8]) -> Result<(&[u8], &[u8], bool), LineError> {
    let mut tokens = Tokens::new(arguments);
    let key = tokens.next().ok_or(LineError::BAD_FORMAT)?;
    let Tail { first, quiet } = tail(tokens, 2);
    let number = first.ok_or(LineError::BAD_FORMAT)?;
    Ok((short_key(key).map_err(|e| e.unless(quiet))?, number, quiet))
}

/// `delete <key> [0] [noreply]`. What stands between is not looked at (1.6.45 ignores it, older clients send
/// a `0`). `delete noreply` deletes the key of that name and answers, where 1.6.45 says nothing: that is a
/// bug which leaves its client waiting.
fn delete(arguments: &[u8]) -> Result<Line<'_>, LineError> {
    let mut tokens = Tokens::new(arguments);
    let key = tokens.next().ok_or(LineError::BAD_FORMAT)?;
    let Tail { quiet, .. } = tail(tokens, 2);
    let key = short_key(key).map_err(|e| e.unless(quiet))?;
    Ok(Line::Request(Request { quiet, ..Request::new(Op::Delete, key) }))
}

/// What memcached's parser does not know by its first word: the administrative commands, which it finds by
/// their first token even behind spaces, and everything unknown.
fn other(line: &[u8]) -> Result<Line<'_>, LineError> {
    let mut tokens = Tokens::new(line);
    let command = tokens.next().unwrap_or_default();
    let seen = tokens.take(TOKENS_SEEN_MAX.saturating_sub(1));
    let argument = seen.clone().next();
    let count = seen.clone().count();
    let last = seen.last();
    // A line of this word alone is as silent as one that ends in it.
    let quiet = last.unwrap_or(command) == b"noreply";
    match command {
        b"flush_all" => {
            let has_delay = count != usize::from(quiet);
            let delay = if has_delay { argument.and_then(strict_i32) } else { Some(0) };
            let delay = delay.ok_or(BAD_EXPTIME.unless(quiet))?;
            Ok(Line::Admin(Admin::FlushAll { delay, quiet }))
        }
        b"verbosity" => match argument.and_then(strict_u32) {
            Some(_) => Ok(Line::Admin(Admin::Verbosity { quiet })),
            None => Err(LineError::BAD_FORMAT.unless(quiet)),
        },
        // They change or list a server; there is not one server here. Refused by name, so that `HTTP/` as
        // their argument closes nothing, as with memcached.
        b"shutdown" | b"slabs" | b"cache_memlimit" | b"lru" | b"lru_crawler" | b"refresh_certs" => {
            Err(LineError::UNKNOWN.unless(quiet))
        }
        // A browser was talked into sending this: say nothing and hang up.
        _ if last.is_some_and(|t| t.starts_with(b"HTTP/")) => {
            Err(LineError { answer: None, swallow: 0, close: true })
        }
        _ => Err(LineError::UNKNOWN.unless(quiet)),
    }
}

/// What follows the fixed tokens of a line.
struct Tail<'a> {
    first: Option<&'a [u8]>,
    /// The last token of the line is `noreply`.
    quiet: bool,
}

/// Reads the tail after `taken` tokens. memcached indexes no more than 23 tokens, so a `noreply` after
/// those is not seen.
fn tail(mut tokens: Tokens<'_>, taken: usize) -> Tail<'_> {
    let first = tokens.next();
    let mut last = first;
    for token in tokens.take(TOKENS_SEEN_MAX.saturating_sub(taken).saturating_sub(1)) {
        last = Some(token);
    }
    Tail { first, quiet: last == Some(b"noreply") }
}

fn short_key(key: &[u8]) -> Result<&[u8], LineError> {
    if key.len() > KEY_BYTES_MAX { Err(LineError::BAD_FORMAT) } else { Ok(key) }
}

fn trim_spaces(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| *b != b' ').unwrap_or(text.len());
    let end = text.iter().rposition(|b| *b != b' ').map_or(start, |last| last.saturating_add(1));
    text.get(start..end).unwrap_or_default()
}
