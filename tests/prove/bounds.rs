//! Bounds, shown: what idle clients cost, and that memory stays below its bound and comes back, whatever clients ask for
//! and do not take.
//!
//! `checked` counts answers, of the good clients and of the mixed requests; `faults` hostile connections.

use crate::hostile_clients::arena::{Arena, CLIENT_BYTES, DIRECT};
use crate::hostile_clients::behaviours::{Behaviour, named};
use crate::hostile_clients::good::Good;
use crate::hostile_clients::suffer;
use crate::hostile_clients::swarm::Stage;
use crate::plan::{Amount, Outcome, Plan, tell};
use crate::support::{Client, PATIENCE, Random, has_memcached};
use crate::watch;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Mixed requests before a release; a part of it means that everything is smaller, but not below a tenth.
const REQUESTS: u64 = 1_000_000;
const GOOD_PER_SECOND: f64 = 5_000.0;
/// For each of the ways in which clients take too long.
const TIME: Duration = Duration::from_secs(10);
/// Clients that send the mixed requests.
const MIXED_CLIENTS: usize = 8;
const VALUE_BYTES_MAX: usize = (1 << 20) - 200;

pub(crate) fn run(plan: &Plan) -> Outcome {
    if !has_memcached() {
        return Outcome::default();
    }
    watch::raise_descriptors();
    let requests = match plan.amount {
        Amount::Count(count) => count,
        Amount::Time(time) => time.as_secs() * 5_000,
    };
    let scale = (requests as f64 / REQUESTS as f64).clamp(0.1, 1.0);
    let mut random = plan.random();
    let mut arena = Arena::start(DIRECT);
    arena.fill();
    let per_second = (GOOD_PER_SECOND * scale) as u64;
    let good = Good::start(arena.proxy.address(), arena.server().address(), per_second, &mut random);
    let mut outcome = Outcome::default();
    // Once through everything: what is quiet is known only after the first storm.
    let mixed = mixed(&arena, requests / 10, &mut random, &mut outcome);
    let _ = good.phase();
    watch::pass(TIME.mul_f64(scale)); // nobody does harm for so long
    arena.note_quiet();
    let quiet = good.phase();
    arena.take_rss_bytes_max();
    outcome.checked += mixed + self::mixed(&arena, requests, &mut random, &mut outcome);
    let clients = Good::CONNECTIONS + MIXED_CLIENTS as u64;
    outcome.judge_memory("mixed", arena.take_rss_bytes_max(), arena.bound(clients));
    back("mixed", &arena, &mut outcome);
    for name in ["idle", "slow-readers", "unread-large", "connects", "slowloris"] {
        let before = watch::rss_bytes(arena.proxy.pid());
        let behaviour: &Behaviour = named(name);
        let stage = Stage::new(arena.proxy.address(), TIME.mul_f64(scale), scale, random.fork());
        let endured = suffer(behaviour, stage, &arena, &good, &quiet, &mut outcome);
        if name == "idle" {
            let each = endured.rss_bytes_max.saturating_sub(before) / endured.clients.max(1);
            outcome.more.push(format!("idle_client_bytes={each}"));
            if each > CLIENT_BYTES {
                outcome.report_wrong(format_args!("an idle client takes {each} bytes"));
            }
        }
        back(name, &arena, &mut outcome);
        if watch::is_gone(&mut arena.proxy, &mut outcome) {
            break;
        }
    }
    outcome.checked += good.answers();
    outcome.wrong += good.wrong();
    outcome
}

/// Memory is back within a tenth of what it was, soon.
fn back(name: &str, arena: &Arena, outcome: &mut Outcome) {
    if watch::until(PATIENCE, || arena.is_back()).is_none() {
        let (left, quiet) = (watch::rss_bytes(arena.proxy.pid()) / 1024, arena.quiet_rss_bytes / 1024);
        outcome.report_wrong(format_args!("{name}: {left} KiB are not given back, {quiet} when quiet"));
    }
}

/// Values of every size from one byte on, written and read back by several clients; how many answers.
fn mixed(arena: &Arena, count: u64, random: &mut Random, outcome: &mut Outcome) -> u64 {
    let (left, wrong) = (AtomicU64::new(count), AtomicU64::new(0));
    let address = arena.proxy.address();
    std::thread::scope(|scope| {
        for number in 0..MIXED_CLIENTS {
            let (mut random, left, wrong) = (random.fork(), &left, &wrong);
            scope.spawn(move || {
                let mut client = Client::connect(address);
                while left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok() {
                    // As many of each order of magnitude.
                    let largest = (VALUE_BYTES_MAX >> random.below(20)).max(1);
                    let value = vec![b'a' + (random.below(26) as u8); 1 + random.below(largest)];
                    let key = format!("mixed{number}:{}", random.below(100));
                    client.send(format!("set {key} 0 0 {}\r\n", value.len()));
                    client.send(&value);
                    client.send("\r\n");
                    let stored = client.line();
                    client.send(format!("get {key}\r\n"));
                    let line = client.line();
                    let found = format!("VALUE {key} 0 {}", value.len());
                    if stored == "STORED" && line == found {
                        client.expect(&value);
                        client.expect("\r\nEND\r\n");
                    } else if line != "END" {
                        wrong.fetch_add(1, Relaxed);
                        return tell(format_args!("set: {stored:?}; get: {line:?}, expected {found:?}"));
                    }
                }
            });
        }
    });
    outcome.wrong += wrong.into_inner();
    count * 2
}
