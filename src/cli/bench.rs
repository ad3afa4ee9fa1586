//! `ringway bench`: verified load on any memcached-speaking address.

use crate::bench::{self, Dialect, Failure, Plan, Share, Sizes, Target};
use clap::{Args, ValueEnum};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  ringway bench 127.0.0.1:5000
  ringway bench 127.0.0.1:5000 --rate 60000 --duration 10s --pid $(pidof ringway)
  ringway bench unix:/run/ringway/ringway.sock --pipeline 16 --protocol meta
  ringway bench cache:11211 --value-size 10-100000:log --sets 30% --keys-per-get 20

Exit code: 0 all answers were right, 1 something was wrong or failed, 2 the flags make no sense.";

/// Load a memcached-speaking address, check every byte, and say how fast and how dear it was.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Where the load goes: host:port, [ip6]:port or unix:/path
    #[arg(value_name = "ADDR")]
    target: Target,
    /// Clients
    #[arg(long, short = 'c', default_value_t = 50, value_name = "N")]
    connections: usize,
    /// Requests that each client keeps under way (closed loop only) [default: 1]
    #[arg(long, short = 'P', value_name = "N")]
    pipeline: Option<usize>,
    /// Different keys
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    keys: u32,
    /// Bytes per value: 100, 10-100000 (evenly) or 10-100000:log (small ones as often as large ones)
    #[arg(long, default_value = "100", value_name = "BYTES")]
    value_size: Sizes,
    /// Share of sets among the requests, the rest are gets: 10% or 0.1
    #[arg(long, default_value = "10%", value_name = "SHARE")]
    sets: Share,
    /// Keys in each get (classic protocol)
    #[arg(long, default_value_t = 1, value_name = "N")]
    keys_per_get: u32,
    /// In which words to ask
    #[arg(long, value_enum, default_value_t = Protocol::Classic)]
    protocol: Protocol,
    /// Requests per second; latency counts from when a request was due. 0: closed loop, as fast as answers come
    #[arg(long, short = 'r', default_value = "0", value_name = "N", value_parser = parse_rate)]
    rate: f64,
    /// At a fixed rate, send what is due at least this often
    #[arg(long, default_value = "200us", value_name = "TIME", value_parser = parse_time)]
    tick: Duration,
    /// How long to measure
    #[arg(long, short = 'd', default_value = "5s", value_name = "TIME", value_parser = parse_time)]
    duration: Duration,
    /// Load before the measurement begins
    #[arg(long, default_value = "500ms", value_name = "TIME", value_parser = parse_time)]
    warm_up: Duration,
    /// Do not set every key first
    #[arg(long)]
    no_fill: bool,
    /// What keys begin with; a number follows
    #[arg(long, default_value = "key:", value_name = "TEXT")]
    key_prefix: String,
    /// Another number, another order of keys
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Threads that make the load
    #[arg(long, short = 't', default_value_t = 1, value_name = "N")]
    threads: usize,
    /// Report CPU time per request and memory of this process too (may be given several times)
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// [`Dialect`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Classic,
    Meta,
}

/// Runs the verb.
pub(crate) fn run(args: BenchArgs) -> ExitCode {
    let json = args.json;
    let report = match args.into_plan().map_err(Failure::Plan).and_then(bench::run) {
        Ok(report) => report,
        Err(failure) => {
            // Standard error is all that is left to complain to.
            let _ = writeln!(io::stderr().lock(), "ringway bench: {failure}");
            return ExitCode::from(if matches!(failure, Failure::Plan(_)) { 2 } else { 1 });
        }
    };
    let mut out = io::stdout().lock();
    let printed = if json {
        serde_json::to_writer(&mut out, &report).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        write!(out, "{report}")
    };
    // A reader that has gone away has read enough; the exit code still tells the result.
    let _ = printed.and_then(|()| out.flush());
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl BenchArgs {
    fn into_plan(self) -> Result<Plan, String> {
        let rate = (self.rate != 0.0).then_some(self.rate);
        if rate.is_some() && self.pipeline.is_some() {
            return Err(
                "--pipeline is for the closed loop: at a fixed --rate requests leave when they are due"
                    .into(),
            );
        }
        Ok(Plan {
            target: self.target,
            connections_count: self.connections,
            pipeline_count: self.pipeline.unwrap_or(1),
            keys_count: self.keys,
            key_prefix: self.key_prefix,
            value_bytes: self.value_size,
            sets: self.sets,
            keys_per_get: self.keys_per_get,
            dialect: match self.protocol {
                Protocol::Classic => Dialect::Classic,
                Protocol::Meta => Dialect::Meta,
            },
            rate,
            tick: self.tick,
            duration: self.duration,
            warm_up: self.warm_up,
            fill: !self.no_fill,
            seed: self.seed,
            threads_count: self.threads,
            pids: self.pid,
        })
    }
}

/// Requests per second.
fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0);
    rate.ok_or_else(|| "expected requests per second as in 60000, or 0 for the closed loop".into())
}

/// A number and its unit.
fn parse_time(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time as in 200us, 500ms, 5s or 2m".to_string();
    let digits = text.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(expected()),
    };
    let number: f64 = number.parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let cases = [("200us", 200), ("500ms", 500_000), ("1.5s", 1_500_000), ("2m", 120_000_000)];
        for (text, micros) in cases {
            assert_eq!(parse_time(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "5", "s", "5h", "1.2.3s", "-1s"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
