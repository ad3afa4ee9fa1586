//! ErrorRoute: nobody is asked, everybody is refused.
//!
//! All operations: `SERVER_ERROR` and the text of `response`; with the `result` of a client's mistake `CLIENT_ERROR`. What kind
//! of failure it is to routes above is up to `result`.

use super::failure::Failure;
use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot};
use crate::config::{Node, Problem, value};
use crate::protocol::{Cause, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "ErrorRoute",
    short: "error",
    bare: "response",
    keys: &[
        Key { name: "response", what: "what clients are told, after SERVER_ERROR" },
        Key {
            name: "result",
            what: "which failure it is: `local_error` (default), `timeout`, `client_error`, …",
        },
        Key { name: "enable_logging", what: "mcrouter's; nothing is logged here" },
    ],
    build,
};

/// What fits on a line that clients read.
const RESPONSE_BYTES_MAX: usize = 512;

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let response = params.text_or("response", "a text", "");
    if response.len() > RESPONSE_BYTES_MAX || response.chars().any(char::is_control) {
        let text = format!("at most {RESPONSE_BYTES_MAX} bytes on one line");
        params.fault("response", Problem::new(text));
        return None;
    }
    let result = match params.section.node("result") {
        Some(_) => params.section.value("result", read_result)?,
        None => Failure::LocalError,
    };
    let (status, word) = status_of(result);
    let line = match response.as_str() {
        "" => format!("{word} {}", result.name().replace('_', " ")),
        told => format!("{word} {told}"),
    };
    Some(Rc::new(ErrorRoute { status, line }))
}

/// mcrouter writes `mc_res_` in front of it, here alone.
fn read_result(node: &Node) -> Result<Failure, Problem> {
    const WHAT: &str = "a failure";
    match node {
        Node::Text(text) => {
            let name = text.strip_prefix("mc_res_").unwrap_or(text).to_owned();
            value::choice(&Node::Text(name), WHAT, Failure::ALL)
        }
        _ => value::choice(node, WHAT, Failure::ALL),
    }
}

/// A reply that routes above take for this failure, or, where none of ours is just that, for one that they treat alike.
fn status_of(failure: Failure) -> (Status, &'static str) {
    let cause = match failure {
        Failure::ClientError => return (Status::ErrorLine, "CLIENT_ERROR"),
        Failure::Timeout | Failure::DeadlineExceeded => Cause::Timeout,
        Failure::ConnectTimeout => Cause::ConnectTimeout,
        Failure::ConnectError => Cause::Connect,
        Failure::Tko | Failure::Shutdown | Failure::TryAgain => Cause::Tko,
        Failure::Busy => Cause::Busy,
        Failure::RemoteError => Cause::Closed,
        Failure::LocalError => Cause::Local,
        // no reason to fail over
        Failure::Aborted
        | Failure::BadKey
        | Failure::BadValue
        | Failure::Overloaded
        | Failure::OutOfOrder => Cause::Aborted,
    };
    (Status::Failed(cause), "SERVER_ERROR")
}

struct ErrorRoute {
    status: Status,
    line: String,
}

impl Route for ErrorRoute {
    fn send(&self, _request: &Request<'_>, _call: &Call, slot: Slot) {
        slot.fill(&Reply::line(self.status, self.line.as_bytes()));
    }

    fn explain(&self, _request: &Request<'_>) -> Explained {
        Explained::new(format!("error: {}", self.line))
    }
}
