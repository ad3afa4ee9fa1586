//! Which children are asked after the first one has failed, and in which order: mcrouter's failover policies.
//!
//! Source: mcrouter's `FailoverPolicy.h` and `FailoverRoute.h`. The first child always comes first. A server that is known to
//! be out, or that nobody can connect to, costs nothing: it is no try. Two things are ours: `max_tries` of children in order
//! counts (mcrouter reads it and forgets it), and no child is asked twice.

use super::Route;
use super::failover_errors::read_set;
use super::failure::{Failure, Failures};
use super::hash_func::{named, read_spec};
use super::key::routing_key;
use super::registry::{Key, Params};
use crate::config::{At, Node, Problem, Section, value};
use crate::hash::{Placement, Rendezvous, ch3_with_salt, weighted_ch3_with_salt};
use crate::protocol::{Cause, Op, Reply, Request};
use std::cell::Cell;
use std::rc::Rc;

pub(super) const POLICY_KEY: Key = Key {
    name: "failover_policy",
    what: "who is asked after a failure: `in_order` (default), or a map with this as its `type`, `least_failures`, \
           `deterministic`, `rendezvous`",
};
pub(super) const HASH_KEY: Key = Key { name: "hash", what: "with a policy: how it chooses" };
pub(super) const TAGS_KEY: Key =
    Key { name: "tags", what: "with `rendezvous`: a name for each child but the first" };

const KEYS: &[&str] = &[
    "type",
    "max_tries",
    "max_error_tries",
    "exclude_errors",
    "enable_failure_domains",
    "ignore_normal_reply_index",
    "hash",
    "tags",
    "weights",
];
const TYPES: &[(&str, Type)] = &[
    ("in_order", Type::InOrder),
    ("least_failures", Type::LeastFailures),
    ("deterministic", Type::Deterministic),
    ("rendezvous", Type::Rendezvous),
    ("LeastFailuresPolicy", Type::LeastFailures),
    ("DeterministicOrderPolicy", Type::Deterministic),
    ("RendezvousPolicy", Type::Rendezvous),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    InOrder,
    LeastFailures,
    Deterministic,
    Rendezvous,
}

/// How the others are tried.
pub(super) struct Policy {
    order: Order,
    /// Children that are asked, the first one included.
    children_count_max: usize,
    /// Failures that count until it is enough.
    failures_count_max: usize,
    /// Failures that do not count.
    excluded: Failures,
    /// The first child chooses among others than these. Otherwise the one at the place that it chose is left out.
    ignores_first: bool,
}

enum Order {
    /// As they are listed.
    Listed,
    /// Those that failed the least of late; for each child, its failures in a row.
    LeastFailures(Box<[Cell<u32>]>),
    /// By the key, one salt after the other.
    Deterministic(Deterministic),
    /// By the key, the highest score first; the first child has no tag.
    Rendezvous(Rendezvous),
}

struct Deterministic {
    /// With `WeightedCh3`: for each child, the first one included.
    weights: Option<Vec<f64>>,
    has_domains: bool,
}

/// mcrouter begins with 1 and adds before it asks.
const SALT_FIRST: u32 = 2;
/// Salts that are tried for the next child, mcrouter's; from the second number on its failure domain does not matter.
const SALTS_COUNT_MAX: u32 = 101;
const SALTS_COUNT_IN_DOMAIN_MAX: u32 = 76;

impl Policy {
    /// Reads `failover_policy` for so many children, at least two.
    pub(super) fn read(params: &Params<'_>, children_count: usize) -> Option<Self> {
        let in_order = Self {
            order: Order::Listed,
            children_count_max: children_count,
            failures_count_max: usize::MAX,
            excluded: Failures::NONE,
            ignores_first: false,
        };
        let Some(written) = params.section.node(POLICY_KEY.name) else { return Some(in_order) };
        let path = params.path().key(POLICY_KEY.name);
        // ours: the name alone
        let named = match written {
            Node::Text(_) if !params.is_mcrouter() => Node::Map(vec![("type".to_owned(), written.clone())]),
            _ => written.clone(),
        };
        let section = Section::open(&named, &path, params.section.findings, "a policy, a map with `type`")?;
        let policy = Params { section, ..*params };
        if !policy.is_mcrouter() {
            policy.section.refuse_unknown(KEYS, &[]);
        }
        policy.require("type")?;
        let kind = policy.section.value("type", |node| read_type(node, &policy))?;
        if kind == Type::InOrder && policy.is_mcrouter() {
            let problem = Problem::new("children are tried in order, whatever else is written here");
            policy.section.findings.warn(&path.key("type"), At::Value, problem.help("as mcrouter does"));
            return Some(in_order);
        }
        let tries = |key: &str| {
            let count = policy.count(key, 1..=u32::MAX as usize);
            if policy.has(key) && count.is_none() { None } else { Some(count) }
        };
        let (tries_max, failures_max) = (tries("max_tries")?, tries("max_error_tries")?);
        let excluded = match policy.section.node("exclude_errors") {
            Some(node) => read_set(params, node, &path.key("exclude_errors"))?,
            None => Failures::NONE,
        };
        let order = match kind {
            Type::InOrder => Order::Listed,
            Type::LeastFailures => Order::LeastFailures(vec![Cell::new(0); children_count].into()),
            Type::Deterministic => {
                Order::Deterministic(Deterministic::read(params, &policy, children_count)?)
            }
            Type::Rendezvous => Order::Rendezvous(read_tags(params, &policy, children_count - 1)?),
        };
        let needed: &[&str] = match kind {
            Type::LeastFailures => &["max_tries"],
            Type::Deterministic => &["max_tries", "max_error_tries"],
            Type::InOrder | Type::Rendezvous => &[],
        };
        if needed.iter().any(|key| policy.require(key).is_none()) {
            return None;
        }
        // in order, tries are counted; the other policies walk over so many children
        let (children_max, failures_max) =
            if kind == Type::InOrder { (None, tries_max) } else { (tries_max, failures_max) };
        let children_count_max = children_max.unwrap_or(children_count).min(children_count);
        Some(Self {
            order,
            children_count_max,
            failures_count_max: failures_max.unwrap_or(usize::MAX),
            excluded,
            ignores_first: policy.flag("ignore_normal_reply_index", false),
        })
    }

    /// A child has answered.
    pub(super) fn learn(&self, child: usize, reply: &Reply<'_>) {
        if let Order::LeastFailures(failures) = &self.order
            && let Some(count) = failures.get(child)
        {
            count.set(if Failure::of(reply).is_some() { count.get().saturating_add(1) } else { 0 });
        }
    }

    /// What `explain` calls it.
    pub(super) fn label(&self) -> String {
        let order = match &self.order {
            Order::Listed => "",
            Order::LeastFailures(_) => ": those that failed least of late",
            Order::Deterministic(_) => ": in an order made of the key",
            Order::Rendezvous(_) => ": by rendezvous",
        };
        match self.failures_count_max {
            usize::MAX => format!("failover{order}"),
            count => format!("failover{order}, until {count} tries have failed"),
        }
    }
}

fn read_type(node: &Node, policy: &Params<'_>) -> Result<Type, Problem> {
    let what = "a failover policy";
    if !policy.is_mcrouter() {
        return value::choice(node, what, TYPES);
    }
    let name = value::text(node, what)?;
    let known = TYPES.iter().find(|(known, _)| *known == name);
    Ok(known.map_or(Type::InOrder, |(_, kind)| *kind))
}

/// Whether mcrouter makes anything of this policy but in order.
pub(super) fn is_policy(node: &Node) -> bool {
    let Node::Map(map) = node else { return false };
    let is_one = |name: &str| TYPES.iter().any(|(known, kind)| *known == name && *kind != Type::InOrder);
    map.iter().any(|(key, node)| key == "type" && matches!(node, Node::Text(name) if is_one(name)))
}

impl Deterministic {
    fn read(route: &Params<'_>, policy: &Params<'_>, children_count: usize) -> Option<Self> {
        let mut weights = None;
        let of = if route.has(HASH_KEY.name) { route } else { policy };
        if let Some(node) = of.section.node(HASH_KEY.name) {
            let path = of.path().key(HASH_KEY.name);
            let named = named(node);
            let section = Section::open(&named, &path, of.section.findings, "a hash function, or a map")?;
            let spec = read_spec(&section, children_count)?;
            match spec.placement {
                Placement::Ch3 => {}
                Placement::WeightedCh3 => weights = Some(spec.weights),
                other => {
                    let problem = Problem::new(format!("Unknown hash function {}", other.name()));
                    of.fault(HASH_KEY.name, problem.help("`Ch3` or `WeightedCh3`"));
                    return None;
                }
            }
        }
        Some(Self { weights, has_domains: policy.flag("enable_failure_domains", false) })
    }

    fn pick(&self, key: &[u8], salt: u32, count: usize) -> usize {
        match &self.weights {
            None => ch3_with_salt(key, salt, count),
            Some(weights) => weighted_ch3_with_salt(key, salt, weights),
        }
    }
}

fn read_tags(route: &Params<'_>, policy: &Params<'_>, count: usize) -> Option<Rendezvous> {
    let of = if route.has(TAGS_KEY.name) { route } else { policy };
    of.require(TAGS_KEY.name)?;
    let tags = of.section.value(TAGS_KEY.name, |node| {
        let what = "a list of tags, one for each child but the first";
        let Node::List(list) = node else { return Err(value::expected(what, node)) };
        if list.len() != count {
            let problem = Problem::new(format!("{} tags for {count} children", list.len()));
            return Err(problem.help("one for each child but the first"));
        }
        list.iter().map(|tag| value::text(tag, "a tag")).collect::<Result<Vec<_>, _>>()
    })?;
    let by_weight = |node: &Node| matches!(node, Node::Text(name) if name == "WeightedRendezvous");
    let hash = route.section.node(HASH_KEY.name).or_else(|| policy.section.node(HASH_KEY.name));
    let weights = match hash.is_some_and(by_weight) {
        false => None,
        true => {
            policy.require("weights")?;
            Some(policy.section.value("weights", |node| {
                let number = |node: &Node| match node {
                    Node::Integer(weight) => Some(*weight as f64),
                    Node::Float(weight) => Some(*weight),
                    _ => None,
                };
                let list = if let Node::List(list) = node { list.as_slice() } else { &[] };
                let weights: Option<Vec<f64>> = list.iter().map(number).collect();
                let what = "a list of weights, one for each tag";
                weights.filter(|_| matches!(node, Node::List(_))).ok_or_else(|| value::expected(what, node))
            })?)
        }
    };
    let built = Rendezvous::build(&tags, weights.as_deref());
    built.map_err(|error| policy.fault("weights", Problem::new(error.to_string()))).ok()
}

/// One request on its way through the children.
pub(super) struct Walk<'r> {
    policy: &'r Policy,
    children: &'r [Rc<dyn Route>],
    /// Who was asked last.
    at: usize,
    asked_count: usize,
    failures_count: usize,
    next: Next,
}

enum Next {
    /// These, the next one last.
    Listed(Vec<usize>),
    Salted {
        salt: u32,
        used: Vec<bool>,
        failed_domains: Vec<String>,
    },
}

impl<'r> Walk<'r> {
    /// The first child has been asked.
    pub(super) fn new(policy: &'r Policy, children: &'r [Rc<dyn Route>], op: Op, key: &[u8]) -> Self {
        let count = children.len();
        let next = match &policy.order {
            Order::Listed => Next::Listed((1..count).rev().collect()),
            Order::LeastFailures(failures) => {
                let mut others: Vec<usize> = (1..count).collect();
                others.sort_by_key(|child| failures[*child].get());
                others.reverse();
                Next::Listed(others)
            }
            Order::Rendezvous(rendezvous) => {
                let first = if policy.ignores_first { None } else { children[0].chosen(op, key).place };
                let mut ranked = Vec::new();
                rendezvous.rank(routing_key(key), &mut ranked);
                let others = ranked.into_iter().rev().map(|index| index as usize);
                Next::Listed(others.filter(|index| Some(*index) != first).map(|index| index + 1).collect())
            }
            Order::Deterministic(_) => {
                let mut used = vec![false; count];
                used[0] = true;
                let first = if policy.ignores_first { None } else { children[0].chosen(op, key).place };
                if let Some(same) = first.and_then(|place| used.get_mut(place + 1)) {
                    *same = true;
                }
                Next::Salted { salt: SALT_FIRST, used, failed_domains: Vec::new() }
            }
        };
        Self { policy, children, at: 0, asked_count: 1, failures_count: 0, next }
    }

    /// Who is asked now that the last one has failed with `failed`; `None`: that is the answer.
    pub(super) fn next(&mut self, request: &Request<'_>, failed: &Reply<'_>) -> Option<usize> {
        let is_free = Failure::of(failed).is_some_and(Failure::is_free);
        if !is_free && !self.policy.excluded.has(failed) {
            self.failures_count += 1;
        }
        if self.failures_count >= self.policy.failures_count_max
            || self.asked_count >= self.policy.children_count_max
        {
            return None;
        }
        let key = routing_key(request.key);
        let domain = |child: usize| self.children[child].chosen(request.op, request.key).domain;
        self.at = match (&mut self.next, &self.policy.order) {
            (Next::Listed(others), _) => others.pop()?,
            (Next::Salted { salt, used, failed_domains }, Order::Deterministic(rule)) => {
                if is_free && rule.has_domains {
                    failed_domains.extend(domain(self.at).map(str::to_owned));
                }
                let has_failed =
                    |child| domain(child).is_some_and(|domain| failed_domains.iter().any(|f| f == domain));
                let mut salts = (*salt..).zip(0..SALTS_COUNT_MAX);
                let (found, child) = salts.find_map(|(salt, tried)| {
                    let child = rule.pick(key, salt, used.len());
                    let is_in_doubt = tried < SALTS_COUNT_IN_DOMAIN_MAX && has_failed(child);
                    (!used[child] && !is_in_doubt).then_some((salt, child))
                })?;
                *salt = found + 1;
                used[child] = true;
                child
            }
            (Next::Salted { .. }, _) => return None,
        };
        self.asked_count += 1;
        Some(self.at)
    }

    /// All that may be asked, in order, if each is out.
    pub(super) fn all(mut self, request: &Request<'_>) -> Vec<usize> {
        let out = Reply::failed(Cause::Connect);
        std::iter::from_fn(|| self.next(request, &out)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Say;
    use super::super::stage::{MISS, TIMEOUT, Tree, run, tree_with};
    use super::super::{Route as _, check};
    use crate::config;
    use crate::protocol::{Cause, Op, Request, Status};

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn pools() -> String {
        let one = |name: &str| format!("{name}: {{servers: [{name}]}}");
        let ones = NAMES.map(one).join(", ");
        format!(
            "pools: {{{ones}, five: {{servers: [a, b, c, d, e], hash: ch3, failure_domains: [x, x, 7, y, y]}}}}"
        )
    }

    /// All say the same to everything.
    fn all_say(route: &str, say: fn() -> Say) -> Tree {
        let many = || (0..60).map(|_| say()).collect::<Vec<_>>();
        tree_with("test", &format!("{}\nroute: {route}\n", pools()), NAMES.map(|name| (name, many())))
    }

    /// Who was asked since the last look, in the order of the list.
    fn asked(tree: &Tree) -> String {
        NAMES.iter().flat_map(|name| tree.heard(name).into_iter().map(|_| *name)).collect()
    }

    async fn asked_for(tree: &Tree, request: &str) -> String {
        tree.ask(request).await;
        asked(tree)
    }

    fn many(say: fn() -> Say) -> Vec<Say> {
        (0..60).map(|_| say()).collect()
    }

    fn policy(policy: &str) -> String {
        format!("{{type: failover, children: [a, b, c, d], failover_policy: {policy}}}")
    }

    #[test]
    fn in_order_tries_are_counted_and_what_costs_nothing_is_none() {
        run(async {
            let two = policy("{type: in_order, max_tries: 2}");
            assert_eq!(asked_for(&all_say(&two, || TIMEOUT), "get k").await, "ab");
            assert_eq!(asked_for(&all_say(&two, || Say::Fail(Cause::Connect)), "get k").await, "abcd");
            assert_eq!(asked_for(&all_say(&two, || MISS), "get k").await, "a");
            for op in ["set k 0 0 1|x", "delete k", "incr k 1", "touch k 1", "ms k 1|x", "mg k v"] {
                assert_eq!(asked_for(&all_say(&two, || TIMEOUT), op).await, "ab", "{op}");
            }
            let but_busy = policy("{type: in_order, max_tries: 2, exclude_errors: [busy]}");
            let busy = || Say::Line(Status::ErrorLine, "SERVER_ERROR 307 busy");
            assert_eq!(asked_for(&all_say(&but_busy, busy), "get k").await, "abcd");
        });
    }

    /// The rows of mcrouter's `failoverRouteTest`: leastFailuresCycle, …LastSucceeds, …FailAll.
    #[test]
    fn those_that_failed_least_come_first() {
        run(async {
            let tree = all_say(&policy("{type: LeastFailuresPolicy, max_tries: 2}"), || TIMEOUT);
            for second in ["ab", "ac", "ad", "ab", "ac", "ad"] {
                assert_eq!(asked_for(&tree, "get k").await, second);
            }
            let text = format!("{}\nroute: {}", pools(), policy("{type: least_failures, max_tries: 2}"));
            let scripts = [
                ("a", many(|| TIMEOUT)),
                ("b", many(|| TIMEOUT)),
                ("c", many(|| TIMEOUT)),
                ("d", many(|| MISS)),
            ];
            let tree = tree_with("test", &text, scripts);
            for second in ["ab", "ac", "ad", "ad", "ad"] {
                assert_eq!(asked_for(&tree, "get k").await, second);
            }
            let all = all_say(&policy("{type: least_failures, max_tries: 9}"), || TIMEOUT);
            assert_eq!(all.ask("get k").await, "SERVER_ERROR Reply timeout", "the last one's words");
            assert_eq!(asked(&all), "abcd");
        });
    }

    /// mcrouter's deterministicOrderTimeout, …Tko, ignoreTkoHardTkoAndTryAgain.
    #[test]
    fn an_order_made_of_the_key() {
        run(async {
            let of = |more: &str| policy(&format!("{{type: deterministic, max_tries: 4{more}}}"));
            let two = of(", max_error_tries: 2");
            let tree = all_say(&two, || TIMEOUT);
            let mut seconds = std::collections::BTreeSet::new();
            for key in 0..20 {
                let first = asked_for(&tree, &format!("get k{key}|#|1")).await;
                assert_eq!(first.len(), 2);
                assert_eq!(asked_for(&tree, &format!("get k{key}|#|2")).await, first, "always the same");
                seconds.insert(first);
            }
            assert_eq!(seconds.into_iter().collect::<Vec<_>>(), ["ab", "ac", "ad"]);
            assert_eq!(asked_for(&all_say(&two, || Say::Fail(Cause::Tko)), "get k").await, "abcd");
            let busy = || Say::Line(Status::ErrorLine, "SERVER_ERROR 307 busy");
            let but_busy = of(", max_error_tries: 1, exclude_errors: [busy]");
            assert_eq!(asked_for(&all_say(&but_busy, busy), "get k").await, "abcd");
            let weighted = of(", max_error_tries: 4, hash: {hash_func: WeightedCh3, weights: [1, 0, 1, 0]}");
            for key in 0..20 {
                let said = asked_for(&all_say(&weighted, || TIMEOUT), &format!("get k{key}")).await;
                assert!(said.starts_with("ac") || said == "abc" || said == "acd", "{said}");
            }
        });
    }

    #[test]
    fn the_first_childs_server_and_its_failure_domain_are_left_out() {
        run(async {
            let route = "{type: failover, children: [five, Pool|five], failover_policy: {type: deterministic, max_tries: 6, \
                         max_error_tries: 6, enable_failure_domains: DOMAINS}}";
            let none = route.replace("DOMAINS", "false");
            assert_eq!(asked_for(&all_say(&none, || TIMEOUT), "get k").await, "abcde", "nobody twice");
            let domains = route.replace("DOMAINS", "true").replace("max_tries: 6", "max_tries: 2");
            let tree = all_say(&domains, || Say::Fail(Cause::Tko));
            let mut apart = 0;
            for key in 0..40 {
                let both = asked_for(&tree, &format!("get k{key}")).await;
                assert!(!["ab", "de"].contains(&both.as_str()), "{both}: the same domain twice");
                apart += usize::from(both.len() == 2);
            }
            assert_eq!(apart, 40);
            // a timeout says nothing of the others in the domain
            let tree = all_say(&domains, || TIMEOUT);
            let mut same = 0;
            for key in 0..40 {
                let both = asked_for(&tree, &format!("get k{key}")).await;
                same += usize::from(["ab", "de"].contains(&both.as_str()));
            }
            assert!(same > 0);
        });
    }

    #[test]
    fn by_rendezvous() {
        run(async {
            let route = "{type: failover, children: [five, Pool|five], tags: [t1, t2, t3, t4, t5], \
                         failover_policy: {type: rendezvous}}";
            let tree = all_say(route, || Say::Fail(Cause::Closed));
            assert_eq!(asked_for(&tree, "get k").await, "abcde", "nobody twice");
            let key = b"k";
            let first = NAMES[crate::hash::Ring::build(
                &crate::hash::Spec { placement: crate::hash::Placement::Ch3, ..Default::default() },
                &vec![crate::hash::Member { host: "h".into(), port: None, name: None, weight: 1 }; 5],
            )
            .unwrap()
            .pick(key)
            .unwrap()];
            let tags = ["t1", "t2", "t3", "t4", "t5"];
            let mut ranked = Vec::new();
            crate::hash::Rendezvous::build(&tags, None).unwrap().rank(key, &mut ranked);
            let others = ranked.iter().map(|index| NAMES[*index as usize]).filter(|name| *name != first);
            let wanted: Vec<&str> = std::iter::once(first).chain(others).collect();
            let told = tree.root.explain(&Request::new(Op::Get, key));
            let told: Vec<&str> = told.servers();
            assert_eq!(told, wanted, "the same to every proxy");
            let weighted = "{type: failover, children: [a, b, c], failover_policy: {type: rendezvous, tags: [x, y], \
                            weights: [1, 0.5]}, hash: WeightedRendezvous}";
            assert_eq!(asked_for(&all_say(weighted, || TIMEOUT), "get k").await, "abc");
        });
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (policy, told) in [
            ("in_ordr", "did you mean `in_order`?"),
            ("{max_tries: 2}", "`type` is missing"),
            ("{type: least_failures}", "`max_tries` is missing"),
            ("{type: deterministic, max_tries: 2}", "`max_error_tries` is missing"),
            ("{type: deterministic, max_tries: 2, max_error_tries: 0}", "max_error_tries"),
            ("{type: rendezvous}", "`tags` is missing"),
            ("{type: rendezvous, tags: [a]}", "1 tags for 3 children"),
            ("{type: in_order, max_trys: 2}", "unknown key `max_trys`"),
            ("{type: in_order, exclude_errors: [bsy]}", "Failover error bsy is not a valid error result"),
            (
                "{type: deterministic, max_tries: 2, max_error_tries: 1, hash: Crc32}",
                "Unknown hash function crc32",
            ),
        ] {
            let text = format!("{}\nroute: {}", pools(), super::tests::policy(policy));
            let faults = config::from_text("t", &text, check).unwrap_err().to_string();
            assert!(faults.contains(told), "{policy}: {faults}");
        }
    }

    #[test]
    fn as_mcrouter_reads_it() {
        run(async {
            let json = |policy: &str| {
                format!(
                    "{{\"pools\": {{\"P\": {{\"servers\": [\"a:11211\", \"b:11211\", \"c:11211\"]}}}}, \"route\": {{\"type\": \
                     \"FailoverRoute\", \"children\": \"Pool|P\", \"failover_policy\": {policy}}}}}"
                )
            };
            let scripts = || ["a", "b", "c"].map(|name| (name, many(|| TIMEOUT)));
            let in_order = json("{\"type\": \"Foo\", \"max_tries\": 2}");
            let tree = tree_with("t.json", &in_order, scripts());
            assert_eq!(asked_for(&tree, "get k").await, "abc", "as if nothing were written");
            let (read, warnings) = config::from_text("t.json", &in_order, check).unwrap();
            assert!(warnings.iter().any(|w| w.0.to_string().contains("in order")), "{warnings:?}");
            let yaml = config::to_yaml(&super::super::in_our_words(&read));
            assert!(!yaml.contains("failover_policy"), "{yaml}");
            let least = json("{\"type\": \"LeastFailuresPolicy\", \"max_tries\": 2}");
            let tree = tree_with("t.json", &least, scripts());
            assert_eq!(asked_for(&tree, "get k").await, "ab");
            assert_eq!(asked_for(&tree, "get k").await, "ac");
        });
    }
}
