//! Names that are followed: real servers that come, go and move, and a name server that says so, or something else.

use crate::support::dns::{Fault, Record};
use crate::support::{Client, Directory, Dns, Memcached, Mock, Proxy, has_memcached};
use std::fs;

const SRV: &str = "_memcache._tcp.mc.example";

/// A name server, a proxy behind these lines of a pool, and the names of its servers.
fn proxy_of(dns: &Dns, pool: &str) -> Proxy {
    Proxy::with(&format!("{}pools:\n  main: {{{pool}}}\nroute: main\n", dns.resolver()))
}

fn host(n: usize) -> String {
    format!("mc-{n}.mc.example")
}

/// The SRV records of these pods, each on its address.
fn publish(dns: &Dns, pods: &[(usize, &Memcached)]) {
    for (n, pod) in pods {
        let (ip, _) = pod.address().split_once(':').unwrap();
        dns.set_addresses(&host(*n), &[ip]);
    }
    let port = |pod: &Memcached| pod.address().rsplit(':').next().unwrap().parse().unwrap();
    let hosts: Vec<(String, u16)> = pods.iter().map(|(n, pod)| (host(*n), port(pod))).collect();
    let targets: Vec<(&str, u16)> = hosts.iter().map(|(host, port)| (host.as_str(), *port)).collect();
    dns.set_targets(SRV, &targets);
}

fn set_all(client: &mut Client, keys: usize) {
    for n in 0..keys {
        client.ask(format!("set key{n} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
}

/// How many of the keys are there.
fn hits(client: &mut Client, keys: usize) -> usize {
    let hit = |client: &mut Client, n| {
        client.send(format!("get key{n}\r\n"));
        !client.lines_to_end().is_empty()
    };
    (0..keys).filter(|n| hit(client, *n)).count()
}

#[test]
fn a_pod_that_returns_elsewhere_costs_its_own_keys_only() {
    if !has_memcached() {
        return;
    }
    const KEYS: usize = 300;
    let dns = Dns::start();
    let first = Memcached::at("127.9.1.1", None);
    let port = first.address().rsplit(':').next().unwrap().to_owned();
    let mut second = Memcached::at("127.9.1.2", Some(&port));
    let third = Memcached::at("127.9.1.3", Some(&port));
    publish(&dns, &[(0, &first), (1, &second), (2, &third)]);
    let proxy = proxy_of(&dns, &format!("srv: {SRV}, on_error: miss, refresh: {{min: 100ms, max: 100ms}}"));
    let mut client = proxy.client();
    set_all(&mut client, KEYS);
    let of_second = usize::try_from(second.stat("curr_items")).unwrap();
    assert!((20..KEYS - 20).contains(&of_second), "{of_second} of {KEYS}");
    let connected = (first.stat("total_connections"), third.stat("total_connections"));
    // killed: it is gone from the names, its keys are missed, all others are where they were
    second.kill();
    publish(&dns, &[(0, &first), (2, &third)]);
    dns.await_asked(SRV, 3);
    assert_eq!(hits(&mut client, KEYS), KEYS - of_second);
    // and back with another address, empty
    let second = Memcached::at("127.9.1.22", Some(&port));
    publish(&dns, &[(0, &first), (1, &second), (2, &third)]);
    client.await_stat("discovery_changes", 1);
    set_all(&mut client, KEYS);
    assert_eq!(hits(&mut client, KEYS), KEYS);
    assert_eq!(usize::try_from(second.stat("curr_items")).unwrap(), of_second, "no key has moved");
    // each question for the numbers is a connection too
    assert_eq!(first.stat("total_connections"), connected.0 + 1);
    assert_eq!(third.stat("total_connections"), connected.1 + 1);
    client.send("stats servers\r\n");
    let servers = client.lines_to_end().join("\n");
    assert!(servers.contains(&format!("127.9.1.22:{port}:ascii")), "{servers}");
    assert_eq!(client.stat("discovery_members"), 3);
}

#[test]
fn from_three_to_sixty_to_none_to_three() {
    let dns = Dns::start();
    let server = Mock::forgetful();
    let port: u16 = server.address().rsplit(':').next().unwrap().parse().unwrap();
    let scale = |count: usize| {
        let hosts: Vec<String> = (0..count).map(host).collect();
        hosts
            .iter()
            .enumerate()
            .for_each(|(n, host)| dns.set_addresses(host, &[&format!("127.9.2.{}", n + 1)]));
        match count {
            0 => dns.remove(SRV),
            _ => dns.set_targets(SRV, &hosts.iter().map(|host| (host.as_str(), port)).collect::<Vec<_>>()),
        }
    };
    scale(3);
    let pool = "on_empty: error, leave_after: 0s, refresh: {min: 100ms, max: 100ms}";
    let proxy = proxy_of(&dns, &format!("srv: {SRV}, {pool}"));
    let mut client = proxy.client();
    assert_eq!(client.stat("discovery_members"), 3);
    for count in [60, 0, 3] {
        scale(count);
        client.await_stat("discovery_members", count as u64);
    }
    assert!(dns.asked_over_tcp() > 0, "sixty do not fit into a datagram");
    assert_eq!(client.stat("discovery_changes"), 3, "one for each change");
}

#[test]
fn every_address_of_a_name_is_a_server() {
    let dns = Dns::start();
    let one = Mock::forgetful();
    let port = one.address().rsplit(':').next().unwrap();
    dns.set_addresses("cache.example", &["127.0.0.1"]);
    let proxy = proxy_of(&dns, &format!("dns: \"cache.example:{port}\", refresh: {{max: 1s}}"));
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    one.expect("get a");
    dns.set_addresses("cache.example", &["127.0.0.1", "127.9.3.1", "127.9.3.2"]);
    client.await_stat("discovery_members:main", 3);
}

#[test]
fn pods_of_a_stateful_set_are_counted() {
    let dns = Dns::start();
    let pod = |n: usize| format!("mc-{n}.svc.ns.svc.cluster.local");
    (0..5).for_each(|n| dns.set_addresses(&pod(n), &[&format!("127.9.4.{}", n + 1)]));
    let set = "statefulset: {name: mc, service: svc, namespace: ns}, leave_after: 0s, refresh: {max: 200ms}";
    let proxy = proxy_of(&dns, set);
    let mut client = proxy.client();
    assert_eq!(client.stat("discovery_members"), 5);
    // one that is restarted does not hide those behind it
    dns.remove(&pod(2));
    dns.await_asked(&pod(2), 3);
    assert_eq!((client.stat("discovery_members"), client.stat("discovery_changes")), (5, 0));
    dns.remove(&pod(4));
    client.await_stat("discovery_members", 4);
    assert_eq!(dns.asked("mc-9.svc.ns.svc.cluster.local"), 0, "no further than needed");
}

#[test]
fn a_host_of_the_list_is_followed() {
    let dns = Dns::start();
    let old = Mock::forgetful();
    let port = old.address().rsplit(':').next().unwrap().to_owned();
    dns.set_addresses("db.example", &["127.0.0.1"]);
    let proxy =
        proxy_of(&dns, &format!("servers: [\"db.example:{port}\"], refresh: {{max: 200ms}}, tko: off"));
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    old.expect("get a");
    dns.set_addresses("db.example", &["127.9.5.1"]);
    client.await_stat("discovery_changes", 1);
    client.ask_line("get b\r\n", "SERVER_ERROR connection error");
    old.expect_nothing();
    // gone is not elsewhere
    dns.remove("db.example");
    dns.await_asked("db.example", 4);
    assert_eq!(client.stat("discovery_changes"), 1);
}

#[test]
fn shuffled_answers_change_nothing() {
    let dns = Dns::start();
    let all: Vec<String> = (1..=20).map(|n| format!("127.9.6.{n}")).collect();
    dns.set_addresses("cache.example", &all.iter().map(String::as_str).collect::<Vec<_>>());
    let proxy = proxy_of(&dns, "dns: cache.example, refresh: {min: 100ms, max: 100ms}");
    let mut client = proxy.client();
    dns.await_asked("cache.example", 20);
    assert_eq!((client.stat("discovery_members"), client.stat("discovery_changes")), (20, 0));
}

#[test]
fn a_dead_resolver_delays_answers_and_not_the_process() {
    let dns = Dns::start();
    let server = Mock::forgetful();
    let port = server.address().rsplit(':').next().unwrap().to_owned();
    dns.set_fault(Fault::Silent);
    dns.set_addresses("cache.example", &["127.0.0.1"]);
    let directory = Directory::new();
    let file = directory.write("resolv.conf", "options timeout:1 attempts:1\n");
    let proxy = Proxy::with(&format!(
        "resolver: {{servers: \"{}\", file: {file}}}\npools: {{main: {{dns: \"cache.example:{port}\"}}}}\n",
        dns.address()
    ));
    let mut client = proxy.client();
    client.ask("get a\r\n", "SERVER_ERROR no server in this pool: main\r\n");
    client.ask("get a b\r\n", "SERVER_ERROR no server in this pool: main\r\n");
    assert_eq!(client.stat("discovery_pools_unknown"), 1);
    dns.set_fault(Fault::None);
    client.await_stat("discovery_members", 1);
    client.ask("get b\r\n", "END\r\n");
    server.expect("get b");
    assert_eq!(client.stat("discovery_pools_unknown"), 0);
}

#[test]
fn a_name_server_that_fails_or_lies_changes_nothing() {
    let dns = Dns::start();
    dns.set_addresses("cache.example", &["127.9.7.1", "127.9.7.2"]);
    let directory = Directory::new();
    let file = directory.write("resolv.conf", "options timeout:1 attempts:1\n");
    let proxy = Proxy::with(&format!(
        "resolver: {{servers: \"{}\", file: {file}}}\npools: {{main: {{dns: cache.example, refresh: {{max: 100ms}}}}}}\n",
        dns.address()
    ));
    let mut client = proxy.client();
    assert_eq!(client.stat("discovery_members"), 2);
    for fault in [
        Fault::ServFail,
        Fault::Refused,
        Fault::WrongId,
        Fault::WrongQuestion,
        Fault::Garbage,
        Fault::Cut,
        Fault::Circle,
        Fault::Silent,
    ] {
        let failures = client.stat("discovery_failures");
        dns.set_fault(fault);
        // a circle of aliases is an answer without addresses: the set is kept too
        let began = std::time::Instant::now();
        while client.stat("discovery_failures") < failures + 1 && fault != Fault::Circle {
            assert!(began.elapsed() < crate::support::PATIENCE, "{fault:?} is not counted");
        }
        dns.set_fault(Fault::None);
        let answers = client.stat("discovery_answers");
        while client.stat("discovery_answers") == answers {
            assert!(began.elapsed() < crate::support::PATIENCE, "not asked again after {fault:?}");
        }
        assert_eq!((client.stat("discovery_members"), client.stat("discovery_changes")), (2, 0), "{fault:?}");
    }
    dns.set_fault(Fault::Truncated);
    let over_tcp = dns.asked_over_tcp();
    dns.await_asked("cache.example", 8);
    assert!(dns.asked_over_tcp() > over_tcp);
    assert_eq!(client.stat("discovery_changes"), 0);
}

#[test]
fn scaled_to_none() {
    for (policy, told) in [
        ("keep", "SERVER_ERROR connection error"),
        ("error", "SERVER_ERROR no server in this pool: main"),
        ("miss", "END"),
    ] {
        let dns = Dns::start();
        dns.set_addresses("cache.example", &["127.9.8.1"]);
        let proxy = proxy_of(
            &dns,
            &format!("dns: cache.example, on_empty: {policy}, tko: off, refresh: {{max: 100ms}}"),
        );
        let mut client = proxy.client();
        dns.remove("cache.example");
        match policy {
            "keep" => dns.await_asked("cache.example", 6),
            _ => client.await_stat("discovery_members", 0),
        }
        for get in ["get a", "get a b"] {
            assert!(client.ask_line(format!("{get}\r\n"), told).starts_with(told));
        }
        if policy != "keep" {
            client.ask_line("set a 0 0 1\r\nx\r\n", "SERVER_ERROR no server in this pool: main");
            client.ask_line("flush_all\r\n", "CLIENT_ERROR");
        }
        assert_eq!(proxy.stderr().matches("no servers any more").count(), usize::from(policy == "keep"));
    }
}

#[test]
fn the_search_list_is_walked_no_further_than_needed() {
    let dns = Dns::start();
    dns.set_addresses("mc.prod.svc.cluster.local", &["127.9.9.1"]);
    dns.set_addresses("mc.prod.wild.example", &["127.9.9.66"]); // a stranger
    let directory = Directory::new();
    let file = directory.write(
        "resolv.conf",
        "search ns.svc.cluster.local svc.cluster.local wild.example\noptions ndots:5 timeout:1 attempts:1\n",
    );
    let resolver = format!("resolver: {{servers: \"{}\", file: {file}}}\n", dns.address());
    let pool = |name: &str| format!("{{dns: {name}, refresh: {{max: 100ms}}}}");
    let proxy = Proxy::with(&format!(
        "{resolver}pools: {{short: {}, whole: {}}}\nroute: short\n",
        pool("mc.prod"),
        pool("mc.prod.svc.cluster.local")
    ));
    let mut client = proxy.client();
    assert_eq!(client.stat("discovery_members"), 2);
    dns.await_asked("mc.prod.svc.cluster.local", 8);
    let names = ["mc.prod.ns.svc.cluster.local", "mc.prod.svc.cluster.local"];
    assert_eq!(dns.names_asked(), names);
    assert!(dns.asked(names[0]) <= 2, "once for A and once for AAAA");
    // scaled to zero: nobody turns to the stranger
    dns.remove("mc.prod.svc.cluster.local");
    dns.await_asked("mc.prod.svc.cluster.local", 8);
    assert_eq!(dns.names_asked(), names);
    // another search list is read when the file has changed
    fs::write(&file, "search wild.example\noptions ndots:5\n").unwrap();
    dns.await_asked("mc.prod.wild.example", 1);
    client.await_stat("discovery_changes:short", 1);
}

#[test]
fn ringway_itself_is_no_server() {
    let dns = Dns::start();
    let directory = Directory::new();
    let listen = crate::support::dead_address();
    let port = listen.rsplit(':').next().unwrap();
    dns.set_addresses("cache.example", &["127.9.10.1", "127.0.0.1", "0.0.0.0", "224.0.0.1"]);
    let yaml = format!(
        "listen: \"0.0.0.0:{port}\"\n{}pools: {{main: {{dns: \"cache.example:{port}\"}}}}\n",
        dns.resolver()
    );
    let file = directory.write("ringway.yaml", &yaml);
    let proxy = Proxy::start(&["run", "-c", &file]);
    let mut client = Client::connect(&listen);
    assert_eq!(client.stat("discovery_members"), 0, "all of 127/8 is this machine");
    let said = proxy.stderr();
    assert!(said.contains(&format!("127.0.0.1:{port} is refused: ringway itself listens there")), "{said}");
    assert!(said.contains(&format!("0.0.0.0:{port} is refused")), "{said}");
}

#[test]
fn a_reload_takes_other_names() {
    let dns = Dns::start();
    let (one, two) = (Mock::forgetful(), Mock::forgetful());
    let ports: Vec<&str> = [&one, &two].iter().map(|m| m.address().rsplit(':').next().unwrap()).collect();
    dns.set_addresses("one.example", &["127.0.0.1"]);
    dns.set("two.example", vec![Record::Cname("one.example".into())]);
    let with =
        |name: &str, port: &str| format!("{}pools: {{main: {{dns: \"{name}:{port}\"}}}}\n", dns.resolver());
    let proxy = Proxy::with(&with("one.example", ports[0]));
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    one.expect("get a");
    proxy.rewrite(&with("two.example", ports[1]));
    client.await_stat("config_reloads", 1);
    client.ask("get b\r\n", "END\r\n");
    two.expect("get b");
    one.expect_nothing();
}
