//! Where a verb gets its configuration: a file, `--server` flags, or nothing (the embedded cache).

use super::{EXIT_WRONG, output};
use crate::config::{self, Config, Faults, Warning};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// For the macros of mcrouter's files.
#[derive(Args)]
pub(super) struct ConfigParams {
    /// Names and values for the macros of mcrouter's files: `zone:a,cluster:main`
    #[arg(long, value_name = "NAME:VALUE,…", value_parser = parse_param, value_delimiter = ',')]
    pub(super) config_params: Vec<(String, String)>,
}

fn parse_param(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once(':').filter(|(name, _)| !name.trim().is_empty());
    let (name, value) = parts.ok_or_else(|| "as in `zone:a,cluster:main`".to_owned())?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// `-c FILE` or `--server ADDR`…
#[derive(Args)]
pub(super) struct Source {
    /// The configuration; `-` is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "server")]
    pub(super) config: Option<PathBuf>,
    /// A memcached server, as in a configuration: `10.0.0.2:11211`, `'host:11211 weight=2 name=b'`; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub(super) server: Vec<String>,
    #[command(flatten)]
    pub(super) params: ConfigParams,
}

impl Source {
    /// Loads the configuration, or prints all that is wrong.
    pub(super) fn load(&self) -> Result<(Config, Vec<Warning>), ExitCode> {
        self.read().map_err(|faults| {
            output::error(&faults.render(output::has_colour()));
            ExitCode::from(EXIT_WRONG)
        })
    }

    /// Loads the configuration.
    pub(super) fn read(&self) -> Result<(Config, Vec<Warning>), Faults> {
        match &self.config {
            Some(file) => config::load_with(file, &self.params.config_params, crate::route::check),
            None if self.server.is_empty() => Ok((Config::embedded_default(), Vec::new())),
            None => config::from_servers(&self.server).map(|config| (config, Vec::new())),
        }
    }

    /// The file, if there is one that can be read again.
    pub(super) fn file(&self) -> Option<&Path> {
        self.config.as_deref().filter(|file| *file != Path::new("-"))
    }
}
