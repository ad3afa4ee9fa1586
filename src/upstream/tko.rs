//! A server's health as its connections see it: they ask whether to send, and report what failed.

use crate::config::{Pool, Server};
use crate::health::{self, Behind, FailOpen, Guard, Health, Prober, Reason, Rules};
use crate::protocol::Cause;
use crate::stats::Counters;
use std::sync::Arc;

/// Marks and unmarks are logged, each within its own rate.
mod told {
    use crate::stats::LogRate;

    pub(super) static MARKED: LogRate = LogRate::new();
    pub(super) static UNMARKED: LogRate = LogRate::new();
}

/// One server of one pool.
pub(super) struct Tko {
    /// What people grep for: `h:p (pool)`.
    label: String,
    server: Arc<health::Server>,
    guard: Arc<Guard>,
    /// `None`: it is never knocked out.
    rules: Option<Rules>,
    on_disconnect: bool,
    health: Arc<Health>,
}

impl Tko {
    pub(super) fn new(pool: &Pool, server: &Server, health: &Arc<Health>) -> Self {
        let health = Arc::clone(health);
        let label = format!("{} ({})", server.address(), pool.name);
        let Some(tko) = &pool.tko else {
            // What other pools find out about this server is no matter here.
            let (server, guard) = (Arc::default(), Arc::default());
            return Self { label, server, guard, rules: None, on_disconnect: false, health };
        };
        let rules = Rules {
            timeouts_count: tko.timeouts_count,
            probe_first: tko.probe_first,
            probe_max: tko.probe_max,
        };
        Self {
            label,
            server: health.server(&server.address()),
            guard: health.guard(&pool.name, bounds_of(pool)),
            rules: Some(rules),
            on_disconnect: tko.on_disconnect,
            health,
        }
    }

    /// Why the server must not be sent to; `None` if it may.
    #[inline]
    pub(super) fn reason(&self) -> Option<Reason> {
        self.server.reason()
    }

    /// A reply is overdue on a connection.
    pub(super) fn fall_behind(&self) -> Behind {
        self.server.fall_behind()
    }

    pub(super) fn changes(&self) -> u64 {
        self.server.changes()
    }

    #[inline]
    pub(super) fn on_answer(&self) {
        self.server.on_answer();
    }

    /// Returns the prober, if there is none and there should be.
    pub(super) fn adopt(&self) -> Option<Prober> {
        self.server.adopt()
    }

    /// A request was not answered in time. Returns the prober if that knocks the server out.
    pub(super) fn on_timeout(&self, counters: &Counters) -> Option<Prober> {
        let prober = self.server.on_timeout(self.rules.as_ref()?, &self.guard)?;
        self.on_marked(Reason::Timeout, Cause::Timeout.line(), counters);
        Some(prober)
    }

    /// No connection could be made. Returns the prober if that knocks the server out.
    pub(super) fn on_no_connection(&self, cause: Cause, text: &str, counters: &Counters) -> Option<Prober> {
        let reason = reason_of(cause);
        let prober = self.server.on_no_connection(reason, self.rules.as_ref()?, &self.guard)?;
        self.on_marked(reason, text, counters);
        Some(prober)
    }

    /// A connection broke. Returns the prober if that knocks the server out.
    pub(super) fn on_disconnect(&self, cause: Cause, counters: &Counters) -> Option<Prober> {
        if self.on_disconnect { self.on_no_connection(cause, cause.line(), counters) } else { None }
    }

    fn on_marked(&self, reason: Reason, error: &str, counters: &Counters) {
        counters.server_tkos.add(1);
        if told::MARKED.may_log() {
            let (hard, soft) = self.health.totals().counts();
            let kind = if reason.is_soft() { "soft" } else { "hard" };
            tracing::warn!(
                error,
                "{} marked {kind} TKO. Total hard TKOs: {hard}; soft TKOs: {soft}. Reply: {}",
                self.label,
                reason.name()
            );
        }
    }

    pub(super) fn on_unmarked(&self) {
        if told::UNMARKED.may_log() {
            let (hard, soft) = self.health.totals().counts();
            tracing::info!(
                "{} unmarked TKO. Total hard TKOs: {hard}; soft TKOs: {soft}. Reply: mc_res_ok",
                self.label
            );
        }
    }
}

/// When the pool's servers are no longer knocked out, because too many of them are.
pub(super) fn bounds_of(pool: &Pool) -> Option<FailOpen> {
    let (upper_count, lower_count) = pool.tko.as_ref()?.fail_open?.counts(pool.servers.len());
    Some(FailOpen { upper_count, lower_count })
}

/// In mcrouter's words.
pub(super) const fn reason_of(cause: Cause) -> Reason {
    match cause {
        Cause::Timeout => Reason::Timeout,
        Cause::ConnectTimeout => Reason::ConnectTimeout,
        _ => Reason::ConnectError,
    }
}
