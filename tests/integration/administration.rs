//! What is answered here and goes to no server: stats, version, flush_all, other protocols.

use crate::support::{Memcached, Mock, Proxy, dead_address, has_memcached, pool_of};
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
fn flush_all_goes_over_each_connection() {
    let server = Mock::forgetful();
    let yaml = format!("allow_flush: true\n{}", pool_of(&[server.address()], "connections: 2"));
    let proxy = Proxy::with(&yaml);
    proxy.client().ask("flush_all 10\r\n", "OK\r\n");
    server.expect("flush_all 10");
    server.expect("flush_all 10");
    server.expect_nothing();
}

#[test]
fn what_clients_do_wrong_is_no_error_of_a_server() {
    let proxy = Proxy::embedded();
    let mut client = proxy.client();
    client.ask("set k 0 0 1\r\nx\r\n", "STORED\r\n");
    client.ask_line("incr k 1\r\n", "CLIENT_ERROR cannot increment");
    assert_eq!((client.stat("client_errors"), client.stat("server_errors")), (1, 0));
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

/// What goes to the key's server, and how it is written there.
const DATA: &[(&str, &str)] = &[
    ("get a", "get a"),
    ("gets a", "gets a"),
    ("gat 0 a", "gat 0 a"),
    ("gats 0 a", "gats 0 a"),
    ("set a 0 0 1\r\n1", "set a 0 0 1"),
    ("add a 0 0 1\r\n1", "add a 0 0 1"),
    ("replace a 0 0 1\r\n1", "replace a 0 0 1"),
    ("append a 0 0 1\r\n1", "append a 0 0 1"),
    ("prepend a 0 0 1\r\n1", "prepend a 0 0 1"),
    ("cas a 0 0 1 1\r\n1", "cas a 0 0 1 1"),
    ("incr a 1", "incr a 1"),
    ("decr a 1", "decr a 1"),
    ("delete a", "delete a"),
    ("touch a 0", "touch a 0"),
    ("mg a O1", "mg a O1"),
    ("ms a 1 O1\r\n1", "ms a 1 O1"),
    ("md a O1", "md a O1"),
    ("ma a O1", "ma a O1"),
    ("me a", "me a"),
];

/// Harmless questions.
const ANSWERED_HERE: &[&str] =
    &["mn", "version", "verbosity 1", "stats", "stats settings", "stats items", "stats slabs", "stats reset"];

/// What changes or lists a server.
const REFUSED: &[&str] = &[
    "shutdown",
    "shutdown graceful",
    "slabs reassign 1 2",
    "slabs automove 1",
    "lru tune 10 20 0.5 0.5",
    "lru_crawler enable",
    "lru_crawler crawl all",
    "lru_crawler metadump all",
    "lru_crawler mgdump all",
    "watch",
    "watch fetchers mutations",
    "cache_memlimit 1",
    "extstore free_memchunks 1",
    "refresh_certs",
    "debugtime 1",
    "mcp dump",
    "stats detail dump",
    "stats cachedump 1 10",
    "stats proxy",
];

/// Every command that memcached knows: what the data port says, and what reaches the server.
/// `allow_flush` is the only door that can be opened, and opens for one command.
#[test]
fn the_data_port_answers_data_and_harmless_questions_only() {
    for is_open in [false, true] {
        let mock = Mock::forgetful();
        let proxy = Proxy::with(&format!("allow_flush: {is_open}\n{}", pool_of(&[mock.address()], "")));
        let mut client = proxy.client();
        for (asked, sent) in DATA {
            client.send(format!("{asked}\r\n"));
            mock.expect(sent);
            assert!(!client.line().contains("ERROR"), "{asked}");
        }
        for word in ANSWERED_HERE {
            client.send(format!("{word}\r\nget mark\r\n"));
            assert!(!client.line().contains("ERROR"), "{word}");
            mock.expect("get mark");
            while client.line() != "END" {} // of a `stats`, or of the mark
            client.send("mn\r\n");
            while client.line() != "MN" {}
        }
        for word in REFUSED {
            client.ask(format!("{word}\r\n"), "ERROR\r\n");
        }
        client.send("flush_all\r\n");
        if is_open {
            mock.expect("flush_all 0");
            client.expect("OK\r\n");
        } else {
            client.expect_line("CLIENT_ERROR flush_all not allowed");
        }
        mock.expect_nothing();
    }
}

#[test]
fn strict_refuses_control_characters_and_bare_newlines() {
    let mock = Mock::forgetful();
    let pool = pool_of(&[mock.address()], "");
    let bad = "CLIENT_ERROR bad command line format\r\n";
    let proxy = Proxy::with(&format!("strict: true\n{pool}"));
    let mut client = proxy.client();
    for line in ["get a\u{1}", "get a b\tc d", "delete \u{7f}", "mg a\0", "touch a\r 0", "gat 0 a\u{1b}[31m"]
    {
        client.ask(format!("{line}\r\n"), bad);
    }
    client.ask("set a\u{1} 0 0 8\r\nget evil\r\n", bad);
    client.ask("ms a\u{1} 8\r\nget evil\r\n", bad);
    client.ask("delete a\u{1} noreply\r\n", "");
    mock.expect_nothing();
    client.ask("get \u{e9}\u{4e00}\r\n", "END\r\n");
    client.ask("mg YQFi b\r\n", "EN\r\n"); // binary keys have their own form
    client.ask("get a\n", "CLIENT_ERROR line ends without carriage return\r\n");
    client.expect_closed();
    // as memcached does, unless told otherwise
    let proxy = Proxy::with(&pool);
    proxy.client().ask("get a\u{1}\nget a\tb\n", "END\r\nEND\r\n");
}

#[test]
fn listens_where_it_is_told_to_and_nowhere_else() {
    let proxy = Proxy::with(
        "listen: [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nworkers: 2\n\
        pools:\n  main:\n    embedded: {shards: 1, memory: 64MiB}\nroute: main\n",
    );
    let mut expected: Vec<String> = proxy.addresses().iter().flat_map(|a| [a.clone(), a.clone()]).collect();
    expected.sort();
    let own = socket_inodes(proxy.pid());
    let mut found = Vec::new();
    for (table, is_tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false), ("raw", false)] {
        let text = std::fs::read_to_string(format!("/proc/{}/net/{table}", proxy.pid())).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if own.contains(&fields[9].to_owned()) {
                assert!(is_tcp, "a socket of {table}: {line}");
                assert_eq!(fields[3], "0A", "a socket that does not listen: {line}");
                let (ip, port) = fields[1].split_once(':').unwrap();
                let ip = u32::from_str_radix(ip, 16).unwrap().swap_bytes();
                let port = u16::from_str_radix(port, 16).unwrap();
                found.push(format!("{}:{port}", std::net::Ipv4Addr::from(ip)));
            }
        }
    }
    found.sort();
    assert_eq!(found, expected);
}

/// The inodes of the sockets that a process has open.
fn socket_inodes(pid: i32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    let socket = |target: std::path::PathBuf| {
        let text = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(text.to_owned())
    };
    targets.filter_map(socket).collect()
}

#[test]
fn each_server_has_a_line_that_mcrouters_exporters_read() {
    let dead = dead_address();
    let mock = Mock::start(|peer| while peer.answer_as_usual() {});
    let pools = format!(
        "pools: {{main: {{servers: [\"{}\"], timeout: 2s}}, other: {{servers: [\"{dead}\"]}}}}\n\
         route: {{prefix: {{policies: {{d: other}}, wildcard: main}}}}\n",
        mock.address()
    );
    let proxy = Proxy::with(&pools);
    let mut client = proxy.client();
    client.ask("get a\r\nset a 0 0 1\r\n1\r\ndelete a\r\n", "END\r\nSTORED\r\nNOT_FOUND\r\n");
    client.ask_line("get d\r\n", "SERVER_ERROR connection error");
    client.send("stats servers\r\n");
    let mut lines = client.lines_to_end();
    lines.sort_by_key(|line| !line.contains("pools:main"));
    let (live, gone) = (&lines[0], &lines[1]);
    let name = format!("STAT {}:ascii:plain:notcompressed-2000 avg_latency_us:", mock.address());
    assert!(live.starts_with(&name), "{live}");
    let rest = " pending_reqs:0 inflight_reqs:0 up:1; notfound:2 stored:1; pools:main";
    assert!(live.ends_with(rest), "{live}");
    let name = format!("STAT {dead}:ascii:plain:notcompressed-1000 avg_latency_us:0.000 pending_reqs:0 ");
    let rest = "inflight_reqs:0 hard_tko;; connect_error:1; pools:other last_error:connect_error";
    assert_eq!(*gone, format!("{name}{rest}"));
}
