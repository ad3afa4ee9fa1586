//! What becomes of one key when a configuration is replaced by another: for `ringway plan`.

use super::{Root, Route, Target, When};
use crate::config::{Config, Node};
use crate::protocol::{Op, Request};
use std::collections::BTreeSet;

/// One key under the old configuration and under the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The server that a get asks first; `None`: none, or any.
    pub from: Option<Target>,
    pub to: Option<Target>,
    /// Another server is asked, or for another key.
    pub is_moved: bool,
    /// No server that a get comes by now has what was written before.
    pub is_lost: bool,
}

impl Moved {
    /// Walks both trees; nothing is sent.
    #[must_use]
    pub fn of(old: &Root, new: &Root, key: &[u8]) -> Self {
        let get = Request::new(Op::Get, key);
        let is_asked = |when: &When| matches!(when, When::Now | When::If(_));
        let (was_read, is_read) = (old.explain(&get), new.explain(&get));
        let was_written = old.explain(&Request::new(Op::Set, key));
        let from = was_read.asked(&is_asked).first().copied().cloned();
        let to = is_read.asked(&is_asked).first().copied().cloned();
        // who has it today, and whom a get comes by tomorrow when all else misses
        let mut holders: BTreeSet<Place<'_>> = from.iter().map(place).collect();
        holders.extend(was_written.asked(&|when| *when != When::OnError).into_iter().map(place));
        let asked = is_read.asked(&|when| is_asked(when) || *when == When::OnMiss);
        let is_lost =
            !holders.is_empty() && !asked.into_iter().any(|target| holders.contains(&place(target)));
        let is_moved = from.as_ref().map(place) != to.as_ref().map(place);
        Self { from, to, is_moved, is_lost }
    }
}

/// Where an item lies: in which server, under which key.
type Place<'t> = (&'t str, &'t [u8]);

fn place(target: &Target) -> Place<'_> {
    (&target.address, &target.key)
}

/// What keys may begin with by these routes: routing prefixes, each with all prefixes that a route tells apart; longer ones first,
/// the empty one last.
#[must_use]
pub fn prefixes(configs: &[&Config]) -> Vec<String> {
    let mut routing = BTreeSet::from([String::new()]);
    let mut ordinary = BTreeSet::from([String::new()]);
    for config in configs {
        let Node::Map(document) = &config.routes.document else { continue };
        for (key, node) in document {
            if key == "routes" {
                routing.extend(routing_prefixes(node));
            }
            collect(node, &mut ordinary);
        }
    }
    let both = |prefix: &String| ordinary.iter().map(|more| format!("{prefix}{more}")).collect::<Vec<_>>();
    let mut all: Vec<String> = routing.iter().flat_map(both).collect();
    all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    all.dedup();
    all
}

fn routing_prefixes(node: &Node) -> Vec<String> {
    match node {
        Node::Map(map) => map.iter().map(|(prefix, _)| prefix.clone()).collect(),
        // mcrouter's list of aliases and routes
        Node::List(list) => list.iter().flat_map(aliases).collect(),
        _ => Vec::new(),
    }
}

fn aliases(entry: &Node) -> Vec<String> {
    let Node::Map(entry) = entry else { return Vec::new() };
    let aliases = entry.iter().find(|(key, _)| key == "aliases").map(|(_, node)| node);
    let Some(Node::List(aliases)) = aliases else { return Vec::new() };
    aliases
        .iter()
        .filter_map(|alias| if let Node::Text(text) = alias { Some(text.clone()) } else { None })
        .collect()
}

/// The keys of every map under `policies`: only `prefix` has one.
fn collect(node: &Node, prefixes: &mut BTreeSet<String>) {
    match node {
        Node::List(list) => list.iter().for_each(|node| collect(node, prefixes)),
        Node::Map(map) => {
            for (key, node) in map {
                if let (true, Node::Map(policies)) = (key == "policies", node) {
                    prefixes.extend(policies.iter().map(|(prefix, _)| prefix.clone()));
                }
                collect(node, prefixes);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;
    use crate::route::{check, unconnected};

    fn config(routes: &str) -> Config {
        let text = format!("pools: {{a: {{servers: [x]}}, b: {{servers: [y]}}}}\n{routes}\n");
        from_text("t", &text, check).unwrap_or_else(|faults| panic!("{faults}")).0
    }

    fn moved(old: &str, new: &str, key: &str) -> (bool, bool) {
        let (old, new) = (unconnected(&config(old)).unwrap(), unconnected(&config(new)).unwrap());
        let moved = Moved::of(&old, &new, key.as_bytes());
        (moved.is_moved, moved.is_lost)
    }

    #[test]
    fn what_moves_and_what_is_lost() {
        for (old, new, want) in [
            ("route: a", "route: a", (false, false)),
            ("route: a", "route: b", (true, true)),
            // both have it already, or the new one fills itself from the old one
            ("route: {all_initial: [a, b]}", "route: b", (true, false)),
            ("route: a", "route: {warm_up: {cold: b, warm: a}}", (true, false)),
            ("route: {warm_up: {cold: b, warm: a}}", "route: b", (false, false)),
            // a gutter has nothing of what was written while all was well
            ("route: {failover: [a, b]}", "route: b", (true, true)),
            ("route: a", "route: {failover: [b, a]}", (true, true)),
            // another key on the same server
            ("route: a", "route: {modify_key: {target: a, ensure_key_prefix: 'v2:'}}", (true, true)),
            ("route: a", "route: 'null'", (true, true)),
            ("route: 'null'", "route: a", (true, false)),
        ] {
            assert_eq!(moved(old, new, "k"), want, "{old} → {new}");
        }
    }

    #[test]
    fn prefixes_of_both() {
        let (a, b) = (
            config("route: {prefix: {wildcard: a, policies: {'u:': b}}}"),
            config("default_route: /a/b/\nroutes: {/a/b/: {prefix: {wildcard: a, policies: {'user:': b}}}}"),
        );
        assert_eq!(prefixes(&[&a, &b]), ["/a/b/user:", "/a/b/u:", "/a/b/", "user:", "u:", ""]);
    }
}
