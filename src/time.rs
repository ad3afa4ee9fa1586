//! What time it is: read once per request at the edge, passed as an argument everywhere else.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, in the whole seconds that memcached counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Seconds since 1970; fits until 2106.
    pub unix_seconds: u32,
}

/// Where "now" comes from: the system, or in tests a hand that moves it.
#[derive(Clone, Debug)]
pub enum Clock {
    System,
    Manual(Rc<Cell<u32>>),
}

impl Clock {
    #[must_use]
    pub fn now(&self) -> Now {
        let unix_seconds = match self {
            // A clock before 1970 counts as 1970: wrong for expiry, but no reason to stop.
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX)),
            Self::Manual(seconds) => seconds.get(),
        };
        Now { unix_seconds }
    }
}
