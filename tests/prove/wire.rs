//! Many clients on one thread: sockets that never block, and what tells which of them can go on.
//!
//! The load of the parts must cost less than the program that it tries, so there is no runtime and no thread per client.

use rustix::event::epoll;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// One client: what it wants to send, and what came.
pub(crate) struct Wire {
    stream: TcpStream,
    /// To be sent.
    pub(crate) out: Vec<u8>,
    sent: usize,
    /// Read and not taken yet: from `taken` on.
    input: Vec<u8>,
    taken: usize,
    /// The other side has closed, or cut us off.
    pub(crate) is_over: bool,
}

impl Wire {
    pub(crate) fn connect(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, out: Vec::new(), sent: 0, input: Vec::new(), taken: 0, is_over: false })
    }

    /// Sends as much as the socket takes.
    pub(crate) fn flush(&mut self) {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_over = true;
                    break;
                }
            }
        }
        self.out.clear();
        self.sent = 0;
    }

    /// Reads what is there.
    pub(crate) fn fill(&mut self) {
        const READ_BYTES: usize = 64 * 1024;
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        } else if self.taken > READ_BYTES {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        loop {
            let before = self.input.len();
            self.input.resize(before + READ_BYTES, 0);
            let read = self.stream.read(&mut self.input[before..]);
            self.input.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.is_over = true,
                Ok(READ_BYTES) => continue,
                // what the socket has left is told of again: it is watched by level
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => self.is_over = true,
            }
            return;
        }
    }

    /// What came and was not taken.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    pub(crate) fn take(&mut self, count: usize) {
        self.taken += count;
    }

    pub(crate) const fn wants_to_send(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Gives memory back after something large.
    pub(crate) fn shrink(&mut self, kept_bytes_max: usize) {
        if self.taken == self.input.len() && self.input.capacity() > kept_bytes_max {
            self.input = Vec::new();
            self.taken = 0;
        }
        if self.out.is_empty() && self.out.capacity() > kept_bytes_max {
            self.out = Vec::new();
        }
    }
}

/// The first line of these bytes, without its end; and how long it is with it.
pub(crate) fn line_of(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

/// The clients of one thread.
pub(crate) struct Wires {
    epoll: OwnedFd,
    all: Vec<Option<Wire>>,
    events: Vec<epoll::Event>,
}

impl Wires {
    pub(crate) fn new(count: usize) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        Self { epoll, all: (0..count).map(|_| None).collect(), events: Vec::with_capacity(1024) }
    }

    /// A new connection in this place; the one that was there is closed.
    pub(crate) fn connect(&mut self, index: usize, address: &str) -> std::io::Result<()> {
        self.all[index] = None;
        let wire = Wire::connect(address)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &wire.stream, data, epoll::EventFlags::IN)?;
        self.all[index] = Some(wire);
        Ok(())
    }

    pub(crate) fn close(&mut self, index: usize) {
        self.all[index] = None;
    }

    pub(crate) fn at(&mut self, index: usize) -> Option<&mut Wire> {
        self.all[index].as_mut()
    }

    /// Sends what this client has to say; the rest goes when there is room.
    pub(crate) fn flush(&mut self, index: usize) {
        let Some(wire) = &mut self.all[index] else { return };
        let waited = wire.wants_to_send() && wire.sent > 0;
        wire.flush();
        if wire.is_over || waited || wire.wants_to_send() {
            let room = if wire.wants_to_send() { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, &wire.stream, data, epoll::EventFlags::IN | room).unwrap();
        }
    }

    /// Waits until clients can go on, but no longer than so; sends and reads for them, and says which.
    pub(crate) fn wait(&mut self, longest: Duration, ready: &mut VecDeque<usize>) {
        self.events.clear();
        let longest = rustix::time::Timespec::try_from(longest).unwrap();
        let space = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, space, Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        for at in 0..self.events.len() {
            let (data, flags) = (self.events[at].data, self.events[at].flags);
            let index = usize::try_from(data.u64()).unwrap();
            if flags.contains(epoll::EventFlags::OUT) {
                self.flush(index);
            }
            if let Some(wire) = &mut self.all[index] {
                wire.fill();
                ready.push_back(index);
            }
        }
    }
}
