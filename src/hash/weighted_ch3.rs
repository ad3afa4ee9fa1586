//! mcrouter's `WeightedCh3`: Ch3 picks a server, and a second hash of the same text decides, by the server's weight, whether
//! it stays; if not, a number is put behind the key and both are asked again.
//!
//! Source: mcrouter `lib/WeightedCh3HashFunc.cpp`. With all weights 1 it is Ch3 (but for one key in four billion). A lower
//! weight sends away some of that server's keys and no others.

use super::longer::with_reversed_number;
use super::{ch3, spooky};

const SEED: u32 = 0xface_2014;
/// Then the last pick stays, whatever its weight.
const TRIES_MAX: u32 = 32;
/// What mcrouter gives a server for which the list has no weight.
const WEIGHT_MISSING: f64 = 0.5;

/// The server of `key` by mcrouter's `WeightedCh3`, for weights that change while running: one from 0 to 1 per server, as
/// [`weights_for`] makes them. 0 if there are fewer than two.
#[must_use]
pub fn weighted_ch3(key: &[u8], weights: &[f64]) -> usize {
    if weights.len() < 2 { 0 } else { index(key, weights) as usize }
}

/// The list of weights for so many servers, as mcrouter reads one of another length: what is missing is 0.5, what is too much
/// is left out.
#[must_use]
pub fn weights_for(count: usize, mut weights: Vec<f64>) -> Vec<f64> {
    weights.resize(count, WEIGHT_MISSING);
    weights
}

/// Expects 2 ≤ `weights.len()` ≤ [`ch3::SERVERS_MAX`].
pub(super) fn index(key: &[u8], weights: &[f64]) -> u32 {
    let (mut server, mut stays) = try_once(key, weights);
    for number in 0..TRIES_MAX - 1 {
        if stays {
            break;
        }
        (server, stays) = with_reversed_number(key, number, |key| try_once(key, weights));
    }
    server
}

fn try_once(key: &[u8], weights: &[f64]) -> (u32, bool) {
    let server = ch3::index(ch3::hash(key), weights.len() as u32);
    let bar = weights[server as usize] * f64::from(u32::MAX);
    (server, u64::from(spooky::hash32(key, SEED)) < bar as u64)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_bytes, counts};
    use super::*;

    /// The rows of mcrouter's `lib/test/WeightedCh3HashFuncTest.cpp`.
    #[test]
    fn as_mcrouters_own_tests() {
        let ones = |count| vec![1.0; count];
        assert_eq!(weighted_ch3(b"sample", &ones(100)), 97);
        assert_eq!(weighted_ch3(b"", &ones(100)), 72);
        assert_eq!(weighted_ch3(b"sample", &ones(ch3::SERVERS_MAX)), 5_167_780);
        assert_eq!(weighted_ch3(b"", &ones(ch3::SERVERS_MAX)), 6_173_600);
        let (up, down) = all_bytes();
        assert_eq!(weighted_ch3(&up, &ones(99_999)), 31_015);
        assert_eq!(weighted_ch3(&down, &ones(99_999)), 67_101);
        for (key, server) in [("sample", 59), ("", 45)] {
            assert_eq!(weighted_ch3(key.as_bytes(), &[0.0; 100]), server);
            assert_eq!(weighted_ch3(key.as_bytes(), &[0.0]), 0);
        }
    }

    #[test]
    fn shares_as_in_mcrouters_own_tests() {
        let by = |weights: &[f64], keys: usize| {
            counts(weights.len(), (0..keys).map(|i| weighted_ch3(i.to_string().as_bytes(), weights)))
        };
        assert_eq!(by(&[1.0; 3], 1_000), [307, 342, 351]);
        assert_eq!(by(&[1.0, 1.0, 0.7], 1_000), [341, 371, 288]);
        let ten = [0.429, 0.541, 0.117, 0.998, 0.283, 0.065, 0.109, 0.042, 0.676, 0.943];
        assert_eq!(by(&ten, 10_000), [1016, 1252, 288, 2354, 661, 195, 247, 122, 1668, 2197]);
        assert_eq!(by(&[1.0; 10], 10_000), [995, 955, 1046, 968, 1032, 972, 1016, 1038, 1010, 968]);
    }

    #[test]
    fn a_lower_weight_moves_only_keys_of_its_server() {
        for i in 0..2_000 {
            let key = format!("key:{i}").into_bytes();
            let before = weighted_ch3(&key, &[1.0; 5]);
            let after = weighted_ch3(&key, &[1.0, 1.0, 0.4, 1.0, 1.0]);
            assert!(before == after || before == 2);
        }
    }

    #[test]
    fn a_list_of_another_length() {
        assert_eq!(weights_for(3, vec![1.0]), [1.0, 0.5, 0.5]);
        assert_eq!(weights_for(1, vec![0.2, 0.3]), [0.2]);
    }
}
