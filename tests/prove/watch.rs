//! What the parts look at while they try: the program's memory, its counters, how fast something goes on.

use crate::plan::{Outcome, tell};
use crate::support::Proxy;
use crate::support::process::status_of;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::{Duration, Instant};

/// Lets time pass. A trouble has to last for a while; nothing is awaited by this.
pub(crate) fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// How long it took until this was so; `None` when it was not so within that time.
pub(crate) fn until(longest: Duration, is_so: impl Fn() -> bool) -> Option<Duration> {
    let began = Instant::now();
    loop {
        if is_so() {
            return Some(began.elapsed());
        }
        if began.elapsed() > longest {
            return None;
        }
        pass(Duration::from_millis(1));
    }
}

/// How much a count grows in a second.
pub(crate) fn rate(time: Duration, count: impl Fn() -> u64) -> f64 {
    let (began, before) = (Instant::now(), count());
    pass(time);
    (count() - before) as f64 / began.elapsed().as_secs_f64()
}

/// One number of the program's `stats`.
pub(crate) fn stat(proxy: &Proxy, name: &str) -> u64 {
    let mut client = proxy.client();
    client.send("stats\r\n");
    let wanted = format!("STAT {name} ");
    let line = client.lines_to_end().into_iter().find_map(|l| l.strip_prefix(&wanted).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no stat {name}")).parse().unwrap()
}

/// Whether the program has ended, which nobody asked it to; says what it said.
pub(crate) fn is_gone(proxy: &mut Proxy, outcome: &mut Outcome) -> bool {
    let is_gone = !proxy.process().is_running();
    if is_gone {
        outcome.panics += 1;
        tell(format_args!("the program has ended:\n{}", proxy.stderr()));
    }
    is_gone
}

/// Where no server lies no reply is out of step.
pub(crate) fn expect_no_desync(proxy: &Proxy, outcome: &mut Outcome) {
    let desync = stat(proxy, "desync_detected");
    if desync > 0 {
        outcome.report_wrong(format_args!("desync_detected {desync}: no server lied"));
    }
}

/// Memory of a process that is in use now.
pub(crate) fn rss_bytes(pid: i32) -> u64 {
    status_of(pid, "VmRSS:") * 1024
}

/// The most memory that it ever had in use.
pub(crate) fn rss_bytes_max(pid: i32) -> u64 {
    status_of(pid, "VmHWM:") * 1024
}

/// As many descriptors as the system lets us have, for us and for what we start; the number.
pub(crate) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

/// Threads of a process.
pub(crate) fn threads(pid: i32) -> u64 {
    status_of(pid, "Threads:")
}

/// Open files of a process.
pub(crate) fn files(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
