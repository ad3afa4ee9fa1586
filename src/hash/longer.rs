//! A key with something behind it, in one piece: salts, and the numbers that some placements try one after the other.

/// The longest key with the longest salt, and a number behind both.
const STACK_BYTES: usize = 512;

/// `then` of `key` and `tail`, one behind the other. Only what is no memcached key anyway is put together on the heap, so
/// that the answer is right for it too.
#[inline]
pub(super) fn with_tail<T>(key: &[u8], tail: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    if tail.is_empty() {
        return then(key);
    }
    joined(key, tail, then)
}

/// Out of the way of the many keys that have nothing behind them.
#[inline(never)]
fn joined<T>(key: &[u8], tail: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    let len = key.len() + tail.len();
    if len > STACK_BYTES {
        return then(&[key, tail].concat());
    }
    let mut room = [0; STACK_BYTES];
    room[..key.len()].copy_from_slice(key);
    room[key.len()..len].copy_from_slice(tail);
    then(&room[..len])
}

/// The same with a number in decimal, as people write it.
pub(super) fn with_number<T>(key: &[u8], number: u32, then: impl FnOnce(&[u8]) -> T) -> T {
    let mut digits = [0; DIGITS_MAX];
    let len = write_reversed(number, &mut digits);
    digits[..len].reverse();
    with_tail(key, &digits[..len], then)
}

/// The same with a number in decimal, its last digit first.
pub(super) fn with_reversed_number<T>(key: &[u8], number: u32, then: impl FnOnce(&[u8]) -> T) -> T {
    let mut digits = [0; DIGITS_MAX];
    let len = write_reversed(number, &mut digits);
    with_tail(key, &digits[..len], then)
}

/// Of 2³² - 1.
const DIGITS_MAX: usize = 10;

fn write_reversed(mut number: u32, digits: &mut [u8; DIGITS_MAX]) -> usize {
    let mut len = 0;
    for digit in digits {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        len += 1;
        if number == 0 {
            break;
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_behind_the_other_however_long() {
        for (key, tail) in [(0, 0), (3, 0), (0, 3), (250, 256), (256, 256), (256, 257), (3_000, 1)] {
            let (key, tail) = (vec![b'k'; key], vec![b't'; tail]);
            assert_eq!(with_tail(&key, &tail, <[u8]>::to_vec), [key, tail].concat());
        }
    }

    #[test]
    fn numbers_forwards_and_backwards() {
        for (number, backwards) in [(0, "k0"), (9, "k9"), (10, "k01"), (21, "k12"), (u32::MAX, "k5927694924")]
        {
            assert_eq!(with_number(b"k", number, <[u8]>::to_vec), format!("k{number}").as_bytes());
            assert_eq!(with_reversed_number(b"k", number, <[u8]>::to_vec), backwards.as_bytes());
        }
    }
}
