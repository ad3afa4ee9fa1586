//! Accepting clients.

use super::context::Context;
use super::session;
use crate::net::{Listener, SpareDescriptor, Stream};
use crate::stats::LogRate;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// memcached's words for a client that is one too many.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";
/// Pause after an accept that failed for want of descriptors or memory: trying at once would only spin, and take from
/// the clients that are there.
const PAUSE: Duration = Duration::from_millis(100);

/// Of those that wait when listening ends: as many as have a place there (1,024), and some that come meanwhile.
const WAITING_MAX: usize = 2048;

static TOLD: LogRate = LogRate::new();

/// Accepts clients until `stop` is over. Those that wait in the queue by then are taken too: who closes a listening socket
/// refuses them.
pub async fn accept(context: Rc<Context>, listener: Listener, stop: impl Future) {
    let mut spare = SpareDescriptor::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = poll_fn(|cx| match stop.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => listener.poll_accept(cx).map(Some),
        });
        let error = match accepted.await {
            None => break,
            Some(Ok(stream)) => {
                admit(&context, stream);
                continue;
            }
            // A client that left before it was accepted is nobody's fault.
            Some(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
            Some(Err(error)) => error,
        };
        context.counters.accept_errors.add(1);
        if TOLD.may_log() {
            tracing::warn!("cannot accept clients: {error}");
        }
        let told =
            SpareDescriptor::is_wanted(&error) && spare.give_up() && turn_away_next(&context, &listener);
        spare.take_back();
        if !told {
            tokio::time::sleep(PAUSE).await;
        }
    }
    for stream in std::iter::from_fn(|| listener.try_accept()).take(WAITING_MAX) {
        admit(&context, stream);
    }
}

/// A client has connected: serves it, or turns it away.
pub fn admit(context: &Rc<Context>, stream: Stream) {
    if context.admit(false) {
        serve(context, stream);
    } else {
        turn_away(context, stream);
    }
}

/// A client that was served elsewhere goes on here. Its place may have been taken on the way: that is not its fault.
pub fn admit_moved(context: &Rc<Context>, stream: Stream) {
    context.admit(true);
    serve(context, stream);
}

fn serve(context: &Rc<Context>, stream: Stream) {
    stream.keep_alive();
    stream.keep_little_unsent();
    tokio::task::spawn_local(session::serve(Rc::clone(context), stream));
}

/// Takes the client that could not be accepted, with the descriptor that was freed for it.
fn turn_away_next(context: &Context, listener: &Listener) -> bool {
    let Some(stream) = listener.try_accept() else { return false };
    turn_away(context, stream);
    true
}

/// Says why, and closes.
fn turn_away(context: &Context, stream: Stream) {
    context.counters.rejected_connections.add(1);
    stream.say_last(TOO_MANY);
}
