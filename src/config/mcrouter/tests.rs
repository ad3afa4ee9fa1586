//! mcrouter's documents as a whole: what they say once macros, imports and pools are done; what stops them.

use super::*;
use crate::config::{Fault, OnError, from_text, to_yaml};
use std::time::{Duration, Instant};

/// What the document says, or the first fault.
fn expanded(text: &str) -> Result<Node, String> {
    let source = Arc::new(Source { name: "t.json".into(), text: text.to_owned() });
    let origin = Origin { params: vec![("zone".into(), "a".into())], ..Origin::default() };
    let files = Files::new(&origin.folder, &source);
    let written = files.first().map_err(|t| t.message)?;
    expand::document(&written, &files, &origin.params).map(|json| json.node()).map_err(|t| t.message)
}

/// The value of the key `x`.
fn value(macros: &str, x: &str) -> Result<Node, String> {
    let Node::Map(map) = expanded(&format!("{{\"macros\": {macros}, \"x\": {x}}}"))? else { panic!() };
    Ok(map[0].1.clone())
}

fn node(json: &str) -> Node {
    value("{}", json).unwrap()
}

#[track_caller]
fn same(x: &str, wanted: &str) {
    assert_eq!(value("{}", x), Ok(node(wanted)), "{x}");
}

#[test]
fn parameters_constants_and_calls() {
    let macros = r#"{
        "port": {"type": "constDef", "result": "11211"},
        "server": {"type": "macroDef", "params": ["host", {"name": "port", "default": "%port%"}],
                   "result": "%host%:%port%:ascii"},
        "list": {"type": "macroDef", "params": ["item"], "result": ["%item%", "@server(%item%)"]},
        "seen": {"type": "macroDef", "params": [{"name": "p", "optional": true}], "result": "@defined(p)"}
    }"#;
    for (x, wanted) in [
        (r#""@server(a,5)""#, r#""a:5:ascii""#),
        (r#"{"type": "server", "host": "b", "port": "@str(@int(7))"}"#, r#""b:7:ascii""#),
        // a default is taken as it is written
        (r#""@server(a)""#, r#""a:\\%port\\%:ascii""#),
        (r#""%port%-%zone%""#, r#""11211-a""#),
        (r#""@list(a)""#, r#"["a", "@server(a)"]"#),
        (r#""a\\%b\\@c""#, r#""a\\%b@c""#),
        (r#"["@seen", "@seen(1)"]"#, "[false, true]"),
        (r#"{"%zone%": 1, "type": "%zone%"}"#, r#"{"a": 1, "type": "a"}"#),
        (r#"{"type": "add", "vars": {"n": "@int(1)", "m": "%n%"}, "A": "%n%", "B": "%m%"}"#, "2"),
        (r#""%default-route%%default-region%""#, r#""/././.""#),
        (r#"{"type": "isInt", "value": "%hostid%"}"#, "true"),
    ] {
        assert_eq!(value(macros, x), value(macros, wanted), "{x}");
        assert!(value(macros, x).is_ok(), "{x}");
    }
}

#[test]
fn built_in_calls() {
    same(
        r#"["@int(5)", "@double(2.5)", "@str(@int(5))", "@bool(true)", "@bool(@int(0))"]"#,
        r#"[5, 2.5, "5", true, false]"#,
    );
    same(r#""@add(@int(2),@mul(@int(3),@int(4)))""#, "14");
    same(r#"["@sub(@int(2),@int(3))", "@div(@int(7),@int(2))", "@mod(@int(7),@int(2))"]"#, "[-1, 3, 1]");
    same(
        r#"["@bitwiseAnd(@int(6),@int(3))", "@bitwiseOr(@int(6),@int(3))", "@bitwiseXor(@int(6),@int(3))"]"#,
        "[2, 7, 5]",
    );
    same(
        r#"["@bitwiseNot(@int(0))", "@bitwiseLeftShift(@int(1),@int(4))", "@bitwiseRightShift(@int(16),@int(4))"]"#,
        "[-1, 16, 1]",
    );
    same(
        r#"["@and(@bool(1),@bool(0))", "@or(@bool(1),@bool(0))", "@not(@bool(1))"]"#,
        "[false, true, false]",
    );
    same(r#"{"type": "merge", "params": [[1], [2, 3]]}"#, "[1, 2, 3]");
    same(r#"{"type": "merge", "params": [{"a": 1}, {"b": 2, "a": 3}]}"#, r#"{"a": 3, "b": 2}"#);
    same(r#"{"type": "merge", "params": ["a", "b"]}"#, r#""ab""#);
    same(r#"{"type": "keys", "dictionary": {"a": 1, "b": 2}}"#, r#"["a", "b"]"#);
    same(r#"{"type": "values", "dictionary": {"a": 1, "b": 2}}"#, "[1, 2]");
    same(r#"{"type": "select", "dictionary": {"a": 1}, "key": "a"}"#, "1");
    same(r#"{"type": "select", "dictionary": [1, 2], "key": -1}"#, "2");
    same(r#"{"type": "select", "dictionary": {"a": 1}, "key": "b", "default": 3}"#, "3");
    same(r#"{"type": "slice", "dictionary": [1, 2, 3, 4], "from": 1, "to": 2}"#, "[2, 3]");
    same(
        r#"{"type": "slice", "dictionary": {"a": 1, "b": 2, "c": 3}, "from": "b", "to": "z"}"#,
        r#"{"b": 2, "c": 3}"#,
    );
    same(r#"["@slice(abcd,@int(1),@int(2))", "@split(a.b.,.)"]"#, r#"["bc", ["a", "b", ""]]"#);
    same(r#""@range(@int(2),@int(4))""#, "[2, 3, 4]");
    same(
        r#"["@contains(abc,b)", "@empty()", "@size(abc)", "@equals(a,a)", "@less(a,b)"]"#,
        "[true, true, 3, true, true]",
    );
    same(r#"{"type": "contains", "dictionary": [1, "a"], "key": "a"}"#, "true");
    same(
        r#"["@isString(a)", "@isInt(@int(1))", "@isBool(a)", "@isDouble(@double(1))", "@isLocalIp(127.0.0.1)"]"#,
        "[true, true, false, true, true]",
    );
    same(r#"[{"type": "isArray", "value": []}, {"type": "isObject", "value": {}}]"#, "[true, true]");
    same(r#"{"type": "sort", "dictionary": ["b", "a"]}"#, r#"["a", "b"]"#);
    same(r#"{"type": "set", "dictionary": {"a": 1}, "key": "b", "value": 2}"#, r#"{"a": 1, "b": 2}"#);
    same(r#"{"type": "set", "dictionary": [1, 2], "key": 0, "value": 3}"#, "[3, 2]");
    same(r#"["@if(@bool(1),a,@fail(no))", "@defined(zone)", "@defined(nothing)"]"#, r#"["a", true, false]"#);
    same(
        r#"{"type": "if", "condition": false, "is_true": "@fail(no)", "is_false": {"a": 1}}"#,
        r#"{"a": 1}"#,
    );
    same(r#""@hash(a)""#, &spooky_of_a().to_string());
    same(r#"{"type": "size", "dictionary": {"type": "shuffle", "dictionary": [1, 2, 3]}}"#, "3");
    same(r#"{"type": "weightedHash", "dictionary": {"a": 1, "b": 0}, "key": "k"}"#, r#""a""#);
    same(r#""@import(/no/such/file,otherwise)""#, r#""otherwise""#);
}

fn spooky_of_a() -> i64 {
    crate::hash::spooky64(b"a", 0).cast_signed()
}

#[test]
fn loops() {
    same(
        r#"{"type": "transform", "dictionary": [1, 2], "itemTranslate": {"n": "%item%", "i": "%key%"}}"#,
        r#"[{"n": 1, "i": 0}, {"n": 2, "i": 1}]"#,
    );
    same(
        r#"{"type": "transform", "dictionary": {"a": 1, "b": 2}, "keyTranslate": "k-%key%", "itemFilter": "@equals(%key%,a)"}"#,
        r#"{"k-a": 1}"#,
    );
    same(
        r#"{"type": "transform", "dictionary": {"a": 1}, "keyTransform": ["x", "y"], "itemTransform": "%it%", "itemName": "it"}"#,
        r#"{"x": 1, "y": 1}"#,
    );
    same(
        r#"{"type": "process", "initialValue": 0, "dictionary": [1, 2, 3], "transform": {"type": "add", "A": "%item%", "B": "%value%"}}"#,
        "6",
    );
    same(r#"{"type": "foreach", "from": {"a": 1, "b": 2}, "use": ["%key%"], "top": 1}"#, r#"["a"]"#);
    same(
        r#"{"type": "foreach", "from": [1, 2, 3], "where": {"type": "less", "A": "%item%", "B": 3}}"#,
        "[1, 2]",
    );
    same(r#"{"type": "foreach", "from": [], "use": {}, "noMatchResult": "none"}"#, r#""none""#);
    same(r#"{"type": "define", "vars": {"A": "B"}, "result": "%A%"}"#, r#""B""#);
}

#[test]
fn what_is_wrong_in_macros() {
    for (x, why) in [
        (r#""@nothing(1)""#, "there is no macro `nothing`"),
        (r#""%nothing%""#, "there is no parameter and no constant `nothing`"),
        (r#""%odd""#, "an odd number of percent signs around `odd`"),
        (r#""@add(1)""#, "`add` takes 2 arguments, not 1"),
        (r#""@add(1,2)""#, "expected an integer, found a string"),
        (r#""@add(@int(9223372036854775807),@int(1))""#, "of 9223372036854775807 and 1 there is no result"),
        (r#""@div(@int(1),@int(0))""#, "of 1 and 0 there is no result"),
        (r#""@fail(too old)""#, "too old"),
        (r#""@add((1""#, "no closing bracket for the call `@add((1`"),
        (r#""@add((1)""#, "brackets do not match: `(1`"),
        (r#"{"type": "select", "dictionary": {}, "key": "a"}"#, "there is no `a`, and no default"),
        (r#"{"type": "merge"}"#, "`merge` needs `params`"),
        (
            r#"{"type": "transform", "dictionary": 1}"#,
            "`transform`: `dictionary` is an integer, not an object or an array",
        ),
    ] {
        assert_eq!(value("{}", x), Err(why.to_owned()), "{x}");
    }
    assert!(value("[1]", "1").unwrap_err().contains("expected an object or an array of macros"));
    assert!(value(r#"{"a": {"type": "macroDef"}}"#, "1").unwrap_err().contains("`result` is missing"));
    let later =
        r#"{"a": {"type": "macroDef", "params": [{"name": "p", "optional": true}, "q"], "result": 1}}"#;
    assert!(value(later, "1").unwrap_err().contains("come last"));
}

#[test]
fn what_runs_away_is_stopped_within_a_second() {
    let itself = r#"{"type": "macroDef", "params": ["p"], "result"#;
    let doubled = r#"{"type": "process", "initialValue": "a", "dictionary": "@range(@int(1),@int(99))", "transform": "%value%%value%"}"#;
    let lists = r#"{"type": "process", "initialValue": ["a"], "dictionary": "@range(@int(1),@int(99))", "transform": ["%value%", "%value%"]}"#;
    let deep = r#"{"type": "process", "initialValue": ["a"], "dictionary": "@range(@int(1),@int(9999))", "transform": ["%value%"]}"#;
    for (macros, x, why) in [
        (
            format!(r#"{{"m": {itself}": "@m(%p%)"}}}}"#),
            r#""@m(1)""#,
            "Too many nested macros. Check for cycles.",
        ),
        (format!(r#"{{"m": {itself}": ["@m(1)", "@m(2)"]}}}}"#), r#""@m(1)""#, "Too many nested macros"),
        (
            format!(r#"{{"m": {itself}": {{"type": "m", "p": {{"type": "m", "p": "%p%"}}}}}}}}"#),
            r#""@m(1)""#,
            "Too many nested macros",
        ),
        (
            r#"{"c": {"type": "constDef", "result": "%c%"}}"#.into(),
            r#""%c%""#,
            "the constant `c` is part of itself",
        ),
        (
            "{}".into(),
            r#""@range(@int(0),@int(9223372036854775807))""#,
            "the macros take more than 1,000,000 steps",
        ),
        ("{}".into(), doubled, "the macros make more than 64MiB of text"),
        ("{}".into(), lists, "more than 2,000,000 values"),
        ("{}".into(), deep, "nested too deep"),
    ] {
        let start = Instant::now();
        let told = value(&macros, x).unwrap_err();
        assert!(told.starts_with(why), "{x}: {told}");
        assert!(start.elapsed() < Duration::from_secs(5), "{x}: {:?}, without optimisation", start.elapsed());
    }
}

fn no_check(_: &Config, _: &Findings) {}

fn faults(text: &str) -> Vec<Fault> {
    from_text("t.json", text, no_check).map_or_else(|faults| faults.list, |_| Vec::new())
}

#[test]
fn faults_within_macros_stand_where_they_are_written() {
    let text = "{\n  \"macros\": {\n    \"s\": {\"type\": \"macroDef\", \"params\": [\"h\"],\n      \"result\": \"%h%:no\"}\n  },\n  \"pools\": {\"A\": {\"servers\": [\"@s(a)\"]}},\n  \"route\": \"PoolRoute|A\"\n}\n";
    let told: Vec<String> = faults(text).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["t.json:4:17: pools.A.servers[0]: `no` is not a port (a number from 1 to 65535)"]);
}

#[test]
fn pools_inherit() {
    let text = r#"{"pools": {
        "a": {"inherit": "b", "server_timeout": 50},
        "b": {"inherit": "c", "servers": ["h:1"]},
        "c": {"servers": ["g:1"], "server_timeout": 20, "connect_timeout": 10}
    }, "route": {"type": "AllSyncRoute", "children": [
        "PoolRoute|a", {"type": "PoolRoute", "pool": {"name": "d", "inherit": "a", "servers": []}}]}}"#;
    let (config, _) = from_text("t.json", text, no_check).unwrap();
    let a = config.pool("a").unwrap();
    assert_eq!((a.servers[0].label(), a.timeout), ("h:1".to_owned(), Duration::from_millis(50)));
    assert_eq!(a.connect_timeout, Duration::from_millis(10));
    assert_eq!(config.pool("d").unwrap().timeout, Duration::from_millis(50));
    assert!(config.pool("d").unwrap().servers.is_empty());
    assert_eq!(config.pool("b"), None, "no route names it");
    let circle = r#"{"pools": {"a": {"inherit": "b"}, "b": {"inherit": "a"}}, "route": "PoolRoute|a"}"#;
    assert!(faults(circle)[0].message.contains("inherits from itself"), "{:?}", faults(circle));
}

/// Or the weights would count for nothing: a hash without a function is `Ch3`, which has none.
#[test]
fn a_hash_without_a_function_goes_by_the_weights_of_its_pool() {
    let hash_of = |pool: &str, hash: &str| {
        let text = format!(
            r#"{{"pools": {{"A": {{"servers": ["a:1", "b:1"]{pool}}}}},
                "route": {{"type": "PoolRoute", "pool": "A", "hash": {hash}}}}}"#
        );
        let (config, _) = from_text("t.json", &text, no_check).unwrap();
        let Node::Map(document) = config.routes.document else { panic!() };
        let Some((_, Node::Map(route))) = document.into_iter().find(|(key, _)| key == "route") else {
            panic!()
        };
        route.into_iter().find(|(key, _)| key == "hash").unwrap().1
    };
    let weights = r#", "weights": [1, 0.5]"#;
    for (pool, hash, wanted) in [
        (weights, r#"{"salt": "x"}"#, r#"{"salt": "x", "hash_func": "WeightedCh3", "weights": [1, 0.5]}"#),
        (weights, r#"{"weights": [0, 1]}"#, r#"{"weights": [0, 1], "hash_func": "WeightedCh3"}"#),
        (weights, r#"{"hash_func": "Crc32"}"#, r#"{"hash_func": "Crc32", "weights": [1, 0.5]}"#),
        (weights, r#""Crc32""#, r#"{"hash_func": "Crc32", "weights": [1, 0.5]}"#),
        ("", r#"{"weights": [0, 1]}"#, r#"{"weights": [0, 1]}"#),
    ] {
        assert_eq!(hash_of(pool, hash), node(wanted), "{hash}");
    }
}

/// What `error_on_empty` says would hold for gets that fail once servers are found.
#[test]
fn a_pool_that_is_found_by_a_name_is_not_empty() {
    let on_error = |servers: &str| {
        let text = format!(
            r#"{{"pools": {{"A": {{"servers": {servers}, "error_on_empty": false}}}}, "route": "PoolRoute|A"}}"#
        );
        from_text("t.json", &text, no_check).unwrap().0.pool("A").unwrap().on_error
    };
    assert_eq!(on_error(r#"["dns+cache.example:11211"]"#), OnError::Error);
    assert_eq!(on_error("[]"), OnError::Miss);
}

#[test]
fn both_thresholds_of_a_tracker_may_be_the_same() {
    let bounds = |tracker: &str| {
        let text = format!(
            r#"{{"pools": {{"A": {{"servers": ["a:1", "b:1", "c:1"], "tko_tracker": {tracker}}}}}, "route": "PoolRoute|A"}}"#
        );
        let (config, _) = from_text("t.json", &text, no_check).map_err(|faults| faults.to_string())?;
        let ours = from_text("t.yaml", &to_yaml(&config), no_check).map_err(|faults| faults.to_string())?.0;
        let fail_open = |config: &Config| config.pool("A")?.tko.as_ref()?.fail_open;
        assert_eq!(fail_open(&ours), fail_open(&config), "{tracker}: as `convert` writes it");
        Ok::<_, String>(fail_open(&config).map(|fail_open| fail_open.counts(3)))
    };
    let num = |upper, lower| {
        bounds(&format!(r#"{{"num_tko_threshold_upper": {upper}, "num_tko_threshold_lower": {lower}}}"#))
    };
    for (upper, lower, counts) in [(2, 2, (2, 1)), (3, 1, (3, 1)), (1, 1, (1, 0))] {
        assert_eq!(num(upper, lower), Ok(Some(counts)), "{upper} {lower}");
    }
    let percent = r#"{"percent_tko_threshold_upper": 50, "percent_tko_threshold_lower": 50}"#;
    assert_eq!(bounds(percent), Ok(Some((2, 1))));
    assert_eq!(bounds(r#"{"num_tko_threshold_upper": 3}"#), Ok(Some((3, 2))));
    for (upper, lower, why) in [(2, 3, "greater than the upper"), (0, 0, "from 1 to 1000000")] {
        let told = num(upper, lower).unwrap_err();
        assert!(told.contains(why), "{told}");
    }
}
