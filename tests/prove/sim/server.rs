//! A memcached of a few lines, at the other ends of the pipes, that can be late, wrong and gone.

use super::value_of;
use crate::support::Random;
use crate::support::room::Pipe;
use std::collections::HashMap;
use std::io;
use tokio::io::DuplexStream;
use tokio::time::{Duration, Instant};

/// All servers of one world.
#[derive(Default)]
pub(super) struct Servers {
    pub(super) list: Vec<Server>,
    pub(super) connections: Vec<Connection>,
    pub(super) pipe_bytes: usize,
    /// Connections on which something was said that no server says.
    pub(super) poisoned: u64,
}

#[derive(Default)]
pub(super) struct Server {
    /// Key to version.
    store: HashMap<Vec<u8>, u64>,
    /// Nobody listens.
    pub(super) refuses: bool,
    /// New connections hear something else than a version.
    pub(super) is_stranger: bool,
    /// One that ends lines at a NUL byte and takes a token less.
    pub(super) is_old: bool,
}

impl Server {
    pub(super) fn new(is_old: bool) -> Self {
        Self { is_old, ..Self::default() }
    }
}

pub(super) struct Connection {
    server: usize,
    pipe: Pipe,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Nothing is done before.
    pub(super) stalled_until: Instant,
    /// What it says next is wrong.
    pub(super) lies: bool,
    /// It has said what no server says: whatever follows must not be believed.
    is_poisoned: bool,
    is_stranger: bool,
}

impl Servers {
    pub(super) fn dial(&mut self, server: usize) -> io::Result<DuplexStream> {
        if self.list[server].refuses {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (pipe, far) = Pipe::pair(self.pipe_bytes);
        self.connections.push(Connection {
            server,
            pipe,
            input: Vec::new(),
            output: Vec::new(),
            stalled_until: Instant::now(),
            lies: false,
            is_poisoned: false,
            is_stranger: self.list[server].is_stranger,
        });
        Ok(far)
    }

    /// One connection reads, answers what is whole, and sends up to `bytes_max`: how many bytes went either way. `None`:
    /// it has ended.
    pub(super) fn pump(&mut self, index: usize, bytes_max: usize, random: &mut Random) -> Option<usize> {
        let connection = &mut self.connections[index];
        // What the program has given up is not read any more: it could be overtaken by what comes elsewhere.
        if connection.pipe.is_closed() {
            self.connections.swap_remove(index);
            return None;
        }
        if connection.stalled_until > Instant::now() {
            return Some(0);
        }
        let before = connection.input.len();
        connection.pipe.receive(bytes_max, &mut connection.input);
        let received = connection.input.len() - before;
        let server = &mut self.list[connection.server];
        while let Some((count, reply)) = server.answer(&connection.input, connection.is_stranger, random) {
            connection.input.drain(..count);
            if connection.lies && !connection.is_poisoned && !reply.starts_with(b"VERSION") {
                connection.is_poisoned = true;
                self.poisoned += 1;
                connection.output.extend_from_slice(&wrong(&reply, random));
            } else {
                connection.output.extend_from_slice(&reply);
            }
        }
        let end = connection.output.len().min(bytes_max);
        let sent = connection.pipe.send(&connection.output[..end]).unwrap_or(0);
        connection.output.drain(..sent);
        Some(received + sent)
    }

    /// Says something that nobody asked for.
    pub(super) fn interject(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.is_poisoned && connection.output.is_empty() && connection.input.is_empty() {
            connection.is_poisoned = true;
            self.poisoned += 1;
            connection.output.extend_from_slice(b"VALUE nobody 0 1\r\nx\r\nEND\r\n");
        }
    }

    /// A connection that has told its lie to the end, and is listened to all the same.
    pub(super) fn is_believed(&mut self) -> bool {
        let told = |c: &mut Connection| c.is_poisoned && c.output.is_empty() && !c.pipe.is_closed();
        self.connections.iter_mut().any(told)
    }

    /// Everything works from now on.
    pub(super) fn heal(&mut self) {
        for server in &mut self.list {
            (server.refuses, server.is_stranger) = (false, false);
        }
        for connection in &mut self.connections {
            (connection.stalled_until, connection.lies) = (Instant::now(), false);
        }
    }
}

impl Connection {
    pub(super) fn stall(&mut self, time: Duration) {
        self.stalled_until = Instant::now() + time;
    }

    pub(super) const fn server(&self) -> usize {
        self.server
    }
}

impl Server {
    /// The first request of `input`: its length and the reply to it. `None`: it is not whole.
    fn answer(&mut self, input: &[u8], is_stranger: bool, random: &mut Random) -> Option<(usize, Vec<u8>)> {
        let end = input.iter().position(|b| *b == b'\n')?;
        let line = std::str::from_utf8(&input[..end - 1]).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let opaque =
            words.iter().skip(2).find(|w| w.starts_with('O')).map_or(String::new(), |w| format!(" {w}"));
        let length = match words[0] {
            "set" => words[4].parse().unwrap(),
            "ms" => words[2].parse().unwrap(),
            _ => 0,
        };
        let has_block = matches!(words[0], "set" | "ms");
        let whole = end + 1 + if has_block { length + 2 } else { 0 };
        let block = input.get(end + 1..whole)?;
        if is_stranger {
            return Some((whole, b"HTTP/1.1 400 Bad Request\r\n".to_vec()));
        }
        if words[0] == "version" {
            let version = if self.is_old { "1.6.18" } else { "1.6.45" };
            return Some((whole, format!("VERSION {version}\r\n").into_bytes()));
        }
        if random.one_in(50) {
            return Some((whole, b"SERVER_ERROR out of memory\r\n".to_vec()));
        }
        let key = words[1].as_bytes();
        let mut reply = Vec::new();
        match words[0] {
            "get" => {
                for key in words[1..].iter().map(|w| w.as_bytes()) {
                    if let Some(version) = self.store.get(key) {
                        let value = value_of(key, *version);
                        reply.extend_from_slice(b"VALUE ");
                        reply.extend_from_slice(key);
                        reply.extend_from_slice(format!(" 0 {}\r\n", value.len()).as_bytes());
                        reply.extend_from_slice(&value);
                        reply.extend_from_slice(b"\r\n");
                    }
                }
                reply.extend_from_slice(b"END\r\n");
            }
            "mg" => match self.store.get(key) {
                Some(version) => {
                    let value = value_of(key, *version);
                    reply.extend_from_slice(format!("VA {}{opaque}\r\n", value.len()).as_bytes());
                    reply.extend_from_slice(&value);
                    reply.extend_from_slice(b"\r\n");
                }
                None => reply.extend_from_slice(format!("EN{opaque}\r\n").as_bytes()),
            },
            "set" | "ms" => {
                let value = block.strip_suffix(b"\r\n").expect("a value ends in a line end");
                let version = super::version_of(key, value).expect("nobody sets anything else");
                self.store.insert(key.to_vec(), version);
                let text =
                    if has_block && words[0] == "ms" { format!("HD{opaque}") } else { "STORED".into() };
                reply.extend_from_slice(format!("{text}\r\n").as_bytes());
            }
            "delete" | "md" => {
                let was_there = self.store.remove(key).is_some();
                let text = match (words[0], was_there) {
                    ("md", true) => format!("HD{opaque}"),
                    ("md", false) => format!("NF{opaque}"),
                    (_, true) => "DELETED".into(),
                    (_, false) => "NOT_FOUND".into(),
                };
                reply.extend_from_slice(format!("{text}\r\n").as_bytes());
            }
            other => panic!("the program sent {other}"),
        }
        Some((whole, reply))
    }
}

/// What cannot be the reply that `right` is.
fn wrong(right: &[u8], random: &mut Random) -> Vec<u8> {
    let text = |t: &str| t.as_bytes().to_vec();
    match random.below(6) {
        0 => text("VALUE somebody:elses 0 6\r\nsecret\r\nEND\r\n"),
        1 => text("SPAM\r\n"),
        2 => [right, b"SPAM\r\n"].concat(),
        3 => text("VALUE a 0 4294967293\r\n"),
        4 => text("VA 6 Onobody\r\nsecret\r\n"),
        _ => text("OK\r\n"),
    }
}
