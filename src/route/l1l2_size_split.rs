//! L1L2SizeSplitRoute: small values in one place, large ones in another, where memory costs less.
//!
//! Updates of `threshold` bytes or more that live for `ttl_threshold` or longer: the value to `l2`, and when it is stored a
//! sentinel to `l1`, whose reply is the answer; when `l2` fails the value itself to `l1`, for `failure_ttl` at most. With
//! `both_full_set` the value to both. All other updates: `l1`. Gets: `l1`; where a sentinel lies (`mg` with `v`) `l2`, whose
//! miss is a miss. Deletes, arithmetic, `append`, `prepend`, `touch`: `l1`.
//!
//! A sentinel is an item with a bit of its own among the client flags. A plain `set` puts the value into `l2` under its own
//! key, and its sentinel is empty. What may not happen (`add`, `cas`, `ms` with a mode) puts it under a side key
//! `key|==|<number>r`, and its sentinel is what is behind the bars: whoever loses leaves the winner's value alone. mcrouter's
//! lease-sets do so too, without the `r`, which keeps `incr` from counting it; gets of both read both. Where there is no room for a
//! side key the value goes to `l1`. What a client stores itself with this bit, and looks like a sentinel, goes to `l2` as a
//! large value does, or nowhere.
//! Source: mcrouter's `L1L2SizeSplitRoute`.

use super::busy::{InOrder, Turn};
use super::draw::Draw;
use super::gather::{Answers, answer_later};
use super::marked::{self, Marked};
use super::modify_exptime::{self, Action};
use super::registry::{Key, Kind, Params};
use super::rekey::{is_sendable, with_key};
use super::{Call, Explained, Route, Slot, When};
use crate::config::{show_bytes, value};
use crate::protocol::{Cause, Class, Op, OwnedReply, OwnedRequest, Reply, Request, Status, Value};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "L1L2SizeSplitRoute",
    short: "l1l2_size_split",
    bare: "l1",
    keys: &[
        Key { name: "l1", what: "where small values are, and sentinels" },
        Key { name: "l2", what: "where large values are" },
        Key { name: "threshold", what: "values of so many bytes are large" },
        Key { name: "ttl_threshold", what: "only what lives so long goes to l2 (0)" },
        Key { name: "failure_ttl", what: "how long l1 keeps a value that l2 did not take (60s)" },
        Key { name: "both_full_set", what: "whether large values go to both, without sentinels (false)" },
        Key {
            name: "retries",
            what: "how often a get looks, when l2 has lost what a sentinel names, 1 to 10 (1)",
        },
    ],
    build,
};

/// mcrouter's.
const FAILURE_TTL_DEFAULT: i32 = 60;
/// mcrouter's.
const RETRIES_COUNT_MAX: usize = 10;
/// What a side key has in the middle, behind it a sentinel.
const SIDE: &[u8] = b"|==|";
/// The longest number, and its end.
const SENTINEL_BYTES_MAX: usize = 21;

/// What a client is told of a key that has no room for a side key, where `l1` cannot have the value either.
const REFUSAL: &[u8] = b"SERVER_ERROR The key provided is invalid";

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let (l1, l2) = (params.child("l1"), params.child("l2"));
    params.require("threshold");
    let threshold = params.section.value("threshold", |node| value::bytes(node, &(1..=1 << 30)));
    let ttl_threshold = params.exptime("ttl_threshold").unwrap_or(0);
    let failure_ttl = params.exptime("failure_ttl").unwrap_or(FAILURE_TTL_DEFAULT);
    let both = params.flag("both_full_set", false);
    let l1 = l1?;
    let l1_for_a_while = modify_exptime::of(Rc::clone(&l1), failure_ttl, Action::Min);
    let (l2, threshold) = (l2?, threshold?);
    let once = |again: Option<Rc<SizeSplit>>| {
        let (l1, l1_for_a_while, l2) = (Rc::clone(&l1), Rc::clone(&l1_for_a_while), Rc::clone(&l2));
        let draw = Draw::new();
        Rc::new(SizeSplit { l1, l1_for_a_while, l2, threshold, ttl_threshold, both, draw, again })
    };
    let retries = params.count("retries", 1..=RETRIES_COUNT_MAX).unwrap_or(1);
    let split = (1..retries).fold(once(None), |again, _| once(Some(again)));
    Some(Rc::new(SizeSplitRoute { split, order: InOrder::default() }))
}

struct SizeSplitRoute {
    split: Rc<SizeSplit>,
    order: InOrder,
}

struct SizeSplit {
    l1: Rc<dyn Route>,
    /// The same, for values that ought to be in `l2`.
    l1_for_a_while: Rc<dyn Route>,
    l2: Rc<dyn Route>,
    /// Bytes.
    threshold: usize,
    /// Seconds.
    ttl_threshold: i32,
    both: bool,
    draw: Draw,
    /// The same, once less: whom a get asks when the value has just been replaced.
    again: Option<Rc<Self>>,
}

impl Route for SizeSplitRoute {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let split = &self.split;
        if !split.takes_steps(request) && !self.order.is_taken(call, request.key) {
            return split.send(request, call, slot);
        }
        let split = Rc::clone(split);
        self.order.send(request, call, slot, move |request, call, slot, turn| {
            match split.takes_steps(request) {
                true => split.store(request, call, slot, turn),
                false => split.send(request, call, slot),
            }
        });
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("l1l2_size_split").with(When::Now, self.split.l1.explain(request));
        let when = match request.op.class() {
            Class::GetLike => "where a sentinel lies".to_owned(),
            Class::UpdateLike => format!("first, from {} on", show_bytes(self.split.threshold)),
            _ => return here,
        };
        here.with(When::If(when), self.split.l2.explain(request))
    }
}

/// One large value on its way to both places.
struct Store {
    split: Rc<SizeSplit>,
    request: OwnedRequest,
    call: Call,
    /// Of the key in `l1`; empty where the value in `l2` has the key itself.
    sentinel: Vec<u8>,
}

impl SizeSplit {
    fn is_large(&self, request: &Request<'_>) -> bool {
        if request.value.len() < self.threshold || !marked::puts_whole_value(request) {
            return false;
        }
        let exptime = match request.op {
            Op::MetaSet => request.meta.token_of(b'T').and_then(marked::number).unwrap_or(0),
            _ => request.exptime,
        };
        exptime == 0 || exptime >= self.ttl_threshold
    }

    fn takes_steps(&self, request: &Request<'_>) -> bool {
        (!self.both && self.is_large(request)) || looks_like_a_sentinel(request)
    }

    /// What is one step, or begins with one.
    fn send(self: &Rc<Self>, request: &Request<'_>, call: &Call, slot: Slot) {
        if request.op.class() == Class::GetLike {
            return marked::look(self, &*self.l1, request, call, slot);
        }
        if self.is_large(request) {
            self.l2.send(request, call, Slot::nowhere());
        }
        self.l1.send(request, call, slot);
    }

    fn store(self: &Rc<Self>, request: &Request<'_>, call: &Call, slot: Slot, turn: Turn) {
        let sentinel =
            if is_plain_set(request) { Vec::new() } else { format!("{}r", self.draw.next()).into_bytes() };
        if !is_sendable(&key_in_l2(request.key, &sentinel), request.meta.has(b'b')) {
            return match looks_like_a_sentinel(request) {
                true => slot.fill(&Reply::line(Status::Failed(Cause::Local), REFUSAL)),
                false => self.l1.send(request, call, slot), // and the turn is over
            };
        }
        let (split, request) = (Rc::clone(self), OwnedRequest::new(request));
        let store = Store { split, request, call: call.clone(), sentinel };
        let mut answers = Answers::new(call);
        answers.expect(|slot| store.to_l2(slot));
        answer_later(slot, store.go_on(answers, turn));
    }
}

/// Whether gets would take what it stores for a sentinel.
fn looks_like_a_sentinel(request: &Request<'_>) -> bool {
    let flags = match request.op {
        Op::MetaSet => request.meta.token_of(b'F').and_then(marked::number).unwrap_or(0),
        _ => request.flags,
    };
    flags & SizeSplit::MARK != 0 && marked::puts_whole_value(request) && is_sentinel(&request.value)
}

/// Whether it happens whatever is there.
fn is_plain_set(request: &Request<'_>) -> bool {
    match request.op {
        Op::Set => true,
        Op::MetaSet => {
            let mode = request.meta.token_of(b'M').and_then(<[u8]>::first);
            !request.meta.has(b'C') && matches!(mode, None | Some(b'S'))
        }
        _ => false,
    }
}

fn key_in_l2(key: &[u8], sentinel: &[u8]) -> Vec<u8> {
    if sentinel.is_empty() { key.to_vec() } else { [key, SIDE, sentinel].concat() }
}

impl Store {
    /// The value alone, whatever is there.
    fn to_l2(&self, slot: Slot) {
        let asked = self.request.as_request();
        let op = if asked.op.is_meta() { Op::MetaSet } else { Op::Set };
        let key = key_in_l2(asked.key, &self.sentinel);
        marked::part_of(&asked, op, b"", b"FTb", |part| {
            let part = Request { value: asked.value, flags: asked.flags, ..*part };
            with_key(&part, &key, |part, _| self.split.l2.send(part, &self.call, slot));
        });
    }

    fn drop_side(&self) {
        let asked = self.request.as_request();
        let op = if asked.op.is_meta() { Op::MetaDelete } else { Op::Delete };
        let call = self.call.to(super::Kind::Shadow);
        let key = key_in_l2(asked.key, &self.sentinel);
        marked::part_of(&asked, op, b"", b"b", |delete| {
            with_key(delete, &key, |delete, _| self.split.l2.send(delete, &call, Slot::nowhere()));
        });
    }

    /// The sentinel follows the value; with that the turn is over.
    async fn go_on(self, answers: Answers, turn: Turn) -> OwnedReply {
        let request = self.request.as_request();
        let reply = answers.only().await;
        if reply.status != Status::Stored {
            if looks_like_a_sentinel(&request) {
                return reply;
            }
            let answers = Answers::of(&*self.split.l1_for_a_while, &request, &self.call);
            drop(turn);
            return answers.only().await;
        }
        let mut answers = Answers::new(&self.call);
        answers.expect(|slot| {
            let value = Value::Slice(&self.sentinel);
            marked::send_marked(&*self.split.l1, &request, SizeSplit::MARK, value, &self.call, slot);
        });
        drop(turn);
        let mut reply = answers.only().await;
        if !self.sentinel.is_empty() && marked::is_refused(reply.status) {
            self.drop_side();
        }
        if request.meta.has(b's') && !reply.status.is_error() {
            reply.line = marked::line_for(&request, &reply.line, 0, Some(request.value.len()));
        }
        reply
    }
}

impl Marked for SizeSplit {
    /// mcrouter's `MC_MSG_FLAG_SIZE_SPLIT`. Clients have it too (php's, for compressed values, which are neither empty nor a
    /// number): the value decides.
    const MARK: u32 = 0x20;

    fn is_ours(&self, value: &Value<'_>) -> bool {
        is_sentinel(value)
    }

    fn shown(&self, flags: u32) -> u32 {
        flags
    }

    async fn resolve(self: Rc<Self>, request: OwnedRequest, call: Call, item: OwnedReply) -> OwnedReply {
        let asked = request.as_request();
        let sentinel = item.value.as_ref().map_or_else(Vec::new, |value| value.as_value().to_vec());
        let key = key_in_l2(asked.key, &sentinel);
        if !is_sendable(&key, asked.meta.has(b'b')) {
            return marked::miss(&asked);
        }
        let op = match asked.op {
            Op::MetaGet => Op::MetaGet,
            Op::Gat | Op::Gats => Op::Gat,
            _ => Op::Get,
        };
        let mut answers = Answers::new(&call);
        answers.expect(|slot| {
            marked::part_of(&asked, op, b"v f", b"Tb", |part| {
                with_key(part, &key, |part, _| self.l2.send(part, &call, slot));
            });
        });
        let reply = answers.only().await;
        let value = match reply.value {
            Some(value) if reply.status == Status::Hit => value,
            _ if reply.status.is_error() => return reply,
            _ => {
                let Some(again) = &self.again else { return marked::miss(&asked) };
                let mut answers = Answers::new(&call);
                answers.expect(|slot| marked::look(again, &*again.l1, &asked, &call, slot));
                return answers.only().await;
            }
        };
        let flags = marked::flags_of(&asked, &reply.line);
        let line = marked::line_for(&asked, &item.line, flags, Some(value.as_value().len()));
        OwnedReply { status: Status::Hit, line, value: Some(value), miss_on_error: false, accepted: None }
    }
}

/// Empty, or a number, with its end or without.
fn is_sentinel(value: &Value<'_>) -> bool {
    if value.len() > SENTINEL_BYTES_MAX {
        return false;
    }
    let bytes = value.to_vec();
    let digits = bytes.strip_suffix(b"r").unwrap_or(&bytes);
    bytes.is_empty() || (digits.iter().all(u8::is_ascii_digit) && marked::number::<u64>(digits).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_and_nothing_else() {
        let is = |text: &str| is_sentinel(&Value::Slice(text.as_bytes()));
        for text in ["", "0", "7r", "18446744073709551615", "18446744073709551615r"] {
            assert!(is(text), "{text}");
        }
        for text in ["r", "7rr", "r7", "|==|1", "x", "-1", "+1", "1 ", " ", "18446744073709551616", "0x1"] {
            assert!(!is(text), "{text}");
        }
    }
}
