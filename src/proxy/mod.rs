//! The life of the process: bind, start workers, change the configuration, wait for a signal, drain, leave.

mod admin_port;
mod caches;
mod collect;
mod drain;
mod ends;
mod events;
mod memory;
mod reload;
mod watch;
mod windows;
mod worker;

pub use reload::Reread;

use crate::admin::{Phase, Process};
use crate::config::{About, Config, Loaded, Workers};
use crate::health::Health;
use crate::net::{self, BoundAddress};
use crate::stats::Stats;
use admin_port::AdminPort;
use caches::Caches;
use events::{Event, Events, Why};
use reload::{Address, Origin, Serving};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;
use std::thread;
use windows::Windows;
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

const NO_FILE: &str = "there is no file to read again";

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
    let events = Events::watch().map_err(StartError::Worker)?;
    let mut serving = start(loaded.config, loaded.about, events.sender())?;
    let labels: Vec<String> = serving.addresses.iter().map(|a| a.label().to_owned()).collect();
    for label in &labels {
        tracing::info!("listening on {label}");
    }
    let mut origin = reread.map(|reread| Origin::new(reread, files, events.sender()));
    ready(&labels);
    let mut reload = |why: Why| match &mut origin {
        Some(origin) => serving.reload(origin, why),
        None => {
            tracing::info!("{}: {NO_FILE}", why.text());
            Err(NO_FILE.to_owned())
        }
    };
    let name = loop {
        match events.next() {
            Event::Stop(name) => break name,
            // What became of it is logged.
            Event::Reload(why) => drop(reload(why)),
            // Who has asked may have given up waiting.
            Event::Asked(answer) => drop(answer.send(reload(Why::Asked))),
        }
    };
    let code = drain::drain(&serving, name, &events);
    for address in &serving.addresses {
        address.remove_file();
    }
    Ok(code)
}

/// Listeners, workers and what they share.
fn start(read: Config, about: About, tell: Sender<Event>) -> Result<Serving, StartError> {
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
    let windows = Windows::of(&config, &Windows::default(), tokio::time::Instant::now());
    let current = reload::current(&config, &caches, &windows, about);
    let process = Arc::new(Process::new(current, stats.clone(), Arc::clone(&health)));
    // Before anybody is served: whoever asks meanwhile is told so.
    let open = |address| AdminPort::open(address, &process, &tell);
    let admin = config.settings.admin.map(open).transpose()?;
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
    process.probes().watch(workers.iter().map(Worker::pulse).enumerate().collect());
    // Where servers have names, `Probes::set_undiscovered` holds this back until each pool has had an answer.
    process.probes().enter(Phase::Serving);
    Ok(Serving {
        read,
        caches,
        windows: Arc::new(windows),
        addresses,
        workers,
        process,
        health,
        told: None,
        admin,
        tell,
    })
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
