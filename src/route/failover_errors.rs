//! Which failures make a route turn to another child, by class of operation: `failover_errors`.
//!
//! Arithmetic and touch always use mcrouter's set.

use super::failure::{Failure, Failures};
use super::registry::{Key, Params};
use crate::config::{At, Node, Path, Problem, nearest_help, quoted, value};
use crate::protocol::{Class, Reply, Request};

pub(super) const ERRORS_KEY: Key = Key {
    name: "failover_errors",
    what: "names of errors that are reason enough, for all, or in a map for gets, updates and deletes",
};

/// Results that mcrouter counts as errors as well. No reply of a memcached server is one of them.
const NEVER: &[&str] = &[
    "bad_command",
    "bad_flags",
    "bad_exptime",
    "bad_lease_id",
    "bad_cas_id",
    "permission_denied",
    "hot_key",
];

/// Which failures are reason enough, by class of operation.
#[derive(Clone, Copy)]
pub(super) struct Errors {
    gets: Failures,
    updates: Failures,
    deletes: Failures,
}

impl Default for Errors {
    fn default() -> Self {
        Self { gets: Failures::FAILOVER, updates: Failures::FAILOVER, deletes: Failures::FAILOVER }
    }
}

impl Errors {
    /// Reads `failover_errors`: a list for all three, or a map of lists; what is missing keeps mcrouter's set.
    pub(super) fn read(params: &Params<'_>) -> Option<Self> {
        let mut errors = Self::default();
        let key = ERRORS_KEY.name;
        let path = params.path().key(key);
        match params.section.node(key) {
            None => {}
            Some(node @ Node::List(_)) => {
                let set = read_set(params, node, &path)?;
                errors = Self { gets: set, updates: set, deletes: set };
            }
            Some(Node::Map(entries)) => {
                let mut is_sound = true;
                for (name, node) in entries {
                    let path = path.key(name);
                    let set = read_set(params, node, &path);
                    is_sound &= set.is_some();
                    let set = set.unwrap_or(Failures::NONE);
                    match name.as_str() {
                        "gets" => errors.gets = set,
                        "updates" => errors.updates = set,
                        "deletes" => errors.deletes = set,
                        _ => {
                            let problem = Problem::new(format!("unknown key {}", quoted(name)));
                            let problem = problem.help("one of `gets`, `updates`, `deletes`");
                            params.section.findings.fault(&path, At::Key, problem);
                            is_sound = false;
                        }
                    }
                }
                if !is_sound {
                    return None;
                }
            }
            Some(other) => {
                params.fault(key, value::expected("a list of errors", other));
                return None;
            }
        }
        Some(errors)
    }

    /// Whether this reply to this request is reason enough.
    pub(super) fn has(&self, request: &Request<'_>, reply: &Reply<'_>) -> bool {
        let set = match request.op.class() {
            Class::GetLike => self.gets,
            Class::UpdateLike => self.updates,
            Class::DeleteLike => self.deletes,
            Class::ArithmeticLike | Class::Other => Failures::FAILOVER,
        };
        set.has(reply)
    }
}

pub(super) fn read_set(params: &Params<'_>, node: &Node, path: &Path<'_>) -> Option<Failures> {
    let Node::List(list) = node else {
        params.section.findings.fault(path, At::Value, value::expected("a list of errors", node));
        return None;
    };
    // every one is read, so that the first fault does not hide the next
    let mut set = Some(Failures::NONE);
    for (i, word) in list.iter().enumerate() {
        let name = if let Node::Text(name) = word { name.as_str() } else { "" };
        match Failure::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, failure)) => set = set.map(|set| set.with(*failure)),
            None if NEVER.contains(&name) => {}
            None => {
                let known: Vec<&str> = Failure::ALL.iter().map(|(name, _)| *name).collect();
                // mcrouter's words
                let problem = Problem::new(format!("Failover error {name} is not a valid error result"));
                let problem = problem.help(nearest_help(name, &known));
                params.section.findings.fault(&path.index(i), At::Value, problem);
                set = None;
            }
        }
    }
    set
}
