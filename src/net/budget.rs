//! The one bound on what all buffers of a worker hold, whoever fills them: clients and servers alike.
//!
//! Whoever holds bytes says how many. Whoever is about to hold many more asks for room first; when there is none, the
//! clients that hold the most and take nothing have to go, and only when that is not enough is the one refused who asked.

use crate::stats::Counters;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One per worker.
pub struct Budget {
    bytes_max: Cell<usize>,
    held: Cell<usize>,
    /// The most that was held since this was last forgotten.
    highest: Cell<usize>,
    counters: Arc<Counters>,
    /// Closes clients until there is room, if that can be.
    relief: RefCell<Option<Relief>>,
    /// Set while relief does not help: until then it is not tried again.
    hopeless_until: Cell<Option<Instant>>,
}

/// Is given the bytes that shall be freed.
type Relief = Rc<dyn Fn(usize)>;

/// So long relief is not tried again when it did not help: it looks at every client.
const HOPELESS_PAUSE: Duration = Duration::from_millis(20);

impl Budget {
    #[must_use]
    pub fn new(bytes_max: usize, counters: Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            bytes_max: Cell::new(bytes_max.max(1)),
            held: Cell::new(0),
            highest: Cell::new(0),
            counters,
            relief: RefCell::new(None),
            hopeless_until: Cell::new(None),
        })
    }

    /// A new bound; what is held beyond it has to go when the next one asks.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.set(bytes_max.max(1));
    }

    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max.get()
    }

    /// What is done for room.
    pub fn on_short(&self, relief: impl Fn(usize) + 'static) {
        *self.relief.borrow_mut() = Some(Rc::new(relief));
    }

    /// Somebody who held `before` bytes holds `now`.
    pub fn change(&self, before: usize, now: usize) {
        if now == before {
            return;
        }
        debug_assert!(self.held.get() >= before, "more is given back than was held");
        self.held.set((self.held.get() + now).saturating_sub(before));
        match now.checked_sub(before) {
            Some(more) => {
                self.highest.set(self.highest.get().max(self.held.get()));
                self.counters.buffer_bytes.add(more as u64);
            }
            None => self.counters.buffer_bytes.sub((before - now) as u64),
        }
    }

    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.get()
    }

    /// The most that was held at a time.
    #[must_use]
    pub fn highest_bytes(&self) -> usize {
        self.highest.get()
    }

    /// The highest is what is held now.
    pub fn forget_highest(&self) {
        self.highest.set(self.held.get());
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        self.held.get() > self.bytes_max.get()
    }

    /// Whether the bound is kept, if need be after clients were closed. Nothing of a session may be borrowed.
    #[must_use]
    #[inline]
    pub fn make_room(&self) -> bool {
        !self.is_over() || self.relieve()
    }

    /// The same for what takes little: it need not suffer at once for what others hold.
    #[must_use]
    #[inline]
    pub fn make_little_room(&self) -> bool {
        let bytes_max = self.bytes_max.get();
        self.held.get() <= bytes_max + bytes_max / 8 || self.make_room()
    }

    fn relieve(&self) -> bool {
        let now = Instant::now();
        if self.hopeless_until.get().is_some_and(|until| now < until) {
            return false;
        }
        let relief = self.relief.borrow().clone();
        if let Some(relief) = relief {
            // An eighth at once, so that the next one who asks need not look at all clients again.
            let bytes_max = self.bytes_max.get();
            relief(self.held.get() - (bytes_max - bytes_max / 8));
        }
        let is_relieved = !self.is_over();
        self.hopeless_until.set((!is_relieved).then_some(now + HOPELESS_PAUSE));
        is_relieved
    }
}
