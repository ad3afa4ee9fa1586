//! A server that stood still and goes on with what it had: what was deleted meanwhile is not read again, not once, from the
//! first moment on, through however many clients and workers.

use crate::plan::{Outcome, Plan};
use crate::support::{Client, Directory, Memcached, Proxy, pool_of};
use crate::watch;
use rustix::process::Signal;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const KEYS: usize = 10_000;
/// Keys of one request.
const BATCH: usize = 100;
const READERS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory as a spool's has to be.
pub(crate) fn spool_directory() -> Directory {
    let directory = Directory::new();
    std::fs::create_dir(directory.file("spool")).unwrap();
    std::fs::set_permissions(directory.file("spool"), std::fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

/// Rounds of [`KEYS`] deletes each.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    let (server, directory) = (Memcached::start_with(&["-t", "4"]), spool_directory());
    let tko = "timeout: 100ms\nconnect_timeout: 100ms\n\
        tko: {timeouts_until_tko: 1, probe_timeout_initial: 2ms, probe_timeout_max: 5ms}";
    let mut text = format!("workers: 2\nspool: {{dir: {}, settle: 100ms}}\n", directory.file("spool"));
    text += &pool_of(&[server.address()], tko);
    let mut proxy = Proxy::with(&text);
    let mut round = 0;
    while plan.goes_on(round) {
        one(&server, &proxy, &mut outcome);
        round += 1;
        outcome.faults += 1;
    }
    watch::is_gone(&mut proxy, &mut outcome);
    outcome
}

fn one(server: &Memcached, proxy: &Proxy, outcome: &mut Outcome) {
    let mut client = proxy.client();
    let batches = || (0..KEYS / BATCH).map(|batch| batch * BATCH..(batch + 1) * BATCH);
    for batch in batches() {
        let lines = batch.clone().fold(String::new(), |mut lines, key| {
            let _ = write!(lines, "set k{key} 0 0 3\r\nold\r\n");
            lines
        });
        client.ask(lines, "STORED\r\n".repeat(BATCH));
    }
    server.signal(Signal::STOP);
    for batch in batches() {
        let lines: String = batch.map(|key| format!("delete k{key}\r\n")).collect();
        client.send(lines);
        for _ in 0..BATCH {
            let line = client.line();
            if line != "DELETED" {
                outcome.report_lost(format_args!("a delete is answered {line:?}"));
            }
        }
    }
    let is_over = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (client, is_over) = (proxy.client(), &is_over);
                scope.spawn(move || read(client, reader, is_over))
            })
            .collect();
        server.signal(Signal::CONT);
        let began = Instant::now();
        while client.stat("spool_pending") > 0 && began.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        outcome.add("return_ms", u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        is_over.store(true, Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
    });
    for (checked, stale) in counts {
        outcome.checked += checked;
        for key in stale {
            outcome.report_wrong(format_args!("{key} was deleted and is read"));
        }
    }
    if client.stat("spool_pending") > 0 {
        outcome.report_lost("the deletes are not delivered");
    }
    let mut direct = server.client();
    for batch in batches() {
        let keys: Vec<String> = batch.map(|key| format!("k{key}")).collect();
        direct.send(format!("get {}\r\n", keys.join(" ")));
        let line = direct.line();
        if line != "END" {
            return outcome.report_wrong(format_args!("the server still has {line:?}"));
        }
    }
}

/// Reads until it is over, one key and many in turn: how many answers came, and the keys that were shown.
fn read(mut client: Client, reader: usize, is_over: &AtomicBool) -> (u64, Vec<String>) {
    let (mut checked, mut stale) = (0, Vec::new());
    let mut key = reader * KEYS / READERS;
    while !is_over.load(Relaxed) {
        let count = if key.is_multiple_of(3) { 1 } else { 30 };
        let keys: Vec<String> = (key..key + count).map(|key| format!("k{}", key % KEYS)).collect();
        client.send(format!("get {}\r\n", keys.join(" ")));
        loop {
            let line = client.line();
            checked += 1;
            match line.strip_prefix("VALUE ") {
                Some(rest) => {
                    stale.push(rest.split(' ').next().unwrap_or_default().to_owned());
                    client.line();
                }
                None => break, // END, or that the server is out
            }
        }
        key += count;
    }
    (checked, stale)
}
