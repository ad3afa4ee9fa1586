//! A request, as parsed: everything in it has been checked, nothing in it is owned.
//!
//! A `Request` borrows the bytes that it was parsed from. Whoever wants to keep one copies what it needs.

use super::{Op, Value};

/// One operation on one key.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub op: Op,
    /// The item's key: 1 to 250 bytes without space or newline, already decoded when `meta.base64`
    /// (a decoded key may hold any byte).
    pub key: &'a [u8],
    /// `noreply`, or meta `q`. Never sent on: the client side decides what is left out.
    pub quiet: bool,
    /// Client flags of storage commands.
    pub flags: u32,
    /// Storage, `touch`, `gat`: as written (0 never, negative expired, up to 30 days relative, else unix time).
    pub exptime: i32,
    /// The cas unique of `cas`, the delta of `incr` and `decr`.
    pub number: u64,
    /// The data block without its line end; empty for operations without one.
    pub value: Value<'a>,
    /// Only for meta operations; empty otherwise.
    pub meta: Meta<'a>,
}

impl<'a> Request<'a> {
    /// A request with nothing but an operation and a key.
    #[must_use]
    pub const fn new(op: Op, key: &'a [u8]) -> Self {
        Self {
            op,
            key,
            quiet: false,
            flags: 0,
            exptime: 0,
            number: 0,
            value: Value::Slice(&[]),
            meta: Meta::EMPTY,
        }
    }
}

/// What a meta line has besides its operation and its data length.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// The key token as it was written (base64 when `b` is among the flags).
    pub token: &'a [u8],
    /// All flag tokens, validated, as written: one or more spaces between, `q` still among them.
    pub flags: &'a [u8],
    /// Which flag letters occur: see [`letter_bit`].
    pub letters: u64,
    /// The token of `O`, without the letter.
    pub opaque: Option<&'a [u8]>,
    /// Tokens on the line, command and key included (memcached allows 20).
    pub token_count: u8,
}

impl<'a> Meta<'a> {
    pub const EMPTY: Meta<'static> =
        Meta { token: &[], flags: &[], letters: 0, opaque: None, token_count: 0 };

    /// Whether the flag `letter` was given.
    #[must_use]
    pub const fn has(&self, letter: u8) -> bool {
        self.letters & letter_bit(letter) != 0
    }

    /// The flags one by one: letter and token (without the letter).
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        self.flags.split(|b| *b == b' ').filter_map(|t| t.split_first().map(|(l, rest)| (*l, rest)))
    }

    /// The token of the flag `letter`.
    #[must_use]
    pub fn token_of(&self, letter: u8) -> Option<&'a [u8]> {
        if !self.has(letter) {
            return None;
        }
        self.iter().find(|(l, _)| *l == letter).map(|(_, t)| t)
    }
}

/// One bit for each ASCII letter (0–25 `a`–`z`, 32–57 `A`–`Z`); digits and others have none.
#[must_use]
pub const fn letter_bit(letter: u8) -> u64 {
    match letter {
        b'a'..=b'z' => 1 << (letter - b'a'),
        b'A'..=b'Z' => 1 << (letter - b'A' + 32),
        _ => 0,
    }
}

/// Several keys of one line, by place: `text[start..end]`.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    pub text: &'a [u8],
    pub ranges: &'a [(u32, u32)],
}

impl<'a> Keys<'a> {
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ranges.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The `index`-th key.
    ///
    /// # Panics
    /// When there is no such key: ranges are made by the parser together with the text.
    #[must_use]
    pub fn key(&self, index: usize) -> &'a [u8] {
        let (start, end) = self.ranges[index];
        &self.text[start as usize..end as usize]
    }

    /// Where the `index`-th key begins; behind all of them the text ends.
    #[must_use]
    pub fn start_of(&self, index: usize) -> usize {
        self.ranges.get(index).map_or(self.text.len(), |(start, _)| *start as usize)
    }

    /// Those of them that come first, at most so many.
    #[must_use]
    pub fn first(&self, count_max: usize) -> Self {
        Self { text: self.text, ranges: &self.ranges[..self.ranges.len().min(count_max)] }
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let text = self.text;
        self.ranges.iter().map(move |(s, e)| &text[*s as usize..*e as usize])
    }
}

/// `get`, `gets`, `gat` or `gats` with two keys or more.
#[derive(Clone, Copy, Debug)]
pub struct MultiGet<'a> {
    pub op: Op,
    /// Only `gat` and `gats`.
    pub exptime: i32,
    pub keys: Keys<'a>,
}
