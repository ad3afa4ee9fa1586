//! Forty ways in which a client does harm, or tries to.

use super::arena::{BIG_BYTES, BIGS};
use super::swarm::{Reads, Stage};
use crate::support::Random;
use ringway::protocol::limits::GET_KEYS_MAX;
use std::time::Duration;

pub(crate) struct Behaviour {
    pub(super) name: &'static str,
    pub(super) act: fn(&mut Stage),
}

/// Between two bytes of a client that drips.
const DRIP_PAUSE: Duration = Duration::from_millis(100);
const DRIP_STEPS: usize = 50;

/// The first ten are tried on every commit.
pub(super) const BEHAVIOURS: &[Behaviour] = &[
    // What once took a proxy from 3 MB to 4.6 GB.
    Behaviour { name: "unread-large", act: |s| s.hold(10, Reads::Nothing, |r| large_gets(r, 500)) },
    Behaviour { name: "slowloris", act: |s| drip(s, 5_000, b"get slowloris\r\n") },
    Behaviour {
        name: "slow-readers",
        act: |s| s.flood(s.scaled(5_000), Reads::Bytes(1_000), |r| large_gets(r, 1)),
    },
    Behaviour { name: "million-keys", act: million_keys },
    Behaviour {
        name: "half-values",
        act: |s| {
            s.hold(s.scaled(2_000), Reads::Nothing, |_| {
                [b"set half 0 0 1000000\r\n", &[b'h'; 500_000][..]].concat()
            })
        },
    },
    Behaviour {
        name: "connects",
        act: |s| s.come_and_go(s.scaled(5_000), true, |_| b"get nothing\r\n".to_vec()),
    },
    Behaviour {
        name: "unread-small",
        act: |s| s.flood(s.scaled(100), Reads::Nothing, |_| b"get nothing\r\n".repeat(1_000)),
    },
    Behaviour { name: "half-closed", act: half_closed },
    Behaviour {
        name: "pipelines",
        act: |s| s.flood(s.scaled(50), Reads::Everything, |_| b"get nothing\r\n".repeat(100_000)),
    },
    Behaviour {
        name: "hot-server",
        act: |s| s.flood(s.scaled(100), Reads::Everything, |_| b"get one-key-only\r\n".repeat(100)),
    },
    // Memory.
    Behaviour {
        name: "idle",
        act: |s| {
            s.open(s.scaled(10_000));
            s.stay();
        },
    },
    Behaviour { name: "tiny-slices", act: |s| s.hold(s.scaled(5_000), Reads::Everything, |_| tiny_slice()) },
    Behaviour { name: "distinct-keys", act: |s| s.flood(s.scaled(50), Reads::Everything, distinct_keys) },
    Behaviour { name: "unread-multi", act: |s| s.hold(s.scaled(100), Reads::Nothing, |_| large_multi()) },
    Behaviour {
        name: "unread-errors",
        act: |s| s.flood(s.scaled(100), Reads::Nothing, |_| b"what\r\n".repeat(10_000)),
    },
    Behaviour {
        name: "unread-stats",
        act: |s| s.flood(s.scaled(100), Reads::Nothing, |_| b"stats\r\n".repeat(1_000)),
    },
    Behaviour {
        name: "byte-readers",
        act: |s| s.flood(s.scaled(500), Reads::Bytes(1), |r| large_gets(r, 10)),
    },
    Behaviour { name: "large-sets", act: |s| s.flood(s.scaled(50), Reads::Everything, large_set) },
    Behaviour { name: "large-sets-quiet", act: |s| s.flood(s.scaled(50), Reads::Nothing, quiet_large_set) },
    Behaviour {
        name: "slow-values",
        act: |s| drip(s, 1_000, b"set slow 0 0 1000000\r\nvvvvvvvvvvvvvvvvvvvvv"),
    },
    // Lengths and lines.
    Behaviour {
        name: "gibibyte-announced",
        act: |s| s.hold(s.scaled(1_000), Reads::Everything, |_| b"set g 0 0 1073741824\r\nabc".to_vec()),
    },
    Behaviour { name: "odd-lengths", act: |s| s.flood(s.scaled(50), Reads::Everything, odd_length) },
    Behaviour {
        name: "endless-line",
        act: |s| s.flood(s.scaled(100), Reads::Everything, |_| vec![b'x'; 100_000]),
    },
    Behaviour {
        name: "endless-get",
        act: |s| s.flood(s.scaled(20), Reads::Everything, |_| [b"get ", &[b'k'; 100_000][..]].concat()),
    },
    Behaviour {
        name: "get-of-spaces",
        act: |s| {
            s.flood(s.scaled(20), Reads::Everything, |_| [b"get", &vec![b' '; 8 << 20][..], b"\r\n"].concat())
        },
    },
    Behaviour {
        name: "long-meta",
        act: |s| {
            s.flood(s.scaled(50), Reads::Everything, |_| {
                [&b"mg k"[..], &b" Oxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx v"[..].repeat(55)[..], b"\r\n"].concat()
            })
        },
    },
    Behaviour {
        name: "long-keys",
        act: |s| {
            s.flood(s.scaled(50), Reads::Everything, |r| {
                [b"get ", &vec![b'k'; 240 + r.below(20)][..], b"\r\n"].concat()
            })
        },
    },
    Behaviour {
        name: "too-large-then-valid",
        act: |s| s.flood(s.scaled(20), Reads::Everything, too_large_then_valid),
    },
    Behaviour {
        name: "bad-chunks",
        act: |s| s.flood(s.scaled(50), Reads::Everything, |_| b"set k 0 0 1\r\nabc\r\n".repeat(1_000)),
    },
    Behaviour {
        name: "empty-lines",
        act: |s| s.flood(s.scaled(50), Reads::Everything, |_| b"\r\n".repeat(30_000)),
    },
    Behaviour {
        name: "cr-without-lf",
        act: |s| s.flood(s.scaled(50), Reads::Everything, |_| b"get k\r".repeat(300)),
    },
    Behaviour { name: "nuls", act: |s| s.flood(s.scaled(50), Reads::Everything, |_| vec![0; 3_000]) },
    // Other protocols.
    Behaviour { name: "noise", act: |s| s.flood(s.scaled(50), Reads::Everything, noise) },
    Behaviour {
        name: "binary",
        act: |s| {
            s.come_and_go(s.scaled(1_000), false, |_| {
                b"\x80\x00\x00\x05\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0Hello".to_vec()
            })
        },
    },
    Behaviour {
        name: "http",
        act: |s| {
            s.come_and_go(s.scaled(1_000), false, |_| {
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nflush_all".to_vec()
            })
        },
    },
    Behaviour {
        name: "tls",
        act: |s| {
            s.come_and_go(s.scaled(1_000), false, |_| {
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\x0a\x0a\x0a".to_vec()
            })
        },
    },
    // Floods without answers, and ends in the middle.
    Behaviour {
        name: "noreply",
        act: |s| s.flood(s.scaled(50), Reads::Nothing, |_| b"set n 0 0 1 noreply\r\nx\r\n".repeat(3_000)),
    },
    Behaviour {
        name: "quiet-meta",
        act: |s| {
            s.flood(s.scaled(50), Reads::Nothing, |_| b"mg nothing q v\r\nms n 1 q\r\nx\r\n".repeat(2_000))
        },
    },
    Behaviour { name: "reset-in-reply", act: |s| resets(s, |r| large_gets(r, 2)) },
    Behaviour {
        name: "reset-in-value",
        act: |s| resets(s, |_| [b"set r 0 0 1000000\r\n", &[b'r'; 300_000][..]].concat()),
    },
];

const _: () = assert!(BEHAVIOURS.len() == 40);

/// The one that is called so.
pub(crate) fn named(name: &str) -> &'static Behaviour {
    BEHAVIOURS.iter().find(|b| b.name == name).expect("it is in the list")
}

fn large_gets(random: &mut Random, count: usize) -> Vec<u8> {
    (0..count).flat_map(|_| format!("get big{}\r\n", random.below(BIGS)).into_bytes()).collect()
}

/// Every large value in one get, and once more.
fn large_multi() -> Vec<u8> {
    let keys: String = (0..2 * BIGS).map(|n| format!(" big{}", n % BIGS)).collect();
    format!("get{keys}\r\n").into_bytes()
}

/// A line of some 7 MiB, more than any may be, and then some other line.
fn million_keys(s: &mut Stage) {
    let keys = s.scaled(1_000_000).min(GET_KEYS_MAX); // more are refused
    s.flood(4, Reads::Everything, |random| {
        let mut line = b"get".to_vec();
        for _ in 0..keys {
            line.extend_from_slice(format!(" {:x}", random.below(1 << 24)).as_bytes());
        }
        line.extend_from_slice(b"\r\nmn\r\n");
        line
    });
}

/// A read of 64 KiB of which a few bytes are left over.
fn tiny_slice() -> Vec<u8> {
    let mut text = b"verbosity 0 noreply\r\n".repeat(3_120); // no server is asked, nothing is answered
    text.extend_from_slice(b"get half-a-");
    text
}

fn distinct_keys(random: &mut Random) -> Vec<u8> {
    (0..500)
        .flat_map(|_| format!("get prefix{:x}:{:x}\r\n", random.any(), random.any()).into_bytes())
        .collect()
}

fn large_set(random: &mut Random) -> Vec<u8> {
    let line = format!("set large{} 0 0 {BIG_BYTES}\r\n", random.below(50));
    [line.as_bytes(), &vec![b'l'; BIG_BYTES], b"\r\n"].concat()
}

fn quiet_large_set(random: &mut Random) -> Vec<u8> {
    let line = format!("set large{} 0 0 {BIG_BYTES} noreply\r\n", random.below(50));
    [line.as_bytes(), &vec![b'l'; BIG_BYTES], b"\r\n"].concat()
}

fn odd_length(random: &mut Random) -> Vec<u8> {
    const LENGTHS: [&str; 10] = [
        "-1",
        "4294967293",
        "4294967296",
        "18446744073709551616",
        "2147483647",
        "2147483645",
        "+5",
        "05",
        "0x10",
        "",
    ];
    let length = random.of(&LENGTHS);
    let line = match random.below(3) {
        0 => format!("set k 0 0 {length}\r\nabc\r\n"),
        1 => format!("ms k {length}\r\nabc\r\n"),
        _ => format!("cas k 0 0 {length} 1 noreply\r\nabc\r\n"),
    };
    line.into_bytes()
}

fn too_large_then_valid(_: &mut Random) -> Vec<u8> {
    let large = [b"set k 0 0 2000000\r\n", &vec![b'x'; 2_000_000][..], b"\r\n"].concat();
    [&large[..], b"set k 0 0 1\r\nx\r\nget k\r\n"].concat()
}

fn noise(random: &mut Random) -> Vec<u8> {
    (0..500).flat_map(|_| random.any().to_le_bytes()).collect()
}

/// A byte from each of so many clients, again and again. They know nothing of each other: their bytes come evenly over time.
fn drip(s: &mut Stage, clients: usize, text: &[u8]) {
    s.open(s.scaled(clients));
    let at_a_time = s.len().div_ceil(DRIP_STEPS);
    let mut at = 0;
    while s.goes_on() {
        for first in (0..s.len()).step_by(at_a_time) {
            for index in first..s.len().min(first + at_a_time) {
                s.send(index, |_| vec![text[at % text.len()]]);
            }
            s.pause(DRIP_PAUSE / DRIP_STEPS as u32);
        }
        at += 1;
    }
}

/// Says that no more comes, in each state that a client can be in.
fn half_closed(s: &mut Stage) {
    const STATES: [&[u8]; 8] = [
        b"",
        b"get a",
        b"get a\r\n",
        b"get big0\r\nget big1\r\n",
        b"set a 0 0 10\r\n12345",
        b"set a 0 0 100000\r\n12345",
        b"set a 0 0 2000000000\r\n12345",
        b"get a\r\nset b 0 0 1 noreply\r\nx\r\nmg c v q\r\nmn\r\nwhat",
    ];
    s.open(s.scaled(200));
    while s.goes_on() {
        for index in 0..s.len() {
            s.send(index, |r| r.of(&STATES).to_vec());
            s.finish(index);
            s.read(index, Reads::Everything);
        }
        s.pause(Duration::from_millis(1));
    }
}

/// Sends some of it, and is gone.
fn resets(s: &mut Stage, text: fn(&mut Random) -> Vec<u8>) {
    s.open(s.scaled(100));
    while s.goes_on() {
        for index in 0..s.len() {
            s.send(index, text);
            s.read(index, Reads::Bytes(1_000));
            if s.random.one_in(4) {
                s.close(index, true);
            }
        }
        s.pause(Duration::from_millis(1));
    }
}
