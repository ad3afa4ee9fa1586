//! A worker: one thread, one event loop, its own listeners, tree and connections. Nothing of it is shared.

use super::StartError;
use super::caches::Caches;
use super::collect;
use super::ends::Ends;
use super::memory;
use super::windows::Windows;
use crate::admin::{Admin, BEAT, Process, Pulse};
use crate::client;
use crate::config::{Config, Limits};
use crate::discovery::Resolver;
use crate::health::Health;
use crate::net::{Bound, Budget, Listener, ReadBlock};
use crate::stats::Counters;
use crate::upstream::{Dial, Shared};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

/// What a worker is given.
pub(super) struct Plan {
    pub(super) config: Arc<Config>,
    pub(super) counters: Arc<Counters>,
    pub(super) process: Arc<Process>,
    /// Clients of the whole process.
    pub(super) clients: Arc<AtomicUsize>,
    /// What all workers know of the servers.
    pub(super) health: Arc<Health>,
    pub(super) caches: Arc<Caches>,
    pub(super) workers: usize,
    pub(super) listeners: Vec<Listening>,
}

/// A worker's socket of one address, and what the address is called.
pub(super) type Listening = (String, Bound);

/// What a running worker can be told.
enum Order {
    Adopt(Box<Adopt>),
    /// Clients leave, within about so long.
    Drain(Duration),
}

/// Another configuration.
pub(super) struct Adopt {
    pub(super) config: Arc<Config>,
    pub(super) caches: Arc<Caches>,
    pub(super) windows: Arc<Windows>,
    /// Addresses to listen on from now on.
    pub(super) opened: Vec<Listening>,
    /// Those to listen on no longer; clients that are there stay.
    pub(super) closed: Vec<String>,
    /// Is told when it serves.
    pub(super) done: std::sync::mpsc::Sender<Result<(), String>>,
}

/// A running worker, as the main thread sees it.
pub(super) struct Worker {
    orders: mpsc::Sender<Order>,
    done: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
}

/// Orders that wait; they are carried out at once.
const ORDERS_COUNT_MAX: usize = 1;

/// Tasks that run between two looks at the sockets. More than tokio's 61, so that with many clients one turn
/// still gathers the requests of all of them into one write per server.
const TASKS_PER_TURN: u32 = 512;

impl Worker {
    /// Starts the thread; returns when it has built everything.
    pub(super) fn start(index: usize, plan: Plan) -> Result<Self, StartError> {
        let (orders, received) = mpsc::channel(ORDERS_COUNT_MAX);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let pulse = Arc::new(Pulse::default());
        let beating = Arc::clone(&pulse);
        std::thread::Builder::new()
            .name(format!("ringway-{index}"))
            .spawn(move || {
                collect::set(plan.config.settings.collect);
                let runtime = Builder::new_current_thread()
                    .enable_io()
                    .enable_time()
                    .event_interval(TASKS_PER_TURN)
                    .on_thread_park(collect::on_park)
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => runtime.block_on(serve(plan, beating, ready, received)),
                    Err(error) => drop(ready.send(Err(StartError::Worker(error)))),
                }
                is_done.store(true, Ordering::Release);
            })
            .map_err(StartError::Worker)?;
        is_ready.recv().unwrap_or_else(|_| Err(StartError::Worker(io::ErrorKind::BrokenPipe.into())))?;
        Ok(Self { orders, done, pulse })
    }

    /// Gives it another configuration. What became of it is told through `adopt.done`.
    pub(super) fn adopt(&self, adopt: Adopt) {
        // One that has ended already drops `done`, and that is told too.
        let _ = self.orders.blocking_send(Order::Adopt(Box::new(adopt)));
    }

    /// Tells it to finish within about so long.
    pub(super) fn drain(&self, time: Duration) {
        // One that has ended already needs no telling.
        let _ = self.orders.blocking_send(Order::Drain(time));
    }

    /// Its sign of life.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// The life of a worker, in its thread.
async fn serve(
    plan: Plan,
    pulse: Arc<Pulse>,
    ready: std::sync::mpsc::Sender<Result<(), StartError>>,
    mut orders: mpsc::Receiver<Order>,
) {
    let block = Rc::new(RefCell::new(ReadBlock::default()));
    let limits = plan.config.settings.limits;
    let budget = Budget::new(share_of(&limits, plan.workers), Arc::clone(&plan.counters));
    let mut ends = Ends::new(Shared {
        counters: Arc::clone(&plan.counters),
        block: Rc::clone(&block),
        dial: Dial::Net(Resolver::default()),
        health: plan.health,
        jitter_seed: RandomState::new().hash_one(0_u8),
        late_count_max: Rc::new(Cell::new(limits.late_count_max)),
        budget: Rc::clone(&budget),
    });
    let root = match ends.build(&plan.config, &plan.caches, &Windows::default()) {
        Ok(built) => built.root,
        Err(error) => return drop(ready.send(Err(StartError::Routes(error)))),
    };
    let context = client::Context::new(
        Rc::new(root),
        plan.counters,
        limits,
        block,
        Rc::new(Admin::new(plan.process)),
        plan.clients,
        Rc::clone(&budget),
    );
    let mut accepting = Accepting { context: Rc::clone(&context), tasks: HashMap::new() };
    if let Err(error) = accepting.open(plan.listeners) {
        return drop(ready.send(Err(StartError::Worker(error))));
    }
    tokio::task::spawn_local(client::sweep(Rc::clone(&context)));
    tokio::task::spawn_local(memory::give_back(Rc::clone(&context), Rc::clone(&budget)));
    tokio::task::spawn_local(beat(pulse));
    // The main thread waits for this; if it is gone, so are we.
    let _ = ready.send(Ok(()));
    let time = loop {
        let adopt = match orders.recv().await {
            Some(Order::Adopt(adopt)) => adopt,
            Some(Order::Drain(time)) => break time,
            // When the main thread is gone, that is the same as being told to finish.
            None => break Duration::ZERO,
        };
        let Adopt { config, caches, windows, opened, closed, done } = *adopt;
        let limits = config.settings.limits;
        // The old tree serves while the new one connects.
        let root = match ends.build(&config, &caches, &windows) {
            Ok(built) => Ok(built.warmed().await),
            Err(error) => Err(error),
        };
        let adopted = root.and_then(|root| {
            accepting.open(opened).map_err(|error| error.to_string())?;
            context.adopt(Rc::new(root), limits);
            Ok(())
        });
        if adopted.is_ok() {
            accepting.close(&closed);
            budget.set_bytes_max(share_of(&limits, plan.workers));
            collect::set(config.settings.collect);
        }
        // Who asked may have given up waiting.
        let _ = done.send(adopted);
    };
    drop(accepting);
    drain(&context, time).await;
}

/// Shows that the event loop turns.
async fn beat(pulse: Arc<Pulse>) {
    loop {
        pulse.beat();
        tokio::time::sleep(BEAT).await;
    }
}

/// Lets the clients go. If all went at once all would come back at once, to wherever the next proxy is: they are told little
/// by little in the first half of the time. In its last quarter nobody is waited for who always has something to ask.
async fn drain(context: &client::Context, time: Duration) {
    const TICK: Duration = Duration::from_millis(5);
    /// So few may go at once.
    const BATCH_COUNT_MIN: usize = 4;
    let began = Instant::now();
    let ticks = usize::try_from((time / 2).as_millis() / TICK.as_millis()).unwrap_or(usize::MAX);
    let batch = context.sessions_count().div_ceil(ticks.max(1)).max(BATCH_COUNT_MIN);
    let mut is_urged = false;
    loop {
        context.ask_to_leave(batch);
        if !is_urged && began.elapsed() >= time * 3 / 4 {
            is_urged = true;
            context.urge_to_leave();
        }
        // Also a client that was accepted just now and has no session yet is there after this.
        tokio::time::sleep(TICK).await;
        if context.sessions_count() == 0 {
            return;
        }
    }
}

/// A worker's share of `buffer_bytes_max`. A quarter is for what the allocator needs beside: the bound is about memory,
/// not about sums.
const fn share_of(limits: &Limits, workers: usize) -> usize {
    let share = limits.buffer_bytes_max / if workers == 0 { 1 } else { workers };
    share - share / 4
}

/// The tasks that accept clients, by address; each ends, and closes its socket, when its sender is dropped.
struct Accepting {
    context: Rc<client::Context>,
    tasks: HashMap<String, oneshot::Sender<Infallible>>,
}

impl Accepting {
    fn open(&mut self, listeners: Vec<Listening>) -> io::Result<()> {
        for (label, bound) in listeners {
            let (stop, stopped) = oneshot::channel();
            let listener = Listener::new(bound)?;
            tokio::task::spawn_local(client::accept(Rc::clone(&self.context), listener, stopped));
            self.tasks.insert(label, stop);
        }
        Ok(())
    }

    fn close(&mut self, labels: &[String]) {
        for label in labels {
            self.tasks.remove(label);
        }
    }
}
