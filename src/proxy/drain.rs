//! The end of the process: not ready any more, nobody new, all that was asked is answered.

use super::events::{Event, Events};
use super::hand_over::Moving;
use super::reload::Serving;
use super::worker::Worker;
use crate::admin::Phase;
use crate::net::Passage;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The same wish told twice at once (by `timeout`, by a terminal) is one wish.
const SAME_WISH: Duration = Duration::from_millis(20);
/// Between two looks at whether the workers are done.
const TICK: Duration = Duration::from_millis(10);
/// What a worker that is told to end at once takes for it, at most, on a machine that has other things to do.
const TIME_TO_END: Duration = Duration::from_secs(1);

/// Leaves, after the signal of this name. A second one ends it at once.
pub(super) fn drain(serving: &mut Serving, name: &str, events: &mut Events) -> ExitCode {
    let told = Instant::now();
    let (delay, timeout) = serving.times_to_leave();
    serving.shared.process.probes().enter(Phase::Draining);
    if !delay.is_zero() {
        tracing::info!(
            "{name}: not ready any more, and serving for {delay:?} yet; a second signal ends at once"
        );
        // Clients of a worker that has left meanwhile are served on.
        while told.elapsed() < delay {
            match events.next_within(TICK) {
                Some(Event::Stop(name)) if is_second(name, told) => return ExitCode::FAILURE,
                Some(Event::Arrived(clients)) => serving.admit(clients),
                // Its clients need not be closed then.
                Some(Event::HandedOver(passage)) => return hand_over(serving, passage, Some(told), events),
                Some(Event::NotTaken) => serving.is_being_taken = false,
                // It may be an hour, and servers come and go as before.
                Some(Event::Members) => serving.take_members(),
                _ => {}
            }
        }
    }
    tracing::info!(
        "{name}: finishing what is in flight, for {timeout:?} at most; a second signal ends at once"
    );
    if serving.is_being_taken {
        // All that leads to the sockets is the other one's, even when this one has left before it serves.
        tracing::info!("another process has all sockets and is about to serve");
    } else {
        serving.close_sockets();
    }
    for worker in &serving.workers {
        worker.drain(timeout);
    }
    let code = wait(serving, timeout, Some(told), events, drop);
    if let Some(admin) = serving.admin.take()
        && !serving.is_being_taken
    {
        admin.close();
    }
    if let End::Over = code {
        tracing::info!("all clients are answered; leaving");
    }
    code.exit_code()
}

/// Leaves to a successor that serves on all sockets: its clients follow. `told`: when a signal came, if one did.
pub(super) fn hand_over(
    serving: &mut Serving,
    passage: Passage,
    told: Option<Instant>,
    events: &mut Events,
) -> ExitCode {
    let (_, timeout) = serving.times_to_leave();
    tracing::info!("another process serves now, and clients move to it; leaving within {timeout:?}");
    serving.admin = None;
    serving.addresses.clear(); // the files are the other one's now
    let moving = match Moving::start(passage) {
        Ok(moving) => moving,
        Err(error) => {
            tracing::error!("cannot move clients, they are closed: {error}");
            return ExitCode::FAILURE;
        }
    };
    for worker in serving.workers.drain(..) {
        let to = moving.clients.clone();
        // A client that nobody takes is closed.
        worker.move_clients(Arc::new(move |client| drop(to.send(client))));
        serving.retired.push(worker);
    }
    let forward = |clients: Vec<OwnedFd>| {
        for client in clients {
            drop(moving.clients.send(client));
        }
    };
    let end = wait(serving, timeout, told, events, forward);
    if let End::Over = end {
        tracing::info!("{} clients have moved; leaving", moving.finish());
    }
    end.exit_code()
}

/// How the waiting ended.
enum End {
    Over,
    Late,
    SecondSignal,
}

impl End {
    const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Over | Self::Late => ExitCode::SUCCESS,
            Self::SecondSignal => ExitCode::FAILURE,
        }
    }
}

/// Waits for all workers. Whatever servers there are meanwhile: who is still here asks little more, and a worker that leaves
/// builds no tree. `told`: when the first signal came, if one did. `arrived`: what to do with clients whose worker had
/// left before.
fn wait(
    serving: &mut Serving,
    timeout: Duration,
    mut told: Option<Instant>,
    events: &mut Events,
    arrived: impl Fn(Vec<OwnedFd>),
) -> End {
    let (mut deadline, mut is_late) = (Instant::now() + timeout, false);
    loop {
        let is_over = serving.workers.iter().chain(&serving.retired).all(Worker::is_done);
        match events.next_within(if is_over { Duration::ZERO } else { TICK }) {
            Some(Event::Stop(name)) => match told {
                Some(told) if is_second(name, told) => return End::SecondSignal,
                Some(_) => {}
                // It leaves already, but nobody has said so to whoever sends this.
                None => {
                    told = Some(Instant::now());
                    tracing::info!("{name}: leaving already; a second signal ends at once");
                }
            },
            Some(Event::Arrived(clients)) => arrived(clients),
            // It serves, and answers probes. Clients that are still here are told to go already, so they do not move.
            Some(Event::HandedOver(_)) => serving.admin = None,
            Some(Event::NotTaken) => {
                serving.is_being_taken = false;
                serving.close_sockets();
            }
            // Nobody who is done tells anything more.
            None if is_over => return if is_late { End::Late } else { End::Over },
            _ => {}
        }
        if Instant::now() >= deadline {
            if !is_late {
                is_late = true;
                tracing::warn!("drain_timeout is over; leaving with clients unanswered");
                // Deletes on their way are kept only while the spool is open.
                serving.workers.iter_mut().chain(&mut serving.retired).for_each(Worker::end_now);
                deadline += TIME_TO_END;
                continue;
            }
            return End::Late;
        }
    }
}

fn is_second(name: &str, told: Instant) -> bool {
    let is_second = told.elapsed() >= SAME_WISH;
    if is_second {
        tracing::warn!("{name} again: leaving at once");
    }
    is_second
}
