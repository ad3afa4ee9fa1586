//! A child process: its stderr by the line, its end awaited, killed when the test is over.

use super::leftovers;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything may take; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A process that has left ends when the kernel has let go of what it watched, which on a busy machine was seen to take half a
/// minute.
const PATIENCE_WITH_END: Duration = Duration::from_secs(120);

/// A child process of the test.
pub(crate) struct Process {
    name: String,
    pid: Pid,
    said: Arc<(Mutex<Said>, Condvar)>,
    end: Receiver<ExitStatus>,
    ended: Option<ExitStatus>,
}

/// What the child wrote so far.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    finished: bool,
}

impl Process {
    /// Starts it; stdout is thrown away, stderr is kept.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = leftovers::start(command).unwrap_or_else(|e| panic!("{name}: {e}"));
        let pid = Pid::from_child(&child);
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let writer = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let Ok(line) = line else { break };
                writer.0.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
                writer.1.notify_all();
            }
            writer.0.lock().unwrap().finished = true;
            writer.1.notify_all();
        });
        let (tell, end) = channel();
        thread::spawn(move || {
            let status = child.wait().expect("a child can be waited for");
            leftovers::ended(pid);
            let _ = tell.send(status); // the test may be over
        });
        Self { name, pid, said, end, ended: None }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// All that it wrote on stderr until now.
    pub(crate) fn stderr(&self) -> String {
        self.said.0.lock().unwrap().lines.join("\n")
    }

    /// Waits until `found` makes something of the lines on stderr; panics when the child ends first.
    pub(crate) fn await_stderr<T>(&self, found: impl Fn(&[String]) -> Option<T>) -> T {
        self.try_await_stderr(found)
            .unwrap_or_else(|| panic!("{} did not say what was hoped for:\n{}", self.name, self.stderr()))
    }

    /// The same, `None` when the child ends first.
    pub(crate) fn try_await_stderr<T>(&self, found: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.said.0.lock().unwrap();
        loop {
            if let Some(thing) = found(&said.lines) {
                return Some(thing);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if said.finished || left.is_zero() {
                return None;
            }
            said = self.said.1.wait_timeout(said, left).unwrap().0;
        }
    }

    /// Sends a signal; to one that has just ended there is nothing to send. One that is stopped stands still when this returns:
    /// a thread of it that runs would answer once more.
    pub(crate) fn signal(&self, signal: Signal) {
        match kill_process(self.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("{}: {error}", self.name),
        }
        let began = Instant::now();
        while signal == Signal::STOP && self.runs() {
            assert!(began.elapsed() < PATIENCE, "{} does not stop", self.name);
            thread::yield_now();
        }
    }

    /// Whether one of its threads is neither stopped nor at its end.
    fn runs(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid())) else { return false };
        let state = |path: std::path::PathBuf| {
            let line = std::fs::read_to_string(path.join("stat")).ok()?;
            line[line.rfind(')')?..].chars().nth(2) // "PID (name) STATE …"
        };
        threads
            .flatten()
            .filter_map(|thread| state(thread.path()))
            .any(|state| !matches!(state, 'T' | 'Z' | 'X'))
    }

    /// Waits for its end; all of stderr is there afterwards.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        let status = self.exit_within(PATIENCE_WITH_END);
        status.unwrap_or_else(|| panic!("{} does not end:\n{}", self.name, self.stderr()))
    }

    /// Waits for its end, but no longer than so.
    pub(crate) fn exit_within(&mut self, time: Duration) -> Option<ExitStatus> {
        if self.ended.is_none() {
            match self.end.recv_timeout(time) {
                Ok(status) => self.ended = Some(status),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("nobody waits for {}", self.name),
            }
            let said = self.said.0.lock().unwrap();
            drop(self.said.1.wait_timeout_while(said, PATIENCE, |s| !s.finished).unwrap());
        }
        self.ended
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.exit_within(Duration::ZERO).is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() && self.end.try_recv().is_err() {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.end.recv_timeout(PATIENCE);
        }
        if thread::panicking() {
            let stderr = self.stderr();
            if !stderr.is_empty() {
                eprintln!("--- {} said:\n{stderr}", self.name);
            }
        }
    }
}

/// A number that the kernel tells of a process (`/proc/PID/status`), in its own unit; 0 when there is none.
pub(crate) fn status_of(pid: i32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
