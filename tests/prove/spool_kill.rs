//! Deletes, sets and gets while servers are killed, stand still and come back, and the program itself is killed at any moment:
//! in the end no server holds a value that is older than the last acknowledged delete of its key.
//!
//! Each key belongs to one client, which does one thing at a time, so it knows in which order things happened. A value is the
//! number of its `set`. What was answered with an error may have happened or may happen yet; but not after a delete that came
//! after it and was acknowledged.

use crate::plan::{Outcome, Plan};
use crate::stale::spool_directory;
use crate::support::{Client, Directory, Memcached, Proxy, Random};
use rustix::process::Signal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
const KEYS_OF_ONE: usize = 8;
/// How long clients go on in a round.
const ROUND: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client knows of one of its keys.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The last number that was given to a `set`.
    last: u64,
    /// Values up to this one are deleted.
    deleted: u64,
}

struct World {
    servers: [Memcached; 2],
    directory: Directory,
    /// `None` while it is dead.
    address: Mutex<Option<String>>,
}

impl World {
    fn start_proxy(&self) -> Proxy {
        let pool = |server: &Memcached| {
            format!(
                "{{servers: [\"{}\"], timeout: 30ms, connect_timeout: 30ms, \
                 tko: {{timeouts_until_tko: 2, probe_timeout_initial: 2ms, probe_timeout_max: 5ms}}}}",
                server.address()
            )
        };
        let [a, b] = &self.servers;
        let proxy = Proxy::with(&format!(
            "workers: 2\nspool: {{dir: {}, settle: 50ms}}\npools:\n  a: {}\n  b: {}\nroute:\n  routing_group:\n    \
             default_policy: {{all_sync: [a, b]}}\n    routing_group_policies: {{get_like: {{random: [a, b]}}}}\n",
            self.directory.file("spool"),
            pool(a),
            pool(b)
        ));
        *self.address.lock().unwrap() = Some(proxy.address().to_owned());
        proxy
    }
}

/// Rounds.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    let servers = [Memcached::start_with(&["-t", "4"]), Memcached::start()];
    let mut world = World { servers, directory: spool_directory(), address: Mutex::default() };
    let mut proxy = world.start_proxy();
    let mut known = [[Known::default(); KEYS_OF_ONE]; CLIENTS];
    let mut random = plan.random();
    let mut round = 0;
    while plan.goes_on(round) {
        proxy = one(&mut world, proxy, &mut known, &mut random, &mut outcome);
        round += 1;
        if outcome.wrong > 20 {
            break;
        }
    }
    outcome.add("rounds", round);
    outcome
}

fn one(
    world: &mut World,
    mut proxy: Proxy,
    known: &mut [[Known; KEYS_OF_ONE]; CLIENTS],
    random: &mut Random,
    outcome: &mut Outcome,
) -> Proxy {
    let is_over = AtomicBool::new(false);
    let (seeds, mut killed) = ([(); CLIENTS].map(|()| random.any()), [false; 2]);
    let there = &*world;
    let address = &there.address;
    std::thread::scope(|scope| {
        let clients: Vec<_> = known
            .iter_mut()
            .zip(seeds)
            .enumerate()
            .map(|(name, (known, seed))| {
                let is_over = &is_over;
                scope.spawn(move || client(address, name, known, Random::new(seed), is_over))
            })
            .collect();
        let until = Instant::now() + ROUND;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(random.below(60) as u64));
            let server = random.below(2);
            outcome.faults += 1;
            match random.below(6) {
                0 | 1 => there.servers[server].signal(Signal::STOP),
                2 | 3 => there.servers[server].signal(Signal::CONT),
                4 if !killed[server] => {
                    there.servers[server].signal(Signal::KILL);
                    killed[server] = true;
                }
                _ => {
                    *there.address.lock().unwrap() = None;
                    proxy.signal(Signal::KILL);
                    proxy.process().exit();
                    proxy = there.start_proxy();
                }
            }
        }
        is_over.store(true, Relaxed);
        for client in clients {
            let (checked, found, wrong) = client.join().unwrap();
            outcome.checked += checked;
            outcome.add("found", found);
            wrong.iter().for_each(|text| outcome.report_wrong(text));
        }
    });
    for (server, killed) in world.servers.iter_mut().zip(killed) {
        server.signal(Signal::CONT);
        if killed {
            server.kill();
            server.restart();
        }
    }
    let (mut client, began) = (proxy.client(), Instant::now());
    while client.stat("spool_pending") > 0 {
        if began.elapsed() > PATIENCE {
            outcome.report_lost("the deletes are not delivered");
            return proxy;
        }
        std::thread::yield_now();
    }
    outcome.add("delivered", client.stat("spool_replayed"));
    for server in &world.servers {
        let mut direct = server.client();
        for (name, known) in known.iter().enumerate() {
            for (key, known) in known.iter().enumerate() {
                direct.send(format!("get c{name}:{key}\r\n"));
                outcome.checked += 1;
                if let Some(value) = value(&mut direct).unwrap_or_default()
                    && value <= known.deleted
                {
                    let (deleted, address) = (known.deleted, server.address());
                    outcome.report_wrong(format_args!(
                        "{address} has {value} of c{name}:{key}, {deleted} is deleted"
                    ));
                }
            }
        }
    }
    proxy
}

/// One client: how many answers it checked, how many had a value, and what was wrong with them.
fn client(
    address: &Mutex<Option<String>>,
    name: usize,
    known: &mut [Known; KEYS_OF_ONE],
    mut random: Random,
    is_over: &AtomicBool,
) -> (u64, u64, Vec<String>) {
    let (mut connection, mut checked, mut found, mut wrong) = (None, 0, 0, Vec::new());
    while !is_over.load(Relaxed) {
        let Some(client) = &mut connection else {
            let address = address.lock().unwrap().clone();
            connection = address.and_then(|address| Client::try_connect(&address).ok());
            continue;
        };
        let key = random.below(KEYS_OF_ONE);
        let of = &mut known[key];
        let answered = match random.below(4) {
            0 => {
                of.last += 1;
                let value = of.last.to_string();
                ask(client, &format!("set c{name}:{key} 0 0 {}\r\n{value}\r\n", value.len())).map(drop)
            }
            1 => ask(client, &format!("delete c{name}:{key}\r\n")).map(|line| {
                if line == "DELETED" || line == "NOT_FOUND" {
                    of.deleted = of.last;
                    checked += 1;
                }
            }),
            _ => client.try_send(format!("get c{name}:{key}\r\n").as_bytes()).ok().and_then(|()| {
                let value = value(client)?;
                checked += 1;
                found += u64::from(value.is_some());
                if value.is_some_and(|value| value <= of.deleted) {
                    wrong.push(format!("{value:?} of c{name}:{key} is read, {} is deleted", of.deleted));
                }
                Some(())
            }),
        };
        if answered.is_none() {
            connection = None;
        }
    }
    (checked, found, wrong)
}

/// The line that answers; `None`: the connection is gone.
fn ask(client: &mut Client, request: &str) -> Option<String> {
    client.try_send(request.as_bytes()).ok()?;
    line(client)
}

pub(crate) fn line(client: &mut Client) -> Option<String> {
    while !client.ahead().windows(2).any(|w| w == b"\r\n") {
        if !client.try_read_more().ok()? {
            return None;
        }
    }
    client.try_line()
}

/// What a get brought: a number, or nothing; `None`: the connection is gone.
fn value(client: &mut Client) -> Option<Option<u64>> {
    let first = line(client)?;
    if !first.starts_with("VALUE ") {
        return Some(None);
    }
    let value = line(client)?;
    line(client)?;
    Some(value.parse().ok())
}
