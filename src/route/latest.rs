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
use crate::config::{Node, Problem, value};
use crate::hash::{murmur64a, weights_for};
use std::rc::Rc;

pub(super) const COUNT_KEY: Key = Key { name: "failover_count", what: "how many are chosen (5)" };

const WEIGHTS_KEY: Key = Key {
    name: "weights",
    what: "how much each child is to be preferred, 0: never (1; what a list leaves out, 0.5)",
};

pub(super) const KIND: Kind = Kind {
    name: "LatestRoute",
    short: "latest",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes to choose from" },
        COUNT_KEY,
        Key { name: "salt", what: "changes the choice" },
        WEIGHTS_KEY,
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
    let weights = match params.has(WEIGHTS_KEY.name) {
        true => weights_for(children.len(), params.section.value(WEIGHTS_KEY.name, read_weights)?),
        false => vec![1.0; children.len()],
    };
    // the lowest scores: a child that comes or goes changes the choice of few hosts
    let score = |index: usize| {
        let of_host = [&host_id().to_le_bytes()[..], salt.as_bytes(), &index.to_le_bytes()].concat();
        let from_0_to_1 = ((murmur64a(&of_host) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -from_0_to_1.ln() / weights[index]
    };
    let mut chosen: Vec<usize> = (0..children.len()).filter(|index| weights[*index] > 0.0).collect();
    chosen.sort_by(|a, b| score(*a).total_cmp(&score(*b)));
    chosen.truncate(count.unwrap_or(COUNT_DEFAULT));
    let chosen = chosen.into_iter().map(|index| Rc::clone(&children[index])).collect();
    failover::of(params, chosen, errors?, false)
}

fn read_weights(node: &Node) -> Result<Vec<f64>, Problem> {
    let weight = |node: &Node| match node {
        Node::Integer(weight) => Some(*weight as f64),
        Node::Float(weight) => Some(*weight),
        _ => None,
    };
    let weights = match node {
        Node::List(list) => list.iter().map(weight).collect::<Option<Vec<f64>>>(),
        _ => None,
    };
    let weights = weights.filter(|weights| weights.iter().all(|weight| (0.0..=1.0).contains(weight)));
    weights.ok_or_else(|| value::expected("a list of weights from 0 to 1, one for each child", node))
}
