//! Where clients connect: `ip:port`, `[ip6]:port`, `unix:/path`, `fd:N` (an inherited, listening socket).

use super::fault::{At, Findings, Problem, quoted};
use super::node::Node;
use super::path::Path;
use super::server::check_unix_path;
use super::value;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// mcrouter's port, which clients of a proxy expect.
const PORT_DEFAULT: u16 = 5_000;
/// 0 to 2 are the standard streams.
const FDS: std::ops::RangeInclusive<i32> = 3..=1_048_575;
const EXAMPLES: &str = "as in `0.0.0.0:5000`, `[::]:5000`, `unix:/run/ringway.sock`, `fd:3`";

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A listening socket that the process was started with.
    Fd(i32),
}

impl FromStr for Listen {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("unix:") {
            return check_unix_path(path).map(Self::Unix);
        }
        if let Some(number) = text.strip_prefix("fd:") {
            let fd = number.parse().ok().filter(|fd| FDS.contains(fd));
            return fd.map(Self::Fd).ok_or_else(|| {
                Problem::new(format!("{} is not a file descriptor", quoted(number)))
                    .help("the number of a socket that the process inherits, from 3 on")
            });
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let help = if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            format!("with its port: `{}`", SocketAddr::new(ip, PORT_DEFAULT))
        } else if text.starts_with('/') {
            format!("write `unix:{text}`")
        } else if let Some(port) = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()) {
            format!(
                "an IP address and a port: `0.0.0.0:{port}` for every interface, `127.0.0.1:{port}` for this machine"
            )
        } else {
            EXAMPLES.to_owned()
        };
        Err(Problem::new(format!("{} is no address to listen on", quoted(text))).help(help))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

/// Reads `listen`: one address or a list.
pub(super) fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Vec<Listen> {
    let Node::List(list) = node else {
        return read_one(node, path, findings).into_iter().collect();
    };
    if list.is_empty() {
        findings.fault(path, At::Value, Problem::new("the list is empty").help(EXAMPLES));
    }
    let mut addresses: Vec<Listen> = Vec::new();
    for (i, entry) in list.iter().enumerate() {
        let path = path.index(i);
        let Some(address) = read_one(entry, &path, findings) else { continue };
        // Port 0 is a new port each time.
        let is_free = matches!(address, Listen::Tcp(a) if a.port() == 0);
        if addresses.contains(&address) && !is_free {
            findings.fault(&path, At::Value, Problem::new(format!("`{address}` is listed twice")));
        }
        addresses.push(address);
    }
    addresses
}

fn read_one(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Listen> {
    let parsed = match node {
        Node::Text(text) => text.parse(),
        Node::Integer(port @ 1..=65_535) => Err(Problem::new(format!("{port} is no address to listen on"))
            .help(format!(
                "write `0.0.0.0:{port}` for every interface, `127.0.0.1:{port}` for this machine"
            ))),
        other => Err(value::expected("an address to listen on", other).help(EXAMPLES)),
    };
    parsed.map_err(|problem| findings.fault(path, At::Value, problem)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_shown_alike() {
        for text in ["0.0.0.0:5000", "127.0.0.1:0", "[::1]:5000", "unix:/run/r.sock", "unix:rel", "fd:3"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_ones_say_what_to_write() {
        let help = |text: &str| text.parse::<Listen>().unwrap_err().help.unwrap();
        assert!(help(":5000").contains("`0.0.0.0:5000`"));
        assert!(help("*:5001").contains("`0.0.0.0:5001`"));
        assert!(help("localhost:5000").contains("`127.0.0.1:5000`"));
        assert!(help("10.0.0.1").contains("`10.0.0.1:5000`"));
        assert!(help("::1").contains("`[::1]:5000`"));
        assert!(help("/run/x").contains("`unix:/run/x`"));
        for text in ["", "fd:", "fd:2", "fd:x", "unix:", "1.2.3.4:99999"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
