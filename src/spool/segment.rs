//! One file of a spool: its name, its first bytes, and how it is read.
//!
//! `NUMBER-SALT.spool`, both in hexadecimal: the number is less than that of any delete in the file, and the salt begins its
//! checksums. The first 32 bytes say what the file is; a file in which they are broken is read nevertheless. So is one that a
//! disk gives back in parts only: what is not given is passed by.

use super::disk::Disk;
use super::entry::{BODY_BYTES_MAX, Entry, Found, HEAD_BYTES, next};
use crate::stats::LogRate;
use rustix::io::Errno;
use std::io;

/// The version that is written; a file of a later one is left alone.
const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"RWSPOOL\n";
pub(super) const HEADER_BYTES: usize = 32;
/// Read at once: several of the largest entries.
const CHUNK_BYTES: usize = 256 << 10;
/// Passed by where a file cannot be read: what systems read at least.
const BLOCK_BYTES: u64 = 4 << 10;
const ENTRY_BYTES_MAX: usize = HEAD_BYTES + BODY_BYTES_MAX;

/// A segment by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentId {
    pub(super) number: u64,
    pub(super) salt: u32,
}

impl SegmentId {
    #[must_use]
    pub(super) fn name(self) -> String {
        format!("{:016x}-{:08x}.spool", self.number, self.salt)
    }

    /// `None`: it is not the name of a segment.
    #[must_use]
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (number, salt) = name.strip_suffix(".spool")?.split_once('-')?;
        let id =
            Self { number: u64::from_str_radix(number, 16).ok()?, salt: u32::from_str_radix(salt, 16).ok()? };
        (id.name() == name).then_some(id)
    }

    /// The first bytes of its file.
    pub(super) fn header(self, time_ms: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_le_bytes());
        header[12..20].copy_from_slice(&self.number.to_le_bytes());
        header[20..28].copy_from_slice(&time_ms.to_le_bytes());
        let crc = crc32fast::hash(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Sound,
    /// Too few, or not as they were written.
    Broken,
    /// Of a version that is not known here.
    Newer(u16),
}

pub(super) fn read_header(bytes: &[u8]) -> Header {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Header::Broken };
    let crc = crc32fast::hash(&header[..28]).to_le_bytes();
    if !header.starts_with(MAGIC) || header[28..] != crc {
        return Header::Broken;
    }
    match u16::from_le_bytes([header[8], header[9]]) {
        VERSION => Header::Sound,
        version => Header::Newer(version),
    }
}

/// What the first bytes of this file say. Those that cannot be read are broken ones.
pub(super) fn header_of(disk: &dyn Disk, name: &str) -> io::Result<Header> {
    match disk.read(name, 0, HEADER_BYTES) {
        Ok(bytes) => Ok(read_header(&bytes)),
        Err(error) if is_lost(&error) => Ok(Header::Broken),
        Err(error) => Err(error),
    }
}

/// Whether it will be no better the next time: a broken sector, or a file that is gone. All else (no more files may be open,
/// say) is no reason to give up what is there.
fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Reads a file from somewhere on, entry by entry.
pub(super) struct Reading<'a> {
    disk: &'a dyn Disk,
    id: SegmentId,
    name: String,
    chunk: Vec<u8>,
    /// Of the chunk, in the file.
    chunk_start: u64,
    /// Of what comes next, in the chunk.
    at: usize,
    /// There is nothing behind the chunk.
    is_last: bool,
    pub(super) broken_bytes: u64,
    /// A part of the file cannot be read, or all of it is gone.
    pub(super) is_hurt: bool,
}

impl<'a> Reading<'a> {
    /// From the first entry on.
    pub(super) fn whole(disk: &'a dyn Disk, id: SegmentId) -> Self {
        Self::from(disk, id, HEADER_BYTES as u64)
    }

    /// From `offset`, where an entry begins.
    pub(super) fn from(disk: &'a dyn Disk, id: SegmentId, offset: u64) -> Self {
        let (name, chunk_start, chunk) = (id.name(), offset, Vec::new());
        let (is_last, is_hurt) = (false, false);
        Self { disk, id, name, chunk, chunk_start, at: 0, is_last, broken_bytes: 0, is_hurt }
    }

    /// Where the next entry begins.
    pub(super) fn offset(&self) -> u64 {
        self.chunk_start + self.at as u64
    }

    /// The next entry; `None` at the end of the file, also of one that is gone.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            match next(&self.chunk, self.id.salt, self.at) {
                Found::Entry(entry, end) => {
                    self.at = end;
                    return Ok(Some(entry));
                }
                Found::Broken(end) => {
                    self.broken_bytes += (end - self.at) as u64;
                    self.at = end;
                }
                Found::Rest if self.is_last => {
                    self.broken_bytes += (self.chunk.len() - self.at) as u64;
                    self.at = self.chunk.len();
                    return Ok(None);
                }
                Found::Rest => self.read_on()?,
            }
        }
    }

    fn read_on(&mut self) -> io::Result<()> {
        let left = self.chunk.len() - self.at;
        if left >= ENTRY_BYTES_MAX {
            // no entry is as long as this: one that begins further on may be
            let passed = left + 1 - ENTRY_BYTES_MAX;
            self.broken_bytes += passed as u64;
            self.at += passed;
        }
        self.chunk_start += self.at as u64;
        self.at = 0;
        self.chunk = match self.disk.read(&self.name, self.chunk_start, CHUNK_BYTES) {
            Ok(chunk) => chunk,
            Err(error) if is_lost(&error) => self.read_around()?,
            Err(error) => return Err(error),
        };
        self.is_last = self.chunk.len() < CHUNK_BYTES;
        Ok(())
    }

    /// Reads a chunk block by block. One that cannot be read is as good as zeros: nothing in them is an entry.
    #[cold]
    fn read_around(&mut self) -> io::Result<Vec<u8>> {
        // where the file ends, reads that fail do not tell
        let size = self.size()?;
        let end = size.unwrap_or(0).min(self.chunk_start + CHUNK_BYTES as u64);
        let (mut chunk, mut at, mut unread_bytes) = (Vec::new(), self.chunk_start, 0);
        while at < end {
            let bytes = (BLOCK_BYTES - at % BLOCK_BYTES).min(end - at);
            match self.disk.read(&self.name, at, bytes as usize) {
                Ok(read) => chunk.extend(read),
                Err(error) if is_lost(&error) => unread_bytes += bytes,
                Err(error) => return Err(error),
            }
            at += bytes;
            chunk.resize((at - self.chunk_start) as usize, 0);
        }
        self.is_hurt |= unread_bytes > 0 || size.is_none();
        static TOLD: LogRate = LogRate::new();
        if unread_bytes > 0 && TOLD.may_log() {
            tracing::error!(unread_bytes, "{} of the spool cannot be read as a whole", self.name);
        }
        Ok(chunk)
    }

    /// Of the file; `None`: it is gone.
    fn size(&self) -> io::Result<Option<u64>> {
        match self.disk.list() {
            Ok(files) => Ok(files.into_iter().find(|(name, _)| *name == self.name).map(|(_, bytes)| bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Delete, write_delete};
    use super::super::power::Power;
    use super::*;

    #[test]
    fn names() {
        let id = SegmentId { number: 0x12, salt: 0xdead_beef };
        assert_eq!(id.name(), "0000000000000012-deadbeef.spool");
        assert_eq!(SegmentId::parse(&id.name()), Some(id));
        for foreign in ["12-deadbeef.spool", "0000000000000012-DEADBEEF.spool", "lock", "a.spool", ""] {
            assert_eq!(SegmentId::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn headers() {
        let header = SegmentId { number: 1, salt: 2 }.header(3);
        assert_eq!(read_header(&header), Header::Sound);
        assert_eq!(read_header(&header[..31]), Header::Broken);
        let mut newer = header;
        newer[8] = 9;
        assert_eq!(read_header(&newer), Header::Broken);
        let crc = crc32fast::hash(&newer[..28]).to_le_bytes();
        newer[28..].copy_from_slice(&crc);
        assert_eq!(read_header(&newer), Header::Newer(9));
    }

    #[test]
    fn entries_beyond_a_chunk_and_behind_rubbish_are_found() {
        let id = SegmentId { number: 0, salt: 7 };
        let (disk, mut bytes) = (Power::default(), id.header(0).to_vec());
        let entry = |number: u64| {
            let key = vec![b'k'; usize::try_from(number * 13 % 60_000).unwrap()];
            Delete { number, time_ms: 0, pool: "p".into(), address: "a".into(), key }
        };
        for number in 0..100 {
            assert!(write_delete(&entry(number), id.salt, &mut bytes));
            if number == 50 {
                bytes.extend(vec![0xa5; 3 * CHUNK_BYTES]);
            }
        }
        disk.put(&id.name(), &bytes);
        let mut reading = Reading::whole(&disk, id);
        for number in 0..100 {
            assert_eq!(reading.next().unwrap(), Some(Entry::Delete(entry(number))));
        }
        assert_eq!(reading.next().unwrap(), None);
        assert_eq!(reading.broken_bytes, 3 * CHUNK_BYTES as u64);
    }

    #[test]
    fn a_sector_that_cannot_be_read_costs_the_entries_that_it_hits() {
        let id = SegmentId { number: 0, salt: 7 };
        let (mut bytes, mut entries) = (id.header(0).to_vec(), Vec::new());
        for number in 0..3_000 {
            let (pool, address, key) = ("p".into(), "a".into(), vec![b'k'; 100]);
            let delete = Delete { number, time_ms: 0, pool, address, key };
            let start = bytes.len();
            assert!(write_delete(&delete, id.salt, &mut bytes));
            entries.push((start..bytes.len(), Entry::Delete(delete)));
        }
        assert!(bytes.len() > CHUNK_BYTES + 10_000);
        for at in [0, 5_000, CHUNK_BYTES - 1, CHUNK_BYTES + 7, bytes.len() - 1] {
            let disk = Power::default();
            disk.put(&id.name(), &bytes);
            disk.spoil(&id.name(), at as u64);
            assert_eq!(header_of(&disk, &id.name()).unwrap() == Header::Broken, at == 0);
            let block = BLOCK_BYTES as usize;
            let hit = at / block * block..at / block * block + block;
            let mut whole =
                entries.iter().filter(|(range, _)| range.end <= hit.start || range.start >= hit.end);
            let mut reading = Reading::whole(&disk, id);
            while let Some(entry) = reading.next().unwrap() {
                assert_eq!(Some(&entry), whole.next().map(|(_, entry)| entry), "broken at {at}");
            }
            assert!(whole.next().is_none() && reading.is_hurt, "broken at {at}");
            assert!((1..block as u64 + 400).contains(&reading.broken_bytes), "broken at {at}");
        }
    }

    #[test]
    fn a_file_that_is_gone_has_no_entries() {
        let (disk, id) = (Power::default(), SegmentId { number: 0, salt: 7 });
        let mut reading = Reading::whole(&disk, id);
        assert_eq!(reading.next().unwrap(), None);
        assert!(reading.is_hurt && header_of(&disk, &id.name()).unwrap() == Header::Broken);
    }
}
