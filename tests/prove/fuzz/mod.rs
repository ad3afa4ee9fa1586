//! Fuzz: mutations of kept inputs, thrown at every way in. It runs on a stable compiler and needs no tool; what guides
//! itself by coverage is `tests/fuzz`, and what that finds is kept here.

mod conversation;
pub(crate) mod mutate;
pub(crate) mod targets;

use crate::corpus;
use crate::memory;
use crate::plan::{Outcome, Plan};
use crate::support::Random;
use mutate::Mutator;
use rustix::thread::ClockId;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use targets::{TARGETS, Target};

/// What an input may cost of memory.
const MEMORY_BYTES_MAX: u64 = 64 << 20;
/// Inputs of one seed, for a target of weight 1.
const ROUND: u64 = 500;

thread_local! {
    /// What the last panic of this thread said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// So many executions of the slower targets; the faster ones get more.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let usual = std::panic::take_hook();
    // A panic in a task is caught by the runtime: only here it is seen for certain.
    std::panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
    let wanted = plan.only(TARGETS, |t| t.name).unwrap_or_else(|| TARGETS.iter().collect());
    let targets: Vec<_> = wanted.into_iter().map(|t| (t, corpus::of_target(t.name))).collect();
    let mut outcome = Outcome::default();
    // First all that is kept, as it is: what was once wrong stays right.
    for (target, kept) in &targets {
        for (name, bytes) in kept {
            judge(target, name, bytes, &mut outcome);
        }
    }
    outcome.merge(plan.each("round", ROUND, |seed| {
        let mut outcome = Outcome::default();
        for (target, kept) in &targets {
            let mut mutator = Mutator::new(kept, Random::new(seed));
            for _ in 0..ROUND * target.weight {
                let input = mutator.next();
                judge(target, &format!("seed {seed}"), &input, &mut outcome);
            }
            outcome.add(target.name, ROUND * target.weight);
        }
        outcome
    }));
    std::panic::set_hook(usual);
    outcome
}

/// Tries one input.
fn judge(target: &Target, name: &str, input: &[u8], outcome: &mut Outcome) {
    outcome.checked += 1;
    let before = cpu_time();
    // Nothing that a target leaves behind is looked at afterwards.
    let (result, bytes) = memory::watch(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let time = cpu_time() - before;
    let panic = PANIC.take().or_else(|| result.is_err().then(String::new));
    let fault = match panic {
        Some(text) => {
            outcome.panics += 1;
            text
        }
        None if bytes > MEMORY_BYTES_MAX => format!("{bytes} bytes of memory"),
        None if time > Duration::from_millis(target.time_ms_max) => format!("{time:?}"),
        None => return,
    };
    let path = std::env::temp_dir().join(format!("ringway-fuzz-{}-{}", target.name, outcome.checked));
    let kept = std::fs::write(&path, input).map_or_else(|e| e.to_string(), |()| path.display().to_string());
    let shown = input[..input.len().min(2_000)].escape_ascii();
    outcome.report_wrong(format_args!("{} ({name}): {fault}\n  in {kept}: {shown}", target.name));
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}
