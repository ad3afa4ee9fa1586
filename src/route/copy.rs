//! Taking an item from one server to another as it is: value, flags, remaining time to live, cas.
//!
//! `mg` tells all of it in one answer (memcached 1.6; mcrouter needs `metaget`, which only Meta's own servers have). The item
//! is put with `ms … ME` (add), so that what is already there stays, and with `E`, so that its cas is the same in both
//! places.

use super::gather::Answers;
use super::{Call, Route, Slot};
use crate::protocol::{Meta, Op, OwnedReply, OwnedValue, Request, Status, Value, letter_bit};
use std::io::Write;

/// An item as its server has it.
pub(super) struct Item {
    pub(super) value: OwnedValue,
    pub(super) flags: u32,
    /// Remaining seconds; 0 is for ever.
    pub(super) exptime: i32,
    cas: u64,
    /// The answer to the client's own `mg`; `None` when it asked otherwise.
    meta_answer: Option<OwnedReply>,
}

/// What looking for an item brought.
pub(super) enum Found {
    Item(Item),
    Miss,
    /// An error, for the client.
    Failed(OwnedReply),
}

/// The flags that tell everything about an item.
const EVERYTHING: &[u8] = b"vftc";

/// Asks for the item of `request`, which is a get of any kind. Sent at once.
pub(super) fn look(
    from: &dyn Route,
    request: &Request<'_>,
    call: &Call,
) -> impl Future<Output = Found> + 'static {
    let given = &request.meta;
    let mut flags = Vec::with_capacity(given.flags.len() + 2 * EVERYTHING.len());
    let mut letters = given.letters & !letter_bit(b'q');
    let mut count = 2_u8;
    for token in given.flags.split(|b| *b == b' ').filter(|t| !matches!(t.first(), None | Some(b'q'))) {
        flags.extend_from_slice(token);
        flags.push(b' ');
        count = count.saturating_add(1);
    }
    let added: Vec<u8> = EVERYTHING.iter().copied().filter(|letter| !given.has(*letter)).collect();
    for letter in &added {
        flags.extend_from_slice(&[*letter, b' ']);
        letters |= letter_bit(*letter);
        count = count.saturating_add(1);
    }
    flags.pop();
    let token = if request.op.is_meta() { given.token } else { request.key };
    let meta = Meta { token, flags: &flags, letters, opaque: given.opaque, token_count: count };
    let ask = Request { op: Op::MetaGet, quiet: false, meta, ..*request };
    let answer = Answers::of(from, &ask, call);
    let was_meta = request.op.is_meta();
    async move {
        let reply = answer.only().await;
        match reply.status {
            Status::Hit => read(reply, &added, was_meta),
            status if status.is_error() => Found::Failed(reply),
            _ => Found::Miss,
        }
    }
}

/// Takes the item out of the answer, and what we asked for beyond the client's wish.
fn read(reply: OwnedReply, added: &[u8], was_meta: bool) -> Found {
    let Some(value) = reply.value else { return Found::Miss };
    let mut item = Item { value, flags: 0, exptime: 0, cas: 0, meta_answer: None };
    let has_value = !added.contains(&b'v');
    let mut line = if has_value { Vec::new() } else { b"HD".to_vec() };
    for (i, word) in reply.line.split(|b| *b == b' ').enumerate() {
        let is_head = i < 2; // VA and the length
        if let (false, Some((letter, rest))) = (is_head, word.split_first()) {
            let number = std::str::from_utf8(rest).ok();
            match letter {
                b'f' => item.flags = number.and_then(|n| n.parse().ok()).unwrap_or(0),
                // -1: for ever
                b't' => item.exptime = number.and_then(|n| n.parse().ok()).map_or(0, |n: i32| n.max(0)),
                b'c' => item.cas = number.and_then(|n| n.parse().ok()).unwrap_or(0),
                _ => {}
            }
            if added.contains(letter) {
                continue;
            }
        }
        if has_value || !is_head {
            if !line.is_empty() {
                line.push(b' ');
            }
            line.extend_from_slice(word);
        }
    }
    if was_meta {
        let value = has_value.then(|| item.value.clone());
        item.meta_answer = Some(OwnedReply { status: Status::Hit, line, value, miss_on_error: false });
    }
    Found::Item(item)
}

impl Item {
    /// An item that is ours, not a server's.
    pub(super) fn made(value: &'static [u8], flags: u32, exptime: i32) -> Self {
        Self { value: OwnedValue::new(Value::Slice(value)), flags, exptime, cas: 0, meta_answer: None }
    }

    /// Adds it where nothing is yet; the reply goes to `slot`. `exptime`: instead of its own.
    pub(super) fn add(
        &self,
        to: &dyn Route,
        request: &Request<'_>,
        call: &Call,
        exptime: Option<i32>,
        slot: Slot,
    ) {
        self.put("ME", to, request, call, exptime, slot);
    }

    /// Puts it whatever is there.
    pub(super) fn set(&self, to: &dyn Route, request: &Request<'_>, call: &Call, exptime: Option<i32>) {
        self.put("MS", to, request, call, exptime, Slot::nowhere());
    }

    fn put(
        &self,
        mode: &str,
        to: &dyn Route,
        request: &Request<'_>,
        call: &Call,
        exptime: Option<i32>,
        slot: Slot,
    ) {
        let mut flags = Vec::with_capacity(64);
        let exptime = exptime.unwrap_or(self.exptime);
        let _ = write!(flags, "F{} T{exptime} {mode}", self.flags); // a Vec takes everything
        let mut letters = letter_bit(b'F') | letter_bit(b'T') | letter_bit(b'M');
        let mut token_count = 6;
        if self.cas != 0 {
            let _ = write!(flags, " E{}", self.cas); // a Vec takes everything
            letters |= letter_bit(b'E');
            token_count += 1;
        }
        if request.meta.has(b'b') {
            flags.extend_from_slice(b" b");
            letters |= letter_bit(b'b');
            token_count += 1;
        }
        let token = if request.op.is_meta() { request.meta.token } else { request.key };
        let meta = Meta { token, flags: &flags, letters, opaque: None, token_count };
        let value = self.value.as_value();
        let set = Request { value, meta, ..Request::new(Op::MetaSet, request.key) };
        to.send(&set, call, slot);
    }

    /// What the client is answered, in the words of its request.
    pub(super) fn answer(self, request: &Request<'_>) -> OwnedReply {
        if let Some(answer) = self.meta_answer {
            return answer;
        }
        let mut line = b"VALUE ".to_vec();
        line.extend_from_slice(request.key);
        let _ = write!(line, " {} {}", self.flags, self.value.as_value().len()); // a Vec takes everything
        if matches!(request.op, Op::Gets | Op::Gats) {
            let _ = write!(line, " {}", self.cas); // a Vec takes everything
        }
        OwnedReply { status: Status::Hit, line, value: Some(self.value), miss_on_error: false }
    }
}
