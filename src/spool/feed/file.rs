//! The files of a feed as they are written.
//!
//! Several processes may have the same feed, the one that leaves and the one that takes over: whoever writes holds the file's
//! lock meanwhile, and learns from its end what the others have written. Nothing in it is ever changed; when half of the bound
//! is reached, it becomes `PATH.1` and a new one takes its place, in one step.

use super::super::disk::open;
use super::super::home::SpoolError;
use super::{Head, LINE_BYTES_MAX, Opening, beside, older, parse_line, write_line};
use rustix::fs::{FlockOperation, OFlags};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is read of the end of a file to find its last line.
const TAIL_BYTES: u64 = 65_536;

/// A feed, for the one thread that writes to it.
pub(in super::super) struct FeedFile {
    path: PathBuf,
    bytes_max: u64,
    /// Nothing counts as written before it is safe.
    syncs_each: bool,
    file: File,
    feed: String,
    /// The number of the next delete.
    next: u64,
    /// As it was left; another size means that somebody else has written, or that a write failed.
    bytes: Option<u64>,
    /// The file ends in the middle of a line.
    is_torn: bool,
    buffer: Vec<u8>,
}

impl FeedFile {
    /// Opens a feed, or begins one.
    pub(in super::super) fn open(path: &Path, bytes_max: u64, syncs_each: bool) -> Result<Self, SpoolError> {
        let failed = |error: io::Error| SpoolError::new(path, error);
        check(path)?;
        let mut feed = Self {
            path: path.to_owned(),
            bytes_max,
            syncs_each,
            file: open_at(path).map_err(failed)?,
            feed: String::new(),
            next: 1,
            bytes: None,
            is_torn: false,
            buffer: Vec::new(),
        };
        feed.locked(Self::learn).map_err(failed)?;
        Ok(feed)
    }

    /// Appends these. Those of a write that fails may be there, all or some.
    pub(super) fn append<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a [u8]>,
        time_ms: u64,
    ) -> io::Result<()> {
        self.locked(|feed| {
            feed.catch_up()?;
            let first = feed.next;
            let mut buffer = std::mem::take(&mut feed.buffer);
            buffer.clear();
            for key in keys {
                write_line(feed.next, time_ms, key, &mut buffer);
                feed.next += 1;
            }
            let written = feed.write(&buffer, first);
            feed.buffer = buffer;
            written
        })
    }

    fn write(&mut self, lines: &[u8], first: u64) -> io::Result<()> {
        // what is there is found out anew after a failure
        let Some(mut bytes) = self.bytes.take() else { return Err(io::ErrorKind::InvalidData.into()) };
        if std::mem::take(&mut self.is_torn) {
            // in the file that has it: if all but this was there, it is a line now, and its number is used
            self.file.write_all(b"\n")?;
            bytes += 1;
        }
        if bytes + lines.len() as u64 > self.bytes_max / 2 && bytes > Head::BYTES_MAX {
            bytes = self.rotate(first)?;
        }
        self.file.write_all(lines)?;
        if self.syncs_each {
            self.file.sync_data()?;
        }
        self.bytes = Some(bytes + lines.len() as u64);
        Ok(())
    }

    /// Does it while nobody else writes.
    fn locked<T>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        loop {
            rustix::fs::flock(&self.file, FlockOperation::LockExclusive)?;
            // another process may have put a new one in its place
            let held = self.file.metadata()?;
            let there = fs::metadata(&self.path);
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
                break;
            }
            self.file = open_at(&self.path)?;
            self.bytes = None;
        }
        let lock = self.file.try_clone()?;
        let done = act(self);
        // a new one may have taken the place of the one that is locked
        let _ = rustix::fs::flock(&lock, FlockOperation::Unlock);
        done
    }

    fn catch_up(&mut self) -> io::Result<()> {
        if self.bytes == Some(self.file.metadata()?.len()) { Ok(()) } else { self.learn() }
    }

    /// Finds out what the file holds; gives an empty one its head.
    fn learn(&mut self) -> io::Result<()> {
        let bytes = self.file.metadata()?.len();
        if bytes == 0 {
            if self.feed.is_empty() {
                self.feed = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
            }
            let head = Head { feed: self.feed.clone(), next: self.next }.line();
            self.file.write_all(&head)?;
            self.file.sync_all()?;
            sync_parent(&self.path)?;
            self.bytes = Some(head.len() as u64);
            return Ok(());
        }
        let head = match first_line(&self.file)? {
            Opening::Head(head) => head,
            // it was looked at when it was opened: somebody has put another one there
            Opening::Newer(_) | Opening::Foreign => return Err(io::Error::other("this is no feed of ours")),
        };
        let mut tail_bytes = TAIL_BYTES;
        let (next, is_torn) = loop {
            let tail = read_at(&self.file, bytes.saturating_sub(tail_bytes), tail_bytes)?;
            let is_torn = tail.last() != Some(&b'\n');
            // the last piece is empty, or torn: it counts only if nothing but its end is missing
            let last = tail.split(|b| *b == b'\n').rev().find_map(parse_line);
            match last {
                Some(told) => break (told.number.saturating_add(1), is_torn),
                None if tail_bytes >= bytes => break (head.next, is_torn),
                None => tail_bytes = tail_bytes.saturating_mul(16),
            }
        };
        (self.feed, self.next, self.bytes, self.is_torn) = (head.feed, next, Some(bytes), is_torn);
        Ok(())
    }

    /// A new file takes the place of this one, which stays as the older of the two. There is one at any moment.
    fn rotate(&mut self, first: u64) -> io::Result<u64> {
        let (new, kept) = (self.beside("new"), self.beside("old"));
        for left in [&new, &kept] {
            match fs::remove_file(left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let head = Head { feed: self.feed.clone(), next: first }.line();
        let mut file = open_new(&new)?;
        file.write_all(&head)?;
        file.sync_all()?;
        fs::hard_link(&self.path, &kept)?;
        fs::rename(&kept, older(&self.path))?;
        fs::rename(&new, &self.path)?;
        sync_parent(&self.path)?;
        self.file = file;
        Ok(head.len() as u64)
    }

    /// A name for a moment: nobody else's file has the feed's own in it.
    fn beside(&self, what: &str) -> PathBuf {
        beside(&self.path, &format!(".{}.{what}", self.feed))
    }

    /// All that was written is safe.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Head {
    const BYTES_MAX: u64 = 100;
}

/// Complains of what is there and no feed of ours.
///
/// # Errors
/// What it is.
pub(in super::super) fn check(path: &Path) -> Result<(), SpoolError> {
    if !path.parent().is_some_and(Path::is_dir) {
        return Err(SpoolError::missing(path, "its directory is not there"));
    }
    let wrong = |path: PathBuf| check_one(&path).map_err(|why| SpoolError::new(&path, why));
    [path.to_owned(), older(path)].into_iter().try_for_each(wrong)
}

fn check_one(path: &Path) -> Result<(), String> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !meta.is_file() {
        return Err("this is no file; nothing was changed".into());
    }
    if meta.len() == 0 {
        return Ok(());
    }
    let file = open(path, OFlags::RDONLY).map_err(|error| error.to_string())?;
    match first_line(&file).map_err(|error| error.to_string())? {
        Opening::Head(_) => Ok(()),
        Opening::Newer(version) => Err(format!("a feed of a newer version ({version}); nothing was changed")),
        Opening::Foreign => Err("this is no feed of ours; nothing was changed".into()),
    }
}

fn open_at(path: &Path) -> io::Result<File> {
    open(path, OFlags::RDWR | OFlags::CREATE | OFlags::APPEND)
}

fn open_new(path: &Path) -> io::Result<File> {
    open(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND)
}

/// Without the name in its directory there is nothing to find.
fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn first_line(file: &File) -> io::Result<Opening> {
    let start = read_at(file, 0, LINE_BYTES_MAX as u64)?;
    let end = memchr::memchr(b'\n', &start);
    Ok(end.map_or(Opening::Foreign, |end| Opening::parse(&start[..end])))
}

fn read_at(mut file: &File, offset: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
