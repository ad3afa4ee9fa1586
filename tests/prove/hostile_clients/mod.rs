//! Hostile clients beside good ones: whatever the former do, the latter get right answers, and ringway stays within
//! its bounds and gives everything back.
//!
//! `checked` counts the good clients' answers, `faults` hostile connections. `--only NAME` tries one behaviour alone.

pub(crate) mod arena;
pub(crate) mod behaviours;
pub(crate) mod good;
pub(crate) mod swarm;

use crate::plan::{Amount, Outcome, Plan};
use crate::support::has_memcached;
use crate::watch;
use arena::{Arena, DIRECT, ROUTED};
use behaviours::{BEHAVIOURS, Behaviour};
use good::{Good, Phase};
use std::collections::VecDeque;
use std::time::Duration;
use swarm::Stage;

/// Good requests a second before a release; a tenth of it on every commit, where others use the machine too.
const GOOD_PER_SECOND: f64 = 20_000.0;
/// What comes first is slower: servers have no connections yet.
const WARM_UP: Duration = Duration::from_secs(1);
/// Each behaviour's time before a release, and at least.
const SECONDS_MAX: u64 = 20;
const SECONDS_MIN: u64 = 2;
/// So many hostile connections before a release: `connects`, which makes the most of them, is repeated until they are
/// reached.
const CONNECTIONS_MIN: u64 = 1_000_000;
const REPEATS_MAX: usize = 20;

/// How much of each behaviour, and of how many.
struct Size {
    behaviours: usize,
    time: Duration,
    /// 1 before a release.
    scale: f64,
}

impl Size {
    /// A count is one of behaviours, a time is shared by as many as it is enough for.
    fn of(amount: Amount) -> Self {
        let all = BEHAVIOURS.len() as u64;
        let (behaviours, seconds) = match amount {
            Amount::Count(count) => (count, SECONDS_MIN),
            Amount::Time(time) => {
                let seconds = (time.as_secs() / all).clamp(SECONDS_MIN, SECONDS_MAX);
                (time.as_secs() / seconds, seconds)
            }
        };
        Self {
            behaviours: usize::try_from(behaviours.clamp(1, all)).unwrap(),
            time: Duration::from_secs(seconds),
            scale: seconds as f64 / SECONDS_MAX as f64,
        }
    }
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    run_over(DIRECT, plan)
}

pub(crate) fn run_routed(plan: &Plan) -> Outcome {
    run_over(ROUTED, plan)
}

fn run_over(route: &str, plan: &Plan) -> Outcome {
    if !has_memcached() {
        return Outcome::default();
    }
    watch::raise_descriptors();
    let size = Size::of(plan.amount);
    let only = plan.only(BEHAVIOURS, |b| b.name);
    let connections_min = if only.is_none() && size.scale >= 1.0 { CONNECTIONS_MIN } else { 0 };
    let mut behaviours =
        VecDeque::from(only.unwrap_or_else(|| BEHAVIOURS[..size.behaviours].iter().collect()));
    let (count, mut repeats_left) = (behaviours.len(), REPEATS_MAX);
    // On every commit others use the machine too: there times are only told.
    let times_count = size.scale >= 1.0 && route == DIRECT && is_quiet_machine();
    let mut random = plan.random();
    let mut arena = Arena::start(route);
    arena.fill();
    let per_second = (GOOD_PER_SECOND * size.scale) as u64;
    let good = Good::start(arena.proxy.address(), arena.server().address(), per_second, &mut random);
    watch::pass(WARM_UP);
    let _ = good.phase();
    watch::pass(size.time); // this long nobody does harm
    arena.note_quiet();
    let quiet = good.phase();
    arena.take_rss_bytes_max();
    let mut outcome = Outcome::default();
    let mut slow = Vec::new();
    while let Some(behaviour) = behaviours.pop_front() {
        arena.cool_down();
        arena.fill();
        let stage = Stage::new(arena.proxy.address(), size.time, size.scale, random.fork());
        let endured = suffer(behaviour, stage, &arena, &good, &quiet, &mut outcome);
        if endured.phase.is_slow(&quiet) {
            slow.push(behaviour.name);
        }
        if watch::is_gone(&mut arena.proxy, &mut outcome) {
            break;
        }
        if behaviours.is_empty() && outcome.faults < connections_min && repeats_left > 0 {
            repeats_left -= 1;
            behaviours.extend(BEHAVIOURS.iter().find(|b| b.name == "connects"));
        }
    }
    let connections = outcome.faults;
    if connections < connections_min {
        outcome.report_lost(format_args!("{connections} connections, not {connections_min}"));
    }
    if times_count {
        for name in &slow {
            outcome.report_wrong(format_args!("{name}: slow for the others"));
        }
    }
    outcome.checked = good.answers();
    outcome.wrong += good.wrong();
    outcome.more.push(format!("behaviours={count} p99_quiet_us={}", quiet.p99_micros));
    outcome.more.push(format!("p99_over_twice={}", slow.join(",")));
    outcome
}

/// What a behaviour cost.
pub(crate) struct Endured {
    pub(crate) rss_bytes_max: u64,
    /// Clients that were there at the same time.
    pub(crate) clients: u64,
    /// What the good clients saw meanwhile.
    pub(crate) phase: Phase,
}

/// One behaviour, and what it leaves behind.
pub(crate) fn suffer(
    behaviour: &Behaviour,
    mut stage: Stage,
    arena: &Arena,
    good: &Good,
    quiet: &Phase,
    outcome: &mut Outcome,
) -> Endured {
    let wrong_before = good.wrong();
    let _ = (good.phase(), arena.take_rss_bytes_max());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            take_what_is_left();
            (behaviour.act)(&mut stage);
        });
    });
    let (opened, clients) = (stage.opened, stage.len() as u64);
    let phase = good.phase();
    drop(stage);
    let mut faults = Vec::new();
    if let Err(left) = arena.settle() {
        faults.push(left);
    }
    let rss_bytes_max = arena.take_rss_bytes_max();
    outcome.judge_memory(behaviour.name, rss_bytes_max, arena.bound(clients));
    if !arena.servers_are_well() {
        faults.push("a server is not well".into());
    }
    for fault in faults {
        outcome.report_wrong(format_args!("{}: {fault}", behaviour.name));
    }
    outcome.faults += opened;
    println!(
        "  {:20} clients={opened:<7} rss={}K (quiet {}K) p99_us={} (quiet {}, direct {}) good_wrong={}",
        behaviour.name,
        rss_bytes_max / 1024,
        arena.quiet_rss_bytes / 1024,
        phase.p99_micros,
        quiet.p99_micros,
        phase.direct_p99_micros,
        good.wrong() - wrong_before
    );
    Endured { rss_bytes_max, clients, phase }
}

/// From now on this thread, which is all of the hostile clients, gets what others leave of the processors: in life it would be on
/// another machine, or have a share of its own, and what the kernel gives it here is not ringway's doing.
fn take_what_is_left() {
    const LAST: i32 = 19;
    rustix::process::nice(LAST).expect("whoever may run may run later");
}

/// Whether nobody else needs the processors: only then times mean something.
fn is_quiet_machine() -> bool {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(f64::MAX);
    load < 0.5
}
