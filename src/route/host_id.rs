//! HostIdRoute: one of several children, by the name of this host.
//!
//! All operations: to the one child that was chosen when the tree was built; hosts share the children out.

use super::registry::{Key, Kind, Params};
use super::{Route, null};
use crate::hash::murmur64a;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "HostIdRoute",
    short: "host_id",
    bare: "children",
    keys: &[
        Key { name: "children", what: "the routes to choose from" },
        Key { name: "salt", what: "a text that changes the choice" },
    ],
    build,
};

/// A number for this host, the same after a restart: of its name, as mcrouter makes one of its address.
#[must_use]
pub fn host_id() -> u64 {
    let name = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
    murmur64a(name.trim_ascii())
}

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let children = params.children("children")?;
    let salt = params.text_or("salt", "a text", "");
    if children.is_empty() {
        return Some(null::route());
    }
    let hash = murmur64a(&[&host_id().to_le_bytes()[..], salt.as_bytes()].concat());
    let index = usize::try_from(hash % children.len() as u64).unwrap_or(0);
    children.into_iter().nth(index)
}
