//! Logs: tracing to stderr, as text or as one JSON object per line.

use super::output;
use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Clone, Args)]
pub(super) struct Logging {
    /// How logs are written to stderr
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(super) log_format: Format,
    /// How much is logged: off, error, warn, info, debug, trace
    #[arg(long, env = "RINGWAY_LOG", default_value = "info", value_name = "LEVEL", value_parser = parse_level)]
    pub(super) log_level: LevelFilter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

impl Logging {
    /// From here on `tracing` is heard.
    pub(super) fn install(&self) {
        // Libraries are asked for what goes wrong only: a resolver at `debug` drowns everything else.
        let level = self.log_level;
        let others = level.min(LevelFilter::WARN);
        let filter = EnvFilter::new(format!("{others},ringway={level}"));
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let installed = match self.log_format {
            Format::Text => subscriber.with_target(false).with_ansi(output::has_colour()).try_init(),
            Format::Json => subscriber.json().flatten_event(true).try_init(),
        };
        if let Err(error) = installed {
            output::error(&format!("warning: no logs: {error}\n"));
        }
    }
}

fn parse_level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| "one of off, error, warn, info, debug, trace".to_owned())
}
