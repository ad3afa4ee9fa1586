//! `stats` and its sub-commands, in memcached's form, so that generic tools and exporters do not break.

use super::line::stat;
use super::{Probes, VERSION, servers, spool};
use crate::cache::Cache;
use crate::config::{About, Config, Settings};
use crate::health::Health;
use crate::spool::Spool;
use crate::stats::{COUNTERS, CounterKind, Stats};
use crate::sync::Lock;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What the whole process knows about itself.
pub struct Process {
    current: Lock<Arc<Current>>,
    stats: Stats,
    health: Arc<Health>,
    probes: Probes,
    spool: Option<Arc<Spool>>,
    started: Instant,
    /// Counter values at the last `stats reset`.
    baseline: Lock<Vec<u64>>,
    config: Lock<ConfigTimes>,
}

/// What a configuration brought, until the next one.
#[derive(Clone, Default)]
pub struct Current {
    pub settings: Settings,
    /// The embedded caches, if any.
    pub caches: Vec<Arc<Cache>>,
    /// What they may hold together.
    pub memory_bytes_max: usize,
    /// For each pool whose servers changed lately: until when the former ones are asked.
    pub transitions: Vec<tokio::time::Instant>,
    /// `None` in tests that have no configuration.
    pub config: Option<Arc<Config>>,
    pub about: About,
}

impl Current {
    pub(super) fn config(&self) -> Result<&Config, String> {
        self.config.as_deref().ok_or_else(|| "there is no configuration".to_owned())
    }
}

/// When a configuration was read.
#[derive(Clone, Copy)]
struct ConfigTimes {
    /// Since when the one that serves does so.
    since: SystemTime,
    last_attempt: SystemTime,
    /// The last attempt that was not refused: also one that found the same.
    last_success: SystemTime,
    reloads_count: u64,
    /// Those that were refused.
    failures_count: u64,
}

impl Process {
    #[must_use]
    pub fn new(current: Current, stats: Stats, health: Arc<Health>) -> Self {
        let now = SystemTime::now();
        let config = ConfigTimes {
            since: now,
            last_attempt: now,
            last_success: now,
            reloads_count: 0,
            failures_count: 0,
        };
        Self {
            current: Lock::new(Arc::new(current)),
            stats,
            health,
            probes: Probes::default(),
            spool: None,
            started: Instant::now(),
            baseline: Lock::default(),
            config: Lock::new(config),
        }
    }

    /// What probes are answered from.
    #[must_use]
    pub const fn probes(&self) -> &Probes {
        &self.probes
    }

    /// With a spool whose numbers are told.
    #[must_use]
    pub fn with_spool(self, spool: Option<Arc<Spool>>) -> Self {
        Self { spool, ..self }
    }

    /// Another configuration serves from now on.
    pub fn adopt(&self, current: Current) {
        *self.current.lock() = Arc::new(current);
        let mut config = self.config.lock();
        config.since = SystemTime::now();
        (config.last_attempt, config.last_success) = (config.since, config.since);
        config.reloads_count += 1;
    }

    /// The same configuration serves with other servers, those that its names have now.
    pub fn take_members(&self, current: Current) {
        let mut now = self.current.lock();
        let about = now.about.clone();
        *now = Arc::new(Current { about, ..current });
    }

    /// The configuration was read again and is the one that serves, though it may be written in another way: a comment, the
    /// order of keys. Whoever compares the times is to see that a mistake was taken back.
    pub fn describe(&self, about: About) {
        let mut current = self.current.lock();
        *current = Arc::new(Current { about, ..Current::clone(&current) });
        let mut config = self.config.lock();
        config.last_attempt = SystemTime::now();
        config.last_success = config.last_attempt;
    }

    /// A configuration was refused; the one before serves on.
    pub fn config_failed(&self) {
        let mut config = self.config.lock();
        config.last_attempt = SystemTime::now();
        config.failures_count += 1;
    }

    pub(super) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.lock())
    }

    /// Seconds since this configuration serves.
    pub(super) fn config_age_s(&self) -> u64 {
        self.config.lock().since.elapsed().map_or(0, |age| age.as_secs())
    }

    pub(super) fn workers_count(&self) -> usize {
        self.stats.workers_count()
    }

    /// Addresses of the servers that are knocked out.
    pub(super) fn servers_that_are_out(&self) -> HashSet<String> {
        let suspects = self.health.suspects();
        suspects.into_iter().filter(|suspect| suspect.is_out).map(|suspect| suspect.address).collect()
    }

    /// Sub-commands are told apart as memcached does it: what it would not know is `ERROR`.
    pub(super) fn stats(&self, what: &[u8]) -> String {
        let mut words = what.split(|b| *b == b' ').filter(|w| !w.is_empty());
        match words.next() {
            None => self.general(),
            Some(b"settings") => self.settings_text(),
            Some(b"items") => self.items(),
            Some(b"slabs") => self.slabs(),
            Some(b"servers") => servers::servers(&self.stats.servers(), &self.health),
            Some(b"suspect_servers") => servers::suspects(&self.health),
            Some(b"spool") => spool::servers(self.spool.as_deref()),
            Some(b"conns" | b"sizes" | b"extstore") => "END\r\n".to_owned(),
            Some(b"reset") => {
                *self.baseline.lock() = COUNTERS.iter().map(|c| self.stats.sum(c.pick)).collect();
                "RESET\r\n".to_owned()
            }
            Some(_) => "ERROR\r\n".to_owned(),
        }
    }

    fn general(&self) -> String {
        let mut text = String::with_capacity(2048);
        let current = self.current();
        let (user, system) = cpu_seconds();
        stat(&mut text, "pid", std::process::id());
        stat(&mut text, "uptime", self.started.elapsed().as_secs());
        stat(&mut text, "time", unix_seconds(SystemTime::now()));
        stat(&mut text, "version", VERSION);
        stat(&mut text, "pointer_size", usize::BITS);
        stat(&mut text, "rusage_user", format_args!("{user:.6}"));
        stat(&mut text, "rusage_system", format_args!("{system:.6}"));
        stat(&mut text, "max_connections", current.settings.limits.clients_count_max);
        {
            let baseline = self.baseline.lock();
            for (i, counter) in COUNTERS.iter().enumerate() {
                let base = match counter.kind {
                    CounterKind::Count => baseline.get(i).copied().unwrap_or(0),
                    CounterKind::Kept | CounterKind::Gauge => 0,
                };
                stat(&mut text, counter.name, self.stats.sum(counter.pick).wrapping_sub(base));
            }
        }
        self.health_lines(&mut text);
        self.config_lines(&mut text);
        transition_lines(&mut text, &current);
        self.discovery_lines(&mut text);
        spool::numbers(self.spool.as_deref(), &mut text);
        let caches: Vec<_> = current.caches.iter().map(|c| c.stats()).collect();
        stat(&mut text, "limit_maxbytes", current.memory_bytes_max);
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

    /// mcrouter's names, and one of ours.
    fn config_lines(&self, text: &mut String) {
        let config = *self.config.lock();
        stat(text, "config_age", self.config_age_s());
        stat(text, "config_last_success", unix_seconds(config.last_success));
        stat(text, "config_last_attempt", unix_seconds(config.last_attempt));
        stat(text, "config_failures", config.failures_count);
        stat(text, "config_reloads", config.reloads_count);
        // The last good one serves, because what was wanted at the start is wrong.
        stat(text, "configs_from_disk", u8::from(self.current().about.instead_of.is_some()));
    }

    /// Where names are followed: how many pools, what came of asking, and how many servers each pool has.
    fn discovery_lines(&self, text: &mut String) {
        let facts = self.stats.discovery().facts();
        if facts.pools.is_empty() {
            return;
        }
        let age = facts.last_success.and_then(|last| last.elapsed().ok()).map_or(0, |age| age.as_secs());
        stat(text, "discovery_pools", facts.pools.len());
        stat(text, "discovery_pools_unknown", facts.pools.values().filter(|pool| !pool.is_known).count());
        stat(text, "discovery_members", facts.pools.values().map(|pool| pool.members_count).sum::<usize>());
        stat(text, "discovery_changes", facts.changes_count);
        stat(text, "discovery_answers", facts.answers_count);
        stat(text, "discovery_failures", facts.failures_count);
        stat(text, "discovery_last_success", facts.last_success.map_or(0, unix_seconds));
        stat(text, "discovery_last_success_age", age);
        for (name, pool) in &facts.pools {
            stat(text, &format!("discovery_members:{name}"), pool.members_count);
            stat(text, &format!("discovery_changes:{name}"), pool.changes_count);
        }
    }

    fn settings_text(&self) -> String {
        let current = self.current();
        let limits = &current.settings.limits;
        let mut text = String::with_capacity(512);
        stat(&mut text, "maxbytes", current.memory_bytes_max);
        stat(&mut text, "maxconns", limits.clients_count_max);
        stat(&mut text, "udpport", 0);
        stat(&mut text, "verbosity", 0);
        stat(&mut text, "num_threads", self.stats.workers_count());
        stat(&mut text, "item_size_max", limits.value_bytes_max);
        stat(&mut text, "cas_enabled", "yes");
        stat(&mut text, "flush_enabled", if current.settings.allow_flush { "yes" } else { "no" });
        stat(&mut text, "binding_protocol", "ascii");
        stat(&mut text, "client_flags_size", 4);
        stat(&mut text, "client_outstanding_max", limits.client_outstanding_count_max);
        stat(&mut text, "client_reply_bytes_max", limits.client_reply_bytes_max);
        stat(&mut text, "buffer_bytes_max", limits.buffer_bytes_max);
        stat(&mut text, "late_replies_max", limits.late_count_max);
        stat(&mut text, "bulk_bytes_max", limits.bulk_bytes_max);
        text.push_str("END\r\n");
        text
    }

    /// All embedded items count as one class; without an embedded cache there are none.
    fn items(&self) -> String {
        let mut text = String::new();
        let caches: Vec<_> = self.current().caches.iter().map(|c| c.stats()).collect();
        if !caches.is_empty() {
            stat(&mut text, "items:1:number", caches.iter().map(|c| c.items).sum::<u64>());
            stat(&mut text, "items:1:evicted", caches.iter().map(|c| c.evictions).sum::<u64>());
        }
        text.push_str("END\r\n");
        text
    }

    fn slabs(&self) -> String {
        let mut text = String::new();
        let current = self.current();
        stat(&mut text, "active_slabs", usize::from(!current.caches.is_empty()));
        stat(&mut text, "total_malloced", current.caches.iter().map(|c| c.stats().bytes).sum::<u64>());
        text.push_str("END\r\n");
        text
    }
}

/// Pools whose servers changed lately, and for how many seconds the former ones are still asked.
fn transition_lines(text: &mut String, current: &Current) {
    let now = tokio::time::Instant::now();
    let left = current.transitions.iter().map(|until| until.saturating_duration_since(now));
    let left: Vec<u64> = left.filter(|left| !left.is_zero()).map(|left| left.as_secs() + 1).collect();
    stat(text, "transition_active", left.len());
    stat(text, "transition_ends_in", left.iter().max().copied().unwrap_or(0));
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// User and system time of the process, from `/proc/self/stat` (clock ticks of 10 ms).
fn cpu_seconds() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut fields = text.rsplit(") ").next().unwrap_or_default().split(' ').skip(11);
    let mut ticks = || fields.next().and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0) / 100.0;
    (ticks(), ticks())
}
