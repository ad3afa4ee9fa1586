//! TERM and INT: drain. A second one: leave at once.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The signals that arrive, by name.
pub(super) struct Signals {
    arrived: Receiver<&'static str>,
}

impl Signals {
    /// Starts watching, on a thread of its own with a runtime of its own.
    pub(super) fn watch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut term, mut int) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let (tell, arrived) = mpsc::channel();
        std::thread::Builder::new().name("ringway-signals".to_owned()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    let name = tokio::select! {
                        _ = term.recv() => "SIGTERM", // cancel-safe: a signal stays noted until it is received
                        _ = int.recv() => "SIGINT",
                    };
                    if tell.send(name).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Self { arrived })
    }

    /// The next signal; `None` when the time is up.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<&'static str> {
        match timeout {
            None => self.arrived.recv().ok(),
            Some(timeout) => self.arrived.recv_timeout(timeout).ok(),
        }
    }
}
