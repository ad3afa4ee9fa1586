//! `ms`, `md` and `ma`: the meta operations that change an item.

use super::arithmetic::{self, Change, Changed, Delta, number_data};
use super::classic::{NON_NUMERIC, OUT_OF_MEMORY, TOO_LARGE};
use super::entry::{Data, Entry};
use super::execute::Body;
use super::expiry::NEVER;
use super::line::Line;
use super::meta::{Arguments, put_echo, put_echoes};
use super::meta_get::put_remaining;
use super::shard::Shard;
use super::store::{Mode, Storing, store};
use crate::protocol::{Request, Status};
use crate::time::Now;

/// `ms`
pub(super) fn set(
    shard: &mut Shard,
    request: &Request<'_>,
    data: Option<Data>,
    now: Now,
    line: &mut Line,
) -> (Status, Body) {
    let arguments = Arguments::of(&request.meta, now);
    let Some(mut mode) = mode_of(&arguments) else {
        return error(line, b"CLIENT_ERROR invalid mode for ms M token");
    };
    let flags = arguments.client_flags;
    let Some(data) = data.filter(|data| shard.fits(request.key.len(), flags, data.len())) else {
        // Whatever its mode, an `ms` that fails takes the old value away.
        shard.remove(request.key, now);
        return error(line, TOO_LARGE);
    };
    if arguments.compare.is_some() && matches!(mode, Mode::Set | Mode::Replace) {
        mode = Mode::Cas;
    }
    let deadline = match mode {
        Mode::AppendVivify | Mode::PrependVivify => arguments.vivify,
        _ => arguments.deadline,
    };
    let storing = Storing {
        key: request.key,
        mode,
        data,
        flags,
        deadline: deadline.unwrap_or(NEVER),
        compare: arguments.compare.unwrap_or(0),
        allow_stale: request.meta.has(b'I'),
        cas: arguments.cas,
        base64: request.meta.has(b'b'),
    };
    let stored = store(shard, storing, now);
    line.set(match stored.status {
        Status::Stored => b"HD",
        Status::Exists => b"EX",
        Status::NotFound => b"NF",
        _ => b"NS",
    });
    for (letter, token) in request.meta.iter() {
        match letter {
            b'c' => line.put_flag(b'c', stored.cas),
            b's' => line.put_flag(b's', stored.value_len as u64),
            _ => put_echo(line, request, letter, token, request.meta.has(b'b')),
        }
    }
    (stored.status, Body::None)
}

const fn mode_of(arguments: &Arguments) -> Option<Mode> {
    let vivifies = arguments.vivify.is_some();
    Some(match arguments.mode {
        None | Some(b'S') => Mode::Set,
        Some(b'E') => Mode::Add,
        Some(b'R') => Mode::Replace,
        Some(b'A') if vivifies => Mode::AppendVivify,
        Some(b'A') => Mode::Append,
        Some(b'P') if vivifies => Mode::PrependVivify,
        Some(b'P') => Mode::Prepend,
        Some(_) => return None,
    })
}

/// `md`: takes the item away; or with `x` only its value and client flags; or with `I` only marks it stale.
pub(super) fn delete(shard: &mut Shard, request: &Request<'_>, now: Now, line: &mut Line) -> (Status, Body) {
    let arguments = Arguments::of(&request.meta, now);
    let empties = request.meta.has(b'x');
    let marks_stale = request.meta.has(b'I');
    let found = shard.peek(request.key, now, |entry, cas| {
        if arguments.compare.is_some_and(|compare| compare != entry.cas) {
            return Status::Exists;
        }
        if empties {
            let cas = arguments.cas.unwrap_or(entry.cas);
            *entry = Entry::new(Data::empty(), cas, now);
            entry.flags = arguments.client_flags;
            entry.deadline = arguments.deadline.unwrap_or(NEVER);
        }
        if marks_stale {
            if let Some(deadline) = arguments.deadline {
                entry.deadline = deadline;
            }
            entry.marks.stale = true;
            // So that the next reader can win.
            entry.marks.token_sent = false;
            entry.cas = arguments.cas.unwrap_or_else(|| cas.next());
        }
        Status::Deleted
    });
    if arguments.deadline.is_some() {
        shard.note_deadline();
    }
    let status = found.unwrap_or(Status::NotFound);
    if status == Status::Deleted && !empties && !marks_stale {
        shard.remove(request.key, now);
    }
    line.set(match status {
        Status::Deleted => b"HD",
        Status::Exists => b"EX",
        _ => b"NF",
    });
    put_echoes(line, request);
    (status, Body::None)
}

/// `ma`
pub(super) fn arithmetic(
    shard: &mut Shard,
    request: &Request<'_>,
    now: Now,
    line: &mut Line,
) -> (Status, Body) {
    let arguments = Arguments::of(&request.meta, now);
    let up = match arguments.mode {
        None | Some(b'I' | b'+') => true,
        Some(b'D' | b'-') => false,
        Some(_) => return error(line, b"CLIENT_ERROR invalid mode for ma M token"),
    };
    let change = Change { up, delta: arguments.delta.unwrap_or(1), compare: arguments.compare.unwrap_or(0) };
    match arithmetic::change(shard, request.key, change, now) {
        Delta::Done(changed) => changed_line(shard, request, &arguments, &changed, now, line),
        Delta::NotFound if arguments.vivify.is_some() => vivify(shard, request, &arguments, now, line),
        Delta::NotFound => without_item(Status::NotFound, b"NF", request, line),
        Delta::Mismatch => without_item(Status::Exists, b"EX", request, line),
        Delta::NonNumeric => error(line, NON_NUMERIC),
        Delta::TooLarge => error(line, OUT_OF_MEMORY),
    }
}

fn error(line: &mut Line, text: &[u8]) -> (Status, Body) {
    line.set(text);
    (Status::ErrorLine, Body::None)
}

fn without_item(status: Status, word: &[u8], request: &Request<'_>, line: &mut Line) -> (Status, Body) {
    line.set(word);
    put_echoes(line, request);
    (status, Body::None)
}

/// The answer to a change that was made, and what `T` and `E` do to the item.
///
/// memcached forgets both when the number outgrew its item (9 to 10): it tells the client, and sets them on
/// the item that was just replaced. A client cannot tell ringway from it, so ringway does the same.
fn changed_line(
    shard: &mut Shard,
    request: &Request<'_>,
    arguments: &Arguments,
    changed: &Changed,
    now: Now,
    line: &mut Line,
) -> (Status, Body) {
    let cas = arguments.cas.unwrap_or(changed.cas);
    let (body, deadline) =
        put_line(line, request, arguments, changed.number, (cas, changed.deadline, false), now);
    if !changed.replaced && (arguments.cas.is_some() || arguments.deadline.is_some()) {
        shard.peek(request.key, now, |entry, _| {
            entry.cas = cas;
            entry.deadline = deadline;
        });
        shard.note_deadline();
    }
    (Status::Number, body)
}

/// A miss with `N`: the initial value becomes an item of its own.
fn vivify(
    shard: &mut Shard,
    request: &Request<'_>,
    arguments: &Arguments,
    now: Now,
    line: &mut Line,
) -> (Status, Body) {
    let data = number_data(arguments.initial);
    if !shard.fits(request.key.len(), 0, data.len()) {
        return error(line, b"SERVER_ERROR Out of memory allocating new item");
    }
    let cas = arguments.cas.unwrap_or_else(|| shard.next_cas());
    let mut entry = Entry::new(data, cas, now);
    let (body, deadline) = put_line(line, request, arguments, arguments.initial, (cas, NEVER, true), now);
    entry.deadline = deadline;
    shard.put(request.key, entry);
    (Status::Number, body)
}

/// Writes the line flag by flag in the order of the request, and says which deadline that leaves.
fn put_line(
    line: &mut Line,
    request: &Request<'_>,
    arguments: &Arguments,
    number: u64,
    (cas, mut deadline, created): (u64, u32, bool),
    now: Now,
) -> (Body, u32) {
    let shows_value = request.meta.has(b'v');
    if shows_value {
        line.set(b"VA ");
        line.put_number(itoa::Buffer::new().format(number).len() as u64);
    } else {
        line.set(b"HD");
    }
    for (letter, token) in request.meta.iter() {
        match letter {
            b'c' => line.put_flag(b'c', cas),
            b't' => put_remaining(line, deadline, now),
            b'T' => deadline = arguments.deadline.unwrap_or(NEVER),
            b'N' if created => deadline = arguments.vivify.unwrap_or(NEVER),
            _ => put_echo(line, request, letter, token, request.meta.has(b'b')),
        }
    }
    (if shows_value { Body::Number(number) } else { Body::None }, deadline)
}
