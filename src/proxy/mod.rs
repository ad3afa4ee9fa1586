//! The life of the process: bind, start workers, change the configuration, wait for a signal, drain, leave.

mod admin_port;
mod asked;
mod caches;
mod collect;
mod common;
mod couriers;
mod drain;
mod ends;
mod events;
mod hand_over;
mod keep;
mod memory;
mod names;
mod owed_as;
mod reload;
mod renew;
mod rings;
mod shared;
mod take_over;
mod watch;
mod windows;
mod worker;

pub use crate::net::is_activated;
pub use memory::keep_little_memory;
pub use reload::Reread;
pub use take_over::{TakenOver, take_over};

use crate::admin::{Phase, Process, Reloaded};
use crate::config::{About, Config, Listen, Loaded, Workers};
use crate::health::Health;
use crate::net;
use crate::spool::{Spool, SpoolError};
use crate::stats::{LogRate, Stats};
use admin_port::AdminPort;
use asked::Asked;
use common::Common;
use events::{Event, Events, Why};
use hand_over::HandOver;
use names::Names;
use reload::{Address, Origin, Serving};
use renew::Renewal;
use shared::Shared;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};
use worker::Worker;

/// A successor that has not found its servers by then does not take over.
const NAMES_TIME_MAX: Duration = Duration::from_secs(30);
/// Between two looks of a successor at whether the process before it is still there.
const LOOK: Duration = Duration::from_millis(100);

/// Whoever asks for a reload may do so without end.
static TOLD: LogRate = LogRate::new();

/// What went wrong before anything was served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] net::BindError),
    #[error("no address to listen on")]
    NoListener,
    #[error("the routes cannot be built: {0}")]
    Routes(String),
    #[error("the servers of these pools are not found: {0}")]
    Names(String),
    #[error("{0} before it served")]
    Told(&'static str),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("cannot start a worker: {0}")]
    Worker(std::io::Error),
    #[error("cannot take over: {0}")]
    TakeOver(std::io::Error),
}

/// Serves until told to stop. `reread`, where the configuration can be read again. `taken`: what another process has handed
/// over. `ready` is called with the addresses, as they really are, once clients are served.
///
/// # Errors
/// When nothing could be started; then nothing listens.
pub fn run(
    mut loaded: Loaded,
    reread: Option<Reread>,
    mut taken: Option<TakenOver>,
    ready: impl FnOnce(&[String]),
) -> Result<ExitCode, StartError> {
    let files = loaded.about.files();
    let to_keep = loaded.about.to_keep.take();
    let mut events = Events::watch().map_err(StartError::Worker)?;
    let mut serving = start(loaded.config, loaded.about, taken.as_mut(), events.sender())?;
    if let Some(taken) = taken {
        come_in(&mut serving, taken, &mut events)?;
    }
    serving.keep(to_keep);
    let mut origin = reread.map(|reread| Origin::new(reread, files, events.sender()));
    let mut ready = Some(ready);
    let renewal = Renewal::default();
    loop {
        if !serving.is_serving && serving.is_discovered {
            serving.begin().map_err(StartError::Routes)?;
        }
        if serving.is_serving
            && let Some(ready) = ready.take()
        {
            let labels: Vec<String> = serving.addresses.iter().map(|a| a.bound.label.clone()).collect();
            for label in &labels {
                tracing::info!("listening on {label}");
            }
            ready(&labels);
        }
        match events.next() {
            Event::Members => serving.take_members(),
            Event::Stop(name) => {
                let code = drain::drain(&mut serving, name, &mut events);
                serving.shared.close_spool();
                return Ok(code);
            }
            // What became of it is logged.
            Event::Reload(why) => drop(reload(&mut serving, origin.as_mut(), why)),
            Event::Asked(asked) => answer(&mut serving, origin.as_mut(), asked),
            Event::Arrived(clients) => serving.admit(clients),
            Event::Renew => match &serving.hand_over {
                Some(door) => renewal.start(door.path()),
                None => tracing::error!("SIGUSR2: without `hand_over` no new process can take over"),
            },
            Event::TakeOver(give) => match serving.offer() {
                // Who has asked may have left; then we hear of that.
                Ok(packets) => drop(give.send(packets)),
                Err(error) => tracing::error!("cannot hand over: {error}"),
            },
            Event::NotTaken => {
                serving.is_being_taken = false;
                if let Some(why) = serving.deferred.take() {
                    drop(reload(&mut serving, origin.as_mut(), why));
                }
            }
            Event::HandedOver(passage) => {
                let code = drain::hand_over(&mut serving, passage, None, &mut events);
                serving.shared.close_spool();
                return Ok(code);
            }
        }
    }
}

/// Serves in the place of another process, as soon as it can be done as well as there: the servers of all pools are known.
fn come_in(serving: &mut Serving, mut taken: TakenOver, events: &mut Events) -> Result<(), StartError> {
    let deadline = Instant::now() + NAMES_TIME_MAX;
    let mut is_alone = taken.is_alone().map_err(StartError::TakeOver)?;
    // Where nobody serves any more nobody does it better: then this is a start like any other.
    while !serving.is_discovered && !is_alone {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.next_within(left.min(LOOK)) {
            Some(Event::Members) => serving.take_members(),
            Some(Event::Stop(name)) => return Err(StartError::Told(name)),
            Some(_) => {}
            None if left.is_zero() => {
                return Err(StartError::Names(serving.names.undiscovered().join(", ")));
            }
            None => {}
        }
        is_alone = taken.is_alone().map_err(StartError::TakeOver)?;
    }
    if is_alone {
        tracing::warn!("the process before this one has ended, and its clients are closed");
        serving.restore_files();
    }
    // Before the first probe can come: on the same port the other process said until now that all is well.
    serving.begin().map_err(StartError::Routes)?;
    let Shared { process, tell, .. } = &serving.shared;
    if let Some(listen) = serving.read.settings.admin.clone()
        && let Some(mut handed) = taken.take_admin(&listen)
    {
        if is_alone {
            reload::restore_file(&mut handed);
        }
        serving.admin = Some(AdminPort::open(listen, Some(handed), process, tell)?);
    }
    taken.serves(tell.clone()).map_err(StartError::TakeOver)
}

/// Reads the configuration anew for all who ask by now. Who has given up waiting needs no reload.
fn answer(serving: &mut Serving, origin: Option<&mut Origin>, asked: Asked) {
    let answers = asked.take();
    if answers.is_empty() {
        return;
    }
    let reloaded = reload(serving, origin, Why::Asked);
    for answer in answers {
        // Who has asked may have given up meanwhile.
        let _ = answer.send(reloaded.clone());
    }
}

fn reload(serving: &mut Serving, origin: Option<&mut Origin>, why: Why) -> Reloaded {
    const NO_FILE: &str = "there is no file to read again";
    if let Some(origin) = origin {
        return serving.reload(origin, why);
    }
    if TOLD.may_log() {
        tracing::info!("{}: {NO_FILE}", why.text());
    }
    Err(NO_FILE.to_owned())
}

/// Listeners, workers and what they share.
fn start(
    read: Config,
    about: About,
    mut taken: Option<&mut TakenOver>,
    tell: Sender<Event>,
) -> Result<Serving, StartError> {
    let count = workers_count(&read);
    let mut addresses = listen(&read, taken.as_deref_mut())?;
    // Where another process accepts, it does so until this one is ready.
    let is_serving = taken.is_none() && !read.settings.reuse_port;
    let listeners = if is_serving {
        reload::spread(addresses.iter_mut(), count).map_err(StartError::Worker)?
    } else {
        (0..count).map(|_| Vec::new()).collect()
    };
    // Before any client is served: what was accepted earlier must be known.
    let spool = read.settings.spool.as_ref().map(Spool::open).transpose()?;
    let (stats, health) = (Stats::new(count), Arc::new(Health::default()));
    let names = Names::new(stats.discovery(), tell.clone());
    let mut fitted = names.follow(&read, addresses.iter().filter_map(|address| address.bound.address()));
    fit_descriptors(&mut fitted, count);
    let config = Arc::new(fitted);
    let common = Arc::new(Common::of(&config, &Common::default(), tokio::time::Instant::now()));
    memory::use_huge_pages(!common.caches.is_empty());
    let told = about.instead_of.as_ref().map(|refused| refused.faults.clone());
    let current = reload::current(&config, &common, about);
    let process = Process::new(current, stats.clone(), Arc::clone(&health)).with_spool(spool.clone());
    let process = Arc::new(process);
    if told.is_some() {
        process.config_failed();
    }
    let shared = Shared { process, spool, stats, health, clients: Arc::default(), tell };
    // What can fail comes before workers accept clients. Whoever asks meanwhile is told that nobody is served yet; but where
    // another process answers until now, it goes on answering.
    let is_answered = |listen: &Listen| taken.as_ref().is_some_and(|taken| taken.has_admin(listen));
    let admin = config.settings.admin.clone().filter(|listen| !is_answered(listen));
    let open = |listen| AdminPort::open(listen, None, &shared.process, &shared.tell);
    let admin = admin.map(open).transpose()?;
    let door = |path: &PathBuf| {
        let handed = taken.as_mut().and_then(|taken| taken.take_door(path));
        HandOver::open(path, handed, &shared.tell)
    };
    let hand_over = config.settings.hand_over.as_ref().map(door).transpose()?;
    let mut workers = Vec::with_capacity(count);
    for (index, sockets) in listeners.into_iter().enumerate() {
        let plan = shared.plan(&config, &common, count, shared.stats.of(index), sockets);
        workers.push(Worker::start(index, plan)?);
    }
    names.on_served(None, &config);
    let mut serving = Serving {
        read,
        serves: config,
        common,
        names,
        is_discovered: false,
        is_serving,
        addresses,
        workers,
        retired: Vec::new(),
        shared,
        told,
        admin,
        hand_over,
        is_being_taken: false,
        deferred: None,
        last_admitted: 0,
    };
    serving.watch_workers();
    serving.tell_undiscovered();
    if is_serving {
        serving.shared.process.probes().enter(Phase::Serving);
    }
    Ok(serving)
}

/// All addresses of a configuration: from another process, from systemd, or new ones.
fn listen(config: &Config, mut taken: Option<&mut TakenOver>) -> Result<Vec<Address>, StartError> {
    let mut handed = net::activated()?;
    handed.extend(taken.as_mut().map(|taken| taken.take_activated()).unwrap_or_default());
    let mut addresses: Vec<Address> =
        handed.into_iter().map(|bound| Address { listen: None, bound }).collect();
    for listen in &config.settings.listen {
        let handed = taken.as_mut().and_then(|taken| taken.take(listen));
        let bound = handed.map_or_else(|| net::bind(listen, config.settings.reuse_port), Ok)?;
        addresses.push(Address { listen: Some(listen.clone()), bound });
    }
    if addresses.is_empty() { Err(StartError::NoListener) } else { Ok(addresses) }
}

/// Threads that serve a configuration.
fn workers_count(config: &Config) -> usize {
    match config.settings.workers {
        Workers::Count(count) => count.max(1),
        Workers::Auto => thread::available_parallelism().map_or(1, std::num::NonZero::get),
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
