//! What a process has used: CPU time and memory, from the kernel's own books (`/proc`).

use std::io;
use std::time::Duration;

/// Time and memory of a process, up to now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// In its own code.
    pub(super) user: Duration,
    /// In the kernel on its behalf.
    pub(super) system: Duration,
    pub(super) rss_bytes: u64,
    /// The most that it ever held.
    pub(super) peak_bytes: u64,
}

impl Usage {
    /// All threads of `pid`, those that have ended too. Counted in ticks of 10 ms: measure for seconds.
    ///
    /// # Errors
    /// No such process, or no `/proc`.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        Self::parse(&stat, &status)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as expected")))
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The name, in brackets, may hold anything; after it come the state and numbers, proc(5).
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let (user, system) = (of_ticks(ticks()?), of_ticks(ticks()?));
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line
                .and_then(|line| line.split_ascii_whitespace().next())
                .and_then(|n| n.parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        Some(Self { user, system, rss_bytes: bytes("VmRSS:"), peak_bytes: bytes("VmHWM:") })
    }
}

/// `/proc` counts in hundredths of a second on every machine that we are built for: the kernel's USER_HZ, which is no
/// setting but part of its interface.
const TICKS_PER_SECOND: u64 = 100;

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * (1_000 / TICKS_PER_SECOND))
}

/// Looks at processes when the measurement begins and again when it ends. The thread that makes the load does it
/// itself, at the very moment: another one might have to wait for a core that is busy with the load.
#[derive(Debug)]
pub(super) struct Observer {
    pids: Vec<u32>,
    begun: Option<Begun>,
}

/// As it was when the measurement began.
#[derive(Debug)]
struct Begun {
    own: Duration,
    usages: Vec<Option<Usage>>,
}

/// What was used in between.
#[derive(Debug)]
pub(super) struct Observed {
    /// CPU time of this process.
    pub(super) own: Duration,
    pub(super) processes: Vec<Watched>,
}

/// A process before and after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    pub(super) pid: u32,
    pub(super) before: Usage,
    /// `None`: the process is gone.
    pub(super) after: Option<Usage>,
}

impl Observer {
    pub(super) const fn new(pids: Vec<u32>) -> Self {
        Self { pids, begun: None }
    }

    pub(super) fn begin(&mut self) {
        let usages = self.pids.iter().map(|pid| Usage::of(*pid).ok()).collect();
        self.begun = Some(Begun { own: own_cpu(), usages });
    }

    /// `None`: it never began.
    pub(super) fn end(self) -> Option<Observed> {
        let Begun { own, usages } = self.begun?;
        let own = own_cpu().saturating_sub(own);
        let processes = self.pids.into_iter().zip(usages).map(|(pid, before)| {
            // A process that has ended but is not yet forgotten by its parent has no memory any more.
            let after = Usage::of(pid).ok().filter(|usage| usage.rss_bytes > 0);
            Watched { pid, before: before.unwrap_or_default(), after: before.and(after) }
        });
        Some(Observed { own, processes: processes.collect() })
    }
}

/// CPU time of this process.
fn own_cpu() -> Duration {
    Usage::of(std::process::id()).map_or(Duration::ZERO, |usage| usage.user + usage.system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_confuse() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 4 9 0 0 0 250 125 0 0 20 0 1 0 100 5 6";
        let usage = Usage::parse(stat, "Name:\ta\nVmHWM:\t  20 kB\nVmRSS:\t  10 kB\n").unwrap();
        assert_eq!((usage.user, usage.system), (Duration::from_millis(2_500), Duration::from_millis(1_250)));
        assert_eq!((usage.rss_bytes, usage.peak_bytes), (10_240, 20_480));
    }

    #[test]
    fn this_process_is_found() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 0 && usage.peak_bytes >= usage.rss_bytes);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
