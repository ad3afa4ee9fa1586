//! The same small loops for callgrind: does one of them a given number of times and nothing else.
//!
//! Run by `scripts/icount`, which runs each case with two different counts and takes the difference, so that
//! start and preparation do not count. By hand: `icount GROUP/NAME COUNT`; without arguments it lists the cases.

mod cases;

use std::io::Write;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc; // as in the program

fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let wanted = args.next();
    let count = args.next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
    let mut found = false;
    for (group, make) in cases::GROUPS {
        if wanted.as_ref().is_some_and(|name| !name.starts_with(&format!("{group}/"))) {
            continue;
        }
        for mut case in make() {
            let name = format!("{group}/{}", case.name);
            match &wanted {
                // A closed pipe: nobody wants to know any more.
                None => drop(writeln!(std::io::stdout().lock(), "{name}")),
                Some(wanted) if *wanted == name => {
                    found = true;
                    (0..count / case.batch).for_each(|_| (case.call)());
                }
                Some(_) => {}
            }
        }
    }
    if wanted.is_none() || found { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
