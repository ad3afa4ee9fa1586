//! Connections that clients share: order, batches, noreply, clients that do not read.

use crate::support::{Client, Memcached, Mock, Proxy, has_memcached, pool_of, usual_answer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn requests_of_one_client_for_one_key_reach_the_server_in_order() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    let mut sent = String::new();
    for n in 0..300 {
        sent += &format!("set k {n} 0 1 noreply\r\n1\r\ndelete k noreply\r\ntouch k {n}\r\n");
    }
    client.ask(sent, "NOT_FOUND\r\n".repeat(300));
    for n in 0..300 {
        mock.expect(&format!("set k {n} 0 1"));
        mock.expect("delete k");
        mock.expect(&format!("touch k {n}"));
    }
}

#[test]
fn canonical_lines_and_never_noreply() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask("get   a  \n", "END\r\n");
    client.ask("set  a   007 00 1  noreply\r\n1\r\nmn\r\n", "MN\r\n");
    client.ask("delete a 0 noreply\r\nmn\r\n", "MN\r\n");
    client.ask("incr a 007\r\n", "NOT_FOUND\r\n");
    client.ask("delete noreply\r\n", "NOT_FOUND\r\n");
    for line in ["get a", "set a 7 0 1", "delete a", "incr a 7"] {
        mock.expect(line);
    }
    let line = mock.heard();
    assert!(line == "delete noreply 0" || line.starts_with("md noreply"), "{line}");
}

#[test]
fn noreply_everywhere_leaves_the_connection_in_step() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    let quiet = "set a 0 0 1 noreply\r\n1\r\nadd a 0 0 1 noreply\r\n1\r\nreplace a 0 0 1 noreply\r\n1\r\n\
        append a 0 0 1 noreply\r\n1\r\nprepend a 0 0 1 noreply\r\n1\r\ncas a 0 0 1 5 noreply\r\n1\r\n\
        incr a 1 noreply\r\ndecr a 1 noreply\r\ndelete a noreply\r\ntouch a 1 noreply\r\n\
        mg a v q\r\nms a 1 q\r\n1\r\nverbosity 1 noreply\r\n";
    client.ask(format!("{}get a\r\n", quiet.repeat(50)), "END\r\n");
    client.expect_nothing();
}

#[test]
fn noreply_keeps_errors_of_servers_to_itself() {
    let mock = Mock::start(|peer| {
        while let Some(asked) = peer.request() {
            let answer = usual_answer(&asked);
            peer.say(if asked.line.starts_with("set") {
                "SERVER_ERROR out of memory\r\n".into()
            } else {
                answer
            });
        }
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask("set a 0 0 1 noreply\r\n1\r\nget a\r\n", "END\r\n");
    client.ask("set a 0 0 1\r\n1\r\n", "SERVER_ERROR out of memory\r\n");
    client.expect_nothing();
}

#[test]
fn noreply_to_a_dead_server_is_silent() {
    let dead = crate::support::dead_address();
    let proxy = Proxy::before(&[&dead], "");
    let mut client = proxy.client();
    client.send("set a 0 0 1 noreply\r\n1\r\ndelete a noreply\r\nincr a 1 noreply\r\ntouch a 1 noreply\r\n");
    client.expect_nothing();
}

#[test]
fn clients_share_one_connection_per_worker_and_server() {
    if !has_memcached() {
        return;
    }
    let server = Memcached::start();
    let before = server.stat("total_connections");
    let proxy = Proxy::before(&[server.address()], "");
    let mut clients: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.ask(format!("set key{n} 0 0 2\r\n{n:02}\r\n"), "STORED\r\n");
    }
    for (n, client) in clients.iter_mut().enumerate() {
        client.ask(format!("get key{n}\r\n"), format!("VALUE key{n} 0 2\r\n{n:02}\r\nEND\r\n"));
    }
    let after = server.stat("total_connections");
    assert!(after - before <= 3, "{} connections for one worker", after - before); // one is ours, for stats
}

#[test]
fn many_clients_get_their_own_answers() {
    if !has_memcached() {
        return;
    }
    let servers = Memcached::start_several(3);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let yaml = pool_of(&addresses, "timeout: 20s");
    let proxy = Proxy::with(&format!("workers: 2\n{yaml}"));
    let address = proxy.address().to_owned();
    let threads: Vec<_> = (0..16)
        .map(|me| {
            let address = address.clone();
            std::thread::spawn(move || {
                let mut client = Client::connect(&address);
                for turn in 0..60 {
                    let (key, value) = (format!("client{me}"), format!("{me}:{turn}"));
                    let size = value.len();
                    let extra = "x".repeat((me * 977 + turn * 131) % 20_000);
                    client.send(format!(
                        "set {key} {turn} 0 {size}\r\n{value}\r\nset {key}x 0 0 {} noreply\r\n{extra}\r\n\
                         get {key} none{me} {key}x\r\nmg {key} v f k O{turn}\r\nmn\r\n",
                        extra.len()
                    ));
                    client.expect(format!(
                        "STORED\r\nVALUE {key} {turn} {size}\r\n{value}\r\nVALUE {key}x 0 {}\r\n{extra}\r\nEND\r\n\
                         VA {size} f{turn} k{key} O{turn}\r\n{value}\r\nMN\r\n",
                        extra.len()
                    ));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_client_that_never_reads_is_not_read_and_harms_nobody() {
    if !has_memcached() {
        return;
    }
    let server = Memcached::start();
    let proxy = Proxy::before(&[server.address()], "timeout: 20s");
    let mut good = proxy.client();
    let value = "v".repeat(500_000);
    good.ask(format!("set big 0 0 500000\r\n{value}\r\n"), "STORED\r\n");
    let deaf = proxy.client();
    // 5,000 answers of half a megabyte; nobody takes them
    let sending = deaf.send_beside("get big\r\n".repeat(5_000).into_bytes());
    for n in 0..200 {
        good.ask(
            format!("set key{n} 0 0 1\r\n1\r\nget key{n}\r\n"),
            format!("STORED\r\nVALUE key{n} 0 1\r\n1\r\nEND\r\n"),
        );
    }
    good.ask("get big\r\n", format!("VALUE big 0 500000\r\n{value}\r\nEND\r\n"));
    // all buffers together are bounded by `buffer_bytes_max`, half a GiB
    let mebibytes = proxy.resident_bytes() / (1 << 20);
    assert!(mebibytes < 640, "{mebibytes} MiB for one deaf client");
    drop(deaf);
    good.ask("get key1\r\n", "VALUE key1 0 1\r\n1\r\nEND\r\n");
    let _ = sending.join(); // the proxy may go first
}

#[test]
fn a_client_that_sends_a_byte_at_a_time_is_served() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let (mut slow, mut quick) = (proxy.client(), proxy.client());
    for byte in b"set a 0 0 5\r\n12345\r\nget a b\r\nmg a v\r\n" {
        slow.send([*byte]);
        quick.ask("mn\r\n", "MN\r\n");
    }
    slow.expect("STORED\r\nEND\r\nEN\r\n");
}

#[test]
fn a_client_that_only_finishes_sending_is_answered() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.send("get a\r\nset a 0 0 1\r\n1\r\nget b c\r\n");
    client.finish();
    client.expect("END\r\nSTORED\r\nEND\r\n");
    client.expect_closed();
}

#[test]
fn a_client_that_sends_garbage_for_ever_harms_nobody() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut bad = proxy.client();
    let garbage: Vec<u8> =
        (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect();
    let mut good = proxy.client();
    for part in garbage.chunks(5_000) {
        let _ = bad.try_send(part); // it may be closed
        good.ask("get a\r\n", "END\r\n");
        mock.expect("get a");
    }
    mock.expect_nothing();
}

#[test]
fn a_server_that_answers_a_byte_at_a_time_is_understood() {
    let mock = Mock::start(|peer| {
        while let Some(asked) = peer.request() {
            match asked.words()[0] {
                "get" => peer.say_slowly("VALUE a 5 10\r\n12345\r\nEND\r\nVALUE b 0 0\r\n\r\nEND\r\n"),
                "mg" => {
                    let opaque =
                        asked.words().into_iter().find(|w| w.starts_with('O')).map(|o| format!(" {o}"));
                    peer.say_slowly(format!("VA 3 f1{}\r\n\r\n1\r\n", opaque.unwrap_or_default()));
                }
                _ => {
                    let answer = usual_answer(&asked);
                    peer.say_slowly(answer);
                }
            }
        }
    });
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.send("get a b\r\nmg a v f\r\nset a 0 0 1\r\n1\r\nincr a 1\r\n");
    client.expect("VALUE a 5 10\r\n12345\r\nEND\r\n");
    client.expect("VALUE b 0 0\r\n\r\nEND\r\nVA 3 f1\r\n\r\n1\r\nSTORED\r\nNOT_FOUND\r\n");
}

/// What is due leaves although a later request of the same batch is still under way, and no other client notices.
#[test]
fn a_slow_server_holds_back_only_what_comes_behind_it() {
    let fast = Mock::forgetful();
    let slow = Mock::start(|peer| {
        while peer.request().is_some() {
            peer.wait();
            peer.say("END\r\n");
        }
    });
    let proxy = Proxy::before(&[fast.address(), slow.address()], "hash: modula\ntimeout: 60s");
    let key_on = |server: u32| {
        let on = |key: &String| ringway::hash::KeyHash::Fnv1a64.hash(key.as_bytes(), true) % 2 == server;
        (0..).map(|n| format!("key{n}")).find(on).unwrap()
    };
    let (quick, late) = (key_on(0), key_on(1));
    let mut client = proxy.client();
    client.send(format!("get {quick}\r\nget {quick}\r\nget {late}\r\nget {quick}\r\n"));
    client.expect("END\r\nEND\r\n");
    slow.expect(&format!("get {late}"));
    proxy.client().ask(format!("get {quick}\r\n"), "END\r\n");
    slow.go();
    client.expect("END\r\nEND\r\n");
}

/// Two thousand, or as many as RINGWAY_CLIENTS says, where so many files may be open.
#[test]
fn servers_see_the_connections_that_are_set_however_many_clients_there_are() {
    const OWN_FILES: u64 = 1_000;
    if !has_memcached() {
        return;
    }
    let wanted = std::env::var("RINGWAY_CLIENTS").map_or(2_000, |count| count.parse().unwrap());
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.unwrap_or(u64::MAX).min(20_000);
    setrlimit(Resource::Nofile, Rlimit { current: Some(files.max(limit.current.unwrap_or(files))), ..limit })
        .unwrap();
    let most = files.saturating_sub(OWN_FILES).min(wanted);
    for (workers, connections, clients) in [(1, 1, most), (2, 3, most.min(300))] {
        let servers = Memcached::start_several(3);
        let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
        let pool = pool_of(&addresses, &format!("connections: {connections}"));
        let proxy = Proxy::with(&format!("workers: {workers}\n{pool}"));
        let mut clients: Vec<Client> = (0..clients).map(|_| proxy.client()).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(format!("get key{n}\r\n"));
        }
        clients.iter_mut().for_each(|client| client.expect("END\r\n"));
        assert_eq!(proxy.client().stat("curr_connections"), clients.len() as u64 + 1);
        for server in &servers {
            // who asks is one of them
            assert_eq!(server.stat("curr_connections"), workers * connections + 1);
        }
    }
}

/// Nobody waits for what goes to a shadow, so nobody is the slower because that is.
#[test]
fn a_shadow_that_hangs_slows_nobody_down() {
    const COPIES: u64 = 2_000;
    let (main, far) = (
        Mock::start(|peer| {
            (0..COPIES).for_each(|_| assert!(peer.answer_as_usual()));
            (0..100).for_each(|_| drop(peer.request()));
            peer.report("all");
            peer.wait();
        }),
        Mock::start(|peer| while peer.request().is_some() {}),
    );
    let pool = |name: &str, mock: &Mock| {
        let server = mock.address();
        format!("  {name}: {{servers: [\"{server}\"], timeout: 90s, tko: off, connections: 1}}\n")
    };
    let pools = [pool("main", &main), pool("far", &far)].concat();
    let route = "{type: shadow, child: main, shadows: [{target: far}]}";
    let proxy = Proxy::with(&format!("workers: 1\npools:\n{pools}route: {route}\n"));
    let mut client = proxy.client();
    for _ in 0..COPIES / 100 {
        client.ask("set a 0 0 1\r\nx\r\n".repeat(100), "STORED\r\n".repeat(100));
    }
    client.await_stat("server_copies", COPIES);
    client.send("get a\r\n".repeat(100));
    while main.heard() != "all" {}
}

#[test]
fn clients_that_ask_much_at_a_time_do_not_fill_the_queue_of_a_server() {
    const CLIENTS: usize = 20;
    const KNOWN_AFTER: usize = 100; // then a client is known for small replies, and may ask for many
    const REQUESTS: usize = 1_000; // 20,000 in all, where 16,384 may wait
    let mock = Mock::start(|peer| {
        (0..CLIENTS * KNOWN_AFTER).for_each(|_| assert!(peer.answer_as_usual()));
        peer.wait();
        while peer.answer_as_usual() {}
    });
    let yaml = format!("workers: 1\n{}", pool_of(&[mock.address()], "timeout: 20s\nconnections: 1"));
    let proxy = Proxy::with(&yaml);
    let (mut clients, mut other): (Vec<_>, _) =
        ((0..CLIENTS).map(|_| proxy.client()).collect(), proxy.client());
    clients
        .iter_mut()
        .for_each(|client| client.ask("get a\r\n".repeat(KNOWN_AFTER), "END\r\n".repeat(KNOWN_AFTER)));
    clients.iter_mut().for_each(|client| client.send("get a\r\n".repeat(REQUESTS)));
    while other.stat("server_outstanding") < 512 {}
    other.send("get b\r\n");
    mock.go();
    other.expect("END\r\n");
    clients.iter_mut().for_each(|client| client.expect("END\r\n".repeat(REQUESTS)));
}
