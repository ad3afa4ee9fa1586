//! `ringway convert`: another program's configuration as our YAML.

use super::source::{ConfigParams, config_file};
use super::{EXIT_WRONG, output};
use crate::config::{self, Config, Faults};
use crate::route;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print mcrouter's or twemproxy's configuration as a YAML one that does the same
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  ringway convert mcrouter.json > ringway.yaml\n  \
    ringway convert nutcracker.yml --pool alpha > ringway.yaml\n\n\
    Macros and imports are done, every default that differs is spelled out. Exit code 2 when something is wrong.")]
pub(super) struct Args {
    /// The configuration; `-` is standard input
    #[arg(value_name = "FILE", value_parser = config_file())]
    file: PathBuf,
    /// Of twemproxy's file this pool
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    #[command(flatten)]
    params: ConfigParams,
}

/// Prints the YAML.
pub(super) fn run(args: &Args) -> ExitCode {
    // standard input cannot be read twice
    let is_file = args.file.as_os_str() != "-";
    let of_twemproxy = if is_file { config::load_nutcracker(&args.file, args.pool.as_deref()) } else { None };
    let loaded = of_twemproxy.unwrap_or_else(|| {
        let loaded = config::load_all(&args.file, args.params.origin(), route::check);
        loaded.map(|loaded| (loaded.config, loaded.warnings))
    });
    match loaded {
        Ok((config, warnings)) => {
            for warning in &warnings {
                output::error(&format!("{}\n", warning.render(output::has_colour())));
            }
            match converted(&config) {
                Ok(text) => output::answer(&text),
                Err(faults) => {
                    output::error("error: our dialect cannot say this\n\n");
                    wrong(&faults)
                }
            }
        }
        Err(faults) => wrong(&faults),
    }
}

fn wrong(faults: &Faults) -> ExitCode {
    output::error(&faults.render(output::has_colour()));
    ExitCode::from(EXIT_WRONG)
}

/// The text, if reading it gives what was meant.
fn converted(config: &Config) -> Result<String, Faults> {
    let text = config::to_yaml(&route::in_our_words(config));
    config::from_text("converted.yaml", &text, route::check)?;
    Ok(text)
}
