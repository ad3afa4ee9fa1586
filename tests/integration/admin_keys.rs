//! `get __mcrouter__.…`: what a running process tells of itself, in the words of mcrouter's tools, and to whom.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::support::{Client, Directory, Mock, PATIENCE, Proxy, pool_of};

/// The value of an admin key, asked by a classic get.
fn value(client: &mut Client, question: &str) -> String {
    let key = format!("__mcrouter__.{question}");
    client.send(format!("get {key}\r\n"));
    let line = client.line();
    let length = line.strip_prefix(&format!("VALUE {key} 0 ")).unwrap_or_else(|| panic!("{line:?}"));
    let length: usize = length.parse().unwrap();
    let mut block = String::new();
    while block.len() < length + 2 {
        block += &client.line();
        block += "\r\n";
    }
    client.expect("END\r\n");
    assert_eq!(block.len(), length + 2, "{block:?}");
    block.truncate(length);
    block
}

#[test]
fn a_process_tells_of_itself() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    assert!(value(&mut client, "version").ends_with("mcrouter"));
    assert!(value(&mut client, "config_age").parse::<u64>().unwrap() < 600);
    assert!(value(&mut client, "config_file").ends_with("ringway.yaml"));
    let digest = value(&mut client, "config_md5_digest");
    assert_eq!(digest.len(), 32);
    assert!(value(&mut client, "config_sources_info").contains(&digest));
    assert!(value(&mut client, "preprocessed_config").contains("\"route\": \"main\""));
    assert_eq!(
        value(&mut client, "pools"),
        format!("{{\n  \"main\": [\n    \"{}\"\n  ]\n}}", mock.address())
    );
    value(&mut client, "hostid").parse::<u64>().unwrap();
    assert!(value(&mut client, "options").contains("num_proxies 1\n"));
    assert_eq!(value(&mut client, "options(num_proxies)"), "1");
    assert_eq!(value(&mut client, "failure_domains(main)"), "{}");
    assert_eq!(value(&mut client, "failure_domains(x)"), "ERROR: failure_domains: no pool `x`");
    assert_eq!(value(&mut client, "options(bogus)"), "ERROR: options: no option `bogus`");
    assert_eq!(value(&mut client, "bogus"), "ERROR: unknown command: bogus");
    assert_eq!(value(&mut client, "route(get"), "ERROR: no `)` at the end of route(get");
    assert_eq!(value(&mut client, "route(get)"), "ERROR: route: as in route(get,key)");
    assert_eq!(value(&mut client, "route(fetch,k)"), "ERROR: route: unknown op");
    mock.expect_nothing();
}

/// mcrouter's sense of "would": nothing is sent, every answer is taken for a miss, servers that are out are passed over.
#[test]
fn where_a_key_would_go() {
    let (main, gutter, copy) = (Mock::forgetful(), Mock::forgetful(), Mock::forgetful());
    let dead = "127.0.0.1:1";
    let proxy = Proxy::with(&format!(
        "pools:\n  main: {{servers: [\"{}\"]}}\n  gutter: {{servers: [\"{}\"]}}\n  copy: {{servers: [\"{}\"]}}\n  \
        dead: {{servers: [\"{dead}\"], tko: {{probe_timeout_initial: 1h, probe_timeout_max: 1h}}}}\nroute:\n  prefix:\n    wildcard: {{failover: [main, gutter]}}\n    \
        policies:\n      \"d:\": {{failover: [dead, gutter]}}\n      \"w:\": {{warm_up: {{cold: main, warm: copy}}}}\n",
        main.address(),
        gutter.address(),
        copy.address()
    ));
    let mut client = proxy.client();
    assert_eq!(value(&mut client, "route(get,a,b)"), main.address());
    assert_eq!(
        value(&mut client, "route(get,w:a)"),
        format!("{}\r\n{}", main.address(), copy.address()),
        "a miss goes on to the warm pool"
    );
    assert_eq!(value(&mut client, "route(set,w:a)"), main.address());
    assert_eq!(value(&mut client, "route(get,d:a)"), dead);
    client.ask("get d:a\r\n", "END\r\n"); // failed over; now it is known to be out
    gutter.expect("get d:a");
    assert_eq!(value(&mut client, "route(get,d:a)"), gutter.address());
    let tree = value(&mut client, "route_handles(get,a)");
    let lines: Vec<&str> = tree.split("\r\n").collect();
    assert_eq!(&lines[..3], ["prefix", " failover", "  pool main"], "{tree}");
    assert!(lines.contains(&format!("    server {}", main.address()).as_str()), "{tree}");
    assert!(lines.contains(&"  pool gutter  (after an error)"), "{tree}");
    main.expect_nothing();
    copy.expect_nothing();
}

#[test]
fn meta_gets_ask_too() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.ask("mg __mcrouter__.options(num_proxies) v\r\n", "VA 1\r\n1\r\n");
    client.ask(
        "mg __mcrouter__.options(num_proxies) s v f t Oabc k q\r\n",
        "VA 1 s1 f0 t-1 Oabc k__mcrouter__.options(num_proxies)\r\n1\r\n",
    );
    client.ask("mg __mcrouter__.version\r\n", "HD\r\n");
    mock.expect_nothing();
}

#[test]
fn answers_come_in_their_place_and_other_commands_go_to_the_server() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    client.send("get a\r\nget __mcrouter__.options(num_proxies)\r\nset b 0 0 1\r\n1\r\n");
    client.expect("END\r\nVALUE __mcrouter__.options(num_proxies) 0 1\r\n1\r\nEND\r\nSTORED\r\n");
    mock.expect("get a");
    mock.expect("set b 0 0 1");
    client.ask("delete __mcrouter__.version\r\nget __mcrouter\r\n", "NOT_FOUND\r\nEND\r\n");
    mock.expect("delete __mcrouter__.version");
    mock.expect("get __mcrouter");
}

#[test]
fn who_may_not_ask_is_told_a_miss() {
    let mock = Mock::forgetful();
    let pool = pool_of(&[mock.address()], "");
    let proxy = Proxy::with(&format!("admin_keys: off\n{pool}"));
    let asked =
        "get __mcrouter__.version\r\nmg __mcrouter__.version v\r\nmg __mcrouter__.version v q\r\nmn\r\n";
    proxy.client().ask(asked, "END\r\nEN\r\nMN\r\n");
    mock.expect_nothing();
    // an address of this machine that is not loopback, if it has one
    let Some(ip) = own_address() else { return };
    for (who, is_told) in [("loopback", false), ("on", true)] {
        let proxy = Proxy::with(&format!("listen: [\"{ip}:0\"]\nadmin_keys: {who}\n{pool}"));
        let mut client = proxy.client();
        client.send("get __mcrouter__.version\r\n");
        assert_eq!(client.line().starts_with("VALUE "), is_told, "{who}");
    }
    mock.expect_nothing();
}

#[test]
fn a_unix_socket_is_near() {
    let mock = Mock::forgetful();
    let directory = Directory::new();
    let path = directory.file("ringway.sock");
    let proxy = Proxy::with(&format!("listen: [\"unix:{path}\"]\n{}", pool_of(&[mock.address()], "")));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"get __mcrouter__.options(strict)\r\nquit\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "VALUE __mcrouter__.options(strict) 0 5\r\nfalse\r\nEND\r\n");
    drop(proxy);
}

fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?; // sends nothing
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback()).then_some(ip)
}

#[test]
fn another_configuration_is_told_of() {
    let mock = Mock::forgetful();
    let proxy = Proxy::before(&[mock.address()], "");
    let mut client = proxy.client();
    let before = value(&mut client, "config_md5_digest");
    assert!(!value(&mut client, "preprocessed_config").contains("250ms"));
    proxy.rewrite(&pool_of(&[mock.address()], "timeout: 250ms"));
    client.await_stat("config_reloads", 1);
    assert_ne!(value(&mut client, "config_md5_digest"), before);
    assert!(value(&mut client, "preprocessed_config").contains("250ms"));
}

/// A comment changes nothing but the digest, by which a rollout sees that the file has arrived.
#[test]
fn the_same_configuration_written_in_another_way_is_told_of() {
    let mock = Mock::forgetful();
    let pool = pool_of(&[mock.address()], "");
    let proxy = Proxy::with(&pool);
    let mut client = proxy.client();
    let before = value(&mut client, "config_md5_digest");
    proxy.rewrite(&format!("# of the second week\n{pool}"));
    let deadline = std::time::Instant::now() + PATIENCE;
    while value(&mut client, "config_md5_digest") == before {
        assert!(std::time::Instant::now() < deadline, "the digest stays");
    }
    assert_eq!(client.stat("config_reloads"), 0);
}

/// With a file of mcrouter's its options are told by its names, and its operations are known.
#[test]
fn mcrouters_file_and_flags_are_told() {
    let mock = Mock::forgetful();
    let directory = Directory::new();
    let file = directory.write(
        "mcrouter.json",
        &format!(r#"{{"pools": {{"A": {{"servers": ["{}"]}}}}, "route": "PoolRoute|A"}}"#, mock.address()),
    );
    let flags = ["--timeouts-until-tko", "7", "--route-prefix", "/a/b/", "--config-params", "zone:x"];
    let file = format!("file:{file}");
    let proxy = Proxy::start(&[&["-c", &file, "--listen", "127.0.0.1:0"][..], &flags[..]].concat());
    let mut client = proxy.client();
    assert_eq!(value(&mut client, "options(failures_until_tko)"), "7");
    assert_eq!(value(&mut client, "options(server_timeout_ms)"), "1000");
    assert_eq!(value(&mut client, "options(default_route)"), "/a/b/");
    assert_eq!(value(&mut client, "options").matches("enable_flush_cmd").count(), 1);
    let params = value(&mut client, "global_params");
    for told in ["\"zone\": \"x\"", "\"mcr_opts-failures_until_tko\": \"7\"", "\"default-cluster\": \"b\""] {
        assert!(params.contains(told), "{params}");
    }
    for op in ["lease-get", "metaget", "lease-set", "touch"] {
        assert_eq!(value(&mut client, &format!("route({op},k)")), mock.address());
    }
    assert_eq!(value(&mut client, "verbosity"), "0");
    assert!(value(&mut client, "verbosity(1)").starts_with("ERROR: "));
    assert!(value(&mut client, "get_bucket(k)").starts_with("ERROR: "));
    mock.expect_nothing();
}
