//! What a spool needs of a file system: one directory, files that only grow, and a word when something is safe.
//!
//! The system's own is behind it, or in tests one in memory that loses power whenever it likes (`power.rs`).

use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One directory.
pub trait Disk: Send + Sync {
    /// Files and their sizes.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// At most so many bytes from there; fewer at the end of the file.
    fn read(&self, name: &str, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>>;

    /// A new, empty file. It is safe in the directory after [`Self::sync`].
    fn create(&self, name: &str) -> io::Result<Arc<dyn Growing>>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// What was created and removed is safe.
    fn sync(&self) -> io::Result<()>;
}

/// A file that only grows.
pub trait Growing: Send + Sync {
    /// All of it, or an error; then a part of it may be there.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// What was appended is safe.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the system's.
pub struct Directory(PathBuf);

impl Directory {
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

/// Opens without following a link, for us alone.
pub(super) fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_file() {
                found.push((entry.file_name().to_string_lossy().into_owned(), meta.len()));
            }
        }
        Ok(found)
    }

    fn read(&self, name: &str, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut file = open(&self.0.join(name), OFlags::RDONLY)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Growing>> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND;
        Ok(Arc::new(SystemFile(open(&self.0.join(name), flags)?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

struct SystemFile(File);

impl Growing for SystemFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
