//! OriginalClientHashRoute: one of several children, by the client's address.
//!
//! All operations: to the one child that the client's IP address is hashed to (SpookyHash of its text, plus `offset`, modulo the
//! number of children). Clients of unix sockets have none; they are told so, in mcrouter's words.

use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot, When};
use crate::config::Problem;
use crate::protocol::{Cause, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "OriginalClientHashRoute",
    short: "original_client_hash",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes to choose from" },
        Key { name: "offset", what: "so many places further (0)" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let mut children = params.children("children")?;
    if children.is_empty() {
        params
            .fault("children", Problem::new("OriginalClientHashRoute: At least one 'children' is required"));
        return None;
    }
    if children.len() == 1 {
        return Some(children.remove(0));
    }
    let offset = params.count("offset", 0..=children.len() - 1);
    if params.has("offset") && offset.is_none() {
        return None;
    }
    Some(Rc::new(OriginalClientHash { children, offset: offset.unwrap_or(0) as u64 }))
}

struct OriginalClientHash {
    /// At least two.
    children: Vec<Rc<dyn Route>>,
    offset: u64,
}

impl Route for OriginalClientHash {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        const MISSING: &[u8] = b"SERVER_ERROR Missing IP";
        let Some(client) = call.client else {
            return slot.fill(&Reply::line(Status::Failed(Cause::Local), MISSING));
        };
        let index = client.get().wrapping_add(self.offset) % self.children.len() as u64;
        self.children[usize::try_from(index).unwrap_or(0)].send(request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new("original_client_hash");
        let some = || When::If("for some clients".into());
        self.children.iter().fold(here, |here, child| here.with(some(), child.explain(request)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Waiting;
    use super::super::stage::{MISS, run, settle, tree};
    use super::super::{Call, Client, Route as _};
    use crate::protocol::{Op, Request};

    #[test]
    fn a_client_always_has_the_same_child() {
        run(async {
            let route = "{type: original_client_hash, children: [a, b, c], offset: OFFSET}";
            let misses = || ["a", "b", "c"].map(|name| (name, (0..200).map(|_| MISS).collect()));
            let of = |offset: &str| tree(&route.replace("OFFSET", offset), misses());
            let (plain, further) = (of("0"), of("1"));
            for host in 0..40 {
                let call = Call { client: Some(Client::of_ip(&format!("10.0.0.{host}"))), ..Call::default() };
                let mut asked = Vec::new();
                for tree in [&plain, &plain, &further] {
                    tree.root.send(&Request::new(Op::Get, b"k"), &call, super::Slot::nowhere());
                    settle().await;
                    asked.push(["a", "b", "c"].iter().position(|name| !tree.heard(name).is_empty()).unwrap());
                }
                assert_eq!((asked[0], (asked[0] + 1) % 3), (asked[1], asked[2]));
            }
            let (waiting, slot) = Waiting::slot();
            plain.root.send(&Request::new(Op::Get, b"k"), &Call::default(), slot);
            assert_eq!(waiting.reply().unwrap(), "SERVER_ERROR Missing IP");
        });
    }
}
