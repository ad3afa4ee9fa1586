//! `chaos`: the real program between checking clients and real memcached servers, while servers are killed, stopped,
//! cut off and slowed down.
//!
//! One server is left alone: nothing that is asked of it alone may fail. Of the others no acknowledged value may be lost
//! or grow old unless the server itself lost its memory. Every request gets an answer, and when a trouble is over all
//! servers are served again within seconds.

mod clients;
mod faults;
mod values;

use crate::plan::{Outcome, Plan};
use crate::support::memcached::has_latest;
use crate::support::troubled_relay::TroubledRelay;
use crate::support::{Memcached, Proxy, Random, pool_of};
use crate::watch;
use clients::{CLIENTS, Ground, Tally};
use faults::Rig;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use values::Keys;

const KEYS: usize = 8_000;
/// Left alone · touched without a relay · two behind relays.
const SERVERS: usize = 4;
const THREADS: usize = 2;
/// Of a request, in the program's configuration.
const TIMEOUT: Duration = Duration::from_millis(250);
/// So long all is well before the next trouble.
const HEALED: Duration = Duration::from_millis(400);
/// After a trouble: longer than the longest pause between two probes, 3 s with its jitter.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut random = plan.random();
    let servers: Vec<Memcached> = (0..SERVERS)
        .map(|n| if n % 2 == 0 && has_latest() { Memcached::latest() } else { Memcached::start() })
        .collect();
    let relays: Vec<Option<TroubledRelay>> =
        servers.iter().enumerate().map(|(n, s)| (n >= 2).then(|| TroubledRelay::to(s.address()))).collect();
    let addresses: Vec<&str> =
        servers.iter().zip(&relays).map(|(s, r)| r.as_ref().map_or(s.address(), |r| r.address())).collect();
    let mut proxy = Proxy::with(&format!(
        "workers: 2\n{}",
        pool_of(&addresses, "timeout: 250ms\ntko: {probe_timeout_max: 2s}")
    ));

    let mut keys = Keys::new(KEYS, SERVERS, &mut random);
    let mut outcome = Outcome::default();
    let by_server = settle(&mut keys, &proxy, &servers, &mut outcome);
    let ground = Arc::new(Ground {
        address: proxy.address().to_owned(),
        keys,
        by_server,
        untouched: (0..SERVERS).map(|n| n == 0).collect(),
        stop: AtomicBool::new(false),
        tally: Tally::default(),
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let (ground, mut random) = (Arc::clone(&ground), random.fork());
            let share = CLIENTS / THREADS;
            thread::spawn(move || clients::run(&ground, n * share..(n + 1) * share, &mut random))
        })
        .collect();

    let mut rig = Rig::new(servers, relays);
    trouble(plan, &mut rig, &ground, &mut proxy, &mut random, &mut outcome);

    ground.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    verify(&ground, &rig.servers, &mut outcome);
    report(&ground, &mut proxy, &mut outcome);
    outcome
}

/// Every key is set once through the program; then the servers are asked who has it.
fn settle(keys: &mut Keys, proxy: &Proxy, servers: &[Memcached], outcome: &mut Outcome) -> Vec<Vec<u32>> {
    let mut client = proxy.client();
    for number in 0..keys.len() {
        let mut out = Vec::new();
        let (version, life) = keys.write_set(number, false, &mut out);
        client.ask(out, "STORED\r\n");
        keys.on_stored(number, version, life);
    }
    let mut by_server = vec![Vec::new(); servers.len()];
    for (server, has) in servers.iter().enumerate() {
        for number in ask_all(keys, has).into_iter().filter_map(|(number, found)| found.map(|_| number)) {
            keys.settle(number, server);
            by_server[server].push(u32::try_from(number).unwrap());
        }
    }
    let placed: usize = by_server.iter().map(Vec::len).sum();
    if placed != keys.len() || by_server.iter().any(Vec::is_empty) {
        outcome.report_wrong(format_args!("{placed} keys on the servers instead of {}", keys.len()));
    }
    by_server
}

/// A key's number, and what the server has for it: flags and value, or nothing.
type Found = (usize, Option<(u32, Vec<u8>)>);

/// Asks a server itself for every key.
fn ask_all(keys: &Keys, server: &Memcached) -> Vec<Found> {
    let mut client = server.client();
    let mut found = Vec::with_capacity(keys.len());
    for number in 0..keys.len() {
        client.send([b"get ", &keys.key(number).text[..], b"\r\n"].concat());
        let line = client.line();
        let value = clients::value_of(line.as_bytes(), b"VALUE ").map(|(_, flags, length)| {
            while client.ahead().len() < length + 2 {
                assert!(client.read_more(), "the server has gone");
            }
            let data = client.take_ahead(length);
            client.expect("\r\nEND\r\n");
            (flags, data)
        });
        found.push((number, value));
    }
    found
}

/// One trouble after the other, until it is enough.
fn trouble(
    plan: &Plan,
    rig: &mut Rig,
    ground: &Ground,
    proxy: &mut Proxy,
    random: &mut Random,
    outcome: &mut Outcome,
) {
    let tally = &ground.tally;
    let checked = || tally.checked.load(Ordering::Relaxed);
    let quiet = watch::rate(Duration::from_secs(1), checked);
    let (mut recoveries, mut ratios) = (Vec::new(), Vec::new());
    // what is wrong is best looked at at once
    let is_clean = || tally.wrong.load(Ordering::Relaxed) + tally.lost.load(Ordering::Relaxed) == 0;
    while plan.goes_on(checked()) && is_clean() && proxy.process().is_running() {
        outcome.faults += rig.trouble(&ground.keys, random);
        let marks: Vec<u64> = tally.good.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let is_served = || (0..SERVERS).all(|n| tally.good[n].load(Ordering::Relaxed) > marks[n]);
        match watch::until(RECOVERY_MAX, is_served) {
            Some(time) => recoveries.push(time),
            None => {
                tally.complain(&tally.lost, format!("{RECOVERY_MAX:?} after {} not served again", rig.last))
            }
        }
        ratios.push(watch::rate(HEALED, checked) / quiet.max(1.0));
        outcome.rss_bytes_max = outcome.rss_bytes_max.max(watch::rss_bytes(proxy.pid()));
    }
    ratios.sort_by(f64::total_cmp);
    let slowest = recoveries.iter().max().map_or(0, Duration::as_millis);
    outcome.more.push(format!("recovery_max={slowest}ms"));
    outcome.more.push(format!("rate={quiet:.0}/s"));
    outcome.more.push(format!("rate_after={:.2}", ratios.get(ratios.len() / 2).unwrap_or(&1.0)));
}

/// What was acknowledged is on its server, and on no other.
fn verify(ground: &Ground, servers: &[Memcached], outcome: &mut Outcome) {
    let (keys, tally) = (&ground.keys, &ground.tally);
    for (server, has) in servers.iter().enumerate() {
        for (number, found) in ask_all(keys, has) {
            let floor = keys.floor(number);
            let result = match found {
                Some(_) if keys.key(number).server != server => {
                    tally.complain(&tally.wrong, format!("key {number} is on server {server} too"));
                    continue;
                }
                None if keys.key(number).server != server => continue,
                Some((flags, data)) => keys.check(number, floor, flags, &data),
                None => keys.check_miss(number, floor),
            };
            outcome.checked += 1;
            if let Err(fault) = result {
                tally.complain(&tally.lost, format!("key {number} in the end: {fault}"));
            }
        }
    }
}

fn report(ground: &Ground, proxy: &mut Proxy, outcome: &mut Outcome) {
    let tally = &ground.tally;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    outcome.checked += count(&tally.checked);
    if !watch::is_gone(proxy, outcome) {
        watch::expect_no_desync(proxy, outcome);
    }
    outcome.wrong += count(&tally.wrong);
    outcome.lost += count(&tally.lost);
    let late_ms = (count(&tally.slowest_us) / 1000).saturating_sub(TIMEOUT.as_millis().try_into().unwrap());
    outcome.more.push(format!("over_timeout_max={late_ms}ms"));
    outcome.more.push(format!("sets={} misses={}", count(&tally.sets), count(&tally.misses)));
    outcome.more.push(format!("errors={} in_doubt={}", count(&tally.failures), ground.keys.doubtful_count()));
    outcome.more.push(format!("vanished={}", count(&tally.vanished)));
}
