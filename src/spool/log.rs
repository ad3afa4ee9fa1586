//! The delete log of one server as a worker has it: looks into the shared books, and hands deletes to the writer. Those for the
//! feed go the same way.

use super::book::{Book, Numbers};
use super::entry::Why;
use super::feed;
use super::owed::Owed;
use super::store::Wanted;
use super::writer::{Writer, Written};
use crate::route::{DeleteLog, Feed, Mark, Refused, Taken};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a worker shares among the logs of its servers.
pub(super) struct Desk {
    writer: Writer,
    book: Arc<Book>,
    inbox: UnboundedSender<Written>,
    /// Who waits for a delete to be written.
    waiting: RefCell<HashMap<u64, Taken>>,
    next_token: Cell<u64>,
}

impl Desk {
    /// For the worker that this is called in: its own event loop answers those that wait.
    pub(super) fn new(writer: Writer, book: Arc<Book>) -> Rc<Self> {
        let (inbox, written) = unbounded_channel();
        let waiting = RefCell::default();
        let desk = Rc::new(Self { writer, book, inbox, waiting, next_token: Cell::new(0) });
        tokio::task::spawn_local(answer(Rc::clone(&desk), written));
        desk
    }

    pub(super) fn log(self: &Rc<Self>, address: &str, pool: &str) -> Log {
        Log { owed: self.book.server(address), pool: pool.into(), desk: Rc::clone(self) }
    }

    pub(super) fn feed(self: &Rc<Self>, writer: feed::Writer) -> ToFeed {
        ToFeed { writer, desk: Rc::clone(self) }
    }

    /// Gives something to a writer under a token; `then` hears what became of it.
    fn give(&self, then: Taken, give: impl FnOnce(u64, &UnboundedSender<Written>) -> Result<(), Refused>) {
        let token = self.next_token.replace(self.next_token.get() + 1);
        match give(token, &self.inbox) {
            Ok(()) => drop(self.waiting.borrow_mut().insert(token, then)),
            Err(refused) => then(Err(refused)),
        }
    }
}

/// Tells those that wait. What is sent here is bounded by what the writer takes.
async fn answer(desk: Rc<Desk>, mut written: UnboundedReceiver<Written>) {
    while let Some((token, result)) = written.recv().await {
        let then = desk.waiting.borrow_mut().remove(&token);
        if let Some(then) = then {
            then(result);
        }
    }
}

/// Of one server of one pool.
pub(super) struct Log {
    owed: Arc<Owed>,
    pool: Arc<str>,
    desk: Rc<Desk>,
}

impl DeleteLog for Log {
    #[inline]
    fn is_empty(&self) -> bool {
        self.owed.count() == 0
    }

    fn mark(&self, key: &[u8]) -> Option<Mark> {
        self.owed.mark(key)
    }

    fn cancel(&self, key: &[u8], mark: Mark) {
        if self.owed.remove(self.owed.hash(key), mark.number) {
            self.desk.writer.done(Why::Cancelled, vec![mark.number]);
        }
    }

    fn take(&self, key: &[u8], then: Taken) {
        if self.owed.covers(key) {
            Numbers::add(&self.desk.book.numbers.collapsed, 1);
            return then(Ok(()));
        }
        let wanted = Wanted { owed: Arc::clone(&self.owed), pool: Arc::clone(&self.pool), key: key.into() };
        self.desk.give(then, |token, inbox| self.desk.writer.take(wanted, token, inbox));
    }
}

/// What was acknowledged, on its way to the feed.
pub(super) struct ToFeed {
    writer: feed::Writer,
    desk: Rc<Desk>,
}

impl Feed for ToFeed {
    fn tell(&self, key: &[u8], then: Taken) {
        self.desk.give(then, |token, inbox| self.writer.tell(key, token, inbox));
    }
}
