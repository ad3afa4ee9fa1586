//! What is left behind when the tests are ended by a signal: nothing. No destructor runs then, so children and
//! directories are kept in one list, and a thread that waits for the signal clears them away.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, Once};
use tokio::signal::unix::{SignalKind, signal};

/// Whoever starts a child holds this until it is on the list; after a signal nobody gets it any more.
static LEFT: Mutex<Left> =
    Mutex::new(Left { children: BTreeSet::new(), groups: BTreeSet::new(), directories: BTreeSet::new() });

struct Left {
    children: BTreeSet<i32>,
    /// Children that lead a process group, which ends with them.
    groups: BTreeSet<i32>,
    directories: BTreeSet<PathBuf>,
}

/// Starts a child; whoever has waited for it says so with [`ended`].
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    watch();
    let mut left = LEFT.lock().unwrap();
    let child = command.spawn()?;
    left.children.insert(Pid::from_child(&child).as_raw_nonzero().get());
    Ok(child)
}

/// The same for one that leads a process group.
pub(crate) fn start_group(command: &mut Command) -> io::Result<Child> {
    watch();
    let mut left = LEFT.lock().unwrap();
    let child = command.process_group(0).spawn()?;
    left.groups.insert(Pid::from_child(&child).as_raw_nonzero().get());
    Ok(child)
}

pub(crate) fn ended(pid: Pid) {
    let mut left = LEFT.lock().unwrap();
    left.children.remove(&pid.as_raw_nonzero().get());
    left.groups.remove(&pid.as_raw_nonzero().get());
}

pub(crate) fn made(directory: &Path) {
    watch();
    LEFT.lock().unwrap().directories.insert(directory.to_owned());
}

pub(crate) fn removed(directory: &Path) {
    LEFT.lock().unwrap().directories.remove(directory);
}

/// From the first child or directory on, signals are waited for.
fn watch() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let (tell, is_ready) = channel();
        std::thread::spawn(move || clear_after_signal(&tell));
        is_ready.recv().expect("signals can be waited for");
    });
}

fn clear_after_signal(ready: &Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let number = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        let mut hangup = signal(SignalKind::hangup()).unwrap();
        ready.send(()).unwrap();
        let kind = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = hangup.recv() => SignalKind::hangup(),
        };
        kind.as_raw_value()
    });
    let left = LEFT.lock().unwrap(); // kept until the end: nobody starts anything more
    for pid in left.children.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process(pid, Signal::KILL); // it may have ended just now
    }
    for pid in left.groups.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process_group(pid, Signal::TERM); // these clear up behind themselves
    }
    for directory in &left.directories {
        let _ = std::fs::remove_dir_all(directory);
    }
    std::process::exit(128 + number);
}
