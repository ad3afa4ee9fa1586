//! Real memcached servers.

use super::client::Client;
use super::directory::Directory;
use super::process::{PATIENCE, Process};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A running memcached on a free port of 127.0.0.1; killed when dropped.
pub(crate) struct Memcached {
    process: Process,
    host: String,
    address: String,
    program: PathBuf,
    arguments: Vec<String>,
    directory: Directory,
}

impl Memcached {
    /// The one that the system has.
    pub(crate) fn start() -> Self {
        Self::launch(Path::new("memcached"), &[])
    }

    /// One that speaks the protocol of today, built by `scripts/memcached-latest`.
    pub(crate) fn latest() -> Self {
        Self::launch(&latest_path(), &[])
    }

    /// As [`Self::start`], with more arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::launch(Path::new("memcached"), arguments)
    }

    /// The system's at an address of the loopback network, as pods have theirs; on a port that is free there, or on this one.
    pub(crate) fn at(host: &str, port: Option<&str>) -> Self {
        Self::launch_at(host, port.unwrap_or("-1"), Path::new("memcached"), &[])
    }

    /// So many of the system's.
    pub(crate) fn start_several(count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::start()).collect()
    }

    fn launch(program: &Path, arguments: &[&str]) -> Self {
        Self::launch_at("127.0.0.1", "-1", program, arguments)
    }

    fn launch_at(host: &str, port: &str, program: &Path, arguments: &[&str]) -> Self {
        let directory = Directory::new();
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let (process, port) = Self::spawn(program, &arguments, &directory, host, port)
            .unwrap_or_else(|said| panic!("memcached did not start: {said}"));
        let (host, address) = (host.to_owned(), format!("{host}:{port}"));
        Self { process, host, address, program: program.to_owned(), arguments, directory }
    }

    /// Starts one on this port; the port that it got, or what it said instead.
    fn spawn(
        program: &Path,
        arguments: &[String],
        directory: &Directory,
        host: &str,
        port: &str,
    ) -> Result<(Process, String), String> {
        let report = directory.file("port");
        let _ = std::fs::remove_file(&report); // there is none yet, or that of the one before
        let mut command = Command::new(program);
        command.args(["-u", "root", "-l", host, "-p", port, "-U", "0", "-t", "1", "-m", "64", "-c", "4096"]);
        command.args(arguments).env("MEMCACHED_PORT_FILENAME", &report);
        let mut process = Process::start(&mut command);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(&report).unwrap_or_default();
            if let Some(port) = text.lines().find_map(|l| l.strip_prefix("TCP INET: ")) {
                return Ok((process, port.to_owned()));
            }
            // memcached tells nobody when the file is there: look again soon, unless it has ended
            if process.exit_within(Duration::from_millis(2)).is_some() || Instant::now() > deadline {
                return Err(process.stderr());
            }
        }
    }

    /// Ends it as a crash would; its memory is lost.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.exit();
    }

    /// Starts it again on the same port, empty. (Somebody else may have the port for a moment.)
    pub(crate) fn restart(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let port = self.address.rsplit(':').next().expect("an address has a port").to_owned();
        loop {
            match Self::spawn(&self.program, &self.arguments, &self.directory, &self.host, &port) {
                Ok((process, _)) => return self.process = process,
                Err(said) => assert!(Instant::now() < deadline, "memcached did not start again: {said}"),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address)
    }

    /// One number of its `stats`.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let mut client = self.client();
        client.send("stats\r\n");
        let wanted = format!("STAT {name} ");
        let line = client.lines_to_end().into_iter().find_map(|l| l.strip_prefix(&wanted).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no stat {name}")).parse().unwrap()
    }
}

/// Whether a memcached of today is there; when not, says so, or fails where all tests must run.
pub(crate) fn has_latest() -> bool {
    super::tool("a current memcached (scripts/memcached-latest)", latest_path().exists())
}

/// Whether the system has a memcached.
pub(crate) fn has_memcached() -> bool {
    super::tool("memcached", super::on_path("memcached"))
}

fn latest_path() -> PathBuf {
    if let Some(path) = std::env::var_os("RINGWAY_MEMCACHED") {
        return path.into();
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let caches = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    caches.join("ringway/memcached")
}
