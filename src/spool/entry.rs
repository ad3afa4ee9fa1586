//! One entry of a segment, as bytes: `docs/spool-format.md` has the same in words.
//!
//! ```text
//! mark A5 52 57 53 │ length u16 │ crc u32 │ body (length bytes)
//! body: 1 │ number u64 │ time_ms u64 │ pool u16+bytes │ address u16+bytes │ key u16+bytes       a delete
//!       2 │ why u8 │ numbers u64 …                                                          those that are done with
//! ```
//! All numbers are little-endian. The checksum begins with the segment's salt, which is in its file's name and which no
//! client knows: no key can be made to look like an entry. Each entry stands for itself, so one that is broken costs itself
//! alone: reading goes on at the next mark that has a right checksum behind it.

use memchr::memmem;

const MARK: [u8; 4] = [0xa5, b'R', b'W', b'S'];
pub(super) const HEAD_BYTES: usize = 10;
/// The longest body.
pub(super) const BODY_BYTES_MAX: usize = u16::MAX as usize;
/// Numbers that one entry tells to be done with.
pub(super) const NUMBERS_COUNT_MAX: usize = (BODY_BYTES_MAX - 2) / 8;

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Delete(Delete),
    /// These need no delivery any more.
    Done {
        why: Why,
        numbers: Vec<u64>,
    },
}

/// A delete that a server is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Of the entry: it grows, and no two of a directory have the same.
    pub number: u64,
    /// When it was written, in milliseconds since 1970. For people: nothing is decided by it.
    pub time_ms: u64,
    pub pool: String,
    /// The server, as in the configuration.
    pub address: String,
    /// Any bytes.
    pub key: Vec<u8>,
}

/// Why an entry is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The server has answered.
    Delivered = 1,
    /// Something newer was stored.
    Cancelled = 2,
    /// Given up: no room, too old, or its server is gone.
    Dropped = 3,
    /// It goes to another server, as an entry of its own.
    Moved = 4,
}

impl Why {
    const ALL: [Self; 4] = [Self::Delivered, Self::Cancelled, Self::Dropped, Self::Moved];
}

/// Bytes of a delete's entry beside its texts.
pub(super) const DELETE_BYTES: usize = HEAD_BYTES + 23;

/// Appends the entry of a delete. `false`: it has no place in any segment.
pub(super) fn write_delete(delete: &Delete, salt: u32, out: &mut Vec<u8>) -> bool {
    framed(salt, out, |out| write_delete_body(delete, out))
}

/// Appends an entry that says what is done with. `false`: it has no place in any segment.
pub(super) fn write_done(why: Why, numbers: &[u64], salt: u32, out: &mut Vec<u8>) -> bool {
    framed(salt, out, |out| {
        out.extend_from_slice(&[2, why as u8]);
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        true
    })
}

/// Appends what `write_body` does, with its head; nothing when that says `false`.
fn framed(salt: u32, out: &mut Vec<u8>, write_body: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; HEAD_BYTES - MARK.len()]);
    let is_sound = write_body(out);
    let body_start = start + HEAD_BYTES;
    let Some(length) = u16::try_from(out.len() - body_start).ok().filter(|_| is_sound) else {
        out.truncate(start);
        return false;
    };
    let length = length.to_le_bytes();
    let crc = checksum(salt, length, out.get(body_start..).unwrap_or_default()).to_le_bytes();
    if let Some(head) = out.get_mut(start + MARK.len()..body_start) {
        head.copy_from_slice(&[length[0], length[1], crc[0], crc[1], crc[2], crc[3]]);
    }
    true
}

fn write_delete_body(delete: &Delete, out: &mut Vec<u8>) -> bool {
    let lengths = (
        u16::try_from(delete.pool.len()),
        u16::try_from(delete.address.len()),
        u16::try_from(delete.key.len()),
    );
    let (Ok(pool), Ok(address), Ok(key)) = lengths else { return false };
    out.push(1);
    out.extend_from_slice(&delete.number.to_le_bytes());
    out.extend_from_slice(&delete.time_ms.to_le_bytes());
    out.extend_from_slice(&pool.to_le_bytes());
    out.extend_from_slice(delete.pool.as_bytes());
    out.extend_from_slice(&address.to_le_bytes());
    out.extend_from_slice(delete.address.as_bytes());
    out.extend_from_slice(&key.to_le_bytes());
    out.extend_from_slice(&delete.key);
    true
}

fn checksum(salt: u32, length: [u8; 2], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

/// What stands next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry, and where it ends.
    Entry(Entry, usize),
    /// Bytes up to here are no entry.
    Broken(usize),
    /// Nothing whole: what is left may go on in bytes that are not here yet.
    Rest,
}

/// What stands at `at`.
pub(super) fn next(bytes: &[u8], salt: u32, at: usize) -> Found {
    match read_entry(bytes, salt, at) {
        Some((entry, end)) => Found::Entry(entry, end),
        None => {
            let mut from = at + 1;
            // the next mark with an entry behind it
            while let Some(found) = bytes.get(from..).and_then(|rest| memmem::find(rest, &MARK)) {
                if read_entry(bytes, salt, from + found).is_some() {
                    return Found::Broken(from + found);
                }
                from += found + 1;
            }
            Found::Rest
        }
    }
}

fn read_entry(bytes: &[u8], salt: u32, at: usize) -> Option<(Entry, usize)> {
    let head = bytes.get(at..at + HEAD_BYTES)?;
    if !head.starts_with(&MARK) {
        return None;
    }
    let length = [head[4], head[5]];
    let start = at + HEAD_BYTES;
    let end = start + usize::from(u16::from_le_bytes(length));
    let body = bytes.get(start..end)?;
    if checksum(salt, length, body).to_le_bytes() != head[6..10] {
        return None;
    }
    Some((read_body(body)?, end))
}

fn read_body(body: &[u8]) -> Option<Entry> {
    let (kind, rest) = body.split_first()?;
    let mut rest = Bytes(rest);
    match kind {
        1 => {
            let (number, time_ms) = (rest.number()?, rest.number()?);
            let pool = rest.length()?;
            let pool = rest.text(pool)?;
            let address = rest.length()?;
            let address = rest.text(address)?;
            let key = rest.length()?;
            let key = rest.take(key)?.to_vec();
            rest.0.is_empty().then_some(Entry::Delete(Delete { number, time_ms, pool, address, key }))
        }
        2 => {
            let why = *rest.take(1)?.first()?;
            let why = Why::ALL.into_iter().find(|known| *known as u8 == why)?;
            let (numbers, []) = rest.0.as_chunks::<8>() else { return None };
            Some(Entry::Done {
                why,
                numbers: numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect(),
            })
        }
        _ => None,
    }
}

/// What is left to read of a body.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn length(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_le_bytes(self.take(2)?.try_into().ok()?)))
    }

    fn text(&mut self, count: usize) -> Option<String> {
        String::from_utf8(self.take(count)?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_entry(entry: &Entry, salt: u32, out: &mut Vec<u8>) -> bool {
        match entry {
            Entry::Delete(delete) => write_delete(delete, salt, out),
            Entry::Done { why, numbers } => write_done(*why, numbers, salt, out),
        }
    }

    const SALT: u32 = 0x1234_5678;

    fn delete(number: u64, key: &[u8]) -> Entry {
        let (pool, address) = ("main".to_owned(), "10.0.0.1:11211".to_owned());
        Entry::Delete(Delete { number, time_ms: 1_700_000_000_000, pool, address, key: key.to_vec() })
    }

    fn segment() -> (Vec<u8>, Vec<Entry>) {
        let any: Vec<u8> = (0..=255).collect();
        let entries = vec![
            delete(1, b"a"),
            delete(2, &any),
            Entry::Done { why: Why::Delivered, numbers: vec![1, u64::MAX] },
            // a key that looks like an entry to who does not know the salt
            delete(3, &[&MARK[..], &[2, 0, 0, 0, 0, 0, 2, 1]].concat()),
            delete(4, b""),
        ];
        let mut bytes = Vec::new();
        assert!(entries.iter().all(|entry| write_entry(entry, SALT, &mut bytes)));
        (bytes, entries)
    }

    /// All entries, and how many bytes were none.
    fn all(bytes: &[u8]) -> (Vec<Entry>, usize) {
        let (mut at, mut entries, mut broken) = (0, Vec::new(), 0);
        loop {
            match next(bytes, SALT, at) {
                Found::Entry(entry, end) => {
                    entries.push(entry);
                    at = end;
                }
                Found::Broken(end) => {
                    broken += end - at;
                    at = end;
                }
                Found::Rest => return (entries, broken + bytes.len() - at),
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, entries) = segment();
        assert_eq!(all(&bytes), (entries, 0));
    }

    #[test]
    fn cut_anywhere_it_keeps_what_is_whole() {
        let (bytes, entries) = segment();
        for cut in 0..bytes.len() {
            let (read, broken) = all(&bytes[..cut]);
            assert_eq!(read[..], entries[..read.len()], "cut at {cut}");
            let whole: usize = {
                let mut out = Vec::new();
                read.iter().for_each(|entry| assert!(write_entry(entry, SALT, &mut out)));
                out.len()
            };
            assert_eq!((whole + broken, broken < 400), (cut, true), "cut at {cut}");
        }
    }

    #[test]
    fn with_any_bit_flipped_it_loses_one_entry_and_invents_none() {
        let (bytes, entries) = segment();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (read, broken) = all(&bytes);
            assert_eq!(read.len(), entries.len() - 1, "bit {bit}");
            assert!(read.iter().all(|entry| entries.contains(entry)) && broken > 0, "bit {bit}");
        }
    }

    #[test]
    fn under_another_salt_nothing_is_an_entry() {
        let (bytes, _) = segment();
        assert_eq!(next(&bytes, SALT + 1, 0), Found::Rest);
    }

    #[test]
    fn what_has_no_place_is_not_written() {
        let mut out = vec![7];
        assert!(!write_entry(&delete(1, &vec![0; 70_000]), SALT, &mut out));
        assert_eq!(out, [7]);
    }
}
