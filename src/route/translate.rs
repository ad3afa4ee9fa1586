//! The routes of mcrouter's documents in our words: the same tree, with every default that differs spelled out.

use super::failover_policy;
use super::pool::instead_of;
use super::registry;
use super::shadow::{self, SHADOW_KEYS};
use super::shard_split;
use crate::config::{Config, Dialect, Endpoint, Node, Pool, Routes, legal_names};
use std::collections::HashMap;
use std::sync::Arc;

/// The same configuration, with all routes in our words: those of the document, and those among the servers of pools.
#[must_use]
pub fn in_our_words(config: &Config) -> Config {
    let mut config = config.clone();
    let Node::Map(document) = &config.routes.document else { return config };
    if config.routes.dialect == Dialect::Ringway {
        return config;
    }
    let empty = |pool: &Pool| Some((pool.name.clone(), instead_of(pool)?));
    let empty: HashMap<String, Node> = config.pools.iter().filter_map(empty).collect();
    let translator = Translator { pools: legal_names(&config), empty };
    let document = document.iter().map(|(key, node)| match key.as_str() {
        // mcrouter's keys always may have a routing prefix
        "route" => {
            let only = vec![(config.routes.default_prefix().to_owned(), translator.node(node))];
            ("routes".to_owned(), Node::Map(only))
        }
        _ => (key.clone(), translator.node(node)),
    });
    let document = Node::Map(document.collect());
    config.routes = Routes { dialect: Dialect::Ringway, document };
    config.pools.retain(|pool| !translator.empty.contains_key(&pool.name));
    for server in config.pools.iter_mut().flat_map(|pool| &mut pool.servers) {
        if let Endpoint::Route(route) = &mut server.endpoint {
            route.node = Arc::new(translator.node(&route.node));
        }
    }
    config
}

struct Translator {
    /// New names of pools.
    pools: HashMap<String, String>,
    /// What stands for pools without servers, which ours does not have.
    empty: HashMap<String, Node>,
}

impl Translator {
    fn node(&self, node: &Node) -> Node {
        match node {
            Node::Text(text) => match text.strip_prefix("PoolRoute|").and_then(|name| self.empty.get(name)) {
                Some(instead) => self.node(instead),
                None => Node::Text(self.text(text)),
            },
            Node::List(list) => Node::List(list.iter().map(|node| self.node(node)).collect()),
            Node::Map(map) => self.map(map),
            other => other.clone(),
        }
    }

    /// `PoolRoute|old` is `PoolRoute|new`.
    fn text(&self, text: &str) -> String {
        let renamed = text.split_once("Pool|").or_else(|| text.split_once("PoolRoute|"));
        if let Some((_, name)) = renamed
            && self.empty.contains_key(name)
        {
            // `HashRoute|Pool|none` has no children
            return text[..text.len() - name.len()].trim_end_matches("Pool|").to_owned();
        }
        match renamed.and_then(|(_, name)| Some((name, self.pools.get(name)?))) {
            Some((old, new)) => format!("{}{new}", &text[..text.len() - old.len()]),
            None => text.to_owned(),
        }
    }

    fn map(&self, map: &[(String, Node)]) -> Node {
        let kind = match map.iter().find(|(key, _)| key == "type") {
            Some((_, Node::Text(kind))) => kind.as_str(),
            _ => return Node::Map(map.iter().map(|(key, node)| (key.clone(), self.node(node))).collect()),
        };
        if kind == "Pool" {
            let of = |wanted: &str| map.iter().find(|(key, _)| key == wanted);
            if let Some((_, Node::Text(name))) = of("pool").or_else(|| of("name")) {
                return Node::Text(self.text(&format!("Pool|{name}")));
            }
        }
        if kind == "PoolRoute"
            && let Some((_, Node::Text(name))) = map.iter().find(|(key, _)| key == "pool")
            && let Some(instead) = self.empty.get(name)
        {
            return self.node(instead);
        }
        let known = registry::find(kind);
        let is_read = |key: &str, node: &Node| {
            // what mcrouter makes nothing of would count here
            if key == failover_policy::POLICY_KEY.name && !failover_policy::is_policy(node) {
                return false;
            }
            key == "type"
                || key == "name"
                || known.is_none_or(|kind| kind.keys.iter().any(|known| known.name == key))
        };
        let entry = |(key, node): &(String, Node)| {
            let node = match (key.as_str(), node) {
                ("type", _) => Node::Text(known.map_or(kind, |kind| kind.short).to_owned()),
                ("pool", Node::Text(name)) => Node::Text(self.pools.get(name).unwrap_or(name).clone()),
                ("shadows", Node::List(list)) => {
                    // what mcrouter leaves out is left out
                    let sound = list.iter().filter(|node| shadow::is_sound(node));
                    Node::List(sound.map(|node| self.shadow(node)).collect())
                }
                ("shard_splits", Node::Map(shards)) => {
                    let whole =
                        |(shard, split): &(String, Node)| (shard.clone(), shard_split::with_defaults(split));
                    Node::Map(shards.iter().map(whole).collect())
                }
                _ => self.node(node),
            };
            (key.clone(), node)
        };
        let mut entries: Vec<(String, Node)> =
            map.iter().filter(|(key, node)| is_read(key, node)).map(entry).collect();
        if kind == "BigValueRoute" && !map.iter().any(|(key, _)| key == "hide_reply_flag") {
            entries.push(("hide_reply_flag".to_owned(), Node::Bool(false)));
        }
        Node::Map(entries)
    }

    /// Where mcrouter's ranges are empty when they are not written, ours are everything.
    fn shadow(&self, node: &Node) -> Node {
        let Node::Map(map) = node else { return node.clone() };
        let read = map.iter().filter(|(key, _)| SHADOW_KEYS.contains(&key.as_str()));
        let mut shadow: Vec<(String, Node)> =
            read.map(|(key, node)| (key.clone(), self.node(node))).collect();
        let has = |wanted: &str| map.iter().any(|(key, _)| key == wanted);
        for range in ["index_range", "key_fraction_range"] {
            if !has(range) && !has("keys_to_shadow") {
                shadow.push((range.to_owned(), Node::List(vec![Node::Integer(0), Node::Integer(0)])));
            }
        }
        Node::Map(shadow)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use crate::config::{from_text, to_yaml};

    /// This document of mcrouter's in our words, which ours has to take.
    fn converted(json: &str) -> String {
        let (written, _) = from_text("t.json", json, check).unwrap();
        let yaml = to_yaml(&in_our_words(&written));
        let read = from_text("t.yaml", &yaml, check);
        assert!(read.is_ok(), "{}\n{yaml}", read.unwrap_err());
        yaml
    }

    /// Nobody has asked for its name yet, so it has no servers; but it is not one that never has any.
    #[test]
    fn a_pool_that_is_found_by_a_name_stays_a_pool() {
        for said in ["", r#", "error_on_empty": false"#] {
            let yaml = converted(&format!(
                r#"{{"pools": {{"A": {{"servers": ["dns+cache.example:11211"]{said}}}}}, "route": "PoolRoute|A"}}"#
            ));
            assert!(yaml.contains("cache.example") && yaml.contains("PoolRoute|A"), "{yaml}");
            assert!(yaml.contains("on_error: error"), "{yaml}");
        }
    }

    #[test]
    fn what_a_split_leaves_out_is_spelled_out() {
        let yaml = converted(
            r#"{"pools": {"A": {"servers": ["a:11211"]}},
                "route": {"type": "PoolRoute", "pool": "A", "shard_splits": {"7": {"new_split_size": 3}, "8": 2}}}"#,
        );
        for said in ["new_split_size: 3", "old_split_size: 1", "split_start: 0", "migration_period: 0"] {
            assert_eq!(yaml.matches(said).count(), 1, "{said}: {yaml}");
        }
    }
}
