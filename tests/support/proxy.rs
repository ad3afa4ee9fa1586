//! The program under test, as a process of its own.

use super::client::Client;
use super::directory::Directory;
use super::process::{Process, status_of};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use std::process::{Command, ExitStatus};

/// A running ringway; killed when dropped.
pub(crate) struct Proxy {
    process: Process,
    addresses: Vec<String>,
    directory: Directory,
}

impl Proxy {
    /// With this configuration. Without `listen:` in it, on a free port of 127.0.0.1; without `workers:`, one worker.
    pub(crate) fn with(yaml: &str) -> Self {
        let directory = Directory::new();
        let path = directory.write("ringway.yaml", &completed(yaml));
        Self::launch(&["run", "-c", &path], listeners(yaml), directory)
    }

    /// Puts another configuration in the place of the one that [`Self::with`] wrote, as editors do it: in one step.
    pub(crate) fn rewrite(&self, yaml: &str) {
        let new = self.directory.write("new.yaml", &completed(yaml));
        std::fs::rename(new, self.config()).unwrap();
    }

    /// The same, and waits until `client` is told that it is in use.
    pub(crate) fn reload(&self, client: &mut Client, yaml: &str) {
        let reloads = client.stat("config_reloads");
        self.rewrite(yaml);
        client.await_stat("config_reloads", reloads + 1);
    }

    /// Its memory that is in use now.
    pub(crate) fn resident_bytes(&self) -> usize {
        let kib = status_of(self.pid(), "VmRSS:");
        assert!(kib > 0, "nothing is told of the process");
        usize::try_from(kib).unwrap() * 1024
    }

    /// A process that takes over from this one, at this door; with another configuration, or the same in a file of its own.
    pub(crate) fn successor(&self, door: &str, yaml: Option<&str>) -> Self {
        let yaml = yaml.map_or_else(|| std::fs::read_to_string(self.config()).unwrap(), completed);
        let directory = Directory::new();
        let path = directory.write("ringway.yaml", &yaml);
        Self::launch(&["run", "-c", &path, "--take-over", door], listeners(&yaml), directory)
    }

    /// The file that [`Self::with`] wrote.
    pub(crate) fn config(&self) -> String {
        self.directory.file("ringway.yaml")
    }

    /// With a pool of these servers in front and these further lines for the pool.
    pub(crate) fn before(servers: &[&str], pool: &str) -> Self {
        Self::with(&pool_of(servers, pool))
    }

    /// With these arguments, one of which should be `--listen 127.0.0.1:0`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let count = arguments.iter().filter(|a| **a == "--listen").count().max(1);
        Self::launch(arguments, count, Directory::new())
    }

    /// The embedded default on a free port.
    pub(crate) fn embedded() -> Self {
        Self::start(&["run", "--listen", "127.0.0.1:0", "--workers", "1"])
    }

    /// With file systems of its own, as `mounts` (a line of a shell) makes them: they go with the process, and nobody else sees
    /// them but by [`Self::inside`].
    pub(crate) fn with_mounts(yaml: &str, mounts: &str) -> Self {
        let directory = Directory::new();
        let path = directory.write("ringway.yaml", &completed(yaml));
        let process = Process::start(&mut mounted(mounts, &["run", "-c", &path]));
        Self::listening(process, listeners(yaml), directory)
    }

    /// The same, of one that ends by itself: its exit code and what it said.
    pub(crate) fn refuses_with_mounts(yaml: &str, mounts: &str) -> (i32, String) {
        let directory = Directory::new();
        let path = directory.write("ringway.yaml", yaml);
        let mut process = Process::start(&mut mounted(mounts, &["run", "-c", &path]));
        let status = process.exit();
        (status.code().expect("no signal ended it"), process.stderr())
    }

    /// A path as this process sees it.
    pub(crate) fn inside(&self, path: &str) -> String {
        format!("/proc/{}/root{path}", self.pid())
    }

    fn launch(arguments: &[&str], listeners: usize, directory: Directory) -> Self {
        Self::listening(Process::start(&mut command(arguments)), listeners, directory)
    }

    fn listening(process: Process, listeners: usize, directory: Directory) -> Self {
        let addresses = process.await_stderr(|lines| {
            let found: Vec<String> = lines.iter().filter_map(|l| listening(l)).collect();
            (found.len() >= listeners).then_some(found)
        });
        Self { process, addresses, directory }
    }

    /// Where it listens first.
    pub(crate) fn address(&self) -> &str {
        &self.addresses[0]
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// Where its admin port is.
    pub(crate) fn admin(&self) -> String {
        const SAID: &str = "admin port at http://";
        self.process.await_stderr(|lines| {
            let line = lines.iter().find_map(|line| line.split_once(SAID))?;
            Some(line.1.trim().to_owned())
        })
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// From now on it may open no more than this many files more.
    pub(crate) fn limit_files_to_those_open_and(&self, more: u64) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let open: Vec<u64> =
            open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        // The limit is on the number of a descriptor, and there may be holes among those that are open.
        let free_below = |limit: u64| limit - open.iter().filter(|number| **number < limit).count() as u64;
        let limit = (0..).find(|limit| free_below(*limit) == more).unwrap();
        let pid = Pid::from_raw(self.pid()).unwrap();
        let limit = Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    }

    pub(crate) fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Waits until it has said this.
    pub(crate) fn await_stderr(&self, words: &str) {
        self.process.await_stderr(|lines| lines.iter().any(|line| line.contains(words)).then_some(()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Asks it to leave and waits until it has.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.process.exit()
    }

    /// Runs it with this configuration until it ends by itself: its exit code and what it said.
    pub(crate) fn refuses(yaml: &str) -> (i32, String) {
        let directory = Directory::new();
        let path = directory.write("ringway.yaml", yaml);
        Self::ends(&["run", "-c", &path])
    }

    /// Runs it with these arguments until it ends by itself: its exit code and what it said.
    pub(crate) fn ends(arguments: &[&str]) -> (i32, String) {
        let mut process = Process::start(&mut command(arguments));
        let status = process.exit();
        (status.code().expect("no signal ended it"), process.stderr())
    }
}

/// The configuration of one pool with these servers.
pub(crate) fn pool_of(servers: &[&str], more: &str) -> String {
    let mut yaml = String::from("pools:\n  main:\n    servers:\n");
    for server in servers {
        yaml += &format!("      - \"{server}\"\n");
    }
    for line in more.lines() {
        yaml += &format!("    {}\n", line.trim());
    }
    yaml + "route: main\n"
}

fn completed(yaml: &str) -> String {
    let mut text = String::new();
    if !yaml.contains("listen:") {
        text += "listen: [\"127.0.0.1:0\"]\n";
    }
    if !yaml.contains("workers:") {
        text += "workers: 1\n";
    }
    text + yaml
}

fn listeners(yaml: &str) -> usize {
    let line = yaml.lines().find(|l| l.starts_with("listen:"));
    line.map_or(1, |l| l.matches(',').count() + 1)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(arguments).env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
    command
}

fn mounted(mounts: &str, arguments: &[&str]) -> Command {
    let script = format!("{mounts} && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_ringway")]).args(arguments);
    command.env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
    command
}

/// Whether [`Proxy::with_mounts`] can be had: it needs to be root. When not, the test is skipped with a line.
pub(crate) fn can_mount() -> bool {
    let done = Command::new("unshare").args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /tmp"]).status();
    let is_there = done.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("SKIPPED: nobody but root can mount a file system");
    }
    is_there
}

/// The address in a line like `… listening on 127.0.0.1:5000 …`.
fn listening(line: &str) -> Option<String> {
    let rest = line.split_once("listening on ")?.1;
    let end = rest.find(|c: char| c.is_whitespace() || c == ',' || c == '"').unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}
