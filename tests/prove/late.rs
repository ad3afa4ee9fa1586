//! `late`: servers answer around the timeout, so that about half of all requests are told that it is over and their
//! replies come when nobody waits any more. No reply may ever reach another request.
//!
//! Every key is asked for once, and its answer follows from it, also where the protocol names no key (`incr`). Clients
//! leave while their requests are under way. As long as the servers keep to their times, no connection is given up, and of
//! all requests some are answered in time and some are not.

use crate::plan::{Outcome, Plan, tell};
use crate::support::client::shown;
use crate::support::{Proxy, Random, pool_of};
use crate::timed::Timed;
use crate::watch;
use crate::wire::{Wires, line_of};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_millis(20);
const SERVERS: usize = 2;
const CLIENTS: usize = 100;
/// Requests that a client has under way.
const BATCH: usize = 20;
/// One batch in so many is not waited for.
const LEAVE_ONE_IN: usize = 20;
/// Longer than any answer may take on a machine that others use.
const HANG: Duration = Duration::from_secs(8);
/// A connection is given up when a reply is overdue by three timeouts and nothing else came for one; below this lateness it is kept.
const LATENESS_US_MAX: u64 = 40_000;
/// Wrong and missing answers that say enough. (Each that is missing takes [`HANG`].)
const FAULTS_MAX: u64 = 20;
/// Nobody sees how late a server's thread was that reads: one connection may be given up for so many answers.
const CLOSED_ONE_IN: u64 = 50_000;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut outcome = Outcome { lost: lonely(), ..Outcome::default() };
    let mut random = plan.random();
    let servers: Vec<Timed> = (0..SERVERS).map(|_| serve(random.fork())).collect();
    let addresses: Vec<&str> = servers.iter().map(|s| &*s.address).collect();
    let mut proxy = Proxy::with(&format!(
        "limits: {{late_replies_max: 1000000}}\n{}",
        pool_of(&addresses, "timeout: 20ms\nconnect_timeout: 20ms\ntko: off")
    ));
    let mut load = Load::new(&proxy, random.fork());
    // the amount is of requests that timed out
    let is_enough = |load: &Load| load.wrong.len() as u64 + load.lost >= FAULTS_MAX;
    while plan.goes_on(load.timed_out) && proxy.process().is_running() && !is_enough(&load) {
        load.turn();
    }
    (outcome.checked, outcome.faults) = (load.checked, load.timed_out);
    load.wrong.iter().for_each(tell);
    outcome.wrong = load.wrong.len() as u64;
    outcome.lost += load.lost;
    if watch::is_gone(&mut proxy, &mut outcome) {
        return outcome;
    }
    let desync = watch::stat(&proxy, "desync_detected");
    let closed = watch::stat(&proxy, "server_closed");
    let lateness_us = servers.iter().map(|s| s.seen.lateness_us.load(Ordering::Relaxed)).max().unwrap_or(0);
    let closed_max = if lateness_us < LATENESS_US_MAX { load.checked / CLOSED_ONE_IN } else { u64::MAX };
    if desync > 0 || closed > closed_max {
        outcome.report_wrong(format_args!("desync_detected {desync}, {closed} connections closed"));
    }
    outcome.rss_bytes_max = watch::rss_bytes(proxy.pid());
    let thrown_away = watch::stat(&proxy, "server_late");
    outcome.more.push(format!("thrown_away={thrown_away} closed={closed} left={}", load.left));
    outcome.more.push(format!("server_lateness_max={}ms", lateness_us / 1000));
    let Load { timed_out, checked, .. } = load;
    if timed_out * 10 < checked || (checked - timed_out) * 10 < checked {
        outcome.report_wrong(format_args!(
            "{timed_out} of {checked} timed out: some should, and some should not"
        ));
    }
    outcome
}

/// Nothing else happens while these requests wait, so nothing but the timer can wake the program: how many were not told
/// that their time is over.
fn lonely() -> u64 {
    const REQUESTS: usize = 10;
    let silent =
        Timed::start(Duration::ZERO, || Box::new(|_, now| (now + Duration::from_secs(3_600), Vec::new())));
    let proxy = Proxy::before(&[&silent.address], "timeout: 20ms\ntko: off");
    let mut client = proxy.client();
    client.set_patience(HANG);
    for asked in 0..REQUESTS {
        client.send("get lonely\r\n");
        if !client.try_read_more().unwrap_or(false) {
            tell(format_args!("request {asked} was not answered in {HANG:?}, alone with a silent server"));
            return 1;
        }
    }
    0
}

/// A server that answers every request when about the timeout has passed: in order, 20 % around it. For some moments all
/// are slower, then all are faster: would each have a time of its own, all would wait for the slowest before them.
fn serve(random: Random) -> Timed {
    let random = Mutex::new(random);
    Timed::start(Duration::ZERO, move || {
        let mut random = random.lock().unwrap().fork();
        let (mut share, mut until, mut last) = (1.0, Instant::now(), Instant::now());
        Box::new(move |line, now| {
            if now > until {
                share = 0.8 + 0.4 * random.below(1000) as f64 / 1000.0;
                until = now + Duration::from_millis(random.below(100) as u64);
            }
            last = last.max(now + TIMEOUT.mul_f64(share));
            (last, answer_to(line))
        })
    })
}

/// What a server says to this line: everything follows from the number in the key.
fn answer_to(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["get", ..] => {
            let values = words[1..].iter().map(|key| {
                let value = value_of(number_of(key));
                format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len())
            });
            values.chain(["END\r\n".to_owned()]).collect::<String>().into_bytes()
        }
        ["mg", key, ..] => {
            let value = value_of(number_of(key));
            let opaque = words.iter().find(|w| w.starts_with('O')).unwrap_or(&"");
            format!("VA {} {opaque}\r\n{value}\r\n", value.len()).into_bytes()
        }
        ["incr", key, _] => format!("{}\r\n", number_of(key) * 7 + 3).into_bytes(),
        _ => b"ERROR\r\n".to_vec(),
    }
}

fn number_of(key: &str) -> u64 {
    key.strip_prefix("late:").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("asked for {key:?}"))
}

/// Many lengths, each value another.
fn value_of(number: u64) -> String {
    format!("<{number}>{}", "=".repeat(usize::try_from(number % 90).unwrap()))
}

/// The clients.
struct Load {
    address: String,
    wires: Wires,
    due: Vec<VecDeque<Vec<u8>>>,
    sent_at: Vec<Instant>,
    random: Random,
    next: u64,
    ready: VecDeque<usize>,
    looked: Instant,
    checked: u64,
    timed_out: u64,
    left: u64,
    lost: u64,
    wrong: Vec<String>,
}

impl Load {
    fn new(proxy: &Proxy, random: Random) -> Self {
        let mut load = Self {
            address: proxy.address().to_owned(),
            wires: Wires::new(CLIENTS),
            due: vec![VecDeque::new(); CLIENTS],
            sent_at: vec![Instant::now(); CLIENTS],
            random,
            next: 1,
            ready: VecDeque::new(),
            looked: Instant::now(),
            checked: 0,
            timed_out: 0,
            left: 0,
            lost: 0,
            wrong: Vec::new(),
        };
        (0..CLIENTS).for_each(|index| load.begin(index));
        load
    }

    fn begin(&mut self, index: usize) {
        self.due[index].clear();
        self.wires.connect(index, &self.address).unwrap_or_else(|e| panic!("cannot connect: {e}"));
        self.ask(index);
    }

    fn ask(&mut self, index: usize) {
        let Some(wire) = self.wires.at(index) else { return };
        for _ in 0..BATCH {
            let number = self.next;
            self.next += 1;
            let kind = self.random.below(4);
            let (request, answer) = conversation(kind, number, &mut self.next);
            wire.out.extend_from_slice(request.as_bytes());
            self.due[index].push_back(answer.into_bytes());
        }
        self.sent_at[index] = Instant::now();
        self.wires.flush(index);
        if self.random.one_in(LEAVE_ONE_IN) {
            self.left += 1;
            self.begin(index);
        }
    }

    /// Waits for answers, looks at them, asks anew.
    fn turn(&mut self) {
        self.wires.wait(Duration::from_millis(50), &mut self.ready);
        while let Some(index) = self.ready.pop_front() {
            if let Err(text) = self.look(index) {
                self.wrong.push(text);
                self.begin(index);
            }
        }
        if self.looked.elapsed() > Duration::from_millis(200) {
            self.looked = Instant::now();
            for index in 0..CLIENTS {
                if self.sent_at[index].elapsed() > HANG {
                    tell(format_args!("{} answers did not come in {HANG:?}", self.due[index].len()));
                    self.lost += 1;
                    self.begin(index);
                }
            }
        }
    }

    fn look(&mut self, index: usize) -> Result<(), String> {
        let Some(wire) = self.wires.at(index) else { return Ok(()) };
        while let Some(answer) = self.due[index].front() {
            let ahead = wire.ahead();
            if ahead.starts_with(b"SERVER_ERROR ") {
                let Some((_, length)) = line_of(ahead) else { return Ok(()) };
                wire.take(length);
                self.timed_out += 1;
            } else if ahead.starts_with(answer) {
                wire.take(answer.len());
            } else if answer.starts_with(ahead) || b"SERVER_ERROR ".starts_with(ahead) {
                return if wire.is_over { Err("closed with answers due".into()) } else { Ok(()) };
            } else {
                return Err(format!("{} instead of {}", shown(ahead), shown(answer)));
            }
            self.checked += 1;
            self.due[index].pop_front();
        }
        if !wire.ahead().is_empty() {
            return Err(format!("nobody asked for {}", shown(wire.ahead())));
        }
        self.ask(index);
        Ok(())
    }
}

/// A request and the only right answer to it.
fn conversation(kind: usize, number: u64, next: &mut u64) -> (String, String) {
    let value = |number| (value_of(number), value_of(number).len());
    match kind {
        0 => (format!("incr late:{number} 1\r\n"), format!("{}\r\n", number * 7 + 3)),
        1 => {
            let (text, length) = value(number);
            (format!("mg late:{number} v\r\n"), format!("VA {length}\r\n{text}\r\n"))
        }
        2 => {
            let (text, length) = value(number);
            (format!("get late:{number}\r\n"), format!("VALUE late:{number} 0 {length}\r\n{text}\r\nEND\r\n"))
        }
        _ => {
            let numbers: Vec<u64> = (0..10).map(|n| *next + n).collect();
            *next += 10;
            let keys: String = numbers.iter().map(|n| format!(" late:{n}")).collect();
            let values = numbers.iter().map(|n| {
                let (text, length) = value(*n);
                format!("VALUE late:{n} 0 {length}\r\n{text}\r\n")
            });
            (format!("get{keys}\r\n"), values.chain(["END\r\n".to_owned()]).collect())
        }
    }
}
