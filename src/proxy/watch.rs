//! Watching the configuration's files: plain writes, an editor's rename, and the swap of a directory that Kubernetes does
//! when a ConfigMap changes.
//!
//! The folder is watched, not the file: whoever replaces a file leaves the old one to those that watch it. Whatever
//! happens in the folder, the files' content decides whether there is anything to do.

use super::events::{Event, Why};
use notify_debouncer_mini::notify::{self, RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{Debouncer, new_debouncer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// Who writes a file in pieces is done after so long.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Watches until it is dropped.
pub(super) struct Watch {
    debouncer: Debouncer<RecommendedWatcher>,
    folders: Vec<PathBuf>,
}

impl Watch {
    /// Tells `tell` whenever something has happened where `files` are, and once at the beginning: they may have changed
    /// after they were read and before they were watched.
    pub(super) fn start(files: &[PathBuf], tell: Sender<Event>) -> Result<Self, notify::Error> {
        let first = tell.clone();
        let debouncer = new_debouncer(DEBOUNCE, move |_: Result<_, _>| {
            // When the main thread has ended, nobody is left to be told.
            let _ = tell.send(Event::Reload(Why::FileChanged));
        })?;
        let mut watch = Self { debouncer, folders: Vec::new() };
        watch.add(files);
        let _ = first.send(Event::Reload(Why::FileChanged));
        Ok(watch)
    }

    /// Watches where these are too. (What is no longer imported goes on being watched: that costs next to nothing.)
    pub(super) fn add(&mut self, files: &[PathBuf]) {
        for folder in files.iter().flat_map(|file| folders(file)) {
            if self.folders.contains(&folder) {
                continue;
            }
            if let Err(error) = self.debouncer.watcher().watch(&folder, RecursiveMode::NonRecursive) {
                tracing::warn!("{} is not watched, send SIGHUP when it changes: {error}", folder.display());
            }
            self.folders.push(folder);
        }
    }
}

/// Where the file is, and where it really is if it is a link to elsewhere.
fn folders(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut folders = vec![parent(file)];
    folders.extend(file.canonicalize().ok().map(|real| parent(&real)));
    folders
}

/// What tells one content of these files from another; `None`: one of them cannot be read.
pub(super) fn digest(files: &[PathBuf]) -> Option<u64> {
    let mut all = Xxh3::new();
    for file in files {
        let bytes = fs::read(file).ok()?;
        all.update(&bytes.len().to_ne_bytes());
        all.update(&bytes);
    }
    Some(all.digest())
}
