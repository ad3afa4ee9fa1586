//! Another configuration while clients are served: read and checked as a whole, built beside the old one, taken over by
//! each worker between two requests. Whatever is wrong with it, the one that serves goes on.

use super::caches::Caches;
use super::events::Why;
use super::worker::{Adopt, Worker};
use super::{fit_descriptors, per_worker, watch};
use crate::admin::{Current, Process};
use crate::config::{Config, Listen, Warning};
use crate::health::Health;
use crate::net::{self, BoundAddress};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

/// A configuration that was read again, or all that is wrong with it.
pub type Read = Result<(Config, Vec<Warning>), String>;

/// Where the configuration came from, so that it can be read once more.
pub struct Origin {
    /// What to watch.
    pub file: Option<PathBuf>,
    /// Reads and checks it.
    pub read: Box<dyn FnMut() -> Read>,
}

/// An address that is listened on.
pub(super) struct Address {
    /// As the configuration has it; `None` for sockets that were handed to the process.
    listen: Option<Listen>,
    label: String,
    /// The file to remove when nobody listens there any more.
    path: Option<PathBuf>,
}

impl Address {
    pub(super) fn new(bound: &BoundAddress, listen: Option<Listen>) -> Self {
        Self { listen, label: bound.label.clone(), path: bound.path.clone() }
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Nobody listens there any more.
    pub(super) fn remove_file(&self) {
        if let Some(path) = &self.path {
            // A file that is already gone is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What serves now, and what it takes to change it.
pub(super) struct Serving {
    /// As it was read, before it was fitted to this machine.
    pub(super) read: Config,
    pub(super) caches: Arc<Caches>,
    pub(super) addresses: Vec<Address>,
    pub(super) workers: Vec<Worker>,
    pub(super) process: Arc<Process>,
    pub(super) health: Arc<Health>,
    /// Of the file when it was last read again.
    pub(super) digest: Option<u64>,
    /// What was wrong the last time: the same is not said again.
    pub(super) told: Option<String>,
}

impl Serving {
    /// Reads the configuration and changes to it. Whatever fails, nothing has changed.
    pub(super) fn reload(&mut self, origin: &mut Origin, why: Why) {
        if let Some(file) = &origin.file {
            let digest = watch::digest(file);
            // One that is gone comes back: replacing it in two steps is not a wish to serve without it.
            let is_news = digest.is_some() && digest != self.digest;
            if why == Why::FileChanged && !is_news {
                return;
            }
            self.digest = digest;
        }
        let (config, warnings) = match (origin.read)() {
            Ok(read) => read,
            Err(faults) => return self.refuse(faults),
        };
        if config == self.read {
            self.told = None;
            if why == Why::Signal {
                tracing::info!("{}: the configuration is the same as before", why.text());
            }
            return;
        }
        for warning in warnings {
            tracing::warn!("{}", warning.0);
        }
        match self.adopt(config) {
            Ok(()) => {
                self.told = None;
                let servers: usize = self.read.pools.iter().map(|pool| pool.servers.len()).sum();
                tracing::info!(
                    pools = self.read.pools.len(),
                    servers,
                    "{}: the new configuration serves",
                    why.text()
                );
            }
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: String) {
        self.process.config_failed();
        if self.told.as_ref() != Some(&error) {
            tracing::error!("the new configuration is refused, the one before serves on:\n{error}");
        }
        self.told = Some(error);
    }

    fn adopt(&mut self, read: Config) -> Result<(), String> {
        let mut fitted = read.clone();
        fit_descriptors(&mut fitted, self.workers.len());
        let config = Arc::new(fitted);
        let caches = Arc::new(Caches::of(&config, &self.caches));
        let (opened, mut addresses) = self.bind_new(&read)?;
        let closed = |address: &Address| {
            address.listen.as_ref().is_some_and(|listen| !read.settings.listen.contains(listen))
        };
        let closed_labels: Vec<String> = self
            .addresses
            .iter()
            .filter(|address| closed(address))
            .map(|address| address.label.clone())
            .collect();
        let (done, adopted) = mpsc::channel();
        for (worker, opened) in self.workers.iter().zip(per_worker(opened, self.workers.len())) {
            worker.adopt(Adopt {
                config: Arc::clone(&config),
                caches: Arc::clone(&caches),
                opened,
                closed: closed_labels.clone(),
                done: done.clone(),
            });
        }
        drop(done);
        // A configuration that was checked can be built; what else fails is the system, and then all workers.
        adopted.iter().collect::<Result<Vec<()>, String>>()?;
        for address in self.addresses.iter().filter(|address| closed(address)) {
            address.remove_file();
        }
        self.addresses.retain(|address| !closed(address));
        self.addresses.append(&mut addresses);
        if read.settings.workers != self.read.settings.workers {
            tracing::warn!("another number of workers takes effect at the next start");
        }
        self.process.adopt(current(&config, &caches));
        self.health.forget_unused();
        self.caches = caches;
        self.read = read;
        Ok(())
    }

    /// Sockets of addresses that are not listened on yet.
    fn bind_new(&self, config: &Config) -> Result<(Vec<BoundAddress>, Vec<Address>), String> {
        let mut bound = Vec::new();
        let mut addresses = Vec::new();
        for listen in &config.settings.listen {
            if self.addresses.iter().any(|address| address.listen.as_ref() == Some(listen)) {
                continue;
            }
            let new = net::bind(listen, self.workers.len()).map_err(|error| error.to_string())?;
            tracing::info!("listening on {}", new.label);
            addresses.push(Address::new(&new, Some(listen.clone())));
            bound.push(new);
        }
        Ok((bound, addresses))
    }
}

/// What `stats` says of a configuration.
pub(super) fn current(config: &Config, caches: &Caches) -> Current {
    Current {
        settings: config.settings.clone(),
        caches: caches.all(),
        memory_bytes_max: caches.memory_bytes_max(),
    }
}
