//! Questions to the program itself: `version`, `stats`, and what is allowed.

mod stats;

pub use stats::{Current, Process};

use std::sync::Arc;

/// memcached's version first, because clients read features from it; then ours.
pub const VERSION_LINE: &str = concat!("VERSION 1.6.45-ringway-", env!("CARGO_PKG_VERSION"));
/// The same without the word.
pub const VERSION: &str = concat!("1.6.45-ringway-", env!("CARGO_PKG_VERSION"));

/// Answers administrative commands of clients; one per worker, over what the process shares.
pub struct Admin {
    process: Arc<Process>,
}

impl Admin {
    #[must_use]
    pub const fn new(process: Arc<Process>) -> Self {
        Self { process }
    }

    /// The whole answer to `stats <what>`, line ends included.
    #[must_use]
    pub fn stats(&self, what: &[u8]) -> String {
        self.process.stats(what)
    }

    /// Keys with control characters are refused.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.process.current().settings.strict
    }

    #[must_use]
    pub fn allows_flush(&self) -> bool {
        self.process.current().settings.allow_flush
    }
}
