//! `overload`: twice as much is asked as the servers can do, all of them have lost their memory and stand still at first,
//! and clients ask again three times. Then the load is as before: it must be served again, without help.
//!
//! The servers are scripted and have a capacity, so nothing depends on how fast the machine is. One more server takes
//! connections and says nothing, from beginning to end: how often it is tried is counted.

use crate::plan::{Outcome, Plan, tell};
use crate::support::client::shown;
use crate::support::{Proxy, Random, pool_of};
use crate::timed::{Script, Timed};
use crate::watch;
use crate::wire::{Wires, line_of};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SERVERS: usize = 2;
/// What a request costs a server: 2,000 requests a second are its capacity.
const COST: Duration = Duration::from_micros(500);
const CAPACITY_PER_S: f64 = 2_000.0 * SERVERS as f64;
/// The usual load, as a part of the capacity.
const USUAL: f64 = 0.6;
const OVERLOAD: f64 = 2.0;
const RETRIES: u8 = 3;
const CLIENTS: usize = 50;
const KEYS: usize = 5_000;
const WORKERS: usize = 2;

const USUAL_TIME: Duration = Duration::from_secs(3);
/// In the first round, which is all that there is on every commit, and in all others.
const OVERLOAD_TIME_FIRST: Duration = Duration::from_secs(5);
const OVERLOAD_TIME: Duration = Duration::from_secs(60);
const STAND_STILL: Duration = Duration::from_secs(1);
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// Served again: this much of what was served before, in a whole second.
const RECOVERED: f64 = 0.95;
const WINDOW: Duration = Duration::from_secs(1);

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut random = plan.random();
    let mut outcome = Outcome::default();
    let mut recoveries = Vec::new();
    let mut rounds = 0;
    while plan.goes_on(rounds) {
        rounds += 1;
        let overload_time = if rounds == 1 { OVERLOAD_TIME_FIRST } else { OVERLOAD_TIME };
        round(overload_time, &mut random, &mut outcome, &mut recoveries);
    }
    outcome.faults = rounds;
    outcome.more.push(format!("recovery_max={}ms", recoveries.iter().max().map_or(0, Duration::as_millis)));
    outcome
}

fn round(
    overload_time: Duration,
    random: &mut Random,
    outcome: &mut Outcome,
    recoveries: &mut Vec<Duration>,
) {
    let memories: Vec<Memory> = (0..SERVERS).map(|_| Arc::new(Mutex::new(vec![true; KEYS]))).collect();
    let servers: Vec<Timed> = memories.iter().map(serve).collect();
    let dead = Timed::dumb();
    let addresses: Vec<&str> = servers.iter().chain([&dead]).map(|s| &*s.address).collect();
    let terms = "timeout: 200ms\nconnect_timeout: 100ms";
    let mut proxy = Proxy::with(&format!("workers: {WORKERS}\n{}", pool_of(&addresses, terms)));
    let mut load = Load::new(&proxy, random.fork());
    let mut sockets = Sockets::new(&addresses);

    let began = Instant::now();
    let usual = load.offer(USUAL, USUAL_TIME, &mut sockets);
    for (memory, server) in memories.iter().zip(&servers) {
        memory.lock().unwrap().fill(false);
        server.seen.stand_still(STAND_STILL);
    }
    let overloaded = load.offer(OVERLOAD, overload_time, &mut sockets);
    let healed = Instant::now();
    let mut recovery = None;
    while recovery.is_none() && healed.elapsed() < RECOVERY_MAX {
        let time = healed.elapsed();
        let rate = load.offer(USUAL, WINDOW, &mut sockets);
        recovery = (rate >= usual * RECOVERED).then_some(time);
    }
    println!("  usual {usual:.0}/s, overloaded {overloaded:.0}/s, recovered after {recovery:?}");
    match recovery {
        Some(time) => recoveries.push(time),
        None => outcome.report_lost(format_args!("not as before after {RECOVERY_MAX:?}")),
    }
    outcome.checked += load.answered;
    outcome.lost += load.hung;
    outcome.wrong += load.wrong;
    sockets.judge(outcome);
    judge_attempts(&dead, began, outcome);
    if !watch::is_gone(&mut proxy, outcome) {
        watch::expect_no_desync(&proxy, outcome);
        outcome.rss_bytes_max = outcome.rss_bytes_max.max(watch::rss_bytes(proxy.pid()));
    }
}

/// How the dead server was tried: one attempt of a worker at a time until it is knocked out, then one of the process;
/// when it has been dead for a while at most two in a second.
fn judge_attempts(dead: &Timed, began: Instant, outcome: &mut Outcome) {
    const AT_FIRST: Duration = Duration::from_secs(3);
    const PER_S_MAX: usize = 2;
    let all = dead.seen.accepted.lock().unwrap();
    let later = all.iter().filter(|at| **at - began > AT_FIRST);
    let most = later
        .clone()
        .map(|at| later.clone().filter(|o| **o >= *at && **o - *at < Duration::from_secs(1)).count());
    let (most, at_once) = (most.max().unwrap_or(0), dead.seen.open_max.load(Ordering::SeqCst));
    let at_first = all.len() - later.count();
    let text = format!(
        "{at_first} attempts at the dead server at first, later {most} in a second, at most {at_once} at once"
    );
    if most > PER_S_MAX * WORKERS || at_first > WORKERS * 10 || at_once > WORKERS {
        outcome.report_wrong(text);
    } else {
        println!("  {text}");
    }
}

/// Which keys a server has.
type Memory = Arc<Mutex<Vec<bool>>>;

fn serve(memory: &Memory) -> Timed {
    let memory = Arc::clone(memory);
    Timed::start(COST, move || -> Script {
        let memory = Arc::clone(&memory);
        Box::new(move |line, now| {
            let text = String::from_utf8_lossy(line);
            let mut words = text.split(' ');
            let op = words.next();
            let key = words.next().unwrap_or_default();
            // Or a probe, when requests have timed out.
            let Some(number) = key.strip_prefix("load:") else { return (now, b"EN\r\n".to_vec()) };
            let number: usize = number.parse().unwrap();
            let mut memory = memory.lock().unwrap();
            let answer = match op {
                Some("set") => {
                    memory[number] = true;
                    "STORED\r\n".to_owned()
                }
                _ if memory[number] => format!("VALUE {key} 0 5\r\nhello\r\nEND\r\n"),
                _ => "END\r\n".to_owned(),
            };
            (now, answer.into_bytes())
        })
    })
}

/// Clients that ask at a rate, whatever is answered.
struct Load {
    wires: Wires,
    due: Vec<VecDeque<Asked>>,
    random: Random,
    ready: VecDeque<usize>,
    turn: usize,
    answered: u64,
    /// Gets that were answered with a value or a miss.
    good: u64,
    wrong: u64,
    hung: u64,
}

struct Asked {
    key: usize,
    is_set: bool,
    retries: u8,
    at: Instant,
}

impl Load {
    fn new(proxy: &Proxy, random: Random) -> Self {
        let mut wires = Wires::new(CLIENTS);
        (0..CLIENTS).for_each(|index| wires.connect(index, proxy.address()).unwrap());
        let due = (0..CLIENTS).map(|_| VecDeque::new()).collect();
        Self { wires, due, random, ready: VecDeque::new(), turn: 0, answered: 0, good: 0, wrong: 0, hung: 0 }
    }

    /// Asks so much for so long; how much was answered well, in a second.
    fn offer(&mut self, load: f64, time: Duration, sockets: &mut Sockets) -> f64 {
        let (began, before) = (Instant::now(), self.good);
        let mut asked = 0;
        while began.elapsed() < time {
            // the dead server's share is asked too
            let share = (SERVERS + 1) as f64 / SERVERS as f64;
            let wanted = (began.elapsed().as_secs_f64() * load * CAPACITY_PER_S * share) as u64;
            while asked < wanted {
                asked += 1;
                let key = self.random.below(KEYS);
                self.ask(Asked { key, is_set: false, retries: 0, at: Instant::now() });
            }
            (0..CLIENTS).for_each(|index| self.wires.flush(index));
            self.wires.wait(Duration::from_millis(1), &mut self.ready);
            while let Some(index) = self.ready.pop_front() {
                self.look(index);
            }
            sockets.look();
        }
        let hangs = |asked: &Asked| asked.at.elapsed() > Duration::from_secs(8);
        let hung = self.due.iter().filter(|due| due.front().is_some_and(hangs)).count() as u64;
        if hung > 0 {
            tell(format_args!("{hung} clients wait too long"));
        }
        self.hung += hung;
        (self.good - before) as f64 / began.elapsed().as_secs_f64()
    }

    fn ask(&mut self, asked: Asked) {
        self.turn = (self.turn + 1) % CLIENTS;
        let Some(wire) = self.wires.at(self.turn) else { return };
        let Asked { key, is_set, .. } = asked;
        let line =
            if is_set { format!("set load:{key} 0 0 5\r\nhello\r\n") } else { format!("get load:{key}\r\n") };
        wire.out.extend_from_slice(line.as_bytes());
        self.due[self.turn].push_back(asked);
    }

    fn look(&mut self, index: usize) {
        while let Some(asked) = self.due[index].front() {
            let Some(wire) = self.wires.at(index) else { return };
            let ahead = wire.ahead();
            let Some((line, length)) = line_of(ahead) else {
                if wire.is_over {
                    self.wrong += 1;
                    tell(format_args!("closed with answers due, after {}", shown(ahead)));
                }
                return;
            };
            let value = format!("VALUE load:{} 0 5\r\nhello\r\nEND\r\n", asked.key);
            let (used, again) = if line.starts_with(b"SERVER_ERROR") {
                let retries = asked.retries + 1;
                let again = Asked { retries, at: Instant::now(), ..*asked };
                (length, (retries <= RETRIES && !asked.is_set).then_some(again))
            } else if asked.is_set && line == b"STORED" {
                (length, None)
            } else if !asked.is_set && line == b"END" {
                self.good += 1;
                // as every client of a cache does: make the value anew
                (length, Some(Asked { is_set: true, retries: 0, at: Instant::now(), ..*asked }))
            } else if !asked.is_set && ahead.starts_with(value.as_bytes()) {
                self.good += 1;
                (value.len(), None)
            } else if value.as_bytes().starts_with(ahead) {
                return;
            } else {
                self.wrong += 1;
                tell(format_args!("{} for key {}", shown(ahead), asked.key));
                (ahead.len(), None)
            };
            wire.take(used);
            self.answered += 1;
            self.due[index].pop_front();
            if let Some(again) = again {
                self.ask(again);
            }
        }
    }
}

/// How many sockets lead to each server, as the kernel has it.
struct Sockets {
    ports: Vec<u16>,
    most: Vec<usize>,
    looked: Instant,
}

impl Sockets {
    fn new(addresses: &[&str]) -> Self {
        let ports = addresses.iter().map(|a| a.rsplit(':').next().unwrap().parse().unwrap()).collect();
        Self { ports, most: vec![0; addresses.len()], looked: Instant::now() }
    }

    fn look(&mut self) {
        if self.looked.elapsed() < Duration::from_millis(50) {
            return;
        }
        self.looked = Instant::now();
        // The table is not of one instant: a socket that ends while it is read stands in it beside the one that takes its
        // place. Not so in the next one.
        let (one, other) = (self.open_counts(), self.open_counts());
        for ((most, one), other) in self.most.iter_mut().zip(one).zip(other) {
            *most = one.min(other).max(*most);
        }
    }

    /// To each server.
    fn open_counts(&self) -> Vec<usize> {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let to = |port: &u16| {
            // "sl local remote state …"; 01 is established, 02 a connection being made
            let is_open = |line: &&str| {
                let mut words = line.split_whitespace().skip(2);
                let remote = words.next().is_some_and(|w| w.ends_with(&format!(":{port:04X}")));
                remote && matches!(words.next(), Some("01" | "02"))
            };
            table.lines().filter(is_open).count()
        };
        self.ports.iter().map(to).collect()
    }

    /// Each worker has one connection to a server, and its prober one.
    fn judge(&self, outcome: &mut Outcome) {
        let text = format!("sockets to each server, at most {:?}", self.most);
        if self.most.iter().any(|most| *most > WORKERS + 1) {
            outcome.report_wrong(text);
        } else {
            println!("  {text}");
        }
    }
}
