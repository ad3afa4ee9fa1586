//! The hash functions by mcrouter's names, and the keys that go with them: of `hash`, of a pool's route, of failover policies.

use crate::config::{At, Node, Problem, Section, value};
use crate::hash::{Member, Placement, Ring, Spec, weights_for};

/// Its weights come from a file of variables that changes while mcrouter runs.
const BY_VARIABLE: &str = "WeightedCh3Rv";
/// mcrouter's names; the placements' own are the others.
const FUNCTIONS: &[(&str, Placement)] = &[
    ("Ch3", Placement::Ch3),
    ("Crc32", Placement::Crc32),
    ("WeightedCh3", Placement::WeightedCh3),
    (BY_VARIABLE, Placement::WeightedCh3),
    ("ConstShard", Placement::ConstShard),
    ("Rendezvous", Placement::Rendezvous),
    ("WeightedRendezvous", Placement::WeightedRendezvous),
];

/// A name alone is a map with `hash_func`.
pub(super) fn named(node: &Node) -> Node {
    match node {
        Node::Text(_) => Node::Map(vec![("hash_func".to_owned(), node.clone())]),
        _ => node.clone(),
    }
}

/// A ring; why there is none goes to the hash function's place.
pub(super) fn build_ring(section: &Section<'_>, spec: &Spec, members: &[Member]) -> Option<Ring> {
    let built = Ring::build(spec, members);
    built.map_err(|error| section.fault("hash_func", Problem::new(error.to_string()))).ok()
}

/// The keys of this route that say how to choose, for so many members. They also stand under `hash` of a pool's route.
pub(super) fn read_spec(section: &Section<'_>, count: usize) -> Option<Spec> {
    let placement = match section.node("hash_func") {
        None => Placement::Ch3,
        Some(_) => section.value("hash_func", read_function)?,
    };
    let salt = match section.node("salt") {
        None => String::new(),
        Some(_) => section.value("salt", |node| value::text(node, "a text"))?,
    };
    let weights = match section.node("weights") {
        Some(_) if placement.has_weight_list() => section.value("weights", |node| {
            let number = |node: &Node| match node {
                Node::Integer(weight) => Some(*weight as f64),
                Node::Float(weight) => Some(*weight),
                _ => None,
            };
            let Node::List(list) = node else { return Err(value::expected("a list of weights", node)) };
            let weights: Option<Vec<f64>> = list.iter().map(number).collect();
            weights.ok_or_else(|| Problem::new("a weight is not a number"))
        })?,
        _ => Vec::new(),
    };
    let tags = match section.node("tags") {
        Some(_) if placement.has_tags() => section.value("tags", |node| {
            let Node::List(list) = node else { return Err(value::expected("a list of tags", node)) };
            list.iter().map(|tag| value::text(tag, "a tag")).collect()
        })?,
        _ => Vec::new(),
    };
    let weights = match section.node("hash_func") {
        Some(Node::Text(name)) if name == BY_VARIABLE && weights.is_empty() => {
            let problem = Problem::new("this runtime variable is not known: every weight is 1");
            let problem = problem.help("`weights_rv` names it, and `--runtime-vars-file` its file");
            section.findings.warn(&section.path.key("hash_func"), At::Value, problem);
            vec![1.0; count]
        }
        _ => weights,
    };
    // mcrouter makes a list of another length fit; with rendezvous it must be right
    let weights = if placement == Placement::WeightedCh3 { weights_for(count, weights) } else { weights };
    Some(Spec { placement, salt, weights, tags, ..Spec::default() })
}

pub(super) fn read_function(node: &Node) -> Result<Placement, Problem> {
    let name = value::text(node, "a hash function")?;
    if let Some((_, placement)) = FUNCTIONS.iter().find(|(known, _)| *known == name) {
        return Ok(*placement);
    }
    value::choice(node, "a hash function", Placement::ALL)
}
