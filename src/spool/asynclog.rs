//! mcrouter's files, written: below its directory, a new one each quarter of an hour, for programs that read them.

use super::entry::Delete;
use super::mcrouter::{Version, file_of, write_line};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Lines of one write.
const BUFFER_BYTES: usize = 65_536;

/// The files below one directory.
pub struct Asynclog {
    dir: PathBuf,
    version: Version,
    /// Of directories and files, before the umask.
    modes: (u32, u32),
    /// Where below the directory the lines belong.
    name: String,
    file: Option<File>,
    lines: Vec<u8>,
}

impl Asynclog {
    /// For us alone.
    #[must_use]
    pub fn private(dir: &Path, version: Version) -> Self {
        let (name, lines) = (String::new(), Vec::new());
        Self { dir: dir.to_owned(), version, modes: (0o700, 0o600), name, file: None, lines }
    }

    /// As mcrouter makes them: for whom the umask says.
    #[must_use]
    pub fn shared(dir: &Path, version: Version) -> Self {
        Self { modes: (0o777, 0o666), ..Self::private(dir, version) }
    }

    /// Writes a delete, now or with [`Self::flush`].
    ///
    /// # Errors
    /// When the files cannot be written; then nothing waits any more.
    pub fn write(&mut self, delete: &Delete) -> io::Result<()> {
        let name = file_of(delete.time_ms);
        if self.name != name {
            self.flush()?;
            self.name = name;
            self.file = None;
        }
        self.lines.extend(write_line(delete, self.version));
        if self.lines.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// All of it is given to the system.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn flush(&mut self) -> io::Result<()> {
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return Ok(());
        }
        // who has read it may have removed it
        let is_there = |file: &File| file.metadata().is_ok_and(|meta| meta.nlink() > 0);
        let mut file = match self.file.take().filter(is_there) {
            Some(file) => file,
            None => self.open()?,
        };
        file.write_all(&lines)?;
        self.file = Some(file);
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        let path = self.dir.join(&self.name);
        let folder = path.parent().unwrap_or(&self.dir);
        DirBuilder::new().recursive(true).mode(self.modes.0).create(folder)?;
        OpenOptions::new().append(true).create(true).mode(self.modes.1).open(&path)
    }
}
