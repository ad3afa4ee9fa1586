//! One client: what it has asked, what it has still to write, and its place in the answer.

use super::data::Data;
use super::plan::Target;
use super::poller::{Poller, Watch};
use super::reply::{Reader, Step};
use super::request::{Asked, Shape};
use super::socket::Socket;
use super::tally::Tally;
use std::collections::VecDeque;
use std::io;

/// With this much unwritten nothing more is asked: the peer does not read.
const OUT_BYTES_MAX: usize = 256 * 1024;

/// A client of the target; without a socket it waits to be connected again.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its number, for the poller.
    index: usize,
    socket: Option<Socket>,
    watch: Watch,
    reader: Reader,
    /// Requests without an answer, oldest first.
    asked: VecDeque<Asked>,
    out: Vec<u8>,
    /// Bytes of `out` that the socket has taken.
    written: usize,
}

impl Connection {
    pub(super) fn open(index: usize, target: &Target, poller: &Poller) -> io::Result<Self> {
        let mut connection = Self {
            index,
            socket: None,
            watch: Watch::Readable,
            reader: Reader::default(),
            asked: VecDeque::new(),
            out: Vec::new(),
            written: 0,
        };
        connection.connect(target, poller)?;
        Ok(connection)
    }

    pub(super) fn connect(&mut self, target: &Target, poller: &Poller) -> io::Result<()> {
        let socket = Socket::connect(target)?;
        poller.add(&socket, self.index)?;
        self.socket = Some(socket);
        Ok(())
    }

    pub(super) const fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether one more request may be sent.
    pub(super) fn has_room(&self, pipeline_count: usize) -> bool {
        self.socket.is_some()
            && self.asked.len() < pipeline_count
            && self.out.len() - self.written < OUT_BYTES_MAX
    }

    /// Adds a request; it leaves with the next [`Self::flush`]. Whether it is the first to wait for that.
    pub(super) fn push(&mut self, asked: Asked, shape: &Shape, data: &Data) -> bool {
        let first = self.out.is_empty();
        shape.write(asked, data, &mut self.out);
        self.asked.push_back(asked);
        first
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// The socket is of no further use.
    pub(super) fn flush(&mut self, poller: &Poller) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        while self.written < self.out.len() {
            match socket.write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let watch = if self.written < self.out.len() {
            Watch::ReadableOrWritable
        } else {
            self.out.clear();
            self.written = 0;
            Watch::Readable
        };
        if watch != self.watch {
            poller.watch(socket, self.index, watch)?;
            self.watch = watch;
        }
        Ok(())
    }

    /// Reads once; `None` when there is nothing to read.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn read(&self, block: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        match socket.read(block) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the peer")),
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes answers apart, read at `now_ns`; how many there were.
    ///
    /// # Errors
    /// What came cannot be an answer.
    pub(super) fn on_bytes(
        &mut self,
        mut bytes: &[u8],
        now_ns: u64,
        shape: &Shape,
        data: &Data,
        tally: &mut Tally,
    ) -> Result<usize, String> {
        let mut answers = 0;
        while !bytes.is_empty() {
            let Some(&asked) = self.asked.front() else {
                return Err(format!("bytes that nobody asked for: {}", super::reply::shown(bytes)));
            };
            match self.reader.read(&mut bytes, asked, shape, data, tally) {
                Step::Done => {
                    self.asked.pop_front();
                    answers += 1;
                    tally.on_answer(now_ns.saturating_sub(asked.at_ns));
                }
                Step::More => break,
                Step::Lost(why) => return Err(why),
            }
        }
        Ok(answers)
    }

    /// Lets go of the socket; how many requests are left without an answer.
    pub(super) fn close(&mut self) -> usize {
        self.socket = None;
        self.watch = Watch::Readable;
        self.reader = Reader::default();
        self.out.clear();
        self.written = 0;
        let unanswered = self.asked.len();
        self.asked.clear();
        unanswered
    }
}
