//! What makes the main thread do something: signals, files that changed, and who asks through the admin port.
//!
//! TERM and INT: drain; a second one: leave at once. HUP: read the configuration anew.

use crate::admin::Reloaded;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Something happened.
#[derive(Debug)]
pub(super) enum Event {
    /// Leave. The signal's name.
    Stop(&'static str),
    /// Read the configuration anew.
    Reload(Why),
    /// The same for somebody who wants to know what becomes of it.
    Asked(oneshot::Sender<Reloaded>),
}

/// Who wants the configuration to be read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Signal,
    FileChanged,
    Asked,
}

impl Why {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::FileChanged => "the file changed",
            Self::Asked => "POST /reload",
        }
    }
}

/// What has happened and was not looked at yet.
pub(super) struct Events {
    sender: Sender<Event>,
    arrived: Receiver<Event>,
}

impl Events {
    /// Starts watching for signals, on a thread of its own with a runtime of its own.
    pub(super) fn watch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut term, mut int, mut hup) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            )
        };
        let (sender, arrived) = mpsc::channel();
        let tell = sender.clone();
        std::thread::Builder::new().name("ringway-signals".to_owned()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    let event = tokio::select! {
                        _ = term.recv() => Event::Stop("SIGTERM"), // cancel-safe: a signal stays noted until received
                        _ = int.recv() => Event::Stop("SIGINT"),
                        _ = hup.recv() => Event::Reload(Why::Signal),
                    };
                    if tell.send(event).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Self { sender, arrived })
    }

    /// For others that have something to tell.
    pub(super) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// The next one.
    pub(super) fn next(&self) -> Event {
        self.arrived.recv().unwrap_or(Event::Stop("the end of all signals"))
    }

    /// The name of the next signal to leave; `None` when the time is up. What else happens is of no interest any more.
    pub(super) fn stop_within(&self, timeout: Duration) -> Option<&'static str> {
        match self.arrived.recv_timeout(timeout) {
            Ok(Event::Stop(name)) => Some(name),
            _ => None,
        }
    }
}
