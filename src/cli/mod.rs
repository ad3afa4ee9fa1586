//! The command line: the only door to clap. Each verb has a file; here is the tree, and what verbs share.

mod bench;
mod check;
mod completions;
mod convert;
mod explain;
mod greeting;
mod health;
mod logging;
mod output;
mod plan;
mod run;
mod schema;
mod source;
mod spool;
mod stats;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A sharding proxy that speaks memcached's protocol.
#[derive(Parser)]
#[command(
    name = "ringway",
    version,
    about,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        ringway                                              serve from memory on 127.0.0.1:5000\n  \
        ringway --server 10.0.0.1:11211 --server 10.0.0.2:11211\n  \
        ringway -c /etc/ringway.yaml\n\n\
        Plain `ringway` is `ringway run`; `ringway run --help` tells more."
)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: run::Args,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Args),
    Check(check::Args),
    Explain(explain::Args),
    Convert(convert::Args),
    Plan(plan::Args),
    Schema(schema::Args),
    Stats(stats::Args),
    Health(health::Args),
    Spool(spool::Args),
    Bench(bench::BenchArgs),
    Completions(completions::Args),
}

/// Runs the program with the process's arguments. Exit codes: 0 well, 1 it could not be done, 2 wrong arguments or
/// configuration.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.verb {
        None => run::run(cli.run),
        Some(Verb::Run(args)) => run::run(args),
        Some(Verb::Check(args)) => check::run(&args),
        Some(Verb::Explain(args)) => explain::run(&args),
        Some(Verb::Convert(args)) => convert::run(&args),
        Some(Verb::Plan(args)) => plan::run(&args),
        Some(Verb::Schema(args)) => schema::run(&args),
        Some(Verb::Stats(args)) => stats::run(&args),
        Some(Verb::Health(args)) => health::run(&args),
        Some(Verb::Spool(args)) => spool::run(&args),
        Some(Verb::Bench(args)) => bench::run(args),
        Some(Verb::Completions(args)) => completions::run(&args),
    }
}

/// Wrong arguments or configuration; clap leaves with the same.
const EXIT_WRONG: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example") && help.contains("  ringway "), "{}", verb.get_name());
        }
    }

    #[test]
    fn plain_ringway_is_run() {
        let bare =
            Cli::try_parse_from(["ringway", "--server", "a", "--server", "b", "--listen", "127.0.0.1:0"]);
        let bare = bare.unwrap();
        assert!(bare.verb.is_none());
        assert_eq!((bare.run.source.server.len(), bare.run.listen.len()), (2, 1));
        let run = Cli::try_parse_from(["ringway", "run", "--workers", "2"]).unwrap();
        assert!(matches!(run.verb, Some(Verb::Run(_))));
    }

    #[test]
    fn mcrouters_way_to_name_a_file() {
        let run = |path: &str| Cli::try_parse_from(["ringway", "--config", path]).unwrap().run.source.config;
        assert_eq!(run("file:/etc/mcrouter.json"), Some("/etc/mcrouter.json".into()));
        assert_eq!(run("/etc/file:x"), Some("/etc/file:x".into()));
        assert!(Cli::try_parse_from(["ringway", "check", "file:x.json"]).is_ok());
    }

    #[test]
    fn wrong_flags() {
        for line in [
            "ringway -c x --server a",
            "ringway --listen localhost",
            "ringway --workers 0",
            "ringway --workers many",
            "ringway --log-level loud",
            "ringway --log-format xml",
            "ringway -c x check y",
            "ringway check",
            "ringway explain",
            "ringway explain k --op fetch",
            "ringway convert",
            "ringway plan a",
            "ringway plan a b --keys x --count 3",
            "ringway plan a b --hit-ratio 2",
            "ringway check x --config-params zone",
            "ringway health a:1 -c x",
            "ringway health --timeout-ms 0",
            "ringway --admin 5001",
            "ringway --drain-delay 5",
            "ringway check x.json --server-timeout 0",
            "ringway check x.json --timeouts-until-tko 0",
            "ringway spool",
            "ringway spool export a b --format as3",
            "ringway spool follow a",
            "ringway spool follow a --to b --from 5",
            "ringway bogus",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).err().unwrap();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
