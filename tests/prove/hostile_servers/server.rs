//! A server of a lane: a listener and at most one connection, looked at only when poll says so.

use super::question::Question;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Small, so that a large value is still under way when it is answered.
const RECEIVE_BYTES: usize = 64 * 1024;

pub(super) struct Server {
    pub(super) listener: TcpListener,
    pub(super) peer: Option<Peer>,
    /// Connections accepted so far.
    pub(super) accepted: u64,
}

/// The connection from ringway.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    ahead: Vec<u8>,
}

/// What is to be read next.
pub(super) enum Arrived {
    /// A request with all of its data.
    Whole(Question),
    /// A request of whose data so many bytes are there.
    Part(Question, usize),
    Nothing,
}

impl Server {
    pub(super) fn start() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(RECEIVE_BYTES).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(64).unwrap();
        Self { listener: socket.into(), peer: None, accepted: 0 }
    }

    pub(super) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Somebody connects.
    pub(super) fn accept(&mut self) {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let patience = Some(crate::support::PATIENCE);
        stream.set_read_timeout(patience).unwrap();
        stream.set_write_timeout(patience).unwrap();
        self.peer = Some(Peer { stream, ahead: Vec::new() });
        self.accepted += 1;
    }

    /// Sends; it is no matter when the other side has gone.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        if let Some(peer) = &mut self.peer {
            let _ = peer.stream.write_all(bytes);
        }
    }

    /// The last `count` bytes one at a time.
    pub(super) fn say_slowly(&mut self, bytes: &[u8], count: usize, pause_ms: u64) {
        let (first, last) = bytes.split_at(bytes.len().saturating_sub(count));
        self.say(first);
        for byte in last.chunks(1) {
            if pause_ms > 0 {
                crate::watch::pass(Duration::from_millis(pause_ms));
            }
            self.say(byte);
        }
    }

    /// Cuts the connection off: what was not read is lost, the other side gets a reset.
    pub(super) fn reset(&mut self) {
        if let Some(peer) = self.peer.take() {
            let _ = socket2::SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Says goodbye and waits until the other side has heard it.
    pub(super) fn part(&mut self) {
        if let Some(mut peer) = self.peer.take() {
            let _ = peer.stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut peer.stream, &mut std::io::sink());
        }
    }

    /// Reads once what is there; false when the other side has gone.
    pub(super) fn read(&mut self) -> bool {
        let Some(peer) = &mut self.peer else { return false };
        let mut buffer = [0; 65536];
        match peer.stream.read(&mut buffer) {
            Ok(count) if count > 0 => {
                peer.ahead.extend_from_slice(&buffer[..count]);
                true
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => true,
            _ => {
                self.peer = None;
                false
            }
        }
    }

    /// The next request; a greeting is answered on the way.
    pub(super) fn next(&mut self) -> Arrived {
        loop {
            let Some(peer) = &mut self.peer else { return Arrived::Nothing };
            let Some(end) = peer.ahead.windows(2).position(|w| w == b"\r\n") else { return Arrived::Nothing };
            let line = String::from_utf8(peer.ahead[..end].to_vec()).expect("nothing else was asked");
            if line == "version" {
                peer.ahead.drain(..end + 2);
                self.say(b"VERSION 1.6.45\r\n");
                continue;
            }
            let question = Question::parse(&line);
            let data = if question.op.is_storage() { question.data_bytes + 2 } else { 0 };
            let there = peer.ahead.len() - end - 2;
            if there < data {
                return Arrived::Part(question, there);
            }
            peer.ahead.drain(..end + 2 + data);
            return Arrived::Whole(question);
        }
    }
}
