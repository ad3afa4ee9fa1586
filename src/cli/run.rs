//! `ringway run`: settings from file and flags, then serve; with neither, the embedded cache.

use super::EXIT_WRONG;
use super::greeting::Greeting;
use super::logging::{Format, Logging};
use super::output;
use super::source::Source;
use crate::config::{
    self, AdminKeys, Collect, Config, Dialect, Faults, Listen, Loaded, Settings, Spool, Workers,
};
use crate::proxy::{self, TakenOver};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Serve until told to stop (the same as no verb at all)
///
/// Without a configuration and without `--server` it serves from an embedded cache in memory.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    ringway run -c /etc/ringway.yaml --listen unix:/run/ringway.sock\n  \
    ringway run --server 10.0.0.1:11211 --server '10.0.0.2:11211 weight=2' --workers 2")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) source: Source,
    /// Where clients connect, instead of what the file says: `0.0.0.0:5000`, `unix:/path`, `fd:3`; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Vec<Listen>,
    /// Threads, instead of what the file says: a number, or `auto` for the cores that the container may use
    #[arg(long, value_name = "N", value_parser = parse_workers)]
    pub(super) workers: Option<Workers>,
    /// Sleep a moment before waiting for events, instead of what the file says: `off`, `auto`, or a time such as `50us`
    #[arg(long, value_name = "TIME")]
    pub(super) collect: Option<Collect>,
    /// Whose `get __mcrouter__.…` is answered, instead of what the file says: `on`, `off`, or `loopback` for clients of
    /// this machine
    #[arg(long, value_name = "WHO")]
    pub(super) admin_keys: Option<AdminKeys>,
    /// Listen beside another process of the same user on the same ports, from when the servers are known
    #[arg(long)]
    pub(super) reuse_port: bool,
    /// Where probes ask over HTTP, instead of what the file says: `127.0.0.1:5001`, `unix:/path`
    #[arg(long, value_name = "ADDR", value_parser = parse_admin)]
    pub(super) admin: Option<Listen>,
    /// How long to serve after SIGTERM though not ready any more, instead of what the file says: `10s`
    #[arg(long, value_name = "TIME", value_parser = parse_drain_delay)]
    pub(super) drain_delay: Option<Duration>,
    /// Where a new process takes over from this one, instead of what the file says: a path
    #[arg(long, value_name = "PATH")]
    pub(super) hand_over: Option<PathBuf>,
    /// Take over all sockets of the process that has this `hand_over`; it leaves when this one serves
    #[arg(long, value_name = "PATH")]
    pub(super) take_over: Option<PathBuf>,
    /// Where the configuration is kept for a start at which it is wrong, instead of what the file says: a path
    #[arg(long, value_name = "PATH")]
    pub(super) last_good: Option<PathBuf>,
    /// Keep deletes that fail in this directory and deliver them later, instead of what the file says; with a file of
    /// mcrouter's they are answered as it does
    #[arg(long, value_name = "DIR", alias = "async-dir")]
    pub(super) spool: Option<PathBuf>,
    #[command(flatten)]
    pub(super) logging: Logging,
}

/// Serves; returns when told to stop, or when nothing can be started.
pub(super) fn run(args: Args) -> ExitCode {
    args.logging.install();
    proxy::keep_little_memory();
    let mut loaded = match args.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.0);
    }
    let taken = match args.take_over.as_deref().map(proxy::take_over).transpose() {
        Ok(taken) => taken,
        Err(why) => return output::failed(&why),
    };
    let is_activated = proxy::is_activated() || taken.as_ref().is_some_and(TakenOver::has_activated);
    args.override_settings(&mut loaded.config, is_activated);
    let greeting = Greeting::of(&loaded.config, args.source.config.as_deref());
    let logging = args.logging.clone();
    let can_read_again = args.source.is_readable_again();
    let read: proxy::Reread = Box::new(move || {
        let mut loaded = args.read().map_err(|faults| args.source.refused(&faults))?;
        args.override_settings(&mut loaded.config, is_activated);
        Ok(loaded)
    });
    let reread = can_read_again.then_some(read);
    match proxy::run(loaded, reread, taken, |listening| greet(&greeting.text(listening), &logging)) {
        Ok(code) => code,
        Err(error) => output::failed(&error.to_string()),
    }
}

impl Args {
    /// Loads the configuration, or the last good one, or tells all that is wrong.
    fn load(&self) -> Result<Loaded, ExitCode> {
        let faults = match self.read() {
            Ok(loaded) => return Ok(loaded),
            Err(faults) => faults,
        };
        output::error(&faults.render(output::has_colour()));
        let of_file = || config::settings_of(self.source.config.as_deref()?).ok()?.last_good;
        let Some(kept) = self.last_good.clone().or_else(of_file) else { return Err(EXIT_WRONG.into()) };
        match self.source.read_last_good(&kept, &faults) {
            Ok(loaded) => {
                let kept = kept.display();
                tracing::error!(
                    "the configuration is refused; the last good one serves in its place: {kept}"
                );
                Ok(loaded)
            }
            Err(faults) => {
                output::error(&faults.render(output::has_colour()));
                Err(EXIT_WRONG.into())
            }
        }
    }

    /// Reads the configuration, and what is to be kept of it.
    fn read(&self) -> Result<Loaded, Faults> {
        let mut loaded = self.source.read()?;
        if self.last_good.is_some() || loaded.config.settings.last_good.is_some() {
            self.source.keep(&mut loaded);
        }
        Ok(loaded)
    }

    /// Flags say more than the file.
    fn override_settings(&self, config: &mut Config, is_activated: bool) {
        if !self.listen.is_empty() {
            config.settings.listen.clone_from(&self.listen);
        } else if is_activated {
            // Whoever wrote the socket unit decided where clients connect.
            config.settings.listen.clear();
        }
        if let Some(workers) = self.workers {
            config.settings.workers = workers;
        }
        if let Some(collect) = self.collect {
            config.settings.collect = collect;
        }
        if let Some(admin_keys) = self.admin_keys {
            config.settings.admin_keys = admin_keys;
        }
        config.settings.reuse_port |= self.reuse_port;
        if let Some(admin) = &self.admin {
            config.settings.admin = Some(admin.clone());
        }
        if let Some(hand_over) = &self.hand_over {
            config.settings.hand_over = Some(hand_over.clone());
        }
        if let Some(last_good) = &self.last_good {
            config.settings.last_good = Some(last_good.clone());
        }
        if let Some(delay) = self.drain_delay {
            config.settings.drain_delay = delay;
        }
        if let Some(dir) = &self.spool {
            let spool = Spool::at(dir.clone());
            let is_mcrouters = config.routes.dialect == Dialect::Mcrouter;
            config.settings.spool = Some(if is_mcrouters { spool.as_mcrouter() } else { spool });
        }
    }
}

/// Plain lines for people; for machines one event.
fn greet(text: &str, logging: &Logging) {
    match logging.log_format {
        _ if logging.log_level < LevelFilter::INFO => {}
        Format::Text => output::error(text),
        Format::Json => tracing::info!("{}", text.lines().next().unwrap_or_default()),
    }
}

fn parse_drain_delay(text: &str) -> Result<Duration, String> {
    Settings::parse_drain_time(text).map_err(|problem| problem.message)
}

fn parse_admin(text: &str) -> Result<Listen, String> {
    Settings::parse_admin(text).map_err(|problem| problem.message)
}

fn parse_workers(text: &str) -> Result<Workers, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Workers::Auto),
        Ok(count) if Workers::COUNTS.contains(&count) => Ok(Workers::Count(count)),
        _ => Err(format!("`auto` or a number from 1 to {}", Workers::COUNTS.end())),
    }
}
