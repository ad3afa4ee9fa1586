//! Servers that are knocked out, and how they come back.

use super::{LATE, MODERN, OUT_REFUSED, OUT_SLOW, REFUSED, Server, Stand, TIMEOUT, run, settle, time_out};
use crate::health::Health;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn timeouts_in_a_row_knock_a_server_out_until_it_answers_a_request() {
    run(async {
        let stand = Stand::new("");
        let totals = || stand.shared.health.totals().counts();
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        stand.ask(2, "get b");
        stand.expect(&[]).await;
        let before = stand.leaves[0].changes();
        time_out().await;
        stand.expect(&[(1, LATE), (2, LATE)]).await;
        server.say("END|SERVER_ERROR busy|");
        settle().await;
        assert!(!stand.leaves[0].is_out());
        stand.ask(3, "get c");
        time_out().await;
        stand.expect(&[(3, LATE)]).await;
        assert!(stand.leaves[0].is_out(), "late answers and errors are no sign of life");
        assert_ne!(stand.leaves[0].changes(), before);
        assert_eq!((stand.count(|c| &c.server_tkos), totals()), (1, (0, 1)));
        stand.ask(4, "get d");
        assert_eq!(stand.told.list.take(), [(4, OUT_SLOW.to_owned())]);
        assert_eq!(stand.count(|c| &c.server_tko_requests), 1);
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Whoever says its version may still not answer requests.
        let mut probed = stand.accept(MODERN).await;
        probed.expect("mg __ringway_probe__|").await;
        drop(probed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(stand.leaves[0].is_out());
        assert_eq!(stand.count(|c| &c.server_connect_errors), 1);
        let mut probed = stand.accept(MODERN).await;
        probed.expect("mg __ringway_probe__|").await;
        probed.say("EN|");
        settle().await;
        assert!(probed.is_closed().await, "a probe has a connection of its own");
        // That of the requests is still there, and so is what is late on it.
        assert!(stand.leaves[0].is_out());
        server.say("END|");
        settle().await;
        assert!(!stand.leaves[0].is_out());
        assert_eq!((stand.count(|c| &c.server_probes), totals()), (2, (0, 0)));
        stand.ask(5, "get e");
        server.heard().await;
        server.say("VALUE e 0 1|x|END|");
        stand.expect(&[(5, "VALUE e 0 1+1")]).await;
    });
}

/// Three requests have timed out, their server is out, and it has answered a probe.
async fn behind_and_probed(health: Arc<Health>) -> (Stand, Server) {
    let stand = Stand::beside("tko: {timeouts_until_tko: 2}", health);
    ["get a", "get b", "get c"].iter().zip(1..).for_each(|(text, token)| stand.ask(token, text));
    let mut server = stand.accept(MODERN).await;
    server.expect("get a|get b|get c|").await;
    time_out().await;
    stand.expect(&[(1, LATE), (2, LATE), (3, LATE)]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut probed = stand.accept(MODERN).await;
    probed.expect("mg __ringway_probe__|").await;
    probed.say("EN|");
    settle().await;
    (stand, server)
}

#[test]
fn a_server_that_answers_probes_while_it_is_behind_has_to_catch_up() {
    run(async {
        let health = Arc::<Health>::default();
        let (stand, mut server) = behind_and_probed(Arc::clone(&health)).await;
        let other = Stand::beside("", health);
        for token in 4..7 {
            for stand in [&stand, &other] {
                stand.ask(token, "get d");
                stand.expect(&[(token, OUT_SLOW)]).await;
            }
            server.say("END|");
            settle().await;
        }
        stand.ask(7, "get e");
        server.expect("get e|").await;
        assert!(!other.leaves[0].is_out());
        assert_eq!((stand.count(|c| &c.server_tkos), stand.count(|c| &c.server_probes)), (1, 1));
    });
}

#[test]
fn a_server_is_back_without_a_connection_on_which_nothing_comes() {
    run(async {
        let (stand, mut server) = behind_and_probed(Arc::default()).await;
        tokio::time::sleep(TIMEOUT).await;
        assert!(stand.leaves[0].is_out());
        tokio::time::sleep(TIMEOUT * 2).await;
        assert!(server.is_closed().await);
        assert!(!stand.leaves[0].is_out());
        stand.ask(4, "get d");
        let mut server = stand.accept(MODERN).await;
        server.expect("get d|").await;
    });
    run(async {
        let (stand, _server) = behind_and_probed(Arc::default()).await;
        let other = Stand::beside("", Arc::clone(&stand.shared.health));
        assert!(other.leaves[0].is_out());
        drop(stand);
        settle().await;
        assert!(!other.leaves[0].is_out(), "the worker has left, and waits for nothing");
    });
}

#[test]
fn an_answer_forgives_timeouts() {
    run(async {
        let (stand, mut server) = Stand::asked("tko: {timeouts_until_tko: 2}", &["get a"]).await;
        time_out().await;
        for token in 2..6 {
            server.say("END|");
            stand.ask(token, "get a");
            settle().await;
            server.say("END|");
            stand.ask(9, "get a");
            time_out().await;
        }
        assert!(!stand.leaves[0].is_out());
        assert_eq!(stand.count(|c| &c.server_timeouts), 5);
        stand.ask(10, "get a");
        time_out().await;
        stand.told().await;
        assert!(stand.leaves[0].is_out(), "two in a row");
    });
}

#[test]
fn a_server_that_refuses_connections_is_out_until_it_says_its_version() {
    run(async {
        let stand = Stand::new("");
        stand.refuses.set(true);
        stand.ask(1, "get a");
        stand.ask(2, "get b");
        stand.expect(&[(1, REFUSED), (2, REFUSED)]).await;
        assert_eq!(stand.count(|c| &c.server_connect_errors), 1);
        assert_eq!(stand.shared.health.totals().counts(), (1, 0));
        stand.ask(3, "get c");
        stand.expect(&[(3, OUT_REFUSED)]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(stand.count(|c| &c.server_probes), 1);
        stand.refuses.set(false);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _probed = stand.accept(MODERN).await;
        settle().await;
        assert!(!stand.leaves[0].is_out());
        stand.ask(4, "get d");
        let mut server = stand.accept(MODERN).await;
        server.expect("get d|").await;
    });
}

#[test]
fn pauses_between_probes_are_the_pools() {
    run(async {
        let stand = Stand::new("tko: {probe_timeout_initial: 10s, probe_timeout_max: 60s}");
        stand.refuses.set(true);
        stand.ask(1, "get a");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(stand.count(|c| &c.server_probes), 0);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(stand.count(|c| &c.server_probes), 1);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let probes = stand.count(|c| &c.server_probes);
        assert!((8..15).contains(&probes), "{probes}");
    });
}

#[test]
fn a_server_may_be_asked_whatever_it_does() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.refuses.set(true);
        for token in 1..6 {
            stand.ask(token, "get a");
            stand.expect(&[(token, REFUSED)]).await;
        }
        assert_eq!(stand.count(|c| &c.server_connect_errors), 5);
        assert_eq!((stand.count(|c| &c.server_tkos), stand.leaves[0].is_out()), (0, false));
        stand.refuses.set(false);
        stand.ask(6, "get a");
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|").await;
        assert_eq!(stand.shared.health.totals().counts(), (0, 0));
    });
}

#[test]
fn a_pool_that_is_never_out_does_not_mind_what_others_found() {
    run(async {
        let health = Arc::<Health>::default();
        let (strict, lenient) = (Stand::beside("", Arc::clone(&health)), Stand::beside("tko: off", health));
        strict.refuses.set(true);
        strict.ask(1, "get a");
        strict.expect(&[(1, REFUSED)]).await;
        assert!(strict.leaves[0].is_out() && !lenient.leaves[0].is_out());
    });
}

#[test]
fn not_too_many_servers_of_a_pool_are_out() {
    run(async {
        for (settings, both) in [("", true), ("tko: {fail_open: {upper: 50%, lower: 0}}", false)] {
            let health = Arc::<Health>::default();
            let stands = [0, 1].map(|index| Stand::of_server(index, settings, Arc::clone(&health)));
            for stand in &stands {
                stand.refuses.set(true);
                stand.ask(1, "get a");
                stand.expect(&[(1, REFUSED)]).await;
            }
            assert!(stands[0].leaves[0].is_out());
            assert_eq!(stands[1].leaves[0].is_out(), both);
        }
    });
}

#[test]
fn a_connection_that_breaks_may_knock_its_server_out() {
    run(async {
        for (settings, is_out) in [("", false), ("tko: {tko_on_disconnect: true}", true)] {
            let stand = Stand::new(settings);
            stand.ask(1, "get a");
            let mut server = stand.accept(MODERN).await;
            server.say("END|");
            stand.expect(&[(1, "")]).await;
            drop(server);
            settle().await;
            assert_eq!(stand.leaves[0].is_out(), is_out);
            assert_eq!(stand.count(|c| &c.server_tkos), u64::from(is_out));
        }
    });
}

#[test]
fn who_ends_a_connection_itself_knocks_nobody_out() {
    run(async {
        let (stand, mut server) =
            Stand::asked("tko: {tko_on_disconnect: true, timeouts_until_tko: 9}", &["get a"]).await;
        server.heard().await;
        tokio::time::sleep(TIMEOUT * 5).await;
        assert!(server.is_closed().await);
        assert!(!stand.leaves[0].is_out(), "it was late, which is counted as that");
        stand.expect(&[(1, LATE)]).await;
    });
}

/// Two workers with the same server, which has refused the first of them.
async fn two_after_one_was_refused() -> (Stand, Stand) {
    let health = Arc::<Health>::default();
    let (one, other) = (Stand::beside("", Arc::clone(&health)), Stand::beside("", health));
    one.refuses.set(true);
    one.ask(1, "get a");
    one.expect(&[(1, REFUSED)]).await;
    (one, other)
}

/// The server is probed after a pause, and found well.
async fn probed(stand: &Stand) {
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _probed = stand.accept(MODERN).await;
    settle().await;
    assert!(!stand.leaves[0].is_out());
}

#[test]
fn the_one_who_probes_is_replaced_when_it_leaves() {
    run(async {
        let (one, other) = two_after_one_was_refused().await;
        assert!(other.leaves[0].is_out(), "it is the same server");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(one.count(|c| &c.server_probes) > 0);
        assert_eq!(other.count(|c| &c.server_probes), 0);
        let probes = one.count(|c| &c.server_probes);
        drop(one.leaves);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(one.shared.counters.server_probes.value(), probes, "it is none of its any more");
        other.ask(2, "get a");
        other.expect(&[(2, OUT_REFUSED)]).await;
        probed(&other).await;
        assert_eq!(other.count(|c| &c.server_probes), 1);
    });
}

#[test]
fn who_asks_whether_it_is_out_has_it_probed() {
    run(async {
        let (one, other) = two_after_one_was_refused().await;
        drop(one.leaves);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(other.leaves[0].is_out());
        probed(&other).await;
    });
}
