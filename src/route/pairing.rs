//! `enable_lease_pairing`: a change that names a cas goes to the child that gave that cas.
//!
//! A cas (and with it a win, `mg … N30 c`) is only worth something on the server that gave it. When another child than the first
//! gave it, because the first had failed, the child is kept here by key and cas until a `cas`, `ms`, `md` or `ma` comes with it. A
//! cas that is not known is the first child's, and only that one is asked. mcrouter does so with its leases, which the text
//! protocol does not have. Each worker has its own list: where a client uses two connections the change may be refused, as for
//! any other cas that is out of date.

use super::registry::Key;
use crate::hash::murmur64a;
use crate::protocol::{Op, Reply, Request, Status};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

pub(super) const PAIRING_KEY: Key = Key {
    name: "enable_lease_pairing",
    what: "whether a change that names a cas goes to the child that gave it (false)",
};

/// Pairs that are kept; the oldest go first.
const PAIRS_COUNT_MAX: usize = 1024;

/// A child, and how many were asked before it.
pub(super) type Asked = (usize, usize);

#[derive(Default)]
pub(super) struct Pairs(RefCell<Kept>);

#[derive(Default)]
struct Kept {
    by_cas: HashMap<u64, Asked>,
    /// Oldest first; some may have been used.
    order: VecDeque<u64>,
}

impl Pairs {
    /// This child has answered.
    pub(super) fn keep(&self, request: &Request<'_>, reply: &Reply<'_>, asked: Asked) {
        let Some(cas) = given(request, reply) else { return };
        let mut kept = self.0.borrow_mut();
        if kept.order.len() >= PAIRS_COUNT_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_cas.remove(&oldest);
        }
        let pair = hash(request.key, cas);
        kept.order.push_back(pair);
        kept.by_cas.insert(pair, asked);
    }

    /// Whom a request that names a cas goes to, and nobody else; `None`: it names none.
    pub(super) fn find(&self, request: &Request<'_>) -> Option<Asked> {
        let cas = named(request)?;
        Some(self.0.borrow_mut().by_cas.remove(&hash(request.key, cas)).unwrap_or((0, 0)))
    }
}

fn hash(key: &[u8], cas: u64) -> u64 {
    murmur64a(&[key, &cas.to_le_bytes()].concat())
}

/// The cas that this request compares with.
fn named(request: &Request<'_>) -> Option<u64> {
    match request.op {
        Op::Cas => Some(request.number),
        Op::MetaSet | Op::MetaDelete | Op::MetaArithmetic => number(request.meta.token_of(b'C')?),
        _ => None,
    }
}

/// The cas that this reply gives.
fn given(request: &Request<'_>, reply: &Reply<'_>) -> Option<u64> {
    if reply.status != Status::Hit {
        return None;
    }
    let mut words = reply.line.split(|b| *b == b' ');
    match request.op {
        Op::Gets | Op::Gats => number(words.nth(4)?),
        Op::MetaGet if request.meta.has(b'c') => {
            number(words.skip(1).find_map(|word| word.strip_prefix(b"c"))?)
        }
        _ => None,
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Say;
    use super::super::stage::{MISS, STORED, TIMEOUT, run, tree};
    use crate::protocol::Status;

    const ROUTE: &str = "{type: failover, children: [a, b, c], enable_lease_pairing: true}";
    const HD: Say = Say::Line(Status::Stored, "HD");

    #[test]
    fn a_cas_goes_back_to_who_gave_it() {
        run(async {
            let tree = tree(
                ROUTE,
                [
                    ("a", vec![TIMEOUT, TIMEOUT, TIMEOUT, MISS, STORED, TIMEOUT]),
                    (
                        "b",
                        vec![
                            TIMEOUT,
                            Say::Line(Status::Hit, "VALUE k 0 1 77"),
                            Say::Meta("VA 0 W c5", ""),
                            HD,
                        ],
                    ),
                    ("c", vec![Say::Line(Status::Hit, "VALUE k 0 1 9"), STORED]),
                ],
            );
            tree.ask("gets k").await; // c gives 9
            tree.ask("gets k").await; // b gives 77
            tree.ask("mg k N30 v c").await; // b gives 5, and the win
            assert_eq!(tree.ask("get k").await, "", "the first one is back");
            assert_eq!(tree.ask("cas k 0 0 1 9|x").await, "STORED");
            assert_eq!(tree.heard("c"), ["gets k", "cas k 0 0 1 9|x"]);
            assert_eq!(tree.ask("ms k 1 C5|x").await, "HD");
            assert_eq!(tree.heard("b").last().unwrap(), "ms k 1 C5|x");
            // one that nobody else gave is the first one's, and a pair is used once
            assert_eq!(tree.ask("cas k 0 0 1 9|x").await, "STORED");
            assert_eq!(
                tree.ask("cas k 0 0 1 1|x").await,
                "SERVER_ERROR Reply timeout",
                "nobody else is asked"
            );
        });
    }

    #[test]
    fn the_oldest_pairs_go_first() {
        run(async {
            let failing = |count: usize| (0..count).map(|_| TIMEOUT).collect::<Vec<_>>();
            let mut first = failing(1100);
            first.push(STORED);
            let mut second: Vec<Say> = (0..1100).map(|_| Say::Line(Status::Hit, "VALUE k 0 1 5")).collect();
            second.push(STORED);
            let tree = tree(ROUTE, [("a", first), ("b", second)]);
            for key in 0..1100 {
                tree.ask(&format!("gets k{key}")).await;
            }
            ["a", "b"].iter().for_each(|name| drop(tree.heard(name)));
            tree.ask("cas k0 0 0 1 5|x").await;
            assert_eq!((tree.heard("a").len(), tree.heard("b").len()), (1, 0), "forgotten");
            tree.ask("cas k1099 0 0 1 5|x").await;
            assert_eq!((tree.heard("a").len(), tree.heard("b").len()), (0, 1));
        });
    }
}
