//! Each route over scripted leaves: whom it asks, what it answers.

use super::scripted::Say;
use super::stage::{DELETED, MISS, NOT_FOUND, STORED, TIMEOUT, run, settle, tree, tree_of};
use crate::config;
use crate::protocol::{Cause, Status};

#[test]
fn failover_asks_the_next_after_a_failure_and_not_after_a_miss() {
    run(async {
        let tree = tree(
            "{failover: [a, b, c]}",
            [
                ("a", vec![Say::Hit("1"), MISS, TIMEOUT, TIMEOUT, TIMEOUT]),
                ("b", vec![Say::Hit("2"), Say::Fail(Cause::Connect), TIMEOUT]),
                ("c", vec![STORED, Say::Line(Status::ErrorLine, "SERVER_ERROR x")]),
            ],
        );
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
        assert_eq!(tree.ask("get k").await, "");
        assert_eq!(tree.heard("b").len(), 0);
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|2");
        assert_eq!(tree.ask("set k 1 2 3|abc").await, "STORED");
        assert_eq!(tree.heard("c"), ["set k 1 2 3|abc"]);
        assert_eq!(tree.ask("delete k").await, "SERVER_ERROR x", "the last one's words");
    });
}

#[test]
fn failover_minds_which_errors_count() {
    run(async {
        let route = "{type: failover, children: [a, b], failover_errors: {gets: [timeout], deletes: []}}";
        let closed = || Say::Fail(Cause::Closed);
        let tree = tree(
            route,
            [
                (
                    "a",
                    vec![
                        closed(),
                        TIMEOUT,
                        TIMEOUT,
                        closed(),
                        Say::Line(Status::ErrorLine, "CLIENT_ERROR x"),
                    ],
                ),
                ("b", vec![MISS, STORED]),
            ],
        );
        assert_eq!(tree.ask("get k").await, "SERVER_ERROR Connection closed by the server.");
        assert_eq!(tree.ask("get k").await, "", "a timeout counts for gets");
        assert_eq!(tree.ask("delete k").await, "SERVER_ERROR Reply timeout", "nothing counts for deletes");
        assert_eq!(tree.ask("set k 0 0 1|x").await, "STORED", "updates keep mcrouter's set");
        assert_eq!(tree.ask("set k 0 0 1|x").await, "CLIENT_ERROR x", "another server would say the same");
    });
}

#[test]
fn failover_on_a_miss_where_it_is_told_so() {
    run(async {
        let route = "{type: failover, children: [a, b], on: [error, miss]}";
        let tree = tree(route, [("a", vec![MISS]), ("b", vec![Say::Hit("2")])]);
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|2");
    });
}

#[test]
fn miss_failover_asks_on_for_gets_and_deletes_only() {
    run(async {
        let tree = tree(
            "{miss_failover: [a, b]}",
            [
                ("a", vec![MISS, NOT_FOUND, Say::Line(Status::NotStored, "NOT_STORED"), MISS]),
                ("b", vec![Say::Hit("2"), DELETED, TIMEOUT]),
            ],
        );
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|2");
        assert_eq!(tree.ask("delete k").await, "DELETED");
        assert_eq!(tree.ask("add k 0 0 1|x").await, "NOT_STORED");
        assert_eq!(tree.ask("get k").await, "SERVER_ERROR Reply timeout", "the last");
    });
}

#[test]
fn miss_failover_may_give_the_best() {
    run(async {
        let route = "{type: miss_failover, children: [a, b], return_best_on_error: true}";
        let tree = tree(route, [("a", vec![MISS]), ("b", vec![TIMEOUT])]);
        assert_eq!(tree.ask("get k").await, "");
    });
}

#[test]
fn failover_with_exptime_cuts_times_to_live_down() {
    run(async {
        let route = "{type: failover_with_exptime, normal: a, failover: b, failover_exptime: 30s}";
        let hd = || Say::Line(Status::Stored, "HD");
        let tree = tree(
            route,
            [
                ("a", (0..6).map(|_| TIMEOUT).collect()),
                ("b", vec![STORED, STORED, DELETED, hd(), hd(), hd()]),
            ],
        );
        for text in
            ["set k 0 0 1|x", "set k 0 10 1|x", "delete k", "ms k 1|x", "ms k 1 T90 c|x", "ms k 1 T5|x"]
        {
            tree.ask(text).await;
        }
        assert_eq!(tree.heard("a").first().map(String::as_str), Some("set k 0 0 1|x"), "unchanged there");
        assert_eq!(
            tree.heard("b"),
            ["set k 0 30 1|x", "set k 0 10 1|x", "delete k", "ms k 1 T30|x", "ms k 1 T30 c|x", "ms k 1 T5|x"]
        );
    });
}

#[test]
fn all_sync_gives_the_worst_and_waits_for_all() {
    run(async {
        let tree = tree(
            "{all_sync: [a, b, c]}",
            [
                ("a", vec![STORED, DELETED, STORED]),
                ("b", vec![Say::Wait, NOT_FOUND, Say::Line(Status::ErrorLine, "SERVER_ERROR b")]),
                ("c", vec![STORED, DELETED, TIMEOUT]),
            ],
        );
        let waiting = tree.send("set k 0 0 1|x").await;
        assert_eq!(waiting.reply(), None);
        tree.finish("b", &crate::protocol::Reply::line(Status::NotStored, b"NOT_STORED"));
        settle().await;
        assert_eq!(waiting.reply().unwrap(), "NOT_STORED");
        assert_eq!(tree.ask("delete k").await, "NOT_FOUND");
        assert_eq!(tree.ask("set k 0 0 1|x").await, "SERVER_ERROR b");
        assert_eq!(tree.heard("c").len(), 3);
    });
}

#[test]
fn all_async_waits_for_nobody() {
    run(async {
        let wait = || vec![Say::Wait, Say::Wait, Say::Wait];
        let tree = tree("{all_async: [a, b]}", [("a", wait()), ("b", wait())]);
        assert_eq!(tree.ask("set k 0 0 1|x").await, "NOT_STORED", "as mcrouter");
        assert_eq!(tree.ask("delete k").await, "NOT_FOUND");
        assert_eq!(tree.ask("ms k 1 Oabc|x").await, "NS Oabc");
        assert_eq!((tree.heard("a").len(), tree.heard("b").len()), (3, 3));
        let says =
            super::stage::tree("{type: all_async, children: [a], reply: stored}", [("a", vec![Say::Wait])]);
        assert_eq!(says.ask("set k 0 0 1|x").await, "STORED");
    });
}

#[test]
fn all_initial_gives_the_first_childs_reply_even_an_error() {
    run(async {
        let tree = tree("{all_initial: [a, b]}", [("a", vec![TIMEOUT]), ("b", vec![Say::Wait])]);
        assert_eq!(tree.ask("set k 0 0 1|x").await, "SERVER_ERROR Reply timeout");
        assert_eq!(tree.heard("b").len(), 1);
    });
}

#[test]
fn all_fastest_gives_the_first_good_reply() {
    run(async {
        let tree = tree(
            "{all_fastest: [a, b, c]}",
            [
                ("a", vec![TIMEOUT, TIMEOUT]),
                ("b", vec![Say::Wait, TIMEOUT]),
                ("c", vec![MISS, Say::Line(Status::ErrorLine, "SERVER_ERROR c")]),
            ],
        );
        assert_eq!(tree.ask("get k").await, "", "a fast miss counts");
        assert_eq!(tree.ask("get k").await, "SERVER_ERROR c", "all failed: the last");
    });
}

#[test]
fn all_majority_counts_results() {
    run(async {
        let tree = tree(
            "{all_majority: [a, b, c]}",
            [("a", vec![STORED, DELETED]), ("b", vec![STORED, NOT_FOUND]), ("c", vec![Say::Wait, TIMEOUT])],
        );
        assert_eq!(tree.ask("set k 0 0 1|x").await, "STORED", "two of three are enough");
        assert_eq!(tree.ask("delete k").await, "SERVER_ERROR Reply timeout", "of equals the worst");
    });
}

#[test]
fn operations_go_where_they_are_sent() {
    run(async {
        let route = "{type: operation, default_policy: a, operation_policies: {get: b, set: c, ms: b}}";
        let tree = tree(
            route,
            [
                ("a", vec![DELETED]),
                ("b", vec![MISS, Say::Line(Status::Miss, "EN"), Say::Line(Status::Stored, "HD")]),
                ("c", vec![STORED]),
            ],
        );
        for text in ["delete k", "get k", "mg k v", "ms k 1|x", "set k 0 0 1|x"] {
            tree.ask(text).await;
        }
        assert_eq!(tree.heard("b"), ["get k", "mg k v", "ms k 1|x"], "mg as get; ms has its own entry");
        assert_eq!(
            (tree.heard("a"), tree.heard("c")),
            (vec!["delete k".into()], vec!["set k 0 0 1|x".into()])
        );
        let none = super::stage::tree("{type: operation, operation_policies: {get: b}}", []);
        let told = none.ask("set k 0 0 1|x").await;
        assert_eq!(told, "SERVER_ERROR unexpected result mc_res_unknown (0) for set");
    });
}

#[test]
fn classes_of_operations_go_where_they_are_sent() {
    run(async {
        let route =
            "{type: routing_group, default_policy: a, routing_group_policies: {get_like: b, delete_like: c}}";
        let tree = tree(route, [("a", vec![STORED, NOT_FOUND]), ("b", vec![MISS]), ("c", vec![DELETED])]);
        for text in ["set k 0 0 1|x", "touch k 1", "get k", "delete k"] {
            tree.ask(text).await;
        }
        assert_eq!(tree.heard("a").len(), 2);
    });
}

#[test]
fn the_longest_prefix_wins() {
    run(async {
        let route = "{type: prefix, policies: {'u:': a, 'u:1': b, 'u:1:x': c, v: a}, wildcard: 'null'}";
        let many = || (0..4).map(|_| MISS).collect::<Vec<_>>();
        let tree = tree(route, [("a", many()), ("b", many()), ("c", many())]);
        for key in ["u:1:xy", "u:1:w", "u:2", "u:0", "u:1", "vv", "w", "u"] {
            tree.ask(&format!("get {key}")).await;
        }
        assert_eq!(tree.heard("c"), ["get u:1:xy"]);
        assert_eq!(tree.heard("b"), ["get u:1:w", "get u:1"]);
        assert_eq!(tree.heard("a"), ["get u:2", "get u:0", "get vv"]);
    });
}

#[test]
fn keys_are_changed_towards_servers_only() {
    run(async {
        let hit = || Say::Hit("1");
        let tree = tree(
            "{type: modify_key, target: a, ensure_key_prefix: 'p:', set_key_suffix: '!'}",
            [("a", vec![hit(), hit(), STORED, hit(), Say::Line(Status::NotFound, "NF kp:k!")])],
        );
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
        assert_eq!(tree.ask("get p:k").await, "VALUE p:k 0 1|1");
        assert_eq!(tree.ask("set k 0 0 1|x").await, "STORED");
        assert_eq!(tree.ask("mg k v k").await, "VA 1 kk|1");
        assert_eq!(tree.ask("md k k").await, "NF kk");
        assert_eq!(tree.heard("a"), ["get p:k!", "get p:k!", "set p:k! 0 0 1|x", "mg p:k! v k", "md p:k! k"]);
        let long = tree.ask(&format!("get {}", "k".repeat(248))).await;
        assert_eq!(long, "SERVER_ERROR ModifyKeyRoute: invalid key: too long");
    });
}

#[test]
fn a_prefix_is_replaced_or_written_over() {
    run(async {
        let route = "{type: modify_key, target: a, ensure_key_prefix: 'new:', replace_key_prefix: 'old:'}";
        let replaced = tree(route, [("a", vec![MISS, MISS])]);
        replaced.ask("get old:k").await;
        replaced.ask("get k").await;
        assert_eq!(replaced.heard("a"), ["get new:k", "get new:k"]);
        let route = "{type: modify_key, target: a, ensure_key_prefix: 'ab', modify_inplace: true}";
        let over = tree(route, [("a", vec![MISS, MISS])]);
        over.ask("get xyz").await;
        over.ask("get x").await;
        assert_eq!(over.heard("a"), ["get abz", "get abx"]);
    });
}

#[test]
fn base64_keys_stay_base64() {
    run(async {
        let tree = tree(
            "{type: modify_key, target: a, ensure_key_prefix: 'p:'}",
            [("a", vec![Say::Line(Status::Miss, "EN kcDpr b")])],
        );
        assert_eq!(tree.ask("mg aw== b k v").await, "EN kaw== b");
        assert_eq!(tree.heard("a"), ["mg cDpr b k v"]);
    });
}

#[test]
fn routing_prefixes_are_taken_off_and_given_back() {
    run(async {
        let text = "routes: {/x/a/: a, /x/b/: b, /y/c/: c, /x/fallback/: 'null'}\ndefault_route: /x/b/\n";
        let hit = || (0..4).map(|_| Say::Hit("1")).collect::<Vec<_>>();
        let tree = tree_of(text, [("a", hit()), ("b", hit()), ("c", hit())]);
        assert_eq!(tree.ask("get /x/a/k").await, "VALUE /x/a/k 0 1|1");
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
        assert_eq!(tree.ask("get /x/zz/k").await, "", "its region's fallback");
        assert_eq!(tree.ask("get /z/a/k").await, "SERVER_ERROR RootRoute: No rh found");
        assert_eq!(tree.ask("mg /x/*/k k v").await, "VA 1 k/x/*/k|1");
        assert_eq!(tree.ask("get /*/*/k").await, "VALUE /*/*/k 0 1|1");
        assert_eq!(tree.heard("b"), ["get k", "mg k k v", "get k"]);
        assert_eq!(tree.heard("a"), ["get k", "mg k k v", "get k"], "beside the default route");
        assert_eq!(tree.heard("c"), ["get k"]);
        let text = "routes: [{aliases: [/x/a/, /X/A/], route: a}, {aliases: [/x/b/, /y/b/], route: {failover: [b, c]}}]\n\
                    default_route: /x/b/\nsend_invalid_route_to_default: true\n";
        let several = tree_of(text, [("a", hit()), ("b", hit())]);
        several.ask("get /*/*/k").await;
        assert_eq!((several.heard("a").len(), several.heard("b").len()), (1, 1), "once, whatever its names");
        assert_eq!(several.ask("get /q/*/k").await, "VALUE /q/*/k 0 1|1");
        let plain = super::stage::tree("a", [("a", vec![Say::Hit("1")])]);
        assert_eq!(plain.ask("get /x/a/k").await, "VALUE /x/a/k 0 1|1", "a key like any other");
        assert_eq!(plain.heard("a"), ["get /x/a/k"]);
    });
}

#[test]
fn nobody_is_asked() {
    run(async {
        let null = tree("'null'", []);
        assert_eq!(null.ask("get k").await, "");
        assert_eq!(null.ask("incr k 1").await, "NOT_FOUND");
        assert_eq!(null.ask("mg k Ox k").await, "EN Ox kk");
        let error = tree("{error: gone away}", []);
        assert_eq!(error.ask("get k").await, "SERVER_ERROR gone away");
        let failing = |result: &str| format!("{{failover: [{{type: error, result: {result}}}, a]}}");
        let over = tree(&failing("mc_res_timeout"), [("a", vec![MISS])]);
        assert_eq!(over.ask("get k").await, "");
        let told = tree(&failing("mc_res_client_error"), []);
        assert_eq!(told.ask("get k").await, "CLIENT_ERROR client error", "the next one would say the same");
        let told = tree(&failing("bad_value"), []);
        assert_eq!(told.ask("get k").await, "SERVER_ERROR bad value");
        let hashed = tree("{hash: [a]}", [("a", vec![MISS])]);
        assert_eq!(hashed.ask("get k").await, "");
    });
}

#[test]
fn short_forms_and_handles() {
    run(async {
        let tree =
            tree("'FailoverRoute|Pool|all'", [("a", vec![TIMEOUT]), ("b", vec![TIMEOUT]), ("c", vec![MISS])]);
        assert_eq!(tree.ask("get k").await, "");
        let faults = |route: &str| {
            let text = format!("pools: {{a: {{servers: [x]}}}}\n{route}\n");
            match config::from_text("t", &text, super::check) {
                Ok((_, warnings)) => warnings.iter().map(|w| w.0.to_string()).collect::<Vec<_>>().join("; "),
                Err(faults) => faults.to_string(),
            }
        };
        assert_eq!(faults("named_handles: {h: {failover: [a, 'null']}}\nroute: {all_sync: [h, a]}"), "");
        let told = faults("named_handles: {h: {failover: [a, g]}, g: h}\nroute: h");
        assert!(told.contains("is part of itself"), "{told}");
        let told = faults("named_handles: {h: a}\nroute: a");
        assert!(told.contains("no route uses this handle"), "{told}");
        let told = faults("route: {failovr: [a]}");
        assert!(told.contains("did you mean `failover`?"), "{told}");
        let told = faults("route: {type: failover, children: [a, b], failover_errors: [timout], x: 1}");
        assert!(told.contains("there is no pool `b`") && told.contains("timout"), "all at once: {told}");
        assert!(told.contains("unknown key `x`"), "{told}");
        let nested = format!("route: {}a{}", "{all_sync: [".repeat(60), "]}".repeat(60));
        assert_eq!(faults(&nested), "");
    });
}

#[test]
fn a_cold_cache_is_filled_from_a_warm_one() {
    run(async {
        let tree = tree(
            "{type: warm_up, cold: a, warm: b}",
            [
                (
                    "a",
                    vec![Say::Hit("0"), MISS, Say::Line(Status::Stored, "HD"), MISS, TIMEOUT, MISS, STORED],
                ),
                ("b", vec![Say::Meta("VA 3 f7 t90 c5", "abc"), Say::Line(Status::Miss, "EN"), TIMEOUT]),
            ],
        );
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|0");
        assert_eq!(tree.ask("get k").await, "VALUE k 7 3|abc");
        assert_eq!(tree.heard("b"), ["mg k v f t c"]);
        assert_eq!(tree.heard("a"), ["get k", "get k", "ms k 3 F7 T90 ME E5|abc"]);
        assert_eq!(tree.ask("get k").await, "", "both miss");
        assert_eq!(
            tree.ask("get k").await,
            "SERVER_ERROR Reply timeout",
            "the cold one's failure is an answer"
        );
        assert_eq!(tree.ask("get k").await, "", "the warm one's is a miss");
        assert_eq!(tree.ask("set k 0 0 1|x").await, "STORED");
        assert_eq!(tree.heard("b").len(), 2);
    });
}

#[test]
fn what_is_as_good_as_gone_is_not_copied() {
    run(async {
        let (en, hd) = (|| Say::Line(Status::Miss, "EN"), || Say::Line(Status::Stored, "HD"));
        let stale = || Say::Meta("VA 3 f0 t90 c5 W X", "old");
        let warm =
            vec![stale(), Say::Meta("VA 0 f0 t90 c5 Z", ""), stale(), Say::Meta("VA 3 f0 t9 c5 Z", "abc")];
        let scripts = [("a", vec![MISS, MISS, en(), en(), MISS, hd()]), ("b", warm)];
        let tree = tree("{type: warm_up, cold: a, warm: b}", scripts);
        assert_eq!(tree.ask("get k").await, "VALUE k 0 3|old");
        assert_eq!(tree.ask("get k").await, "VALUE k 0 0|", "somebody is about to put it there");
        assert_eq!(tree.ask("mg k v T9").await, "EN", "the cold one has nothing");
        assert_eq!(tree.heard("a"), ["get k", "get k", "mg k v T9", "mg k v T9"]);
        assert_eq!(tree.ask("get k").await, "VALUE k 0 3|abc", "recached soon, and good until then");
        assert_eq!(tree.heard("a"), ["get k", "ms k 3 F0 T9 ME E5|abc"]);
    });
}

#[test]
fn the_warm_cache_is_left_as_it_is() {
    run(async {
        let (en, hd) = (Say::Line(Status::Miss, "EN"), Say::Line(Status::Stored, "HD"));
        let found = || Say::Meta("VA 3 b t90", "abc");
        let tree = tree(
            "{type: warm_up, cold: a, warm: b}",
            [("a", vec![en, hd, found()]), ("b", vec![Say::Meta("VA 3 b f0 t90 c5", "abc")])],
        );
        assert_eq!(tree.ask("mg ICA= b v T30").await, "VA 3 b t90|abc");
        assert_eq!(tree.heard("b"), ["mg ICA= b v f t c"]);
        assert_eq!(tree.heard("a"), ["mg ICA= b v T30", "ms ICA= 3 F0 T90 ME E5 b|abc", "mg ICA= b v T30"]);
    });
}

#[test]
fn a_cas_is_the_cold_caches() {
    run(async {
        let tree = tree(
            "{type: warm_up, cold: a, warm: b, exptime: 10s}",
            [
                ("a", vec![MISS, Say::Line(Status::Stored, "HD"), Say::Line(Status::Hit, "VALUE k 7 3 5")]),
                ("b", vec![Say::Meta("VA 3 f7 t-1 c5", "abc")]),
            ],
        );
        assert_eq!(tree.ask("gets k").await, "VALUE k 7 3 5");
        assert_eq!(tree.heard("a"), ["gets k", "ms k 3 F7 T10 ME E5|abc", "gets k"]);
    });
}

#[test]
fn a_meta_get_is_answered_in_its_own_words() {
    run(async {
        let en = || Say::Line(Status::Miss, "EN");
        let hd = || Say::Line(Status::Stored, "HD");
        let tree = tree(
            "{type: warm_up, cold: a, warm: b}",
            [
                ("a", vec![en(), hd(), en(), hd()]),
                ("b", vec![Say::Meta("VA 3 Oxy f7 kk t90 c5", "abc"), Say::Meta("VA 3 s3 f0 t-1 c9", "abc")]),
            ],
        );
        assert_eq!(tree.ask("mg k Oxy f k").await, "HD Oxy f7 kk");
        assert_eq!(tree.ask("mg k s v").await, "VA 3 s3|abc");
        assert_eq!(tree.heard("b"), ["mg k Oxy f k v t c", "mg k s v f t c"]);
    });
}

#[test]
fn two_levels() {
    run(async {
        let hd = || Say::Line(Status::Stored, "HD");
        let tree = tree(
            "{type: l1l2_cache, l1: a, l2: b, upgradingL1Exptime: 30s}",
            [
                ("a", vec![MISS, hd(), TIMEOUT, TIMEOUT, STORED]),
                (
                    "b",
                    vec![
                        Say::Meta("VA 1 f0 t500 c3", "x"),
                        Say::Line(Status::Miss, "EN"),
                        Say::Fail(Cause::Closed),
                    ],
                ),
            ],
        );
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|x");
        assert_eq!(tree.heard("a"), ["get k", "ms k 1 F0 T30 ME E3|x"]);
        assert_eq!(tree.ask("get k").await, "", "l2 knows better than a dead l1");
        assert_eq!(tree.ask("get k").await, "SERVER_ERROR Connection closed by the server.");
        assert_eq!(tree.ask("set k 0 0 1|x").await, "STORED");
    });
}

#[test]
fn a_get_that_touches_touches_where_the_item_is() {
    run(async {
        let tree = tree(
            "{type: l1l2_cache, l1: a, l2: b, upgradingL1Exptime: 30s}",
            [("a", vec![MISS, STORED]), ("b", vec![Say::Meta("VA 1 f0 t3600 c5", "x")])],
        );
        assert_eq!(tree.ask("gat 3600 k").await, "VALUE k 0 1|x");
        assert_eq!(tree.heard("b"), ["mg k T3600 v f t c"]);
    });
}

#[test]
fn l1_remembers_what_l2_does_not_have() {
    run(async {
        let (hd, en) = (|| Say::Line(Status::Stored, "HD"), || Say::Line(Status::Miss, "EN"));
        let route = "{type: l1l2_cache, l1: a, l2: b, upgradingL1Exptime: 30, ncacheExptime: 9, ncacheUpdatePeriod: 2}";
        let remembered = || Say::Meta("VA 6 f65536", "ncache");
        let tree = tree(
            route,
            [
                (
                    "a",
                    vec![
                        MISS,
                        hd(),
                        remembered(),
                        remembered(),
                        hd(),
                        remembered(),
                        Say::Line(Status::Hit, "HD f65536"),
                        hd(),
                    ],
                ),
                ("b", vec![en(), Say::Meta("VA 1 f0 t500 c3", "x"), en()]),
            ],
        );
        assert_eq!(tree.ask("get k").await, "");
        assert_eq!(
            (tree.heard("a"), tree.heard("b").len()),
            (vec!["get k".into(), "ms k 6 F65536 T9 ME|ncache".into()], 1)
        );
        assert_eq!(tree.ask("mg k v").await, "EN");
        assert_eq!(
            (tree.heard("a"), tree.heard("b").len()),
            (vec!["mg k v f".into()], 0),
            "the first of two"
        );
        assert_eq!(tree.ask("mg k v f").await, "EN");
        settle().await;
        assert_eq!(tree.heard("b").len(), 1, "the second asks again");
        assert_eq!(tree.heard("a"), ["mg k v f", "ms k 1 F0 T30 MS E3|x"]);
        assert_eq!(tree.ask("mg k v").await, "EN");
        assert_eq!(tree.ask("mg k t").await, "EN", "whatever is asked");
        settle().await;
        assert_eq!(
            tree.heard("a"),
            ["mg k v f", "mg k t f", "ms k 6 F65536 T9 MS|ncache"],
            "the miss lives on"
        );
    });
}

/// An item that somebody is about to fill is none.
#[test]
fn no_empty_item_takes_the_place_of_a_remembered_miss() {
    run(async {
        let route = "{type: l1l2_cache, l1: a, l2: b, upgradingL1Exptime: 30, ncacheUpdatePeriod: 1}";
        for there in ["VA 0 f0 t30 c5 W", "VA 0 f0 t30 c5 Z"] {
            let a = vec![Say::Meta("VA 6 f65536", "ncache"), Say::Line(Status::Stored, "HD")];
            let tree = tree(route, [("a", a), ("b", vec![Say::Meta(there, "")])]);
            assert_eq!(tree.ask("mg k v R30").await, "EN");
            settle().await;
            assert_eq!(tree.heard("b"), ["mg k v f t c"]);
            assert!(!tree.heard("a").iter().any(|put| put.starts_with("ms k 0")), "{there}");
        }
    });
}

#[test]
fn who_has_an_item_already_is_told_that_it_is_the_same() {
    run(async {
        let (en, hd) = (|| Say::Line(Status::Miss, "EN"), || Say::Line(Status::Stored, "HD"));
        for route in [
            "{warm_up: {cold: a, warm: b}}",
            "{type: l1l2_cache, l1: a, l2: b, upgradingL1Exptime: 9, ncacheUpdatePeriod: 9}",
        ] {
            let item = || Say::Meta("VA 3 s3 f0 t9 c5", "abc");
            let scripts = [("a", vec![en(), hd(), en(), hd()]), ("b", vec![item(), item()])];
            let tree = tree(route, scripts);
            assert_eq!(tree.ask("mg k v s C5").await, "HD s3", "{route}");
            assert_eq!(tree.ask("mg k v s C4").await, "VA 3 s3|abc", "{route}");
            settle().await;
            assert_eq!(tree.heard("b"), ["mg k v s f t c", "mg k v s f t c"], "{route}");
            assert_eq!(tree.heard("a")[1], "ms k 3 F0 T9 ME E5|abc", "{route}");
        }
    });
}

/// As memcached shows it, which goes by how the item was made, not by how it was asked for.
#[test]
fn a_key_comes_back_in_the_form_in_which_the_server_shows_it() {
    run(async {
        for (asked, said, told) in [
            ("mg Zm9v b k t v N30", "VA 0 kp:foo t30 W", "VA 0 kfoo t30 W|"),
            ("mg Zm9v b k v f", "VA 0 kp:foo f0", "VA 0 kfoo f0|"),
            ("mg Zm9v b k v f", "VA 0 kcDpmb28= b f0", "VA 0 kZm9v b f0|"),
            ("mg foo k v", "VA 0 kcDpmb28= b", "VA 0 kZm9v b|"),
            ("mg foo k v", "VA 0 kp:foo", "VA 0 kfoo|"),
        ] {
            let route = "{type: modify_key, target: a, ensure_key_prefix: 'p:'}";
            let tree = tree(route, [("a", vec![Say::Meta(said, "")])]);
            assert_eq!(tree.ask(asked).await, told, "{asked}: {said}");
        }
    });
}

#[test]
fn hot_keys_have_copies() {
    run(async {
        let many = |say: fn() -> Say| (0..9).map(|_| say()).collect::<Vec<_>>();
        let own = super::host_id::host_id() % 3;
        let name = |copy: u64| if copy == 0 { "k|#|t".to_owned() } else { format!("k::{copy}|#|t") };
        let tree =
            tree("{type: key_split, destination: a, replicas: 3, all_sync: true}", [("a", many(|| DELETED))]);
        assert_eq!(tree.ask("get k|#|t").await, "DELETED");
        assert_eq!(tree.heard("a"), [format!("get {}", name(own))]);
        tree.ask("set k|#|t 0 0 1|x").await;
        tree.ask("delete k|#|t").await;
        let heard = tree.heard("a");
        assert_eq!(heard.len(), 6, "{heard:?}");
        assert_eq!(heard[3], format!("delete {}", name(own)), "the own one first");
        let hits = super::stage::tree(
            "{type: key_split, destination: a, replicas: 3, all_sync: false, first_hit: true}",
            [("a", vec![MISS, Say::Hit("1"), Say::Wait])],
        );
        assert_eq!(hits.ask("get k").await, "VALUE k 0 1|1");
    });
}

#[test]
fn so_many_a_second_and_no_more() {
    run(async {
        let rates = "rates: {gets_rate: 2, gets_burst: 3, deletes_rate: 1}";
        let many = || (0..9).map(|_| MISS).collect::<Vec<_>>();
        let tree = tree(&format!("{{type: rate_limit, target: a, {rates}, over: error}}"), [("a", many())]);
        for _ in 0..3 {
            assert_eq!(tree.ask("get k").await, "");
        }
        assert_eq!(tree.ask("get k").await, "SERVER_ERROR rate limit exceeded");
        assert_eq!(tree.ask("set k 0 0 1|x").await, "", "sets have no limit here");
        tokio::time::advance(std::time::Duration::from_millis(600)).await;
        assert_eq!(tree.ask("get k").await, "");
        assert_eq!(tree.ask("get k").await, "SERVER_ERROR rate limit exceeded");
        let quiet =
            super::stage::tree(&format!("{{type: rate_limit, target: a, {rates}}}"), [("a", vec![DELETED])]);
        assert_eq!(quiet.ask("delete k").await, "DELETED");
        assert_eq!(quiet.ask("delete k").await, "NOT_FOUND", "as mcrouter: dropped in silence");
        let seldom = "{type: rate_limit, target: a, rates: {gets_rate: 0.5}, over: error}";
        let seldom = super::stage::tree(seldom, [("a", many())]);
        let (yes, no) = ("", "SERVER_ERROR rate limit exceeded");
        for (wait_s, said) in [(0, yes), (0, no), (1, no), (1, yes), (60, yes), (0, no)] {
            tokio::time::advance(std::time::Duration::from_secs(wait_s)).await;
            assert_eq!(seldom.ask("get k").await, said, "one in two seconds");
        }
    });
}

#[test]
fn later() {
    run(async {
        let route = "{type: latency_injection, child: a, before_latency_ms: 20, total_latency_ms: 100}";
        let tree = tree(route, [("a", vec![Say::Hit("1")])]);
        let began = tokio::time::Instant::now();
        let waiting = tree.send("get k").await;
        assert_eq!((waiting.reply(), tree.heard("a").len()), (None, 0));
        tokio::time::sleep(std::time::Duration::from_millis(110)).await;
        assert_eq!(waiting.reply().unwrap(), "VALUE k 0 1|1");
        assert!(began.elapsed() >= std::time::Duration::from_millis(100));
    });
}

#[test]
fn hash_stops_by_permission_only() {
    run(async {
        let tree =
            tree("{type: hash_stop_allow_list, target: a, prefixes: ['u:']}", [("a", vec![MISS, MISS])]);
        assert_eq!(tree.ask("get u:1|#|x").await, "");
        assert_eq!(tree.ask("get v").await, "");
        assert_eq!(tree.ask("get v|#|x").await, "SERVER_ERROR Hash stop not permitted");
    });
}

#[test]
fn keys_move_one_by_one() {
    run(async {
        let many = || (0..9).map(|_| MISS).collect::<Vec<_>>();
        let now = crate::time::Clock::System.now().unix_seconds;
        let at =
            |start: u32| format!("{{type: migrate, from: a, to: b, start_time: {start}, interval: 100000}}");
        let before = tree(&at(now + 100), [("a", many())]);
        before.ask("get k").await;
        before.ask("delete k").await;
        let early = tree(&at(now - 50_000), [("a", many()), ("b", many())]);
        for i in 0..8 {
            early.ask(&format!("get key{i}")).await;
        }
        early.ask("delete k").await;
        assert_eq!((early.heard("a").len(), early.heard("b")), (9, vec!["delete k".into()]), "only deletes");
        let during = tree(&at(now - 150_000), [("a", many()), ("b", many())]);
        for i in 0..8 {
            during.ask(&format!("get key{i}")).await;
        }
        let (old, new) = (during.heard("a"), during.heard("b"));
        assert!(!old.is_empty() && !new.is_empty() && old.len() + new.len() == 8, "{old:?} {new:?}");
        during.ask("delete k").await;
        assert_eq!(
            (during.heard("a"), during.heard("b")),
            (vec!["delete k".into()], vec!["delete k".into()])
        );
        let after = tree(&at(now - 300_000), [("b", many())]);
        after.ask("get k").await;
        after.ask("delete k").await;
    });
}

#[test]
fn shadows_get_copies_and_nobody_waits() {
    run(async {
        let wait = || (0..9).map(|_| Say::Wait).collect::<Vec<_>>();
        let hits = || (0..9).map(|_| Say::Hit("1")).collect::<Vec<_>>();
        let route = "{type: shadow, child: a, shadows: [{target: b, keys_to_shadow: [k]}, {target: c, key_fraction_range: [0, 0.5]}]}";
        let tree = tree(route, [("a", hits()), ("b", wait()), ("c", wait())]);
        for i in 0..7 {
            tree.ask(&format!("get k{i}")).await;
        }
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
        assert_eq!(tree.heard("b"), ["get k"]);
        let of_half = tree.heard("c").len();
        assert!((1..8).contains(&of_half), "{of_half}");
        let route = "{type: pool, pool: a, shadows: [{target: b, requests_fraction: 0}, {target: c}]}";
        let of_pool = super::stage::tree(route, [("a", hits()), ("b", wait()), ("c", wait())]);
        of_pool.ask("get k").await;
        assert_eq!((of_pool.heard("b").len(), of_pool.heard("c").len()), (0, 1));
    });
}

#[test]
fn beyond_the_limit_requests_wait_their_turn() {
    run(async {
        let script = vec![Say::Wait, Say::Wait, Say::Hit("3"), Say::Hit("4")];
        let tree = tree("{type: outstanding_limit, target: a, max_outstanding: 2}", [("a", script)]);
        let waiting = [
            tree.send("get 1").await,
            tree.send("get 2").await,
            tree.send("get 3").await,
            tree.send("get 4").await,
        ];
        assert_eq!(tree.heard("a"), ["get 1", "get 2"]);
        tree.finish("a", &crate::protocol::Reply::line(Status::Miss, b""));
        settle().await;
        let answers: Vec<_> = waiting.iter().map(|w| w.reply()).collect();
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(answers, [told(""), None, told("VALUE 3 0 1|3"), told("VALUE 4 0 1|4")]);
    });
}

#[test]
fn nobody_passes_those_that_wait_below() {
    run(async {
        let inner = "{type: outstanding_limit, target: a, max_outstanding: 2}";
        let route = format!("{{type: outstanding_limit, target: {inner}, max_outstanding: 4}}");
        let tree = tree(&route, [("a", (0..5).map(|_| Say::Wait).collect())]);
        for key in 1..=5 {
            tree.send(&format!("get {key}")).await;
        }
        for _ in 0..3 {
            tree.finish("a", &crate::protocol::Reply::line(Status::Miss, b""));
            settle().await;
        }
        assert_eq!(tree.heard("a"), ["get 1", "get 2", "get 3", "get 4", "get 5"]);
    });
}

#[test]
fn what_waits_for_its_turn_has_a_bound_in_bytes() {
    run(async {
        let script = vec![
            Say::Wait,
            Say::Line(Status::Stored, "STORED"),
            Say::Line(Status::Deleted, "DELETED"),
            Say::Hit("x"),
        ];
        let tree = tree("{type: outstanding_limit, target: a, max_outstanding: 1}", [("a", script)]);
        let set = format!("set k 0 0 {}|{}", 20 << 20, "x".repeat(20 << 20));
        let waiting = [
            tree.send("get 1").await,
            tree.send(&set).await,
            tree.send("set k 0 0 1|x").await,
            tree.send("delete k").await,
        ];
        tree.finish("a", &crate::protocol::Reply::line(Status::Miss, b""));
        settle().await;
        let answers: Vec<_> = waiting.iter().map(|w| w.reply()).collect();
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(answers, [told(""), told("STORED"), told("SERVER_ERROR 307 busy"), told("DELETED")]);
        assert_eq!(tree.send("get 2").await.reply(), told("VALUE 2 0 1|x"), "there is room again");
    });
}

#[test]
fn a_host_prefers_some() {
    run(async {
        let all = || (0..3).map(|_| TIMEOUT).collect::<Vec<_>>();
        let tree = tree(
            "{type: latest, children: [a, b, c], failover_count: 2}",
            [("a", all()), ("b", all()), ("c", all())],
        );
        tree.ask("get k").await;
        tree.ask("get j").await;
        let asked: Vec<usize> = ["a", "b", "c"].map(|name| tree.heard(name).len()).into();
        assert_eq!(asked.iter().sum::<usize>(), 4);
        assert!(asked.contains(&0), "always the same two: {asked:?}");
    });
}

#[test]
fn a_slow_child_is_not_waited_for_alone() {
    run(async {
        let ms = std::time::Duration::from_millis;
        let script =
            vec![Say::Wait, Say::Hit("1"), TIMEOUT, Say::Wait, STORED, Say::Wait, Say::Wait, Say::Wait];
        let tree = tree(
            "{type: hedge, children: [a, b], after: 5ms}",
            [("a", script), ("b", vec![Say::Hit("2"), Say::Hit("3"), Say::Wait])],
        );
        let waiting = tree.send("get k").await;
        assert_eq!((waiting.reply(), tree.heard("b").len()), (None, 0));
        tokio::time::sleep(ms(6)).await;
        assert_eq!(waiting.reply().unwrap(), "VALUE k 0 1|2");
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|3", "a failure asks at once");
        assert_eq!(tree.heard("b").len(), 2);
        let waiting = tree.send("get k").await;
        tokio::time::sleep(ms(6)).await;
        tree.finish("a", &crate::protocol::Reply::line(Status::Miss, b"")); // the first request's, long answered
        tree.finish("a", &crate::protocol::Reply::line(Status::Miss, b""));
        settle().await;
        assert_eq!(waiting.reply().unwrap(), "", "the first answer wins, whoever gives it");
        assert_eq!(tree.ask("set k 0 0 1|x").await, "STORED");
        for text in ["gat 10 k", "mg k v T10", "mg k v N10"] {
            let waiting = tree.send(text).await;
            tokio::time::sleep(ms(6)).await;
            assert_eq!(waiting.reply(), None, "{text}");
        }
        assert_eq!(tree.heard("b").len(), 1, "what changes something is done once");
    });
}

#[test]
fn no_more_is_asked_twice_than_may_be() {
    run(async {
        let wait = || (0..40).map(|_| Say::Wait).collect::<Vec<_>>();
        let tree =
            tree("{type: hedge, children: [a, b], after: 5ms, extra: 0}", [("a", wait()), ("b", wait())]);
        for _ in 0..30 {
            tree.send("get k").await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(6)).await;
        assert_eq!((tree.heard("a").len(), tree.heard("b").len()), (30, 10), "the burst and no more");
        for _ in 0..30 {
            tree.finish("a", &crate::protocol::Reply::failed(Cause::Timeout));
        }
        settle().await;
        assert_eq!(tree.heard("b").len(), 20, "but a failure asks the next");
    });
}

#[test]
fn failovers_are_limited_and_tagged() {
    run(async {
        let route = "{type: failover, children: [a, b], failover_limit: {rate: 0.5, burst: 1}}";
        let many = |say: fn() -> Say| (0..9).map(|_| say()).collect::<Vec<_>>();
        let limited = tree(route, [("a", many(|| TIMEOUT)), ("b", many(|| MISS))]);
        let answers = [(); 4].map(|()| limited.ask("get k"));
        let mut told = Vec::new();
        for answer in answers {
            told.push(answer.await);
        }
        let late = "SERVER_ERROR Reply timeout";
        assert_eq!(told, ["", late, "", late], "one at once, then one for two requests");
        let free = tree(route, [("a", many(|| Say::Fail(Cause::Connect))), ("b", many(|| MISS))]);
        for _ in 0..4 {
            assert_eq!(free.ask("get k").await, "", "what costs nothing is not counted");
        }
        let tagged = tree(
            "{type: failover, children: [a, b], failover_tag: true}",
            [("a", many(|| TIMEOUT)), ("b", vec![Say::Hit("1"), MISS])],
        );
        assert_eq!(tagged.ask("get k|#|x=1").await, "VALUE k|#|x=1 0 1|1");
        tagged.ask("get k").await;
        assert_eq!(tagged.heard("b"), ["get k|#|x=1:failover=1", "get k"]);
    });
}

#[test]
fn every_route_and_its_keys_are_in_the_readme() {
    let readme = include_str!("../../config/README.md");
    for kind in super::registry::KINDS {
        let row = readme.lines().find(|l| l.starts_with(&format!("| `{}` | `{}`", kind.short, kind.name)));
        let row = row.unwrap_or_else(|| panic!("config/README.md has no row for `{}`", kind.short));
        for key in kind.keys {
            assert!(row.contains(&format!("`{}`", key.name)), "`{}`: no word of `{}`", kind.short, key.name);
            assert!(!key.what.is_empty());
        }
    }
}
