//! Trees of routes in front of real servers: what clients see while servers die.

use crate::support::{Directory, Memcached, Proxy, has_latest};

/// Two clusters; the first fails over to a gutter pool and deletes everywhere.
fn config(main: &Memcached, gutter: &Memcached, log: &Memcached) -> String {
    let (main, gutter, log) = (main.address(), gutter.address(), log.address());
    format!(
        r#"pools:
  main: {{servers: ["{main}"]}}
  gutter: {{servers: ["{gutter}"]}}
  log: {{servers: ["{log}"]}}
named_handles:
  safe: {{failover_with_exptime: {{normal: main, failover: gutter, failover_exptime: 10s}}}}
routes:
  /a/main/: {{operation: {{default_policy: safe, operation_policies: {{delete: {{all_sync: [main, gutter]}}}}}}}}
  /b/log/: log
default_route: /a/main/
"#
    )
}

#[test]
fn mcrouters_own_file_in_front_of_real_servers() {
    if !has_latest() {
        return;
    }
    let (near, far) = (Memcached::latest(), Memcached::latest());
    let text = r#"// two clusters; `/*/*/key` goes to both
{
  "macros": {"pool": {"type": "macroDef", "params": ["server"], "result": {"servers": ["%server%:ascii:plain"]}}},
  "pools": {"near": "@pool(%near%)", "far": "@pool(%far%)",},
  "routes": [
    {"aliases": ["/././"], "route": "PoolRoute|near"},
    {"aliases": ["/far/main/"], "route": {"type": "PoolRoute", "pool": "far", "asynclog": false}},
  ],
}
"#;
    let text = text.replace("%near%", near.address()).replace("%far%", far.address());
    let directory = Directory::new();
    let file = directory.write("mcrouter.json", &text);
    let proxy = Proxy::start(&["run", "-c", &file, "--listen", "127.0.0.1:0"]);
    let mut client = proxy.client();
    client.ask("set a 0 0 1\r\n1\r\nset /far/main/a 0 0 1\r\n2\r\n", "STORED\r\nSTORED\r\n");
    near.client().ask("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
    far.client().ask("get a\r\n", "VALUE a 0 1\r\n2\r\nEND\r\n");
    client.ask("get /nobody/knows/a\r\n", "SERVER_ERROR RootRoute: No rh found\r\n");
    client.ask("delete /*/*/a\r\n", "DELETED\r\n");
    client.ask("get a /far/main/a\r\n", "END\r\n");
}

#[test]
fn a_tree_in_front_of_real_servers() {
    if !has_latest() {
        return;
    }
    let (main, gutter, log) = (Memcached::latest(), Memcached::latest(), Memcached::latest());
    let proxy = Proxy::with(&config(&main, &gutter, &log));
    let mut client = proxy.client();
    client.ask("set a 0 0 1\r\n1\r\nset /b/log/b 0 0 1\r\n2\r\n", "STORED\r\nSTORED\r\n");
    client.ask(
        "get x a /b/log/b b /b/log/b\r\n",
        "VALUE a 0 1\r\n1\r\nVALUE /b/log/b 0 1\r\n2\r\nVALUE /b/log/b 0 1\r\n2\r\nEND\r\n",
    );
    log.client().ask("get b\r\n", "VALUE b 0 1\r\n2\r\nEND\r\n");
    client.ask("mg /b/log/b k v O7\r\n", "VA 1 k/b/log/b O7\r\n2\r\n");
    client.ask("delete a\r\n", "NOT_FOUND\r\n"); // the worst of DELETED and NOT_FOUND
    client.ask("get a\r\n", "END\r\n");

    drop(main);
    client.ask("set a 0 0 1\r\n3\r\n", "STORED\r\n");
    client.ask("get a nothing\r\n", "VALUE a 0 1\r\n3\r\nEND\r\n");
    let mut direct = gutter.client();
    direct.ask_line("mg a t\r\n", "HD t"); // with a time to live
    direct.ask("get nothing\r\n", "END\r\n");
    let told = client.ask_line("delete a\r\n", "SERVER_ERROR ");
    assert!(told.contains("connection error") || told.contains("connect_error"), "{told}");
    direct.ask("get a\r\n", "END\r\n");
}

#[test]
fn values_that_are_larger_than_a_server_takes() {
    if !has_latest() {
        return;
    }
    let servers = [Memcached::latest(), Memcached::latest(), Memcached::latest()];
    let list = servers.each_ref().map(Memcached::address).join(",");
    let proxy = Proxy::with(&format!(
        "limits: {{value_bytes_max: 16MiB}}\npools: {{main: {{servers: [{list}]}}}}\nroute: {{big_value: main}}\n"
    ));
    let mut client = proxy.client();
    let value = |seed: usize, length: usize| -> String {
        (0..length).map(|i| char::from(b'a' + ((i * 31 + i / 997 + seed) % 26) as u8)).collect()
    };
    for (seed, length) in [(1, 5 << 20), (2, (512 << 10) + 1), (3, 512 << 10), (4, 7_654_321)] {
        let text = value(seed, length);
        client.ask(format!("set k 7 60 {length}\r\n{text}\r\n"), "STORED\r\n");
        client.ask("get k\r\n", format!("VALUE k 7 {length}\r\n{text}\r\nEND\r\n"));
        client.ask("get none k k\r\n", {
            let block = format!("VALUE k 7 {length}\r\n{text}\r\n");
            format!("{block}{block}END\r\n")
        });
        client.ask("mg k s v f\r\n", format!("VA {length} s{length} f7\r\n{text}\r\n"));
        let left = client.ask_line("mg k t\r\n", "HD t");
        assert!((30..=60).contains(&left["HD t".len()..].parse::<u32>().unwrap()), "{left}");
    }
    let (old, new) = (value(5, 2_000_000), value(6, 3_000_000));
    client.ask(format!("ms m 2000000 T0 F3 c\r\n{old}\r\n").replace(" c\r", "\r"), "HD\r\n");
    let line = client.ask_line("mg m c\r\n", "HD c");
    let cas: u64 = line["HD c".len()..].parse().unwrap();
    client.ask(format!("ms m 3000000 C{}\r\n{new}\r\n", cas + 1), "EX\r\n");
    client.ask("mg m v\r\n", format!("VA 2000000\r\n{old}\r\n"));
    client.ask(format!("ms m 3000000 C{cas}\r\n{new}\r\n"), "HD\r\n");
    client.ask("mg m v f\r\n", format!("VA 3000000 f0\r\n{new}\r\n"));
    client.ask("add m 0 0 1\r\nx\r\n", "NOT_STORED\r\n");
    client.ask("delete m\r\n", "DELETED\r\n");
    client.ask("get m\r\n", "END\r\n");

    // a chunk that a server threw away
    client.ask("get k\r\n", format!("VALUE k 7 7654321\r\n{}\r\nEND\r\n", value(4, 7_654_321)));
    let index = servers.iter().find_map(|server| {
        let mut direct = server.client();
        direct.send("get k\r\n");
        direct.lines_to_end().get(1).cloned()
    });
    let index = index.expect("an index");
    let suffix = index.rsplit('-').next().unwrap();
    let deleted = servers.iter().filter(|server| {
        let mut direct = server.client();
        direct.send(format!("delete k:3:{suffix}\r\n"));
        direct.line() == "DELETED"
    });
    assert_eq!(deleted.count(), 1, "{index}");
    client.ask("get k\r\nmg k v\r\n", "END\r\nEN\r\n");
}

#[test]
fn a_proxy_in_front_of_a_proxy_passes_routing_prefixes_on() {
    if !has_latest() {
        return;
    }
    let (east, west) = (Memcached::latest(), Memcached::latest());
    let far = Proxy::with(&format!(
        "pools: {{east: {{servers: [\"{}\"]}}, west: {{servers: [\"{}\"]}}}}\n\
         routes: {{/east/main/: east, /west/main/: west}}\ndefault_route: /east/main/\n",
        east.address(),
        west.address()
    ));
    let near = Proxy::with(&format!(
        "pools: {{far: {{servers: [\"{}\"], keep_routing_prefix: true}}}}\n\
         routes: {{/east/main/: far, /west/main/: far}}\ndefault_route: /east/main/\n",
        far.address()
    ));
    let mut client = near.client();
    client.ask("set /west/main/a 0 0 4\r\nwest\r\nset a 0 0 4\r\neast\r\n", "STORED\r\nSTORED\r\n");
    west.client().ask("get a\r\n", "VALUE a 0 4\r\nwest\r\nEND\r\n");
    client.ask(
        "get /west/main/a a /east/main/a\r\n",
        "VALUE /west/main/a 0 4\r\nwest\r\nVALUE a 0 4\r\neast\r\nVALUE /east/main/a 0 4\r\neast\r\nEND\r\n",
    );
    client.ask("mg /west/main/a k v O1\r\n", "VA 4 k/west/main/a O1\r\nwest\r\n");
    client.ask("delete /*/*/a\r\n", "DELETED\r\n");
    client.ask("mn\r\nget a /west/main/a\r\n", "MN\r\nEND\r\n");
}

#[test]
fn a_route_that_goes_by_the_clients_address() {
    let directory = Directory::new();
    let socket = directory.file("socket");
    let proxy = Proxy::with(&format!(
        "listen: [\"127.0.0.1:0\", \"unix:{}\"]\npools: {{p: {{servers: [\"127.0.0.1:1\"]}}}}\n\
         route: {{original_client_hash: ['null', 'null']}}\n",
        socket
    ));
    proxy.client().ask("get a\r\n", "END\r\n");
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    std::io::Write::write_all(&mut stream, b"get a\r\n").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).unwrap();
    assert_eq!(line, "SERVER_ERROR Missing IP\r\n");
}
