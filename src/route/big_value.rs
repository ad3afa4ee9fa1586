//! BigValueRoute: values that are larger than a server takes, in chunks.
//!
//! Updates of a value longer than `split_threshold`: first its chunks, as `key:<number>:<suffix>`; when all are stored
//! the index `1-<how many>-<suffix>` under the key itself, with the flag 0x8000 and whatever the command asks for (`add`,
//! `cas`, …), whose reply is the answer. The suffix is another one each time, so that chunks of two values never mix. Gets
//! (`mg` with `v`): where an index lies all chunks, joined; if one is missing, a miss. `gat` and `T` hold for the chunks too.
//! Deletes: of the index. Arithmetic, `append`, `prepend`, `touch`, `mg` without `v`: as if the index were the value.
//! Source: mcrouter's `BigValueRoute`, whose chunks these are.

use super::busy::{InOrder, Turn};
use super::draw::Draw;
use super::gather::{Answers, answer_later};
use super::marked::{self, Marked};
use super::registry::{Key, Kind, Params};
use super::rekey::{is_sendable, with_key};
use super::{Call, Explained, Route, Slot, When};
use crate::config::{show_bytes, value};
use crate::protocol::{
    Cause, Chunks, Class, Op, OwnedReply, OwnedRequest, OwnedValue, Reply, Request, Status, Value,
};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "BigValueRoute",
    short: "big_value",
    bare: "target",
    keys: &[
        Key { name: "target", what: "where values and chunks go" },
        Key { name: "split_threshold", what: "longer values are cut into chunks of so many bytes (512KiB)" },
        Key { name: "batch_size", what: "chunks under way at once, 0 for all (10)" },
        Key {
            name: "hide_reply_flag",
            what: "whether clients do not see the flag 0x8000 (true; mcrouter: false)",
        },
    ],
    build,
};

/// memcached keeps values up to this in one piece of memory (`slab_chunk_max`).
const THRESHOLD_BYTES_DEFAULT: usize = 512 << 10;
/// `--big-value-batch-size`.
const BATCH_COUNT_DEFAULT: usize = 10;
/// Chunks of one value. A GiB in chunks of 16 KiB.
const CHUNKS_COUNT_MAX: usize = 1 << 16;
/// Whoever wrote a value has cut it into no smaller ones, unless it is told here to do so.
const CHUNK_BYTES_LEAST: usize = 1 << 10;
/// Two numbers of twenty digits, the version and what stands between.
const INDEX_BYTES_MAX: usize = 48;

const REFUSAL: &[u8] = b"SERVER_ERROR The key provided is invalid";
const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache";

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let target = params.child("target");
    let threshold = params.section.value("split_threshold", |node| value::bytes(node, &(1..=1 << 30)));
    let batch = params.count("batch_size", 0..=CHUNKS_COUNT_MAX).unwrap_or(BATCH_COUNT_DEFAULT);
    let big = BigValue {
        target: target?,
        threshold: threshold.unwrap_or(THRESHOLD_BYTES_DEFAULT),
        batch: if batch == 0 { CHUNKS_COUNT_MAX } else { batch },
        hides: params.flag("hide_reply_flag", !params.is_mcrouter()),
        value_bytes_max: params.builder.value_bytes_max(),
        draw: Draw::new(),
    };
    Some(Rc::new(BigValueRoute { big: Rc::new(big), order: InOrder::default() }))
}

struct BigValueRoute {
    big: Rc<BigValue>,
    order: InOrder,
}

struct BigValue {
    target: Rc<dyn Route>,
    /// Bytes of a chunk; a value of so many is not cut.
    threshold: usize,
    /// Chunks under way at once.
    batch: usize,
    hides: bool,
    /// What no value is longer than: chunks beyond are not put together.
    value_bytes_max: usize,
    draw: Draw,
}

impl Route for BigValueRoute {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let big = &self.big;
        if !big.is_large(request) && !self.order.is_taken(call, request.key) {
            return big.send(request, call, slot);
        }
        let big = Rc::clone(big);
        self.order.send(request, call, slot, move |request, call, slot, turn| match big.is_large(request) {
            true => big.store(request, call, slot, turn),
            false => big.send(request, call, slot),
        });
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let key = request.key.escape_ascii();
        let here = Explained::new("big_value").with(When::Now, self.big.target.explain(request));
        let (chunks, when) = match request.op.class() {
            Class::GetLike => ("then, at once", "where an index lies".to_owned()),
            Class::UpdateLike => ("first", format!("longer than {}", show_bytes(self.big.threshold))),
            _ => return here,
        };
        here.with(When::If(when), Explained::new(format!("{chunks}: chunks {key}:0:…, {key}:1:…")))
    }
}

/// Where the chunks of a value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index {
    count: usize,
    suffix: u64,
}

impl Index {
    fn parse(value: &Value<'_>, count_max: usize) -> Option<Self> {
        if value.len() > INDEX_BYTES_MAX {
            return None;
        }
        let text = String::from_utf8(value.to_vec()).ok()?;
        let mut numbers = text.strip_prefix("1-")?.split('-');
        let (count, suffix) = (numbers.next()?, numbers.next()?);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if numbers.next().is_some() || !is_number(count) || !is_number(suffix) {
            return None;
        }
        let index = Self { count: count.parse().ok()?, suffix: suffix.parse().ok()? };
        (1..=count_max).contains(&index.count).then_some(index)
    }

    fn value(self) -> String {
        format!("1-{}-{}", self.count, self.suffix)
    }

    fn key(self, key: &[u8], chunk: usize) -> Vec<u8> {
        [key, format!(":{chunk}:{}", self.suffix).as_bytes()].concat()
    }

    /// Whether the longest of the keys is one.
    fn fits(self, request: &Request<'_>) -> bool {
        is_sendable(&self.key(request.key, self.count - 1), request.meta.has(b'b'))
    }
}

/// One value of which the chunks are sent or fetched.
struct Cut {
    big: Rc<BigValue>,
    request: OwnedRequest,
    value: OwnedValue,
    call: Call,
    index: Index,
}

impl BigValue {
    /// What an index may say. A client can write one of its own, and have thousands of keys asked for with each short get.
    fn chunks_count_max(&self) -> usize {
        let least = self.threshold.min(CHUNK_BYTES_LEAST);
        self.value_bytes_max.div_ceil(least).clamp(1, CHUNKS_COUNT_MAX)
    }

    fn is_large(&self, request: &Request<'_>) -> bool {
        request.value.len() > self.threshold && marked::puts_whole_value(request)
    }

    /// What is one step, or begins with one.
    fn send(self: &Rc<Self>, request: &Request<'_>, call: &Call, slot: Slot) {
        match request.op.class() {
            Class::GetLike => marked::look(self, &*self.target, request, call, slot),
            _ => self.target.send(request, call, slot),
        }
    }

    fn store(self: &Rc<Self>, request: &Request<'_>, call: &Call, slot: Slot, turn: Turn) {
        let count = request.value.len().div_ceil(self.threshold);
        let index = Index { count, suffix: self.draw.next() };
        let refusal = if count > CHUNKS_COUNT_MAX { Some(TOO_LARGE) } else { None };
        if let Some(line) = refusal.or(if index.fits(request) { None } else { Some(REFUSAL) }) {
            return slot.fill(&Reply::line(Status::Failed(Cause::Local), line));
        }
        let cut = Cut {
            big: Rc::clone(self),
            request: OwnedRequest::new(request),
            value: OwnedValue::new(request.value),
            call: call.clone(),
            index,
        };
        let mut answers = Answers::new(call);
        let sent_count = self.batch.min(count);
        for chunk in 0..sent_count {
            answers.expect(|slot| cut.put(chunk, slot));
        }
        answer_later(slot, cut.stored(answers, sent_count, turn));
    }
}

impl Cut {
    fn send(&self, chunk: usize, request: &Request<'_>, slot: Slot) {
        let key = self.index.key(self.request.as_request().key, chunk);
        with_key(request, &key, |request, _| self.big.target.send(request, &self.call, slot));
    }

    /// Stores a chunk, for as long as the value shall live.
    fn put(&self, chunk: usize, slot: Slot) {
        let start = chunk * self.big.threshold;
        let value = self.value.as_value();
        let piece = self.value.piece(start..value.len().min(start + self.big.threshold));
        let asked = self.request.as_request();
        let op = if asked.op.is_meta() { Op::MetaSet } else { Op::Set };
        marked::part_of(&asked, op, b"", b"Tb", |request| {
            let request = Request { value: piece.as_value(), ..*request };
            self.send(chunk, &request, slot);
        });
    }

    /// Fetches one; a time to live that the client sets is the chunk's too.
    fn get(&self, chunk: usize, slot: Slot) {
        let asked = self.request.as_request();
        let op = match asked.op {
            Op::MetaGet => Op::MetaGet,
            Op::Gat | Op::Gats => Op::Gat,
            _ => Op::Get,
        };
        marked::part_of(&asked, op, b"v", b"Tb", |request| self.send(chunk, request, slot));
    }

    /// The chunks are of no use any more. Nobody waits, and nobody is told.
    fn drop_chunks(&self) {
        let asked = self.request.as_request();
        let op = if asked.op.is_meta() { Op::MetaDelete } else { Op::Delete };
        let call = self.call.to(super::Kind::Shadow);
        for chunk in 0..self.index.count {
            let key = self.index.key(asked.key, chunk);
            marked::part_of(&asked, op, b"", b"b", |delete| {
                with_key(delete, &key, |delete, _| self.big.target.send(delete, &call, Slot::nowhere()));
            });
        }
    }

    /// All chunks, then the index; with that the turn is over.
    async fn stored(self, mut answers: Answers, mut sent_count: usize, turn: Turn) -> OwnedReply {
        while let Some((_, reply)) = answers.next().await {
            if reply.status.is_error() {
                return reply;
            }
            if reply.status != Status::Stored {
                return marked::without_value(&self.request.as_request(), reply.status);
            }
            if sent_count < self.index.count {
                answers.expect(|slot| self.put(sent_count, slot));
                sent_count += 1;
            }
        }
        let request = self.request.as_request();
        let index = self.index.value();
        let mut answers = Answers::new(&self.call);
        answers.expect(|slot| {
            let value = Value::Slice(index.as_bytes());
            marked::send_marked(&*self.big.target, &request, BigValue::MARK, value, &self.call, slot);
        });
        drop(turn);
        let mut reply = answers.only().await;
        if marked::is_refused(reply.status) {
            self.drop_chunks();
        }
        if request.meta.has(b's') && !reply.status.is_error() {
            // the size that was stored is that of the whole
            reply.line = marked::line_for(&request, &reply.line, 0, Some(self.value.as_value().len()));
        }
        reply
    }

    /// All chunks, joined.
    async fn fetched(self, item: OwnedReply) -> OwnedReply {
        let request = self.request.as_request();
        // grows with what comes: anybody may write an index of many chunks that are not there
        let mut chunks: Vec<Option<OwnedValue>> = Vec::new();
        let mut answers = Answers::new(&self.call);
        let mut sent_count = self.big.batch.min(self.index.count);
        for chunk in 0..sent_count {
            answers.expect(|slot| self.get(chunk, slot));
        }
        let mut length = 0;
        while let Some((chunk, reply)) = answers.next().await {
            match reply.value {
                Some(value) if reply.status == Status::Hit => {
                    length += value.as_value().len();
                    if length > self.big.value_bytes_max {
                        return marked::miss(&request);
                    }
                    chunks.resize(chunks.len().max(chunk + 1), None);
                    chunks[chunk] = Some(value);
                }
                _ if reply.status.is_error() => return reply,
                _ => return marked::miss(&request),
            }
            if sent_count < self.index.count {
                answers.expect(|slot| self.get(sent_count, slot));
                sent_count += 1;
            }
        }
        let mut whole = Chunks::default();
        chunks.into_iter().flatten().for_each(|chunk| whole.append(chunk.into_chunks()));
        let flags = self.big.shown(marked::flags_of(&request, &item.line));
        let line = marked::line_for(&request, &item.line, flags, Some(whole.len()));
        OwnedReply {
            status: Status::Hit,
            line,
            value: Some(OwnedValue::Shared(whole)),
            miss_on_error: false,
            accepted: None,
        }
    }
}

impl Marked for BigValue {
    /// mcrouter's `MC_MSG_FLAG_BIG_VALUE`.
    const MARK: u32 = 0x8000;

    /// Whatever has the mark: what no index can be read from was one, and something was put before or behind it.
    fn is_ours(&self, _value: &Value<'_>) -> bool {
        true
    }

    fn shown(&self, flags: u32) -> u32 {
        if self.hides { flags & !Self::MARK } else { flags }
    }

    async fn resolve(self: Rc<Self>, request: OwnedRequest, call: Call, item: OwnedReply) -> OwnedReply {
        let count_max = self.chunks_count_max();
        let index = item.value.as_ref().and_then(|value| Index::parse(&value.as_value(), count_max));
        match index.filter(|index| index.fits(&request.as_request())) {
            Some(index) => {
                let value = OwnedValue::Bytes(Vec::new());
                Cut { big: self, request, value, call, index }.fetched(item).await
            }
            None => marked::miss(&request.as_request()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_and_nothing_else() {
        let parse = |text: &str| Index::parse(&Value::Slice(text.as_bytes()), CHUNKS_COUNT_MAX);
        assert_eq!(parse("1-3-77"), Some(Index { count: 3, suffix: 77 }));
        let largest = Index { count: CHUNKS_COUNT_MAX, suffix: u64::MAX };
        assert_eq!(parse(&largest.value()), Some(largest));
        for text in
            ["", "1-", "1-3", "1-3-", "1-3-7-", "2-3-7", "11-3-7", "1-0-7", "1-65537-7", "1-+3-7", "1-3-x"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(largest.key(b"k", 65_535), b"k:65535:18446744073709551615");
    }
}
