//! What becomes of the keys of a server that is knocked out: `on_down` of a pool, and the route `eject`.
//!
//! - *failover*: they go to the next servers on the ring, or to another route, and nothing lives there longer than `exptime`.
//!   Keys of the other servers stay where they are, and when the server is back its keys are back too.
//! - *eject*: all keys are placed as if it were not in the list, as twemproxy's `auto_eject_hosts` does it.
//!
//! A delete goes to where its key is meanwhile, and where there is a spool it is kept for the server that is out as well.
//!
//! Each costs one look at the server's state for a key. When all servers are out, their keys fail at home.

use super::delete_log::is_delete;
use super::gather::{Answers, answer_later};
use super::modify_exptime::{self, Action};
use super::{Call, Explained, Leaf, PoolRoute, Route, Slot, When};
use crate::hash::{Member, Ring, Spec};
use crate::protocol::{Cause, Op, OwnedReply, Reply, Request};
use std::cell::RefCell;
use std::rc::Rc;

/// What is wanted.
#[derive(Clone)]
pub(super) enum Plan {
    Next { exptime_s: i32 },
    Gutter { gutter: Rc<dyn Route>, exptime_s: i32 },
    Eject,
}

/// Sees to keys whose server is out.
pub(super) struct Watch {
    /// One leaf for each server.
    servers: Vec<Rc<dyn Leaf>>,
    how: How,
}

enum How {
    /// `targets` again, where nothing lives long.
    Next {
        targets: Vec<Rc<dyn Route>>,
        is_capped: bool,
    },
    /// `short`: the same, where nothing lives long.
    Gutter {
        gutter: Rc<dyn Route>,
        short: Rc<dyn Route>,
        is_capped: bool,
    },
    Eject(Box<Ejecting>),
}

struct Ejecting {
    spec: Spec,
    members: Vec<Member>,
    left: RefCell<Left>,
}

/// The ring without the servers that are out.
#[derive(Default)]
struct Left {
    /// [`Leaf::changes`] when it was made.
    changes: Option<u64>,
    /// Who is out.
    out: Vec<bool>,
    /// The ring, and the places of its members in the whole list; `None` where all are as they should be, or all are out.
    ring: Option<(Ring, Vec<usize>)>,
}

/// Where a key goes.
pub(super) enum Goes<'a> {
    /// To this server, as ever.
    Home(usize),
    /// To this one instead, and to the one at its place in `targets`.
    Next(usize),
    Gutter(&'a Rc<dyn Route>),
}

impl Watch {
    /// `servers`: a leaf for each server. `targets`: where its requests go, one for each server or several.
    pub(super) fn new(
        plan: Plan,
        (spec, members): (Spec, Vec<Member>),
        servers: Vec<Rc<dyn Leaf>>,
        targets: &[Rc<dyn Route>],
    ) -> Self {
        let short = |route: &Rc<dyn Route>, exptime_s| match exptime_s {
            ..=0 => Rc::clone(route),
            _ => modify_exptime::of(Rc::clone(route), exptime_s, Action::Min),
        };
        let how = match plan {
            Plan::Next { exptime_s } => How::Next {
                targets: targets.iter().map(|target| short(target, exptime_s)).collect(),
                is_capped: exptime_s > 0,
            },
            Plan::Gutter { gutter, exptime_s } => {
                How::Gutter { short: short(&gutter, exptime_s), gutter, is_capped: exptime_s > 0 }
            }
            Plan::Eject => How::Eject(Box::new(Ejecting { spec, members, left: RefCell::default() })),
        };
        Self { servers, how }
    }

    /// Where this key goes; `ring` is that of all servers. `None`: there are none.
    #[inline]
    pub(super) fn goes(&self, ring: &Ring, key: &[u8]) -> Option<Goes<'_>> {
        if let How::Eject(ejecting) = &self.how {
            return self.place_left(ring, key, ejecting).map(Goes::Home);
        }
        let home = ring.pick(key)?;
        if !self.is_out(home) {
            return Some(Goes::Home(home));
        }
        Some(match &self.how {
            How::Gutter { short, .. } => Goes::Gutter(short),
            _ => ring.pick_where(key, |server| !self.is_out(server)).map_or(Goes::Home(home), Goes::Next),
        })
    }

    /// The server that this delete is kept for, because its key goes elsewhere only as long as that is out: when it is back
    /// it would show what was deleted.
    pub(super) fn owed(&self, ring: &Ring, request: &Request<'_>, goes: &Goes<'_>) -> Option<&Rc<dyn Leaf>> {
        if !is_delete(request, true) {
            return None; // no server keeps anything else
        }
        // where keys have no place any server may have it, and none is owed more than another
        let home = ring.place(request.key).or_else(|| (ring.len() == 1).then_some(0))?;
        let is_home = matches!(goes, Goes::Home(server) if *server == home);
        // whether it is out is not asked again: it may have come back since `goes`
        self.servers.get(home).filter(|server| !is_home && server.keeps(request))
    }

    /// Whom a target of another server stands for: see [`Goes::Next`].
    pub(super) fn target(&self, index: usize) -> Option<&Rc<dyn Route>> {
        if let How::Next { targets, .. } = &self.how { targets.get(index) } else { None }
    }

    /// As [`Route::pool`], of `own`, which has these servers.
    pub(super) fn pool<'a>(
        &'a self,
        ring: &Ring,
        own: &'a PoolRoute,
        op: Op,
        key: &[u8],
    ) -> Option<&'a PoolRoute> {
        let sets_exptime = matches!(op, Op::Gat | Op::Gats);
        match (self.goes(ring, key)?, &self.how) {
            (Goes::Gutter(_), How::Gutter { gutter, is_capped, .. }) if !(sets_exptime && *is_capped) => {
                gutter.pool(op, key)
            }
            (Goes::Gutter(_), _) => None,
            (Goes::Next(_), How::Next { is_capped: true, .. }) if sets_exptime => None,
            _ => Some(own),
        }
    }

    fn is_out(&self, server: usize) -> bool {
        self.servers.get(server).is_some_and(|server| server.is_out())
    }

    fn place_left(&self, ring: &Ring, key: &[u8], ejecting: &Ejecting) -> Option<usize> {
        let mut left = ejecting.left.borrow_mut();
        let changes = self.servers.first().map(|server| server.changes());
        if left.changes != changes {
            left.changes = changes;
            left.renew(self.servers.iter().map(|server| server.is_out()).collect(), ejecting);
        }
        match &left.ring {
            Some((ring, places)) => places.get(ring.pick(key)?).copied(),
            None => ring.pick(key),
        }
    }

    /// What is added to the explanation of a request that `home` has.
    pub(super) fn explain(
        &self,
        ring: &Ring,
        home: usize,
        request: &Request<'_>,
    ) -> Option<(When, Explained)> {
        let when = When::If("while that server is out".into());
        let server = |place: usize| Some(self.servers.get(place)?.explain(request));
        let explained = match &self.how {
            How::Next { targets, .. } => {
                let next = ring.pick_where(request.key, |server| server != home)?;
                // as many targets for each server
                targets.get(next * (targets.len() / self.servers.len().max(1)))?.explain(request)
            }
            How::Gutter { short, .. } => short.explain(request),
            How::Eject(ejecting) => {
                let mut left = Left::default();
                left.renew((0..ejecting.members.len()).map(|place| place == home).collect(), ejecting);
                let (ring, places) = left.ring?;
                server(*places.get(ring.pick(request.key)?)?)?
            }
        };
        Some((when, explained))
    }
}

/// A delete for a server that is out, and for who has its keys meanwhile. The answer is the latter's, unless the delete is
/// not kept for the former.
pub(super) fn delete_at_both(
    owed: &Rc<dyn Leaf>,
    elsewhere: impl FnOnce(Slot),
    request: &Request<'_>,
    call: &Call,
    slot: Slot,
) {
    let mut answers = Answers::new(call);
    answers.expect(|slot| owed.send(request, call, slot));
    answers.expect(elsewhere);
    answer_later(slot, async move {
        let mut told = OwnedReply::new(&Reply::failed(Cause::Aborted));
        let mut not_kept = None;
        while let Some((index, reply)) = answers.next().await {
            if index > 0 {
                told = reply;
            } else if reply.accepted.is_none() && reply.status.is_error() {
                not_kept = Some(reply);
            }
        }
        not_kept.unwrap_or(told)
    });
}

impl Left {
    #[cold]
    fn renew(&mut self, out: Vec<bool>, Ejecting { spec, members, .. }: &Ejecting) {
        if self.out == out {
            return;
        }
        let places: Vec<usize> = (0..out.len()).filter(|place| !out[*place]).collect();
        self.out = out;
        self.ring = None;
        if places.is_empty() || places.len() == members.len() {
            return;
        }
        let of = |list: &[f64]| places.iter().filter_map(|place| list.get(*place).copied()).collect();
        let spec = Spec {
            weights: of(&spec.weights),
            tags: places.iter().filter_map(|place| spec.tags.get(*place).cloned()).collect(),
            ..spec.clone()
        };
        let members: Vec<Member> = places.iter().filter_map(|place| members.get(*place).cloned()).collect();
        // what fits all servers fits some of them
        self.ring = Ring::build(&spec, &members).ok().map(|ring| (ring, places));
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{MISS, STORED, Tree, run, tree_with};
    use super::super::{Route as _, check};
    use crate::config;
    use crate::hash::{Member, Ring, Spec};
    use crate::protocol::{Op, Request};

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    /// Four servers and a spare one, in a pool each; all of them miss.
    fn tree(on_down: &str, route: &str) -> Tree {
        let main = format!("{{servers: [a, b, c, d], on_down: {on_down}}}");
        let text = format!("pools: {{main: {main}, spare: {{servers: [e]}}}}\nroute: {route}\n");
        let misses = || (0..400).map(|_| MISS).collect::<Vec<_>>();
        tree_with("test", &text, NAMES.map(|name| (name, misses())))
    }

    /// Who was asked since the last look, and what.
    fn heard(tree: &Tree) -> Vec<(&'static str, String)> {
        NAMES.iter().flat_map(|name| tree.heard(name).into_iter().map(|text| (*name, text))).collect()
    }

    async fn server_of(tree: &Tree, request: &str) -> &'static str {
        tree.ask(request).await;
        let heard = heard(tree);
        assert_eq!(heard.len(), 1, "{request}: {heard:?}");
        heard[0].0
    }

    async fn servers_of_keys(tree: &Tree) -> Vec<&'static str> {
        let mut servers = Vec::new();
        for key in 0..60 {
            servers.push(server_of(tree, &format!("get key:{key}")).await);
        }
        servers
    }

    /// Where these servers of the pool have the same keys.
    fn ring_of(names: &[&'static str]) -> Vec<&'static str> {
        let member = |name: &&str| Member { host: (*name).into(), port: Some(11211), name: None, weight: 1 };
        let spec = Spec { hash_stop: false, ..Spec::default() };
        let ring = Ring::build(&spec, &names.iter().map(member).collect::<Vec<_>>()).unwrap();
        (0..60).map(|key| names[ring.pick(format!("key:{key}").as_bytes()).unwrap()]).collect()
    }

    #[test]
    fn keys_of_a_server_that_is_out_go_to_the_next_and_come_back() {
        run(async {
            for route in [
                "main",
                "{type: pool, pool: main, max_outstanding: 9}",
                "{eject: {pool: main, on_down: failover}}",
            ] {
                let tree = tree("failover", route);
                let home = servers_of_keys(&tree).await;
                assert_eq!(home, ring_of(&NAMES[..4]));
                tree.set_out("b", true);
                let meanwhile = servers_of_keys(&tree).await;
                let mut heirs = std::collections::BTreeSet::new();
                for (home, now) in home.iter().zip(&meanwhile) {
                    assert!(home == now || *home == "b" && *now != "b", "{home} {now}");
                    heirs.extend((*home == "b").then_some(*now));
                }
                assert_eq!(heirs.into_iter().collect::<String>(), "acd", "shared out");
                tree.set_out("b", false);
                assert_eq!(servers_of_keys(&tree).await, home);
                NAMES[..4].iter().for_each(|name| tree.set_out(name, true));
                assert_eq!(servers_of_keys(&tree).await, home, "all are out: theirs to tell so");
            }
        });
    }

    #[test]
    fn what_others_keep_meanwhile_does_not_live_long() {
        run(async {
            let key = (0..60).find(|key| ring_of(&NAMES[..4])[*key] == "b").unwrap();
            let key = format!("key:{key}");
            for (on_down, cap) in [
                ("failover", "60"),
                ("{type: failover, exptime: 5s}", "5"),
                ("{type: failover, exptime: 0s}", "0"),
                ("{type: failover, gutter: spare}", "60"),
                ("eject", "0"),
            ] {
                let tree = tree(on_down, "main");
                tree.ask(&format!("set {key} 0 0 1|x")).await;
                assert_eq!(heard(&tree), [("b", format!("set {key} 0 0 1|x"))], "as it is, at home");
                tree.set_out("b", true);
                for (asked, sent) in [
                    (format!("set {key} 0 0 1|x"), format!("set {key} 0 {cap} 1|x")),
                    (format!("get {key}"), format!("get {key}")),
                    (format!("delete {key}"), format!("delete {key}")),
                    (format!("incr {key} 1"), format!("incr {key} 1")),
                    (format!("mg {key} v"), format!("mg {key} v")),
                ] {
                    tree.ask(&asked).await;
                    let heard = heard(&tree);
                    assert!(
                        heard.len() == 1 && heard[0].0 != "b" && heard[0].1 == sent,
                        "{on_down}: {heard:?}"
                    );
                    assert_eq!(on_down.contains("gutter"), heard[0].0 == "e", "{on_down}");
                }
                tree.ask(&format!("ms {key} 1|x")).await;
                let sent = if cap == "0" { format!("ms {key} 1|x") } else { format!("ms {key} 1 T{cap}|x") };
                assert_eq!(heard(&tree)[0].1, sent, "{on_down}");
            }
        });
    }

    #[test]
    fn the_ring_is_built_without_it() {
        run(async {
            for (on_down, route) in [("eject", "main"), ("fail", "{eject: main}")] {
                let tree = tree(on_down, route);
                for out in [&["b"][..], &["b", "d"], &["d"], &[]] {
                    NAMES.iter().for_each(|name| tree.set_out(name, out.contains(name)));
                    let left: Vec<&str> =
                        NAMES[..4].iter().filter(|name| !out.contains(name)).copied().collect();
                    assert_eq!(servers_of_keys(&tree).await, ring_of(&left), "without {out:?}");
                }
                NAMES[..4].iter().for_each(|name| tree.set_out(name, true));
                assert_eq!(servers_of_keys(&tree).await, ring_of(&NAMES[..4]), "nobody is left");
            }
            let tree = tree_with(
                "test",
                "pools: {main: {servers: [a, b, c], hash: weighted_rendezvous, tags: [x, y, z], weights: [1, 1, 1], on_down: eject}}",
                ["a", "b", "c"].map(|name| (name, (0..9).map(|_| STORED).collect())),
            );
            tree.set_out("a", true);
            for key in 0..9 {
                assert_ne!(server_of(&tree, &format!("set k{key} 0 0 1|x")).await, "a");
            }
        });
    }

    #[test]
    fn keys_of_a_multi_get_travel_together_to_where_they_are() {
        run(async {
            let key = (0..60).find(|key| ring_of(&NAMES[..4])[*key] == "b").unwrap();
            let key = format!("key:{key}").into_bytes();
            let name_of = |tree: &Tree, op| {
                let pool = tree.root.pool(op, &key)?;
                Some(pool.leaf(pool.pick(&key)?)?.name().to_owned())
            };
            for (on_down, wanted) in
                [("failover", None), ("{type: failover, gutter: spare}", Some("e")), ("eject", None)]
            {
                let tree = tree(on_down, "main");
                assert!(tree.root.only_pool().is_none());
                assert_eq!(name_of(&tree, Op::Get).as_deref(), Some("b"));
                tree.set_out("b", true);
                let now = name_of(&tree, Op::Get).unwrap();
                assert!(now != "b" && wanted.is_none_or(|wanted| wanted == now), "{now}");
                // it takes a time to live along, which is changed on the way
                assert_eq!(name_of(&tree, Op::Gat).is_some(), on_down == "eject");
            }
            assert!(tree("fail", "main").root.only_pool().is_some());
        });
    }

    #[test]
    fn the_way_is_explained() {
        let told =
            |on_down: &str| tree(on_down, "main").root.explain(&Request::new(Op::Set, b"key:1")).to_string();
        assert!(!told("fail").contains("while"), "{}", told("fail"));
        for on_down in ["failover", "eject", "{type: failover, gutter: spare}"] {
            assert!(told(on_down).contains("(while that server is out)"), "{}", told(on_down));
        }
        assert!(told("{type: failover, gutter: spare}").contains("pool spare"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (pools, told) in [
            ("a: {servers: [x], on_down: ejct}", "did you mean `eject`?"),
            ("a: {servers: [x], on_down: {gutter: b}}, b: {servers: [y]}", "`type` is missing"),
            ("a: {servers: [x], on_down: {type: failover, gutter: c}}", "there is no pool `c`"),
            ("a: {servers: [x], on_down: {type: eject, gutter: a}}", "`gutter` goes with `type: failover`"),
            ("a: {servers: [x], on_down: {type: failover, gutter: a}}", "the pool `a` is its own gutter"),
            ("a: {servers: [x], on_down: {type: failover, exptime: 60}}", "exptime"),
            (
                "a: {servers: [x], on_down: {type: failover, gutter: b}}, b: {servers: [y], on_down: {type: failover, gutter: a}}",
                "is its own gutter",
            ),
        ] {
            let text = format!("pools: {{{pools}}}\nroute: a\n");
            let faults = config::from_text("t", &text, check).unwrap_err().to_string();
            assert!(faults.contains(told), "{pools}: {faults}");
        }
        let (_, warnings) =
            config::from_text("t", "pools: {a: {servers: [x], on_down: eject, tko: off}}", check).unwrap();
        assert!(warnings[0].0.to_string().contains("nobody finds out"), "{warnings:?}");
    }

    #[test]
    fn keys_without_a_place_are_owed_to_nobody_else() {
        run(async {
            let text = "pools: {main: {servers: [a, b, c, d], hash: random, on_down: eject}}\nroute: main\n";
            let misses = || (0..40).map(|_| MISS).collect::<Vec<_>>();
            let tree = tree_with("test", text, NAMES.map(|name| (name, misses())));
            NAMES.iter().for_each(|name| tree.keep(name));
            for _ in 0..40 {
                server_of(&tree, "delete k").await;
            }
        });
    }
}
