//! The life of the process: start, addresses, faults at start, signals.

use crate::support::{Client, Directory, Mock, Proxy, dead_address, pool_of, until};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

#[test]
fn plain_listen_serves_the_embedded_default() {
    let proxy = Proxy::start(&["run", "--listen", "127.0.0.1:0"]);
    let mut client = proxy.client();
    client.ask("set a 0 0 5\r\nhello\r\nget a\r\n", "STORED\r\nVALUE a 0 5\r\nhello\r\nEND\r\n");
    // a value set by one client is there for all, whichever worker serves it
    for _ in 0..20 {
        proxy.client().ask("get a\r\n", "VALUE a 0 5\r\nhello\r\nEND\r\n");
    }
}

#[test]
fn without_the_word_run_it_runs() {
    let proxy = Proxy::start(&["--listen", "127.0.0.1:0"]);
    proxy.client().ask("get a\r\n", "END\r\n");
}

#[test]
fn servers_can_be_given_on_the_command_line() {
    let (one, two) = (Mock::forgetful(), Mock::forgetful());
    let proxy = Proxy::start(&[
        "run",
        "--listen",
        "127.0.0.1:0",
        "--server",
        one.address(),
        "--server",
        two.address(),
    ]);
    let mut client = proxy.client();
    for n in 0..30 {
        client.ask(format!("get key{n}\r\n"), "END\r\n");
    }
    assert!(one.heard().starts_with("get key"));
    assert!(two.heard().starts_with("get key"));
}

#[test]
fn listens_on_several_addresses_and_unix_sockets() {
    let directory = Directory::new();
    let socket = format!("unix:{}", directory.file("ringway.sock"));
    let mut proxy =
        Proxy::start(&["run", "--listen", "127.0.0.1:0", "--listen", &socket, "--listen", "[::1]:0"]);
    assert_eq!(proxy.addresses().len(), 3, "{}", proxy.stderr());
    assert!(proxy.addresses().contains(&socket), "{:?}", proxy.addresses());
    for (n, address) in proxy.addresses().iter().enumerate() {
        let mut client = Client::connect(address);
        client.ask(
            format!("set at{n} 0 0 1\r\n{n}\r\nget at{n}\r\n"),
            format!("STORED\r\nVALUE at{n} 0 1\r\n{n}\r\nEND\r\n"),
        );
    }
    assert_eq!(proxy.terminate().code(), Some(0));
    let mut again = Proxy::start(&["run", "--listen", &socket]);
    Client::connect(&socket).ask("mn\r\n", "MN\r\n");
    assert_eq!(again.terminate().code(), Some(0));
}

#[test]
fn a_socket_that_a_dead_process_left_is_taken_over() {
    let directory = Directory::new();
    let path = directory.file("ringway.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = format!("unix:{path}");
    let _proxy = Proxy::start(&["run", "--listen", &address]);
    Client::connect(&address).ask("mn\r\n", "MN\r\n");
}

#[test]
fn servers_on_unix_sockets() {
    let directory = Directory::new();
    let socket = format!("unix:{}", directory.file("server.sock"));
    let _server = Proxy::start(&["run", "--listen", &socket]);
    let proxy = Proxy::before(&[&socket], "");
    proxy.client().ask("set a 0 0 1\r\n1\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
}

#[test]
fn servers_by_host_name() {
    let mock = Mock::forgetful();
    let port = mock.address().rsplit_once(':').unwrap().1;
    let proxy = Proxy::before(&[&format!("localhost:{port}")], "timeout: 10s\nconnect_timeout: 5s");
    proxy.client().ask("get a\r\n", "END\r\n");
}

#[test]
fn a_port_in_use_is_one_line_with_the_address_and_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = Proxy::ends(&["run", "--listen", &address]);
    assert_eq!(code, 1, "{said}");
    let lines: Vec<&str> = said.lines().filter(|l| l.contains(&address)).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(!said.contains("panicked") && !said.contains("listening on"), "{said}");
}

#[test]
fn two_of_us_do_not_share_a_port_by_accident() {
    let first = Proxy::embedded();
    let (code, said) = Proxy::ends(&["run", "--listen", first.address()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(first.address()), "{said}");
}

#[test]
fn one_bad_address_of_two_leaves_nothing_running() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = dead_address();
    let (code, said) = Proxy::ends(&["run", "--listen", &free, "--listen", &address]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&address), "{said}");
    assert!(Client::try_connect(&free).is_err());
}

#[test]
fn a_wrong_configuration_is_code_2_and_nothing_listens() {
    let free = dead_address();
    let good = format!("listen: [\"{free}\"]\n{}", pool_of(&["127.0.0.1:11211"], ""));
    for (wrong, names) in [
        (good.replace("route: main", "route: mian"), "mian"),
        (good.replace("servers:", "sevrers:"), "sevrers"),
        (good.replace("listen:", "lisen:"), "lisen"),
        (good.clone() + "workers: many\n", "workers"),
        (good.clone() + "  - [", ":"),
        (good.replace("11211", "112110"), "112110"),
    ] {
        let (code, said) = Proxy::refuses(&wrong);
        assert_eq!(code, 2, "{wrong}\n{said}");
        assert!(said.contains(names) && said.contains("ringway.yaml"), "{wrong}\n{said}");
        assert!(!said.contains("listening on") && !said.contains("panicked"), "{said}");
        assert!(Client::try_connect(&free).is_err());
    }
}

#[test]
fn every_fault_of_a_configuration_is_reported_at_once() {
    let (code, said) = Proxy::refuses(
        "pools:\n  main:\n    servers: [\"127.0.0.1:999999\"]\n    hash: ketamma\n    timeout: soon\nroute: mian\n",
    );
    assert_eq!(code, 2, "{said}");
    for fault in ["ketamma", "soon", "mian", "999999"] {
        assert!(said.contains(fault), "{fault}: {said}");
    }
    for line in ["3", "4", "5", "6"] {
        assert!(said.contains(&format!(":{line}:")), "line {line}: {said}");
    }
}

#[test]
fn a_missing_file_is_code_2_and_names_it() {
    let (code, said) = Proxy::ends(&["run", "-c", "/nowhere/ringway.yaml"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("/nowhere/ringway.yaml"), "{said}");
}

#[test]
fn a_wrong_word_on_the_command_line_is_code_2() {
    let (code, said) = Proxy::ends(&["run", "--lisen", "127.0.0.1:0"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--listen"), "{said}");
}

#[test]
fn sigterm_and_sigint_end_it_with_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Proxy::embedded();
        let mut idle = proxy.client();
        idle.ask("mn\r\n", "MN\r\n");
        proxy.signal(signal);
        assert_eq!(proxy.process().exit().code(), Some(0), "{}", proxy.stderr());
        idle.expect_closed();
    }
}

#[test]
fn sigterm_lets_what_is_in_flight_finish() {
    let mock = Mock::start(|peer| {
        peer.expect("get a");
        peer.wait();
        peer.say("VALUE a 0 2\r\nhi\r\nEND\r\n");
        while peer.answer_as_usual() {}
    });
    let yaml = pool_of(&[mock.address()], "timeout: 20s");
    let mut proxy = Proxy::with(&format!("drain_timeout: 20s\n{yaml}"));
    let mut client = proxy.client();
    client.send("get a\r\n");
    mock.expect("get a");
    proxy.signal(Signal::TERM);
    // it no longer accepts: then the signal has been seen
    while Client::try_connect(proxy.address()).is_ok() {}
    assert!(proxy.process().is_running());
    mock.go();
    client.expect("VALUE a 0 2\r\nhi\r\nEND\r\n");
    client.expect_closed();
    assert_eq!(proxy.process().exit().code(), Some(0), "{}", proxy.stderr());
}

#[test]
fn a_drain_has_an_end() {
    let mock = Mock::start(|peer| while peer.request().is_some() {});
    let yaml = pool_of(&[mock.address()], "timeout: 60s");
    let mut proxy = Proxy::with(&format!("drain_timeout: 300ms\n{yaml}"));
    let mut client = proxy.client();
    client.send("get a\r\n");
    mock.expect("get a");
    assert_eq!(proxy.terminate().code(), Some(0), "{}", proxy.stderr());
    // cut off or told: no wrong answer
    if let Some(line) = client.try_line() {
        assert!(line.starts_with("SERVER_ERROR "), "{line}");
    }
}

#[test]
fn a_second_sigterm_leaves_at_once() {
    let mock = Mock::start(|peer| while peer.request().is_some() {});
    let yaml = pool_of(&[mock.address()], "timeout: 60s");
    let mut proxy = Proxy::with(&format!("drain_timeout: 60s\n{yaml}"));
    let mut client = proxy.client();
    client.send("get a\r\n");
    mock.expect("get a");
    proxy.signal(Signal::TERM);
    while Client::try_connect(proxy.address()).is_ok() {}
    // two within a tenth of a second count as one: a terminal and `timeout` like to say it twice
    assert!(proxy.process().exit_within(Duration::from_millis(200)).is_none());
    proxy.signal(Signal::TERM);
    let status = proxy.process().exit();
    assert!(status.code().is_some(), "ended by signal {:?}", status.signal());
}

#[test]
fn a_path_that_somebody_else_binds_during_the_drain_is_left_to_them() {
    let mock = Mock::start(|peer| {
        peer.expect("get a");
        peer.wait();
        peer.say("VALUE a 0 2\r\nhi\r\nEND\r\n");
        while peer.answer_as_usual() {}
    });
    let directory = Directory::new();
    let socket = format!("unix:{}", directory.file("ringway.sock"));
    let top = format!("listen: [\"{socket}\"]\ndrain_timeout: 20s\n");
    let mut old = Proxy::with(&format!("{top}{}", pool_of(&[mock.address()], "timeout: 20s")));
    let mut client = old.client();
    client.send("get a\r\n");
    mock.expect("get a");
    old.signal(Signal::TERM);
    until("closed", || Client::try_connect(&socket).is_err());
    let mut new = Proxy::with(&format!("{top}pools: {{main: {{embedded: {{}}}}}}\n"));
    mock.go();
    client.expect("VALUE a 0 2\r\nhi\r\nEND\r\n");
    assert_eq!(old.process().exit().code(), Some(0), "{}", old.stderr());
    new.client().ask("mn\r\n", "MN\r\n");
    assert_eq!(new.terminate().code(), Some(0));
    assert!(!std::path::Path::new(&directory.file("ringway.sock")).exists(), "its own file it takes along");
}

#[test]
fn version_and_help_are_not_errors() {
    for word in ["--version", "--help"] {
        let (code, _) = Proxy::ends(&[word]);
        assert_eq!(code, 0);
    }
}

/// A socket that the process is started with, as `fd:3` and the way systemd tells of it.
#[test]
fn serves_on_an_inherited_socket() {
    let program = env!("CARGO_BIN_EXE_ringway");
    for (arguments, environment) in [
        ("'run', '--listen', 'fd:3'", ""),
        ("'run'", "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))"),
    ] {
        // Python, because Rust cannot hand over a descriptor without `unsafe`.
        let script = format!(
            "import os, socket\n\
             s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(16)\n\
             print('bound to', s.getsockname()[1], flush=True)\n\
             s.fileno() == 3 or os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n\
             {environment}\n\
             os.execv('{program}', ['ringway', {arguments}])\n"
        );
        let mut child = std::process::Command::new("python3")
            .args(["-c", &script])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
            .unwrap();
        let port: u16 = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        // The queue of the socket is there already: the answer comes as soon as somebody serves it.
        let mut client = Client::connect(&format!("127.0.0.1:{port}"));
        client.send("set a 0 0 1\r\n1\r\nget a\r\n");
        client.expect("STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn check_takes_warnings_for_faults_when_it_is_strict() {
    let directory = Directory::new();
    let path = directory.write("r.yaml", "pools: {a: {servers: [x]}, b: {servers: [y]}}\nroute: a\n");
    let (code, said) = Proxy::ends(&["check", &path]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("no route leads to this pool"), "{said}");
    let (code, said) = Proxy::ends(&["check", "--strict", &path]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("1 warning, which `--strict` takes for faults"), "{said}");
}

#[test]
fn plan_tells_what_a_rollout_would_lose() {
    let directory = Directory::new();
    let old = directory.write("old.yaml", "pools: {main: {servers: [a, b]}}\n");
    let new = directory.write("new.yaml", "pools: {main: {servers: [a, b, c]}}\n");
    let keys = directory.write("keys", "key=user%3A1 exp=-1 la=1 cas=2 fetch=no cls=1 size=63\nuser:2\n");
    let run = |arguments: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_ringway")).args(arguments).output().unwrap();
        let (out, error) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.code(), out, error)
    };
    let (code, out, error) = run(&["plan", &old, &new, "--keys", &keys]);
    assert_eq!((code, &*error), (Some(0), ""), "{out}");
    assert!(out.starts_with("2 keys\n"), "{out}");
    let (code, out, _) = run(&["plan", &old, &old]);
    assert_eq!(code, Some(0));
    assert!(out.ends_with("No get that hits today misses because of the change.\n"), "{out}");
    let (code, out, error) = run(&["plan", &old, &new, "--count", "3000", "--lost-max", "10%", "--json"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("over --lost-max") && out.contains("\"lost_share\""), "{error}");
    let (code, ..) = run(&["plan", &old, &keys]);
    assert_eq!(code, Some(2));
}
