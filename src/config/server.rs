//! The server entry, the grammar that people live with:
//!
//! ```text
//! ADDRESS [weight=N] [name=NAME]          "10.0.0.2:11211 weight=2 name=b"
//! {address: ADDRESS, weight: N, name: NAME, timeout: TIME, connect_timeout: TIME}
//! {route: ROUTE, weight: N, name: NAME}                a route in the place of a server
//! ADDRESS = ip | ip:port | host | host:port | [ip6] | [ip6]:port | unix:path       port 11211 when none is given
//! ```

use super::distance::warn_slow_connect;
use super::fault::{At, Findings, Problem, quoted};
use super::node::Node;
use super::path::Path;
use super::pool::{Endpoint, RouteNode, Server};
use super::section::{Hint, Section, nearest_help};
use super::source::PoolSource;
use super::value::{self, TIMEOUTS};
use crate::hash::Member;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

/// memcached's own.
pub(super) const PORT_DEFAULT: u16 = 11_211;
const WEIGHTS: RangeInclusive<u32> = 1..=65_535;
const NAME_BYTES_MAX: usize = 250;
/// `sockaddr_un` holds 108 bytes with the closing NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;
const EXAMPLES: &str = "as in `10.0.0.1:11211`, `cache-a.internal`, `[::1]:11211`, `unix:/run/mc.sock`";
pub(super) const KEYS: &[&str] = &["address", "weight", "name", "timeout", "connect_timeout"];
pub(super) const ROUTE_KEYS: &[&str] = &["route", "weight", "name"];
const HINTS: &[Hint] = &[
    ("host", "write `address: host:port`"),
    ("port", "write `address: host:port`"),
    ("server", "write `address: host:port`"),
];

/// Reads one entry of `servers`, in either form.
pub(super) fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Server> {
    let problem = match node {
        Node::Map(map) => match map.as_slice() {
            // `- host: 11211`: the space makes it a map.
            [(host, Node::Integer(port))] if !KEYS.contains(&host.as_str()) => {
                Problem::new("expected a server, found a map")
                    .help(format!("without the space: `{host}:{port}`"))
            }
            _ => return read_map(node, path, findings),
        },
        Node::Text(text) => match parse(text) {
            Ok(server) => return Some(server),
            Err(problem) => problem,
        },
        Node::List(list) if matches!(list.as_slice(), [Node::Text(_)]) => {
            Problem::new("expected a server, found a list")
                .help("an address in brackets needs quotes: \"[::1]:11211\"")
        }
        other => value::expected("a server", other).help(EXAMPLES),
    };
    findings.fault(path, At::Value, problem);
    None
}

/// Reads the one-line form, of a file or of a `--server` flag.
pub(super) fn parse(text: &str) -> Result<Server, Problem> {
    let mut words = text.split_whitespace();
    let address =
        words.next().ok_or_else(|| Problem::new("expected a server, found an empty text").help(EXAMPLES))?;
    if let Some(problem) = foreign(text, address) {
        return Err(problem);
    }
    let (endpoint, host, port) = parse_address(address).map_err(|problem| problem.at(address))?;
    let mut member = Member { host, port, name: None, weight: 1 };
    let mut seen = Vec::new();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            let help = "after the address come `weight=N` and `name=NAME`";
            return Err(Problem::new(format!("unexpected {}", quoted(word))).help(help).at(word));
        };
        if seen.contains(&key) {
            return Err(Problem::new(format!("{} is written twice", quoted(key))).at(word));
        }
        seen.push(key);
        match key {
            "weight" => member.weight = parse_weight(value).map_err(|problem| problem.at(word))?,
            "name" => member.name = Some(check_name(value).map_err(|problem| problem.at(word))?),
            "timeout" | "connect_timeout" => {
                let help = format!("write a map: `{{address: \"{address}\", {key}: {value}}}`");
                return Err(Problem::new(format!("{} has no place here", quoted(key))).help(help).at(word));
            }
            _ => {
                let help = nearest_help(key, &["weight", "name"]);
                return Err(Problem::new(format!("unknown option {}", quoted(key))).help(help).at(word));
            }
        }
    }
    Ok(Server::new(endpoint, member))
}

fn read_map(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Server> {
    let section = Section::open(node, path, findings, "a server")?;
    let route = section.node("route");
    section.refuse_unknown(if route.is_some() { ROUTE_KEYS } else { KEYS }, HINTS);
    if section.node("address").is_none() && route.is_none() {
        let help = "write `{address: host:port, weight: 2, name: a}`";
        findings.fault(path, At::Value, Problem::new("a server needs its `address`").help(help));
    }
    let address = section.value("address", |node| {
        let address = value::text(node, "an address").map_err(|problem| problem.help(EXAMPLES))?;
        parse_address(&address)
    });
    let weight = section.value("weight", |node| match node {
        Node::Integer(weight) => in_weights(*weight, || node.kind()),
        _ => Err(value::expected(&weights_text(), node)),
    });
    let name = section.value("name", |node| check_name(&value::text(node, "a name")?));
    let time = |key| match route {
        Some(_) => None, // refused above
        None => section.value(key, |node| value::duration(node, &TIMEOUTS)),
    };
    let (timeout, connect_timeout) = (time("timeout"), time("connect_timeout"));
    if let (Some(timeout), Some(connect)) = (timeout, connect_timeout) {
        warn_slow_connect(findings, &path.key("connect_timeout"), connect, timeout);
    }
    let (endpoint, host, port) = match route {
        Some(node) => {
            (Endpoint::Route(RouteNode { node: Arc::new(node.clone()), place: 0 }), String::new(), None)
        }
        None => address?,
    };
    let member = Member { host, port, name, weight: weight.unwrap_or(1) };
    Some(Server { endpoint, member, timeout, connect_timeout })
}

/// An address, and host and port as they were written: placements hash what was configured.
pub(super) fn parse_address(text: &str) -> Result<(Endpoint, String, Option<u16>), Problem> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = check_unix_path(path)?;
        let host = path.display().to_string();
        return Ok((Endpoint::Unix(path), host, None));
    }
    if text.starts_with('/') {
        return Err(Problem::new("a path is not an address").help(format!("write `unix:{text}`")));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let bad = || {
            let help = "as in `[::1]:11211`";
            Problem::new(format!("{} is not an IPv6 address in brackets", quoted(text))).help(help)
        };
        let (ip, port) = rest.split_once(']').ok_or_else(bad)?;
        let ip_number: Ipv6Addr = ip.parse().map_err(|_| bad())?;
        let port = match port.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if port.is_empty() => PORT_DEFAULT,
            None => return Err(bad()),
        };
        let address = SocketAddr::new(IpAddr::V6(ip_number), port);
        return Ok((Endpoint::Address(address), ip.to_owned(), Some(port)));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Problem::new("an IPv6 address needs brackets")
            .help(format!("write `[{text}]:{PORT_DEFAULT}`, in YAML with quotes around it")));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, parse_port(port)?),
        None => (text, PORT_DEFAULT),
    };
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok((Endpoint::Address(SocketAddr::new(ip.into(), port)), host.to_owned(), Some(port)));
    }
    check_host(host)?;
    Ok((Endpoint::Host(host.to_owned(), port), host.to_owned(), Some(port)))
}

/// Spellings of other programs, recognised only to say what to write here.
fn foreign(text: &str, address: &str) -> Option<Problem> {
    if PoolSource::of_entry(address).is_some() {
        let problem = Problem::new(format!("{} stands for several servers", quoted(address)));
        return Some(problem.help("it must be the only entry of its pool"));
    }
    for scheme in ["memcached://", "memcache://", "tcp://"] {
        if let Some(rest) = address.strip_prefix(scheme) {
            return Some(
                Problem::new("an address has no scheme").help(format!("write `{rest}`")).at(address),
            );
        }
    }
    // twemproxy: `host:port:weight [name]`, `/path:weight [name]`.
    let (rest, weight) = address.rsplit_once(':')?;
    let weight: u32 = weight.parse().ok()?;
    let here = if rest.starts_with('/') {
        format!("unix:{rest}")
    } else if !rest.starts_with('[')
        && rest.matches(':').count() == 1
        && rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        rest.to_owned()
    } else {
        return None;
    };
    let mut words = text.split_whitespace().skip(1);
    let mut help = format!("write `{here}");
    if weight != 1 {
        help.push_str(&format!(" weight={weight}"));
    }
    if let (Some(name), None) = (words.next(), words.next()) {
        help.push_str(&format!(" name={name}"));
    }
    help.push('`');
    Some(Problem::new("twemproxy's `host:port:weight name` is written otherwise here").help(help))
}

pub(super) fn parse_port(text: &str) -> Result<u16, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or_else(|| {
        Problem::new(format!("{} is not a port", quoted(text))).help("a number from 1 to 65535")
    })
}

pub(super) fn check_unix_path(path: &str) -> Result<PathBuf, Problem> {
    if path.is_empty() || path.contains('\0') {
        return Err(Problem::new("expected a path after `unix:`").help("as in `unix:/run/mc.sock`"));
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        let message = format!("a socket's path of {} bytes", path.len());
        return Err(Problem::new(message).help(format!("the system allows {UNIX_PATH_BYTES_MAX}")));
    }
    Ok(PathBuf::from(path))
}

pub(super) fn check_host(host: &str) -> Result<(), Problem> {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let fits = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(legal);
    if host.len() > 253 || !labels.split('.').all(fits) {
        return Err(Problem::new(format!("{} is not a host name", quoted(host))).help(EXAMPLES));
    }
    // No top-level domain is a number: this is an address with an error in it.
    if labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err(Problem::new(format!("{} is not an IPv4 address", quoted(host))).help(EXAMPLES));
    }
    Ok(())
}

fn parse_weight(text: &str) -> Result<u32, Problem> {
    let number = text
        .parse::<i128>()
        .map_err(|_| Problem::new(format!("expected {}, found {}", weights_text(), quoted(text))))?;
    in_weights(number, || quoted(text))
}

fn in_weights(number: i128, found: impl Fn() -> String) -> Result<u32, Problem> {
    u32::try_from(number).ok().filter(|weight| WEIGHTS.contains(weight)).ok_or_else(|| {
        let problem = Problem::new(format!("expected {}, found {}", weights_text(), found()));
        if number == 0 { problem.help("leave the server out if it should get no keys") } else { problem }
    })
}

fn weights_text() -> String {
    format!("a weight from {} to {}", WEIGHTS.start(), WEIGHTS.end())
}

pub(super) fn check_name(name: &str) -> Result<String, Problem> {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(bad) {
        let help = format!("1 to {NAME_BYTES_MAX} bytes without spaces");
        return Err(Problem::new(format!("{} is not a server's name", quoted(name))).help(help));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, label, host, port) in [
            ("10.0.0.1:11212", "10.0.0.1:11212", "10.0.0.1", Some(11212)),
            ("10.0.0.1", "10.0.0.1:11211", "10.0.0.1", Some(11211)),
            ("cache-c.internal:11211", "cache-c.internal:11211", "cache-c.internal", Some(11211)),
            ("mc_1", "mc_1:11211", "mc_1", Some(11211)),
            ("a.b.:1", "a.b.:1", "a.b.", Some(1)),
            ("[::1]:11211", "[::1]:11211", "::1", Some(11211)),
            ("[fe80::1]", "[fe80::1]:11211", "fe80::1", Some(11211)),
            ("unix:/run/mc.sock", "unix:/run/mc.sock", "/run/mc.sock", None),
        ] {
            let server = parse(text).unwrap();
            assert_eq!(server.label(), label);
            assert_eq!((server.member.host.as_str(), server.member.port), (host, port));
            assert_eq!((server.member.weight, &server.member.name), (1, &None));
        }
    }

    #[test]
    fn options_in_any_order() {
        let server = parse("  h:1   name=a  weight=3 ").unwrap();
        assert_eq!((server.member.weight, server.member.name.as_deref()), (3, Some("a")));
        assert_eq!(server.label(), "a");
    }

    #[test]
    fn wrong_entries() {
        for text in [
            "",
            " ",
            "h:",
            "h:0",
            "h:65536",
            "h:+1",
            "[::1",
            "[::1]x",
            "[::g]:1",
            "10.0.0.256",
            "1.2.3",
            "a..b",
            "-/x",
            "h weight",
            "h weight=",
            "h weight=0",
            "h weight=-1",
            "h weight=65536",
            "h weight=1 weight=1",
            "h name=",
            "h size=1",
            "::1",
            "/run/x",
            "unix:",
            "tcp://h:1",
            "h:1:2:3",
            "bücher:1",
            "a b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn twemproxys_entries_are_translated() {
        let help = |text| parse(text).unwrap_err().help.unwrap();
        assert_eq!(help("10.0.0.1:11211:1"), "write `10.0.0.1:11211`");
        assert_eq!(help("10.0.0.1:11211:2 alpha"), "write `10.0.0.1:11211 weight=2 name=alpha`");
        assert_eq!(help("/run/mc.sock:3 a"), "write `unix:/run/mc.sock weight=3 name=a`");
    }
}
