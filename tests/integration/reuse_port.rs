//! Two processes on one port: the second takes clients once it can serve them, the first leaves, and nobody is refused.

use crate::admin_port::health;
use crate::support::dns::{Dns, Fault};
use crate::support::{Client, Directory, Memcached, PATIENCE, Proxy, has_memcached, http};
use rustix::process::Signal;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

/// The processes that answer on this address, found by connecting until there are so many.
fn pids(address: &str, wanted: usize) -> HashSet<u64> {
    let began = Instant::now();
    let mut pids = HashSet::new();
    while pids.len() < wanted {
        pids.insert(Client::connect(address).stat("pid"));
        assert!(began.elapsed() < PATIENCE, "only {pids:?} answer");
    }
    pids
}

/// Connects, asks and leaves until it is over: how often it was answered. What the kernel resets while a socket is being closed
/// is asked once more.
fn come_and_go(address: &str, is_over: &AtomicBool) -> u64 {
    let mut answered = 0;
    while !is_over.load(Relaxed) {
        let mut client = match Client::try_connect(address) {
            Ok(client) => client,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => continue,
            Err(error) => panic!("{error}"),
        };
        if client.try_send(b"get k\r\n").is_err() {
            continue;
        }
        let whole = b"VALUE k 0 1\r\nv\r\nEND\r\n";
        while client.ahead().len() < whole.len() && matches!(client.try_read_more(), Ok(true)) {}
        if !client.ahead().is_empty() {
            assert_eq!(client.ahead(), whole);
            answered += 1;
        }
    }
    answered
}

#[test]
fn a_second_process_takes_clients_when_it_is_ready_and_the_first_leaves() {
    if !has_memcached() {
        return;
    }
    let (server, dns, directory) = (Memcached::start(), Dns::start(), Directory::new());
    let port = server.address().rsplit(':').next().unwrap();
    dns.set_addresses("cache.example", &["127.0.0.1"]);
    let yaml = |address: &str, admin: &str| {
        format!(
            "listen: [\"{address}\"]\nreuse_port: true\nadmin: unix:{admin}\nworkers: 2\n{}\
             pools: {{main: {{dns: \"cache.example:{port}\"}}}}\n",
            dns.resolver()
        )
    };
    let (of_first, of_second) = (directory.file("first.sock"), directory.file("second.sock"));
    let mut first = Proxy::with(&yaml("127.0.0.1:0", &of_first));
    let address = first.address().to_owned();
    first.client().ask("set k 0 0 1\r\nv\r\n", "STORED\r\n");
    // who does not say that he wants to share it is told
    let (code, said) =
        Proxy::refuses(&format!("listen: [\"{address}\"]\npools: {{main: {{embedded: {{}}}}}}\n"));
    assert!(code != 0 && said.contains("is another ringway or memcached running there"), "{said}");

    dns.set_fault(Fault::ServFail);
    let begun = thread::spawn({
        let yaml = yaml(&address, &of_second);
        move || Proxy::with(&yaml)
    });
    let at = format!("unix:{of_second}");
    let began = Instant::now();
    while health(&["--admin", &at, "--live"]).0 != 0 {
        assert!(began.elapsed() < PATIENCE, "no admin port");
    }
    let (code, said) = health(&["--admin", &at]);
    assert!(code != 0, "ready without servers: {said}");
    for _ in 0..50 {
        assert_eq!(Client::connect(&address).stat("pid"), first.pid() as u64, "not ready, and takes clients");
    }
    dns.set_fault(Fault::None);
    let second = begun.join().unwrap();
    assert_eq!(health(&["--admin", &at]), (0, "ok".to_owned()));
    assert_eq!(pids(&address, 2), HashSet::from([first.pid() as u64, second.pid() as u64]));

    let is_over = AtomicBool::new(false);
    let answered: u64 = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| come_and_go(&address, &is_over))).collect();
        first.signal(Signal::TERM);
        assert_eq!(first.process().exit().code(), Some(0));
        assert_eq!(pids(&address, 1), HashSet::from([second.pid() as u64]));
        is_over.store(true, Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answered > 0);
    assert!(!std::path::Path::new(&of_first).exists(), "its admin socket is still there");
    assert_eq!(health(&["--admin", &at]), (0, "ok".to_owned()));
}

#[test]
fn a_configuration_that_comes_while_it_waits_is_taken_and_waits_too() {
    let (dns, directory) = (Dns::start(), Directory::new());
    let first = Proxy::with("reuse_port: true\npools: {main: {embedded: {}}}\n");
    let address = first.address().to_owned();
    let admin = format!("unix:{}", directory.file("admin.sock"));
    let yaml = |workers: usize, pool: &str| {
        format!(
            "listen: [\"{address}\"]\nreuse_port: true\nadmin: {admin}\nworkers: {workers}\n{}pools: {{main: {{{pool}}}}}\n",
            dns.resolver()
        )
    };
    dns.set_fault(Fault::ServFail);
    let path = directory.write("waits.yaml", &yaml(1, "dns: cache.example"));
    let begun = thread::spawn(move || Proxy::start(&["run", "-c", &path]));
    let began = Instant::now();
    while health(&["--admin", &admin, "--live"]).0 != 0 {
        assert!(began.elapsed() < PATIENCE, "no admin port");
    }
    directory.write("waits.yaml", &yaml(3, "dns: cache.example"));
    assert_eq!(http::ask(&admin, "POST /reload").0, 200);
    for _ in 0..50 {
        assert_eq!(Client::connect(&address).stat("pid"), first.pid() as u64, "not ready, and takes clients");
    }
    // without names there is nothing to wait for
    directory.write("waits.yaml", &yaml(3, "embedded: {}"));
    assert_eq!(http::ask(&admin, "POST /reload").0, 200);
    let second = begun.join().unwrap();
    assert_eq!(http::ask(&admin, "GET /readyz").0, 200);
    assert_eq!(pids(&address, 2), HashSet::from([first.pid() as u64, second.pid() as u64]));
}
