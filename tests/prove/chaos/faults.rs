//! The troubles: one is brought about, lasts for a moment, and is over.

use super::values::Keys;
use crate::support::troubled_relay::{Flow, Trouble, TroubledRelay};
use crate::support::{Memcached, Random};
use crate::watch;
use rustix::process::Signal;
use std::time::Duration;

/// The servers, and the relays in front of some.
pub(super) struct Rig {
    pub(super) servers: Vec<Memcached>,
    relays: Vec<Option<TroubledRelay>>,
    /// What the last trouble was.
    pub(super) last: String,
}

/// What can be done to a server.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It crashes and is started again, empty.
    Kill,
    /// It stands still.
    Stop,
    /// Nothing passes, in one direction or both.
    BlackHole {
        up: bool,
        down: bool,
    },
    Late(Duration),
    Narrow(usize),
    /// Bytes come in pieces of so many, cut at all places.
    Crumbs(usize),
    /// The connection ends after so many bytes, several times; it stands still before.
    Cut {
        up: bool,
        resets: bool,
        after_bytes_max: usize,
        lingers: Duration,
    },
    /// No connection is made, and those that are there end.
    Refuse {
        resets: bool,
    },
}

impl Rig {
    pub(super) fn new(servers: Vec<Memcached>, relays: Vec<Option<TroubledRelay>>) -> Self {
        Self { servers, relays, last: String::new() }
    }

    /// One trouble of one server, from beginning to end; how many faults it was.
    pub(super) fn trouble(&mut self, keys: &Keys, random: &mut Random) -> u64 {
        let server = 1 + random.below(self.servers.len() - 1);
        let fault = Fault::any(random, self.relays[server].is_some());
        let longest_ms = if random.one_in(5) { 1_200 } else { 300 };
        let time = Duration::from_millis(30 + random.below(longest_ms) as u64);
        self.last = format!("{fault:?} of server {server} for {time:?}");
        match fault {
            Fault::Kill => {
                keys.on_death(server);
                self.servers[server].kill();
                watch::pass(time);
                self.servers[server].restart();
            }
            Fault::Stop => {
                self.servers[server].signal(Signal::STOP);
                watch::pass(time);
                self.servers[server].signal(Signal::CONT);
            }
            _ => return self.trouble_relay(server, fault, time, random),
        }
        1
    }

    fn trouble_relay(&self, server: usize, fault: Fault, time: Duration, random: &mut Random) -> u64 {
        let Some(relay) = &self.relays[server] else { unreachable!("chosen with it") };
        let held = |yes| if yes { Flow::Held } else { Flow::Free };
        let mut trouble = Trouble::NONE;
        let before = relay.cuts();
        match fault {
            Fault::BlackHole { up, down } => (trouble.up, trouble.down) = (held(up), held(down)),
            Fault::Late(delay) => (trouble.up, trouble.down) = (Flow::Free, Flow::Late(delay)),
            Fault::Narrow(bytes) => (trouble.up, trouble.down) = (Flow::Narrow(bytes), Flow::Narrow(bytes)),
            Fault::Crumbs(bytes) => (trouble.up, trouble.down) = (Flow::Crumbs(bytes), Flow::Crumbs(bytes)),
            Fault::Refuse { resets } => trouble = Trouble { refuses: true, resets, ..trouble },
            Fault::Cut { up, resets, after_bytes_max, lingers } => {
                // each connection after as many bytes; the next ones after others
                for _ in 0..3 {
                    let after = Flow::Cut { after_bytes: random.below(after_bytes_max) as u64, lingers };
                    let (up, down) = if up { (after, Flow::Free) } else { (Flow::Free, after) };
                    relay.set(Trouble { up, down, resets, refuses: false });
                    let cuts = relay.cuts();
                    watch::until(time, || relay.cuts() > cuts);
                }
                relay.set(Trouble::NONE);
                return (relay.cuts() - before).max(1);
            }
            Fault::Kill | Fault::Stop => {}
        }
        relay.set(trouble);
        watch::pass(time);
        relay.set(Trouble::NONE);
        1
    }
}

impl Fault {
    fn any(random: &mut Random, has_relay: bool) -> Self {
        match random.below(if has_relay { 11 } else { 2 }) {
            0 => Self::Kill,
            1 => Self::Stop,
            2 => Self::BlackHole { up: true, down: true },
            3 => {
                let up = random.one_in(2);
                Self::BlackHole { up, down: !up }
            }
            4 => Self::Late(Duration::from_millis(10 + random.below(190) as u64)),
            5 => Self::Narrow(500 + random.below(5_000)),
            6 => Self::Crumbs(1 + random.below(30)),
            7 => Self::Refuse { resets: random.one_in(2) },
            _ => Self::Cut {
                up: random.one_in(3),
                resets: random.one_in(2),
                after_bytes_max: if random.one_in(2) { 1_000 } else { 300_000 },
                lingers: Duration::from_millis(if random.one_in(2) { 0 } else { random.below(100) as u64 }),
            },
        }
    }
}
