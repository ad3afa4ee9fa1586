//! The load tool: many clients that ask a memcached-speaking address and check every byte of the answers.
//!
//! ```text
//! cli ─► Plan (checked) ─► run: fill ─► threads, each a Load ─► Tally ─► Report
//!                                        │ request  (what is asked)      data  (what every key holds)
//!                                        │ reply    (what is answered)   poller, socket, connection
//! ```
//! It stands apart from the rest of the program: it has its own parser, because what checks must not share the
//! mistakes of what is checked, and its own event loop, because it has to cost less than what it measures.

mod connection;
mod data;
mod load;
mod observe;
mod plan;
mod poller;
mod reply;
mod report;
mod request;
mod run;
mod socket;
mod tally;
mod watch;

pub use plan::{Dialect, Plan, Share, Sizes, Target};
pub use report::{LoadShape, Percentiles, Process, Report, Tool};
pub use run::{Failure, run};

#[cfg(test)]
mod tests;
