//! Requests and replies that outlive the bytes they were parsed from: what a route keeps while it waits.

use super::{Chunks, Meta, Op, Reply, Request, Status, Value};

/// A [`Request`] that owns its bytes.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    op: Op,
    quiet: bool,
    flags: u32,
    exptime: i32,
    number: u64,
    letters: u64,
    token_count: u8,
    /// Key, meta token, meta flags, opaque, one behind the other.
    text: Vec<u8>,
    /// Where key, token and flags end in `text`.
    ends: [usize; 3],
    has_opaque: bool,
    value: OwnedValue,
}

/// A [`Value`] that owns its bytes; large ones are shared, not copied.
#[derive(Clone, Debug)]
pub enum OwnedValue {
    Bytes(Vec<u8>),
    Shared(Chunks),
}

impl OwnedValue {
    /// Copies a small value, shares a large one.
    #[must_use]
    pub fn new(value: Value<'_>) -> Self {
        match value {
            Value::Slice(bytes) => Self::Bytes(bytes.to_vec()),
            Value::Shared(chunks) => Self::Shared(chunks.clone()),
        }
    }

    /// The bytes of this range; shared ones stay shared.
    #[must_use]
    pub fn piece(&self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes[range].to_vec()),
            Self::Shared(chunks) => Self::Shared(chunks.slice(range)),
        }
    }

    /// Memory held, for the byte budget.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.capacity(),
            Self::Shared(chunks) => chunks.held_bytes(),
        }
    }

    /// As parts that can be shared.
    #[must_use]
    pub fn into_chunks(self) -> Chunks {
        match self {
            Self::Bytes(bytes) => {
                let mut chunks = Chunks::default();
                chunks.push(bytes.into());
                chunks
            }
            Self::Shared(chunks) => chunks,
        }
    }

    #[must_use]
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Bytes(bytes) => Value::Slice(bytes),
            Self::Shared(chunks) => Value::Shared(chunks),
        }
    }
}

impl OwnedRequest {
    #[must_use]
    pub fn new(request: &Request<'_>) -> Self {
        let meta = &request.meta;
        let opaque = meta.opaque.unwrap_or_default();
        let parts = [request.key, meta.token, meta.flags, opaque];
        let mut text = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
        for part in parts {
            text.extend_from_slice(part);
        }
        let key_end = request.key.len();
        let token_end = key_end + meta.token.len();
        Self {
            op: request.op,
            quiet: request.quiet,
            flags: request.flags,
            exptime: request.exptime,
            number: request.number,
            letters: meta.letters,
            token_count: meta.token_count,
            text,
            ends: [key_end, token_end, token_end + meta.flags.len()],
            has_opaque: meta.opaque.is_some(),
            value: OwnedValue::new(request.value),
        }
    }

    /// The request, borrowed from here.
    #[must_use]
    pub fn as_request(&self) -> Request<'_> {
        let [key_end, token_end, flags_end] = self.ends;
        let (key, rest) = self.text.split_at(key_end);
        let (token, rest) = rest.split_at(token_end - key_end);
        let (flags, opaque) = rest.split_at(flags_end - token_end);
        Request {
            op: self.op,
            key,
            quiet: self.quiet,
            flags: self.flags,
            exptime: self.exptime,
            number: self.number,
            value: self.value.as_value(),
            meta: Meta {
                token,
                flags,
                letters: self.letters,
                opaque: self.has_opaque.then_some(opaque),
                token_count: self.token_count,
            },
        }
    }
}

/// A [`Reply`] that owns its bytes.
#[derive(Clone, Debug)]
pub struct OwnedReply {
    pub status: Status,
    pub line: Vec<u8>,
    pub value: Option<OwnedValue>,
    pub miss_on_error: bool,
    pub accepted: Option<Vec<u8>>,
}

impl OwnedReply {
    #[must_use]
    pub fn new(reply: &Reply<'_>) -> Self {
        Self {
            status: reply.status,
            line: reply.line.to_vec(),
            value: reply.value.map(OwnedValue::new),
            miss_on_error: reply.miss_on_error,
            accepted: reply.accepted.map(<[u8]>::to_vec),
        }
    }

    /// Memory held, for the byte budget.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.line.capacity() + self.value.as_ref().map_or(0, OwnedValue::held_bytes)
    }

    /// The reply, borrowed from here.
    #[must_use]
    pub fn as_reply(&self) -> Reply<'_> {
        Reply {
            status: self.status,
            line: &self.line,
            value: self.value.as_ref().map(OwnedValue::as_value),
            miss_on_error: self.miss_on_error,
            accepted: self.accepted.as_deref(),
        }
    }
}
