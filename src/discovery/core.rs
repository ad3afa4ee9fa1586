//! All pools that are followed, and all questions, as one state machine: the time and the answers come in, questions and
//! changed sets go out. It opens no socket, reads no file and no clock.

use super::answer::Answer;
use super::search::Search;
use super::set::{Candidate, Followed, IsOwn};
use super::settle::{Settled, Step};
use super::table::{Ask, Table, Told};
use crate::config::{Endpoint, Server};
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

/// Questions under way at once.
pub const ASKS_COUNT_MAX: usize = 16;
/// Lines of one kind about one pool; whoever writes more records than that is not read out.
const REFUSALS_TOLD_COUNT_MAX: usize = 16;

/// What is to be done now.
#[derive(Debug, Default, PartialEq)]
pub struct Turn {
    pub asks: Vec<Ask>,
    /// Pools that have another set now, and that set.
    pub changed: Vec<(String, Vec<Server>)>,
    /// When to look again, if nothing comes before.
    pub wake_at: Option<Instant>,
    /// For the log.
    pub notes: Vec<String>,
}

/// The state of it all.
pub struct Core {
    table: Table,
    pools: Vec<Pool>,
    asked_count: usize,
    is_own: Rc<IsOwn>,
}

struct Pool {
    followed: Followed,
    settled: Settled,
    /// What was said of its records.
    told: HashSet<SocketAddr>,
    is_keep_told: bool,
    /// Nothing has to be looked at before.
    look_at: Option<Instant>,
}

impl Core {
    #[must_use]
    pub fn new(search: Search, seed: u64) -> Self {
        let is_own = Rc::new(|_| false);
        Self { table: Table::new(search, seed), pools: Vec::new(), asked_count: 0, is_own }
    }

    /// From now on these pools; those that are the same keep what is known of them. `is_own`: ringway itself listens there.
    pub fn follow(&mut self, followed: Vec<Followed>, is_own: Rc<IsOwn>, now: Instant) {
        self.is_own = is_own;
        let mut former: BTreeMap<String, Pool> =
            self.pools.drain(..).map(|pool| (pool.followed.pool.clone(), pool)).collect();
        let pool = |followed: Followed| match former.remove(&followed.pool) {
            Some(pool) if is_same(&pool.followed, &followed) => {
                Pool { followed, look_at: Some(now), told: HashSet::new(), ..pool }
            }
            _ => Pool {
                settled: Settled::new(followed.known.clone()),
                followed,
                told: HashSet::new(),
                is_keep_told: false,
                look_at: Some(now),
            },
        };
        self.pools = followed.into_iter().map(pool).collect();
        self.table.is_changed = true;
    }

    /// The system says something else about names.
    pub fn set_search(&mut self, search: Search, now: Instant) {
        self.table.set_search(search, now);
    }

    pub fn on_answer(&mut self, ask: &Ask, answer: Answer, now: Instant) -> Told {
        self.asked_count = self.asked_count.saturating_sub(1);
        self.table.on_answer(ask, answer, now)
    }

    /// What is to be done at this time.
    pub fn turn(&mut self, now: Instant) -> Turn {
        let mut turn = Turn::default();
        loop {
            let was_changed = std::mem::take(&mut self.table.is_changed);
            if was_changed {
                let mut wanted = BTreeMap::new();
                for Pool { followed, settled, .. } in &self.pools {
                    followed.want(&self.table, settled.servers.as_deref().unwrap_or_default(), &mut wanted);
                }
                self.table.want(&wanted, now);
            }
            let room = ASKS_COUNT_MAX.saturating_sub(self.asked_count);
            let asks = self.table.asks(now, room);
            self.asked_count += asks.len();
            turn.asks.extend(asks);
            let changes_count = turn.changed.len();
            for pool in &mut self.pools {
                let is_due = pool.look_at.is_some_and(|at| at <= now);
                if was_changed || is_due || pool.settled.is_waiting() {
                    pool.look(&self.table, &*self.is_own, now, &mut turn);
                }
            }
            // Who has left is not asked for any more.
            self.table.is_changed |= turn.changed.len() > changes_count;
            if !self.table.is_changed {
                break; // what needs no asking may have been learnt in between
            }
        }
        let looks = self.pools.iter().filter_map(|pool| pool.look_at);
        let asks = self.table.next_due().filter(|_| self.asked_count < ASKS_COUNT_MAX);
        turn.wake_at = looks.chain(asks).min();
        turn
    }

    /// Pools of which nobody knows the servers yet.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        let is_unknown = |pool: &&Pool| {
            let servers = pool.settled.servers.as_deref();
            !servers.is_some_and(|servers| pool.followed.is_known(&self.table, servers))
        };
        self.pools.iter().filter(is_unknown).map(|pool| pool.followed.pool.as_str())
    }
}

impl Pool {
    fn look(&mut self, table: &Table, is_own: &IsOwn, now: Instant, turn: &mut Turn) {
        let mut refusals = Vec::new();
        let published = self.settled.servers.as_deref().unwrap_or_default();
        let candidate = self.followed.candidate(table, published, is_own, &mut refusals);
        let name = &self.followed.pool;
        for (address, why) in refusals {
            if self.told.len() < REFUSALS_TOLD_COUNT_MAX && self.told.insert(address) {
                turn.notes.push(format!("pool {name}: {address} is refused: {why}"));
            }
        }
        let is_empty = candidate == Candidate::Empty;
        let is_asking = self.followed.is_asking(table, published, now);
        let before = self.settled.servers.clone();
        match self.settled.step(&self.followed, candidate, is_asking, now) {
            Step::Wait(at) => self.look_at = at,
            Step::Changed => {
                self.look_at = Some(now + super::settle::HOLD_DOWN);
                let servers = self.settled.servers.clone().unwrap_or_default();
                if let Some(note) = difference(name, before.as_deref(), &servers) {
                    turn.notes.push(note);
                }
                turn.changed.push((name.clone(), servers));
            }
        }
        if self.settled.is_kept && !self.is_keep_told {
            let count = self.settled.servers.as_ref().map_or(0, Vec::len);
            turn.notes.push(format!(
                "pool {name}: its names have no servers any more; the {count} that were there stay (`on_empty: keep`)"
            ));
        } else if is_empty && !self.is_keep_told && before.is_none() {
            turn.notes.push(format!("pool {name}: its names have no servers"));
        }
        self.is_keep_told = is_empty;
    }
}

/// Where a pool's servers come from is the same: what is known of it still holds.
fn is_same(former: &Followed, followed: &Followed) -> bool {
    former.source == followed.source && former.servers == followed.servers
}

/// For the log: how many there are now, who came, went and moved; the first few by name.
fn difference(pool: &str, before: Option<&[Server]>, now: &[Server]) -> Option<String> {
    const NAMED_COUNT_MAX: usize = 8;
    let by_label = |servers: &[Server]| -> BTreeMap<String, String> {
        servers.iter().map(|server| (server.label(), server.address())).collect()
    };
    let count = now.len();
    let Some(before) = before else {
        let nowhere = now.iter().filter(|server| matches!(server.endpoint, Endpoint::Host(..))).count();
        let nowhere =
            if nowhere > 0 { format!(", {nowhere} of them without an address") } else { String::new() };
        return Some(format!("pool {pool}: {count} servers{nowhere}"));
    };
    let (before, now) = (by_label(before), by_label(now));
    let mut text = format!("pool {pool}: {count} servers");
    let mut list = |what: &str, labels: Vec<&String>| {
        if !labels.is_empty() {
            let names: Vec<&str> = labels.iter().take(NAMED_COUNT_MAX).map(|label| label.as_str()).collect();
            let more = if labels.len() > NAMED_COUNT_MAX { ", …" } else { "" };
            text.push_str(&format!("; {} {what}: {}{more}", labels.len(), names.join(", ")));
        }
    };
    list("came", now.keys().filter(|label| !before.contains_key(*label)).collect());
    list("left", before.keys().filter(|label| !now.contains_key(*label)).collect());
    let is_moved =
        |label: &&String| before.get(*label).is_some_and(|address| now.get(*label) != Some(address));
    list("moved", now.keys().filter(is_moved).collect());
    Some(text)
}
