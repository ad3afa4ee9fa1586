//! What makes the main thread do something: signals, files that changed, names that have other servers, and who asks through
//! the admin port.
//!
//! TERM and INT: drain; a second one: leave at once. HUP: read the configuration anew. USR2: start a new process that takes
//! over.

use super::asked::Asked;
use crate::net::{Packet, Passage};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Something happened.
#[derive(Debug)]
pub(super) enum Event {
    /// Leave. The signal's name.
    Stop(&'static str),
    /// Read the configuration anew.
    Reload(Why),
    /// The same for those who want to know what becomes of it.
    Asked(Asked),
    /// Start a new process that takes over.
    Renew,
    /// A new process is at the door and wants all sockets.
    TakeOver(Sender<Vec<Packet>>),
    /// It was given them, and did not come to serve.
    NotTaken,
    /// It serves. The connection to it.
    HandedOver(Passage),
    /// Clients whose sockets another worker or another process has let go.
    Arrived(Vec<OwnedFd>),
    /// Names have other servers than before.
    Members,
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
    /// Taken out of `arrived` already, in their order.
    reloads: VecDeque<Event>,
}

impl Events {
    /// Starts watching for signals, on a thread of its own with a runtime of its own.
    pub(super) fn watch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut term, mut int, mut hup, mut usr2) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
                signal(SignalKind::user_defined2())?,
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
                        _ = usr2.recv() => Event::Renew,
                    };
                    if tell.send(event).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Self { sender, arrived, reloads: VecDeque::new() })
    }

    /// For others that have something to tell.
    pub(super) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Event {
        let next = self.next_waiting().or_else(|| self.arrived.recv().ok());
        next.unwrap_or(Event::Stop("the end of all signals"))
    }

    /// The next one; `None` when the time is up.
    pub(super) fn next_within(&mut self, timeout: Duration) -> Option<Event> {
        self.next_waiting().or_else(|| self.arrived.recv_timeout(timeout).ok())
    }

    /// One that has happened already. Reloads come last, since they alone take their time: whoever tells the process to leave
    /// does not wait for all that others have asked for.
    fn next_waiting(&mut self) -> Option<Event> {
        while let Ok(event) = self.arrived.try_recv() {
            if !matches!(event, Event::Reload(_) | Event::Asked(_)) {
                return Some(event);
            }
            self.reloads.push_back(event);
        }
        self.reloads.pop_front()
    }
}
