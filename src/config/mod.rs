//! The configuration: read, checked, immutable.
//!
//! Three stages: text → tree with positions → [`Config`]. Who holds a `Config` need not check anything again.
//!
//! ```text
//! load ─► yaml (what it says) ─► document ─► settings, pool ─► Config
//!                 │                  │ server, listen, placement, embedded, value
//!                 └───── findings ◄──┘
//!                            └─► position (where it says it) ─► Faults ─► render
//! ```

mod document;
mod embedded;
mod fault;
mod listen;
mod load;
mod path;
mod placement;
mod pool;
mod position;
mod render;
mod section;
mod server;
mod settings;
mod value;
mod yaml;

pub use fault::{Fault, Faults, Place, Problem, Source, Warning};
pub use listen::Listen;
pub use load::{from_servers, from_text, load};
pub use pool::{Embedded, Endpoint, OnError, Pool, Server};
pub use settings::{Collect, Limits, Settings, Workers};
pub(crate) use value::{show_bytes, show_duration};

/// All that the program is told to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub settings: Settings,
    /// In the order of the file. Names are unique.
    pub pools: Vec<Pool>,
    pub route: Route,
}

/// The route tree as configured. Only pools for now: a pool's name is short for PoolRoute on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Index into [`Config::pools`].
    Pool(usize),
}
