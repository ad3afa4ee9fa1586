//! Conversations with the cache: whole commands through the parser, answers as a client sees them.

mod bounds;
mod conversations;

use super::{Cache, CacheLeaf};
use crate::protocol::ascii::{Framed, Scratch, frame, parse_request};
use crate::protocol::{Admin, Line, Op, Reply, Request, Status, Value};
use crate::route::{Call, Leaf, Route, Sink, Slot};
use crate::time::Clock;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

const START: u32 = 1_800_000_000;

/// A client, its server, and the hand that moves the clock.
struct Talk {
    leaf: CacheLeaf,
    cache: Arc<Cache>,
    seconds: Rc<Cell<u32>>,
}

impl Talk {
    fn new() -> Self {
        Self::with(64 << 20, 1 << 20)
    }

    fn with(memory_bytes_max: usize, item_bytes_max: usize) -> Self {
        let cache = Arc::new(Cache::new(memory_bytes_max, item_bytes_max));
        let seconds = Rc::new(Cell::new(START));
        let clock = Clock::Manual(Rc::clone(&seconds));
        Self { leaf: CacheLeaf::new(Arc::clone(&cache), "cache".to_owned(), clock), cache, seconds }
    }

    fn wait(&self, seconds: u32) {
        self.seconds.set(self.seconds.get() + seconds);
    }

    /// Sends commands, one after the other, and gives back all that is answered.
    fn say(&self, text: &[u8]) -> Vec<u8> {
        let sink = Rc::new(Screen::default());
        let mut rest = text;
        let mut scratch = Scratch::default();
        while !rest.is_empty() {
            let Framed::Line { line, consumed } = frame(rest, 0) else { panic!("no whole line: {rest:?}") };
            rest = &rest[consumed..];
            match parse_request(line, consumed, &mut scratch) {
                Err(error) => {
                    sink.out.borrow_mut().extend(error.answer.unwrap_or("").as_bytes());
                    sink.out.borrow_mut().extend(b"\r\n");
                    rest = &rest[error.swallow as usize..];
                }
                Ok(Line::Request(request)) => self.send(&request, &sink),
                Ok(Line::Storage(mut request, length)) => {
                    request.value = Value::Slice(&rest[..length]);
                    rest = &rest[length + 2..];
                    self.send(&request, &sink);
                }
                Ok(Line::MultiGet(multi)) => {
                    *sink.asked.borrow_mut() = (multi.op, false);
                    self.leaf.send_multi(&multi, &Call::default(), Slot::new(sink.clone(), 0));
                }
                Ok(Line::Admin(Admin::FlushAll { delay, .. })) => {
                    *sink.asked.borrow_mut() = (Op::Delete, false);
                    self.leaf.flush_all(delay, Slot::new(sink.clone(), 0));
                }
                Ok(Line::Admin(_)) => sink.out.borrow_mut().extend(b"MN\r\n"),
            }
        }
        sink.out.take()
    }

    fn send(&self, request: &Request<'_>, sink: &Rc<Screen>) {
        *sink.asked.borrow_mut() = (request.op, request.quiet);
        let before = sink.filled.get();
        self.leaf.send(request, &Call::default(), Slot::new(sink.clone(), 0));
        assert_eq!(sink.filled.get(), before + 1, "one request, one reply");
    }

    fn expect(&self, said: &str, answered: &str) {
        let answer = String::from_utf8_lossy(&self.say(said.as_bytes())).into_owned();
        assert_eq!(answer, answered, "to {said:?}");
    }
}

/// What a client sees; leaves out what `noreply` and `q` hide, as the client side does.
struct Screen {
    out: RefCell<Vec<u8>>,
    asked: RefCell<(Op, bool)>,
    filled: Cell<usize>,
}

impl Default for Screen {
    fn default() -> Self {
        Self { out: RefCell::default(), asked: RefCell::new((Op::Get, false)), filled: Cell::new(0) }
    }
}

impl Screen {
    fn show(&self, reply: &Reply<'_>) {
        let mut out = self.out.borrow_mut();
        if !reply.line.is_empty() {
            out.extend(reply.line);
            out.extend(b"\r\n");
        }
        if let Some(value) = reply.value {
            out.extend(value.to_vec());
            out.extend(b"\r\n");
        }
    }
}

impl Sink for Screen {
    fn is_waiting(&self) -> bool {
        true
    }

    fn hit(&self, _token: u64, _index: usize, reply: &Reply<'_>) {
        self.show(reply);
    }

    fn fill(&self, _token: u64, reply: &Reply<'_>) {
        self.filled.set(self.filled.get() + 1);
        let (op, quiet) = *self.asked.borrow();
        let hidden = quiet
            && match op {
                Op::MetaGet => reply.status == Status::Miss,
                Op::MetaSet => reply.status == Status::Stored,
                Op::MetaDelete => reply.status == Status::Deleted,
                Op::MetaArithmetic => reply.status == Status::Number,
                _ => true,
            };
        if hidden {
            return;
        }
        self.show(reply);
        if op.is_classic_get() {
            self.out.borrow_mut().extend(b"END\r\n");
        }
    }
}
