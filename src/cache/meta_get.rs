//! `mg` and `me`: reading, with all that comes along (touching, vivifying, winning the right to recache).

use super::entry::{Data, Entry};
use super::execute::Body;
use super::expiry::{NEVER, remaining};
use super::line::Line;
use super::meta::{Arguments, put_echo, put_echoes};
use super::shard::Shard;
use super::slab;
use crate::protocol::{Request, Status};
use crate::time::Now;

/// `mg`
pub(super) fn get(shard: &mut Shard, request: &Request<'_>, now: Now, line: &mut Line) -> (Status, Body) {
    let arguments = Arguments::of(&request.meta, now);
    let mut look = |entry: &mut Entry, created: bool| answer(entry, created, request, &arguments, now, line);
    // `u`: the item shall not notice that it was read.
    let mut data = if request.meta.has(b'u') {
        shard.peek(request.key, now, |entry, _| look(entry, false))
    } else {
        shard.hit(request.key, now, |entry, _| look(entry, false))
    };
    if data.is_none() && arguments.vivify.is_some() && shard.fits(request.key.len(), 0, 0) {
        let cas = arguments.cas.unwrap_or_else(|| shard.next_cas());
        let mut entry = Entry::new(Data::empty(), cas, now);
        data = Some(look(&mut entry, true));
        shard.put(request.key, entry);
    }
    if arguments.deadline.is_some() {
        shard.note_deadline();
    }
    match data {
        Some(Some(data)) => (Status::Hit, Body::Data(data)),
        Some(None) => (Status::Hit, Body::None),
        None => {
            line.set(b"EN");
            put_echoes(line, request);
            (Status::Miss, Body::None)
        }
    }
}

/// Writes the line of a hit and does what the flags say, flag by flag in the order of the request, for so
/// memcached does it: `T30 t` shows the new time to live, `t T30` the old one.
fn answer(
    entry: &mut Entry,
    created: bool,
    request: &Request<'_>,
    arguments: &Arguments,
    now: Now,
    line: &mut Line,
) -> Option<Data> {
    // A value that the client has already (`C` names its cas unique) is not sent again.
    let sends_value = request.meta.has(b'v') && arguments.compare != Some(entry.cas);
    if sends_value {
        line.set(b"VA ");
        line.put_number(entry.data.len() as u64);
    } else {
        line.set(b"HD");
    }
    let mut wins = false;
    for (letter, token) in request.meta.iter() {
        match letter {
            b'T' => entry.deadline = arguments.deadline.unwrap_or(NEVER),
            b'N' if created => {
                entry.deadline = arguments.vivify.unwrap_or(NEVER);
                wins = true;
            }
            b'R' => {
                let soon = entry.deadline != NEVER && entry.deadline < arguments.recache;
                wins |= soon && !entry.marks.token_sent && !created;
            }
            b's' => line.put_flag(b's', entry.data.len() as u64),
            b't' => put_remaining(line, entry.deadline, now),
            b'c' => line.put_flag(b'c', entry.cas),
            b'f' => line.put_flag(b'f', u64::from(entry.flags)),
            b'l' => line.put_flag(b'l', u64::from(now.unix_seconds.saturating_sub(entry.used))),
            b'h' => line.put_flag(b'h', u64::from(entry.marks.fetched)),
            _ => put_echo(line, request, letter, token, entry.marks.base64),
        }
    }
    if entry.marks.token_sent {
        line.put(b" Z");
    }
    if entry.marks.stale {
        line.put(b" X");
        wins |= !entry.marks.token_sent;
    }
    if wins {
        line.put(b" W");
        entry.marks.token_sent = true;
    }
    if !request.meta.has(b'u') {
        entry.on_hit(now);
    }
    sends_value.then(|| entry.data.clone())
}

/// ` t30`, ` t-1` for what never ends.
pub(super) fn put_remaining(line: &mut Line, deadline: u32, now: Now) {
    if deadline == NEVER {
        line.put(b" t-1");
    } else {
        line.put_flag(b't', u64::from(remaining(deadline, now)));
    }
}

/// The key that `me` looks for: 1.6.45 decodes one in base64 only when a further token follows the `b`.
pub(super) const fn debug_key<'a>(request: &Request<'a>) -> &'a [u8] {
    let decodes = request.meta.token_count >= 4 || request.meta.token.is_empty();
    if decodes { request.key } else { request.meta.token }
}

/// `me`: what memcached would know of such an item. No use of it.
pub(super) fn debug(shard: &mut Shard, request: &Request<'_>, now: Now, line: &mut Line) -> (Status, Body) {
    let key = debug_key(request);
    let found = shard.peek(key, now, |entry, _| {
        line.set(b"ME ");
        line.put_key_text(key, entry.marks.base64);
        line.put(b" exp=");
        if entry.deadline == NEVER {
            line.put(b"-1");
        } else {
            line.put_number(u64::from(remaining(entry.deadline, now)));
        }
        line.put(b" la=");
        line.put_number(u64::from(now.unix_seconds.saturating_sub(entry.used)));
        line.put(b" cas=");
        line.put_number(entry.cas);
        line.put(if entry.marks.fetched { b" fetch=yes cls=" } else { b" fetch=no cls=" });
        let size = slab::item_bytes(key.len(), entry.flags, entry.data.len());
        line.put_number(u64::from(slab::class_of(size)));
        line.put(b" size=");
        line.put_number(size as u64);
    });
    if found.is_some() {
        (Status::Hit, Body::None)
    } else {
        line.set(b"EN");
        (Status::Miss, Body::None)
    }
}
