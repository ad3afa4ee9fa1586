//! A leaf for tests: says what it is told to say, and remembers what it was asked.

use super::{Call, Explained, Leaf, Route, Sink, Slot, Target};
use crate::protocol::{Cause, MultiGet, OwnedReply, Reply, Request, Status, Value};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// What a scripted leaf does with a request.
pub(super) enum Say {
    Hit(&'static str),
    /// A meta hit: its line and its value.
    Meta(&'static str, &'static str),
    Line(Status, &'static str),
    Fail(Cause),
    /// Keeps the slot until the test fills it.
    Wait,
}

#[derive(Default)]
pub(super) struct Scripted {
    name: String,
    script: RefCell<VecDeque<Say>>,
    pub(super) asked: RefCell<Vec<String>>,
    pub(super) waiting: RefCell<Vec<Slot>>,
    out: Cell<bool>,
    /// Deletes that it cannot be told of are kept.
    pub(super) keeps: Cell<bool>,
    changes: Rc<Cell<u64>>,
}

impl Scripted {
    pub(super) fn new(name: &str, script: impl IntoIterator<Item = Say>) -> Rc<Self> {
        let script = RefCell::new(script.into_iter().collect());
        Rc::new(Self { name: name.into(), script, ..Self::default() })
    }

    /// All whose changes these are.
    pub(super) fn with_changes(self: Rc<Self>, changes: &Rc<Cell<u64>>) -> Rc<Self> {
        let mut this = Rc::into_inner(self).expect("nobody has it yet");
        this.changes = Rc::clone(changes);
        Rc::new(this)
    }

    /// From now on it is known to be out, or to be back.
    pub(super) fn set_out(&self, out: bool) {
        self.out.set(out);
        self.changes.set(self.changes.get() + 1);
    }

    /// What it was asked since the last look.
    pub(super) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.borrow_mut())
    }
}

impl Route for Scripted {
    fn send(&self, request: &Request<'_>, _call: &Call, slot: Slot) {
        let mut out = crate::protocol::WireBuf::new();
        if request.op.is_meta() {
            crate::protocol::meta::write_request(request, None, &mut out);
        } else {
            crate::protocol::ascii::write_request(request, &mut out);
        }
        let bytes = out.single().unwrap_or_default();
        self.asked.borrow_mut().push(String::from_utf8_lossy(bytes).trim_end().replace("\r\n", "|"));
        match self.script.borrow_mut().pop_front() {
            Some(Say::Hit(value)) => {
                let key = String::from_utf8_lossy(request.key).into_owned();
                let line = if request.op.is_meta() {
                    format!("VA {} k{key}", value.len())
                } else {
                    format!("VALUE {key} 0 {}", value.len())
                };
                slot.fill(&Reply::with_value(Status::Hit, line.as_bytes(), Value::Slice(value.as_bytes())));
            }
            Some(Say::Meta(line, value)) => {
                slot.fill(&Reply::with_value(Status::Hit, line.as_bytes(), Value::Slice(value.as_bytes())));
            }
            Some(Say::Line(status, line)) => slot.fill(&Reply::line(status, line.as_bytes())),
            Some(Say::Fail(cause)) => slot.fill(&Reply::failed(cause)),
            Some(Say::Wait) => self.waiting.borrow_mut().push(slot),
            None => panic!(
                "{} was asked more than it has answers for: {:?}",
                self.name,
                self.asked.borrow().last()
            ),
        }
    }

    fn explain(&self, request: &Request<'_>) -> Explained {
        let (name, address) = (self.name.clone(), self.name.clone());
        let target = Target { name, address, pool: String::new(), key: request.key.to_vec() };
        Explained::server(format!("server {}", self.name), target)
    }
}

impl Leaf for Scripted {
    fn send_multi(&self, _request: &MultiGet<'_>, _call: &Call, slot: Slot) {
        drop(slot);
    }

    fn flush_all(&self, _delay: i32, slot: Slot) {
        drop(slot);
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn is_out(&self) -> bool {
        self.out.get()
    }

    fn keeps(&self, _request: &Request<'_>) -> bool {
        self.keeps.get()
    }

    fn changes(&self) -> u64 {
        self.changes.get()
    }
}

/// Waits for one reply.
#[derive(Default)]
pub(super) struct Waiting(Cell<Option<OwnedReply>>);

impl Sink for Waiting {
    fn is_waiting(&self) -> bool {
        true
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        assert!(self.0.replace(Some(OwnedReply::new(reply))).is_none(), "a slot is filled once");
    }
}

impl Waiting {
    pub(super) fn slot() -> (Rc<Self>, Slot) {
        let waiting = Rc::new(Self::default());
        (Rc::clone(&waiting), Slot::new(waiting, 0))
    }

    /// The reply, if it has come: `line` or `line|value`.
    pub(super) fn reply(&self) -> Option<String> {
        self.0.take().map(shown)
    }
}

fn shown(reply: OwnedReply) -> String {
    let line = String::from_utf8_lossy(&reply.line).into_owned();
    let value = reply.value.map(|value| String::from_utf8_lossy(&value.as_value().to_vec()).into_owned());
    value.map_or(line.clone(), |value| format!("{line}|{value}"))
}
