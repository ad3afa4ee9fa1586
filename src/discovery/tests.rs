//! Conversations with the state machine: what it asks, what it is told, when it changes a set. The clock is the test's.

use super::{Answer, Ask, Core, Followed, HOLD_DOWN, Kind, Records, Search, Target, Turn};
use crate::config;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// The state machine, and who answers it.
struct Room {
    core: Core,
    now: Instant,
    /// What it asks now and nobody has answered.
    asks: Vec<Ask>,
    /// The last set of the pool `p`, and how often it was another one.
    servers: Option<Vec<String>>,
    changes_count: usize,
    notes: Vec<String>,
}

impl Room {
    fn of(pool: &str) -> Self {
        Self::with(pool, Search::default())
    }

    fn with(pool: &str, search: Search) -> Self {
        let mut room = Self {
            core: Core::new(search, 7),
            now: Instant::now(),
            asks: Vec::new(),
            servers: None,
            changes_count: 0,
            notes: Vec::new(),
        };
        room.follow(pool);
        room
    }

    fn follow(&mut self, pool: &str) {
        let text = format!("pools: {{p: {{{pool}}}}}");
        let (config, _) = config::from_text("t", &text, |_, _| {}).unwrap();
        let own: SocketAddr = "127.0.0.1:11211".parse().unwrap();
        self.core.follow(Followed::of(&config), Rc::new(move |address| address == own), self.now);
        self.turn();
    }

    fn turn(&mut self) {
        let Turn { asks, changed, notes, .. } = self.core.turn(self.now);
        self.asks.extend(asks);
        self.notes.extend(notes);
        for (pool, servers) in changed {
            assert_eq!(pool, "p");
            let told = |s: &config::Server| match s.label() == s.address() {
                true => s.label().trim_end_matches(":11211").to_owned(),
                false => format!("{}={}", s.label(), s.address()).replace(":11211", ""),
            };
            self.servers = Some(servers.iter().map(told).collect());
            self.changes_count += 1;
        }
    }

    /// Time goes on; whatever is due then is asked.
    fn after(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + SECOND / 10).min(end);
            self.turn();
        }
        self
    }

    /// Answers the question for this absolute name, which has to be asked now.
    fn answer(&mut self, name: &str, answer: Answer) -> &mut Self {
        let at = self.asks.iter().position(|ask| ask.name == name);
        let at = at.unwrap_or_else(|| panic!("{name} is not asked for, but {:?}", self.names()));
        let ask = self.asks.remove(at);
        self.core.on_answer(&ask, answer, self.now);
        self.turn();
        self
    }

    fn names(&self) -> Vec<&str> {
        self.asks.iter().map(|ask| ask.name.as_str()).collect()
    }

    fn expect(&self, servers: &[&str]) {
        let now: Vec<&str> = self.servers.iter().flatten().map(String::as_str).collect();
        assert_eq!(now, servers);
    }
}

fn addresses(all: &[&str]) -> Answer {
    let all: Vec<IpAddr> = all.iter().map(|ip| ip.parse().unwrap()).collect();
    let v4 = all.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }).collect();
    let v6 = all.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None }).collect();
    Answer::Found(Records::Addresses { v4: Some(v4), v6: Some(v6) }, SECOND * 5)
}

/// Targets, each with its address or without.
fn services(all: &[(&str, &str)]) -> Answer {
    let targets = all.iter().map(|(host, _)| Target { host: (*host).to_owned(), port: 11211 }).collect();
    let along = all.iter().filter(|(_, ip)| !ip.is_empty());
    let addresses = along.map(|(host, ip)| ((*host).to_owned(), ip.parse().unwrap())).collect();
    Answer::Found(Records::Services { targets, addresses }, SECOND * 5)
}

fn failed() -> Answer {
    Answer::Failed("timeout".into())
}

fn nothing() -> Answer {
    Answer::Nothing(SECOND * 5)
}

#[test]
fn every_address_is_a_server_in_an_order_that_says_nothing() {
    let mut room = Room::of("dns: cache.example");
    room.expect(&[]);
    room.answer("cache.example.", addresses(&["10.0.0.10", "fd00::1", "10.0.0.9", "10.0.0.9"]));
    room.expect(&["10.0.0.9", "10.0.0.10", "[fd00::1]"]);
    room.after(SECOND * 6).answer("cache.example.", addresses(&["fd00::1", "10.0.0.9", "10.0.0.10"]));
    assert_eq!(room.changes_count, 1, "shuffled answers change nothing");
    room.after(SECOND * 6).answer("cache.example.", addresses(&["10.0.0.9"]));
    room.expect(&["10.0.0.9"]);
}

#[test]
fn failures_change_nothing_and_are_tried_again_soon() {
    let mut room = Room::of("dns: cache.example");
    room.answer("cache.example.", addresses(&["10.0.0.1"]));
    room.after(SECOND * 6);
    for _ in 0..20 {
        room.answer("cache.example.", failed()).after(SECOND * 7);
    }
    room.expect(&["10.0.0.1"]);
    assert_eq!(room.names(), ["cache.example."]);
    assert_eq!(room.changes_count, 1);
}

#[test]
fn after_a_long_failure_it_is_asked_as_often_as_before() {
    let mut room = Room::of("dns: cache.example");
    let briefly = Records::Addresses { v4: Some(vec!["10.0.0.1".parse().unwrap()]), v6: Some(Vec::new()) };
    room.answer("cache.example.", Answer::Found(briefly, SECOND));
    for _ in 0..20 {
        // a second, a quarter of one for the jitter, and the tenth in which the room turns
        room.after(SECOND * 14 / 10).answer("cache.example.", failed());
    }
}

#[test]
fn one_family_that_fails_keeps_what_it_had() {
    let mut room = Room::of("dns: cache.example");
    room.answer("cache.example.", addresses(&["10.0.0.1", "fd00::1"]));
    let half =
        Answer::Found(Records::Addresses { v4: Some(vec!["10.0.0.2".parse().unwrap()]), v6: None }, SECOND);
    room.after(SECOND * 6).answer("cache.example.", half);
    room.expect(&["10.0.0.2", "[fd00::1]"]);
}

#[test]
fn a_pod_that_moves_is_the_same_server() {
    let mut room = Room::of("srv: _memcache._tcp.mc.example");
    let three = [("mc-2.mc", "10.0.0.2"), ("mc-10.mc", "10.0.0.10"), ("mc-1.mc", "10.0.0.1")];
    room.answer("_memcache._tcp.mc.example.", services(&three));
    room.expect(&["mc-1.mc=10.0.0.1", "mc-2.mc=10.0.0.2", "mc-10.mc=10.0.0.10"]);
    assert!(room.names().is_empty(), "their addresses came along");
    // it is gone, and back elsewhere: it never leaves the ring
    room.after(SECOND * 6).answer("_memcache._tcp.mc.example.", services(&three[..2]));
    room.after(SECOND * 20).answer("_memcache._tcp.mc.example.", services(&three[..2]));
    assert_eq!(room.changes_count, 1);
    let moved = [three[0], three[1], ("mc-1.mc", "10.0.0.77")];
    room.after(SECOND * 6).answer("_memcache._tcp.mc.example.", services(&moved));
    room.expect(&["mc-1.mc=10.0.0.77", "mc-2.mc=10.0.0.2", "mc-10.mc=10.0.0.10"]);
}

#[test]
fn who_does_not_come_back_leaves() {
    let mut room = Room::of("srv: mc.example, leave_after: 10s");
    room.answer("mc.example.", services(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]));
    room.after(SECOND * 6).answer("mc.example.", services(&[("a", "10.0.0.1")]));
    room.expect(&["a=10.0.0.1", "b=10.0.0.2"]);
    room.after(SECOND * 11);
    room.expect(&["a=10.0.0.1"]);
}

#[test]
fn an_address_that_another_one_has_now_is_forgotten() {
    let mut room = Room::of("srv: mc.example");
    room.answer("mc.example.", services(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]));
    room.after(SECOND * 6).answer("mc.example.", services(&[("b", "10.0.0.2"), ("c", "10.0.0.1")]));
    room.expect(&["a", "b=10.0.0.2", "c=10.0.0.1"]);
}

#[test]
fn targets_of_other_ports_are_no_servers() {
    let mut room = Room::of("srv: mc.example, port: 11211");
    let target = |port| Target { host: "a".into(), port };
    let records = Records::Services { targets: vec![target(9150), target(11211)], addresses: Vec::new() };
    room.answer("mc.example.", Answer::Found(records, SECOND));
    room.answer("a.", addresses(&["10.0.0.1"]));
    room.expect(&["a=10.0.0.1"]);
}

#[test]
fn pods_are_counted_up_to_the_last_one() {
    let set = "statefulset: {name: mc, service: svc, namespace: ns}";
    let host = |n: usize| format!("mc-{n}.svc.ns.svc.cluster.local.");
    let mut room = Room::of(set);
    assert_eq!(room.names(), [host(0), host(1), host(2)]);
    room.answer(&host(0), addresses(&["10.0.0.1"]));
    room.answer(&host(1), nothing());
    room.answer(&host(2), addresses(&["10.0.0.3"]));
    for n in 3..6 {
        room.answer(&host(n), nothing());
    }
    let told = |n: usize, ip: &str| format!("{}={ip}", host(n).trim_end_matches('.'));
    let one = "mc-1.svc.ns.svc.cluster.local".to_owned();
    let all = [told(0, "10.0.0.1"), one, told(2, "10.0.0.3")];
    room.expect(&all.each_ref().map(String::as_str));
    // the one in the middle is there now
    room.after(SECOND * 6).answer(&host(1), addresses(&["10.0.0.2"]));
    for n in [0, 2, 3, 4, 5] {
        room.answer(&host(n), if n < 3 { addresses(&[&format!("10.0.0.{}", n + 1)]) } else { nothing() });
    }
    let all = [told(0, "10.0.0.1"), told(1, "10.0.0.2"), told(2, "10.0.0.3")];
    room.expect(&all.each_ref().map(String::as_str));
}

#[test]
fn a_new_pod_is_no_server_before_it_is_somewhere() {
    let host = |n: usize| format!("mc-{n}.svc.ns.svc.cluster.local.");
    let told = |n: usize, ip: &str| format!("{}={ip}", host(n).trim_end_matches('.'));
    let mut room = Room::of("statefulset: {name: mc, service: svc, namespace: ns}");
    room.answer(&host(0), addresses(&["10.0.0.1"]));
    for n in 1..4 {
        room.answer(&host(n), nothing());
    }
    room.expect(&[&told(0, "10.0.0.1")]);
    // two more are wanted, and the second one of them is quicker
    room.after(SECOND * 6).answer(&host(0), addresses(&["10.0.0.1"]));
    room.answer(&host(2), addresses(&["10.0.0.3"]));
    for n in [1, 3, 4, 5] {
        room.answer(&host(n), nothing());
    }
    room.expect(&[&told(0, "10.0.0.1"), &told(2, "10.0.0.3")]);
    room.after(SECOND * 6).answer(&host(1), addresses(&["10.0.0.2"]));
    for n in [0, 2, 3, 4, 5] {
        room.answer(&host(n), if n < 3 { addresses(&[&format!("10.0.0.{}", n + 1)]) } else { nothing() });
    }
    room.expect(&[&told(0, "10.0.0.1"), &told(1, "10.0.0.2"), &told(2, "10.0.0.3")]);
}

#[test]
fn pods_that_are_missing_hide_no_server_behind_them() {
    let host = |n: usize| format!("mc-{n}.svc.ns.svc.cluster.local");
    let told = |n: usize| format!("{}=10.0.0.{}", host(n), n + 1);
    // answers all that is asked for so long; which pods that was
    let live = |room: &mut Room, time: u32, is_there: fn(usize) -> bool| {
        let mut asked = BTreeSet::new();
        for _ in 0..time * 10 {
            while let Some(name) = room.names().first().map(ToString::to_string) {
                let n = (0..).find(|n| name == format!("{}.", host(*n))).unwrap();
                let ip = format!("10.0.0.{}", n + 1);
                room.answer(&name, if is_there(n) { addresses(&[&ip]) } else { nothing() });
                asked.insert(n);
            }
            room.after(SECOND / 10);
        }
        asked
    };
    let mut room = Room::of("statefulset: {name: mc, service: svc, namespace: ns}");
    live(&mut room, 5, |n| n < 10);
    let ten: Vec<String> = (0..10).map(told).collect();
    room.expect(&ten.iter().map(String::as_str).collect::<Vec<_>>());
    // three neighbours are gone for longer than anybody who leaves
    let asked = live(&mut room, 70, |n| n < 10 && !(3..6).contains(&n));
    assert!(asked.is_superset(&(0..13).collect()), "{asked:?}");
    room.expect(&ten.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(room.changes_count, 1);
    // and who is no server any more is not looked for
    live(&mut room, 75, |n| n < 3);
    room.expect(&[&told(0), &told(1), &told(2)]);
    assert_eq!(live(&mut room, 10, |n| n < 3), (0..6).collect());
}

#[test]
fn hosts_keep_their_entries_and_their_last_address() {
    let mut room = Room::of("servers: [10.0.0.1, \"db weight=3 name=x\", \"localhost:1\"]");
    room.answer("db.", addresses(&["10.0.0.8", "10.0.0.7"]));
    room.expect(&["10.0.0.1", "x=10.0.0.7", "localhost:1=127.0.0.1:1"]);
    assert!(room.notes.iter().all(|note| !note.contains("refused")), "{:?}", room.notes);
    room.after(SECOND * 6).answer("db.", addresses(&["10.0.0.6", "10.0.0.7"]));
    assert_eq!(room.changes_count, 1, "it may still be there");
    room.after(SECOND * 6).answer("db.", nothing());
    room.after(SECOND * 6).answer("db.", addresses(&["10.0.0.6"]));
    room.expect(&["10.0.0.1", "x=10.0.0.6", "localhost:1=127.0.0.1:1"]);
}

#[test]
fn no_servers_any_more() {
    for (policy, left) in [("keep", vec!["10.0.0.1"]), ("error", vec![]), ("miss", vec![])] {
        let mut room = Room::of(&format!("dns: cache.example, on_empty: {policy}"));
        room.answer("cache.example.", addresses(&["10.0.0.1"]));
        for _ in 0..3 {
            room.after(SECOND * 6).answer("cache.example.", nothing());
        }
        room.expect(&left);
        let told = room.notes.iter().filter(|note| note.contains("no servers any more")).count();
        assert_eq!(told, usize::from(policy == "keep"), "{:?}", room.notes);
        room.after(SECOND * 6).answer("cache.example.", addresses(&["10.0.0.2"]));
        room.expect(&["10.0.0.2"]);
    }
}

#[test]
fn addresses_that_are_no_servers_are_refused() {
    let mut room = Room::of("dns: cache.example");
    let bad = ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "127.0.0.1", "::ffff:127.0.0.1", "ff02::1"];
    room.answer("cache.example.", addresses(&[&bad[..], &["10.0.0.1"]].concat()));
    room.expect(&["10.0.0.1"]);
    assert_eq!(room.notes.iter().filter(|note| note.contains("is refused")).count(), 6, "{:?}", room.notes);
    assert!(room.notes.iter().any(|note| note.contains("in a circle")));
    room.after(SECOND * 6).answer("cache.example.", addresses(&bad));
    room.expect(&["10.0.0.1"]);
}

#[test]
fn a_record_that_changes_at_every_look_costs_few_rings() {
    let mut room = Room::of("dns: cache.example, refresh: {min: 100ms, max: 100ms}");
    let end = room.now + SECOND * 120;
    let mut last = 0;
    while room.now < end {
        room.after(SECOND / 10);
        while let Some(name) = room.names().first().map(|name| (*name).to_owned()) {
            last += 1;
            room.answer(&name, addresses(&[&format!("10.0.{}.{}", last / 250, last % 250 + 1)]));
        }
    }
    assert!(last > 400, "asked {last} times");
    assert!(room.changes_count <= 9, "{} changes in two minutes", room.changes_count);
    // it has become quiet
    let before = room.changes_count;
    for _ in 0..1000 {
        room.after(SECOND / 10);
        while let Some(name) = room.names().first().map(|name| (*name).to_owned()) {
            room.answer(&name, addresses(&["10.9.9.9"]));
        }
    }
    room.expect(&["10.9.9.9"]);
    assert_eq!(room.changes_count, before + 1);
    // and what comes then comes at once
    while room.names().is_empty() {
        room.after(SECOND / 10);
    }
    room.answer("cache.example.", addresses(&["10.9.9.8"])).after(HOLD_DOWN / 10);
    room.expect(&["10.9.9.8"]);
}

#[test]
fn the_walk_stops_at_a_failure_and_never_leaves_a_name_that_was_there() {
    let search =
        Search { domains: vec!["ns.svc".into(), "wild.example".into()], ndots: 5, ..Search::default() };
    let mut room = Room::with("dns: cache.prod", search);
    assert_eq!(room.names(), ["cache.prod.ns.svc."]);
    room.answer("cache.prod.ns.svc.", failed());
    assert!(room.names().is_empty(), "not on to the next name");
    room.after(SECOND).answer("cache.prod.ns.svc.", addresses(&["10.0.0.1"]));
    // scaled to zero: the wildcard further on is not asked
    room.after(SECOND * 6).answer("cache.prod.ns.svc.", nothing());
    assert!(room.names().is_empty(), "{:?}", room.names());
    room.expect(&["10.0.0.1"]);
    room.core.set_search(Search { domains: vec!["other".into()], ndots: 5, ..Search::default() }, room.now);
    room.turn();
    assert_eq!(room.names(), ["cache.prod.other."]);
    room.answer("cache.prod.other.", nothing());
    room.answer("cache.prod.", addresses(&["10.0.0.2"]));
    room.expect(&["10.0.0.2"]);
}

#[test]
fn answers_to_questions_of_another_search_list_are_none() {
    let mut room = Room::of("dns: cache.example");
    let old = room.asks.remove(0);
    room.core.set_search(Search { domains: vec!["x".into()], ndots: 1, ..Search::default() }, room.now);
    room.core.on_answer(&old, addresses(&["10.0.0.9"]), room.now);
    room.turn();
    assert_eq!(room.servers, None);
}

#[test]
fn another_source_starts_anew_and_the_same_one_goes_on() {
    let mut room = Room::of("dns: cache.example");
    room.answer("cache.example.", addresses(&["10.0.0.1"]));
    room.follow("dns: cache.example, timeout: 10ms");
    assert_eq!((room.changes_count, room.core.unknown().count()), (1, 0));
    room.follow("dns: other.example");
    assert_eq!(room.core.unknown().count(), 1);
    room.answer("other.example.", addresses(&["10.0.0.2"]));
    room.expect(&["10.0.0.2"]);
    assert_eq!(room.core.unknown().count(), 0);
}

#[test]
fn what_serves_is_known_though_others_were_followed() {
    let host = |n: usize| format!("mc-{n}.svc.ns.svc.cluster.local");
    let pool = "statefulset: {name: mc, service: svc, namespace: ns}, leave_after: 0s, on_empty: error";
    let (config, _) = config::from_text("t", &format!("pools: {{p: {{{pool}}}}}"), |_, _| {}).unwrap();
    let mut serves = config.clone();
    let server = |n: usize| {
        let address = SocketAddr::new(IpAddr::from([10, 0, 0, n as u8 + 1]), 11211);
        config::Server::found(&host(n), 11211, Some(address))
    };
    serves.pools[0].servers = (0..5).map(server).collect();
    let mut room = Room::of("dns: other.example");
    room.core.follow(Followed::of_serving(&config, &serves), Rc::new(|_| false), room.now);
    room.turn();
    assert_eq!(room.core.unknown().count(), 0);
    room.answer(&format!("{}.", host(0)), addresses(&["10.0.0.1"]));
    for n in 1..5 {
        room.answer(&format!("{}.", host(n)), failed());
    }
    room.after(SECOND * 5);
    assert_eq!(room.servers, None, "nobody has said that one is gone");
    room.answer(&format!("{}.", host(4)), nothing()).after(SECOND);
    room.expect(
        &[0, 1, 2, 3].map(|n| format!("{}=10.0.0.{}", host(n), n + 1)).each_ref().map(String::as_str),
    );
}

#[test]
fn more_records_than_a_pool_may_have_are_a_fault() {
    let mut room = Room::of("dns: cache.example");
    room.answer("cache.example.", addresses(&["10.0.0.1"]));
    let ip = |n: u32| (0x0a00_0000 + n).into();
    let many = Records::Addresses { v4: Some((0..16_385).map(ip).collect()), v6: Some(Vec::new()) };
    room.after(SECOND * 6).answer("cache.example.", Answer::Found(many, SECOND));
    room.expect(&["10.0.0.1"]);
    let some = Records::Addresses { v4: Some((0..10_000).map(ip).collect()), v6: Some(Vec::new()) };
    room.after(SECOND * 6).answer("cache.example.", Answer::Found(some, SECOND));
    assert_eq!(room.servers.as_ref().unwrap().len(), 10_000);
}

#[test]
fn a_list_that_is_being_written_is_taken_when_it_stays_as_it_is() {
    const PATH: &str = "/etc/Servers";
    let list = |version, hosts: &[&str]| {
        let listed = |host: &&str| super::Listed {
            host: (*host).into(),
            port: 11211,
            name: None,
            weight: 1,
            address: None,
        };
        Answer::Found(Records::List { version, entries: hosts.iter().map(listed).collect() }, SECOND)
    };
    let mut room = Room::of(&format!("file: {PATH}, on_empty: error"));
    room.answer(PATH, list(5, &["10.0.0.1", "10.0.0.2"]));
    room.expect(&["10.0.0.1", "10.0.0.2"]);
    // emptied, then line by line; and a look in between at half a line
    let written = [list(1, &[]), list(2, &["10.0.0.3"]), list(3, &["10.0.0.3"]), failed()];
    let whole = || list(4, &["10.0.0.3", "10.0.0.4"]);
    for answer in written.into_iter().chain([whole(), failed(), whole()]) {
        room.after(SECOND * 3 / 2).answer(PATH, answer);
        room.expect(&["10.0.0.1", "10.0.0.2"]);
    }
    room.after(SECOND * 3 / 2).answer(PATH, whole());
    room.expect(&["10.0.0.3", "10.0.0.4"]);
    // taken back before anybody has seen it twice
    for answer in [list(1, &[]), whole(), list(1, &[])] {
        room.after(SECOND * 3 / 2).answer(PATH, answer);
        room.expect(&["10.0.0.3", "10.0.0.4"]);
    }
    room.after(SECOND * 3 / 2).answer(PATH, list(1, &[]));
    room.expect(&[]);
}

#[test]
fn lists_have_an_order_weights_and_versions() {
    let listed = |host: &str, ip: &str, weight| super::Listed {
        host: host.into(),
        port: 11211,
        name: None,
        weight,
        address: ip.parse().ok(),
    };
    let list = |version, entries| Answer::Found(Records::List { version, entries }, SECOND * 5);
    let mut room = Room::of("config_endpoint: cfg.example");
    room.answer("cfg.example.", addresses(&["10.0.0.100"]));
    assert_eq!(room.asks[0].addresses, ["10.0.0.100:11211".parse::<SocketAddr>().unwrap()]);
    assert_eq!(room.asks[0].question.kind, Kind::Cluster);
    let name = "cfg.example:11211";
    let nobody = listed("c", "::ffff:224.0.0.1", 1);
    room.answer(name, list(7, vec![listed("b", "10.0.0.2", 1), nobody, listed("a", "10.0.0.1", 1)]));
    room.expect(&["b=10.0.0.2", "a=10.0.0.1"]);
    room.after(SECOND * 4).after(SECOND * 2);
    room.answer(name, list(6, vec![listed("a", "10.0.0.1", 1)]));
    room.expect(&["b=10.0.0.2", "a=10.0.0.1"]);
}
