//! What is asked, and what may come back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Something that is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    pub kind: Kind,
    /// As it was written: a name that may need the search list, an endpoint's `host:port`, a path.
    pub name: String,
}

/// What is wanted of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A and AAAA.
    Addresses,
    /// SRV.
    Services,
    /// `config get cluster` of an endpoint.
    Cluster,
    /// The lines of a file.
    File,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Good for so long.
    Found(Records, Duration),
    /// There is no such name, or it has nothing of the kind; good for so long.
    Nothing(Duration),
    /// Nobody knows: a timeout, a refusal, a server that fails. The reason, in words.
    Failed(String),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// `None`: this family failed, and what was known of it holds.
    Addresses { v4: Option<Vec<Ipv4Addr>>, v6: Option<Vec<Ipv6Addr>> },
    /// Targets, and the addresses that came along.
    Services { targets: Vec<Target>, addresses: Vec<(String, IpAddr)> },
    /// What somebody has written down. The version of an endpoint's list grows; that of a file only tells one text from another.
    List { version: u64, entries: Vec<Listed> },
}

/// A target of an SRV record. Weight and priority are left out: a cluster's DNS changes them with every pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// In small letters, without the last dot.
    pub host: String,
    pub port: u16,
}

/// One server of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub host: String,
    pub port: u16,
    /// What the ring hashes instead of the address.
    pub name: Option<String>,
    pub weight: u32,
    /// Where the host is, where the list says so.
    pub address: Option<IpAddr>,
}

impl Question {
    pub(super) fn new(kind: Kind, name: &str) -> Self {
        // paths are the only names in which capitals count
        let name = if kind == Kind::File { name.to_owned() } else { name.to_ascii_lowercase() };
        Self { kind, name }
    }

    /// For people: `the addresses of cache.example`.
    pub(super) fn told(&self) -> String {
        match self.kind {
            Kind::Addresses => format!("the addresses of {}", self.name),
            Kind::Services => format!("the SRV records of {}", self.name),
            Kind::Cluster => format!("the servers of {}", self.name),
            Kind::File => format!("the servers in {}", self.name),
        }
    }
}

impl Records {
    /// What a name has that has nothing.
    pub(super) fn none(kind: Kind) -> Self {
        match kind {
            Kind::Addresses => Self::Addresses { v4: Some(Vec::new()), v6: Some(Vec::new()) },
            Kind::Services => Self::Services { targets: Vec::new(), addresses: Vec::new() },
            Kind::Cluster | Kind::File => Self::List { version: 0, entries: Vec::new() },
        }
    }

    /// In an order that says nothing: answers are shuffled.
    pub(super) fn sorted(mut self) -> Self {
        match &mut self {
            Self::Addresses { v4, v6 } => {
                if let Some(v4) = v4 {
                    v4.sort_unstable();
                    v4.dedup();
                }
                if let Some(v6) = v6 {
                    v6.sort_unstable();
                    v6.dedup();
                }
            }
            Self::Services { targets, addresses } => {
                targets.sort_unstable();
                targets.dedup();
                addresses.sort_unstable();
            }
            Self::List { .. } => {} // written in an order by somebody who meant it
        }
        self
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Self::Addresses { v4, v6 } => v4.as_ref().map_or(0, Vec::len) + v6.as_ref().map_or(0, Vec::len),
            Self::Services { targets, .. } => targets.len(),
            Self::List { entries, .. } => entries.len(),
        }
    }
}
