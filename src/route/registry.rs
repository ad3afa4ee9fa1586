//! Every route by its names, and how the routes read their keys.

use super::build::Builder;
use super::{
    Route, all, big_value, blackhole, eject, error, failover, failover_with_exptime, hash,
    hash_stop_allow_list, hedge, host_id, key_parse, key_split, l1l2_cache, l1l2_size_split,
    latency_injection, latest, load_balancer, logging, migrate, miss_failover, modify_exptime, modify_key,
    null, operation_selector, original_client_hash, outstanding_limit, pool, prefix_selector, random,
    rate_limit, routing_group, salted_failover, shadow, shard_split, slow_warm_up, staging, warm_up,
};
use crate::config::value::{self, expected};
use crate::config::{At, Dialect, Node, Path, Problem, Section, quoted};
use std::rc::Rc;
use std::time::Duration;

/// One kind of route.
pub(super) struct Kind {
    /// mcrouter's name: `FailoverRoute`.
    pub(super) name: &'static str,
    /// Ours: `failover`.
    pub(super) short: &'static str,
    /// The key that a value without keys stands for: `failover: [a, b]` is `failover: {children: [a, b]}`.
    pub(super) bare: &'static str,
    pub(super) keys: &'static [Key],
    /// `None` when something is wrong, which is then on record.
    pub(super) build: fn(&Params<'_>) -> Option<Rc<dyn Route>>,
}

/// One key of a route.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What it is, for the schema and for people.
    pub(super) what: &'static str,
}

/// All of them, in the order of `config/README.md`.
pub(super) const KINDS: &[&Kind] = &[
    &pool::KIND,
    &hash::KIND,
    &random::KIND,
    &host_id::KIND,
    &original_client_hash::KIND,
    &operation_selector::KIND,
    &routing_group::KIND,
    &prefix_selector::KIND,
    &modify_key::KIND,
    &modify_exptime::KIND,
    &all::SYNC,
    &all::ASYNC,
    &all::INITIAL,
    &all::FASTEST,
    &all::MAJORITY,
    &failover::KIND,
    &failover_with_exptime::KIND,
    &miss_failover::KIND,
    &latest::KIND,
    &salted_failover::KIND,
    &load_balancer::KIND,
    &eject::KIND,
    &hedge::KIND,
    &migrate::KIND,
    &shadow::KIND,
    &warm_up::KIND,
    &slow_warm_up::KIND,
    &staging::KIND,
    &l1l2_cache::KIND,
    &l1l2_size_split::KIND,
    &key_parse::KIND,
    &key_split::KIND,
    &shard_split::KIND,
    &big_value::KIND,
    &rate_limit::KIND,
    &outstanding_limit::KIND,
    &hash_stop_allow_list::KIND,
    &blackhole::KIND,
    &latency_injection::KIND,
    &logging::KIND,
    &null::NULL,
    &null::DEV_NULL,
    &error::KIND,
];

/// By either name. `PrefixPolicyRoute` is mcrouter's old name of `OperationSelectorRoute`.
pub(super) fn find(name: &str) -> Option<&'static Kind> {
    let name = if name == "PrefixPolicyRoute" { "OperationSelectorRoute" } else { name };
    KINDS.iter().copied().find(|kind| kind.name == name || kind.short == name)
}

/// The keys of one route, being read.
pub(super) struct Params<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) kind: &'static Kind,
    pub(super) section: Section<'a>,
}

impl Params<'_> {
    pub(super) fn is_mcrouter(&self) -> bool {
        self.builder.dialect() == Dialect::Mcrouter
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.section.node(key).is_some()
    }

    pub(super) fn fault(&self, key: &str, problem: Problem) {
        self.section.fault(key, problem);
    }

    /// The key must be there.
    pub(super) fn require(&self, key: &str) -> Option<&Node> {
        let node = self.section.node(key);
        if node.is_none() {
            let problem = Problem::new(format!("{} is missing", quoted(key)));
            let problem = match self.kind.keys.iter().find(|known| known.name == key) {
                Some(known) => problem.help(known.what),
                None => problem,
            };
            self.section.findings.fault(self.section.path, At::Key, problem);
        }
        node
    }

    /// The route under this key, which must be there.
    pub(super) fn child(&self, key: &str) -> Option<Rc<dyn Route>> {
        let node = self.require(key)?;
        self.builder.handle(node, &self.section.path.key(key))
    }

    /// The route under this key, if it is there: `Some(None)` when it is not.
    pub(super) fn child_or_nothing(&self, key: &str) -> Option<Option<Rc<dyn Route>>> {
        match self.section.node(key) {
            Some(node) => self.builder.handle(node, &self.section.path.key(key)).map(Some),
            None => Some(None),
        }
    }

    /// The routes under this key, in order; a pool as `Pool|name` stands for its servers.
    pub(super) fn children(&self, key: &str) -> Option<Vec<Rc<dyn Route>>> {
        let node = self.require(key)?;
        self.builder.children(node, &self.section.path.key(key))
    }

    /// The routes of a map from names to routes, each name read by `parse`.
    pub(super) fn routes_by<T>(
        &self,
        key: &str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, Problem>,
    ) -> Option<Vec<(T, Rc<dyn Route>)>> {
        let Some(node) = self.section.node(key) else { return Some(Vec::new()) };
        let path = self.section.path.key(key);
        let Node::Map(entries) = node else {
            self.fault(key, expected(what, node));
            return None;
        };
        let read = |(name, node): &(String, Node)| {
            let path = path.key(name);
            let named = parse(name).map_err(|p| self.section.findings.fault(&path, At::Key, p)).ok();
            let route = self.builder.handle(node, &path);
            Some((named?, route?))
        };
        // every entry is read, so that the first fault does not hide the next
        entries.iter().map(read).collect::<Vec<_>>().into_iter().collect()
    }

    pub(super) fn pool(&self, key: &str, name: &str) -> Option<Rc<pool::PoolRoute>> {
        self.builder.pool(name, &self.section.path.key(key))
    }

    pub(super) fn text(&self, key: &str, what: &str) -> Option<String> {
        self.require(key)?;
        self.section.value(key, |node| value::text(node, what))
    }

    pub(super) fn text_or(&self, key: &str, what: &str, otherwise: &str) -> String {
        self.section.value(key, |node| value::text(node, what)).unwrap_or_else(|| otherwise.to_owned())
    }

    pub(super) fn flag(&self, key: &str, otherwise: bool) -> bool {
        self.section.value(key, value::boolean).unwrap_or(otherwise)
    }

    pub(super) fn number(&self, key: &str, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
        self.section.value(key, |node| {
            let number = match node {
                Node::Integer(value) => Some(*value as f64),
                Node::Float(value) => Some(*value),
                _ => None,
            };
            number
                .filter(|n| range.contains(n))
                .ok_or_else(|| expected(&format!("a number from {} to {}", range.start(), range.end()), node))
        })
    }

    pub(super) fn count(&self, key: &str, range: std::ops::RangeInclusive<usize>) -> Option<usize> {
        self.section.value(key, |node| value::count(node, &range))
    }

    pub(super) fn integer(&self, key: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.section.value(key, |node| {
            let number = if let Node::Integer(value) = node { i64::try_from(*value).ok() } else { None };
            let what = format!("a whole number from {} to {}", range.start(), range.end());
            number.filter(|n| range.contains(n)).ok_or_else(|| expected(&what, node))
        })
    }

    /// A time to live in memcached's seconds: 0 is for ever, negative is at once. Ours takes a duration as well.
    pub(super) fn exptime(&self, key: &str) -> Option<i32> {
        let what = "a time to live: seconds, or a duration such as `60s`";
        self.section.value(key, |node| match node {
            Node::Integer(value) => i32::try_from(*value).map_err(|_| expected(what, node)),
            _ if self.is_mcrouter() => Err(expected("a whole number of seconds", node)),
            _ => {
                let range = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
                let duration = value::duration(node, &range).map_err(|_| expected(what, node))?;
                i32::try_from(duration.as_secs()).map_err(|_| expected(what, node))
            }
        })
    }

    pub(super) fn path(&self) -> &Path<'_> {
        self.section.path
    }
}
