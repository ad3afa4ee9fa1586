//! A meta request to bytes for a server.
//!
//! Flags go out as they came, with single spaces and without `q`: on a shared connection every request has
//! exactly one reply. Where the client gave no opaque we add our own number, so that the reply proves
//! whose it is.

use crate::protocol::limits::{KEY_BYTES_MAX, LINE_BYTES_MAX, META_TOKENS_MAX};
use crate::protocol::{Op, Request, WireBuf};

/// Servers before 1.6.40 count the end of the line as a token, so they take one less. A line that they
/// would take from the client must not fail because of our opaque.
const TOKENS_WITH_OPAQUE_MAX: usize = META_TOKENS_MAX - 1;

/// ` O`, ten digits and the line end.
const OWN_OPAQUE_BYTES_MAX: usize = 14;

/// Writes a meta request, for `ms` with its data block. Adds ` O<own_opaque>` when the client gave none and
/// the line has room. Returns whether it was added.
pub fn write_request(request: &Request<'_>, own_opaque: Option<u32>, out: &mut WireBuf) -> bool {
    debug_assert!(request.op.is_meta());
    let meta = &request.meta;
    let before = out.len();
    out.put(request.op.name().as_bytes());
    out.put(b" ");
    out.put(if meta.token.is_empty() { request.key } else { meta.token });
    if request.op == Op::MetaSet {
        out.put(b" ");
        out.put(itoa::Buffer::new().format(request.value.len()).as_bytes());
    }
    for flag in meta.flags.split(|b| *b == b' ') {
        // `me` knows no `q`: without it the flag behind would be the first, which alone may be `b`.
        let is_dropped = flag.is_empty() || (flag.starts_with(b"q") && request.op != Op::MetaDebug);
        if !is_dropped {
            out.put(b" ");
            out.put(flag);
        }
    }
    let line_bytes = out.len().saturating_sub(before);
    let added = own_opaque.filter(|_| has_room(request, line_bytes));
    if let Some(number) = added {
        out.put(b" O");
        out.put_number(u64::from(number));
    }
    out.put(b"\r\n");
    if request.op == Op::MetaSet {
        out.put_value(request.value);
        out.put(b"\r\n");
    }
    added.is_some()
}

/// `me` echoes no opaque; its reply names the key.
fn has_room(request: &Request<'_>, line_bytes: usize) -> bool {
    let meta = &request.meta;
    let sent_count = usize::from(meta.token_count).saturating_sub(usize::from(meta.has(b'q')));
    request.op != Op::MetaDebug
        && meta.opaque.is_none()
        && sent_count < TOKENS_WITH_OPAQUE_MAX
        && line_bytes.saturating_add(OWN_OPAQUE_BYTES_MAX) <= LINE_BYTES_MAX
}

// The shortest line always has room.
const _: () = assert!(KEY_BYTES_MAX + OWN_OPAQUE_BYTES_MAX < LINE_BYTES_MAX);
