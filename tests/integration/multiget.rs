//! Multi-key gets: one command per server, one answer in the order of the asking.

use crate::support::{Memcached, Mock, Proxy, dead_address, has_memcached, usual_answer};

/// The last of the servers is knocked out.
const DOWN: &str = "SERVER_ERROR Server unavailable. Reason: mc_res_connect_error";

#[test]
fn goes_to_each_server_as_one_command() {
    let servers = [Mock::forgetful(), Mock::forgetful()];
    let addresses: Vec<&str> = servers.iter().map(Mock::address).collect();
    let proxy = Proxy::before(&addresses, "hash: modula\nkey_hash: md5");
    let keys: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    proxy.client().ask(format!("get {}\r\n", keys.join(" ")), "END\r\n");
    let mut asked = Vec::new();
    for server in &servers {
        let line = server.heard();
        asked.extend(line.strip_prefix("get ").unwrap().split(' ').map(str::to_owned));
        server.expect_nothing();
    }
    asked.sort();
    let mut keys = keys;
    keys.sort();
    assert_eq!(asked, keys);
}

#[test]
fn answers_in_the_order_of_the_asking_across_servers() {
    if !has_memcached() {
        return;
    }
    let servers = Memcached::start_several(3);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let proxy = Proxy::before(&addresses, "hash: ketama");
    let mut client = proxy.client();
    let keys: Vec<String> = (0..500).map(|n| format!("key{n}")).collect();
    for key in keys.iter().step_by(2) {
        client.ask(format!("set {key} 3 0 {}\r\n{key}\r\n", key.len()), "STORED\r\n");
    }
    // forwards, backwards, shuffled, each with misses and duplicates
    let mut orders = vec![keys.clone(), keys.iter().rev().cloned().collect()];
    orders.push((0..1000).map(|n| keys[n * 337 % 500].clone()).collect());
    for order in orders {
        client.send(format!("get {}\r\n", order.join(" ")));
        let there = |k: &&String| k[3..].parse::<usize>().unwrap() % 2 == 0;
        let values = order.iter().filter(there).map(|k| format!("VALUE {k} 3 {}\r\n{k}\r\n", k.len()));
        client.expect(values.collect::<String>() + "END\r\n");
    }
    for server in &servers {
        assert!(server.stat("cmd_get") > 0, "every server has keys");
    }
}

#[test]
fn twenty_thousand_keys_in_one_line() {
    if !has_memcached() {
        return;
    }
    let servers = Memcached::start_several(3);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let proxy = Proxy::before(&addresses, "timeout: 20s");
    let mut client = proxy.client();
    let keys: Vec<String> = (0..20_000).map(|n| format!("a-key-of-some-length:{n}")).collect();
    for part in keys.chunks(500) {
        let sets: String = part.iter().map(|k| format!("set {k} 0 0 {}\r\n{k}\r\n", k.len())).collect();
        client.ask(sets, "STORED\r\n".repeat(part.len()));
    }
    let values: String = keys.iter().map(|k| format!("VALUE {k} 0 {}\r\n{k}\r\n", k.len())).collect();
    let sent = client.send_beside(format!("get {}\r\n", keys.join(" ")).into_bytes());
    client.expect(values + "END\r\n");
    sent.join().unwrap().unwrap();
    client.ask("get nothing\r\n", "END\r\n");
}

#[test]
fn twenty_thousand_keys_of_the_embedded_cache() {
    let proxy = Proxy::embedded();
    let mut client = proxy.client();
    client.ask("set key:777 0 0 2\r\nhi\r\n", "STORED\r\n");
    let keys: Vec<String> = (0..20_000).map(|n| format!("key:{n}")).collect();
    let sent = client.send_beside(format!("get {}\r\n", keys.join(" ")).into_bytes());
    client.expect("VALUE key:777 0 2\r\nhi\r\nEND\r\n");
    sent.join().unwrap().unwrap();
}

#[test]
fn one_of_three_servers_down_is_an_error_or_a_miss_as_configured() {
    if !has_memcached() {
        return;
    }
    let (servers, dead) = (Memcached::start_several(2), dead_address());
    let addresses = [servers[0].address(), servers[1].address(), &dead];
    let keys: Vec<String> = (0..60).map(|n| format!("key{n}")).collect();
    for on_error in ["error", "miss"] {
        let proxy = Proxy::before(&addresses, &format!("hash: modula\nkey_hash: md5\non_error: {on_error}"));
        let mut client = proxy.client();
        for n in 0..60 {
            client.send(format!("delete nothing{n}\r\n")); // the first that meets the dead one knocks it out
            client.line();
        }
        let mut up = Vec::new();
        for key in &keys {
            client.send(format!("set {key} 0 0 1\r\n1\r\n"));
            match client.line().as_str() {
                "STORED" => up.push(key.clone()),
                line => assert_eq!(line, DOWN),
            }
        }
        assert!(up.len() > 10 && up.len() < 50, "{} of 60 keys are up", up.len());
        client.send(format!("get {}\r\n", keys.join(" ")));
        if on_error == "error" {
            client.expect(format!("{DOWN}\r\n"));
        } else {
            let values: String = up.iter().map(|k| format!("VALUE {k} 0 1\r\n1\r\n")).collect();
            client.expect(values + "END\r\n");
        }
        // those that are up are not touched by it
        let values: String = up.iter().map(|k| format!("VALUE {k} 0 1\r\n1\r\n")).collect();
        client.ask(format!("get {}\r\n", up.join(" ")), values + "END\r\n");
        client.expect_nothing();
    }
}

#[test]
fn on_error_miss_covers_gets_alone() {
    let dead = dead_address();
    let proxy = Proxy::before(&[&dead], "on_error: miss");
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    client.ask("gets a\r\n", "END\r\n");
    client.ask("get a b\r\n", "END\r\n");
    client.ask("mg a v\r\n", "EN\r\n");
    client.ask_line("set a 0 0 1\r\n1\r\n", DOWN);
    client.ask_line("delete a\r\n", DOWN);
    client.ask_line("incr a 1\r\n", DOWN);
}

#[test]
fn a_server_that_dies_in_the_middle_gives_one_error_and_no_half_answer() {
    // with one of two servers silent for ever, the other's values must not have been sent
    let good = Mock::start(|peer| {
        while let Some(asked) = peer.request() {
            let keys = asked.line.strip_prefix("get ").unwrap();
            let values: String = keys.split(' ').map(|k| format!("VALUE {k} 0 1\r\n1\r\n")).collect();
            peer.say(values + "END\r\n");
        }
    });
    let bad = Mock::start(|peer| {
        let asked = peer.request().unwrap();
        let key = asked.words()[1].to_owned();
        peer.say(format!("VALUE {key} 0 1\r\n1\r\nVALUE"));
        peer.close();
    });
    let proxy = Proxy::before(&[good.address(), bad.address()], "hash: modula\nkey_hash: md5");
    let mut client = proxy.client();
    let keys: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    client.ask_line(format!("get {}\r\n", keys.join(" ")), "SERVER_ERROR ");
    client.expect_nothing();
}

#[test]
fn a_wide_get_and_a_pipeline_keep_their_order() {
    let slow = Mock::start(|peer| {
        let asked = peer.request().unwrap();
        assert!(asked.line.starts_with("get "));
        peer.wait();
        peer.say("END\r\n");
        while let Some(asked) = peer.request() {
            let answer = usual_answer(&asked);
            peer.say(answer);
        }
    });
    let quick = Mock::forgetful();
    let proxy =
        Proxy::before(&[slow.address(), quick.address()], "hash: modula\nkey_hash: md5\ntimeout: 20s");
    let mut client = proxy.client();
    let keys: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    client.send(format!("get {}\r\nversion\r\nset key1 0 0 1\r\n1\r\nmn\r\n", keys.join(" ")));
    slow.heard();
    quick.heard();
    slow.go();
    client.expect("END\r\n");
    client.expect_line("VERSION ");
    client.expect("STORED\r\nMN\r\n");
}
