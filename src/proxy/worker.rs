//! A worker: one thread, one event loop, its own tree and connections, and copies of its listening sockets.

use super::StartError;
use super::collect;
use super::common::Common;
use super::couriers::Couriers;
use super::ends::Ends;
use super::memory;
use crate::admin::{Admin, BEAT, Process, Pulse};
use crate::client::{self, MovesTo};
use crate::config::{Config, Limits, Settings};
use crate::health::Health;
use crate::net::{Bound, Budget, Listener, Stream};
use crate::route::Root;
use crate::spool::Spool;
use crate::stats::Counters;
use crate::upstream::{Dial, Shared};
use std::cell::Cell;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// What a worker is given.
pub(super) struct Plan {
    pub(super) config: Arc<Config>,
    pub(super) counters: Arc<Counters>,
    pub(super) process: Arc<Process>,
    /// Clients of the whole process.
    pub(super) clients: Arc<AtomicUsize>,
    /// What all workers know of the servers.
    pub(super) health: Arc<Health>,
    pub(super) common: Arc<Common>,
    pub(super) spool: Option<Arc<Spool>>,
    /// This one delivers what the spool holds, for all workers. (The first one, which stays as long as the process does.)
    pub(super) delivers: bool,
    pub(super) workers_count: usize,
    pub(super) listeners: Vec<Bound>,
}

/// What a running worker can be told.
enum Order {
    Adopt(Box<Adopt>),
    /// These are its clients, too.
    Admit(Vec<OwnedFd>),
    Leave(Leave),
}

/// How a worker ends.
enum Leave {
    /// Clients are closed, within about so long.
    Drain(Duration),
    /// Somebody else serves them.
    Move(MovesTo),
}

/// Another configuration.
pub(super) struct Adopt {
    pub(super) config: Arc<Config>,
    pub(super) common: Arc<Common>,
    pub(super) workers_count: usize,
    /// What to accept from now on, when that changes; clients that are there stay.
    pub(super) listeners: Option<Vec<Bound>>,
    /// Is told when it serves.
    pub(super) done: std::sync::mpsc::Sender<Result<(), String>>,
}

/// A running worker, as the main thread sees it.
pub(super) struct Worker {
    orders: mpsc::Sender<Order>,
    /// Dropped when it has left long enough.
    stays: Option<oneshot::Sender<Infallible>>,
    done: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    counters: Arc<Counters>,
}

/// Orders that wait; they are carried out at once, so that only clients of a worker that leaves can come faster.
const ORDERS_COUNT_MAX: usize = 16;

/// Tasks that run between two looks at the sockets. More than tokio's 61, so that with many clients one turn
/// still gathers the requests of all of them into one write per server.
const TASKS_PER_TURN: u32 = 512;

impl Worker {
    /// Starts the thread; returns when it has built everything.
    pub(super) fn start(index: usize, plan: Plan) -> Result<Self, StartError> {
        let (orders, received) = mpsc::channel(ORDERS_COUNT_MAX);
        let (stays, is_over) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let pulse = Arc::new(Pulse::default());
        let beating = Arc::clone(&pulse);
        let plan = Plan { delivers: index == 0, ..plan };
        let counters = Arc::clone(&plan.counters);
        let counts = Arc::clone(&counters);
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
                    Ok(runtime) => runtime.block_on(serve(plan, beating, ready, received, is_over)),
                    Err(error) => drop(ready.send(Err(StartError::Worker(error)))),
                }
                // What a server never answered ends here uncounted, and somebody else goes on counting where this worker did.
                counts.clear_gauges();
                is_done.store(true, Ordering::Release);
            })
            .map_err(StartError::Worker)?;
        is_ready.recv().unwrap_or_else(|_| Err(StartError::Worker(io::ErrorKind::BrokenPipe.into())))?;
        Ok(Self { orders, stays: Some(stays), done, pulse, counters })
    }

    /// Gives it another configuration. What became of it is told through `adopt.done`.
    pub(super) fn adopt(&self, adopt: Adopt) {
        // One that has ended already drops `done`, and that is told too.
        let _ = self.orders.blocking_send(Order::Adopt(Box::new(adopt)));
    }

    /// Gives it clients that are connected already.
    pub(super) fn admit(&self, clients: Vec<OwnedFd>) {
        // One that leaves closes them, as its own.
        let _ = self.orders.blocking_send(Order::Admit(clients));
    }

    /// Tells it to finish within about so long.
    pub(super) fn drain(&self, time: Duration) {
        // One that has ended already needs no telling.
        let _ = self.orders.blocking_send(Order::Leave(Leave::Drain(time)));
    }

    /// Tells it to finish when all its clients have moved there, each between two requests.
    pub(super) fn move_clients(&self, to: MovesTo) {
        let _ = self.orders.blocking_send(Order::Leave(Leave::Move(to)));
    }

    /// Tells one that leaves to end at once. What it was answered for and no server has answered is kept, if there is a spool.
    pub(super) fn end_now(&mut self) {
        self.stays = None;
    }

    /// Its sign of life.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// What it counts in. When it is done, another one may go on there.
    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
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
    mut is_over: oneshot::Receiver<Infallible>,
) {
    let limits = plan.config.settings.limits;
    let budget = Budget::new(share_of(&limits, plan.workers_count), Arc::clone(&plan.counters));
    let shared = shared(&plan, &budget);
    let mut ends = Ends::new(shared.clone(), plan.spool.as_ref().map(Spool::desk));
    let root = match ends.build(&plan.config, &plan.common) {
        Ok(built) => built.root,
        Err(error) => return drop(ready.send(Err(StartError::Routes(error)))),
    };
    let couriers = |config: &Arc<Config>, common: &Arc<Common>| {
        Rc::new(Couriers::new(Arc::clone(config), Arc::clone(common), shared.clone()))
    };
    let spool = plan.spool.filter(|_| plan.delivers);
    let replay = spool.map(|spool| spool.replay(couriers(&plan.config, &plan.common)));
    let context = client::Context::new(
        Rc::new(root),
        Arc::clone(&plan.counters),
        &plan.config.settings,
        Rc::clone(&shared.block),
        Rc::new(Admin::new(plan.process)),
        plan.clients,
        Rc::clone(&budget),
        Rc::clone(&shared.first_replies),
    );
    let mut accepting = Accepting { context: Rc::clone(&context), tasks: Vec::new() };
    if let Err(error) = accepting.open(plan.listeners) {
        return drop(ready.send(Err(StartError::Worker(error))));
    }
    let chores = [
        tokio::task::spawn_local(client::sweep(Rc::clone(&context))),
        tokio::task::spawn_local(memory::give_back(Rc::clone(&context), Rc::clone(&budget))),
    ];
    tokio::task::spawn_local(beat(pulse));
    // The main thread waits for this; if it is gone, so are we.
    let _ = ready.send(Ok(()));
    let leave = loop {
        let adopt = match orders.recv().await {
            Some(Order::Adopt(adopt)) => adopt,
            Some(Order::Admit(clients)) => {
                admit(&context, clients);
                continue;
            }
            Some(Order::Leave(leave)) => break leave,
            // When the main thread is gone, that is the same as being told to finish.
            None => break Leave::Drain(Duration::ZERO),
        };
        let Adopt { config, common, workers_count, listeners, done } = *adopt;
        let limits = config.settings.limits;
        // The old tree serves while the new one connects.
        let built = match ends.build(&config, &common) {
            Ok(built) => Ok(built.warmed().await),
            Err(error) => Err(error),
        };
        let adopted = built.and_then(|(root, before)| {
            accepting.take(Rc::new(root), &config.settings, listeners)?;
            tokio::task::spawn_local(before.let_go());
            Ok(())
        });
        if adopted.is_ok() {
            budget.set_bytes_max(share_of(&limits, workers_count));
            collect::set(config.settings.collect);
            if let Some(replay) = &replay {
                replay.adopt(couriers(&config, &common));
            }
        }
        // Who asked may have given up waiting.
        let _ = done.send(adopted);
    };
    drop(accepting);
    drop(orders); // nobody waits for one that is carried out no more
    // Who is still there when the time is over ends with the runtime.
    let left = tokio::select! { left = leave_clients(leave, &context, chores) => Some(left), _ = &mut is_over => None };
    if let Some(replay) = replay {
        replay.end();
    }
    drop((context, ends));
    let Some(time_left) = left else { return };
    tokio::select! { () = part_from_servers(&plan.counters, time_left) => {}, _ = is_over => {} }
}

/// What connections to servers are made with.
fn shared(plan: &Plan, budget: &Rc<Budget>) -> Shared {
    Shared {
        counters: Arc::clone(&plan.counters),
        block: Rc::default(),
        dial: Dial::Net,
        health: Arc::clone(&plan.health),
        jitter_seed: RandomState::new().hash_one(0_u8),
        late_count_max: Rc::new(Cell::new(plan.config.settings.limits.late_count_max)),
        bulk_bytes_max: Rc::new(Cell::new(plan.config.settings.limits.bulk_bytes_max)),
        budget: Rc::clone(budget),
        first_replies: Rc::default(),
    }
}

/// Until no client is left. Returns how long servers may take after that.
async fn leave_clients(leave: Leave, context: &client::Context, chores: [JoinHandle<()>; 2]) -> Duration {
    let time_left = match leave {
        Leave::Drain(time) => {
            let began = Instant::now();
            drain(context, time).await;
            time.saturating_sub(began.elapsed())
        }
        Leave::Move(to) => {
            move_clients(context, to).await;
            Duration::MAX
        }
    };
    for chore in chores {
        chore.abort();
        let _ = chore.await; // ended, by that or before
    }
    time_left
}

/// With its tree a worker's connections end, when all that waits on them is answered, or has failed: clients may have been
/// answered before that by a route, and a delete that fails now is still kept. So are those that are left when the connections end.
async fn part_from_servers(counters: &Counters, time_left: Duration) {
    /// A shadow's server that is too slow is not waited for.
    const TIME_MAX: Duration = Duration::from_secs(5);
    let (began, time_max) = (Instant::now(), time_left.min(TIME_MAX));
    let is_left = || counters.server_connections.value() + counters.server_outstanding.value() > 0;
    while is_left() && began.elapsed() < time_max {
        tokio::time::sleep(TICK).await;
    }
}

/// Clients that were connected elsewhere.
fn admit(context: &Rc<client::Context>, clients: Vec<OwnedFd>) {
    for client in clients {
        match Stream::from_descriptor(client) {
            Ok(stream) => client::admit_moved(context, stream),
            Err(error) => tracing::warn!("a client that has moved cannot be served: {error}"),
        }
    }
}

/// Shows that the event loop turns.
async fn beat(pulse: Arc<Pulse>) {
    loop {
        pulse.beat();
        tokio::time::sleep(BEAT).await;
    }
}

/// Between two looks at who is still there.
const TICK: Duration = Duration::from_millis(5);

/// Has the clients served by somebody else. None of them notices, so there is no reason to hesitate.
async fn move_clients(context: &client::Context, to: MovesTo) {
    context.move_clients_to(to);
    loop {
        context.urge_to_leave();
        // Also a client that was accepted just now and has no session yet is there after this.
        tokio::time::sleep(TICK).await;
        if context.sessions_count() == 0 {
            return;
        }
    }
}

/// Lets the clients go. If all went at once all would come back at once, to wherever the next proxy is: they are told little
/// by little in the first half of the time. In its last quarter nobody is waited for who always has something to ask.
async fn drain(context: &client::Context, time: Duration) {
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

/// A worker's share of `buffer_bytes_max`. A third is for what the allocator needs beside: the bound is about memory,
/// not about sums.
const fn share_of(limits: &Limits, workers: usize) -> usize {
    let share = limits.buffer_bytes_max / if workers == 0 { 1 } else { workers };
    share - share / 3
}

/// The tasks that accept clients; each ends, and closes its socket, when its sender is dropped.
struct Accepting {
    context: Rc<client::Context>,
    tasks: Vec<oneshot::Sender<Infallible>>,
}

impl Accepting {
    /// Accepts from these sockets, and from no others any more.
    fn open(&mut self, listeners: Vec<Bound>) -> io::Result<()> {
        let listeners = listeners.into_iter().map(Listener::new).collect::<io::Result<Vec<_>>>()?;
        let start = |listener| {
            let (stop, stopped) = oneshot::channel();
            tokio::task::spawn_local(client::accept(Rc::clone(&self.context), listener, stopped));
            stop
        };
        self.tasks = listeners.into_iter().map(start).collect();
        Ok(())
    }

    /// Another tree, and other sockets where there are others.
    fn take(
        &mut self,
        root: Rc<Root>,
        settings: &Settings,
        listeners: Option<Vec<Bound>>,
    ) -> Result<(), String> {
        if let Some(listeners) = listeners {
            self.open(listeners).map_err(|error| error.to_string())?;
        }
        self.context.adopt(root, settings);
        Ok(())
    }
}
