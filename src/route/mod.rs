//! The tree that a request walks.
//!
//! Every node is a [`Route`]: it is handed a request and a slot, and sees to it that the slot is filled exactly once.
//! There are three kinds, by what they do with it:
//!
//! - **select**: hands both to one child, perhaps with the request changed. Nothing is kept, nothing is allocated.
//! - **collect**: keeps the slot, asks one or more children, and makes one reply of theirs (`gather`, `attempt`).
//! - **leaf**: answers. A destination in `upstream/`, the embedded cache in `cache/`, a scripted one in tests.
//!
//! `route` names no socket and no server. The file of a route has: what it does for each class of operations, the keys
//! that it reads, how it is built, what it does, its tests. The `registry` lists them all.

mod attempt;
mod build;
mod busy;
mod call;
mod copy;
mod delete_log;
mod domain;
mod doubt;
mod draw;
mod expect;
mod explain;
mod failover_errors;
mod failover_policy;
mod failure;
mod feed;
mod former_server;
mod gather;
mod hash_func;
mod keep_prefix;
mod key;
mod marked;
mod member;
mod moved;
mod moving;
mod on_down;
mod pairing;
mod pool;
mod registry;
mod rekey;
mod root;
mod schema;
mod slot;
mod transition;
mod translate;
mod unlogged;
mod vivify;
mod window;

// select
mod blackhole;
mod eject;
mod hash;
mod hash_stop_allow_list;
mod host_id;
mod key_parse;
mod modify_exptime;
mod modify_key;
mod operation_selector;
mod original_client_hash;
mod prefix_selector;
mod random;
mod rate_limit;
mod routing_group;
// collect
mod all;
mod big_value;
mod failover;
mod failover_with_exptime;
mod hedge;
mod key_split;
mod l1l2_cache;
mod l1l2_size_split;
mod latency_injection;
mod latest;
mod load_balancer;
mod logging;
mod migrate;
mod miss_failover;
mod outstanding_limit;
mod salted_failover;
mod shadow;
mod shard_split;
mod slow_warm_up;
mod staging;
mod warm_up;
// leaf
mod error;
mod null;

#[cfg(test)]
mod reducer_tests;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod target_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transition_tests;
#[cfg(test)]
mod value_tests;

pub use build::{Builder, Leaves, build, check, check_and_test, explain, unconnected};
pub use busy::Busy;
pub use call::{Call, Client, Kind, Moves};
pub use delete_log::{DeleteLog, Logged, LoggedTerms, Mark, Refused, Taken, with_delete};
pub use explain::{Explained, Target, When};
pub use feed::{Fed, Feed, with_relayed};
pub use host_id::host_id;
pub use moved::{Moved, prefixes};
pub use pool::PoolRoute;
pub use root::{Root, split_prefix};
pub use schema::schema;
pub use slot::{Sink, Slot};
pub use transition::{Change, Past};
pub use translate::in_our_words;
pub use window::{Pace, Window};

use crate::protocol::{MultiGet, Op, Request};
use tokio::sync::oneshot;

/// A node of the tree.
pub trait Route {
    /// Takes one request; the slot is filled exactly once, now or later.
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot);

    /// The pool that this key's requests go to, if all that happens on the way is choosing: then keys of a multi-key
    /// get can travel together.
    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        let _ = (op, key);
        None
    }

    /// Whom this key's requests go to, for who looks for somebody else: as far as it is told by choosing alone.
    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        let _ = (op, key);
        Chosen::default()
    }

    /// Where this request would go, without sending it.
    fn explain(&self, request: &Request<'_>) -> Explained;
}

/// One of several, chosen by the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// Its place in the list.
    pub place: Option<usize>,
    /// What else fails when it does: its rack or its zone (`failure_domains` of a pool).
    pub domain: Option<&'a str>,
}

/// What answers requests at the end of the tree.
pub trait Leaf: Route {
    /// Sends a classic get with several keys, all of them for this leaf: [`Sink::hit`] for each one found,
    /// in the order of the keys, then the slot is filled with [`crate::protocol::Status::Ok`] or an error.
    fn send_multi(&self, request: &MultiGet<'_>, call: &Call, slot: Slot);

    /// A tree in the place of a server: keys of a get travel alone, and none comes by [`Self::send_multi`].
    fn is_tree(&self) -> bool {
        false
    }

    /// Empties the server, `delay` seconds from now.
    fn flush_all(&self, delay: i32, slot: Slot);

    /// The server's name as in the configuration.
    fn name(&self) -> &str;

    /// Makes ready what it needs to be asked, before anybody asks; `None`: there is nothing to wait for. Who waits goes on when
    /// the other end is dropped.
    fn warm(&self) -> Option<oneshot::Receiver<()>> {
        None
    }

    /// Whether it is known to be out: whatever is sent to it now fails.
    fn is_out(&self) -> bool {
        false
    }

    /// Whether this is a delete that is kept for it when it fails.
    fn keeps(&self, _request: &Request<'_>) -> bool {
        false
    }

    /// Another number whenever the answer to [`Self::is_out`] may be another, for this leaf or any other.
    fn changes(&self) -> u64 {
        0
    }
}
