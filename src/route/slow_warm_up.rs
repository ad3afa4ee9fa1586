//! SlowWarmUpRoute, `slow_warmup` of a pool: a server that is cold gets few gets until it has warmed up.
//!
//! Gets: to the target; while its hit rate is low (below `enable_threshold`, until it is above `disable_threshold`) only a share
//! of them, `start` + `step` × hit rate, and the rest to `failoverTarget`. All other operations: to the target. Hits and misses
//! are counted since the start, as in mcrouter, so that a server which was warm for a day and then lost everything is not
//! noticed; with `window` the last so many count.

use super::draw::Draw;
use super::registry::{Key, Kind, Params};
use super::slot::is_awaited_in;
use super::{Call, Chosen, Explained, Route, Sink, Slot, When};
use crate::config::Section;
use crate::protocol::{Class, Op, Reply, Request, Status};
use std::cell::Cell;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "SlowWarmUpRoute",
    short: "slow_warm_up",
    bare: "target",
    keys: &[
        Key { name: "target", what: "the route that may be cold" },
        Key { name: "failoverTarget", what: "the route that gets the other gets meanwhile" },
        Key {
            name: "settings",
            what: "enable_threshold, disable_threshold, start, step, min_requests, window",
        },
    ],
    build,
};

const SETTINGS: &[&str] =
    &["enable_threshold", "disable_threshold", "start", "step", "min_requests", "window"];

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let target = params.child("target");
    let warm_up = WarmUp::read(params);
    Some(warm_up?.around(target?))
}

/// What a target is wrapped with.
pub(super) struct WarmUp {
    failover: Rc<dyn Route>,
    settings: Settings,
}

#[derive(Clone, Copy)]
struct Settings {
    enable: f64,
    disable: f64,
    start: f64,
    step: f64,
    requests_count_min: u64,
    /// 0: all since the start.
    window_count: u64,
}

/// mcrouter's.
impl Default for Settings {
    fn default() -> Self {
        Self { enable: 0.7, disable: 0.9, start: 0.1, step: 1.0, requests_count_min: 100, window_count: 0 }
    }
}

impl WarmUp {
    /// Reads `failoverTarget` and `settings`.
    pub(super) fn read(params: &Params<'_>) -> Option<Self> {
        let failover = params.child("failoverTarget");
        let settings = Settings::read(params);
        Some(Self { failover: failover?, settings: settings? })
    }

    pub(super) fn around(&self, target: Rc<dyn Route>) -> Rc<dyn Route> {
        let (failover, settings) = (Rc::clone(&self.failover), self.settings);
        Rc::new(SlowWarmUp { target, failover, settings, draw: Draw::new(), seen: Rc::default() })
    }
}

impl Settings {
    fn read(params: &Params<'_>) -> Option<Self> {
        let default = Self::default();
        let Some(node) = params.section.node("settings") else { return Some(default) };
        let path = params.path().key("settings");
        let section = Section::open(node, &path, params.section.findings, "a map of settings")?;
        section.refuse_unknown(SETTINGS, &[]);
        let of = Params { section, ..*params };
        let number = |key: &str, max: f64, otherwise: f64| {
            let number = of.number(key, 0.0..=max);
            if of.has(key) { number } else { Some(otherwise) }
        };
        let count = |key: &str, otherwise: u64| {
            let count = of.count(key, 0..=1_000_000_000);
            if of.has(key) { count.map(|count| count as u64) } else { Some(otherwise) }
        };
        Some(Self {
            enable: number("enable_threshold", 1.0, default.enable)?,
            disable: number("disable_threshold", 1.0, default.disable)?,
            start: number("start", 1.0, default.start)?,
            step: number("step", 100.0, default.step)?,
            requests_count_min: count("min_requests", default.requests_count_min)?,
            window_count: count("window", default.window_count)?,
        })
    }
}

struct SlowWarmUp {
    target: Rc<dyn Route>,
    failover: Rc<dyn Route>,
    settings: Settings,
    draw: Draw,
    seen: Rc<Seen>,
}

/// What the target has answered.
#[derive(Default)]
struct Seen {
    hits_count: Cell<u64>,
    misses_count: Cell<u64>,
    is_cold: Cell<bool>,
}

impl SlowWarmUp {
    /// 1 while too little is known.
    fn hit_rate(&self) -> f64 {
        let (hits, misses) = (self.seen.hits_count.get(), self.seen.misses_count.get());
        let total = hits + misses;
        if total == 0 || total < self.settings.requests_count_min { 1.0 } else { hits as f64 / total as f64 }
    }

    fn is_cold(&self) -> bool {
        let bar = if self.seen.is_cold.get() { self.settings.disable } else { self.settings.enable };
        self.seen.is_cold.set(self.hit_rate() < bar);
        self.seen.is_cold.get()
    }

    fn may_send(&self) -> bool {
        !self.is_cold() || self.draw.is_within(self.settings.start + self.settings.step * self.hit_rate())
    }
}

/// Counts one answer.
struct Count {
    seen: Rc<Seen>,
    window_count: u64,
    slot: Cell<Option<Slot>>,
}

impl Sink for Count {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.slot, |slot| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        let (hits, misses) = (&self.seen.hits_count, &self.seen.misses_count);
        match reply.status {
            Status::Hit | Status::Deleted | Status::Touched => hits.set(hits.get() + 1),
            Status::Miss | Status::NotFound => misses.set(misses.get() + 1),
            _ => {}
        }
        if self.window_count > 0 && hits.get() + misses.get() >= 2 * self.window_count {
            hits.set(hits.get() / 2);
            misses.set(misses.get() / 2);
        }
        if let Some(slot) = self.slot.take() {
            slot.fill(reply);
        }
    }
}

impl Route for SlowWarmUp {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if request.op.class() == Class::GetLike && !self.may_send() {
            return self.failover.send(request, &call.to(super::call::Kind::Failover), slot);
        }
        let (seen, slot) = (Rc::clone(&self.seen), Cell::new(Some(slot)));
        let count = Count { seen, window_count: self.settings.window_count, slot };
        self.target.send(request, call, Slot::new(Rc::new(count), 0));
    }

    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        self.target.chosen(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("slow_warm_up").with(When::Now, self.target.explain(request));
        if request.op.class() != Class::GetLike {
            return here;
        }
        here.with(When::If("most gets while that one is cold".into()), self.failover.explain(request))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::scripted::Say;
    use super::super::stage::{MISS, STORED, TIMEOUT, run, tree};
    use crate::config;

    fn many(say: fn() -> Say, count: usize) -> Vec<Say> {
        (0..count).map(|_| say()).collect()
    }

    fn route(settings: &str) -> String {
        format!("{{type: slow_warm_up, target: a, failoverTarget: b, settings: {settings}}}")
    }

    #[test]
    fn a_cold_target_gets_few_gets_until_it_is_warm() {
        run(async {
            let mut script = many(|| MISS, 100);
            script.extend(many(|| Say::Hit("1"), 2000));
            let tree = tree(&route("{start: 0.2}"), [("a", script), ("b", many(|| Say::Hit("2"), 2000))]);
            for _ in 0..100 {
                assert_eq!(tree.ask("get k").await, "", "too little is known");
            }
            assert_eq!((tree.heard("a").len(), tree.heard("b").len()), (100, 0));
            for _ in 0..200 {
                tree.ask("get k").await;
            }
            let (target, failover) = (tree.heard("a").len(), tree.heard("b").len());
            assert!((30..130).contains(&target) && target + failover == 200, "{target} {failover}");
            // it has warmed up when nine of ten have hit
            for _ in 0..1700 {
                tree.ask("get k").await;
            }
            tree.heard("b");
            for _ in 0..20 {
                assert_eq!(tree.ask("get k").await, "VALUE k 0 1|1");
            }
            assert_eq!(tree.heard("b").len(), 0);
        });
    }

    #[test]
    fn other_operations_always_go_to_the_target() {
        run(async {
            let mut script = many(|| MISS, 4);
            script.extend([STORED, TIMEOUT]);
            let cold = route("{start: 0, step: 0, min_requests: 4}");
            let tree = tree(&cold, [("a", script), ("b", many(|| Say::Hit("2"), 9))]);
            for _ in 0..4 {
                tree.ask("get k").await;
            }
            assert_eq!(tree.ask("get k").await, "VALUE k 0 1|2");
            assert_eq!(tree.ask("mg k v").await, "VA 1 kk|2");
            assert_eq!(tree.ask("set k 0 0 1|x").await, "STORED");
            assert_eq!(tree.ask("delete k").await, "SERVER_ERROR Reply timeout", "a failure is told");
        });
    }

    #[test]
    fn with_a_window_a_restart_is_noticed() {
        run(async {
            for (settings, wanted) in [("{}", false), ("{window: 100}", true)] {
                let mut script = many(|| Say::Hit("1"), 1000);
                script.extend(many(|| MISS, 400));
                let tree = tree(&route(settings), [("a", script), ("b", many(|| MISS, 400))]);
                for _ in 0..1300 {
                    tree.ask("get k").await;
                }
                assert_eq!(!tree.heard("b").is_empty(), wanted, "{settings}");
            }
        });
    }

    #[test]
    fn of_a_pool_each_server_by_itself() {
        run(async {
            let warm = "slow_warmup: {failoverTarget: b, settings: {start: 0, step: 0, min_requests: 5}}";
            let tree = tree(
                &format!("{{type: pool, pool: a, {warm}}}"),
                [("a", many(|| MISS, 5)), ("b", many(|| Say::Hit("2"), 9))],
            );
            for _ in 0..5 {
                assert_eq!(tree.ask("get k").await, "");
            }
            assert_eq!(tree.ask("get k").await, "VALUE k 0 1|2");
        });
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (settings, told) in [
            ("{start: 2}", "a number from 0 to 1"),
            ("{stop: 1}", "unknown key `stop`"),
            ("3", "a map of settings"),
        ] {
            let text =
                format!("pools: {{a: {{servers: [x]}}, b: {{servers: [y]}}}}\nroute: {}", route(settings));
            let faults = config::from_text("t", &text, check).unwrap_err().to_string();
            assert!(faults.contains(told), "{faults}");
        }
    }
}
