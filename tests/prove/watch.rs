//! What a process uses: memory and descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Resident memory of a process now, in bytes.
pub(crate) fn rss_bytes(pid: i32) -> u64 {
    status_bytes(pid, "VmRSS:")
}

/// The highest that it ever was.
pub(crate) fn rss_bytes_max(pid: i32) -> u64 {
    status_bytes(pid, "VmHWM:")
}

/// As many descriptors as the system lets us have, for us and for what we start; the number.
pub(crate) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised); // what there is has to do then
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn status_bytes(pid: i32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}
