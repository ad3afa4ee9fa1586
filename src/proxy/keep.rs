//! Keeping a configuration that serves, for a start at which it is wrong.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes it in one step: at any moment there is the one before or this one, whole. A failure costs nothing but this.
pub(super) fn keep(path: &Path, text: &str) {
    match write(path, text) {
        Ok(()) => tracing::debug!("kept as the last good configuration: {}", path.display()),
        Err(error) => tracing::warn!("the configuration is not kept in {}: {error}", path.display()),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // Left by a process that was killed just then; nothing is written into a file that somebody else has put there.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_whole_and_nobody_elses() {
        let folder = std::env::temp_dir().join(format!("ringway-keep-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("last-good");
        fs::write(folder.join("last-good.new"), "half").unwrap();
        for text in ["one", "two"] {
            write(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(write(&folder.join("none/last-good"), "x").is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
