//! A server as mcrouter writes it: `host:port[:protocol[:mech[:compression]]]`, IPv6 in brackets, `unix:/path[:protocol…]`.

use crate::config::pool::RouteNode;
use crate::config::server::parse_address;
use crate::config::{Endpoint, Node, Problem, Server, quoted};
use crate::hash::Member;
use std::sync::Arc;

const PROTOCOLS: &[&str] = &["ascii", "caret", "thrift", "xdp", "umbrella"];
const EXAMPLES: &str = "as in `10.0.0.1:11211`, `[::1]:11211:ascii:plain`, `unix:/run/mc.sock`";

/// Reads one entry; the pool may have a port for all of them.
pub(super) fn parse(text: &str, port_override: Option<u16>) -> Result<Server, Problem> {
    let (address, options) = split(text);
    let mut options = options.split(':').filter(|word| !word.is_empty());
    if let Some(protocol) = options.next() {
        check_protocol(protocol).map_err(|problem| problem.at(protocol))?;
    }
    if let Some(mech) = options.next() {
        check_mech(mech).map_err(|problem| problem.at(mech))?;
    }
    if let Some(word) = options.next()
        && !matches!(word, "compressed" | "notcompressed")
    {
        let help = "`compressed` or `notcompressed`";
        return Err(Problem::new(format!("unexpected {}", quoted(word))).help(help).at(word));
    }
    if let Some(word) = options.next() {
        return Err(Problem::new(format!("unexpected {}", quoted(word))).help(EXAMPLES).at(word));
    }
    let has_port = address.starts_with("unix:") || port_of(address).is_some();
    let whole = match port_override {
        Some(port) if !address.starts_with("unix:") => {
            let host = port_of(address).map_or(address, |port| &address[..address.len() - port.len() - 1]);
            format!("{host}:{port}")
        }
        None if !has_port => {
            return Err(Problem::new(format!("{} has no port", quoted(address))).help(EXAMPLES));
        }
        _ => address.to_owned(),
    };
    let (endpoint, host, port) = parse_address(&whole)?;
    Ok(Server::new(endpoint, Member { host, port, name: None, weight: 1 }))
}

/// An object among the servers: any route may be a member of a pool.
pub(super) fn of_route(node: &Node) -> Server {
    let member = Member { host: String::new(), port: None, name: None, weight: 1 };
    Server::new(Endpoint::Route(RouteNode { node: Arc::new(node.clone()), place: 0 }), member)
}

/// Only memcached's text protocol is spoken.
pub(super) fn check_protocol(protocol: &str) -> Result<(), Problem> {
    match protocol {
        "ascii" => Ok(()),
        _ if PROTOCOLS.contains(&protocol) => {
            Err(Problem::new(format!("the protocol `{protocol}` is not spoken"))
                .help("servers are memcached servers: `ascii`"))
        }
        _ => Err(Problem::new(format!("{} is not a protocol", quoted(protocol))).help("it is `ascii`")),
    }
}

/// Without encryption, as yet.
pub(super) fn check_mech(mech: &str) -> Result<(), Problem> {
    match mech {
        "plain" => Ok(()),
        "ssl" | "tls_to_plain" | "fizz" | "ktls12" => {
            Err(Problem::new(format!("`{mech}`: encrypted connections to servers are not there yet"))
                .help("`plain` is all there is"))
        }
        _ => Err(Problem::new(format!("{} is not a security mechanism", quoted(mech))).help("it is `plain`")),
    }
}

/// The address, and what stands behind its port.
fn split(text: &str) -> (&str, &str) {
    let start = if let Some(path) = text.strip_prefix("unix:") {
        return path.find(':').map_or((text, ""), |at| text.split_at("unix:".len() + at));
    } else if text.starts_with('[') {
        text.find(']').map_or(0, |at| at + 1)
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let port = text[start..].strip_prefix(':').unwrap_or("");
    match port.find(':') {
        Some(at) => text.split_at(start + 1 + at),
        None => (text, ""),
    }
}

fn port_of(address: &str) -> Option<&str> {
    let behind = address.rfind(']').map_or(address, |at| &address[at + 1..]);
    behind.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, address) in [
            ("10.0.0.1:11211", "10.0.0.1:11211"),
            ("cache.internal:11211:ascii", "cache.internal:11211"),
            ("10.0.0.1:11211:ascii:plain:notcompressed", "10.0.0.1:11211"),
            ("[::1]:11211", "[::1]:11211"),
            ("[::1]:11211:ascii:plain", "[::1]:11211"),
            ("unix:/run/mc.sock", "unix:/run/mc.sock"),
            ("unix:/run/mc.sock:ascii", "unix:/run/mc.sock"),
        ] {
            assert_eq!(parse(text, None).unwrap().address(), address, "{text}");
        }
        assert_eq!(parse("10.0.0.1:11211:ascii", Some(5000)).unwrap().address(), "10.0.0.1:5000");
        assert_eq!(parse("10.0.0.1", Some(5000)).unwrap().address(), "10.0.0.1:5000");
        assert_eq!(parse("[::1]", Some(5000)).unwrap().address(), "[::1]:5000");
    }

    #[test]
    fn wrong_ones() {
        for text in [
            "",
            "10.0.0.1",
            "[::1]",
            "10.0.0.1:x",
            "10.0.0.1:1:caret",
            "10.0.0.1:1:http",
            "10.0.0.1:1:ascii:ssl",
            "10.0.0.1:1:ascii:rot13",
            "10.0.0.1:1:ascii:plain:zipped",
            "10.0.0.1:1:ascii:plain:compressed:more",
            "unix:",
            "::1",
        ] {
            assert!(parse(text, None).is_err(), "{text}");
        }
        let problem = parse("10.0.0.1:1:ascii:ssl", None).unwrap_err();
        assert!(problem.message.contains("not there yet"), "{problem}");
    }
}
