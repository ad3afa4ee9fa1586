//! SIGUSR2: a new process of the same program with the same arguments, which takes over. After an upgrade the file of that
//! name is the new program.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The argument that says whom to take over from.
const TAKE_OVER: &str = "--take-over";

/// Starts successors, one at a time.
#[derive(Default)]
pub(super) struct Renewal {
    /// One has been started, and has neither failed nor taken over.
    is_under_way: Arc<AtomicBool>,
}

impl Renewal {
    /// Starts a process that takes over by this door. What becomes of it is logged, and harmless.
    pub(super) fn start(&self, door: &Path) {
        if self.is_under_way.swap(true, Ordering::AcqRel) {
            tracing::warn!("SIGUSR2: a new process is on its way already");
            return;
        }
        if let Err(error) = self.spawn(door) {
            self.is_under_way.store(false, Ordering::Release);
            tracing::error!("SIGUSR2: cannot start a new process, this one serves on: {error}");
        }
    }

    fn spawn(&self, door: &Path) -> std::io::Result<()> {
        let mut arguments = std::env::args_os();
        let program = arguments.next().unwrap_or_else(|| "ringway".into());
        let mut child = Command::new(program).args(successors(arguments, door)).spawn()?;
        tracing::info!("SIGUSR2: process {} is to take over", child.id());
        let is_under_way = Arc::clone(&self.is_under_way);
        std::thread::Builder::new().name("ringway-renewal".to_owned()).spawn(move || {
            let ended = child.wait();
            is_under_way.store(false, Ordering::Release);
            match ended {
                Ok(status) => tracing::error!("the new process has ended, this one serves on: {status}"),
                Err(error) => tracing::error!("the new process is lost, this one serves on: {error}"),
            }
        })?;
        Ok(())
    }
}

/// These arguments, for one that takes over by this door.
fn successors(arguments: impl Iterator<Item = OsString>, door: &Path) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == TAKE_OVER {
            arguments.next();
        } else if !argument.as_encoded_bytes().starts_with(b"--take-over=") {
            kept.push(argument);
        }
    }
    kept.push(TAKE_OVER.into());
    kept.push(door.into());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_has_its_predecessors_arguments() {
        let of = |text: &str| {
            let given = text.split(' ').map(OsString::from);
            successors(given, Path::new("/d")).join(&OsString::from(" ")).into_string().unwrap()
        };
        assert_eq!(of("run -c x"), "run -c x --take-over /d");
        assert_eq!(of("run --take-over /old -c x"), "run -c x --take-over /d");
        assert_eq!(of("run -c x --take-over=/old"), "run -c x --take-over /d");
    }
}
