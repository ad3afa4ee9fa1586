//! The configuration: read, checked, immutable.
//!
//! Three stages: text → tree with positions → [`Config`]. Who holds a `Config` need not check anything again.
//!
//! ```text
//! load ─► yaml (what it says) ─► document ─► settings, pool ─► Config
//!  │              │                  │ server, listen, placement, embedded, distance, value
//!  │              └───── findings ◄──┘
//!  │                         └─► position (where it says it) ─► Faults ─► render
//!  └───► json ─► mcrouter (macros, pools; every value keeps its place) ─► Config
//! ```

mod about;
mod distance;
mod document;
mod embedded;
mod fault;
mod json;
mod last_good;
mod listen;
mod load;
mod mcrouter;
mod node;
mod nutcracker;
mod on_down;
mod path;
mod placement;
mod pool;
mod position;
mod render;
mod resolver;
mod runtime_vars;
pub(crate) mod schema;
mod section;
mod server;
mod settings;
mod source;
mod spool;
mod tko;
mod transition;
mod write;
mod write_json;
mod yaml;

pub use about::{About, Loaded, Origin, Refused};
pub use distance::{DEFAULT_PREFIX, DistanceTimeouts, Location};
pub(crate) use fault::{At, quoted};
pub use fault::{Fault, Faults, Findings, Place, Problem, Source, Warning};
pub use last_good::{last_good_text, load_last_good};
pub use listen::Listen;
pub use load::{from_servers, from_text, load, load_all, load_nutcracker, settings_of};
pub use mcrouter::{BigValues, McrouterOptions};
pub use node::Node;
pub use nutcracker::from_nutcracker;
pub use on_down::OnDown;
pub(crate) use path::Path;
pub use pool::{Embedded, Endpoint, OnError, Pool, RouteNode, SERVERS_COUNT_MAX, Server};
pub use resolver::Resolver;
pub(crate) use section::{Section, nearest_help};
pub use settings::{AdminKeys, Collect, Limits, Settings, Workers};
pub use source::{Follow, OnEmpty, PoolSource, StatefulSet};
pub use spool::{Answer, Asynclog, AsynclogFormat, Feed, OnFull, OnGone, Spool, Sync};
pub use tko::{FailOpen, Share, Tko};
pub use transition::Transition;
pub(crate) use value::{show_bytes, show_duration};
pub use write::{legal_names, to_yaml};
pub(crate) mod value;

/// All that the program is told to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub settings: Settings,
    /// In the order of the file. Names are unique.
    pub pools: Vec<Pool>,
    pub routes: Routes,
}

/// The route tree as written. The room `route` reads it, because only it knows what each route's keys mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Routes {
    pub dialect: Dialect,
    /// A map with `route` or `routes`, and perhaps `named_handles` and `default_route`.
    pub document: Node,
}

/// Whose words, units and defaults a document uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: YAML, durations and sizes with units.
    Ringway,
    /// mcrouter's JSON: bare numbers in the unit that mcrouter documents for each key.
    Mcrouter,
}

/// What looks at the routes of a document that is otherwise sound, and says what is wrong with them.
pub type CheckRoutes = fn(&Config, &Findings);

impl Routes {
    /// All requests go to the pool of this name.
    #[must_use]
    pub fn to_pool(name: &str) -> Self {
        let route = ("route".to_owned(), Node::Text(name.to_owned()));
        Self { dialect: Dialect::Ringway, document: Node::Map(vec![route]) }
    }
}

impl Config {
    /// The pool of this name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }
}
