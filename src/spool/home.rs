//! Where a spool lives: a directory that is ours alone, and in it one for each process.
//!
//! A process holds a lock on its own directory for as long as it lives, so several may have the same `dir`: the one that leaves
//! and the one that takes over, or by accident. What a process that ended left behind is taken over by the next one that
//! starts, or by one that is there already.

use super::disk::{Directory, open};
use super::feed;
use super::store::check_shelf;
use crate::config;
use rustix::fs::{FlockOperation, OFlags};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

/// What the directories of processes begin with.
const PREFIX: &str = "ringway-";
/// What a file system makes by itself.
const NOT_FOREIGN: &[&str] = &["lost+found"];

/// Why a spool cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("spool: {}: {what}", dir.display())]
pub struct SpoolError {
    dir: PathBuf,
    what: String,
    /// It is not there: elsewhere it may be.
    pub is_missing: bool,
}

impl SpoolError {
    pub(super) fn new(dir: &Path, what: impl ToString) -> Self {
        Self { dir: dir.to_owned(), what: what.to_string(), is_missing: false }
    }

    pub(super) fn missing(dir: &Path, what: impl ToString) -> Self {
        Self { is_missing: true, ..Self::new(dir, what) }
    }
}

/// The directory of one process, locked.
#[derive(Debug)]
pub struct Shelf {
    pub path: PathBuf,
    /// Held until it is dropped.
    _lock: File,
}

/// Looks whether the directory can be used; makes it where that is wanted.
///
/// # Errors
/// When it is missing, no directory, somebody else's, open to others, or holds what is not ours.
pub fn check(dir: &Path, creates: bool) -> Result<(), SpoolError> {
    let wrong = |what: String| Err(SpoolError::new(dir, what));
    let meta = match fs::symlink_metadata(dir) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound && creates => {
            make(dir).map_err(|error| SpoolError::new(dir, format!("cannot be made: {error}")))?;
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let help = format!("make it with `install -d -m 0700 {}`, or set `create: true`", dir.display());
            return Err(SpoolError::missing(dir, format!("there is no such directory ({help})")));
        }
        Err(error) => return wrong(error.to_string()),
    };
    if !meta.is_dir() {
        return wrong("this is no directory".to_owned());
    }
    let stat = rustix::fs::stat(dir).map_err(|error| SpoolError::new(dir, io::Error::from(error)))?;
    let own = rustix::process::geteuid();
    if stat.st_uid != own.as_raw() {
        return wrong(format!("it belongs to user {}, not to us, {}", stat.st_uid, own.as_raw()));
    }
    if stat.st_mode & 0o022 != 0 {
        return wrong(format!(
            "others may write in it (mode {:04o}); `chmod 0700 {}`",
            stat.st_mode & 0o7777,
            dir.display()
        ));
    }
    foreign(dir)
}

/// What would keep a spool from being opened. Nothing is changed, and nothing made.
///
/// # Errors
/// As [`check`]; or when something in it, or what is where the feed should be, is not ours or newer than we are.
pub fn look(config: &config::Spool) -> Result<(), SpoolError> {
    let dir = &config.dir;
    let is_to_be_made = config.creates_dir && !dir.exists();
    if is_to_be_made {
        let parent = dir.parent().unwrap_or(Path::new("/"));
        if !parent.is_dir() {
            let what = format!("cannot be made: {} is not there", parent.display());
            return Err(SpoolError::missing(dir, what));
        }
    } else {
        check(dir, false)?;
        for path in shelves(dir).map_err(|error| SpoolError::new(dir, error))? {
            check_shelf(&Directory::new(&path)).map_err(|error| SpoolError::new(&path, error))?;
        }
    }
    config.asynclog.as_ref().map_or(Ok(()), check_asynclog)?;
    config.feed.as_ref().map_or(Ok(()), |feed| feed::check(&feed.file))
}

/// Whatever is in it is the business of those who read it.
pub(super) fn check_asynclog(config: &config::Asynclog) -> Result<(), SpoolError> {
    match fs::metadata(&config.dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(SpoolError::new(&config.dir, "this is no directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SpoolError::missing(&config.dir, "there is no such directory"))
        }
        Err(error) => Err(SpoolError::new(&config.dir, error)),
    }
}

/// Complains of the first thing that is not ours.
fn foreign(dir: &Path) -> Result<(), SpoolError> {
    let failed = |error: io::Error| SpoolError::new(dir, error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_dir = entry.file_type().map_err(failed)?.is_dir();
        let is_ours = is_dir && name.starts_with(PREFIX);
        if !is_ours && !NOT_FOREIGN.contains(&name.as_str()) {
            let is_mcrouters = is_dir && name.len() > 12 && name.as_bytes().get(8) == Some(&b'T');
            let help = if is_mcrouters { " (mcrouter's? `ringway spool import` reads that)" } else { "" };
            let name = name.escape_debug();
            return Err(SpoolError::new(
                dir,
                format!("`{name}` in it is not ours{help}; nothing was changed"),
            ));
        }
    }
    Ok(())
}

fn make(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    // without the name in its parent there is nothing to find
    dir.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// The directories of processes that have ended, locked for us.
///
/// # Errors
/// When the directory cannot be read.
pub fn abandoned(dir: &Path) -> io::Result<Vec<Shelf>> {
    let mut found = Vec::new();
    for path in shelves(dir)? {
        found.extend(lock(&path)?);
    }
    Ok(found)
}

/// The directories of all processes.
///
/// # Errors
/// When the directory cannot be read.
pub fn shelves(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name().to_string_lossy().starts_with(PREFIX) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A new one.
///
/// # Errors
/// When it cannot be made.
pub fn new_shelf(dir: &Path) -> io::Result<Shelf> {
    loop {
        let path = dir.join(format!("{PREFIX}{:016x}", RandomState::new().hash_one(std::process::id())));
        make(&path)?;
        if let Some(shelf) = lock(&path)? {
            return Ok(shelf);
        }
        // somebody took it for abandoned in that moment
    }
}

/// `None`: somebody else has it, or it has just been removed.
fn lock(path: &Path) -> io::Result<Option<Shelf>> {
    let file = match open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    // whoever had it before may have removed it between the two
    let (held, there) = (rustix::fs::fstat(&file)?, rustix::fs::stat(path));
    let is_there = there.is_ok_and(|there| there.st_ino == held.st_ino && there.st_dev == held.st_dev);
    Ok(is_there.then(|| Shelf { path: path.to_owned(), _lock: file }))
}

/// Whether a process has it now.
#[must_use]
pub fn is_in_use(path: &Path) -> bool {
    matches!(lock(path), Ok(None)) && path.exists()
}

impl Shelf {
    /// Removes it, if nothing is in it.
    pub fn remove_if_empty(&self) {
        // One that holds something stays, which is what is wanted.
        let _ = fs::remove_dir(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringway-home-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path); // of a test that was killed
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_told_of_and_left_alone() {
        let scratch = Scratch::new("check");
        let said = |dir: &Path| check(dir, false).unwrap_err().to_string();
        assert!(check(&scratch.0, false).is_ok());
        let missing = scratch.0.join("missing");
        assert!(said(&missing).contains("there is no such directory (make it with `install -d -m 0700"));
        fs::write(scratch.0.join("notes.txt"), "mine").unwrap();
        assert!(said(&scratch.0).ends_with("`notes.txt` in it is not ours; nothing was changed"));
        assert!(said(&scratch.0.join("notes.txt")).ends_with("this is no directory"));
        fs::remove_file(scratch.0.join("notes.txt")).unwrap();
        fs::create_dir(scratch.0.join("20261121T09-1795251600")).unwrap();
        assert!(said(&scratch.0).contains("`ringway spool import` reads that"));
        fs::remove_dir(scratch.0.join("20261121T09-1795251600")).unwrap();
        fs::create_dir(scratch.0.join("lost+found")).unwrap();
        assert!(check(&scratch.0, false).is_ok());
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(said(&scratch.0).contains("others may write in it (mode 0777)"));
        std::os::unix::fs::symlink(&scratch.0, &missing).unwrap();
        assert!(said(&missing).ends_with("this is no directory"), "a link is not followed");
    }

    #[test]
    fn it_is_made_for_us_alone_where_that_is_wanted() {
        let scratch = Scratch::new("make");
        let dir = scratch.0.join("spool");
        check(&dir, true).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn what_a_process_has_nobody_else_takes() {
        let scratch = Scratch::new("shelves");
        let shelf = new_shelf(&scratch.0).unwrap();
        assert!(is_in_use(&shelf.path) && abandoned(&scratch.0).unwrap().is_empty());
        let path = shelf.path.clone();
        drop(shelf);
        let taken = abandoned(&scratch.0).unwrap();
        assert_eq!(taken[0].path, path);
        taken[0].remove_if_empty();
        assert!(!path.exists());
    }
}
