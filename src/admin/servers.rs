//! `stats servers` and `stats suspect_servers`, in mcrouter's form, so that its exporters read them.

use super::line::stat;
use crate::health::Health;
use crate::stats::{RESULTS, ServerStats};
use std::fmt::Write;

/// Each server: how long its answers take, what is under way, whether it is out, what its answers were; and, which is ours, the
/// pools that it is in and what failed last.
pub(super) fn servers(stats: &[ServerStats], health: &Health) -> String {
    let mut text = String::new();
    for server in stats {
        // what mcrouter calls a destination: another timeout is another one
        let name = format!("{}:ascii:plain:notcompressed-{}", server.address, server.timeout.as_millis());
        let mut told = String::new();
        let latency_us = server.latency.map_or(0.0, |latency| latency.as_secs_f64() * 1e6);
        // writing to a String cannot fail
        let _ = write!(told, "avg_latency_us:{latency_us:.3} pending_reqs:0");
        let _ = write!(told, " inflight_reqs:{}", server.outstanding_count);
        match health.is_soft(&server.address) {
            Some(true) => told.push_str(" soft_tko;"),
            Some(false) => told.push_str(" hard_tko;"),
            None => {}
        }
        if server.connections_count > 0 {
            let _ = write!(told, " up:{}", server.connections_count);
        }
        let counted = RESULTS.iter().zip(&server.results).filter(|(_, count)| **count > 0);
        for (i, (result, count)) in counted.enumerate() {
            let _ = write!(told, "{} {result}:{count}", if i == 0 { ";" } else { "" });
        }
        let _ = write!(told, "; pools:{}", server.pools.join(","));
        if let Some(failure) = server.last_failure {
            let _ = write!(told, " last_error:{failure}");
        }
        stat(&mut text, &name, told);
    }
    text.push_str("END\r\n");
    text
}

/// Servers that have failed of late.
pub(super) fn suspects(health: &Health) -> String {
    let mut text = String::new();
    for suspect in health.suspects() {
        let status = if suspect.is_out { "tko" } else { "down" };
        let told = format_args!("status:{status} num_failures:{}", suspect.failures_count);
        stat(&mut text, &suspect.address, told);
    }
    text.push_str("END\r\n");
    text
}
