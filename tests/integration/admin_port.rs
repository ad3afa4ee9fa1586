//! The admin port: probes, a reload that is asked for, strangers that mean no good; and `ringway health`, which asks it.

use crate::support::dns::Fault;
use crate::support::{Client, Dns, Mock, Proxy, http, pool_of, until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

const EMBEDDED: &str = "pools: {main: {embedded: {}}}\n";

/// `ringway health`: its exit code and its one line.
pub(crate) fn health(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringway")).arg("health").args(arguments).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    (output.status.code().unwrap(), said.trim_end().to_owned())
}

#[test]
fn probes_are_answered() {
    let proxy = Proxy::with(&format!("admin: 127.0.0.1:0\nworkers: 2\n{EMBEDDED}"));
    let admin = proxy.admin();
    for path in ["/livez", "/readyz", "/readyz?verbose"] {
        assert_eq!(http::ask(&admin, &format!("GET {path}")), (200, "ok\n".into()), "{path}");
    }
    assert_eq!(http::ask(&admin, "HEAD /livez"), (200, String::new()));
    for (request, status) in [
        ("GET /", 404),
        ("GET /metrics", 404),
        ("POST /livez", 405),
        ("GET /reload", 405),
        ("DELETE /reload", 405),
        ("GET /%2e%2e/etc/passwd", 404),
    ] {
        assert_eq!(http::ask(&admin, request).0, status, "{request}");
    }
}

#[test]
fn servers_that_are_away_change_nothing_about_it() {
    let yaml = pool_of(&[&crate::support::dead_address()], "");
    let proxy = Proxy::with(&format!("admin: 127.0.0.1:0\n{yaml}"));
    proxy.client().ask_line("get a\r\n", "SERVER_ERROR");
    assert_eq!(http::ask(&proxy.admin(), "GET /livez").0, 200);
    assert_eq!(http::ask(&proxy.admin(), "GET /readyz").0, 200);
}

#[test]
fn a_reload_that_is_asked_for_is_answered_with_what_became_of_it() {
    let with = |more: &str| format!("admin: 127.0.0.1:0\n{more}{EMBEDDED}");
    let proxy = Proxy::with(&with(""));
    let admin = proxy.admin();
    let same = (200, "the configuration is the same as before\n".to_owned());
    assert_eq!(http::ask(&admin, "POST /reload"), same);
    proxy.rewrite(&with("colour: red\nlimits: {clients_max: none}\n"));
    let (status, faults) = http::ask(&admin, "POST /reload");
    assert_eq!(status, 422);
    assert!(faults.contains("`colour`") && faults.contains("clients_max"), "all of them: {faults}");
    proxy.rewrite(&with("allow_flush: true\n"));
    let (status, said) = http::ask(&admin, "POST /reload");
    // the file is watched too, and whoever comes second finds nothing new
    assert!(status == 200 && (said.contains("serves") || said.contains("same")), "{status} {said}");
    proxy.client().ask("flush_all\r\n", "OK\r\n");
    // from a page in a browser on this machine
    assert_eq!(http::ask(&admin, "POST /reload HTTP/1.1\r\norigin: http://x\r\nx:").0, 403);
}

#[test]
fn however_many_ask_for_a_reload_few_are_made_and_to_leave_goes_first() {
    const ASKING_COUNT: usize = 40;
    let (dns, taken) = (Dns::start(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    dns.set_fault(Fault::Silent);
    let mut proxy = Proxy::with(&format!("admin: 127.0.0.1:0\n{EMBEDDED}"));
    let admin = proxy.admin();
    // it takes a second, for the names, and then somebody else has one of the addresses
    proxy.rewrite(&format!(
        "listen: [\"127.0.0.1:0\", \"{}\"]\nadmin: 127.0.0.1:0\n{}pools: {{main: {{dns: nobody.example}}}}\n",
        taken.local_addr().unwrap(),
        dns.resolver()
    ));
    let ask = || -> Vec<TcpStream> {
        let ask_once = |_| {
            let mut stream = TcpStream::connect(&admin).unwrap();
            stream.write_all(b"POST /reload HTTP/1.1\r\nhost: ringway\r\n\r\n").unwrap();
            stream
        };
        (0..ASKING_COUNT).map(ask_once).collect()
    };
    // who is not answered within ten seconds is closed
    for mut stream in ask() {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("cannot listen on"), "{answer:?}");
    }
    let (_asking, began) = (ask(), Instant::now());
    assert_eq!(proxy.terminate().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn it_becomes_wider_on_the_same_port() {
    let with = |admin: &str| format!("admin: {admin}\n{EMBEDDED}");
    let narrow = crate::support::dead_address();
    let port = narrow.rsplit(':').next().unwrap();
    let proxy = Proxy::with(&with(&narrow));
    proxy.reload(&mut proxy.client(), &with(&format!("0.0.0.0:{port}")));
    assert_eq!(http::ask(&format!("127.0.0.2:{port}"), "GET /readyz").0, 200);
    // the socket of before resets who comes while it is being closed
    until("answered", || http::try_ask(&narrow, "GET /readyz").is_ok());
}

#[test]
fn it_comes_goes_and_moves_with_the_configuration() {
    let with = |more: &str| format!("{more}{EMBEDDED}");
    let free = crate::support::dead_address();
    let proxy = Proxy::with(&with(""));
    let mut client = proxy.client();
    proxy.rewrite(&with(&format!("admin: {free}\n")));
    client.await_stat("config_reloads", 1);
    assert_eq!(http::ask(&free, "GET /readyz").0, 200);
    // a port that somebody else has: nothing changes
    proxy.rewrite(&with(&format!("admin: {}\nallow_flush: true\n", proxy.address())));
    client.await_stat("config_failures", 1);
    assert_eq!(http::ask(&free, "GET /readyz").0, 200);
    proxy.rewrite(&with("strict: true\n"));
    client.await_stat("config_reloads", 2);
    while http::try_ask(&free, "GET /readyz").is_ok() {}
}

#[test]
fn a_port_in_use_is_told_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = Proxy::ends(&["run", "--listen", "127.0.0.1:0", "--admin", &address]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&address), "{said}");
}

#[test]
fn strangers_that_hold_on_keep_no_probe_out() {
    let proxy = Proxy::with(&format!("admin: 127.0.0.1:0\n{EMBEDDED}"));
    let admin = proxy.admin();
    let slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(&admin).unwrap();
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nx: "); // the oldest ones are closed meanwhile
            stream
        })
        .collect();
    assert_eq!(http::ask(&admin, "GET /livez").0, 200);
    drop(slow);
    for hostile in [
        "\0\0\0\0".to_owned(),
        "get a\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000)),
        format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000)),
        "POST /reload HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n".to_owned(),
        "GET http:// HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(&admin).unwrap();
        let _ = stream.write_all(hostile.as_bytes()); // may be closed before it has taken all
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert_eq!(http::ask(&admin, "GET /livez").0, 200);
    }
}

#[test]
fn it_says_so_when_it_drains_and_serves_on_for_a_while() {
    let mut proxy = Proxy::with(&format!("admin: 127.0.0.1:0\ndrain_delay: 1h\n{EMBEDDED}"));
    let admin = proxy.admin();
    let mut client = proxy.client();
    client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    proxy.signal(Signal::TERM);
    while http::ask(&admin, "GET /readyz") != (503, "draining\n".into()) {}
    assert_eq!(http::ask(&admin, "GET /livez").0, 200);
    assert_eq!(health(&["--admin", &admin]), (1, format!("error: {admin}: draining")));
    client.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    proxy.client().ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    // a second signal ends it at once; the same wish within 20 ms is no second one
    let code = loop {
        proxy.signal(Signal::TERM);
        if let Some(status) = proxy.process().exit_within(Duration::from_millis(30)) {
            break status.code();
        }
    };
    assert_eq!(code, Some(1));
}

#[test]
fn after_the_delay_it_leaves() {
    let mut proxy = Proxy::with(&format!("drain_delay: 300ms\n{EMBEDDED}"));
    let mut clients: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    let began = Instant::now();
    assert_eq!(proxy.terminate().code(), Some(0), "{}", proxy.stderr());
    assert!(began.elapsed() >= Duration::from_millis(300));
    clients.iter_mut().for_each(Client::expect_closed);
}

#[test]
fn health_asks_the_admin_port_or_a_listener() {
    let server = Mock::forgetful();
    let yaml = pool_of(&[server.address()], "");
    let proxy = Proxy::with(&format!("admin: 127.0.0.1:0\n{yaml}"));
    let admin = proxy.admin();
    assert_eq!(health(&["--admin", &admin]), (0, "ok".into()));
    assert_eq!(health(&["--admin", &admin, "--live"]), (0, "ok".into()));
    assert_eq!(health(&[proxy.address()]), (0, "ok".into()));
    let wrong = health(&["--admin", proxy.address()]);
    assert_eq!(wrong, (1, format!("error: {}: no ringway's admin port", proxy.address())));
    // a file that is wrong serves no longer, but still says where
    let directory = crate::support::Directory::new();
    let file = directory.write("r.yaml", &format!("admin: {admin}\ncolour: red\npools: 7\n"));
    assert_eq!(health(&["-c", &file]), (0, "ok".into()));
    let file = directory.write("r.yaml", &format!("listen: {}\npools: 7\n", proxy.address()));
    assert_eq!(health(&["-c", &file, "--live"]), (0, "ok".into()));
    let file = directory.write("r.yaml", "a: [\n");
    assert_eq!(health(&["-c", &file]).0, 1);
    let (code, said) = health(&["127.0.0.1:1"]);
    assert!(code == 1 && said.contains("refused"), "{said}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = listener.local_addr().unwrap().to_string();
    let said = health(&[&mute, "--timeout-ms", "100"]);
    assert_eq!(said, (1, format!("error: {mute} does not answer")));
}
