//! Hostile servers: sixty bad replies, at each of sixteen places in the pipeline, for each of twelve operations.
//!
//! One ringway stays up for all of it. Beside every hostile server stands a healthy one, and whoever asks that notices
//! nothing. No client ever gets a value that is not its own; every request gets one answer, in order: the right one, or
//! that the server failed; and where a reply was out of step the connection is gone before anybody is told.
//! `checked` counts answers, `faults` cases.

mod bad;
mod lane;
mod question;
mod server;

use crate::plan::{Outcome, Plan, tell};
use crate::support::{Proxy, Random};
use crate::watch;
use lane::{Case, Lane, PLACES};
use question::OPS;
use server::Server;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The bounds of each worker's buffers, and of large values under way: so large that no client is made to wait for its first
/// answer with what it asks next, since the servers here answer only when they have heard everything.
const BUFFER_BYTES_MAX: usize = 128 << 20;
const BULK_BYTES_MAX: u64 = 1 << 40;
/// What the process may take beyond its start.
const RSS_GROWTH_BYTES_MAX: u64 = 80 << 20;
/// So many wrong cases are enough: each may cost a timeout, and more of them say nothing new.
const WRONG_MAX: u64 = 20;

/// Cases that are tried by so many lanes at once, of one ringway.
struct Group {
    name: &'static str,
    lanes: usize,
    /// So many that none has hundreds of requests under way: a client's share of those is less than a pipeline.
    workers: usize,
    timeout: &'static str,
    /// The ways: those that cost a timeout each, or all others.
    silent: bool,
}

const GROUPS: [Group; 2] = [
    Group { name: "quick", lanes: 4, workers: 2, timeout: "20s", silent: false },
    Group { name: "silent", lanes: 128, workers: 16, timeout: "2s", silent: true },
];

pub(crate) fn run(plan: &Plan) -> Outcome {
    watch::raise_descriptors();
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let running: Vec<_> = GROUPS.iter().map(|group| scope.spawn(|| attack(group, plan))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all = Outcome::default();
    for outcome in outcomes {
        all.checked += outcome.checked;
        all.faults += outcome.faults;
        all.wrong += outcome.wrong;
        all.panics += outcome.panics;
        all.rss_bytes_max = all.rss_bytes_max.max(outcome.rss_bytes_max);
        all.more.extend(outcome.more);
    }
    all
}

/// The cases of one group, against one ringway.
fn attack(group: &Group, plan: &Plan) -> Outcome {
    let servers: Vec<Server> = (0..group.lanes * 2).map(|_| Server::start()).collect();
    let mut proxy = Proxy::with(&configuration(group, &servers));
    let mut lanes = lanes(&proxy, servers);
    let base = watch::rss_bytes(proxy.pid());
    let ways: Vec<usize> = (0..bad::COUNT).filter(|way| bad::is_silent(*way) == group.silent).collect();
    let tally = Tally::default();
    std::thread::scope(|scope| {
        let running: Vec<_> =
            lanes.iter_mut().map(|lane| scope.spawn(|| drive(lane, plan, &ways, &tally))).collect();
        for thread in running {
            if thread.join().is_err() {
                tally.wrong.fetch_add(1, Relaxed); // said already why
            }
        }
    });
    let mut outcome = Outcome {
        checked: tally.answers.load(Relaxed),
        faults: tally.cases.load(Relaxed),
        wrong: tally.wrong.load(Relaxed),
        rss_bytes_max: watch::rss_bytes_max(proxy.pid()),
        ..Outcome::default()
    };
    let is_gone = watch::is_gone(&mut proxy, &mut outcome);
    if outcome.rss_bytes_max > base + RSS_GROWTH_BYTES_MAX {
        let highest = outcome.rss_bytes_max;
        outcome.report_wrong(format_args!("{}: {highest} bytes resident, {base} at the start", group.name));
    }
    if !is_gone {
        // Each reply out of step is noticed once, and counted.
        let (noticed, due) = (watch::stat(&proxy, "desync_detected"), tally.gone.load(Relaxed));
        if noticed != due && outcome.wrong == 0 {
            let name = group.name;
            outcome.report_wrong(format_args!("{name}: desync_detected {noticed} after {due} out of step"));
        }
        outcome.more.push(format!("{}_desync={noticed}", group.name));
    }
    outcome
}

#[derive(Default)]
struct Tally {
    next: AtomicU64,
    answers: AtomicU64,
    cases: AtomicU64,
    gone: AtomicU64,
    wrong: AtomicU64,
}

/// Takes one case after the other until there are enough, of them or of faults.
fn drive(lane: &mut Lane, plan: &Plan, ways: &[usize], tally: &Tally) {
    // A group has its share of all cases.
    let done_of = |taken: u64| taken * bad::COUNT as u64 / ways.len() as u64;
    loop {
        let number = tally.next.fetch_add(1, Relaxed);
        if !plan.goes_on(done_of(number)) || tally.wrong.load(Relaxed) >= WRONG_MAX {
            return;
        }
        let case = case(number, ways, plan.seed);
        tally.cases.fetch_add(1, Relaxed);
        match lane.run(&case) {
            Ok(seen) => {
                tally.answers.fetch_add(seen.answers, Relaxed);
                tally.gone.fetch_add(seen.gone, Relaxed);
            }
            Err(what) => {
                tally.wrong.fetch_add(1, Relaxed);
                tell(format_args!("\"{}\", {case:?}: {what}", bad::name(case.way)));
            }
        }
    }
}

/// First every way at every place for every operation, then any of them with the bytes torn anywhere.
fn case(number: u64, ways: &[usize], seed: u64) -> Case {
    let all = (ways.len() * PLACES * OPS.len()) as u64;
    let mut random = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let index = if number < all { usize::try_from(number).unwrap() } else { random.below(all as usize) };
    Case {
        way: ways[index % ways.len()],
        op: OPS[index / ways.len() % OPS.len()],
        place: 1 + index / ways.len() / OPS.len(),
        seed: random.any(),
        torn: number >= all,
    }
}

fn configuration(group: &Group, servers: &[Server]) -> String {
    let mut yaml = format!(
        "workers: {1}\nlimits: {{value_bytes_max: 8MiB, buffer_bytes_max: {2}, client_reply_bytes_max: 32MiB, \
         bulk_bytes_max: {BULK_BYTES_MAX}}}\n\
         pools:\n  main:\n    hash: modula\n    hash_tag: \"{{}}\"\n    timeout: {0}\n    connect_timeout: {0}\n    tko: off\n    servers:\n",
        group.timeout,
        group.workers,
        group.workers * BUFFER_BYTES_MAX
    );
    for server in servers {
        yaml += &format!("      - \"{}\"\n", server.address());
    }
    yaml + "route: main\n"
}

/// Two servers for each, and the tags that lead to them.
fn lanes(proxy: &Proxy, servers: Vec<Server>) -> Vec<Lane> {
    let count = servers.len() as u64;
    let mut tags: Vec<Option<String>> = vec![None; servers.len()];
    for tag in (0_u64..).map(|n| format!("t{n}")) {
        let index = u64::from(ringway::hash::KeyHash::Fnv1a64.hash(tag.as_bytes(), true)) % count;
        tags[usize::try_from(index).unwrap()].get_or_insert(tag);
        if tags.iter().all(Option::is_some) {
            break;
        }
    }
    let mut both = servers.into_iter().zip(tags.into_iter().flatten());
    let mut lanes = Vec::new();
    while let (Some((hostile, first)), Some((healthy, second))) = (both.next(), both.next()) {
        lanes.push(Lane::new(proxy.address(), [hostile, healthy], [first, second]));
    }
    lanes
}
