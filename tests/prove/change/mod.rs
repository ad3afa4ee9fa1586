//! `change`: the configuration changes, workers come and go, new processes take over, broken configurations are refused, a
//! process leaves; all of it under a load that checks every answer. No request may fail.
//!
//! No change moves a key to another server, so what a client has set last is what it must get. What changes is everything
//! else: workers, connections, timeouts (then all connections are new ones), addresses, the shape of the tree, limits.

mod load;

use crate::fuzz::mutate::Mutator;
use crate::plan::{Amount, Outcome, Plan};
use crate::support::{Client, Directory, Memcached, Proxy, Random, http, pool_of};
use crate::watch;
use load::Ground;
use ringway::{config, route};
use rustix::process::Signal;
use std::path::Path;
use std::sync::Arc;
use std::thread;

const SERVERS: usize = 3;
/// One reload in so many is followed by a hand-over.
const HAND_OVER_EVERY: u64 = 10;
/// Broken configurations for each reload.
const BROKEN_PER_RELOAD: u64 = 10;
/// One reload in so many is followed by the end of another process, whose clients must be answered.
const DRAIN_EVERY: u64 = 25;
/// Between two changes.
const REQUESTS_PER_CHANGE: u64 = 9_000;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    let mut random = plan.random();
    let servers = Memcached::start_several(SERVERS);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let directory = Directory::new();
    let mut yard = Yard::open(&addresses, &directory, &mut random);
    let ground = Arc::new(Ground::new(yard.proxy.address()));
    let threads: Vec<_> = (0..load::THREADS)
        .map(|number| {
            let (ground, random) = (Arc::clone(&ground), random.fork());
            thread::spawn(move || load::run(&ground, number, random))
        })
        .collect();
    let mut reloads = 0;
    while plan.goes_on(reloads) && outcome.is_clean() && ground.is_clean() {
        reloads += 1;
        yard.reload(&mut random, &mut outcome);
        ground.await_requests(REQUESTS_PER_CHANGE);
        for _ in 0..BROKEN_PER_RELOAD {
            yard.refuse_one(&mut random, &mut outcome);
        }
        if reloads.is_multiple_of(HAND_OVER_EVERY) {
            yard.hand_over(&mut random, &mut outcome);
            ground.await_requests(REQUESTS_PER_CHANGE);
        }
        if reloads.is_multiple_of(DRAIN_EVERY) {
            drain(&addresses, &mut outcome);
        }
        watch::is_gone(&mut yard.proxy, &mut outcome);
    }
    ground.stop();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    ground.report(&mut outcome);
    outcome.faults = reloads;
    if outcome.panics == 0 {
        watch::expect_no_desync(&yard.proxy, &mut outcome);
        outcome.rss_bytes_max = watch::rss_bytes_max(yard.proxy.pid());
    }
    let usual = matches!(plan.amount, Amount::Count(_));
    if usual && outcome.checked < reloads * REQUESTS_PER_CHANGE {
        outcome.report_lost("there was less load than there should have been");
    }
    outcome
}

/// The program, and the files around it.
struct Yard<'a> {
    addresses: &'a [&'a str],
    directory: &'a Directory,
    proxy: Proxy,
    /// What serves.
    yaml: String,
    number: u64,
}

impl<'a> Yard<'a> {
    fn open(addresses: &'a [&'a str], directory: &'a Directory, random: &mut Random) -> Self {
        let yaml = some_yaml(addresses, directory, random, 0);
        Self { addresses, directory, proxy: Proxy::with(&yaml), yaml, number: 0 }
    }

    fn next_yaml(&mut self, random: &mut Random) -> String {
        self.number += 1;
        some_yaml(self.addresses, self.directory, random, self.number)
    }

    /// Another configuration: by the admin port, by a signal, or because the file is watched.
    fn reload(&mut self, random: &mut Random, outcome: &mut Outcome) {
        let mut client = self.proxy.client();
        let before = client.stat("config_reloads");
        let yaml = self.next_yaml(random);
        self.proxy.rewrite(&yaml);
        self.yaml = yaml;
        match random.below(3) {
            0 => {
                let (status, said) = http::ask(&self.proxy.admin(), "POST /reload");
                if status != 200 {
                    outcome.report_wrong(format_args!("a reload was answered with {status}: {said}"));
                    return;
                }
            }
            1 => self.proxy.signal(Signal::HUP),
            _ => {}
        }
        client.await_stat("config_reloads", before + 1);
        outcome.add("reloads", 1);
    }

    /// One broken configuration is told with its place, and changes nothing.
    fn refuse_one(&self, random: &mut Random, outcome: &mut Outcome) {
        let kept = [("serves".to_owned(), std::fs::read(self.proxy.config()).unwrap())];
        let mut mutator = Mutator::new(&kept, random.fork());
        let broken = self.directory.file("ringway.yaml");
        loop {
            std::fs::write(&broken, mutator.next()).unwrap();
            if config::load(Path::new(&broken), route::check).is_err() {
                break; // what is legal may move keys
            }
        }
        let mut client = self.proxy.client();
        let before = client.stat("config_reloads");
        std::fs::rename(&broken, self.proxy.config()).unwrap();
        let (status, said) = http::ask(&self.proxy.admin(), "POST /reload");
        if status != 422 || !said.contains("ringway.yaml") {
            outcome.report_wrong(format_args!("a broken configuration was answered with {status}: {said}"));
        }
        if client.stat("config_reloads") != before {
            outcome.report_wrong("a broken configuration changed something");
        }
        // as it was: nothing to do
        self.proxy.rewrite(&self.yaml);
        let (status, said) = http::ask(&self.proxy.admin(), "POST /reload");
        if status != 200 {
            outcome.report_wrong(format_args!(
                "the configuration that serves was answered with {status}: {said}"
            ));
        }
        outcome.add("refused", 1);
    }

    /// A new process, with another configuration, takes over.
    fn hand_over(&mut self, random: &mut Random, outcome: &mut Outcome) {
        let yaml = self.next_yaml(random);
        let new = self.proxy.successor(&self.directory.file("door"), Some(&yaml));
        let mut old = std::mem::replace(&mut self.proxy, new);
        self.yaml = yaml;
        let status = old.process().exit();
        let said = old.stderr();
        if status.code() != Some(0) || !said.contains("clients have moved") || said.contains("panicked") {
            outcome.report_wrong(format_args!("the old process ended with {status}:\n{said}"));
        }
        outcome.add("hand_overs", 1);
    }
}

/// The same keys on the same servers, and nothing else as before.
fn some_yaml(addresses: &[&str], directory: &Directory, random: &mut Random, number: u64) -> String {
    let more_addresses: String = (0..random.below(3))
        .map(|n| format!(", \"unix:{}\"", directory.file(&format!("clients-{n}"))))
        .collect();
    // a timeout that was never there before makes every connection a new one
    let terms = match random.below(3) {
        0 => format!("timeout: {}ms", 20_000 + number),
        1 => "connections: 2".to_owned(),
        _ => String::new(),
    };
    let mut pool = pool_of(addresses, &format!("connect_timeout: 5s\n{terms}"));
    let length = pool.len() - "route: main\n".len();
    pool.truncate(length);
    let route = match random.below(4) {
        0 => "main".to_owned(),
        1 => "{failover: [main, main]}".to_owned(),
        2 => "{operation: {default_policy: main, operation_policies: {get: {failover: [main, main]}}}}"
            .to_owned(),
        _ => "{prefix: {policies: {\"other:\": main}, wildcard: main}}".to_owned(),
    };
    format!(
        "listen: [\"127.0.0.1:0\"{more_addresses}]\nworkers: {}\nadmin: 127.0.0.1:0\nhand_over: {}\n\
         drain_timeout: 30s\nlimits: {{clients_max: {}}}\n{pool}route: {route}\n",
        1 + random.below(3),
        directory.file("door"),
        10_000 + number,
    )
}

/// A process is told to leave while clients ask one thing after the other: each gets the answer to what it has asked, unless
/// it asks at the very moment at which its connection is closed.
fn drain(addresses: &[&str], outcome: &mut Outcome) {
    const CLIENTS: usize = 20;
    let mut proxy = Proxy::before(addresses, "timeout: 20s");
    // all before it is told to leave: who comes later is refused, and rightly
    let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(proxy.address())).collect();
    let (cut, answered): (u64, u64) = thread::scope(|scope| {
        let asking = |client| scope.spawn(move || ask_until_closed(client));
        let clients: Vec<_> = clients.into_iter().map(asking).collect();
        watch::pass(std::time::Duration::from_millis(50));
        proxy.signal(Signal::TERM);
        let ends = clients.into_iter().map(|client| client.join().unwrap());
        ends.fold((0, 0), |sum, end| (sum.0 + end.0, sum.1 + end.1))
    });
    if proxy.process().exit().code() != Some(0) || proxy.stderr().contains("drain_timeout is over") {
        outcome.report_wrong(format_args!("it did not leave as it should:\n{}", proxy.stderr()));
    }
    outcome.checked += answered;
    outcome.add("drains", 1);
    outcome.add("cut_at_drain", cut);
}

/// Whether the last request was cut off, and how many were answered.
fn ask_until_closed(mut client: Client) -> (u64, u64) {
    for answered in 0.. {
        if client.try_send(b"get drain\r\n").is_err() {
            return (1, answered);
        }
        while !client.ahead().ends_with(b"\n") {
            if !matches!(client.try_read_more(), Ok(true)) {
                assert!(client.ahead().is_empty(), "closed within an answer");
                return (1, answered);
            }
        }
        let length = client.ahead().len();
        assert_eq!(client.take_ahead(length), b"END\r\n");
    }
    (0, 0)
}
