//! `resolver`: who is asked for names, where it is not `/etc/resolv.conf` that says it.

use super::fault::Problem;
use super::node::Node;
use super::section::Section;
use super::value;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Who is asked for names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Instead of the name servers of the file; empty: those.
    pub servers: Vec<SocketAddr>,
    /// As resolv.conf(5) has it.
    pub file: PathBuf,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { servers: Vec::new(), file: "/etc/resolv.conf".into() }
    }
}

impl Resolver {
    pub(super) const KEYS: &[&str] = &["servers", "file"];
    /// Of a name server.
    const PORT_DEFAULT: u16 = 53;

    /// A name server, a list of them, or a map.
    pub(super) fn read(node: &Node, top: &Section<'_>) -> Self {
        let default = Self::default();
        if !matches!(node, Node::Map(_)) {
            let servers = top.value("resolver", Self::read_servers).unwrap_or_default();
            return Self { servers, ..default };
        }
        let path = top.path.key("resolver");
        let Some(section) = Section::open(node, &path, top.findings, "name servers") else { return default };
        section.refuse_unknown(Self::KEYS, &[("search", "the search list is that of `file`")]);
        let file = section.value("file", |node| value::text(node, "a path"));
        Self {
            servers: section.value("servers", Self::read_servers).unwrap_or_default(),
            file: file.map_or(default.file, PathBuf::from),
        }
    }

    fn read_servers(node: &Node) -> Result<Vec<SocketAddr>, Problem> {
        let what = "the address of a name server, or a list of them";
        let one = |node: &Node| {
            let text = value::text(node, what)?;
            let ip = text.parse().map(|ip| SocketAddr::new(ip, Self::PORT_DEFAULT));
            let address = ip.or_else(|_| text.parse()).map_err(|_| value::expected(what, node));
            address.map_err(|problem| problem.help("as in `10.96.0.10` or `127.0.0.1:5353`"))
        };
        match node {
            Node::List(list) if (1..=8).contains(&list.len()) => list.iter().map(one).collect(),
            Node::List(list) => Err(Problem::new(format!("{} name servers", list.len())).help("1 to 8")),
            node => Ok(vec![one(node)?]),
        }
    }
}
