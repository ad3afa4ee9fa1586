//! The admin port of a configuration: where it is bound, and what it asks of the main thread.

use super::events::Event;
use crate::admin::{Http, Process};
use crate::config::Listen;
use crate::net::{self, BindError, Bound, BoundAddress, Packet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Open until it is dropped.
pub(super) struct AdminPort {
    /// As the configuration has it.
    address: SocketAddr,
    bound: BoundAddress,
    _http: Http,
}

impl AdminPort {
    /// On a socket that was handed over, or a new one.
    pub(super) fn open(
        address: SocketAddr,
        handed: Option<BoundAddress>,
        process: &Arc<Process>,
        tell: &Sender<Event>,
    ) -> Result<Self, BindError> {
        let listen = Listen::Tcp(address);
        let mut bound = handed.map_or_else(|| net::bind(&listen), Ok)?;
        let tell = tell.clone();
        // When the main thread is gone the answer's sender is dropped with the event, and that is told.
        let ask = Box::new(move |answer| drop(tell.send(Event::Asked(answer))));
        let socket = bound.spread(1).and_then(|sockets| match sockets.into_iter().flatten().next() {
            Some(Bound::Tcp(socket)) => Ok(socket),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        });
        let http = socket.and_then(|socket| Http::start(socket, Arc::clone(process), ask));
        let http = http.map_err(|error| BindError::new(&listen, error))?;
        tracing::info!("admin port at http://{}", bound.label);
        Ok(Self { address, bound, _http: http })
    }

    /// For a successor.
    pub(super) fn packet(&self) -> io::Result<Packet> {
        let address = self.address.to_string();
        Ok(Packet::of(["admin", &address, &self.bound.label], self.bound.descriptors()?))
    }
}
