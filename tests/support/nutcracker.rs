//! A real twemproxy.

use super::client::Client;
use super::directory::Directory;
use super::process::{PATIENCE, Process};
use std::process::Command;
use std::time::{Duration, Instant};

/// A running nutcracker on a unix socket; killed when dropped.
pub(crate) struct Nutcracker {
    _process: Process,
    address: String,
    _directory: Directory,
}

impl Nutcracker {
    /// With these lines for the pool and these entries below `servers:`.
    pub(crate) fn start(pool: &str, servers: &[String]) -> Self {
        let directory = Directory::new();
        let socket = directory.file("nut.sock");
        let mut yaml = format!("pool:\n  listen: {socket}\n  timeout: 20000\n");
        for line in pool.lines() {
            yaml += &format!("  {}\n", line.trim());
        }
        yaml += "  servers:\n";
        for server in servers {
            yaml += &format!("   - {server}\n");
        }
        let file = directory.write("nut.yml", &yaml);
        // its statistics want a port that is free now
        let port = super::dead_address().rsplit_once(':').unwrap().1.to_owned();
        let mut command = Command::new("nutcracker");
        command.args(["-c", &file, "-s", &port, "-a", "127.0.0.1", "-o", &directory.file("nut.log")]);
        command.args(["-p", &directory.file("nut.pid")]);
        let mut process = Process::start(&mut command);
        let address = format!("unix:{socket}");
        let deadline = Instant::now() + PATIENCE;
        while Client::try_connect(&address).is_err() {
            // it tells nobody when it listens: look again soon, unless it has ended
            let ended = process.exit_within(Duration::from_millis(2)).is_some();
            assert!(
                !ended && Instant::now() < deadline,
                "nutcracker did not start: {}\n{yaml}",
                process.stderr()
            );
        }
        Self { _process: process, address, _directory: directory }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address)
    }
}

/// Whether there is one.
pub(crate) fn has_nutcracker() -> bool {
    super::tool("nutcracker", super::on_path("nutcracker"))
}
