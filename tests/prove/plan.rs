//! How much a part does and what came of it.

use crate::support::Random;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a part goes on.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    Time(Duration),
    Count(u64),
}

impl Amount {
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self::Time(Duration::from_secs(seconds))
    }

    pub(crate) const fn minutes(minutes: u64) -> Self {
        Self::Time(Duration::from_secs(minutes * 60))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{}s", time.as_secs()),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// What a part is told.
pub(crate) struct Plan {
    pub(crate) amount: Amount,
    pub(crate) seed: u64,
    /// Of what the part has by name, these alone; all when there is none.
    only: Vec<String>,
    began: Instant,
}

impl Plan {
    pub(crate) fn new(amount: Amount, seed: u64, only: Vec<String>) -> Self {
        Self { amount, seed, only, began: Instant::now() }
    }

    /// Those of `all` that are to be tried alone; `None`: nothing was said of it. Nothing can be tried that is not there.
    pub(crate) fn only<'a, T>(&self, all: &'a [T], name_of: fn(&T) -> &str) -> Option<Vec<&'a T>> {
        let find = |name: &String| {
            all.iter().find(|one| name_of(one) == name).unwrap_or_else(|| {
                let names: Vec<_> = all.iter().map(name_of).collect();
                eprintln!("--only {name}: there are {}", names.join(", "));
                std::process::exit(2)
            })
        };
        (!self.only.is_empty()).then(|| self.only.iter().map(find).collect())
    }

    pub(crate) fn random(&self) -> Random {
        Random::new(self.seed)
    }

    /// Does one thing after the other, on as many threads as there are cores, each with a seed of its own; the first
    /// one has the plan's, so that what went wrong is repeated by `--seed` and `--count 1`.
    ///
    /// `size`: for how many of the plan's count one of them stands.
    pub(crate) fn each(&self, name: &str, size: u64, work: impl Fn(u64) -> Outcome + Sync) -> Outcome {
        let next = AtomicU64::new(0);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let whole = Mutex::new(Outcome::default());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Relaxed);
                        if !self.goes_on(index * size) {
                            return;
                        }
                        let seed = self.seed.wrapping_add(index);
                        let one = work(seed);
                        if !one.is_clean() {
                            tell(format_args!("something was wrong in the {name} of seed {seed}"));
                        }
                        whole.lock().unwrap().merge(one);
                    }
                });
            }
        });
        whole.into_inner().unwrap()
    }

    /// Whether there is more to do after so much.
    pub(crate) fn goes_on(&self, done: u64) -> bool {
        match self.amount {
            Amount::Time(time) => self.began.elapsed() < time,
            Amount::Count(count) => done < count,
        }
    }
}

/// What came of a part.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Values, answers, steps or executions that were looked at; each part says which.
    pub(crate) checked: u64,
    /// Faults that were injected.
    pub(crate) faults: u64,
    /// Answers that were not what they had to be; a reply to somebody else's request is the worst of them.
    pub(crate) wrong: u64,
    /// What was acknowledged, or asked, and never came.
    pub(crate) lost: u64,
    /// Ends of the process that nobody asked for.
    pub(crate) panics: u64,
    /// Resident memory of the program at its highest, where it was watched.
    pub(crate) rss_bytes_max: u64,
    /// What else the ledger should know: `name=value` words.
    pub(crate) more: Vec<String>,
    /// The same as numbers that add up.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Outcome {
    pub(crate) fn is_clean(&self) -> bool {
        self.wrong == 0 && self.lost == 0 && self.panics == 0
    }

    /// Something else that the ledger should know.
    pub(crate) fn add(&mut self, name: &'static str, count: u64) {
        *self.counts.entry(name).or_default() += count;
    }

    pub(crate) fn report_wrong(&mut self, text: impl fmt::Display) {
        tell(format_args!("WRONG: {text}"));
        self.wrong += 1;
    }

    pub(crate) fn report_lost(&mut self, text: impl fmt::Display) {
        tell(format_args!("LOST: {text}"));
        self.lost += 1;
    }

    /// So much was resident at most, where the bound is so much.
    pub(crate) fn judge_memory(&mut self, name: &str, rss_bytes_max: u64, bound: u64) {
        self.rss_bytes_max = self.rss_bytes_max.max(rss_bytes_max);
        if rss_bytes_max > bound {
            let (most, bound) = (rss_bytes_max / 1024, bound / 1024);
            self.report_wrong(format_args!("{name}: {most} KiB resident, the bound is {bound}"));
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.checked += other.checked;
        self.faults += other.faults;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.panics += other.panics;
        self.rss_bytes_max = self.rss_bytes_max.max(other.rss_bytes_max);
        self.more.extend(other.more);
        for (name, count) in other.counts {
            self.add(name, count);
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "checked={} faults={} wrong={} lost={} panics={} rss_max={}K",
            self.checked,
            self.faults,
            self.wrong,
            self.lost,
            self.panics,
            self.rss_bytes_max / 1024
        )?;
        self.more.iter().try_for_each(|word| write!(f, " {word}"))?;
        self.counts.iter().try_for_each(|(name, count)| write!(f, " {name}={count}"))
    }
}

/// What was told of the part that is under way.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
const TOLD_MAX: usize = 20;

/// Says what is wrong, and remembers the first of it: who has only the end of a long output must find it there.
pub(crate) fn tell(text: impl fmt::Display) {
    let text = text.to_string();
    println!("  {text}");
    let mut told = TOLD.lock().unwrap();
    if told.len() < TOLD_MAX {
        told.push(text);
    }
}

/// What was told since this was last asked.
pub(crate) fn take_told() -> Vec<String> {
    std::mem::take(&mut *TOLD.lock().unwrap())
}

/// A seed that was not used before.
pub(crate) fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8) >> 32
}
