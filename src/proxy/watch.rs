//! Watching the configuration's files: plain writes, an editor's rename, a folder that is replaced, and the swap of a link that
//! Kubernetes does when a ConfigMap changes.
//!
//! Folders are watched: whoever replaces a file leaves the old one to those that watch it. A folder or a link on the way can be
//! replaced as well, so every folder is watched in which a name on the way to a file is looked up; and the way is walked anew at
//! every look, because it may lead elsewhere by then. The file at its end is watched as well: of one that is a mount itself, and
//! is written by another name, the folder does not tell. Whatever happens, the files' content decides whether there is anything
//! to do.

use super::events::{Event, Why};
use crate::sync::Lock;
use notify_debouncer_mini::notify::event::{AccessKind, AccessMode};
use notify_debouncer_mini::notify::{
    self, ErrorKind, EventHandler, EventKind, RecommendedWatcher, RecursiveMode, Watcher, WatcherKind,
};
use notify_debouncer_mini::{Config, DebounceEventResult, Debouncer, new_debouncer_opt};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// Who writes a file in pieces is done after so long.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Links on the way to one file; Linux follows no more.
const LINKS_COUNT_MAX: usize = 40;
/// More than all files of a configuration may have together.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Where every way begins.
const ROOT: &str = "/";

/// Watches until it is dropped.
pub(super) struct Watch {
    debouncer: Debouncer<Changes>,
    /// The folders on the ways, and the files at their ends.
    watched: BTreeSet<PathBuf>,
    /// What the files are reached by: folders, links, and the files themselves. What else happens in a folder is not told.
    ways: Arc<Lock<BTreeSet<PathBuf>>>,
    /// What cannot be watched, which was said.
    told: BTreeSet<PathBuf>,
}

impl Watch {
    /// Tells `tell` whenever something has happened on the way to files that are followed; and once at the beginning, when none
    /// are yet: they may have changed after they were read.
    pub(super) fn start(tell: Sender<Event>) -> Result<Self, notify::Error> {
        let first = tell.clone();
        let ways: Arc<Lock<BTreeSet<PathBuf>>> = Arc::default();
        let followed = Arc::clone(&ways);
        let on_events = move |events: DebounceEventResult| {
            let is_news = match events {
                Ok(events) => events.iter().any(|event| followed.lock().contains(&event.path)),
                Err(_) => true, // nobody knows what was missed
            };
            if is_news {
                // When the main thread has ended, nobody is left to be told.
                let _ = tell.send(Event::Reload(Why::FileChanged));
            }
        };
        let config = Config::default().with_timeout(DEBOUNCE);
        let debouncer = new_debouncer_opt::<_, Changes>(config, on_events)?;
        let _ = first.send(Event::Reload(Why::FileChanged));
        Ok(Self { debouncer, watched: BTreeSet::new(), ways, told: BTreeSet::new() })
    }

    /// Watches the ways to these files and no others, as they lead now.
    pub(super) fn follow(&mut self, files: &[PathBuf]) {
        let former = std::mem::take(&mut self.watched);
        // Held until all is known: what happens meanwhile is looked at afterwards.
        let ways = Arc::clone(&self.ways);
        let mut ways = ways.lock();
        ways.clear();
        for file in files {
            self.walk(file, &mut ways);
        }
        for path in former.difference(&self.watched) {
            // One that is gone is not watched any more.
            let _ = self.debouncer.watcher().unwatch(path);
        }
    }

    /// Goes to the file name by name, as the system does.
    fn walk(&mut self, file: &Path, ways: &mut BTreeSet<PathBuf>) {
        let Ok(file) = std::path::absolute(file) else { return };
        let mut links_left = LINKS_COUNT_MAX;
        let mut at = PathBuf::new();
        let mut names = backwards(&file);
        while let Some(name) = names.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            if !at.as_os_str().is_empty() && !self.watch(&at) {
                return;
            }
            at.push(name); // the root takes the place of all before it
            ways.insert(at.clone());
            // Read when the folder is watched: another link in its place is told from now on.
            if links_left > 0
                && let Ok(target) = fs::read_link(&at)
            {
                links_left -= 1;
                at.pop();
                names.extend(backwards(&target));
            }
        }
        // Another file in its place is told of the folder, and watched from the look that follows.
        self.watch(&at);
    }

    /// Watches a folder or a file, also one that took the place of another one. Whether it is there: if not, its coming is told
    /// of the folder above.
    fn watch(&mut self, path: &Path) -> bool {
        if self.watched.contains(path) {
            return true;
        }
        match self.debouncer.watcher().watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(path.to_path_buf());
            }
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => return false,
            Err(error) => {
                if self.told.insert(path.to_path_buf()) {
                    let path = path.display();
                    tracing::warn!("{path} is not watched, send SIGHUP when it changes: {error}");
                }
            }
        }
        true
    }
}

/// The names of a path, the last one first; `.` is none.
fn backwards(path: &Path) -> Vec<OsString> {
    let names = path.components().map(|name| name.as_os_str().to_owned());
    names.filter(|name| name != ".").rev().collect()
}

/// A watcher that is silent about reading: inotify tells of files that are opened, and to look at them is to open them.
struct Changes(RecommendedWatcher);

impl Watcher for Changes {
    fn new<F: EventHandler>(mut handler: F, config: notify::Config) -> notify::Result<Self> {
        let on_event = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if is_reading(event.kind) => {}
            // The system had no room for all events. What has no path gets lost in the debouncer.
            Ok(event) if event.need_rescan() => handler.handle_event(Ok(event.add_path(PathBuf::from(ROOT)))),
            event => handler.handle_event(event),
        };
        RecommendedWatcher::new(on_event, config).map(Self)
    }

    fn watch(&mut self, path: &Path, mode: RecursiveMode) -> notify::Result<()> {
        self.0.watch(path, mode)
    }

    fn unwatch(&mut self, path: &Path) -> notify::Result<()> {
        self.0.unwatch(path)
    }

    fn kind() -> WatcherKind {
        RecommendedWatcher::kind()
    }
}

const fn is_reading(kind: EventKind) -> bool {
    let EventKind::Access(access) = kind else { return false };
    !matches!(access, AccessKind::Close(AccessMode::Write))
}

/// What tells one content of these files from another; `None`: the first, the configuration itself, cannot be read. That one of
/// the others cannot is something that they say: it may not be wanted any more.
pub(super) fn digest(files: &[PathBuf]) -> Option<u64> {
    /// No content is so long.
    const ABSENT: usize = usize::MAX;
    let mut all = Xxh3::new();
    for (place, file) in files.iter().enumerate() {
        // Whatever is asked for is among them; a pipe or a device might never end.
        let is_readable = place == 0 || fs::metadata(file).is_ok_and(|file| file.is_file());
        let bytes = if is_readable { read_bounded(file).ok() } else { None };
        if place == 0 && bytes.is_none() {
            return None;
        }
        all.update(&bytes.as_ref().map_or(ABSENT, Vec::len).to_ne_bytes());
        all.update(&bytes.unwrap_or_default());
    }
    Some(all.digest())
}

/// What is longer is refused whatever it says.
fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
