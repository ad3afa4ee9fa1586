//! Items that are a route's own: a bit of the client flags says that a value is not what the client stored, but where
//! that is. What BigValueRoute and L1L2SizeSplitRoute have in common.
//!
//! A classic get tells the flags of an item, a meta one only when it asks for them: then `f` is put on its line, and taken
//! out of the answer again.

use super::gather::answer_later;
use super::slot::is_awaited_in;
use super::{Call, Route, Sink, Slot};
use crate::protocol::{
    Meta, Op, OwnedReply, OwnedRequest, Reply, Request, Status, Value, answer, letter_bit,
};
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

/// A route that has items of its own.
pub(super) trait Marked: 'static {
    /// The bit.
    const MARK: u32;
    /// An item of ours is none for clients, whatever they ask: then the mark alone tells it where there is no value.
    const HIDES: bool = false;

    /// Whether the value of a marked item is one of ours.
    fn is_ours(&self, value: &Value<'_>) -> bool;

    /// The flags as a client sees them.
    fn shown(&self, flags: u32) -> u32;

    /// What the client is answered who asked `request`, instead of the item of ours.
    fn resolve(
        self: Rc<Self>,
        request: OwnedRequest,
        call: Call,
        item: OwnedReply,
    ) -> impl Future<Output = OwnedReply> + 'static;
}

/// Asks `child`, which may have an item of ours. Only for gets.
pub(super) fn look<R: Marked>(
    route: &Rc<R>,
    child: &dyn Route,
    request: &Request<'_>,
    call: &Call,
    slot: Slot,
) {
    let meta = &request.meta;
    if !R::HIDES && request.op.is_meta() && !meta.has(b'v') && !meta.has(b'f') {
        return child.send(request, call, slot); // neither a value nor flags
    }
    let kept = Cell::new(Some((OwnedRequest::new(request), call.clone(), slot)));
    let slot = Slot::new(Rc::new(Look { route: Rc::clone(route), kept }), 0);
    if !request.op.is_meta() || meta.has(b'f') {
        return child.send(request, call, slot);
    }
    let (flags, letters, token_count) = with_token(meta, b'f', "");
    let meta = Meta { flags: &flags, letters, token_count, ..*meta };
    child.send(&Request { meta, ..*request }, call, slot);
}

struct Look<R> {
    route: Rc<R>,
    /// Taken when the reply comes.
    kept: Cell<Option<(OwnedRequest, Call, Slot)>>,
}

impl<R: Marked> Sink for Look<R> {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.kept, |(.., slot)| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        let Some((request, call, slot)) = self.kept.take() else { return };
        let asked = request.as_request();
        if reply.status != Status::Hit {
            return slot.fill(reply);
        }
        let flags = flags_of(&asked, reply.line);
        let is_marked = flags & R::MARK != 0;
        let is_ours = match &reply.value {
            Some(value) => is_marked && self.route.is_ours(value),
            None => is_marked && R::HIDES,
        };
        if is_ours {
            let route = Rc::clone(&self.route);
            return answer_later(slot, route.resolve(request, call, OwnedReply::new(reply)));
        }
        // without its value nobody can tell whose item it is; the mark alone decides
        let flags = if reply.value.is_none() { self.route.shown(flags) } else { flags };
        let is_as_asked =
            !asked.op.is_meta() || asked.meta.has(b'f') && (!is_marked || reply.value.is_some());
        if is_as_asked {
            return slot.fill(reply);
        }
        let line = line_for(&asked, reply.line, flags, None);
        slot.fill(&Reply { line: &line, ..*reply });
    }
}

/// An update with the mark among its flags, and another value: the item of ours.
pub(super) fn send_marked(
    child: &dyn Route,
    request: &Request<'_>,
    mark: u32,
    value: Value<'_>,
    call: &Call,
    slot: Slot,
) {
    if !request.op.is_meta() {
        return child.send(&Request { flags: request.flags | mark, value, ..*request }, call, slot);
    }
    let flags = request.meta.token_of(b'F').and_then(number).unwrap_or(0);
    let (flags, letters, token_count) = with_token(&request.meta, b'F', &(flags | mark).to_string());
    let meta = Meta { flags: &flags, letters, token_count, ..request.meta };
    child.send(&Request { value, meta, ..*request }, call, slot);
}

/// The meta flags with this one, in the place of the one that is there or behind all others; their letters; the tokens on
/// the line.
pub(super) fn with_token(meta: &Meta<'_>, letter: u8, token: &str) -> (Vec<u8>, u64, u8) {
    let mut flags = Vec::with_capacity(meta.flags.len() + 2 + token.len());
    let mut put = |letter: u8, token: &[u8]| {
        if !flags.is_empty() {
            flags.push(b' ');
        }
        flags.push(letter);
        flags.extend_from_slice(token);
    };
    for (known, argument) in meta.iter() {
        put(known, if known == letter { token.as_bytes() } else { argument });
    }
    if meta.has(letter) {
        return (flags, meta.letters, meta.token_count);
    }
    put(letter, token.as_bytes());
    (flags, meta.letters | letter_bit(letter), meta.token_count.saturating_add(1))
}

/// Calls `then` with the request without these flags of its line.
pub(super) fn without_tokens<T>(
    request: &Request<'_>,
    letters: &[u8],
    then: impl FnOnce(&Request<'_>) -> T,
) -> T {
    let given = &request.meta;
    let removed = letters.iter().map(|letter| letter_bit(*letter)).sum::<u64>() & given.letters;
    if removed == 0 {
        return then(request);
    }
    let is_kept = |token: &&[u8]| token.first().is_some_and(|letter| !letters.contains(letter));
    let flags = given.flags.split(|b| *b == b' ').filter(is_kept).collect::<Vec<_>>().join(&b' ');
    // the parser takes no flag twice
    let token_count = given.token_count - u8::try_from(removed.count_ones()).unwrap_or(0);
    let meta = Meta { flags: &flags, letters: given.letters & !removed, token_count, ..*given };
    then(&Request { meta, ..*request })
}

/// The client flags of a hit; 0 where it does not tell them.
pub(super) fn flags_of(request: &Request<'_>, line: &[u8]) -> u32 {
    let mut words = line.split(|b| *b == b' ');
    if !request.op.is_meta() {
        return words.nth(2).and_then(number).unwrap_or(0);
    }
    words.skip(head_count(line)).find_map(|word| number(word.strip_prefix(b"f")?)).unwrap_or(0)
}

/// Words of a meta answer in front of its flags.
fn head_count(line: &[u8]) -> usize {
    if line.starts_with(b"VA ") { 2 } else { 1 }
}

pub(super) fn number<N: std::str::FromStr>(word: &[u8]) -> Option<N> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// The line of a hit with other flags and, of another value, its length; what the client did not ask for is left out.
pub(super) fn line_for(request: &Request<'_>, line: &[u8], flags: u32, length: Option<usize>) -> Vec<u8> {
    let is_meta = request.op.is_meta();
    let head = head_count(line);
    let mut out = Vec::with_capacity(line.len() + 16);
    for (i, word) in line.split(|b| *b == b' ').enumerate() {
        let letter = word.first().copied().filter(|_| is_meta && i >= head);
        if letter == Some(b'f') && !request.meta.has(b'f') {
            continue;
        }
        if i > 0 {
            out.push(b' ');
        }
        // a Vec takes everything
        let _ = match (length, letter) {
            (_, Some(b'f')) => write!(out, "f{flags}"),
            (_, None) if !is_meta && i == 2 => write!(out, "{flags}"),
            (Some(length), Some(b's')) => write!(out, "s{length}"),
            (Some(length), None) if i == if is_meta { 1 } else { 3 } => write!(out, "{length}"),
            _ => out.write_all(word),
        };
    }
    out
}

/// What the client is told when the item of ours leads nowhere.
pub(super) fn miss(request: &Request<'_>) -> OwnedReply {
    without_value(request, Status::Miss)
}

/// A status in the words of the request.
pub(super) fn without_value(request: &Request<'_>, status: Status) -> OwnedReply {
    let mut line = Vec::new();
    answer::write_line(request, status, &mut line);
    OwnedReply { status, line, value: None, miss_on_error: false, accepted: None }
}

/// A request of this kind for something that belongs to what `asked` is about, in its words: where it is a meta one with
/// `flags` (`v f`), and with those of its own that are `kept`.
pub(super) fn part_of(
    asked: &Request<'_>,
    op: Op,
    flags: &[u8],
    kept: &[u8],
    then: impl FnOnce(&Request<'_>),
) {
    let plain = Request { exptime: asked.exptime, ..Request::new(op, asked.key) };
    if !op.is_meta() {
        return then(&plain);
    }
    let mut meta = Meta { flags, token_count: if op == Op::MetaSet { 3 } else { 2 }, ..Meta::EMPTY };
    for letter in flags.iter().filter(|b| **b != b' ') {
        meta.letters |= letter_bit(*letter);
        meta.token_count += 1;
    }
    let mut text = flags.to_vec();
    for letter in kept {
        if let Some(token) = asked.meta.token_of(*letter) {
            let token = String::from_utf8_lossy(token).into_owned();
            let so_far = Meta { flags: &text, ..meta };
            (text, meta.letters, meta.token_count) = with_token(&so_far, *letter, &token);
        }
    }
    then(&Request { meta: Meta { flags: &text, ..meta }, ..plain });
}

/// Whether an update that depends on what is there did not happen.
pub(super) const fn is_refused(status: Status) -> bool {
    matches!(status, Status::NotStored | Status::Exists | Status::NotFound)
}

/// Whether this update puts a value of its own, not a piece of one that is there.
pub(super) fn puts_whole_value(request: &Request<'_>) -> bool {
    match request.op {
        Op::Set | Op::Add | Op::Replace | Op::Cas => true,
        Op::MetaSet => !matches!(request.meta.token_of(b'M'), Some([b'A' | b'P', ..])),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(flags: &'static [u8]) -> Request<'static> {
        let letters =
            flags.split(|b| *b == b' ').filter_map(|t| t.first()).fold(0, |l, c| l | letter_bit(*c));
        let meta = Meta { token: b"k", flags, letters, opaque: None, token_count: 2 };
        Request { meta, ..Request::new(Op::MetaGet, b"k") }
    }

    fn line(request: &Request<'_>, line: &str, flags: u32, length: Option<usize>) -> String {
        String::from_utf8(line_for(request, line.as_bytes(), flags, length)).unwrap()
    }

    #[test]
    fn lines_of_hits() {
        let get = Request::new(Op::Gets, b"k");
        assert_eq!(flags_of(&get, b"VALUE k 32769 10 7"), 32769);
        assert_eq!(line(&get, "VALUE k 32769 10 7", 1, Some(99)), "VALUE k 1 99 7");
        assert_eq!(flags_of(&meta(b"v"), b"VA 10 kfoo f5"), 5);
        assert_eq!(flags_of(&meta(b"v"), b"HD"), 0);
        assert_eq!(line(&meta(b"v s k"), "VA 10 s10 kf1 f5", 1, Some(99)), "VA 99 s99 kf1");
        assert_eq!(line(&meta(b"f t"), "HD f32768 t-1", 0, None), "HD f0 t-1");
        assert_eq!(line(&meta(b"v"), "VA 3 f0", 0, None), "VA 3");
    }

    #[test]
    fn a_flag_more_or_another_one() {
        let given = meta(b"v  Oab");
        assert_eq!(
            with_token(&given.meta, b'f', ""),
            (b"v Oab f".to_vec(), given.meta.letters | letter_bit(b'f'), 3)
        );
        let given = meta(b"F1 T0");
        assert_eq!(with_token(&given.meta, b'F', "33"), (b"F33 T0".to_vec(), given.meta.letters, 2));
    }
}
