//! `ringway health`: asks a running ringway whether it is ready, or whether it lives. For probes that run a command, and for
//! images without a shell.

use super::output;
use super::source::config_file;
use crate::config::{self, Listen, Settings};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// No answer is longer.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// Ask a running ringway whether it is ready: exit code 0 when it is
///
/// Asks the admin port that the configuration names, else says `version` where clients connect. The configuration need not be
/// sound: a probe must not fail because somebody wrote a fault into the file that serves no longer.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    ringway health -c /etc/ringway.yaml\n  \
    ringway health --admin 127.0.0.1:5001 --live\n  \
    ringway health unix:/run/ringway.sock")]
pub(super) struct Args {
    /// Where clients connect, `host:port` or `unix:/path`, instead of what a configuration says [default: 127.0.0.1:5000]
    #[arg(value_name = "ADDR", conflicts_with_all = ["config", "admin"])]
    address: Option<String>,
    /// The configuration that it was started with
    #[arg(short, long, value_name = "FILE", value_parser = config_file(), conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// The admin port, `host:port` or `unix:/path`
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Ask whether it lives, not whether clients should be sent to it
    #[arg(long)]
    live: bool,
    /// How long an answer may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
}

/// Asks; one line says what is wrong, or that nothing is.
pub(super) fn run(args: &Args) -> ExitCode {
    let deadline = Instant::now() + Duration::from_millis(args.timeout_ms);
    match args.place().and_then(|place| place.ask(args.live, deadline)) {
        Ok(said) => output::answer(&format!("{said}\n")),
        Err(why) => output::failed(&why),
    }
}

impl Args {
    fn place(&self) -> Result<Place, String> {
        if let Some(admin) = &self.admin {
            return Ok(Place::Admin(admin.clone()));
        }
        if let Some(address) = &self.address {
            return Ok(Place::Clients(address.clone()));
        }
        let settings = match &self.config {
            Some(file) => config::settings_of(file).map_err(|why| format!("{}: {why}", file.display()))?,
            None => Settings::default(),
        };
        Place::of(&settings)
    }
}

/// Whom to ask.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Admin(String),
    Clients(String),
}

impl Place {
    /// Of a process with these settings.
    fn of(settings: &Settings) -> Result<Self, String> {
        let reachable = |listen: &Listen| match listen {
            Listen::Tcp(address) if address.port() != 0 => Some(here(*address).to_string()),
            Listen::Unix(path) => Some(format!("unix:{}", path.display())),
            Listen::Tcp(_) | Listen::Fd(_) => None,
        };
        if let Some(admin) = settings.admin.as_ref().and_then(reachable) {
            return Ok(Self::Admin(admin));
        }
        let first = settings.listen.iter().find_map(reachable);
        first.map(Self::Clients).ok_or_else(|| "its ports are not known: name one".to_owned())
    }

    fn ask(&self, live: bool, deadline: Instant) -> Result<String, String> {
        let (Self::Admin(address) | Self::Clients(address)) = self;
        let answer = match self {
            Self::Admin(address) => {
                let path = if live { "/livez" } else { "/readyz" };
                let request = format!("GET {path} HTTP/1.1\r\nhost: ringway\r\nconnection: close\r\n\r\n");
                converse(address, &request, deadline, |_| false)
            }
            Self::Clients(address) => {
                converse(address, "version\r\n", deadline, |answer| answer.ends_with(b"\n"))
            }
        };
        let answer = answer.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("{address} does not answer"),
            _ => format!("{address}: {error}"),
        })?;
        let verdict = match self {
            Self::Admin(_) => of_http(&answer),
            Self::Clients(_) => of_version(&answer),
        };
        verdict.map_err(|why| format!("{address}: {why}"))
    }
}

/// Where to connect to what listens there: nobody can connect to "all addresses".
fn here(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// A status line, headers, and a text of one line.
fn of_http(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let said = shown(body);
    match words.next() {
        Some("200") if is_http => Ok(said),
        Some(_) if is_http && !said.is_empty() => Err(said),
        _ => Err("no ringway's admin port".to_owned()),
    }
}

fn of_version(answer: &str) -> Result<String, String> {
    let said = shown(answer);
    if said.starts_with("VERSION ") { Ok("ok".to_owned()) } else { Err(format!("answered: {said}")) }
}

/// The first line of what a stranger sent, without what would move the terminal's cursor.
fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn converse(
    address: &str,
    request: &str,
    deadline: Instant,
    is_whole: impl Fn(&[u8]) -> bool,
) -> io::Result<String> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut stream = if let Some(path) = address.strip_prefix("unix:") {
        Stream::Unix(UnixStream::connect(path)?)
    } else {
        // a name may have several: `localhost` often begins with that of IPv6
        let mut connected = Err(io::Error::new(ErrorKind::NotFound, "no such host"));
        for address in address.to_socket_addrs()? {
            connected = left().and_then(|left| TcpStream::connect_timeout(&address, left));
            if connected.is_ok() {
                break;
            }
        }
        Stream::Tcp(connected?)
    };
    stream.set_timeout(left()?)?;
    stream.write(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    while !is_whole(&answer) && answer.len() < ANSWER_BYTES_MAX {
        stream.set_timeout(left()?)?;
        match stream.read(&mut part)? {
            0 => break,
            count => answer.extend_from_slice(&part[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn set_timeout(&self, time: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.set_read_timeout(Some(time)).and_then(|()| s.set_write_timeout(Some(time))),
            Self::Unix(s) => s.set_read_timeout(Some(time)).and_then(|()| s.set_write_timeout(Some(time))),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.write_all(bytes),
            Self::Unix(s) => s.write_all(bytes),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(bytes),
            Self::Unix(s) => s.read(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_ask() {
        let mut settings = Settings::default();
        let of = |settings: &Settings| Place::of(settings);
        assert_eq!(of(&settings), Ok(Place::Clients("127.0.0.1:5000".into())));
        settings.listen = vec!["fd:3".parse().unwrap(), "0.0.0.0:7".parse().unwrap()];
        assert_eq!(of(&settings), Ok(Place::Clients("127.0.0.1:7".into())));
        settings.listen = vec!["unix:/run/r".parse().unwrap()];
        assert_eq!(of(&settings), Ok(Place::Clients("unix:/run/r".into())));
        settings.admin = Some("[::]:5001".parse().unwrap());
        assert_eq!(of(&settings), Ok(Place::Admin("[::1]:5001".into())));
        settings = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Settings::default() };
        assert!(of(&settings).is_err());
    }

    #[test]
    fn what_answers_mean() {
        assert_eq!(of_http("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"), Ok("ok".into()));
        assert_eq!(of_http("HTTP/1.1 503 X\r\na: b\r\n\r\ndraining\n"), Err("draining".into()));
        for other in ["", "ERROR\r\n", "HTTP/1.1", "SSH-2.0 200 x\r\n\r\nok"] {
            assert_eq!(of_http(other), Err("no ringway's admin port".into()), "{other}");
        }
        assert_eq!(of_version("VERSION 1.6\r\n"), Ok("ok".into()));
        assert!(of_version("ERROR Too many open connections\r\n").is_err());
    }
}
