//! FailoverWithExptimeRoute: after a failure others are asked, and what is stored there expires soon.
//!
//! All operations: as FailoverRoute over `normal` and `failover`; on the way to `failover` every time to live is cut down to
//! `failover_exptime` (60 s). Deletes have none.

use super::Route;
use super::failover::{self, LIMIT_KEY, TAG_KEY};
use super::failover_errors::{ERRORS_KEY, Errors};
use super::failover_policy::{HASH_KEY, POLICY_KEY, TAGS_KEY};
use super::modify_exptime::{self, Action};
use super::pairing::PAIRING_KEY;
use super::registry::{Key, Kind, Params};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "FailoverWithExptimeRoute",
    short: "failover_with_exptime",
    bare: "normal",
    keys: &[
        Key { name: "normal", what: "the route that is asked first" },
        Key { name: "failover", what: "the route, or routes, that are tried after a failure" },
        Key { name: "failover_exptime", what: "the longest time to live there: 60s; 0 leaves it as it is" },
        ERRORS_KEY,
        LIMIT_KEY,
        TAG_KEY,
        POLICY_KEY,
        HASH_KEY,
        TAGS_KEY,
        PAIRING_KEY,
    ],
    build,
};

/// mcrouter's.
const EXPTIME_DEFAULT: i32 = 60;

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let normal = params.child("normal");
    let failover = if params.has("failover") { params.children("failover")? } else { Vec::new() };
    let errors = Errors::read(params);
    let exptime = params.exptime("failover_exptime");
    if params.has("failover_exptime") && exptime.is_none() {
        return None;
    }
    let exptime = exptime.unwrap_or(EXPTIME_DEFAULT);
    let limited = |child| match exptime {
        ..=0 => child,
        _ => modify_exptime::of(child, exptime, Action::Min),
    };
    let children = std::iter::once(normal?).chain(failover.into_iter().map(limited)).collect();
    failover::of(params, children, errors?, false)
}
