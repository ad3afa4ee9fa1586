//! ModifyKeyRoute: another key towards the servers; the client sees its own.
//!
//! All operations alike. In this order: `replace_key_prefix` is taken off where the key begins with it; `ensure_key_prefix`
//! is put in front (always after a replacement, else where the key does not begin with it; with `modify_inplace` over the
//! key's first bytes); `set_key_suffix` is put behind. `set_routing_prefix` is what servers of pools with `keep_routing_prefix` get in front. A result that is no key is an error, and nothing is sent.

use super::build::is_prefix;
use super::registry::{Key, Kind, Params};
use super::rekey::send_as;
use super::{Call, Explained, Route, Slot, When};
use crate::config::{Node, Problem, value};
use crate::protocol::Request;
use crate::protocol::limits::KEY_BYTES_MAX;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "ModifyKeyRoute",
    short: "modify_key",
    bare: "target",
    keys: &[
        Key { name: "target", what: "where requests go" },
        Key { name: "ensure_key_prefix", what: "put in front of keys that do not begin with it" },
        Key {
            name: "replace_key_prefix",
            what: "taken off first; then the other prefix is always put in front",
        },
        Key { name: "set_key_suffix", what: "put behind every key" },
        Key {
            name: "set_routing_prefix",
            what: "for pools with `keep_routing_prefix`: `/region/cluster/`, or nothing",
        },
        Key { name: "modify_inplace", what: "write the prefix over the key's first bytes (false)" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let target = params.child("target");
    let affix = |key: &str| {
        let text = params.text_or(key, "a piece of a key", "");
        let is_bad = text.len() >= KEY_BYTES_MAX || text.bytes().any(|b| b <= b' ' || b == 127);
        if is_bad {
            params.fault(key, Problem::new("this cannot be part of a key"));
        }
        (!is_bad).then(|| text.into_bytes())
    };
    let (prefix, suffix) = (affix("ensure_key_prefix"), affix("set_key_suffix"));
    let replaced = if params.has("replace_key_prefix") { Some(affix("replace_key_prefix")?) } else { None };
    let routing_prefix = match params.has("set_routing_prefix") {
        true => Some(params.section.value("set_routing_prefix", read_routing_prefix)?),
        false => None,
    };
    let in_place = params.flag("modify_inplace", false);
    if in_place && replaced.is_some() {
        params.fault("modify_inplace", Problem::new("not together with `replace_key_prefix`"));
        return None;
    }
    let route =
        ModifyKey { target: target?, prefix: prefix?, suffix: suffix?, replaced, in_place, routing_prefix };
    Some(Rc::new(route))
}

struct ModifyKey {
    target: Rc<dyn Route>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    replaced: Option<Vec<u8>>,
    in_place: bool,
    /// What takes the place of the one that the root took off; `Some(None)`: none.
    routing_prefix: Option<Option<Rc<[u8]>>>,
}

fn read_routing_prefix(node: &Node) -> Result<Option<Rc<[u8]>>, Problem> {
    let what = "a routing prefix such as `/region/cluster/`, or an empty text";
    match value::text(node, what)? {
        text if text.is_empty() => Ok(None),
        text if is_prefix(&text) => Ok(Some(Rc::from(text.as_bytes()))),
        _ => Err(value::expected(what, node)),
    }
}

impl ModifyKey {
    /// The pieces of the new key.
    fn pieces<'k>(&'k self, key: &'k [u8]) -> [&'k [u8]; 3] {
        if let Some(rest) = self.replaced.as_deref().and_then(|replaced| key.strip_prefix(replaced)) {
            return [&self.prefix, rest, &self.suffix];
        }
        if key.starts_with(&self.prefix) {
            return [&[], key, &self.suffix];
        }
        // a key that is too short to be written over keeps all it has, or all such keys would be one
        let written_over = key.get(self.prefix.len()..).filter(|_| self.in_place);
        let rest = written_over.unwrap_or(key);
        [&self.prefix, rest, &self.suffix]
    }
}

impl Route for ModifyKey {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        const REFUSAL: &[u8] = b"SERVER_ERROR ModifyKeyRoute: invalid key: too long";
        // one byte more than may be: what does not fit is refused
        let mut buffer = [0; KEY_BYTES_MAX + 1];
        let mut length = 0;
        for piece in self.pieces(request.key) {
            let end = (length + piece.len()).min(buffer.len());
            buffer[length..end].copy_from_slice(&piece[..end - length]);
            length = end;
        }
        let key = &buffer[..length];
        match &self.routing_prefix {
            Some(prefix) => {
                let call = Call { prefix: prefix.clone(), ..call.clone() };
                send_as(&*self.target, key, REFUSAL, request, &call, slot);
            }
            None => send_as(&*self.target, key, REFUSAL, request, call, slot),
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let key = self.pieces(request.key).concat();
        let label = format!("modify_key: {}", key.escape_ascii());
        Explained::new(label).with(When::Now, self.target.explain(&Request { key: &key, ..*request }))
    }
}
