//! Tokens and numbers on a line, read the way memcached reads them. Both dialects use these.
//!
//! memcached has two readers of numbers and both are here: the strict one of its tokenizer (`mcmc.c`), and
//! C's `strtol` family, which it still uses for the flags and the exptime of storage commands.

use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::{char, u64 as digits};
use nom::combinator::{all_consuming, opt};
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// Nom's result with an error of no size: nobody reads it.
pub(in crate::protocol) type Parsed<'a, T> = IResult<&'a [u8], T, ()>;

/// `PARSER_MAX_TOKENS` less the end mark: memcached sees no token after these, command included.
pub(in crate::protocol) const TOKENS_SEEN_MAX: usize = 23;

/// Longest numbers that memcached's tokenizer reads, in characters (`MCMC_TOKTO32_MAX`, `MCMC_TOKTO64_MAX`).
const NUMBER32_CHARS_MAX: usize = 11;
const NUMBER64_CHARS_MAX: usize = 22;

/// What is between spaces. Only the space separates; a tab is part of a token.
pub(in crate::protocol) fn token(input: &[u8]) -> Parsed<'_, &[u8]> {
    preceded(take_while(|b| b == b' '), take_while1(|b| b != b' ')).parse_complete(input)
}

/// The tokens of a line, one by one.
#[derive(Clone)]
pub(in crate::protocol) struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    pub(in crate::protocol) const fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// What has not been taken yet.
    pub(in crate::protocol) const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (rest, token) = token(self.rest).ok()?;
        self.rest = rest;
        Some(token)
    }
}

/// Digits only, at most 22 of them.
pub(in crate::protocol) fn strict_u64(token: &[u8]) -> Option<u64> {
    if token.len() > NUMBER64_CHARS_MAX {
        return None;
    }
    whole_number(token)
}

/// Digits only, at most 11 of them.
pub(in crate::protocol) fn strict_u32(token: &[u8]) -> Option<u32> {
    if token.len() > NUMBER32_CHARS_MAX {
        return None;
    }
    whole_number(token).and_then(|n| u32::try_from(n).ok())
}

/// An optional `-` and digits, at most 11 characters. A lone `-` is 0, as memcached has it.
pub(in crate::protocol) fn strict_i32(token: &[u8]) -> Option<i32> {
    if token.len() > NUMBER32_CHARS_MAX {
        return None;
    }
    match token.strip_prefix(b"-") {
        None => whole_number(token).and_then(|n| i32::try_from(n).ok()),
        Some([]) => Some(0),
        Some(rest) => {
            let magnitude = i64::try_from(whole_number(rest)?).ok()?;
            i32::try_from(magnitude.checked_neg()?).ok()
        }
    }
}

/// The length of a data block: what `strict_i32` reads, not negative, with room for the line end.
pub(in crate::protocol) fn data_len(token: &[u8]) -> Option<u32> {
    let length = u32::try_from(strict_i32(token)?).ok()?;
    (length <= crate::protocol::limits::DATA_BYTES_MAX).then_some(length)
}

/// `safe_strtoflags`: `strtoull` and no check but that the result is not negative as a signed number; then
/// cut to 32 bits.
pub(in crate::protocol) fn loose_flags(token: &[u8]) -> Option<u32> {
    let (is_negative, magnitude) = signed(token)?;
    let number = if is_negative { magnitude.wrapping_neg() } else { magnitude };
    if is_negative && i64::try_from(number).is_err() {
        return None;
    }
    u32::try_from(number & u64::from(u32::MAX)).ok()
}

/// `safe_strtol`: a 64-bit number, cut to 32 bits.
pub(in crate::protocol) fn loose_exptime(token: &[u8]) -> Option<i32> {
    let (is_negative, magnitude) = signed(token)?;
    let number =
        if is_negative { 0i64.checked_sub_unsigned(magnitude)? } else { i64::try_from(magnitude).ok()? };
    let [a, b, c, d, ..] = number.to_le_bytes();
    Some(i32::from_le_bytes([a, b, c, d]))
}

/// A number in its one canonical form: digits without a leading zero. For what servers write.
pub(in crate::protocol) fn canonical_u64(input: &[u8]) -> Parsed<'_, u64> {
    let (rest, number) = digits.parse_complete(input)?;
    let length = input.len().saturating_sub(rest.len());
    if length > 1 && input.first() == Some(&b'0') {
        return Err(nom::Err::Error(()));
    }
    Ok((rest, number))
}

fn whole_number(token: &[u8]) -> Option<u64> {
    all_consuming(digits::<_, ()>).parse_complete(token).ok().map(|(_, number)| number)
}

/// Sign (true: `-`) and magnitude.
fn signed(token: &[u8]) -> Option<(bool, u64)> {
    let mut number = all_consuming((opt(char::<_, ()>('-')), opt(char('+')), digits));
    match number.parse_complete(token).ok()?.1 {
        (Some(_), Some(_), _) => None,
        (minus, _, magnitude) => Some((minus.is_some(), magnitude)),
    }
}
