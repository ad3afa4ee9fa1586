//! Where requests end: members of pools that are routes, and servers that want routing prefixes, over scripted leaves.

use super::Route;
use super::scripted::{Say, Waiting};
use super::stage::{DELETED, MISS, STORED, TIMEOUT, run, tree, tree_of, tree_with};
use crate::config;
use crate::protocol::{Cause, Op, Status};

/// A pool whose members are a route and a server.
const RING: &str = "limits: {value_bytes_max: 1KiB}
pools:
  a: {servers: [a]}
  b: {servers: [b]}
  ring: {servers: [{route: {failover: [a, b]}, name: first}, c], hash: modula}
route: ring
";

/// Keys of the route and of the server.
fn keys(root: &super::Root) -> (String, String) {
    let pool = root.pool(Op::Get, b"k").unwrap();
    let of =
        |index| (0..).map(|i| format!("k{i}")).find(|key| pool.pick(key.as_bytes()) == Some(index)).unwrap();
    (of(0), of(1))
}

#[test]
fn a_member_may_be_a_route() {
    run(async {
        let script = vec![TIMEOUT, MISS, Say::Line(Status::ErrorLine, "CLIENT_ERROR x")];
        let b = vec![STORED];
        let tree = tree_with("t.yaml", RING, [("a", script), ("b", b), ("c", vec![DELETED, TIMEOUT])]);
        let (routed, served) = keys(&tree.root);
        assert_eq!(tree.ask(&format!("set {routed} 0 0 1|x")).await, "STORED", "its own failover");
        assert_eq!(tree.ask(&format!("get {routed}")).await, "");
        assert_eq!(tree.ask(&format!("mg {routed}")).await, "CLIENT_ERROR x");
        assert_eq!(tree.ask(&format!("delete {served}")).await, "DELETED");
        assert_eq!(tree.ask(&format!("get {served}")).await, "SERVER_ERROR Reply timeout");
    });
}

#[test]
fn a_member_that_is_a_route_is_told_from_a_server() {
    run(async {
        let tree = tree_with("t.yaml", RING, []);
        assert!(tree.root.only_pool().is_none(), "keys of a get are asked for one by one");
        let pool = tree.root.pool(Op::Get, b"k").unwrap();
        let [member, server] = [0, 1].map(|index| pool.leaf(index).unwrap());
        assert_eq!((member.name(), member.is_tree(), server.is_tree()), ("first", true, false));
        let (waiting, slot) = Waiting::slot();
        member.flush_all(0, slot);
        assert_eq!(waiting.reply().unwrap(), "OK", "its servers are those of other pools");
    });
}

#[test]
fn members_that_are_routes_are_checked() {
    let faults = |text: &str| match config::from_text("t.yaml", text, super::check) {
        Ok(_) => String::new(),
        Err(faults) => faults.to_string(),
    };
    let told = faults(
        "pools: {a: {servers: [x, {route: {failover: [b, c]}}]}, b: {servers: [{route: a}]}}\nroute: a\n",
    );
    assert!(told.contains("pools.a.servers[1].route.failover"), "{told}");
    assert!(
        told.contains("the pool `a` is part of itself") && told.contains("there is no pool `c`"),
        "{told}"
    );
    let told = faults("pools: {a: {servers: [{route: 'null', address: x}]}}\n");
    assert!(told.contains("unknown key `address`"), "{told}");
    let json = r#"{"pools": {"A": {"servers": [{"type": "NoRoute"}, "h:1"]}}, "route": "PoolRoute|A"}"#;
    let told = match config::from_text("t.json", json, super::check) {
        Ok(_) => String::new(),
        Err(faults) => faults.to_string(),
    };
    assert_eq!(told.trim(), "t.json:1:30: pools.A.servers[0]: Unknown RouteHandle: NoRoute line: 1");
}

const HOPS: &str = "limits: {value_bytes_max: 1KiB}
pools:
  a: {servers: [a], keep_routing_prefix: true}
  b: {servers: [b]}
  c: {servers: [c], keep_routing_prefix: true}
routes:
  /x/main/: a
  /x/other/: b
  /x/fallback/: {modify_key: {target: c, ensure_key_prefix: 'p:'}}
  /y/main/: {modify_key: {target: c, set_routing_prefix: /z/z/}}
  /y/plain/: {modify_key: {target: c, set_routing_prefix: ''}}
default_route: /x/main/
";

#[test]
fn prefixes_go_on_to_who_wants_them() {
    run(async {
        let hit = || (0..6).map(|_| Say::Hit("1")).collect::<Vec<_>>();
        let tree = tree_with("t.yaml", HOPS, [("a", hit()), ("b", hit()), ("c", hit())]);
        for key in ["/x/main/k", "k", "/x/other/k", "/x/none/k", "/y/main/k", "/y/plain/k", "/x/*/k"] {
            assert_eq!(tree.ask(&format!("get {key}")).await, format!("VALUE {key} 0 1|1"));
        }
        assert_eq!(tree.heard("a"), ["get /x/main/k", "get k", "get /x/main/k"]);
        assert_eq!(tree.heard("b"), ["get k", "get k"]);
        assert_eq!(
            tree.heard("c"),
            ["get /x/none/p:k", "get /z/z/k", "get k", "get /x/fallback/p:k"],
            "whoever was sent to the fallback keeps the name that it asked for"
        );
    });
}

#[test]
fn a_key_without_room_for_its_prefix_is_refused() {
    run(async {
        let tree = tree_with("t.yaml", HOPS, [("c", vec![Say::Fail(Cause::Connect), MISS])]);
        let long = "k".repeat(241);
        assert_eq!(
            tree.ask(&format!("get /x/none/{long}")).await,
            "SERVER_ERROR The key provided is invalid"
        );
        assert!(tree.heard("c").is_empty(), "nothing is sent");
        assert_eq!(tree.ask("mg /x/none/k v k").await, "SERVER_ERROR connection error");
        assert_eq!(tree.ask("get /y/plain/k").await, "");
    });
}

#[test]
fn odd_handles() {
    run(async {
        let many = || (0..4).map(|_| MISS).collect::<Vec<_>>();
        // a named route within another; the second of a name is the first
        let text = "route: {type: all_sync, children: [{type: failover, name: f, children: [a]}, {type: failover, name: f, children: [b]}, [c], []]}\n";
        let named = tree_of(text, [("a", many()), ("c", many())]);
        named.ask("get k").await;
        assert_eq!((named.heard("a").len(), named.heard("b").len(), named.heard("c").len()), (2, 0, 1));
        // lists in lists, short forms in short forms, one child where one is wanted
        let nested =
            tree("{all_sync: [[a, [b]], 'HashRoute|Pool|c']}", [("a", many()), ("b", many()), ("c", many())]);
        nested.ask("get k").await;
        assert_eq!((nested.heard("a").len(), nested.heard("b").len(), nested.heard("c").len()), (1, 1, 1));
        let one = tree("[a]", [("a", many())]);
        one.ask("get k").await;
        let short = tree("'ErrorRoute|no|more'", []);
        assert_eq!(short.ask("get k").await, "SERVER_ERROR no|more");
        // mcrouter's list of handles, used before and after where they stand
        let json = r#"{"pools": {"a": {"servers": ["a:11211"]}}, "named_handles": [{"type": "NullRoute", "name": "none"},
            {"type": "FailoverRoute", "name": "f", "children": ["PoolRoute|a", "none"]}], "route": "f"}"#;
        let listed = tree_with("t.json", json, [("a", vec![TIMEOUT])]);
        assert_eq!(listed.ask("get k").await, "", "the null is asked after the failure");
    });
}
