//! Programs in Python, run from the virtual environment `.venv`: real clients (`tests/clients`) and second implementations of
//! what must be exact (`tests/oracles`).

use super::Directory;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether the virtual environment is there.
pub(crate) fn has_python() -> bool {
    super::tool("the virtual environment .venv with Python clients", interpreter().exists())
}

/// Runs `tests/clients/NAME` with these arguments; it must succeed. Gives what it printed.
pub(crate) fn run(name: &str, arguments: &[&str]) -> String {
    let script = root().join("tests/clients").join(name);
    let output = Command::new(interpreter()).arg(script).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {arguments:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Runs `tests/NAME`, an oracle, with these lines as its input. Gives what it printed.
pub(crate) fn ask(name: &str, questions: &str) -> String {
    let directory = Directory::new();
    // From a file: through a pipe, who writes without reading could wait for who does the same.
    let input = File::open(directory.write("questions", questions)).unwrap();
    let output =
        Command::new(interpreter()).arg(root().join("tests").join(name)).stdin(input).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{err}", output.status);
    out.into_owned()
}

fn interpreter() -> PathBuf {
    let venv = std::env::var_os("RINGWAY_VENV").map_or_else(|| root().join(".venv"), PathBuf::from);
    venv.join("bin/python")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
