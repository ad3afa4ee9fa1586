//! MigrateRoute: from one route to another, key by key, over an interval.
//!
//! Each key has its moment in the second `interval` after `start_time`: SpookyHash of the key says which. Everything but
//! deletes: before that moment to `from`, afterwards to `to`. Deletes: until `start_time` to `from`; then, until two intervals
//! later, to both, and the worse reply is the answer; later to `to`. In the first interval nothing moves yet, so that hosts
//! whose clocks are late, or who hear of the migration late, leave nothing stale behind. Source: mcrouter's `MigrateRoute.h`.

use super::all::worst;
use super::gather::{Answers, answer_later};
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, PoolRoute, Route, Slot, When};
use crate::hash::spooky32;
use crate::protocol::{Class, Op, Request};
use crate::time::Clock;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "MigrateRoute",
    short: "migrate",
    bare: "to",
    keys: &[
        Key { name: "from", what: "where requests went so far" },
        Key { name: "to", what: "where they will go" },
        Key { name: "start_time", what: "when it begins, in seconds since 1970" },
        Key {
            name: "interval",
            what: "seconds: how long deletes already go to both, and then over how long the keys move (3600)",
        },
    ],
    build,
};

/// mcrouter's.
const INTERVAL_DEFAULT: i64 = 3600;
/// The clock ends there.
const SECONDS_MAX: i64 = u32::MAX as i64;

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let (from, to) = (params.child("from"), params.child("to"));
    params.require("start_time");
    let start = params.integer("start_time", 0..=SECONDS_MAX);
    let interval = params.integer("interval", 1..=SECONDS_MAX);
    if params.has("interval") && interval.is_none() {
        return None;
    }
    let seconds = |number: i64| u64::try_from(number).unwrap_or(0);
    Some(Rc::new(Migrate {
        from: from?,
        to: to?,
        start: seconds(start?),
        interval: seconds(interval.unwrap_or(INTERVAL_DEFAULT)),
        clock: Clock::System,
    }))
}

struct Migrate {
    from: Rc<dyn Route>,
    to: Rc<dyn Route>,
    start: u64,
    interval: u64,
    clock: Clock,
}

impl Migrate {
    fn now(&self) -> u64 {
        self.clock.now().unix_seconds.into()
    }

    fn moves_at(&self, key: &[u8]) -> u64 {
        self.start + self.interval + u64::from(spooky32(super::key::routing_key(key), 0)) % self.interval
    }

    /// Where this goes now; two places while deletes go to both.
    fn places(&self, op: Op, key: &[u8]) -> (&Rc<dyn Route>, Option<&Rc<dyn Route>>) {
        let now = self.now();
        if op.class() == Class::DeleteLike {
            return match now {
                now if now < self.start => (&self.from, None),
                now if now < self.start + 2 * self.interval => (&self.from, Some(&self.to)),
                _ => (&self.to, None),
            };
        }
        (if now < self.moves_at(key) { &self.from } else { &self.to }, None)
    }
}

impl Route for Migrate {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let (first, second) = self.places(request.op, request.key);
        let Some(second) = second else { return first.send(request, call, slot) };
        let mut answers = Answers::of(&**first, request, call);
        answers.ask(&**second, request, call);
        answer_later(slot, worst(answers));
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        match self.places(op, key) {
            (only, None) => only.pool(op, key),
            _ => None,
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let (first, second) = self.places(request.op, request.key);
        let label = format!("migrate: this key moves at {}", self.moves_at(request.key));
        let here = Explained::new(label).with(When::Now, first.explain(request));
        match second {
            Some(second) => here.with(When::Now, second.explain(request)),
            None => here,
        }
    }
}
