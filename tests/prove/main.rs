//! Tries to make ringway mix up, lose, leak, hang or crash.
//!
//! `cargo test --profile prove --test prove -- PART [--minutes M | --count N] [--seed S] [--only NAME]`: the seed is printed first and, last,
//! one line of counts; exit 1 when anything was wrong. The same seed and amount bring the same attempt again, as far as
//! real processes can be brought to repeat themselves. `docs/reliability.md` is the ledger of what was run.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a panic is the report")]
#![allow(clippy::too_many_lines, reason = "a list of attacks is as long as it is")]
#![allow(clippy::disallowed_methods, reason = "nothing here is dropped half-way and read on")]

use clap::Parser;
use plan::{Amount, Outcome, Plan};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

mod bounds;
mod change;
mod chaos;
mod corpus;
mod differential;
mod dns;
mod feed;
mod fuzz;
mod hostile_clients;
mod hostile_servers;
mod late;
mod logs;
mod memory;
mod overload;
mod plan;
mod sabotage;
mod sim;
mod soak;
mod splits;
mod spool_kill;
mod spool_power;
mod stale;
#[allow(dead_code, unused_imports, reason = "shared with tests/integration; no part needs all of it")]
#[path = "../support/mod.rs"]
mod support;
mod timed;
mod watch;
mod wire;

/// One way to attack, and how much of it is enough.
struct Part {
    name: &'static str,
    /// What it does, in one sentence.
    about: &'static str,
    /// On every commit; all parts together take about ten minutes.
    commit: Amount,
    /// Before a release.
    release: Amount,
    run: fn(&Plan) -> Outcome,
}

const PARTS: &[Part] = &[
    Part {
        name: "bounds",
        about: "memory stays below its bound and comes back, whatever is asked for and not taken",
        commit: Amount::Count(5_000),
        release: Amount::Count(1_000_000),
        run: bounds::run,
    },
    Part {
        name: "change",
        about: "configurations change, broken ones are refused, new processes take over, under a load that must not notice",
        commit: Amount::Count(50),
        release: Amount::Count(1_000),
        run: change::run,
    },
    Part {
        name: "chaos",
        about: "checking clients before real servers that are killed, stopped, cut off and slowed down",
        commit: Amount::seconds(40),
        release: Amount::minutes(45),
        run: chaos::run,
    },
    Part {
        name: "differential",
        about: "streams of fifty commands, valid and hostile, to two memcached, the embedded cache and ringway before each",
        commit: Amount::Count(20_000),
        release: Amount::Count(1_000_000),
        run: differential::run,
    },
    Part {
        name: "dns",
        about: "answers of all kinds, right, wrong and none, to the names of pools: what is known holds, few keys move",
        commit: Amount::Count(10_000),
        release: Amount::Count(500_000),
        run: dns::run,
    },
    Part {
        name: "feed",
        about: "deletes through a ringway that is killed, followed elsewhere by a follower that is killed: none is missing there",
        commit: Amount::Count(30),
        release: Amount::Count(2_000),
        run: feed::run,
    },
    Part {
        name: "fuzz",
        about: "kept inputs and mutations of them into every parser, a session, a connection and the configuration",
        commit: Amount::Count(50_000),
        release: Amount::Count(5_000_000),
        run: fuzz::run,
    },
    Part {
        name: "hostile-clients",
        about: "forty ways in which clients do harm, beside good ones",
        commit: Amount::seconds(20),
        release: Amount::seconds(800),
        run: hostile_clients::run,
    },
    Part {
        name: "hostile-routed",
        about: "the same where a route looks at each reply, and keys of one get travel alone",
        commit: Amount::seconds(10),
        release: Amount::seconds(800),
        run: hostile_clients::run_routed,
    },
    Part {
        name: "hostile-servers",
        about: "sixty bad replies at sixteen places for twelve operations",
        commit: Amount::Count(11_520),
        release: Amount::Count(1_000_000),
        run: hostile_servers::run,
    },
    Part {
        name: "late",
        about: "answers that come around the timeout, over connections that all share",
        commit: Amount::Count(100_000),
        release: Amount::Count(1_000_000),
        run: late::run,
    },
    Part {
        name: "logs",
        about: "hostile bytes from both sides, and a log that stays clean and short",
        commit: Amount::Count(10_000),
        release: Amount::Count(1_000_000),
        run: logs::run,
    },
    Part {
        name: "overload",
        about: "twice the load that servers can do, and clients that ask again; then as before",
        commit: Amount::Count(1),
        release: Amount::Count(10),
        run: overload::run,
    },
    Part {
        name: "sabotage",
        about: "bugs planted in a copy of the source: each must be found",
        commit: Amount::Count(3),
        release: Amount::Count(22),
        run: sabotage::run,
    },
    Part {
        name: "sim",
        about: "worlds of 5,000 steps under a clock and a net that the test moves, a fault in one step of ten",
        commit: Amount::Count(256),
        release: Amount::Count(80_000),
        run: sim::run,
    },
    Part {
        name: "soak",
        about: "a mixed load and ten thousand idle clients: memory, files and threads stay",
        commit: Amount::minutes(1),
        release: Amount::minutes(60),
        run: soak::run,
    },
    Part {
        name: "splits",
        about: "every conversation in other pieces: cut at each byte, at pairs of bytes, at random, on both sides",
        commit: Amount::Count(50_000),
        release: Amount::Count(10_000_000),
        run: splits::run,
    },
    Part {
        name: "spool-kill",
        about: "deletes while servers and the program itself are killed and stopped: none is lost in the end",
        commit: Amount::Count(40),
        release: Amount::Count(10_000),
        run: spool_kill::run,
    },
    Part {
        name: "spool-power",
        about: "the spool's files when the power is cut at any write, sync or removal, or the disk fails at it",
        commit: Amount::Count(20_000),
        release: Amount::Count(1_000_000),
        run: spool_power::run,
    },
    Part {
        name: "stale",
        about: "a server that stood still goes on: what was deleted meanwhile is not read again",
        commit: Amount::Count(3),
        release: Amount::Count(100),
        run: stale::run,
    },
];

/// Tries to make ringway mix up, lose, leak, hang or crash.
#[derive(Parser)]
struct Arguments {
    /// Which part; `all` for every one
    part: Option<String>,
    /// For so long, instead of the part's usual amount
    #[arg(long, conflicts_with = "count")]
    minutes: Option<f64>,
    /// So many, instead of the part's usual amount
    #[arg(long)]
    count: Option<u64>,
    /// What an earlier attempt printed, to repeat it
    #[arg(long)]
    seed: Option<u64>,
    /// As much as before a release, not as little as on every commit
    #[arg(long)]
    release: bool,
    /// Of the behaviours of hostile-clients, the targets of fuzz, or the bugs of sabotage, these alone
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = arguments.part.as_deref().unwrap_or_default();
    let parts: Vec<&Part> = PARTS.iter().filter(|p| wanted == "all" || p.name == wanted).collect();
    if parts.is_empty() {
        for part in PARTS {
            println!("{:16} {} (commit: {}, release: {})", part.name, part.about, part.commit, part.release);
        }
        return if wanted.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    const HAVE_NAMES: [&str; 4] = ["fuzz", "hostile-clients", "hostile-routed", "sabotage"];
    if !arguments.only.is_empty() && !HAVE_NAMES.contains(&wanted) {
        eprintln!("--only is for {}", HAVE_NAMES.join(", "));
        return ExitCode::from(2);
    }
    let failed: Vec<String> = parts.iter().filter_map(|part| run(part, &arguments).err()).collect();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("something was wrong in {} of {} parts:", failed.len(), parts.len());
    failed.iter().for_each(|text| println!("{text}"));
    ExitCode::FAILURE
}

/// Runs one part and prints what it did; when something was wrong, this once more, with what was told of it.
fn run(part: &Part, arguments: &Arguments) -> Result<(), String> {
    let usual = if arguments.release { part.release } else { part.commit };
    let minutes = arguments.minutes.map(|m| Amount::Time(Duration::from_secs_f64(m * 60.0)));
    let amount = minutes.or(arguments.count.map(Amount::Count)).unwrap_or(usual);
    let seed = arguments.seed.unwrap_or_else(plan::fresh_seed);
    println!("part={} amount={amount} seed={seed}", part.name);
    let began = Instant::now();
    let plan = Plan::new(amount, seed, arguments.only.clone());
    let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| (part.run)(&plan))) else {
        return Err(format!("part={} seed={seed}: the part itself panicked, see above", part.name));
    };
    let line = format!("part={} {outcome} seconds={} seed={seed}", part.name, began.elapsed().as_secs());
    println!("{line}");
    let told = plan::take_told().iter().map(|text| format!("\n  {text}")).collect::<String>();
    if outcome.is_clean() { Ok(()) } else { Err(line + &told) }
}
