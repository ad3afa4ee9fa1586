//! The questions that are asked, when each is due again, and the last good answer to each. Pure: the time is an argument,
//! and who asks is somebody else.
//!
//! What is good once stays good until something else is: a failure changes nothing but the time of the next attempt.

use super::answer::{Answer, Kind, Question, Records};
use super::search::Search;
use crate::config::SERVERS_COUNT_MAX;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// After a failure: at first, and then twice as long each time, up to a bound that is still short, and never longer than the
/// last answer was good for: when the name server is back, all shall be well soon.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// So that nodes which started together do not ask together: a tenth of the time, and at most so much.
const JITTER_MAX: Duration = Duration::from_millis(500);
/// Of files and of what needs no asking.
const UNCHANGING: Duration = Duration::from_secs(3_600);

/// One attempt that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    pub question: Question,
    /// An absolute name with its last dot; an endpoint; a path.
    pub name: String,
    /// Of an endpoint.
    pub addresses: Vec<SocketAddr>,
    /// Answers to asks of another search list are no answers.
    generation: u64,
}

/// How soon and how late something is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    pub min: Duration,
    pub max: Duration,
}

impl Refresh {
    /// For two who want the same: often enough for both.
    fn both(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.min(other.max) }
    }
}

/// What happened to a question, for those who log and count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Failed { question: Question, why: String, is_first: bool },
    Back { question: Question },
    Answered,
}

#[derive(Debug)]
struct Entry {
    refresh: Refresh,
    /// Where the walk through the search list is.
    candidates: Vec<String>,
    at: usize,
    /// The name that exists was found. It is not searched for again, even when it has nothing for a while: further on there may
    /// be a wildcard of somebody else.
    is_settled: bool,
    good: Option<Records>,
    /// What a file said at the last look that is not good yet: who writes it may be in the middle of it.
    seen: Option<Records>,
    /// How long the last answer was.
    good_for: Duration,
    /// In how many attempts since the last good one.
    failures_count: u32,
    /// `None`: it is being asked.
    due: Option<Instant>,
}

impl Entry {
    /// Whether a file says what it said at the look before, or what is known; at the first look there is nothing to spoil.
    fn is_seen_again(&mut self, records: &Records) -> bool {
        if self.good.as_ref().is_none_or(|good| good == records) {
            self.seen = None;
            return true;
        }
        self.seen.replace(records.clone()).as_ref() == Some(records)
    }
}

/// All questions.
#[derive(Debug)]
pub(super) struct Table {
    entries: HashMap<Question, Entry>,
    due: BTreeSet<(Instant, Question)>,
    search: Search,
    generation: u64,
    random: u64,
    /// Something is known now that was not.
    pub(super) is_changed: bool,
}

impl Table {
    pub(super) fn new(search: Search, seed: u64) -> Self {
        Self {
            entries: HashMap::new(),
            due: BTreeSet::new(),
            search,
            generation: 0,
            random: seed | 1,
            is_changed: false,
        }
    }

    /// From now on these are asked and no others.
    pub(super) fn want(&mut self, wanted: &BTreeMap<Question, Refresh>, now: Instant) {
        let (entries, due) = (&mut self.entries, &mut self.due);
        entries.retain(|question, entry| {
            let is_wanted = wanted.contains_key(question);
            if let (false, Some(at)) = (is_wanted, entry.due) {
                due.remove(&(at, question.clone()));
            }
            is_wanted
        });
        for (question, refresh) in wanted {
            match self.entries.get_mut(question) {
                Some(entry) => entry.refresh = *refresh,
                None => self.add(question.clone(), *refresh, now),
            }
        }
    }

    fn add(&mut self, question: Question, refresh: Refresh, now: Instant) {
        let candidates = candidates(&question, &self.search);
        let entry = Entry {
            refresh,
            candidates,
            at: 0,
            is_settled: false,
            good: None,
            seen: None,
            good_for: RETRY_MAX,
            failures_count: 0,
            due: Some(now),
        };
        self.due.insert((now, question.clone()));
        self.entries.insert(question, entry);
    }

    /// The system says something else about names: all of them are walked anew. What was good is good until then.
    pub(super) fn set_search(&mut self, search: Search, now: Instant) {
        self.search = search;
        self.generation += 1;
        self.due.clear();
        for (question, entry) in &mut self.entries {
            entry.candidates = candidates(question, &self.search);
            (entry.at, entry.is_settled, entry.due) = (0, false, Some(now));
            self.due.insert((now, question.clone()));
        }
    }

    /// What is due now, so many at most.
    pub(super) fn asks(&mut self, now: Instant, count_max: usize) -> Vec<Ask> {
        let mut asks = Vec::new();
        while asks.len() < count_max
            && let Some((at, _)) = self.due.first()
            && *at <= now
            && let Some((_, question)) = self.due.pop_first()
        {
            if question.kind == Kind::Addresses
                && let Some(addresses) = self.search.fixed(&question.name)
            {
                self.learn(&question, of_addresses(&addresses), UNCHANGING, now);
                continue;
            }
            let addresses =
                if question.kind == Kind::Cluster { self.endpoint(&question.name) } else { Vec::new() };
            let Some(entry) = self.entries.get_mut(&question) else { continue };
            entry.due = None;
            let name = entry.candidates.get(entry.at).unwrap_or(&question.name).clone();
            asks.push(Ask { name, addresses, generation: self.generation, question });
        }
        asks
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn on_answer(&mut self, ask: &Ask, answer: Answer, now: Instant) -> Told {
        let Some(entry) = self.entries.get_mut(&ask.question) else { return Told::Answered };
        if ask.generation != self.generation || entry.due.is_some() {
            return Told::Answered; // asked again already, under another search list
        }
        let was_failing = entry.failures_count > 0;
        match answer {
            Answer::Found(records, _) if records.count() > SERVERS_COUNT_MAX => {
                let why = format!("{} records; at most {SERVERS_COUNT_MAX}", records.count());
                return self.fail(&ask.question, why, now);
            }
            Answer::Found(records, ttl) => {
                let Some(records) = merged(records, entry.good.as_ref()) else {
                    return self.fail(&ask.question, "no answer for one of A and AAAA".into(), now);
                };
                if let (Records::List { version, .. }, Some(Records::List { version: known, .. })) =
                    (&records, &entry.good)
                    && ask.question.kind == Kind::Cluster
                    && version < known
                {
                    // a node that does not know yet
                    self.schedule(&ask.question, ttl, now);
                    return Told::Answered;
                }
                if ask.question.kind == Kind::File && !entry.is_seen_again(&records) {
                    self.schedule(&ask.question, ttl, now);
                    return Told::Answered;
                }
                entry.is_settled = true;
                if let Records::Services { addresses, .. } = &records {
                    let along = by_host(addresses);
                    self.learn_all(along, ask, ttl, now);
                }
                self.learn(&ask.question, without_addresses(records), ttl, now);
            }
            Answer::Nothing(ttl) => {
                if !entry.is_settled && entry.at + 1 < entry.candidates.len() {
                    entry.at += 1;
                    entry.due = Some(now);
                    self.due.insert((now, ask.question.clone()));
                    return Told::Answered;
                }
                if !entry.is_settled {
                    entry.at = 0;
                }
                self.learn(&ask.question, Records::none(ask.question.kind), ttl, now);
            }
            Answer::Failed(why) => return self.fail(&ask.question, why, now),
        }
        if was_failing { Told::Back { question: ask.question.clone() } } else { Told::Answered }
    }

    /// Addresses that came along with an SRV answer save a question for each of its targets.
    fn learn_all(&mut self, along: BTreeMap<String, Vec<IpAddr>>, ask: &Ask, ttl: Duration, now: Instant) {
        let Some(refresh) = self.entries.get(&ask.question).map(|entry| entry.refresh) else { return };
        for (host, addresses) in along {
            let question = Question::new(Kind::Addresses, &host);
            if !self.entries.contains_key(&question) {
                // it is wanted as soon as its pool is looked at, else forgotten
                self.add(question.clone(), refresh, now);
            }
            // The next SRV answer comes first, and brings them again.
            self.learn(&question, of_addresses(&addresses), ttl * 2 + JITTER_MAX, now);
        }
    }

    fn learn(&mut self, question: &Question, records: Records, ttl: Duration, now: Instant) {
        let records = records.sorted();
        let Some(entry) = self.entries.get_mut(question) else { return };
        self.is_changed |= entry.good.as_ref() != Some(&records);
        entry.good = Some(records);
        entry.failures_count = 0;
        self.schedule(question, ttl, now);
    }

    fn schedule(&mut self, question: &Question, ttl: Duration, now: Instant) {
        let Some(entry) = self.entries.get_mut(question) else { return };
        let ttl = ttl.clamp(entry.refresh.min, entry.refresh.max);
        entry.good_for = ttl;
        let jitter = self.part_of((ttl / 10).min(JITTER_MAX));
        self.at(question, now + ttl + jitter);
    }

    fn fail(&mut self, question: &Question, why: String, now: Instant) -> Told {
        let Some(entry) = self.entries.get_mut(question) else { return Told::Answered };
        if !entry.is_settled {
            entry.at = 0;
        }
        entry.seen = None;
        let is_first = entry.failures_count == 0;
        self.is_changed |= is_first; // whoever waits for the first answers waits no longer for this one
        let most = entry.good_for.clamp(RETRY_FIRST, RETRY_MAX);
        let pause = RETRY_FIRST.saturating_mul(1 << entry.failures_count.min(8)).min(most);
        entry.failures_count += 1;
        let jitter = self.part_of(pause / 4);
        self.at(question, now + pause + jitter);
        Told::Failed { question: question.clone(), why, is_first }
    }

    fn at(&mut self, question: &Question, at: Instant) {
        let Some(entry) = self.entries.get_mut(question) else { return };
        if let Some(former) = entry.due.replace(at) {
            self.due.remove(&(former, question.clone()));
        }
        self.due.insert((at, question.clone()));
    }

    /// xorshift: no secret hangs on it.
    fn part_of(&mut self, most: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        most.mul_f64((self.random >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// The last good answer; `None`: there was none yet.
    pub(super) fn good(&self, question: &Question) -> Option<&Records> {
        self.entries.get(question)?.good.as_ref()
    }

    /// Whether there was an answer, or at least an attempt.
    pub(super) fn was_tried(&self, question: &Question) -> bool {
        self.entries.get(question).is_some_and(|entry| entry.good.is_some() || entry.failures_count > 0)
    }

    /// Whether an answer to it is under way.
    pub(super) fn is_asked(&self, question: &Question, now: Instant) -> bool {
        self.entries.get(question).is_some_and(|entry| entry.due.is_none_or(|due| due <= now))
    }

    /// Where `host:port` is, as far as that is known.
    fn endpoint(&self, name: &str) -> Vec<SocketAddr> {
        let Some((host, port)) = name.rsplit_once(':') else { return Vec::new() };
        let Ok(port) = port.parse() else { return Vec::new() };
        let ips = host.parse().map_or_else(|_| self.addresses(host).unwrap_or_default(), |ip| vec![ip]);
        ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
    }

    /// The addresses of a host, IPv4 first; `None`: nobody knows.
    pub(super) fn addresses(&self, host: &str) -> Option<Vec<IpAddr>> {
        match self.good(&Question::new(Kind::Addresses, host))? {
            Records::Addresses { v4, v6 } => {
                let v4 = v4.iter().flatten().map(|ip| IpAddr::V4(*ip));
                Some(v4.chain(v6.iter().flatten().map(|ip| IpAddr::V6(*ip))).collect())
            }
            Records::Services { .. } | Records::List { .. } => None,
        }
    }
}

/// What is wanted by two is asked for as both want it.
pub(super) fn add_wanted(wanted: &mut BTreeMap<Question, Refresh>, question: Question, refresh: Refresh) {
    wanted.entry(question).and_modify(|known| *known = known.both(refresh)).or_insert(refresh);
}

fn candidates(question: &Question, search: &Search) -> Vec<String> {
    match question.kind {
        Kind::Addresses | Kind::Services => search.candidates(&question.name),
        Kind::Cluster | Kind::File => vec![question.name.clone()],
    }
}

/// With what is known of a family that failed; `None`: nobody knows whether there is an address.
fn merged(records: Records, known: Option<&Records>) -> Option<Records> {
    let Records::Addresses { v4, v6 } = records else { return Some(records) };
    let (known4, known6) = match known {
        Some(Records::Addresses { v4, v6 }) => (v4.clone(), v6.clone()),
        _ => (None, None),
    };
    let (v4, v6) = (v4.or(known4), v6.or(known6));
    let is_known = v4.is_some() && v6.is_some();
    let records = Records::Addresses { v4, v6 };
    (is_known || records.count() > 0).then_some(records)
}

/// They are kept with their hosts.
fn without_addresses(records: Records) -> Records {
    match records {
        Records::Services { targets, .. } => Records::Services { targets, addresses: Vec::new() },
        records => records,
    }
}

fn by_host(addresses: &[(String, IpAddr)]) -> BTreeMap<String, Vec<IpAddr>> {
    let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (host, address) in addresses {
        hosts.entry(host.clone()).or_default().push(*address);
    }
    hosts
}

fn of_addresses(addresses: &[IpAddr]) -> Records {
    let (mut all4, mut all6) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(ip) => all4.push(*ip),
            IpAddr::V6(ip) => all6.push(*ip),
        }
    }
    Records::Addresses { v4: Some(all4), v6: Some(all6) }
}
