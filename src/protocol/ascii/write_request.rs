//! A classic request to bytes for a server: always written anew from its fields, in one form only.
//!
//! `noreply` is never written: on a shared connection every request has exactly one reply.

use crate::protocol::{MultiGet, Op, Request, WireBuf};

/// Writes a classic request. Meta operations are written by [`crate::protocol::meta::write_request`].
pub fn write_request(request: &Request<'_>, out: &mut WireBuf) {
    debug_assert!(!request.op.is_meta());
    out.put(request.op.name().as_bytes());
    out.put(b" ");
    match request.op {
        Op::Gat | Op::Gats => {
            put_signed(request.exptime, out);
            out.put(b" ");
            out.put(request.key);
        }
        Op::Touch => {
            out.put(request.key);
            out.put(b" ");
            put_signed(request.exptime, out);
        }
        Op::Incr | Op::Decr => {
            out.put(request.key);
            out.put(b" ");
            out.put_number(request.number);
        }
        // A bare `delete noreply` is never answered by 1.6.45. Both old and new servers take a `0` behind
        // the key, and then the last token is not that word.
        Op::Delete if request.key == b"noreply" => out.put(b"noreply 0"),
        op if op.has_value() => return put_storage(request, out),
        _ => out.put(request.key),
    }
    out.put(b"\r\n");
}

/// Writes `get`, `gets`, `gat` or `gats` with all its keys.
pub fn write_multi_get(request: &MultiGet<'_>, out: &mut WireBuf) {
    out.put(request.op.name().as_bytes());
    if matches!(request.op, Op::Gat | Op::Gats) {
        out.put(b" ");
        put_signed(request.exptime, out);
    }
    out.put_words(request.keys.iter());
    out.put(b"\r\n");
}

/// `<key> <flags> <exptime> <bytes> [<cas unique>]`, the data block and its line end.
fn put_storage(request: &Request<'_>, out: &mut WireBuf) {
    out.put(request.key);
    out.put(b" ");
    out.put_number(u64::from(request.flags));
    out.put(b" ");
    put_signed(request.exptime, out);
    out.put(b" ");
    out.put(itoa::Buffer::new().format(request.value.len()).as_bytes());
    if request.op == Op::Cas {
        out.put(b" ");
        out.put_number(request.number);
    }
    out.put(b"\r\n");
    out.put_value(request.value);
    out.put(b"\r\n");
}

fn put_signed(number: i32, out: &mut WireBuf) {
    out.put(itoa::Buffer::new().format(number).as_bytes());
}
