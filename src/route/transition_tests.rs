//! Keys that have moved, over scripted servers: what is asked where, in which order, and what comes of it.

use super::Route as _;
use super::scripted::Say;
use super::stage::{DELETED, MISS, NOT_FOUND, STORED, TIMEOUT, Tree, run, settle, tree_after};
use crate::protocol::{Op, Reply, Status};
use std::time::Duration;

const OLD: &str = "servers: [a]";
/// All keys have moved from `a` to `b`.
const NEW: &str = "servers: [b], transition: {for: 10m}";

const EN: Say = Say::Line(Status::Miss, "EN");
const NF: Say = Say::Line(Status::NotFound, "NF");
const NS: Say = Say::Line(Status::NotStored, "NS");
/// The former server has it.
const ITEM: Say = Say::Meta("VA 1 f5 t100 c9", "x");
/// It has it still, and the same.
const SAME: Say = Say::Line(Status::Hit, "HD c9");
/// The new one has it now.
const ADDED: Say = Say::Line(Status::Stored, "HD c9");

const LOOK: &str = "mg k v f t c";
const AGAIN: &str = "mg k c";
const ADD: &str = "ms k 1 F5 T100 ME E9 c|x";

fn moved(a: Vec<Say>, b: Vec<Say>) -> Tree {
    tree_after(&[OLD], NEW, [("a", a), ("b", b)])
}

/// Found there, copied, skipped.
fn counted(tree: &Tree) -> [u64; 3] {
    let counters = &tree.counters;
    [&counters.transition_hits_old, &counters.transition_copies, &counters.transition_skipped]
        .map(|counter| counter.value())
}

#[test]
fn what_the_new_server_has_is_the_answer() {
    run(async {
        let tree = moved(vec![], vec![Say::Hit("1"), TIMEOUT]);
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
        assert_eq!(tree.ask("get k").await, "SERVER_ERROR Reply timeout");
        assert_eq!((tree.heard("a").len(), counted(&tree)), (0, [0, 0, 0]));
    });
}

#[test]
fn what_it_misses_is_found_at_the_former_one_and_copied() {
    run(async {
        let tree = moved(vec![ITEM, SAME], vec![MISS, ADDED, Say::Hit("x")]);
        assert_eq!(tree.ask("get k").await, "VALUE k 5 1|x");
        settle().await;
        assert_eq!(tree.heard("a"), [LOOK, AGAIN]);
        assert_eq!(tree.heard("b"), ["get k", ADD]);
        assert_eq!(tree.ask("get k").await, "VALUE k 0 1|x");
        assert_eq!((tree.heard("a").len(), counted(&tree)), (0, [1, 1, 0]), "no need to ask it again");
    });
}

#[test]
fn meta_gets_are_answered_in_their_own_words() {
    run(async {
        let forever = Say::Meta("VA 1 s1 f0 t-1 kk Oab c9", "x");
        let tree = moved(vec![forever, SAME, EN], vec![Say::Line(Status::Miss, "EN Oab kk"), ADDED, EN]);
        assert_eq!(tree.ask("mg k v s f t k Oab").await, "VA 1 s1 f0 t-1 kk Oab|x");
        settle().await;
        assert_eq!(tree.heard("a"), ["mg k v s f t k Oab c", AGAIN]);
        assert_eq!(tree.heard("b"), ["mg k v s f t k Oab", "ms k 1 F0 T0 ME E9 c|x"], "for ever");
        assert_eq!(tree.ask("mg k t").await, "EN");
        assert_eq!(counted(&tree), [1, 1, 0]);
    });
}

#[test]
fn keys_in_base64_stay_so() {
    run(async {
        let item = Say::Meta("VA 1 b f0 t9 c9", "x");
        let tree = moved(
            vec![item, SAME, DELETED, ITEM, SAME, DELETED],
            vec![EN, ADDED, Say::Line(Status::Deleted, "HD"), NF, ADDED, Say::Line(Status::Number, "HD")],
        );
        assert_eq!(tree.ask("mg ICA= b v").await, "VA 1 b|x");
        settle().await;
        assert_eq!(tree.heard("a"), ["mg ICA= b v f t c", "mg ICA= c b"]);
        assert_eq!(tree.heard("b")[1], "ms ICA= 1 F0 T9 ME E9 c b|x");
        assert_eq!(tree.ask("md ICA= b").await, "HD");
        assert_eq!((tree.heard("a"), tree.heard("b")), (vec!["md ICA= b".into()], vec!["md ICA= b".into()]));
        assert_eq!(tree.ask("ma ICA= b").await, "HD");
        assert_eq!(tree.heard("a"), ["mg ICA= b v f t c", "mg ICA= c b", "md ICA= b"]);
    });
}

#[test]
fn nowhere_is_a_miss() {
    run(async {
        let stale = Say::Meta("VA 1 f0 t9 c9 W X", "x");
        let tree = moved(vec![EN, TIMEOUT, stale], vec![MISS, MISS, MISS]);
        for told in ["nothing is there", "a former server's failure is nobody's", "it wants to be recached"] {
            assert_eq!(tree.ask("get k").await, "", "{told}");
        }
        assert_eq!((tree.heard("b").len(), counted(&tree)), (3, [0, 0, 0]), "nothing is copied");
    });
}

#[test]
fn a_copy_of_what_was_deleted_or_changed_meanwhile_is_taken_back() {
    run(async {
        for again in [EN, Say::Line(Status::Hit, "HD c10"), TIMEOUT] {
            let tree = moved(vec![ITEM, again], vec![MISS, ADDED, Say::Line(Status::Deleted, "HD")]);
            assert_eq!(tree.ask("get k").await, "VALUE k 5 1|x", "it was there when it was asked for");
            settle().await;
            assert_eq!(tree.heard("b").last().unwrap(), "md k C9", "that one and no newer one");
            assert_eq!(counted(&tree), [1, 0, 0]);
        }
        let tree = moved(vec![ITEM], vec![MISS, NS]);
        assert_eq!(tree.ask("get k").await, "VALUE k 5 1|x");
        settle().await;
        assert_eq!(tree.heard("a"), [LOOK], "somebody was faster: nothing to look after");
    });
}

#[test]
fn servers_that_take_no_cas_get_one_of_their_own() {
    run(async {
        let refusal = || Say::Line(Status::ErrorLine, "CLIENT_ERROR invalid flag");
        let own = || Say::Line(Status::Stored, "HD c77");
        let tree = moved(vec![ITEM, ITEM, EN], vec![MISS, refusal(), MISS, own(), DELETED]);
        for _ in 0..2 {
            assert_eq!(tree.ask("get k").await, "VALUE k 5 1|x");
            settle().await;
        }
        assert_eq!(tree.heard("b"), ["get k", ADD, "get k", "ms k 1 F5 T100 ME c|x", "md k C77"]);
        // who waits for the copy does not notice
        let tree = moved(
            vec![ITEM, SAME, DELETED],
            vec![NOT_FOUND, refusal(), own(), Say::Line(Status::Touched, "TOUCHED")],
        );
        assert_eq!(tree.ask("touch k 5").await, "TOUCHED");
    });
}

#[test]
fn what_is_set_is_forgotten_elsewhere() {
    run(async {
        let tree = moved(vec![DELETED, NOT_FOUND], vec![STORED, Say::Line(Status::Stored, "HD")]);
        assert_eq!(tree.ask("set k 1 2 1|y").await, "STORED");
        assert_eq!(tree.ask("ms k 1 T2|y").await, "HD");
        assert_eq!(tree.heard("a"), ["delete k", "delete k"]);
        assert_eq!(tree.heard("b"), ["set k 1 2 1|y", "ms k 1 T2|y"]);
    });
}

#[test]
fn a_delete_is_answered_by_the_former_server_first() {
    run(async {
        let tree = moved(
            vec![Say::Wait, NOT_FOUND, DELETED],
            vec![NOT_FOUND, NOT_FOUND, Say::Line(Status::NotFound, "NF Ox kk")],
        );
        let waiting = tree.send("delete k").await;
        assert_eq!((tree.heard("a").len(), tree.heard("b").len(), waiting.reply()), (1, 0, None));
        tree.finish("a", &Reply::line(Status::Deleted, b"DELETED"));
        settle().await;
        assert_eq!((tree.heard("b"), waiting.reply()), (vec!["delete k".into()], Some("DELETED".into())));
        assert_eq!(tree.ask("delete k").await, "NOT_FOUND", "it was nowhere");
        assert_eq!(tree.ask("md k Ox k").await, "HD Ox kk", "it was there, in the words of the request");
    });
}

/// A change of what is there: request, answer of success, answer when nothing is there.
const CHANGES: [(&str, Status, &str, Status, &str); 11] = [
    ("append k 0 0 1|y", Status::Stored, "STORED", Status::NotStored, "NOT_STORED"),
    ("prepend k 0 0 1|y", Status::Stored, "STORED", Status::NotStored, "NOT_STORED"),
    ("replace k 0 0 1|y", Status::Stored, "STORED", Status::NotStored, "NOT_STORED"),
    ("cas k 0 0 1 9|y", Status::Stored, "STORED", Status::NotFound, "NOT_FOUND"),
    ("incr k 1", Status::Number, "6", Status::NotFound, "NOT_FOUND"),
    ("touch k 7", Status::Touched, "TOUCHED", Status::NotFound, "NOT_FOUND"),
    ("gat 7 k", Status::Hit, "VALUE k 0 0", Status::Miss, ""),
    ("mg k T7", Status::Hit, "HD", Status::Miss, "EN"),
    ("ms k 1 C9|y", Status::Stored, "HD", Status::NotFound, "NF"),
    ("ma k", Status::Number, "HD", Status::NotFound, "NF"),
    ("md k I", Status::Deleted, "HD", Status::NotFound, "NF"),
];

#[test]
fn what_needs_an_item_finds_it() {
    run(async {
        for (request, yes, answer, no, refusal) in CHANGES {
            let (done, refused) = (|| Say::Line(yes, answer), || Say::Line(no, refusal));
            let tree = moved(vec![DELETED], vec![done()]);
            assert_eq!(tree.ask(request).await, answer);
            assert_eq!(tree.heard("a"), ["delete k"], "{request}: it is another one now");

            let tree = moved(vec![ITEM, SAME, DELETED], vec![refused(), ADDED, done()]);
            assert_eq!(tree.ask(request).await, answer);
            assert_eq!(tree.heard("a"), [LOOK, AGAIN, "delete k"], "{request}");
            assert_eq!(tree.heard("b"), [request, ADD, request], "{request}");

            let tree = moved(vec![EN], vec![refused()]);
            assert_eq!(tree.ask(request).await, refusal, "{request}");
            let tree = moved(vec![ITEM, EN], vec![refused(), ADDED, DELETED]);
            assert_eq!(tree.ask(request).await, refusal, "{request}: deleted meanwhile");
        }
        let tree = moved(vec![], vec![Say::Line(Status::Exists, "EXISTS")]);
        assert_eq!(tree.ask("cas k 0 0 1 9|y").await, "EXISTS");
        assert!(tree.heard("a").is_empty(), "nothing has changed");
    });
}

#[test]
fn what_wants_nothing_to_be_there_looks_first() {
    run(async {
        for (request, yes, answer, no, refusal) in [
            ("add k 0 0 1|y", Status::Stored, "STORED", Status::NotStored, "NOT_STORED"),
            ("ms k 1 ME|y", Status::Stored, "HD", Status::NotStored, "NS"),
        ] {
            let tree = moved(vec![EN, NOT_FOUND], vec![Say::Line(yes, answer)]);
            assert_eq!(tree.ask(request).await, answer);
            assert_eq!(tree.heard("a"), [LOOK, "delete k"]);
            let tree = moved(vec![ITEM, SAME], vec![ADDED, Say::Line(no, refusal)]);
            assert_eq!(tree.ask(request).await, refusal);
            assert_eq!(
                (tree.heard("a"), tree.heard("b")),
                ([LOOK, AGAIN].map(String::from).to_vec(), vec![ADD.to_owned(), request.to_owned()])
            );
        }
        // what makes one where none is changes one where one is
        let tree = moved(vec![ITEM, SAME, DELETED], vec![ADDED, Say::Line(Status::Number, "HD")]);
        assert_eq!(tree.ask("ma k N0").await, "HD");
        assert_eq!(tree.heard("a"), [LOOK, AGAIN, "delete k"]);
    });
}

#[test]
fn a_cas_is_told_by_the_new_server() {
    run(async {
        let told = || Say::Meta("VALUE k 5 1 9", "x");
        let tree = moved(vec![ITEM, SAME, ITEM, SAME], vec![MISS, ADDED, told(), EN, ADDED, SAME]);
        assert_eq!(tree.ask("gets k").await, "VALUE k 5 1 9|x");
        assert_eq!(tree.heard("b"), ["gets k", ADD, "gets k"]);
        assert_eq!(tree.ask("mg k c").await, "HD c9");
        assert_eq!(tree.heard("a"), [LOOK, AGAIN, LOOK, AGAIN], "it is not changed by being read");
    });
}

#[test]
fn a_key_that_is_copied_waits_and_others_do_not() {
    run(async {
        let tree = moved(
            vec![ITEM, Say::Wait, EN, NOT_FOUND],
            vec![MISS, ADDED, MISS, Say::Hit("x"), DELETED, MISS],
        );
        assert_eq!(tree.ask("get k").await, "VALUE k 5 1|x");
        let (get, delete, after) =
            (tree.send("get k").await, tree.send("delete k").await, tree.send("get k").await);
        assert_eq!((get.reply(), delete.reply(), after.reply()), (None, None, None));
        assert_eq!(tree.heard("b"), ["get k", ADD]);
        assert_eq!(tree.ask("get other").await, "");
        tree.heard("b");
        tree.finish("a", &Reply::line(Status::Hit, b"HD c9"));
        settle().await;
        assert_eq!(tree.heard("b"), ["get k", "delete k", "get k"]);
        assert_eq!(get.reply().unwrap(), "VALUE k 0 1|x");
        assert_eq!((delete.reply(), after.reply()), (Some("DELETED".into()), Some(String::new())));
    });
}

#[test]
fn many_that_miss_at_once_bring_one_copy() {
    run(async {
        let mut b: Vec<Say> = (0..50).map(|_| Say::Wait).collect();
        b.push(ADDED);
        b.extend((0..49).map(|_| Say::Hit("x")));
        let tree = moved(vec![ITEM, SAME], b);
        let mut waiting = Vec::new();
        for _ in 0..50 {
            waiting.push(tree.send("get k").await);
        }
        for _ in 0..50 {
            tree.finish("b", &Reply::line(Status::Miss, b""));
        }
        settle().await;
        assert!(waiting.into_iter().all(|w| w.reply().is_some_and(|reply| reply.ends_with("1|x"))));
        assert_eq!((tree.heard("a").len(), counted(&tree)), (2, [1, 1, 0]));
    });
}

#[test]
fn a_former_server_that_is_out_is_not_asked_and_not_believed_again_when_it_missed_something() {
    run(async {
        let tree = moved(vec![ITEM, SAME], vec![MISS, MISS, ADDED]);
        tree.set_out("a", true);
        assert_eq!(tree.ask("get k").await, "");
        tree.set_out("a", false);
        assert_eq!(tree.ask("get k").await, "VALUE k 5 1|x", "nothing was lost");

        let tko = || Say::Fail(crate::protocol::Cause::Tko);
        for (request, answer) in [("delete k", DELETED), ("set k 0 0 1|y", STORED)] {
            let tree = moved(vec![tko(), DELETED, NOT_FOUND], vec![answer, MISS, NOT_FOUND, STORED]);
            tree.ask(request).await;
            assert_eq!(tree.heard("a").len(), 1);
            assert_eq!(tree.ask("get k").await, "", "{request}: what it has may be old");
            assert_eq!(tree.ask("delete k").await, "NOT_FOUND", "nobody waits for it");
            tree.ask("set k 0 0 1|y").await;
            assert_eq!(tree.heard("a"), ["delete k", "delete k"], "told all the same");
        }
    });
}

#[test]
fn without_copies_it_is_only_read() {
    run(async {
        let new = "servers: [b], transition: {copy: false}";
        let b = vec![MISS, MISS, STORED, NOT_FOUND, STORED, DELETED];
        let tree = tree_after(&[OLD], new, [("a", vec![ITEM, DELETED, DELETED, DELETED]), ("b", b)]);
        assert_eq!(tree.ask("get k").await, "VALUE k 5 1|x");
        assert_eq!(tree.ask("gets k").await, "", "which has its own cas");
        assert_eq!(tree.ask("add k 0 0 1|y").await, "STORED");
        assert_eq!(tree.ask("incr k 1").await, "NOT_FOUND");
        assert_eq!(tree.ask("set k 0 0 1|y").await, "STORED");
        assert_eq!(tree.ask("delete k").await, "DELETED");
        assert_eq!(tree.heard("a"), [LOOK, "delete k", "delete k", "delete k"]);
        assert_eq!(counted(&tree), [1, 0, 0]);
    });
}

#[test]
fn beyond_the_rate_it_is_only_read() {
    run(async {
        let new = "servers: [b], transition: {rate: 1}";
        let misses = || (0..3).map(|_| MISS);
        let b = [MISS, ADDED].into_iter().chain(misses()).chain([
            NOT_FOUND,
            ADDED,
            Say::Line(Status::Number, "6"),
        ]);
        let a = vec![ITEM, SAME, ITEM, ITEM, ITEM, SAME, DELETED];
        let tree = tree_after(&[OLD], new, [("a", a), ("b", b.collect())]);
        for _ in 0..3 {
            assert_eq!(tree.ask("get k").await, "VALUE k 5 1|x");
            settle().await;
        }
        assert_eq!(counted(&tree), [3, 1, 2]);
        assert_eq!(tree.ask("gets k").await, "", "that would need a copy");
        assert_eq!(tree.ask("incr k 1").await, "6", "nothing that is written is left out");
        assert_eq!(counted(&tree), [4, 2, 3]);
    });
}

#[test]
fn it_ends_by_itself() {
    run(async {
        let tree = moved(vec![ITEM, SAME], vec![MISS, ADDED, MISS]);
        tree.ask("get k").await;
        assert!(tree.root.pool(Op::Get, b"k").is_none() && tree.root.only_pool().is_none(), "alone");
        assert_eq!(tree.root.servers().len(), 2, "who may still be asked is emptied too");
        tokio::time::sleep(Duration::from_secs(601)).await;
        settle().await;
        assert!(tree.is_let_go("a"));
        assert!(tree.root.pool(Op::Get, b"k").is_some() && tree.root.only_pool().is_some());
        assert_eq!(tree.root.servers().len(), 1);
        assert_eq!(tree.ask("get k").await, "");
        assert_eq!(tree.heard("a").len(), 2);
    });
}

#[test]
fn several_changes_are_gone_back_one_after_the_other() {
    run(async {
        let before = ["servers: [c]", "servers: [a]"];
        let scripts = || {
            let b = vec![MISS, ADDED, STORED, DELETED];
            [("a", vec![EN, DELETED, Say::Wait]), ("b", b), ("c", vec![ITEM, SAME, DELETED, DELETED])]
        };
        let tree = tree_after(&before, NEW, scripts());
        assert_eq!(tree.ask("get k").await, "VALUE k 5 1|x");
        settle().await;
        assert_eq!((tree.heard("a").len(), tree.heard("c").len()), (1, 2));
        tree.ask("set k 0 0 1|y").await;
        assert_eq!((tree.heard("a"), tree.heard("c")), (vec!["delete k".into()], vec!["delete k".into()]));
        tree.heard("b");
        let waiting = tree.send("delete k").await;
        assert_eq!((tree.heard("c").len(), tree.heard("a").len()), (1, 1), "the oldest first");
        assert!(tree.heard("b").is_empty());
        tree.finish("a", &Reply::line(Status::NotFound, b"NOT_FOUND"));
        settle().await;
        assert_eq!(waiting.reply().unwrap(), "DELETED");
    });
}

#[test]
fn keys_that_stay_go_straight_on() {
    run(async {
        let misses = || (0..400).map(|_| MISS).collect::<Vec<_>>();
        let before = "servers: [a, b, c]";
        let after = "servers: [a, b, c, d], transition: {}";
        let tree = tree_after(
            &[before],
            after,
            [("d", misses()), ("a", misses()), ("b", misses()), ("c", misses())],
        );
        let mut moved_count = 0;
        for key in 0..200 {
            tree.ask(&format!("get key:{key}")).await;
            let heard = ["a", "b", "c", "d"].map(|name| tree.heard(name));
            let asked: Vec<&String> = heard.iter().flatten().collect();
            let is_moved = !heard[3].is_empty();
            moved_count += u32::from(is_moved);
            assert_eq!(asked.len(), if is_moved { 2 } else { 1 }, "{asked:?}");
            let pool = tree.root.pool(Op::Get, format!("key:{key}").as_bytes());
            assert_eq!(pool.is_none(), is_moved, "together with others");
        }
        assert!((25..80).contains(&moved_count), "{moved_count}");
        let explained = tree.root.explain(&crate::protocol::Request::new(Op::Get, b"key:0")).to_string();
        assert!(explained.contains("pool main"), "{explained}");
    });
}

#[test]
fn a_delete_is_kept_for_a_server_that_is_out_while_keys_move() {
    run(async {
        for on_down in ["failover", "eject"] {
            let deleted = || (0..3).map(|_| DELETED).collect::<Vec<_>>();
            let after = format!("servers: [b, c], transition: {{for: 10m}}, on_down: {on_down}");
            let tree = tree_after(&[OLD], &after, ["a", "b", "c"].map(|name| (name, deleted())));
            let heard = |tree: &Tree| ["a", "b", "c"].map(|name| tree.heard(name).len());
            tree.ask("delete k").await;
            let home = if heard(&tree) == [1, 1, 0] { "b" } else { "c" };
            tree.set_out(home, true);
            tree.keep(home);
            assert_eq!(tree.ask("delete k").await, "DELETED");
            assert_eq!(heard(&tree), [1, 1, 1], "who had it, who stands in, and who is out: {on_down}");
        }
    });
}
