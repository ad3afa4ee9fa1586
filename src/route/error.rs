//! ErrorRoute: nobody is asked, everybody is refused.
//!
//! All operations: `SERVER_ERROR` and the text of `response`.

use super::registry::{Key, Kind, Params};
use super::{Call, Explained, Route, Slot};
use crate::protocol::{Cause, Reply, Request, Status};
use std::rc::Rc;

pub(super) const KIND: Kind = Kind {
    name: "ErrorRoute",
    short: "error",
    bare: "response",
    keys: &[Key { name: "response", what: "what clients are told, after SERVER_ERROR" }],
    build,
};

/// What fits on a line that clients read.
const RESPONSE_BYTES_MAX: usize = 512;

fn build(params: &Params<'_>) -> Option<Rc<dyn Route>> {
    let response = params.text_or("response", "a text", "");
    if response.len() > RESPONSE_BYTES_MAX || response.chars().any(char::is_control) {
        let text = format!("at most {RESPONSE_BYTES_MAX} bytes on one line");
        params.fault("response", crate::config::Problem::new(text));
        return None;
    }
    let line = if response.is_empty() {
        "SERVER_ERROR local error".into()
    } else {
        format!("SERVER_ERROR {response}")
    };
    Some(Rc::new(ErrorRoute { line }))
}

struct ErrorRoute {
    line: String,
}

impl Route for ErrorRoute {
    fn send(&self, _request: &Request<'_>, _call: &Call, slot: Slot) {
        slot.fill(&Reply::line(Status::Failed(Cause::Local), self.line.as_bytes()));
    }

    fn explain(&self, _request: &Request<'_>) -> Explained {
        Explained::new(format!("error: {}", self.line))
    }
}
