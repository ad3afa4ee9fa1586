//! Differential: the same streams of commands to memcached of today, memcached of Debian, the embedded cache, and ringway
//! before each of the two; the same bytes come back, but for what `known.rs` lists with its reason.
//!
//! A stream goes in a few pieces down a connection of its own, which then says that no more will come; what is answered
//! until the other side closes is compared. So a stream may end anywhere, also within a value.

mod commands;
mod known;

use crate::plan::{Outcome, Plan};
use crate::support::{Client, Memcached, Proxy, Random, has_latest, has_memcached};
use commands::{Command, commands};
use known::{KNOWN, Known, Side};

/// Streams of one seed.
const ROUND: u64 = 100;

/// Who is asked.
struct Target {
    name: &'static str,
    address: String,
}

/// So many streams.
pub(crate) fn run(plan: &Plan) -> Outcome {
    if !has_latest() || !has_memcached() {
        let mut outcome = Outcome::default();
        outcome.report_lost("without both memcached there is nothing to compare");
        return outcome;
    }
    let latest = [Memcached::latest(), Memcached::latest()];
    let debian = [Memcached::start(), Memcached::start()];
    let embedded = Proxy::embedded();
    let before_latest = Proxy::before(&[latest[1].address()], "timeout: 20s");
    let before_debian = Proxy::before(&[debian[1].address()], "timeout: 20s");
    let target = |name, address: &str| Target { name, address: address.to_owned() };
    let targets = [
        target("memcached", latest[0].address()),
        target("the embedded cache", embedded.address()),
        target("ringway before memcached", before_latest.address()),
        target("memcached 1.6.18", debian[0].address()),
        target("ringway before memcached 1.6.18", before_debian.address()),
    ];
    plan.each("round", ROUND, |seed| {
        let mut random = Random::new(seed);
        let mut outcome = Outcome::default();
        for number in 0..ROUND / 2 {
            // Keys of its own: nobody else's stream is in the way, and nothing has to be cleared.
            let prefix = format!("{:07x}", (seed ^ number << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 36);
            // All of them, but for what is known to differ between any two; then what Debian's answers alike.
            twice(&targets[..3], &prefix, &[Side::Ringway], &mut random, &mut outcome);
            let prefix = format!("{prefix}old:");
            twice(&targets, &prefix, &[Side::Ringway, Side::Debian], &mut random, &mut outcome);
            outcome.add("streams", 2);
        }
        outcome
    })
}

/// One stream; when it is answered otherwise, the same once more with other keys. What depends on where memcached's LRU
/// thread is at does not come again, and is only counted.
fn twice(targets: &[Target], prefix: &str, sides: &[Side], random: &mut Random, outcome: &mut Outcome) {
    let saved = random.clone();
    for attempt in 0..2 {
        *random = saved.clone();
        let commands = commands(&format!("{prefix}{attempt}"), random);
        let Some(difference) = compare(targets, &commands, sides, random, outcome) else { return };
        if attempt == 0 {
            outcome.add("not_alike_once", 1);
        } else {
            outcome.report_wrong(difference);
        }
    }
}

/// Sends the stream to all of these and compares; commands that one of the sides is known to answer otherwise are left out.
fn compare(
    targets: &[Target],
    all: &[Command],
    sides: &[Side],
    random: &mut Random,
    outcome: &mut Outcome,
) -> Option<String> {
    let differs = |known: &Known, command: &Command| sides.contains(&known.side) && (known.differs)(command);
    let mut stream = Vec::new();
    for command in all {
        match KNOWN.iter().find(|known| differs(known, command)) {
            Some(known) => outcome.add(known.name, 1),
            None => {
                stream.extend_from_slice(&command.bytes);
                outcome.checked += 1;
            }
        }
    }
    if !sides.contains(&Side::Debian) {
        // Ends any value that is not whole: at the end of a stream within one, memcached throws away what it had to say.
        stream.extend_from_slice(&b"\r\n".repeat(8));
    }
    let mut cuts: Vec<usize> = (0..random.below(4)).map(|_| random.below(stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    let mut clients: Vec<Client> = targets.iter().map(|t| Client::connect(&t.address)).collect();
    for cut in cuts.windows(2).filter(|cut| cut[0] < cut[1]) {
        for client in &mut clients {
            // One that was closed for a line too long is found out by what it said before.
            let _ = client.try_send(&stream[cut[0]..cut[1]]);
        }
    }
    let answers: Vec<Vec<u8>> = clients.iter_mut().map(whole_answer).collect();
    for (target, answer) in targets.iter().zip(&answers).skip(1) {
        if *answer != answers[0] {
            let at = answer.iter().zip(&answers[0]).take_while(|(a, b)| a == b).count();
            let tail = |bytes: &[u8]| {
                bytes[at.saturating_sub(100)..bytes.len().min(at + 200)].escape_ascii().to_string()
            };
            return Some(format!(
                "{} and {} differ after {at} bytes\n  {}\n  {}\n  sent {}",
                targets[0].name,
                target.name,
                tail(&answers[0]),
                tail(answer),
                stream.escape_ascii()
            ));
        }
    }
    None
}

/// Everything until the other side closes, without what is a clock's or a counter's.
fn whole_answer(client: &mut Client) -> Vec<u8> {
    client.finish_quietly();
    while client.try_read_more().unwrap_or(false) {}
    let answer = client.take_ahead(client.ahead().len());
    let mut shown = Vec::with_capacity(answer.len());
    for line in answer.split_inclusive(|b| *b == b'\n') {
        let end = line.iter().rposition(|b| !b"\r\n".contains(b)).map_or(0, |at| at + 1);
        let words: Vec<&[u8]> = line[..end].split(|b| *b == b' ').collect();
        match words[..] {
            // `gets`: the number of a cas
            [b"VALUE", key, flags, length, _] => {
                shown.extend_from_slice(&[&b"VALUE"[..], key, flags, length, b"#"].join(&b' '))
            }
            [b"VA" | b"HD" | b"EN", ..] => {
                let words: Vec<&[u8]> = words.iter().map(|word| masked(word)).collect();
                shown.extend_from_slice(&words.join(&b' '));
            }
            [b"VERSION", ..] => shown.extend_from_slice(b"VERSION"),
            // `me`: what it tells is each one's own affair
            [b"ME", key, ..] => shown.extend_from_slice(&[b"ME ", key].concat()),
            _ => shown.extend_from_slice(&line[..end]),
        }
        shown.extend_from_slice(&line[end..]);
    }
    shown
}

/// A flag of a meta reply; numbers of a cas and remaining seconds differ.
fn masked(word: &[u8]) -> &[u8] {
    match word {
        [b'c', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => b"c#",
        [b't', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => b"t#",
        _ => word,
    }
}
