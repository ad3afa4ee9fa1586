//! Deletes through a ringway with a feed, which another memcached follows, while the program and the follower are killed at any
//! moment: in the end no acknowledged delete is missing there, and the follower never speaks of a gap.

use crate::plan::{Outcome, Plan};
use crate::spool_kill::line;
use crate::stale::spool_directory;
use crate::support::process::Process;
use crate::support::{Client, Directory, Memcached, Proxy, Random};
use rustix::process::Signal;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
/// How long clients go on in a round, and what each deletes at most.
const ROUND: Duration = Duration::from_millis(400);
const KEYS_OF_ONE: usize = 2_000;

struct World {
    here: Memcached,
    there: Memcached,
    directory: Directory,
    /// `None` while it is dead.
    address: Mutex<Option<String>>,
}

impl World {
    fn start_proxy(&self) -> Proxy {
        // small enough for the files to change every few rounds
        let proxy = Proxy::with(&format!(
            "workers: 2\nspool: {{dir: {}, feed: {{file: {}, bytes_max: 2MiB}}}}\npools:\n  a: {{servers: [\"{}\"]}}\nroute: a\n",
            self.directory.file("spool"),
            self.directory.file("feed"),
            self.here.address()
        ));
        *self.address.lock().unwrap() = Some(proxy.address().to_owned());
        proxy
    }

    fn follow(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command.args(["spool", "follow", &self.directory.file("feed"), "--to", self.there.address()]);
        command.args(["--position-file", &self.directory.file("position")]);
        command
    }
}

/// Rounds.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    let (here, there) = (Memcached::start(), Memcached::start());
    let world = World { here, there, directory: spool_directory(), address: Mutex::default() };
    let mut proxy = world.start_proxy();
    let mut random = plan.random();
    let mut round = 0;
    while plan.goes_on(round) && outcome.wrong + outcome.lost < 20 {
        proxy = one(&world, proxy, round, &mut random, &mut outcome);
        round += 1;
    }
    outcome.add("rounds", round);
    outcome
}

fn one(world: &World, mut proxy: Proxy, round: u64, random: &mut Random, outcome: &mut Outcome) -> Proxy {
    let mut direct = world.there.client();
    for key in (0..CLIENTS).flat_map(|client| (0..KEYS_OF_ONE).map(move |key| name(round, client, key))) {
        direct.send(format!("set {key} 0 0 1 noreply\r\n1\r\n"));
    }
    direct.ask("mn\r\n", "MN\r\n");
    let (is_over, mut follower) = (AtomicBool::new(false), Process::start(&mut world.follow()));
    let acknowledged: Vec<Vec<String>> = std::thread::scope(|scope| {
        let (address, is_over) = (&world.address, &is_over);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || delete_all(address, round, client, is_over)))
            .collect();
        let until = Instant::now() + ROUND;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(random.below(80) as u64));
            outcome.faults += 1;
            if random.below(2) == 0 {
                follower.signal(Signal::KILL);
                follower = Process::start(&mut world.follow());
            } else {
                *world.address.lock().unwrap() = None;
                proxy.signal(Signal::KILL);
                proxy.process().exit();
                proxy = world.start_proxy();
            }
        }
        is_over.store(true, Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    drop(follower);
    let Output { status, stdout, stderr } = world.follow().arg("--stop-at-end").output().unwrap();
    if !status.success() {
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        outcome.report_lost(format_args!("the follower gave up: {said}"));
    }
    for key in acknowledged.iter().flatten() {
        outcome.checked += 1;
        direct.send(format!("get {key}\r\n"));
        if direct.line() != "END" {
            outcome.report_wrong(format_args!("{key} is deleted and still there"));
            direct = world.there.client();
        }
    }
    proxy
}

fn name(round: u64, client: usize, key: usize) -> String {
    format!("r{round}:c{client}:{key}")
}

/// One client: the keys whose deletes were acknowledged.
fn delete_all(
    address: &Mutex<Option<String>>,
    round: u64,
    name_of_client: usize,
    is_over: &AtomicBool,
) -> Vec<String> {
    let (mut connection, mut acknowledged): (Option<Client>, _) = (None, Vec::new());
    let mut key = 0;
    while key < KEYS_OF_ONE && !is_over.load(Relaxed) {
        let Some(client) = &mut connection else {
            let address = address.lock().unwrap().clone();
            connection = address.and_then(|address| Client::try_connect(&address).ok());
            continue;
        };
        let name = name(round, name_of_client, key);
        let answer =
            client.try_send(format!("delete {name}\r\n").as_bytes()).ok().and_then(|()| line(client));
        key += 1;
        match answer.as_deref() {
            Some("DELETED" | "NOT_FOUND") => acknowledged.push(name),
            Some(_) => {}
            None => connection = None,
        }
    }
    acknowledged
}
