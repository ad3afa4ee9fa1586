//! `ringway schema`: what editors need to help with a configuration.

use super::output;
use std::process::ExitCode;

/// Print the JSON Schema of a configuration, for editors
///
/// An editor with a YAML language server completes keys and marks mistakes when the first line of a file is
/// `# yaml-language-server: $schema=ringway.schema.json`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  ringway schema > ringway.schema.json")]
pub(super) struct Args {}

/// Prints the schema.
pub(super) fn run(_args: &Args) -> ExitCode {
    output::answer(&(crate::route::schema().to_json() + "\n"))
}
