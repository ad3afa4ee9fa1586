//! The checking clients: many on one thread, each asks in batches and looks at every byte of the answers.

use super::values::{Floor, Keys};
use crate::plan::tell;
use crate::support::Random;
use crate::support::client::shown;
use crate::wire::{Wires, line_of};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clients in all.
pub(super) const CLIENTS: usize = 64;
/// Keys of a get that has many.
const KEYS_PER_GET: usize = 50;
/// One batch in so many is gets of large values, up to so many of up to so many keys: more than is under way on a
/// connection at a time, so that others wait in front of it.
const LARGE_ONE_IN: usize = 100;
const LARGE_GETS_MAX: usize = 4;
const LARGE_KEYS_MAX: usize = 12;
/// In so many batches one is a client's last, and a new one comes, of whose values nothing is known.
const RENEWED_ONE_IN: usize = 50;
/// Longer than any answer may take, with room for a machine that others use: what takes longer hangs.
const HANG: Duration = Duration::from_secs(8);
/// One batch in so many is not waited for: the client leaves in the middle of it, more often where it is large.
const VANISH_ONE_IN: usize = 500;
const VANISH_ONE_IN_LARGE: usize = 10;
const LARGE_BYTES: usize = 16 * 1024;

/// What all threads share.
pub(super) struct Ground {
    pub(super) address: String,
    pub(super) keys: Keys,
    /// The keys of each server.
    pub(super) by_server: Vec<Vec<u32>>,
    /// Servers that nothing is done to: requests for them alone never fail.
    pub(super) untouched: Vec<bool>,
    pub(super) stop: AtomicBool,
    pub(super) tally: Tally,
}

#[derive(Default)]
pub(super) struct Tally {
    /// Values that were looked at.
    pub(super) checked: AtomicU64,
    pub(super) sets: AtomicU64,
    pub(super) misses: AtomicU64,
    /// Requests that were answered with an error line.
    pub(super) failures: AtomicU64,
    pub(super) vanished: AtomicU64,
    pub(super) wrong: AtomicU64,
    pub(super) lost: AtomicU64,
    /// The longest that any answer took.
    pub(super) slowest_us: AtomicU64,
    /// For each server: answers that were no errors.
    pub(super) good: [AtomicU64; 8],
    said: Mutex<u64>,
}

impl Tally {
    /// Says what was wrong; not everything when it is much.
    pub(super) fn complain(&self, counter: &AtomicU64, text: impl std::fmt::Display) {
        const SAID_MAX: u64 = 20;
        counter.fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap();
        *said += 1;
        if *said <= SAID_MAX {
            tell(text);
        }
    }
}

/// What is due next.
enum Due {
    /// A classic get of so many keys.
    Get(usize),
    MetaGet,
    Set {
        key: u32,
        version: u32,
        life: u32,
        is_meta: bool,
    },
}

struct Client {
    number: usize,
    random: Random,
    due: VecDeque<Due>,
    /// The keys of the gets in `due`.
    asked: VecDeque<(u32, Floor)>,
    /// Keys of the front that are counted off.
    passed: usize,
    sent_at: Instant,
}

/// How far a look at the bytes came.
enum Look {
    /// More bytes are needed.
    More,
    /// The reply in front is done with, after so many bytes.
    Done(usize),
    /// These bytes are done with, the reply is not.
    Part(usize),
    /// Not an answer to what was asked.
    Wrong(String),
}

/// Runs some of the clients until told to stop.
pub(super) fn run(ground: &Ground, numbers: Range<usize>, random: &mut Random) {
    let mut wires = Wires::new(numbers.len());
    let mut clients: Vec<Client> = numbers.map(|number| Client::new(number, random)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.begin(ground, &mut wires, index);
    }
    let mut ready = VecDeque::new();
    let mut looked = Instant::now();
    while !ground.stop.load(Ordering::Relaxed) {
        wires.wait(Duration::from_millis(50), &mut ready);
        while let Some(index) = ready.pop_front() {
            clients[index].on_bytes(ground, &mut wires, index);
        }
        if looked.elapsed() > Duration::from_millis(200) {
            looked = Instant::now();
            for (index, client) in clients.iter_mut().enumerate() {
                if client.sent_at.elapsed() > HANG {
                    let due = client.due.len();
                    ground
                        .tally
                        .complain(&ground.tally.lost, format!("{due} answers did not come in {HANG:?}"));
                    client.begin(ground, &mut wires, index);
                }
            }
        }
    }
    // what is under way is no more waited for
    clients.iter_mut().for_each(|client| client.forget(ground));
}

impl Client {
    fn new(number: usize, random: &mut Random) -> Self {
        Self {
            number,
            random: random.fork(),
            due: VecDeque::new(),
            asked: VecDeque::new(),
            passed: 0,
            sent_at: Instant::now(),
        }
    }

    /// A new connection and the first batch on it.
    fn begin(&mut self, ground: &Ground, wires: &mut Wires, index: usize) {
        self.forget(ground);
        wires.connect(index, &ground.address).unwrap_or_else(|e| panic!("cannot connect: {e}"));
        self.ask(ground, wires, index);
    }

    /// Nobody waits for the answers that are due: their sets may have been done, or will be, or not.
    fn forget(&mut self, ground: &Ground) {
        for due in self.due.drain(..) {
            if let Due::Set { key, version, .. } = due {
                ground.keys.on_doubt(key as usize, version);
            }
        }
        self.asked.clear();
        self.passed = 0;
    }

    /// Sends the next batch, and now and then leaves in the middle of it.
    fn ask(&mut self, ground: &Ground, wires: &mut Wires, index: usize) {
        let Some(wire) = wires.at(index) else { return };
        if self.random.one_in(LARGE_ONE_IN) {
            self.ask_large(ground, &mut wire.out);
        }
        for _ in 0..=self.random.below(3) {
            match self.random.below(12) {
                0 => self.ask_set(ground, &mut wire.out, false),
                1 => self.ask_set(ground, &mut wire.out, true),
                2 => self.ask_meta_get(ground, &mut wire.out),
                3 => (0..=self.random.below(10)).for_each(|_| self.ask_get(ground, &mut wire.out, 1)),
                _ => self.ask_get(ground, &mut wire.out, KEYS_PER_GET),
            }
        }
        self.sent_at = Instant::now();
        let is_large = wire.out.len() >= LARGE_BYTES;
        if self.random.one_in(if is_large { VANISH_ONE_IN_LARGE } else { VANISH_ONE_IN }) {
            let kept = self.random.below(wire.out.len());
            wire.out.truncate(kept);
            wire.flush();
            ground.tally.vanished.fetch_add(1, Ordering::Relaxed);
            return self.begin(ground, wires, index);
        }
        wires.flush(index);
    }

    /// A set of a key that only this client writes.
    fn ask_set(&mut self, ground: &Ground, out: &mut Vec<u8>, is_meta: bool) {
        let key = self.number + CLIENTS * self.random.below(ground.keys.len() / CLIENTS);
        let (version, life) = ground.keys.write_set(key, is_meta, out);
        self.due.push_back(Due::Set { key: u32::try_from(key).unwrap(), version, life, is_meta });
    }

    fn ask_meta_get(&mut self, ground: &Ground, out: &mut Vec<u8>) {
        let large = &ground.keys.large;
        let is_large = self.random.one_in(10);
        let key = if is_large {
            large[self.random.below(large.len())]
        } else {
            self.random.below(ground.keys.len())
        };
        out.extend_from_slice(b"mg ");
        out.extend_from_slice(&ground.keys.key(key).text);
        out.extend_from_slice(b" f v\r\n");
        self.asked.push_back((u32::try_from(key).unwrap(), ground.keys.floor(key)));
        self.due.push_back(Due::MetaGet);
    }

    /// Gets of large values, of one server.
    fn ask_large(&mut self, ground: &Ground, out: &mut Vec<u8>) {
        let server = self.random.below(ground.by_server.len());
        let is_there = |key: &&usize| ground.keys.key(**key).server == server;
        let keys: Vec<&usize> = ground.keys.large.iter().filter(is_there).collect();
        if keys.is_empty() {
            return;
        }
        for _ in 0..=self.random.below(LARGE_GETS_MAX) {
            let count = 1 + self.random.below(LARGE_KEYS_MAX);
            self.ask_get_of(ground, out, count, |random| u32::try_from(*random.of(&keys)).unwrap());
        }
    }

    /// A get of several keys: of all servers, or all of one.
    fn ask_get(&mut self, ground: &Ground, out: &mut Vec<u8>, count: usize) {
        let one = self.random.one_in(2).then(|| &ground.by_server[self.random.below(ground.by_server.len())]);
        self.ask_get_of(ground, out, count, |random| match one {
            Some(keys) if !keys.is_empty() => keys[random.below(keys.len())],
            _ => u32::try_from(random.below(ground.keys.len())).unwrap(),
        });
    }

    /// A get of so many keys, each as `any_key` says.
    fn ask_get_of(
        &mut self,
        ground: &Ground,
        out: &mut Vec<u8>,
        count: usize,
        mut any_key: impl FnMut(&mut Random) -> u32,
    ) {
        out.extend_from_slice(b"get");
        for _ in 0..count {
            let key = any_key(&mut self.random);
            out.push(b' ');
            out.extend_from_slice(&ground.keys.key(key as usize).text);
            self.asked.push_back((key, ground.keys.floor(key as usize)));
        }
        out.extend_from_slice(b"\r\n");
        self.due.push_back(Due::Get(count));
    }

    /// Looks at what has come.
    fn on_bytes(&mut self, ground: &Ground, wires: &mut Wires, index: usize) {
        let Some(wire) = wires.at(index) else { return };
        loop {
            if self.due.is_empty() && wire.ahead().is_empty() && !wire.is_over {
                if self.random.one_in(RENEWED_ONE_IN) {
                    return self.begin(ground, wires, index);
                }
                return self.ask(ground, wires, index);
            }
            match self.look(ground, wire.ahead()) {
                Look::More if wire.is_over => {
                    let text = format!("closed with {} answers due", self.due.len());
                    ground.tally.complain(&ground.tally.lost, text);
                    return self.begin(ground, wires, index);
                }
                Look::More => return,
                Look::Part(bytes) => wire.take(bytes),
                Look::Done(bytes) => {
                    let took_us = u64::try_from(self.sent_at.elapsed().as_micros()).unwrap();
                    ground.tally.slowest_us.fetch_max(took_us, Ordering::Relaxed);
                    wire.take(bytes);
                    self.due.pop_front();
                    self.passed = 0;
                }
                Look::Wrong(text) => {
                    ground.tally.complain(&ground.tally.wrong, text);
                    return self.begin(ground, wires, index);
                }
            }
        }
    }

    /// Looks at the reply in front.
    fn look(&mut self, ground: &Ground, bytes: &[u8]) -> Look {
        let Some((line, length)) = line_of(bytes) else { return Look::More };
        let Some(due) = self.due.front() else {
            return Look::Wrong(format!("nobody asked for {}", shown(bytes)));
        };
        if line.starts_with(b"SERVER_ERROR ") {
            return self.on_failure(ground, line, length);
        }
        match *due {
            Due::Set { key, version, life, is_meta } => {
                if line != if is_meta { &b"HD"[..] } else { b"STORED" } {
                    return Look::Wrong(format!("a set was answered {}", shown(line)));
                }
                ground.keys.on_stored(key as usize, version, life);
                ground.tally.sets.fetch_add(1, Ordering::Relaxed);
                self.on_good(ground, key);
                Look::Done(length)
            }
            Due::Get(count) if line == b"END" => {
                let rest = count - self.passed;
                for (key, floor) in self.asked.drain(..rest) {
                    on_miss(ground, key, floor);
                }
                Look::Done(length)
            }
            Due::Get(count) => match value_of(line, b"VALUE ") {
                Some((key, flags, value_bytes)) => {
                    let Some(data) = bytes.get(length..length + value_bytes + 2) else { return Look::More };
                    self.on_value(ground, count, key, flags, data)
                        .map_or_else(Look::Wrong, |()| Look::Part(length + value_bytes + 2))
                }
                None => Look::Wrong(format!("a get was answered {}", shown(line))),
            },
            Due::MetaGet => {
                let Some((key, floor)) = self.asked.front().copied() else { unreachable!("asked with it") };
                if line == b"EN" {
                    on_miss(ground, key, floor);
                    self.asked.pop_front();
                    return Look::Done(length);
                }
                let Some((value_bytes, flags)) = meta_value_of(line) else {
                    return Look::Wrong(format!("a meta get was answered {}", shown(line)));
                };
                let Some(data) = bytes.get(length..length + value_bytes + 2) else { return Look::More };
                let text = ground.keys.key(key as usize).text.clone();
                self.on_value(ground, 1, &text, flags, data)
                    .map_or_else(Look::Wrong, |()| Look::Done(length + value_bytes + 2))
            }
        }
    }

    /// A value with its line end; the keys before it missed.
    fn on_value(
        &mut self,
        ground: &Ground,
        count: usize,
        key: &[u8],
        flags: u32,
        data: &[u8],
    ) -> Result<(), String> {
        let Some(data) = data.strip_suffix(b"\r\n") else { return Err("a value without its end".into()) };
        while self.passed < count {
            self.passed += 1;
            let Some((due, floor)) = self.asked.pop_front() else { break };
            if ground.keys.key(due as usize).text != key {
                on_miss(ground, due, floor);
                continue;
            }
            // of a key that this client writes, it has heard all acknowledgements up to here
            let is_own = due as usize % CLIENTS == self.number;
            let floor = if is_own { ground.keys.floor(due as usize) } else { floor };
            if let Err(fault) = ground.keys.check(due as usize, floor, flags, data) {
                return Err(format!("{}: {fault}: {}", shown(key), shown(data)));
            }
            ground.tally.checked.fetch_add(1, Ordering::Relaxed);
            self.on_good(ground, due);
            return Ok(());
        }
        Err(format!("a value for {}, which was not asked for", shown(key)))
    }

    fn on_good(&self, ground: &Ground, key: u32) {
        ground.tally.good[ground.keys.key(key as usize).server].fetch_add(1, Ordering::Relaxed);
    }

    /// An error line in place of the reply in front.
    fn on_failure(&mut self, ground: &Ground, line: &[u8], length: usize) -> Look {
        ground.tally.failures.fetch_add(1, Ordering::Relaxed);
        let is_untouched = |key: u32| ground.untouched[ground.keys.key(key as usize).server];
        let healthy = match self.due.front() {
            Some(Due::Set { key, version, .. }) => {
                ground.keys.on_doubt(*key as usize, *version);
                is_untouched(*key)
            }
            Some(Due::Get(_)) if self.passed > 0 => {
                return Look::Wrong(format!("{} after a value", shown(line)));
            }
            Some(Due::Get(count)) => self.asked.drain(..*count).all(|(key, _)| is_untouched(key)),
            Some(Due::MetaGet) => self.asked.pop_front().is_some_and(|(key, _)| is_untouched(key)),
            None => false,
        };
        if healthy {
            return Look::Wrong(format!("{} from a healthy server", shown(line)));
        }
        Look::Done(length)
    }
}

fn on_miss(ground: &Ground, key: u32, floor: Floor) {
    ground.tally.misses.fetch_add(1, Ordering::Relaxed);
    if let Err(fault) = ground.keys.check_miss(key as usize, floor) {
        let text = shown(&ground.keys.key(key as usize).text);
        ground.tally.complain(&ground.tally.lost, format!("{text}: {fault}"));
    }
}

/// `VALUE <key> <flags> <bytes>`.
pub(super) fn value_of<'a>(line: &'a [u8], word: &[u8]) -> Option<(&'a [u8], u32, usize)> {
    let rest = line.strip_prefix(word)?;
    let at = memchr::memchr(b' ', rest)?;
    let (key, numbers) = (&rest[..at], &rest[at + 1..]);
    let at = memchr::memchr(b' ', numbers)?;
    Some((key, number(&numbers[..at])?, number(&numbers[at + 1..])? as usize))
}

/// `VA <bytes> f<flags>`.
fn meta_value_of(line: &[u8]) -> Option<(usize, u32)> {
    let rest = line.strip_prefix(b"VA ")?;
    let at = memchr::memchr(b' ', rest)?;
    let flags = rest[at + 1..].strip_prefix(b"f")?;
    Some((number(&rest[..at])? as usize, number(flags)?))
}

fn number(digits: &[u8]) -> Option<u32> {
    let digit = |n: u32, d: &u8| n.checked_mul(10)?.checked_add(u32::from(d.wrapping_sub(b'0')));
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.iter().try_fold(0, digit)
}
