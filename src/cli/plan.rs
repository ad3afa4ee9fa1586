//! `ringway plan`: what a new configuration would do to the keys of the old one, before it is rolled out.

use super::greeting::plural;
use super::source::{ConfigParams, config_file, find_servers};
use super::{EXIT_WRONG, output};
use crate::config::{self, Config, Node};
use crate::protocol::limits::KEY_BYTES_MAX;
use crate::route::{self, Moved, Root, Target};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Ways from server to server that are listed for each pool.
const MOVES_SHOWN_COUNT_MAX: usize = 30;
/// Keys between two looks at the progress bar.
const KEYS_PER_TICK: u64 = 1_000;
/// A line of `--keys` that is longer is no key, nor a line of memcached's metadump.
const LINE_BYTES_MAX: usize = 4_096;

/// Show which keys a new configuration would move, from where to where, and how many would miss at first
///
/// Both configurations are walked for each key; nothing is sent anywhere. A key that moves is not lost where the new routes
/// still ask the old server after a miss (`warm_up`), or where the old ones have written it to the new server already.
///
/// Without --keys, keys are made up: as many for each prefix that a route of either file tells apart.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    ringway plan /etc/ringway.yaml ringway.new.yaml\n  \
    ringway plan old.json new.yaml --keys keys.txt --hit-ratio 95%\n  \
    echo 'lru_crawler metadump all' | nc -q1 10.0.0.1 11211 | ringway plan old.yaml new.yaml --keys -\n\n\
    Exit code 1 when more is lost than --lost-max allows, or when servers are not found by their names; 2 when a \
    configuration is wrong.")]
pub(super) struct Args {
    /// The configuration that is in use
    #[arg(value_name = "OLD", value_parser = config_file())]
    old: PathBuf,
    /// The one that is to take its place
    #[arg(value_name = "NEW", value_parser = config_file())]
    new: PathBuf,
    /// Keys to look at, one a line, or what memcached's metadump prints; `-` is standard input
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// How many keys to make up
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000),
          conflicts_with = "keys")]
    count: u64,
    /// The share of gets that hit today, 95% or 0.95: what becomes of it is told
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    hit_ratio: Option<f64>,
    /// Fail when a greater share of keys than this would be lost, 10% or 0.1
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    lost_max: Option<f64>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    params: ConfigParams,
}

/// Compares the two.
pub(super) fn run(args: &Args) -> ExitCode {
    let (mut old, mut new) = match (load(&args.old, args), load(&args.new, args)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let mut unknown = Vec::new();
    for (file, config) in [(&args.old, &mut old), (&args.new, &mut new)] {
        if !find_servers(config).is_empty() {
            unknown.push(file.display().to_string());
        }
    }
    // Keys of a pool without servers would neither move nor get lost.
    if !unknown.is_empty() {
        let files = unknown.join(" and ");
        return output::failed(&format!("servers of {files} are not known, nor where their keys go"));
    }
    let (old_root, new_root) = match (route::unconnected(&old), route::unconnected(&new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(why), _) | (_, Err(why)) => {
            output::error(&format!("error: {why}\n"));
            return ExitCode::from(EXIT_WRONG);
        }
    };
    let mut plan = Plan::new(route::prefixes(&[&old, &new]), args.keys.is_none());
    if let Err(why) = plan.walk(args, &old_root, &new_root) {
        return output::failed(&why);
    }
    if plan.all.keys == 0 {
        return output::failed("there is no key to look at");
    }
    let told = output::answer(&if args.json { plan.json() + "\n" } else { plan.text(args.hit_ratio) });
    match args.lost_max {
        Some(most) if plan.all.lost_share() > most => output::failed(&format!(
            "{} of the keys are lost, over --lost-max",
            percent(plan.all.lost_share())
        )),
        _ => told,
    }
}

fn load(file: &Path, args: &Args) -> Result<Config, ExitCode> {
    let loaded = config::load_all(file, args.params.origin(), route::check);
    loaded.map(|loaded| loaded.config).map_err(|faults| {
        output::error(&faults.render(output::has_colour()));
        ExitCode::from(EXIT_WRONG)
    })
}

/// How many keys, how many of them move, and how many of them no longer are where they are asked for.
#[derive(Clone, Copy, Default)]
struct Count {
    keys: u64,
    moved: u64,
    lost: u64,
}

impl Count {
    fn add(&mut self, moved: &Moved) {
        self.keys += 1;
        self.moved += u64::from(moved.is_moved);
        self.lost += u64::from(moved.is_lost);
    }

    fn moved_share(self) -> f64 {
        self.moved as f64 / self.keys.max(1) as f64
    }

    fn lost_share(self) -> f64 {
        self.lost as f64 / self.keys.max(1) as f64
    }

    fn node(self) -> [(&'static str, Node); 5] {
        let integer = |value: u64| Node::Integer(value.into());
        [
            ("keys", integer(self.keys)),
            ("moved", integer(self.moved)),
            ("lost", integer(self.lost)),
            ("moved_share", Node::Float(self.moved_share())),
            ("lost_share", Node::Float(self.lost_share())),
        ]
    }
}

/// A pool and a server of it, by the names that people gave them.
type Place = (String, String);

/// What was counted.
struct Plan {
    is_made_up: bool,
    /// Longer ones first; the empty one last.
    prefixes: Vec<String>,
    all: Count,
    by_prefix: Vec<Count>,
    by_pool: BTreeMap<String, Count>,
    moves: BTreeMap<(Place, Place), Count>,
    /// Lines that hold no key.
    passed_over: u64,
}

impl Plan {
    fn new(prefixes: Vec<String>, is_made_up: bool) -> Self {
        let by_prefix = vec![Count::default(); prefixes.len()];
        let (all, by_pool, moves) = Default::default();
        Self { is_made_up, prefixes, all, by_prefix, by_pool, moves, passed_over: 0 }
    }

    fn walk(&mut self, args: &Args, old: &Root, new: &Root) -> Result<(), String> {
        let Some(file) = &args.keys else {
            let bar = progress(Some(args.count));
            let count = self.prefixes.len() as u64;
            for i in 0..args.count {
                let prefix = &self.prefixes[usize::try_from(i % count).unwrap_or(0)];
                let key = format!("{prefix}{}", i / count);
                self.look(old, new, key.as_bytes(), &bar);
            }
            bar.finish_and_clear();
            return Ok(());
        };
        let cannot = |error: io::Error| format!("cannot read {}: {error}", file.display());
        let mut lines: Box<dyn BufRead> = if file.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(file).map_err(cannot)?))
        };
        let bar = progress(None);
        while let Some(line) = next_line(&mut *lines).map_err(cannot)? {
            match line.as_deref().map(key_of_line) {
                Some(Some(key)) => self.look(old, new, &key, &bar),
                Some(None) if line.is_some_and(|line| line.trim_ascii().is_empty()) => {}
                _ => self.passed_over += 1,
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn look(&mut self, old: &Root, new: &Root, key: &[u8], bar: &ProgressBar) {
        let moved = Moved::of(old, new, key);
        self.all.add(&moved);
        if let Some(at) = self.prefixes.iter().position(|prefix| key.starts_with(prefix.as_bytes())) {
            self.by_prefix[at].add(&moved);
        }
        let (from, to) = (place(moved.from.as_ref()), place(moved.to.as_ref()));
        match self.by_pool.get_mut(&from.0) {
            Some(count) => count.add(&moved),
            None => self.by_pool.entry(from.0.clone()).or_default().add(&moved),
        }
        if moved.is_moved {
            self.moves.entry((from, to)).or_default().add(&moved);
        }
        if self.all.keys.is_multiple_of(KEYS_PER_TICK) {
            bar.set_position(self.all.keys);
        }
    }

    /// Where the keys of a pool move to, the most first.
    fn moves_of(&self, pool: &str) -> Vec<(&Place, &Place, Count)> {
        let of_pool = self.moves.iter().filter(|((from, _), _)| from.0 == pool);
        let mut moves: Vec<_> = of_pool.map(|((from, to), count)| (from, to, *count)).collect();
        moves.sort_by_key(|(.., count)| std::cmp::Reverse(count.keys));
        moves
    }

    fn text(&self, hit_ratio: Option<f64>) -> String {
        let mut text = String::new();
        // writing to a String cannot fail
        let _ = self.write(&mut text, hit_ratio);
        text
    }

    fn write(&self, text: &mut String, hit_ratio: Option<f64>) -> std::fmt::Result {
        write!(text, "{} keys", self.all.keys)?;
        if self.is_made_up {
            let each = if self.prefixes.len() > 1 { ", as many for each prefix" } else { "" };
            write!(text, ", made up{each}; give yours with --keys")?;
        }
        if self.passed_over > 0 {
            write!(
                text,
                "; {} without a key",
                plural(usize::try_from(self.passed_over).unwrap_or(0), "line")
            )?;
        }
        let rows: Vec<(String, Count)> = self.rows();
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(6);
        writeln!(text, "\n\n{:<width$}  {:>10}  {:>8}  {:>8}", "prefix", "keys", "move", "lost")?;
        for (name, count) in rows {
            let (moved, lost) = (percent(count.moved_share()), percent(count.lost_share()));
            writeln!(text, "{name:<width$}  {:>10}  {moved:>8}  {lost:>8}", count.keys)?;
        }
        for (pool, count) in &self.by_pool {
            let (moved, lost) = (percent(count.moved_share()), percent(count.lost_share()));
            let name = if pool.is_empty() { "no pool".to_owned() } else { format!("pool {pool}") };
            writeln!(text, "\n{name}: {} keys, {moved} of them move, {lost} are lost", count.keys)?;
            self.write_moves(text, pool, *count)?;
        }
        text.push('\n');
        self.write_meaning(text, hit_ratio)
    }

    /// All, then each prefix that has keys; where there are no prefixes, all is enough.
    fn rows(&self) -> Vec<(String, Count)> {
        let mut rows = vec![("(all)".to_owned(), self.all)];
        let several = self.by_prefix.iter().filter(|count| count.keys > 0).count() > 1;
        for (prefix, count) in
            self.prefixes.iter().zip(&self.by_prefix).filter(|(_, c)| several && c.keys > 0)
        {
            let name = if prefix.is_empty() { "(others)".to_owned() } else { prefix.clone() };
            rows.push((name, *count));
        }
        rows
    }

    fn write_moves(&self, text: &mut String, pool: &str, of_pool: Count) -> std::fmt::Result {
        let moves = self.moves_of(pool);
        let shown = &moves[..moves.len().min(MOVES_SHOWN_COUNT_MAX)];
        let name = |place: &Place| match place {
            (of, server) if of == pool => server.clone(),
            (of, server) if of.is_empty() => server.clone(),
            (of, server) => format!("{server} of {of}"),
        };
        let longest = |pick: fn(&(&Place, &Place, Count)) -> Place| {
            shown.iter().map(|row| name(&pick(row)).chars().count()).max().unwrap_or(0)
        };
        let (from_width, to_width) = (longest(|row| row.0.clone()), longest(|row| row.1.clone()));
        for (from, to, count) in shown {
            let share = percent(count.keys as f64 / of_pool.keys.max(1) as f64);
            let saved = match count.lost {
                0 => "  none lost".to_owned(),
                lost if lost < count.keys => format!("  {} of them lost", percent(count.lost_share())),
                _ => String::new(),
            };
            let (from, to) = (name(from), name(to));
            writeln!(text, "  {from:<from_width$}  →  {to:<to_width$}  {share:>8}{saved}")?;
        }
        if moves.len() > shown.len() {
            writeln!(text, "  and {} ways more (--json has all)", moves.len() - shown.len())?;
        }
        Ok(())
    }

    fn write_meaning(&self, text: &mut String, hit_ratio: Option<f64>) -> std::fmt::Result {
        let lost = self.all.lost_share();
        if self.all.lost == 0 {
            return writeln!(text, "No get that hits today misses because of the change.");
        }
        writeln!(
            text,
            "At first {} of the gets that hit today miss, until these keys are set again.",
            percent(lost)
        )?;
        let Some(hits) = hit_ratio else { return Ok(()) };
        let then = hits * (1.0 - lost);
        write!(text, "Hits go down from {} to {}", percent(hits), percent(then))?;
        if hits < 1.0 {
            write!(text, "; what stands behind gets {:.1} times the requests", (1.0 - then) / (1.0 - hits))?;
        }
        writeln!(text, ".")
    }

    fn json(&self) -> String {
        let place = |(pool, server): &Place| {
            Node::map([("pool", pool.as_str()), ("server", server)].map(|(k, v)| (k, v.into())))
        };
        let prefixes = self.prefixes.iter().zip(&self.by_prefix).filter(|(_, count)| count.keys > 0);
        let prefixes = prefixes.map(|(prefix, count)| {
            Node::map([("prefix", Node::from(prefix.as_str()))].into_iter().chain(count.node()))
        });
        let pools = self.by_pool.iter().map(|(pool, count)| {
            let moves = self.moves_of(pool).into_iter().map(|(from, to, count)| {
                Node::map([("from", place(from)), ("to", place(to))].into_iter().chain(count.node()))
            });
            let moves = ("moves", Node::List(moves.collect()));
            Node::map([("pool", Node::from(pool.as_str()))].into_iter().chain(count.node()).chain([moves]))
        });
        let made_up = ("made_up", Node::Bool(self.is_made_up));
        let parts = [("prefixes", Node::List(prefixes.collect())), ("pools", Node::List(pools.collect()))];
        Node::map([made_up].into_iter().chain(self.all.node()).chain(parts)).to_json()
    }
}

fn place(target: Option<&Target>) -> Place {
    match target {
        Some(target) => (target.pool.clone(), target.name.clone()),
        None => (String::new(), "no server".to_owned()),
    }
}

/// On stderr, and only for people.
fn progress(count: Option<u64>) -> ProgressBar {
    let bar = count.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = if count.is_some() { "{bar:30} {pos} of {len} keys" } else { "{spinner} {pos} keys" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// The next line without its end; `Some(None)` is one that is too long, `None` the end.
fn next_line(from: &mut dyn BufRead) -> io::Result<Option<Option<Vec<u8>>>> {
    let mut line = Vec::new();
    let mut is_too_long = false;
    loop {
        let part = from.fill_buf()?;
        if part.is_empty() {
            return Ok((!line.is_empty() || is_too_long).then_some((!is_too_long).then_some(line)));
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(part.len());
        if line.len() + taken > LINE_BYTES_MAX {
            is_too_long = true;
            line.clear();
        } else if !is_too_long {
            line.extend_from_slice(&part[..taken]);
        }
        let used = end.map_or(taken, |end| end + 1);
        from.consume(used);
        if end.is_some() {
            return Ok(Some((!is_too_long).then_some(line)));
        }
    }
}

/// The key of a line: all of it, or in memcached's metadump what stands behind `key=`, with its percent signs undone.
fn key_of_line(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let key = match line.strip_prefix(b"key=") {
        Some(rest) if rest.windows(5).any(|part| part == b" exp=") => {
            decoded(rest.split(|byte| *byte == b' ').next().unwrap_or_default())
        }
        _ => line.to_vec(),
    };
    let is_legal = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(|b| *b > b' ' && *b != 0x7f);
    is_legal.then_some(key)
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        let byte = || u8::from_str_radix(std::str::from_utf8(more.get(..2)?).ok()?, 16).ok();
        match byte().filter(|_| *first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = &more[2..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    out
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `10%` or `0.1`.
fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(number) => number.trim().parse::<f64>().map(|number| number / 100.0),
        None => text.parse(),
    };
    let sound = share.ok().filter(|share| (0.0..=1.0).contains(share));
    sound.ok_or_else(|| "a share such as `10%` or `0.1`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(old: &str, new: &str, count: u64) -> Plan {
        let load =
            |text: &str| config::from_text("t", text, route::check).unwrap_or_else(|f| panic!("{f}")).0;
        let (old, new) = (load(old), load(new));
        let roots = (route::unconnected(&old).unwrap(), route::unconnected(&new).unwrap());
        let mut plan = Plan::new(route::prefixes(&[&old, &new]), true);
        let bar = ProgressBar::hidden();
        let several = plan.prefixes.len() as u64;
        for i in 0..count {
            let key = format!("{}{}", plan.prefixes[(i % several) as usize], i / several);
            plan.look(&roots.0, &roots.1, key.as_bytes(), &bar);
        }
        plan
    }

    #[test]
    fn a_server_more_takes_its_share_and_no_other() {
        let plan = plan(
            "pools: {main: {servers: [a, b, c], hash: rendezvous, tags: [a, b, c]}}",
            "pools: {main: {servers: [a, b, c, d], hash: rendezvous, tags: [a, b, c, d]}}",
            20_000,
        );
        assert!((plan.all.moved_share() - 0.25).abs() < 0.02, "{}", plan.all.moved_share());
        assert_eq!(plan.all.moved, plan.all.lost);
        assert_eq!(plan.moves.len(), 3);
        assert!(plan.moves.keys().all(|(_, (pool, server))| pool == "main" && server == "d:11211"));
        let text = plan.text(Some(0.9));
        assert!(text.starts_with("20000 keys, made up; give yours with --keys\n\nprefix "), "{text}");
        assert!(text.contains("\npool main: 20000 keys, 2"), "{text}");
        assert!(text.contains("a:11211  →  d:11211"), "{text}");
        assert!(text.contains("Hits go down from 90.0 % to 6"), "{text}");
        assert!(text.contains("times the requests."), "{text}");
    }

    #[test]
    fn prefixes_stand_apart() {
        let pools = "pools: {a: {servers: [x]}, b: {servers: [y]}}\n";
        let plan = plan(
            &format!("{pools}route: a"),
            &format!("{pools}route: {{prefix: {{wildcard: a, policies: {{'u:': b}}}}}}"),
            1_000,
        );
        let rows: Vec<_> = plan.rows().into_iter().map(|(name, c)| (name, c.keys, c.moved, c.lost)).collect();
        let want = [("(all)", 1_000, 500, 500), ("u:", 500, 500, 500), ("(others)", 500, 0, 0)];
        assert_eq!(rows, want.map(|(name, keys, moved, lost)| (name.to_owned(), keys, moved, lost)));
        assert!(plan.text(None).contains("x:11211  →  y:11211 of b    50.0 %"), "{}", plan.text(None));
        let json: serde_json::Value = serde_json::from_str(&plan.json()).unwrap();
        assert_eq!(json["pools"][0]["moves"][0]["to"]["server"], "y:11211");
        assert_eq!(json["lost"], 500);
    }

    #[test]
    fn lines_and_keys() {
        let key = |line: &str| key_of_line(line.as_bytes()).map(|key| String::from_utf8(key).unwrap());
        assert_eq!(key("user:1\r"), Some("user:1".into()));
        assert_eq!(key("key=a%3Ab%25 exp=-1 la=1 cas=2 fetch=no cls=1 size=63"), Some("a:b%".into()));
        assert_eq!(key("key=a"), Some("key=a".into()));
        assert_eq!(key("END of it"), None);
        assert_eq!(key(""), None);
        let mut lines: &[u8] = &[b"a\n\n".as_slice(), &[b'x'; LINE_BYTES_MAX + 1], b"\nb"].concat();
        let mut read = Vec::new();
        while let Some(line) = next_line(&mut lines).unwrap() {
            read.push(line);
        }
        assert_eq!(read, [Some(b"a".to_vec()), Some(Vec::new()), None, Some(b"b".to_vec())]);
    }

    #[test]
    fn shares() {
        assert_eq!((parse_share("10%"), parse_share("0.95")), (Ok(0.1), Ok(0.95)));
        assert!(["", "x", "101%", "-1", "nan"].iter().all(|text| parse_share(text).is_err()));
    }
}
