//! `ringway completions`: a script that teaches a shell our words.

use super::{Cli, output};
use clap::CommandFactory;
use clap_complete::Shell;
use std::process::ExitCode;

/// Print a script that completes words in a shell
#[derive(clap::Args)]
#[command(after_help = "Example:\n  ringway completions bash > /etc/bash_completion.d/ringway")]
pub(super) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &Args) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ringway", &mut script);
    output::answer(&String::from_utf8_lossy(&script))
}
