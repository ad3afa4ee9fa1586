//! Who asks: name servers, endpoints, files; and what the system says about names, read again when it has changed.

use super::answer::{Answer, Kind};
use super::dns::Resolver;
use super::search::{ResolvConf, Search};
use super::table::Ask;
use super::{cluster, file};
use crate::config;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

const HOSTS: &str = "/etc/hosts";
/// Of resolv.conf and of hosts: block lists have 100,000 lines, and nobody's servers are behind them.
const SYSTEM_FILE_BYTES_MAX: u64 = 1 << 20;

/// Asks on behalf of the table.
pub(super) struct Asker {
    settings: config::Resolver,
    /// Or why there is none.
    resolver: Result<Resolver, String>,
    /// What the resolver and the search list were made of.
    system: System,
}

#[derive(PartialEq, Eq)]
struct System {
    resolv_conf: String,
    hosts: String,
}

impl System {
    fn read(settings: &config::Resolver) -> Self {
        // A file that is not there says nothing.
        let text = |path: &Path| read_bounded(path).unwrap_or_default();
        Self { resolv_conf: text(&settings.file), hosts: text(Path::new(HOSTS)) }
    }
}

impl Asker {
    pub(super) fn new(settings: config::Resolver) -> (Self, Search) {
        let system = System::read(&settings);
        let (resolver, search) = made_of(&system, &settings);
        (Self { settings, resolver, system }, search)
    }

    /// The search list, if the system or the configuration says something else than before.
    pub(super) fn renew(&mut self, settings: Option<config::Resolver>) -> Option<Search> {
        let settings = settings.unwrap_or_else(|| self.settings.clone());
        let system = System::read(&settings);
        if system == self.system && settings == self.settings {
            return None;
        }
        let (resolver, search) = made_of(&system, &settings);
        *self = Self { settings, resolver, system };
        Some(search)
    }

    /// The answer, sooner or later.
    pub(super) fn answer(&self, ask: &Ask) -> impl Future<Output = Answer> + use<> {
        let (ask, resolver) = (ask.clone(), self.resolver.clone());
        async move {
            match (ask.question.kind, resolver) {
                (Kind::Addresses, Ok(resolver)) => resolver.addresses(&ask.name).await,
                (Kind::Services, Ok(resolver)) => resolver.services(&ask.name).await,
                (Kind::Addresses | Kind::Services, Err(why)) => Answer::Failed(why),
                (Kind::Cluster, _) => cluster::ask(&ask.addresses).await,
                (Kind::File, _) => file::read(Path::new(&ask.name)),
            }
        }
    }
}

fn made_of(system: &System, settings: &config::Resolver) -> (Result<Resolver, String>, Search) {
    /// Of a name server.
    const PORT: u16 = 53;
    let conf = ResolvConf::parse(&system.resolv_conf);
    let servers = if settings.servers.is_empty() {
        conf.servers.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect()
    } else {
        settings.servers.clone()
    };
    let search = Search::new(&conf, &system.hosts);
    (Resolver::new(&servers, conf.timeout, conf.attempts), search)
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(SYSTEM_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
