//! Another configuration while clients are served: read and checked as a whole, built beside the old one, taken over by
//! each worker between two requests. Whatever is wrong with it, the one that serves goes on.

use super::admin_port::AdminPort;
use super::caches::Caches;
use super::events::{Event, Why};
use super::watch::{self, Watch};
use super::windows::Windows;
use super::worker::{Adopt, Worker};
use super::{fit_descriptors, per_worker};
use crate::admin::{Current, Process, Reloaded};
use crate::config::{About, Config, Listen, Loaded};
use crate::health::Health;
use crate::net::{self, BoundAddress};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use tokio::time::Instant;

/// Reads the configuration once more; or all that is wrong with it.
pub type Reread = Box<dyn FnMut() -> Result<Loaded, String>>;

/// Where the configuration comes from.
pub(super) struct Origin {
    reread: Reread,
    /// The configuration's file and all that it imports.
    files: Vec<PathBuf>,
    /// Of those files when they were last read again.
    digest: Option<u64>,
    /// `None`: it cannot be had; SIGHUP remains.
    watch: Option<Watch>,
}

impl Origin {
    /// `tell` hears of every change of the files.
    pub(super) fn new(reread: Reread, files: Vec<PathBuf>, tell: Sender<Event>) -> Self {
        let watch = Watch::start(&files, tell);
        let watch = watch.inspect_err(|error| {
            tracing::warn!("files are not watched, send SIGHUP when they change: {error}");
        });
        Self { reread, files, digest: None, watch: watch.ok() }
    }

    /// Whether the files say something else than when this was last asked.
    fn has_news(&mut self) -> bool {
        let digest = watch::digest(&self.files);
        // One that is gone comes back: replacing it in two steps is not a wish to serve without it.
        let has_news = digest.is_some() && digest != self.digest;
        self.digest = digest;
        has_news
    }

    fn read(&mut self) -> Result<Loaded, String> {
        let read = (self.reread)();
        // Written while it was read: nobody knows which of the two was read, so the next look is news.
        self.digest = self.digest.filter(|digest| watch::digest(&self.files) == Some(*digest));
        read
    }

    /// From now on these are the files.
    fn watch(&mut self, files: Vec<PathBuf>) {
        if let Some(watch) = &mut self.watch {
            watch.add(&files);
        }
        self.files = files;
    }
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
    pub(super) windows: Arc<Windows>,
    pub(super) addresses: Vec<Address>,
    pub(super) workers: Vec<Worker>,
    pub(super) process: Arc<Process>,
    pub(super) health: Arc<Health>,
    /// What was wrong the last time: the same is not said again.
    pub(super) told: Option<String>,
    pub(super) admin: Option<AdminPort>,
    /// For what has something to tell to the main thread.
    pub(super) tell: Sender<Event>,
}

impl Serving {
    /// Reads the configuration and changes to it. Whatever fails, nothing has changed.
    pub(super) fn reload(&mut self, origin: &mut Origin, why: Why) -> Reloaded {
        const SAME: Reloaded = Ok("the configuration is the same as before");
        let has_news = origin.has_news();
        if why == Why::FileChanged && !has_news {
            return SAME;
        }
        let Loaded { config, warnings, about } = match origin.read() {
            Ok(loaded) => loaded,
            Err(faults) => return self.refuse(faults),
        };
        origin.watch(about.files());
        if config == self.read {
            self.told = None;
            self.process.describe(about);
            if why != Why::FileChanged {
                tracing::info!("{}: the configuration is the same as before", why.text());
            }
            return SAME;
        }
        for warning in warnings {
            tracing::warn!("{}", warning.0);
        }
        match self.adopt(config, about) {
            Ok(()) => {
                self.told = None;
                let servers: usize = self.read.pools.iter().map(|pool| pool.servers.len()).sum();
                tracing::info!(
                    pools = self.read.pools.len(),
                    servers,
                    "{}: the new configuration serves",
                    why.text()
                );
                Ok("the new configuration serves")
            }
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: String) -> Reloaded {
        self.process.config_failed();
        if self.told.as_ref() != Some(&error) {
            tracing::error!("the new configuration is refused, the one before serves on:\n{error}");
        }
        self.told = Some(error.clone());
        Err(error)
    }

    fn adopt(&mut self, read: Config, about: About) -> Result<(), String> {
        let mut fitted = read.clone();
        fit_descriptors(&mut fitted, self.workers.len());
        let config = Arc::new(fitted);
        let caches = Arc::new(Caches::of(&config, &self.caches));
        let windows = Arc::new(Windows::of(&config, &self.windows, Instant::now()));
        let (opened, mut addresses) = self.bind_new(&read)?;
        let admin = self.admin_port_of(&read)?;
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
                windows: Arc::clone(&windows),
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
        if let Some(admin) = admin {
            self.admin = admin;
        }
        if read.settings.workers != self.read.settings.workers {
            tracing::warn!("another number of workers takes effect at the next start");
        }
        self.process.adopt(current(&config, &caches, &windows, about));
        self.health.forget_unused();
        self.caches = caches;
        self.windows = windows;
        self.read = read;
        Ok(())
    }

    /// The admin port, if it is to be another one.
    fn admin_port_of(&self, config: &Config) -> Result<Option<Option<AdminPort>>, String> {
        if config.settings.admin == self.read.settings.admin {
            return Ok(None);
        }
        let open = |address| AdminPort::open(address, &self.process, &self.tell);
        let admin = config.settings.admin.map(open).transpose();
        admin.map(Some).map_err(|error| error.to_string())
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
pub(super) fn current(config: &Arc<Config>, caches: &Caches, windows: &Windows, about: About) -> Current {
    Current {
        settings: config.settings.clone(),
        caches: caches.all(),
        memory_bytes_max: caches.memory_bytes_max(),
        transitions: windows.ends(),
        config: Some(Arc::clone(config)),
        about,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_written_while_it_is_read_and_taken_back_is_news() {
        let file = std::env::temp_dir().join(format!("ringway-reload-{}", std::process::id()));
        fs::write(&file, "old").unwrap();
        let (written, mut times) = (file.clone(), 0);
        let reread: Reread = Box::new(move || {
            times += 1;
            if times == 1 {
                fs::write(&written, "new").unwrap();
            }
            Err("of no matter here".into())
        });
        let mut origin = Origin { reread, files: vec![file.clone()], digest: None, watch: None };
        assert!(origin.has_news());
        assert!(origin.read().is_err());
        fs::write(&file, "old").unwrap();
        assert!(origin.has_news(), "`new` may have been read");
        assert!(origin.read().is_err());
        assert!(!origin.has_news());
        fs::remove_file(&file).unwrap();
    }
}
