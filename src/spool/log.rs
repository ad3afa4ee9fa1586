//! The delete log of one server as a worker has it: looks into the shared books, and hands deletes to the writer.

use super::book::{Book, Numbers};
use super::entry::Why;
use super::owed::Owed;
use super::store::Wanted;
use super::writer::{Writer, Written};
use crate::route::{DeleteLog, Mark, Taken};
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
        let Desk { writer, book, inbox, waiting, next_token } = &*self.desk;
        if self.owed.covers(key) {
            Numbers::add(&book.numbers.collapsed, 1);
            return then(Ok(()));
        }
        let wanted = Wanted { owed: Arc::clone(&self.owed), pool: Arc::clone(&self.pool), key: key.into() };
        let token = next_token.replace(next_token.get() + 1);
        match writer.take(wanted, token, inbox) {
            Ok(()) => drop(waiting.borrow_mut().insert(token, then)),
            Err(refused) => then(Err(refused)),
        }
    }
}
