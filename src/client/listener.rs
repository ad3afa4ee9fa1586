//! Accepting clients.

use super::context::Context;
use super::session;
use crate::net::{Listener, Stream};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// memcached's words for a client that is one too many.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";
/// Pause after an accept that failed for want of descriptors or memory: trying at once would only spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients until the task is ended.
pub async fn accept(context: Rc<Context>, listener: Listener) {
    let mut told = None;
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok(stream) => admit(&context, stream),
            Err(error) => {
                // A client that left before it was accepted is nobody's fault.
                if error.kind() != std::io::ErrorKind::ConnectionAborted {
                    if told.is_none_or(|last: Instant| last.elapsed() >= Duration::from_secs(1)) {
                        tracing::warn!("cannot accept clients: {error}; trying again every {PAUSE:?}");
                        told = Some(Instant::now());
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn admit(context: &Rc<Context>, stream: Stream) {
    if context.admit() {
        tokio::task::spawn_local(session::serve(Rc::clone(context), stream));
    } else {
        context.counters.rejected_connections.add(1);
        tokio::task::spawn_local(turn_away(stream));
    }
}

/// Says why, and closes.
async fn turn_away(mut stream: Stream) {
    // Whether the client still listens is its own affair.
    let _ = stream.write_all(TOO_MANY).await;
    let _ = stream.shutdown().await;
}
