//! `stats` and its sub-commands, in memcached's form, so that generic tools and exporters do not break.

use super::VERSION;
use crate::cache::Cache;
use crate::config::{About, Config, Settings};
use crate::health::Health;
use crate::stats::{COUNTERS, Stats};
use std::collections::HashSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What the whole process knows about itself.
pub struct Process {
    settings: Settings,
    /// `None` in tests that have no configuration.
    config: Option<Arc<Config>>,
    about: About,
    stats: Stats,
    health: Arc<Health>,
    started: Instant,
    /// The embedded caches, if any.
    caches: Vec<Arc<Cache>>,
    /// What they may hold together.
    memory_bytes_max: usize,
    /// Counter values at the last `stats reset`.
    baseline: Mutex<Vec<u64>>,
}

/// Gauges: what is now, not since when. `stats reset` leaves them alone.
const GAUGES: &[&str] =
    &["curr_connections", "server_connections", "server_outstanding", "buffer_bytes", "total_connections"];

impl Process {
    #[must_use]
    pub fn new(
        settings: Settings,
        stats: Stats,
        health: Arc<Health>,
        caches: Vec<Arc<Cache>>,
        memory_bytes_max: usize,
    ) -> Self {
        Self {
            settings,
            config: None,
            about: About::default(),
            stats,
            health,
            started: Instant::now(),
            caches,
            memory_bytes_max,
            baseline: Mutex::default(),
        }
    }

    /// With what is told of the configuration.
    #[must_use]
    pub fn with_config(mut self, config: Arc<Config>, about: About) -> Self {
        self.config = Some(config);
        self.about = about;
        self
    }

    pub(super) fn config(&self) -> Result<&Config, String> {
        self.config.as_deref().ok_or_else(|| "there is no configuration".to_owned())
    }

    pub(super) const fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    pub(super) fn workers_count(&self) -> usize {
        self.stats.workers_count()
    }

    /// Addresses of the servers that are knocked out.
    pub(super) fn servers_that_are_out(&self) -> HashSet<String> {
        let suspects = self.health.suspects();
        suspects.into_iter().filter(|suspect| suspect.is_out).map(|suspect| suspect.address).collect()
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sub-commands are told apart as memcached does it: what it would not know is `ERROR`.
    pub(super) fn stats(&self, what: &[u8]) -> String {
        let mut words = what.split(|b| *b == b' ').filter(|w| !w.is_empty());
        match words.next() {
            None => self.general(),
            Some(b"settings") => self.settings_text(),
            Some(b"items") => self.items(),
            Some(b"slabs") => self.slabs(),
            Some(b"suspect_servers") => self.suspect_servers(),
            Some(b"conns" | b"sizes" | b"extstore") => "END\r\n".to_owned(),
            Some(b"reset") => {
                *self.baseline.lock().unwrap_or_else(PoisonError::into_inner) =
                    COUNTERS.iter().map(|c| self.stats.sum(c.pick)).collect();
                "RESET\r\n".to_owned()
            }
            Some(_) => "ERROR\r\n".to_owned(),
        }
    }

    fn general(&self) -> String {
        let mut text = String::with_capacity(2048);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let (user, system) = cpu_seconds();
        stat(&mut text, "pid", std::process::id());
        stat(&mut text, "uptime", self.started.elapsed().as_secs());
        stat(&mut text, "time", now);
        stat(&mut text, "version", VERSION);
        stat(&mut text, "pointer_size", usize::BITS);
        stat(&mut text, "rusage_user", format_args!("{user:.6}"));
        stat(&mut text, "rusage_system", format_args!("{system:.6}"));
        stat(&mut text, "max_connections", self.settings.limits.clients_count_max);
        {
            let baseline = self.baseline.lock().unwrap_or_else(PoisonError::into_inner);
            for (i, counter) in COUNTERS.iter().enumerate() {
                let base =
                    if GAUGES.contains(&counter.name) { 0 } else { baseline.get(i).copied().unwrap_or(0) };
                stat(&mut text, counter.name, self.stats.sum(counter.pick).wrapping_sub(base));
            }
        }
        self.health_lines(&mut text);
        let caches: Vec<_> = self.caches.iter().map(|c| c.stats()).collect();
        stat(&mut text, "limit_maxbytes", self.memory_bytes_max);
        stat(&mut text, "bytes", caches.iter().map(|c| c.bytes).sum::<u64>());
        stat(&mut text, "curr_items", caches.iter().map(|c| c.items).sum::<u64>());
        stat(&mut text, "evictions", caches.iter().map(|c| c.evictions).sum::<u64>());
        stat(&mut text, "threads", self.stats.workers_count());
        text.push_str("END\r\n");
        text
    }

    /// mcrouter's names.
    fn health_lines(&self, text: &mut String) {
        let (hard, soft) = self.health.totals().counts();
        let (entered, exited) = self.health.fail_open_counts();
        stat(text, "num_suspect_servers", self.health.suspects().len());
        stat(text, "num_hard_tko_count", hard);
        stat(text, "num_soft_tko_count", soft);
        stat(text, "num_fail_open_state_entered", entered);
        stat(text, "num_fail_open_state_exited", exited);
    }

    /// Servers that have failed of late, in mcrouter's form.
    fn suspect_servers(&self) -> String {
        let mut text = String::new();
        for suspect in self.health.suspects() {
            let status = if suspect.is_out { "tko" } else { "down" };
            let told = format_args!("status:{status} num_failures:{}", suspect.failures_count);
            stat(&mut text, &suspect.address, told);
        }
        text.push_str("END\r\n");
        text
    }

    fn settings_text(&self) -> String {
        let limits = &self.settings.limits;
        let mut text = String::with_capacity(512);
        stat(&mut text, "maxbytes", self.memory_bytes_max);
        stat(&mut text, "maxconns", limits.clients_count_max);
        stat(&mut text, "udpport", 0);
        stat(&mut text, "verbosity", 0);
        stat(&mut text, "num_threads", self.stats.workers_count());
        stat(&mut text, "item_size_max", limits.value_bytes_max);
        stat(&mut text, "cas_enabled", "yes");
        stat(&mut text, "flush_enabled", if self.settings.allow_flush { "yes" } else { "no" });
        stat(&mut text, "binding_protocol", "ascii");
        stat(&mut text, "client_flags_size", 4);
        stat(&mut text, "client_outstanding_count_max", limits.client_outstanding_count_max);
        stat(&mut text, "client_reply_bytes_max", limits.client_reply_bytes_max);
        stat(&mut text, "buffer_bytes_max", limits.buffer_bytes_max);
        stat(&mut text, "late_count_max", limits.late_count_max);
        text.push_str("END\r\n");
        text
    }

    /// All embedded items count as one class; without an embedded cache there are none.
    fn items(&self) -> String {
        let mut text = String::new();
        if !self.caches.is_empty() {
            stat(&mut text, "items:1:number", self.caches.iter().map(|c| c.stats().items).sum::<u64>());
            stat(&mut text, "items:1:evicted", self.caches.iter().map(|c| c.stats().evictions).sum::<u64>());
        }
        text.push_str("END\r\n");
        text
    }

    fn slabs(&self) -> String {
        let mut text = String::new();
        stat(&mut text, "active_slabs", usize::from(!self.caches.is_empty()));
        stat(&mut text, "total_malloced", self.caches.iter().map(|c| c.stats().bytes).sum::<u64>());
        text.push_str("END\r\n");
        text
    }
}

fn stat(text: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = write!(text, "STAT {name} {value}\r\n");
}

/// User and system time of the process, from `/proc/self/stat` (clock ticks of 10 ms).
fn cpu_seconds() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut fields = text.rsplit(") ").next().unwrap_or_default().split(' ').skip(11);
    let mut ticks = || fields.next().and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0) / 100.0;
    (ticks(), ticks())
}
