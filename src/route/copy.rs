//! Taking an item from one server to another as it is: value, flags, remaining time to live, cas.
//!
//! `mg` tells all of it in one answer (memcached 1.6; mcrouter needs `metaget`, which only Meta's own servers have). The item
//! is put with `ms … ME` (add), so that what is already there stays, and with `E` (1.6.27), so that its cas is the same in both
//! places.

use super::gather::Answers;
use super::marked::number;
use super::slot::is_awaited_in;
use super::{Call, Route, Sink, Slot};
use crate::protocol::limits::RELATIVE_EXPTIME_MAX;
use crate::protocol::{Meta, Op, OwnedReply, OwnedValue, Reply, Request, Status, Value, letter_bit};
use crate::time::Clock;
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

/// An item as its server has it.
pub(super) struct Item {
    pub(super) value: OwnedValue,
    pub(super) flags: u32,
    /// Remaining seconds; 0 is for ever.
    pub(super) exptime: i32,
    pub(super) cas: u64,
    /// The server was told to have it recached, or it is only the place of what somebody is about to put there: it is as good as
    /// gone, and not copied.
    pub(super) is_stale: bool,
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

/// What is left of a life, as memcached wants to be told of it.
fn exptime_of(left_s: i32) -> i32 {
    if left_s <= RELATIVE_EXPTIME_MAX {
        return left_s;
    }
    let now = i32::try_from(Clock::System.now().unix_seconds).unwrap_or(i32::MAX);
    now.saturating_add(left_s)
}

/// The flags that tell everything about an item.
const EVERYTHING: &[u8] = b"vftc";

/// What is not asked there: nothing is made by looking (`N`), the value comes although the client has it (`C`).
const LEFT_OUT: &[u8] = b"qNC";

/// Asks for the item of `request`, which is a get of any kind. Sent at once.
pub(super) fn look(
    from: &dyn Route,
    request: &Request<'_>,
    call: &Call,
) -> impl Future<Output = Found> + use<> {
    let given = &request.meta;
    let mut flags = Vec::with_capacity(given.flags.len() + 2 * EVERYTHING.len());
    let mut letters = LEFT_OUT.iter().fold(given.letters, |letters, letter| letters & !letter_bit(*letter));
    let mut count = 2_u8;
    let is_kept = |token: &&[u8]| token.first().is_some_and(|letter| !LEFT_OUT.contains(letter));
    for token in given.flags.split(|b| *b == b' ').filter(is_kept) {
        flags.extend_from_slice(token);
        flags.push(b' ');
        count = count.saturating_add(1);
    }
    if matches!(request.op, Op::Gat | Op::Gats) {
        let _ = write!(flags, "T{} ", request.exptime); // a Vec takes everything
        letters |= letter_bit(b'T');
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
    let known_cas = given.token_of(b'C').and_then(number);
    async move {
        let reply = answer.only().await;
        match reply.status {
            Status::Hit => read(reply, &added, was_meta, known_cas),
            status if status.is_error() => Found::Failed(reply),
            _ => Found::Miss,
        }
    }
}

/// The same for the key alone: whatever else the request would do to the item is not done.
pub(super) fn look_only(
    from: &dyn Route,
    request: &Request<'_>,
    call: &Call,
) -> impl Future<Output = Found> + use<> {
    with_flags(Op::MetaGet, Vec::new(), request, |plain| look(from, plain, call))
}

/// Takes the item out of the answer, and what we asked for beyond the client's wish. `known_cas`: of what the client has; it
/// is not sent that again.
fn read(reply: OwnedReply, added: &[u8], was_meta: bool, known_cas: Option<u64>) -> Found {
    let Some(value) = reply.value else { return Found::Miss };
    let mut item = Item { value, flags: 0, exptime: 0, cas: 0, is_stale: false, meta_answer: None };
    let has_value = !added.contains(&b'v');
    let is_empty = item.value.as_value().is_empty();
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
                b'X' => item.is_stale = true,
                // somebody is about to fill it, or is told to
                b'W' | b'Z' => item.is_stale |= is_empty,
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
        let is_known = has_value && known_cas == Some(item.cas);
        if is_known {
            let flags = line.splitn(3, |b| *b == b' ').nth(2).unwrap_or_default();
            let between: &[u8] = if flags.is_empty() { b"" } else { b" " };
            line = [b"HD", between, flags].concat();
        }
        let value = (has_value && !is_known).then(|| item.value.clone());
        item.meta_answer =
            Some(OwnedReply { status: Status::Hit, line, value, miss_on_error: false, accepted: None });
    }
    Found::Item(item)
}

/// A meta request of ours for the key of `request`, with these flags.
pub(super) fn with_flags<T>(
    op: Op,
    mut flags: Vec<u8>,
    request: &Request<'_>,
    then: impl FnOnce(&Request<'_>) -> T,
) -> T {
    if request.meta.has(b'b') {
        flags.extend_from_slice(if flags.is_empty() { b"b" } else { b" b" });
    }
    let words = || flags.split(|b| *b == b' ').filter_map(|word| word.first());
    let letters = words().fold(0, |letters, letter| letters | letter_bit(*letter));
    let head_count = if op == Op::MetaSet { 3 } else { 2 };
    let token_count = head_count + u8::try_from(words().count()).unwrap_or(u8::MAX - head_count);
    let token = if request.op.is_meta() { request.meta.token } else { request.key };
    let meta = Meta { token, flags: &flags, letters, opaque: None, token_count };
    then(&Request { meta, ..Request::new(op, request.key) })
}

/// Whether servers take the cas of others. Those before memcached 1.6.27 refuse an item that comes with one; after the first
/// refusal items get a cas of their own.
#[derive(Clone)]
pub(super) struct KeepsCas(Rc<Cell<bool>>);

impl Default for KeepsCas {
    fn default() -> Self {
        Self(Rc::new(Cell::new(true)))
    }
}

impl KeepsCas {
    pub(super) fn get(&self) -> bool {
        self.0.get()
    }

    /// Whether this is the first refusal.
    pub(super) fn is_refusal(&self, reply: &Reply<'_>) -> bool {
        let is_refusal =
            reply.status == Status::ErrorLine && reply.line.starts_with(b"CLIENT_ERROR invalid flag");
        is_refusal && self.0.replace(false)
    }
}

/// Learns from a reply on its way.
struct Learning {
    keeps_cas: KeepsCas,
    slot: Cell<Option<Slot>>,
}

impl Sink for Learning {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.slot, |slot| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        self.keeps_cas.is_refusal(reply);
        if let Some(slot) = self.slot.take() {
            slot.fill(reply);
        }
    }
}

/// How an item is put.
#[derive(Clone, Copy)]
struct Put {
    mode: &'static str,
    exptime: i32,
    /// 0: the server's own.
    cas: u64,
    /// More flags, each with a space in front.
    more: &'static [u8],
}

impl Put {
    /// Where nothing is yet, for ever.
    const fn adding(cas: u64) -> Self {
        Self { mode: "ME", exptime: 0, cas, more: b"" }
    }
}

impl Item {
    /// An item that is ours, not a server's.
    pub(super) fn made(value: &'static [u8], flags: u32, exptime: i32) -> Self {
        Self {
            value: OwnedValue::new(Value::Slice(value)),
            flags,
            exptime,
            cas: 0,
            meta_answer: None,
            is_stale: false,
        }
    }

    /// Adds it where nothing is yet, if it is worth it; the reply goes to `slot`. `exptime`: instead of its own.
    pub(super) fn add(
        &self,
        (to, keeps_cas): (&dyn Route, &KeepsCas),
        request: &Request<'_>,
        call: &Call,
        exptime: Option<i32>,
        slot: Slot,
    ) {
        if self.is_stale {
            return slot.fill(&Reply::line(Status::NotStored, b"NS"));
        }
        let exptime = exptime.unwrap_or_else(|| exptime_of(self.exptime));
        let put = Put { exptime, ..Put::adding(self.cas) };
        self.put_and_learn(put, (to, keeps_cas), request, call, slot);
    }

    fn put_and_learn(
        &self,
        put: Put,
        (to, keeps_cas): (&dyn Route, &KeepsCas),
        request: &Request<'_>,
        call: &Call,
        slot: Slot,
    ) {
        if put.cas == 0 || !keeps_cas.get() {
            return self.put(&Put { cas: 0, ..put }, to, request, call, slot);
        }
        let learning = Learning { keeps_cas: keeps_cas.clone(), slot: Cell::new(Some(slot)) };
        self.put(&put, to, request, call, Slot::new(Rc::new(learning), 0));
    }

    /// The same as it is, and the reply tells its cas there.
    pub(super) fn add_and_tell_cas(
        &self,
        to: &dyn Route,
        request: &Request<'_>,
        call: &Call,
        keeps_cas: bool,
        slot: Slot,
    ) {
        let adding = Put::adding(if keeps_cas { self.cas } else { 0 });
        let put = Put { exptime: exptime_of(self.exptime), more: b" c", ..adding };
        self.put(&put, to, request, call, slot);
    }

    /// Puts it whatever is there, if it is worth it.
    pub(super) fn set(
        &self,
        to: (&dyn Route, &KeepsCas),
        request: &Request<'_>,
        call: &Call,
        exptime: Option<i32>,
    ) {
        if self.is_stale {
            return;
        }
        let exptime = exptime.unwrap_or_else(|| exptime_of(self.exptime));
        let put = Put { mode: "MS", exptime, ..Put::adding(self.cas) };
        self.put_and_learn(put, to, request, call, Slot::nowhere());
    }

    fn put(&self, put: &Put, to: &dyn Route, request: &Request<'_>, call: &Call, slot: Slot) {
        let Put { mode, exptime, cas, more } = *put;
        let mut flags = Vec::with_capacity(64);
        let _ = write!(flags, "F{} T{exptime} {mode}", self.flags); // a Vec takes everything
        if cas != 0 {
            let _ = write!(flags, " E{cas}"); // a Vec takes everything
        }
        flags.extend_from_slice(more);
        with_flags(Op::MetaSet, flags, request, |set| {
            to.send(&Request { value: self.value.as_value(), ..*set }, call, slot);
        });
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
        OwnedReply {
            status: Status::Hit,
            line,
            value: Some(self.value),
            miss_on_error: false,
            accepted: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Say;
    use super::super::stage::{MISS, run, settle, tree};
    use super::*;

    #[test]
    fn servers_that_take_no_cas_get_items_without_one() {
        run(async {
            for (route, cold, warm) in [
                ("{warm_up: {cold: a, warm: b}}", "a", "b"),
                ("{type: l1l2_cache, l1: a, l2: b, upgradingL1Exptime: 9}", "a", "b"),
            ] {
                let refusal = Say::Line(Status::ErrorLine, "CLIENT_ERROR invalid flag");
                let item = || Say::Meta("VA 1 f0 t9 c5", "x");
                let stored = Say::Line(Status::Stored, "HD");
                let tree =
                    tree(route, [(cold, vec![MISS, refusal, MISS, stored]), (warm, vec![item(), item()])]);
                for _ in 0..2 {
                    assert_eq!(tree.ask("get k").await, "VALUE k 0 1|x");
                    settle().await;
                }
                let put = ["get k", "ms k 1 F0 T9 ME E5|x", "get k", "ms k 1 F0 T9 ME|x"];
                assert_eq!(tree.heard(cold), put, "{route}");
            }
        });
    }

    #[test]
    fn a_long_life_is_told_by_its_end() {
        assert_eq!([0, 1, RELATIVE_EXPTIME_MAX].map(exptime_of), [0, 1, RELATIVE_EXPTIME_MAX]);
        let now = Clock::System.now().unix_seconds;
        let end = exptime_of(RELATIVE_EXPTIME_MAX + 1).cast_unsigned();
        let wanted = now + RELATIVE_EXPTIME_MAX.cast_unsigned() + 1;
        assert!((wanted..wanted + 60).contains(&end), "{end}");
        assert_eq!(exptime_of(i32::MAX), i32::MAX, "the end of time");
    }
}
