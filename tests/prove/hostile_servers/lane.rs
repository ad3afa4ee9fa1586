//! A lane: one client, the hostile server that it asks, and the healthy one beside it, all in one thread.
//!
//! A case is one pipeline. The hostile server waits until all of it has arrived, so that sixteen requests and one more
//! are under way when it answers one of them wrongly.

use super::bad::{self, Bad, Then, Told};
use super::question::{Hit, OPS, Op, Question, is_missing};
use super::server::{Arrived, Server};
use crate::support::client::shown;
use crate::support::{PATIENCE, Random};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// Places in the pipeline that are tried; one more request stands behind them, so that something always follows.
pub(super) const PLACES: usize = 16;

/// So large that it is still being written when the server answers early.
const EARLY_BYTES: usize = 6_000_000;

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) way: usize,
    /// From 1.
    pub(super) place: usize,
    pub(super) op: Op,
    pub(super) seed: u64,
    /// The server's bytes come in pieces.
    pub(super) torn: bool,
}

pub(super) struct Lane {
    address: String,
    client: TcpStream,
    ahead: Vec<u8>,
    pub(super) hostile: Server,
    pub(super) healthy: Server,
    /// What the keys of either server have between the braces.
    tags: [String; 2],
}

/// A request of the pipeline, and whose it is.
struct Asked {
    question: Question,
    /// From 1 for the hostile server, 0 for the healthy one.
    place: usize,
}

/// What the hostile server is going to do.
struct Trap {
    arrived: Vec<Question>,
    sprung: bool,
    /// Read and not answered: it was answered early.
    skips: usize,
    left_out: Vec<u8>,
    bad: Option<Bad>,
}

/// What happened in a case.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) answers: u64,
    /// Connections that had to go.
    pub(super) gone: u64,
}

impl Lane {
    pub(super) fn new(address: &str, servers: [Server; 2], tags: [String; 2]) -> Self {
        let [hostile, healthy] = servers;
        Self { address: address.into(), client: connect(address), ahead: Vec::new(), hostile, healthy, tags }
    }

    /// Tries one case. After a fault everything is set up anew.
    pub(super) fn run(&mut self, case: &Case) -> Result<Seen, String> {
        let result = self.attempt(case);
        if result.is_err() {
            self.hostile.part();
            self.healthy.part();
            self.client = connect(&self.address);
            self.ahead.clear();
        }
        result
    }

    fn attempt(&mut self, case: &Case) -> Result<Seen, String> {
        let mut random = Random::new(case.seed);
        let asked = self.pipeline(case, &mut random);
        let text: Vec<u8> = asked.iter().flat_map(|a| a.question.text()).collect();
        self.client.write_all(&text).map_err(|e| format!("cannot send: {e}"))?;
        let mut trap = Trap { arrived: Vec::new(), sprung: false, skips: 0, left_out: Vec::new(), bad: None };
        let mut answers = Vec::with_capacity(asked.len());
        let deadline = Instant::now() + PATIENCE;
        while answers.len() < asked.len() {
            self.turn(case, &mut trap, &mut random, deadline)?;
            while let Some(length) = answer_length(&self.ahead, asked.get(answers.len())) {
                answers.push(self.ahead.drain(..length).collect::<Vec<u8>>());
            }
        }
        let Some(bad) = &trap.bad else {
            return Err(format!("answered before all had arrived, at first {}", shown(&answers[0])));
        };
        for (asked, answer) in asked.iter().zip(&answers) {
            check(case, asked, bad, answer)?;
        }
        self.aftermath(bad, &trap.left_out)?;
        Ok(Seen { answers: answers.len() as u64, gone: u64::from(bad.gone) })
    }

    /// Seventeen requests for the hostile server with some for the healthy one in between.
    fn pipeline(&self, case: &Case, random: &mut Random) -> Vec<Asked> {
        let mut asked = Vec::new();
        for place in 1..=PLACES + 1 {
            let op = match place {
                _ if place == case.place => case.op,
                _ if place == case.place + 1 => Op::MetaGet,
                _ => OPS[random.below(OPS.len())],
            };
            // Where it matters the key is there.
            let found = place == case.place || place == case.place + 1;
            let mut question = Question::new(op, self.keys(op, found, random), random);
            if let Some(opaque) = &mut question.opaque {
                *opaque += &format!("p{place}");
            }
            if place == case.place && op.is_storage() && bad::is_early(case.way) {
                question.data_bytes = EARLY_BYTES;
            }
            asked.push(Asked { question, place });
            if random.one_in(4) {
                let op = OPS[random.below(OPS.len())];
                let op = if op == Op::Multi { Op::Get } else { op };
                let keys = vec![key(&self.tags[1], random.one_in(8), random)];
                asked.push(Asked { question: Question::new(op, keys, random), place: 0 });
            }
        }
        asked
    }

    fn keys(&self, op: Op, found: bool, random: &mut Random) -> Vec<String> {
        let mut one = |server: usize| key(&self.tags[server], !found && random.one_in(8), random);
        if op == Op::Multi { vec![one(0), one(1), one(0), one(0)] } else { vec![one(0)] }
    }

    /// Waits until somebody has something to say, and hears it.
    fn turn(
        &mut self,
        case: &Case,
        trap: &mut Trap,
        random: &mut Random,
        deadline: Instant,
    ) -> Result<(), String> {
        let ready = self.wait(deadline)?;
        if ready[0] {
            let mut buffer = [0; 65536];
            match self.client.read(&mut buffer) {
                Ok(count) if count > 0 => self.ahead.extend_from_slice(&buffer[..count]),
                other => return Err(format!("the client is closed: {other:?}")),
            }
        }
        if ready[1] {
            self.hostile.accept();
        } else if ready[3] {
            self.hostile.read();
            self.on_hostile(case, trap, random);
        }
        if ready[2] {
            self.healthy.accept();
        } else if ready[4] {
            if !self.healthy.read() {
                return Err("the healthy server's connection is gone".into());
            }
            while let Arrived::Whole(question) = self.healthy.next() {
                self.healthy.say(&question.answer());
            }
        }
        Ok(())
    }

    /// Who has something: client, listeners of both servers, connections of both.
    fn wait(&self, deadline: Instant) -> Result<[bool; 5], String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let peers = [&self.hostile, &self.healthy].map(|s| s.peer.as_ref().map(|p| &p.stream));
        let mut fds = vec![
            PollFd::new(&self.client, PollFlags::IN),
            PollFd::new(&self.hostile.listener, PollFlags::IN),
            PollFd::new(&self.healthy.listener, PollFlags::IN),
        ];
        fds.extend(peers.iter().flatten().map(|stream| PollFd::new(stream, PollFlags::IN)));
        if poll(&mut fds, Some(&timeout)) == Ok(0) {
            return Err(format!("no answer within {PATIENCE:?}"));
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |is_there: bool| is_there && ready.next().unwrap_or(false);
        Ok([next(true), next(true), next(true), next(peers[0].is_some()), next(peers[1].is_some())])
    }

    fn on_hostile(&mut self, case: &Case, trap: &mut Trap, random: &mut Random) {
        loop {
            match self.hostile.next() {
                Arrived::Nothing => return,
                Arrived::Part(question, there) => {
                    let stage = question.data_bytes / (PLACES + 1) * case.place;
                    if trap.sprung || question.data_bytes < EARLY_BYTES || there < stage {
                        return;
                    }
                    trap.arrived.push(question);
                    self.spring_early(case, trap, random);
                    return;
                }
                Arrived::Whole(_) if trap.skips > 0 => trap.skips -= 1,
                Arrived::Whole(question) if trap.sprung => self.hostile.say(&question.answer()),
                Arrived::Whole(question) => {
                    trap.arrived.push(question);
                    if trap.arrived.len() == PLACES + 1 {
                        self.spring(case, trap, random);
                    }
                }
            }
        }
    }

    /// All have arrived: answer them, one of them wrongly.
    fn spring(&mut self, case: &Case, trap: &mut Trap, random: &mut Random) {
        let (asked, next) = (&trap.arrived[case.place - 1], &trap.arrived[case.place]);
        let bad = bad::bad(case.way, asked, next, case.place, random);
        let before: Vec<u8> = trap.arrived[..case.place - 1].iter().flat_map(Question::answer).collect();
        let behind: Vec<u8> = trap.arrived[case.place..].iter().flat_map(Question::answer).collect();
        trap.sprung = true;
        let goes_on = matches!(bad.then, Then::GoesOn | Then::GoesOnAndCloses);
        if let Some((count, pause_ms)) = bad.byte_by_byte {
            self.hostile.say(&before);
            self.hostile.say_slowly(&bad.bytes, count, pause_ms);
            self.hostile.say(&behind);
        } else {
            let mut all = [&before[..], &bad.bytes].concat();
            if goes_on {
                all.extend_from_slice(&behind);
            }
            self.say_in_pieces(&all, case.torn, random);
        }
        match bad.then {
            Then::GoesOn | Then::IsSilent => {}
            Then::GoesOnAndCloses | Then::Closes => self.hostile.peer = None,
            Then::Resets => self.hostile.reset(),
            Then::IsLate => trap.left_out = [&bad.rest[..], &behind].concat(),
        }
        trap.bad = Some(bad);
    }

    /// A part of the value has come: that is enough for an answer.
    fn spring_early(&mut self, case: &Case, trap: &mut Trap, random: &mut Random) {
        let asked = &trap.arrived[case.place - 1];
        let bad = bad::bad(case.way, asked, asked, case.place, random);
        let before: Vec<u8> = trap.arrived[..case.place - 1].iter().flat_map(Question::answer).collect();
        self.hostile.say(&[&before[..], &bad.bytes].concat());
        trap.sprung = true;
        if bad.then == Then::Closes {
            self.hostile.peer = None;
        } else {
            trap.skips = 1;
        }
        trap.bad = Some(bad);
    }

    fn say_in_pieces(&mut self, bytes: &[u8], torn: bool, random: &mut Random) {
        let mut rest = bytes;
        for _ in 0..if torn { 1 + random.below(4) } else { 0 } {
            let (piece, behind) = rest.split_at(random.below(rest.len() + 1));
            self.hostile.say(piece);
            std::thread::yield_now();
            rest = behind;
        }
        self.hostile.say(rest);
    }

    /// The clients are answered: is the connection as it has to be?
    fn aftermath(&mut self, bad: &Bad, left_out: &[u8]) -> Result<(), String> {
        if !self.ahead.is_empty() {
            return Err(format!("an answer too many: {}", shown(&self.ahead)));
        }
        match bad.then {
            Then::IsLate => self.hostile.say(left_out),
            Then::IsSilent => self.hostile.part(),
            _ if bad.gone => {
                // It was cut off before anybody was told. Where a line that fits stands for an answer, the clients have
                // theirs before what is then too much has come.
                let fits = |told: &Told| matches!(told, Told::Exactly(_) | Told::ExactlyOrFailed(_));
                let Some(peer) = &mut self.hostile.peer else { return Ok(()) };
                if fits(&bad.at) || fits(&bad.next) {
                    peer.stream.set_read_timeout(Some(PATIENCE)).unwrap();
                } else {
                    peer.stream.set_nonblocking(true).unwrap();
                }
                if peer.stream.read(&mut [0; 64]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock) {
                    return Err("the connection is still there".into());
                }
                self.hostile.peer = None;
            }
            Then::GoesOn => {
                let Some(peer) = &mut self.hostile.peer else { return Err("the connection is gone".into()) };
                peer.stream.set_nonblocking(true).unwrap();
                let read = peer.stream.read(&mut [0; 64]);
                peer.stream.set_nonblocking(false).unwrap();
                if !read.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock) {
                    return Err(format!("the connection is gone, or says more: {read:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A key of the server with this tag.
fn key(tag: &str, missing: bool, random: &mut Random) -> String {
    format!("{{{tag}}}k{}{}", random.below(1_000_000), if missing { "-" } else { "" })
}

/// The bytes of the next answer, when it is whole. What cannot be an answer ends with its line.
fn answer_length(bytes: &[u8], asked: Option<&Asked>) -> Option<usize> {
    let is_get = asked?.question.op.is_classic_get();
    let mut at = 0;
    loop {
        let end = at + memchr::memchr(b'\n', bytes.get(at..)?)? + 1;
        let line = std::str::from_utf8(&bytes[at..end]).unwrap_or_default().trim_end();
        let words: Vec<&str> = line.split(' ').collect();
        let length = match words[..] {
            ["VALUE", _, _, length, ..] if is_get => length,
            ["VA", length, ..] => length,
            _ => return Some(end),
        };
        at = end + length.parse::<usize>().ok()? + 2;
        if bytes.len() < at {
            return None;
        }
        if words[0] == "VA" {
            return Some(at);
        }
    }
}

/// Whether the client was told what it had to be told.
fn check(case: &Case, asked: &Asked, bad: &Bad, answer: &[u8]) -> Result<(), String> {
    let question = &asked.question;
    let told = match asked.place {
        place if place == case.place => &bad.at,
        place if place == case.place + 1 => &bad.next,
        place if place > case.place => &bad.after,
        0 => &Told::Right,
        _ => &bad.before,
    };
    let right = || answer == question.answer();
    let failed = || {
        [
            "SERVER_ERROR Received unexpected data from the server.\r\n",
            "SERVER_ERROR Connection closed by the server.\r\n",
            "SERVER_ERROR Reply timeout\r\n",
        ]
        .iter()
        .any(|line| line.as_bytes() == answer)
    };
    let is_good = match told {
        Told::Right => right(),
        Told::Failed => failed(),
        Told::RightOrFailed => right() || failed(),
        Told::RightWith(tail) => {
            let mut hit = Hit::of(question, question.key());
            hit.tail = (*tail).into();
            let line =
                String::from_utf8_lossy(&question.answer()).replacen("\r\n", &format!("{tail}\r\n"), 1);
            answer == if question.op == Op::MetaGet { hit.written() } else { line.into_bytes() }
        }
        Told::Miss => answer == miss(question),
        Told::RightIfAskedAgain if matches!(question.op, Op::Get | Op::Gets | Op::Multi) => right(),
        Told::RightIfAskedAgain => failed(),
        Told::Exactly(bytes) => answer == bytes,
        Told::ExactlyOrFailed(bytes) => answer == bytes || failed(),
    };
    if is_good {
        return Ok(());
    }
    Err(format!(
        "{} at place {}: {} of {:?} got {}, expected {}",
        if asked.place == 0 { "the healthy server" } else { "the hostile server" },
        asked.place,
        shown(question.text().split(|b| *b == b'\n').next().unwrap_or_default()),
        question.op,
        shown(answer),
        match told {
            Told::Exactly(bytes) | Told::ExactlyOrFailed(bytes) => shown(bytes),
            Told::Right => shown(&question.answer()),
            other => format!("{other:?}"),
        },
    ))
}

/// What a client sees when the hostile server says that it has nothing of all this.
fn miss(question: &Question) -> Vec<u8> {
    match (question.op, &question.opaque) {
        (Op::MetaGet, Some(opaque)) => format!("EN O{opaque}\r\n").into_bytes(),
        (Op::MetaGet, None) => b"EN\r\n".to_vec(),
        (Op::Multi, _) => {
            let of_healthy = question.keys[1].clone();
            debug_assert!(!is_missing(&of_healthy), "at the place in question all keys are there");
            Question { keys: vec![of_healthy], ..question.clone() }.answer()
        }
        _ => b"END\r\n".to_vec(),
    }
}
