//! Names that are followed: worlds of servers that come, go and move, and name servers that tell the truth, lie, fail, tell
//! too much, or say something else at every look. The state machine under a clock of the test, and the program before a name
//! server of the test.
//!
//! `checked` counts answers, `faults` those that were wrong in some way.

use crate::plan::{Outcome, Plan};
use crate::support::dns::{Dns, Fault};
use crate::support::{Client, Directory, PATIENCE, Proxy, Random};
use crate::watch;
use ringway::config::{self, Endpoint, Server};
use ringway::discovery::{Answer, Ask, Core, Followed, HOLD_DOWN, Kind, Records, Search, Target};
use ringway::hash::{Ring, Spec};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Answers in one world.
const WORLD_ANSWERS: u64 = 500;
/// Keys of which it is known where they are.
const KEYS: usize = 1_000;
/// See [`World::compare`].
const NEEDLESS_KEYS_MAX: u64 = 50;
const OWN: &str = "10.255.0.1:11211";
/// One answer of the program costs a name server of its own, so it gets one of so many.
const OF_PROGRAM: u64 = 200;
const FAULTS: [Fault; 9] = [
    Fault::ServFail,
    Fault::Refused,
    Fault::WrongId,
    Fault::WrongQuestion,
    Fault::Garbage,
    Fault::Cut,
    Fault::Circle,
    Fault::Truncated,
    Fault::None,
];

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut outcome = plan.each("world", WORLD_ANSWERS, |seed| World::new(seed).live());
    // over all changes: one server's share of a ring is not exactly one of so many
    let count = |name: &str| outcome.counts.get(name).copied().unwrap_or(0);
    let (moved, ideal) = (count("keys_moved"), count("keys_ideal"));
    if moved * 10 > ideal * 11 {
        outcome.report_wrong(format_args!("{moved} keys moved where {ideal} would do"));
    }
    let answers = (outcome.checked / OF_PROGRAM).clamp(24, 500);
    program(plan.seed, answers, &mut outcome);
    outcome
}

/// What is true, and the state machine that hears of it.
struct World {
    random: Random,
    core: Core,
    now: Instant,
    kind: usize,
    /// Servers that there are: a number that is their name, and where they are.
    there: Vec<(usize, Ipv4Addr)>,
    asks: Vec<Ask>,
    servers: Option<Vec<Server>>,
    changed_at: Option<Instant>,
    spec: Spec,
    outcome: Outcome,
}

const KINDS: [&str; 5] = [
    "dns: cache.example",
    "srv: cache.example, leave_after: 3s",
    "srv: cache.example, leave_after: 0s, on_empty: error",
    "statefulset: {name: mc, service: mc, namespace: ns}, leave_after: 2s",
    "servers: [mc-0.mc.ns.svc.cluster.local, mc-1.mc.ns.svc.cluster.local, 10.9.9.9]",
];

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let kind = random.below(KINDS.len());
        let text = format!("pools: {{p: {{{}, refresh: {{min: 200ms, max: 2s}}}}}}", KINDS[kind]);
        let (config, _) = config::from_text("t", &text, |_, _| {}).unwrap();
        let now = Instant::now();
        let mut core = Core::new(Search::default(), seed);
        let own: SocketAddr = OWN.parse().unwrap();
        core.follow(Followed::of(&config), Rc::new(move |address| address == own), now);
        let spec = config.pools[0].hash.clone();
        let mut world = Self {
            random,
            core,
            now,
            kind,
            there: Vec::new(),
            asks: Vec::new(),
            servers: None,
            changed_at: None,
            spec,
            outcome: Outcome::default(),
        };
        (0..3).for_each(|_| world.come());
        world
    }

    fn live(mut self) -> Outcome {
        while self.outcome.checked < WORLD_ANSWERS {
            match self.random.below(12) {
                0 => self.come(),
                1 if !self.there.is_empty() => {
                    let place = self.random.below(self.there.len());
                    self.there.remove(place);
                }
                2 if !self.there.is_empty() => {
                    let (place, ip) = (self.random.below(self.there.len()), self.address());
                    self.there[place].1 = ip;
                }
                3 if self.random.one_in(10) => self.there.clear(),
                4 if self.random.one_in(10) => (0..60).for_each(|_| self.come()),
                _ => {}
            }
            self.now += Duration::from_millis(self.random.below(1_500) as u64);
            self.turn();
            while !self.asks.is_empty() && !self.random.one_in(6) {
                let ask = self.asks.swap_remove(self.random.below(self.asks.len()));
                let answer = self.answer(&ask);
                self.core.on_answer(&ask, answer, self.now);
                self.outcome.checked += 1;
                self.turn();
            }
        }
        self.settle();
        self.outcome
    }

    fn address(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + u32::try_from(self.random.below(1 << 20)).unwrap() + 1)
    }

    fn come(&mut self) {
        let number = match self.kind {
            3 | 4 => (0..).find(|n| self.there.iter().all(|(there, _)| there != n)).unwrap(),
            _ => self.random.below(200),
        };
        let ip = self.address();
        if self.there.iter().all(|(there, at)| *there != number && *at != ip) && self.there.len() < 100 {
            self.there.push((number, ip));
        }
    }

    /// The truth, in another order each time.
    fn truth(&mut self, ask: &Ask) -> Answer {
        let ttl = Duration::from_secs(self.random.below(3) as u64);
        let mut there = self.there.clone();
        for i in (1..there.len()).rev() {
            there.swap(i, self.random.below(i + 1));
        }
        let host = |number: &usize| format!("mc-{number}.mc.ns.svc.cluster.local");
        if ask.question.kind == Kind::Services {
            if there.is_empty() {
                return Answer::Nothing(ttl);
            }
            let targets =
                there.iter().map(|(number, _)| Target { host: host(number), port: 11211 }).collect();
            let along = there.iter().filter(|_| self.random.one_in(2));
            let addresses = along.map(|(number, ip)| (host(number), IpAddr::V4(*ip))).collect();
            return Answer::Found(Records::Services { targets, addresses }, ttl);
        }
        let is_one = |number: &usize| format!("{}.", host(number)) == ask.name;
        let v4: Vec<Ipv4Addr> = match ask.name.as_str() {
            "cache.example." => there.iter().map(|(_, ip)| *ip).collect(),
            _ => there.iter().filter(|(number, _)| is_one(number)).map(|(_, ip)| *ip).collect(),
        };
        match v4.is_empty() {
            true => Answer::Nothing(ttl),
            false => Answer::Found(Records::Addresses { v4: Some(v4), v6: Some(Vec::new()) }, ttl),
        }
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        if !self.random.one_in(4) {
            return self.truth(ask);
        }
        self.outcome.faults += 1;
        let ttl = Duration::ZERO;
        let of_addresses = |v4: Vec<Ipv4Addr>| Records::Addresses { v4: Some(v4), v6: Some(Vec::new()) };
        let is_addresses = ask.question.kind == Kind::Addresses;
        let some = self.address();
        match self.random.below(7) {
            0 if is_addresses => {
                let bad = ["0.0.0.0", "255.255.255.255", "224.1.2.3", "10.255.0.1"];
                let bad: Vec<Ipv4Addr> = bad.iter().map(|ip| ip.parse().unwrap()).collect();
                Answer::Found(of_addresses(bad), ttl)
            }
            1 if is_addresses && self.random.one_in(20) => {
                // a lie that nobody can tell from the truth, if it is not too much
                let many = 16_385 + self.random.below(10_000) as u32;
                Answer::Found(of_addresses((0..many).map(|n| (0x0b00_0000 + n).into()).collect()), ttl)
            }
            2 if is_addresses => {
                let v6 = Some(vec!["::".parse().unwrap(), "ff02::1".parse().unwrap()]);
                match self.truth(ask) {
                    Answer::Found(Records::Addresses { v4, .. }, ttl) => {
                        Answer::Found(Records::Addresses { v4, v6 }, ttl)
                    }
                    other => other,
                }
            }
            3 if is_addresses && self.kind == 0 => Answer::Found(of_addresses(vec![some]), ttl),
            4 => Answer::Nothing(ttl),
            _ => Answer::Failed("no answer in time".into()),
        }
    }

    fn turn(&mut self) {
        let turn = self.core.turn(self.now);
        self.asks.extend(turn.asks);
        for (_, servers) in turn.changed {
            if let Some(at) = self.changed_at.replace(self.now)
                && self.now - at < HOLD_DOWN
            {
                self.outcome.report_wrong(format_args!("two changes within {:?}", self.now - at));
            }
            self.look(&servers);
            self.servers = Some(servers);
            self.outcome.add("changes", 1);
        }
    }

    /// A set that is published now.
    fn look(&mut self, servers: &[Server]) {
        for server in servers {
            let (Endpoint::Address(address) | Endpoint::Named { address, .. }) = &server.endpoint else {
                continue;
            };
            let ip = address.ip();
            if address.to_string() == OWN || ip.is_unspecified() || ip.is_multicast() {
                self.outcome.report_wrong(format_args!("{address} is a server"));
            }
        }
        let keeps = self.kind != 2;
        if keeps && servers.is_empty() && self.servers.as_ref().is_some_and(|servers| !servers.is_empty()) {
            self.outcome.report_lost("all servers of a pool that keeps them");
        }
        let labels: HashSet<String> = servers.iter().map(Server::label).collect();
        if labels.len() != servers.len() {
            self.outcome.report_wrong("a server twice");
        }
        if let Some(before) = self.servers.take() {
            self.compare(&before, servers, &labels);
        }
    }

    /// Only keys whose server is gone have moved, and those that belong to a new one; and a few others: libmemcached reckons the
    /// points of each server with floats, and for some numbers of servers each has 156 of them instead of 160: 25 of 1,000 keys,
    /// give or take five, and five times that is the bound.
    fn compare(&mut self, before: &[Server], now: &[Server], labels: &HashSet<String>) {
        let former: HashSet<String> = before.iter().map(Server::label).collect();
        let came = labels.difference(&former).count();
        let left = former.difference(labels).count();
        if before.is_empty() || now.is_empty() || before.len() > 400 || now.len() > 400 {
            return;
        }
        let ring = |servers: &[Server]| {
            let members: Vec<_> = servers.iter().map(|server| server.member.clone()).collect();
            Ring::build(&self.spec, &members).unwrap()
        };
        let (old, new) = (ring(before), ring(now));
        let (mut moved, mut moved_needlessly) = (0, 0);
        for n in 0..KEYS {
            let key = format!("key:{n}");
            let (from, to) = (old.pick(key.as_bytes()).unwrap(), new.pick(key.as_bytes()).unwrap());
            let (from, to) = (before[from].label(), now[to].label());
            if from != to {
                moved += 1;
                moved_needlessly += u64::from(labels.contains(&from) && former.contains(&to));
            }
        }
        if moved_needlessly > NEEDLESS_KEYS_MAX {
            let text = format!(
                "{moved_needlessly} of {KEYS} keys moved between servers that were there all the time"
            );
            self.outcome.report_wrong(text);
        }
        self.outcome.add("keys_needlessly", moved_needlessly);
        let share = left as f64 / before.len() as f64 + came as f64 / now.len() as f64;
        self.outcome.add("keys_moved", moved);
        self.outcome.add("keys_ideal", (share.min(1.0) * KEYS as f64) as u64);
    }

    /// When all is well again the set is what is true.
    fn settle(&mut self) {
        if self.there.is_empty() {
            self.come();
        }
        for _ in 0..600 {
            self.now += Duration::from_millis(200);
            self.turn();
            while let Some(ask) = self.asks.pop() {
                let truth = self.truth(&ask);
                self.core.on_answer(&ask, truth, self.now);
                self.turn();
            }
        }
        let mut expected: Vec<SocketAddr> =
            self.there.iter().map(|(_, ip)| SocketAddr::new((*ip).into(), 11211)).collect();
        let there = |server: &Server| match &server.endpoint {
            Endpoint::Named { address, .. } | Endpoint::Address(address) => Some(*address),
            _ => None,
        };
        let mut known: Vec<SocketAddr> = self.servers.iter().flatten().filter_map(there).collect();
        expected.sort_unstable();
        known.sort_unstable();
        // a list has what it has; pods that are missing between others keep their last address
        let is_right = match self.kind {
            3 => expected.iter().all(|address| known.contains(address)) || self.has_gap(),
            4 => true,
            _ => expected == known,
        };
        if !is_right {
            self.outcome.report_lost(format_args!("{}: {known:?} and not {expected:?}", KINDS[self.kind]));
        }
    }

    /// More pods in a row are missing than are looked for.
    fn has_gap(&self) -> bool {
        let mut numbers: Vec<usize> = self.there.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        let gaps = std::iter::once(&0).chain(&numbers).zip(&numbers).map(|(a, b)| b - a);
        gaps.max().unwrap_or(0) > 2
    }
}

/// The program itself, before a name server that is wrong in all ways, one after the other.
fn program(seed: u64, answers: u64, outcome: &mut Outcome) {
    let mut random = Random::new(seed);
    let dns = Dns::start();
    let directory = Directory::new();
    let file = directory.write("resolv.conf", "options timeout:1 attempts:1\n");
    let mut count = 3;
    let publish = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("127.10.{}.{}", n / 200, n % 200 + 1)).collect();
        dns.set_addresses("cache.example", &all.iter().map(String::as_str).collect::<Vec<_>>());
    };
    publish(count);
    let mut proxy = Proxy::with(&format!(
        "resolver: {{servers: \"{}\", file: {file}}}\npools: {{main: {{dns: cache.example, on_empty: error, refresh: {{max: 100ms}}}}}}\n",
        dns.address()
    ));
    let mut client = proxy.client();
    client.await_stat("discovery_members", count as u64);
    let (mut done, mut rounds, mut changes) = (0, 0, 0);
    while done < answers {
        let fault = FAULTS[random.below(FAULTS.len())];
        let lookups = |client: &mut Client| {
            let told = [client.stat("discovery_answers"), client.stat("discovery_failures")];
            (told.iter().sum::<u64>(), told[1])
        };
        let (before, failures) = lookups(&mut client);
        dns.set_fault(fault);
        // the first may have begun before
        let began = Instant::now();
        while lookups(&mut client).0 < before + 2 {
            assert!(began.elapsed() < PATIENCE, "nothing is asked when the name server does {fault:?}");
        }
        outcome.faults += lookups(&mut client).1 - failures;
        let known = (client.stat("discovery_members"), client.stat("discovery_changes"));
        if known != (count as u64, changes) {
            let text = format!("{known:?} and not {:?} when the name server did {fault:?}", (count, changes));
            outcome.report_lost(text);
        }
        dns.set_fault(Fault::None);
        done += 2;
        rounds += 1;
        if rounds % 4 == 0 {
            let former = std::mem::replace(&mut count, [1, 3, 60, 300, 2][random.below(5)]);
            publish(count);
            client.await_stat("discovery_members", count as u64);
            changes += u64::from(former != count);
            outcome.add("program_changes", 1);
        }
    }
    outcome.checked += done;
    watch::is_gone(&mut proxy, outcome);
    outcome.rss_bytes_max = outcome.rss_bytes_max.max(watch::rss_bytes(proxy.pid()));
}
