//! Making a connection to a server: address, socket, and the proof that a memcached is at the other end.

use super::dialect::Dialect;
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

/// Connects and says hello; tells how the server reads. All of it within `timeout`.
pub(super) async fn connect(
    endpoint: &Endpoint,
    dial: &Dial,
    timeout: Duration,
) -> Result<(Stream, Dialect), ConnectFailure> {
    // Nothing is lost when the time is up: the half-made socket is dropped with the future.
    match tokio::time::timeout(timeout, establish(endpoint, dial)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectFailure {
            cause: Cause::ConnectTimeout,
            text: Cause::ConnectTimeout.line().to_owned(),
        }),
    }
}

async fn establish(endpoint: &Endpoint, dial: &Dial) -> Result<(Stream, Dialect), ConnectFailure> {
    let mut stream = match dial {
        Dial::Net => over_net(endpoint).await?,
        Dial::Memory(dial) => dial(endpoint).map_err(io_failure)?.into(),
    };
    let dialect = greet(&mut stream).await?;
    Ok((stream, dialect))
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
async fn greet(stream: &mut Stream) -> Result<Dialect, ConnectFailure> {
    let answer = line_for(stream, b"version\r\n").await?;
    if answer.starts_with(b"VERSION ") { Ok(Dialect::of_version(&answer)) } else { Err(not_memcached()) }
}

fn not_memcached() -> ConnectFailure {
    ConnectFailure::new("the answer to 'version' is not memcached's")
}

/// What is asked on a new connection has shorter answers.
const ANSWER_BYTES_MAX: usize = 512;

/// Sends a question on a new connection, and takes the one line that comes.
async fn line_for(stream: &mut Stream, question: &[u8]) -> Result<Vec<u8>, ConnectFailure> {
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

#[expect(clippy::needless_pass_by_value, reason = "used as a map_err function")]
fn io_failure(error: io::Error) -> ConnectFailure {
    // "Connection refused (os error 111)" → "Connection refused"
    let text = error.to_string();
    ConnectFailure::new(text.split(" (os error").next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::dialect::Dialect;
    use super::{ANSWER_BYTES_MAX, ConnectFailure, Dial, ask, connect};
    use crate::config::Endpoint;
    use crate::protocol::Cause;
    use std::cell::RefCell;
    use std::io;
    use std::path::Path;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const TIMEOUT: Duration = Duration::from_secs(1);

    /// Waits until `question` is there, then says these pieces one after the other; and holds on, or closes.
    #[expect(clippy::disallowed_methods, reason = "whoever drops this has seen enough")]
    async fn answer(mut server: DuplexStream, question: &[u8], pieces: &[&[u8]], closes: bool) {
        let mut asked = vec![0; question.len()];
        server.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked, question);
        for piece in pieces {
            server.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        if !closes {
            std::future::pending::<()>().await;
        }
    }

    /// What `connect` says of a server that answers `version` so.
    async fn greeted(pieces: &[&[u8]]) -> Result<Dialect, ConnectFailure> {
        let (here, there) = duplex(1 << 16);
        let here = RefCell::new(Some(here));
        let dial = Dial::Memory(Rc::new(move |_| here.take().ok_or(io::ErrorKind::ConnectionRefused.into())));
        let endpoint = Endpoint::Unix(Path::new("/in/memory").into());
        let answered = answer(there, b"version\r\n", pieces, false);
        tokio::select! {
            biased;
            connected = connect(&endpoint, &dial, TIMEOUT) => connected.map(|(_, dialect)| dialect),
            () = answered => unreachable!("it holds on"),
        }
    }

    async fn refused(pieces: &[&[u8]]) -> String {
        greeted(pieces).await.unwrap_err().text
    }

    #[tokio::test(start_paused = true)]
    async fn a_memcached_says_its_version_in_however_many_pieces() {
        assert_eq!(greeted(&[b"VERSION 1.6.45\r\n"]).await.unwrap(), Dialect::Today);
        assert_eq!(greeted(&[b"VERSION 1.6.18\r\n"]).await.unwrap(), Dialect::Meta);
        assert_eq!(greeted(&[b"VER", b"SION 1.6.4", b"5\r", b"\n"]).await.unwrap(), Dialect::Today);
        let longest = [b"VERSION ".as_slice(), &vec![b'1'; ANSWER_BYTES_MAX - 8]].concat();
        assert!(greeted(&[&longest, b"\r\n"]).await.is_ok(), "no more than what is too much");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_no_memcached_is_found_out() {
        const NOT: &str = "SERVER_ERROR connection error: the answer to 'version' is not memcached's";
        assert_eq!(refused(&[b"HTTP/1.1 400 Bad Request\r\n"]).await, NOT);
        assert_eq!(refused(&[b"VERSION 1.6.45\r\nmore"]).await, NOT, "who says more is not asked that");
        assert_eq!(refused(&[&vec![b'V'; ANSWER_BYTES_MAX + 1]]).await, NOT, "a line without an end");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_given_up() {
        let failure = greeted(&[]).await.unwrap_err();
        assert_eq!(failure.cause, Cause::ConnectTimeout);
        let failure = greeted(&[b"VERSION 1.6"]).await.unwrap_err();
        assert_eq!(failure.cause, Cause::ConnectTimeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_takes_any_line_for_an_answer() {
        const QUESTION: &[u8] = b"mg __ringway_probe__\r\n";
        let (here, there) = duplex(1 << 10);
        let answered = tokio::join!(ask(here.into(), TIMEOUT), async {
            tokio::time::timeout(TIMEOUT, answer(there, QUESTION, &[b"SERVER_ERROR busy\r\n"], false)).await
        });
        assert!(answered.0.is_ok());
        let (here, there) = duplex(1 << 10);
        let answered = tokio::join!(ask(here.into(), TIMEOUT), answer(there, QUESTION, &[], true));
        assert_eq!(answered.0.unwrap_err().cause, Cause::Connect);
        let (here, _there) = duplex(1 << 10);
        assert_eq!(ask(here.into(), TIMEOUT).await.unwrap_err().cause, Cause::Timeout);
    }

    #[test]
    fn a_failure_is_one_line_whatever_it_is_made_of() {
        let text = ConnectFailure::new("no\r\nSTORED\u{202e}\u{1b}[31m").text;
        assert_eq!(text, "SERVER_ERROR connection error: no??STORED??[31m");
        assert!(ConnectFailure::new("x".repeat(10_000)).text.len() < 300);
    }
}
