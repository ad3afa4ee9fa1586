//! A tree of routes over scripted leaves, and a client in front of it: what the tests of routes are played on.

use super::scripted::{Say, Scripted, Waiting};
use super::{Busy, Call, Change, Leaf, Leaves, Past, Route, Window, build};
use crate::config::{self, Config, Pool};
use crate::hash::Ring;
use crate::protocol::ascii::{Framed, Scratch, frame, parse_request};
use crate::protocol::{Cause, Line, Request, Status, Value};
use crate::stats::Counters;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// A tree whose pools are scripted leaves: `a`, `b`, `c`.
pub(super) struct Tree {
    pub(super) root: super::Root,
    leaves: HashMap<String, Rc<Scripted>>,
    pub(super) counters: Arc<Counters>,
}

#[derive(Default)]
struct Stage {
    leaves: HashMap<String, Rc<Scripted>>,
    /// Taken when the tree is built.
    past: RefCell<Option<Past>>,
}

impl Stage {
    fn leaf(&self, server: &config::Server) -> Rc<dyn Leaf> {
        Rc::clone(&self.leaves[&server.label()]) as Rc<dyn Leaf>
    }
}

impl Leaves for Stage {
    fn of_pool(&self, pool: &Pool) -> (Vec<Rc<dyn Leaf>>, usize) {
        (pool.servers.iter().map(|server| self.leaf(server)).collect(), 1)
    }

    fn past(&self, _pool: &Pool) -> Option<Past> {
        self.past.take()
    }
}

/// `route` over pools `a`, `b` and `c` of one server each, with these scripts; and a pool `all` of all three.
pub(super) fn tree<const N: usize>(route: &str, scripts: [(&str, Vec<Say>); N]) -> Tree {
    tree_of(&format!("route: {route}\n"), scripts)
}

/// The same for whole lines.
pub(super) fn tree_of<const N: usize>(routes: &str, scripts: [(&str, Vec<Say>); N]) -> Tree {
    let pools = "limits: {value_bytes_max: 1KiB}\npools: {a: {servers: [a]}, b: {servers: [b]}, c: {servers: [c]}, all: {servers: [a, b, c]}}";
    tree_with("test", &format!("{pools}\n{routes}"), scripts)
}

/// A whole configuration, whose servers are some of `a` to `e`; what it is called decides the dialect.
pub(super) fn tree_with<const N: usize>(name: &str, text: &str, scripts: [(&str, Vec<Say>); N]) -> Tree {
    let stage = Stage { leaves: leaves_of(scripts), ..Stage::default() };
    stage.tree(&read(name, text), Arc::default())
}

/// A pool `main` that is `after`, and was each of `before` in turn, the oldest first, until now.
pub(super) fn tree_after<const N: usize>(
    before: &[&str],
    after: &str,
    scripts: [(&str, Vec<Say>); N],
) -> Tree {
    let text = |pool: &str| format!("pools: {{main: {{{pool}}}}}\nroute: main\n");
    let config = read("test", &text(after));
    let settings = config.pools[0].transition.expect("a transition");
    let stage = Stage { leaves: leaves_of(scripts), ..Stage::default() };
    let (pace, counters) = (Arc::default(), Arc::<Counters>::default());
    let change = |pool: &&str| {
        let former = read("test", &text(pool)).pools.remove(0);
        let gone = former.servers.iter().map(|server| vec![stage.leaf(server)]).collect();
        let until = Instant::now() + settings.time;
        let ring = Ring::build(&former.hash, &former.members()).expect("a ring");
        Change { window: Arc::new(Window::new(former, until, settings, Arc::clone(&pace))), gone, ring }
    };
    let changes = before.iter().map(change).collect();
    let past = Past { changes, busy: Rc::new(Busy::default()), counters: Arc::clone(&counters) };
    stage.past.replace(Some(past));
    stage.tree(&config, counters)
}

fn leaves_of<const N: usize>(scripts: [(&str, Vec<Say>); N]) -> HashMap<String, Rc<Scripted>> {
    let mut scripts: HashMap<&str, Vec<Say>> = scripts.into_iter().collect();
    let changes = Rc::default();
    let leaf = |name: &str| {
        let script = scripts.remove(name).unwrap_or_default();
        (format!("{name}:11211"), Scripted::new(name, script).with_changes(&changes))
    };
    ["a", "b", "c", "d", "e"].map(leaf).into_iter().collect()
}

fn read(name: &str, text: &str) -> Config {
    config::from_text(name, text, super::check).unwrap_or_else(|f| panic!("{f}")).0
}

impl Stage {
    fn tree(self, config: &Config, counters: Arc<Counters>) -> Tree {
        let root = build(config, &self).unwrap();
        Tree { root, leaves: self.leaves, counters }
    }
}

impl Tree {
    /// Sends it and lets everything run that can.
    pub(super) async fn send(&self, text: &str) -> Rc<Waiting> {
        let (waiting, slot) = Waiting::slot();
        with_request(text, |request| self.root.send(request, &Call::default(), slot));
        settle().await;
        waiting
    }

    /// The answer, which comes at once.
    pub(super) async fn ask(&self, text: &str) -> String {
        self.send(text).await.reply().expect("an answer")
    }

    /// From now on this server is known to be out, or to be back.
    pub(super) fn set_out(&self, name: &str, out: bool) {
        self.leaves[&format!("{name}:11211")].set_out(out);
    }

    /// Its deletes are kept from now on.
    pub(super) fn keep(&self, name: &str) {
        self.leaves[&format!("{name}:11211")].keeps.set(true);
    }

    pub(super) fn heard(&self, name: &str) -> Vec<String> {
        self.leaves[&format!("{name}:11211")].heard()
    }

    /// Whether nobody but the test has this server.
    pub(super) fn is_let_go(&self, name: &str) -> bool {
        Rc::strong_count(&self.leaves[&format!("{name}:11211")]) == 1
    }

    pub(super) fn finish(&self, name: &str, reply: &crate::protocol::Reply<'_>) {
        let slot = self.leaves[&format!("{name}:11211")].waiting.borrow_mut().remove(0);
        slot.fill(reply);
    }
}

/// A request as a client writes it, `|` for the line end.
pub(super) fn with_request(text: &str, then: impl FnOnce(&Request<'_>)) {
    // a hash stop is none
    let text = text.replace("|#|", "\0").replace('|', "\r\n").replace('\0', "|#|") + "\r\n";
    let Framed::Line { line, consumed } = frame(text.as_bytes(), 0) else { panic!("no line: {text}") };
    let mut scratch = Scratch::default();
    match parse_request(line, consumed, &mut scratch).unwrap() {
        Line::Request(request) => then(&request),
        Line::Storage(request, length) => {
            let value = Value::Slice(&text.as_bytes()[consumed..consumed + length]);
            then(&Request { value, ..request });
        }
        other => panic!("{other:?}"),
    }
}

pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

pub(super) const STORED: Say = Say::Line(Status::Stored, "STORED");
pub(super) const MISS: Say = Say::Line(Status::Miss, "");
pub(super) const NOT_FOUND: Say = Say::Line(Status::NotFound, "NOT_FOUND");
pub(super) const DELETED: Say = Say::Line(Status::Deleted, "DELETED");
pub(super) const TIMEOUT: Say = Say::Fail(Cause::Timeout);
