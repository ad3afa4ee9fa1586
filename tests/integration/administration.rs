//! What is answered here and goes to no server: stats, version, flush_all, other protocols.

use crate::support::{Memcached, Mock, Proxy, has_memcached, pool_of};
use std::collections::HashMap;

#[test]
fn stats_have_memcacheds_names_and_count() {
    let mut proxy = Proxy::embedded();
    let mut client = proxy.client();
    client.ask(
        "set a 0 0 1\r\n1\r\nget a b\r\ntouch a 10\r\n",
        "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nTOUCHED\r\n",
    );
    client.send("stats\r\n");
    let stats: HashMap<String, String> = client
        .lines_to_end()
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            assert!(words.len() == 3 && words[0] == "STAT", "{line:?}");
            (words[1].to_owned(), words[2].to_owned())
        })
        .collect();
    for name in [
        "pid",
        "uptime",
        "time",
        "version",
        "pointer_size",
        "curr_connections",
        "total_connections",
        "cmd_get",
        "cmd_set",
        "cmd_touch",
        "get_hits",
        "get_misses",
        "bytes_read",
        "bytes_written",
        "threads",
    ] {
        assert!(stats.contains_key(name), "no {name} in {stats:?}");
    }
    assert_eq!(stats["pid"], proxy.pid().to_string());
    for (name, count) in [("cmd_set", "1"), ("get_hits", "1"), ("get_misses", "1"), ("curr_connections", "1")]
    {
        assert_eq!(stats[name], count, "{name}");
    }
    assert!(proxy.process().is_running());
}

#[test]
fn other_stats_answer_in_form() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    for group in ["settings", "items", "slabs", "conns"] {
        client.send(format!("stats {group}\r\n"));
        for line in client.lines_to_end() {
            assert!(line.starts_with("STAT "), "stats {group}: {line:?}");
        }
    }
    client.ask("stats reset\r\n", "RESET\r\n");
    client.ask("stats bogus\r\n", "ERROR\r\n");
    client.expect_nothing();
    mock.expect_nothing();
}

#[test]
fn stats_in_a_pipeline_come_in_their_place() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.send("get a\r\nstats\r\nset a 0 0 1\r\n1\r\n");
    client.expect("END\r\n");
    assert!(client.lines_to_end().len() > 10);
    client.expect("STORED\r\n");
}

#[test]
fn flush_all_is_refused_unless_allowed() {
    if !has_memcached() {
        return;
    }
    let servers = Memcached::start_several(2);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let pool = pool_of(&addresses, "hash: modula\nkey_hash: md5");
    let keys: Vec<String> = (0..20).map(|n| format!("key{n}")).collect();
    let line = format!("get {}\r\n", keys.join(" "));

    let proxy = Proxy::with(&pool);
    let mut client = proxy.client();
    for key in &keys {
        client.ask(format!("set {key} 0 0 1\r\n1\r\n"), "STORED\r\n");
    }
    client.send("flush_all\r\n");
    let refused = client.line();
    assert!(refused.contains("ERROR") && refused.contains("flush"), "{refused:?}");
    client.send(&line);
    assert_eq!(client.lines_to_end().len(), 40);
    client.send("flush_all noreply\r\n");
    client.expect_nothing();
    client.send(&line);
    assert_eq!(client.lines_to_end().len(), 40);

    let proxy = Proxy::with(&format!("allow_flush: true\n{pool}"));
    let mut client = proxy.client();
    client.ask("flush_all 100\r\n", "OK\r\n"); // later
    client.send(&line);
    assert_eq!(client.lines_to_end().len(), 40);
    client.ask("flush_all\r\n", "OK\r\n");
    client.ask(&line, "END\r\n");
    client.ask("flush_all x\r\n", "CLIENT_ERROR invalid exptime argument\r\n");
}

#[test]
fn flush_all_goes_to_every_server_of_every_pool() {
    let servers = [Mock::forgetful(), Mock::forgetful(), Mock::forgetful()];
    let yaml = format!(
        "allow_flush: true\npools:\n  main:\n    servers: [\"{}\", \"{}\"]\n  other:\n    servers: [\"{}\"]\nroute: main\n",
        servers[0].address(),
        servers[1].address(),
        servers[2].address()
    );
    let proxy = Proxy::with(&yaml);
    let mut client = proxy.client();
    client.ask("flush_all 10\r\n", "OK\r\n");
    for server in &servers {
        server.expect("flush_all 10");
        server.expect_nothing();
    }
}

#[test]
fn the_binary_protocol_is_told_and_closed() {
    let proxy = Proxy::embedded();
    let mut client = proxy.client();
    client.send([0x80, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let line = client.line();
    assert!(line.is_ascii() && line.contains("ERROR"), "{line:?}");
    client.expect_closed();
    // one byte is enough
    let mut client = proxy.client();
    client.send([0x80]);
    client.line();
    client.expect_closed();
}

#[test]
fn http_is_closed_without_a_word() {
    let proxy = Proxy::embedded();
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /set HTTP/1.0\r\n\r\nset a 0 0 1\r\n1\r\n"] {
        let mut client = proxy.client();
        client.send(request);
        client.expect_closed();
    }
    proxy.client().ask("get a\r\n", "END\r\n");
}

#[test]
fn words_of_the_administrator_go_to_no_server() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    for word in [
        "shutdown",
        "shutdown graceful",
        "lru mode flat",
        "lru_crawler metadump all",
        "slabs automove 1",
        "slabs reassign 1 2",
        "cache_memlimit 64",
        "watch fetchers",
        "extstore",
        "refresh_certs",
        "bget a",
    ] {
        client.ask(format!("{word}\r\n"), "ERROR\r\n");
    }
    client.ask("verbosity 1\r\n", "OK\r\n");
    client.ask_line("version\r\n", "VERSION ");
    client.ask("mn\r\n", "MN\r\n");
    client.send("quit\r\n");
    client.expect_closed();
    mock.expect_nothing();
}
