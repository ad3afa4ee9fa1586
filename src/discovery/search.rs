//! From a name as written to the absolute names that are asked for, one after the other: resolv.conf's search list and
//! `ndots`, and the names that no server is asked for (`/etc/hosts`, `localhost`).
//!
//! The walk is ours because the resolver's own goes on after a timeout and reports the last name's "no such name": taken for
//! "scaled to zero" that would empty a pool.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A resolver that names more has a mistake in its file; glibc takes six.
const DOMAINS_COUNT_MAX: usize = 32;
/// glibc's bound.
const NDOTS_MAX: usize = 15;

/// What the system says about names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    pub domains: Vec<String>,
    pub ndots: usize,
    /// Names in small letters.
    pub hosts: HashMap<String, Vec<IpAddr>>,
}

/// A resolv.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<IpAddr>,
    pub domains: Vec<String>,
    pub ndots: usize,
    pub timeout: Duration,
    pub attempts: usize,
}

impl ResolvConf {
    /// What is not understood is passed over, as libc does it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            domains: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address =
                        words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    conf.servers.extend(address);
                }
                // the last line of these counts
                Some("search" | "domain") => {
                    let domain = |word: &str| word.trim_matches('.').to_ascii_lowercase();
                    conf.domains =
                        words.map(domain).filter(|d| !d.is_empty()).take(DOMAINS_COUNT_MAX).collect();
                }
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let Some((name, number)) = word.split_once(':') else { return };
        let Ok(number) = number.parse::<usize>() else { return };
        match name {
            "ndots" => self.ndots = number.min(NDOTS_MAX),
            "timeout" => self.timeout = Duration::from_secs(number.clamp(1, 30) as u64),
            "attempts" => self.attempts = number.clamp(1, 5),
            _ => {}
        }
    }
}

impl Search {
    /// Of a resolv.conf and a hosts file.
    #[must_use]
    pub fn new(conf: &ResolvConf, hosts: &str) -> Self {
        Self { domains: conf.domains.clone(), ndots: conf.ndots, hosts: parse_hosts(hosts) }
    }

    /// The absolute names to ask for, in this order, until one exists. With the last dot.
    ///
    /// A name that ends in one of the search domains is whole already: in a cluster, with `ndots:5`, others would be asked
    /// for three times in vain, and might meet a stranger's wildcard.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let whole = format!("{name}.");
        let ends_in = |domain: &String| name.strip_suffix(domain.as_str()).is_some_and(|r| r.ends_with('.'));
        if self.domains.iter().any(ends_in) {
            return vec![whole];
        }
        let longer = self.domains.iter().map(|domain| format!("{name}.{domain}."));
        // what is too long is no name
        let longer: Vec<String> = longer.filter(|longer| longer.len() <= 254).collect();
        let has_dots = name.bytes().filter(|b| *b == b'.').count() >= self.ndots;
        if has_dots { [vec![whole], longer].concat() } else { [longer, vec![whole]].concat() }
    }

    /// The addresses of a name that no server is asked for.
    pub(super) fn fixed(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = name.trim_end_matches('.');
        if let Some(addresses) = self.hosts.get(name) {
            return Some(addresses.clone());
        }
        // RFC 6761
        (name == "localhost" || name.ends_with(".localhost"))
            .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }
}

fn parse_hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            let addresses = hosts.entry(name.trim_end_matches('.').to_ascii_lowercase()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Search {
        let text = "# kubelet\nnameserver 10.96.0.10\nsearch cache.svc.cluster.local svc.cluster.local cluster.local\n\
                    options ndots:5 timeout:2\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(
            (conf.servers[0].to_string(), conf.timeout),
            ("10.96.0.10".into(), Duration::from_secs(2))
        );
        Search::new(&conf, "127.0.0.1 localhost\n10.0.0.1 Db db.example # x\n::1 localhost\n")
    }

    #[test]
    fn whole_names_are_asked_for_once() {
        for name in ["memcached.cache.svc.cluster.local", "a.example.", "x.cache.svc.cluster.local"] {
            assert_eq!(pod().candidates(name), [format!("{}.", name.trim_end_matches('.'))]);
        }
    }

    #[test]
    fn short_names_walk_the_list() {
        assert_eq!(
            pod().candidates("memcached.cache"),
            [
                "memcached.cache.cache.svc.cluster.local.",
                "memcached.cache.svc.cluster.local.",
                "memcached.cache.cluster.local.",
                "memcached.cache."
            ]
        );
        let few = Search { ndots: 1, ..pod() };
        assert_eq!(few.candidates("a.example")[0], "a.example.");
        assert_eq!(Search::default().candidates("a"), ["a."]);
        assert_eq!(pod().candidates(&"x".repeat(240)).len(), 1, "the others would be too long");
    }

    #[test]
    fn some_names_are_nobodys_business() {
        let fixed = |name: &str| pod().fixed(name).map(|all| all[0].to_string());
        assert_eq!(fixed("db").as_deref(), Some("10.0.0.1"));
        assert_eq!(fixed("localhost").as_deref(), Some("127.0.0.1"));
        assert_eq!(Search::default().fixed("a.localhost").unwrap().len(), 2);
        assert_eq!(fixed("db.example.org"), None);
    }

    #[test]
    fn what_is_wrong_is_passed_over() {
        let text = "nameserver\nnameserver x\nnameserver fe80::1%eth0\noptions ndots:99 ndots:x timeout:0 rotate\nsearch\n";
        let conf = ResolvConf::parse(text);
        assert_eq!((conf.servers.len(), conf.ndots, conf.timeout), (1, 15, Duration::from_secs(1)));
        assert!(conf.domains.is_empty());
    }
}
