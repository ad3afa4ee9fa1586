//! KeySplitRoute: several copies of a key that is asked for too often, under names of their own.
//!
//! Each host has one copy: number `host id % replicas`; copy 0 is the key itself, the others have `::<number>` behind it, in
//! front of a hash stop (behind the parts that a `key_parse` above says). Gets: the host's own copy; with `first_hit` all, and the first that hits. Updates: with `all_sync`
//! all copies, of which the host's own is waited for, else the own. Deletes: all copies, the own is waited for. Arithmetic
//! and touch: the own copy.

use super::gather::{Answers, answer_later};
use super::host_id::host_id;
use super::key::{Parts, routing_key};
use super::marked::without_tokens;
use super::registry::{Key, Kind, Params};
use super::rekey::send_as;
use super::{Call, Explained, Route, Slot, When, vivify};
use crate::config::Problem;
use crate::protocol::{Class, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "KeySplitRoute",
    short: "key_split",
    bare: "destination",
    keys: &[
        Key { name: "destination", what: "where all copies go" },
        Key { name: "replicas", what: "how many copies: 2 to 1000" },
        Key { name: "all_sync", what: "whether an update goes to all copies" },
        Key { name: "first_hit", what: "whether a get asks all copies (false)" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let destination = params.child("destination");
    params.require("replicas");
    let replicas = params.count("replicas", 2..=1000);
    params.require("all_sync")?;
    let (all_sync, first_hit) = (params.flag("all_sync", false), params.flag("first_hit", false));
    let replicas = replicas?;
    let Ok(own) = usize::try_from(host_id() % replicas as u64) else {
        params.fault("replicas", Problem::new("too many"));
        return None;
    };
    let route = KeySplit { destination: destination?, replicas, own, all_sync, first_hit };
    Some(if first_hit { vivify::after_a_look(route) } else { Rc::new(route) })
}

struct KeySplit {
    destination: Rc<dyn Route>,
    replicas: usize,
    own: usize,
    all_sync: bool,
    first_hit: bool,
}

/// What a client is told of a key that has no room for the copy's number.
const REFUSAL: &[u8] = b"SERVER_ERROR The key provided is invalid";

impl KeySplit {
    fn key_of(key: &[u8], copy: usize, parts: Option<Parts>) -> Vec<u8> {
        if copy == 0 {
            return key.to_vec();
        }
        let routing_key = routing_key(key);
        let at = parts.map_or(routing_key, |parts| parts.of(routing_key)).len();
        [&key[..at], format!("::{copy}").as_bytes(), &key[at..]].concat()
    }

    fn send_to(&self, copy: usize, request: &Request<'_>, call: &Call, slot: Slot) {
        if copy == 0 {
            return self.destination.send(request, call, slot);
        }
        let key = Self::key_of(request.key, copy, call.parts);
        send_as(&*self.destination, &key, REFUSAL, request, call, slot);
    }

    fn goes_to_all(&self, request: &Request<'_>) -> bool {
        match request.op.class() {
            // an empty item is made in one place, or all of them would have one
            Class::GetLike => self.first_hit && !vivify::vivifies(request),
            Class::UpdateLike => self.all_sync,
            Class::DeleteLike => true,
            Class::ArithmeticLike | Class::Other => false,
        }
    }
}

impl Route for KeySplit {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if !self.goes_to_all(request) {
            return self.send_to(self.own, request, call, slot);
        }
        if request.op.class() != Class::GetLike {
            self.send_to(self.own, request, call, slot);
            for copy in (0..self.replicas).filter(|copy| *copy != self.own) {
                self.send_to(copy, request, call, Slot::nowhere());
            }
            return;
        }
        let mut answers = Answers::new(call);
        for copy in 0..self.replicas {
            // the right to fill an item anew is given where the client will fill it
            let letters: &[u8] = if copy == self.own { b"" } else { b"R" };
            without_tokens(request, letters, |get| {
                answers.expect(|slot| self.send_to(copy, get, call, slot));
            });
        }
        answer_later(slot, async move {
            let mut last = None;
            while let Some((_, reply)) = answers.next().await {
                if reply.status == Status::Hit {
                    return reply;
                }
                last = Some(reply);
            }
            super::all::or_aborted(last)
        });
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let below = |copy: usize| {
            let key = Self::key_of(request.key, copy, None);
            let label = format!("copy {copy}: {}", key.escape_ascii());
            Explained::new(label)
                .with(When::Now, self.destination.explain(&Request { key: &key, ..*request }))
        };
        let mut here = Explained::new("key_split").with(When::Now, below(self.own));
        if self.goes_to_all(request) {
            for copy in (0..self.replicas).filter(|copy| *copy != self.own) {
                here = here.with(When::Beside, below(copy));
            }
        }
        here
    }
}
