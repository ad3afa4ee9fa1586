//! A server of a pool that stands by itself, and what else fails with it: see `failover_policy.rs`.

use super::{Call, Chosen, Explained, Route, Slot};
use crate::protocol::{Op, Request};
use std::rc::Rc;

/// The same server, which knows its failure domain.
pub(super) fn of(server: Rc<dyn Route>, domain: &str) -> Rc<dyn Route> {
    Rc::new(InDomain { server, domain: domain.to_owned() })
}

struct InDomain {
    server: Rc<dyn Route>,
    domain: String,
}

impl Route for InDomain {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        self.server.send(request, call, slot);
    }

    fn chosen(&self, op: Op, key: &[u8]) -> Chosen<'_> {
        Chosen { domain: Some(&self.domain), ..self.server.chosen(op, key) }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.server.explain(request)
    }
}
