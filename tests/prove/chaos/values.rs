//! What every key holds, and which versions of it may be read.
//!
//! A key has one writer, everybody reads it. The writer numbers its sets; a value carries its key's number and its
//! version, and the rest of it is a piece of a fixed table at a place that follows from both: a value is checked by one
//! comparison, and no byte of another value passes for it.

use crate::support::Random;
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Most values are small; so many keys hold one that is passed on without copying.
const LARGE_ONE_IN: usize = 400;
/// Longer than the largest value, twice.
const TABLE_BYTES: usize = 256 * 1024;
/// The key's number and the version.
const HEAD_BYTES: usize = 12;

pub(super) struct Keys {
    all: Vec<Key>,
    /// Those with large values.
    pub(super) large: Vec<usize>,
    table: Vec<u8>,
    /// Versions whose sets were answered with an error or not at all: the server may have them, or get them late.
    doubtful: Mutex<HashMap<u32, Vec<u32>>>,
    /// For each server how often it lost its memory.
    lives: Vec<AtomicU32>,
}

pub(super) struct Key {
    pub(super) text: Vec<u8>,
    /// The server that has it; learnt from the servers themselves.
    pub(super) server: usize,
    bytes_max: usize,
    /// The last version that was sent.
    issued: AtomicU32,
    /// The last version that was acknowledged, and above it in which life of its server.
    acked: AtomicU64,
}

/// Why a value, or a miss, is wrong.
pub(super) enum Fault {
    /// Of another key, torn, or never written.
    NotOurs,
    /// Never sent so far.
    FromTheFuture,
    /// Older than one that was acknowledged before it was asked for.
    Stale { version: u32, floor: u32 },
    /// Acknowledged by a server that kept its memory ever since.
    Lost,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => write!(f, "of another key, torn, or never written"),
            Self::FromTheFuture => write!(f, "a version that was not sent yet"),
            Self::Stale { version, floor } => {
                write!(f, "version {version}, but {floor} was acknowledged before")
            }
            Self::Lost => write!(f, "acknowledged, and not there"),
        }
    }
}

/// What was known of a key when it was asked for.
#[derive(Clone, Copy)]
pub(super) struct Floor {
    version: u32,
    life: u32,
}

impl Keys {
    pub(super) fn new(count: usize, servers: usize, random: &mut Random) -> Self {
        let all = (0..count).map(|number| Key::new(number, random)).collect();
        Self {
            large: (0..count).filter(|number| is_large(*number)).collect(),
            all,
            table: table(random),
            doubtful: Mutex::default(),
            lives: (0..servers).map(|_| AtomicU32::new(1)).collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn key(&self, number: usize) -> &Key {
        &self.all[number]
    }

    /// Who has which key is asked of the servers, not of the program's own hashing.
    pub(super) fn settle(&mut self, number: usize, server: usize) {
        self.all[number].server = server;
    }

    /// The server is about to lose its memory.
    pub(super) fn on_death(&self, server: usize) {
        self.lives[server].fetch_add(1, Ordering::SeqCst);
    }

    /// The next version of a key, written as a command; which it is, and the life in which it is sent.
    pub(super) fn write_set(&self, number: usize, is_meta: bool, out: &mut Vec<u8>) -> (u32, u32) {
        let key = &self.all[number];
        let version = key.issued.fetch_add(1, Ordering::SeqCst) + 1;
        let life = self.lives[key.server].load(Ordering::SeqCst);
        let length = key.value_bytes(version);
        let flags = flags(version);
        if is_meta {
            out.extend_from_slice(b"ms ");
            out.extend_from_slice(&key.text);
            out.extend_from_slice(format!(" {length} F{flags}\r\n").as_bytes());
        } else {
            out.extend_from_slice(b"set ");
            out.extend_from_slice(&key.text);
            out.extend_from_slice(format!(" {flags} 0 {length}\r\n").as_bytes());
        }
        out.extend_from_slice(&(number as u64).to_le_bytes());
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(self.filler(number, version, length - HEAD_BYTES));
        out.extend_from_slice(b"\r\n");
        (version, life)
    }

    pub(super) fn on_stored(&self, number: usize, version: u32, life: u32) {
        // one writer, and its acknowledgements come in order
        self.all[number].acked.store(u64::from(life) << 32 | u64::from(version), Ordering::SeqCst);
    }

    pub(super) fn on_doubt(&self, number: usize, version: u32) {
        let number = u32::try_from(number).unwrap();
        self.doubtful.lock().unwrap().entry(number).or_default().push(version);
    }

    pub(super) fn floor(&self, number: usize) -> Floor {
        let acked = self.all[number].acked.load(Ordering::SeqCst);
        Floor { version: acked as u32, life: (acked >> 32) as u32 }
    }

    /// Looks at a value that was read for this key.
    pub(super) fn check(
        &self,
        number: usize,
        floor: Floor,
        flags_read: u32,
        data: &[u8],
    ) -> Result<(), Fault> {
        let Some((head, filler)) = data.split_at_checked(HEAD_BYTES) else { return Err(Fault::NotOurs) };
        let (owner, version) = head.split_at(8);
        let owner = u64::from_le_bytes(owner.try_into().unwrap());
        let version = u32::from_le_bytes(version.try_into().unwrap());
        let key = &self.all[number];
        if owner != number as u64
            || flags_read != flags(version)
            || data.len() != key.value_bytes(version)
            || filler != self.filler(number, version, filler.len())
        {
            return Err(Fault::NotOurs);
        }
        if version > key.issued.load(Ordering::SeqCst) {
            return Err(Fault::FromTheFuture);
        }
        if version < floor.version && !self.is_doubtful(number, version) {
            return Err(Fault::Stale { version, floor: floor.version });
        }
        Ok(())
    }

    /// Looks at a miss.
    pub(super) fn check_miss(&self, number: usize, floor: Floor) -> Result<(), Fault> {
        let life = self.lives[self.all[number].server].load(Ordering::SeqCst);
        if floor.version > 0 && floor.life == life { Err(Fault::Lost) } else { Ok(()) }
    }

    pub(super) fn doubtful_count(&self) -> usize {
        self.doubtful.lock().unwrap().values().map(Vec::len).sum()
    }

    fn is_doubtful(&self, number: usize, version: u32) -> bool {
        let number = u32::try_from(number).unwrap();
        self.doubtful.lock().unwrap().get(&number).is_some_and(|versions| versions.contains(&version))
    }

    fn filler(&self, number: usize, version: u32, length: usize) -> &[u8] {
        let place = mixed(number as u64, version) % (TABLE_BYTES / 2) as u64;
        &self.table[usize::try_from(place).unwrap()..][..length]
    }
}

impl Key {
    fn new(number: usize, random: &mut Random) -> Self {
        let mut text = format!("chaos:{number}:").into_bytes();
        // some keys are as long as memcached allows
        let length = if random.one_in(50) { 250 } else { text.len() + random.below(24) };
        text.resize(length, b'x');
        let bytes_max = if is_large(number) {
            100_000
        } else if random.one_in(10) {
            1_000
        } else {
            100
        };
        let (issued, acked) = (AtomicU32::new(0), AtomicU64::new(0));
        Self { text, server: 0, bytes_max, issued, acked }
    }

    /// Every version has a length of its own.
    fn value_bytes(&self, version: u32) -> usize {
        let span = (self.bytes_max - self.bytes_max / 2) as u64;
        HEAD_BYTES
            + self.bytes_max / 2
            + usize::try_from(mixed(self.text.len() as u64, version) % span).unwrap()
    }
}

const fn is_large(number: usize) -> bool {
    number % LARGE_ONE_IN == 7
}

const fn flags(version: u32) -> u32 {
    version & 0xffff
}

fn mixed(number: u64, version: u32) -> u64 {
    Random::new(number << 32 ^ version as u64).any()
}

/// Random bytes, and among them what a reader that lost its place would take for the protocol.
fn table(random: &mut Random) -> Vec<u8> {
    const TRAPS: &[&[u8]] = &[
        b"\r\nEND\r\n",
        b"\r\nVALUE chaos:1:x 0 5\r\nhello\r\nEND\r\n",
        b"\r\nSTORED\r\n",
        b"\r\nEN\r\n",
        b"\r\nHD\r\n",
    ];
    let mut table = Vec::with_capacity(TABLE_BYTES);
    while table.len() < TABLE_BYTES {
        if random.one_in(8) {
            table.extend_from_slice(random.of(TRAPS));
        }
        table.extend_from_slice(&random.any().to_le_bytes());
    }
    table
}
