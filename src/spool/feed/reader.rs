//! A feed as it is followed: from a position on, over the change of files, and never past a gap in silence.

use super::super::disk::open;
use super::{Head, LINE_BYTES_MAX, Opening, Position, Told, older, parse_line};
use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest delete that is there.
    Oldest,
    /// Behind the newest one.
    Now,
    At(Position),
}

/// Why a feed cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("this is no feed")]
    Foreign,
    #[error("a feed of a newer version, {0}")]
    Newer(u64),
    #[error("this is the feed {there}, not {wanted}: it was begun anew, and nobody knows what is missing")]
    Other { wanted: String, there: String },
    #[error(
        "deletes {from} to {to} are not in the feed any more: what they should have deleted is still there"
    )]
    Gap { from: u64, to: u64 },
    #[error("the feed ends before {wanted}, with {last}: its end was lost, and numbers are used again")]
    Lost { wanted: u64, last: u64 },
}

/// Reads on and on.
pub struct Reader {
    path: PathBuf,
    start: Start,
    /// How far it has come; `None`: nothing is there yet.
    position: Option<Position>,
    current: Option<Current>,
    /// What the next call has to tell: deletes came before it.
    failed: Option<FeedError>,
    /// Lines that are none, so far.
    pub broken_count: u64,
}

/// The file that is being read.
struct Current {
    lines: BufReader<File>,
    id: (u64, u64),
    /// A line of which the end is not there yet.
    line: Vec<u8>,
    /// Behind the last line that was read.
    next: u64,
}

impl Reader {
    #[must_use]
    pub fn new(path: &Path, start: Start) -> Self {
        let path = path.to_owned();
        Self { path, start, position: None, current: None, failed: None, broken_count: 0 }
    }

    /// Up to where everything was read.
    #[must_use]
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The next deletes, at most so many; none when there is nothing new.
    ///
    /// # Errors
    /// When it cannot be read, or when something is missing that should come next. What comes before it is told first.
    pub fn read(&mut self, count_max: usize) -> Result<Vec<Told>, FeedError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut found = Vec::new();
        if let Err(error) = self.read_into(&mut found, count_max) {
            if found.is_empty() {
                return Err(error);
            }
            self.failed = Some(error);
        }
        Ok(found)
    }

    fn read_into(&mut self, found: &mut Vec<Told>, count_max: usize) -> Result<(), FeedError> {
        while found.len() < count_max {
            if self.current.is_none() && !self.open()? {
                break;
            }
            let (Some(current), Some(position)) = (&mut self.current, &mut self.position) else { break };
            let Some(told) = current.next(&mut self.broken_count)? else {
                if !self.is_replaced()? {
                    self.check_end()?;
                    break;
                }
                // the last lines may have come between the two looks
                let (Some(current), Some(position)) = (&mut self.current, &mut self.position) else { break };
                match current.next(&mut self.broken_count)? {
                    Some(told) => take(told, position, found)?,
                    None if self.open()? => {}
                    None => break,
                }
                continue;
            };
            take(told, position, found)?;
        }
        Ok(())
    }

    /// Opens the file in which the next delete is; the one that was read to its end stays open until then. `false`: there is
    /// none yet.
    fn open(&mut self) -> Result<bool, FeedError> {
        let Some((newer, newer_head)) = open_one(&self.path)? else { return Ok(false) };
        let older = open_one(&older(&self.path))?.filter(|(_, head)| head.feed == newer_head.feed);
        let oldest = older.as_ref().map_or(newer_head.next, |(_, head)| head.next);
        let position = match (&self.position, &self.start) {
            (Some(position), _) | (None, Start::At(position)) => position.clone(),
            (None, Start::Oldest) => Position { feed: newer_head.feed.clone(), next: oldest },
            (None, Start::Now) => {
                let mut end = newer;
                while end.next(&mut self.broken_count)?.is_some() {}
                self.position = Some(Position { feed: newer_head.feed, next: end.next });
                self.current = Some(end);
                return Ok(true);
            }
        };
        if position.feed != newer_head.feed {
            return Err(FeedError::Other { wanted: position.feed, there: newer_head.feed });
        }
        let is_at_its_end = |file: &Current| self.current.as_ref().is_some_and(|ended| ended.id == file.id);
        let current = match older {
            _ if newer_head.next <= position.next => newer,
            // It should have led up to the newer one, and would be read again and again.
            Some((older, _)) if is_at_its_end(&older) => {
                return Err(FeedError::Gap { from: position.next, to: newer_head.next - 1 });
            }
            Some((older, head)) if head.next <= position.next => older,
            _ => return Err(FeedError::Gap { from: position.next, to: oldest - 1 }),
        };
        self.position = Some(position);
        self.current = Some(current);
        Ok(true)
    }

    /// Whether another file has taken the place of the one that is being read.
    fn is_replaced(&self) -> io::Result<bool> {
        let there = match fs::metadata(&self.path) {
            Ok(meta) => (meta.dev(), meta.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(self.current.as_ref().is_some_and(|current| current.id != there))
    }

    /// At the end of all: what was read before must be in it.
    fn check_end(&self) -> Result<(), FeedError> {
        match (&self.current, &self.position) {
            (Some(current), Some(position)) if current.next < position.next => {
                Err(FeedError::Lost { wanted: position.next, last: current.next - 1 })
            }
            _ => Ok(()),
        }
    }
}

/// Passes by what was read before; notices what is missing.
fn take(told: Told, position: &mut Position, found: &mut Vec<Told>) -> Result<(), FeedError> {
    if told.number > position.next {
        return Err(FeedError::Gap { from: position.next, to: told.number - 1 });
    }
    if told.number == position.next {
        position.next += 1;
        found.push(told);
    }
    Ok(())
}

/// `None`: it is not there, or empty yet.
fn open_one(path: &Path) -> Result<Option<(Current, Head)>, FeedError> {
    let file = match open(path, OFlags::RDONLY) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let meta = file.metadata()?;
    let mut current =
        Current { lines: BufReader::new(file), id: (meta.dev(), meta.ino()), line: Vec::new(), next: 0 };
    let Some(line) = current.line()? else {
        // its head is being written, or it is something else
        let is_begun = current.line.is_empty() || current.line.starts_with(b"{\"feed\":");
        return if is_begun { Ok(None) } else { Err(FeedError::Foreign) };
    };
    match Opening::parse(&line) {
        Opening::Head(head) => {
            current.next = head.next;
            Ok(Some((current, head)))
        }
        Opening::Newer(version) => Err(FeedError::Newer(version)),
        Opening::Foreign => Err(FeedError::Foreign),
    }
}

impl Current {
    /// The next delete; lines that are none are passed by: the numbers tell whether something was lost with them.
    fn next(&mut self, broken_count: &mut u64) -> io::Result<Option<Told>> {
        while let Some(line) = self.line()? {
            let Some(told) = parse_line(&line) else {
                *broken_count += 1;
                continue;
            };
            self.next = told.number.saturating_add(1);
            return Ok(Some(told));
        }
        Ok(None)
    }

    /// The next whole line.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        self.lines.by_ref().take(room as u64).read_until(b'\n', &mut self.line)?;
        let is_whole = self.line.last() == Some(&b'\n');
        // what is too long is no line either way
        Ok((is_whole || self.line.len() >= LINE_BYTES_MAX).then(|| std::mem::take(&mut self.line)))
    }
}
