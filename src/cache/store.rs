//! Storing: what `set`, `add`, `append`, `cas`, … and the modes of `ms` come to, decided in one place.

use super::entry::{Data, Entry, Marks};
use super::shard::Shard;
use crate::protocol::Status;
use crate::time::Now;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    /// `ms … MA N<ttl>`: as append, and a miss stores.
    AppendVivify,
    PrependVivify,
    Cas,
}

impl Mode {
    const fn joins(self) -> bool {
        matches!(self, Self::Append | Self::Prepend | Self::AppendVivify | Self::PrependVivify)
    }
}

/// A value on its way into the cache.
pub(super) struct Storing<'a> {
    pub key: &'a [u8],
    pub mode: Mode,
    pub data: Data,
    pub flags: u32,
    pub deadline: u32,
    /// The cas unique that must be there; 0 asks for none.
    pub compare: u64,
    /// `ms … I`: an older `compare` stores too, but what is stored stays marked as stale.
    pub allow_stale: bool,
    /// The cas unique that the client wants it to have.
    pub cas: Option<u64>,
    pub base64: bool,
}

/// What became of it.
pub(super) struct Stored {
    pub status: Status,
    /// The new cas unique, 0 when nothing was stored.
    pub cas: u64,
    /// The length of the value that is there now, or of the one that was refused.
    pub value_len: usize,
}

/// What matters of the entry that is there.
struct Old {
    cas: u64,
    flags: u32,
    deadline: u32,
    marks: Marks,
    /// Only for those that join.
    data: Option<Data>,
}

enum Verdict {
    Store,
    /// Stores over a newer one: lives as long as that, and is as stale.
    StoreStale,
    Join,
    Refuse(Status),
}

/// One atomic step on one entry; size limits of the value itself have been checked.
pub(super) fn store(shard: &mut Shard, storing: Storing<'_>, now: Now) -> Stored {
    let refused_len = storing.data.len();
    let cas_new = storing.cas.unwrap_or_else(|| shard.next_cas());
    let old = shard.peek(storing.key, now, |entry, _| {
        if storing.mode == Mode::Add {
            // An add that fails still counts as a use.
            entry.used = now.unix_seconds;
        }
        let data = storing.mode.joins().then(|| entry.data.clone());
        Old { cas: entry.cas, flags: entry.flags, deadline: entry.deadline, marks: entry.marks, data }
    });
    let verdict = match &old {
        Some(old) => judge_hit(&storing, old.cas),
        None => judge_miss(storing.mode),
    };
    let refused = |status| Stored { status, cas: 0, value_len: refused_len };
    let mut entry = Entry::new(storing.data, cas_new, now);
    entry.flags = storing.flags;
    entry.deadline = storing.deadline;
    entry.marks.base64 = storing.base64;
    match (verdict, old) {
        (Verdict::Refuse(status), _) => return refused(status),
        (Verdict::Join, Some(old)) => {
            let Some(data) = join(shard, &storing.mode, storing.key.len(), &entry.data, &old) else {
                return refused(Status::NotStored);
            };
            // The old item's flags and deadline stay, its marks do not.
            entry = Entry::new(data, cas_new, now);
            entry.flags = old.flags;
            entry.deadline = old.deadline;
        }
        (Verdict::StoreStale, Some(old)) => {
            entry.deadline = old.deadline;
            entry.marks.stale = true;
            entry.marks.token_sent = old.marks.token_sent;
        }
        _ => {}
    }
    let value_len = entry.data.len();
    shard.put(storing.key, entry);
    Stored { status: Status::Stored, cas: cas_new, value_len }
}

const fn judge_hit(storing: &Storing<'_>, old_cas: u64) -> Verdict {
    let matches = storing.compare == old_cas;
    match storing.mode {
        Mode::Add => Verdict::Refuse(Status::NotStored),
        Mode::Set | Mode::Replace => Verdict::Store,
        // A compare of 0 matches nothing.
        Mode::Cas if storing.compare != 0 && matches => Verdict::Store,
        Mode::Cas if storing.compare != 0 && storing.allow_stale && storing.compare < old_cas => {
            Verdict::StoreStale
        }
        Mode::Cas => Verdict::Refuse(Status::Exists),
        _ if storing.compare == 0 || matches => Verdict::Join,
        _ => Verdict::Refuse(Status::Exists),
    }
}

const fn judge_miss(mode: Mode) -> Verdict {
    match mode {
        Mode::Set | Mode::Add | Mode::AppendVivify | Mode::PrependVivify => Verdict::Store,
        Mode::Replace | Mode::Append | Mode::Prepend => Verdict::Refuse(Status::NotStored),
        Mode::Cas => Verdict::Refuse(Status::NotFound),
    }
}

/// Old and new value in one, when that is not too large.
fn join(shard: &Shard, mode: &Mode, key_len: usize, added: &Data, old: &Old) -> Option<Data> {
    let data = old.data.as_ref()?;
    if !shard.fits(key_len, old.flags, data.len() + added.len()) {
        return None;
    }
    Some(match mode {
        Mode::Prepend | Mode::PrependVivify => Data::of_parts(&[added.as_slice(), data.as_slice()]),
        _ => Data::of_parts(&[data.as_slice(), added.as_slice()]),
    })
}
