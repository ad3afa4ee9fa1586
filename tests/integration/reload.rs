//! Another configuration while clients are served: nobody notices but those whose servers change.

use crate::support::{
    Client, Directory, Memcached, Mock, PATIENCE, Proxy, dead_address, has_latest, pool_of, until,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::Signal;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

const EMBEDDED: &str = "pools: {main: {embedded: {}}}\n";

#[test]
fn a_file_that_is_written_serves() {
    let (one, two) = (Mock::forgetful(), Mock::forgetful());
    let proxy = Proxy::before(&[one.address()], "");
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    one.expect("get a");
    proxy.rewrite(&pool_of(&[two.address()], ""));
    client.await_stat("config_reloads", 1);
    client.ask("get b\r\n", "END\r\n");
    two.expect("get b");
    one.expect_nothing();
    // and written over, without a new file
    let text = fs::read_to_string(proxy.config()).unwrap().replace(two.address(), one.address());
    fs::write(proxy.config(), text).unwrap();
    client.await_stat("config_reloads", 2);
    client.ask("get c\r\n", "END\r\n");
    one.expect("get c");
}

#[test]
fn a_directory_that_is_swapped_as_kubernetes_does_it_serves() {
    let (one, two) = (Mock::forgetful(), Mock::forgetful());
    let directory = Directory::new();
    let write = |version: &str, server: &Mock| {
        fs::create_dir(directory.file(version)).unwrap();
        directory.write(&format!("{version}/ringway.yaml"), &pool_of(&[server.address()], ""));
    };
    write("..1", &one);
    symlink("..1", directory.file("..data")).unwrap();
    symlink("..data/ringway.yaml", directory.file("ringway.yaml")).unwrap();
    let file = directory.file("ringway.yaml");
    let proxy = Proxy::start(&["run", "-c", &file, "--listen", "127.0.0.1:0"]);
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    one.expect("get a");
    write("..2", &two);
    symlink("..2", directory.file("..data_tmp")).unwrap();
    fs::rename(directory.file("..data_tmp"), directory.file("..data")).unwrap();
    client.await_stat("config_reloads", 1);
    client.ask("get b\r\n", "END\r\n");
    two.expect("get b");
}

/// A configuration of mcrouter's with one pool, which this says.
fn mcrouters(pool: &str) -> String {
    format!(r#"{{"pools": {{"A": {pool}}}, "route": "PoolRoute|A"}}"#)
}

fn mcrouters_pool(server: &Mock) -> String {
    format!(r#"{{"servers": ["{}"]}}"#, server.address())
}

#[test]
fn an_import_that_goes_together_with_its_file_ends_no_watching() {
    let (one, two, three) = (Mock::forgetful(), Mock::forgetful(), Mock::forgetful());
    let directory = Directory::new();
    let swap = |version: &str, files: &[(&str, String)]| {
        fs::create_dir(directory.file(version)).unwrap();
        for (name, text) in files {
            directory.write(&format!("{version}/{name}"), text);
        }
        symlink(version, directory.file("..data_tmp")).unwrap();
        fs::rename(directory.file("..data_tmp"), directory.file("..data")).unwrap();
    };
    let import = ("mcrouter.json", mcrouters("\"@import(pool.json)\""));
    swap("..1", &[import, ("pool.json", mcrouters_pool(&one))]);
    for name in ["mcrouter.json", "pool.json"] {
        symlink(format!("..data/{name}"), directory.file(name)).unwrap();
    }
    let file = directory.file("mcrouter.json");
    let proxy = Proxy::start(&["run", "-c", &file, "--listen", "127.0.0.1:0"]);
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    one.expect("get a");
    swap("..2", &[("mcrouter.json", mcrouters(&mcrouters_pool(&two)))]);
    fs::remove_file(directory.file("pool.json")).unwrap();
    client.await_stat("config_reloads", 1);
    client.ask("get b\r\n", "END\r\n");
    two.expect("get b");
    swap("..3", &[("mcrouter.json", mcrouters(&mcrouters_pool(&three)))]);
    client.await_stat("config_reloads", 2);
    client.ask("get c\r\n", "END\r\n");
    three.expect("get c");
}

#[test]
fn an_import_that_is_wrong_can_be_mended_alone() {
    let (one, two) = (Mock::forgetful(), Mock::forgetful());
    let directory = Directory::new();
    let file = directory.write("mcrouter.json", &mcrouters(&mcrouters_pool(&one)));
    let proxy = Proxy::start(&["run", "-c", &file, "--listen", "127.0.0.1:0"]);
    let mut client = proxy.client();
    directory.write("pool.json", r#"{"servers": [}"#);
    directory.write("mcrouter.json", &mcrouters("\"@import(pool.json)\""));
    client.await_more("config_failures", 0);
    client.ask("get a\r\n", "END\r\n");
    one.expect("get a");
    directory.write("pool.json", &mcrouters_pool(&two));
    client.await_stat("config_reloads", 1);
    client.ask("get b\r\n", "END\r\n");
    two.expect("get b");
}

#[test]
fn an_import_that_was_not_there_is_taken_when_it_comes() {
    let (one, two, three) = (Mock::forgetful(), Mock::forgetful(), Mock::forgetful());
    let directory = Directory::new();
    let default = mcrouters_pool(&one);
    let import = format!(r#"{{"type": "import", "path": "pool.json", "default": {default}}}"#);
    let file = directory.write("mcrouter.json", &mcrouters(&import));
    let kept = directory.file("last-good");
    let arguments = ["run", "-c", &file, "--last-good", &kept, "--listen", "127.0.0.1:0"];
    let mut proxy = Proxy::start(&arguments);
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    one.expect("get a");
    directory.write("pool.json", &mcrouters_pool(&two));
    client.await_stat("config_reloads", 1);
    client.ask("get b\r\n", "END\r\n");
    two.expect("get b");
    // and one without which there is no start but with what was kept
    proxy.terminate();
    fs::remove_file(directory.file("pool.json")).unwrap();
    directory.write("mcrouter.json", &mcrouters("\"@import(pool.json)\""));
    let proxy = Proxy::start(&arguments);
    let mut client = proxy.client();
    assert_eq!(client.stat("configs_from_disk"), 1);
    client.ask("get c\r\n", "END\r\n");
    two.expect("get c");
    directory.write("pool.json", &mcrouters_pool(&three));
    client.await_stat("configs_from_disk", 0);
    client.ask("get d\r\n", "END\r\n");
    three.expect("get d");
}

#[test]
fn a_folder_that_is_replaced_is_watched_as_the_one_before() {
    let directory = Directory::new();
    let write = |more: &str| directory.write("conf/ringway.yaml", &format!("{more}{EMBEDDED}"));
    let make = || fs::create_dir(directory.file("conf")).unwrap();
    let replace = |old: &str| {
        fs::rename(directory.file("conf"), directory.file(old)).unwrap();
        make();
    };
    make();
    let file = write("");
    let proxy = Proxy::start(&["run", "-c", &file, "--listen", "127.0.0.1:0"]);
    let mut client = proxy.client();
    replace("old");
    write("allow_flush: true\n");
    client.await_stat("config_reloads", 1);
    write("strict: true\n");
    client.await_stat("config_reloads", 2);
    // nor does a refusal blind it (half a file may have been one)
    let failures = client.stat("config_failures");
    replace("older");
    write("colour: red\n");
    client.await_more("config_failures", failures);
    write("allow_flush: true\n");
    client.await_stat("config_reloads", 3);
}

#[test]
fn a_link_above_the_folder_that_leads_elsewhere_is_followed() {
    let directory = Directory::new();
    let write = |version: &str, more: &str| {
        fs::create_dir_all(directory.file(&format!("{version}/conf"))).unwrap();
        directory.write(&format!("{version}/conf/ringway.yaml"), &format!("{more}{EMBEDDED}"));
    };
    write("1", "");
    write("2", "allow_flush: true\n");
    symlink("1", directory.file("now")).unwrap();
    let file = directory.file("now/conf/ringway.yaml");
    let proxy = Proxy::start(&["run", "-c", &file, "--listen", "127.0.0.1:0"]);
    let mut client = proxy.client();
    symlink("2", directory.file("next")).unwrap();
    fs::rename(directory.file("next"), directory.file("now")).unwrap();
    client.await_stat("config_reloads", 1);
    write("2", "strict: true\n");
    client.await_stat("config_reloads", 2);
}

#[test]
fn a_file_that_is_written_by_another_name_serves() {
    // as one that is a mount itself: its folder does not tell
    let directory = Directory::new();
    fs::create_dir(directory.file("elsewhere")).unwrap();
    let file = directory.write("ringway.yaml", EMBEDDED);
    fs::hard_link(&file, directory.file("elsewhere/ringway.yaml")).unwrap();
    let write = |more: &str| directory.write("elsewhere/ringway.yaml", &format!("{more}{EMBEDDED}"));
    let proxy = Proxy::start(&["run", "-c", &file, "--listen", "127.0.0.1:0"]);
    let mut client = proxy.client();
    write("allow_flush: true\n");
    client.await_stat("config_reloads", 1);
    write("strict: true\n");
    client.await_stat("config_reloads", 2);
    // another file in its place is watched as the one before
    fs::write(directory.file("next"), EMBEDDED).unwrap();
    fs::rename(directory.file("next"), &file).unwrap();
    client.await_stat("config_reloads", 3);
    fs::remove_file(directory.file("elsewhere/ringway.yaml")).unwrap();
    fs::hard_link(&file, directory.file("elsewhere/ringway.yaml")).unwrap();
    write("allow_flush: true\n");
    client.await_stat("config_reloads", 4);
}

#[test]
fn files_that_stay_as_they_are_are_left_alone() {
    let proxy = Proxy::with(EMBEDDED);
    proxy.reload(&mut proxy.client(), &format!("allow_flush: true\n{EMBEDDED}"));
    let opened = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&opened, proxy.config(), inotify::WatchFlags::OPEN).unwrap();
    let mut opened = fs::File::from(opened);
    // a change is looked at within a fifth of it
    let quiet = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
    let began = Instant::now();
    while poll(&mut [PollFd::new(&opened, PollFlags::IN)], Some(&quiet)).unwrap() > 0 {
        assert!(began.elapsed() < PATIENCE, "it is read again and again");
        assert!(opened.read(&mut [0; 4096]).unwrap() > 0);
    }
}

#[test]
fn what_is_wrong_is_said_once_and_the_old_one_serves_on() {
    let server = Mock::forgetful();
    let proxy = Proxy::before(&[server.address()], "");
    let mut client = proxy.client();
    proxy.rewrite("pools: {main: {servers: [\"h:0\"], colour: red}}\nroute: main\n");
    client.await_stat("config_failures", 1);
    proxy.signal(Signal::HUP);
    client.await_stat("config_failures", 2);
    client.ask("get a\r\n", "END\r\n");
    proxy.await_stderr("2 faults");
    let said = proxy.stderr();
    assert_eq!(said.matches("the new configuration is refused").count(), 1, "{said}");
    assert!(said.contains("colour") && said.contains("is not a port"), "all faults at once: {said}");
    // the times tell that something is wrong, as soon as it is a second
    let times =
        |client: &mut Client| (client.stat("config_last_attempt"), client.stat("config_last_success"));
    while times(&mut client).0 == times(&mut client).1 {
        let failures = client.stat("config_failures");
        proxy.signal(Signal::HUP);
        client.await_more("config_failures", failures);
    }
    // mended: what is said is the same as at the start, so there is nothing to do
    proxy.rewrite(&pool_of(&[server.address()], ""));
    until("all is well", || times(&mut client).0 == times(&mut client).1);
    client.ask("get b\r\n", "END\r\n");
    assert_eq!(client.stat("config_reloads"), 0);
}

#[test]
fn a_runtime_variable_is_turned() {
    let (main, copies) = (Mock::forgetful(), Mock::forgetful());
    let directory = Directory::new();
    let config = directory.write("mcrouter.json", &format!(
        r#"{{"pools": {{"A": {{"servers": ["{}"]}}, "B": {{"servers": ["{}"]}}}},
            "route": {{"type": "PoolRoute", "pool": "A",
                       "shadows": [{{"target": "PoolRoute|B", "index_range": [0, 1], "key_fraction_range_rv": "share"}}]}}}}"#,
        main.address(),
        copies.address()
    ));
    let variables = directory.write("variables.json", r#"{"share": [0, 0]}"#);
    let flags = ["run", "-c", &config, "--runtime-vars-file", &variables, "--listen", "127.0.0.1:0"];
    let proxy = Proxy::start(&flags);
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    main.expect("get a");
    fs::write(&variables, r#"{"share": [0, 1]}"#).unwrap();
    client.await_stat("config_reloads", 1);
    client.ask("get b\r\n", "END\r\n");
    copies.expect("get b");
    fs::write(&variables, r#"{"share": "#).unwrap();
    client.await_stat("config_failures", 1);
    client.ask("get c\r\n", "END\r\n");
    copies.expect("get c");
}

/// A value that does not fit is a fault of the place that asks for it, which is in another file.
#[test]
fn a_runtime_variable_that_does_not_fit_is_mended_where_it_is() {
    let server = Mock::forgetful();
    let directory = Directory::new();
    let config = directory.write(
        "mcrouter.json",
        &format!(
            r#"{{"pools": {{"A": {{"servers": ["{}"]}}}}, "route": {{"type": "PoolRoute", "pool": "A",
            "hash": {{"hash_func": "WeightedCh3", "weights": [1], "weights_rv": "weights"}}}}}}"#,
            server.address()
        ),
    );
    let variables = directory.write("variables.json", r#"{"weights": [1]}"#);
    let flags = ["run", "-c", &config, "--runtime-vars-file", &variables, "--listen", "127.0.0.1:0"];
    let proxy = Proxy::start(&flags);
    let mut client = proxy.client();
    fs::write(&variables, r#"{"weights": [7]}"#).unwrap();
    client.await_stat("config_failures", 1);
    fs::write(&variables, r#"{"weights": [0.5]}"#).unwrap();
    client.await_stat("config_reloads", 1);
}

#[test]
fn at_a_start_with_a_wrong_file_the_last_good_one_serves() {
    let server = Mock::forgetful();
    let directory = Directory::new();
    let kept = directory.file("last-good");
    let text = |more: &str| {
        format!("listen: 127.0.0.1:0\nlast_good: {kept}\n{more}{}", pool_of(&[server.address()], ""))
    };
    let file = directory.write("r.yaml", &text(""));
    let mut first = Proxy::start(&["run", "-c", &file]);
    let mut client = first.client();
    client.ask_line("flush_all\r\n", "CLIENT_ERROR flush_all not allowed");
    directory.write("r.yaml", &text("allow_flush: true\n"));
    client.await_stat("config_reloads", 1);
    assert_eq!(client.stat("configs_from_disk"), 0);
    first.terminate();
    directory.write("r.yaml", &text("colour: red\n"));
    let second = Proxy::start(&["run", "-c", &file]);
    assert!(second.stderr().contains("`colour`"), "{}", second.stderr());
    assert!(second.stderr().contains("the last good one serves"), "{}", second.stderr());
    let mut client = second.client();
    assert_eq!(client.stat("configs_from_disk"), 1);
    assert!(client.stat("config_failures") >= 1);
    client.ask("get a\r\n", "END\r\n");
    client.ask("flush_all\r\n", "OK\r\n");
    directory.write("r.yaml", &text("strict: true\n"));
    client.await_stat("configs_from_disk", 0);
    drop(second);
    // a file that does not say where: the flag does
    directory.write("r.yaml", "");
    let (code, _) = Proxy::ends(&["run", "-c", &file]);
    assert_eq!(code, 2);
    let third = Proxy::start(&["run", "-c", &file, "--last-good", &kept]);
    third.client().ask("get a\r\n", "END\r\n");
    let (code, said) = Proxy::ends(&["run", "-c", &file, "--last-good", &directory.file("none")]);
    assert!(code == 2 && said.contains("none"), "{said}");
}

#[test]
fn what_is_read_of_clients_changes_with_the_configuration() {
    let server = Mock::forgetful();
    let pool = pool_of(&[server.address()], "");
    let proxy = Proxy::with(&pool);
    let (mut client, mut idle) = (proxy.client(), proxy.client());
    let odd = "get a\u{1}\r\n";
    client.ask(odd, "END\r\n");
    idle.ask("mn\r\n", "MN\r\n");
    proxy.rewrite(&format!("strict: true\nlimits: {{client_idle_timeout: 100ms}}\n{pool}"));
    idle.expect_closed();
    let mut client = proxy.client();
    client.ask(odd, "CLIENT_ERROR bad command line format\r\n");
    proxy.rewrite(&pool);
    loop {
        // it may still be closed for being idle
        let mut client = proxy.client();
        let _ = client.try_send(odd.as_bytes());
        match client.try_line().as_deref() {
            Some("END") => break,
            Some("CLIENT_ERROR bad command line format") | None => {}
            Some(line) => panic!("{line}"),
        }
    }
}

#[test]
fn without_a_file_sighup_changes_nothing() {
    let proxy = Proxy::embedded();
    let mut client = proxy.client();
    client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    proxy.signal(Signal::HUP);
    client.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn servers_that_stay_keep_their_connection_and_others_lose_it() {
    if !has_latest() {
        return;
    }
    let (stays, leaves) = (Memcached::latest(), Memcached::latest());
    let both = pool_of(&[stays.address(), leaves.address()], "failure_domains: [one, other]");
    let proxy = Proxy::with(&both);
    let mut client = proxy.client();
    let ask_many = |client: &mut Client| {
        for n in 0..30 {
            client.ask(format!("set key{n} 0 0 1\r\nx\r\n"), "STORED\r\n");
        }
    };
    ask_many(&mut client);
    let connected = (stays.stat("total_connections"), leaves.stat("total_connections"));
    proxy.rewrite(&pool_of(&[stays.address()], "failure_domains: [one]\non_down: eject"));
    client.await_stat("config_reloads", 1);
    client.await_stat("server_connections", 1);
    ask_many(&mut client);
    // each question for the numbers is a connection too
    assert_eq!(stays.stat("total_connections"), connected.0 + 1);
    proxy.rewrite(&both);
    client.await_stat("config_reloads", 2);
    ask_many(&mut client);
    assert_eq!(stays.stat("total_connections"), connected.0 + 2);
    assert_eq!(leaves.stat("total_connections"), connected.1 + 2, "connected to anew");
    assert_eq!(client.stat("server_connections"), 2);
}

#[test]
fn what_is_under_way_ends_on_the_old_tree() {
    let old = Mock::start(|peer| {
        peer.request().expect("a get");
        peer.wait();
        peer.say("VALUE a 0 3\r\nold\r\nEND\r\n");
        peer.expect_closed();
        peer.report("closed");
    });
    let new = Mock::forgetful();
    let proxy = Proxy::before(&[old.address()], "timeout: 20s");
    let mut client = proxy.client();
    client.send("get a\r\n");
    old.expect("get a");
    proxy.rewrite(&pool_of(&[new.address()], "timeout: 20s"));
    proxy.client().await_stat("config_reloads", 1);
    client.send("get b\r\n");
    new.expect("get b");
    old.go();
    client.expect("VALUE a 0 3\r\nold\r\nEND\r\nEND\r\n");
    old.expect("closed");
}

#[test]
fn addresses_come_and_go() {
    let directory = Directory::new();
    let socket = format!("unix:{}", directory.file("ringway.sock"));
    let with = |listen: &str| {
        format!(
            "listen: [\"127.0.0.1:0\"{listen}]\nworkers: 2\npools: {{main: {{embedded: {{}}}}}}\nroute: main\n"
        )
    };
    let proxy = Proxy::with(&with(""));
    let mut client = proxy.client();
    client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    proxy.rewrite(&with(&format!(", \"{socket}\"")));
    client.await_stat("config_reloads", 1);
    let mut there = Client::connect(&socket);
    there.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    proxy.rewrite(&with(""));
    client.await_stat("config_reloads", 2);
    assert!(Client::try_connect(&socket).is_err(), "nobody listens there");
    there.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn an_address_becomes_wider_and_narrower_on_the_same_port() {
    let narrow = dead_address();
    let port = narrow.rsplit(':').next().unwrap();
    let (wide, elsewhere) = (format!("0.0.0.0:{port}"), format!("127.0.0.2:{port}"));
    let with = |listen: &str| format!("listen: [\"{listen}\"]\nworkers: 2\n{EMBEDDED}");
    let proxy = Proxy::with(&with(&narrow));
    let mut client = proxy.client();
    assert!(Client::try_connect(&elsewhere).is_err());
    proxy.reload(&mut client, &with(&wide));
    await_answer(&elsewhere);
    await_answer(&narrow);
    proxy.reload(&mut client, &with(&narrow));
    until("closed", || Client::try_connect(&elsewhere).is_err());
    await_answer(&narrow);
    // somebody else's port is still refused
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.rewrite(&with(&format!("0.0.0.0:{}", taken.local_addr().unwrap().port())));
    client.await_stat("config_failures", 1);
    client.expect_nothing();
}

#[test]
fn an_address_of_another_ringway_on_the_same_port_is_refused() {
    let own = dead_address();
    let others = format!("127.0.0.2:{}", own.rsplit(':').next().unwrap());
    let with = |listen: &str| format!("listen: [{listen}]\n{EMBEDDED}");
    let _other = Proxy::with(&with(&format!("\"{others}\"")));
    let proxy = Proxy::with(&with(&format!("\"{own}\"")));
    let mut client = proxy.client();
    proxy.rewrite(&with(&format!("\"{own}\", \"{others}\"")));
    client.await_stat("config_failures", 1);
    proxy.await_stderr(&others);
}

/// Asks until there is an answer: a socket that is just being closed resets who comes last.
fn await_answer(address: &str) {
    let is_answered = || {
        let Ok(mut client) = Client::try_connect(address) else { return false };
        client.try_send(b"mn\r\n").is_ok() && client.try_line().is_some()
    };
    let began = Instant::now();
    while !is_answered() {
        assert!(began.elapsed() < PATIENCE, "nobody answers at {address}");
    }
}

#[test]
fn limits_change_for_clients_that_are_there() {
    let with = |limit: &str| {
        format!("limits: {{value_bytes_max: {limit}}}\npools: {{main: {{servers: [\"@\"]}}}}\nroute: main\n")
    };
    let server = Mock::forgetful();
    let with = |limit: &str| with(limit).replace('@', server.address());
    let proxy = Proxy::with(&with("2KiB"));
    let mut client = proxy.client();
    let large = format!("set a 0 0 3000\r\n{}\r\n", "x".repeat(3000));
    client.ask_line(&large, "SERVER_ERROR object too large for cache");
    proxy.rewrite(&with("4KiB"));
    client.await_stat("config_reloads", 1);
    client.ask(&large, "STORED\r\n");
}

#[test]
fn nobody_notices_forty_changes() {
    if !has_latest() {
        return;
    }
    let servers = Memcached::start_several(4);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    // the order of the list and a weight change nothing for a ring of names, but the tree is another one
    let all = pool_of(&addresses, "connect_timeout: 5s\ntimeout: 20s");
    let fewer = pool_of(&addresses[..3], "connect_timeout: 5s\ntimeout: 20s");
    let proxy = Proxy::with(&all);
    let (is_over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = proxy.address();
    thread::scope(|scope| {
        let (is_over, rounds) = (&is_over, &rounds);
        let load = move |name: usize| {
            let mut client = Client::connect(address);
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                client.ask_round(name, count);
                count += 1;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        };
        let clients: Vec<_> = (0..8).map(|name| scope.spawn(move || load(name))).collect();
        let mut watching = proxy.client();
        for change in 1..=40 {
            proxy.rewrite(if change % 2 == 0 { &all } else { &fewer });
            proxy.signal(Signal::HUP);
            watching.await_stat("config_reloads", change);
            // there is load between any two changes; a client that has ended met an error
            while rounds.load(Ordering::Relaxed) < change * 10 && !clients.iter().any(|c| c.is_finished()) {
                thread::yield_now();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("no client met an error");
        }
        assert_eq!(watching.stat("desync_detected"), 0);
        assert_eq!(watching.stat("config_failures"), 0);
    });
}

/// The next worker that counts where one has ended would else begin with what that had under way.
#[test]
fn what_a_worker_leaves_unanswered_is_counted_no_more() {
    let main = Mock::forgetful();
    let far = Mock::start(|peer| {
        peer.no_handshake();
        peer.wait();
    });
    let pool = |name: &str, mock: &Mock| {
        let server = mock.address();
        format!("  {name}: {{servers: [\"{server}\"], timeout: 2s, connect_timeout: 2s, tko: off}}\n")
    };
    let (main, far) = (pool("main", &main), pool("far", &far));
    let shadowed = "{type: shadow, child: main, shadows: [{target: far}]}";
    let proxy = Proxy::with(&format!("workers: 2\npools:\n{main}{far}route: {shadowed}\n"));
    let mut clients: Vec<_> = (0..40).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n"));
    let mut watching = proxy.client();
    watching.await_stat("server_copies", 40);
    proxy.reload(&mut watching, &format!("workers: 1\npools:\n{main}route: main\n"));
    watching.await_stat("server_copies", 0);
    watching.await_stat("server_outstanding", 0);
}
