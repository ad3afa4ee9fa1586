//! KeyParseRoute: which part of a key is its routing key.
//!
//! All operations: to the target, unchanged. What follows the first `num_routing_parts` parts is not part of the routing key
//! for a `key_split` below: the numbers of copies stand behind those parts. Where keys are placed does not change, as in
//! mcrouter.

use super::key::Parts;
use super::registry::{Key, Kind, Params};
use super::{Call, Chosen, Explained, PoolRoute, Route, Slot, When};
use crate::config::value::{self, expected};
use crate::protocol::{Op, Request};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "KeyParseRoute",
    short: "key_parse",
    bare: "target",
    keys: &[
        Key { name: "target", what: "where requests go" },
        Key { name: "num_routing_parts", what: "how many parts of a key are its routing key" },
        Key { name: "delimiter", what: "the character between parts" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let target = params.child("target");
    params.require("num_routing_parts");
    let count = params.count("num_routing_parts", 1..=250).and_then(|count| u8::try_from(count).ok());
    params.require("delimiter");
    let delimiter = params.section.value("delimiter", |node| {
        let text = value::text(node, "a single character")?;
        match text.as_bytes() {
            [byte] if *byte > b' ' => Ok(*byte),
            _ => Err(expected("a single character", node)),
        }
    });
    let parts = Parts { count: count?, delimiter: delimiter? };
    Some(Rc::new(KeyParse { target: target?, parts }))
}

struct KeyParse {
    target: Rc<dyn Route>,
    parts: Parts,
}

impl Route for KeyParse {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.target.send(request, &Call { parts: Some(self.parts), ..call.clone() }, slot);
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        self.target.pool(op, key)
    }

    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        self.target.chosen(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let parts = self.parts.of(request.key).escape_ascii();
        Explained::new(format!("key_parse: {parts}")).with(When::Now, self.target.explain(request))
    }
}
