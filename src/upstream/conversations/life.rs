//! Connections that are made, late, lost and ended, and what becomes of their requests.

use super::{CLOSED, LATE, MODERN, OLD, Stand, TIMEOUT, run, settle, time_out};
use std::time::Duration;

#[test]
fn what_is_asked_before_there_is_a_connection_leaves_with_it() {
    run(async {
        let stand = Stand::new("");
        assert_eq!(stand.calls(), 0, "nobody has asked anything");
        stand.ask(1, "get a");
        stand.ask(2, "set b 5 0 1|x");
        stand.ask(3, "flush_all 7");
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|set b 5 0 1|x|flush_all 7|").await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 3);
        server.say("VALUE a 0 3|foo|END|STORED|OK|");
        stand.expect(&[(1, "VALUE a 0 3+3"), (2, "STORED"), (3, "OK")]).await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        assert_eq!(stand.count(|c| &c.server_connects), 1);
        assert_eq!(stand.count(|c| &c.server_connections), 1);
        assert_eq!(stand.count(|c| &c.server_bytes_written), 36);
        assert_eq!(stand.count(|c| &c.server_bytes_read), 35);
        assert_eq!(stand.calls(), 0, "one connection is enough");
        stand.ask(4, "flush_all -1");
        server.expect("flush_all 0|").await;
    });
}

#[test]
fn a_request_that_has_waited_long_enough_is_answered_and_its_reply_thrown_away() {
    run(async {
        let (stand, mut server) = Stand::asked("tko: off", &["get a"]).await;
        server.expect("get a|").await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.ask(2, "get b");
        stand.expect(&[]).await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.expect(&[(1, LATE)]).await;
        assert_eq!(stand.count(|c| &c.server_timeouts), 1);
        server.say("VALUE a 0 3|old|END|VALUE b 0 3|new|END|");
        stand.expect(&[(2, "VALUE b 0 3+3")]).await;
        assert_eq!(stand.count(|c| &c.server_late), 1);
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        assert_eq!(stand.count(|c| &c.server_closed), 0);
    });
}

#[test]
fn a_server_that_is_silent_loses_its_connection() {
    run(async {
        let (stand, mut server) = Stand::asked("tko: off", &["get a"]).await;
        server.heard().await;
        tokio::time::sleep(TIMEOUT * 4 - Duration::from_millis(10)).await;
        assert!(!server.is_closed().await, "it may still come");
        time_out().await;
        assert!(server.is_closed().await, "three timeouts after its own");
        assert_eq!(stand.count(|c| &c.server_closed), 1);
        assert_eq!(stand.count(|c| &c.server_connections), 0);
        stand.expect(&[(1, LATE)]).await;
        assert_eq!(stand.calls(), 0, "there is nothing to ask");
    });
}

#[test]
fn a_late_reply_is_waited_for_while_others_come() {
    run(async {
        let (stand, mut server) = Stand::asked("tko: off", &["get a b"]).await;
        server.heard().await;
        for _ in 0..8 {
            tokio::time::sleep(TIMEOUT - Duration::from_millis(10)).await;
            server.say("VALUE a 0 1|x|VALUE b 0 ");
            settle().await;
            server.say("1|x|END|");
            stand.ask(2, "get a b");
        }
        let told = stand.told().await;
        assert!(told.iter().all(|(_, text)| !text.starts_with("SERVER_ERROR")), "{told:?}");
        assert!(!server.is_closed().await);
    });
}

#[test]
fn a_late_reply_that_comes_slowly_is_waited_for() {
    run(async {
        let (stand, mut server) = Stand::asked("tko: off", &["get a"]).await;
        server.expect("get a|").await;
        server.say("VALUE a 0 1000|");
        for _ in 0..20 {
            tokio::time::sleep(TIMEOUT - Duration::from_millis(10)).await;
            server.say("x");
        }
        assert!(!server.is_closed().await);
        tokio::time::sleep(TIMEOUT * 3).await;
        assert!(server.is_closed().await, "until nothing comes any more");
        stand.expect(&[(1, LATE)]).await;
    });
}

#[test]
fn too_many_late_replies_end_the_connection() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.shared.late_count_max.set(3);
        for token in 1..=3 {
            stand.ask(token, "get a");
        }
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        time_out().await;
        stand.expect(&[(1, LATE), (2, LATE), (3, LATE)]).await;
        assert!(!server.is_closed().await, "as many as may be");
        stand.ask(4, "set a 0 0 1|x");
        time_out().await;
        stand.expect(&[(4, LATE)]).await;
        assert!(server.is_closed().await);
    });
}

#[test]
fn what_was_on_a_connection_that_is_lost_fails_and_what_was_not_goes_on_the_next() {
    run(async {
        let (stand, mut server) = Stand::asked("on_error: miss", &["get a"]).await;
        server.expect("get a|").await;
        server.say("VALUE a 0 10|half");
        settle().await;
        stand.ask(2, "get b");
        server.heard().await;
        drop(server);
        let closed = format!("{CLOSED} (a miss)");
        stand.expect(&[(1, &closed), (2, &closed)]).await;
        assert_eq!(stand.count(|c| &c.server_closed), 1);
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        assert_eq!(stand.count(|c| &c.server_resent), 0, "it had answered something");
        stand.ask(3, "get c");
        let mut server = stand.accept(MODERN).await;
        server.expect("get c|").await;
    });
}

#[test]
fn a_get_that_meets_a_closed_connection_is_sent_once_more() {
    run(async {
        let (stand, mut server) = Stand::idle("").await;
        stand.ask(2, "get b");
        stand.ask(3, "set c 0 0 1|x");
        stand.ask(4, "gets d e");
        server.expect("get a|get b|set c 0 0 1|x|gets d e|").await;
        drop(server);
        stand.expect(&[(3, CLOSED)]).await;
        assert_eq!(stand.count(|c| &c.server_resent), 2);
        stand.ask(5, "get f");
        let mut server = stand.accept(MODERN).await;
        server.expect("get b|gets d e|get f|").await;
        server.say("END|");
        stand.expect(&[(2, "")]).await;
        drop(server);
        stand.expect(&[(4, CLOSED), (5, CLOSED)]).await;
        stand.ask(6, "get g");
        let server = stand.accept(MODERN).await;
        drop(server);
        settle().await;
        let server = stand.accept(MODERN).await;
        drop(server);
        stand.expect(&[(6, CLOSED)]).await;
        assert_eq!(stand.count(|c| &c.server_resent), 3, "not again and again");
    });
}

#[test]
fn an_older_server_is_not_asked_what_was_for_the_newer() {
    run(async {
        let (stand, server) = Stand::idle("").await;
        drop(server);
        stand.ask(2, "get a\0b");
        stand.ask(3, "get c");
        let mut server = stand.accept(OLD).await;
        stand.expect(&[(2, CLOSED), (3, CLOSED)]).await;
        server.expect("").await;
        stand.ask(4, "get a\0b");
        stand.ask(5, "get c");
        stand.expect(&[(4, "CLIENT_ERROR bad command line format")]).await;
        server.expect("get c|").await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 1);
    });
}

#[test]
fn a_connection_that_takes_too_long_is_given_up() {
    run(async {
        let stand = Stand::new("connect_timeout: 300ms");
        stand.ask(1, "get a");
        settle().await;
        assert_eq!(stand.calls(), 1, "it was called, and does not say its version");
        tokio::time::sleep(Duration::from_millis(300)).await;
        stand.expect(&[(1, "SERVER_ERROR connection timeout")]).await;
        stand.ask(2, "get a");
        stand.expect(&[(2, "SERVER_ERROR Server unavailable. Reason: mc_res_connect_timeout")]).await;
    });
}

#[test]
fn what_nobody_waits_for_any_more_is_not_sent() {
    run(async {
        let stand = Stand::new("connect_timeout: 3s, tko: off");
        stand.ask(1, "set a 0 0 1|x");
        time_out().await;
        stand.expect(&[(1, LATE)]).await;
        stand.ask(2, "get b");
        let mut server = stand.accept(MODERN).await;
        server.expect("get b|").await;
        server.say("END|");
        stand.expect(&[(2, "")]).await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
    });
}

#[test]
fn a_connection_ends_when_nobody_needs_it_and_all_is_answered() {
    run(async {
        let (mut stand, mut server) = Stand::asked("", &["get a"]).await;
        server.heard().await;
        stand.leaves.clear();
        assert!(!server.is_closed().await);
        server.say("END|");
        assert!(server.is_closed().await);
        stand.expect(&[(1, "")]).await;
        assert_eq!(stand.count(|c| &c.server_connections), 0);
    });
    run(async {
        let (mut stand, mut server) = Stand::asked("tko: {tko_on_disconnect: true}", &["get a"]).await;
        server.say("END|");
        settle().await;
        stand.leaves.clear();
        assert!(server.is_closed().await, "at once");
        assert_eq!(stand.shared.health.totals().counts(), (0, 0));
    });
    run(async {
        let mut stand = Stand::new("");
        stand.ask(1, "get a");
        stand.leaves.clear();
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|").await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        assert!(server.is_closed().await);
    });
}

#[test]
fn a_connection_can_be_made_before_it_is_needed() {
    run(async {
        let stand = Stand::new("");
        let mut warmed = stand.leaves[0].warm().expect("a server can be connected to");
        settle().await;
        assert!(warmed.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty));
        let mut server = stand.accept(MODERN).await;
        assert!(warmed.await.is_err(), "it ends with the attempt");
        stand.ask(1, "get a");
        server.expect("get a|").await;
        assert_eq!(stand.calls(), 0);
    });
    run(async {
        let stand = Stand::new("");
        stand.refuses.set(true);
        assert!(stand.leaves[0].warm().unwrap().await.is_err());
        settle().await;
        assert!(stand.leaves[0].is_out());
        assert!(stand.leaves[0].warm().unwrap().await.is_err(), "nobody knocks while it is out");
        assert_eq!(stand.count(|c| &c.server_connect_errors), 1);
    });
}

#[test]
fn a_server_with_several_connections_has_a_leaf_for_each() {
    run(async {
        let stand = Stand::new("connections: 3");
        assert_eq!(stand.leaves.len(), 3);
        let warmed: Vec<_> = stand.leaves.iter().map(|leaf| leaf.warm().unwrap()).collect();
        settle().await;
        assert_eq!(stand.calls(), 3);
        drop(warmed);
        assert_eq!(stand.leaves[2].name(), "a:1");
    });
}

#[test]
fn a_connection_that_nobody_has_any_more_waits_for_nothing_that_is_late() {
    run(async {
        let (mut stand, mut server) = Stand::asked("tko: off", &["get a"]).await;
        server.heard().await;
        stand.leaves.clear();
        time_out().await;
        stand.expect(&[(1, LATE)]).await;
        assert!(server.is_closed().await);
    });
}
