//! Every route, with every operation, over three caches that hit, miss, or fail in every way: one answer, of a form that
//! belongs to the request, and as memcached itself would give it where nothing fails.

use ringway::cache::{Cache, CacheLeaf};
use ringway::config::{self, Config, Pool};
use ringway::protocol::ascii::{Framed, Scratch, frame, parse_request};
use ringway::protocol::{Cause, Line, MultiGet, OwnedReply, Reply, Request, Status, Value};
use ringway::route::{self, Call, Client, Explained, Leaf, Leaves, Root, Route, Sink, Slot};
use ringway::time::Clock;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// One configuration of a route, and what is special about its answers.
struct Case {
    route: &'static str,
    text: &'static str,
    /// Says the same whatever its children say.
    is_fixed: bool,
    /// Answers as if nothing had happened when only the first child fails.
    survives: bool,
}

const fn plain(route: &'static str, text: &'static str) -> Case {
    Case { route, text, is_fixed: false, survives: false }
}

const fn fixed(route: &'static str, text: &'static str) -> Case {
    Case { is_fixed: true, ..plain(route, text) }
}

const fn surviving(route: &'static str, text: &'static str) -> Case {
    Case { survives: true, ..plain(route, text) }
}

/// At least one for each row of the table of routes in `config/README.md`.
const CASES: &[Case] = &[
    plain("pool", "all"),
    plain(
        "pool",
        "{type: pool, pool: all, hash: ch3, max_outstanding: 2, rates: {gets_rate: 1000, sets_rate: 1000}}",
    ),
    plain("hash", "{hash: [a, b, c]}"),
    plain("hash", "{type: hash, children: [a, b, c], hash_func: WeightedCh3, weights: [1, 0.5, 0.1]}"),
    plain("random", "{random: [a]}"),
    plain("host_id", "{host_id: [a, b, c]}"),
    plain("original_client_hash", "{original_client_hash: [a, b, c]}"),
    plain(
        "operation",
        "{type: operation, default_policy: a, operation_policies: {get: a, set: a, delete: a}}",
    ),
    plain("routing_group", "{type: routing_group, default_policy: a, routing_group_policies: {get_like: a}}"),
    plain("prefix", "{type: prefix, policies: {k: a, l: b}, wildcard: c}"),
    plain("modify_key", "{type: modify_key, target: a, ensure_key_prefix: 'p:', set_key_suffix: ':s'}"),
    plain("modify_exptime", "{type: modify_exptime, target: a, exptime: 3600}"),
    plain("all_sync", "{all_sync: [a, b, c]}"),
    fixed("all_async", "{all_async: [a, b, c]}"),
    plain("all_initial", "{all_initial: [a, b, c]}"),
    surviving("all_fastest", "{all_fastest: [a, b, c]}"),
    surviving("all_majority", "{all_majority: [a, b, c]}"),
    surviving("failover", "{failover: [a, b, c]}"),
    surviving(
        "failover",
        "{type: failover, children: [a, b, c], failover_policy: {type: least_failures, max_tries: 3}}",
    ),
    surviving("failover_with_exptime", "{type: failover_with_exptime, normal: a, failover: [b, c]}"),
    plain("miss_failover", "{miss_failover: [a, b, c]}"),
    plain("latest", "{latest: [a, b, c]}"),
    plain("salted_failover", "{salted_failover: all}"),
    plain("load_balancer", "{load_balancer: [a]}"),
    plain("eject", "{eject: all}"),
    plain("hedge", "{type: hedge, children: [a, b], after: 5ms}"),
    plain("migrate", "{type: migrate, from: a, to: b, start_time: 0, interval: 1}"),
    plain("migrate", "{type: migrate, from: a, to: b, start_time: 4294967295, interval: 1}"),
    plain("shadow", "{type: shadow, children: [a], shadows: [{target: b}]}"),
    plain("warm_up", "{type: warm_up, cold: a, warm: b}"),
    plain("slow_warm_up", "{type: slow_warm_up, target: a, failoverTarget: b, settings: {start: 1}}"),
    plain("staging", "{type: staging, warm: a, staging: b}"),
    plain("l1l2_cache", "{type: l1l2_cache, l1: a, l2: b, upgradingL1Exptime: 60}"),
    plain("l1l2_size_split", "{type: l1l2_size_split, l1: a, l2: b, threshold: 100}"),
    plain("key_parse", "{type: key_parse, target: a, num_routing_parts: 1, delimiter: ':'}"),
    plain("key_split", "{type: key_split, destination: a, replicas: 3, all_sync: false}"),
    plain("key_split", "{type: key_split, destination: a, replicas: 3, all_sync: true, first_hit: true}"),
    plain("shard_split", "{type: shard_split, target: a, shard_splits: {'7': 3}}"),
    plain("big_value", "{type: big_value, target: a, split_threshold: 100}"),
    plain(
        "rate_limit",
        "{type: rate_limit, target: a, rates: {gets_rate: 1000, sets_rate: 1000, deletes_rate: 1000}}",
    ),
    plain("outstanding_limit", "{type: outstanding_limit, target: a, max_outstanding: 1}"),
    plain("hash_stop_allow_list", "{type: hash_stop_allow_list, target: a, prefixes: [x]}"),
    plain("blackhole", "{type: blackhole, default: a, policies: {key: [{op: equals, value: other}]}}"),
    plain(
        "latency_injection",
        "{type: latency_injection, child: a, before_latency_ms: 5, after_latency_ms: 5}",
    ),
    plain("logging", "{logging: a}"),
    fixed("null", "'null'"),
    fixed("dev_null", "dev_null"),
    fixed("error", "{error: no}"),
];

/// What is asked, `|` for line ends, and the words that may begin an answer that is no error.
const REQUESTS: &[(&str, &[&str])] = &[
    ("get k:7:x", &["", "VALUE k:7:x "]),
    ("gets k:7:x", &["", "VALUE k:7:x "]),
    ("gat 100 k:7:x", &["", "VALUE k:7:x "]),
    ("gats 100 k:7:x", &["", "VALUE k:7:x "]),
    ("mg k:7:x", &["HD", "EN"]),
    ("mg k:7:x v f s k O1", &["VA 1 f0 s1 kk:7:x O1", "EN"]),
    // a miss: where it would be made is out, elsewhere nobody would fill it
    ("mg k:7:x v N60", &["VA 1", "VA 0 W", "EN"]),
    ("set k:7:x 0 0 1|6", &["STORED"]),
    ("add k:7:x 0 0 1|6", &["STORED", "NOT_STORED"]),
    ("replace k:7:x 0 0 1|6", &["STORED", "NOT_STORED"]),
    ("append k:7:x 0 0 1|6", &["STORED", "NOT_STORED"]),
    ("prepend k:7:x 0 0 1|6", &["STORED", "NOT_STORED"]),
    ("cas k:7:x 0 0 1 999999|6", &["EXISTS", "NOT_FOUND"]),
    ("ms k:7:x 1|6", &["HD"]),
    ("ms k:7:x 1 T100 O2 k|6", &["HD O2 kk:7:x"]),
    ("ms k:7:x 1 ME|6", &["HD", "NS"]),
    ("ms k:7:x 1 MR|6", &["HD", "NS"]),
    ("ms k:7:x 1 MA|6", &["HD", "NS"]),
    ("ms k:7:x 1 C999999|6", &["EX", "NF"]),
    ("incr k:7:x 1", &["6", "NOT_FOUND"]),
    ("decr k:7:x 1", &["4", "NOT_FOUND"]),
    ("ma k:7:x v", &["VA 1", "NF"]),
    ("ma k:7:x N60 J5", &["HD"]),
    ("touch k:7:x 100", &["TOUCHED", "NOT_FOUND"]),
    ("delete k:7:x", &["DELETED", "NOT_FOUND"]),
    ("md k:7:x", &["HD", "NF"]),
    ("md k:7:x I T30 O3", &["HD O3", "NF"]),
    // what is not said to the client is left out behind the routes
    ("mg k:7:x v q O4", &["VA 1 O4", "EN"]),
    ("ms k:7:x 1 q O5|6", &["HD O5"]),
    ("md k:7:x q k", &["HD kk:7:x", "NF"]),
    ("ma k:7:x q O6", &["HD O6", "NF"]),
];

/// Ways in which a child fails.
fn failures() -> Vec<(Status, &'static str)> {
    // a small value always has room, and pools here have servers
    let known = |cause: &Cause| !matches!(cause, Cause::NoMemory | Cause::NoServer | Cause::ConnectTimeout);
    let causes = Cause::ALL.into_iter().filter(known).map(|cause| (Status::Failed(cause), cause.line()));
    let lines = ["SERVER_ERROR out of memory storing object", "SERVER_ERROR 307 busy", "ERROR"];
    causes.chain(lines.map(|line| (Status::ErrorLine, line))).collect()
}

/// A cache that can be told to fail.
struct Child {
    cache: CacheLeaf,
    fails: Cell<Option<(Status, &'static str)>>,
}

impl Child {
    fn new() -> Rc<Self> {
        let cache = CacheLeaf::new(Arc::new(Cache::new(1 << 14, 1 << 10)), "child".into(), Clock::System);
        Rc::new(Self { cache, fails: Cell::default() })
    }
}

impl Route for Child {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        assert!(request.key.len() <= 250 && !request.key.contains(&b' '), "{:?}", request.key);
        match self.fails.get() {
            None => self.cache.send(request, call, slot),
            Some((status, line)) => slot.fill(&Reply::line(status, line.as_bytes())),
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.cache.explain(request)
    }
}

impl Leaf for Child {
    fn send_multi(&self, request: &MultiGet<'_>, call: &Call, slot: Slot) {
        self.cache.send_multi(request, call, slot);
    }

    fn flush_all(&self, delay: i32, slot: Slot) {
        self.cache.flush_all(delay, slot);
    }

    fn name(&self) -> &str {
        self.cache.name()
    }
}

struct Stage(HashMap<String, Rc<Child>>);

impl Leaves for Stage {
    fn of_pool(&self, pool: &Pool) -> (Vec<Rc<dyn Leaf>>, usize) {
        let of = |server: &config::Server| Rc::clone(&self.0[&server.label()]) as Rc<dyn Leaf>;
        (pool.servers.iter().map(of).collect(), 1)
    }
}

const POOLS: &str =
    "pools: {a: {servers: [a]}, b: {servers: [b]}, c: {servers: [c]}, all: {servers: [a, b, c]}}\nroute: ";

fn read(case: &Case) -> Config {
    config::from_text("test", &format!("{POOLS}{}\n", case.text), route::check)
        .unwrap_or_else(|faults| panic!("{}: {faults}", case.text))
        .0
}

/// A tree with children that are empty.
fn tree(config: &Config) -> (Root, Vec<Rc<Child>>) {
    let children: Vec<_> = (0..3).map(|_| Child::new()).collect();
    let names = ["a:11211", "b:11211", "c:11211"].map(str::to_owned);
    let stage = Stage(names.into_iter().zip(children.iter().cloned()).collect());
    (route::build(config, &stage).unwrap(), children)
}

#[derive(Default)]
struct Waiting(RefCell<Vec<OwnedReply>>);

impl Sink for Waiting {
    fn is_waiting(&self) -> bool {
        true
    }

    fn hit(&self, _: u64, _: usize, _: &Reply<'_>) {
        panic!("nobody asked for several keys");
    }

    fn fill(&self, _: u64, reply: &Reply<'_>) {
        self.0.borrow_mut().push(OwnedReply::new(reply));
    }
}

/// Asks and gives whatever is waited for time to come: the line of the answer, its value behind a `|`, and whether it is an
/// error.
async fn ask(route: &dyn Route, text: &str) -> (String, bool) {
    let waiting = Rc::new(Waiting::default());
    let call = Call { client: Some(Client::of_ip("10.1.2.3")), ..Call::default() };
    let bytes = format!("{}\r\n", text.replace('|', "\r\n"));
    let Framed::Line { line, consumed } = frame(bytes.as_bytes(), 0) else { panic!("no line: {text}") };
    let mut scratch = Scratch::default();
    let request = match parse_request(line, consumed, &mut scratch).unwrap() {
        Line::Request(request) => request,
        Line::Storage(request, length) => {
            Request { value: Value::Slice(&bytes.as_bytes()[consumed..consumed + length]), ..request }
        }
        other => panic!("{other:?}"),
    };
    let _ = route.explain(&request);
    route.send(&request, &call, Slot::new(Rc::clone(&waiting) as Rc<dyn Sink>, 0));
    tokio::time::sleep(Duration::from_secs(60)).await; // of a clock that stands
    let mut replies = waiting.0.take();
    assert_eq!(replies.len(), 1, "{text}: one answer");
    let reply = replies.remove(0);
    let shown = reply.as_reply();
    let mut told = String::from_utf8_lossy(shown.line).into_owned();
    if let Some(value) = shown.value {
        told = format!("{told}|{}", String::from_utf8_lossy(&value.to_vec()));
    }
    (told, shown.status.is_error())
}

const STORE: &str = "set k:7:x 0 0 1|5";

fn has_form(answer: &str, forms: &[&str]) -> bool {
    // a get that misses has no line at all
    forms.iter().any(|form| if form.is_empty() { answer.is_empty() } else { answer.starts_with(form) })
}

fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn no_route_is_forgotten() {
    let readme = include_str!("../../config/README.md");
    let table = readme.lines().skip_while(|line| !line.starts_with("| route |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let documented: BTreeSet<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let tried: BTreeSet<&str> = CASES.iter().map(|case| case.route).collect();
    assert_eq!(tried, documented);
}

#[test]
fn where_nothing_fails_the_answer_is_memcacheds() {
    run(async {
        for case in CASES.iter().filter(|case| !case.is_fixed) {
            let config = read(case);
            for (request, _) in REQUESTS {
                for stored in [true, false] {
                    let ((root, _children), alone) = (tree(&config), Child::new());
                    if stored {
                        assert_eq!(ask(&root, STORE).await.0, "STORED", "{}", case.text);
                        ask(&*alone, STORE).await;
                    }
                    let (told, expected) = (ask(&root, request).await, ask(&*alone, request).await);
                    assert_eq!(told, expected, "{}: {request}, stored: {stored}", case.text);
                }
            }
        }
    });
}

#[test]
fn where_children_fail_there_is_one_answer_that_fits() {
    run(async {
        for case in CASES {
            let config = read(case);
            for (request, forms) in REQUESTS {
                for (turn, failure) in failures().into_iter().enumerate() {
                    for out in [&[turn % 3][..], &[0, 1, 2]] {
                        let (root, children) = tree(&config);
                        ask(&root, STORE).await;
                        for child in out {
                            children[*child].fails.set(Some(failure));
                        }
                        let (told, is_error) = ask(&root, request).await;
                        let about = format!("{}: {request}, {failure:?} of {out:?}: {told}", case.text);
                        assert!(is_error || case.is_fixed || has_form(&told, forms), "{about}");
                        if out.len() == 3 && !case.is_fixed {
                            assert!(is_error, "{about}");
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn what_routes_answer_by_themselves_does_not_hang_on_their_children() {
    run(async {
        for case in CASES.iter().filter(|case| case.is_fixed) {
            let config = read(case);
            for (request, _) in REQUESTS {
                let (well, ill) = (tree(&config), tree(&config));
                for child in &ill.1 {
                    child.fails.set(Some((Status::Failed(Cause::Timeout), Cause::Timeout.line())));
                }
                assert_eq!(
                    ask(&well.0, request).await,
                    ask(&ill.0, request).await,
                    "{}: {request}",
                    case.text
                );
            }
        }
    });
}

#[test]
fn routes_that_turn_to_others_do_not_let_clients_see_why() {
    run(async {
        for case in CASES.iter().filter(|case| case.survives) {
            let config = read(case);
            for (request, _) in REQUESTS {
                let ((root, children), alone) = (tree(&config), Child::new());
                for child in &children[1..] {
                    ask(&**child, STORE).await;
                }
                ask(&*alone, STORE).await;
                children[0].fails.set(Some((Status::Failed(Cause::Connect), Cause::Connect.line())));
                let (told, expected) = (ask(&root, request).await, ask(&*alone, request).await);
                assert_eq!(told, expected, "{}: {request}", case.text);
            }
        }
    });
}
