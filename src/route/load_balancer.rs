//! LoadBalancerRoute: the child with less to do.
//!
//! All operations, all alike. What a child has to do is measured here, because memcached reports no load: how long its answers
//! take, times the requests that are under way to it. A failure counts as an answer after a second. What was measured longer
//! than `load_ttl_ms` ago is forgotten, so that a child that nobody asks gets a chance again.
//!
//! `weighted-hashing`: the child that the key belongs to; one that is more than twice as slow as the fastest loses as many of
//! its keys as it is slower. `two-random-choices`: the better one of two that are drawn. After an error up to
//! `failover_count` children are asked.

use super::attempt::{Retry, attempt};
use super::call::Kind as CallKind;
use super::draw::Draw;
use super::failure::{Failure, Failures};
use super::gather::Answers;
use super::key::routing_key;
use super::registry::{Key, Kind, Params};
use super::slot::is_awaited_in;
use super::{Call, Explained, Route, Sink, Slot, When, null};
use crate::config::value;
use crate::hash::weighted_ch3;
use crate::protocol::{OwnedReply, OwnedRequest, Reply, Request};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

pub(super) const TTL_KEY: Key =
    Key { name: "load_ttl_ms", what: "how long a measurement counts: milliseconds (100)" };
pub(super) const ALGORITHM_KEY: Key =
    Key { name: "algorithm", what: "`weighted-hashing` (default) or `two-random-choices`" };

pub(super) const KIND: Kind = Kind {
    name: "LoadBalancerRoute",
    short: "load_balancer",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes to choose from" },
        ALGORITHM_KEY,
        TTL_KEY,
        Key { name: "failover_count", what: "how many are asked at most (1)" },
        Key { name: "salt", what: "hashed behind the key" },
    ],
    build,
};

const TTL_MS_DEFAULT: usize = 100;
/// What a failure counts for.
const FAILED: Duration = Duration::from_secs(1);
/// Each measurement counts for an eighth.
const SMOOTHING: f64 = 8.0;
/// Who takes up to so many times as long as the fastest keeps all keys, so that chance does not move them.
const SLOWER_MAX: f64 = 2.0;

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    of(params, params.children("children")?)
}

/// One over these children, with the keys of these parameters.
pub(super) fn of(params: &Params<'_>, mut children: Vec<Rc<dyn Route>>) -> Option<Rc<dyn Route>> {
    const ALGORITHMS: &[(&str, bool)] = &[("weighted-hashing", false), ("two-random-choices", true)];
    let draws = params.section.value("algorithm", |node| value::choice(node, "an algorithm", ALGORITHMS));
    let ttl_ms = params.count("load_ttl_ms", 1..=3_600_000);
    let count_max = params.count("failover_count", 1..=1000);
    let is_wrong = |key, is_none| params.has(key) && is_none;
    if is_wrong("algorithm", draws.is_none())
        || is_wrong("load_ttl_ms", ttl_ms.is_none())
        || is_wrong("failover_count", count_max.is_none())
    {
        return None;
    }
    let salt = params.text_or("salt", "a text", "");
    Some(match children.len() {
        0 => null::route(),
        1 => children.remove(0),
        _ => Rc::new(LoadBalancer(Rc::new(Inner {
            children: children.into_iter().map(|route| Child { route, load: Rc::default() }).collect(),
            draw: draws.unwrap_or(false).then(Draw::new),
            ttl: Duration::from_millis(ttl_ms.unwrap_or(TTL_MS_DEFAULT) as u64),
            count_max: count_max.unwrap_or(1),
            salt: salt.into_bytes(),
            weights: RefCell::default(),
        }))),
    })
}

struct LoadBalancer(Rc<Inner>);

struct Inner {
    /// At least two.
    children: Vec<Child>,
    /// Of `two-random-choices`.
    draw: Option<Draw>,
    ttl: Duration,
    count_max: usize,
    salt: Vec<u8>,
    /// Room to work in.
    weights: RefCell<Vec<f64>>,
}

struct Child {
    route: Rc<dyn Route>,
    load: Rc<Load>,
}

/// What is known of a child.
#[derive(Default)]
struct Load {
    under_way_count: Cell<u32>,
    /// How long its answers take, in seconds, and when the last one came.
    measured: Cell<Option<(f64, Instant)>>,
}

impl Load {
    /// Seconds of work that it has, if `usual` is what an answer of somebody takes of whom nothing is known.
    fn seconds(&self, usual: f64, now: Instant, ttl: Duration) -> f64 {
        let known = self.measured.get().filter(|(_, at)| now - *at <= ttl);
        known.map_or(usual, |(seconds, _)| seconds) * f64::from(self.under_way_count.get() + 1)
    }

    fn learn(&self, took: Duration, now: Instant) {
        let sample = took.as_secs_f64().max(1e-6);
        let seconds = self.measured.get().map_or(sample, |(old, _)| old + (sample - old) / SMOOTHING);
        self.measured.set(Some((seconds, now)));
    }
}

/// Measures one request on its way.
struct Measure {
    load: Rc<Load>,
    began: Instant,
    slot: Cell<Option<Slot>>,
}

impl Sink for Measure {
    fn is_waiting(&self) -> bool {
        is_awaited_in(&self.slot, |slot| slot)
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        let now = Instant::now();
        let took = if Failures::FAILOVER.has(reply) { FAILED } else { now - self.began };
        self.load.under_way_count.set(self.load.under_way_count.get().saturating_sub(1));
        self.load.learn(took, now);
        if let Some(slot) = self.slot.take() {
            slot.fill(reply);
        }
    }
}

impl Route for Child {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.load.under_way_count.set(self.load.under_way_count.get() + 1);
        let (load, slot) = (Rc::clone(&self.load), Cell::new(Some(slot)));
        let measure = Measure { load, began: Instant::now(), slot };
        self.route.send(request, call, Slot::new(Rc::new(measure), 0));
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.route.explain(request)
    }
}

impl Inner {
    /// One of those that are left: the place in `left`.
    fn choose(&self, key: &[u8], left: &[usize], nth: usize) -> usize {
        let now = Instant::now();
        // of whom nothing is known is taken for one in the middle
        let mut known: Vec<f64> = Vec::new();
        known.extend(self.children.iter().filter_map(|child| child.load.measured.get()).map(|(s, _)| s));
        known.sort_unstable_by(f64::total_cmp);
        let usual = known.get(known.len() / 2).copied().unwrap_or(1e-3);
        let seconds = |place: usize| {
            let child = left.get(place).and_then(|child| self.children.get(*child));
            child.map_or(f64::MAX, |child| child.load.seconds(usual, now, self.ttl))
        };
        if let Some(draw) = &self.draw {
            let first = draw.below(left.len());
            let second = (first + 1 + draw.below((left.len() - 1).max(1))) % left.len();
            return if seconds(second) < seconds(first) { second } else { first };
        }
        let mut weights = self.weights.borrow_mut();
        weights.clear();
        weights.extend((0..left.len()).map(seconds));
        let least = weights.iter().copied().fold(f64::MAX, f64::min);
        weights.iter_mut().for_each(|weight| *weight = (SLOWER_MAX * least / *weight).clamp(0.0, 1.0));
        let key = routing_key(key);
        if self.salt.is_empty() && nth == 0 {
            return weighted_ch3(key, &weights);
        }
        let nth = if nth == 0 { String::new() } else { nth.to_string() };
        weighted_ch3(&[key, &self.salt, nth.as_bytes()].concat(), &weights)
    }

    fn all(&self) -> Vec<usize> {
        (0..self.children.len()).collect()
    }
}

/// One request: who is left for it if the first child fails.
struct Try {
    balancer: Rc<Inner>,
    left: RefCell<Vec<usize>>,
}

impl Route for LoadBalancer {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let inner = &self.0;
        let mut left = inner.all();
        let child = left.swap_remove(inner.choose(request.key, &left, 0));
        if inner.count_max < 2 {
            return inner.children[child].send(request, call, slot);
        }
        let retry = Rc::new(Try { balancer: Rc::clone(inner), left: RefCell::new(left) });
        attempt(&retry, &inner.children[child], request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let inner = &self.0;
        let mut left = inner.all();
        if inner.draw.is_some() {
            let here = Explained::new("load_balancer: the better one of two");
            let each = left.iter().map(|child| inner.children[*child].explain(request));
            return each.fold(here, |here, child| here.with(When::If("if it is drawn".into()), child));
        }
        let first = left.swap_remove(inner.choose(request.key, &left, 0));
        let here = Explained::new("load_balancer").with(When::Now, inner.children[first].explain(request));
        let each = left.iter().map(|child| inner.children[*child].explain(request));
        each.fold(here, |here, child| here.with(When::If("if the others have more to do".into()), child))
    }
}

impl Retry for Try {
    fn is_final(&self, _request: &Request<'_>, reply: &Reply<'_>) -> bool {
        Failure::of(reply).is_none()
    }

    async fn go_on(self: Rc<Self>, request: OwnedRequest, call: Call, first: OwnedReply) -> OwnedReply {
        let inner = &self.balancer;
        let call = call.to(CallKind::Failover);
        let mut left = self.left.take();
        let mut last = first;
        for nth in 1..inner.count_max.min(inner.children.len()) {
            let child = left.swap_remove(inner.choose(request.as_request().key, &left, nth));
            last = Answers::of(&inner.children[child], &request.as_request(), &call).only().await;
            if Failure::of(&last.as_reply()).is_none() {
                break;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Say;
    use super::super::stage::{MISS, TIMEOUT, Tree, run, tree};
    use crate::protocol::{Reply, Status};
    use std::time::Duration;
    use tokio::time::advance;

    const NAMES: [&str; 3] = ["a", "b", "c"];

    fn many(say: fn() -> Say) -> Vec<Say> {
        (0..2000).map(|_| say()).collect()
    }

    fn counts(tree: &Tree) -> [usize; 3] {
        NAMES.map(|name| tree.heard(name).len())
    }

    async fn ask_all(tree: &Tree, count: usize) {
        for key in 0..count {
            tree.ask(&format!("get key:{key}")).await;
        }
    }

    #[test]
    fn alike_they_share_the_keys_out() {
        run(async {
            for more in ["", ", salt: x", ", algorithm: two-random-choices"] {
                let route = format!("{{type: load_balancer, children: [a, b, c]{more}}}");
                let all = tree(&route, NAMES.map(|name| (name, many(|| MISS))));
                ask_all(&all, 300).await;
                let asked = counts(&all);
                assert!(asked.iter().all(|count| (60..140).contains(count)), "{more}: {asked:?}");
            }
            let all = tree("{load_balancer: [a, b, c]}", NAMES.map(|name| (name, many(|| MISS))));
            for _ in 0..20 {
                all.ask("get k|#|1").await;
                all.ask("set k|#|2 0 0 1|x").await;
            }
            let mut asked = counts(&all);
            asked.sort_unstable();
            assert_eq!(asked, [0, 0, 40], "a key stays where it is");
        });
    }

    /// Answers `a` after 10 ms, the others at once.
    async fn slow_a(tree: &Tree, count: usize) -> [usize; 3] {
        let mut asked = [0; 3];
        for key in 0..count {
            let waiting = tree.send(&format!("get key:{key}")).await;
            let now = counts(tree);
            if now[0] == 1 {
                advance(Duration::from_millis(10)).await;
                tree.finish("a", &Reply::line(Status::Miss, b""));
            } else {
                advance(Duration::from_micros(100)).await;
            }
            assert!(waiting.reply().is_some());
            asked = std::array::from_fn(|i| asked[i] + now[i]);
        }
        asked
    }

    #[test]
    fn a_slow_child_loses_keys_and_gets_another_chance() {
        run(async {
            for algorithm in ["weighted-hashing", "two-random-choices"] {
                let route = format!("{{type: load_balancer, children: [a, b, c], algorithm: {algorithm}}}");
                let scripts = [("a", many(|| Say::Wait)), ("b", many(|| MISS)), ("c", many(|| MISS))];
                let tree = tree(&route, scripts);
                let asked = slow_a(&tree, 300).await;
                assert!(asked[0] < 60, "{algorithm}: {asked:?}");
                // what was measured long ago is forgotten
                advance(Duration::from_millis(200)).await;
                let again = slow_a(&tree, 40).await;
                assert!(again[0] > 0, "{algorithm}: {again:?}");
            }
        });
    }

    #[test]
    fn what_is_under_way_counts() {
        run(async {
            let route = "{type: load_balancer, children: [a, b], algorithm: two-random-choices}";
            let tree = tree(route, [("a", many(|| Say::Wait)), ("b", many(|| Say::Wait))]);
            for key in 0..100 {
                tree.send(&format!("get key:{key}")).await;
            }
            let asked = counts(&tree);
            assert!((45..=55).contains(&asked[0]), "in balance: {asked:?}");
        });
    }

    #[test]
    fn after_an_error_others_are_asked_if_they_may() {
        run(async {
            let of = |count: usize, say: fn() -> Say| {
                let route = format!("{{type: load_balancer, children: [a, b, c], failover_count: {count}}}");
                tree(&route, NAMES.map(|name| (name, many(say))))
            };
            for (count, wanted) in [(1, 1), (2, 2), (3, 3), (9, 3)] {
                let tree = of(count, || TIMEOUT);
                assert_eq!(tree.ask("get k").await, "SERVER_ERROR Reply timeout");
                let asked = counts(&tree);
                assert_eq!(asked.iter().sum::<usize>(), wanted, "{asked:?}");
                assert!(asked.iter().all(|count| *count < 2), "nobody twice: {asked:?}");
            }
            let one = tree("{load_balancer: [a]}", [("a", vec![MISS])]);
            assert_eq!(one.ask("get k").await, "");
        });
    }
}
