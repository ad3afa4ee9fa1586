//! The first lines that `run` prints: what it does, and what to type next.

use crate::config::{Config, Endpoint, Listen, Server, show_bytes};
use std::path::Path;

/// What there is to say, kept until it is known where we really listen.
pub(super) struct Greeting {
    serves: String,
    next: String,
}

impl Greeting {
    /// `file` is the configuration's, if there is one.
    pub(super) fn of(config: &Config, file: Option<&Path>) -> Self {
        let servers: Vec<&Server> = config.pools.iter().flat_map(|pool| &pool.servers).collect();
        let memory_bytes: usize = servers.iter().map(|server| memory_bytes(server)).sum();
        let serves = if memory_bytes > 0 {
            // Shards are equal parts: the sum may miss a few bytes of what was asked for.
            let memory = show_bytes(memory_bytes.next_multiple_of(1 << 20));
            format!("from memory: {}, {memory}", plural(servers.len(), "shard"))
        } else {
            let how = match config.pools.as_slice() {
                [pool] => format!("placed by {}", pool.hash.placement.name()),
                pools => format!("in {}", plural(pools.len(), "pool")),
            };
            let sources: Vec<String> = config
                .pools
                .iter()
                .filter_map(|pool| pool.source.as_ref().map(ToString::to_string))
                .collect();
            let what = match (sources.as_slice(), servers.len()) {
                ([], count) => plural(count, "server"),
                ([source], 0) => format!("the servers of {source}"),
                (sources, 0) => format!("the servers of {}", plural(sources.len(), "source")),
                (sources, count) => {
                    format!("{} and those of {}", plural(count, "server"), plural(sources.len(), "source"))
                }
            };
            format!("in front of {what}, {how}")
        };
        let next = match file {
            Some(file) => format!("where a key goes:  ringway explain KEY -c {}", file.display()),
            None if memory_bytes > 0 => {
                "in front of your servers:  ringway --server HOST:PORT --server HOST:PORT".to_owned()
            }
            None => "from a file instead, with more to set:  ringway -c FILE".to_owned(),
        };
        Self { serves, next }
    }

    /// The lines, for these addresses.
    pub(super) fn text(&self, listening: &[String]) -> String {
        let on = if listening.is_empty() { "inherited sockets".to_owned() } else { listening.join(", ") };
        let mut text = format!("ringway {}: memcached on {on}, {}\n", env!("CARGO_PKG_VERSION"), self.serves);
        let parsed = listening.iter().filter_map(|label| label.parse().ok());
        if let Some(client) = parsed.into_iter().find_map(|listen| client_line(&listen)) {
            text.push_str(&format!("try it:  {client}   then:  set hello 0 0 5 ⏎ world ⏎ get hello ⏎\n"));
        }
        text.push_str(&self.next);
        text.push('\n');
        text
    }
}

/// What a person types to speak with us at this address.
fn client_line(listen: &Listen) -> Option<String> {
    match listen {
        // Port 0 is not known before it is bound.
        Listen::Tcp(address) if address.port() != 0 => {
            let host = match address.ip() {
                ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
                ip => ip.to_string(),
            };
            Some(format!("telnet {host} {}", address.port()))
        }
        Listen::Unix(path) => Some(format!("nc -U {}", path.display())),
        Listen::Tcp(_) | Listen::Fd(_) => None,
    }
}

fn memory_bytes(server: &Server) -> usize {
    match server.endpoint {
        Endpoint::Embedded(embedded) => embedded.memory_bytes_max,
        _ => 0,
    }
}

pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn says_what_it_does_and_what_to_type() {
        let text = Greeting::of(&Config::embedded_default(), None).text(&["127.0.0.1:5000".into()]);
        assert!(text.contains("on 127.0.0.1:5000, from memory: 3 shards, 64MiB"), "{text}");
        assert!(text.contains("telnet 127.0.0.1 5000"), "{text}");
        let (config, _) =
            config::from_text("t", "pools: {main: {servers: [a]}}", crate::route::check).unwrap();
        let text = Greeting::of(&config, Some(Path::new("x.yaml"))).text(&["0.0.0.0:7".into()]);
        assert!(text.contains("in front of 1 server, placed by ketama"), "{text}");
        assert!(text.contains("telnet 127.0.0.1 7") && text.contains("-c x.yaml"), "{text}");
    }
}
