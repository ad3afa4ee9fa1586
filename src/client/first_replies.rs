//! How large the first reply to a new client is expected to be: nobody knows what it will ask for.
//!
//! Thousands that come at once and ask for a megabyte each would have it all under way before the first reply tells. Where
//! clients come all the time and get little (a connection for each page of a web site), they must not wait for each other.
//! So a first reply is taken for much, for less and less while small ones are what new clients get, and for much again once
//! none has come for a while.

use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

/// What is expected while nothing is known. Eight of these fill a connection's default `bulk_bytes_max`.
const UNKNOWN_BYTES: usize = 64 * 1024;
/// Small ones that came are forgotten when none has come for so long.
const TRUST_TIME: Duration = Duration::from_secs(1);
/// A larger one than expected counts for so much of what is expected next; a smaller one for less.
const LARGER_SHARE: usize = 16;
const SMALLER_SHARE: usize = 64;

/// Of one worker.
pub(super) struct FirstReplies {
    bytes: Cell<usize>,
    learned: Cell<Instant>,
}

impl FirstReplies {
    pub(super) fn new() -> Self {
        Self { bytes: Cell::new(UNKNOWN_BYTES), learned: Cell::new(Instant::now()) }
    }

    /// One has come.
    pub(super) fn learn(&self, reply_bytes: usize) {
        let expected = self.expected_bytes();
        self.bytes.set(if reply_bytes > expected {
            expected + (reply_bytes - expected).div_ceil(LARGER_SHARE)
        } else {
            expected - (expected - reply_bytes) / SMALLER_SHARE
        });
        self.learned.set(Instant::now());
    }

    /// What the next one is taken for.
    pub(super) fn expected_bytes(&self) -> usize {
        let bytes = self.bytes.get();
        if self.learned.get().elapsed() > TRUST_TIME { bytes.max(UNKNOWN_BYTES) } else { bytes }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn new_clients_that_get_little_are_trusted_while_they_come() {
        let replies = FirstReplies::new();
        assert_eq!(replies.expected_bytes(), UNKNOWN_BYTES);
        (0..500).for_each(|_| replies.learn(100));
        assert!((100..1_000).contains(&replies.expected_bytes()), "{}", replies.expected_bytes());
        advance(TRUST_TIME).await;
        assert!(replies.expected_bytes() < 1_000);
        advance(Duration::from_millis(1)).await;
        assert_eq!(replies.expected_bytes(), UNKNOWN_BYTES, "those who come now may be others");
    }

    #[tokio::test(start_paused = true)]
    async fn few_large_first_replies_tell_and_are_not_forgotten_with_time() {
        let replies = FirstReplies::new();
        (0..500).for_each(|_| replies.learn(100));
        (0..16).for_each(|_| replies.learn(1 << 20));
        let expected = replies.expected_bytes();
        assert!(expected > 512 << 10, "{expected}");
        advance(TRUST_TIME * 10).await;
        assert_eq!(replies.expected_bytes(), expected);
    }
}
