//! What a run has shown, for people and for programs.

use super::observe::{Observed, Watched};
use super::plan::{Dialect, Plan};
use super::tally::Tally;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Everything that was measured. Its JSON form is what `scripts/bench` reads.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub target: String,
    pub load: LoadShape,
    /// Ended by hand before its time.
    pub interrupted: bool,
    pub seconds: f64,
    pub requests: u64,
    pub requests_per_second: f64,
    pub keys_per_second: f64,
    pub hits: u64,
    pub misses: u64,
    /// Values that were not what was stored under the key asked for.
    pub wrong: u64,
    pub first_wrong: Option<String>,
    pub errors: u64,
    pub first_error: Option<String>,
    /// How many errors each cause had.
    pub errors_by_cause: BTreeMap<String, u64>,
    /// Due at the fixed rate, never sent because the target did not keep up.
    pub unsent: u64,
    pub latency_us: Percentiles,
    /// At a fixed rate: how late requests were sent. It is part of the latency.
    pub lateness_us: Option<Percentiles>,
    pub processes: Vec<Process>,
    /// What the load itself cost: near 100 % busy, it is the load that is measured.
    pub tool: Tool,
}

/// The load that was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct LoadShape {
    pub connections: usize,
    pub pipeline: usize,
    pub keys: u32,
    pub value_size: String,
    pub sets: f64,
    pub keys_per_get: u32,
    pub protocol: &'static str,
    /// Requests per second; 0 is the closed loop.
    pub rate: f64,
    pub threads: usize,
    pub seed: u64,
}

/// Of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
}

/// What a process used while it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    pub pid: u32,
    /// It was there to the end.
    pub alive: bool,
    pub cpu_us_per_request: f64,
    pub user_us_per_request: f64,
    pub system_us_per_request: f64,
    pub busy_percent: f64,
    pub rss_bytes: u64,
    pub peak_bytes: u64,
}

/// The load tool's own cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tool {
    pub cpu_us_per_request: f64,
    pub busy_percent: f64,
}

impl Report {
    pub(super) fn new(plan: &Plan, tally: Tally, observed: &Observed, interrupted: bool) -> Self {
        let seconds = tally.elapsed.as_secs_f64();
        let requests = tally.answered as f64;
        let keys = (tally.hits + tally.misses) as f64;
        let single = plan.keys_per_get == 1;
        Self {
            target: plan.target.to_string(),
            load: LoadShape::new(plan),
            interrupted,
            seconds,
            requests: tally.answered,
            requests_per_second: requests / seconds,
            keys_per_second: if single { requests / seconds } else { keys / seconds },
            hits: tally.hits,
            misses: tally.misses,
            wrong: tally.wrong,
            first_wrong: tally.first_wrong,
            errors: tally.errors,
            first_error: tally.first_error,
            errors_by_cause: tally.causes,
            unsent: tally.unsent,
            latency_us: Percentiles::new(&tally.latency),
            lateness_us: plan.rate.map(|_| Percentiles::new(&tally.lateness)),
            processes: observed.processes.iter().map(|w| Process::new(w, requests, seconds)).collect(),
            tool: Tool {
                cpu_us_per_request: micros(observed.own) / requests.max(1.0),
                busy_percent: observed.own.as_secs_f64() / seconds * 100.0,
            },
        }
    }

    /// Nothing was wrong, nothing failed, and something was answered at all.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.wrong == 0 && self.errors == 0 && self.requests > 0
    }
}

impl LoadShape {
    fn new(plan: &Plan) -> Self {
        Self {
            connections: plan.connections_count,
            pipeline: plan.pipeline_count,
            keys: plan.keys_count,
            value_size: plan.value_bytes.to_string(),
            sets: plan.sets.0,
            keys_per_get: plan.keys_per_get,
            protocol: match plan.dialect {
                Dialect::Classic => "classic",
                Dialect::Meta => "meta",
            },
            rate: plan.rate.unwrap_or(0.0),
            threads: plan.threads_count,
            seed: plan.seed,
        }
    }
}

impl Percentiles {
    fn new(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
            mean: histogram.mean() / 1e3,
        }
    }
}

impl Process {
    fn new(watched: &Watched, requests: f64, seconds: f64) -> Self {
        let after = watched.after.unwrap_or_default();
        let user = after.user.saturating_sub(watched.before.user);
        let system = after.system.saturating_sub(watched.before.system);
        let per_request = |time| micros(time) / requests.max(1.0);
        Self {
            pid: watched.pid,
            alive: watched.after.is_some(),
            cpu_us_per_request: per_request(user + system),
            user_us_per_request: per_request(user),
            system_us_per_request: per_request(system),
            busy_percent: (user + system).as_secs_f64() / seconds * 100.0,
            rss_bytes: after.rss_bytes,
            peak_bytes: after.peak_bytes,
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load, time) = (&self.load, &self.latency_us);
        writeln!(f, "{}, {load}, {:.2} s", self.target, self.seconds)?;
        if self.interrupted {
            writeln!(f, "  stopped    before its time")?;
        }
        let (requests, per_second) =
            (grouped(self.requests), grouped(self.requests_per_second.round() as u64));
        write!(f, "  requests   {requests}, {per_second} per second")?;
        if load.keys_per_get > 1 {
            write!(f, " ({} keys per second)", grouped(self.keys_per_second.round() as u64))?;
        }
        writeln!(f, "\n  latency    {time}")?;
        if let Some(late) = &self.lateness_us {
            writeln!(f, "  sent late  {late} (part of the latency)")?;
        }
        let (hits, misses) = (grouped(self.hits), grouped(self.misses));
        let (errors, wrong) = (grouped(self.errors), grouped(self.wrong));
        writeln!(f, "  answers    {hits} hits, {misses} misses, {wrong} wrong, {errors} errors")?;
        if self.unsent > 0 {
            writeln!(f, "  unsent     {}: the target did not keep up with the rate", grouped(self.unsent))?;
        }
        if let Some(text) = &self.first_wrong {
            writeln!(f, "  wrong      first: {text}")?;
        }
        if let Some(text) = &self.first_error {
            writeln!(f, "  error      first: {text}")?;
        }
        if self.errors_by_cause.len() > 1 {
            for (cause, &count) in &self.errors_by_cause {
                writeln!(f, "  errors     {} × {cause}", grouped(count))?;
            }
        }
        for process in &self.processes {
            writeln!(f, "  {process}")?;
        }
        let Tool { cpu_us_per_request, busy_percent } = self.tool;
        writeln!(f, "  this tool  {cpu_us_per_request:.2} µs CPU per request, {busy_percent:.0} % busy")
    }
}

impl fmt::Display for LoadShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, pipeline, value_size, keys_per_get, protocol, rate, threads, .. } = self;
        write!(f, "{connections} connections")?;
        match (*rate > 0.0, pipeline) {
            (true, _) => write!(f, " at {} per second", grouped(rate.round() as u64))?,
            (false, 1) => write!(f, " one request at a time")?,
            (false, depth) => write!(f, " {depth} requests at a time")?,
        }
        let sets_percent = (self.sets * 1e5).round() / 1e3;
        let keys = grouped(u64::from(self.keys));
        write!(f, ", {keys} keys of {value_size} B, {sets_percent} % sets, {protocol}")?;
        if *keys_per_get > 1 {
            write!(f, ", {keys_per_get} keys per get")?;
        }
        if *threads > 1 { write!(f, ", {threads} threads") } else { Ok(()) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, p999, max, .. } = self;
        write!(f, "p50 {p50:.0} µs   p90 {p90:.0}   p99 {p99:.0}   p99.9 {p999:.0}   max {max:.0}")
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1024.0 * 1024.0;
        write!(f, "pid {:<7}", self.pid)?;
        if !self.alive {
            return write!(f, "ended during the run");
        }
        write!(
            f,
            "{:.2} µs CPU per request (user {:.2}, system {:.2}), {:.0} % busy, {:.1} MiB resident, peak {:.1}",
            self.cpu_us_per_request,
            self.user_us_per_request,
            self.system_us_per_request,
            self.busy_percent,
            self.rss_bytes as f64 / MIB,
            self.peak_bytes as f64 / MIB,
        )
    }
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::observe::Usage;
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn costs_are_per_request_and_a_dead_process_is_told() {
        let plan = super::super::tests::plan();
        let mut tally = Tally { elapsed: Duration::from_secs(2), ..Tally::default() };
        (0..1_000).for_each(|n| tally.on_answer(n * 1_000));
        let usage = |ms| Usage { user: Duration::from_millis(ms), ..Usage::default() };
        let processes = vec![
            Watched { pid: 1, before: usage(10), after: Some(usage(20)) },
            Watched { pid: 2, before: usage(10), after: None },
        ];
        let observed = Observed { own: Duration::from_millis(2), processes };
        let report = Report::new(&plan, tally, &observed, false);
        assert!(report.is_clean());
        assert!((report.processes[0].cpu_us_per_request - 10.0).abs() < 1e-9);
        assert!((report.requests_per_second - 500.0).abs() < 1e-9);
        assert!((report.latency_us.p50 - 499.5).abs() < 1.0, "{}", report.latency_us.p50);
        let text = report.to_string();
        assert!(text.contains("pid 2") && text.contains("ended during the run"), "{text}");
        assert!(serde_json::to_string(&report).unwrap().contains("\"requests\":1000"));
    }
}
