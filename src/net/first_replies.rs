//! How large the replies to a new client are expected to be: nobody knows what it will ask for.
//!
//! Thousands that come at once and ask for a megabyte each would have it all under way before the first reply tells. Where
//! clients come all the time and get little (a connection for each page of a web site), or all of them come back at once,
//! they must not wait for each other. So a first reply is taken for much, for less and less while small ones are what new
//! clients get, and for much again once there has been no first reply for a while.

use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

/// For one key, while nothing is known. Eight of these fill a connection's default `bulk_bytes_max`.
const UNKNOWN_BYTES: usize = 64 * 1024;
/// For one get, however small they are: those who come next may be others. Were it much more, so few would go at a time
/// before servers that are slow that all others would be late, whoever asks for how little.
const LEAST_BYTES: usize = 256;
/// Beyond this more makes no difference, and a million of them can be added.
const MOST_BYTES: usize = 1 << 40;
/// Small ones that came are forgotten when none has come for so long.
const TRUST_TIME: Duration = Duration::from_secs(1);
/// One of so many is what the last one counts for.
const LAST_COUNT: usize = 16;

/// Of one worker.
pub struct FirstReplies {
    bytes_per_key: Cell<usize>,
    learned: Cell<Instant>,
}

impl Default for FirstReplies {
    fn default() -> Self {
        Self { bytes_per_key: Cell::new(UNKNOWN_BYTES), learned: Cell::new(Instant::now()) }
    }
}

impl FirstReplies {
    /// One has come, to a get of so many keys.
    pub fn learn(&self, reply_bytes: usize, keys: usize) {
        let this = reply_bytes.div_ceil(keys.max(1)).min(MOST_BYTES);
        let expected = self.bytes_per_key();
        self.bytes_per_key.set(if this > expected {
            expected + (this - expected).div_ceil(LAST_COUNT)
        } else {
            expected - (expected - this).div_ceil(LAST_COUNT)
        });
        self.learned.set(Instant::now());
    }

    /// What the next one is taken for, when it is for so many keys.
    #[must_use]
    pub fn expected_bytes(&self, keys: usize) -> usize {
        self.bytes_per_key().saturating_mul(keys).clamp(LEAST_BYTES, MOST_BYTES)
    }

    fn bytes_per_key(&self) -> usize {
        let bytes = self.bytes_per_key.get();
        if self.learned.get().elapsed() > TRUST_TIME { bytes.max(UNKNOWN_BYTES) } else { bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn new_clients_that_get_little_are_trusted_while_they_come() {
        let replies = FirstReplies::default();
        assert_eq!([1, 3].map(|keys| replies.expected_bytes(keys)), [UNKNOWN_BYTES, 3 * UNKNOWN_BYTES]);
        (0..200).for_each(|_| replies.learn(100, 1));
        assert_eq!([1, 2, 50].map(|keys| replies.expected_bytes(keys)), [LEAST_BYTES, LEAST_BYTES, 5_000]);
        advance(TRUST_TIME).await;
        assert_eq!(replies.expected_bytes(1), LEAST_BYTES);
        advance(Duration::from_millis(1)).await;
        assert_eq!(replies.expected_bytes(1), UNKNOWN_BYTES, "those who come now may be others");
    }

    #[tokio::test(start_paused = true)]
    async fn few_large_first_replies_tell_and_are_not_forgotten_with_time() {
        let replies = FirstReplies::default();
        (0..200).for_each(|_| replies.learn(100, 1));
        (0..16).for_each(|_| replies.learn(1 << 20, 1));
        let expected = replies.expected_bytes(1);
        assert!(expected > 512 << 10, "{expected}");
        advance(TRUST_TIME * 10).await;
        assert_eq!(replies.expected_bytes(1), expected);
        (0..100).for_each(|_| replies.learn(0, 1));
        assert!(replies.expected_bytes(1) < UNKNOWN_BYTES / 2, "but by small ones that come");
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_of_a_get_counts() {
        let replies = FirstReplies::default();
        (0..200).for_each(|_| replies.learn(50 * 10_000, 50));
        assert_eq!([1, 50].map(|keys| replies.expected_bytes(keys)), [10_000, 500_000]);
        replies.learn(usize::MAX, 1);
        assert_eq!(replies.expected_bytes(usize::MAX), MOST_BYTES);
    }
}
