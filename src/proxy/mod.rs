//! The life of the process: bind, start workers, change the configuration, wait for a signal, drain, leave.

mod caches;
mod collect;
mod ends;
mod events;
mod memory;
mod reload;
mod watch;
mod worker;

pub use reload::Reread;

use crate::admin::Process;
use crate::config::{About, Config, Loaded, Workers};
use crate::health::Health;
use crate::net::{self, BoundAddress};
use crate::stats::Stats;
use caches::Caches;
use events::{Event, Events};
use reload::{Address, Origin, Serving};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};
use worker::{Listening, Plan, Worker};

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

/// Serves until told to stop. `reread`, where the configuration can be read again. `ready` is called with the addresses, as
/// they really are, once clients are served.
///
/// # Errors
/// When nothing could be started; then nothing listens.
pub fn run(
    loaded: Loaded,
    reread: Option<Reread>,
    ready: impl FnOnce(&[String]),
) -> Result<ExitCode, StartError> {
    let files = loaded.about.files();
    let mut serving = start(loaded.config, loaded.about)?;
    let events = Events::watch().map_err(StartError::Worker)?;
    let labels: Vec<String> = serving.addresses.iter().map(|a| a.label().to_owned()).collect();
    for label in &labels {
        tracing::info!("listening on {label}");
    }
    let mut origin = reread.map(|reread| Origin::new(reread, files, events.sender()));
    ready(&labels);
    let name = loop {
        match (events.next(), &mut origin) {
            (Event::Stop(name), _) => break name,
            (Event::Reload(why), Some(origin)) => serving.reload(origin, why),
            (Event::Reload(why), None) => tracing::info!("{}: there is no file to read again", why.text()),
        }
    };
    let code = drain(&serving, name, &events);
    for address in &serving.addresses {
        address.remove_file();
    }
    Ok(code)
}

/// Listeners, workers and what they share.
fn start(read: Config, about: About) -> Result<Serving, StartError> {
    let count = match read.settings.workers {
        Workers::Count(count) => count.max(1),
        Workers::Auto => thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let mut fitted = read.clone();
    fit_descriptors(&mut fitted, count);
    let config = Arc::new(fitted);
    let caches = Arc::new(Caches::of(&config, &Caches::default()));
    let mut bound = net::activated(count)?;
    let mut addresses: Vec<Address> = bound.iter().map(|handed| Address::new(handed, None)).collect();
    for listen in &config.settings.listen {
        let new = net::bind(listen, count)?;
        addresses.push(Address::new(&new, Some(listen.clone())));
        bound.push(new);
    }
    if addresses.is_empty() {
        return Err(StartError::NoListener);
    }
    let stats = Stats::new(count);
    let health = Arc::new(Health::default());
    let current = reload::current(&config, &caches, about);
    let process = Arc::new(Process::new(current, stats.clone(), Arc::clone(&health)));
    let clients = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::with_capacity(count);
    for (index, listeners) in per_worker(bound, count).into_iter().enumerate() {
        let plan = Plan {
            config: Arc::clone(&config),
            counters: stats.of(index),
            process: Arc::clone(&process),
            clients: Arc::clone(&clients),
            health: Arc::clone(&health),
            caches: Arc::clone(&caches),
            workers: count,
            listeners,
        };
        workers.push(Worker::start(index, plan)?);
    }
    Ok(Serving { read, caches, addresses, workers, process, health, told: None })
}

/// Waits for the workers to finish what is in flight.
fn drain(serving: &Serving, name: &str, events: &Events) -> ExitCode {
    /// The same wish told twice at once (by `timeout`, by a terminal) is one wish.
    const SAME_WISH: Duration = Duration::from_millis(20);
    let timeout = serving.read.settings.drain_timeout;
    let told = Instant::now();
    tracing::info!(
        "{name}: finishing what is in flight, for {timeout:?} at most; a second signal ends at once"
    );
    for worker in &serving.workers {
        worker.drain();
    }
    // The workers say when they are done; a second signal or the deadline says that it is enough.
    let deadline = told + timeout;
    loop {
        if serving.workers.iter().all(Worker::is_done) {
            tracing::info!("all clients are answered; leaving");
            return ExitCode::SUCCESS;
        }
        let now = Instant::now();
        if now >= deadline {
            tracing::warn!("drain_timeout is over; leaving with clients unanswered");
            return ExitCode::SUCCESS;
        }
        if let Some(name) = events.stop_within((deadline - now).min(Duration::from_millis(10)))
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

/// Each worker gets one socket of every address.
fn per_worker(addresses: Vec<BoundAddress>, workers: usize) -> Vec<Vec<Listening>> {
    let mut listeners: Vec<Vec<Listening>> = (0..workers).map(|_| Vec::new()).collect();
    for address in addresses {
        for (worker, socket) in listeners.iter_mut().zip(address.sockets) {
            worker.push((address.label.clone(), socket));
        }
    }
    listeners
}
