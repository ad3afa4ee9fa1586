//! Log hygiene: whatever bytes clients and servers bring, each line of the log is whole, plain and rare, and nothing of
//! a value is in it.
//!
//! `checked` counts requests with keys of all bytes, `faults` what the servers did wrong.

use crate::plan::{Outcome, Plan, tell};
use crate::support::{Client, Directory, Proxy, Random, dead_address, pool_of};
use crate::watch;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A part of each value, of some keys, and of what servers say: it must not be found anywhere else.
const CANARY: &str = "hush-4f1d";
/// Ten of one cause in a second of the program's own; one of the clock's may have parts of two of those.
const LINES_PER_SECOND_MAX: usize = 2 * 10;
const BATCH: u64 = 20;
/// Servers that are not knocked out are heard most; that they are knocked out is told as well.
const KNOCKED_OUT: [&str; 2] = ["off", "{probe_timeout_initial: 10ms, probe_timeout_max: 50ms}"];
/// What makes a log lie to who reads it: colours, line ends, directions, JSON.
const NASTY: &[&str] = &[
    "\u{1b}[31mred",
    "\u{7}",
    "\u{8}",
    "\u{7f}",
    "\u{85}",
    "\u{9b}",
    "\u{feff}",
    "\u{2028}",
    "\u{2029}",
    "\u{202e}",
    "\u{2066}",
    "\",\"level\":\"FATAL\"",
    "\\u0000",
    "%s%n",
    "\u{0}",
    "\u{b}",
    "{}",
    "\t",
];

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    for format in ["json", "text"] {
        for knocked_out in KNOCKED_OUT {
            attack(format, knocked_out, plan, &mut outcome);
        }
    }
    outcome
}

fn attack(format: &str, knocked_out: &str, plan: &Plan, outcome: &mut Outcome) {
    let faults = Arc::new(AtomicU64::new(0));
    let servers: Vec<String> = (0..2).map(|n| serve(plan.seed + n, &faults)).collect();
    let dead = dead_address();
    let pool = format!("timeout: 20ms\ntko: {knocked_out}");
    let directory = Directory::new();
    let path = directory.write("ringway.yaml", &pool_of(&[&dead, &servers[0], &servers[1]], &pool));
    let arguments = ["run", "-c", &path, "--listen", "127.0.0.1:0", "--workers", "1"];
    let mut proxy =
        Proxy::start(&[&arguments[..], &["--log-format", format, "--log-level", "debug"]].concat());
    let mut random = plan.random();
    let mut client = proxy.client();
    let mut done = 0;
    while plan.goes_on(done * 4) {
        let mut text = Vec::new();
        for _ in 0..BATCH {
            request(&mut random, &mut text);
        }
        // Some of what was sent may close the connection; whatever was answered is no matter here.
        text.extend_from_slice(b"\r\nmn\r\n");
        if client.try_send(&text).is_err() || !read_to_noop(&mut client) {
            client = proxy.client();
        }
        done += BATCH;
    }
    outcome.checked += done;
    outcome.faults += faults.load(Relaxed);
    let mut found = Vec::new();
    let mut client = proxy.client();
    for what in ["stats", "stats settings", "stats items", "stats slabs", "stats conns"] {
        client.send(format!("{what}\r\n"));
        found.extend(client.lines_to_end().iter().filter_map(|line| fault_of(line)));
    }
    watch::is_gone(&mut proxy, outcome);
    proxy.terminate();
    let log = proxy.stderr();
    found.extend(log.lines().filter_map(fault_of));
    if format == "json" {
        let broken =
            |line: &&str| !serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v.is_object());
        found.extend(log.lines().filter(broken).map(|line| format!("no JSON: {line}")));
    }
    found.extend(too_many(&log));
    outcome.wrong += found.len() as u64;
    for fault in found.iter().take(20) {
        tell(format_args!("{format}: {fault}"));
    }
    outcome.add(if format == "json" { "json_lines" } else { "text_lines" }, log.lines().count() as u64);
}

/// One request whose key is made of all bytes that a key can have, and of some that none can.
fn request(random: &mut Random, text: &mut Vec<u8>) {
    let mut key: Vec<u8> = (0..1 + random.below(60))
        .map(|_| random.any().to_le_bytes()[0])
        .filter(|b| !matches!(b, b' ' | b'\r' | b'\n'))
        .chain([b'k'])
        .collect();
    if random.one_in(3) {
        key.extend_from_slice(random.of(NASTY).replace(' ', "_").as_bytes());
    }
    if random.one_in(8) {
        key.extend_from_slice(CANARY.as_bytes());
    }
    let verb: &[u8] =
        random.of(&[b"get " as &[u8], b"get ", b"delete ", b"mg ", b"incr ", b"what ", b"stats ", b"gat 0 "]);
    if random.one_in(4) {
        text.extend_from_slice(b"set ");
        text.extend_from_slice(&key);
        text.extend_from_slice(format!(" 0 0 {}\r\n{CANARY}", CANARY.len()).as_bytes());
    } else {
        text.extend_from_slice(verb);
        text.extend_from_slice(&key);
        if verb == b"incr " {
            text.extend_from_slice(b" 1");
        }
    }
    text.extend_from_slice(b"\r\n");
}

/// Reads until the answer of `mn`; false when the connection was closed.
fn read_to_noop(client: &mut Client) -> bool {
    loop {
        let there = client.ahead().ends_with(b"\nMN\r\n") || client.ahead() == b"MN\r\n";
        if there {
            client.take_ahead(client.ahead().len());
            return true;
        }
        if !client.try_read_more().unwrap_or(false) {
            return false;
        }
    }
}

/// What is wrong with a line.
fn fault_of(line: &str) -> Option<String> {
    let odd = |c: &char| {
        c.is_control()
            || matches!(*c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffd}')
    };
    if let Some(c) = line.chars().find(odd) {
        return Some(format!("{c:?} in {line:?}"));
    }
    let told = line.contains(CANARY) || line.contains("panicked");
    told.then(|| format!("this must not be told: {line:?}"))
}

/// Causes that were told of too often within one second: the message without its numbers is the cause.
fn too_many(log: &str) -> Vec<String> {
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    for line in log.lines() {
        let json: Option<serde_json::Value> = serde_json::from_str(line).ok();
        let word = |name: &str| json.as_ref().and_then(|j| j[name].as_str()).map(str::to_owned);
        let time = word("timestamp").unwrap_or_else(|| line.split(' ').next().unwrap_or_default().to_owned());
        let cause = word("message").unwrap_or_else(|| line.get(28..).unwrap_or_default().to_owned());
        let second: String = time.chars().take(19).collect();
        let cause = cause.chars().filter(|c| !c.is_ascii_digit()).collect();
        *counts.entry((second, cause)).or_default() += 1;
    }
    let many = counts.into_iter().filter(|(_, count)| *count > LINES_PER_SECOND_MAX);
    many.map(|((second, cause), count)| format!("{count} lines in {second}: {cause}")).collect()
}

/// A server that is wrong in every way there is, now and then; its address.
fn serve(seed: u64, faults: &Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let faults = Arc::clone(faults);
    std::thread::spawn(move || {
        let mut random = Random::new(seed);
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            // One after the other: ringway has one connection to each server.
            answer(stream, &mut random, &faults);
        }
    });
    address
}

fn answer(mut stream: TcpStream, random: &mut Random, faults: &AtomicU64) {
    let mut ahead: Vec<u8> = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let Some(end) = ahead.windows(2).position(|w| w == b"\r\n") else {
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => ahead.extend_from_slice(&buffer[..count]),
                _ => return,
            }
            continue;
        };
        let line: Vec<u8> = ahead.drain(..end + 2).take(end).collect();
        if !line.contains(&b' ') && line != b"version" {
            continue; // a data block
        }
        let nasty = random.of(NASTY);
        let fault = |text: String| {
            faults.fetch_add(1, Relaxed);
            text
        };
        let said = match random.below(60) {
            0 => fault(format!("SERVER_ERROR {CANARY} {nasty}\r\n")),
            1 => fault(format!("CLIENT_ERROR {nasty}{nasty} {CANARY}\r\n")),
            2 if random.one_in(4) => fault(format!("{nasty} {CANARY}\r\n")),
            3 if random.one_in(4) => fault(format!("VALUE {CANARY} 0 99999999999\r\n")),
            4 if random.one_in(4) => {
                faults.fetch_add(1, Relaxed);
                return;
            }
            _ if line == b"version" && random.one_in(3) => fault(format!("VERSION {nasty}\r\n{CANARY}\r\n")),
            _ if line == b"version" => format!("VERSION 1.6.45 {CANARY}\r\n"),
            _ => usual(&line),
        };
        if stream.write_all(said.as_bytes()).is_err() {
            return;
        }
    }
}

/// Without memory, but with a value for who asks for one without a canary.
fn usual(line: &[u8]) -> String {
    let text: String = line.iter().map(|b| char::from(*b)).collect();
    let words: Vec<&str> = text.split(' ').collect();
    match words[0] {
        "get" | "gat" => "END\r\n".into(),
        "set" => "STORED\r\n".into(),
        "mg" => {
            let opaque = words.iter().skip(2).find(|w| w.starts_with('O')).copied().unwrap_or_default();
            format!("VA {} {opaque}\r\n{CANARY}\r\n", CANARY.len())
        }
        _ => "NOT_FOUND\r\n".into(),
    }
}
