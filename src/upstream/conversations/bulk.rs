//! Requests that move much, and those that pass them.

use super::{CLOSED, LATE, MODERN, REFUSED, Stand, TIMEOUT, run, settle, time_out};
use crate::route::{Moves, Slot};

/// Expected of a value that is large.
const MUCH: usize = 300_000;

#[test]
fn what_moves_much_lets_others_pass() {
    run(async {
        let stand = Stand::new("");
        for token in 1..=4 {
            stand.ask_much(token, &format!("get large{token}"), MUCH);
        }
        stand.ask(5, "get small");
        stand.ask(6, "get a b");
        let mut server = stand.accept(MODERN).await;
        server.expect("get large1|get large2|get small|get a b|").await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 6);
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        server.expect("get large3|").await;
        stand.ask_much(7, "set a 0 0 1|x", 1);
        server.say("END|END|END|");
        stand.expect(&[(2, ""), (5, ""), (6, "")]).await;
        server.expect("get large4|").await;
        server.say("END|");
        server.expect("set a 0 0 1|x|").await;
        server.say("END|STORED|");
        stand.expect(&[(3, ""), (4, ""), (7, "STORED")]).await;
        stand.expect_nothing_left();
    });
}

#[test]
fn one_that_moves_more_than_may_be_goes_alone() {
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get a", 1 << 30);
        stand.ask(2, "get small");
        stand.ask_much(3, "get b c", 1 << 30);
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|get small|").await;
        server.say("END|END|");
        server.expect("get b c|").await;
        server.say("VALUE c 0 1|x|END|");
        stand.expect(&[(1, ""), (2, ""), (3, "1: VALUE c 0 1+1"), (3, "")]).await;
    });
}

#[test]
fn for_one_key_a_connection_stays_a_queue() {
    let large = format!("set k 0 0 20000|{}", "x".repeat(20_000));
    for (then, waits) in [
        ("get k", true),
        ("delete k", true),
        ("get j k l", true),
        ("mg k", true),
        ("flush_all", true),
        ("get j", false),
        ("get i j", false),
    ] {
        run(async {
            let stand = Stand::new("");
            stand.ask_much(1, "get first", 1 << 30);
            stand.ask_much(2, "get read", 1);
            stand.ask_much(3, &large, 1);
            stand.ask(4, "get read");
            stand.ask(5, then);
            let mut server = stand.accept(MODERN).await;
            let passed = if waits { String::new() } else { format!("{then}|") };
            server.expect(&format!("get first|get read|{passed}")).await;
            server.say("END|END|");
            let heard = server.heard().await.replace(" O0", "").replace("flush_all 0", "flush_all");
            let behind = if waits { format!("{then}|") } else { String::new() };
            assert_eq!(heard, format!("get read|{large}|{behind}"));
            // and nothing of it is remembered
            stand.ask_much(6, "get first", 1 << 30);
            stand.ask_much(7, "get read", 1);
            stand.ask(8, "get k");
            server.expect("get first|get k|").await;
        });
    }
}

/// Or what clients ask for that harm nobody would wait behind what those ask for who do, as often as two keys are taken for one.
#[test]
fn all_other_keys_pass_what_waits_for_one() {
    const KEYS_COUNT: u64 = 5_000;
    run(async {
        let stand = Stand::new("outstanding_max: 10000");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "delete k", 1);
        let mut expected = "get first|".to_owned();
        for number in 0..KEYS_COUNT {
            let get = format!("get good:{number}");
            stand.ask(3 + number, &get);
            expected += &format!("{get}|");
        }
        let mut server = stand.accept(MODERN).await;
        server.expect(&expected).await;
    });
}

#[test]
fn what_waits_for_one_key_is_not_passed_with_its_others() {
    let many = format!("get a{}", " c".repeat(64));
    for (waits, then) in [
        ("get a b", "set b 0 0 1|y"),
        ("gat 9 a b", "touch b 0"),
        ("get a", "delete a"),
        (&many, "get nothing"),
    ] {
        run(async {
            let stand = Stand::new("");
            stand.ask_much(1, "get first", 1 << 30);
            stand.ask_much(2, "set a 0 0 1|x", 1 << 30);
            stand.ask(3, waits);
            stand.ask(4, then);
            stand.ask(5, "get other");
            let is_for_all = waits == many;
            let passes = if is_for_all { "" } else { "get other|" };
            let mut server = stand.accept(MODERN).await;
            server.expect(&format!("get first|{passes}")).await;
            server.say("END|");
            server.expect("set a 0 0 1|x|").await;
            // what has changed the key is on the connection, and there is no room for what waits behind it
            stand.ask(6, then);
            server.expect("").await;
            server.say(if is_for_all { "STORED|" } else { "END|STORED|" });
            let behind = if is_for_all { "get other|" } else { "" };
            server.expect(&format!("{waits}|{then}|{behind}{then}|")).await;
        });
    }
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "gat 9 a b", 1);
        stand.ask(3, "touch b 0");
        let mut server = stand.accept(MODERN).await;
        server.expect("get first|").await;
    });
}

#[test]
fn what_is_sent_once_more_still_moves_much() {
    run(async {
        let (stand, server) = Stand::idle("").await;
        stand.ask_much(2, "get first", 1 << 30);
        settle().await;
        drop(server);
        let mut server = stand.accept(MODERN).await;
        server.expect("get first|").await;
        stand.ask_much(3, "get second", 1);
        stand.ask(4, "get small");
        server.expect("get small|").await;
        server.say("END|END|");
        server.expect("get second|").await;
    });
}

#[test]
fn what_has_waited_too_long_holds_nothing() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.ask_much(1, "get first", 1 << 30);
        let large = format!("set b 0 0 20000|{}", "x".repeat(20_000));
        stand.ask_much(2, &large, 1);
        stand.ask_much(3, &large, 1);
        let mut server = stand.accept(MODERN).await;
        server.expect("get first|").await;
        assert!(stand.shared.budget.held_bytes() > 40_000);
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.ask_much(4, &large, 1);
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.expect(&[(1, LATE), (2, LATE), (3, LATE)]).await;
        assert_eq!(
            stand.count(|c| &c.server_outstanding),
            2,
            "the late one, and one whose time has not passed"
        );
        stand.ask(5, "get b");
        server.expect("").await;
        server.say("END|");
        server.expect(&format!("{large}|get b|")).await;
        server.say("STORED|END|");
        stand.expect(&[(4, "STORED"), (5, "")]).await;
        stand.expect_nothing_left();
    });
    run(async {
        let stand = Stand::new("tko: off");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "get second", 1);
        let mut server = stand.accept(MODERN).await;
        time_out().await;
        tokio::time::sleep(TIMEOUT * 4).await;
        settle().await;
        assert!(server.is_closed().await);
        assert_eq!(stand.calls(), 0, "there is nothing to ask");
    });
}

#[test]
fn what_waits_for_its_turn_has_its_time_too() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.ask_much(1, "get first", 1 << 30);
        let mut server = stand.accept(MODERN).await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.ask_much(2, "get a", 1);
        stand.ask_much(3, "set b 0 0 1|x", 1);
        time_out().await;
        stand.expect(&[(1, LATE), (2, LATE), (3, LATE)]).await;
        assert_eq!(stand.count(|c| &c.server_timeouts), 3);
        stand.ask_much(4, "get c", 1);
        server.expect("get first|").await;
        server.say("END|");
        server.expect("get c|").await;
        server.say("END|");
        stand.expect(&[(4, "")]).await;
        stand.expect_nothing_left();
    });
}

#[test]
fn a_server_that_answers_is_not_to_blame_for_what_waits() {
    for answers in [true, false] {
        run(async {
            let stand = Stand::new("tko: {timeouts_until_tko: 2}");
            (1..=9).for_each(|token| stand.ask_much(token, "get a", 1 << 30));
            let mut server = stand.accept(MODERN).await;
            tokio::time::sleep(TIMEOUT / 2).await;
            if answers {
                server.expect("get a|").await;
                server.say("END|");
                stand.expect(&[(1, "")]).await;
            }
            time_out().await;
            let first = if answers { 2 } else { 1 };
            stand.expect(&(first..=9).map(|token| (token, LATE)).collect::<Vec<_>>()).await;
            assert_eq!(stand.leaves[0].is_out(), !answers);
        });
    }
}

#[test]
fn what_nobody_knew_is_taken_for_what_is_known_when_it_goes() {
    run(async {
        let stand = Stand::new("");
        for token in 1..=20 {
            stand.ask_as(token, &format!("get k{token}"), Moves::Unknown(1));
        }
        let line = |token| format!("get k{token}|");
        let mut server = stand.accept(MODERN).await;
        server.expect(&(1..=8).map(line).collect::<String>()).await;
        server.say("END|");
        server.expect(&line(9)).await;
        (0..200).for_each(|_| stand.shared.first_replies.learn(100, 1));
        server.say("END|");
        server.expect(&(10..=20).map(line).collect::<String>()).await;
        server.say(&"END|".repeat(18));
        stand.expect(&(1..=20).map(|token| (token, "")).collect::<Vec<_>>()).await;
        // and for more, where more is known
        stand.ask_much(21, "get first", 1 << 30);
        (22..=40).for_each(|token| stand.ask_as(token, "get j", Moves::Unknown(1)));
        server.expect("get first|").await;
        (0..200).for_each(|_| stand.shared.first_replies.learn(1 << 20, 1));
        server.say("END|");
        assert_eq!(server.heard().await, "get j|");
    });
}

#[test]
fn what_comes_too_late_tells_of_those_who_come_next() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.shared.late_count_max.set(1_000);
        let expected_bytes = || stand.shared.first_replies.expected_bytes(1);
        let late = |text: &'static str, count: u64| {
            let tokens = 1..=count;
            tokens.clone().for_each(|token| stand.ask_as(token, text, Moves::Unknown(1)));
            let told: Vec<_> = tokens.map(|token| (token, LATE)).collect();
            (told, format!("{text}|").repeat(usize::try_from(count).unwrap()))
        };
        let (told, asked) = late("get k", 8);
        let mut server = stand.accept(MODERN).await;
        server.expect(&asked).await;
        time_out().await;
        stand.expect(&told).await;
        let unknown = expected_bytes();
        server.say(&"VALUE k 0 1|x|END|".repeat(8));
        settle().await;
        let small = expected_bytes();
        assert!(small < unknown * 5 / 8, "{small} of {unknown}");
        // what is large tells so too, though nothing of it is kept; and so do all values of one get together
        for text in ["get k", "get k l"] {
            let before = expected_bytes();
            let (told, asked) = late(text, 1);
            server.expect(&asked).await;
            time_out().await;
            stand.expect(&told).await;
            let (count, value) = (text.len() / 2 - 1, "x".repeat(900_000 / (text.len() / 2 - 1)));
            let values = ["k", "l"].map(|key| format!("VALUE {key} 0 {}|{value}|", value.len()));
            server.say(&(values[..count].concat() + "END|"));
            settle().await;
            assert!(expected_bytes() > before + 40_000, "{text}: {} after {before}", expected_bytes());
        }
        // a set has no value to tell of
        let before = expected_bytes();
        let (told, _) = late("set k 0 0 1|x", 1);
        time_out().await;
        stand.expect(&told).await;
        server.say("STORED|");
        settle().await;
        assert_eq!(expected_bytes(), before);
        stand.expect_nothing_left();
    });
}

#[test]
fn what_waits_does_not_hide_that_a_reply_has_begun() {
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get a b", 1 << 30);
        let mut server = stand.accept(MODERN).await;
        server.expect("get a b|").await;
        server.say("VALUE a 0 1|x|");
        stand.expect(&[(1, "0: VALUE a 0 1+1")]).await;
        stand.ask_much(2, "get c", 1);
        drop(server);
        stand.expect(&[(1, CLOSED)]).await;
        let mut server = stand.accept(MODERN).await;
        assert_eq!(server.heard().await, "get c|", "a value that was handed on is not asked for again");
    });
}

#[test]
fn nothing_passes_what_is_about_all_keys() {
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "get a", 1);
        stand.ask(3, "flush_all");
        stand.ask(4, "set k 0 0 1|x");
        let mut server = stand.accept(MODERN).await;
        assert_eq!(server.heard().await, "get first|");
        server.say("END|");
        server.expect("get a|flush_all 0|set k 0 0 1|x|").await;
        server.say("END|OK|STORED|");
        stand.expect(&[(1, ""), (2, ""), (3, "OK"), (4, "STORED")]).await;
        stand.ask_much(5, "get first", 1 << 30);
        stand.ask_much(6, "get a", 1);
        stand.ask(7, "get k");
        server.expect("get first|get k|").await;
    });
}

#[test]
fn what_is_read_for_nobody_is_not_asked() {
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "get a", 1);
        stand.ask_much(3, "set b 0 0 1|x", 1);
        let mut server = stand.accept(MODERN).await;
        server.expect("get first|").await;
        stand.told.is_deaf.set(true);
        server.say("END|");
        server.expect("set b 0 0 1|x|").await;
        server.say("STORED|");
        stand.expect(&[(1, ""), (2, "SERVER_ERROR aborted"), (3, "STORED")]).await;
        stand.expect_nothing_left();
    });
}

#[test]
fn what_waits_for_its_turn_survives_the_connection() {
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, &format!("set b 0 0 20000|{}", "x".repeat(20_000)), 1);
        stand.ask_much(3, &format!("get{}", " key".repeat(5_000)), 1);
        let mut server = stand.accept(MODERN).await;
        server.expect("get first|").await;
        server.say("VALUE first 0 5|x");
        drop(server);
        stand.expect(&[(1, CLOSED)]).await;
        let mut server = stand.accept(MODERN).await;
        let expected = format!("set b 0 0 20000|{}|get{}|", "x".repeat(20_000), " key".repeat(5_000));
        server.expect(&expected).await;
        server.say("STORED|");
        drop(server);
        stand.expect(&[(2, "STORED"), (3, CLOSED)]).await;
    });
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "set b 0 0 1|x", 1);
        stand.refuses.set(true);
        stand.expect(&[(1, REFUSED), (2, REFUSED)]).await;
        assert_eq!(stand.shared.budget.held_bytes(), 0);
    });
    run(async {
        let mut stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "get second", 1);
        stand.leaves.clear();
        let mut server = stand.accept(MODERN).await;
        server.say("END|");
        server.expect("get first|get second|").await;
        server.say("END|");
        stand.expect(&[(1, ""), (2, "")]).await;
        assert!(server.is_closed().await);
    });
}

#[test]
fn the_queue_is_as_long_with_those_that_wait() {
    run(async {
        let stand = Stand::new("outstanding_max: 2");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "get second", 1);
        stand.ask(3, "get third");
        assert_eq!(stand.told.list.take().len(), 1);
    });
}

#[test]
fn who_has_waited_for_its_turn_has_no_more_time_than_others() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.ask_much(1, "get first", 1 << 30);
        let mut server = stand.accept(MODERN).await;
        tokio::time::sleep(TIMEOUT / 10).await;
        stand.ask_much(2, "get large", 1);
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.ask(3, "get small");
        server.expect("get first|get small|").await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        server.expect("get large|").await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.expect(&[(2, LATE)]).await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.expect(&[(3, LATE)]).await;
        server.say("END|END|");
        stand.ask(4, "get small");
        settle().await;
        server.say("END|");
        stand.expect(&[(4, "")]).await;
    });
}

#[test]
fn a_copy_for_nobody_waits_for_its_turn_and_is_asked() {
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.send("get a", Moves::Much(1), Slot::nowhere());
        let mut server = stand.accept(MODERN).await;
        server.expect("get first|").await;
        server.say("END|");
        server.expect("get a|").await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
    });
}
