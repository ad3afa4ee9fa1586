//! What the cache keeps for a key.

use crate::protocol::{Chunks, SHARED_BYTES_MIN, Value};
use crate::time::Now;
use bytes::Bytes;
use std::sync::Arc;

/// One item.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub data: Data,
    pub cas: u64,
    /// Client flags.
    pub flags: u32,
    /// See [`super::expiry::deadline`].
    pub deadline: u32,
    /// The second of the last use, in memcached's loose sense: see [`Entry::on_hit`].
    pub used: u32,
    pub marks: Marks,
}

/// What happened to an item, or shall be said of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Was read at least once.
    pub fetched: bool,
    /// `md … I`: readers are told (`X`), and one of them wins.
    pub stale: bool,
    /// Somebody has already won and is on the way to bring a fresh value (`Z`).
    pub token_sent: bool,
    /// Its key came in base64 and is shown so.
    pub base64: bool,
}

impl Entry {
    pub(super) fn new(data: Data, cas: u64, now: Now) -> Self {
        Self { data, cas, flags: 0, deadline: 0, used: now.unix_seconds, marks: Marks::default() }
    }

    /// The first read only marks; memcached moves the time of last use from the second on.
    pub(super) const fn on_hit(&mut self, now: Now) {
        if self.marks.fetched {
            self.used = now.unix_seconds;
        } else {
            self.marks.fetched = true;
        }
    }
}

/// A stored value in a block of its own: never a slice of a buffer that would be kept alive with it.
/// Cloning shares it, so that an answer can leave after the shard is unlocked.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// Shorter than [`SHARED_BYTES_MIN`].
    Small(Arc<[u8]>),
    /// Exactly one piece, ready to be sent without a copy.
    Large(Arc<Chunks>),
}

impl Data {
    pub(super) fn empty() -> Self {
        Self::Small(Arc::from([]))
    }

    pub(super) fn of_value(value: Value<'_>) -> Self {
        match value {
            Value::Slice(slice) => Self::of_parts(&[slice]),
            Value::Shared(chunks) => {
                Self::of_vec(chunks.parts().iter().fold(Vec::with_capacity(chunks.len()), |mut all, part| {
                    all.extend_from_slice(part);
                    all
                }))
            }
        }
    }

    /// The parts, one behind the other.
    pub(super) fn of_parts(parts: &[&[u8]]) -> Self {
        match parts {
            [one] if one.len() < SHARED_BYTES_MIN => Self::Small(Arc::from(*one)),
            _ => Self::of_vec(parts.concat()),
        }
    }

    fn of_vec(bytes: Vec<u8>) -> Self {
        if bytes.len() < SHARED_BYTES_MIN {
            return Self::Small(Arc::from(bytes));
        }
        let mut chunks = Chunks::default();
        chunks.push(Bytes::from(bytes));
        Self::Large(Arc::new(chunks))
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(chunks) => chunks.parts().first().map_or(&[], |part| part),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Large(chunks) => chunks.len(),
        }
    }

    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Self::Small(bytes) => Value::Slice(bytes),
            Self::Large(chunks) => Value::Shared(chunks),
        }
    }

    /// Writes `text` and pads with spaces: the length stays. In place unless an answer still holds the bytes.
    ///
    /// `text` is not longer than the value; what would not fit is cut off.
    pub(super) fn overwrite(&mut self, text: &[u8]) {
        if let Self::Small(bytes) = self
            && let Some(bytes) = Arc::get_mut(bytes)
        {
            return pad(bytes, text);
        }
        let mut bytes = self.as_slice().to_vec();
        pad(&mut bytes, text);
        *self = Self::of_vec(bytes);
    }
}

fn pad(bytes: &mut [u8], text: &[u8]) {
    bytes.fill(b' ');
    for (to, from) in bytes.iter_mut().zip(text) {
        *to = *from;
    }
}
