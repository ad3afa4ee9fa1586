//! Deletes told to one server by a verb of the command line: some hundreds are sent, then their answers are read.

use crate::protocol::Request;
use crate::protocol::{WireBuf, ascii, meta};
use crate::route::{with_delete, with_relayed};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longer than a server that is there needs for a few hundred deletes.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Deletes that are sent before their answers are read.
pub(super) const UNDER_WAY_COUNT_MAX: usize = 512;
/// The longest answer to a delete.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// A connection.
pub(super) struct Courier(BufReader<Box<dyn Stream>>);

/// How deletes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// `delete`, where the key can be written so.
    Plain,
    /// `md` with a sign that it comes from a feed.
    Relayed,
}

/// What a server says to a delete.
pub(super) enum Answer {
    Done,
    /// It will never take it.
    Refused(String),
    /// It cannot, now.
    Error(String),
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Courier {
    pub(super) fn connect(address: &str) -> io::Result<Self> {
        if let Some(path) = address.strip_prefix("unix:") {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            return Ok(Self(BufReader::new(Box::new(stream))));
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    return Ok(Self(BufReader::new(Box::new(stream))));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends deletes of these keys, no more than [`UNDER_WAY_COUNT_MAX`]; each has an answer.
    pub(super) fn send<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>, words: Words) -> io::Result<()> {
        let mut out = WireBuf::new();
        let mut put = |request: &Request<'_>| match request.op.is_meta() {
            true => drop(meta::write_request(request, None, &mut out)),
            false => ascii::write_request(request, &mut out),
        };
        for key in keys {
            match words {
                Words::Plain => with_delete(key, &mut put),
                Words::Relayed => with_relayed(key, &mut put),
            }
        }
        self.0.get_mut().write_all(out.single().unwrap_or_default())
    }

    /// The answer to the next one.
    pub(super) fn answer(&mut self) -> io::Result<Answer> {
        let mut line = Vec::new();
        self.0.by_ref().take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let begins = |word: &&[u8]| line.starts_with(word);
        let text = || line.trim_ascii_end().escape_ascii().to_string();
        Ok(match () {
            () if [&b"DELETED"[..], b"NOT_FOUND", b"HD", b"NF"].iter().any(begins) => Answer::Done,
            () if line.starts_with(b"CLIENT_ERROR") => Answer::Refused(text()),
            () => Answer::Error(text()),
        })
    }
}
