//! Many sockets in one thread that never wait: they write what is taken and read what they are told to.

use crate::support::Random;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a hostile client does with the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Everything,
    Nothing,
    /// So many bytes each time that it is its turn.
    Bytes(usize),
}

/// Where a behaviour takes place.
pub(crate) struct Stage {
    address: SocketAddr,
    deadline: Instant,
    /// 1 before a release, less on every commit.
    scale: f64,
    pub(crate) random: Random,
    /// Connections made.
    pub(crate) opened: u64,
    sockets: Vec<Socket>,
}

struct Socket {
    stream: Option<TcpStream>,
    /// To be sent.
    text: Vec<u8>,
    sent: usize,
}

impl Stage {
    pub(crate) fn new(address: &str, time: Duration, scale: f64, random: Random) -> Self {
        let deadline = Instant::now() + time;
        Self { address: address.parse().unwrap(), deadline, scale, random, opened: 0, sockets: Vec::new() }
    }

    /// So many before a release, fewer on every commit.
    pub(crate) fn scaled(&self, count: usize) -> usize {
        ((count as f64 * self.scale) as usize).max(1)
    }

    pub(crate) fn goes_on(&self) -> bool {
        Instant::now() < self.deadline
    }

    /// Gives the others a turn.
    pub(crate) fn pause(&self, time: Duration) {
        crate::watch::pass(time.min(self.deadline.saturating_duration_since(Instant::now())));
    }

    /// Until it is over.
    pub(crate) fn stay(&self) {
        self.pause(Duration::from_secs(3600));
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// So many clients more, no faster than `connects` has them come: all at once would be another way to do harm. Those
    /// that cannot connect are tried again when it is their turn.
    pub(crate) fn open(&mut self, count: usize) {
        const AT_A_TIME: usize = 50;
        const PAUSE: Duration = Duration::from_millis(10);
        for index in 1..=count {
            if !self.goes_on() {
                return;
            }
            if index % AT_A_TIME == 0 {
                self.pause(PAUSE);
            }
            let stream = self.connect();
            self.sockets.push(Socket { stream, text: Vec::new(), sent: 0 });
        }
    }

    fn connect(&mut self) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5)).ok()?;
        stream.set_nonblocking(true).ok()?;
        self.opened += 1;
        Some(stream)
    }

    /// Sends to one client's socket what is taken at once of what is still to be sent, and of this behind it.
    /// False when it was closed; it is connected anew.
    pub(crate) fn send(&mut self, index: usize, text: impl FnOnce(&mut Random) -> Vec<u8>) -> bool {
        let socket = &mut self.sockets[index];
        if socket.stream.is_none() {
            let stream = self.connect();
            self.sockets[index] = Socket { stream, text: Vec::new(), sent: 0 };
        }
        let socket = &mut self.sockets[index];
        let Some(stream) = &mut socket.stream else { return false };
        if socket.sent == socket.text.len() {
            (socket.text, socket.sent) = (text(&mut self.random), 0);
        }
        match stream.write(&socket.text[socket.sent..]) {
            Ok(count) => socket.sent += count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => socket.stream = None,
        }
        socket.stream.is_some()
    }

    /// Whether all that was given to [`Self::send`] has been taken.
    pub(crate) fn is_sent(&self, index: usize) -> bool {
        self.sockets[index].sent == self.sockets[index].text.len()
    }

    /// Reads once. False when it was closed.
    pub(crate) fn read(&mut self, index: usize, reads: Reads) -> bool {
        let socket = &mut self.sockets[index];
        let Some(stream) = &mut socket.stream else { return false };
        let mut buffer = [0; 65536];
        let room = match reads {
            Reads::Nothing => return true,
            Reads::Everything => buffer.len(),
            Reads::Bytes(count) => count,
        };
        match stream.read(&mut buffer[..room]) {
            Ok(count) if count > 0 => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            _ => socket.stream = None,
        }
        socket.stream.is_some()
    }

    /// Sends no more.
    pub(crate) fn finish(&self, index: usize) {
        if let Some(stream) = &self.sockets[index].stream {
            let _ = stream.shutdown(Shutdown::Write); // it may be gone
        }
    }

    /// Closes one; `reset`: the other side gets a reset instead of an end.
    pub(crate) fn close(&mut self, index: usize, reset: bool) {
        if let Some(stream) = self.sockets[index].stream.take()
            && reset
        {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// The same from so many clients until it is over, as fast as it is taken; a new one for each that is closed.
    pub(crate) fn flood(
        &mut self,
        clients: usize,
        reads: Reads,
        mut text: impl FnMut(&mut Random) -> Vec<u8>,
    ) {
        self.open(clients);
        while self.goes_on() {
            for index in 0..self.len() {
                self.send(index, &mut text);
                self.read(index, reads);
            }
            self.pause(Duration::from_millis(1));
        }
    }

    /// Each of so many clients sends this once and then nothing more, ever.
    pub(crate) fn hold(&mut self, clients: usize, reads: Reads, text: impl Fn(&mut Random) -> Vec<u8>) {
        self.open(clients);
        let mut told = vec![false; self.len()];
        while self.goes_on() {
            for (index, told) in told.iter_mut().enumerate() {
                if !*told || !self.is_sent(index) {
                    self.send(index, &text);
                    *told = true;
                }
                self.read(index, reads);
            }
            self.pause(Duration::from_millis(5));
        }
    }

    /// Clients that come, send this, and go.
    pub(crate) fn come_and_go(
        &mut self,
        per_second: usize,
        reset: bool,
        text: impl Fn(&mut Random) -> Vec<u8>,
    ) {
        let began = Instant::now();
        let before = self.opened;
        self.open(1);
        while self.goes_on() {
            let due = (began.elapsed().as_secs_f64() * per_second as f64) as u64;
            while self.opened - before < due && self.goes_on() {
                self.send(0, &text);
                self.read(0, Reads::Everything);
                self.close(0, reset);
                self.send(0, |_| Vec::new());
            }
            self.pause(Duration::from_millis(1));
        }
    }
}
