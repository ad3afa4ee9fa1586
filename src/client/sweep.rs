//! Clients that stand still: within a request, before they have taken their replies, or with nothing to do.
//!
//! No client has a timer of its own. Each worker looks at all of them from time to time and counts the looks since a
//! client last got on. So an idle client costs nothing, and a process that was stopped for an hour closes nobody.

use super::context::Context;
use super::session::Session;
use std::rc::Rc;
use std::time::Duration;

/// What a client is at, as far as it is the client's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is under way.
    #[default]
    Idle,
    /// A request has begun to come.
    Request,
    /// It is answered, and has not taken the answer.
    Unread,
    /// Servers have its requests: not its turn.
    Waits,
}

/// Why a client is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Still {
    Idle,
    Stalled,
}

/// What is remembered of a client from one look to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    stage: Stage,
    /// The session's `progress` when it last got on.
    progress: u64,
    /// Looks since then.
    looks: u32,
}

/// Bytes by which a client gets on, when it does not come to an end of what it is at. With less it could hold its
/// place for ever by a byte now and then.
pub(super) const PROGRESS_BYTES: u64 = 16 * 1024;

/// How many looks a client may stand still; `None`: for ever.
#[derive(Clone, Copy, Debug)]
struct Patience {
    idle: Option<u32>,
    stalled: Option<u32>,
}

/// Looks at the clients until the task is ended. With other timeouts all that they have waited so far is forgotten.
pub async fn sweep(context: Rc<Context>) {
    loop {
        let timeouts = context.limits().client_timeouts();
        let shortest = timeouts.into_iter().flatten().min();
        let pause = shortest.map_or(PAUSE_MAX, pause_between_looks);
        if tokio::time::timeout(pause, context.timeouts_changed()).await.is_ok() {
            context.each_session(|session| session.watch.set(Watch::default()));
        } else if shortest.is_some() {
            let [idle, stalled] = timeouts.map(|timeout| timeout.map(|time| looks_in(time, pause)));
            context.each_session(|session| look(session, Patience { idle, stalled }));
        }
    }
}

fn look(session: &Session, patience: Patience) {
    let mut watch = session.watch.get();
    let verdict = watch.on_look(session.stage(), session.progress.get(), patience);
    session.watch.set(watch);
    let counters = &session.context.counters;
    match verdict {
        None => return,
        Some(Still::Idle) => counters.idle_kicks.add(1),
        Some(Still::Stalled) => counters.stalled_clients_closed.add(1),
    }
    session.condemn();
}

impl Watch {
    fn on_look(&mut self, stage: Stage, progress: u64, patience: Patience) -> Option<Still> {
        let got_on = progress.wrapping_sub(self.progress) >= PROGRESS_BYTES;
        if stage != self.stage || got_on {
            *self = Self { stage, progress, looks: 0 };
            return None;
        }
        self.looks = self.looks.saturating_add(1);
        let (patience, verdict) = match stage {
            Stage::Waits => return None,
            Stage::Idle => (patience.idle, Still::Idle),
            Stage::Request | Stage::Unread => (patience.stalled, Still::Stalled),
        };
        patience.is_some_and(|looks| self.looks >= looks).then_some(verdict)
    }
}

const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Eight looks in the shortest time: nobody stays for more than a quarter longer than allowed.
fn pause_between_looks(shortest: Duration) -> Duration {
    (shortest / 8).clamp(Duration::from_millis(5), PAUSE_MAX)
}

/// Never fewer than make up the time: the first look may come at once after the client stood still.
fn looks_in(time: Duration, pause: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(pause.as_nanos().max(1))).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { idle: None, stalled: Some(3) };

    /// The verdicts of these looks, each with the progress made before it.
    fn looks(patience: Patience, seen: &[(Stage, u64)]) -> Vec<Option<Still>> {
        let mut watch = Watch::default();
        let mut progress = 0;
        let look = |(stage, more): &(Stage, u64)| {
            progress += more;
            watch.on_look(*stage, progress, patience)
        };
        seen.iter().map(look).collect()
    }

    #[test]
    fn who_stops_within_a_request_or_before_its_replies_is_closed() {
        for stage in [Stage::Request, Stage::Unread] {
            let verdicts = looks(PATIENCE, &[(stage, 0); 4]);
            assert_eq!(verdicts, [None, None, None, Some(Still::Stalled)], "{stage:?}");
            let trickle = looks(PATIENCE, &[(stage, 100); 4]);
            assert_eq!(trickle[3], Some(Still::Stalled), "a byte now and then is no progress: {stage:?}");
        }
    }

    #[test]
    fn who_gets_on_stays() {
        let busy = looks(PATIENCE, &[(Stage::Request, PROGRESS_BYTES); 50]);
        assert!(busy.iter().all(Option::is_none));
        let waiting = looks(PATIENCE, &[(Stage::Waits, 0); 50]);
        assert!(waiting.iter().all(Option::is_none), "servers are slow, not the client");
        let idle = looks(PATIENCE, &[(Stage::Idle, 0); 50]);
        assert!(idle.iter().all(Option::is_none), "no idle timeout is set");
    }

    #[test]
    fn a_new_stage_starts_anew() {
        let mut seen = vec![(Stage::Idle, 0); 50];
        seen.extend([(Stage::Request, 10); 3]);
        assert!(looks(PATIENCE, &seen).iter().all(Option::is_none));
    }

    #[test]
    fn idle_clients_go_where_that_is_set() {
        let patience = Patience { idle: Some(2), stalled: None };
        assert_eq!(looks(patience, &[(Stage::Idle, 0); 3])[1], Some(Still::Idle));
        assert!(looks(patience, &[(Stage::Request, 0); 9]).iter().all(Option::is_none));
    }

    #[test]
    fn looks_make_up_the_time() {
        for time in [1, 100, 60_000, 86_400_000].map(Duration::from_millis) {
            let pause = pause_between_looks(time);
            assert!(pause * (looks_in(time, pause) - 1) >= time, "{time:?}");
        }
    }
}
