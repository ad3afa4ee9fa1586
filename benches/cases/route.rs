//! From a key to the leaf that has it: `PoolRoute`, down to a leaf that does nothing.

use super::{Case, keys};
use ringway::config::OnError;
use ringway::hash::{Member, Placement, Ring, Spec};
use ringway::protocol::{Keys, MultiGet, Op, Reply, Request, Status};
use ringway::route::{Call, Explained, Leaf, PoolRoute, Route, Slot};
use std::hint::black_box;
use std::rc::Rc;

/// Answers at once.
struct Null;

impl Route for Null {
    fn send(&self, _: &Request<'_>, _: &Call, slot: Slot) {
        slot.fill(&Reply::line(Status::Miss, b""));
    }

    fn explain(&self, _: &Request<'_>) -> Explained {
        Explained::new("null")
    }
}

impl Leaf for Null {
    fn send_multi(&self, _: &MultiGet<'_>, _: &Call, slot: Slot) {
        slot.fill(&Reply::line(Status::Ok, b""));
    }

    fn flush_all(&self, _: i32, slot: Slot) {
        slot.fill(&Reply::line(Status::Ok, b"OK"));
    }

    fn name(&self) -> &str {
        "null"
    }
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        pick("pick ketama of 3", Placement::Ketama, 3),
        pick("pick ketama of 100", Placement::Ketama, 100),
        pick("pick twemproxy of 3", Placement::Twemproxy, 3),
        pick("pick jump of 3", Placement::Jump, 3),
        pick_many("pick 50 keys at once", 3),
        send("pick and send to a null leaf", 3),
    ]
}

fn pool(placement: Placement, servers: usize) -> PoolRoute {
    let members: Vec<_> = (0..servers)
        .map(|i| Member { host: format!("mc-{i}"), port: Some(11211), name: None, weight: 1 })
        .collect();
    let spec = Spec { placement, ..Spec::default() };
    let ring = Ring::build(&spec, &members).expect("a plain spec builds");
    let leaves = (0..servers).map(|_| Rc::new(Null) as Rc<dyn Leaf>).collect();
    PoolRoute::new("main".into(), ring, leaves, 1, OnError::Error)
}

fn pick(name: &'static str, placement: Placement, servers: usize) -> Case {
    let (pool, keys) = (pool(placement, servers), keys(1_024));
    let mut at = 0;
    Case::new(name, 0, move || {
        at = (at + 1) % keys.len();
        black_box(pool.pick(black_box(&keys[at])));
    })
}

fn pick_many(name: &'static str, servers: usize) -> Case {
    let pool = pool(Placement::Ketama, servers);
    let (text, mut ranges) = (keys(50).concat(), Vec::new());
    let len = u32::try_from(text.len() / 50).unwrap_or(0);
    ranges.extend((0..50).map(|i| (i * len, (i + 1) * len)));
    let mut out = Vec::with_capacity(50);
    Case::new(name, 0, move || {
        out.clear();
        pool.pick_many(&Keys { text: black_box(&text), ranges: &ranges }, &mut out);
        black_box(&out);
    })
}

fn send(name: &'static str, servers: usize) -> Case {
    let (pool, keys) = (pool(Placement::Ketama, servers), keys(1_024));
    let mut at = 0;
    Case::new(name, 0, move || {
        at = (at + 1) % keys.len();
        let request = Request::new(Op::Get, black_box(&keys[at]));
        if let Some(leaf) = pool.pick(request.key).and_then(|index| pool.leaf(index)) {
            leaf.send(&request, &Call::default(), Slot::nowhere());
        }
    })
}
