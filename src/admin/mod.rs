//! Questions to the program itself: `version`, `stats`, what is allowed; and the admin port.

mod http;
mod keys;
mod line;
mod probes;
mod servers;
mod spool;
mod stats;

pub use http::{AskReload, Http, Reloaded};
pub use keys::KEY_PREFIX;
pub use probes::{BEAT, Phase, Probes, Pulse};
pub use stats::{Current, Process};

use crate::config::AdminKeys;
use crate::route::Root;
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

    /// The value of a key that begins with [`KEY_PREFIX`]; `None`: it is a miss for this client. `is_near`: the client is on
    /// this machine.
    #[must_use]
    pub fn value_of(&self, key: &[u8], root: &Root, is_near: bool) -> Option<String> {
        let is_told = match self.process.current().settings.admin_keys {
            AdminKeys::On => true,
            AdminKeys::Off => false,
            AdminKeys::Loopback => is_near,
        };
        let question = key.strip_prefix(KEY_PREFIX)?;
        is_told.then(|| keys::answer(&self.process, question, root))
    }

    #[must_use]
    pub fn allows_flush(&self) -> bool {
        self.process.current().settings.allow_flush
    }
}
