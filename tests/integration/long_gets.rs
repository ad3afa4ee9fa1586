//! Gets of many keys go in pieces, are answered as one, and leave room for everybody else. The pieces are small where keys
//! travel alone, because a route has more to do for each than to choose a server.

use crate::support::process::status_of;
use crate::support::{Client, Dns, Memcached, Mock, Proxy, has_memcached, pool_of};

/// Two pools of one server, the second asked where the first fails; no more than two requests at a time, of a client and
/// of all.
fn two_at_a_time(address: &str) -> Proxy {
    let pool = |name: &str| {
        format!("  {name}: {{servers: [\"{address}\"], outstanding_max: 2, timeout: 20s, tko: off}}\n")
    };
    let pools = [pool("main"), pool("other")].concat();
    Proxy::with(&format!("limits: {{client_outstanding_max: 2}}\npools:\n{pools}route: {ROUTE}\n"))
}

const ROUTE: &str = "{failover: [main, other]}";

#[test]
fn no_more_are_under_way_than_the_client_may_have_and_the_order_is_kept() {
    let mock = Mock::start(|peer| {
        for pair in [["a", "b"], ["c", "d"]] {
            pair.iter().for_each(|key| peer.expect(&format!("get {key}")));
            peer.wait();
            peer.say(format!("VALUE {} 0 1\r\n1\r\nEND\r\nEND\r\n", pair[0]));
        }
        while peer.answer_as_usual() {}
    });
    let proxy = two_at_a_time(mock.address());
    let mut client = proxy.client();
    client.send("get a b c d e\r\nset a 0 0 1\r\n2\r\nmn\r\n");
    // what is not answered holds back the rest of its get, and what comes behind it
    ["get a", "get b"].into_iter().for_each(|line| mock.expect(line));
    let mut other = proxy.client();
    other.ask("mn\r\n", "MN\r\n");
    mock.expect_nothing();
    mock.go();
    client.expect("VALUE a 0 1\r\n1\r\n");
    ["get c", "get d"].into_iter().for_each(|line| mock.expect(line));
    other.ask("mn\r\n", "MN\r\n");
    mock.expect_nothing();
    mock.go();
    client.expect("VALUE c 0 1\r\n1\r\nEND\r\nSTORED\r\nMN\r\n");
    ["get e", "set a 0 0 1"].into_iter().for_each(|line| mock.expect(line));
    client.expect_nothing();
}

/// A memcached that looks for a hundred thousand keys answers nobody else meanwhile.
#[test]
fn a_server_is_asked_for_the_rest_when_it_has_answered() {
    const KEYS: usize = 5_000;
    const PIECE_KEYS: usize = 2_048;
    let mock = Mock::start(|peer| {
        while let Some(asked) = peer.request() {
            let first = asked.line.split(' ').nth(1).unwrap_or_default().to_owned();
            if first.starts_with("key") {
                peer.wait();
            }
            peer.say(format!("VALUE {first} 0 1\r\n1\r\nEND\r\n"));
        }
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key{number}")).collect();
    client.send(format!("get {}\r\nget z\r\n", keys.join(" ")));
    let mut found = String::new();
    for piece in keys.chunks(PIECE_KEYS) {
        assert_eq!(mock.heard(), format!("get {}", piece.join(" ")));
        other.ask("mn\r\n", "MN\r\n");
        mock.expect_nothing();
        mock.go();
        found += &format!("VALUE {} 0 1\r\n1\r\n", piece[0]);
    }
    client.expect(format!("{found}END\r\nVALUE z 0 1\r\n1\r\nEND\r\n"));
    assert_eq!((client.stat("cmd_get"), client.stat("get_hits")), (5_001, 4));
}

#[test]
fn an_error_of_one_piece_stands_at_the_end_of_all() {
    let mock = Mock::start(|peer| {
        while let Some(asked) = peer.request() {
            match asked.line.as_str() {
                "get b" => peer.say("SERVER_ERROR what\r\n"),
                line => peer.say(format!("VALUE {} 0 1\r\n1\r\nEND\r\n", &line[4..])),
            }
        }
    });
    let proxy = two_at_a_time(mock.address());
    let mut client = proxy.client();
    let value = |key: &str| format!("VALUE {key} 0 1\r\n1\r\n");
    let found = |keys: &[&str], end: &str| keys.iter().map(|key| value(key)).collect::<String>() + end;
    client.ask("get a c b\r\n", found(&["a", "c"], "SERVER_ERROR what\r\n"));
    // what is left of a get that has failed is not asked for
    client.ask("get a c b d e f\r\n", found(&["a", "c"], "SERVER_ERROR what\r\n"));
    client.ask("get a c g\r\n", found(&["a", "c", "g"], "END\r\n"));
    let heard: Vec<String> =
        std::iter::from_fn(|| Some(mock.heard()).filter(|line| line != "get g")).collect();
    assert!(heard.contains(&"get d".to_owned()) && !heard.contains(&"get e".to_owned()), "{heard:?}");
}

/// A get of five keys and an `mn`, of which two keys are asked for when the configuration changes: the second is found. What is
/// there to see the rest.
fn reloaded_within_a_get(yaml: impl FnOnce(&str) -> String) -> (Mock, Proxy, Client) {
    let mock = Mock::start(|peer| {
        ["get a", "get b"].into_iter().for_each(|line| peer.expect(line));
        peer.wait();
        peer.say("END\r\nVALUE b 0 1\r\n1\r\nEND\r\n");
        while peer.answer_as_usual() {}
    });
    let proxy = two_at_a_time(mock.address());
    let mut client = proxy.client();
    client.send("get a b c d e\r\nmn\r\n");
    ["get a", "get b"].into_iter().for_each(|line| mock.expect(line));
    let former = std::fs::read_to_string(proxy.config()).unwrap();
    proxy.reload(&mut proxy.client(), &yaml(&former));
    mock.go();
    client.expect("VALUE b 0 1\r\n1\r\n");
    (mock, proxy, client)
}

#[test]
fn the_rest_goes_where_the_tree_of_a_reload_says() {
    let (mock, _proxy, mut client) = reloaded_within_a_get(|former| {
        assert!(former.contains(ROUTE));
        former.replace(ROUTE, "main")
    });
    client.expect("END\r\nMN\r\n");
    mock.expect("get c d e");
    client.expect_nothing();
}

#[test]
fn a_pool_without_servers_fails_the_rest() {
    let nobody = Dns::start();
    let empty = "pools: {none: {dns: \"none.example:1\", on_empty: error}}\n";
    let (_mock, _proxy, mut client) = reloaded_within_a_get(|_| nobody.resolver() + empty);
    client.expect("SERVER_ERROR no server in this pool: none\r\nMN\r\n");
    client.ask("get x y\r\n", "SERVER_ERROR no server in this pool: none\r\n");
    let hits_and_misses = [client.stat("get_hits"), client.stat("get_misses")];
    assert_eq!((client.stat("cmd_get"), hits_and_misses), (5 + 2, [1, 4 + 2]));
}

#[test]
fn a_hundred_thousand_keys_take_neither_memory_nor_room_from_others() {
    const KEYS: usize = 100_000;
    const CLIENTS: usize = 10;
    if !has_memcached() {
        return;
    }
    let server = Memcached::start();
    let limits = "limits: {buffer_bytes_max: 32MiB}";
    let pool = pool_of(&[server.address()], "outstanding_max: 3000\ntimeout: 20s");
    let routed = pool.replace("route: main", "route: {failover: [main, main]}");
    let proxy = Proxy::with(&format!("{limits}\n{routed}"));
    let mut good = proxy.client();
    let values: String = [0, 1, 50_000, KEYS - 1]
        .iter()
        .map(|key| {
            good.ask(format!("set {key:x} 0 0 3\r\nabc\r\n"), "STORED\r\n");
            format!("VALUE {key:x} 0 3\r\nabc\r\n")
        })
        .collect();
    let before = proxy.resident_bytes() as u64;
    let keys: String = (0..KEYS).map(|key| format!(" {key:x}")).collect();
    let mut greedy: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
    let sent: Vec<_> = greedy
        .iter()
        .map(|client| client.send_beside(format!("get{keys}\r\ngets{keys}\r\n").into_bytes()))
        .collect();
    let mut asked = 0;
    while sent.iter().any(|sent| !sent.is_finished()) || good.stat("server_outstanding") > 0 {
        good.ask("get 0\r\n", "VALUE 0 0 3\r\nabc\r\nEND\r\n");
        asked += 1;
    }
    assert!(asked > 0);
    for (client, sent) in greedy.iter_mut().zip(sent) {
        sent.join().unwrap().unwrap();
        client.finish(); // who says that no more comes is answered all the same
        client.expect(format!("{values}END\r\n"));
        assert_eq!(client.lines_to_end().len(), 2 * 4);
        client.expect_closed();
    }
    let grown_kib = status_of(proxy.pid(), "VmHWM:").saturating_sub(before / 1024);
    assert!(grown_kib < (32 + 16) * 1024, "{grown_kib} KiB more at most");
    assert_eq!(good.stat("server_errors"), 0);
}

#[test]
fn trees_in_the_place_of_servers_are_asked_for_no_more_at_a_time() {
    let mock = Mock::forgetful();
    let main = format!("  main: {{servers: [\"{}\"], outstanding_max: 2, tko: off}}\n", mock.address());
    let members = "  trees: {servers: [{route: main, name: s0}, {route: main, name: s1}]}\n";
    let limits = "limits: {client_outstanding_max: 2}";
    let proxy = Proxy::with(&format!("{limits}\npools:\n{main}{members}route: trees\n"));
    let mut client = proxy.client();
    client.ask("get a b c d e f g\r\nget a b\r\nget a\r\n", "END\r\n".repeat(3));
    let heard: Vec<String> = (0..10).map(|_| mock.heard()).collect();
    assert!(heard.iter().all(|line| line.split(' ').count() == 2), "each alone: {heard:?}");
    assert_eq!(client.stat("server_queue_full"), 0);
}
