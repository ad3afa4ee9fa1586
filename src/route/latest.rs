//! LatestRoute: a few children that this host prefers, and failover among them.
//!
//! All operations: as FailoverRoute over `failover_count` children, chosen once, by the name of the host, so that hosts
//! share the children out. (Which host prefers which child is ours to choose: it need not be the same as with mcrouter.)

use super::failover::{self, LIMIT_KEY, TAG_KEY};
use super::failover_errors::{ERRORS_KEY, Errors};
use super::failover_policy::{HASH_KEY, POLICY_KEY, TAGS_KEY};
use super::host_id::host_id;
use super::pairing::PAIRING_KEY;
use super::registry::{Key, Kind, Params};
use super::{Route, null};
use crate::hash::murmur64a;
use std::rc::Rc;

pub(super) const COUNT_KEY: Key = Key { name: "failover_count", what: "how many are chosen (5)" };

pub(super) const KIND: Kind = Kind {
    name: "LatestRoute",
    short: "latest",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes to choose from" },
        COUNT_KEY,
        Key { name: "salt", what: "changes the choice" },
        ERRORS_KEY,
        LIMIT_KEY,
        TAG_KEY,
        POLICY_KEY,
        HASH_KEY,
        TAGS_KEY,
        PAIRING_KEY,
    ],
    build,
};

/// mcrouter's.
const COUNT_DEFAULT: usize = 5;

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    of(params, params.children("children")?)
}

/// One over these children, with the keys of these parameters.
pub(super) fn of(params: &Params<'_>, children: Vec<Rc<dyn Route>>) -> Option<Rc<dyn Route>> {
    let errors = Errors::read(params);
    let count = params.count("failover_count", 1..=1000);
    if params.has("failover_count") && count.is_none() {
        return None;
    }
    let salt = params.text_or("salt", "a text", "");
    if children.is_empty() {
        return Some(null::route());
    }
    // the highest scores: a child that comes or goes changes the choice of few hosts
    let score = |index: usize| {
        let of_host = [&host_id().to_le_bytes()[..], salt.as_bytes(), &index.to_le_bytes()].concat();
        std::cmp::Reverse(murmur64a(&of_host))
    };
    let mut chosen: Vec<usize> = (0..children.len()).collect();
    chosen.sort_by_key(|index| score(*index));
    chosen.truncate(count.unwrap_or(COUNT_DEFAULT));
    let chosen = chosen.into_iter().map(|index| Rc::clone(&children[index])).collect();
    failover::of(params, chosen, errors?, false)
}
