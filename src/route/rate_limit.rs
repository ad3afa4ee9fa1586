//! RateLimitRoute: so many gets, sets and deletes a second, and no more.
//!
//! Gets, updates, deletes: to the target while there are tokens; then to `fallback`, or, without one, answered as if nobody
//! had been asked (`over: default`, mcrouter's rule) or with an error (`over: error`), so that no delete is dropped in
//! silence. Arithmetic and touch are never limited. Each worker has buckets of its own.

use super::registry::{Key, Kind, Params};
use super::{Call, Chosen, Explained, Route, Slot, When, null};
use crate::config::{Section, value};
use crate::protocol::{Cause, Class, Op, Reply, Request, Status};
use std::cell::Cell;
use std::rc::Rc;
use tokio::time::Instant;

pub(super) const KIND: Kind = Kind {
    name: "RateLimitRoute",
    short: "rate_limit",
    bare: "target",
    keys: &[
        Key { name: "target", what: "where requests go" },
        Key {
            name: "rates",
            what: "gets_rate, gets_burst, sets_rate, sets_burst, deletes_rate, deletes_burst",
        },
        Key { name: "fallback", what: "where requests beyond go" },
        Key { name: "over", what: "without a fallback: `default` (as if nobody had been asked) or `error`" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let target = params.child("target")?;
    of(params, target)
}

/// `rates` in front of this target.
pub(super) fn of(params: &Params<'_>, target: Rc<dyn Route>) -> Option<Rc<dyn Route>> {
    const OVER: &[(&str, bool)] = &[("default", false), ("error", true)];
    let fallback = params.child_or_nothing("fallback");
    let over = params.section.value("over", |node| value::choice(node, "`default` or `error`", OVER));
    let path = params.path().key("rates");
    let rates = Section::open(params.require("rates")?, &path, params.section.findings, "a map of rates")?;
    let rates = Params { section: rates, ..*params };
    const KNOWN: &[&str] =
        &["gets_rate", "gets_burst", "sets_rate", "sets_burst", "deletes_rate", "deletes_burst"];
    rates.section.refuse_unknown(KNOWN, &[]);
    let bucket = |rate: &str, burst: &str| {
        let rate = rates.number(rate, 0.0..=1e9)?;
        // mcrouter's: as much at once as in a second; of less than one nobody would ever get any
        let burst = rates.number(burst, 0.0..=1e9).unwrap_or(rate);
        Some(Bucket::new(rate, if rate > 0.0 { burst.max(1.0) } else { burst }))
    };
    Some(Rc::new(RateLimit {
        target,
        fallback: fallback?,
        is_error: over.unwrap_or(false),
        gets: bucket("gets_rate", "gets_burst"),
        sets: bucket("sets_rate", "sets_burst"),
        deletes: bucket("deletes_rate", "deletes_burst"),
    }))
}

/// Tokens come in at a rate, up to a burst; each request takes one.
pub(super) struct Bucket {
    rate: f64,
    burst: f64,
    tokens: Cell<f64>,
    filled: Cell<Instant>,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, tokens: Cell::new(burst), filled: Cell::new(Instant::now()) }
    }

    pub(super) fn take(&self) -> bool {
        let now = Instant::now();
        let passed = (now - self.filled.replace(now)).as_secs_f64();
        let tokens = (self.tokens.get() + passed * self.rate).min(self.burst);
        let has_one = tokens >= 1.0;
        self.tokens.set(if has_one { tokens - 1.0 } else { tokens });
        has_one
    }
}

struct RateLimit {
    target: Rc<dyn Route>,
    fallback: Option<Rc<dyn Route>>,
    is_error: bool,
    gets: Option<Bucket>,
    sets: Option<Bucket>,
    deletes: Option<Bucket>,
}

impl Route for RateLimit {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let bucket = match request.op.class() {
            Class::GetLike => &self.gets,
            Class::UpdateLike => &self.sets,
            Class::DeleteLike => &self.deletes,
            Class::ArithmeticLike | Class::Other => &None,
        };
        if bucket.as_ref().is_none_or(Bucket::take) {
            return self.target.send(request, call, slot);
        }
        match &self.fallback {
            Some(fallback) => fallback.send(request, call, slot),
            None if self.is_error => {
                slot.fill(&Reply::line(Status::Failed(Cause::Local), b"SERVER_ERROR rate limit exceeded"));
            }
            None => null::fill_default(request, slot),
        }
    }

    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        self.target.chosen(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("rate_limit").with(When::Now, self.target.explain(request));
        match &self.fallback {
            Some(fallback) => here.with(When::If("beyond the rate".into()), fallback.explain(request)),
            None => here,
        }
    }
}
