//! A scripted server that answers when it is time: late on purpose, or because it has only so much capacity.

use crate::watch;
use crate::wire::line_of;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Says what is answered to a line and not before when. Each connection has one of its own.
pub(crate) type Script = Box<dyn FnMut(&[u8], Instant) -> (Instant, Vec<u8>) + Send>;

/// A running one, on a free port of 127.0.0.1.
pub(crate) struct Timed {
    pub(crate) address: String,
    pub(crate) seen: Arc<Seen>,
}

/// What a server knows of itself, and how busy it is.
#[derive(Default)]
pub(crate) struct Seen {
    /// How much later than it meant to it answered, at worst.
    pub(crate) lateness_us: AtomicU64,
    /// When connections were made.
    pub(crate) accepted: Mutex<Vec<Instant>>,
    /// Connections there are, and the most there were at a time.
    pub(crate) open: AtomicUsize,
    pub(crate) open_max: AtomicUsize,
    /// When the last of the requests that it has begun is done with.
    busy_until: Mutex<Option<Instant>>,
}

impl Seen {
    /// It stands still for so long.
    pub(crate) fn stand_still(&self, time: Duration) {
        *self.busy_until.lock().unwrap() = Some(Instant::now() + time);
    }

    /// One request more, that came then; returns when it is done with. What a thread that got no processor could not do it
    /// makes good, or a busy machine would be a server with less capacity.
    fn work(&self, came: Instant, cost: Duration) -> Instant {
        let mut busy_until = self.busy_until.lock().unwrap();
        let done = busy_until.map_or(came, |until| until.max(came)) + cost;
        *busy_until = Some(done);
        done
    }
}

impl Timed {
    /// Every request costs so much of the server's time; `script` makes the script of a connection.
    pub(crate) fn start(cost: Duration, script: impl Fn() -> Script + Send + 'static) -> Self {
        let (listener, seen, address) = listen();
        let seen2 = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                seen2.on_accepted();
                let (tell, due) = channel();
                let (script, out) = (script(), stream.try_clone().unwrap());
                let (seen3, seen4) = (Arc::clone(&seen2), Arc::clone(&seen2));
                thread::spawn(move || hear(stream, &tell, script, &seen3));
                thread::spawn(move || answer(out, &due, cost, &seen4));
            }
        });
        Self { address, seen }
    }

    /// One that takes connections and says nothing.
    pub(crate) fn dumb() -> Self {
        let (listener, seen, address) = listen();
        let seen2 = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                seen2.on_accepted();
                let seen3 = Arc::clone(&seen2);
                thread::spawn(move || {
                    hear(stream.unwrap(), &channel().0, Box::new(|_, now| (now, vec![])), &seen3)
                });
            }
        });
        Self { address, seen }
    }
}

fn listen() -> (TcpListener, Arc<Seen>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, Arc::default(), address)
}

impl Seen {
    fn on_accepted(&self) {
        self.accepted.lock().unwrap().push(Instant::now());
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.open_max.fetch_max(open, Ordering::SeqCst);
    }
}

fn hear(mut stream: TcpStream, tell: &Sender<(Instant, Vec<u8>)>, mut script: Script, seen: &Seen) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..count]);
        let now = Instant::now();
        let mut at = 0;
        while let Some((line, length)) = line_of(&bytes[at..]) {
            let whole = length + data_bytes(line);
            if bytes.len() < at + whole {
                break;
            }
            at += whole;
            let is_greeting = line == b"version";
            let said = if is_greeting { (now, b"VERSION 1.6.45\r\n".to_vec()) } else { script(line, now) };
            let _ = tell.send(said); // nobody answers: the connection is lost, or the server is dumb
        }
        bytes.drain(..at);
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
}

/// The data block that follows a line.
fn data_bytes(line: &[u8]) -> usize {
    if !line.starts_with(b"set ") {
        return 0;
    }
    let text = String::from_utf8_lossy(line);
    text.split(' ').nth(4).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0) + 2
}

fn answer(mut stream: TcpStream, due: &Receiver<(Instant, Vec<u8>)>, cost: Duration, seen: &Seen) {
    while let Ok((at, answer)) = due.recv() {
        let at = if cost.is_zero() { at } else { seen.work(at, cost) };
        watch::pass(at.saturating_duration_since(Instant::now()));
        let late = Instant::now().saturating_duration_since(at);
        seen.lateness_us.fetch_max(u64::try_from(late.as_micros()).unwrap(), Ordering::Relaxed);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}
