//! Every bound: reached, told or waited for, and nobody else notices.

use crate::support::process::status_of;
use crate::support::{
    Client, Memcached, Mock, PATIENCE, Proxy, dead_address, has_memcached, pool_of, usual_answer,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[test]
fn too_many_clients_are_told_and_closed() {
    let proxy = Proxy::with(&format!("limits: {{clients_max: 2}}\n{}", embedded()));
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask("mn\r\n", "MN\r\n");
    two.ask("mn\r\n", "MN\r\n");
    let mut three = proxy.client();
    three.expect("ERROR Too many open connections\r\n");
    three.expect_closed();
    one.ask("mn\r\n", "MN\r\n");
    one.send("quit\r\n");
    one.expect_closed();
    // a place is free again, perhaps a moment later
    loop {
        let mut next = proxy.client();
        let _ = next.try_send(b"mn\r\n"); // it may be closed
        match next.try_line().as_deref() {
            Some("MN") => break,
            Some("ERROR Too many open connections") | None => {}
            Some(line) => panic!("{line}"),
        }
    }
    two.expect_nothing();
}

#[test]
fn a_value_does_not_keep_the_long_line_that_came_before_it() {
    const CLIENTS: usize = 40;
    let proxy = Proxy::with(embedded());
    let long = [&b"get "[..], &vec![b'k'; 1_900_000], b"\r\n"].concat();
    let begun = [&b"set a 0 0 1000000\r\n"[..], &[b'v'; 60_000]].concat();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send([&long[..], &begun].concat());
        client.expect("CLIENT_ERROR bad command line format\r\n");
    }
    // what was asked for in between is given back in a moment
    let began = std::time::Instant::now();
    while proxy.resident_bytes() > 60 << 20 {
        assert!(began.elapsed() < PATIENCE, "{} KiB resident", proxy.resident_bytes() / 1024);
        std::thread::yield_now();
    }
}

#[test]
fn every_limit_at_its_smallest_still_serves() {
    let mock = Mock::forgetful();
    let pool = pool_of(&[mock.address()], "outstanding_max: 1");
    let proxy = Proxy::with(&format!(
        "limits: {{clients_max: 1, client_outstanding_max: 1, late_replies_max: 1}}\n{pool}"
    ));
    let mut client = proxy.client();
    for _ in 0..3 {
        client.ask("get a\r\n", "END\r\n");
        client.ask("get a b c\r\n", "END\r\n");
        client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    }
    client.ask(
        "get a\r\nget b\r\nset c 0 0 1\r\n1\r\nmn\r\nget d\r\n",
        "END\r\nEND\r\nSTORED\r\nMN\r\nEND\r\n",
    );
}

#[test]
fn requests_beyond_the_bound_of_a_client_wait_and_are_all_answered() {
    let mock = Mock::forgetful();
    let pool = pool_of(&[mock.address()], "");
    let proxy = Proxy::with(&format!("limits: {{client_outstanding_max: 2}}\n{pool}"));
    let mut client = proxy.client();
    client.ask("get a\r\n".repeat(500), "END\r\n".repeat(500));
    client.expect_nothing();
}

#[test]
fn small_reply_bounds_slow_down_and_lose_nothing() {
    if !has_memcached() {
        return;
    }
    let server = Memcached::start();
    let pool = pool_of(&[server.address()], "timeout: 20s");
    let proxy = Proxy::with(&format!("limits: {{client_reply_bytes_max: 64KiB}}\n{pool}"));
    let mut client = proxy.client();
    let value = "v".repeat(100_000);
    client.ask(format!("set big 0 0 100000\r\n{value}\r\n"), "STORED\r\n");
    let sent = client.send_beside("get big\r\n".repeat(300).into_bytes());
    for _ in 0..300 {
        client.expect(format!("VALUE big 0 100000\r\n{value}\r\nEND\r\n"));
    }
    sent.join().unwrap().unwrap();
    client.expect_nothing();
}

#[test]
fn a_full_queue_is_an_error_at_once() {
    let mock = Mock::start(|peer| {
        peer.expect("get a");
        peer.expect("get b");
        peer.wait();
        peer.say("END\r\nEND\r\n");
        while peer.answer_as_usual() {}
    });
    let proxy = Proxy::before(&[mock.address()], "outstanding_max: 2\ntimeout: 20s");
    let (mut one, mut two, mut three) = (proxy.client(), proxy.client(), proxy.client());
    one.send("get a\r\n");
    mock.expect("get a");
    two.send("get b\r\n");
    mock.expect("get b");
    three.ask_line("get c\r\n", "SERVER_ERROR Max pending requests");
    three.ask_line("set c 0 0 1\r\n1\r\n", "SERVER_ERROR Max pending requests");
    mock.go();
    one.expect("END\r\n");
    two.expect("END\r\n");
    three.ask("get c\r\n", "END\r\n");
}

#[test]
fn too_many_late_replies_cost_the_connection_not_the_order() {
    let mock = Mock::start(|peer| {
        if peer.number == 0 {
            while peer.request().is_some() {}
            return;
        }
        while let Some(asked) = peer.request() {
            let key = asked.words()[1].to_owned();
            peer.say(format!("VALUE {key} 0 1\r\n1\r\nEND\r\n"));
        }
    });
    let pool = pool_of(&[mock.address()], "timeout: 150ms\ntko: off");
    let proxy = Proxy::with(&format!("limits: {{late_replies_max: 3}}\n{pool}"));
    let mut client = proxy.client();
    let mut hits = 0;
    for n in 0..12 {
        client.send(format!("get key{n}\r\n"));
        let line = client.line();
        if line.starts_with("VALUE") {
            assert_eq!(line, format!("VALUE key{n} 0 1"));
            client.expect("1\r\nEND\r\n");
            hits += 1;
        } else {
            assert!(line.starts_with("SERVER_ERROR "), "{line}");
        }
    }
    assert!(hits > 0, "the stuck connection was never given up");
}

#[test]
fn a_value_above_the_limit_is_swallowed_and_the_old_one_is_gone() {
    if !has_memcached() {
        return;
    }
    let server = Memcached::start();
    let pool = pool_of(&[server.address()], "");
    let before = Proxy::with(&format!("limits: {{value_bytes_max: 2KiB}}\n{pool}"));
    let alone = Proxy::with(&format!("limits: {{value_bytes_max: 2KiB}}\n{}", embedded()));
    for (name, proxy) in [("before a server", before), ("alone", alone)] {
        eprintln!("{name}");
        let mut client = proxy.client();
        let (fits, large) = ("v".repeat(1900), "v".repeat(2049));
        client.ask(format!("set a 0 0 1900\r\n{fits}\r\n"), "STORED\r\n");
        client.ask(format!("set a 0 0 2049\r\n{large}\r\n"), "SERVER_ERROR object too large for cache\r\n");
        client.ask("get a\r\n", "END\r\n");
        client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
        client.ask(format!("add a 0 0 2049\r\n{large}\r\n"), "SERVER_ERROR object too large for cache\r\n");
        client.ask("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
        client.ask(format!("set a 0 0 2049 noreply\r\n{large}\r\nget a\r\n"), "END\r\n");
        client.ask("ms a 1\r\n1\r\n", "HD\r\n");
        client.ask(
            format!("ms a 2049\r\n{large}\r\nmg a v\r\n"),
            "SERVER_ERROR object too large for cache\r\nEN\r\n",
        );
        client.ask(format!("set a 0 0 2000000000\r\n{large}"), "");
        drop(client); // in the middle of it
        proxy.client().ask("get a\r\n", "END\r\n");
    }
}

#[test]
fn values_of_many_megabytes_pass_when_allowed() {
    if !has_memcached() {
        return;
    }
    let server = Memcached::start_with(&["-I", "64m", "-m", "256"]);
    let pool = pool_of(&[server.address()], "timeout: 20s");
    let proxy = Proxy::with(&format!("limits: {{value_bytes_max: 32MiB}}\n{pool}"));
    let mut client = proxy.client();
    let size = 20 << 20;
    let value: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
    let request = [format!("set a 0 0 {size}\r\n").as_bytes(), &value, b"\r\n"].concat();
    let sent = client.send_beside(request);
    client.expect("STORED\r\n");
    sent.join().unwrap().unwrap();
    client.send("get a\r\n");
    client.expect([format!("VALUE a 0 {size}\r\n").as_bytes(), &value, b"\r\nEND\r\n"].concat());
    client.await_stat("buffer_bytes", 0);
}

/// A value whose last bytes come alone: nothing follows that would make anybody count again.
#[test]
fn a_large_value_that_was_handed_on_is_no_longer_counted() {
    const SIZE: usize = 200_000;
    let server = Mock::start(|peer| {
        peer.request();
        peer.say(format!("VA {SIZE} O0\r\n{}", "x".repeat(SIZE)));
        peer.wait();
        peer.say("\r\n");
        peer.answer_as_usual();
    });
    let proxy = Proxy::before(&[server.address()], "timeout: 20s");
    let mut client = proxy.client();
    client.send("mg a v\r\n");
    server.expect("mg a v O0");
    server.go();
    client.expect(format!("VA {SIZE}\r\n{}\r\n", "x".repeat(SIZE)));
    client.await_stat("buffer_bytes", 0);
}

#[test]
fn a_line_without_end_closes_that_client_alone() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut good = proxy.client();
    let bad = proxy.client();
    let sending = bad.send_beside(vec![b'x'; 64 << 20]);
    good.ask("get a\r\n", "END\r\n");
    assert!(sending.join().unwrap().is_err(), "64 MiB without a line end were taken");
    good.ask("get a\r\n", "END\r\n");
}

#[test]
fn memory_shrinks_again_after_a_burst() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "timeout: 20s");
    proxy.client().ask("get a\r\n", "END\r\n");
    let value = "v".repeat(1_000_000);
    let mut clients: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.ask(format!("set a 0 0 1000000\r\n{value}\r\n"), "STORED\r\n");
    }
    for client in &mut clients {
        client.ask("get a\r\n", "END\r\n");
    }
    let after = proxy.resident_bytes();
    assert!(after < 100 << 20, "{} MiB for 50 idle clients", after >> 20);
}

/// One small piece in each 2 MiB would keep all of it resident. A cache of its own is faster with such pages.
#[test]
fn memory_is_taken_in_small_pages_unless_values_are_kept_here() {
    let small = |proxy: &Proxy| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
        status.contains("THP_enabled:\t0\n")
    };
    let proxy = Proxy::with(&pool_of(&[&dead_address()], ""));
    assert!(small(&proxy));
    proxy.rewrite(embedded());
    proxy.client().await_stat("config_reloads", 1);
    assert!(!small(&proxy), "there is a cache now");
}

/// A configuration that needs no server.
fn embedded() -> &'static str {
    "pools:\n  main:\n    embedded: {shards: 1, memory: 64MiB}\nroute: main\n"
}

#[test]
fn the_longest_lines_do_not_make_a_server_close() {
    if !crate::support::has_latest() {
        return;
    }
    // memcached closes a connection that brings more than 2048 bytes without a line end; what we add must fit in, too
    let server = Memcached::latest();
    let relay = crate::support::Relay::to(server.address());
    let proxy = Proxy::before(&[relay.address()], "timeout: 20s");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    for length in 2020..2056 {
        for word in ["mg a v P", "me a ", "md a P", "ma a P", "touch a 0 ", "delete a "] {
            let line = format!("{word}{}\r\n", "x".repeat(length - word.len() - 2));
            client.try_send(line.as_bytes()).unwrap();
            let Some(answer) = client.try_line() else {
                client = proxy.client(); // the line was too long, that client was closed
                continue;
            };
            let is_fine =
                ["EN", "NF", "NOT_FOUND"].contains(&answer.as_str()) || answer.starts_with("CLIENT_ERROR");
            assert!(is_fine, "{length} bytes of {word:?}: {answer}");
        }
        other.ask("get b\r\n", "END\r\n");
    }
    let seen = server.stat("total_connections");
    assert!(seen < 6, "{seen} connections: the server closed some");
}

#[test]
fn who_stops_within_a_request_is_closed() {
    let proxy = Proxy::with(&format!("limits: {{client_stall_timeout: 1s}}\n{}", embedded()));
    let halves = ["get a", "set a 0 0 10\r\n12345", "set a 0 0 100000\r\n12345", "\r"];
    let mut stopped: Vec<_> = halves.iter().map(|_| proxy.client()).collect();
    for (client, half) in stopped.iter_mut().zip(halves) {
        client.ask("mn\r\n", "MN\r\n");
        client.send(half);
    }
    let mut swallowed = proxy.client();
    swallowed.ask("set a 0 0 2000000\r\n1", "SERVER_ERROR object too large for cache\r\n");
    stopped.push(swallowed);
    stopped.iter_mut().for_each(Client::expect_closed);
    assert_eq!(proxy.client().stat("stalled_clients_closed"), 5);
}

#[test]
fn who_does_not_take_replies_is_closed_even_when_leaving() {
    let proxy = Proxy::with(&format!("limits: {{client_stall_timeout: 1s}}\n{}", embedded()));
    let value = "v".repeat(1_000_000);
    let mut good = proxy.client();
    good.ask(format!("set a 0 0 1000000\r\n{value}\r\n"), "STORED\r\n");
    let ask = |last: &str| {
        let mut client = proxy.client();
        client.send(format!("{}{last}", "get a\r\n".repeat(60)));
        client
    };
    let _silent = [ask(""), ask("quit\r\n")];
    good.await_stat("stalled_clients_closed", 2);
    good.await_stat("curr_connections", 1);
    good.await_stat("buffer_bytes", 0);
}

#[test]
fn idle_clients_are_closed_where_that_is_set() {
    let proxy = Proxy::with(&format!("limits: {{client_idle_timeout: 500ms}}\n{}", embedded()));
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask("mn\r\n", "MN\r\n");
    one.expect_closed();
    two.expect_closed();
    assert_eq!(proxy.client().stat("idle_kicks"), 2);
}

#[test]
fn without_descriptors_clients_are_told_and_the_others_are_served() {
    let mock = Mock::forgetful();
    // without a file that it would look at once more, with a descriptor that counts
    let proxy =
        Proxy::start(&["run", "--listen", "127.0.0.1:0", "--server", mock.address(), "--workers", "1"]);
    let mut good = proxy.client();
    good.ask("get a\r\n", "END\r\n");
    proxy.limit_files_to_those_open_and(2);
    let mut guests: Vec<_> = (0..2).map(|_| proxy.client()).collect();
    guests.iter_mut().for_each(|guest| guest.ask("get a\r\n", "END\r\n"));
    for _ in 0..5 {
        let mut late = proxy.client();
        late.expect("ERROR Too many open connections\r\n");
        late.expect_closed();
    }
    good.ask("get a\r\n", "END\r\n");
    assert_eq!(good.stat("rejected_connections"), 5);
    assert!(good.stat("accept_errors") >= 5);
    assert!(proxy.stderr().matches("cannot accept clients").count() <= 10);
    guests.pop().unwrap().ask("quit\r\n", "");
    good.await_stat("curr_connections", 2);
    proxy.client().ask("get a\r\n", "END\r\n");
}

#[test]
fn unread_values_stay_within_the_bound_with_the_blocks_that_they_lie_in() {
    if !has_memcached() {
        return;
    }
    const MIB: usize = 1 << 20;
    let server = Memcached::start();
    let pool = pool_of(&[server.address()], "timeout: 20s");
    let proxy = Proxy::with(&format!("limits: {{buffer_bytes_max: 16MiB}}\n{pool}"));
    let mut good = proxy.client();
    // just large enough to be kept where it was read: a quarter of its block
    let value = "v".repeat(16 * 1024);
    good.ask(format!("set a 0 0 {}\r\n{value}\r\n", value.len()), "STORED\r\n");
    let hit = format!("VALUE a 0 {}\r\n{value}\r\nEND\r\n", value.len());
    let before = proxy.resident_bytes();
    // what the kernel takes off our hands differs: more and more of them until the bound is reached
    let mut silent = Vec::new();
    while good.stat("slow_clients_closed") == 0 {
        assert!(silent.len() < 200, "no client had to go");
        let mut client = proxy.client();
        client.send("get a\r\n".repeat(500));
        silent.push(client);
        good.ask("get a\r\n", &hit);
        let held = good.stat("buffer_bytes");
        assert!(held <= 17 * MIB as u64, "{held} bytes are held");
        let grown = proxy.resident_bytes().saturating_sub(before);
        assert!(grown <= (16 + 16) * MIB, "{} MiB more with {} clients", grown / MIB, silent.len());
    }
    good.ask("get a\r\n", hit);
    drop(silent);
    good.await_stat("buffer_bytes", 0);
    let began = std::time::Instant::now();
    while proxy.resident_bytes() > before + before / 10 + 4 * MIB {
        assert!(began.elapsed() < PATIENCE, "{} MiB are not given back", proxy.resident_bytes() / MIB);
        std::thread::yield_now();
    }
}

#[test]
fn a_value_that_nobody_has_room_for_is_passed_over() {
    let value = "v".repeat(500_000);
    let answer = format!("VALUE a 0 500000\r\n{value}\r\n");
    let mock = Mock::start(move |peer| {
        while let Some(asked) = peer.request() {
            match asked.line.as_str() {
                "get a" | "get b a" => peer.say(format!("{answer}END\r\n")),
                _ => peer.say("VALUE b 0 1\r\n1\r\nEND\r\n"),
            }
        }
    });
    let pool = pool_of(&[mock.address()], "timeout: 20s");
    let proxy = Proxy::with(&format!("limits: {{value_bytes_max: 64KiB, buffer_bytes_max: 100KiB}}\n{pool}"));
    let mut client = proxy.client();
    let refused = "SERVER_ERROR out of memory writing get response\r\n";
    for _ in 0..3 {
        client.ask("get a\r\nget b\r\n", format!("{refused}VALUE b 0 1\r\n1\r\nEND\r\n"));
        client.ask("get b a\r\nget b\r\n", format!("{refused}VALUE b 0 1\r\n1\r\nEND\r\n"));
    }
    assert_eq!(client.stat("server_connects"), 1, "the connection stays in step");
    assert_eq!(client.stat("desync_detected"), 0);
    client.await_stat("buffer_bytes", 0);
}

#[test]
fn what_routes_gather_is_within_the_bound() {
    /// What a client may have under way at least, whatever the others have.
    const LEAST_EACH: usize = 8;
    const CLIENTS: usize = 20;
    const MIB: u64 = 1 << 20;
    let silent = Mock::start(|peer| {
        let mut asked = peer.request();
        peer.wait();
        while asked.is_some() {
            peer.say("END\r\n");
            asked = peer.request();
        }
    });
    let answered = Arc::new(AtomicUsize::new(0));
    let answers = Arc::clone(&answered);
    let large = format!("VALUE a 0 500000\r\n{}\r\nEND\r\n", "v".repeat(500_000));
    let mock = Mock::start(move |peer| {
        while let Some(asked) = peer.request() {
            let is_large = asked.line == "get a";
            peer.say(if is_large { large.as_str() } else { "END\r\n" });
            answers.fetch_add(usize::from(is_large), Relaxed);
        }
    });
    let proxy = Proxy::with(&format!(
        "limits: {{buffer_bytes_max: 32MiB}}\n\
         pools:\n  quick: {{servers: [\"{}\"], timeout: 20s}}\n  silent: {{servers: [\"{}\"], timeout: 20s}}\n\
         route: {{prefix: {{policies: {{b: quick}}, wildcard: {{all_sync: [quick, silent]}}}}}}\n",
        mock.address(),
        silent.address()
    ));
    let mut good = proxy.client();
    good.ask("get b\r\n", "END\r\n");
    let before_kib = proxy.resident_bytes() as u64 / 1024;
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send("get a\r\n".repeat(LEAST_EACH)));
    while answered.load(Relaxed) < CLIENTS * LEAST_EACH {
        good.ask("get b\r\n", "END\r\n");
    }
    let held = good.stat("buffer_bytes");
    assert!((16 * MIB..33 * MIB).contains(&held), "{held} bytes are held");
    silent.go();
    for client in &mut clients {
        for _ in 0..LEAST_EACH {
            let line = client.line(); // the worse of both
            assert!(["END", "SERVER_ERROR out of memory writing get response"].contains(&&*line), "{line}");
        }
    }
    good.await_stat("buffer_bytes", 0);
    let grown_kib = status_of(proxy.pid(), "VmHWM:").saturating_sub(before_kib);
    assert!(grown_kib < (32 + 16) * 1024, "{grown_kib} KiB more at most");
}

#[test]
fn what_is_made_is_ended() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "timeout: 20s");
    let mut last = proxy.client();
    for n in 0..20 {
        let mut client = proxy.client();
        client.send(format!("get a\r\nget a b c\r\nset k{n} 0 0 20000\r\n{}\r\nget a", "v".repeat(20_000)));
    }
    for (gauge, value) in [("curr_connections", 1), ("server_outstanding", 0), ("buffer_bytes", 0)] {
        last.await_stat(gauge, value);
    }
}

#[test]
fn every_queue_drains_with_every_limit_at_its_least() {
    let mock = Mock::start(|peer| {
        while let Some(asked) = peer.request() {
            let words = asked.words();
            let values: String = match words[0] {
                "get" => words[1..].iter().map(|key| format!("VALUE {key} 0 900\r\n{:900}\r\n", 1)).collect(),
                _ => String::new(),
            };
            match values.is_empty() {
                true => peer.say(usual_answer(&asked)),
                false => peer.say(format!("{values}END\r\n")),
            }
        }
    });
    let pool = pool_of(&[mock.address()], "outstanding_max: 1\ntimeout: 20s");
    let least = "clients_max: 1, client_outstanding_max: 1, client_reply_bytes_max: 1, late_replies_max: 1, bulk_bytes_max: 1";
    // Both: the least that can be set, and the least at which a value of its size passes.
    for (value, buffers) in [("1KiB", "1KiB"), ("1KiB", "16KiB")] {
        let limits = format!("limits: {{{least}, value_bytes_max: {value}, buffer_bytes_max: {buffers}}}");
        let proxy = Proxy::with(&format!("{limits}\n{pool}"));
        let mut client = proxy.client();
        // all at once, then nothing more: each is answered without another byte from outside
        client
            .send("get a\r\nget a b\r\nset c 0 0 3\r\nabc\r\nmn\r\ndelete c\r\nmg d v\r\nmn\r\n".repeat(20));
        for _ in 0..40 {
            while client.line() != "MN" {}
        }
        client.await_stat("buffer_bytes", 0);
    }
}
