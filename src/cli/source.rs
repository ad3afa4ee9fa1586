//! Where a verb gets its configuration: a file, `--server` flags, or nothing (the embedded cache).

use super::{EXIT_WRONG, output};
use crate::config::{self, Config, Warning};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// `-c FILE` or `--server ADDR`…
#[derive(Args)]
pub(super) struct Source {
    /// The configuration; `-` is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "server")]
    pub(super) config: Option<PathBuf>,
    /// A memcached server, as in a configuration: `10.0.0.2:11211`, `'host:11211 weight=2 name=b'`; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub(super) server: Vec<String>,
}

impl Source {
    /// Loads the configuration, or prints all that is wrong.
    pub(super) fn load(&self) -> Result<(Config, Vec<Warning>), ExitCode> {
        let loaded = match &self.config {
            Some(file) => config::load(file, crate::route::check),
            None if self.server.is_empty() => Ok((Config::embedded_default(), Vec::new())),
            None => config::from_servers(&self.server).map(|config| (config, Vec::new())),
        };
        loaded.map_err(|faults| {
            output::error(&faults.render(output::has_colour()));
            ExitCode::from(EXIT_WRONG)
        })
    }
}
