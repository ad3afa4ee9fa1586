//! The servers that a pool would have by the answers known now: what its source asks, and what it makes of them.

use super::answer::{Kind, Listed, Question, Records};
use super::table::{Refresh, Table, add_wanted};
use crate::config::{Config, Endpoint, Follow, OnEmpty, Pool, PoolSource, Server, StatefulSet};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Pods that are looked for behind the last one that is there or is a server: one that is being restarted must not hide those
/// behind it.
const ORDINALS_AHEAD: usize = 3;

/// A pool whose servers, or whose servers' addresses, are found by names.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    pub pool: String,
    pub source: Option<PoolSource>,
    /// As the configuration lists them, where it does.
    pub servers: Vec<Server>,
    pub follow: Follow,
    /// Whether its placement knows weights; those of a list are left out where it does not.
    pub takes_weights: bool,
    /// The servers that it serves with, where they were found before others were followed. `None`: nothing was.
    pub known: Option<Vec<Server>>,
}

/// What the answers come to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Candidate {
    /// Nobody knows yet.
    Unknown,
    /// The names are known to have no servers.
    Empty,
    Servers(Vec<Member>),
}

/// One server of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) server: Server,
    /// The answers say that it is there and where; otherwise it is where it was last.
    pub(super) is_sure: bool,
}

/// Whether ringway itself listens at an address.
pub type IsOwn = dyn Fn(SocketAddr) -> bool;

/// An address that is no server's, and why.
pub(super) type Refusal = (SocketAddr, &'static str);

impl Followed {
    /// Those of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Vec<Self> {
        let is_host = |server: &Server| matches!(server.endpoint, Endpoint::Host(..));
        let followed = |pool: &&Pool| pool.source.is_some() || pool.servers.iter().any(is_host);
        let of = |pool: &Pool| Self {
            pool: pool.name.clone(),
            source: pool.source.clone(),
            servers: pool.servers.clone(),
            follow: pool.follow.clone(),
            takes_weights: pool.hash.placement.has_weights(),
            known: None,
        };
        config.pools.iter().filter(followed).map(of).collect()
    }

    /// Those of a configuration that serves with what was found; `serves` has that.
    #[must_use]
    pub fn of_serving(config: &Config, serves: &Config) -> Vec<Self> {
        let known = |pool: &str| serves.pool(pool).map(|pool| pool.servers.clone());
        let with_known = |followed: Self| Self {
            known: known(&followed.pool).filter(|servers| !servers.is_empty()),
            ..followed
        };
        Self::of(config).into_iter().map(with_known).collect()
    }

    /// Whether servers of this pool may leave, and stay for a while before they do.
    pub(super) fn may_leave(&self) -> bool {
        match &self.source {
            None => false,
            Some(PoolSource::StatefulSet(set)) => set.replicas_count.is_none(),
            Some(_) => true,
        }
    }

    /// Whether the order is that of the names, or as somebody wrote it.
    pub(super) fn is_sorted(&self) -> bool {
        matches!(
            self.source,
            Some(PoolSource::Dns { .. } | PoolSource::Srv { .. } | PoolSource::StatefulSet(_))
        )
    }

    pub(super) const fn keeps_when_empty(&self) -> bool {
        matches!(self.follow.on_empty, OnEmpty::Keep)
    }

    /// What it wants to know now.
    pub(super) fn want(&self, table: &Table, published: &[Server], wanted: &mut BTreeMap<Question, Refresh>) {
        let refresh = Refresh { min: self.follow.refresh_min, max: self.follow.refresh_max };
        for question in self.questions(table, published) {
            add_wanted(wanted, question, refresh);
        }
    }

    /// `published`: the servers that it has. Whoever is one is asked for until it is none any more.
    fn questions(&self, table: &Table, published: &[Server]) -> Vec<Question> {
        let addresses = |host: &str| Question::new(Kind::Addresses, host);
        match &self.source {
            None => self.hosts().map(|(host, _)| addresses(host)).collect(),
            Some(PoolSource::Dns { name, .. }) => vec![addresses(name)],
            Some(PoolSource::StatefulSet(set)) => {
                let count = set.replicas_count.unwrap_or_else(|| pods(set, table, published).1);
                (0..count).map(|ordinal| addresses(&set.host(ordinal))).collect()
            }
            Some(PoolSource::Srv { name, port }) => {
                let question = Question::new(Kind::Services, name);
                let targets = targets(table, &question, *port);
                let hosts = targets.iter().flatten().map(|(host, _)| addresses(host));
                let hosts: Vec<Question> = hosts.collect();
                [vec![question], hosts].concat()
            }
            Some(PoolSource::ConfigEndpoint { host, port }) => {
                // it is asked as soon as somebody knows where it is
                let is_address = host.parse::<IpAddr>().is_ok();
                let is_there = is_address || table.addresses(host).is_some_and(|all| !all.is_empty());
                let of_host = (!is_address).then(|| addresses(host));
                let question = Question::new(Kind::Cluster, &format!("{host}:{port}"));
                let cluster = if is_there { with_hosts(table, question) } else { Vec::new() };
                of_host.into_iter().chain(cluster).collect()
            }
            Some(PoolSource::File(path)) => {
                with_hosts(table, Question::new(Kind::File, &path.display().to_string()))
            }
        }
    }

    /// Whether something that it asked was not answered yet.
    pub(super) fn is_asking(&self, table: &Table, published: &[Server], now: Instant) -> bool {
        self.questions(table, published).iter().any(|question| table.is_asked(question, now))
    }

    /// What the answers come to. `published`: the servers that it has, by name: one keeps its address as long as no answer
    /// speaks against it.
    pub(super) fn candidate(
        &self,
        table: &Table,
        published: &[Server],
        is_own: &IsOwn,
        refusals: &mut Vec<Refusal>,
    ) -> Candidate {
        let known: HashMap<String, SocketAddr> = published.iter().filter_map(named_address).collect();
        let mut place = Place {
            followed: self,
            table,
            known: &known,
            is_own,
            refusals,
            legal_count: 0,
            unknown_count: 0,
        };
        let members: Vec<Member> = match &self.source {
            None => self.servers.iter().map(|server| place.of_listed(server)).collect(),
            Some(PoolSource::Dns { name, port }) => {
                let Some(addresses) = table.addresses(name) else { return Candidate::Unknown };
                let mut members = place.of_addresses(&addresses, *port);
                members.sort_by(|a, b| order(&a.server, &b.server));
                members
            }
            Some(PoolSource::StatefulSet(set)) => {
                let count = set.replicas_count.unwrap_or_else(|| pods(set, table, published).0);
                let pods = (0..count).map(|ordinal| place.of_host(&set.host(ordinal), set.port));
                // Of several new pods the first one need not start first: it is no server before it is somewhere.
                let is_new = |pod: &Member| published.iter().all(|old| old.label() != pod.server.label());
                let is_waited_for =
                    |pod: &Member| set.replicas_count.is_none() && !pod.is_sure && is_new(pod);
                pods.filter(|pod| published.is_empty() || !is_waited_for(pod)).collect()
            }
            Some(PoolSource::Srv { name, port }) => {
                let Some(targets) = targets(table, &Question::new(Kind::Services, name), *port) else {
                    return Candidate::Unknown;
                };
                let mut members: Vec<Member> =
                    targets.iter().map(|(host, port)| place.of_host(host, *port)).collect();
                members.sort_by(|a, b| order(&a.server, &b.server));
                members
            }
            Some(PoolSource::ConfigEndpoint { host, port }) => {
                let question = Question::new(Kind::Cluster, &format!("{host}:{port}"));
                let Some(entries) = entries(table, &question) else { return Candidate::Unknown };
                entries.iter().filter_map(|listed| place.of_entry(listed)).collect()
            }
            Some(PoolSource::File(path)) => {
                let question = Question::new(Kind::File, &path.display().to_string());
                let Some(entries) = entries(table, &question) else { return Candidate::Unknown };
                entries.iter().filter_map(|listed| place.of_entry(listed)).collect()
            }
        };
        let nobody_knows = place.legal_count == 0 && place.unknown_count > 0;
        // A pod of which nobody knows whether it is there is not "no pod".
        let is_untried =
            || self.questions(table, published).iter().any(|question| table.good(question).is_none());
        if members.is_empty() && self.source.is_some() {
            return if is_untried() { Candidate::Unknown } else { Candidate::Empty };
        }
        if nobody_knows && published.is_empty() && !self.is_tried(table, published) {
            return Candidate::Unknown;
        }
        Candidate::Servers(members)
    }

    /// Whether everything was asked for at least once, well or not.
    fn is_tried(&self, table: &Table, published: &[Server]) -> bool {
        self.questions(table, published).iter().all(|question| table.was_tried(question))
    }

    /// Whether its first set is one to serve with: one server at least has an address, or all that was asked is answered.
    pub(super) fn is_known(&self, table: &Table, servers: &[Server]) -> bool {
        servers.iter().any(|server| !matches!(server.endpoint, Endpoint::Host(..)))
            || self.questions(table, servers).iter().all(|question| table.good(question).is_some())
    }

    fn hosts(&self) -> impl Iterator<Item = (&str, u16)> {
        self.servers.iter().filter_map(|server| match &server.endpoint {
            Endpoint::Host(host, port) => Some((host.as_str(), *port)),
            _ => None,
        })
    }
}

/// Finds out where members are.
struct Place<'a> {
    followed: &'a Followed,
    table: &'a Table,
    /// Where those were that have names, by label.
    known: &'a HashMap<String, SocketAddr>,
    is_own: &'a IsOwn,
    refusals: &'a mut Vec<Refusal>,
    /// Members that have an address, and those of which nobody knows.
    legal_count: usize,
    unknown_count: usize,
}

impl Place<'_> {
    /// An entry of `servers`: with its name, weight and timeouts.
    fn of_listed(&mut self, server: &Server) -> Member {
        let Endpoint::Host(host, port) = &server.endpoint else {
            self.legal_count += 1;
            return Member { server: server.clone(), is_sure: true };
        };
        let (address, is_sure) = self.address(host, *port, &server.label());
        let endpoint = match address {
            Some(address) => Endpoint::Named { host: host.clone(), port: *port, address },
            None => server.endpoint.clone(),
        };
        Member { server: Server { endpoint, ..server.clone() }, is_sure }
    }

    fn of_host(&mut self, host: &str, port: u16) -> Member {
        let (address, is_sure) = self.address(host, port, &format!("{host}:{port}"));
        Member { server: Server::found(host, port, address), is_sure }
    }

    /// An entry of somebody's list; `None`: its address is refused.
    fn of_entry(&mut self, listed: &Listed) -> Option<Member> {
        let Listed { host, port, name, weight, address } = listed;
        let ip = host.parse::<IpAddr>().ok();
        let mut member = match (ip, address) {
            (Some(ip), _) => {
                let address = self.legal(SocketAddr::new(ip, *port))?;
                Member { server: Server::at(address), is_sure: true }
            }
            (None, Some(ip)) => {
                let address = self.legal(SocketAddr::new(*ip, *port))?;
                Member { server: Server::found(host, *port, Some(address)), is_sure: true }
            }
            (None, None) => {
                let label = name.clone().unwrap_or_else(|| format!("{host}:{port}"));
                let (address, is_sure) = self.address(host, *port, &label);
                Member { server: Server::found(host, *port, address), is_sure }
            }
        };
        member.server.member.name.clone_from(name);
        member.server.member.weight = if self.followed.takes_weights { *weight } else { 1 };
        Some(member)
    }

    fn of_addresses(&mut self, addresses: &[IpAddr], port: u16) -> Vec<Member> {
        let legal = addresses.iter().filter_map(|ip| self.legal(SocketAddr::new(*ip, port)));
        legal.map(|address| Member { server: Server::at(address), is_sure: true }).collect()
    }

    /// Where a name is: where it was as long as it may be there, else its first address. And whether an answer says so.
    fn address(&mut self, host: &str, port: u16, label: &str) -> (Option<SocketAddr>, bool) {
        let was = self.known.get(label).copied();
        let Some(addresses) = self.table.addresses(host) else {
            self.unknown_count += usize::from(was.is_none());
            return (was, false);
        };
        let all: Vec<SocketAddr> =
            addresses.iter().filter_map(|ip| self.legal(SocketAddr::new(*ip, port))).collect();
        match all.first() {
            None => (was.filter(|_| addresses.is_empty()), false),
            Some(first) => (Some(was.filter(|was| all.contains(was)).unwrap_or(*first)), true),
        }
    }

    /// Unless it is no server's.
    fn legal(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        let ip = address.ip().to_canonical(); // `::ffff:0.0.0.0` is one of these too
        let address = SocketAddr::new(ip, address.port());
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        let why = if ip.is_unspecified() || is_broadcast || ip.is_multicast() {
            "no server can have this address"
        } else if (self.is_own)(address) {
            "ringway itself listens there, requests would go round in a circle"
        } else {
            self.legal_count += 1;
            return Some(address);
        };
        self.refusals.push((address, why));
        None
    }
}

/// Pods up to the last one that is there, and those that are asked for: however many are missing before it, one that is a server
/// is not hidden by them.
fn pods(set: &StatefulSet, table: &Table, published: &[Server]) -> (usize, usize) {
    let servers: BTreeSet<usize> =
        published.iter().filter_map(|server| set.ordinal(&server.member.host)).collect();
    let servers_end = servers.last().map_or(0, |last| last.saturating_add(1));
    let (mut count, mut asked_count) = (0, 0);
    while asked_count < servers_end.max(count) + ORDINALS_AHEAD {
        let is_there = match table.addresses(&set.host(asked_count)) {
            Some(addresses) => !addresses.is_empty(),
            None => servers.contains(&asked_count), // others were followed meanwhile, and nobody has answered yet
        };
        asked_count += 1;
        if is_there {
            count = asked_count;
        }
    }
    (count, asked_count)
}

/// The targets of an SRV name, of one port or of all.
fn targets<'t>(table: &'t Table, question: &Question, port: Option<u16>) -> Option<Vec<(&'t str, u16)>> {
    let Records::Services { targets, .. } = table.good(question)? else { return None };
    let of_port = targets.iter().filter(|target| port.is_none_or(|port| target.port == port));
    Some(of_port.map(|target| (target.host.as_str(), target.port)).collect())
}

fn entries<'t>(table: &'t Table, question: &Question) -> Option<&'t [Listed]> {
    match table.good(question)? {
        Records::List { entries, .. } => Some(entries),
        Records::Addresses { .. } | Records::Services { .. } => None,
    }
}

/// A list, and the addresses of those of its hosts that are names.
fn with_hosts(table: &Table, question: Question) -> Vec<Question> {
    let is_name = |listed: &&Listed| listed.address.is_none() && listed.host.parse::<IpAddr>().is_err();
    let hosts = entries(table, &question).unwrap_or_default().iter().filter(is_name);
    let hosts: Vec<Question> = hosts.map(|listed| Question::new(Kind::Addresses, &listed.host)).collect();
    [vec![question], hosts].concat()
}

/// A server's label, and where it is, if it is known by a name.
fn named_address(server: &Server) -> Option<(String, SocketAddr)> {
    match &server.endpoint {
        Endpoint::Named { address, .. } => Some((server.label(), *address)),
        _ => None,
    }
}

/// By address, or by name with numbers in it as numbers: `mc-2` before `mc-10`. Placements by places in the list then see pods
/// of a StatefulSet come and go at its end.
pub(super) fn order(a: &Server, b: &Server) -> Ordering {
    match (&a.endpoint, &b.endpoint) {
        (Endpoint::Address(a), Endpoint::Address(b)) => a.cmp(b),
        _ => natural(&a.member.host, &b.member.host).then(a.member.port.cmp(&b.member.port)),
    }
}

fn natural(mut a: &str, mut b: &str) -> Ordering {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    loop {
        match (a.chars().next(), b.chars().next()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (of_a, of_b) = (a.split_at(digits(a)), b.split_at(digits(b)));
                let number = |text: &str| {
                    (text.trim_start_matches('0').len(), text.trim_start_matches('0').to_owned())
                };
                let by_number = number(of_a.0).cmp(&number(of_b.0)).then(of_a.0.len().cmp(&of_b.0.len()));
                if by_number != Ordering::Equal {
                    return by_number;
                }
                (a, b) = (of_a.1, of_b.1);
            }
            (Some(x), Some(y)) if x == y => {
                (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
            }
            (x, y) => return x.cmp(&y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names = ["mc-10.x", "mc-2.x", "a", "mc-1.y", "mc-01.x", "mc-1.x", "mc"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "mc", "mc-1.x", "mc-1.y", "mc-01.x", "mc-2.x", "mc-10.x"]);
    }
}
