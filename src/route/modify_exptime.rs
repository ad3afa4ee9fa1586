//! ModifyExptimeRoute: another time to live.
//!
//! Updates, `touch` and `gat`: sent on with `exptime`, or with the shorter of the two (`action: min`, where 0, for ever, is
//! the longest). Meta commands: the same for their `T` and, where they may create an item, `N`; `ms` without `T` lives for
//! ever. Deletes, arithmetic and plain gets: unchanged.

use super::registry::{Key, Kind, Params};
use super::{Call, Chosen, Explained, Route, Slot, When};
use crate::config::value;
use crate::protocol::{Class, Meta, Op, Request, letter_bit};
use std::io::Write;
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "ModifyExptimeRoute",
    short: "modify_exptime",
    bare: "target",
    keys: &[
        Key { name: "target", what: "where requests go" },
        Key { name: "exptime", what: "the time to live: 0 for ever, negative at once" },
        Key { name: "action", what: "`set` (default): always this one; `min`: the shorter one" },
    ],
    build,
};

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    const ACTIONS: &[(&str, Action)] = &[("set", Action::Set), ("min", Action::Min)];
    let target = params.child("target");
    params.require("exptime");
    let exptime = params.exptime("exptime")?;
    let action = params.section.value("action", |node| value::choice(node, "`set` or `min`", ACTIONS));
    if params.has("action") && action.is_none() {
        return None;
    }
    Some(of(target?, exptime, action.unwrap_or(Action::Set)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Set,
    Min,
}

pub(super) fn of(target: Rc<dyn Route>, exptime: i32, action: Action) -> Rc<dyn Route> {
    Rc::new(ModifyExptime { target, exptime, action })
}

struct ModifyExptime {
    target: Rc<dyn Route>,
    exptime: i32,
    action: Action,
}

impl ModifyExptime {
    fn of(&self, asked: i32) -> i32 {
        match self.action {
            Action::Set => self.exptime,
            Action::Min => shorter(asked, self.exptime),
        }
    }
}

/// Of two times to live; 0 is for ever. (A unix time counts as its number, as in mcrouter: it is longer than any other.)
fn shorter(a: i32, b: i32) -> i32 {
    match (a, b) {
        (0, b) => b,
        (a, 0) => a,
        (a, b) => a.min(b),
    }
}

impl Route for ModifyExptime {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if request.op.is_meta() {
            return match rewritten(request, |asked| self.of(asked)) {
                Some((flags, letters)) => {
                    let count = flags.split(|b| *b == b' ').filter(|t| !t.is_empty()).count();
                    let token_count = u8::try_from(count + if request.op == Op::MetaSet { 3 } else { 2 });
                    let meta = Meta {
                        flags: &flags,
                        letters,
                        token_count: token_count.unwrap_or(u8::MAX),
                        ..request.meta
                    };
                    self.target.send(&Request { meta, ..*request }, call, slot);
                }
                None => self.target.send(request, call, slot),
            };
        }
        let has_exptime =
            request.op.class() == Class::UpdateLike || matches!(request.op, Op::Touch | Op::Gat | Op::Gats);
        if has_exptime {
            let exptime = self.of(request.exptime);
            self.target.send(&Request { exptime, ..*request }, call, slot);
        } else {
            self.target.send(request, call, slot);
        }
    }

    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        self.target.chosen(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let action = if self.action == Action::Set { "set to" } else { "at most" };
        let label = format!("modify_exptime: {action} {}", self.exptime);
        Explained::new(label).with(When::Now, self.target.explain(request))
    }
}

/// The meta flags with other times to live, and their letters; `None` where there is none to change.
pub(super) fn rewritten(request: &Request<'_>, change: impl Fn(i32) -> i32) -> Option<(Vec<u8>, u64)> {
    let meta = &request.meta;
    let creates = request.op == Op::MetaSet;
    if !creates && !meta.has(b'T') && !meta.has(b'N') {
        return None;
    }
    let mut flags = Vec::with_capacity(meta.flags.len() + 16);
    let mut letters = meta.letters;
    for (letter, token) in meta.iter() {
        if !flags.is_empty() {
            flags.push(b' ');
        }
        flags.push(letter);
        // parsed before, so that it is a number; what is none is left as it is
        let number = std::str::from_utf8(token).ok().and_then(|text| text.parse::<i32>().ok());
        match number.filter(|_| matches!(letter, b'T' | b'N')) {
            Some(asked) => drop(write!(flags, "{}", change(asked))), // a Vec takes everything
            None => flags.extend_from_slice(token),
        }
    }
    if creates && !meta.has(b'T') {
        if !flags.is_empty() {
            flags.push(b' ');
        }
        let _ = write!(flags, "T{}", change(0)); // a Vec takes everything
        letters |= letter_bit(b'T');
    }
    Some((flags, letters))
}
