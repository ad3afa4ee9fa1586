//! What becomes of replies: whole, in pieces, large, wrong, and what is counted meanwhile.

use super::{BUFFER_BYTES_MAX, CLOSED, DESYNC, MODERN, OLD, Stand, TIMEOUT, pool, run, settle, time_out};
use crate::stats::Stats;
use crate::upstream::Destination;
use std::time::Duration;

#[test]
fn meta_requests_are_known_by_their_opaques() {
    run(async {
        let (stand, mut server) = Stand::asked("", &["mg a v", "mg b Omine v", "me c", "ms d 2|xx"]).await;
        server.expect("mg a v O0|mg b Omine v|me c|ms d 2 O1|xx|").await;
        server.say("VA 1 O0|x|EN|me c exp=-1|HD O1|");
        stand.expect(&[(1, "VA 1+1"), (2, DESYNC), (3, DESYNC), (4, DESYNC)]).await;
        assert_eq!(stand.count(|c| &c.desync_detected), 1, "EN without the opaque that is due");
        stand.ask(5, "mg b Omine");
        stand.ask(6, "me Zm9v b");
        stand.ask(7, "me c");
        stand.ask(8, "ma e");
        let mut server = stand.accept(MODERN).await;
        server.expect("mg b Omine|me Zm9v b|me c|ma e O2|").await;
        server.say("HD Omine|ME Zm9v exp=-1|ME other exp=-1|");
        stand.expect(&[(5, "HD Omine"), (6, "ME Zm9v exp=-1"), (7, DESYNC), (8, DESYNC)]).await;
    });
}

#[test]
fn several_keys_are_told_one_by_one() {
    run(async {
        let (stand, mut server) = Stand::asked("", &["gets a b c d", "gats 60 a b"]).await;
        server.expect("gets a b c d|gats 60 a b|").await;
        let large = "x".repeat(20_000);
        server.say(&format!("VALUE b 0 3 9|foo|VALUE d 1 20000 10|{large}|EN"));
        stand.expect(&[(1, "1: VALUE b 0 3 9+3"), (1, "3: VALUE d 1 20000 10+20000")]).await;
        server.say("D|VALUE b 0 1 4|y|END|");
        stand.expect(&[(1, ""), (2, "1: VALUE b 0 1 4+1"), (2, "")]).await;
        // more keys than are kept with the other lines
        let keys: String = (0..3_000).map(|n| format!(" key{n}")).collect();
        stand.ask(3, &format!("get{keys}"));
        server.expect(&format!("get{keys}|")).await;
        server.say("VALUE key2999 0 1|z|END|");
        stand.expect(&[(3, "2999: VALUE key2999 0 1+1"), (3, "")]).await;
        assert_eq!(stand.count(|c| &c.buffer_bytes), 0);
    });
}

#[test]
fn a_value_may_come_in_any_number_of_pieces() {
    run(async {
        let (stand, mut server) = Stand::asked("", &["get small", "get large", "mg large v"]).await;
        server.heard().await;
        let large = "x".repeat(16_384);
        let all = format!("VALUE small 0 3|foo|END|VALUE large 0 16384|{large}|END|VA 16384 O0|{large}|");
        let all = all.replace('|', "\r\n");
        for piece in all.as_bytes().chunks(700) {
            server.say(std::str::from_utf8(piece).unwrap());
            settle().await;
        }
        let expected = [(1, "VALUE small 0 3+3"), (2, "VALUE large 0 16384+16384"), (3, "VA 16384+16384")];
        stand.expect(&expected).await;
        assert_eq!(stand.count(|c| &c.buffer_bytes), 0, "nothing is kept");
    });
}

#[test]
fn a_queue_that_is_full_takes_no_more() {
    run(async {
        let stand = Stand::new("outstanding_max: 2");
        for token in 1..=3 {
            stand.ask(token, "get a");
        }
        let full = "SERVER_ERROR Max pending requests (2) reached for destination \"a:1\".";
        assert_eq!(stand.told.list.take(), [(3, full.to_owned())]);
        assert_eq!(stand.count(|c| &c.server_queue_full), 1);
        let mut server = stand.accept(MODERN).await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        stand.ask(4, "get a");
        stand.expect(&[]).await;
    });
}

#[test]
fn what_nobody_waits_for_leaves_room_to_others() {
    run(async {
        let stand = Stand::new("outstanding_max: 5");
        for text in ["get a", "set b 0 0 1|x", "get c", "get d", "set e 0 0 1|x"] {
            stand.ask_for_nobody(text);
        }
        assert_eq!(stand.count(|c| &c.server_queue_full), 2, "the half of five is three");
        stand.ask_for_nobody("delete f");
        stand.ask(1, "get g");
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|set b 0 0 1|x|get c|delete f|get g|").await;
        server.say("END|STORED|END|DELETED|END|");
        stand.expect(&[(1, "")]).await;
    });
}

#[test]
fn nothing_large_is_queued_when_memory_is_short() {
    run(async {
        let (stand, mut server) = Stand::idle("").await;
        let budget = &stand.shared.budget;
        budget.change(0, BUFFER_BYTES_MAX + 1);
        stand.ask(2, &format!("set a 0 0 20000|{}", "x".repeat(20_000)));
        stand.ask(3, "set a 0 0 1|x");
        stand.expect(&[(2, "SERVER_ERROR Max pending bytes reached: memory is short.")]).await;
        server.expect("get a|set a 0 0 1|x|").await;
        budget.change(BUFFER_BYTES_MAX + 1, BUFFER_BYTES_MAX * 5 / 4);
        tokio::time::sleep(TIMEOUT / 4).await;
        stand.ask(4, "get a");
        stand.expect(&[(4, "SERVER_ERROR Max pending bytes reached: memory is short.")]).await;
        assert_eq!(stand.count(|c| &c.server_queue_full), 2);
        server.say("STORED|");
        stand.expect(&[(3, "STORED")]).await;
        budget.change(BUFFER_BYTES_MAX * 5 / 4, 0);
        assert_eq!(budget.held_bytes(), 0);
    });
}

#[test]
fn what_waits_is_counted() {
    run(async {
        let stand = Stand::new("");
        let value = "x".repeat(30_000);
        stand.ask(1, &format!("set a 0 0 30000|{value}"));
        let held = stand.shared.budget.held_bytes();
        assert!((30_000..70_000).contains(&held), "{held}");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        stand.ask(2, "get a");
        server.heard().await;
        let held = stand.shared.budget.held_bytes();
        assert!((1..2_000).contains(&held), "what is sent is no longer here: {held}");
        server.say(&format!("STORED|VALUE a 0 30000|{}", &value[..20_000]));
        stand.expect(&[(1, "STORED")]).await;
        let held = stand.shared.budget.held_bytes();
        assert!((20_000..100_000).contains(&held), "what has come of a value: {held}");
        drop(server);
        stand.expect(&[(2, CLOSED)]).await;
        assert_eq!(stand.shared.budget.held_bytes(), 0);
    });
}

#[test]
fn a_large_value_for_which_there_is_no_room_is_passed_over() {
    run(async {
        let (stand, mut server) = Stand::asked("on_error: miss", &["get a", "get b"]).await;
        server.heard().await;
        let value = "x".repeat(30_000);
        stand.shared.budget.change(0, BUFFER_BYTES_MAX);
        server.say(&format!("VALUE a 0 30000|{}", &value[..20_000]));
        stand.expect(&[(1, "SERVER_ERROR out of memory writing get response (a miss)")]).await;
        stand.shared.budget.change(BUFFER_BYTES_MAX, 0);
        server.say(&format!("{}|END|VALUE b 0 1|y|END|", &value[20_000..]));
        stand.expect(&[(2, "VALUE b 0 1+1 (a miss)")]).await;
        assert_eq!((stand.shared.budget.held_bytes(), stand.count(|c| &c.server_late)), (0, 0));
    });
}

#[test]
fn nothing_is_kept_for_clients_that_are_gone() {
    run(async {
        let (stand, mut server) = Stand::asked("", &["get a"]).await;
        server.heard().await;
        stand.told.is_deaf.set(true);
        let value = "x".repeat(30_000);
        server.say(&format!("VALUE a 0 30000|{}", &value[..20_000]));
        settle().await;
        let held = stand.shared.budget.held_bytes();
        assert!(held < 2_000, "{held}");
        stand.told.list.take();
        stand.told.is_deaf.set(false);
        stand.ask(2, "get b");
        server.say(&format!("{}|END|END|", &value[20_000..]));
        stand.expect(&[(2, "")]).await;
        assert_eq!(stand.count(|c| &c.server_late), 0, "it came in time");
    });
}

#[test]
fn who_says_what_nobody_asked_is_not_believed() {
    let endless = format!("get {}", "x".repeat(3_000)); // of a client it would be waited for
    for (asked, said) in [
        ("", "END|"),
        ("", "EN"), // nor the beginning of a line
        ("get a", "VALUE b 0 1|x|END|"),
        ("get a", "VALUE a 0 1|x|STORED|"),
        ("get a", "VALUE a 0 1|xyz|END|"),
        ("get a", "VALUE a 0 1073741825|"),
        ("get a b", "VALUE b 0 1|x|VALUE a 0 1|x|END|"),
        ("get a", "what\n"),
        ("get a", "END\n"),
        ("get a", &endless),
        ("set a 0 0 1|x", "DELETED|"),
    ] {
        run(async {
            let (stand, mut server) =
                if asked.is_empty() { Stand::idle("").await } else { Stand::asked("", &[asked]).await };
            server.heard().await;
            server.say(said);
            assert!(server.is_closed().await, "{said:?} to {asked:?}");
            assert_eq!(stand.count(|c| &c.desync_detected), 1, "{said:?} to {asked:?}");
            let told = stand.told().await;
            assert!(told.iter().all(|(_, text)| text == DESYNC || text.starts_with("1: ")), "{told:?}");
            assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        });
    }
}

#[test]
fn servers_that_read_lines_otherwise_are_not_asked() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "get a");
        let mut server = stand.accept(OLD).await;
        let flags = "k v f s c t h l u x I P L N1 T1 R1 O1";
        for text in ["get a\0b", "get a\0b c", "mg a\0b v", "mg a O\0 v", &format!("ms a 1 {flags}|x")] {
            stand.ask(2, text);
            let told = stand.told.list.take();
            assert_eq!(told, [(2, "CLIENT_ERROR bad command line format".to_owned())], "{text:?}");
        }
        server.expect("get a|").await;
        stand.ask(3, &format!("ms a 1 q {}|x", &flags[2..]));
        server.expect(&format!("ms a 1 {}|x|", &flags[2..])).await;
        drop(server);
        stand.told().await;
        stand.ask(4, "get b");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        stand.ask(5, "get a\0b");
        server.expect("get a\0b|").await;
    });
}

#[test]
fn what_only_modern_servers_read_waits_for_the_first_look_at_them() {
    run(async {
        for text in ["get a\0b", "get a\0b c"] {
            let stand = Stand::new("");
            stand.ask(1, text);
            let mut server = stand.accept(MODERN).await;
            server.expect(&format!("{text}|")).await;
            let stand = Stand::new("");
            stand.ask(1, text);
            let mut server = stand.accept(OLD).await;
            stand.expect(&[(1, CLOSED)]).await;
            stand.ask(2, "get a");
            server.expect("get a|").await;
        }
    });
}

#[test]
fn meta_commands_and_long_lines_are_not_sent_to_servers_that_do_not_know_them() {
    const TOO_OLD: &str = "CLIENT_ERROR this server is older than memcached 1.6.18";
    run(async {
        let long = format!("gat 0 {}", ["k"; 600].join(" "));
        let asked = ["mg a v", "ms a 3|foo", "md a", "ma a", "me a", &long];
        let stand = Stand::new("");
        stand.ask(1, "get a");
        let mut server = stand.accept("1.6.14").await;
        server.expect("get a|").await;
        for text in asked {
            stand.ask(2, text);
            assert_eq!(stand.told.list.take(), [(2, TOO_OLD.to_owned())], "{text}");
        }
        for text in ["set a 0 0 3|foo", "gat 0 a b", &long.replacen("gat 0", "get", 1)] {
            stand.ask(3, text);
            server.heard().await;
        }
        // and not by waiting for the first look either
        let stand = Stand::new("");
        stand.ask(1, "ms a 3|foo");
        let mut server = stand.accept("1.4.15").await;
        stand.expect(&[(1, CLOSED)]).await;
        stand.ask(2, "set a 0 0 1|x");
        server.expect("set a 0 0 1|x|").await;
    });
}

/// Nobody else may ask it anything.
#[test]
fn a_server_that_is_a_newer_one_is_seen_by_who_was_refused() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "get a");
        let mut server = stand.accept("1.6.14").await;
        server.expect("get a|").await;
        server.say("END|");
        settle().await;
        drop(server);
        settle().await;
        stand.ask(2, "mg a v");
        let mut server = stand.accept(MODERN).await;
        settle().await;
        stand.ask(3, "mg a v");
        server.expect("mg a v O0|").await;
    });
}

#[test]
fn error_lines_are_shown_as_they_are() {
    run(async {
        let (stand, mut server) = Stand::asked("", &["mg a v"]).await;
        server.say("SERVER_ERROR Of what looks like an Opaque nothing is taken out|");
        let told = "SERVER_ERROR Of what looks like an Opaque nothing is taken out";
        stand.expect(&[(1, told)]).await;
    });
}

#[test]
fn results_are_counted_by_their_kind() {
    run(async {
        let stats = Stats::new(1);
        let mut stand = Stand::new("tko: off, connect_timeout: 100ms");
        stand.shared.counters = stats.of(0);
        let pool = pool("tko: off, connect_timeout: 100ms, outstanding_max: 13");
        stand.leaves = Destination::of_server(&pool, &pool.servers[0], &stand.shared);
        for text in [
            "delete a",
            "touch a 0",
            "get a",
            "get a",
            "add a 0 0 1|x",
            "set a 0 0 1|x",
            "incr a 1",
            "ma a v",
            "flush_all",
            "cas a 0 0 1 7|x",
            "get a",
            "get a",
            "get a",
            "get too-many",
        ] {
            stand.ask(1, text);
        }
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        let told = &stats.servers()[0];
        assert_eq!((told.outstanding_count, told.connections_count), (13, 1));
        server.say("DELETED|TOUCHED|VALUE a 0 1|x|END|END|NOT_STORED|STORED|5|VA 1 O0|6|OK|EXISTS|");
        server.say("CLIENT_ERROR x|SERVER_ERROR y|");
        settle().await;
        drop(server);
        settle().await;
        stand.refuses.set(true);
        stand.ask(1, "get a");
        settle().await;
        stand.refuses.set(false);
        stand.ask(1, "get a");
        tokio::time::sleep(Duration::from_millis(200)).await;
        stand.calls.borrow_mut().clear();
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        time_out().await;
        let told = stats.servers().remove(0);
        let of = |name: &str| told.results[crate::stats::RESULTS.iter().position(|r| *r == name).unwrap()];
        let all: Vec<(&str, u64)> = crate::stats::RESULTS
            .iter()
            .map(|name| (*name, of(name)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            all,
            [
                ("deleted", 1),
                ("touched", 1),
                ("found", 1),
                ("notfound", 1),
                ("notstored", 1),
                ("stored", 3),
                ("ok", 1),
                ("exists", 1),
                ("timeout", 1),
                ("connect_timeout", 1),
                ("connect_error", 1),
                ("client_error", 1),
                ("local_error", 1),
                ("remote_error", 2),
            ]
        );
        assert_eq!(told.last_failure, Some("timeout"));
        assert_eq!(told.outstanding_count, 1, "its reply has not come");
    });
}
