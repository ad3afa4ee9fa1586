//! NullRoute and DevNullRoute: nobody is asked.
//!
//! Gets miss, updates are not stored, deletes, arithmetic and touch find nothing (mcrouter's default reply).

use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot};
use crate::protocol::{Request, answer};
use std::rc::Rc;

pub(super) const NULL: Kind = Kind { name: "NullRoute", short: "null", bare: "", keys: KEYS, build };
pub(super) const DEV_NULL: Kind =
    Kind { name: "DevNullRoute", short: "dev_null", bare: "", keys: KEYS, build };

const KEYS: &[Key] = &[];

fn build(_params: &Params<'_>) -> Option<Rc<dyn Route>> {
    Some(route())
}

/// The route of an empty list of children.
pub(super) fn route() -> Rc<dyn Route> {
    Rc::new(Null)
}

struct Null;

impl Route for Null {
    fn send(&self, request: &Request<'_>, _call: &Call, slot: Slot) {
        fill_default(request, slot);
    }

    fn explain(&self, _request: &Request<'_>) -> Explained {
        Explained::new("null")
    }
}

/// The answer where nobody was asked, or nobody is waited for.
pub(super) fn fill_default(request: &Request<'_>, slot: Slot) {
    answer::reply_with(request, answer::default_status(request.op), |reply| slot.fill(reply));
}
