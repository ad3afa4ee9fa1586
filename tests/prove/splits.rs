//! Splits: the same bytes in other pieces bring the same answers.
//!
//! Every conversation of the transcripts and of the corpus, in process: cut at each byte, at pairs of bytes, and at random
//! places; over the embedded cache, and through a connection to a server whose bytes are cut as well.

use crate::corpus;
use crate::fuzz::targets::{converse, pieces};
use crate::plan::{Outcome, Plan};
use crate::support::Random;
use crate::support::room::{self, Pipe, Room};
use ringway::config::{Pool, Settings};
use ringway::upstream::Dial;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::io::DuplexStream;

/// Up to this length every pair of cuts may be chosen; longer ones are cut twice only at random.
const PAIRS_BYTES_MAX: usize = 512;
/// In longer texts single cuts are made near both ends, and at random in between.
const SINGLES_BYTES_MAX: usize = 4_096;
/// Cuts of one seed.
const ROUND: u64 = 1_000;

struct Conversation {
    title: String,
    bytes: Vec<u8>,
    /// What is answered when nothing is cut.
    answer: (Vec<u8>, bool),
}

/// All single cuts, then so many cuts into two, three or up to eight pieces.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut kept = corpus::of_target("session");
    kept.retain(|(_, bytes)| !bytes.windows(5).any(|w| w == b"stats")); // they count what was read
    let whole = |(title, bytes): (String, Vec<u8>)| {
        let answer = room::run(converse(&Room::embedded(&settings()), &[&bytes], false));
        Conversation { title, bytes, answer }
    };
    let conversations: Vec<Conversation> = kept.into_iter().map(whole).collect();
    let mut outcome = singles(&conversations);
    outcome.merge(plan.each("round", ROUND, |seed| {
        let mut random = Random::new(seed);
        let mut outcome = Outcome::default();
        for _ in 0..ROUND {
            let conversation = &conversations[random.below(conversations.len())];
            let bytes = &conversation.bytes;
            if random.one_in(4) {
                behind_a_cut_server(conversation, &mut random, &mut outcome);
            } else if bytes.len() <= PAIRS_BYTES_MAX && random.one_in(2) {
                let (a, b) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
                let (a, b) = (a.min(b), a.max(b));
                compare(conversation, &[&bytes[..a], &bytes[a..b], &bytes[b..]], &mut outcome);
            } else {
                compare(conversation, &pieces(bytes, &mut random), &mut outcome);
            }
        }
        outcome
    }));
    outcome
}

fn settings() -> Settings {
    Settings { allow_flush: true, ..Settings::default() }
}

fn singles(conversations: &[Conversation]) -> Outcome {
    let mut outcome = Outcome::default();
    for conversation in conversations {
        let bytes = &conversation.bytes;
        let near = |at: &usize| *at < SINGLES_BYTES_MAX / 2 || bytes.len() - at < SINGLES_BYTES_MAX / 2;
        for at in (1..bytes.len()).filter(near) {
            compare(conversation, &[&bytes[..at], &bytes[at..]], &mut outcome);
        }
    }
    outcome.add("singles", outcome.checked);
    outcome
}

fn compare(conversation: &Conversation, pieces: &[&[u8]], outcome: &mut Outcome) {
    let got = room::run(converse(&Room::embedded(&settings()), pieces, false));
    judge(conversation, &got, pieces, outcome);
}

fn judge(conversation: &Conversation, got: &(Vec<u8>, bool), pieces: &[&[u8]], outcome: &mut Outcome) {
    outcome.checked += 1;
    if *got != conversation.answer {
        let cut: Vec<String> = pieces.iter().map(|p| p.escape_ascii().to_string()).collect();
        outcome.report_wrong(format_args!(
            "{}: {}\n  got {} (closed: {})\n  not {} (closed: {})",
            conversation.title,
            cut.join(" | "),
            got.0.escape_ascii(),
            got.1,
            conversation.answer.0.escape_ascii(),
            conversation.answer.1
        ));
    }
}

/// Ringway before ringway: what goes between them is cut too. (Answers that tell of the way are not compared.)
fn behind_a_cut_server(conversation: &Conversation, random: &mut Random, outcome: &mut Outcome) {
    let told = |word: &[u8]| conversation.bytes.windows(word.len()).any(|w| w == word);
    if [&b"flush_all"[..], b"cas ", b"gets ", b"gats ", b"me "].iter().any(|w| told(w)) || told(b" c") {
        return; // the embedded cache has two shards and two counters of cas, this one behind it has one way to both
    }
    let pieces = pieces(&conversation.bytes, random);
    let got = room::run(async {
        let behind = Room::embedded(&settings());
        let dialled: Rc<RefCell<Vec<Pipe>>> = Rc::default();
        let held = Rc::clone(&dialled);
        let dial = Dial::Memory(Rc::new(move |_| {
            let (near, far): (Pipe, DuplexStream) = Pipe::pair(1 << 20);
            held.borrow_mut().push(near);
            Ok(far)
        }));
        let front = Room::before(&settings(), &pool(), dial);
        let mut client = front.connect(1 << 20);
        let mut server = behind.connect(1 << 20);
        let mut answer = Vec::new();
        let (mut to_server, mut to_front) = (Vec::new(), Vec::new());
        let mut is_open = true;
        for piece in pieces.iter().copied().chain([&b""[..]]) {
            let mut rest = piece;
            loop {
                if !rest.is_empty() {
                    rest = client.send(rest).map_or(&b""[..], |sent| &rest[sent..]);
                }
                front.settle().await;
                let before = (to_server.len(), to_front.len(), answer.len());
                let mut moved = false;
                if let Some(pipe) = dialled.borrow_mut().last_mut() {
                    pipe.receive(usize::MAX, &mut to_server);
                    let count = to_server.len().min(1 + random.below(200));
                    let sent = server.send(&to_server[..count]).unwrap_or(0);
                    to_server.drain(..sent);
                    server.receive(usize::MAX, &mut to_front);
                    let count = to_front.len().min(1 + random.below(200));
                    let back = pipe.send(&to_front[..count]).unwrap_or(0);
                    to_front.drain(..back);
                    moved = sent + back > 0;
                }
                front.settle().await;
                behind.settle().await;
                is_open = client.receive(usize::MAX, &mut answer);
                if !moved && before == (to_server.len(), to_front.len(), answer.len()) && rest.is_empty() {
                    break;
                }
            }
        }
        (answer, !is_open)
    });
    judge(conversation, &got, &pieces, outcome);
}

fn pool() -> Pool {
    let text = "pools: {main: {servers: [\"127.0.0.1:1\"]}}\nroute: main\n";
    ringway::config::from_text("splits", text, ringway::route::check)
        .expect("a good config")
        .0
        .pools
        .remove(0)
}
