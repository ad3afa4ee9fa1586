//! The configuration: read, checked, immutable.
//!
//! Three stages: text → tree with positions → [`Config`]. Who holds a `Config` need not check anything again.

mod listen;
mod pool;
mod settings;

pub use listen::Listen;
pub use pool::{Embedded, Endpoint, OnError, Pool, Server};
pub use settings::{Limits, Settings, Workers};

/// All that the program is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
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
