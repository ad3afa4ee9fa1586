//! ringway before real servers, watched from outside: what it holds, and whether it gives it back.

use super::good::Good;
use crate::support::{Memcached, PATIENCE, Proxy};
use crate::watch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The bound of all buffers, small enough to be seen.
const BUFFER_BYTES_MAX: u64 = 64 << 20;
/// What the process may take beyond its start, its buffers and its clients.
const RSS_SLACK_BYTES: u64 = 16 << 20;
/// What a client may take that is just there.
pub(crate) const CLIENT_BYTES: u64 = 4 << 10;
/// What the allocator may keep besides a tenth.
const BACK_SLACK_BYTES: u64 = 4 << 20;
/// Clients, and keys, that come to each of the two workers, and servers, but for one time in thousands.
const ENOUGH_FOR_ALL_WORKERS: usize = 16;
const ENOUGH_FOR_ALL_SERVERS: usize = 16;
const COOL_DOWN_MAX: Duration = Duration::from_secs(3);
/// Large values that are there to be asked for, `big0` and on.
pub(crate) const BIGS: usize = 8;
pub(crate) const BIG_BYTES: usize = 1_000_000;

/// The way of a request: the pool is all there is.
pub(crate) const DIRECT: &str = "main";
/// A route that looks at each reply, and never asks a second time.
pub(crate) const ROUTED: &str = "{type: failover, children: [main, main], failover_errors: []}";

pub(crate) struct Arena {
    pub(crate) proxy: Proxy,
    servers: Vec<Memcached>,
    rss_bytes_max: Arc<AtomicU64>,
    stops: Arc<AtomicBool>,
    /// With nobody but the good clients.
    pub(crate) quiet_rss_bytes: u64,
    quiet_files: usize,
}

impl Arena {
    pub(crate) fn start(route: &str) -> Self {
        let servers: Vec<Memcached> = (0..2).map(|_| Memcached::start_with(&["-m", "256"])).collect();
        // The queue of a server is shared by all clients: it is long here, because whoever finds it full is refused,
        // and rightly so. A server that others keep busy is slow for everybody, and must not be too late for anybody.
        let mut yaml = format!(
            "workers: 2\nlimits: {{buffer_bytes_max: {BUFFER_BYTES_MAX}}}\n\
             pools:\n  main:\n    timeout: 25s\n    outstanding_max: 65536\n    servers:\n"
        );
        for server in &servers {
            yaml += &format!("      - \"{}\"\n", server.address());
        }
        let proxy = Proxy::with(&format!("{yaml}route: {route}\n"));
        // Every worker has its connections from the beginning: what comes later is somebody else's.
        let mut clients: Vec<_> = (0..ENOUGH_FOR_ALL_WORKERS).map(|_| proxy.client()).collect();
        for number in 0..ENOUGH_FOR_ALL_SERVERS {
            clients.iter_mut().for_each(|client| client.ask(format!("get quiet{number}\r\n"), "END\r\n"));
        }
        let (pid, rss_bytes_max) = (proxy.pid(), Arc::new(AtomicU64::new(0)));
        let stops = Arc::new(AtomicBool::new(false));
        let (highest, over) = (Arc::clone(&rss_bytes_max), Arc::clone(&stops));
        std::thread::spawn(move || {
            while !over.load(Relaxed) {
                highest.fetch_max(watch::rss_bytes(pid), Relaxed);
                watch::pass(Duration::from_millis(10)); // one look at memory in a while
            }
        });
        Self { proxy, servers, rss_bytes_max, stops, quiet_rss_bytes: 0, quiet_files: 0 }
    }

    /// Puts the large values there (again): what clients set meanwhile may have pushed them out.
    pub(crate) fn fill(&self) {
        let mut client = self.proxy.client();
        for number in 0..BIGS {
            client.send(format!("set big{number} 0 0 {BIG_BYTES}\r\n{}\r\n", "b".repeat(BIG_BYTES)));
            client.expect("STORED\r\n");
        }
    }

    /// This is how it is when nobody does harm.
    pub(crate) fn note_quiet(&mut self) {
        self.quiet_rss_bytes = watch::rss_bytes(self.proxy.pid());
        self.quiet_files = watch::files(self.proxy.pid());
    }

    /// The highest since it was last asked.
    pub(crate) fn take_rss_bytes_max(&self) -> u64 {
        self.rss_bytes_max.swap(0, Relaxed).max(watch::rss_bytes(self.proxy.pid()))
    }

    /// What may be resident, with so many clients.
    pub(crate) const fn bound(&self, clients: u64) -> u64 {
        self.quiet_rss_bytes + BUFFER_BYTES_MAX + RSS_SLACK_BYTES + clients * CLIENT_BYTES
    }

    /// Waits until the hostile clients are gone and what they held is given back; what is still there if not.
    pub(crate) fn settle(&self) -> Result<(), String> {
        let left = || {
            // One of the clients is the one that asks.
            let clients = watch::stat(&self.proxy, "curr_connections") - 1;
            let held = watch::stat(&self.proxy, "buffer_bytes");
            (clients, held, watch::files(self.proxy.pid()))
        };
        // Good clients hold a few answers; connections to servers are as many as before, or fewer.
        let is_settled = || {
            let (clients, held, files) = left();
            clients <= Good::CONNECTIONS && held < 1 << 20 && files <= self.quiet_files
        };
        match watch::until(PATIENCE, is_settled) {
            Some(_) => Ok(()),
            None => Err(format!(
                "(clients, bytes, files) left: {:?}, {} files when quiet",
                left(),
                self.quiet_files
            )),
        }
    }

    /// Waits a moment for the allocator to give back what the last ones held, so that the next are not blamed for it.
    pub(crate) fn cool_down(&self) {
        let _ = watch::until(COOL_DOWN_MAX, || self.is_back());
    }

    /// Memory is within a tenth of what it was when nobody did harm.
    pub(crate) fn is_back(&self) -> bool {
        watch::rss_bytes(self.proxy.pid()) <= self.quiet_rss_bytes * 11 / 10 + BACK_SLACK_BYTES
    }

    /// One of the servers.
    pub(crate) fn server(&self) -> &Memcached {
        &self.servers[0]
    }

    /// The servers are still there too.
    pub(crate) fn servers_are_well(&self) -> bool {
        self.servers.iter().all(|server| server.stat("curr_connections") > 0)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.stops.store(true, Relaxed);
    }
}
