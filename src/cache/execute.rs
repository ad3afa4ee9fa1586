//! One request, one reply: from the operation to the file that knows it.

use super::entry::Data;
use super::line::Line;
use super::shard::Shard;
use super::{classic, meta_change, meta_get};
use crate::protocol::{Op, Request, Status};
use crate::time::Now;

/// What follows the line.
pub(super) enum Body {
    None,
    /// A stored value.
    Data(Data),
    /// The new value of `ma`.
    Number(u64),
}

/// Carries out a request in one atomic step. `data` is the value of an operation that has one, copied
/// already (outside the lock); `None` there says that it is too large for any cache.
pub(super) fn execute(
    shard: &mut Shard,
    request: &Request<'_>,
    data: Option<Data>,
    now: Now,
    line: &mut Line,
) -> (Status, Body) {
    if request.op.has_value() {
        shard.sweep(now);
        return storage(shard, request, data, now, line);
    }
    match request.op {
        Op::Get | Op::Gets | Op::Gat | Op::Gats => {
            classic::get(shard, request.op, request.key, request.exptime, now, line)
        }
        Op::Incr | Op::Decr => classic::incr(shard, request, now, line),
        Op::Delete => classic::delete(shard, request, now, line),
        Op::Touch => classic::touch(shard, request, now, line),
        Op::MetaGet => meta_get::get(shard, request, now, line),
        Op::MetaDebug => meta_get::debug(shard, request, now, line),
        Op::MetaDelete => meta_change::delete(shard, request, now, line),
        Op::MetaArithmetic => meta_change::arithmetic(shard, request, now, line),
        // Storage operations went the other way above.
        Op::Set | Op::Add | Op::Replace | Op::Append | Op::Prepend | Op::Cas | Op::MetaSet => {
            storage(shard, request, data, now, line)
        }
    }
}

/// `set`, `ms` and their kin. What they do with a value that is too large differs.
fn storage(
    shard: &mut Shard,
    request: &Request<'_>,
    data: Option<Data>,
    now: Now,
    line: &mut Line,
) -> (Status, Body) {
    if request.op == Op::MetaSet {
        meta_change::set(shard, request, data, now, line)
    } else {
        classic::set(shard, request, data, now, line)
    }
}
