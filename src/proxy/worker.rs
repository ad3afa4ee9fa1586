//! A worker: one thread, one event loop, its own listeners, tree and connections. Nothing of it is shared.

use super::StartError;
use super::collect::Collector;
use super::memory;
use crate::admin::{Admin, Process};
use crate::cache::{Cache, CacheLeaf};
use crate::client;
use crate::config::{Config, Endpoint, Pool};
use crate::discovery::Resolver;
use crate::health::Health;
use crate::net::{Bound, Budget, Listener, ReadBlock};
use crate::route::{self, Leaf, Leaves, Root};
use crate::stats::Counters;
use crate::time::Clock;
use crate::upstream::{Destination, Dial, Shared};
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;

/// What a worker is given.
pub(super) struct Plan {
    pub(super) config: Arc<Config>,
    pub(super) counters: Arc<Counters>,
    pub(super) process: Arc<Process>,
    /// Clients of the whole process.
    pub(super) clients: Arc<AtomicUsize>,
    /// What all workers know of the servers.
    pub(super) health: Arc<Health>,
    /// By pool and server.
    pub(super) caches: Vec<Vec<Option<Arc<Cache>>>>,
    pub(super) workers: usize,
    pub(super) listeners: Vec<Bound>,
}

/// A running worker, as the main thread sees it.
pub(super) struct Worker {
    drain: std::sync::Mutex<Option<oneshot::Sender<()>>>,
    done: Arc<AtomicBool>,
}

/// Tasks that run between two looks at the sockets. More than tokio's 61, so that with many clients one turn
/// still gathers the requests of all of them into one write per server.
const TASKS_PER_TURN: u32 = 512;

impl Worker {
    /// Starts the thread; returns when it has built everything.
    pub(super) fn start(index: usize, plan: Plan) -> Result<Self, StartError> {
        let (drain, drained) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        std::thread::Builder::new()
            .name(format!("ringway-{index}"))
            .spawn(move || {
                let collector = Collector::new(plan.config.settings.collect);
                let runtime = Builder::new_current_thread()
                    .enable_io()
                    .enable_time()
                    .event_interval(TASKS_PER_TURN)
                    .on_thread_park(move || collector.on_park())
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => runtime.block_on(serve(plan, ready, drained)),
                    Err(error) => drop(ready.send(Err(StartError::Worker(error)))),
                }
                is_done.store(true, Ordering::Release);
            })
            .map_err(StartError::Worker)?;
        is_ready.recv().unwrap_or_else(|_| Err(StartError::Worker(io::ErrorKind::BrokenPipe.into())))?;
        Ok(Self { drain: std::sync::Mutex::new(Some(drain)), done })
    }

    /// Tells it to finish.
    pub(super) fn drain(&self) {
        let mut drain = self.drain.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(drain) = drain.take() {
            // One that has ended already needs no telling.
            let _ = drain.send(());
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// The life of a worker, in its thread.
async fn serve(
    mut plan: Plan,
    ready: std::sync::mpsc::Sender<Result<(), StartError>>,
    drained: oneshot::Receiver<()>,
) {
    let block = Rc::new(RefCell::new(ReadBlock::default()));
    // The sockets move into the accepting tasks, so that they close when those end.
    let bound = std::mem::take(&mut plan.listeners);
    let share = plan.config.settings.limits.buffer_bytes_max / plan.workers.max(1);
    // A quarter is for what the allocator needs beside: the bound is about memory, not about sums.
    let budget = Budget::new(share - share / 4, Arc::clone(&plan.counters));
    let (root, listeners) = match build(&plan, bound, &block, &budget) {
        Ok(built) => built,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let context = client::Context::new(
        Rc::new(root),
        plan.counters,
        plan.config.settings.limits.clone(),
        block,
        Rc::new(Admin::new(plan.process)),
        plan.clients,
        Rc::clone(&budget),
    );
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::task::spawn_local(client::accept(Rc::clone(&context), listener)))
        .collect();
    tokio::task::spawn_local(client::sweep(Rc::clone(&context)));
    tokio::task::spawn_local(memory::give_back(Rc::clone(&context), budget));
    // The main thread waits for this; if it is gone, so are we.
    let _ = ready.send(Ok(()));
    // An error means that the main thread is gone: the same as being told.
    let _ = drained.await;
    for task in accepting {
        task.abort();
    }
    context.drain();
    while context.sessions_count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// The tree and the listeners.
fn build(
    plan: &Plan,
    bound: Vec<Bound>,
    block: &Rc<RefCell<ReadBlock>>,
    budget: &Rc<Budget>,
) -> Result<(Root, Vec<Listener>), StartError> {
    let shared = Shared {
        counters: Arc::clone(&plan.counters),
        block: Rc::clone(block),
        dial: Dial::Net(Resolver::default()),
        health: Arc::clone(&plan.health),
        jitter_seed: RandomState::new().hash_one(0_u8),
        late_count_max: plan.config.settings.limits.late_count_max,
        budget: Rc::clone(budget),
    };
    let leaves = Destinations { plan, shared };
    let root = route::build(&plan.config, &leaves).map_err(StartError::Routes)?;
    let listeners: io::Result<Vec<_>> = bound.into_iter().map(Listener::new).collect();
    Ok((root, listeners.map_err(StartError::Worker)?))
}

/// The ends of this worker's tree: connections to servers, and the shards of embedded caches.
struct Destinations<'a> {
    plan: &'a Plan,
    shared: Shared,
}

impl Leaves for Destinations<'_> {
    fn of_pool(&self, pool: &Pool) -> (Vec<Rc<dyn Leaf>>, usize) {
        let embedded = pool.servers.iter().any(|s| matches!(s.endpoint, Endpoint::Embedded(_)));
        let lanes = if embedded { 1 } else { pool.connections_count.max(1) };
        let of_pool = self.plan.config.pools.iter().position(|known| known.name == pool.name);
        let caches = of_pool.and_then(|index| self.plan.caches.get(index));
        let mut leaves: Vec<Rc<dyn Leaf>> = Vec::with_capacity(pool.servers.len() * lanes);
        for (i, server) in pool.servers.iter().enumerate() {
            match caches.and_then(|caches| caches.get(i)?.as_ref()) {
                Some(cache) => {
                    leaves.push(Rc::new(CacheLeaf::new(Arc::clone(cache), server.label(), Clock::System)))
                }
                None => leaves.extend(Destination::of_server(pool, server, &self.shared)),
            }
        }
        (leaves, lanes)
    }
}
