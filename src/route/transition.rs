//! `transition` of a pool: for a while after its servers changed, the rings of before are remembered, so that what lies at a
//! key's former server is found, and what is written there no longer hides in it.
//!
//! Here is which keys have moved, and until when that counts. What is done with requests for them is in `moving.rs`. A key
//! whose server is the same on all rings costs one look at each of them and nothing else.

use super::busy::Busy;
use super::copy::KeepsCas;
use super::former_server::Old;
use super::moving::{Moved, Shared};
use super::window::Window;
use super::{Call, Leaf, Route, Slot};
use crate::config::Pool;
use crate::hash::{Ring, Spec};
use crate::protocol::Request;
use crate::stats::Counters;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// What the ends of the tree know of a pool's past.
pub struct Past {
    /// The oldest change first; at least one.
    pub changes: Vec<Change>,
    pub busy: Rc<Busy>,
    pub counters: Arc<Counters>,
}

/// A change, and the leaves of servers that are no longer in the pool: one for each lane, by server of the former pool.
/// Those that are still in it need none.
pub struct Change {
    pub window: Arc<Window>,
    pub gone: Vec<Vec<Rc<dyn Leaf>>>,
    /// Of the former pool.
    pub ring: Ring,
}

/// Of one pool of one worker, until all its windows have ended.
pub(super) struct Transition {
    /// The oldest first.
    formers: RefCell<Vec<Rc<Former>>>,
    is_open: Cell<bool>,
    shared: Rc<Shared>,
}

/// A ring that was.
struct Former {
    window: Arc<Window>,
    ring: Ring,
    servers: Vec<Place>,
}

/// A place on a former ring.
#[derive(Clone)]
struct Place {
    /// The server's place in the pool as it is now; `None`: it has left.
    now: Option<usize>,
    /// `None`: nobody to ask.
    old: Option<Rc<Old>>,
}

impl Transition {
    /// `leaves`: `lanes` for each server of `pool`, as it is now.
    pub(super) fn start(past: Past, pool: &Pool, leaves: &[Rc<dyn Leaf>], lanes: usize) -> Option<Rc<Self>> {
        let places: HashMap<String, usize> =
            pool.servers.iter().enumerate().map(|(i, server)| (server.label(), i)).collect();
        let mut formers = Vec::with_capacity(past.changes.len());
        for Change { window, gone, ring } in past.changes {
            let mut gone = gone.into_iter();
            let place = |(index, label): (usize, String)| {
                let gone = gone.next().unwrap_or_default();
                let now = places.get(&label).copied();
                let leaves = match now {
                    Some(now) => leaves[now * lanes..(now + 1) * lanes].to_vec(),
                    None => gone,
                };
                Place { now, old: Old::new(leaves, &window, index) }
            };
            let servers = window.former.servers.iter().map(|server| server.label()).enumerate().map(place);
            let servers = servers.collect();
            formers.push(Rc::new(Former { window, ring, servers }));
        }
        let settings = formers.last()?.window.settings;
        let pace = Arc::clone(formers.last()?.window.pace());
        let shared = Shared {
            busy: past.busy,
            counters: past.counters,
            settings,
            pace,
            keeps_cas: KeepsCas::default(),
        };
        Some(Self::of(formers, Rc::new(shared)))
    }

    fn of(formers: Vec<Rc<Former>>, shared: Rc<Shared>) -> Rc<Self> {
        let this = Rc::new(Self { formers: RefCell::new(formers), is_open: Cell::new(true), shared });
        let weak = Rc::downgrade(&this);
        tokio::task::spawn_local(async move {
            while let Some(until) = weak.upgrade().and_then(|this| this.end_those_that_are_over()) {
                tokio::time::sleep_until(until).await;
            }
        });
        this
    }

    /// The same change for keys that are placed in another way. Placements that list something for each server cannot tell
    /// where keys were when there were more of them, or fewer.
    pub(super) fn placed_by(&self, spec: &Spec) -> Option<Rc<Self>> {
        let formers = self.formers.borrow();
        let former = |former: &Rc<Former>| {
            let ring = Ring::build(spec, &former.window.former.members()).ok()?;
            let window = Arc::clone(&former.window);
            Some(Rc::new(Former { window, ring, servers: former.servers.clone() }))
        };
        let formers: Vec<_> = formers.iter().filter_map(former).collect();
        (!formers.is_empty()).then(|| Self::of(formers, Rc::clone(&self.shared)))
    }

    /// Lets go of them and of their servers; until when the others count.
    fn end_those_that_are_over(&self) -> Option<Instant> {
        let now = Instant::now();
        let over = {
            let mut formers = self.formers.borrow_mut();
            let (left, over): (Vec<_>, Vec<_>) =
                formers.drain(..).partition(|former| former.window.until > now);
            *formers = left;
            over
        };
        // Only now: a connection that ends may look at the tree.
        drop(over);
        let next = self.formers.borrow().iter().map(|former| former.window.until).min();
        self.is_open.set(next.is_some());
        next
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Whether this key, which `server` has, was another one's.
    pub(super) fn has_moved(&self, key: &[u8], server: usize) -> bool {
        self.formers.borrow().iter().any(|former| former.other_than(key, server).is_some())
    }

    /// The servers that had this key, the oldest first; empty where it has not moved.
    fn olds(&self, key: &[u8], server: usize) -> Vec<Rc<Old>> {
        let mut olds: Vec<Rc<Old>> = Vec::new();
        for former in self.formers.borrow().iter() {
            let Some(old) = former.other_than(key, server) else { continue };
            // a server of several former rings is asked once, as one of the latest
            olds.retain(|known| !known.is_same(old));
            olds.push(Rc::clone(old));
        }
        olds
    }

    /// A request for a key that has moved; `now`: where it goes since then.
    pub(super) fn send(
        &self,
        server: usize,
        now: Rc<dyn Route>,
        request: &Request<'_>,
        call: &Call,
        slot: Slot,
    ) {
        let olds = self.olds(request.key, server);
        Moved { now, olds, shared: Rc::clone(&self.shared) }.send(request, call, slot);
    }

    /// Connections to servers that have left and are still asked.
    pub(super) fn gone(&self) -> Vec<Rc<dyn Leaf>> {
        let mut gone: Vec<Rc<dyn Leaf>> = Vec::new();
        for former in self.formers.borrow().iter() {
            let left = former.servers.iter().filter(|place| place.now.is_none());
            for leaf in left.filter_map(|place| place.old.as_ref()).flat_map(|old| old.leaves()) {
                if !gone.iter().any(|known| Rc::ptr_eq(known, leaf)) {
                    gone.push(Rc::clone(leaf));
                }
            }
        }
        gone
    }

    /// Who had the key at last, where that is another one.
    pub(super) fn former_owner(&self, key: &[u8], server: usize) -> Option<Rc<dyn Leaf>> {
        self.olds(key, server).last().map(|old| Rc::clone(old.leaf(key)))
    }
}

impl Former {
    /// The key's server on this ring, if it is not the one that has the key now.
    fn other_than(&self, key: &[u8], server: usize) -> Option<&Rc<Old>> {
        let place = self.servers.get(self.ring.pick(key)?)?;
        if place.now == Some(server) { None } else { place.old.as_ref() }
    }
}
