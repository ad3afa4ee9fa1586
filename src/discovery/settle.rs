//! When a changed set becomes the pool's: what is gone may only be restarted, answers come in pieces, and a record that changes
//! at every look must not cost a new ring each time. Pure: the time is an argument.

use super::set::{Candidate, Followed, Member, order};
use crate::config::{Endpoint, Server};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between two changes of a pool. Each further one that comes at once doubles it, up to the bound; a quiet time as long as
/// twice the pause takes it back.
pub const HOLD_DOWN: Duration = Duration::from_secs(1);
const HOLD_DOWN_MAX: Duration = Duration::from_secs(30);
/// Answers that are under way are waited for: a hundred pods are one change, not a hundred.
const GATHER: Duration = Duration::from_millis(500);

/// The set that a pool has, and what it takes to change it.
#[derive(Debug)]
pub(super) struct Settled {
    /// `None`: nobody knows yet.
    pub(super) servers: Option<Vec<Server>>,
    /// Since when those are gone that have not left yet, by label.
    gone: HashMap<String, Instant>,
    changed_at: Option<Instant>,
    hold_down: Duration,
    /// Since when there is something to change.
    waiting_since: Option<Instant>,
    /// It was said that the names have no servers.
    pub(super) is_kept: bool,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing, until something else is known, or until then.
    Wait(Option<Instant>),
    /// [`Settled::servers`] is another set now. (Look again.)
    Changed,
}

impl Settled {
    pub(super) fn new(servers: Option<Vec<Server>>) -> Self {
        Self {
            servers,
            gone: HashMap::new(),
            changed_at: None,
            hold_down: HOLD_DOWN,
            waiting_since: None,
            is_kept: false,
        }
    }

    /// The answers come to this. `is_asking`: more of them are under way.
    pub(super) fn step(
        &mut self,
        followed: &Followed,
        candidate: Candidate,
        is_asking: bool,
        now: Instant,
    ) -> Step {
        let members = match candidate {
            Candidate::Unknown => {
                self.waiting_since = None;
                return Step::Wait(None);
            }
            Candidate::Empty if followed.keeps_when_empty() && self.has_servers() => {
                self.is_kept = true;
                self.gone.clear();
                self.waiting_since = None;
                return Step::Wait(None);
            }
            Candidate::Empty => Vec::new(),
            Candidate::Servers(members) => members,
        };
        self.is_kept = false;
        let (next, leaves_at) = self.with_those_that_stay(followed, members, now);
        if self.servers.as_ref() == Some(&next) {
            self.waiting_since = None;
            return Step::Wait(leaves_at);
        }
        let since = *self.waiting_since.get_or_insert(now);
        let gathered = if is_asking { since + GATHER } else { now };
        let held = self.changed_at.map_or(now, |at| at + self.hold_down);
        let at = gathered.max(held);
        if now < at {
            return Step::Wait(Some(leaves_at.map_or(at, |leaves| leaves.min(at))));
        }
        self.hold_down = match self.changed_at {
            Some(at) if now < at + self.hold_down * 2 => (self.hold_down * 2).min(HOLD_DOWN_MAX),
            _ => HOLD_DOWN,
        };
        let left: HashSet<String> = next.iter().map(Server::label).collect();
        self.gone.retain(|label, _| left.contains(label));
        self.servers = Some(next);
        self.changed_at = Some(now);
        self.waiting_since = None;
        Step::Changed
    }

    /// Whether there is a change that waits for its time.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting_since.is_some()
    }

    fn has_servers(&self) -> bool {
        self.servers.as_ref().is_some_and(|servers| !servers.is_empty())
    }

    /// The members, and the servers that are gone for a shorter time than they may be; and when the next of those leaves.
    fn with_those_that_stay(
        &mut self,
        followed: &Followed,
        mut members: Vec<Member>,
        now: Instant,
    ) -> (Vec<Server>, Option<Instant>) {
        let labels: HashSet<String> = members.iter().map(|member| member.server.label()).collect();
        self.gone.retain(|label, _| !labels.contains(label));
        let mut leaves_at: Option<Instant> = None;
        let mut seen = HashSet::new();
        // a name that is written down twice is one server
        members.retain(|member| seen.insert(member.server.label()));
        if followed.may_leave() && !followed.follow.leave_after.is_zero() {
            for server in self.servers.iter().flatten().filter(|server| !labels.contains(&server.label())) {
                let since = *self.gone.entry(server.label()).or_insert(now);
                let leaves = since + followed.follow.leave_after;
                if now < leaves {
                    leaves_at = Some(leaves_at.map_or(leaves, |at| at.min(leaves)));
                    members.push(Member { server: server.clone(), is_sure: false });
                }
            }
        }
        if followed.is_sorted() {
            members.sort_by(|a, b| order(&a.server, &b.server));
        }
        forget_taken(&mut members);
        (members.into_iter().map(|member| member.server).collect(), leaves_at)
    }
}

/// An address where another server is known to be now is not that of one that was there before.
fn forget_taken(members: &mut [Member]) {
    let sure: HashSet<SocketAddr> =
        members.iter().filter(|member| member.is_sure).filter_map(|member| address(&member.server)).collect();
    for member in members.iter_mut().filter(|member| !member.is_sure) {
        if let Endpoint::Named { host, port, address } = &member.server.endpoint
            && sure.contains(address)
        {
            member.server.endpoint = Endpoint::Host(host.clone(), *port);
        }
    }
}

fn address(server: &Server) -> Option<SocketAddr> {
    match &server.endpoint {
        Endpoint::Named { address, .. } | Endpoint::Address(address) => Some(*address),
        _ => None,
    }
}
