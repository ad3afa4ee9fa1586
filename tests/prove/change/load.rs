//! Clients that never stop asking: each has keys of its own, and what it has set last is what it must get.

use crate::plan::Outcome;
use crate::support::Random;
use crate::support::client::shown;
use crate::wire::Wires;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub(super) const THREADS: usize = 2;
/// Of each thread; half of them connect anew from time to time.
const CLIENTS: usize = 24;
const KEYS: usize = 32;
/// Requests in one write at most, each for another key: in what order two of them for one key arrive while their connections
/// are exchanged is not promised.
const BATCH_MAX: usize = 8;
const RECONNECT_ONE_IN: usize = 40;
/// Longer than any answer may take.
const HANG: Duration = Duration::from_secs(25);

/// What all threads share.
pub(super) struct Ground {
    address: String,
    stop: AtomicBool,
    requests: AtomicU64,
    connects: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Ground {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            faults: Mutex::default(),
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.faults.lock().unwrap().is_empty()
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Until so many more were answered, or one was not.
    pub(super) fn await_requests(&self, count: u64) {
        let wanted = self.requests.load(Relaxed) + count;
        while self.requests.load(Relaxed) < wanted && self.is_clean() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    pub(super) fn report(&self, outcome: &mut Outcome) {
        outcome.checked += self.requests.load(Relaxed);
        outcome.add("connects", self.connects.load(Relaxed));
        for fault in self.faults.lock().unwrap().iter() {
            outcome.report_wrong(fault);
        }
    }

    fn complain(&self, text: String) {
        self.faults.lock().unwrap().push(text);
        self.stop();
    }
}

/// One client.
struct Asking {
    name: usize,
    random: Random,
    /// The last version of each key; 0: never set.
    versions: [u64; KEYS],
    /// All that has to come for what was asked.
    due: Vec<u8>,
    asked: u64,
    since: Instant,
}

/// Runs the clients of one thread until told to stop.
pub(super) fn run(ground: &Ground, thread: usize, mut random: Random) {
    let mut wires = Wires::new(CLIENTS);
    let mut clients: Vec<Asking> = (0..CLIENTS)
        .map(|index| Asking {
            name: thread * CLIENTS + index,
            random: random.fork(),
            versions: [0; KEYS],
            due: Vec::new(),
            asked: 0,
            since: Instant::now(),
        })
        .collect();
    for (index, client) in clients.iter_mut().enumerate() {
        connect(ground, &mut wires, index);
        client.ask(&mut wires, index);
    }
    let mut ready = VecDeque::new();
    while !ground.stop.load(Relaxed) {
        wires.wait(Duration::from_millis(100), &mut ready);
        while let Some(index) = ready.pop_front() {
            clients[index].look(ground, &mut wires, index);
        }
        if let Some(client) = clients.iter().find(|client| client.since.elapsed() > HANG) {
            ground.complain(format!("client {} is not answered", client.name));
        }
    }
}

fn connect(ground: &Ground, wires: &mut Wires, index: usize) {
    ground.connects.fetch_add(1, Relaxed);
    if let Err(error) = wires.connect(index, &ground.address) {
        ground.complain(format!("refused: {error}"));
    }
}

impl Asking {
    fn look(&mut self, ground: &Ground, wires: &mut Wires, index: usize) {
        let Some(wire) = wires.at(index) else { return };
        let ahead = wire.ahead();
        let length = ahead.len().min(self.due.len());
        if ahead[..length] != self.due[..length] || ahead.len() > self.due.len() {
            let (got, due) = (shown(ahead), shown(&self.due));
            return ground.complain(format!("client {} got {got} and not {due}", self.name));
        }
        if length < self.due.len() {
            if wire.is_over {
                let due = shown(&self.due[length..]);
                ground.complain(format!("client {} was closed before {due}", self.name));
            }
            return;
        }
        if wire.is_over {
            return ground.complain(format!("client {} was closed", self.name));
        }
        wire.take(length);
        ground.requests.fetch_add(self.asked, Relaxed);
        if index < CLIENTS / 2 && self.random.one_in(RECONNECT_ONE_IN) {
            connect(ground, wires, index);
        }
        self.ask(wires, index);
    }

    /// The next batch.
    fn ask(&mut self, wires: &mut Wires, index: usize) {
        let Some(wire) = wires.at(index) else { return };
        self.due.clear();
        self.since = Instant::now();
        let first = self.random.below(KEYS);
        self.asked = 1 + self.random.below(BATCH_MAX) as u64;
        let mut out = String::new();
        let mut due = String::new();
        for step in 0..usize::try_from(self.asked).unwrap() {
            let number = (first + step) % KEYS;
            let key = format!("change:{}:{number}", self.name);
            let version = &mut self.versions[number];
            // writing to a String cannot fail
            let _ = match self.random.below(4) {
                0 => {
                    *version += 1;
                    let value = value_of(self.name, number, *version);
                    due.push_str("STORED\r\n");
                    write!(out, "set {key} 7 0 {}\r\n{value}\r\n", value.len())
                }
                1 => {
                    due.push_str(if *version == 0 { "NOT_FOUND\r\n" } else { "TOUCHED\r\n" });
                    write!(out, "touch {key} 0\r\n")
                }
                _ => {
                    if *version > 0 {
                        let value = value_of(self.name, number, *version);
                        let _ = write!(due, "VALUE {key} 7 {}\r\n{value}\r\n", value.len());
                    }
                    due.push_str("END\r\n");
                    write!(out, "get {key}\r\n")
                }
            };
        }
        self.due.extend_from_slice(due.as_bytes());
        wire.out.extend_from_slice(out.as_bytes());
        wires.flush(index);
    }
}

/// No two keys and no two versions have the same value; one in some hundred is large.
fn value_of(name: usize, number: usize, version: u64) -> String {
    let word = format!("{name}:{number}:{version};");
    let length =
        if version.is_multiple_of(200) { 20_000 } else { 8 + (version as usize * 37 + number) % 400 };
    word.repeat(length.div_ceil(word.len()))
}
