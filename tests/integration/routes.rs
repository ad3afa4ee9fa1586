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
