//! Good clients beside the hostile ones: so many requests a second, each answer checked and timed.

use crate::plan::tell;
use crate::support::Random;
use crate::support::client::{Client, shown};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients, each in a thread of its own.
const CLIENTS: u64 = 40;
/// Those that ask a server without ringway, and how much.
const DIRECT_CLIENTS: u64 = 4;
const DIRECT_PER_SECOND: u64 = 2_000;
/// Between two batches of each.
const PAUSE: Duration = Duration::from_millis(20);
/// Keys of each.
const KEYS: usize = 500;
/// Faults that are told one by one.
const TOLD_MAX: u64 = 10;
/// Whoever is so far behind gives up what is missing: the machine was busy with something else.
const BEHIND_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Good {
    shared: Arc<Shared>,
    /// Of those that ask a server itself.
    direct: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stops: AtomicBool,
    answers: AtomicU64,
    wrong: AtomicU64,
    /// Of each answer since this was last looked at, from the moment when its request was due.
    micros: Mutex<Vec<u32>>,
}

/// What they saw in some time.
#[derive(Clone, Copy)]
pub(crate) struct Phase {
    pub(crate) p99_micros: u32,
    /// What those saw who asked a server at the same time, and not through ringway: the machine's doing.
    pub(crate) direct_p99_micros: u32,
}

impl Phase {
    /// More than twice the quiet time, and more than twice what the machine makes of it without ringway.
    pub(crate) fn is_slow(&self, quiet: &Self) -> bool {
        self.p99_micros > 2 * quiet.p99_micros.max(self.direct_p99_micros)
    }
}

impl Good {
    pub(crate) const CONNECTIONS: u64 = CLIENTS;

    /// Clients of ringway at `address`, and few that ask `server` itself.
    pub(crate) fn start(address: &str, server: &str, per_second: u64, random: &mut Random) -> Self {
        let (shared, direct) = (Arc::default(), Arc::default());
        let mut threads = start("good", CLIENTS, address, per_second, random, &shared);
        threads.extend(start("direct", DIRECT_CLIENTS, server, DIRECT_PER_SECOND, random, &direct));
        Self { shared, direct, threads }
    }

    pub(crate) fn answers(&self) -> u64 {
        self.shared.answers.load(Relaxed)
    }

    pub(crate) fn wrong(&self) -> u64 {
        self.shared.wrong.load(Relaxed)
    }

    /// What they saw since this was last asked.
    pub(crate) fn phase(&self) -> Phase {
        Phase { p99_micros: self.shared.take_p99(), direct_p99_micros: self.direct.take_p99() }
    }
}

impl Shared {
    fn take_p99(&self) -> u32 {
        let mut micros = std::mem::take(&mut *self.micros.lock().unwrap());
        micros.sort_unstable();
        micros.get(micros.len() * 99 / 100).copied().unwrap_or(0)
    }
}

impl Drop for Good {
    fn drop(&mut self) {
        self.shared.stops.store(true, Relaxed);
        self.direct.stops.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tell("a good client gave up");
            }
        }
    }
}

/// Small mostly, some so large that they are passed on without a copy; always the same for the same key.
fn value_of(key: &str, number: usize) -> Vec<u8> {
    let length = if number.is_multiple_of(50) { 20_000 + number } else { 1 + number * 3 };
    key.bytes().cycle().take(length).collect()
}

fn start(
    name: &'static str,
    clients: u64,
    address: &str,
    per_second: u64,
    random: &mut Random,
    shared: &Arc<Shared>,
) -> Vec<JoinHandle<()>> {
    let one = |number| {
        let (shared, random, address) = (Arc::clone(shared), random.fork(), address.to_owned());
        let load = Load { name, number, share: number as f64 / clients as f64 };
        std::thread::spawn(move || ask(&load, &address, per_second / clients, random, &shared))
    };
    (0..clients).map(one).collect()
}

/// One client.
struct Load {
    name: &'static str,
    number: u64,
    /// Of the time between two batches: when it begins.
    share: f64,
}

fn ask(load: &Load, address: &str, per_second: u64, mut random: Random, shared: &Shared) {
    let mut connection = Client::connect(address);
    let pause = PAUSE.max(Duration::from_secs(1) / u32::try_from(per_second).unwrap());
    let batch = (per_second as f64 * pause.as_secs_f64()).round().max(1.0) as usize;
    // They know nothing of each other: their batches come evenly over time.
    let mut due = Instant::now() + pause.mul_f64(load.share);
    while !shared.stops.load(Relaxed) {
        due += pause;
        if due.elapsed() > BEHIND_MAX {
            due = Instant::now();
        }
        crate::watch::pass(due.saturating_duration_since(Instant::now()));
        let mut text = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..batch {
            let number = random.below(KEYS);
            let key = format!("{}:{}:{number}", load.name, load.number);
            let value = value_of(&key, number);
            if random.one_in(5) {
                text.extend_from_slice(format!("set {key} 0 0 {}\r\n", value.len()).as_bytes());
                text.extend_from_slice(&value);
                text.extend_from_slice(b"\r\n");
                expected.push(("STORED".to_owned(), None));
            } else {
                text.extend_from_slice(format!("get {key}\r\n").as_bytes());
                expected.push((format!("VALUE {key} 0 {}", value.len()), Some(value)));
            }
        }
        let told = exchange(&mut connection, &text, &expected, || {
            shared.answers.fetch_add(1, Relaxed);
            let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
            shared.micros.lock().unwrap().push(micros);
        });
        if let Err(what) = told {
            if shared.wrong.fetch_add(1, Relaxed) < TOLD_MAX {
                tell(format_args!("a good client: {what}"));
            }
            connection = Client::connect(address);
        }
    }
}

/// Sends a batch and takes its answers, each as soon as it is there.
fn exchange(
    connection: &mut Client,
    text: &[u8],
    expected: &[(String, Option<Vec<u8>>)],
    mut on_answer: impl FnMut(),
) -> Result<(), String> {
    connection.try_send(text).map_err(|e| format!("cannot send: {e}"))?;
    for (line, value) in expected {
        let got = next_line(connection)?;
        match value {
            Some(_) if got == "END" => {} // a cache may forget
            _ if got != *line => return Err(format!("got {got:?}, expected {line:?}")),
            None => {}
            Some(value) => {
                let rest = [&value[..], b"\r\nEND\r\n"].concat();
                while connection.ahead().len() < rest.len() {
                    more(connection)?;
                }
                let got = connection.take_ahead(rest.len());
                if got != rest {
                    return Err(format!("{line}: a wrong value {}", shown(&got)));
                }
            }
        }
        on_answer();
    }
    Ok(())
}

fn next_line(connection: &mut Client) -> Result<String, String> {
    loop {
        if let Some(at) = connection.ahead().windows(2).position(|w| w == b"\r\n") {
            let line = connection.take_ahead(at + 2);
            return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
        }
        more(connection)?;
    }
}

fn more(connection: &mut Client) -> Result<(), String> {
    match connection.try_read_more() {
        Ok(true) => Ok(()),
        Ok(false) => Err("closed".into()),
        Err(e) => Err(format!("no answer: {e}")),
    }
}
