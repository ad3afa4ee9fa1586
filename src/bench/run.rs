//! The course of a run: look at the plan, fill, connect, load, measure, add up.

use super::data::Data;
use super::load::{Load, Pace, Span};
use super::observe::Usage;
use super::plan::Plan;
use super::report::Report;
use super::request::Source;
use super::tally::Tally;
use super::watch::{Bar, Running};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients that set every key before the measurement, and what each keeps under way.
const FILL_CONNECTIONS_COUNT: usize = 4;
const FILL_PIPELINE_COUNT: usize = 64;
/// A fill that takes longer has gone wrong.
const FILL_TIME_MAX: Duration = Duration::from_secs(600);
/// Without an answer for this long a fill is given up.
const FILL_STALL_MAX: Duration = Duration::from_secs(5);

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Plan(String),
    #[error("cannot connect to {target}: {source}")]
    Connect { target: String, source: io::Error },
    #[error("--pid {pid}: {source}")]
    Pid { pid: u32, source: io::Error },
    #[error("setting the keys: {0}")]
    Fill(String),
    #[error("interrupted before anything was measured")]
    Interrupted,
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Runs the plan, with a progress line on standard error if that is a terminal. Ctrl-C ends it early.
///
/// # Errors
/// When there is nothing to report; errors of the target under load are in the report.
pub fn run(plan: Plan) -> Result<Report, Failure> {
    plan.check().map_err(Failure::Plan)?;
    // The threads of the load have loops of their own; this one only watches them, the clock and Ctrl-C.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(conduct(Arc::new(plan)))
}

async fn conduct(plan: Arc<Plan>) -> Result<Report, Failure> {
    look_for(&plan.pids)?;
    let data = Arc::new(Data::new(&plan));
    if plan.fill {
        fill(&plan, &data).await?;
    }
    let mut loads = (0..plan.threads_count)
        .map(|thread| load(&plan, &data, thread))
        .collect::<Result<VecDeque<_>, _>>()?;
    if let Some(first) = loads.pop_front() {
        loads.push_front(first.observe(&plan.pids));
    }
    let span =
        Span { start: Instant::now(), warm_up: plan.warm_up, end: plan.warm_up + plan.duration, stall: None };
    let (tallies, interrupted) = Running::start(loads, span)?.watch(&Bar::of_load(&plan)).await?;
    let mut tally = sum(tallies);
    let observed = tally.observed.take().ok_or(Failure::Interrupted)?;
    Ok(Report::new(&plan, tally, &observed, interrupted))
}

/// Sets every key once.
async fn fill(plan: &Arc<Plan>, data: &Arc<Data>) -> Result<(), Failure> {
    let connections = plan.connections_count.min(FILL_CONNECTIONS_COUNT);
    let load = Load::new(plan, data, Source::each(plan), None, FILL_PIPELINE_COUNT, connections)
        .map_err(|source| Failure::Connect { target: plan.target.to_string(), source })?;
    let span = Span {
        start: Instant::now(),
        warm_up: Duration::ZERO,
        end: FILL_TIME_MAX,
        stall: Some(FILL_STALL_MAX),
    };
    let (tallies, interrupted) = Running::start([load], span)?.watch(&Bar::of_fill(plan)).await?;
    if interrupted {
        return Err(Failure::Interrupted);
    }
    let tally = sum(tallies);
    let stored = tally.answered.saturating_sub(tally.errors);
    if tally.errors > 0 || stored < u64::from(plan.keys_count) {
        let why = tally.first_error.unwrap_or_else(|| format!("not done within {FILL_TIME_MAX:?}"));
        return Err(Failure::Fill(format!("{stored} of {} stored: {why}", plan.keys_count)));
    }
    Ok(())
}

/// One thread's share of the connections and of the rate.
fn load(plan: &Arc<Plan>, data: &Arc<Data>, thread: usize) -> Result<Load, Failure> {
    let threads = plan.threads_count;
    let connections =
        plan.connections_count / threads + usize::from(thread < plan.connections_count % threads);
    let pace = plan.rate.map(|rate| Pace {
        interval_ns: 1e9 * threads as f64 / rate,
        first_ns: 1e9 * thread as f64 / rate,
        tick: plan.tick,
    });
    Load::new(plan, data, Source::random(plan, thread), pace, plan.pipeline_count, connections)
        .map_err(|source| Failure::Connect { target: plan.target.to_string(), source })
}

/// A wrong number is told before the load, not after it.
fn look_for(pids: &[u32]) -> Result<(), Failure> {
    for &pid in pids {
        Usage::of(pid).map_err(|error| {
            let source = match error.kind() {
                io::ErrorKind::NotFound => {
                    io::Error::new(io::ErrorKind::NotFound, "there is no such process")
                }
                _ => error,
            };
            Failure::Pid { pid, source }
        })?;
    }
    Ok(())
}

fn sum(tallies: Vec<Tally>) -> Tally {
    let mut tallies = tallies.into_iter();
    let mut total = tallies.next().unwrap_or_default();
    tallies.for_each(|tally| total.add(tally));
    total
}
