//! Servers that fail are knocked out: their requests fail at once, one prober asks, and they come back.

use crate::support::troubled_relay::{Flow, Trouble, TroubledRelay};
use crate::support::{Memcached, Mock, PATIENCE, Proxy, dead_address, has_memcached, pool_of, usual_answer};
use rustix::process::Signal;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

const TIMEOUT: &str = "SERVER_ERROR Reply timeout\r\n";
const SOFT: &str = "SERVER_ERROR Server unavailable. Reason: mc_res_timeout\r\n";
const UNAVAILABLE: &str = "SERVER_ERROR Server unavailable. Reason: mc_res_";
/// What a request costs at most when nobody is there to answer it; far above it the test fails.
const QUICK: &str =
    "timeout: 300ms\nconnect_timeout: 300ms\ntko: {probe_timeout_initial: 20ms, probe_timeout_max: 50ms}";
/// As long as a test takes no probe comes.
const NO_PROBE: &str = "timeout: 200ms\ntko: {probe_timeout_initial: 1h}";

#[test]
fn three_timeouts_in_a_row_and_the_server_is_not_asked_any_more() {
    let mock = Mock::start(|peer| {
        for n in 1..=2 {
            peer.expect(&format!("get slow{n}"));
        }
        peer.wait();
        peer.say("END\r\nEND\r\n");
        assert!(peer.answer_as_usual(), "an answer in time");
        while peer.request().is_some() {}
    });
    let mut proxy = Proxy::before(&[mock.address()], NO_PROBE);
    let mut client = proxy.client();
    client.ask("get slow1\r\n", TIMEOUT);
    client.ask("get slow2\r\n", TIMEOUT);
    client.ask(
        "stats suspect_servers\r\n",
        format!("STAT {} status:down num_failures:2\r\nEND\r\n", mock.address()),
    );
    mock.go();
    client.ask("get a\r\n", "END\r\n");
    client.ask("stats suspect_servers\r\n", "END\r\n");
    for n in 3..=5 {
        client.ask(format!("get slow{n}\r\n"), TIMEOUT);
    }
    client.ask("get b\r\n", SOFT);
    client.ask("set b 0 0 1\r\n1\r\n", SOFT);
    client.ask("get b c\r\n", SOFT);
    client.ask("mg b v\r\n", SOFT);
    for wanted in ["get slow1", "get slow2", "get a", "get slow3", "get slow4", "get slow5"] {
        mock.expect(wanted);
    }
    mock.expect_nothing();
    client.ask(
        "stats suspect_servers\r\n",
        format!("STAT {} status:tko num_failures:3\r\nEND\r\n", mock.address()),
    );
    assert_eq!(client.stat("num_soft_tko_count"), 1);
    assert_eq!((client.stat("server_tkos"), client.stat("server_tko_requests")), (1, 4));
    proxy.terminate();
    let wanted = format!(
        "{} (main) marked soft TKO. Total hard TKOs: 0; soft TKOs: 1. Reply: mc_res_timeout",
        mock.address()
    );
    assert!(proxy.stderr().contains(&wanted), "{}", proxy.stderr());
}

#[test]
fn a_server_that_says_its_version_and_no_more_stays_out_until_it_answers_a_request() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            return while peer.request().is_some() {};
        }
        // probes: the first ones get no answer
        if peer.number < 3 {
            peer.expect("mg __ringway_probe__");
            return peer.expect_closed();
        }
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], QUICK);
    let mut client = proxy.client();
    for _ in 0..3 {
        client.ask("get a\r\n", TIMEOUT);
        mock.expect("get a");
    }
    for _ in 0..3 {
        mock.expect("mg __ringway_probe__");
    }
    client.await_stat("num_soft_tko_count", 0);
    assert_eq!((client.stat("server_probes"), client.stat("num_hard_tko_count")), (3, 0));
    mock.expect_nothing();
}

/// Counts the connections that are open at once, and all of them.
#[derive(Default)]
struct Attempts {
    open: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

#[test]
fn one_prober_for_the_whole_process() {
    // Somebody is there, but no memcached: every attempt lasts until it is given up.
    let attempts = Arc::new(Attempts::default());
    let seen = Arc::clone(&attempts);
    let mock = Mock::start(move |peer| {
        peer.no_handshake();
        seen.all.fetch_add(1, SeqCst);
        seen.most.fetch_max(seen.open.fetch_add(1, SeqCst) + 1, SeqCst);
        // Told before it is answered, so that the next attempt cannot begin before this one is over.
        assert_eq!(peer.request().unwrap().line, "version");
        seen.open.fetch_sub(1, SeqCst);
        peer.say("HTTP/1.1 400 Bad Request\r\n");
        peer.expect_closed();
    });
    let proxy = Proxy::with(&format!("workers: 2\n{}", pool_of(&[mock.address()], QUICK)));
    // Several clients, so that both workers have some.
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    clients[0].ask_line("get a\r\n", "SERVER_ERROR connection error");
    let first = attempts.all.load(SeqCst);
    assert_eq!(first, 1);
    while attempts.all.load(SeqCst) < first + 10 {
        for client in &mut clients {
            client.ask("get a\r\n", format!("{UNAVAILABLE}connect_error\r\n"));
        }
    }
    assert_eq!(attempts.most.load(SeqCst), 1, "attempts at once");
    assert_eq!(clients[0].stat("server_tkos"), 1);
    assert_eq!(clients[0].stat("num_hard_tko_count"), 1);
}

#[test]
fn a_refused_server_is_out_at_once_and_comes_back() {
    let address = dead_address();
    let mut proxy = Proxy::with(&format!("workers: 2\n{}", pool_of(&[&address], QUICK)));
    let mut client = proxy.client();
    client.ask_line("get a\r\n", "SERVER_ERROR connection error: Connection refused");
    client.ask("get a\r\n", format!("{UNAVAILABLE}connect_error\r\n"));
    let mock = Mock::on(TcpListener::bind(&address).unwrap(), |peer| while peer.answer_as_usual() {});
    client.await_stat("num_hard_tko_count", 0);
    client.ask("get a\r\n", "END\r\n");
    mock.expect("get a");
    proxy.terminate();
    let told = proxy.stderr();
    let marked = "(main) marked hard TKO. Total hard TKOs: 1; soft TKOs: 0. Reply: mc_res_connect_error";
    let unmarked = "(main) unmarked TKO. Total hard TKOs: 0; soft TKOs: 0. Reply: mc_res_ok";
    assert!(told.contains(&format!("{address} {marked}")), "{told}");
    assert!(told.contains(&format!("{address} {unmarked}")), "{told}");
}

#[test]
fn a_server_that_closes_or_answers_with_errors_is_not_out() {
    let mock = Mock::start(|peer| {
        peer.expect("get a");
        peer.say("END\r\n");
        for error in ["ERROR\r\n", "SERVER_ERROR busy\r\n", "CLIENT_ERROR bad\r\n", "ERROR\r\n"] {
            // the third connection is closed with the proxy
            if peer.request().is_none() {
                return;
            }
            peer.say(error);
        }
        peer.wait();
        peer.close();
        peer.report("closed");
    });
    let proxy = Proxy::before(&[mock.address()], NO_PROBE);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.ask("get a\r\n", "END\r\n");
        for error in ["ERROR\r\n", "SERVER_ERROR busy\r\n", "CLIENT_ERROR bad\r\n", "ERROR\r\n"] {
            client.ask("get b\r\n", error);
        }
        mock.go();
        while mock.heard() != "closed" {}
    }
    client.ask("get a\r\n", "END\r\n");
    assert_eq!(client.stat("server_tkos"), 0);
}

#[test]
fn as_mcrouter_a_server_that_closes_is_out() {
    let mock = Mock::start(|peer| {
        peer.answer_as_usual();
        peer.close();
    });
    let proxy = Proxy::before(&[mock.address()], "tko: {tko_on_disconnect: true, probe_timeout_initial: 1h}");
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    client.await_stat("num_hard_tko_count", 1);
    client.ask("get a\r\n", format!("{UNAVAILABLE}connect_error\r\n"));
}

#[test]
fn without_tko_every_request_tries() {
    let (address, mock) = (dead_address(), Mock::start(|peer| while peer.request().is_some() {}));
    let servers = [address.as_str(), mock.address()];
    let proxy = Proxy::before(&servers, "timeout: 50ms\nconnect_timeout: 5s\nhash: modula\ntko: off");
    let mut client = proxy.client();
    let (mut refused, mut timeouts) = (0, 0);
    for n in 0..40 {
        client.send(format!("get key{n}\r\n"));
        match client.line().as_str() {
            "SERVER_ERROR connection error: Connection refused" => refused += 1,
            "SERVER_ERROR Reply timeout" => timeouts += 1,
            line => panic!("{line}"),
        }
    }
    assert!(refused > 5 && timeouts > 5, "{refused} refused, {timeouts} timeouts");
    assert_eq!(client.stat("server_tkos"), 0);
}

#[test]
fn a_pool_fails_open_when_too_many_are_out() {
    let dead: Vec<String> = (0..4).map(|_| dead_address()).collect();
    let servers: Vec<&str> = dead.iter().map(String::as_str).collect();
    let pool = "hash: modula\ntko: {probe_timeout_initial: 1h, fail_open: {upper: 50%, lower: 0}}";
    let proxy = Proxy::before(&servers, pool);
    let mut client = proxy.client();
    let (mut refused, mut out) = (0, 0);
    for n in 0..200 {
        client.send(format!("get key{n}\r\n"));
        match client.line().as_str() {
            "SERVER_ERROR connection error: Connection refused" => refused += 1,
            line if line.starts_with(UNAVAILABLE) => out += 1,
            line => panic!("{line}"),
        }
    }
    assert!(refused > 40 && out > 40, "{refused} refused, {out} out");
    assert_eq!(client.stat("num_hard_tko_count"), 2);
    assert_eq!(
        (client.stat("num_fail_open_state_entered"), client.stat("num_fail_open_state_exited")),
        (1, 0)
    );
}

#[test]
fn a_real_server_is_killed_and_started_again() {
    if !has_memcached() {
        return;
    }
    let mut server = Memcached::start();
    let proxy = Proxy::with(&format!("workers: 2\n{}", pool_of(&[server.address()], QUICK)));
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    }
    for _ in 0..3 {
        server.kill();
        // The connections break; the first attempt to make one again knocks the server out.
        while clients[0].stat("num_hard_tko_count") == 0 {
            clients[0].ask_line("get a\r\n", "SERVER_ERROR ");
        }
        for client in &mut clients {
            client.ask("get a\r\n", format!("{UNAVAILABLE}connect_error\r\n"));
        }
        server.restart();
        clients[0].await_stat("num_hard_tko_count", 0);
        for client in &mut clients {
            // A worker that had nothing to do may only learn now that its connection is gone: a get is sent again.
            client.ask("get a\r\n", "END\r\n");
        }
    }
    assert_eq!(clients[0].stat("server_tkos"), 3);
}

#[test]
fn a_real_server_that_is_stopped_costs_three_timeouts_and_comes_back() {
    if !has_memcached() {
        return;
    }
    let server = Memcached::start();
    let proxy = Proxy::before(&[server.address()], QUICK);
    let mut client = proxy.client();
    client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    server.signal(Signal::STOP);
    for _ in 0..3 {
        client.ask("get a\r\n", TIMEOUT);
    }
    // Nobody waits for it now, for as long as it takes until some probes have failed.
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    while client.stat("server_probes") < 4 {
        let asked = Instant::now();
        client.ask_line("get a\r\n", UNAVAILABLE);
        longest = longest.max(asked.elapsed());
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(longest < Duration::from_secs(10), "a request waited for {longest:?}");
    server.signal(Signal::CONT);
    client.await_stat("num_suspect_servers", 0);
    client.ask("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
    assert_eq!(client.stat("server_tkos"), 1);
}

/// What clients see of a real server, from its failure to its return.
struct Outage {
    /// Answers until it is out, in order, each but once.
    seen: Vec<String>,
    until_out: Duration,
    until_back: Duration,
    /// The slowest answer.
    longest: Duration,
}

/// Has a server behind a relay fail and come back, and asks it all the time: whatever is answered is its own value or an error,
/// and nothing takes longer than a timeout and what a busy machine adds.
fn outage(
    fail: impl FnOnce(&mut Memcached, &TroubledRelay),
    mend: impl FnOnce(&mut Memcached, &TroubledRelay),
) -> Outage {
    let mut server = Memcached::start();
    let relay = TroubledRelay::to(server.address());
    let proxy = Proxy::with(&pool_of(&[relay.address()], QUICK));
    let (mut client, mut watcher) = (proxy.client(), proxy.client());
    let keys: Vec<String> = (0..50).map(|n| format!("key{n}")).collect();
    let mut turn = keys.iter().cycle();
    for key in &keys {
        client.ask(format!("set {key} 0 0 5\r\n{key:5.5}\r\n"), "STORED\r\n");
    }
    let mut longest = Duration::ZERO;
    let mut ask = || {
        let (asked, key) = (Instant::now(), turn.next().unwrap());
        let line = client.ask_line(format!("get {key}\r\n"), "");
        if line == format!("VALUE {key} 0 5") {
            client.expect(format!("{key:5.5}\r\nEND\r\n"));
        } else {
            assert!(line.starts_with("SERVER_ERROR ") || line == "END", "{line}");
        }
        longest = longest.max(asked.elapsed());
        line
    };
    fail(&mut server, &relay);
    let failed = Instant::now();
    let mut seen: Vec<String> = Vec::new();
    while watcher.stat("server_tkos") == 0 {
        let line = ask();
        if seen.last() != Some(&line) {
            seen.push(line);
        }
        assert!(failed.elapsed() < PATIENCE, "it is not out: {seen:?}");
    }
    let until_out = failed.elapsed();
    let probes = watcher.stat("server_probes");
    while watcher.stat("server_probes") < probes + 2 {
        assert!(ask().starts_with(UNAVAILABLE));
    }
    mend(&mut server, &relay);
    let mended = Instant::now();
    while ask().starts_with("SERVER_ERROR ") {
        assert!(mended.elapsed() < PATIENCE, "it is not back");
    }
    let until_back = mended.elapsed();
    assert_eq!(watcher.stat("desync_detected"), 0);
    Outage { seen, until_out, until_back, longest }
}

/// `cargo test --test integration outages -- --nocapture` shows the times; `docs/outages.md` has them.
#[test]
#[expect(clippy::print_stdout, reason = "for the table, with --nocapture")]
fn outages_of_a_real_server() {
    if !has_memcached() {
        return;
    }
    let late = Trouble { down: Flow::Late(Duration::from_secs(2)), ..Trouble::NONE };
    let silence = Trouble { up: Flow::Held, down: Flow::Held, ..Trouble::NONE };
    let refusal = Trouble { refuses: true, ..Trouble::NONE };
    let set = |trouble: Trouble| move |_: &mut Memcached, relay: &TroubledRelay| relay.set(trouble);
    let report = |name: &str, outage: &Outage, first: &str| {
        let Outage { seen, until_out, until_back, longest } = outage;
        println!(
            "{name}: out after {until_out:.0?}, back after {until_back:.0?}, slowest answer {longest:.0?}, {seen:?}"
        );
        let first_error = seen.iter().find(|line| line.starts_with("SERVER_ERROR ")).unwrap();
        assert!(first_error.starts_with(first), "{name}: {seen:?}");
        // three timeouts of 300 ms until it is out, a probe each 50 ms until it is back; the rest is left to busy machines
        assert!(*until_out < Duration::from_secs(10) && *until_back < Duration::from_secs(10), "{name}");
        assert!(*longest < Duration::from_secs(5), "{name}");
    };
    let timeout = TIMEOUT.trim_end();
    // The relay refuses as well: a server that is gone takes its port along.
    let killed = outage(
        |server, relay| {
            server.kill();
            relay.set(refusal);
        },
        |server, relay| {
            server.restart();
            relay.set(Trouble::NONE);
        },
    );
    report("killed and started again", &killed, "SERVER_ERROR ");
    let stopped = outage(|server, _| server.signal(Signal::STOP), |server, _| server.signal(Signal::CONT));
    report("stopped", &stopped, timeout);
    report("refuses connections", &outage(set(refusal), set(Trouble::NONE)), "SERVER_ERROR ");
    report("answers two seconds late", &outage(set(late), set(Trouble::NONE)), timeout);
    report("half open", &outage(set(silence), set(Trouble::NONE)), timeout);
}

/// Its host is gone without a word: connections stay, nothing comes. Then it is up again and knows of none of them.
#[test]
fn a_server_whose_host_starts_again_is_back() {
    if !has_memcached() {
        return;
    }
    let silence = Trouble { up: Flow::Held, down: Flow::Held, ..Trouble::NONE };
    let back = |server: &mut Memcached, relay: &TroubledRelay| {
        server.kill();
        relay.set(Trouble { refuses: true, ..silence });
        server.restart();
        relay.set(Trouble::NONE);
    };
    let seen = outage(|_, relay| relay.set(silence), back).seen;
    assert!(seen.contains(&TIMEOUT.trim_end().to_owned()), "{seen:?}");
}

#[test]
fn a_slow_server_is_out_and_a_failover_route_turns_to_the_next_at_once() {
    let slow = Mock::start(|peer| while peer.request().is_some() {});
    let spare = Mock::start(|peer| {
        while let Some(asked) = peer.request() {
            peer.say(if asked.line == "get a" {
                "VALUE a 0 1\r\n1\r\nEND\r\n".into()
            } else {
                usual_answer(&asked)
            });
        }
    });
    let proxy = Proxy::with(&format!(
        "pools:\n  main: {{servers: [\"{}\"], timeout: 200ms, tko: {{probe_timeout_initial: 1h}}}}\n  \
         spare: {{servers: [\"{}\"], timeout: 20s}}\nroute: {{failover: [main, spare]}}\n",
        slow.address(),
        spare.address()
    ));
    let mut client = proxy.client();
    for _ in 0..20 {
        client.ask("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
    }
    assert_eq!((client.stat("server_timeouts"), client.stat("server_tko_requests")), (3, 17));
}

/// Three pools of the same servers, each with its own way; the key's server is killed and comes back.
#[test]
fn keys_of_a_server_that_is_killed_go_elsewhere_and_come_back() {
    if !has_memcached() {
        return;
    }
    let mut servers = Memcached::start_several(3);
    let spare = Memcached::start();
    let list: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let quick = "timeout: 2s, tko: {probe_timeout_initial: 20ms, probe_timeout_max: 50ms}";
    let pool = |on_down: &str| format!("{{servers: [{}], {quick}, on_down: {on_down}}}", list.join(", "));
    let proxy = Proxy::with(&format!(
        "workers: 2\npools:\n  next: {}\n  eject: {}\n  gutter: {}\n  spare: {{servers: [\"{}\"]}}\n\
         route: {{prefix: {{policies: {{n: next, e: eject, g: gutter}}, wildcard: next}}}}\n",
        pool("failover"),
        pool("eject"),
        pool("{type: failover, gutter: spare, exptime: 5s}"),
        spare.address()
    ));
    let keys: Vec<String> =
        ["n", "e", "g"].iter().flat_map(|prefix| (0..20).map(move |i| format!("{prefix}{i}"))).collect();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    let set_all = |client: &mut crate::support::Client| {
        for key in &keys {
            client.ask(format!("set {key} 0 0 1\r\nx\r\n"), "STORED\r\n");
        }
    };
    let all: String = keys.iter().map(|key| format!("VALUE {key} 0 1\r\nx\r\n")).collect();
    set_all(&mut clients[0]);
    for _ in 0..2 {
        servers[1].kill();
        // who finds it out fails; from then on everybody knows
        while clients[0].stat("num_hard_tko_count") == 0 {
            clients[0].send(format!("get {}\r\n", keys.join(" ")));
            loop {
                let line = clients[0].line();
                if line == "END" || line.starts_with("SERVER_ERROR") {
                    break;
                }
            }
            {}
        }
        for client in &mut clients {
            set_all(client);
            client.ask(format!("get {}\r\n", keys.join(" ")), format!("{all}END\r\n"));
        }
        servers[1].restart();
        clients[0].await_stat("num_hard_tko_count", 0);
        // its keys are asked for there again, where they were lost
        for client in &mut clients {
            client.send(format!("get {}\r\n", keys.join(" ")));
            let mut found = 0;
            loop {
                let line = client.line();
                match line.as_str() {
                    "END" => break,
                    line if line.starts_with("VALUE ") => found += 1,
                    "x" => {}
                    line => panic!("{line}"),
                }
            }
            assert!((20..60).contains(&found), "{found} of 60 keys are on the other servers");
        }
        set_all(&mut clients[1]);
        clients[2].ask(format!("get {}\r\n", keys.join(" ")), format!("{all}END\r\n"));
    }
    assert!(spare.stat("curr_items") > 0);
}
