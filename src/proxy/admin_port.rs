//! The admin port of a configuration: where it is bound, and what it asks of the main thread.

use super::asked::Asking;
use super::events::Event;
use super::hand_over::packets_of;
use crate::admin::{Http, Process};
use crate::config::Listen;
use crate::net::{self, BindError, BoundAddress, Packet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Open until it is dropped.
pub(super) struct AdminPort {
    /// As the configuration has it.
    listen: Listen,
    bound: BoundAddress,
    _http: Http,
}

impl AdminPort {
    /// On a socket that was handed over, or a new one.
    pub(super) fn open(
        listen: Listen,
        handed: Option<BoundAddress>,
        process: &Arc<Process>,
        tell: &Sender<Event>,
    ) -> Result<Self, BindError> {
        let mut bound = handed.map_or_else(|| net::bind(&listen, false), Ok)?;
        let (tell, asking) = (tell.clone(), Asking::default());
        let ask = Box::new(move |answer| {
            if let Some(asked) = asking.add(answer) {
                // When the main thread is gone the answers' senders are dropped with the event, and that is told.
                drop(tell.send(Event::Asked(asked)));
            }
        });
        let first = |sockets: Vec<Vec<_>>| sockets.into_iter().flatten().next();
        let socket =
            bound.spread(1).and_then(|all| first(all).ok_or_else(|| io::ErrorKind::InvalidInput.into()));
        let http = socket.and_then(|socket| Http::start(socket, Arc::clone(process), ask));
        let http = http.map_err(|error| BindError::new(&listen, error))?;
        let scheme = if bound.file.is_some() { "" } else { "http://" };
        tracing::info!("admin port at {scheme}{}", bound.label);
        Ok(Self { listen, bound, _http: http })
    }

    /// Whether it is on this TCP port, or has one that covers it.
    pub(super) fn has_port_of(&self, listen: &Listen) -> bool {
        self.bound.has_port_of(listen)
    }

    /// For a successor.
    pub(super) fn packets(&self) -> io::Result<Vec<Packet>> {
        packets_of("admin", Some(&self.listen), &self.bound)
    }

    /// Nobody answers there any more, and no successor does.
    pub(super) fn close(self) {
        self.bound.remove_file();
    }
}
