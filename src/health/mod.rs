//! May this server be sent to? What all workers know together of the servers' health.
//!
//! ```text
//!            timeouts, no connection                 a probe is answered, and no
//!  healthy ───────────────────────────► knocked out ─────────────────────────────► healthy
//!            one worker gets the Prober              reply is overdue (nothing else
//!                                                    brings it back)
//! ```
//! As in mcrouter a server is *soft* knocked out (TKO) after several timeouts in a row, *hard* when no connection to it
//! can be made. Its requests then fail at once. Pure: no socket, no clock; who calls says what happened.

mod backoff;
mod board;
mod fail_open;
mod tko;

pub use backoff::Backoff;
pub use board::{Health, Suspect};
pub use fail_open::{FailOpen, Guard};
pub use tko::{Answered, Behind, Prober, Reason, Rules, Server, Totals};
