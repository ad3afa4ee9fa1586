//! SaltedFailoverRoute: a pool, and after a failure its own servers one by one.
//!
//! All operations: to the server that has the key; after a failure as FailoverRoute over all servers of the pool, mostly with
//! `failover_policy` `deterministic`, so that every proxy turns to the same ones.

use super::failover::{self, LIMIT_KEY, TAG_KEY};
use super::failover_errors::{ERRORS_KEY, Errors};
use super::failover_policy::{POLICY_KEY, TAGS_KEY};
use super::pairing::PAIRING_KEY;
use super::registry::{Key, Kind, Params};
use super::{Route, pool};
use crate::config::Node;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "SaltedFailoverRoute",
    short: "salted_failover",
    bare: "pool",
    keys: &[
        Key { name: "pool", what: "the pool's name" },
        Key { name: "hash", what: "how keys are placed, instead of what the pool says; also for the policy" },
        Key { name: "shadows", what: "copies of requests to other places, as in `shadow`" },
        ERRORS_KEY,
        LIMIT_KEY,
        TAG_KEY,
        POLICY_KEY,
        TAGS_KEY,
        PAIRING_KEY,
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let name = params.text("pool", "the name of a pool");
    let errors = Errors::read(params);
    // the same keys at the same places, so that their faults are told where they stand
    let keys = ["pool", "hash", "shadows"].into_iter();
    let written = keys.filter_map(|key| Some((key.to_owned(), params.section.node(key)?.clone())));
    let first = Node::Map(written.collect());
    let first = params.builder.of_kind(&pool::KIND, &first, params.path());
    let servers = params.builder.destinations(&name?, params.path())?;
    let children = std::iter::once(first?).chain(servers).collect();
    failover::of(params, children, errors?, false)
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Say;
    use super::super::stage::{TIMEOUT, run, tree, tree_with};
    use super::super::{Route as _, check};
    use crate::config;
    use crate::protocol::{Cause, Op, Request};

    #[test]
    fn every_server_once_and_the_keys_own_first() {
        run(async {
            let many =
                |say: fn() -> Say| ["a", "b", "c"].map(|n| (n, (0..9).map(|_| say()).collect::<Vec<_>>()));
            let policy = "failover_policy: {type: deterministic, max_tries: 3, max_error_tries: 2}";
            let route = format!("{{type: salted_failover, pool: all, hash: Ch3, {policy}}}");
            let plain = tree("{pool: {pool: all, hash: Ch3}}", []);
            let asked = |of: &super::super::stage::Tree| {
                ["a", "b", "c"].iter().filter(|name| !of.heard(name).is_empty()).count()
            };
            let slow = tree(&route, many(|| TIMEOUT));
            assert_eq!(slow.ask("get k").await, "SERVER_ERROR Reply timeout");
            assert_eq!(asked(&slow), 2);
            let out = tree(&route, many(|| Say::Fail(Cause::Tko)));
            out.ask("set k 0 0 1|x").await;
            assert_eq!(asked(&out), 3);
            for key in [b"k1", b"k2", b"k3"] {
                let request = Request::new(Op::Get, key);
                let (home, all) = (plain.root.explain(&request), out.root.explain(&request));
                assert_eq!(home.servers()[0], all.servers()[0]);
                assert_eq!(all.servers().len(), 3);
            }
        });
    }

    #[test]
    fn as_mcrouter_writes_it() {
        run(async {
            let text = "{\"pools\": {}, \"route\": {\"type\": \"SaltedFailoverRoute\", \"pool\": {\"name\": \"P\", \"servers\": \
                        [\"a:11211\", \"b:11211\"]}, \"failover_errors\": [\"timeout\"]}}";
            let scripts = ["a", "b"].map(|name| (name, vec![TIMEOUT, TIMEOUT]));
            let tree = tree_with("t.json", text, scripts);
            tree.ask("get k").await;
            let asked = tree.heard("a").len() + tree.heard("b").len();
            assert_eq!(asked, 3, "in order all are asked, the key's own once more");
            let faults = config::from_text(
                "t",
                "pools: {p: {servers: [x]}}\nroute: {type: salted_failover, pool: p, hash: Ch4, failover_errors: [x]}",
                check,
            );
            let faults = faults.unwrap_err().to_string();
            assert!(faults.contains("Ch4") && faults.contains("Failover error x"), "{faults}");
        });
    }
}
