//! `ringway spool`: look into a spool, check it, deliver what is in it by hand, exchange it with mcrouter's programs.

use super::output;
use crate::spool::asynclog::Asynclog;
use crate::spool::feed::{Position, Start};
use crate::spool::follow::{Follow, FollowError};
use crate::spool::mcrouter::{self, Version};
use crate::spool::offline::{self, Summary};
use crate::spool::{Delete, age_s, by_hand};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Deletes that are written at once.
const BATCH_COUNT: usize = 4_096;

/// Deletes that wait for their servers: look at them, check them, deliver them, exchange them with mcrouter
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    ringway spool list /var/spool/ringway\n  \
    ringway spool verify /var/spool/ringway\n  \
    ringway spool import /var/spool/ringway /var/spool/mcrouter\n  \
    ringway spool follow /var/lib/ringway/feed --to other:11211 --position-file /var/lib/ringway/other.position")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Which servers are owed how many deletes, and since when
    List { dir: PathBuf },
    /// Each delete that is pending, oldest first, a line each: when, server, pool, key
    Show {
        dir: PathBuf,
        /// Only those for this server
        #[arg(long, value_name = "ADDR")]
        server: Option<String>,
        /// So many at most
        #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
        limit: u64,
    },
    /// Deliver what processes that ended have left; one that runs delivers by itself
    Replay {
        dir: PathBuf,
        /// Deletes that a server is told of in a second
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        rate: u32,
    },
    /// Put the deletes of mcrouter's asynclog (files or directories, AS1.0 and AS2.0) into a spool; a ringway that runs
    /// takes them over within a second
    Import {
        dir: PathBuf,
        #[arg(required = true)]
        from: Vec<PathBuf>,
    },
    /// Write what is pending as mcrouter's asynclog: into its layout of directories, or to standard output
    Export {
        dir: PathBuf,
        /// A directory, or `-`
        to: PathBuf,
        /// `as1` or `as2`
        #[arg(long, default_value = "as1", value_parser = parse_version)]
        format: Version,
    },
    /// Tell another ringway or memcached of every delete in a feed (`spool: {feed: …}`), as it grows; each at least once. Ends
    /// with an error when the next one is not there any more
    Follow {
        feed: PathBuf,
        /// Who is told
        #[arg(long, value_name = "ADDRESS")]
        to: String,
        /// Where to begin: `oldest`, `now`, or a position such as 6f1c0a5b22e94d07:1
        #[arg(long, value_name = "POSITION", value_parser = parse_start, default_value = "oldest")]
        from: Start,
        /// Keep the position in this file, and go on with it where there is one
        #[arg(long, value_name = "FILE")]
        position_file: Option<PathBuf>,
        /// Deletes that it is told of in a second
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        rate: u32,
        /// Send `delete`, to a target that knows no meta commands (a memcached before 1.6, another proxy)
        #[arg(long)]
        plain: bool,
        /// End when there is nothing new
        #[arg(long)]
        stop_at_end: bool,
    },
    /// Read every byte, and tell of those that are no entry; exit code 1 when there are any
    Verify { dir: PathBuf },
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "as1" => Ok(Version::As1),
        "as2" => Ok(Version::As2),
        _ => Err("`as1` or `as2`".to_owned()),
    }
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "oldest" => Ok(Start::Oldest),
        "now" => Ok(Start::Now),
        position => position.parse().map(Start::At),
    }
}

/// Does it.
pub(super) fn run(args: &Args) -> ExitCode {
    let done = match &args.verb {
        Verb::List { dir } => list(dir),
        Verb::Show { dir, server, limit } => show(dir, server.as_deref(), *limit),
        Verb::Replay { dir, rate } => replay(dir, *rate),
        Verb::Import { dir, from } => import(dir, from),
        Verb::Export { dir, to, format } => export(dir, to, *format),
        Verb::Follow { feed, to, from, position_file, rate, plain, stop_at_end } => {
            let file = position_file.as_deref();
            file.map_or_else(|| Ok(from.clone()), |file| read_position(file, from)).and_then(|start| {
                let per_second_max = usize::try_from((*rate).max(1)).unwrap_or(usize::MAX);
                let (is_plain, stops_at_end) = (*plain, *stop_at_end);
                follow(Follow { feed, to, start, per_second_max, is_plain, stops_at_end }, file)
            })
        }
        Verb::Verify { dir } => verify(dir),
    };
    done.unwrap_or_else(|why| output::failed(&why))
}

type Done = Result<ExitCode, String>;

/// Reads all of it, with a bar that grows.
fn visit(dir: &Path, each: impl FnMut(&Delete) -> io::Result<()>) -> Result<Vec<Summary>, String> {
    let failed = |error: io::Error| format!("{}: {error}", dir.display());
    // every byte is read twice
    let bar = bar(2 * offline::size_bytes(dir).map_err(failed)?, "{bytes}/{total_bytes}");
    let summaries = offline::visit(dir, |bytes| bar.inc(bytes), each).map_err(failed)?;
    bar.finish_and_clear();
    Ok(summaries)
}

/// Hides itself where nobody watches.
fn bar(length: u64, counts: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{wide_bar}} {counts}, {{eta}} left"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn list(dir: &Path) -> Done {
    let summaries = visit(dir, |_| Ok(()))?;
    let mut text = String::new();
    for summary in &summaries {
        let name = summary.path.file_name().unwrap_or_default().to_string_lossy();
        let state = if summary.is_in_use { "in use" } else { "left behind" };
        let Summary { pending_count, deletes_count, segments_count, bytes, .. } = summary;
        // writing to a String cannot fail
        let _ = writeln!(
            text,
            "{name}: {state}, {pending_count} pending of {deletes_count} deletes, {bytes} bytes in {segments_count} files"
        );
        for (address, (count, oldest_ms)) in &summary.servers {
            let _ = writeln!(text, "  {address}  {count} pending, oldest {} s", age_s(*oldest_ms));
        }
    }
    if summaries.is_empty() {
        text.push_str("nothing is in it\n");
    }
    Ok(output::answer(&text))
}

fn show(dir: &Path, server: Option<&str>, limit: u64) -> Done {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut left = limit;
    let shown = visit(dir, |delete| {
        if left == 0 || server.is_some_and(|server| server != delete.address) {
            return Ok(());
        }
        left -= 1;
        let (day, time) = mcrouter::calendar(delete.time_ms / 1_000);
        writeln!(out, "{day}T{time} {} {} {}", delete.address, delete.pool, delete.key.escape_ascii())
    });
    match shown.and_then(|_| out.flush().map_err(|error| error.to_string())) {
        // a reader that has gone away is no error
        Err(why) if !why.contains("Broken pipe") => Err(why),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn verify(dir: &Path) -> Done {
    let summaries = visit(dir, |_| Ok(()))?;
    let (mut text, mut faults_count) = (String::new(), 0);
    for summary in &summaries {
        let path = |name: &str| summary.path.join(name).display().to_string();
        for (name, bytes) in &summary.broken {
            faults_count += 1;
            let _ = writeln!(text, "{}: {bytes} bytes are no entry", path(name));
        }
        for (name, why) in &summary.unread {
            faults_count += 1;
            let _ = writeln!(text, "{}: {why}", path(name));
        }
    }
    let sum = |of: fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
    let (deletes, pending, bytes) = (sum(|s| s.deletes_count), sum(|s| s.pending_count), sum(|s| s.bytes));
    let _ = writeln!(text, "{bytes} bytes read: {deletes} deletes, {pending} pending, {faults_count} faults");
    output::answer(&text);
    Ok(if faults_count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn replay(dir: &Path, rate: u32) -> Done {
    let mut pending_count = 0;
    let summaries = visit(dir, |_| {
        pending_count += 1;
        Ok(())
    })?;
    if let Some(busy) = summaries.iter().find(|summary| summary.is_in_use && summary.pending_count > 0) {
        output::error(&format!(
            "{}: a ringway that runs has it, and delivers by itself\n",
            busy.path.display()
        ));
    }
    let bar = bar(pending_count, "{pos}/{len}");
    let per_second_max = usize::try_from(rate.max(1)).unwrap_or(usize::MAX);
    let delivered = by_hand::deliver(dir, per_second_max, |count| bar.inc(count as u64));
    bar.finish_and_clear();
    let delivered = delivered.map_err(|error| error.to_string())?;
    let mut text = String::new();
    for server in &delivered {
        let (delivered, left) = (server.delivered_count, server.left_count);
        let _ = write!(text, "{}: {delivered} delivered, {left} left", server.address);
        let _ = match &server.error {
            Some(error) => writeln!(text, ": {error}"),
            None => writeln!(text),
        };
    }
    output::answer(&text);
    let is_done = delivered.iter().all(|server| server.left_count == 0);
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn import(dir: &Path, from: &[PathBuf]) -> Done {
    let mut files = Vec::new();
    for path in from {
        collect(path, &mut files).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    files.sort();
    let bytes = files.iter().filter_map(|file| fs::metadata(file).ok()).map(|meta| meta.len()).sum();
    let bar = bar(bytes, "{bytes}/{total_bytes}");
    let mut import = by_hand::Import::into(dir).map_err(|error| error.to_string())?;
    let (mut batch, mut count, mut faults) = (Vec::new(), 0_u64, Vec::new());
    for file in &files {
        let failed = |error: io::Error| format!("{}: {error}", file.display());
        let reader = BufReader::new(fs::File::open(file).map_err(failed)?);
        for (line, number) in reader.split(b'\n').zip(1..) {
            let line = line.map_err(failed)?;
            bar.inc(line.len() as u64 + 1);
            match mcrouter::parse_line(&line) {
                Ok(delete) => batch.push(delete),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(why) => faults.push(format!("{}:{number}: {why}\n", file.display())),
            }
            if batch.len() == BATCH_COUNT {
                import.add(&batch).map_err(failed)?;
                count += batch.len() as u64;
                batch.clear();
            }
        }
    }
    import.add(&batch).and_then(|()| import.finish()).map_err(|error| error.to_string())?;
    bar.finish_and_clear();
    count += batch.len() as u64;
    faults.iter().for_each(|fault| output::error(fault));
    output::answer(&format!("{count} deletes of {} files, {} lines are none\n", files.len(), faults.len()));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was kept, if anything.
fn read_position(file: &Path, otherwise: &Start) -> Result<Start, String> {
    match fs::read_to_string(file) {
        Ok(text) => text.parse().map(Start::At).map_err(|why| format!("{}: {why}", file.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(otherwise.clone()),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// In one step: a reader finds the old one or the new one.
fn write_position(file: &Path, position: &Position) -> io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(out, "{position}")?;
    out.sync_all()?;
    fs::rename(&new, file)
}

fn follow(follow: Follow<'_>, position_file: Option<&Path>) -> Done {
    let name = follow.feed.display().to_string();
    let keep = |position: &Position| position_file.map_or(Ok(()), |file| write_position(file, position));
    let done = follow.run(keep, |trouble| output::error(&format!("{name}: {trouble}\n")));
    let done = done.map_err(|error| match error {
        FollowError::Feed(error) => format!("{name}: {error}"),
        error @ FollowError::Position(_) => error.to_string(),
    })?;
    let position = done.position.map_or_else(|| "there is none yet".to_owned(), |p| p.to_string());
    let text = format!("{} told, {} refused, position {position}\n", done.told_count, done.refused_count);
    output::answer(&text);
    Ok(if done.refused_count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files below a path.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

fn export(dir: &Path, to: &Path, version: Version) -> Done {
    let mut count = 0_u64;
    if to == Path::new("-") {
        let mut out = io::BufWriter::new(io::stdout().lock());
        visit(dir, |delete| out.write_all(&mcrouter::write_line(delete, version)))?;
        return out.flush().map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string());
    }
    let mut files = Asynclog::private(to, version);
    visit(dir, |delete| {
        count += 1;
        files.write(delete)
    })?;
    files.flush().map_err(|error| error.to_string())?;
    Ok(output::answer(&format!("{count} deletes written below {}\n", to.display())))
}
