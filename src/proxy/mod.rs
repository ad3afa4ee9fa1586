//! The life of the process: bind, start workers, wait for a signal, drain, leave.

mod collect;
mod memory;
mod signal;
mod worker;

use crate::admin::Process;
use crate::cache::Cache;
use crate::config::{About, Config, Endpoint, Server, Workers};
use crate::health::Health;
use crate::net::{self, BoundAddress};
use crate::stats::Stats;
use signal::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;
use worker::{Plan, Worker};

/// What went wrong before anything was served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] net::BindError),
    #[error("no address to listen on")]
    NoListener,
    #[error("the routes cannot be built: {0}")]
    Routes(String),
    #[error("cannot start a worker: {0}")]
    Worker(std::io::Error),
}

/// Serves until told to stop. `ready` is called with the addresses, as they really are, once clients are served.
///
/// # Errors
/// When nothing could be started; then nothing listens.
pub fn run(mut config: Config, about: About, ready: impl FnOnce(&[String])) -> Result<ExitCode, StartError> {
    let workers = match config.settings.workers {
        Workers::Count(count) => count.max(1),
        Workers::Auto => thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    fit_descriptors(&mut config, workers);
    let config = Arc::new(config);
    let caches = embedded_caches(&config);
    let mut addresses = net::activated(workers)?;
    for listen in &config.settings.listen {
        addresses.push(net::bind(listen, workers)?);
    }
    if addresses.is_empty() {
        return Err(StartError::NoListener);
    }
    let stats = Stats::new(workers);
    let health = Arc::new(Health::default());
    let process = Process::new(
        config.settings.clone(),
        stats.clone(),
        Arc::clone(&health),
        caches.iter().flatten().flatten().cloned().collect(),
        config.pools.iter().flat_map(|p| &p.servers).map(memory_bytes_max).sum(),
    );
    let process = Arc::new(process.with_config(Arc::clone(&config), about));
    let signals = Signals::watch().map_err(StartError::Worker)?;
    let labels: Vec<String> = addresses.iter().map(|a| a.label.clone()).collect();
    let paths: Vec<_> = addresses.iter().filter_map(|a| a.path.clone()).collect();
    let clients = Arc::new(AtomicUsize::new(0));
    let mut running = Vec::with_capacity(workers);
    for (index, listeners) in per_worker(addresses, workers).into_iter().enumerate() {
        let plan = Plan {
            config: Arc::clone(&config),
            counters: stats.of(index),
            process: Arc::clone(&process),
            clients: Arc::clone(&clients),
            health: Arc::clone(&health),
            caches: caches.clone(),
            workers,
            listeners,
        };
        running.push(Worker::start(index, plan)?);
    }
    for label in &labels {
        tracing::info!("listening on {label}");
    }
    ready(&labels);
    let code = stop(&config, running, signals);
    for path in paths {
        // Nobody listens there any more; a file that is already gone is as good.
        let _ = std::fs::remove_file(path);
    }
    Ok(code)
}

/// Waits for a signal, then for the workers to finish what is in flight.
fn stop(config: &Config, running: Vec<Worker>, signals: Signals) -> ExitCode {
    let timeout = config.settings.drain_timeout;
    /// The same wish told twice at once (by `timeout`, by a terminal) is one wish.
    const SAME_WISH: Duration = Duration::from_millis(20);
    let name = signals.wait(None).unwrap_or("the end of all signals");
    let told = std::time::Instant::now();
    tracing::info!(
        "{name}: finishing what is in flight, for {timeout:?} at most; a second signal ends at once"
    );
    for worker in &running {
        worker.drain();
    }
    // The workers say when they are done; a second signal or the deadline says that it is enough.
    let deadline = std::time::Instant::now() + timeout;
    loop {
        if running.iter().all(Worker::is_done) {
            tracing::info!("all clients are answered; leaving");
            return ExitCode::SUCCESS;
        }
        let now = std::time::Instant::now();
        if now >= deadline {
            tracing::warn!("drain_timeout is over; leaving with clients unanswered");
            return ExitCode::SUCCESS;
        }
        if let Some(name) = signals.wait(Some((deadline - now).min(Duration::from_millis(10))))
            && told.elapsed() >= SAME_WISH
        {
            tracing::warn!("{name} again: leaving at once");
            return ExitCode::FAILURE;
        }
    }
}

/// Raises the bound of open files to what the configuration needs, or lowers `clients_max` to what is allowed: a
/// process that is out of descriptors cannot even connect to its servers.
fn fit_descriptors(config: &mut Config, workers: usize) {
    /// Standard streams, event queues, signals, listeners, name lookups.
    const OWN_COUNT: usize = 64;
    let of_pool = |pool: &crate::config::Pool| pool.servers.len() * pool.connections_count;
    let servers = config.pools.iter().map(of_pool).sum::<usize>() * workers;
    let own = OWN_COUNT + servers + workers * (4 + 2 * config.settings.listen.len());
    let wanted = &mut config.settings.limits.clients_count_max;
    let allowed = net::raise_files_max((*wanted + own) as u64);
    let left = usize::try_from(allowed).unwrap_or(usize::MAX).saturating_sub(own).max(1);
    if left < *wanted {
        tracing::warn!("only {allowed} files may be open: {left} clients instead of clients_max, {wanted}");
        *wanted = left;
    }
}

/// One cache for each embedded shard of each pool, shared by all workers.
fn embedded_caches(config: &Config) -> Vec<Vec<Option<Arc<Cache>>>> {
    let value_bytes_max = config.settings.limits.value_bytes_max;
    let of_pool = |pool: &crate::config::Pool| {
        pool.servers
            .iter()
            .map(|server| match &server.endpoint {
                Endpoint::Embedded(e) => Some(Arc::new(Cache::new(e.memory_bytes_max, value_bytes_max))),
                _ => None,
            })
            .collect()
    };
    config.pools.iter().map(of_pool).collect()
}

fn memory_bytes_max(server: &Server) -> usize {
    match server.endpoint {
        Endpoint::Embedded(e) => e.memory_bytes_max,
        _ => 0,
    }
}

/// Each worker gets one socket of every address.
fn per_worker(addresses: Vec<BoundAddress>, workers: usize) -> Vec<Vec<net::Bound>> {
    let mut listeners: Vec<Vec<net::Bound>> = (0..workers).map(|_| Vec::new()).collect();
    for address in addresses {
        for (worker, socket) in listeners.iter_mut().zip(address.sockets) {
            worker.push(socket);
        }
    }
    listeners
}
