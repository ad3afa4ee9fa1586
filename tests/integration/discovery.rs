//! Names that are followed: real servers that come, go and move, and a name server that says so, or something else.

use crate::support::dns::{Fault, Record};
use crate::support::process::Process;
use crate::support::{Client, Directory, Dns, Memcached, Mock, Proxy, has_memcached, on_path, tool};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

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
        "resolver: {{servers: \"{}\", file: {file}}}\npools: {{main: {{dns: cache.example, on_empty: error, refresh: {{max: 100ms}}}}}}\n",
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
        client.await_more("discovery_failures", failures);
        dns.set_fault(Fault::None);
        let answers = client.stat("discovery_answers");
        client.await_more("discovery_answers", answers);
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

/// Whatever the socket is called: it is where it is.
#[test]
fn ringway_itself_is_no_server_on_a_socket_that_it_was_started_with() {
    if !tool("python3", on_path("python3")) {
        return;
    }
    let (program, directory) = (env!("CARGO_BIN_EXE_ringway"), Directory::new());
    let servers = directory.file("servers");
    let yaml = format!("workers: 1\npools: {{main: {{file: {servers}}}}}\n");
    let file = directory.write("ringway.yaml", &yaml);
    for (listen, environment) in [
        ("'--listen', 'fd:3'", ""),
        ("'--workers', '1'", "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))"),
    ] {
        // Python, because Rust cannot hand over a descriptor without `unsafe`.
        let script = format!(
            "import os, socket, sys\n\
             s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(16)\n\
             port = s.getsockname()[1]\n\
             with open('{servers}', 'w') as f: f.write('127.0.0.1:%d\\n127.9.14.1:11211\\n' % port)\n\
             print('bound to', port, file=sys.stderr, flush=True)\n\
             s.fileno() == 3 or os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n\
             {environment}\n\
             os.execv('{program}', ['ringway', 'run', '-c', '{file}', {listen}])\n"
        );
        let process = Process::start(Command::new("python3").args(["-c", &script]));
        let address = process.await_stderr(|lines| {
            let port = lines.iter().find_map(|line| line.strip_prefix("bound to "))?;
            Some(format!("127.0.0.1:{port}"))
        });
        let mut client = Client::connect(&address);
        client.await_stat("discovery_members", 1);
        let refused = format!("{address} is refused: ringway itself listens there");
        process.await_stderr(|lines| lines.iter().any(|line| line.contains(&refused)).then_some(()));
    }
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

#[test]
fn a_reload_that_is_refused_forgets_no_server() {
    let dns = Dns::start();
    let server = Mock::forgetful();
    let port = server.address().rsplit(':').next().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let others = format!(", \"{}\"", taken.local_addr().unwrap());
    let with = |name: &str, listen: &str| {
        let pool = format!("dns: \"{name}:{port}\", refresh: {{max: 100ms}}");
        format!("listen: [\"127.0.0.1:0\"{listen}]\n{}pools: {{main: {{{pool}}}}}\n", dns.resolver())
    };
    dns.set_addresses("one.example", &["127.0.0.1"]);
    let proxy = Proxy::with(&with("one.example", ""));
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    server.expect("get a");
    dns.set_fault(Fault::ServFail);
    proxy.rewrite(&with("two.example", &others));
    client.await_stat("config_failures", 1);
    // whatever is known of names by now is looked at before the file is
    proxy.rewrite(&with("one.example", ""));
    proxy.signal(Signal::HUP);
    proxy.await_stderr("SIGHUP: the configuration is the same as before");
    client.ask("get b\r\n", "END\r\n");
    server.expect("get b");
    // nor is it forgotten that a name which is gone keeps its servers
    dns.remove("one.example");
    dns.set_fault(Fault::None);
    dns.await_asked("one.example", 6);
    client.ask("get c\r\n", "END\r\n");
    server.expect("get c");
    assert_eq!((client.stat("discovery_members"), client.stat("discovery_changes")), (1, 0));
}

#[test]
fn names_are_followed_while_it_has_yet_to_leave() {
    let dns = Dns::start();
    dns.set_addresses("cache.example", &["127.9.16.1"]);
    let pool = "pools: {main: {dns: cache.example, refresh: {max: 100ms}}}";
    let proxy = Proxy::with(&format!("drain_delay: 1h\n{}{pool}\n", dns.resolver()));
    let mut client = proxy.client();
    proxy.signal(Signal::TERM);
    proxy.await_stderr("not ready any more");
    dns.set_addresses("cache.example", &["127.9.16.1", "127.9.16.2"]);
    client.await_stat("discovery_members", 2);
}

#[test]
fn a_file_that_somebody_else_writes() {
    let directory = Directory::new();
    let server = Mock::forgetful();
    let file = directory.write("servers", &format!("# by a script\n{} alpha\n", server.address()));
    let pool = format!("file: {file}, on_empty: error, refresh: {{max: 100ms}}");
    let proxy = Proxy::with(&format!("pools: {{main: {{{pool}}}}}\n"));
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    server.expect("get a");
    let rewrite = |text: &str| {
        let new = directory.write("new", text);
        fs::rename(new, &file).unwrap();
    };
    rewrite(&format!("{} alpha\n127.9.11.1:5 beta 3\n- 127.9.11.2:5\n", server.address()));
    client.await_stat("discovery_members", 3);
    // half written, and then gone: it is told once, and nothing changes
    rewrite("127.9.11.1:5 beta 3\n127.9.1");
    rewrite("127.9.11.1:5 beta 3\n127.9.11.2:");
    fs::remove_file(&file).unwrap();
    let failures = client.stat("discovery_failures");
    while client.stat("discovery_failures") < failures + 2 {}
    assert_eq!(client.stat("discovery_changes"), 1);
    rewrite("# all are gone\n");
    client.await_stat("discovery_members", 0);
}

/// An endpoint that tells the servers, and what it tells.
fn endpoint() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let told = Arc::new(Mutex::new(String::new()));
    let tells = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut stream = stream;
            while let Some(Ok(line)) = lines.next() {
                let told = tells.lock().unwrap().clone();
                let answer = match line.as_str() {
                    "config get cluster" if told.starts_with("CONFIG") => told,
                    "get AmazonElastiCache:cluster" if told.starts_with("VALUE") => told,
                    _ => "ERROR\r\n".to_owned(),
                };
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    (address, told)
}

#[test]
fn an_endpoint_that_tells_the_servers() {
    let dns = Dns::start();
    let server = Mock::forgetful();
    let port: u16 = server.address().rsplit(':').next().unwrap().parse().unwrap();
    let (address, told) = endpoint();
    let tell = |head: &str, version: u32, nodes: &str| {
        let body = format!("{version}\n{nodes}\n");
        *told.lock().unwrap() = format!("{head} 0 {}\r\n{body}\r\nEND\r\n", body.len());
    };
    tell("CONFIG cluster", 7, &format!("n1.example|127.0.0.1|{port}"));
    dns.set_addresses("cfg.example", &["127.0.0.1"]);
    dns.set_addresses("n2.example", &["127.9.12.2"]);
    let endpoint = format!("\"cfg.example:{}\"", address.rsplit(':').next().unwrap());
    let proxy = proxy_of(&dns, &format!("config_endpoint: {endpoint}, refresh: {{max: 200ms}}"));
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    server.expect("get a");
    tell("CONFIG cluster", 8, &format!("n1.example|127.0.0.1|{port} n2.example||11211"));
    client.await_stat("discovery_members", 2);
    // a node that knows an older one, and one that is out of order
    tell("CONFIG cluster", 6, "n3.example|127.9.12.3|11211");
    let answers = client.stat("discovery_answers");
    while client.stat("discovery_answers") < answers + 4 {}
    *told.lock().unwrap() = "CONFIG cluster 0 3\r\nx\n\r\nEND\r\n".to_owned();
    let failures = client.stat("discovery_failures");
    while client.stat("discovery_failures") < failures + 1 {}
    assert_eq!(client.stat("discovery_changes"), 1);
    // the question of old
    tell("VALUE AmazonElastiCache:cluster", 9, &format!("n1.example|127.0.0.1|{port}"));
    client.await_stat("discovery_members", 1);
}

#[test]
fn explain_looks_for_the_servers_and_check_does_not() {
    let dns = Dns::start();
    dns.set_addresses("mc-0.mc.example", &["127.9.13.1"]);
    dns.set_targets(SRV, &[("mc-0.mc.example", 11211)]);
    let directory = Directory::new();
    let yaml = format!("{}pools: {{main: {{srv: {SRV}}}}}\n", dns.resolver());
    let file = directory.write("ringway.yaml", &yaml);
    let told = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringway")).args(arguments).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let checked = told(&["check", &file]);
    assert!(checked.contains("no faults") && checked.contains("known by its name"), "{checked}");
    assert!(dns.names_asked().is_empty(), "{:?}", dns.names_asked());
    let explained = told(&["explain", "key", "-c", &file]);
    assert!(explained.contains("server mc-0.mc.example:11211"), "{explained}");
    dns.set_fault(Fault::ServFail);
    let explained = told(&["explain", "key", "-c", &file]);
    assert!(explained.contains("the servers of `main` were not found"), "{explained}");
}

#[test]
fn plan_fails_when_servers_are_not_found() {
    let dns = Dns::start();
    dns.set_addresses("cache.example", &["127.9.15.1"]);
    let directory = Directory::new();
    let pool = "pools: {main: {dns: cache.example}}\n";
    let followed = directory.write("followed.yaml", &format!("{}{pool}", dns.resolver()));
    let listed = directory.write("listed.yaml", "pools: {main: {servers: [a, b]}}\n");
    let plan = |old: &str, new: &str| {
        let arguments = ["plan", old, new, "--count", "100", "--lost-max", "100%"];
        let output = Command::new(env!("CARGO_BIN_EXE_ringway")).args(arguments).output().unwrap();
        let (out, error) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.code().unwrap(), out, error)
    };
    let (code, out, error) = plan(&followed, &listed);
    assert!(code == 0 && out.starts_with("100 keys"), "{out}{error}");
    dns.set_fault(Fault::ServFail);
    for (old, new) in [(&followed, &listed), (&listed, &followed)] {
        let (code, out, error) = plan(old, new);
        assert!(code == 1 && out.is_empty(), "{code} {out}");
        assert!(error.contains("the servers of `main` were not found"), "{error}");
        assert!(error.contains(&format!("error: servers of {followed} are not known")), "{error}");
    }
}

/// What has no servers yet says so, whatever the route: a delete that is told `NOT_FOUND` by nobody would be lost.
#[test]
fn all_servers_of_a_pool_without_any() {
    let dns = Dns::start();
    for route in ["all_sync", "failover", "all_fastest", "latest", "all_initial"] {
        let pool = "pools: {main: {srv: nobody.example, on_empty: error}}";
        let proxy = Proxy::with(&format!("{}{pool}\nroute: {{{route}: \"Pool|main\"}}\n", dns.resolver()));
        let mut client = proxy.client();
        for request in ["get a", "delete a", "get a b"] {
            client.ask_line(format!("{request}\r\n"), "SERVER_ERROR no server in this pool: main");
        }
    }
}

#[test]
fn a_pool_that_is_empty_stays_what_it_is_beside_one_that_is_followed() {
    let directory = Directory::new();
    let file = directory.write(
        "mc.json",
        r#"{"pools": {"E": {"servers": [], "error_on_empty": false}, "A": {"servers": ["dns+nobody.invalid:9"]}},
            "route": {"type": "PrefixSelectorRoute", "policies": {"a": "PoolRoute|A"}, "wildcard": "PoolRoute|E"}}"#,
    );
    let proxy = Proxy::start(&["-c", &file, "--listen", "127.0.0.1:0"]);
    proxy.client().ask("get k\r\n", "END\r\n");
}
