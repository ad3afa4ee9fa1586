//! `keep_routing_prefix` of a pool: its servers are proxies that read routing prefixes themselves, so they get the key with
//! the prefix that the root took off.

use super::rekey::send_as;
use super::{Call, Explained, Leaf, Route, Slot};
use crate::protocol::limits::KEY_BYTES_MAX;
use crate::protocol::{MultiGet, Request};
use std::rc::Rc;
use tokio::sync::oneshot;

pub(super) struct KeepPrefix(pub(super) Rc<dyn Leaf>);

const REFUSAL: &[u8] = b"SERVER_ERROR The key provided is invalid";

impl Route for KeepPrefix {
    fn send(&self, request: &Request<'_>, call: &Call, slot: Slot) {
        let Some(prefix) = &call.prefix else { return self.0.send(request, call, slot) };
        // one byte more than may be: what does not fit is refused
        let mut buffer = [0; KEY_BYTES_MAX + 1];
        let mut length = 0;
        for piece in [&**prefix, request.key] {
            let end = (length + piece.len()).min(buffer.len());
            buffer[length..end].copy_from_slice(&piece[..end - length]);
            length = end;
        }
        send_as(&*self.0, &buffer[..length], REFUSAL, request, call, slot);
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        self.0.explain(request)
    }
}

impl Leaf for KeepPrefix {
    /// Keys that have a prefix come alone.
    fn send_multi(&self, request: &MultiGet<'_>, call: &Call, slot: Slot) {
        self.0.send_multi(request, call, slot);
    }

    fn is_tree(&self) -> bool {
        self.0.is_tree()
    }

    fn flush_all(&self, delay: i32, slot: Slot) {
        self.0.flush_all(delay, slot);
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn warm(&self) -> Option<oneshot::Receiver<()>> {
        self.0.warm()
    }

    fn is_out(&self) -> bool {
        self.0.is_out()
    }

    fn keeps(&self, request: &Request<'_>) -> bool {
        self.0.keeps(request)
    }

    fn changes(&self) -> u64 {
        self.0.changes()
    }
}
