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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every edge of every width, with signs, leading zeros and too many digits, against 128-bit sums.
    #[test]
    fn numbers_at_their_edges() {
        let edges = (0..=66u32).flat_map(|k| (-2..=2i128).map(move |d| (1i128 << k) + d));
        for magnitude in edges.chain((1..=25).map(|digits| 10i128.pow(digits) - 1)).filter(|m| *m >= 0) {
            for zeros in 0..=24 {
                for sign in ["", "-", "+"] {
                    let digits = format!("{}{magnitude}", "0".repeat(zeros));
                    compare(&format!("{sign}{digits}"), sign, magnitude);
                }
            }
        }
    }

    fn compare(text: &str, sign: &str, magnitude: i128) {
        let token = text.as_bytes();
        let number = if sign == "-" { -magnitude } else { magnitude };
        let (is_plain, is_short, is_middling) = (sign.is_empty(), text.len() <= 11, text.len() <= 22);
        let expect = |holds: bool| holds.then_some(number);

        let strict64 = u64::try_from(number).is_ok() && is_plain && is_middling;
        assert_eq!(strict_u64(token).map(i128::from), expect(strict64), "{text}");
        let strict32 = u32::try_from(number).is_ok() && is_plain && is_short;
        assert_eq!(strict_u32(token).map(i128::from), expect(strict32), "{text}");
        let signed32 = i32::try_from(number).is_ok() && sign != "+" && is_short;
        assert_eq!(strict_i32(token).map(i128::from), expect(signed32), "{text}");
        let length = signed32 && (0..=(1 << 31) - 3).contains(&number);
        assert_eq!(data_len(token).map(i128::from), expect(length), "{text}");

        let cut = i128::from(u32::MAX) + 1;
        let exptime = i64::try_from(number).ok().map(|n| i128::from(n).rem_euclid(cut));
        assert_eq!(loose_exptime(token).map(|n| i128::from(n).rem_euclid(cut)), exptime, "{text}");
        let wrapped = number.rem_euclid(1 << 64);
        let flags = u64::try_from(magnitude).is_ok() && (sign != "-" || wrapped < 1 << 63);
        assert_eq!(loose_flags(token).map(i128::from), flags.then_some(wrapped % cut), "{text}");

        let canonical = canonical_u64(token).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, n)| n);
        let is_canonical = u64::try_from(magnitude).is_ok_and(|n| n.to_string() == text);
        assert_eq!(canonical.map(i128::from), expect(is_canonical), "{text}");
    }

    #[test]
    fn no_number_at_all() {
        for token in ["", "x", "1x", "x1", "1 ", "--1", "+-1", "-+1", "1.0", "\u{661}", "1\t", "\t1"] {
            let token = token.as_bytes();
            assert_eq!((strict_u64(token), strict_u32(token), strict_i32(token)), (None, None, None));
            assert_eq!((loose_flags(token), loose_exptime(token), data_len(token)), (None, None, None));
        }
        assert_eq!((strict_i32(b"-"), loose_exptime(b"-"), loose_flags(b"-")), (Some(0), None, None));
    }
}
