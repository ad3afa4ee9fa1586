//! A new process takes over: same sockets, same clients, nobody notices. And workers that come and go.

use crate::support::dns::Fault;
use crate::support::process::PATIENCE;
use crate::support::{
    Client, Directory, Dns, Memcached, Mock, Proxy, has_latest, http, pool_of, tool, until,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

const EMBEDDED: &str = "pools: {main: {embedded: {}}}\n";

/// A proxy with a door to its successors, and the path of it.
fn with_door(directory: &Directory, yaml: &str) -> (Proxy, String) {
    let door = directory.file("door");
    (Proxy::with(&format!("hand_over: {door}\n{yaml}")), door)
}

#[test]
fn clients_stay_connected_and_new_ones_find_the_same_port() {
    let server = Mock::forgetful();
    let directory = Directory::new();
    let socket = format!("unix:{}", directory.file("clients"));
    let (mut old, door) = with_door(
        &directory,
        &format!(
            "listen: [\"127.0.0.1:0\", \"{socket}\"]\nadmin: 127.0.0.1:0\nworkers: 2\n{}",
            pool_of(&[server.address()], "")
        ),
    );
    let admin = old.admin();
    let mut clients: Vec<Client> = (0..20).map(|_| old.client()).chain([Client::connect(&socket)]).collect();
    let all = |clients: &mut Vec<Client>| clients.iter_mut().for_each(|c| c.ask("get a\r\n", "END\r\n"));
    all(&mut clients);
    let is_over = Arc::new(AtomicBool::new(false));
    let probing = {
        let (is_over, admin) = (Arc::clone(&is_over), admin.clone());
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(http::ask(&admin, "GET /readyz"), (200, "ok\n".into()));
            }
        })
    };
    let mut new = old.successor(&door, None);
    assert_eq!(new.addresses(), old.addresses());
    assert_eq!(old.process().exit().code(), Some(0), "{}", old.stderr());
    assert!(old.stderr().contains("21 clients have moved"), "{}", old.stderr());
    all(&mut clients);
    clients.extend([new.client(), Client::connect(&socket)]);
    all(&mut clients);
    assert_eq!(new.admin(), admin);
    assert_eq!(http::ask(&admin, "GET /readyz").0, 200);
    assert_eq!(clients[0].stat("curr_connections"), 23);
    // and once more: the door has been handed over too
    let mut third = new.successor(&door, None);
    assert_eq!(new.process().exit().code(), Some(0), "{}", new.stderr());
    all(&mut clients);
    is_over.store(true, Ordering::Relaxed);
    probing.join().expect("no probe is told anything but that all is well");
    assert_eq!(third.terminate().code(), Some(0));
    clients.iter_mut().for_each(Client::expect_closed);
    for path in [&door, &directory.file("clients")] {
        assert!(!std::path::Path::new(path).exists(), "{path} is left");
    }
}

#[test]
fn what_is_under_way_is_answered_before_a_client_moves() {
    let server = Mock::start(|peer| {
        peer.expect("get a");
        peer.wait();
        peer.say("VALUE a 0 3\r\nold\r\nEND\r\n");
        while peer.answer_as_usual() {}
    });
    let directory = Directory::new();
    let yaml = pool_of(&[server.address()], "timeout: 20s");
    let (mut old, door) = with_door(&directory, &format!("drain_timeout: 20s\n{yaml}"));
    let mut client = old.client();
    let mut half = old.client();
    client.send("get a\r\n");
    server.expect("get a");
    half.send("set b 0 0 5\r\nhe");
    let new = old.successor(&door, None);
    // read by neither process yet: it goes along in the socket
    client.send("mn\r\n");
    assert!(old.process().is_running());
    server.go();
    client.expect("VALUE a 0 3\r\nold\r\nEND\r\nMN\r\n");
    // a request that the old process has half read is finished there
    half.send("llo\r\nmn\r\n");
    half.expect("STORED\r\nMN\r\n");
    assert_eq!(old.process().exit().code(), Some(0), "{}", old.stderr());
    assert_eq!(client.stat("pid"), u64::try_from(new.pid()).unwrap());
}

#[test]
fn the_first_sigterm_after_a_hand_over_is_not_the_second() {
    let server = Mock::start(|peer| {
        peer.expect("get a");
        peer.wait();
        peer.say("END\r\n");
        while peer.answer_as_usual() {}
    });
    let directory = Directory::new();
    let yaml = pool_of(&[server.address()], "timeout: 20s");
    let (mut old, door) = with_door(&directory, &format!("drain_timeout: 20s\n{yaml}"));
    let mut client = old.client();
    client.send("get a\r\n");
    server.expect("get a");
    let _new = old.successor(&door, None);
    old.await_stderr("another process serves now");
    old.signal(Signal::TERM);
    old.await_stderr("SIGTERM: leaving already");
    server.go();
    client.expect("END\r\n");
    assert_eq!(old.process().exit().code(), Some(0), "{}", old.stderr());
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let directory = Directory::new();
    let (old, door) = with_door(&directory, EMBEDDED);
    let mut client = old.client();
    client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let wrong = directory.write("wrong.yaml", "pools: 7\n");
    for (arguments, code) in [(["-c", &*wrong], 2), (["--listen", &*taken], 1), (["--admin", &*taken], 1)] {
        let (ended, said) = Proxy::ends(&["run", arguments[0], arguments[1], "--take-over", &door]);
        assert_eq!(ended, code, "{said}");
        for _ in 0..10 {
            old.client().ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
        }
    }
    // changes wait while somebody has the sockets, and are made when that one has failed
    old.rewrite(&format!("hand_over: {door}\nallow_flush: true\n{EMBEDDED}"));
    client.await_stat("config_reloads", 1);
    client.ask("flush_all\r\n", "OK\r\n");
    let (code, said) = Proxy::ends(&["run", "--take-over", &directory.file("nowhere")]);
    assert_eq!(code, 1);
    assert!(said.contains("cannot take over from"), "{said}");
}

#[test]
fn a_successor_waits_until_it_knows_its_servers() {
    let dns = Dns::start();
    let server = Mock::forgetful();
    let port = server.address().rsplit(':').next().unwrap();
    dns.set_addresses("new.example", &["127.0.0.1"]);
    dns.set_fault(Fault::ServFail);
    let directory = Directory::new();
    let (old, door) = with_door(&directory, &pool_of(&[server.address()], ""));
    let mut client = old.client();
    let pool = format!("dns: \"new.example:{port}\", refresh: {{min: 100ms, max: 100ms}}");
    let yaml = format!("{}hand_over: {door}\npools:\n  main: {{{pool}}}\nroute: main\n", dns.resolver());
    let (address, pid) = (old.address(), u64::try_from(old.pid()).unwrap());
    let new = thread::scope(|scope| {
        let (dns, client) = (&dns, &mut client);
        scope.spawn(move || {
            dns.await_asked("new.example", 2);
            for _ in 0..10 {
                client.ask("get a\r\n", "END\r\n");
                let mut another = Client::connect(address);
                another.ask("get a\r\n", "END\r\n");
                assert_eq!(another.stat("pid"), pid, "nobody has taken over");
            }
            dns.set_fault(Fault::None);
        });
        old.successor(&door, Some(&yaml))
    });
    client.ask("get a\r\n", "END\r\n");
    client.await_stat("pid", u64::try_from(new.pid()).unwrap());
    new.client().ask("get a\r\n", "END\r\n");
}

/// A successor with sockets of all kinds, which has them before its name server answers and serves afterwards.
struct Late {
    directory: Directory,
    dns: Dns,
    server: Mock,
}

impl Late {
    fn new() -> Self {
        let dns = Dns::start();
        dns.set_addresses("new.example", &["127.0.0.1"]);
        dns.set_fault(Fault::ServFail);
        Self { directory: Directory::new(), dns, server: Mock::forgetful() }
    }

    /// What the configurations of both processes have.
    fn top(&self) -> String {
        let [door, clients, admin] = ["door", "clients", "admin"].map(|name| self.directory.file(name));
        format!(
            "hand_over: {door}\nlisten: [\"127.0.0.1:0\", \"unix:{clients}\"]\nadmin: unix:{admin}\ndrain_timeout: 20s\n"
        )
    }

    /// A process that is to be taken over, in front of this server.
    fn old(&self, server: &Mock) -> Proxy {
        Proxy::with(&format!("{}{}", self.top(), pool_of(&[server.address()], "timeout: 20s")))
    }

    /// Takes over from this one. `meanwhile`: what happens while the successor waits for names.
    fn take_over(&self, old: &Proxy, meanwhile: impl FnOnce(Pid) + Send) -> Proxy {
        let port = self.server.address().rsplit(':').next().unwrap();
        let pool = format!("dns: \"new.example:{port}\", refresh: {{min: 100ms, max: 100ms}}");
        let yaml = format!("{}{}pools:\n  main: {{{pool}}}\nroute: main\n", self.dns.resolver(), self.top());
        let (dns, pid) = (&self.dns, Pid::from_raw(old.pid()).unwrap());
        thread::scope(|scope| {
            scope.spawn(move || {
                dns.await_asked("new.example", 2);
                meanwhile(pid);
                dns.set_fault(Fault::None);
            });
            old.successor(&self.directory.file("door"), Some(&yaml))
        })
    }

    /// Whoever took over is there wherever clients, probes and successors come, and leaves nothing behind.
    fn expect_whole(&self, mut new: Proxy) {
        let paths = ["door", "clients", "admin"].map(|name| self.directory.file(name));
        let look = |new: &Proxy| {
            for address in [new.address(), &format!("unix:{}", paths[1])] {
                let mut client = Client::connect(address);
                client.await_stat("discovery_members", 1);
                client.ask("get a\r\n", "END\r\n");
                assert_eq!(client.stat("pid"), u64::try_from(new.pid()).unwrap());
            }
            assert_eq!(http::ask(&format!("unix:{}", paths[2]), "GET /readyz"), (200, "ok\n".into()));
        };
        look(&new);
        let mut next = self.take_over(&new, |_| ());
        assert_eq!(new.process().exit().code(), Some(0), "{}", new.stderr());
        look(&next);
        assert_eq!(next.terminate().code(), Some(0));
        for path in &paths {
            assert!(!std::path::Path::new(path).exists(), "{path} is left");
        }
    }
}

fn end(pid: Pid, signal: Signal) {
    kill_process(pid, signal).unwrap();
    until("gone", || test_kill_process(pid).is_err());
}

#[test]
fn who_is_told_to_leave_while_a_successor_waits_leaves_it_all_that_it_needs() {
    let late = Late::new();
    let old = late.old(&late.server);
    let new = late.take_over(&old, |pid| end(pid, Signal::TERM));
    late.expect_whole(new);
}

#[test]
fn a_successor_that_serves_while_the_one_before_drains_has_all_that_it_needs() {
    let slow = Mock::start(|peer| {
        peer.expect("get a");
        peer.wait();
        peer.say("VALUE a 0 3\r\nold\r\nEND\r\n");
        while peer.answer_as_usual() {}
    });
    let late = Late::new();
    let mut old = late.old(&slow);
    let mut client = old.client();
    client.send("get a\r\n");
    slow.expect("get a");
    let admin = format!("unix:{}", late.directory.file("admin"));
    let new = late.take_over(&old, |pid| {
        kill_process(pid, Signal::TERM).unwrap();
        until("draining", || http::ask(&admin, "GET /readyz") == (503, "draining\n".into()));
    });
    assert!(old.process().is_running(), "{}", old.stderr());
    slow.go();
    client.expect("VALUE a 0 3\r\nold\r\nEND\r\n");
    assert_eq!(old.process().exit().code(), Some(0), "{}", old.stderr());
    late.expect_whole(new);
}

#[test]
fn paths_that_went_with_the_one_before_are_made_anew() {
    let late = Late::new();
    let old = late.old(&late.server);
    let paths = ["door", "clients", "admin"].map(|name| late.directory.file(name));
    let new = late.take_over(&old, |pid| {
        paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        end(pid, Signal::KILL);
    });
    late.expect_whole(new);
}

#[test]
fn other_numbers_of_workers_on_both_sides() {
    let directory = Directory::new();
    let server = Mock::forgetful();
    let yaml = |workers: u32| {
        let pool = pool_of(&[server.address()], "");
        format!("hand_over: {}\nworkers: {workers}\n{pool}", directory.file("door"))
    };
    let mut proxy = Proxy::with(&yaml(4));
    let door = directory.file("door");
    for workers in [1, 3, 2] {
        let mut clients: Vec<Client> = (0..30).map(|_| proxy.client()).collect();
        clients.iter_mut().for_each(|client| client.ask("get a\r\n", "END\r\n"));
        let mut next = proxy.successor(&door, Some(&yaml(workers)));
        assert_eq!(proxy.process().exit().code(), Some(0), "{}", proxy.stderr());
        // every queue has somebody who accepts from it
        clients.extend((0..60).map(|_| next.client()));
        clients.iter_mut().for_each(|client| client.ask("get a\r\n", "END\r\n"));
        assert_eq!(next.client().stat("threads"), u64::from(workers));
        assert!(next.process().is_running());
        proxy = next;
    }
}

#[test]
fn sigusr2_starts_a_successor() {
    let directory = Directory::new();
    let (mut old, _) = with_door(&directory, EMBEDDED);
    let mut client = old.client();
    let first = client.stat("pid");
    assert_eq!(first, u64::try_from(old.pid()).unwrap());
    let mut pids = vec![first];
    for _ in 0..2 {
        let now = Pid::from_raw(i32::try_from(*pids.last().unwrap()).unwrap()).unwrap();
        kill_process(now, Signal::USR2).unwrap();
        let began = Instant::now();
        let pid = loop {
            let pid = client.stat("pid");
            if !pids.contains(&pid) {
                break pid;
            }
            assert!(began.elapsed() < PATIENCE, "nobody has taken over: {}", old.stderr());
        };
        pids.push(pid);
        old.client().ask("mn\r\n", "MN\r\n");
    }
    let last = Pid::from_raw(i32::try_from(pids[2]).unwrap()).unwrap();
    kill_process(last, Signal::TERM).unwrap();
    client.expect_closed();
    assert_eq!(old.process().exit().code(), Some(0), "{}", old.stderr());
}

#[test]
fn sigusr2_whose_program_fails_is_harmless() {
    let directory = Directory::new();
    let (old, _) = with_door(&directory, EMBEDDED);
    old.rewrite("pools: 7\n");
    old.signal(Signal::USR2);
    old.await_stderr("this one serves on");
    old.client().ask("get a\r\n", "END\r\n");
    let without = Proxy::embedded();
    without.signal(Signal::USR2);
    without.await_stderr("without `hand_over`");
}

#[test]
fn strangers_at_the_door_are_sent_away() {
    if !tool("python3", crate::support::on_path("python3")) {
        return;
    }
    let directory = Directory::new();
    let (old, door) = with_door(&directory, EMBEDDED);
    let knock = |script: &str| {
        let script = format!(
            "import os, socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\nd = '{door}'\n{script}\n"
        );
        let run = Command::new("python3").args(["-c", &script]).stderr(Stdio::inherit()).output().unwrap();
        assert!(run.status.success());
        String::from_utf8(run.stdout).unwrap().trim().to_owned()
    };
    let says = |packet: &str| {
        knock(&format!("s.connect(d); s.send({packet}); print([s.recv(99) for _ in range(2)])"))
    };
    assert_eq!(says("b'get a\\r\\n'"), "[b'', b'']");
    assert_eq!(says("b'take-over'"), "[b'format\\x001', b'']");
    assert_eq!(says("b'take-over\\x007\\x006'"), "[b'format\\x001', b'']");
    old.await_stderr("it speaks format 7, 6 and not 1");
    // gets the sockets, and never serves
    knock(
        "s.connect(d); s.send(b'take-over\\x001'); s.settimeout(0.5)\ntry:\n while s.recv(99): pass\nexcept TimeoutError: pass",
    );
    old.await_stderr("it has ended before it served");
    if rustix::process::geteuid().is_root() {
        // the file's mode is one wall, and the kernel's word another
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&door).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&door, PermissionsExt::from_mode(0o777)).unwrap();
        std::fs::set_permissions(directory.file("."), PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(knock("os.setuid(65534); s.connect(d); print(s.recv(99))"), "b''");
        old.await_stderr("it runs as user 65534, not as 0");
        // and a door of somebody else is not entered
        let theirs = directory.file("theirs");
        let mut server = Command::new("python3")
            .args(["-c", &format!(
                "import os, socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.bind('{theirs}')\n\
                 os.chmod('{theirs}', 0o777); os.setuid(65534); s.listen(1); print('listens', flush=True)\n\
                 c = s.accept()[0]; print(c.recv(99))"
            )])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = std::io::BufReader::new(server.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut String::new()).unwrap();
        let (code, said) = Proxy::ends(&["run", "--listen", "127.0.0.1:0", "--take-over", &theirs]);
        assert!(code == 1 && said.contains("it runs as user 65534"), "{said}");
        server.wait().unwrap();
    }
    old.client().ask("get a\r\n", "END\r\n");
}

#[test]
fn workers_come_and_go_without_a_client_noticing() {
    let server = Mock::forgetful();
    let yaml = |workers: u32| format!("workers: {workers}\n{}", pool_of(&[server.address()], ""));
    let proxy = Proxy::with(&yaml(2));
    let mut clients: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
    let mut watching = proxy.client();
    for (reloads, workers) in [4, 1, 3, 2, 3].into_iter().enumerate() {
        proxy.rewrite(&yaml(workers));
        watching.await_stat("config_reloads", reloads as u64 + 1);
        assert_eq!(watching.stat("threads"), u64::from(workers));
        clients.push(proxy.client());
        clients.iter_mut().for_each(|client| client.ask("get a\r\n", "END\r\n"));
        if workers == 1 {
            // what a worker that is gone was connected to is closed, and no longer counted
            watching.await_stat("server_connections", 1);
        }
    }
    assert_eq!(watching.stat("curr_connections"), 46);
}

#[test]
fn nobody_notices_ten_hand_overs_and_a_hundred_changes() {
    if !has_latest() {
        return;
    }
    const HAND_OVERS: u64 = 10;
    const CHANGES: u64 = 10;
    let servers = Memcached::start_several(4);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let directory = Directory::new();
    let door = directory.file("door");
    let top = |workers: u64| format!("hand_over: {door}\ndrain_timeout: 30s\nworkers: {workers}\n");
    let terms = "connect_timeout: 5s\ntimeout: 20s";
    let all = |workers| top(workers) + &pool_of(&addresses, terms);
    let fewer = |workers| top(workers) + &pool_of(&addresses[..3], terms);
    let mut proxy = Proxy::with(&all(2));
    let address = proxy.address().to_owned();
    let (is_over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let (is_over, rounds, address) = (&is_over, &rounds, &address);
        // half of them connect anew again and again
        let load = move |name: usize| {
            let mut client = Client::connect(address);
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                client.ask_round(name, count);
                count += 1;
                rounds.fetch_add(1, Ordering::Relaxed);
                if name < 4 && count % 20 == 0 {
                    client = Client::connect(address);
                }
            }
        };
        let clients: Vec<_> = (0..8).map(|name| scope.spawn(move || load(name))).collect();
        let mut wanted = 0;
        let mut await_load = || {
            wanted = wanted.max(rounds.load(Ordering::Relaxed)) + 10;
            while rounds.load(Ordering::Relaxed) < wanted && !clients.iter().any(|c| c.is_finished()) {
                thread::yield_now();
            }
        };
        for hand_over in 0..HAND_OVERS {
            let mut watching = proxy.client();
            for change in 1..=CHANGES {
                proxy.rewrite(&if change % 2 == 0 { all(1 + change % 3) } else { fewer(1 + change % 3) });
                watching.await_stat("config_reloads", change);
                await_load();
            }
            assert_eq!(watching.stat("config_failures") + watching.stat("desync_detected"), 0);
            drop(watching);
            let next = proxy.successor(&door, Some(&all(1 + hand_over % 3)));
            assert_eq!(proxy.process().exit().code(), Some(0), "{}", proxy.stderr());
            assert!(!proxy.stderr().contains("drain_timeout is over"), "{}", proxy.stderr());
            proxy = next;
            await_load();
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("no client met an error");
        }
    });
}
