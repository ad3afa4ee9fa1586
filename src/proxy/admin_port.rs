//! The admin port of a configuration: where it is bound, and what it asks of the main thread.

use super::events::Event;
use crate::admin::{Http, Process};
use crate::config::Listen;
use crate::net::{self, BindError, Bound};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Open until it is dropped.
pub(super) struct AdminPort {
    _http: Http,
}

impl AdminPort {
    pub(super) fn open(
        address: SocketAddr,
        process: &Arc<Process>,
        tell: &Sender<Event>,
    ) -> Result<Self, BindError> {
        let listen = Listen::Tcp(address);
        let bound = net::bind(&listen, 1)?;
        let label = bound.label;
        let tell = tell.clone();
        // When the main thread is gone the answer's sender is dropped with the event, and that is told.
        let ask = Box::new(move |answer| drop(tell.send(Event::Asked(answer))));
        let listener = bound.sockets.into_iter().find_map(|socket| match socket {
            Bound::Tcp(listener) => Some(listener),
            Bound::Unix(_) => None,
        });
        let listener = listener.ok_or(std::io::ErrorKind::InvalidInput.into());
        let http = listener.and_then(|listener| Http::start(listener, Arc::clone(process), ask));
        let http = http.map_err(|error| BindError::new(&listen, error))?;
        tracing::info!("admin port at http://{label}");
        Ok(Self { _http: http })
    }
}
