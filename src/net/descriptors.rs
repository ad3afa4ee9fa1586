//! File descriptors: as many as the bounds allow, and one kept for the time when there is none.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Lets the process open `wanted` files if the hard limit allows it. Tells how many it may open now.
#[must_use]
pub fn raise_files_max(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(current) = current else { return u64::MAX };
    let raised = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if raised <= current {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(_) => current,
    }
}

/// A descriptor that is given up when a client comes and there is no other: so the client can be accepted, told why
/// not, and closed. Otherwise it would wait in the listener's queue, and its accepting be tried without end.
#[derive(Debug)]
pub struct SpareDescriptor(Option<OwnedFd>);

impl SpareDescriptor {
    #[must_use]
    pub fn new() -> Self {
        let mut spare = Self(None);
        spare.take_back();
        spare
    }

    /// Whether this error says that no descriptor is left.
    #[must_use]
    pub fn is_wanted(error: &io::Error) -> bool {
        let wanted = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        error.raw_os_error().is_some_and(|code| wanted.contains(&code))
    }

    /// Frees the descriptor; `false`: there was none to free.
    pub fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Takes one for the next time.
    pub fn take_back(&mut self) {
        // What it is a descriptor of does not matter. Without one the next client is not told, that is all.
        self.0 = self.0.take().or_else(|| io::stderr().as_fd().try_clone_to_owned().ok());
    }
}

impl Default for SpareDescriptor {
    fn default() -> Self {
        Self::new()
    }
}
