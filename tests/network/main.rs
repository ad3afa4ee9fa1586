//! A network of its own: memcached processes that have addresses as pods have them, a name server that says which, and
//! ringway on the node between them. Pods are killed, move, come in dozens and go; names lie dead, a wire is cut, packets are
//! lost. What each of it costs is printed as a table, and is wrong when it is more than the rules say.
//!
//! All of it is in namespaces without a name outside, which the kernel removes with the last process in them, however that
//! ends; nothing of the machine's own network is touched.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![allow(clippy::print_stdout, reason = "the table is what is wanted")]
#![allow(clippy::disallowed_methods, reason = "the main thread waits while clients ask")]

/// Clients that never stop asking, and what became of it.
mod load;
/// Pods, their wires, and what they have.
mod node;
/// What happens, one after the other.
mod scenes;
#[allow(dead_code, unused_imports, reason = "shared with the other tests, which need other parts of it")]
#[path = "../support/mod.rs"]
mod support;
/// What is printed.
mod table;

use std::process::{Command, ExitCode};
use table::Table;

/// Set inside of the namespaces.
const INSIDE: &str = "RINGWAY_TEST_NODE";
const TOOLS: &[&str] = &["ip", "tc", "nft", "unshare", "memcached"];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let scenes: Vec<_> = scenes::SCENES
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())))
        .collect();
    if scenes.is_empty() {
        return ExitCode::SUCCESS; // one of the other tests is wanted
    }
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    node::set_up();
    let mut table = Table::default();
    for (name, scene) in scenes {
        eprintln!("network: {name}");
        scene(&mut table);
    }
    println!("{table}");
    ExitCode::SUCCESS
}

/// Runs this program again, in namespaces of its own. Its end is theirs.
fn enter() -> ExitCode {
    for name in TOOLS {
        if !support::tool(name, support::on_path(name)) {
            return ExitCode::SUCCESS;
        }
    }
    let mut arguments = vec!["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !rustix::process::geteuid().is_root() {
        arguments.push("--map-root-user");
    }
    let can = Command::new("unshare").args(&arguments).args(["ip", "link", "add", "type", "veth"]).output();
    if !support::tool("the right to make network namespaces", can.is_ok_and(|can| can.status.success())) {
        return ExitCode::SUCCESS;
    }
    // Names of namespaces and the tests' files live in memory that goes with them.
    const PREPARED: &str = "mount -t tmpfs none /run && exec \"$0\" \"$@\"";
    let status = Command::new("unshare")
        .args(&arguments)
        .args(["sh", "-c", PREPARED])
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("TMPDIR", "/run")
        .status()
        .unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
