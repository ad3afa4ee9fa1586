//! While a server is knocked out: one task of one worker asks it at growing intervals whether it is back.
//!
//! A probe has a connection of its own, so it is answered whatever became of those that requests use. Whoever can be
//! connected to and says its `version` is back, as soon as no reply is overdue on those; one that timed out on requests has to
//! answer a request.

use super::connect::{ConnectFailure, ask, connect};
use super::terms::{Shared, Terms};
use super::tko::reason_of;
use crate::health::{Answered, Prober};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// Probes until the server is back.
pub(super) fn spawn(prober: Prober, terms: Rc<Terms>, shared: Shared) {
    tokio::task::spawn_local(run(prober, terms, shared));
}

/// May be dropped at any point: the prober then leaves the server to another worker.
async fn run(mut prober: Prober, terms: Rc<Terms>, shared: Shared) {
    for attempt in 0_u64.. {
        let pause = prober.pause(random(&terms, &shared, attempt));
        tokio::time::sleep(pause).await;
        if Rc::strong_count(&terms) == 1 {
            return; // no connection is left: the server is none of ours any more
        }
        shared.counters.server_probes.add(1);
        match probe(&terms, &shared, prober.needs()).await {
            Ok(answered) => {
                prober.caught_up().await;
                match prober.on_answer(answered) {
                    Ok(()) => return terms.tko.on_unmarked(),
                    // It timed out on a request that was under way meanwhile.
                    Err(still) => prober = still,
                }
            }
            Err(failure) => {
                shared.counters.server_connect_errors.add(1);
                prober.on_failure(reason_of(failure.cause));
            }
        }
    }
}

async fn probe(terms: &Terms, shared: &Shared, needs: Answered) -> Result<Answered, ConnectFailure> {
    let (stream, _) = connect(&terms.endpoint, &shared.dial, terms.connect_timeout).await?;
    if needs == Answered::Request {
        ask(stream, terms.timeout).await?;
    }
    Ok(needs)
}

/// Another number for each worker, server and attempt.
fn random(terms: &Terms, shared: &Shared, attempt: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (shared.jitter_seed, &terms.label, attempt).hash(&mut hasher);
    hasher.finish()
}
