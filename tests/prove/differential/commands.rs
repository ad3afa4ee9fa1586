//! Streams of commands, mostly right, often slightly wrong, sometimes hostile.

use crate::support::Random;

/// Bytes that are sent, and what is to know of them.
pub(super) struct Command {
    pub(super) bytes: Vec<u8>,
    /// memcached of today understands it.
    pub(super) is_valid: bool,
}

/// Some fifty commands about keys that begin so. Nothing is asked that depends on the clock or on the number of a cas, and
/// no number becomes shorter: whether memcached then changes the item or makes a new one depends on what its LRU thread
/// is at, and so does `h`. Nothing is invalidated either (`I`, `E`): that is what the transcripts do, step by step.
pub(super) fn commands(prefix: &str, random: &mut Random) -> Vec<Command> {
    (0..30 + random.below(40)).map(|_| command(prefix, random)).collect()
}

fn command(prefix: &str, random: &mut Random) -> Command {
    if random.one_in(6) { hostile(prefix, random) } else { ordinary(prefix, random) }
}

fn key(prefix: &str, random: &mut Random) -> String {
    // `Zm9v` makes it a base64 of three bytes more
    format!("{prefix}{}", random.of(&["a", "b", "c", "k:1", "Zm9v", "cl\u{e9}", "\u{1}"]))
}

fn keys(prefix: &str, random: &mut Random) -> String {
    (0..=random.below(4)).map(|_| key(prefix, random)).collect::<Vec<_>>().join(" ")
}

fn ordinary(prefix: &str, random: &mut Random) -> Command {
    const FLAGS: &[&str] = &["0", "1", "5", "99", "4294967295"];
    const TIMES: &[&str] = &["0", "100", "-1", "1000"];
    const VALUES: &[&str] = &["", "1", "9", "10", "99", "text", "1234567", "a\r\nb", "END\r\n", "MN"];
    let key = key(prefix, random);
    let (flags, time, value) = (random.of(FLAGS), random.of(TIMES), random.of(VALUES));
    let noreply = if random.one_in(5) { " noreply" } else { "" };
    let size = value.len();
    let store = |word: &str| format!("{word} {key} {flags} {time} {size}{noreply}\r\n{value}");
    let text = match random.below(22) {
        0..3 => format!("get {}", keys(prefix, random)),
        3 => format!("{} {}", random.of(&["gets", "gat 100", "gats 0", "gat -1"]), keys(prefix, random)),
        4..7 => store("set"),
        7 => store("add"),
        8 => store("replace"),
        9 => store("append"),
        10 => store("prepend"),
        11 => format!("cas {key} {flags} {time} {size} 9999999999{noreply}\r\n{value}"),
        12 => format!("incr {key} {}{noreply}", random.of(&["0", "1", "10", "1000"])),
        13 => format!("decr {key} 0{noreply}"),
        14 => format!("delete {key}{noreply}"),
        15 => format!("touch {key} {time}{noreply}"),
        16 => {
            let flags = ["v", "k", "f", "s", "q", "t", "c", "N100", "T100", "O1", "Oxyz"];
            format!("mg {key}{}", flags_of(random, &flags))
        }
        17 | 18 => {
            let flags =
                ["k", "F5", "T100", "T0", "q", "MA", "MP", "ME", "MR", "MS", "O2", "C9999999999", "c"];
            format!("ms {key} {size}{}\r\n{value}", flags_of(random, &flags))
        }
        19 => format!("md {key}{}", flags_of(random, &["q", "k", "O3", "C9999999999"])),
        20 => {
            let flags = ["v", "k", "q", "N100 J5", "D3", "MI", "M+", "T100", "O4", "C9999999999", "t"];
            format!("ma {key}{}", flags_of(random, &flags))
        }
        _ => random.of(&["version", "mn", "verbosity 1"]).to_owned(),
    };
    Command { bytes: format!("{text}\r\n").into_bytes(), is_valid: true }
}

/// What no client library sends.
fn hostile(prefix: &str, random: &mut Random) -> Command {
    const LINES: &[&str] = &[
        "",
        "x",
        " ",
        "foo",
        "foo bar baz",
        "GET a",
        "get",
        "gets",
        "gat",
        "gat 0",
        "gat x a",
        "set",
        "set a",
        "set a 0 0",
        "set a 0 0 x",
        "set a 0 0 -1",
        "set a 0 0 2147483647",
        "set a 0 0 4294967296",
        "set a 0 0 99999999999999999999",
        "cas a 0 0 0",
        "incr a",
        "incr a x",
        "incr a -1",
        "decr a",
        "delete",
        "delete a b",
        "touch",
        "touch a",
        "touch a x",
        "mg",
        "mg  ",
        "ms",
        "ms a",
        "ms a x",
        "ms a -1",
        "md",
        "ma",
        "me",
        "verbosity",
        "get\ta",
        "stats bogus",
        "quit now",
        "incr a 18446744073709551616",
        "mg a b",
        "mg = b",
        "mg a OO OO",
    ];
    const ENDS: &[&str] = &["\r\n", "\n", "\r\r\n", " \r\n"];
    let (key, long) = (key(prefix, random), "k".repeat(251));
    let end = random.of(ENDS);
    let bytes = match random.below(16) {
        0..6 => format!("{}{end}", random.of(LINES)).into_bytes(),
        // a value that is longer, or shorter, than was said
        6 => format!("set {key} 0 0 {}\r\n1x34{end}", random.below(9)).into_bytes(),
        7 => format!("ms {key} {}\r\n1x34{end}", random.below(9)).into_bytes(),
        8 => format!("set {key} x 0 4 noreply\r\n1234\r\n").into_bytes(),
        9 => format!("set {key} 0 0 4 {}\r\n1234\r\n", random.of(&["x", "noreply x", "0"])).into_bytes(),
        10 => {
            let word = random.of(&["get", "delete", "incr", "touch", "mg", "md", "ma"]);
            format!("{word} {long}{end}").into_bytes()
        }
        11 => {
            let flags =
                ["!", "v", "v", "Oxyz", "z", "N", "Nx", "T-", "Mx", "MI", "J", "Dx", "b", "C", "x", "u"];
            format!("{} {key}{}{end}", random.of(&["mg", "md", "ma"]), flags_of(random, &flags)).into_bytes()
        }
        12 => {
            let flags = ["!", "F", "Fx", "T", "MX", "M", "z", "b", "k", "k", "C", "S5", "O"];
            format!("ms {key} 4{}\r\n1234\r\n", flags_of(random, &flags)).into_bytes()
        }
        13 => {
            // bytes that no key should have
            let strange = ["\u{0}", "\u{7f}", "\r", "\t", "\u{b}"];
            format!("get {key}{}x{end}", random.of(&strange)).into_bytes()
        }
        14 if random.one_in(20) => [b"get ".as_slice(), &b"k ".repeat(900), b"\r\n"].concat(),
        14 if random.one_in(20) => [b"touch ".as_slice(), &b"k".repeat(2_100), b"\r\n"].concat(),
        14 if random.one_in(10) => b"GET / HTTP/1.1\r\n".to_vec(),
        _ => format!("  get   {key}  {end}").into_bytes(),
    };
    Command { bytes, is_valid: false }
}

fn flags_of(random: &mut Random, choice: &[&str]) -> String {
    (0..random.below(5)).map(|_| format!(" {}", random.of(choice))).collect()
}
