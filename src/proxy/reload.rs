//! Another configuration while clients are served: read and checked as a whole, built beside the old one, taken over by
//! each worker between two requests. Whatever is wrong with it, the one that serves goes on.

use super::admin_port::AdminPort;
use super::common::Common;
use super::events::{Event, Why};
use super::hand_over::{HandOver, packets_of};
use super::keep::keep;
use super::memory;
use super::names::Names;
use super::shared::Shared;
use super::watch::{self, Watch};
use super::worker::{Adopt, Worker};
use super::{fit_descriptors, workers_count};
use crate::admin::{Current, Phase, Reloaded};
use crate::config::{About, Config, Listen, Loaded, Refused};
use crate::net::{self, Bound, BoundAddress, Packet};
use crate::stats::{Counters, LogRate};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;
use tokio::time::Instant;

/// Whoever asks for a reload may do so without end.
static TOLD: LogRate = LogRate::new();

/// Reads the configuration once more; or all that is wrong with it, and where.
pub type Reread = Box<dyn FnMut() -> Result<Loaded, Refused>>;

/// Where the configuration comes from.
pub(super) struct Origin {
    reread: Reread,
    /// The configuration's file, and all that it asked for when it was last read, also what was not there or was wrong.
    files: Vec<PathBuf>,
    /// Of those files when they were last read again.
    digest: Option<u64>,
    /// `None`: it cannot be had; SIGHUP remains.
    watch: Option<Watch>,
}

impl Origin {
    /// `tell` hears of every change of the files.
    pub(super) fn new(reread: Reread, files: Vec<PathBuf>, tell: Sender<Event>) -> Self {
        let watch = Watch::start(tell);
        let watch = watch.inspect_err(|error| {
            tracing::warn!("files are not watched, send SIGHUP when they change: {error}");
        });
        Self { reread, files, digest: None, watch: watch.ok() }
    }

    /// Whether the files say something else than when this was last asked.
    fn has_news(&mut self) -> bool {
        // First, so that what is written after the look is another event; and each time, since the way to a file may be another.
        if let Some(watch) = &mut self.watch {
            watch.follow(&self.files);
        }
        let digest = watch::digest(&self.files);
        // A configuration that is gone comes back: replacing it in two steps is not a wish to serve without it.
        let has_news = digest.is_some() && digest != self.digest;
        self.digest = digest;
        has_news
    }

    fn read(&mut self) -> Result<Loaded, Refused> {
        let mut read = (self.reread)();
        if self.watch(files_of(&read)) {
            // What is asked for since then was read before it was watched.
            self.digest = watch::digest(&self.files);
            read = (self.reread)();
            self.watch(files_of(&read));
        }
        // Written while it was read: nobody knows which of the two was read, so the next look is news.
        self.digest = self.digest.filter(|digest| watch::digest(&self.files) == Some(*digest));
        read
    }

    /// From now on these are the files. Whether they are others.
    fn watch(&mut self, files: Vec<PathBuf>) -> bool {
        let is_change = files != self.files;
        if is_change && let Some(watch) = &mut self.watch {
            watch.follow(&files);
        }
        self.files = files;
        is_change
    }
}

/// What mends a configuration that is refused may be a change of any file that it asked for.
fn files_of(read: &Result<Loaded, Refused>) -> Vec<PathBuf> {
    match read {
        Ok(loaded) => loaded.about.files(),
        Err(refused) => refused.files.clone(),
    }
}

/// An address that is listened on.
pub(super) struct Address {
    /// As the configuration has it; `None` for sockets that were handed to the process.
    pub(super) listen: Option<Listen>,
    pub(super) bound: BoundAddress,
}

/// What serves now, and what it takes to change it.
pub(super) struct Serving {
    /// As it was read, before it was fitted to this machine.
    pub(super) read: Config,
    /// As it serves: with the servers that its names have now.
    pub(super) serves: Arc<Config>,
    pub(super) common: Arc<Common>,
    pub(super) names: Names,
    /// Something was known of all pools' servers once.
    pub(super) is_discovered: bool,
    /// Clients are accepted; until then sockets are bound and nobody has them, see [`Self::begin`].
    pub(super) is_serving: bool,
    pub(super) addresses: Vec<Address>,
    pub(super) workers: Vec<Worker>,
    /// Workers whose clients are being moved to others, or are.
    pub(super) retired: Vec<Worker>,
    pub(super) shared: Shared,
    /// What was wrong the last time: the same is not said again.
    pub(super) told: Option<String>,
    pub(super) admin: Option<AdminPort>,
    pub(super) hand_over: Option<HandOver>,
    /// Another process has all sockets and is about to serve: nothing changes until it does, or fails.
    pub(super) is_being_taken: bool,
    /// What was to be read anew meanwhile.
    pub(super) deferred: Option<Why>,
    /// Who got the last client that came from elsewhere.
    pub(super) last_admitted: usize,
}

impl Serving {
    /// Reads the configuration and changes to it. Whatever fails, nothing has changed.
    pub(super) fn reload(&mut self, origin: &mut Origin, why: Why) -> Reloaded {
        const SAME: Reloaded = Ok("the configuration is the same as before");
        if self.is_being_taken {
            self.deferred = Some(why);
            return Err("another process is about to take over: this one does not change".to_owned());
        }
        let has_news = origin.has_news();
        if why == Why::FileChanged && !has_news {
            return SAME;
        }
        let Loaded { config, warnings, mut about } = match origin.read() {
            Ok(loaded) => loaded,
            Err(refused) => return self.refuse(refused.faults),
        };
        if config == self.read {
            self.told = None;
            about.to_keep = None;
            self.shared.process.describe(about);
            if why != Why::FileChanged && TOLD.may_log() {
                tracing::info!("{}: the configuration is the same as before", why.text());
            }
            return SAME;
        }
        for warning in warnings {
            tracing::warn!("{}", warning.0);
        }
        let to_keep = about.to_keep.take();
        let filled = self.names.follow(&config, self.listening());
        match self.adopt(&config, filled) {
            Ok(adopted) => {
                self.shared.process.adopt(Current { about, ..adopted });
                self.read = config;
                self.told = None;
                // what was waited for may not be wanted any more
                self.tell_undiscovered();
                self.keep(to_keep);
                let spool = self.shared.spool.as_ref().map(|spool| spool.config());
                if self.read.settings.spool.as_ref() != spool {
                    tracing::warn!("another `spool` takes effect at the next start");
                }
                let servers: usize = self.read.pools.iter().map(|pool| pool.servers.len()).sum();
                tracing::info!(
                    pools = self.read.pools.len(),
                    servers,
                    "{}: the new configuration serves",
                    why.text()
                );
                Ok("the new configuration serves")
            }
            Err(error) => {
                self.names.follow_again(&self.read, &self.serves, self.listening());
                self.refuse(error)
            }
        }
    }

    /// Until something is known of all pools' servers the process is not ready. Pools that another configuration brings later
    /// change nothing about that: a name that is misspelt must not take every node out of service.
    pub(super) fn tell_undiscovered(&mut self) {
        if !self.is_discovered {
            let undiscovered = self.names.undiscovered();
            self.is_discovered = undiscovered.is_empty();
            self.shared.process.probes().set_undiscovered(undiscovered);
        }
    }

    fn listening(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().filter_map(|address| address.bound.address())
    }

    /// Names have other servers than before: the same configuration with those.
    pub(super) fn take_members(&mut self) {
        self.tell_undiscovered();
        let read = self.read.clone();
        let filled = self.names.filled(&read);
        if filled.pools == self.serves.pools {
            return;
        }
        match self.adopt(&read, filled) {
            Ok(adopted) => self.shared.process.take_members(adopted),
            Err(error) => tracing::error!("the servers that were found are not taken: {error}"),
        }
    }

    /// Keeps what serves now for a start at which it is wrong, where that is wanted.
    pub(super) fn keep(&self, text: Option<String>) {
        if let (Some(path), Some(text)) = (&self.read.settings.last_good, text) {
            keep(path, &text);
        }
    }

    fn refuse(&mut self, error: String) -> Reloaded {
        self.shared.process.config_failed();
        if self.told.as_ref() != Some(&error) {
            tracing::error!("the new configuration is refused, the one before serves on:\n{error}");
        }
        self.told = Some(error.clone());
        Err(error)
    }

    /// Changes to a configuration; `filled` has the servers of its names.
    fn adopt(&mut self, read: &Config, mut filled: Config) -> Result<Current, String> {
        let count = workers_count(read);
        fit_descriptors(&mut filled, count);
        let config = Arc::new(filled);
        let common = Arc::new(Common::of(&config, &self.common, Instant::now()));
        let mut opened = self.bind_new(read)?;
        let admin = self.admin_port_of(read)?;
        let door = self.door_of(read)?;
        let is_closed = |address: &Address| {
            address.listen.as_ref().is_some_and(|listen| !read.settings.listen.contains(listen))
        };
        let is_same =
            opened.is_empty() && !self.addresses.iter().any(is_closed) && count == self.workers.len();
        let sockets_before: Vec<usize> = self.addresses.iter().map(|a| a.bound.sockets.len()).collect();
        let listeners = if is_same || !self.is_serving {
            None
        } else {
            let stay = self.addresses.iter_mut().filter(|address| !is_closed(address));
            let spread = spread(stay.chain(&mut opened), count);
            Some(spread.map_err(|error| {
                shut(&door);
                error.to_string()
            })?)
        };
        if let Err(error) = self.change_workers(&config, &common, count, listeners) {
            shut(&door);
            // Nobody would accept from those that were added.
            for (address, count) in self.addresses.iter_mut().zip(sockets_before) {
                address.bound.sockets.truncate(count);
            }
            return Err(error);
        }
        memory::use_huge_pages(!common.caches.is_empty());
        for address in self.addresses.extract_if(.., |address| is_closed(address)) {
            address.bound.remove_file();
        }
        self.addresses.append(&mut opened);
        if let Some(admin) = admin
            && let Some(former) = std::mem::replace(&mut self.admin, admin)
        {
            former.close();
        }
        if let Some(door) = door {
            self.close_door();
            self.hand_over = door;
        }
        self.shared.health.forget_unused();
        let current = current(&config, &common, About::default());
        self.common = common;
        self.names.on_served(Some(&self.serves), &config);
        self.serves = config;
        Ok(current)
    }

    /// Has the workers accept clients, who did not so far.
    pub(super) fn begin(&mut self) -> Result<(), String> {
        let count = self.workers.len();
        let listeners = spread(self.addresses.iter_mut(), count).map_err(|error| error.to_string())?;
        let (serves, common) = (Arc::clone(&self.serves), Arc::clone(&self.common));
        self.change_workers(&serves, &common, count, Some(listeners))?;
        self.is_serving = true;
        self.shared.process.probes().enter(Phase::Serving);
        Ok(())
    }

    /// Has so many workers serve with this configuration. `listeners`: for each worker what it accepts from, if that changes.
    fn change_workers(
        &mut self,
        config: &Arc<Config>,
        common: &Arc<Common>,
        count: usize,
        mut listeners: Option<Vec<Vec<Bound>>>,
    ) -> Result<(), String> {
        let stays = self.workers.len().min(count);
        let mut of_new = listeners.as_mut().map(|all| all.split_off(stays)).unwrap_or_default().into_iter();
        let mut added = Vec::new();
        for index in stays..count {
            let (counters, sockets) = (self.free_counters(), of_new.next().unwrap_or_default());
            let plan = self.shared.plan(config, common, count, counters, sockets);
            match Worker::start(index, plan) {
                Ok(worker) => added.push(worker),
                Err(error) => {
                    added.into_iter().for_each(|worker| self.retire(worker));
                    return Err(error.to_string());
                }
            }
        }
        let mut listeners = listeners.map(Vec::into_iter);
        let (done, adopted) = mpsc::channel();
        for worker in self.workers.iter().take(count) {
            worker.adopt(Adopt {
                config: Arc::clone(config),
                common: Arc::clone(common),
                workers_count: count,
                listeners: listeners.as_mut().and_then(Iterator::next),
                done: done.clone(),
            });
        }
        drop(done);
        // A configuration that was checked can be built; what else fails is the system, and then all workers.
        if let Err(error) = adopted.iter().collect::<Result<Vec<()>, String>>() {
            added.into_iter().for_each(|worker| self.retire(worker));
            return Err(error);
        }
        self.workers.append(&mut added);
        for worker in self.workers.split_off(count) {
            self.retire(worker);
        }
        self.watch_workers();
        Ok(())
    }

    /// Has a worker end when its clients have moved to the others.
    fn retire(&mut self, worker: Worker) {
        let tell = self.shared.tell.clone();
        // When the main thread is gone, so are all others.
        worker.move_clients(Arc::new(move |client| drop(tell.send(Event::Arrived(vec![client])))));
        self.retired.push(worker);
    }

    /// Probes and stats are told which workers there are.
    pub(super) fn watch_workers(&self) {
        let process = &self.shared.process;
        process.probes().watch(self.workers.iter().map(Worker::pulse).enumerate().collect());
        self.shared.stats.set_workers_count(self.workers.len());
    }

    /// A block of counters with no writer: of a worker that has ended, or a new one.
    fn free_counters(&mut self) -> Arc<Counters> {
        let ended = self.retired.iter().position(Worker::is_done);
        ended.map_or_else(|| self.shared.stats.add(), |at| self.retired.swap_remove(at).counters())
    }

    /// Clients that were connected elsewhere, one for each worker in turn.
    pub(super) fn admit(&mut self, clients: Vec<OwnedFd>) {
        let count = self.workers.len().max(1);
        let mut shares: Vec<Vec<OwnedFd>> = (0..count).map(|_| Vec::new()).collect();
        for client in clients {
            self.last_admitted = (self.last_admitted + 1) % count;
            shares[self.last_admitted].push(client);
        }
        for (worker, share) in self.workers.iter().zip(shares).filter(|(_, share)| !share.is_empty()) {
            worker.admit(share);
        }
    }

    /// All that a successor needs. From now on nothing changes here.
    pub(super) fn offer(&mut self) -> io::Result<Vec<Packet>> {
        let mut packets = Vec::new();
        for Address { listen, bound } in &self.addresses {
            packets.extend(packets_of("listen", listen.as_ref(), bound)?);
        }
        if let Some(admin) = &self.admin {
            packets.extend(admin.packets()?);
        }
        packets.extend(self.hand_over.as_ref().map(HandOver::packet).transpose()?);
        self.is_being_taken = true;
        Ok(packets)
    }

    /// Nobody new comes in any more. The files go first, or somebody else could bind their paths before: this drops no more than
    /// this thread's copies of the sockets, workers close theirs when they have taken those who wait.
    pub(super) fn close_sockets(&mut self) {
        self.close_door();
        for address in self.addresses.drain(..) {
            address.bound.remove_file();
        }
    }

    /// Makes the paths that we took over from somebody who has left lead here, in case they went with them.
    pub(super) fn restore_files(&mut self) {
        for address in &mut self.addresses {
            restore_file(&mut address.bound);
        }
        let Some(lost) = self.hand_over.take_if(|door| !door.is_there()) else { return };
        lost.close();
        match HandOver::open(lost.path(), None, &self.shared.tell) {
            Ok(door) => self.hand_over = Some(door),
            Err(error) => tracing::error!("no new process can take over: {error}"),
        }
    }

    /// Nobody can take over any more.
    pub(super) fn close_door(&mut self) {
        if let Some(door) = self.hand_over.take() {
            door.close();
        }
    }

    /// `drain_delay` and `drain_timeout`.
    pub(super) const fn times_to_leave(&self) -> (Duration, Duration) {
        (self.read.settings.drain_delay, self.read.settings.drain_timeout)
    }

    /// The admin port, if it is to be another one.
    fn admin_port_of(&self, config: &Config) -> Result<Option<Option<AdminPort>>, String> {
        if config.settings.admin == self.read.settings.admin {
            return Ok(None);
        }
        let Shared { process, tell, .. } = &self.shared;
        let open = |listen: Listen| -> Result<AdminPort, net::BindError> {
            // The port that it has, at an address that covers its own or is covered by it.
            let is_own = self.admin.as_ref().is_some_and(|admin| admin.has_port_of(&listen));
            let bound = net::bind(&listen, is_own)?;
            AdminPort::open(listen, Some(bound), process, tell)
        };
        let admin = config.settings.admin.clone().map(open).transpose();
        admin.map(Some).map_err(|error| error.to_string())
    }

    /// Where a successor knocks, if that is to be elsewhere.
    fn door_of(&self, config: &Config) -> Result<Option<Option<HandOver>>, String> {
        let wanted = &config.settings.hand_over;
        if *wanted == self.read.settings.hand_over {
            return Ok(None);
        }
        let door = wanted.as_deref().map(|path| HandOver::open(path, None, &self.shared.tell)).transpose();
        door.map(Some).map_err(|error| error.to_string())
    }

    /// Sockets of addresses that are not listened on yet.
    fn bind_new(&self, config: &Config) -> Result<Vec<Address>, String> {
        let mut addresses = Vec::new();
        for listen in &config.settings.listen {
            if self.addresses.iter().any(|address| address.listen.as_ref() == Some(listen)) {
                continue;
            }
            // `127.0.0.1` that becomes `0.0.0.0`: what is in the way is ourselves, until the change is made.
            let own = self.addresses.iter().map(|address| &address.bound);
            let own: Vec<&BoundAddress> = own.filter(|bound| bound.has_port_of(listen)).collect();
            let beside = config.settings.reuse_port || !own.is_empty();
            let bound = net::bind(listen, beside).map_err(|error| {
                let is_inherited = own.iter().any(|bound| bound.is_shared);
                let error = if is_inherited { error.beside_inherited() } else { error };
                error.to_string()
            })?;
            tracing::info!("listening on {}", bound.label);
            addresses.push(Address { listen: Some(listen.clone()), bound });
        }
        Ok(addresses)
    }
}

/// Closes the door of a configuration that does not serve: whoever knocks would be given what serves all the same.
fn shut(door: &Option<Option<HandOver>>) {
    door.iter().flatten().for_each(HandOver::close);
}

/// The same for one address.
pub(super) fn restore_file(bound: &mut BoundAddress) {
    if let Err(error) = bound.restore_file() {
        tracing::error!("nobody can come in by {}: {error}", bound.label);
    }
}

/// For each of so many workers what it accepts from.
///
/// # Errors
/// When there are no descriptors left; then no address has more sockets than before, which nobody would accept from.
pub(super) fn spread<'a>(
    addresses: impl Iterator<Item = &'a mut Address>,
    workers: usize,
) -> io::Result<Vec<Vec<Bound>>> {
    let counted = |address: &'a mut Address| (address.bound.sockets.len(), &mut address.bound);
    let mut addresses: Vec<(usize, &mut BoundAddress)> = addresses.map(counted).collect();
    let mut listeners: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::new()).collect();
    let mut result = Ok(());
    for (_, bound) in &mut addresses {
        match bound.spread(workers) {
            Ok(sockets) => listeners.iter_mut().zip(sockets).for_each(|(worker, more)| worker.extend(more)),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    if result.is_err() {
        addresses.into_iter().for_each(|(count, bound)| bound.sockets.truncate(count));
    }
    result.map(|()| listeners)
}

/// What `stats` says of a configuration.
pub(super) fn current(config: &Arc<Config>, common: &Common, about: About) -> Current {
    Current {
        settings: config.settings.clone(),
        caches: common.caches.all(),
        memory_bytes_max: common.caches.memory_bytes_max(),
        transitions: common.windows.ends(),
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
        let (written, files, mut times) = (file.clone(), vec![file.clone()], 0);
        let reread: Reread = Box::new(move || {
            times += 1;
            if times == 1 {
                fs::write(&written, "new").unwrap();
            }
            Err(Refused { files: vec![written.clone()], faults: "of no matter here".into() })
        });
        let mut origin = Origin { reread, files, digest: None, watch: None };
        assert!(origin.has_news());
        assert!(origin.read().is_err());
        fs::write(&file, "old").unwrap();
        assert!(origin.has_news(), "`new` may have been read");
        assert!(origin.read().is_err());
        assert!(!origin.has_news());
        fs::remove_file(&file).unwrap();
    }
}
