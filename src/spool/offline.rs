//! A spool read from outside: what is in it, whole or broken, while its process runs or long after it has ended. Nothing is
//! changed.

use super::book::Book;
use super::disk::{Directory, Disk};
use super::entry::{Delete, Entry};
use super::home;
use super::segment::{HEADER_BYTES, Header, Reading, SegmentId, header_of};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What one process has written, or had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub path: PathBuf,
    /// A process has it now.
    pub is_in_use: bool,
    pub segments_count: usize,
    pub bytes: u64,
    /// Deletes, pending or not.
    pub deletes_count: u64,
    pub pending_count: u64,
    /// By server: how many, and when the oldest was written.
    pub servers: BTreeMap<String, (u64, u64)>,
    /// Files with bytes that are no entry, and how many.
    pub broken: Vec<(String, u64)>,
    /// What cannot be read at all, and why.
    pub unread: Vec<(String, String)>,
}

/// Reads all of a spool, and hands on each pending delete, in the order of each directory. `read_bytes` hears how much has been
/// read; a spool is read twice.
///
/// # Errors
/// When it cannot be read.
pub fn visit(
    dir: &Path,
    mut read_bytes: impl FnMut(u64),
    mut each: impl FnMut(&Delete) -> io::Result<()>,
) -> io::Result<Vec<Summary>> {
    home::shelves(dir)?.into_iter().map(|path| visit_one(path, &mut read_bytes, &mut each)).collect()
}

/// All bytes of a spool.
///
/// # Errors
/// When it cannot be read.
pub fn size_bytes(dir: &Path) -> io::Result<u64> {
    let of = |path: PathBuf| Ok(Directory::new(&path).list()?.iter().map(|(_, bytes)| bytes).sum::<u64>());
    home::shelves(dir)?.into_iter().map(of).sum()
}

fn visit_one(
    path: PathBuf,
    read_bytes: &mut impl FnMut(u64),
    each: &mut impl FnMut(&Delete) -> io::Result<()>,
) -> io::Result<Summary> {
    let disk = Directory::new(&path);
    let mut summary = Summary { is_in_use: home::is_in_use(&path), path, ..Summary::default() };
    let mut ids = Vec::new();
    for (name, bytes) in disk.list()? {
        summary.bytes += bytes;
        let Some(id) = SegmentId::parse(&name) else {
            summary.unread.push((name, "none of the spool's files".into()));
            continue;
        };
        match header_of(&disk, &name)? {
            Header::Newer(version) => summary.unread.push((name, format!("of a newer version, {version}"))),
            Header::Sound => ids.push(id),
            Header::Broken => {
                summary.broken.push((name, bytes.min(HEADER_BYTES as u64)));
                ids.push(id);
            }
        }
    }
    ids.sort();
    summary.segments_count = ids.len();
    let (book, mut done) = (Book::default(), Vec::new());
    for id in &ids {
        let mut reading = Reading::whole(&disk, *id);
        while let Some(entry) = next(&mut reading)? {
            match entry {
                Entry::Delete(delete) => {
                    summary.deletes_count += 1;
                    let owed = book.server(&delete.address);
                    owed.add(owed.hash(&delete.key), delete.number, delete.time_ms);
                }
                Entry::Done { numbers, .. } => done.extend(numbers),
            }
        }
        if reading.broken_bytes > 0 {
            summary.broken.push((id.name(), reading.broken_bytes));
        }
        read_bytes(reading.offset());
    }
    done.sort_unstable();
    for id in &ids {
        let mut reading = Reading::whole(&disk, *id);
        while let Some(entry) = next(&mut reading)? {
            let Entry::Delete(delete) = entry else { continue };
            let owed = book.server(&delete.address);
            let is_last = owed.number(owed.hash(&delete.key)) == Some(delete.number);
            if is_last && done.binary_search(&delete.number).is_err() {
                summary.pending_count += 1;
                let server = summary.servers.entry(delete.address.clone()).or_insert((0, delete.time_ms));
                *server = (server.0 + 1, server.1.min(delete.time_ms));
                each(&delete)?;
            }
        }
        read_bytes(reading.offset());
    }
    Ok(summary)
}

/// The next entry. A file that its process removes meanwhile has no more.
fn next(reading: &mut Reading<'_>) -> io::Result<Option<Entry>> {
    match reading.next() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other,
    }
}
