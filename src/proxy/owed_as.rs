//! What a server is called in the spool: by its name, wherever that leads and before it leads anywhere, so that what it is owed
//! stays owed to it over a restart and a change of its address.
//!
//! A name of several addresses may lead one pool here and another one there. These are two servers: what was delivered to one
//! must not count for the other, so only where it leads the first pool has the name; the others are called by their addresses. One
//! that has left its pool comes behind those that are in one.

use super::windows::Windows;
use crate::config::{Config, Endpoint, Server};
use std::collections::{HashMap, HashSet};

#[derive(Default)]
pub(super) struct OwedAs {
    /// Servers whose names lead another pool elsewhere.
    elsewhere: HashSet<Endpoint>,
}

impl OwedAs {
    pub(super) fn of(config: &Config, windows: &Windows) -> Self {
        let (mut places, mut elsewhere) = (HashMap::new(), HashSet::new());
        for server in windows.asked(config) {
            if let Endpoint::Named { host, port, address } = &server.endpoint
                && places.entry((host, port)).or_insert(address) != &address
            {
                elsewhere.insert(server.endpoint.clone());
            }
        }
        Self { elsewhere }
    }

    pub(super) fn name(&self, server: &Server) -> String {
        if self.is_elsewhere(server) { server.address() } else { server.lasting_address() }
    }

    pub(super) fn is_elsewhere(&self, server: &Server) -> bool {
        self.elsewhere.contains(&server.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, route};

    fn named(host: &str, ip: &str) -> Server {
        Server::found(host, 1, Some(format!("{ip}:1").parse().unwrap()))
    }

    #[test]
    fn a_name_is_one_server_even_if_it_leads_to_two_places() {
        let text = "pools: {a: {servers: [x]}, b: {servers: [x]}}\nroute: a\n";
        let (mut config, _) = config::from_text("test", text, route::check).unwrap_or_else(|f| panic!("{f}"));
        for (second, names) in [
            (named("x", "10.0.0.1"), ["x:1", "x:1"]),
            (Server::found("x", 1, None), ["x:1", "x:1"]),
            (named("x", "10.0.0.2"), ["x:1", "10.0.0.2:1"]),
            (Server::at("10.0.0.1:1".parse().unwrap()), ["x:1", "10.0.0.1:1"]),
        ] {
            let servers = [named("x", "10.0.0.1"), second];
            for (pool, server) in config.pools.iter_mut().zip(&servers) {
                pool.servers = vec![server.clone()];
            }
            let owed_as = OwedAs::of(&config, &Windows::default());
            assert_eq!(servers.each_ref().map(|server| owed_as.name(server)), names);
        }
    }
}
