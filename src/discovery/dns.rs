//! The door to hickory: absolute names in, records out. Our own resolver, so that a static binary needs no C library, no thread
//! ever blocks on a name, and time to live, SRV and "no such name" can be told apart from "nobody answered".

use super::answer::{Answer, Records, Target};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// For one attempt with one server: what is not answered within that is lost.
const TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// A question, with all its attempts, over UDP and TCP.
const ASK_TIMEOUT: Duration = Duration::from_secs(8);
/// Where the server does not say how long "no such name" holds.
const NEGATIVE_TTL_DEFAULT: Duration = Duration::from_secs(5);
const BARE: &str = "no records, and no SOA that vouches for it (an alias of itself?)";

/// Asks name servers. It keeps no answers.
#[derive(Clone)]
pub(super) struct Resolver {
    inner: TokioResolver,
}

impl Resolver {
    pub(super) fn new(servers: &[SocketAddr], timeout: Duration, attempts: usize) -> Result<Self, String> {
        if servers.is_empty() {
            return Err("no name server is known".to_owned());
        }
        let config = |server: &SocketAddr| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections.iter_mut().for_each(|connection| connection.port = server.port());
            config
        };
        let config = ResolverConfig::from_name_servers(servers.iter().map(config).collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = timeout.min(TIMEOUT_MAX);
        options.attempts = attempts;
        options.cache_size = 0; // the table is the cache
        options.use_hosts_file = ResolveHosts::Never; // `search` has it
        let inner = builder.build().map_err(|error| plain(&error))?;
        Ok(Self { inner })
    }

    /// A and AAAA of an absolute name.
    pub(super) async fn addresses(&self, name: &str) -> Answer {
        let (v4, v6) = tokio::join!(self.ask(name, RecordType::A), self.ask(name, RecordType::AAAA));
        if let (Err(Failure::Nothing(ttl) | Failure::NoName(ttl)), Err(Failure::NoName(_)))
        | (Err(Failure::NoName(ttl)), _) = (&v4, &v6)
        {
            return Answer::Nothing(*ttl); // that there is no such name holds for both
        }
        if let (Err(Failure::Nothing(ttl)), Err(Failure::Nothing(_))) = (&v4, &v6) {
            return Answer::Nothing(*ttl);
        }
        let (mut all4, mut all6, mut ttls) = (None, None, Vec::new());
        let mut why = None;
        for (answer, is_v4) in [(v4, true), (v6, false)] {
            let addresses = match answer {
                Ok(lookup) => {
                    ttls.push(ttl_of(&lookup));
                    lookup.answers().iter().filter_map(|record| address(&record.data)).collect()
                }
                // for one of the two that is no cause for doubt: Docker's name server never sends a SOA
                Err(Failure::Nothing(_) | Failure::NoName(_) | Failure::Bare) => Vec::new(),
                Err(Failure::Unknown(failure)) => {
                    why = Some(failure);
                    continue;
                }
            };
            if is_v4 {
                all4 = Some(
                    addresses
                        .iter()
                        .filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None })
                        .collect(),
                );
            } else {
                all6 = Some(
                    addresses
                        .iter()
                        .filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None })
                        .collect(),
                );
            }
        }
        match (ttls.into_iter().min(), why) {
            (Some(ttl), _) => Answer::Found(Records::Addresses { v4: all4, v6: all6 }, ttl),
            (None, Some(why)) => Answer::Failed(why),
            (None, None) => Answer::Failed(BARE.to_owned()), // one of them at least: what else there is returned above
        }
    }

    /// SRV of an absolute name, and the addresses of its targets that came along.
    pub(super) async fn services(&self, name: &str) -> Answer {
        let lookup = match self.ask(name, RecordType::SRV).await {
            Ok(lookup) => lookup,
            Err(Failure::Nothing(ttl) | Failure::NoName(ttl)) => return Answer::Nothing(ttl),
            Err(Failure::Bare) => return Answer::Failed(BARE.to_owned()),
            Err(Failure::Unknown(why)) => return Answer::Failed(why),
        };
        let target = |data: &RData| match data {
            RData::SRV(srv) => Some(Target { host: host_of(&srv.target)?, port: srv.port }),
            _ => None,
        };
        let targets: Vec<Target> =
            lookup.answers().iter().filter_map(|record| target(&record.data)).collect();
        let known: std::collections::HashSet<&str> =
            targets.iter().map(|target| target.host.as_str()).collect();
        let along = lookup.additionals().iter().filter_map(|record| {
            let host = host_of(&record.name).filter(|host| known.contains(host.as_str()))?;
            Some((host, address(&record.data)?))
        });
        let addresses = along.collect();
        Answer::Found(Records::Services { targets, addresses }, ttl_of(&lookup))
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Lookup, Failure> {
        let name = Name::from_ascii(name).map_err(|error| Failure::Unknown(plain(&error)))?;
        // Nothing is lost when the time is up: an answer that comes later is nobody's.
        match tokio::time::timeout(ASK_TIMEOUT, self.inner.lookup(name, kind)).await {
            Ok(Ok(lookup)) if lookup.answers().iter().any(|record| record.record_type() == kind) => {
                Ok(lookup)
            }
            Ok(Ok(_)) => Err(Failure::Bare),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(Failure::Unknown("no answer in time".to_owned())),
        }
    }
}

/// Why there are no records.
enum Failure {
    /// None of this kind.
    Nothing(Duration),
    /// None of any kind.
    NoName(Duration),
    /// No records, and no SOA that vouches for it (RFC 2308, 2.2). An alias that leads back to itself looks the same, for
    /// hickory ends it so; servers that were there are not given up for that.
    Bare,
    Unknown(String),
}

impl Failure {
    fn of(error: &NetError) -> Self {
        let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
            return Self::Unknown(plain(error));
        };
        let ttl = none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
        match none.response_code {
            ResponseCode::NXDomain => Self::NoName(ttl.unwrap_or(NEGATIVE_TTL_DEFAULT)),
            ResponseCode::NoError => ttl.map_or(Self::Bare, Self::Nothing),
            code => Self::Unknown(plain(&code)),
        }
    }
}

/// The shortest of all records that led to the answer, aliases included.
fn ttl_of(lookup: &Lookup) -> Duration {
    let ttls = lookup.answers().iter().map(|record| record.ttl);
    ttls.min().map_or(NEGATIVE_TTL_DEFAULT, |ttl| Duration::from_secs(ttl.into()))
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

/// A host's name in small letters without the last dot; `None`: it is no host's name, and would not be safe to show.
fn host_of(name: &Name) -> Option<String> {
    let host = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!host.is_empty() && host.len() <= 253 && host.chars().all(legal)).then_some(host)
}

/// One line of plain characters.
fn plain(error: &dyn std::fmt::Display) -> String {
    const CHARS_MAX: usize = 200;
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    error.to_string().chars().take(CHARS_MAX).map(plain).collect()
}
