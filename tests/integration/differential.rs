//! Thousands of random commands: memcached, the embedded cache and the proxy give the same answers.

use crate::support::{Client, Memcached, Proxy, Random, has_latest};

const COMMANDS: usize = 4_000;

#[test]
fn random_commands_are_answered_the_same_by_all() {
    if !has_latest() {
        return;
    }
    for seed in 1..=5 {
        let (alone, behind) = (Memcached::latest(), Memcached::latest());
        let (embedded, proxy) = (Proxy::embedded(), Proxy::before(&[behind.address()], "timeout: 20s"));
        let mut clients = [
            ("memcached", alone.client()),
            ("the embedded cache", embedded.client()),
            ("ringway before memcached", proxy.client()),
        ];
        let mut random = Random::new(seed);
        let mut before = Vec::new();
        for _ in 0..COMMANDS {
            let command = command(&mut random);
            before.push(command.clone());
            let answers: Vec<Vec<u8>> = clients.iter_mut().map(|(_, c)| answer_to(c, &command)).collect();
            for ((name, _), answer) in clients.iter().zip(&answers).skip(1) {
                assert!(
                    *answer == answers[0],
                    "seed {seed}, after {}\nmemcached: {}\n{name}: {}",
                    history(&before),
                    answers[0].escape_ascii(),
                    answer.escape_ascii()
                );
            }
        }
    }
}

/// The last commands that are about the same keys as the last.
fn history(commands: &[Vec<u8>]) -> String {
    let start = commands.len().saturating_sub(40);
    commands[start..].iter().map(|c| format!("\n  {}", c.escape_ascii())).collect()
}

/// All that comes before the answer to a question that is always answered.
fn answer_to(client: &mut Client, command: &[u8]) -> Vec<u8> {
    const END: &[u8] = b"MN\r\n";
    client.send([command, b"mn\r\n"].concat());
    while !client.ahead().ends_with(END) {
        assert!(client.read_more(), "closed after {}", command.escape_ascii());
    }
    let answer = client.take_ahead(client.ahead().len());
    answer[..answer.len() - END.len()].to_vec()
}

/// One command, mostly right, sometimes slightly wrong. No value is `MN`, none is too large, and nothing is asked that
/// depends on the clock or on the number of a cas. No number becomes shorter and nobody asks for `h`: whether memcached
/// then changes the item or makes a new one depends on what its LRU thread is at.
fn command(random: &mut Random) -> Vec<u8> {
    const KEYS: &[&str] = &["a", "b", "c", "noreply", "0", "k:1", "Zm9v", "cl\u{e9}"];
    const NUMBERS: &[&str] = &["0", "1", "5", "10", "99", "7", "x", "-1", "007", ""];
    const TIMES: &[&str] = &["0", "100", "-1", "1000", "x"];
    const VALUES: &[&str] = &["", "1", "9", "10", "99", "text", "1234567", "a\r\nb", "END\r\n"];
    let key = random.of(KEYS);
    let (number, time, value) = (random.of(NUMBERS), random.of(TIMES), random.of(VALUES));
    let noreply = if random.below(6) == 0 { " noreply" } else { "" };
    let size = if random.below(40) == 0 { value.len() + 1 } else { value.len() };
    let text = match random.below(22) {
        0..3 => format!("get {}", words(random, KEYS)),
        3 => format!("gat {time} {}", words(random, KEYS)),
        4..7 => format!("set {key} {number} {time} {size}{noreply}\r\n{value}"),
        7 => format!("add {key} {number} {time} {size}{noreply}\r\n{value}"),
        8 => format!("replace {key} {number} {time} {size}{noreply}\r\n{value}"),
        9 => format!("append {key} 0 0 {size}{noreply}\r\n{value}"),
        10 => format!("prepend {key} 0 0 {size}{noreply}\r\n{value}"),
        11 => format!("incr {key} {number}{noreply}"),
        12 => format!("decr {key} {}{noreply}", random.of(&["0", "x", "-1", ""])),
        // `delete noreply` is the one that memcached does not answer
        13 => format!("delete {}{noreply}", if key == "noreply" { "a" } else { key }),
        14 => format!("touch {key} {time}{noreply}"),
        15 | 16 => {
            let flags =
                ["v", "k", "f", "s", "q", "b", "u", "N100", "R30", "T100", "O1", "Oxyz", "Pabc", "!", "z"];
            format!("mg {key}{}", flags_of(random, &flags))
        }
        17 | 18 => {
            let flags = [
                "k", "F5", "T100", "T0", "q", "b", "I", "MA", "MP", "ME", "MR", "MS", "MX", "N100", "O2",
                "s", "C1", "!",
            ];
            format!("ms {key} {size}{}\r\n{value}", flags_of(random, &flags))
        }
        19 => format!("md {key}{}", flags_of(random, &["q", "k", "O3", "b", "I", "T30", "x", "C1", "z"])),
        20 => {
            let flags = ["v", "k", "q", "b", "N100", "J5", "D3", "MDx", "MI", "M+", "T100", "O4", "Dx", "C1"];
            format!("ma {key}{}", flags_of(random, &flags))
        }
        _ => random
            .of(&["foo", "", "get", "set a 0 0", "mg", "mg  ", "verbosity 1", "gets", "touch a"])
            .to_owned(),
    };
    // what is said to be longer than it is takes from what comes next
    let more = if size > value.len() { "\r\n" } else { "" };
    format!("{text}\r\n{more}").into_bytes()
}

fn words(random: &mut Random, choice: &[&str]) -> String {
    (0..=random.below(4)).map(|_| random.of(choice).to_owned()).collect::<Vec<_>>().join(" ")
}

fn flags_of(random: &mut Random, choice: &[&str]) -> String {
    (0..random.below(5)).map(|_| format!(" {}", random.of(choice))).collect()
}
