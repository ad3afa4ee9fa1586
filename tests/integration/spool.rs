//! Deletes that a server could not be told of: kept, hidden from readers, delivered when it is back.

use crate::support::dns::Fault;
use crate::support::{
    Client, Directory, Dns, Memcached, Mock, PATIENCE, Proxy, dead_address, has_memcached, pool_of, until,
    usual_answer,
};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

const QUICK: &str = "timeout: 200ms\nconnect_timeout: 200ms\n\
    tko: {timeouts_until_tko: 1, probe_timeout_initial: 5ms, probe_timeout_max: 10ms}";

/// A directory for a spool, as it has to be.
pub(crate) fn spool_directory() -> Directory {
    let directory = Directory::new();
    std::fs::create_dir(directory.file("spool")).unwrap();
    std::fs::set_permissions(directory.file("spool"), std::fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

/// One pool of these servers with a spool there.
pub(crate) fn spooled(servers: &[&str], directory: &Directory, more: &str) -> String {
    format!("spool: {{dir: {}{more}}}\n{}", directory.file("spool"), pool_of(servers, QUICK))
}

/// From then on nothing is sent to the server of this key, not even to lie in the buffers of one that stands still.
fn await_knocked_out(client: &mut Client, key: &str) {
    client.ask_line(format!("get {key}\r\n"), "SERVER_ERROR");
    assert_eq!(client.stat("num_soft_tko_count"), 1);
}

fn await_nothing_pending(client: &mut Client) {
    client.await_stat("spool_pending", 0);
}

#[test]
fn a_server_that_stood_still_never_shows_what_was_deleted_meanwhile() {
    if !has_memcached() {
        return;
    }
    const KEYS: usize = 200;
    let (server, directory) = (Memcached::start(), spool_directory());
    let proxy = Proxy::with(&spooled(&[server.address()], &directory, ""));
    let mut client = proxy.client();
    for key in 0..KEYS {
        client.ask(format!("set k{key} 0 0 3\r\nold\r\n"), "STORED\r\n");
    }
    server.signal(Signal::STOP);
    for key in 0..KEYS {
        client.ask(format!("delete k{key}\r\n"), "DELETED\r\n");
    }
    client.ask("delete k0\r\n", "DELETED\r\n");
    assert_eq!((client.stat("spool_written"), client.stat("spool_collapsed")), (KEYS as u64, 1));
    client.ask_line("get other\r\n", "SERVER_ERROR Server unavailable");
    server.signal(Signal::CONT);
    // from the first moment on: whatever is answered, it is not the old value
    let began = Instant::now();
    let all: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
    while client.stat("spool_pending") > 0 {
        for key in &all {
            client.send(format!("get {key}\r\n"));
            let line = client.line();
            assert!(line == "END" || line.starts_with("SERVER_ERROR"), "{key}: {line}");
        }
        client.send(format!("get {}\r\n", all.join(" ")));
        let line = client.line();
        assert!(line == "END" || line.starts_with("SERVER_ERROR"), "{line}");
        assert!(began.elapsed() < PATIENCE, "the deletes are not delivered");
    }
    client.await_stat("spool_replayed", KEYS as u64);
    let mut direct = server.client();
    for key in all {
        direct.ask(format!("get {key}\r\n"), "END\r\n");
    }
    let files = std::fs::read_dir(directory.file("spool")).unwrap().flatten();
    for shelf in files {
        assert_eq!(shelf.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        for file in std::fs::read_dir(shelf.path()).unwrap().flatten() {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        }
    }
}

#[test]
fn a_process_that_is_killed_owes_what_it_has_accepted() {
    if !has_memcached() {
        return;
    }
    for sync in ["none", "100ms", "each"] {
        let (server, directory) = (Memcached::start(), spool_directory());
        server.client().ask("set k 0 0 3\r\nold\r\n", "STORED\r\n");
        let config = spooled(&[server.address()], &directory, &format!(", sync: {sync}"));
        let proxy = Proxy::with(&config);
        server.signal(Signal::STOP);
        proxy.client().ask("delete k\r\n", "DELETED\r\n");
        proxy.signal(Signal::KILL);
        drop(proxy);
        let proxy = Proxy::with(&config);
        let mut client = proxy.client();
        assert_eq!(client.stat("spool_pending"), 1, "sync: {sync}");
        server.signal(Signal::CONT);
        client.ask("get k\r\n", "END\r\n");
        await_nothing_pending(&mut client);
        server.client().ask("get k\r\n", "END\r\n");
    }
}

#[test]
fn what_is_stored_after_the_return_stays() {
    if !has_memcached() {
        return;
    }
    let (server, directory) = (Memcached::start(), spool_directory());
    // deletes that are written now are not delivered within this test
    let proxy = Proxy::with(&spooled(&[server.address()], &directory, ", settle: 0s, replay_rate: 1"));
    let mut client = proxy.client();
    server.signal(Signal::STOP);
    client.ask("delete k\r\n", "DELETED\r\n");
    server.signal(Signal::CONT);
    await_nothing_pending(&mut client);
    client.ask("set k 0 0 3\r\nnew\r\n", "STORED\r\n");
    client.ask("get k\r\n", "VALUE k 0 3\r\nnew\r\nEND\r\n");
}

#[test]
fn a_broadcast_is_kept_for_each_server_by_itself() {
    if !has_memcached() {
        return;
    }
    let (there, directory) = (Memcached::start(), spool_directory());
    let away = dead_address();
    let text = format!(
        "spool: {{dir: {}}}\npools:\n  a: {{servers: [\"{}\"]}}\n  b: {{servers: [\"{away}\"], {}}}\n\
         route: {{all_sync: [a, b]}}\n",
        directory.file("spool"),
        there.address(),
        "connect_timeout: 200ms, tko: {probe_timeout_initial: 5ms, probe_timeout_max: 10ms}"
    );
    let proxy = Proxy::with(&text);
    let mut client = proxy.client();
    there.client().ask("set k 0 0 1\r\n1\r\n", "STORED\r\n");
    client.ask("delete k\r\n", "DELETED\r\n");
    there.client().ask("get k\r\n", "END\r\n");
    client.send("stats spool\r\n");
    let lines = client.lines_to_end();
    let owed: Vec<&String> = lines.iter().filter(|line| line.contains("pending:")).collect();
    assert!(owed.len() == 1 && owed[0].starts_with(&format!("STAT {away} pending:1 oldest_s:")), "{lines:?}");
}

#[test]
fn a_route_that_fails_over_deletes_there_too() {
    if !has_memcached() {
        return;
    }
    let (gutter, directory) = (Memcached::start(), spool_directory());
    let away = dead_address();
    let with = |more: &str| {
        format!(
            "spool: {{dir: {}{more}}}\npools:\n  main: {{servers: [\"{away}\"]}}\n  gutter: {{servers: [\"{}\"]}}\n\
             route: {{failover: [main, gutter]}}\n",
            directory.file("spool"),
            gutter.address()
        )
    };
    for (more, is_there) in [("", false), (", fail_over: false, answer: not_found", true)] {
        let mut proxy = Proxy::with(&with(more));
        let mut client = proxy.client();
        client.ask("set k 0 0 1\r\n1\r\n", "STORED\r\n");
        let answer = if is_there { "NOT_FOUND\r\n" } else { "DELETED\r\n" };
        client.ask("delete k\r\n", answer);
        assert_eq!(client.stat("spool_pending"), 1);
        let value = if is_there { "VALUE k 0 1\r\n1\r\nEND\r\n" } else { "END\r\n" };
        gutter.client().ask("get k\r\n", value);
        proxy.terminate();
    }
}

#[test]
fn without_room_the_client_is_told() {
    let directory = spool_directory();
    let proxy = Proxy::with(&spooled(&[&dead_address()], &directory, ", bytes_max: 1MiB"));
    let mut client = proxy.client();
    let lines: String = (0..9_000).map(|key| format!("delete {}{key}\r\n", "k".repeat(200))).collect();
    let sending = client.send_beside(lines.into_bytes());
    let answers: Vec<String> = (0..9_000).map(|_| client.line()).collect();
    sending.join().unwrap().unwrap();
    let accepted = answers.iter().filter(|line| *line == "DELETED").count();
    let refused = answers.iter().filter(|line| line.starts_with("SERVER_ERROR the spool is full")).count();
    assert!(accepted > 2_000 && refused > 1_000 && accepted + refused == 9_000, "{accepted} {refused}");
    assert_eq!(client.stat("spool_pending"), accepted as u64);
}

#[test]
fn a_server_that_left_its_pool_leaves_its_deletes_to_the_next_owner() {
    if !has_memcached() {
        return;
    }
    let (next, directory) = (Memcached::start(), spool_directory());
    let proxy = Proxy::with(&spooled(&[&dead_address()], &directory, ""));
    let mut client = proxy.client();
    client.ask("delete k\r\n", "DELETED\r\n");
    next.client().ask("set k 0 0 3\r\nold\r\n", "STORED\r\n");
    proxy.rewrite(&spooled(&[next.address()], &directory, ""));
    client.await_stat("spool_moved", 1);
    await_nothing_pending(&mut client);
    next.client().ask("get k\r\n", "END\r\n");
}

#[test]
fn who_has_left_and_is_still_asked_gets_its_deletes_itself() {
    if !has_memcached() {
        return;
    }
    let (servers, directory) = (Memcached::start_several(2), spool_directory());
    let [old, new] = [servers[0].address(), servers[1].address()];
    let with = |servers: &[&str]| {
        let pool = pool_of(servers, &format!("{QUICK}\ntransition: {{for: 10m}}"));
        format!("spool: {{dir: {}, settle: 0s}}\n{pool}", directory.file("spool"))
    };
    let proxy = Proxy::with(&with(&[old, new]));
    let mut client = proxy.client();
    let is_hit = |client: &mut Client, key: &str| {
        client.send(format!("get {key}\r\n"));
        !client.lines_to_end().is_empty()
    };
    let mut keys: Vec<String> = (0..40).map(|key| format!("k{key}")).collect();
    keys.iter().for_each(|key| client.ask(format!("set {key} 0 0 3\r\nold\r\n"), "STORED\r\n"));
    let mut direct = servers[0].client();
    keys.retain(|key| is_hit(&mut direct, key));
    servers[0].signal(Signal::STOP);
    await_knocked_out(&mut client, &keys[0]);
    client.ask(format!("delete {}\r\n", keys[0]), "DELETED\r\n");
    proxy.reload(&mut client, &with(&[new]));
    servers[0].signal(Signal::CONT);
    await_nothing_pending(&mut client);
    until("asked", || is_hit(&mut client, &keys[1]));
    client.ask(format!("get {}\r\n", keys[0]), "END\r\n");
    for server in &servers {
        server.client().ask(format!("get {}\r\n", keys[0]), "END\r\n");
    }
    assert_eq!((client.stat("spool_moved"), client.stat("spool_dropped")), (0, 0));
}

#[test]
fn what_a_server_is_owed_it_is_owed_under_its_name() {
    if !has_memcached() {
        return;
    }
    const NAME: &str = "mc-0.mc.example";
    let (dns, server, directory) = (Dns::start(), Memcached::start(), spool_directory());
    dns.set_addresses(NAME, &["127.0.0.1"]);
    let port = server.address().rsplit(':').next().unwrap();
    let pool =
        pool_of(&[&format!("{NAME}:{port}")], &format!("{QUICK}\nrefresh: {{min: 100ms, max: 100ms}}"));
    let dir = directory.file("spool");
    let yaml = format!("{}spool: {{dir: {dir}, settle: 0s, on_gone: drop}}\n{pool}", dns.resolver());
    let keys = ["first", "second", "imported"];
    keys.iter().for_each(|key| server.client().ask(format!("set {key} 0 0 3\r\nold\r\n"), "STORED\r\n"));
    // a name that leads nowhere yet
    dns.set_fault(Fault::ServFail);
    let proxy = Proxy::with(&yaml);
    let mut client = proxy.client();
    client.ask("delete first\r\n", "DELETED\r\n");
    dns.set_fault(Fault::None);
    client.await_stat("spool_replayed", 1);
    server.client().ask("get first\r\n", "END\r\n");
    // one that led somewhere, and does not at the next start
    server.signal(Signal::STOP);
    await_knocked_out(&mut client, "second");
    client.ask("delete second\r\n", "DELETED\r\n");
    proxy.signal(Signal::KILL);
    drop(proxy);
    let line =
        format!(r#"["AS2.0",1700000000.5,"C",{{"h":"[127.0.0.1]:{port}","k":"imported","p":"main"}}]"#);
    let (code, said) = spool_verb(&["import", &dir, &directory.write("asynclog", &format!("{line}\n"))]);
    assert!(code == 0 && said.contains("1 deletes of 1 files"), "{said}");
    dns.set_fault(Fault::ServFail);
    let proxy = Proxy::with(&yaml);
    let mut client = proxy.client();
    assert_eq!(client.stat("spool_pending"), 2);
    server.signal(Signal::CONT);
    dns.set_fault(Fault::None);
    client.await_stat("spool_replayed", 2);
    for key in keys {
        client.ask(format!("get {key}\r\n"), "END\r\n");
        server.client().ask(format!("get {key}\r\n"), "END\r\n");
    }
    assert_eq!(client.stat("spool_dropped"), 0);
}

#[test]
fn what_clients_may_have_under_way_is_no_bound_for_deliveries() {
    if !has_memcached() {
        return;
    }
    const KEYS: usize = 600; // more than go at once
    let (mut server, directory) = (Memcached::start(), spool_directory());
    // who is dead refuses at once
    let pool = "outstanding_max: 4\ntimeout: 20s\nconnect_timeout: 20s\n\
        tko: {probe_timeout_initial: 5ms, probe_timeout_max: 10ms}";
    let pool = pool_of(&[server.address()], pool);
    let proxy = Proxy::with(&format!("spool: {{dir: {}, settle: 0s}}\n{pool}", directory.file("spool")));
    let mut client = proxy.client();
    server.kill();
    for key in 0..KEYS {
        client.ask(format!("delete k{key}\r\n"), "DELETED\r\n");
    }
    server.restart();
    await_nothing_pending(&mut client);
    client.await_stat("spool_replayed", KEYS as u64);
    assert_eq!(client.stat("spool_replay_errors"), 0);
}

#[test]
fn a_kept_routing_prefix_is_no_part_of_what_says_who_the_next_owner_is() {
    const KEYS: usize = 20;
    let (servers, directory) = ([Mock::forgetful(), Mock::forgetful()], spool_directory());
    let with = |addresses: &[&str]| {
        let servers = addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ");
        format!(
            "spool: {{dir: {}}}\npools:\n  main: {{servers: [{servers}], keep_routing_prefix: true, {}}}\n\
             routes: {{/x/a/: main}}\ndefault_route: /x/a/\n",
            directory.file("spool"),
            "timeout: 20s, connect_timeout: 20s" // who is dead refuses at once
        )
    };
    let proxy = Proxy::with(&with(&[&dead_address()]));
    let mut client = proxy.client();
    let keys: Vec<String> = (0..KEYS).map(|key| format!("/x/a/k{key}")).collect();
    keys.iter().for_each(|key| client.ask(format!("delete {key}\r\n"), "DELETED\r\n"));
    proxy.rewrite(&with(&[servers[0].address(), servers[1].address()]));
    client.await_stat("spool_moved", KEYS as u64);
    await_nothing_pending(&mut client);
    // who was told of a delete is who is asked for the key
    let told = |server: &Mock| -> BTreeSet<String> {
        let lines = server.heard_so_far().into_iter();
        lines.filter_map(|line| Some(line.strip_prefix("delete ")?.to_owned())).collect()
    };
    let told = [told(&servers[0]), told(&servers[1])];
    assert!(told.iter().all(|told| !told.is_empty()));
    for key in &keys {
        client.ask(format!("get {key}\r\n"), "END\r\n");
        let get = format!("get {key}");
        let asked = servers.iter().position(|server| server.heard_so_far().contains(&get)).unwrap();
        assert!(told[asked].contains(key), "{key}");
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_told_of_at_once() {
    let directory = spool_directory();
    let config = spooled(&["127.0.0.1:1"], &directory, "");
    let file = directory.write("ringway.yaml", &config);
    let refused = |wanted: &str| {
        let (code, said) = Proxy::refuses(&config);
        assert!(code == 1 && said.contains(wanted), "{code}: {said}");
        let (code, said) = Proxy::ends(&["check", "--strict", &file]);
        assert!(code == 2 && said.contains(wanted), "{code}: {said}");
    };
    let dir = directory.file("spool");
    assert_eq!(Proxy::ends(&["check", "--strict", &file]), (0, String::new()));
    let shelf = Path::new(&dir).join("ringway-0123456789abcdef");
    std::fs::create_dir(&shelf).unwrap();
    let segment = shelf.join("0000000000000001-9f3a5c7e.spool");
    std::fs::write(&segment, newer_header()).unwrap();
    refused("0000000000000001-9f3a5c7e.spool is of a newer version (2); nothing was changed");
    assert_eq!(std::fs::read(&segment).unwrap(), newer_header());
    std::fs::rename(&segment, shelf.join("notes.txt")).unwrap();
    refused("notes.txt is none of the spool's files; nothing was changed");
    std::fs::remove_dir_all(&shelf).unwrap();
    std::fs::write(Path::new(&dir).join("notes.txt"), "mine").unwrap();
    refused("`notes.txt` in it is not ours; nothing was changed");
    std::fs::remove_file(Path::new(&dir).join("notes.txt")).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    refused("others may write in it (mode 0777)");
    std::fs::remove_dir(&dir).unwrap();
    refused("there is no such directory");
    // it may be there on another machine
    let (code, said) = Proxy::ends(&["check", &file]);
    assert!(code == 0 && said.starts_with("warning: spool: "), "{code}: {said}");
    assert!(!Path::new(&dir).exists());
}

/// A segment's, as a later version would write it.
fn newer_header() -> Vec<u8> {
    let mut header = [b"RWSPOOL\n", &2_u16.to_le_bytes()[..], &[0; 18]].concat();
    header.extend(crc32fast::hash(&header).to_le_bytes());
    header
}

/// `ringway spool …`: its exit code and what it said on stdout.
pub(crate) fn spool_verb(arguments: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ringway"));
    let output = command.arg("spool").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("no signal ended it"), String::from_utf8(said).unwrap())
}

#[test]
fn a_spool_is_read_checked_exchanged_and_delivered_by_hand() {
    if !has_memcached() {
        return;
    }
    let (mut server, directory) = (Memcached::start(), spool_directory());
    let dir = directory.file("spool");
    let mut proxy = Proxy::with(&spooled(&[server.address()], &directory, ", sync: each"));
    server.kill();
    let mut client = proxy.client();
    for key in ["a", "b", "c"] {
        client.ask(format!("delete {key}\r\n"), "DELETED\r\n");
    }
    // with any byte: `d e` and a line end
    client.ask("md ZCBlDQo= b\r\n", "HD b\r\n");
    let (code, said) = spool_verb(&["list", &dir]);
    assert!(code == 0 && said.contains("in use, 4 pending of 4 deletes"), "{said}");
    assert!(said.contains(&format!("{}  4 pending, oldest ", server.address())), "{said}");
    let (_, said) = spool_verb(&["show", &dir, "--limit", "1"]);
    assert!(
        said.ends_with(&format!(" {} main a\n", server.address())) && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(spool_verb(&["verify", &dir]).0, 0);
    proxy.terminate();
    // out and in again, by both of mcrouter's formats
    for format in ["as1", "as2"] {
        let (other, files) = (spool_directory(), directory.file(format));
        let (code, said) = spool_verb(&["export", &dir, &files, "--format", format]);
        assert!(code == 0 && said.starts_with("4 deletes written"), "{said}");
        let (code, said) = spool_verb(&["import", &other.file("spool"), &files]);
        assert!(code == 0 && said.starts_with("4 deletes of 1 files, 0 lines are none"), "{said}");
        let keys = |dir: &str| {
            let (_, said) = spool_verb(&["show", dir]);
            said.lines().map(|line| line.splitn(4, ' ').last().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&other.file("spool")), ["a", "b", "c", "d e\\r\\n"]);
    }
    let (code, said) = spool_verb(&["replay", &dir]);
    assert!(code == 1 && said.contains("0 delivered, 4 left"), "{said}");
    server.restart();
    server.client().ask("set a 0 0 3\r\nold\r\n", "STORED\r\n");
    let (code, said) = spool_verb(&["replay", &dir]);
    assert!(code == 0 && said.contains("4 delivered, 0 left"), "{said}");
    server.client().ask("get a\r\n", "END\r\n");
    assert_eq!(spool_verb(&["list", &dir]), (0, "nothing is in it\n".to_owned()));
}

#[test]
fn what_is_imported_is_delivered_by_a_ringway_that_runs() {
    if !has_memcached() {
        return;
    }
    let (server, directory) = (Memcached::start(), spool_directory());
    let proxy = Proxy::with(&spooled(&[server.address()], &directory, ", settle: 0s"));
    server.client().ask("set k 0 0 3\r\nold\r\n", "STORED\r\n");
    let (host, port) = server.address().split_once(':').unwrap();
    let line =
        format!("[\"AS1.0\", 1700000000.5, \"C\", [\"{host}\", {port}, \"delete k\\r\\n\"]]\nrubbish\n");
    let file = directory.write("asynclog", &line);
    let (code, said) = spool_verb(&["import", &directory.file("spool"), &file]);
    assert!(code == 1 && said.contains("1 deletes of 1 files, 1 lines are none"), "{said}");
    proxy.client().await_stat("spool_replayed", 1);
    server.client().ask("get k\r\n", "END\r\n");
}

#[test]
fn keys_that_went_elsewhere_meanwhile_are_deleted_at_home_too() {
    if !has_memcached() {
        return;
    }
    for (on_down, delete, deleted) in [
        ("failover", "delete {key}", "DELETED"),
        ("eject", "delete {key}", "DELETED"),
        ("{type: failover, gutter: spare}", "touch {key} -1", "TOUCHED"),
        ("failover, keep_routing_prefix: true", "delete {key}", "DELETED"),
    ] {
        let (servers, directory) = (Memcached::start_several(3), spool_directory());
        let text = format!(
            "spool: {{dir: {}, settle: 0s, negative_exptime: true}}\n\
             pools:\n  main: {{servers: [\"{}\", \"{}\"], on_down: {on_down}, \
             timeout: 200ms, tko: {{timeouts_until_tko: 1, probe_timeout_initial: 5ms, probe_timeout_max: 10ms}}}}\n  \
             spare: {{servers: [\"{}\"]}}\nroute: {{all_sync: [main]}}\n",
            directory.file("spool"),
            servers[0].address(),
            servers[1].address(),
            servers[2].address(),
        );
        let proxy = Proxy::with(&text);
        let mut client = proxy.client();
        let keys: Vec<String> = (0..20).map(|key| format!("k{key}")).collect();
        let all = |client: &mut Client| {
            keys.iter().for_each(|key| client.ask(format!("set {key} 0 0 3\r\nold\r\n"), "STORED\r\n"));
        };
        all(&mut client);
        servers[0].signal(Signal::STOP);
        // finds out that it is out
        while client.stat("num_soft_tko_count") == 0 {
            keys.iter().for_each(|key| {
                client.send(format!("touch {key} 0\r\n"));
                client.line();
            });
        }
        all(&mut client); // at the stand-in
        for key in &keys {
            client.ask(delete.replace("{key}", key) + "\r\n", format!("{deleted}\r\n"));
        }
        let owed = client.stat("spool_pending");
        assert!((1..20).contains(&owed), "{on_down}: {owed}");
        keys.iter().for_each(|key| client.ask(format!("get {key}\r\n"), "END\r\n"));
        servers[0].signal(Signal::CONT);
        await_nothing_pending(&mut client);
        for server in &servers {
            let mut direct = server.client();
            keys.iter().for_each(|key| direct.ask(format!("get {key}\r\n"), "END\r\n"));
        }
    }
}

#[test]
fn what_another_process_has_accepted_is_not_read_and_is_its_own_to_deliver() {
    if !has_memcached() {
        return;
    }
    let (server, directory) = (Memcached::start(), spool_directory());
    server.client().ask("set k 0 0 3\r\nold\r\n", "STORED\r\n");
    let config = |settle: &str| spooled(&[server.address()], &directory, &format!(", settle: {settle}"));
    let before = Proxy::with(&config("1m"));
    server.signal(Signal::STOP);
    before.client().ask("delete k\r\n", "DELETED\r\n");
    let after = Proxy::with(&config("0s"));
    before.client().ask("delete l\r\n", "DELETED\r\n");
    let mut client = after.client();
    client.await_stat("spool_pending", 2);
    server.signal(Signal::CONT);
    client.ask("get k l\r\n", "END\r\n");
    server.client().ask("get k\r\n", "VALUE k 0 3\r\nold\r\nEND\r\n");
    // however it ends, the other one takes it over
    before.signal(Signal::KILL);
    await_nothing_pending(&mut client);
    client.await_stat("spool_replayed", 2);
    server.client().ask("get k\r\n", "END\r\n");
}

#[test]
fn what_has_no_room_at_a_start_keeps_nobody_from_serving() {
    if !has_memcached() {
        return;
    }
    let (mut server, directory) = (Memcached::start(), spool_directory());
    server.kill();
    let config = spooled(&[server.address()], &directory, ", settle: 0s, bytes_max: 1MiB");
    let full = |prefix: &str| {
        let proxy = Proxy::with(&config);
        let mut client = proxy.client();
        let lines: String = (0..9_000).map(|key| format!("delete {}{key}\r\n", prefix.repeat(200))).collect();
        let sending = client.send_beside(lines.into_bytes());
        let accepted = (0..9_000).filter(|_| client.line() == "DELETED").count();
        sending.join().unwrap().unwrap();
        assert!((2_000..8_000).contains(&accepted), "{accepted}");
        (proxy, accepted as u64)
    };
    let (one, other) = (full("a"), full("b"));
    // both at once: neither takes over from the other
    other.0.signal(Signal::STOP);
    one.0.signal(Signal::KILL);
    other.0.signal(Signal::KILL);
    let owed = one.1 + other.1;
    drop((one, other));
    let proxy = Proxy::with(&config);
    let mut client = proxy.client();
    assert_eq!(client.stat("spool_pending"), owed);
    server.restart();
    await_nothing_pending(&mut client);
    // counted a moment after nothing is pending any more
    client.await_more("spool_replayed", owed - 1);
}

#[test]
fn mcrouters_files_are_written_beside_the_spool() {
    for (format, wanted) in [
        ("as1", r#",["127.0.0.1",PORT,"delete k\r\n"]]"#),
        ("as2", r#",{"a":{},"f":"","h":"[127.0.0.1]:PORT","k":"k","p":"main","r":"","s":"ringway"}]"#),
    ] {
        let (directory, away) = (spool_directory(), dead_address());
        let files = directory.file("asynclog");
        let more = format!(", asynclog: {{dir: {files}, format: {format}}}");
        let config = spooled(&[&away], &directory, &more);
        let (code, said) = Proxy::refuses(&config);
        assert!(code == 1 && said.contains("asynclog: there is no such directory"), "{code}: {said}");
        std::fs::create_dir(&files).unwrap();
        let proxy = Proxy::with(&config);
        let mut client = proxy.client();
        client.ask("delete k\r\n", "DELETED\r\n");
        let only =
            |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
        let file = only(&only(Path::new(&files)));
        let line = std::fs::read_to_string(&file).unwrap();
        let port = away.rsplit_once(':').unwrap().1;
        assert!(line.trim_end().ends_with(&wanted.replace("PORT", port)), "{line}");
        // without a place for them the spool is enough
        std::fs::remove_dir_all(&files).unwrap();
        std::fs::write(&files, "").unwrap();
        client.ask("delete l\r\n", "DELETED\r\n");
        assert_eq!((client.stat("spool_pending"), client.stat("spool_asynclog_errors")), (2, 1));
        drop(proxy);
        std::fs::remove_file(&files).unwrap();
        std::fs::create_dir(&files).unwrap();
        let other = spool_directory();
        std::fs::write(Path::new(&files).join("file"), line).unwrap();
        let (code, said) = spool_verb(&["import", &other.file("spool"), &files]);
        assert!(code == 0 && said.starts_with("1 deletes of 1 files"), "{said}");
    }
}

#[test]
fn what_a_server_refuses_holds_up_nobody_else() {
    const BAD: usize = 600; // more than are under way at once
    let server = Mock::start(|peer| {
        while let Some(asked) = peer.request() {
            let is_refused = asked.line.starts_with("delete bad") || asked.line == "delete good";
            // what comes from the spool has a connection of its own
            let is_refused = is_refused && (peer.number == 0 || asked.line != "delete good");
            let answer = match asked.line.as_str() {
                _ if is_refused => "SERVER_ERROR no shard\r\n".into(),
                "get good" => "VALUE good 0 3\r\nnew\r\nEND\r\n".into(),
                _ => usual_answer(&asked),
            };
            peer.say(answer);
        }
    });
    let directory = spool_directory();
    let yaml = format!(
        "workers: 1\nspool: {{dir: {}, settle: 0s}}\n{}",
        directory.file("spool"),
        pool_of(&[server.address()], "")
    );
    let proxy = Proxy::with(&yaml);
    let mut client = proxy.client();
    for key in (0..BAD).map(|key| format!("bad{key}")).chain(["good".into()]) {
        client.ask(format!("delete {key}\r\n"), "DELETED\r\n");
    }
    client.await_stat("spool_pending", BAD as u64);
    client.ask("get good\r\n", "VALUE good 0 3\r\nnew\r\nEND\r\n"); // it is hidden no more
}

#[test]
fn a_delete_that_nobody_waits_for_is_kept_when_the_process_ends() {
    if !has_memcached() {
        return;
    }
    let (servers, directory) = (Memcached::start_several(2), spool_directory());
    // longer than the process has to leave
    let pool = |name: &str, server: &Memcached| {
        format!("  {name}: {{servers: [\"{}\"], timeout: 20s}}\n", server.address())
    };
    let yaml = format!(
        "workers: 1\nspool: {{dir: {}}}\npools:\n{}{}\
         route: {{operation: {{default_policy: {{all_initial: [there, away]}}, operation_policies: {{get: away}}}}}}\n",
        directory.file("spool"),
        pool("there", &servers[0]),
        pool("away", &servers[1])
    );
    let mut proxy = Proxy::with(&yaml);
    let mut client = proxy.client();
    until("copied", || {
        client.ask("set k 0 0 3\r\nold\r\n", "STORED\r\n");
        servers[1].stat("curr_items") > 0
    });
    servers[1].signal(Signal::STOP);
    client.ask("delete k\r\n", "DELETED\r\n");
    // nor is it lost for a client that waits for the same server to the end
    let mut waits = proxy.client();
    waits.send("get k\r\n");
    client.await_stat("server_outstanding", 2);
    assert!(proxy.terminate().success());
    let proxy = Proxy::with(&yaml);
    let mut client = proxy.client();
    assert_eq!(client.stat("spool_pending"), 1);
    servers[1].signal(Signal::CONT);
    await_nothing_pending(&mut client);
    servers[1].client().ask("get k\r\n", "END\r\n");
}
