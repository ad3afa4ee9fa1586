//! `spool`: where deletes go that their server could not be told of, and when they are told.

use super::fault::{At, Findings, Problem};
use super::node::Node;
use super::path::Path;
use super::section::{Hint, Section};
use super::value;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const KEYS: &[&str] = &[
    "dir",
    "create",
    "sync",
    "bytes_max",
    "age_max",
    "on_full",
    "answer",
    "fail_over",
    "negative_exptime",
    "settle",
    "replay_rate",
    "on_gone",
    "feed",
    "asynclog",
];
pub(super) const ASYNCLOG_KEYS: &[&str] = &["dir", "format"];
pub(super) const FEED_KEYS: &[&str] = &["file", "bytes_max"];
const HINTS: &[Hint] = &[
    ("directory", "write `dir`"),
    ("path", "write `dir`"),
    ("async_dir", "write `dir`"),
    ("async-dir", "write `dir`"),
    ("fsync", "write `sync: each`"),
    ("size_max", "write `bytes_max`"),
    ("rate", "write `replay_rate`"),
];
const FEED_HINTS: &[Hint] = &[("path", "write `file`"), ("size_max", "write `bytes_max`")];
/// Below a mebibyte there is no room for two segments.
const BYTES: RangeInclusive<usize> = (1 << 20)..=(1 << 44);
const SYNC_TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const AGES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 86_400);
const SETTLES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
const RATES: RangeInclusive<usize> = 1..=10_000_000;

/// Deletes that a server could not be told of are kept here until it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    pub dir: PathBuf,
    /// A directory that is not there is made.
    pub creates_dir: bool,
    pub sync: Sync,
    /// All files together.
    pub bytes_max: usize,
    /// Deletes that have waited for longer are dropped; `None`: never.
    pub age_max: Option<Duration>,
    pub on_full: OnFull,
    pub answer: Answer,
    /// Routes above the server see that it failed, and may ask another one as well.
    pub fails_over: bool,
    /// A `touch`, or a `set`, whose time is over at once is a delete too.
    pub spools_negative_exptime: bool,
    /// How long a server that answers again is given for what was on its way to it when it stopped.
    pub settle: Duration,
    /// Deletes that one server is told of in a second.
    pub replay_per_second_max: usize,
    pub on_gone: OnGone,
    /// `None`: nobody is told of deletes.
    pub feed: Option<Feed>,
    /// `None`: nothing is written in mcrouter's way.
    pub asynclog: Option<Asynclog>,
}

/// What is written into the spool is written here too, as mcrouter does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asynclog {
    pub dir: PathBuf,
    pub format: AsynclogFormat,
}

/// How mcrouter writes a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsynclogFormat {
    #[default]
    As1,
    As2,
}

/// Every delete that was acknowledged is written here, for others to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    pub file: PathBuf,
    /// The file and the one before it.
    pub bytes_max: usize,
}

/// When the system is told to write to the disk what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When it likes: what a power cut takes is up to the system.
    None,
    /// This often.
    Every(Duration),
    /// Before any client is answered.
    Each,
}

/// What becomes of a delete for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The client is told that it failed.
    #[default]
    Error,
    /// The oldest ones give way.
    DropOldest,
}

/// What a client is told whose delete waits in the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    #[default]
    Deleted,
    /// As mcrouter.
    NotFound,
}

/// What becomes of deletes for a server that is in no pool any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGone {
    /// They go to the server that has the key now.
    #[default]
    Owner,
    Drop,
}

impl OnFull {
    pub(super) const ALL: &'static [(&'static str, Self)] =
        &[("error", Self::Error), ("drop_oldest", Self::DropOldest)];
}

impl Answer {
    pub(super) const ALL: &'static [(&'static str, Self)] =
        &[("deleted", Self::Deleted), ("not_found", Self::NotFound)];
}

impl AsynclogFormat {
    pub(super) const ALL: &'static [(&'static str, Self)] = &[("as1", Self::As1), ("as2", Self::As2)];
}

impl OnGone {
    pub(super) const ALL: &'static [(&'static str, Self)] = &[("owner", Self::Owner), ("drop", Self::Drop)];
}

impl Spool {
    /// Every default.
    #[must_use]
    pub fn at(dir: PathBuf) -> Self {
        Self {
            dir,
            creates_dir: false,
            sync: Sync::Every(Duration::from_millis(100)),
            bytes_max: 1 << 30,
            age_max: None,
            on_full: OnFull::default(),
            answer: Answer::default(),
            fails_over: true,
            spools_negative_exptime: false,
            settle: Duration::from_millis(500),
            replay_per_second_max: 100_000,
            on_gone: OnGone::default(),
            feed: None,
            asynclog: None,
        }
    }

    /// What mcrouter does, in a file of mcrouter's.
    #[must_use]
    pub fn as_mcrouter(self) -> Self {
        Self { answer: Answer::NotFound, fails_over: false, ..self }
    }

    /// Reads the section; what is wrong is on record.
    pub(super) fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Self> {
        let what = "a map as in `{dir: /var/spool/ringway}`";
        let section = Section::open(node, path, findings, what)?;
        section.refuse_unknown(KEYS, HINTS);
        if section.node("dir").is_none() {
            let help = "as in `spool: {dir: /var/spool/ringway}`";
            findings.fault(path, At::Key, Problem::new("a spool without `dir`").help(help));
        }
        let dir = section.value("dir", |node| read_absolute(node, "the absolute path of a directory"));
        let default = Self::at(dir.clone().unwrap_or_default());
        let flag = |key, otherwise| section.value(key, value::boolean).unwrap_or(otherwise);
        let spool = Self {
            creates_dir: flag("create", default.creates_dir),
            sync: section.value("sync", read_sync).unwrap_or(default.sync),
            bytes_max: section
                .value("bytes_max", |node| value::bytes(node, &BYTES))
                .unwrap_or(default.bytes_max),
            age_max: section.value("age_max", read_age).unwrap_or(default.age_max),
            on_full: section
                .value("on_full", |node| value::choice(node, "`error` or `drop_oldest`", OnFull::ALL))
                .unwrap_or_default(),
            answer: section
                .value("answer", |node| value::choice(node, "`deleted` or `not_found`", Answer::ALL))
                .unwrap_or_default(),
            fails_over: flag("fail_over", default.fails_over),
            spools_negative_exptime: flag("negative_exptime", default.spools_negative_exptime),
            settle: section.value("settle", |node| value::duration(node, &SETTLES)).unwrap_or(default.settle),
            replay_per_second_max: section
                .value("replay_rate", |node| value::count(node, &RATES))
                .unwrap_or(default.replay_per_second_max),
            on_gone: section
                .value("on_gone", |node| value::choice(node, "`owner` or `drop`", OnGone::ALL))
                .unwrap_or_default(),
            feed: section.node("feed").and_then(|node| Feed::read(node, &path.key("feed"), findings)),
            asynclog: section
                .node("asynclog")
                .and_then(|node| Asynclog::read(node, &path.key("asynclog"), findings)),
            dir: default.dir,
        };
        dir.map(|_| spool)
    }
}

impl Asynclog {
    fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Self> {
        let section = Section::open(node, path, findings, "a map as in `{dir: /var/spool/mcrouter}`")?;
        section.refuse_unknown(ASYNCLOG_KEYS, HINTS);
        if section.node("dir").is_none() {
            let help = "as in `asynclog: {dir: /var/spool/mcrouter}`";
            findings.fault(path, At::Key, Problem::new("an asynclog without `dir`").help(help));
        }
        let format =
            section.value("format", |node| value::choice(node, "`as1` or `as2`", AsynclogFormat::ALL));
        let dir = section.value("dir", |node| read_absolute(node, "the absolute path of a directory"))?;
        Some(Self { dir, format: format.unwrap_or_default() })
    }
}

impl Feed {
    fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Self> {
        let section = Section::open(node, path, findings, "a map as in `{file: /var/lib/ringway/feed}`")?;
        section.refuse_unknown(FEED_KEYS, FEED_HINTS);
        if section.node("file").is_none() {
            let help = "as in `feed: {file: /var/lib/ringway/feed}`";
            findings.fault(path, At::Key, Problem::new("a feed without `file`").help(help));
        }
        let bytes_max = section.value("bytes_max", |node| value::bytes(node, &BYTES)).unwrap_or(1 << 30);
        let file = section.value("file", |node| read_absolute(node, "the absolute path of a file"))?;
        Some(Self { file, bytes_max })
    }
}

fn read_absolute(node: &Node, what: &'static str) -> Result<PathBuf, Problem> {
    let text = value::text(node, what)?;
    if !text.starts_with('/') {
        let help = "a relative path would be another place whenever the program is started elsewhere";
        return Err(value::expected(what, node).help(help));
    }
    Ok(text.into())
}

fn read_sync(node: &Node) -> Result<Sync, Problem> {
    match node {
        Node::Text(text) if text == "none" => Ok(Sync::None),
        Node::Text(text) if text == "each" => Ok(Sync::Each),
        _ => value::duration(node, &SYNC_TIMES)
            .map(Sync::Every)
            .map_err(|problem| problem.help("`none`, `each`, or a time such as `100ms`")),
    }
}

fn read_age(node: &Node) -> Result<Option<Duration>, Problem> {
    value::duration_or_off(node, &AGES, "24h")
}
