//! A client that sends bytes and compares the answer byte by byte.

use super::process::PATIENCE;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connection to the program, or to a server.
pub(crate) struct Client {
    stream: Stream,
    /// Read from the socket and not asked for yet.
    ahead: Vec<u8>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Client {
    /// To `ip:port` or `unix:/path`.
    pub(crate) fn connect(address: &str) -> Self {
        Self::try_connect(address).unwrap_or_else(|e| panic!("{address}: {e}"))
    }

    pub(crate) fn try_connect(address: &str) -> std::io::Result<Self> {
        let stream = if let Some(path) = address.strip_prefix("unix:") {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Stream::Unix(stream)
        } else {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Stream::Tcp(stream)
        };
        Ok(Self { stream, ahead: Vec::new() })
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).unwrap_or_else(|e| panic!("cannot send: {e}"));
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(s) => s.write_all(bytes),
            Stream::Unix(s) => s.write_all(bytes),
        }
    }

    /// Sends in the background what may be more than the other side takes at once.
    pub(crate) fn send_beside(&self, bytes: Vec<u8>) -> std::thread::JoinHandle<std::io::Result<()>> {
        match &self.stream {
            Stream::Tcp(s) => {
                let mut s = s.try_clone().unwrap();
                std::thread::spawn(move || s.write_all(&bytes))
            }
            Stream::Unix(s) => {
                let mut s = s.try_clone().unwrap();
                std::thread::spawn(move || s.write_all(&bytes))
            }
        }
    }

    /// Sends this and expects exactly that.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
        self.send(request);
        self.expect(answer);
    }

    /// Three requests in one write, for one of a hundred keys of whoever has this name.
    pub(crate) fn ask_round(&mut self, name: usize, count: u64) {
        let key = format!("key{name}-{}", count % 100);
        self.ask(
            format!("set {key} 0 0 1\r\nx\r\ntouch {key} 100\r\nget none\r\n"),
            "STORED\r\nTOUCHED\r\nEND\r\n",
        );
    }

    /// The next bytes are these.
    pub(crate) fn expect(&mut self, answer: impl AsRef<[u8]>) {
        let answer = answer.as_ref();
        while self.ahead.len() < answer.len() && answer.starts_with(&self.ahead) {
            if !self.read_more() {
                panic!("closed after {}\nexpected     {}", shown(&self.ahead), shown(answer));
            }
        }
        let got = &self.ahead[..self.ahead.len().min(answer.len())];
        assert!(got == answer, "got      {}\nexpected {}", shown(&self.ahead), shown(answer));
        self.ahead.drain(..answer.len());
    }

    /// The next line, without its end; `None` when the connection was closed instead.
    pub(crate) fn try_line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.read_more() {
                assert!(self.ahead.is_empty(), "closed within a line: {}", shown(&self.ahead));
                return None;
            }
        }
    }

    pub(crate) fn line(&mut self) -> String {
        self.try_line().expect("the connection was closed instead of an answer")
    }

    /// Sends this; the answer is one line that begins so.
    pub(crate) fn ask_line(&mut self, request: impl AsRef<[u8]>, beginning: &str) -> String {
        self.send(request);
        self.expect_line(beginning)
    }

    /// The next line begins so.
    pub(crate) fn expect_line(&mut self, beginning: &str) -> String {
        let line = self.line();
        assert!(line.starts_with(beginning), "got {line:?}, expected {beginning:?}…");
        line
    }

    /// The lines up to one that is `END`, without it.
    pub(crate) fn lines_to_end(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line == "END" {
                return lines;
            }
            lines.push(line);
        }
    }

    /// One number of `stats`.
    pub(crate) fn stat(&mut self, name: &str) -> u64 {
        self.send("stats\r\n");
        let start = format!("STAT {name} ");
        let lines = self.lines_to_end();
        let value = lines.iter().find_map(|line| line.strip_prefix(&start));
        value.unwrap_or_else(|| panic!("no {name} in {lines:#?}")).parse().unwrap()
    }

    /// Asks until one number of `stats` is this.
    pub(crate) fn await_stat(&mut self, name: &str, wanted: u64) {
        self.await_that(name, &format!("{wanted}"), |value| value == wanted);
    }

    /// Asks until one number of `stats` is more than it was.
    pub(crate) fn await_more(&mut self, name: &str, was: u64) {
        self.await_that(name, &format!("more than {was}"), |value| value > was);
    }

    fn await_that(&mut self, name: &str, wanted: &str, is_so: impl Fn(u64) -> bool) {
        let began = std::time::Instant::now();
        loop {
            let value = self.stat(name);
            if is_so(value) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{name} stays at {value}, not {wanted}");
            std::thread::yield_now();
        }
    }

    /// Nothing else was answered so far, and the connection is in step.
    pub(crate) fn expect_nothing(&mut self) {
        self.ask("mn\r\n", "MN\r\n");
    }

    /// The other side closes, and says no more.
    pub(crate) fn expect_closed(&mut self) {
        while self.read_more() {}
        assert!(self.ahead.is_empty(), "said before it closed: {}", shown(&self.ahead));
    }

    /// Says that no more will be sent.
    pub(crate) fn finish(&self) {
        match &self.stream {
            Stream::Tcp(s) => s.shutdown(Shutdown::Write),
            Stream::Unix(s) => s.shutdown(Shutdown::Write),
        }
        .unwrap();
    }

    /// The same to one that may have closed already.
    pub(crate) fn finish_quietly(&self) {
        // One that is gone need not be told.
        let _ = match &self.stream {
            Stream::Tcp(s) => s.shutdown(Shutdown::Write),
            Stream::Unix(s) => s.shutdown(Shutdown::Write),
        };
    }

    /// Bytes that were read and not expected yet.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Takes the bytes that were read and not expected yet.
    pub(crate) fn take_ahead(&mut self, count: usize) -> Vec<u8> {
        self.ahead.drain(..count).collect()
    }

    /// Waits no longer than this for an answer.
    pub(crate) fn set_patience(&self, time: Duration) {
        match &self.stream {
            Stream::Tcp(s) => s.set_read_timeout(Some(time)),
            Stream::Unix(s) => s.set_read_timeout(Some(time)),
        }
        .unwrap();
    }

    /// Reads once; false when the other side has closed.
    pub(crate) fn read_more(&mut self) -> bool {
        self.try_read_more().unwrap_or_else(|e| panic!("no answer ({e}) after {}", shown(&self.ahead)))
    }

    /// Reads once; false when the other side has closed.
    pub(crate) fn try_read_more(&mut self) -> std::io::Result<bool> {
        let mut buffer = vec![0; 256 << 10];
        let read = match &mut self.stream {
            Stream::Tcp(s) => s.read(&mut buffer),
            Stream::Unix(s) => s.read(&mut buffer),
        };
        match read {
            // this process was stopped and goes on: the wait begins again
            Err(error) if error.kind() == ErrorKind::Interrupted => self.try_read_more(),
            Ok(0) => Ok(false),
            Ok(n) => {
                self.ahead.extend_from_slice(&buffer[..n]);
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Bytes as a reader of a test report wants them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const ENOUGH: usize = 600;
    let mut text = String::new();
    for b in &bytes[..bytes.len().min(ENOUGH)] {
        let _ = write!(text, "{}", b.escape_ascii());
    }
    if bytes.len() > ENOUGH {
        let _ = write!(text, "… ({} bytes)", bytes.len());
    }
    format!("\"{text}\"")
}
