//! BlackholeRoute: requests with something about them go where nobody answers.
//!
//! All operations alike: to `blackhole_child` (a `null` where it is not written) when of each field under `policies` one of
//! its conditions holds, else to `default`. Fields are the key, the client flags, the time to live and the operation.
//! Source: mcrouter's `BlackholingPolicyVisitor`.

use super::key::routing_key;
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, PoolRoute, Route, Slot, When, marked, null};
use crate::config::value::{self, expected};
use crate::config::{At, Node, Path, Problem, Section, nearest_help, quoted};
use crate::protocol::{Op, Request};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "BlackholeRoute",
    short: "blackhole",
    bare: "default",
    keys: &[
        Key { name: "default", what: "where all other requests go" },
        Key { name: "blackhole_child", what: "where requests of which a condition holds go (null)" },
        Key { name: "policies", what: "a map from fields to lists of `{op: equals, value: …}`" },
    ],
    build,
};

const FIELDS: &[(&str, Field)] = &[
    ("key", Field::Key),
    ("flags", Field::Flags),
    ("exptime", Field::Exptime),
    ("operation", Field::Operation),
];

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let default = params.child("default");
    let blackhole = params.child_or_nothing("blackhole_child");
    params.require("policies");
    let policies = read_policies(params);
    Some(Rc::new(Blackhole {
        default: default?,
        blackhole: blackhole?.unwrap_or_else(null::route),
        policies: policies?,
    }))
}

fn read_policies(params: &Params<'_>) -> Option<Vec<Vec<Condition>>> {
    let path = params.path().key("policies");
    let policies = params.section.node("policies")?;
    let Node::Map(fields) = policies else {
        params.fault("policies", expected("a map from fields to conditions", policies));
        return None;
    };
    let read = |(name, node): &(String, Node)| read_conditions(params, name, node, &path.key(name));
    // every one is read, so that the first fault does not hide the next
    fields.iter().map(read).collect::<Vec<_>>().into_iter().collect()
}

/// The conditions of one field.
fn read_conditions(params: &Params<'_>, name: &str, node: &Node, path: &Path<'_>) -> Option<Vec<Condition>> {
    let findings = params.section.findings;
    let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        let problem = Problem::new(format!("requests have no {}", quoted(name)));
        findings.fault(path, At::Key, problem.help(nearest_help(name, &names)));
        return None;
    };
    let Node::List(list) = node else {
        findings.fault(path, At::Value, expected("a list of conditions", node));
        return None;
    };
    let read = |(i, node): (usize, &Node)| read_condition(params, *field, node, &path.index(i));
    list.iter().enumerate().map(read).collect::<Vec<_>>().into_iter().collect()
}

fn read_condition(params: &Params<'_>, field: Field, node: &Node, path: &Path<'_>) -> Option<Condition> {
    const OPS: &[(&str, bool)] = &[("equals", true), ("not_equals", false)];
    let what = "a condition, a map of `op` and `value`";
    let section = Section::open(node, path, params.section.findings, what)?;
    section.refuse_unknown(&["op", "value"], &[]);
    let condition = Params { section, ..*params };
    condition.require("op");
    condition.require("value");
    let equals = condition.section.value("op", |node| value::choice(node, "`equals` or `not_equals`", OPS));
    let wanted = condition.section.value("value", |node| field.read(node));
    Some(Condition { field, equals: equals?, wanted: wanted? })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// The routing key: without a routing prefix, and up to the hash stop.
    Key,
    Flags,
    Exptime,
    Operation,
}

enum Wanted {
    Text(Vec<u8>),
    Number(i64),
}

impl Field {
    fn read(self, node: &Node) -> Result<Wanted, Problem> {
        match self {
            Self::Flags | Self::Exptime => match node {
                Node::Integer(number) => i64::try_from(*number).map(Wanted::Number).ok(),
                _ => None,
            }
            .ok_or_else(|| expected("a whole number", node)),
            Self::Key => value::text(node, "a key").map(|text| Wanted::Text(text.into_bytes())),
            Self::Operation => {
                let name = value::text(node, "an operation")?;
                let known = Op::ALL.iter().any(|op| op.name() == name);
                if known { Ok(Wanted::Text(name.into_bytes())) } else { Err(expected("an operation", node)) }
            }
        }
    }
}

struct Condition {
    field: Field,
    equals: bool,
    wanted: Wanted,
}

impl Condition {
    fn holds(&self, request: &Request<'_>) -> bool {
        let meta = |letter| request.meta.token_of(letter).and_then(marked::number);
        let is_equal = match (&self.wanted, self.field) {
            (Wanted::Text(text), Field::Operation) => text == request.op.name().as_bytes(),
            (Wanted::Text(text), _) => text == routing_key(request.key),
            (Wanted::Number(number), Field::Flags) if request.op.is_meta() => {
                *number == meta(b'F').unwrap_or(0)
            }
            (Wanted::Number(number), Field::Flags) => *number == i64::from(request.flags),
            (Wanted::Number(number), _) if request.op.is_meta() => *number == meta(b'T').unwrap_or(0),
            (Wanted::Number(number), _) => *number == i64::from(request.exptime),
        };
        is_equal == self.equals
    }

    /// Whether key and operation are enough to know.
    fn is_about_key(&self) -> bool {
        matches!(self.field, Field::Key | Field::Operation)
    }
}

struct Blackhole {
    default: Rc<dyn Route>,
    blackhole: Rc<dyn Route>,
    /// The conditions of each field that is written. As in mcrouter a field without one keeps every request, and where no
    /// field is written all are lost.
    policies: Vec<Vec<Condition>>,
}

impl Blackhole {
    fn child(&self, request: &Request<'_>) -> &Rc<dyn Route> {
        let holds = |conditions: &Vec<Condition>| conditions.iter().any(|condition| condition.holds(request));
        let is_lost = self.policies.iter().all(holds);
        if is_lost { &self.blackhole } else { &self.default }
    }
}

impl Route for Blackhole {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.child(request).send(request, call, slot);
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        if !self.policies.iter().flatten().all(Condition::is_about_key) {
            return None;
        }
        self.child(&Request::new(op, key)).pool(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        Explained::new("blackhole").with(When::Now, self.child(request).explain(request))
    }
}
