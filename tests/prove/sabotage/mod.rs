//! `sabotage`: the tests can fail. Bugs are planted in a copy of the source, one at a time, and each must be found by the
//! part that is there for it, within five minutes.
//!
//! A bug is a file in `bugs/`: what it is, who finds it, and a piece of text that is replaced by another. The piece must
//! occur exactly once; that is checked for all of them before any is tried. Nobody can turn a bug on: it exists only in
//! the copy, which lives in the folder of build products.

mod bug;

use crate::plan::{Amount, Outcome, Plan};
use crate::support::leftovers;
use crate::watch;
use bug::Bug;
use rustix::process::{Pid, Signal, kill_process_group};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is copied: all that a build reads.
const COPIED: &[&str] = &["Cargo.toml", "Cargo.lock", "src", "tests", "benches", "config"];
/// A part that has not found its bug by then is not good enough.
const SEARCH_MAX: Duration = Duration::from_secs(300);
/// Less care by the compiler makes it much faster, and bugs no smaller; and with one way to panic for the program and for
/// the test the library is built once, not twice.
const FASTER: &[&str] = &[
    "profile.prove.package.ringway.opt-level=1",
    "profile.prove.package.ringway.debug=0",
    "profile.prove.panic='unwind'",
];

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bugs = bug::all(&source.join("tests/prove/sabotage/bugs"));
    for bug in &bugs {
        if let Err(text) = bug.apply_to(source) {
            outcome.report_wrong(format_args!("{}: {text}", bug.name));
        }
    }
    outcome.more.push(format!("bugs={}", bugs.len()));
    if outcome.wrong > 0 {
        return outcome;
    }
    let copy = Copy::of(source);
    let count = match plan.amount {
        Amount::Count(count) => usize::try_from(count).unwrap(),
        Amount::Time(_) => bugs.len(),
    };
    // those that are tried on every commit are the first
    let often = || bugs.iter().filter(|b| b.often).chain(bugs.iter().filter(|b| !b.often));
    for bug in plan.only(&bugs, |bug| &bug.name).unwrap_or_else(|| often().take(count).collect()) {
        outcome.checked += 1;
        match copy.try_bug(bug, plan.seed) {
            Ok(time) => {
                println!("  {}: found by {} after {} s", bug.name, bug.found_by.join(" "), time.as_secs())
            }
            Err(text) => {
                let attempt = bug.found_by.join(" ");
                outcome.report_wrong(format_args!("{} is not found by {attempt}: {text}", bug.name));
            }
        }
    }
    outcome.faults = outcome.checked;
    outcome
}

/// The source once more, with a folder for its build products.
struct Copy {
    source: PathBuf,
    tree: PathBuf,
    products: PathBuf,
}

impl Copy {
    fn of(source: &Path) -> Self {
        // …/prove/deps/prove-0123: the folder of build products is three up
        let program = std::env::current_exe().unwrap();
        let target = program.ancestors().nth(3).unwrap();
        let products = target.join("sabotage");
        let copy = Self { source: source.to_owned(), tree: products.join("tree"), products };
        copy.lend_dependencies(target);
        copy
    }

    /// What the dependencies were built to need not be built once more: the files are shared.
    fn lend_dependencies(&self, target: &Path) {
        let (from, to) = (target.join("prove"), self.products.join("prove"));
        if to.exists() {
            return;
        }
        for part in [".fingerprint", "build", "deps"] {
            link_all(&from.join(part), &to.join(part), &|name| {
                !name.contains("ringway") && !name.starts_with("prove-")
            });
        }
    }

    /// How long it took to find the bug; or why it was not found.
    fn try_bug(&self, bug: &Bug, seed: u64) -> Result<Duration, String> {
        for part in COPIED {
            copy_changed(&self.source.join(part), &self.tree.join(part));
        }
        let (path, text) = bug.apply_to(&self.source)?;
        std::fs::write(self.tree.join(path), text).unwrap();
        let is_part = bug.found_by[0] != "test";
        let program = self.build(if is_part { "prove" } else { &bug.found_by[1] })?;
        let began = Instant::now();
        for attempt in 0.. {
            let mut command = Command::new(&program);
            if is_part {
                command.args(&bug.found_by).args(["--seed", &(seed + attempt).to_string()]);
            } else {
                command.args(&bug.found_by[2..]);
            }
            command.current_dir(&self.tree).stdout(Stdio::null()).stderr(Stdio::null());
            match ends_within(SEARCH_MAX.saturating_sub(began.elapsed()), &mut command) {
                Some(Some(0)) if is_part => {}
                Some(Some(0)) => return Err("the tests pass".into()),
                Some(Some(2)) => return Err("there is no such part".into()),
                Some(_) => break,
                None => return Err(format!("it looked {attempt} times")),
            }
        }
        Ok(began.elapsed())
    }

    /// Builds the program and this test with the bug in it; where the test is.
    fn build(&self, test: &str) -> Result<PathBuf, String> {
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--no-run", "--locked", "--offline", "--profile", "prove", "--test", test]);
        for setting in FASTER {
            command.args(["--config", setting]);
        }
        command.args(["--message-format", "json"]).env("CARGO_TARGET_DIR", &self.products);
        command.current_dir(&self.tree).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = leftovers::start_group(&mut command).unwrap();
        let pid = Pid::from_child(&child);
        let output = child.wait_with_output().unwrap();
        leftovers::ended(pid);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let errors = said.lines().skip_while(|line| !line.starts_with("error")).take(30);
            return Err(format!("it cannot be built\n{}", errors.collect::<Vec<_>>().join("\n")));
        }
        let name = format!("{test}-");
        let messages = String::from_utf8_lossy(&output.stdout);
        let mut programs = messages.lines().filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let path = PathBuf::from(message["executable"].as_str()?);
            path.file_name()?.to_str()?.starts_with(&name).then_some(path)
        });
        programs.next_back().ok_or_else(|| "cargo named no program".into())
    }
}

/// Runs it, but no longer than so: its exit code, if it has one, or `None` when it was not over. What it has started
/// and left behind ends too.
fn ends_within(time: Duration, command: &mut Command) -> Option<Option<i32>> {
    let (began, mut child) = (Instant::now(), leftovers::start_group(command).unwrap());
    let mut ended = None;
    while ended.is_none() && began.elapsed() <= time {
        watch::pass(Duration::from_millis(20));
        ended = child.try_wait().unwrap().map(|status| status.code());
    }
    let pid = Pid::from_child(&child);
    let _ = kill_process_group(pid, Signal::KILL); // there may be nobody left
    let _ = child.wait();
    leftovers::ended(pid);
    ended
}

/// Makes `to` the same as `from`. A file that is the same already stays as old as it is: what was built of it is good.
fn copy_changed(from: &Path, to: &Path) {
    if from.is_file() {
        let wanted = std::fs::read(from).unwrap();
        if std::fs::read(to).ok().as_ref() != Some(&wanted) {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, wanted).unwrap();
        }
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    let names =
        |path: &Path| std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    for name in names(from) {
        copy_changed(&from.join(&name), &to.join(&name));
    }
    for name in names(to).iter().filter(|name| !from.join(name).exists()) {
        let left = to.join(name);
        if left.is_dir() {
            std::fs::remove_dir_all(left).unwrap()
        } else {
            std::fs::remove_file(left).unwrap()
        }
    }
}

fn link_all(from: &Path, to: &Path, wanted: &impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    std::fs::create_dir_all(to).unwrap();
    for entry in entries.map(Result::unwrap) {
        let (name, path) = (entry.file_name(), entry.path());
        if !wanted(&name.to_string_lossy()) {
            continue;
        }
        if path.is_dir() {
            link_all(&path, &to.join(&name), wanted);
        } else if let Err(error) = std::fs::hard_link(&path, to.join(&name)) {
            // built anew then
            println!("  {}: {error}", path.display());
        }
    }
}
