//! `incr`, `decr` and `ma`: numbers that are kept as text.

use super::entry::Entry;
use super::shard::Shard;
use super::slab;
use crate::time::Now;

/// What became of an increment or decrement.
pub(super) enum Delta {
    Done(Changed),
    NotFound,
    /// The cas unique is another one.
    Mismatch,
    NonNumeric,
    /// The longer number does not fit into the shard.
    TooLarge,
}

pub(super) struct Changed {
    pub number: u64,
    pub cas: u64,
    pub deadline: u32,
    /// The number got longer than the value was: it is in a new entry.
    pub replaced: bool,
}

/// How to change a number.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub up: bool,
    pub delta: u64,
    /// The cas unique that must be there; 0 asks for none.
    pub compare: u64,
}

/// One atomic step on one entry: up wraps at 2^64, down stops at 0. A number that got shorter is padded
/// with spaces, the value keeps its length; one that got longer begins a new item without its marks.
pub(super) fn change(shard: &mut Shard, key: &[u8], change: Change, now: Now) -> Delta {
    enum Step {
        Done(Delta),
        Grow { number: u64, flags: u32, deadline: u32 },
    }
    let step = shard.hit(key, now, |entry, cas| {
        let size = slab::item_bytes(key.len(), entry.flags, entry.data.len());
        if entry.data.len() == 0 || size > slab::CHUNK_BYTES_MAX {
            return Step::Done(Delta::NonNumeric);
        }
        if change.compare != 0 && change.compare != entry.cas {
            return Step::Done(Delta::Mismatch);
        }
        let Some(old) = parse_number(entry.data.as_slice()) else {
            return Step::Done(Delta::NonNumeric);
        };
        let number =
            if change.up { old.wrapping_add(change.delta) } else { old.saturating_sub(change.delta) };
        let mut text = itoa::Buffer::new();
        let text = text.format(number).as_bytes();
        let deadline = entry.deadline;
        if text.len() > entry.data.len() {
            return Step::Grow { number, flags: entry.flags, deadline };
        }
        entry.data.overwrite(text);
        entry.cas = cas.next();
        entry.used = now.unix_seconds;
        Step::Done(Delta::Done(Changed { number, cas: entry.cas, deadline, replaced: false }))
    });
    let (number, flags, deadline) = match step {
        None => return Delta::NotFound,
        Some(Step::Done(delta)) => return delta,
        Some(Step::Grow { number, flags, deadline }) => (number, flags, deadline),
    };
    let data = number_data(number);
    if !shard.fits(key.len(), flags, data.len()) {
        return Delta::TooLarge;
    }
    let cas = shard.next_cas();
    let mut entry = Entry::new(data, cas, now);
    entry.flags = flags;
    entry.deadline = deadline;
    shard.put(key, entry);
    Delta::Done(Changed { number, cas, deadline, replaced: true })
}

/// A number as a value.
pub(super) fn number_data(number: u64) -> super::entry::Data {
    super::entry::Data::of_parts(&[itoa::Buffer::new().format(number).as_bytes()])
}

/// A number as memcached reads it (C's `strtoull`): white space before it, a sign, digits; after it the end,
/// white space or a NUL. What follows is ignored. Below zero is no number, except where it wraps to the
/// lower half of the range.
fn parse_number(text: &[u8]) -> Option<u64> {
    let is_space = |byte: u8| byte == b' ' || (b'\t'..=b'\r').contains(&byte);
    let start = text.iter().position(|b| !is_space(*b))?;
    let (negative, digits) = match &text[start..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let ends_well = digits.get(count).is_none_or(|b| is_space(*b) || *b == 0);
    if count == 0 || !ends_well {
        return None;
    }
    let number = digits[..count]
        .iter()
        .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    if !negative {
        return Some(number);
    }
    let number = number.wrapping_neg();
    (number.cast_signed() >= 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse_number;

    /// Asked of memcached 1.6.45 with `set` and `incr`.
    #[test]
    fn numbers_are_read_as_strtoull_reads_them() {
        for (text, number) in [
            ("5", Some(5)),
            ("9  ", Some(9)),
            ("  9", Some(9)),
            ("007 ", Some(7)),
            ("+5", Some(5)),
            ("5 x", Some(5)),
            ("5\t", Some(5)),
            ("5\0x", Some(5)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("000000000000000000000000005", Some(5)),
            ("-5", None),
            ("-18446744073709551615", Some(1)),
            ("", None),
            (" ", None),
            ("5x", None),
            ("x", None),
            ("- 5", None),
            ("+", None),
        ] {
            assert_eq!(parse_number(text.as_bytes()), number, "{text:?}");
        }
    }
}
