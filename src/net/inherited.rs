//! Sockets that the process was started with: systemd's activation.

use std::os::fd::RawFd;

/// Whether systemd passed sockets to this very process.
#[must_use]
pub fn is_activated() -> bool {
    !activated().is_empty()
}

/// Descriptors that systemd passed (`LISTEN_FDS`, `LISTEN_PID`): the numbers, from 3 on.
pub(super) fn activated() -> Vec<RawFd> {
    let var = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    match (var("LISTEN_PID"), var("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() && count <= 64 => {
            (3..).take(count as usize).collect()
        }
        _ => Vec::new(),
    }
}
