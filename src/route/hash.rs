//! HashRoute: one of several children, by the key.
//!
//! All operations: to one child. Children are counted, not named: they keep their keys only while children are added or
//! removed at the end of the list (`ch3`, the default).

use super::on_down::{Goes, Watch};
use super::registry::{Key, Kind, Params};
use super::{Call, Chosen, Explained, PoolRoute, Route, Slot, When};
use crate::config::{Node, Problem, Section, value};
use crate::hash::{Member, Placement, Ring, Spec, weights_for};
use crate::protocol::{Cause, Op, Reply, Request};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "HashRoute",
    short: "hash",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes to choose from" },
        Key { name: "hash_func", what: "how: Ch3 (default), Crc32, …, or the name of a placement" },
        Key { name: "salt", what: "hashed behind the key" },
        Key { name: "weights", what: "with WeightedCh3 and WeightedRendezvous: a number for each child" },
        Key { name: "tags", what: "with Rendezvous and WeightedRendezvous: a name for each child" },
    ],
    build,
};

/// mcrouter's names; the placements' own are the others.
const FUNCTIONS: &[(&str, Placement)] = &[
    ("Ch3", Placement::Ch3),
    ("Crc32", Placement::Crc32),
    ("WeightedCh3", Placement::WeightedCh3),
    ("ConstShard", Placement::ConstShard),
    ("Rendezvous", Placement::Rendezvous),
    ("WeightedRendezvous", Placement::WeightedRendezvous),
];

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let children = params.children("children")?;
    let spec = read_spec(&params.section, children.len())?;
    let member = |i: usize| Member { host: format!("child-{i}"), port: None, name: None, weight: 1 };
    let members: Vec<Member> = (0..children.len()).map(member).collect();
    let ring = build_ring(&params.section, &spec, &members)?;
    Some(Rc::new(HashRoute::new(ring, children)))
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
    // mcrouter makes a list of another length fit; with rendezvous it must be right
    let weights = if placement == Placement::WeightedCh3 { weights_for(count, weights) } else { weights };
    Some(Spec { placement, salt, weights, tags, ..Spec::default() })
}

pub(super) fn read_function(node: &Node) -> Result<Placement, Problem> {
    let name = value::text(node, "a hash function")?;
    if let Some((_, placement)) = FUNCTIONS.iter().find(|(known, _)| *known == name) {
        return Ok(*placement);
    }
    if matches!(name.as_str(), "Latest" | "LoadBalancer" | "WeightedCh3Rv") {
        return Err(Problem::new(format!("`{name}` is not there yet")));
    }
    value::choice(node, "a hash function", Placement::ALL)
}

impl HashRoute {
    /// `children`: one for each member of the ring.
    pub(super) fn new(ring: Ring, children: Vec<Rc<dyn Route>>) -> Self {
        Self { ring, children, watch: None }
    }

    /// Where these are servers: what becomes of the keys of those that are out.
    pub(super) fn with_watch(self, watch: Option<Watch>) -> Self {
        Self { watch, ..self }
    }
}

pub(super) struct HashRoute {
    ring: Ring,
    children: Vec<Rc<dyn Route>>,
    watch: Option<Watch>,
}

impl HashRoute {
    fn child(&self, key: &[u8]) -> Option<&Rc<dyn Route>> {
        let place = match &self.watch {
            None => self.ring.pick(key)?,
            Some(watch) => match watch.goes(&self.ring, key)? {
                Goes::Home(place) => place,
                Goes::Next(place) => return watch.target(place),
                Goes::Gutter(gutter) => return Some(gutter),
            },
        };
        self.children.get(place)
    }
}

impl Route for HashRoute {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        match self.child(request.key) {
            Some(child) => child.send(request, call, slot),
            None => slot.fill(&Reply::failed(Cause::NoServer)),
        }
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        self.child(key)?.pool(op, key)
    }

    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        let place = self.ring.place(key);
        // with one child there is nothing to choose here
        let child =
            self.children.get(place.unwrap_or(0)).filter(|_| place.is_some() || self.children.len() == 1);
        let inner = child.map_or_else(Chosen::default, |child| child.chosen(op, key));
        Chosen { place: inner.place.or(place), ..inner }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("hash");
        let Some(place) = self.ring.pick(request.key) else { return here };
        let Some(child) = self.children.get(place) else { return here };
        let here = here.with(When::Now, child.explain(request));
        match self.watch.as_ref().and_then(|watch| watch.explain(&self.ring, place, request)) {
            Some((when, instead)) => here.with(when, instead),
            None => here,
        }
    }
}
