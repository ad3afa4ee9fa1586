//! Every delete that was acknowledged stands in the feed, and whoever follows it deletes the same.

use crate::spool::{spool_directory, spool_verb};
use crate::support::process::Process;
use crate::support::{Client, Directory, Memcached, PATIENCE, Proxy, dead_address, has_memcached, pool_of};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// One pool of these servers, with a spool and a feed there.
pub(crate) fn fed(servers: &[&str], directory: &Directory, more: &str) -> String {
    format!(
        "spool: {{dir: {}, feed: {{file: {}{more}}}}}\n{}",
        directory.file("spool"),
        directory.file("feed"),
        pool_of(servers, "timeout: 2s\nconnect_timeout: 2s")
    )
}

/// Sends deletes of `PREFIX0` … and reads their answers.
fn delete_all(client: &mut Client, prefix: &str, count: usize) {
    let lines: String = (0..count).map(|key| format!("delete {prefix}{key}\r\n")).collect();
    let sending = client.send_beside(lines.into_bytes());
    for _ in 0..count {
        let line = client.line();
        assert!(line == "DELETED" || line == "NOT_FOUND", "{line}");
    }
    sending.join().unwrap().unwrap();
}

fn set_all(client: &mut Client, prefix: &str, count: usize) {
    let lines: String = (0..count).map(|key| format!("set {prefix}{key} 0 0 3\r\nold\r\n")).collect();
    let sending = client.send_beside(lines.into_bytes());
    (0..count).for_each(|_| client.expect("STORED\r\n"));
    sending.join().unwrap().unwrap();
}

fn follower(arguments: &[&str]) -> Process {
    Process::start(Command::new(env!("CARGO_BIN_EXE_ringway")).args(["spool", "follow"]).args(arguments))
}

fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_was_acknowledged_is_told_and_nothing_else() {
    if !has_memcached() {
        return;
    }
    let (here, there, directory) = (Memcached::start(), Memcached::start(), spool_directory());
    let proxy = Proxy::with(&fed(&[here.address()], &directory, ""));
    let mut client = proxy.client();
    let mut other = there.client();
    for key in ["a", "b", "c", "gone", "cas", "kept"] {
        client.ask(format!("set {key} 0 0 1\r\n1\r\n"), "STORED\r\n");
        other.ask(format!("set {key} 0 0 1\r\n1\r\n"), "STORED\r\n");
    }
    other.ask_line("ms ZCBl 1 b\r\n1\r\n", "HD");
    client.ask("delete a\r\ndelete b noreply\r\nmd c q\r\nmn\r\n", "DELETED\r\nMN\r\n");
    client.ask("delete missing\r\n", "NOT_FOUND\r\n");
    client.ask("md cas C1\r\n", "EX\r\n");
    client.ask("touch kept 0\r\n", "TOUCHED\r\n");
    client.ask_line("md ZCBl b\r\n", "NF");
    client.ask("md gone I T30\r\n", "HD\r\n");
    assert_eq!(client.stat("spool_feed_written"), 6);
    // from now on the spool answers for the server, and the feed has that too
    here.signal(Signal::STOP);
    client.ask("delete spooled\r\n", "DELETED\r\n");
    here.signal(Signal::CONT);
    let (feed, position) = (directory.file("feed"), directory.file("position"));
    let follow = || {
        spool_verb(&["follow", &feed, "--to", there.address(), "--position-file", &position, "--stop-at-end"])
    };
    let (code, said) = follow();
    assert!(code == 0 && said.starts_with("7 told, 0 refused, position "), "{said}");
    assert!(said.trim_end().ends_with(":8"), "{said}");
    for key in ["a", "b", "c", "gone"] {
        other.ask(format!("get {key}\r\n"), "END\r\n");
    }
    other.ask("mg ZCBl b\r\n", "EN\r\n");
    other.ask("get kept cas\r\n", "VALUE kept 0 1\r\n1\r\nVALUE cas 0 1\r\n1\r\nEND\r\n");
    // what was told is not told again
    assert!(follow().1.starts_with("0 told, "));
    client.ask("delete more\r\n", "NOT_FOUND\r\n");
    assert!(follow().1.starts_with("1 told, "));
}

#[test]
fn two_that_follow_each_other_tell_each_delete_once() {
    if !has_memcached() {
        return;
    }
    let (servers, directories) = (Memcached::start_several(2), [spool_directory(), spool_directory()]);
    let proxies = [0, 1].map(|i| Proxy::with(&fed(&[servers[i].address()], &directories[i], "")));
    for (key, plain, told_back) in [("k", false, "0 told"), ("md", true, "1 told")] {
        for server in &servers {
            server.client().ask(format!("set {key} 0 0 3\r\nold\r\n"), "STORED\r\n");
        }
        proxies[0].client().ask(format!("delete {key}\r\n"), "DELETED\r\n");
        let follow = |from: usize, to: usize| {
            let (feed, position) = (directories[from].file("feed"), directories[from].file("position"));
            let to = proxies[to].address();
            let mut arguments =
                vec!["follow", &feed, "--to", to, "--position-file", &position, "--stop-at-end"];
            arguments.extend(plain.then_some("--plain"));
            spool_verb(&arguments).1
        };
        assert!(follow(0, 1).starts_with("1 told"));
        servers[1].client().ask(format!("get {key}\r\n"), "END\r\n");
        let said = follow(1, 0);
        assert!(said.starts_with(told_back), "{key}: {said}");
    }
}

#[test]
fn what_failed_is_not_told() {
    let directory = spool_directory();
    let config =
        fed(&[&dead_address()], &directory, "").replace("    timeout:", "    spool: false\n    timeout:");
    let proxy = Proxy::with(&config);
    proxy.client().ask_line("delete k\r\n", "SERVER_ERROR");
    let (code, said) =
        spool_verb(&["follow", &directory.file("feed"), "--to", &dead_address(), "--stop-at-end"]);
    assert!(code == 0 && said.starts_with("0 told, "), "{said}");
}

#[test]
fn a_follower_that_is_killed_goes_on_where_it_was() {
    if !has_memcached() {
        return;
    }
    const KEYS: usize = 5_000;
    let (here, there, directory) = (Memcached::start(), Memcached::start(), spool_directory());
    // the target is a ringway of its own
    let target = Proxy::before(&[there.address()], "");
    set_all(&mut there.client(), "k", KEYS);
    let proxy = Proxy::with(&fed(&[here.address()], &directory, ""));
    delete_all(&mut proxy.client(), "k", KEYS);
    let (feed, position) = (directory.file("feed"), directory.file("position"));
    let arguments = [&feed, "--to", target.address(), "--position-file", &position];
    let follower = follower(&[&arguments[..], &["--rate", "2000"]].concat());
    await_that("no position was kept", || Path::new(&position).exists());
    follower.signal(Signal::KILL);
    drop(follower);
    let (code, said) = spool_verb(&[&["follow"], &arguments[..], &["--stop-at-end"]].concat());
    let told: usize = said.split(' ').next().unwrap().parse().unwrap();
    assert!(code == 0 && (1..KEYS).contains(&told), "{said}");
    assert_eq!(there.stat("curr_items"), 0, "every delete has come");
}

#[test]
fn a_target_that_is_away_is_waited_for() {
    if !has_memcached() {
        return;
    }
    let (here, mut there, directory) = (Memcached::start(), Memcached::start(), spool_directory());
    let proxy = Proxy::with(&fed(&[here.address()], &directory, ""));
    let mut client = proxy.client();
    there.kill();
    delete_all(&mut client, "k", 1_000);
    let follower = follower(&[&directory.file("feed"), "--to", there.address()]);
    follower.await_stderr(|lines| lines.iter().find(|line| line.contains("trying again")).cloned());
    there.restart();
    follower.await_stderr(|lines| lines.iter().find(|line| line.contains("it answers again")).cloned());
    // and what comes from now on is told as it comes
    there.client().ask("set late 0 0 3\r\nold\r\n", "STORED\r\n");
    client.ask("delete late\r\n", "NOT_FOUND\r\n");
    await_that("not all were told", || there.stat("delete_hits") + there.stat("delete_misses") >= 1_001);
    there.client().ask("get late\r\n", "END\r\n");
}

#[test]
fn a_follower_that_is_too_late_is_told_so() {
    if !has_memcached() {
        return;
    }
    let (here, there, directory) = (Memcached::start(), Memcached::start(), spool_directory());
    let proxy = Proxy::with(&fed(&[here.address()], &directory, ", bytes_max: 1MiB"));
    let mut client = proxy.client();
    client.ask("delete first\r\n", "NOT_FOUND\r\n");
    let (feed, position) = (directory.file("feed"), directory.file("position"));
    let arguments = ["follow", &feed, "--to", there.address(), "--position-file", &position, "--stop-at-end"];
    assert_eq!(spool_verb(&arguments).0, 0);
    let before = std::fs::read_to_string(&position).unwrap();
    delete_all(&mut client, &"k".repeat(200), 9_000);
    let (code, said) = spool_verb(&arguments);
    assert!(
        code == 1 && said.contains("deletes 2 to ") && said.contains("are not in the feed any more"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&position).unwrap(), before);
    assert_eq!(there.stat("delete_misses"), 1, "nothing behind the gap was told");
    // whoever knows what to do about it goes on with what is there, or with what is to come
    std::fs::remove_file(&position).unwrap();
    let (code, said) = spool_verb(&[&arguments[..], &["--from", "now"]].concat());
    assert!(code == 0 && said.starts_with("0 told, ") && said.trim_end().ends_with(":9002"), "{said}");
    client.ask("delete last\r\n", "NOT_FOUND\r\n");
    assert!(spool_verb(&[&arguments[..], &["--from", "oldest"]].concat()).1.starts_with("1 told, "));
    let (code, said) =
        spool_verb(&["follow", &feed, "--to", there.address(), "--from", "oldest", "--stop-at-end"]);
    assert!(code == 0 && said.trim_end().ends_with(":9003"), "{said}");
    let bytes = |path: &str| std::fs::metadata(path).unwrap().len();
    assert!(bytes(&feed) + bytes(&format!("{feed}.1")) <= 1 << 20);
}

#[test]
fn several_processes_write_one_feed_and_one_that_is_killed_leaves_it_whole() {
    if !has_memcached() {
        return;
    }
    let (here, there, directory) = (Memcached::start(), Memcached::start(), spool_directory());
    let config = fed(&[here.address()], &directory, "");
    let (one, other) = (Proxy::with(&config), Proxy::with(&config));
    std::thread::scope(|scope| {
        for (mut client, prefix) in [(one.client(), "a"), (other.client(), "b")] {
            scope.spawn(move || (0..20).for_each(|_| delete_all(&mut client, prefix, 100)));
        }
    });
    one.signal(Signal::KILL);
    drop(one);
    delete_all(&mut Proxy::with(&config).client(), "c", 10);
    let (code, said) =
        spool_verb(&["follow", &directory.file("feed"), "--to", there.address(), "--stop-at-end"]);
    assert!(code == 0 && said.starts_with("4010 told, ") && said.trim_end().ends_with(":4011"), "{said}");
}

#[test]
fn what_is_no_feed_is_refused_at_start_and_by_check() {
    let directory = spool_directory();
    let config = fed(&["127.0.0.1:1"], &directory, "");
    directory.write("feed", "my notes\n");
    let wanted = "this is no feed of ours; nothing was changed";
    let (code, said) = Proxy::refuses(&config);
    assert!(code == 1 && said.contains(wanted), "{code}: {said}");
    let file = directory.write("ringway.yaml", &config);
    let (code, said) = Proxy::ends(&["check", &file]);
    assert!(code == 2 && said.contains(wanted), "{code}: {said}");
    assert_eq!(std::fs::read_to_string(directory.file("feed")).unwrap(), "my notes\n");
}
