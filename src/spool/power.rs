//! A disk in memory for tests: it fails when it is told to, parts of it cannot be read, and its power can be cut at any moment.
//!
//! What was appended and not synced may be there after a cut, or a part of it, up to any multiple of a sector; a file whose
//! directory was not synced may be gone, one whose removal was not synced may be back. A seed decides which.

use super::disk::{Disk, Growing};
use crate::sync::Lock;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

const SECTOR_BYTES: usize = 512;
/// What a system reads at least.
const PAGE_BYTES: u64 = 4_096;

/// A directory in memory.
#[derive(Clone, Default)]
pub struct Power(Arc<Lock<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, File>,
    /// Names that a cut does not change.
    safe_names: Vec<String>,
    calls_count: u64,
    fails_at: Option<(u64, Fails)>,
    /// What is appended can never be made safe.
    fails_syncs: bool,
    /// Set by [`Fails::Off`].
    is_off: bool,
}

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    safe_bytes: usize,
    /// Pages that cannot be read.
    spoiled: Vec<u64>,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// Half of it is done, the rest fails for want of room.
    Full,
    /// It fails.
    Broken,
    /// The power is cut before it: it and all that come later fail.
    Off,
}

impl Power {
    /// Calls that changed something, or were to.
    #[must_use]
    pub fn calls_count(&self) -> u64 {
        self.0.lock().calls_count
    }

    /// The call of this number fails.
    pub fn fail_at(&self, call: u64, how: Fails) {
        self.0.lock().fails_at = Some((call, how));
    }

    /// From now on nothing that is appended can be made safe.
    pub fn fail_syncs(&self) {
        self.0.lock().fails_syncs = true;
    }

    /// The disk as it may be found when the power is back.
    #[must_use]
    pub fn after_cut(&self, mut random: impl FnMut() -> u64) -> Self {
        let state = self.0.lock();
        let mut found = State::default();
        for (name, file) in &state.files {
            if !state.safe_names.contains(name) && random().is_multiple_of(2) {
                continue;
            }
            let loose_bytes = file.bytes.len() - file.safe_bytes;
            let kept = match random() % 3 {
                0 => 0,
                1 => loose_bytes,
                _ => usize::try_from(random()).unwrap_or(0) % (loose_bytes + 1) / SECTOR_BYTES * SECTOR_BYTES,
            };
            let mut bytes = file.bytes[..file.safe_bytes + kept].to_vec();
            if random().is_multiple_of(4) {
                // some file systems know the new length before they have the bytes
                bytes.resize(file.bytes.len(), 0);
            }
            let safe_bytes = bytes.len();
            found.files.insert(name.clone(), File { bytes, safe_bytes, ..File::default() });
        }
        found.safe_names = found.files.keys().cloned().collect();
        Self(Arc::new(Lock::new(found)))
    }

    /// The bytes of every file.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().files.iter().map(|(name, file)| (name.clone(), file.bytes.clone())).collect()
    }

    /// Puts a file there, safely.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.0.lock();
        let file = File { bytes: bytes.to_vec(), safe_bytes: bytes.len(), ..File::default() };
        state.files.insert(name.to_owned(), file);
        state.safe_names.push(name.to_owned());
    }

    /// From now on the page with this byte of a file cannot be read.
    pub fn spoil(&self, name: &str, at: u64) {
        if let Some(file) = self.0.lock().files.get_mut(name) {
            file.spoiled.push(at / PAGE_BYTES);
        }
    }
}

impl State {
    /// One more call; how it fails, if it does.
    fn call(&mut self) -> Result<(), Fails> {
        let call = self.calls_count;
        self.calls_count += 1;
        if self.is_off {
            return Err(Fails::Off);
        }
        match self.fails_at {
            Some((at, how)) if at == call => {
                self.is_off = how == Fails::Off;
                Err(how)
            }
            _ => Ok(()),
        }
    }
}

fn failure(how: Fails) -> io::Error {
    match how {
        Fails::Full => io::ErrorKind::StorageFull.into(),
        Fails::Broken | Fails::Off => rustix::io::Errno::IO.into(),
    }
}

impl Disk for Power {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.0.lock();
        Ok(state.files.iter().map(|(name, file)| (name.clone(), file.bytes.len() as u64)).collect())
    }

    fn read(&self, name: &str, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let state = self.0.lock();
        let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.bytes.len());
        let end = start.saturating_add(bytes_max).min(file.bytes.len());
        let is_in = |page: &u64| (start as u64) < (page + 1) * PAGE_BYTES && end as u64 > page * PAGE_BYTES;
        if file.spoiled.iter().any(is_in) {
            return Err(rustix::io::Errno::IO.into());
        }
        Ok(file.bytes[start..end].to_vec())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Growing>> {
        let mut state = self.0.lock();
        state.call().map_err(failure)?;
        if state.files.insert(name.to_owned(), File::default()).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(Arc::new(PowerFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call().map_err(failure)?;
        state.files.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call().map_err(failure)?;
        state.safe_names = state.files.keys().cloned().collect();
        Ok(())
    }
}

struct PowerFile {
    disk: Power,
    name: String,
}

impl Growing for PowerFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let called = state.call();
        // one that was removed can still be written, and nobody sees it
        let Some(file) = state.files.get_mut(&self.name) else { return called.map_err(failure) };
        match called {
            Ok(()) => file.bytes.extend_from_slice(bytes),
            Err(Fails::Full) => file.bytes.extend_from_slice(&bytes[..bytes.len() / 2]),
            Err(_) => {}
        }
        called.map_err(failure)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.call().map_err(failure)?;
        if state.fails_syncs {
            return Err(failure(Fails::Broken));
        }
        if let Some(file) = state.files.get_mut(&self.name) {
            file.safe_bytes = file.bytes.len();
        }
        Ok(())
    }
}
