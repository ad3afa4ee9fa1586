//! The feed: every delete that was acknowledged, a line each, for others to follow.
//!
//! ```text
//!  root (route::Fed) ─► desk ─► writer (one thread) ─► file ─► PATH, PATH.1
//!                         ▲        │                             │
//!                         └────────┘ written              reader ─► follow ─► another ringway
//! ```
//! ```text
//! {"feed":"6f1c0a5b22e94d07","version":1,"next":1}
//! {"n":1,"t":1700000000250,"k":"user:1"}
//! {"n":2,"t":1700000000250,"b":"//8="}
//! ```
//! Each file opens with a line that names the feed and the number of the delete behind it. Numbers grow by one: whoever reads
//! sees by them that nothing is missing, whatever became of the lines between. `docs/spool-format.md` has the rules.

mod file;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use file::{FeedFile, check};
pub use reader::{FeedError, Reader, Start};
pub(super) use writer::Writer;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const VERSION: u64 = 1;
/// Longer than the line of the longest key.
const LINE_BYTES_MAX: usize = 8_192;

/// The first line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    feed: String,
    /// The number of the first delete behind it.
    next: u64,
}

/// One delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub number: u64,
    /// When it was written, in milliseconds since 1970. For people.
    pub time_ms: u64,
    /// Any bytes.
    pub key: Vec<u8>,
}

/// How far somebody has read: the number that comes next, of this feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub feed: String,
    pub next: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.feed, self.next)
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.trim().split_once(':');
        let position =
            parts.and_then(|(feed, next)| Some(Self { feed: feed.to_owned(), next: next.parse().ok()? }));
        position.filter(|position| is_name(&position.feed)).ok_or_else(|| {
            format!("`{}` is no position such as 6f1c0a5b22e94d07:1", text.trim().escape_debug())
        })
    }
}

/// What the first line of a file is.
enum Opening {
    Head(Head),
    Newer(u64),
    Foreign,
}

impl Head {
    fn line(&self) -> Vec<u8> {
        format!("{{\"feed\":\"{}\",\"version\":{VERSION},\"next\":{}}}\n", self.feed, self.next).into_bytes()
    }
}

impl Opening {
    fn parse(line: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(line) else { return Self::Foreign };
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        let feed = value.get("feed").and_then(Value::as_str).filter(|feed| is_name(feed));
        match (feed, number("version"), number("next")) {
            (Some(_), Some(version), _) if version > VERSION => Self::Newer(version),
            (Some(feed), Some(_), Some(next)) => Self::Head(Head { feed: feed.to_owned(), next }),
            _ => Self::Foreign,
        }
    }
}

fn is_name(feed: &str) -> bool {
    feed.len() == 16 && feed.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Appends the line of a delete.
fn write_line(number: u64, time_ms: u64, key: &[u8], out: &mut Vec<u8>) {
    let (name, key) = match std::str::from_utf8(key) {
        Ok(text) => ("k", Value::from(text)),
        Err(_) => ("b", Value::from(encode(key))),
    };
    out.extend_from_slice(format!("{{\"n\":{number},\"t\":{time_ms},\"{name}\":{key}}}\n").as_bytes());
}

/// `None`: this is no line of a delete.
fn parse_line(line: &[u8]) -> Option<Told> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let key = match (value.get("k"), value.get("b")) {
        (Some(text), None) => text.as_str()?.as_bytes().to_vec(),
        (None, Some(text)) => decode(text.as_str()?)?,
        _ => return None,
    };
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    Some(Told { number: number("n")?, time_ms: number("t")?, key })
}

fn encode(key: &[u8]) -> String {
    let mut text = vec![0; key.len().div_ceil(3) * 4];
    let length = STANDARD.encode_slice(key, &mut text).unwrap_or(0); // it has the room
    text.truncate(length);
    String::from_utf8(text).unwrap_or_default() // base64 is ASCII
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut key = vec![0; text.len()];
    let length = STANDARD.decode_slice(text, &mut key).ok()?;
    key.truncate(length);
    Some(key)
}

/// The older of the two files.
fn older(path: &Path) -> PathBuf {
    beside(path, ".1")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
