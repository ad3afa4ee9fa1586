//! Making a connection to a server: address, socket, and the proof that a memcached is at the other end.

use crate::config::Endpoint;
use crate::net::Stream;
use crate::protocol::Cause;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpStream, UnixStream};

/// How servers are reached: over the net, or in tests by a hand that holds the other ends.
#[derive(Clone)]
pub enum Dial {
    Net,
    Memory(Rc<DialMemory>),
}

/// Answers a call with one end of a pipe in memory.
pub(super) type DialMemory = dyn Fn(&Endpoint) -> io::Result<DuplexStream>;

/// Why there is no connection: the class, and the words for clients and logs.
#[derive(Debug)]
pub(super) struct ConnectFailure {
    pub(super) cause: Cause,
    pub(super) text: String,
}

impl ConnectFailure {
    /// `text` is the system's or the resolver's: clients and logs get it as one line of plain characters.
    fn new(text: impl std::fmt::Display) -> Self {
        const CHARS_MAX: usize = 200;
        let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
        let text: String = text.to_string().chars().take(CHARS_MAX).map(plain).collect();
        Self { cause: Cause::Connect, text: format!("{}: {text}", Cause::Connect.line()) }
    }
}

/// Connects and says hello; tells whether it is memcached 1.6.40 or later. All of it within `timeout`.
pub(super) async fn connect(
    endpoint: &Endpoint,
    dial: &Dial,
    timeout: Duration,
) -> Result<(Stream, bool), ConnectFailure> {
    // Nothing is lost when the time is up: the half-made socket is dropped with the future.
    match tokio::time::timeout(timeout, establish(endpoint, dial)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectFailure {
            cause: Cause::ConnectTimeout,
            text: Cause::ConnectTimeout.line().to_owned(),
        }),
    }
}

async fn establish(endpoint: &Endpoint, dial: &Dial) -> Result<(Stream, bool), ConnectFailure> {
    let mut stream = match dial {
        Dial::Net => over_net(endpoint).await?,
        Dial::Memory(dial) => dial(endpoint).map_err(io_failure)?.into(),
    };
    let modern = greet(&mut stream).await?;
    Ok((stream, modern))
}

/// Asks for a key that nobody has, on a connection of its own; any line is an answer.
pub(super) async fn ask(mut stream: Stream, timeout: Duration) -> Result<(), ConnectFailure> {
    const QUESTION: &[u8] = b"mg __ringway_probe__\r\n";
    // Nothing is lost when the time is up: the connection is dropped with the future.
    match tokio::time::timeout(timeout, line_for(&mut stream, QUESTION)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(ConnectFailure { cause: Cause::Timeout, text: Cause::Timeout.line().to_owned() }),
    }
}

async fn over_net(endpoint: &Endpoint) -> Result<Stream, ConnectFailure> {
    match endpoint {
        Endpoint::Address(address) | Endpoint::Named { address, .. } => tcp(*address).await,
        // when it has an address this connection is replaced
        Endpoint::Host(name, _) => Err(ConnectFailure::new(format_args!("no address of {name} is known"))),
        Endpoint::Unix(path) => Ok(UnixStream::connect(path).await.map_err(io_failure)?.into()),
        Endpoint::Embedded(_) | Endpoint::Route(_) => {
            Err(ConnectFailure::new("there is no server to connect to"))
        }
    }
}

async fn tcp(address: SocketAddr) -> Result<Stream, ConnectFailure> {
    let stream = Stream::from(TcpStream::connect(address).await.map_err(io_failure)?);
    stream.keep_alive();
    Ok(stream)
}

/// Asks `version`: an address that was given to another program, or a memcached that wants a password,
/// is found out before a request is trusted to it.
async fn greet(stream: &mut Stream) -> Result<bool, ConnectFailure> {
    let answer = line_for(stream, b"version\r\n").await?;
    if answer.starts_with(b"VERSION ") { Ok(is_modern(&answer)) } else { Err(not_memcached()) }
}

fn not_memcached() -> ConnectFailure {
    ConnectFailure::new("the answer to 'version' is not memcached's")
}

/// Sends a question on a new connection, and takes the one line that comes.
async fn line_for(stream: &mut Stream, question: &[u8]) -> Result<Vec<u8>, ConnectFailure> {
    /// What is asked here has shorter answers.
    const ANSWER_BYTES_MAX: usize = 512;
    #[expect(clippy::disallowed_methods, reason = "whoever drops this drops the new connection with it")]
    stream.write_all(question).await.map_err(io_failure)?;
    let mut answer = Vec::with_capacity(64);
    loop {
        if stream.read_buf(&mut answer).await.map_err(io_failure)? == 0 {
            return Err(ConnectFailure::new("closed by the server before it said its version"));
        }
        if let Some(end) = memchr::memchr(b'\n', &answer) {
            return if end + 1 == answer.len() { Ok(answer) } else { Err(not_memcached()) };
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(not_memcached());
        }
    }
}

/// Whether a version line says 1.6.40 or later; what cannot be read counts as older.
fn is_modern(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    let mut numbers = text
        .trim_start_matches("VERSION ")
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next()) >= (1, 6, 40)
}

#[expect(clippy::needless_pass_by_value, reason = "used as a map_err function")]
fn io_failure(error: io::Error) -> ConnectFailure {
    // "Connection refused (os error 111)" → "Connection refused"
    let text = error.to_string();
    ConnectFailure::new(text.split(" (os error").next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{ConnectFailure, is_modern};

    #[test]
    fn a_failure_is_one_line_whatever_it_is_made_of() {
        let text = ConnectFailure::new("no\r\nSTORED\u{202e}\u{1b}[31m").text;
        assert_eq!(text, "SERVER_ERROR connection error: no??STORED??[31m");
        assert!(ConnectFailure::new("x".repeat(10_000)).text.len() < 300);
    }

    #[test]
    fn versions() {
        for (line, modern) in [
            ("VERSION 1.6.45\r\n", true),
            ("VERSION 1.6.40-ringway-0.1.0\r\n", true),
            ("VERSION 2.0\r\n", true),
            ("VERSION 1.6.18\r\n", false),
            ("VERSION 1.5.99\r\n", false),
            ("VERSION unknown\r\n", false),
        ] {
            assert_eq!(is_modern(line.as_bytes()), modern, "{line}");
        }
    }
}
