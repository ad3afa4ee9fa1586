//! Watching the configuration's file: plain writes, an editor's rename, and the swap of a directory that Kubernetes does
//! when a ConfigMap changes.
//!
//! The folder is watched, not the file: whoever replaces a file leaves the old one to those that watch it. Whatever
//! happens in the folder, the file's content decides whether there is anything to do.

use super::events::{Event, Why};
use notify_debouncer_mini::notify::{self, RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{Debouncer, new_debouncer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Who writes a file in pieces is done after so long.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Watches until it is dropped.
pub(super) struct Watch {
    _debouncer: Debouncer<RecommendedWatcher>,
}

impl Watch {
    /// Tells `tell` whenever something has happened where `file` is, and once at the beginning: it may have changed after
    /// it was read and before it was watched.
    pub(super) fn start(file: &Path, tell: Sender<Event>) -> Result<Self, notify::Error> {
        let first = tell.clone();
        let mut debouncer = new_debouncer(DEBOUNCE, move |_: Result<_, _>| {
            // When the main thread has ended, nobody is left to be told.
            let _ = tell.send(Event::Reload(Why::FileChanged));
        })?;
        for folder in folders(file) {
            debouncer.watcher().watch(&folder, RecursiveMode::NonRecursive)?;
        }
        let _ = first.send(Event::Reload(Why::FileChanged));
        Ok(Self { _debouncer: debouncer })
    }
}

/// Where the file is, and where it really is if it is a link to elsewhere.
fn folders(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut folders = vec![parent(file)];
    if let Ok(real) = file.canonicalize() {
        let real = parent(&real);
        if folders[0].canonicalize().ok().as_ref() != Some(&real) {
            folders.push(real);
        }
    }
    folders
}

/// What tells one content from another; `None`: it cannot be read.
pub(super) fn digest(file: &Path) -> Option<u64> {
    fs::read(file).ok().map(|bytes| xxh3_64(&bytes))
}
