//! HashRoute: one of several children, by the key.
//!
//! All operations: to one child. Children are counted, not named: they keep their keys only while children are added or
//! removed at the end of the list (`ch3`, the default).

use super::failover::{LIMIT_KEY, TAG_KEY};
use super::failover_errors::ERRORS_KEY;
use super::failover_policy::POLICY_KEY;
use super::hash_func::{build_ring, read_spec};
use super::latest::{self, COUNT_KEY};
use super::load_balancer::{self, ALGORITHM_KEY, TTL_KEY};
use super::on_down::{Goes, Watch, delete_at_both};
use super::registry::{Key, Kind, Params};
use super::{Call, Chosen, Explained, PoolRoute, Route, Slot, When};
use crate::config::{Node, Section};
use crate::hash::{Member, Ring};
use crate::protocol::{Cause, Op, Reply, Request};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "HashRoute",
    short: "hash",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes to choose from" },
        Key {
            name: "hash_func",
            what: "how: Ch3 (default), Crc32, …, the name of a placement, or Latest or LoadBalancer with their keys",
        },
        Key { name: "salt", what: "hashed behind the key" },
        Key { name: "weights", what: "with WeightedCh3 and WeightedRendezvous: a number for each child" },
        Key { name: "weights_rv", what: "with WeightedCh3Rv: the runtime variable that has the weights" },
        Key { name: "tags", what: "with Rendezvous and WeightedRendezvous: a name for each child" },
        COUNT_KEY,
        ERRORS_KEY,
        LIMIT_KEY,
        TAG_KEY,
        POLICY_KEY,
        ALGORITHM_KEY,
        TTL_KEY,
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let children = params.children("children")?;
    if let Some(build) = delegated(&params.section) {
        return build(params, children);
    }
    let spec = read_spec(&params.section, children.len())?;
    let member = |i: usize| Member { host: format!("child-{i}"), port: None, name: None, weight: 1 };
    let members: Vec<Member> = (0..children.len()).map(member).collect();
    let ring = build_ring(&params.section, &spec, &members)?;
    Some(Rc::new(HashRoute::new(ring, children)))
}

/// The functions that are routes of their own, with that route's keys.
pub(super) fn delegated(section: &Section<'_>) -> Option<Build> {
    match section.node("hash_func") {
        Some(Node::Text(name)) if name == "Latest" => Some(latest::of),
        Some(Node::Text(name)) if name == "LoadBalancer" => Some(load_balancer::of),
        _ => None,
    }
}

type Build = fn(&Params<'_>, Vec<Rc<dyn Route>>) -> Option<Rc<dyn Route>>;

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
        match &self.watch {
            None => self.children.get(self.ring.pick(key)?),
            Some(watch) => self.child_that(watch, &watch.goes(&self.ring, key)?),
        }
    }

    fn child_that<'a>(&'a self, watch: &'a Watch, goes: &Goes<'a>) -> Option<&'a Rc<dyn Route>> {
        match *goes {
            Goes::Home(place) => self.children.get(place),
            Goes::Next(place) => watch.target(place),
            Goes::Gutter(gutter) => Some(gutter),
        }
    }
}

impl Route for HashRoute {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        // Looked at once: a server may come back between two looks.
        let goes = self.watch.as_ref().and_then(|watch| Some((watch, watch.goes(&self.ring, request.key)?)));
        let child = match &goes {
            Some((watch, goes)) => self.child_that(watch, goes),
            None => self.child(request.key),
        };
        let owed = goes.as_ref().and_then(|(watch, goes)| watch.owed(&self.ring, request, goes));
        match (child, owed) {
            (Some(child), None) => child.send(request, call, slot),
            (Some(child), Some(owed)) => {
                delete_at_both(owed, |slot| child.send(request, call, slot), request, call, slot);
            }
            (None, _) => slot.fill(&Reply::failed(Cause::NoServer)),
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

#[cfg(test)]
mod tests {
    use super::super::stage::{MISS, TIMEOUT, run, tree};

    #[test]
    fn functions_that_are_routes() {
        run(async {
            let many = |say: fn() -> super::super::scripted::Say| {
                ["a", "b", "c"].map(|name| (name, (0..99).map(|_| say()).collect::<Vec<_>>()))
            };
            for route in [
                "{type: hash, children: [a, b, c], hash_func: Latest, failover_count: 2}",
                "{type: pool, pool: all, hash: {hash_func: Latest, failover_count: 2}}",
                "{type: pool, pool: all, hash: {hash_func: LoadBalancer, failover_count: 2}, max_outstanding: 9}",
            ] {
                let tree = tree(route, many(|| TIMEOUT));
                tree.ask("get k").await;
                let asked: usize = ["a", "b", "c"].iter().map(|name| tree.heard(name).len()).sum();
                assert_eq!(asked, 2, "{route}");
            }
            let balanced = tree("{type: pool, pool: all, hash: LoadBalancer}", many(|| MISS));
            for key in 0..60 {
                balanced.ask(&format!("get k{key}")).await;
            }
            assert!(["a", "b", "c"].iter().all(|name| balanced.heard(name).len() > 5));
            let weighted = "{type: hash, children: [a, b], hash_func: WeightedCh3Rv, weights: [0, 1]}";
            let weighted = tree(weighted, many(|| MISS));
            for key in 0..30 {
                weighted.ask(&format!("get k{key}")).await;
            }
            assert_eq!((weighted.heard("a").len(), weighted.heard("b").len()), (0, 30));
        });
    }
}
