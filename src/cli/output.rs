//! What verbs say: answers on stdout, errors on stderr. A reader that has gone away (`ringway stats | head -1`) is no error.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

/// Prints the answer of a verb.
pub(super) fn answer(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(&format!("cannot write to standard output: {error}")),
    }
}

/// Prints an error as it is.
pub(super) fn error(text: &str) {
    // Nobody can be told that nobody can be told.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// One line that says why it could not be done.
pub(super) fn failed(why: &str) -> ExitCode {
    error(&format!("error: {why}\n"));
    ExitCode::FAILURE
}

/// Whether stderr shows colours.
pub(super) fn has_colour() -> bool {
    let is_off = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_off && io::stderr().is_terminal()
}
