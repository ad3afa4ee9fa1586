//! The classic operations: one word or one `VALUE` each.

use super::arithmetic::{self, Change, Delta};
use super::entry::Data;
use super::execute::Body;
use super::expiry::deadline;
use super::line::Line;
use super::shard::Shard;
use super::store::{Mode, Storing, store};
use crate::protocol::{Op, Request, Status};
use crate::time::Now;

pub(super) const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache";
pub(super) const NON_NUMERIC: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value";
pub(super) const OUT_OF_MEMORY: &[u8] = b"SERVER_ERROR out of memory";

/// `get gets gat gats` of one key; `exptime` only counts for the latter two. A miss has no line.
pub(super) fn get(
    shard: &mut Shard,
    op: Op,
    key: &[u8],
    exptime: i32,
    now: Now,
    line: &mut Line,
) -> (Status, Body) {
    let touches = matches!(op, Op::Gat | Op::Gats);
    let shows_cas = matches!(op, Op::Gets | Op::Gats);
    let data = shard.hit(key, now, |entry, _| {
        if touches {
            entry.deadline = deadline(exptime, now);
        }
        entry.on_hit(now);
        line.set(b"VALUE ");
        line.put(key);
        line.put(b" ");
        line.put_number(u64::from(entry.flags));
        line.put(b" ");
        line.put_number(entry.data.len() as u64);
        if shows_cas {
            line.put(b" ");
            line.put_number(entry.cas);
        }
        entry.data.clone()
    });
    if touches {
        shard.note_deadline();
    }
    data.map_or((Status::Miss, Body::None), |data| (Status::Hit, Body::Data(data)))
}

/// `set add replace append prepend cas`.
pub(super) fn set(
    shard: &mut Shard,
    request: &Request<'_>,
    data: Option<Data>,
    now: Now,
    line: &mut Line,
) -> (Status, Body) {
    let Some(data) = data.filter(|data| shard.fits(request.key.len(), request.flags, data.len())) else {
        // Only `set` takes the old value away, so that nobody reads what was to be replaced.
        if request.op == Op::Set {
            shard.remove(request.key, now);
        }
        line.set(TOO_LARGE);
        return (Status::ErrorLine, Body::None);
    };
    let mode = match request.op {
        Op::Add => Mode::Add,
        Op::Replace => Mode::Replace,
        Op::Append => Mode::Append,
        Op::Prepend => Mode::Prepend,
        Op::Cas => Mode::Cas,
        _ => Mode::Set,
    };
    let storing = Storing {
        key: request.key,
        mode,
        data,
        flags: request.flags,
        deadline: deadline(request.exptime, now),
        compare: if mode == Mode::Cas { request.number } else { 0 },
        allow_stale: false,
        cas: None,
        base64: false,
    };
    let status = store(shard, storing, now).status;
    line.set(match status {
        Status::Stored => b"STORED",
        Status::Exists => b"EXISTS",
        Status::NotFound => b"NOT_FOUND",
        _ => b"NOT_STORED",
    });
    (status, Body::None)
}

/// `incr decr`.
pub(super) fn incr(shard: &mut Shard, request: &Request<'_>, now: Now, line: &mut Line) -> (Status, Body) {
    let change = Change { up: request.op == Op::Incr, delta: request.number, compare: 0 };
    let status = match arithmetic::change(shard, request.key, change, now) {
        Delta::Done(changed) => {
            line.put_number(changed.number);
            Status::Number
        }
        // Nothing was compared: a mismatch does not come.
        Delta::NotFound | Delta::Mismatch => {
            line.set(b"NOT_FOUND");
            Status::NotFound
        }
        Delta::NonNumeric => {
            line.set(NON_NUMERIC);
            Status::ErrorLine
        }
        Delta::TooLarge => {
            line.set(OUT_OF_MEMORY);
            Status::ErrorLine
        }
    };
    (status, Body::None)
}

pub(super) fn delete(shard: &mut Shard, request: &Request<'_>, now: Now, line: &mut Line) -> (Status, Body) {
    if shard.remove(request.key, now) {
        line.set(b"DELETED");
        (Status::Deleted, Body::None)
    } else {
        line.set(b"NOT_FOUND");
        (Status::NotFound, Body::None)
    }
}

/// A touch is a use, as for memcached: `h` of `mg` shows it.
pub(super) fn touch(shard: &mut Shard, request: &Request<'_>, now: Now, line: &mut Line) -> (Status, Body) {
    let found = shard.hit(request.key, now, |entry, _| {
        entry.deadline = deadline(request.exptime, now);
        entry.on_hit(now);
    });
    shard.note_deadline();
    if found.is_some() {
        line.set(b"TOUCHED");
        (Status::Touched, Body::None)
    } else {
        line.set(b"NOT_FOUND");
        (Status::NotFound, Body::None)
    }
}
