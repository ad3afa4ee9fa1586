//! OperationSelectorRoute (mcrouter's old name: PrefixPolicyRoute): a child for each operation.
//!
//! All operations: to the child under their name in `operation_policies`, else to `default_policy`. A meta command goes
//! where the classic command of its kind goes (`mg` as `get`, `ms` as `set`, `md` as `delete`, `ma` as `incr`), unless it
//! has an entry of its own. Without either the client is told so.

use super::registry::{Key, Kind, Params};
use super::{Call, Explained, PoolRoute, Route, Slot, When};
use crate::config::{Problem, quoted};
use crate::protocol::{Cause, Op, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "OperationSelectorRoute",
    short: "operation",
    bare: "default_policy",
    keys: &[
        Key { name: "default_policy", what: "the route of operations that are not named" },
        Key { name: "operation_policies", what: "a map from operations to routes" },
    ],
    build,
};

/// Operations that only Meta's own servers know: accepted in a configuration, asked by no client.
const FOREIGN: &[&str] = &["lease-get", "lease-set", "metaget", "flushre", "flushall"];

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let default = params.child_or_nothing("default_policy");
    let policies = params.routes_by("operation_policies", "a map from operations to routes", parse_op);
    let default = default?;
    let mut table: [Option<Rc<dyn Route>>; Op::ALL.len()] = Op::ALL.map(|_| default.clone());
    for (op, route) in policies?.iter().filter_map(|(op, route)| op.map(|op| (op, route))) {
        table[op as usize] = Some(Rc::clone(route));
        // listed later in the file, a meta command's own entry still wins: it is set once more below
        if let Some(meta) = meta_of(op) {
            table[meta as usize] = Some(Rc::clone(route));
        }
    }
    let policies = params.routes_by("operation_policies", "a map from operations to routes", parse_op)?;
    for (op, route) in policies {
        if let Some(op) = op.filter(|op| op.is_meta()) {
            table[op as usize] = Some(route);
        }
    }
    Some(Rc::new(OperationSelector { table }))
}

fn parse_op(name: &str) -> Result<Option<Op>, Problem> {
    match Op::ALL.iter().find(|op| op.name() == name) {
        Some(op) => Ok(Some(*op)),
        None if FOREIGN.contains(&name) => Ok(None),
        None => Err(Problem::new(format!("there is no operation {}", quoted(name)))),
    }
}

/// The meta command that does what this classic one does.
const fn meta_of(op: Op) -> Option<Op> {
    match op {
        Op::Get => Some(Op::MetaGet),
        Op::Set => Some(Op::MetaSet),
        Op::Delete => Some(Op::MetaDelete),
        Op::Incr => Some(Op::MetaArithmetic),
        _ => None,
    }
}

struct OperationSelector {
    table: [Option<Rc<dyn Route>>; Op::ALL.len()],
}

impl Route for OperationSelector {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        if let Some(child) = &self.table[request.op as usize] {
            return child.send(request, call, slot);
        }
        // mcrouter's words for a reply that no route gave
        let op = request.op.name();
        let text = format!("SERVER_ERROR unexpected result mc_res_unknown (0) for {op}");
        slot.fill(&Reply::line(Status::Failed(Cause::Local), text.as_bytes()));
    }

    fn pool(&self, op: Op, key: &[u8]) -> Option<&PoolRoute> {
        self.table[op as usize].as_ref()?.pool(op, key)
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let here = Explained::new(format!("operation {}", request.op.name()));
        match &self.table[request.op as usize] {
            Some(child) => here.with(When::Now, child.explain(request)),
            None => here,
        }
    }
}
