//! A server that does what the test says: answers, stalls, lies, resets, leaves.
//!
//! The script is a closure that is called for every connection, in a thread of its own, and speaks with a [`Peer`].
//! A test learns what arrived through [`Mock::heard`] and lets a script go on with [`Mock::go`].

use super::process::PATIENCE;
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A scripted server on a free port of 127.0.0.1.
pub(crate) struct Mock {
    address: String,
    heard: Receiver<String>,
    gate: Arc<Gate>,
    complaints: Arc<Mutex<Vec<String>>>,
}

/// Counts how often the scripts may still go on.
#[derive(Default)]
struct Gate {
    permits: Mutex<usize>,
    changed: Condvar,
}

impl Mock {
    /// Calls the script for every connection.
    pub(crate) fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// The same on a listener that was there before.
    pub(crate) fn on(listener: TcpListener, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (tell, heard) = channel();
        let gate = Arc::new(Gate::default());
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let (gate2, complaints2, script) = (Arc::clone(&gate), Arc::clone(&complaints), Arc::new(script));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let (gate, tell) = (Arc::clone(&gate2), tell.clone());
                let stream = Some(stream);
                let mut peer = Peer { number, stream, ahead: Vec::new(), tell, gate, shakes_hands: true };
                let (script, complaints) = (Arc::clone(&script), Arc::clone(&complaints2));
                thread::spawn(move || {
                    let run = std::panic::AssertUnwindSafe(|| script(&mut peer));
                    if let Err(cause) = std::panic::catch_unwind(run) {
                        let text = cause.downcast_ref::<String>().cloned();
                        complaints.lock().unwrap().push(text.unwrap_or_else(|| "a script panicked".into()));
                    }
                });
            }
        });
        Self { address, heard, gate, complaints }
    }

    /// A server without memory: every get misses, every set is stored.
    pub(crate) fn forgetful() -> Self {
        Self::start(|peer| while peer.answer_as_usual() {})
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The next request line that arrived on any connection.
    pub(crate) fn heard(&self) -> String {
        self.heard.recv_timeout(PATIENCE).expect("the server waited for a request in vain")
    }

    /// The next request line is this.
    pub(crate) fn expect(&self, line: &str) {
        assert_eq!(self.heard(), line);
    }

    /// All that has arrived and was not asked for.
    pub(crate) fn heard_so_far(&self) -> Vec<String> {
        self.heard.try_iter().collect()
    }

    /// Nothing has arrived that was not asked for with [`Self::heard`].
    pub(crate) fn expect_nothing(&self) {
        if let Ok(line) = self.heard.try_recv() {
            panic!("the server was sent {line:?}");
        }
    }

    /// Lets one [`Peer::wait`] return.
    pub(crate) fn go(&self) {
        *self.gate.permits.lock().unwrap() += 1;
        self.gate.changed.notify_all();
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let complaints = self.complaints.lock().unwrap();
        if !complaints.is_empty() && !thread::panicking() {
            panic!("the script of a mock: {}", complaints.join("; "));
        }
    }
}

/// One connection to a [`Mock`].
pub(crate) struct Peer {
    /// How many connections came before this one.
    pub(crate) number: usize,
    /// `None` once it was cut off.
    stream: Option<TcpStream>,
    ahead: Vec<u8>,
    tell: Sender<String>,
    gate: Arc<Gate>,
    shakes_hands: bool,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
}

impl Asked {
    pub(crate) fn words(&self) -> Vec<&str> {
        self.line.split(' ').collect()
    }
}

impl Peer {
    /// Do not answer `version` by yourself.
    pub(crate) fn no_handshake(&mut self) {
        self.shakes_hands = false;
    }

    /// The next request; `version` is answered on the way. `None` when the other side has closed.
    pub(crate) fn request(&mut self) -> Option<Asked> {
        loop {
            let asked = self.request_or_handshake()?;
            if asked.line == "version" && self.shakes_hands {
                self.say("VERSION 1.6.45\r\n");
                continue;
            }
            self.report(&asked.line);
            return Some(asked);
        }
    }

    /// The next request is this.
    pub(crate) fn expect(&mut self, line: &str) {
        let asked = self.request().unwrap_or_else(|| panic!("closed instead of {line:?}"));
        assert_eq!(asked.line, line);
    }

    /// The next line is this; what belongs to it is left where it is.
    pub(crate) fn expect_line_only(&mut self, line: &str) {
        loop {
            let next = self.line().unwrap_or_else(|| panic!("closed instead of {line:?}"));
            if next != "version" {
                assert_eq!(next, line);
                return self.report(line);
            }
            self.say("VERSION 1.6.45\r\n");
        }
    }

    /// Reads so many bytes and forgets them.
    pub(crate) fn swallow(&mut self, count: usize) {
        let _ = self.take(count);
    }

    /// Nothing more is asked until the other side closes.
    pub(crate) fn expect_closed(&mut self) {
        if let Some(asked) = self.request() {
            panic!("asked {:?} instead of closing", asked.line);
        }
    }

    /// Tells the test something, through [`Mock::heard`].
    pub(crate) fn report(&self, word: &str) {
        let _ = self.tell.send(word.to_owned()); // the test may be over
    }

    /// Answers one request as a memcached without memory would; false when the other side has closed.
    pub(crate) fn answer_as_usual(&mut self) -> bool {
        let Some(asked) = self.request() else { return false };
        let answer = usual_answer(&asked);
        self.say(answer);
        true
    }

    /// Sends bytes; it is no matter when the other side has gone.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.write_all(bytes.as_ref());
        }
    }

    /// Sends bytes one at a time.
    pub(crate) fn say_slowly(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.say([*byte]);
        }
    }

    /// Waits until the test says [`Mock::go`].
    pub(crate) fn wait(&self) {
        let permits = self.gate.permits.lock().unwrap();
        let (mut permits, late) =
            self.gate.changed.wait_timeout_while(permits, PATIENCE, |n| *n == 0).unwrap();
        assert!(!late.timed_out(), "nobody said go");
        *permits -= 1;
    }

    /// Cuts the connection off: what was not read is lost, the other side gets a reset.
    pub(crate) fn reset(&mut self) {
        let stream = self.stream.take().expect("cut off once");
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Closes as a server does that ends.
    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    fn request_or_handshake(&mut self) -> Option<Asked> {
        let line = self.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        let length = match words[0] {
            "set" | "add" | "replace" | "append" | "prepend" | "cas" => words[4].parse::<usize>().ok(),
            "ms" => words[2].parse::<usize>().ok(),
            _ => None,
        };
        if let Some(n) = length {
            let data = self.take(n + 2)?;
            assert!(
                data.ends_with(
                    b"
"
                ),
                "the data block of {line:?} has no end"
            );
        }
        Some(Asked { line })
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.ahead.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=at).collect();
                let text = line.strip_suffix(b"\r\n");
                let text = text.unwrap_or_else(|| panic!("a line without \\r: {line:?}"));
                return Some(text.iter().map(|b| char::from(*b)).collect());
            }
            self.read_more()?;
        }
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < count {
            self.read_more()?;
        }
        Some(self.ahead.drain(..count).collect())
    }

    fn read_more(&mut self) -> Option<()> {
        let mut buffer = [0; 65536];
        match self.stream.as_mut()?.read(&mut buffer) {
            Ok(0) | Err(_) => None,
            Ok(n) => {
                self.ahead.extend_from_slice(&buffer[..n]);
                Some(())
            }
        }
    }
}

/// What a memcached without memory answers.
pub(crate) fn usual_answer(asked: &Asked) -> String {
    let words = asked.words();
    // meta answers give back the opaque, and the key where it was asked for
    let echoes: String = words[1..]
        .iter()
        .skip(1)
        .filter(|w| w.starts_with('O') || **w == "k")
        .map(|w| if *w == "k" { format!(" k{}", words[1]) } else { format!(" {w}") })
        .collect();
    match words[0] {
        "get" | "gets" | "gat" | "gats" => "END\r\n".into(),
        "set" | "add" => "STORED\r\n".into(),
        "replace" | "append" | "prepend" => "NOT_STORED\r\n".into(),
        "cas" | "incr" | "decr" | "delete" | "touch" => "NOT_FOUND\r\n".into(),
        "mg" => format!("EN{echoes}\r\n"),
        "ms" => format!("HD{echoes}\r\n"),
        "md" | "ma" => format!("NF{echoes}\r\n"),
        "me" => "EN\r\n".into(),
        "mn" => "MN\r\n".into(),
        "flush_all" => "OK\r\n".into(),
        "version" => "VERSION 1.6.45\r\n".into(),
        _ => "ERROR\r\n".into(),
    }
}
