//! Routes that put something else in the place of a value, over scripted leaves.

use super::scripted::Say;
use super::stage::{DELETED, MISS, NOT_FOUND, STORED, TIMEOUT, Tree, run, settle, tree};
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
