//! Routes that put something else in the place of a value, over scripted leaves.

use super::scripted::Say;
use super::stage::{DELETED, MISS, NOT_FOUND, STORED, TIMEOUT, Tree, run, settle, tree, tree_with};
use crate::protocol::{Cause, Reply, Status};

const HD: Say = Say::Line(Status::Stored, "HD");
const EN: Say = Say::Line(Status::Miss, "EN");
const NS: Say = Say::Line(Status::NotStored, "NS");
const CHUNKS: &str = "{type: big_value, target: a, split_threshold: 4}";

fn big(script: Vec<Say>) -> Tree {
    tree(CHUNKS, [("a", script)])
}

/// The lines with every suffix as `S`; they have one and the same.
fn without_suffix(heard: Vec<String>) -> Vec<String> {
    let chunk = heard.iter().find_map(|line| line.split([' ', '|']).find(|word| word.starts_with("k:0:")));
    let suffix = chunk.expect("a chunk").rsplit(':').next().unwrap().to_owned();
    heard.into_iter().map(|line| line.replace(&suffix, "S").replace(&index_length(&suffix), "L")).collect()
}

/// ` <length of an index>|`, of which the number is another one each time.
fn index_length(suffix: &str) -> String {
    format!(" {}|", "1-3-".len() + suffix.len())
}

#[test]
fn a_large_value_goes_in_chunks_and_then_its_index() {
    run(async {
        let tree = big(vec![STORED, STORED, STORED, STORED, STORED]);
        assert_eq!(tree.ask("set k 5 60 10|abcdefghij").await, "STORED");
        assert_eq!(
            without_suffix(tree.heard("a")),
            ["set k:0:S 0 60 4|abcd", "set k:1:S 0 60 4|efgh", "set k:2:S 0 60 2|ij", "set k 32773 60L1-3-S"]
        );
        assert_eq!(tree.ask("set k 5 60 4|abcd").await, "STORED");
        assert_eq!(tree.heard("a"), ["set k 5 60 4|abcd"], "not longer than a chunk");
    });
}

/// Or the index would come behind what was put later.
#[test]
fn what_a_client_asks_next_comes_behind_its_large_value() {
    run(async {
        for then in ["set k 0 0 1|x", "delete k", "get k"] {
            let tree = big(vec![Say::Wait, Say::Wait, Say::Wait, Say::Wait, Say::Wait]);
            tree.send("set k 0 0 5|abcde").await;
            tree.send(then).await;
            tree.send("set other 0 0 1|y").await;
            let heard = tree.heard("a");
            assert!(heard.len() == 3 && heard[2] == "set other 0 0 1|y", "{heard:?}");
            (0..2).for_each(|_| tree.finish("a", &Reply::line(Status::Stored, b"STORED")));
            settle().await;
            let heard = tree.heard("a");
            assert!(heard.len() == 2 && heard[0].contains("|1-2-") && heard[1] == then, "{heard:?}");
        }
        let route = "{type: l1l2_size_split, l1: a, l2: b, threshold: 4, ttl_threshold: 0}";
        let tree = tree(route, [("a", vec![Say::Wait, Say::Wait]), ("b", vec![Say::Wait])]);
        tree.send("set k 0 0 5|abcde").await;
        tree.send("set k 0 0 1|x").await;
        assert_eq!((tree.heard("a").len(), tree.heard("b").len()), (0, 1));
        tree.finish("b", &Reply::line(Status::Stored, b"STORED"));
        settle().await;
        assert_eq!(tree.heard("a"), ["set k 32 0 0", "set k 0 0 1|x"]);
    });
}

#[test]
fn a_large_value_by_meta() {
    run(async {
        let tree = big(vec![HD, HD, Say::Line(Status::Stored, "HD s25 kk Ox"), HD, HD, HD]);
        assert_eq!(tree.ask("ms k 5 T60 F1 C7 s k Ox|abcde").await, "HD s5 kk Ox");
        let heard = without_suffix(tree.heard("a"));
        assert_eq!(heard[..2], ["ms k:0:S 4 T60|abcd", "ms k:1:S 1 T60|e"]);
        assert!(
            heard[2].starts_with("ms k ") && heard[2].ends_with(" T60 F32769 C7 s k Ox|1-2-S"),
            "{heard:?}"
        );
        assert_eq!(tree.ask("ms aw== 5 b|abcde").await, "HD");
        let heard = tree.heard("a");
        assert!(heard[0].starts_with("ms azow") && heard[0].ends_with(" 4 b|abcd"), "{heard:?}");
        assert!(heard[2].starts_with("ms aw== ") && heard[2].contains(" b F32768|1-2-"), "{heard:?}");
    });
}

#[test]
fn chunks_that_are_not_stored_leave_the_old_value() {
    run(async {
        let no_room = Say::Line(Status::ErrorLine, "SERVER_ERROR out of memory storing object");
        let tree =
            big(vec![STORED, TIMEOUT, no_room, STORED, Say::Line(Status::NotStored, "NOT_STORED"), STORED]);
        assert_eq!(tree.ask("set k 0 0 5|abcde").await, "SERVER_ERROR Reply timeout");
        assert_eq!(tree.ask("set k 0 0 5|abcde").await, "SERVER_ERROR out of memory storing object");
        assert_eq!(tree.ask("set k 0 0 5|abcde").await, "NOT_STORED");
        assert!(tree.heard("a").iter().all(|line| line.starts_with("set k:")), "no index");
        let meta = big(vec![NS, HD]);
        assert_eq!(meta.ask("ms k 5 Ox|abcde").await, "NS Ox");
    });
}

#[test]
fn an_index_that_is_not_stored_takes_its_chunks_along() {
    run(async {
        let tree = big(vec![STORED, STORED, Say::Line(Status::Exists, "EXISTS"), DELETED, DELETED]);
        assert_eq!(tree.ask("cas k 0 0 5 9|abcde").await, "EXISTS");
        let heard = without_suffix(tree.heard("a"));
        assert!(heard[2].starts_with("cas k 32768 0 ") && heard[2].ends_with(" 9|1-2-S"), "{heard:?}");
        assert_eq!(heard[3..], ["delete k:0:S", "delete k:1:S"]);
        let meta = big(vec![HD, HD, NS, HD, HD]);
        assert_eq!(meta.ask("ms k 5 ME|abcde").await, "NS");
        assert_eq!(without_suffix(meta.heard("a"))[3..], ["md k:0:S", "md k:1:S"]);
        let unsure = big(vec![STORED, STORED, TIMEOUT]);
        assert_eq!(unsure.ask("set k 0 0 5|abcde").await, "SERVER_ERROR Reply timeout");
    });
}

fn index_of(chunks: usize) -> Say {
    Say::Meta(
        if chunks == 2 { "VALUE k 32773 6 9" } else { "VALUE k 32773 6" },
        if chunks == 2 { "1-2-77" } else { "1-3-77" },
    )
}

#[test]
fn a_get_puts_the_chunks_together() {
    run(async {
        let tree = big(vec![
            index_of(3),
            Say::Hit("abcd"),
            Say::Hit("efgh"),
            Say::Hit("ij"),
            Say::Hit("small"),
            MISS,
            index_of(2),
            Say::Hit("abcd"),
            Say::Hit("e"),
        ]);
        assert_eq!(tree.ask("get k").await, "VALUE k 5 10|abcdefghij");
        assert_eq!(tree.heard("a"), ["get k", "get k:0:77", "get k:1:77", "get k:2:77"]);
        assert_eq!(tree.ask("get k").await, "VALUE k 0 5|small");
        assert_eq!(tree.ask("get k").await, "");
        tree.heard("a");
        assert_eq!(tree.ask("gats 60 k").await, "VALUE k 5 5 9|abcde", "the index has the cas");
        assert_eq!(tree.heard("a"), ["gats 60 k", "gat 60 k:0:77", "gat 60 k:1:77"]);
    });
}

#[test]
fn a_meta_get_puts_the_chunks_together() {
    run(async {
        let index = |line| Say::Meta(line, "1-2-77");
        let tree = big(vec![
            index("VA 6 f32769"),
            Say::Meta("VA 4", "abcd"),
            Say::Meta("VA 1", "e"),
            index("VA 6 s6 kk f32769 t9 Ox"),
            Say::Meta("VA 4", "abcd"),
            Say::Meta("VA 1", "e"),
            Say::Meta("VA 5 f0", "small"),
            Say::Line(Status::Hit, "HD f32769 t5"),
            Say::Line(Status::Hit, "HD t5"),
            EN,
        ]);
        assert_eq!(tree.ask("mg k v").await, "VA 5|abcde", "the flags are not asked for");
        assert_eq!(tree.heard("a"), ["mg k v f", "mg k:0:77 v", "mg k:1:77 v"]);
        assert_eq!(tree.ask("mg k s k f t v Ox T30").await, "VA 5 s5 kk f1 t9 Ox|abcde");
        assert_eq!(tree.heard("a")[1..], ["mg k:0:77 v T30", "mg k:1:77 v T30"]);
        assert_eq!(tree.ask("mg k v").await, "VA 5|small");
        assert_eq!(
            tree.ask("mg k f t").await,
            "HD f1 t5",
            "without a value the mark is taken off all the same"
        );
        assert_eq!(tree.ask("mg k t").await, "HD t5");
        assert_eq!(tree.ask("mg k v").await, "EN");
    });
}

#[test]
fn keys_in_base64_have_chunks_too() {
    run(async {
        let script = vec![Say::Meta("VA 6 b f32768", "1-1-77"), Say::Meta("VA 3 b", "abc")];
        let tree = big(script);
        assert_eq!(tree.ask("mg ICA= b v").await, "VA 3 b|abc");
        assert_eq!(tree.heard("a"), ["mg ICA= b v f", "mg ICA6MDo3Nw== v b"]);
    });
}

#[test]
fn a_value_of_which_something_is_missing_is_a_miss() {
    run(async {
        let tree = big(vec![index_of(2), Say::Hit("abcd"), MISS]);
        assert_eq!(tree.ask("get k").await, "");
        let meta = big(vec![Say::Meta("VA 6 Ox f32768", "1-2-77"), EN, Say::Meta("VA 1", "e")]);
        assert_eq!(meta.ask("mg k v Ox").await, "EN Ox");
        for (cause, told) in [
            (Cause::Timeout, "SERVER_ERROR Reply timeout"),
            (Cause::Connect, "SERVER_ERROR connection error"),
            (Cause::Tko, "SERVER_ERROR unavailable"),
        ] {
            let tree = big(vec![index_of(2), Say::Hit("abcd"), Say::Fail(cause)]);
            assert_eq!(tree.ask("get k").await, told, "a failure is no miss");
            let down = big(vec![Say::Fail(cause)]);
            assert_eq!(down.ask("get k").await, told);
        }
        for broken in ["1-2-77x", "x1-2-77", "1-99999999-7", ""] {
            let tree = big(vec![Say::Meta("VALUE k 32768 9", broken)]);
            assert_eq!(tree.ask("get k").await, "", "{broken}: appended to, or made by nobody");
        }
        // 1 KiB is the longest value
        let large: &'static str = Box::leak("v".repeat(600).into_boxed_str());
        let tree = big(vec![index_of(2), Say::Hit(large), Say::Hit(large)]);
        assert_eq!(tree.ask("get k").await, "", "longer than a value may be");
    });
}

#[test]
fn so_many_chunks_at_once() {
    run(async {
        let route = "{type: big_value, target: a, split_threshold: 1, batch_size: 2}";
        let wait = || (0..6).map(|_| Say::Wait).collect::<Vec<_>>();
        let tree = tree(route, [("a", wait())]);
        let waiting = tree.send("set k 0 0 3|abc").await;
        assert_eq!(tree.heard("a").len(), 2);
        tree.finish("a", &Reply::line(Status::Stored, b"STORED"));
        settle().await;
        assert_eq!(tree.heard("a").len(), 1);
        for _ in 0..2 {
            tree.finish("a", &Reply::line(Status::Stored, b"STORED"));
        }
        settle().await;
        assert!(tree.heard("a")[0].starts_with("set k 32768"));
        assert_eq!(waiting.reply(), None);
        tree.finish("a", &Reply::line(Status::Stored, b"STORED"));
        settle().await;
        assert_eq!(waiting.reply().unwrap(), "STORED");
    });
}

#[test]
fn other_operations_see_the_index() {
    run(async {
        let tree = big(vec![DELETED, NOT_FOUND, STORED, HD, NOT_FOUND]);
        for text in ["delete k", "incr k 1", "append k 0 0 5|abcde", "ms k 5 MA|abcde", "touch k 5"] {
            tree.ask(text).await;
        }
        assert_eq!(
            tree.heard("a"),
            ["delete k", "incr k 1", "append k 0 0 5|abcde", "ms k 5 MA|abcde", "touch k 5"]
        );
    });
}

#[test]
fn a_key_without_room_for_its_chunks_is_refused() {
    run(async {
        let tree = big(vec![STORED]);
        let key = "k".repeat(240);
        assert_eq!(
            tree.ask(&format!("set {key} 0 0 5|abcde")).await,
            "SERVER_ERROR The key provided is invalid"
        );
        assert_eq!(tree.ask(&format!("ms {key} 5|abcde")).await, "SERVER_ERROR The key provided is invalid");
        assert!(tree.heard("a").is_empty(), "nothing is sent");
        assert_eq!(tree.ask(&format!("set {key} 0 0 4|abcd")).await, "STORED");
    });
}

#[test]
fn the_flag_stays_where_it_shall() {
    run(async {
        let route = "{type: big_value, target: a, split_threshold: 4, hide_reply_flag: false}";
        let tree = tree(route, [("a", vec![index_of(3), Say::Hit("a"), Say::Hit("b"), Say::Hit("c")])]);
        assert_eq!(tree.ask("get k").await, "VALUE k 32773 3|abc");
    });
}

const SPLIT: &str =
    "{type: l1l2_size_split, l1: a, l2: b, threshold: 4, ttl_threshold: 100, failure_ttl: 30s}";
const STORED_HD: fn() -> Say = || Say::Line(Status::Stored, "HD s0");

#[test]
fn large_values_go_to_l2_and_small_ones_to_l1() {
    run(async {
        let stored = || (0..3).map(|_| STORED).collect();
        let tree = tree(SPLIT, [("a", stored()), ("b", stored())]);
        assert_eq!(tree.ask("set k 5 0 4|abcd").await, "STORED");
        assert_eq!(tree.heard("b"), ["set k 5 0 4|abcd"]);
        assert_eq!(tree.heard("a"), ["set k 37 0 0"]);
        assert_eq!(tree.ask("set k 5 0 3|abc").await, "STORED");
        assert_eq!(tree.ask("set k 5 99 4|abcd").await, "STORED");
        assert_eq!(tree.heard("a"), ["set k 5 0 3|abc", "set k 5 99 4|abcd"], "small, or short-lived");
        assert!(tree.heard("b").is_empty());
        let meta = super::stage::tree(SPLIT, [("a", vec![STORED_HD()]), ("b", vec![HD])]);
        assert_eq!(meta.ask("ms k 5 T200 F1 s|abcde").await, "HD s5");
        assert_eq!(
            (meta.heard("b"), meta.heard("a")),
            (vec!["ms k 5 F1 T200|abcde".into()], vec!["ms k 0 T200 F33 s".into()])
        );
    });
}

/// Between the two looks the value may have been replaced.
#[test]
fn what_l2_has_lost_is_looked_for_again() {
    run(async {
        let sentinel = |text| Say::Meta(text, "7");
        let route = "{type: l1l2_size_split, l1: a, l2: b, threshold: 4, retries: 2}";
        let small = || Say::Meta("VA 3 f0", "new");
        let tree = tree(
            route,
            [
                ("a", vec![sentinel("VA 5 f32"), small(), sentinel("VA 5 f32"), sentinel("VA 5 f32")]),
                ("b", vec![EN, EN, EN]),
            ],
        );
        assert_eq!(tree.ask("mg k v").await, "VA 3|new");
        assert_eq!(tree.ask("mg k v").await, "EN", "twice and no more");
        assert_eq!((tree.heard("a").len(), tree.heard("b").len()), (4, 3));
    });
}

#[test]
fn what_may_not_happen_has_a_side_key() {
    run(async {
        let tree = tree(
            SPLIT,
            [
                ("a", vec![STORED, Say::Line(Status::Exists, "EXISTS"), NS]),
                ("b", vec![STORED, STORED, DELETED, HD, HD]),
            ],
        );
        assert_eq!(tree.ask("add k 0 0 4|abcd").await, "STORED");
        let (l1, l2) = (tree.heard("a"), tree.heard("b"));
        let side = l1[0].split_once("|").unwrap().1;
        assert!(
            side.strip_suffix('r').unwrap().parse::<u64>().is_ok() && l1[0].starts_with("add k 32 0 "),
            "{l1:?}"
        );
        assert_eq!(l2, [format!("set k|==|{side} 0 0 4|abcd")]);
        assert_eq!(tree.ask("cas k 0 0 4 9|abcd").await, "EXISTS");
        let l2 = tree.heard("b");
        let key = l2[0].split(' ').nth(1).unwrap();
        assert_eq!(l2[1], format!("delete {key}"), "the loser's value goes");
        assert_eq!(tree.ask("ms k 4 C7|abcd").await, "NS");
        assert!(tree.heard("b")[1].starts_with("md k|==|"));
    });
}

/// It would lead to what was there before, or nowhere.
#[test]
fn what_looks_like_a_sentinel_never_goes_to_l1_as_it_is() {
    run(async {
        let tree = tree(SPLIT, [("a", vec![]), ("b", vec![TIMEOUT])]);
        assert_eq!(tree.ask("set k 32 0 2|12").await, "SERVER_ERROR Reply timeout");
        let key = "k".repeat(230);
        let told = tree.ask(&format!("add {key} 32 0 2|12")).await;
        assert_eq!(told, "SERVER_ERROR The key provided is invalid");
    });
}

/// Of what has our mark, for whatever reason, gets know nothing but that.
#[test]
fn what_looks_like_a_sentinel_goes_to_l2() {
    run(async {
        for route in [SPLIT, "{type: l1l2_size_split, l1: a, l2: b, threshold: 4, both_full_set: true}"] {
            let tree =
                tree(route, [("a", vec![STORED, STORED, STORED, HD]), ("b", vec![STORED, STORED, HD])]);
            for (set, at_l1, at_l2) in [
                ("set k 32 9 0|", "set k 32 9 0", Some("set k 32 9 0")),
                ("set k 33 9 2|12", "set k 33 9 0", Some("set k 33 9 2|12")),
                ("set k 33 9 2|1x", "set k 33 9 2|1x", None),
                ("ms k 1 F32 T9|1", "ms k 0 F32 T9", Some("ms k 1 F32 T9|1")),
            ] {
                assert_eq!(tree.ask(set).await, if set.starts_with("ms") { "HD" } else { "STORED" });
                assert_eq!(tree.heard("a"), [at_l1], "{route}");
                assert_eq!(tree.heard("b"), at_l2.into_iter().collect::<Vec<_>>(), "{route}");
            }
        }
    });
}

#[test]
fn a_key_without_room_for_a_side_key_is_whole_in_l1() {
    run(async {
        let tree = tree(SPLIT, [("a", vec![STORED, STORED]), ("b", vec![STORED])]);
        let key = "k".repeat(230);
        assert_eq!(tree.ask(&format!("add {key} 0 0 4|abcd")).await, "STORED");
        assert_eq!(tree.heard("a"), [format!("add {key} 0 0 4|abcd")]);
        assert_eq!(tree.ask(&format!("set {key} 0 0 4|abcd")).await, "STORED");
        assert_eq!(tree.heard("b"), [format!("set {key} 0 0 4|abcd")]);
    });
}

#[test]
fn l1_keeps_for_a_while_what_l2_did_not_take() {
    run(async {
        let refused = Say::Line(Status::ErrorLine, "SERVER_ERROR out of memory storing object");
        let script = vec![TIMEOUT, refused, NS, Say::Fail(Cause::Tko), TIMEOUT];
        let tree = tree(SPLIT, [("a", vec![STORED, STORED, HD, STORED, TIMEOUT]), ("b", script)]);
        assert_eq!(tree.ask("set k 5 0 4|abcd").await, "STORED");
        assert_eq!(tree.ask("set k 5 200 4|abcd").await, "STORED");
        assert_eq!(tree.ask("ms k 4|abcd").await, "HD");
        assert_eq!(tree.ask("add k 5 0 4|abcd").await, "STORED");
        assert_eq!(tree.ask("set k 5 0 4|abcd").await, "SERVER_ERROR Reply timeout", "all down");
        let heard = tree.heard("a");
        assert_eq!(
            heard[..4],
            ["set k 5 30 4|abcd", "set k 5 30 4|abcd", "ms k 4 T30|abcd", "add k 5 30 4|abcd"]
        );
    });
}

#[test]
fn a_sentinel_leads_to_l2() {
    run(async {
        let sentinel = |line| Say::Meta(line, "");
        let l1 = vec![
            sentinel("VALUE k 37 0 9"),
            Say::Meta("VALUE k 37 3", "77r"),
            sentinel("VA 0 f37 s0 t9"),
            sentinel("VA 0 f37"),
            Say::Meta("VA 3 f32", "php"),
            Say::Meta("VALUE k 32 3", "php"),
            MISS,
            TIMEOUT,
            sentinel("VALUE k 37 0"),
            sentinel("VALUE k 37 0"),
            sentinel("VA 0 Ox f37"),
            Say::Line(Status::Hit, "HD f37 t1"),
        ];
        let l2 = vec![
            Say::Meta("VALUE k 5 5", "abcde"),
            Say::Meta("VALUE k|==|77r 5 5", "abcde"),
            Say::Meta("VA 5 f5", "abcde"),
            Say::Meta("VA 5 f5", "abcde"),
            MISS,
            TIMEOUT,
            EN,
        ];
        let tree = tree(SPLIT, [("a", l1), ("b", l2)]);
        assert_eq!(tree.ask("gets k").await, "VALUE k 5 5 9|abcde", "the cas is the sentinel's");
        assert_eq!(tree.ask("get k").await, "VALUE k 5 5|abcde");
        assert_eq!(tree.heard("b"), ["get k", "get k|==|77r"]);
        assert_eq!(tree.ask("mg k v f s t").await, "VA 5 f5 s5 t9|abcde");
        assert_eq!(tree.ask("mg k v T30").await, "VA 5|abcde");
        assert_eq!(tree.heard("b"), ["mg k v f", "mg k v f T30"]);
        assert_eq!(tree.ask("mg k v").await, "VA 3|php", "a client's own flag");
        assert_eq!(tree.ask("get k").await, "VALUE k 32 3|php");
        assert_eq!(tree.ask("get k").await, "");
        assert_eq!(tree.ask("get k").await, "SERVER_ERROR Reply timeout");
        assert!(tree.heard("b").is_empty());
        assert_eq!(tree.ask("get k").await, "", "l2 lost it");
        assert_eq!(tree.ask("get k").await, "SERVER_ERROR Reply timeout");
        assert_eq!(tree.ask("mg k v Ox").await, "EN Ox");
        assert_eq!(tree.ask("mg k f t").await, "HD f37 t1", "without its value nobody can tell");
    });
}

#[test]
fn large_values_may_go_to_both() {
    run(async {
        let route = "{type: l1l2_size_split, l1: a, l2: b, threshold: 4, both_full_set: true}";
        let tree = tree(route, [("a", vec![STORED, DELETED, NOT_FOUND]), ("b", vec![Say::Wait])]);
        assert_eq!(tree.ask("set k 5 0 4|abcd").await, "STORED");
        assert_eq!(
            (tree.heard("a"), tree.heard("b")),
            (vec!["set k 5 0 4|abcd".into()], vec!["set k 5 0 4|abcd".into()])
        );
        assert_eq!(tree.ask("delete k").await, "DELETED");
        assert_eq!(tree.ask("incr k 1").await, "NOT_FOUND");
        assert!(tree.heard("b").is_empty());
    });
}

#[test]
fn shards_have_copies() {
    run(async {
        let many = |say: fn() -> Say| (0..9).map(|_| say()).collect::<Vec<_>>();
        let own = super::host_id::host_id() % 3;
        let key = |copy: u64| format!("u:7{}:x", ["", "aa", "ba"][copy as usize]);
        for route in [
            "{pool: {pool: a, shard_splits: {'7': 3}}}",
            "{shard_split: {target: a, shard_splits: {'7': 3}}}",
        ] {
            let tree = tree(route, [("a", many(|| NOT_FOUND))]);
            for text in ["incr u:7:x 1", "touch u:7:x 1"] {
                assert_eq!(tree.ask(text).await, "NOT_FOUND");
            }
            assert_eq!(tree.heard("a")[0], format!("incr {} 1", key(own)));
            assert_eq!(tree.ask("delete u:7:x").await, "NOT_FOUND");
            let heard = tree.heard("a");
            assert_eq!((heard.len(), &heard[0]), (3, &format!("delete {}", key(own))));
            for text in ["delete u:8:x", "delete u:7", "delete u7x"] {
                tree.ask(text).await;
                assert_eq!(tree.heard("a"), [text], "no such shard");
            }
        }
        let route = "{pool: {pool: a, shard_splits: {'7': {old_split_size: 1, new_split_size: 3, split_start: 4000000000, migration_period: 60}}}}";
        let later = tree(route, [("a", vec![Say::Hit("1"), TIMEOUT, DELETED])]);
        assert_eq!(later.ask("get u:7:x").await, "VALUE u:7:x 0 1|1");
        assert_eq!(later.ask("get u:7:x").await, "SERVER_ERROR Reply timeout");
        assert_eq!(later.ask("delete u:7:x").await, "DELETED");
        assert_eq!(later.heard("a"), ["get u:7:x", "get u:7:x", "delete u:7:x"]);
    });
}

#[test]
fn splits_of_mcrouters_may_leave_things_out() {
    run(async {
        let own = super::host_id::host_id() % 3;
        let copy = ["u:7:x", "u:7aa:x", "u:7ba:x"][own as usize];
        for (split, key) in [
            (r#"{"new_split_size": 3}"#, copy),
            (r#"{"old_split_size": 3}"#, "u:7:x"),
            (r#"{"old_split_size": 3, "split_start": 4000000000}"#, copy),
            (r#"{"new_split_size": 3, "split_start": 4000000000}"#, "u:7:x"),
            ("{}", "u:7:x"),
        ] {
            let json = format!(
                r#"{{"pools": {{"A": {{"servers": ["a:11211"]}}}},
                    "route": {{"type": "PoolRoute", "pool": "A", "shard_splits": {{"7": {split}}}}}}}"#
            );
            let tree = tree_with("t.json", &json, [("a", vec![NOT_FOUND])]);
            tree.ask("incr u:7:x 1").await;
            assert_eq!(tree.heard("a"), [format!("incr {key} 1")], "{split}");
        }
    });
}

#[test]
fn the_client_sees_its_own_key_of_a_copy() {
    run(async {
        // every host but one in a hundred has another copy than the key itself
        let route = "{shard_split: {target: a, shard_splits: {s: 101}}}";
        let tree = tree(route, [("a", vec![Say::Hit("1"), Say::Meta("VA 1 kother", "1"), MISS])]);
        assert_eq!(tree.ask("get u:s:x").await, "VALUE u:s:x 0 1|1");
        tree.ask("mg u:s:x v").await;
        let long = format!("get u:s:{}", "k".repeat(246));
        let told = tree.ask(&long).await;
        assert!(told.is_empty() || told == "SERVER_ERROR The key provided is invalid", "{told}");
    });
}

#[test]
fn copies_stand_behind_the_parts_of_a_key() {
    run(async {
        let own = super::host_id::host_id() % 2;
        let route = "{type: key_parse, num_routing_parts: 2, delimiter: ':', target: {type: key_split, destination: a, replicas: 2, all_sync: true}}";
        let tree = tree(route, [("a", vec![STORED, STORED, MISS, MISS])]);
        assert_eq!(tree.ask("set u:1:name 0 0 1|x").await, "STORED");
        let mut heard = tree.heard("a");
        heard.sort();
        assert_eq!(heard, ["set u:1::1:name 0 0 1|x", "set u:1:name 0 0 1|x"]);
        tree.ask("get u").await;
        assert_eq!(tree.heard("a"), [if own == 0 { "get u" } else { "get u::1" }]);
    });
}

#[test]
fn what_a_condition_is_about_is_lost() {
    run(async {
        for (field, value, lost, kept) in [
            ("key", "bad", ["set bad 0 0 1|x", "get bad|#|x"], ["set k 0 0 1|x", "get bade"]),
            ("flags", "7", ["set k 7 0 1|x", "ms k 1 F7|x"], ["set k 0 0 1|x", "ms k 1 F1 T9|x"]),
            ("exptime", "-1", ["set k 0 -1 1|x", "ms k 1 T-1|x"], ["set k 0 0 1|x", "ms k 1 F1 T9|x"]),
            ("operation", "incr", ["incr k 1", "incr bad 1"], ["decr k 1", "get k"]),
        ] {
            let policy = format!("{field}: [{{op: equals, value: {value}}}]");
            let route = format!("{{type: blackhole, default: a, policies: {{{policy}}}}}");
            let tree = tree(&route, [("a", vec![TIMEOUT, TIMEOUT])]);
            for text in lost {
                let told = tree.ask(text).await;
                assert!(["NOT_STORED", "NS", "NOT_FOUND", ""].contains(&told.as_str()), "{text}: {told}");
            }
            assert!(tree.heard("a").is_empty(), "{field}");
            for text in kept {
                assert_eq!(tree.ask(text).await, "SERVER_ERROR Reply timeout", "{text}");
            }
        }
        let route = "{type: blackhole, default: a, blackhole_child: b, policies: {key: [{op: not_equals, value: k}]}}";
        let only = tree(route, [("a", vec![MISS]), ("b", vec![Say::Hit("1")])]);
        assert_eq!(only.ask("get k").await, "");
        assert_eq!(only.ask("get j").await, "VALUE j 0 1|1");
    });
}

#[test]
fn a_request_is_lost_when_of_each_field_one_condition_holds() {
    run(async {
        let of = |policies: &str| {
            let route = format!("{{type: blackhole, default: a, policies: {{{policies}}}}}");
            tree(&route, [("a", vec![STORED, STORED, STORED])])
        };
        let both = of(
            "key: [{op: equals, value: bad}, {op: equals, value: worse}], flags: [{op: equals, value: 7}]",
        );
        for text in ["set bad 7 0 1|x", "set worse 7 0 1|x"] {
            assert_eq!(both.ask(text).await, "NOT_STORED", "{text}");
        }
        for text in ["set bad 0 0 1|x", "set k 7 0 1|x", "set k 0 0 1|x"] {
            assert_eq!(both.ask(text).await, "STORED", "{text}");
        }
        assert_eq!(of("flags: []").ask("set k 0 0 1|x").await, "STORED", "no condition holds");
        assert_eq!(of("").ask("set k 0 0 1|x").await, "NOT_STORED", "no field says no");
    });
}
