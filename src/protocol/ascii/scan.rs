//! Where the spaces are: sixteen bytes looked at in one step (the crate wide).
//!
//! A get may have thousands of keys, so a line is not searched anew for each of them.

use wide::u8x16;

const STEP: usize = 16;

/// One bit for each byte of `chunk` that is a space, the first byte's lowest.
#[inline]
fn spaces(chunk: [u8; STEP]) -> u32 {
    u8x16::new(chunk).simd_eq(u8x16::splat(b' ')).to_bitmask()
}

/// What stands before the first space of `text`: all of it when there is none.
#[inline]
#[must_use]
pub fn first_word(text: &[u8]) -> &[u8] {
    let (chunks, rest) = text.as_chunks::<STEP>();
    let mut at = 0_usize;
    for chunk in chunks {
        let found = spaces(*chunk);
        if found != 0 {
            return text.get(..at.saturating_add(lowest(found))).unwrap_or(text);
        }
        at = at.saturating_add(STEP);
    }
    let in_rest = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
    text.get(..at.saturating_add(in_rest)).unwrap_or(text)
}

/// Tells start and end of each word of `text`, counted from `offset`. Words are what stands between spaces.
///
/// Places wrap around at 4 GiB: whoever asks has looked at the length.
#[inline]
pub(super) fn words(text: &[u8], offset: u32, mut on_word: impl FnMut(u32, u32)) {
    let (chunks, rest) = text.as_chunks::<STEP>();
    let mut padded = [b' '; STEP];
    for (place, byte) in padded.iter_mut().zip(rest) {
        *place = *byte;
    }
    let (mut at, mut start) = (offset, offset);
    for chunk in chunks.iter().chain([&padded]) {
        let mut found = spaces(*chunk);
        while found != 0 {
            let space = at.wrapping_add(found.trailing_zeros());
            if space != start {
                on_word(start, space);
            }
            start = space.wrapping_add(1);
            found &= found.wrapping_sub(1);
        }
        at = at.wrapping_add(16);
    }
}

fn lowest(bits: u32) -> usize {
    usize::try_from(bits.trailing_zeros()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every arrangement of words and spaces, at every length around the sixteen.
        #[test]
        fn as_a_plain_split(text in "[ a]{0,70}", offset in 0..9_u32) {
            let mut found = Vec::new();
            words(text.as_bytes(), offset, |start, end| {
                found.push(&text[(start - offset) as usize..(end - offset) as usize]);
            });
            let plain: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
            prop_assert_eq!(found, plain);
            prop_assert_eq!(first_word(text.as_bytes()), text.split(' ').next().unwrap().as_bytes());
        }
    }
}
