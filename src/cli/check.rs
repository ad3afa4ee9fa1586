//! `ringway check`: load and build without sockets; every fault with its line, or a short summary.

use super::greeting::plural;
use super::source::{ConfigParams, config_file};
use super::{EXIT_WRONG, output};
use crate::config::{
    self, Config, Loaded, Node, Pool, PoolSource, Server, Workers, show_bytes, show_duration,
};
use crate::hash::{Placement, Ring, Spec};
use crate::spool::{self, SpoolError};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keys that are placed to see each server's share. 1 % of error at three servers.
const SAMPLE_KEYS_COUNT: usize = 10_000;
/// Beyond it servers are not listed one by one.
const SERVERS_SHOWN_COUNT_MAX: usize = 64;
/// Servers of all pools: beyond it pools have a line each, and no shares are found out.
const SERVERS_ALL_COUNT_MAX: usize = 1_000;

/// Check a configuration: every fault with its place, or a summary
///
/// Warnings are what is legal and most likely not meant. The `tests` of the configuration are run. The directory of the `spool`
/// is looked at: it is a warning when it is not there, and a fault when it cannot be used.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  ringway check /etc/ringway.yaml\n\nExit code 2 when something is wrong.")]
pub(super) struct Args {
    /// The configuration; `-` is standard input
    #[arg(value_name = "FILE", value_parser = config_file())]
    file: PathBuf,
    /// Take warnings for faults
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    params: ConfigParams,
}

/// Checks the file.
pub(super) fn run(args: &Args) -> ExitCode {
    match config::load_all(&args.file, args.params.origin(), crate::route::check_and_test) {
        Ok(Loaded { config, warnings, .. }) => {
            for warning in &warnings {
                output::error(&format!("{}\n", warning.render(output::has_colour())));
            }
            let mut warnings_count = warnings.len();
            if let Some(Err(error)) = config.settings.spool.as_ref().map(spool::look) {
                // What is not on this machine may be on the one that it is written for.
                if !error.is_missing {
                    return wrong_files(&error);
                }
                output::error(&format!("warning: {error}\n"));
                warnings_count += 1;
            }
            if args.strict && warnings_count > 0 {
                let count = plural(warnings_count, "warning");
                output::error(&format!("{count}, which `--strict` takes for faults\n"));
                return ExitCode::from(EXIT_WRONG);
            }
            let mut text = format!("{}: no faults", args.file.display());
            if warnings_count > 0 {
                text.push_str(&format!(", {}", plural(warnings_count, "warning")));
            }
            text.push('\n');
            text.push_str(&summary(&config));
            output::answer(&text)
        }
        Err(faults) => {
            output::error(&faults.render(output::has_colour()));
            ExitCode::from(EXIT_WRONG)
        }
    }
}

/// The text is right; what it names is not.
fn wrong_files(error: &SpoolError) -> ExitCode {
    output::error(&format!("error: {error}\n"));
    ExitCode::from(EXIT_WRONG)
}

fn summary(config: &Config) -> String {
    let settings = &config.settings;
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    let workers = match settings.workers {
        Workers::Auto => "auto".to_owned(),
        Workers::Count(count) => count.to_string(),
    };
    let route = match &config.routes.document {
        Node::Map(map) => map.iter().find(|(key, _)| key == "route").map(|(_, route)| route),
        _ => None,
    };
    let route = if let Some(Node::Text(name)) = route { name } else { "a tree (see `ringway explain`)" };
    let mut text = format!("listen   {}\nworkers  {workers}\nroute    {route}\n", listen.join(", "));
    let mut shown_count = 0;
    for pool in &config.pools {
        shown_count += pool.servers.len();
        // the first one is always shown
        let is_short = shown_count > SERVERS_ALL_COUNT_MAX && shown_count > pool.servers.len();
        let _ = match &pool.source {
            Some(source) => write_followed(&mut text, pool, source),
            None if is_short => write_short(&mut text, pool),
            None => write_pool(&mut text, pool),
        };
    }
    text
}

/// A pool whose servers nobody asks for here: `check` works without a name server.
fn write_followed(text: &mut String, pool: &Pool, source: &PoolSource) -> std::fmt::Result {
    let (timeout, connect) = (show_duration(pool.timeout), show_duration(pool.connect_timeout));
    let placement = pool.hash.placement.name();
    writeln!(text, "pool {}: {source}, {placement}, timeout {timeout} (to connect {connect})", pool.name)?;
    let known_by = if source.knows_names() {
        "known by its name: its keys stay where they are when its address changes"
    } else {
        "known by its address: when it returns with another one, its keys go to other servers"
    };
    writeln!(text, "  a server is {known_by}")
}

fn write_short(text: &mut String, pool: &Pool) -> std::fmt::Result {
    let servers = plural(pool.servers.len(), "server");
    writeln!(text, "pool {}: {servers}, {}", pool.name, pool.hash.placement.name())
}

fn write_pool(text: &mut String, pool: &Pool) -> std::fmt::Result {
    let members = pool.members();
    let Ok(ring) = Ring::build(&pool.hash, &members) else { return Ok(()) };
    let points = ring.explain(b"").points;
    write!(text, "pool {}: {}, {}", pool.name, plural(members.len(), "server"), pool.hash.placement.name())?;
    if points != members.len() {
        write!(text, " with {}", plural(points, "point"))?;
    }
    let (timeout, connect) = (show_duration(pool.timeout), show_duration(pool.connect_timeout));
    if !pool.hash.salt.is_empty() {
        write!(text, ", salt `{}`", pool.hash.salt)?;
    }
    writeln!(text, ", timeout {timeout} (to connect {connect})")?;
    let shares = shares(&ring, members.len(), pool.hash.placement);
    let width = pool.servers.iter().take(SERVERS_SHOWN_COUNT_MAX).map(|s| s.label().chars().count()).max();
    for (i, (server, share)) in pool.servers.iter().zip(shares).take(SERVERS_SHOWN_COUNT_MAX).enumerate() {
        let label = server.label();
        let details = details(server) + &listed(&pool.hash, i);
        let line = format!("  {label:<width$}  {share:>4.1} %{details}", width = width.unwrap_or(0));
        writeln!(text, "{}", line.trim_end())?;
    }
    if members.len() > SERVERS_SHOWN_COUNT_MAX {
        writeln!(text, "  and {} more", members.len() - SERVERS_SHOWN_COUNT_MAX)?;
    }
    Ok(())
}

/// What the label does not say.
fn details(server: &Server) -> String {
    let mut text = String::new();
    if server.member.name.is_some() {
        text.push_str(&format!("  {}", server.address()));
    }
    if server.member.weight != 1 {
        text.push_str(&format!("  weight {}", server.member.weight));
    }
    for (what, timeout) in [("timeout", server.timeout), ("to connect", server.connect_timeout)] {
        if let Some(timeout) = timeout {
            text.push_str(&format!("  {what} {}", show_duration(timeout)));
        }
    }
    if let config::Endpoint::Embedded(embedded) = server.endpoint {
        text.push_str(&format!("  {}", show_bytes(embedded.memory_bytes_max >> 10 << 10)));
    }
    text
}

/// What the lists of the placement say of a server.
fn listed(hash: &Spec, server: usize) -> String {
    let weight = hash.weights.get(server).map_or_else(String::new, |weight| format!("  weight {weight}"));
    let tag = hash.tags.get(server).map_or_else(String::new, |tag| format!("  tag `{tag}`"));
    weight + &tag
}

/// Percent of keys that each server gets, by asking for many.
fn shares(ring: &Ring, servers_count: usize, placement: Placement) -> Vec<f64> {
    if placement == Placement::Random || servers_count < 2 {
        return vec![100.0 / servers_count.max(1) as f64; servers_count];
    }
    let mut counts = vec![0_usize; servers_count];
    for i in 0..SAMPLE_KEYS_COUNT {
        let count = ring.pick(format!("key:{i}").as_bytes()).and_then(|server| counts.get_mut(server));
        if let Some(count) = count {
            *count += 1;
        }
    }
    counts.into_iter().map(|count| count as f64 * 100.0 / SAMPLE_KEYS_COUNT as f64).collect()
}
