//! Sending a request on under another key, and giving the client back the key that it asked for.

use super::slot::is_awaited_in;
use super::{Call, Route, Sink, Slot};
use crate::protocol::limits::KEY_BYTES_MAX;
use crate::protocol::{Cause, Meta, Op, Reply, Request, Status};
use std::cell::Cell;
use std::rc::Rc;

/// Base64 of the longest key.
const TOKEN_BYTES_MAX: usize = KEY_BYTES_MAX.div_ceil(3) * 4;

/// Sends `request` to `child` under `key`. A key that memcached would not take is refused with `refusal`, the whole
/// error line, and nothing is sent.
pub(super) fn send_as(
    child: &dyn Route,
    key: &[u8],
    refusal: &[u8],
    request: &Request<'_>,
    call: &Call,
    slot: Slot,
) {
    if !is_sendable(key, request.meta.has(b'b')) {
        return slot.fill(&Reply::line(Status::Failed(Cause::Local), refusal));
    }
    with_key(request, key, |request, asked| {
        let slot = if names_its_key(asked) { Restore::around(asked, slot) } else { slot };
        child.send(request, call, slot);
    });
}

/// Whether memcached would take it, as it is or in base64.
pub(super) fn is_sendable(key: &[u8], is_base64: bool) -> bool {
    let is_bad = |b: &u8| *b == b' ' || *b == b'\n' || *b == b'\r' || *b == 0;
    let bytes = if is_base64 { key.len().div_ceil(3) * 4 } else { key.len() };
    !key.is_empty() && bytes <= KEY_BYTES_MAX && (is_base64 || !key.iter().any(is_bad))
}

/// Calls `then` with the request under `key`, which is sendable, and with the request as it was. What the reply says of the
/// key is not changed back.
pub(super) fn with_key(request: &Request<'_>, key: &[u8], then: impl FnOnce(&Request<'_>, &Request<'_>)) {
    let mut token = [0; TOKEN_BYTES_MAX];
    let token = if request.meta.has(b'b') { encode(key, &mut token) } else { key };
    let meta = Meta { token: if request.op.is_meta() { token } else { &[] }, ..request.meta };
    then(&Request { key, meta, ..*request }, request);
}

/// Whether a reply to this request has the key in it.
fn names_its_key(request: &Request<'_>) -> bool {
    request.op.is_classic_get() || request.op == Op::MetaDebug || request.meta.has(b'k')
}

fn encode<'a>(key: &[u8], out: &'a mut [u8; TOKEN_BYTES_MAX]) -> &'a [u8] {
    use base64::Engine as _;
    let written = base64::engine::general_purpose::STANDARD.encode_slice(key, out).unwrap_or(0);
    &out[..written]
}

/// Puts the client's own key where the reply names one, in the form in which it does: memcached shows a key as its item was
/// made, in base64 (and then ` b` behind it) or not, however it was asked for.
struct Restore {
    op: Op,
    key: Box<[u8]>,
    slot: Cell<Option<Slot>>,
}

impl Restore {
    fn around(request: &Request<'_>, slot: Slot) -> Slot {
        // what `me` tells, it tells in the words of the request
        let key = if request.op == Op::MetaDebug { request.meta.token } else { request.key };
        let restore = Self { op: request.op, key: key.into(), slot: Cell::new(Some(slot)) };
        Slot::new(Rc::new(restore), 0)
    }

    /// The line with the key exchanged.
    fn line(&self, line: &[u8], status: Status) -> Vec<u8> {
        let at = match status {
            Status::Hit if self.op.is_classic_get() => Some(b"VALUE ".len()),
            Status::Hit if self.op == Op::MetaDebug => Some(b"ME ".len()),
            status if status.is_error() => None,
            _ if self.op.is_meta() => memchr::memmem::find(line, b" k").map(|at| at + 2),
            _ => None,
        };
        let Some(at) = at.filter(|at| *at <= line.len()) else { return line.to_vec() };
        // no key that a line may show has a space in it
        let end = memchr::memchr(b' ', &line[at..]).map_or(line.len(), |bytes| at + bytes);
        let behind = &line[end..];
        let mut token = [0; TOKEN_BYTES_MAX];
        let is_base64 = self.op.is_meta() && (behind == b" b" || behind.starts_with(b" b "));
        let key = if is_base64 { encode(&self.key, &mut token) } else { &self.key };
        [&line[..at], key, behind].concat()
    }
}

impl Sink for Restore {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.slot, |slot| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        if let Some(slot) = self.slot.take() {
            let accepted = reply.accepted.map(|line| self.line(line, Status::Deleted));
            let accepted = accepted.as_deref();
            slot.fill(&Reply { line: &self.line(reply.line, reply.status), accepted, ..*reply });
        }
    }
}
