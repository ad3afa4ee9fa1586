//! EjectRoute (ours): a pool that does without servers that are knocked out.
//!
//! All operations: to the server that has the key; while it is out, where `on_down` says (`on_down.rs`). The same as the key
//! `on_down` of a pool, for one place in the tree, and with any route as the gutter.

use super::Route;
use super::on_down::Plan;
use super::registry::{Key, Kind, Params};
use crate::config::{OnDown, value};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "EjectRoute",
    short: "eject",
    bare: "pool",
    keys: &[
        Key { name: "pool", what: "the pool's name" },
        Key {
            name: "on_down",
            what: "`eject` (default): the ring is built without the server; `failover`: its keys go to the next ones",
        },
        Key { name: "gutter", what: "a route that gets these keys instead" },
        Key {
            name: "exptime",
            what: "the longest time to live with `failover` and `gutter`: 60s; 0 leaves it as it is",
        },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    const WAYS: &[(&str, bool)] = &[("eject", true), ("failover", false)];
    let name = params.text("pool", "the name of a pool");
    let ejects = params.section.value("on_down", |node| value::choice(node, "`eject` or `failover`", WAYS));
    let gutter = params.child_or_nothing("gutter")?;
    let exptime_s = params.exptime("exptime");
    if params.has("on_down") && ejects.is_none() || params.has("exptime") && exptime_s.is_none() {
        return None;
    }
    let exptime_s = exptime_s.unwrap_or(OnDown::EXPTIME_S_DEFAULT);
    let plan = match (gutter, ejects) {
        (Some(gutter), _) => Plan::Gutter { gutter, exptime_s },
        (None, Some(false)) => Plan::Next { exptime_s },
        (None, _) => Plan::Eject,
    };
    let name = name?;
    let pool = params.pool("pool", &name)?;
    let route = pool.placed_by(params.builder.placed(&name)?, Some(plan))?;
    Some(Rc::new(route))
}
