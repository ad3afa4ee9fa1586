//! Where a verb gets its configuration: a file, `--server` flags, or nothing (the embedded cache).

use super::{EXIT_WRONG, output};
use crate::config::{
    self, About, BigValues, Config, DistanceTimeouts, Faults, Loaded, Location, McrouterOptions, Origin,
    Refused,
};
use crate::discovery;
use crate::route;
use clap::builder::{PathBufValueParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, value_parser};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// For mcrouter's files: what mcrouter is told by flags of the same names.
#[derive(Args)]
pub(super) struct ConfigParams {
    /// Names and values for the macros of mcrouter's files: `zone:a,cluster:main`
    #[arg(long, value_name = "NAME:VALUE,…", value_parser = parse_param, value_delimiter = ',')]
    config_params: Vec<(String, String)>,
    /// With mcrouter's files: `/region/cluster/`, where we are and where keys without a prefix go, instead of `/././`
    #[arg(long, value_name = "PREFIX")]
    route_prefix: Option<Location>,
    /// With mcrouter's files: the timeout of pools in our region and cluster, instead of theirs; 0: theirs
    #[arg(long, value_name = "MS", value_parser = milliseconds())]
    within_cluster_timeout_ms: Option<u64>,
    /// The same of pools in another cluster of our region
    #[arg(long, value_name = "MS", value_parser = milliseconds())]
    cross_cluster_timeout_ms: Option<u64>,
    /// The same of pools in another region
    #[arg(long, value_name = "MS", value_parser = milliseconds())]
    cross_region_timeout_ms: Option<u64>,
    /// A file of JSON with variables that routes name: `key_fraction_range_rv`, `weights_rv`; watched as the configuration is
    #[arg(long, value_name = "FILE")]
    runtime_vars_file: Option<PathBuf>,
    /// With mcrouter's files: the timeout of pools that have no `server_timeout` (1000)
    #[arg(long, value_name = "MS", value_parser = milliseconds_from_one())]
    server_timeout: Option<u64>,
    /// With mcrouter's files: timeouts in a row until a server is knocked out (3)
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
    timeouts_until_tko: Option<u32>,
    /// With mcrouter's files: how long until a server that is out is probed (10000)
    #[arg(long, value_name = "MS", value_parser = milliseconds_from_one())]
    probe_timeout_initial: Option<u64>,
    /// With mcrouter's files: the longest pause between probes (60000)
    #[arg(long, value_name = "MS", value_parser = milliseconds_from_one())]
    probe_timeout_max: Option<u64>,
    /// With mcrouter's files: no server is ever knocked out
    #[arg(long)]
    disable_tko_tracking: bool,
    /// With mcrouter's files: keys with an unknown prefix go where keys without one go
    #[arg(long)]
    send_invalid_route_to_default: bool,
    /// With mcrouter's files: `flush_all` is allowed
    #[arg(long)]
    enable_flush_cmd: bool,
    /// With mcrouter's files: longer values are cut, as by a BigValueRoute around all routes; 0: they are not
    #[arg(long, value_name = "BYTES", value_parser = value_parser!(u64).range(..=1 << 30))]
    big_value_split_threshold: Option<u64>,
    /// Chunks of such a value under way at once, 0 for all (10)
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(..=1 << 16))]
    big_value_batch_size: Option<u64>,
    /// Clients do not see the flag of such values
    #[arg(long)]
    big_value_hide_reply_flag: bool,
}

fn milliseconds() -> RangedU64ValueParser {
    value_parser!(u64).range(..=1_000_000)
}

fn milliseconds_from_one() -> RangedU64ValueParser {
    value_parser!(u64).range(1..=1_000_000)
}

impl ConfigParams {
    /// What reading needs of them.
    pub(super) fn origin(&self) -> Origin {
        let timeout = |ms: Option<u64>| ms.filter(|ms| *ms > 0).map(Duration::from_millis);
        let default = McrouterOptions::default();
        Origin {
            params: self.config_params.clone(),
            runtime_vars_file: self.runtime_vars_file.clone(),
            options: McrouterOptions {
                here: self.route_prefix.clone(),
                distance_timeouts: DistanceTimeouts {
                    within_cluster: timeout(self.within_cluster_timeout_ms),
                    cross_cluster: timeout(self.cross_cluster_timeout_ms),
                    cross_region: timeout(self.cross_region_timeout_ms),
                },
                server_timeout: timeout(self.server_timeout).unwrap_or(default.server_timeout),
                timeouts_until_tko: self.timeouts_until_tko.unwrap_or(default.timeouts_until_tko),
                probe_timeout_initial: timeout(self.probe_timeout_initial)
                    .unwrap_or(default.probe_timeout_initial),
                probe_timeout_max: timeout(self.probe_timeout_max).unwrap_or(default.probe_timeout_max),
                disable_tko_tracking: self.disable_tko_tracking,
                send_invalid_route_to_default: self.send_invalid_route_to_default,
                enable_flush_cmd: self.enable_flush_cmd,
                big_values: self.big_values(),
            },
            ..Origin::default()
        }
    }

    fn big_values(&self) -> Option<BigValues> {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let threshold = self.big_value_split_threshold.filter(|threshold| *threshold > 0)?;
        Some(BigValues {
            threshold_bytes: count(threshold),
            batch_count: self.big_value_batch_size.map_or(BigValues::BATCH_COUNT_DEFAULT, count),
            hides_flag: self.big_value_hide_reply_flag,
        })
    }
}

fn parse_param(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once(':').filter(|(name, _)| !name.trim().is_empty());
    let (name, value) = parts.ok_or_else(|| "as in `zone:a,cluster:main`".to_owned())?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// A configuration's path, or mcrouter's `file:/path` for it.
pub(super) fn config_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| {
        let bare = path.to_str().and_then(|text| text.strip_prefix("file:")).map(PathBuf::from);
        match bare {
            Some(bare) if !path.exists() => bare,
            _ => path,
        }
    })
}

/// `-c FILE` or `--server ADDR`…
#[derive(Args)]
pub(super) struct Source {
    /// The configuration; `-` is standard input
    #[arg(short, long, value_name = "FILE", value_parser = config_file(), conflicts_with = "server")]
    pub(super) config: Option<PathBuf>,
    /// A memcached server, as in a configuration: `10.0.0.2:11211`, `'host:11211 weight=2 name=b'`; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub(super) server: Vec<String>,
    #[command(flatten)]
    pub(super) params: ConfigParams,
}

impl Source {
    /// Loads the configuration, or prints all that is wrong.
    pub(super) fn load(&self) -> Result<Loaded, ExitCode> {
        self.read().map_err(|faults| {
            output::error(&faults.render(output::has_colour()));
            ExitCode::from(EXIT_WRONG)
        })
    }

    /// Loads the configuration.
    pub(super) fn read(&self) -> Result<Loaded, Faults> {
        let without_file = |config| Loaded { config, warnings: Vec::new(), about: About::default() };
        match &self.config {
            Some(file) => config::load_all(file, self.origin(), route::check),
            None if self.server.is_empty() => Ok(without_file(Config::embedded_default())),
            None => config::from_servers(&self.server).map(without_file),
        }
    }

    fn origin(&self) -> Origin {
        Origin { keeps_document: true, ..self.params.origin() }
    }

    /// Notes what is to be kept of a configuration that was just read.
    pub(super) fn keep(&self, loaded: &mut Loaded) {
        loaded.about.to_keep = config::last_good_text(loaded, &self.origin(), route::check);
        if loaded.about.to_keep.is_none() {
            tracing::warn!("this configuration cannot be kept as the last good one");
        }
    }

    /// The configuration that was kept at `kept`, because ours is wrong.
    pub(super) fn read_last_good(&self, kept: &Path, faults: &Faults) -> Result<Loaded, Faults> {
        config::load_last_good(kept, self.origin(), self.refused(faults), route::check)
    }

    /// What is wrong, and the files that it may be mended in.
    pub(super) fn refused(&self, faults: &Faults) -> Refused {
        Refused::of(self.config.as_deref().unwrap_or(Path::new("")), faults)
    }

    /// Whether there is a file, and not a stream that has run dry.
    pub(super) fn is_readable_again(&self) -> bool {
        self.config.as_deref().is_some_and(|file| file != Path::new("-"))
    }
}

/// Finds the servers of pools that have names of them; says of which that was not possible, and gives those.
pub(super) fn find_servers(config: &mut Config) -> Vec<String> {
    let missing = discovery::fill_once(config);
    for pool in &missing {
        output::error(&format!("the servers of `{pool}` were not found: no answer for its names\n"));
    }
    missing
}
