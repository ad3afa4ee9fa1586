//! A worker's room for clients inside this process: sessions and servers over pipes, and a clock that the test moves.
//!
//! No socket, no thread, no clock of the machine: who holds the other ends chooses every byte and every moment, and the
//! same choices bring the same run again. The runtime, the sessions and the connections are the real ones.

use ringway::admin::{Admin, Current, Process};
use ringway::cache::{Cache, CacheLeaf};
use ringway::client::{self, Context};
use ringway::config::{Config, OnError, Pool, Settings};
use ringway::hash::{Member, Placement, Ring, Spec};
use ringway::health::Health;
use ringway::net::{Budget, ReadBlock};
use ringway::route::{self, Leaf, Leaves, PoolRoute, Root};
use ringway::stats::{Counters, Stats};
use ringway::time::Clock;
use ringway::upstream::{Destination, Dial, Shared};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context as Cx, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::runtime::{Builder, LocalOptions};

/// As in a worker.
const TASKS_PER_TURN: u32 = 512;
/// What the clocks of embedded caches show.
const UNIX_SECONDS: u32 = 1_800_000_000;
const EMBEDDED_SHARDS: usize = 2;
const EMBEDDED_BYTES: usize = 8 << 20;

thread_local! {
    /// Who waits until there is nothing left to do.
    static AWAITS_PARK: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static PARKS: Cell<u64> = const { Cell::new(0) };
}

/// Runs this where time stands still but for `tokio::time::advance`.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .event_interval(TASKS_PER_TURN)
        .on_thread_park(|| {
            client::on_park();
            PARKS.set(PARKS.get() + 1);
            if let Some(waker) = AWAITS_PARK.take() {
                waker.wake();
            }
        })
        .build_local(LocalOptions::default())
        .expect("a runtime without a driver for sockets");
    runtime.block_on(tokio::task::unconstrained(work))
}

/// Those that a configuration names.
struct Servers<'a> {
    shared: &'a Shared,
}

impl Leaves for Servers<'_> {
    fn of_pool(&self, pool: &Pool) -> (Vec<Rc<dyn Leaf>>, usize) {
        let leaves = |server| Destination::of_server(pool, server, self.shared);
        (pool.servers.iter().flat_map(leaves).collect(), pool.connections_count)
    }
}

/// A worker's sessions over its tree.
pub(crate) struct Room {
    pub(crate) context: Rc<Context>,
    pub(crate) counters: Arc<Counters>,
    /// Clients that were admitted.
    pub(crate) clients: Arc<AtomicUsize>,
    /// What all buffers hold.
    pub(crate) budget: Rc<Budget>,
}

impl Room {
    /// Over an empty embedded cache.
    pub(crate) fn embedded(settings: &Settings) -> Self {
        let member = |i| Member { host: format!("embedded-{i}"), port: None, name: None, weight: 1 };
        let members: Vec<Member> = (0..EMBEDDED_SHARDS).map(member).collect();
        let leaf = |_| {
            let cache = Arc::new(Cache::new(EMBEDDED_BYTES, 1 << 20));
            let clock = Clock::Manual(Rc::new(Cell::new(UNIX_SECONDS)));
            Rc::new(CacheLeaf::new(cache, "embedded".into(), clock)) as Rc<dyn Leaf>
        };
        let nobody = Dial::Memory(Rc::new(|_| Err(io::ErrorKind::ConnectionRefused.into())));
        // The same to the embedded cache, and built at once: many rooms last for one request.
        let spec = Spec { placement: Placement::Modula, ..Spec::default() };
        Self::new(settings, nobody, |_| {
            let ring = Ring::build(&spec, &members).expect("a plain spec builds");
            let leaves = (0..EMBEDDED_SHARDS).map(leaf).collect();
            Root::of_pool(PoolRoute::new("main".into(), ring, leaves, 1, OnError::Error))
        })
    }

    /// Over the servers of this pool, which `dial` reaches.
    pub(crate) fn before(settings: &Settings, pool: &Pool, dial: Dial) -> Self {
        Self::new(settings, dial, |shared| {
            let ring = Ring::build(&pool.hash, &pool.members()).expect("a plain spec builds");
            let (leaves, lanes) = Servers { shared }.of_pool(pool);
            Root::of_pool(PoolRoute::new("main".into(), ring, leaves, lanes, pool.on_error))
        })
    }

    /// Over the routes of this configuration, whose servers `dial` reaches.
    pub(crate) fn routed(config: &Config, dial: Dial) -> Self {
        Self::new(&config.settings, dial, |shared| {
            route::build(config, &Servers { shared }).expect("a good configuration")
        })
    }

    fn new(settings: &Settings, dial: Dial, root: impl FnOnce(&Shared) -> Root) -> Self {
        let stats = Stats::new(1);
        let (counters, block) = (stats.of(0), Rc::new(RefCell::new(ReadBlock::default())));
        let budget = Budget::new(settings.limits.buffer_bytes_max, Arc::clone(&counters));
        let health = Arc::<Health>::default();
        let shared = Shared {
            counters: Arc::clone(&counters),
            block: Rc::clone(&block),
            dial,
            health: Arc::clone(&health),
            jitter_seed: 0,
            late_count_max: Rc::new(Cell::new(settings.limits.late_count_max)),
            bulk_bytes_max: Rc::new(Cell::new(settings.limits.bulk_bytes_max)),
            budget: Rc::clone(&budget),
            first_replies: Rc::default(),
        };
        let root = root(&shared);
        let current = Current { settings: settings.clone(), ..Current::default() };
        let process = Process::new(current, stats, health);
        let clients = Arc::new(AtomicUsize::new(0));
        let context = Context::new(
            Rc::new(root),
            Arc::clone(&counters),
            settings,
            block,
            Rc::new(Admin::new(Arc::new(process))),
            Arc::clone(&clients),
            Rc::clone(&budget),
            shared.first_replies,
        );
        Self { context, counters, clients, budget }
    }

    /// A client connects; this is its end. No more than `capacity` bytes are under way in each direction.
    pub(crate) fn connect(&self, capacity: usize) -> Pipe {
        let (near, far) = duplex(capacity);
        client::admit(&self.context, far.into());
        Pipe(near)
    }

    /// Until nothing more happens unless somebody sends, receives or moves the clock.
    pub(crate) async fn settle(&self) {
        loop {
            let before = self.activity();
            parked().await;
            if self.activity() == before {
                return;
            }
        }
    }

    /// Changes with everything that sessions and connections do to their sockets.
    fn activity(&self) -> u64 {
        let c = &self.counters;
        [
            &c.bytes_read,
            &c.bytes_written,
            &c.server_bytes_read,
            &c.server_bytes_written,
            &c.server_connects,
            &c.server_connect_errors,
            &c.server_probes,
            &c.server_closed,
        ]
        .iter()
        .fold(0, |sum, counter| sum.wrapping_add(counter.value()))
    }
}

/// Until every task that could run has run.
async fn parked() {
    // Behind the first one timers fire, the second wakes whoever was answered in part, the third finds what came of it.
    let until = PARKS.get() + 3;
    poll_fn(|cx| {
        if PARKS.get() >= until {
            return Poll::Ready(());
        }
        AWAITS_PARK.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// One end of a connection; the other is held by the program.
pub(crate) struct Pipe(DuplexStream);

impl Pipe {
    /// Two ends, one of them for the program.
    pub(crate) fn pair(capacity: usize) -> (Self, DuplexStream) {
        let (near, far) = duplex(capacity);
        (Self(near), far)
    }

    /// Sends as much of this as there is room for; `None` when the program has closed.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Option<usize> {
        match Pin::new(&mut self.0).poll_write(&mut Cx::from_waker(Waker::noop()), bytes) {
            Poll::Ready(Ok(count)) => Some(count),
            Poll::Ready(Err(_)) => None,
            Poll::Pending => Some(0),
        }
    }

    /// Receives what is there, but no more than so many bytes. False at the end of the stream.
    pub(crate) fn receive(&mut self, bytes_max: usize, into: &mut Vec<u8>) -> bool {
        let mut piece = [0; 4096];
        let mut left = bytes_max;
        while left > 0 {
            let room = left.min(piece.len());
            let mut buf = ReadBuf::new(&mut piece[..room]);
            match Pin::new(&mut self.0).poll_read(&mut Cx::from_waker(Waker::noop()), &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    left -= buf.filled().len();
                    into.extend_from_slice(buf.filled());
                }
                Poll::Ready(_) => return false,
                Poll::Pending => break,
            }
        }
        true
    }

    /// Whether the program has closed its end.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.send(&[]).is_none()
    }

    /// Says that no more will be sent.
    pub(crate) fn finish(&mut self) {
        // In memory it is done at once.
        let _ = Pin::new(&mut self.0).poll_shutdown(&mut Cx::from_waker(Waker::noop()));
    }
}
