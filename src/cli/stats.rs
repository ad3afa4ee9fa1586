//! `ringway stats`: ask a running proxy, or any memcached, and print its numbers in columns.

use super::output;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

const ADDRESS_DEFAULT: &str = "127.0.0.1:5000";
/// A proxy that does not answer a person within this is as good as dead.
const TIMEOUT: Duration = Duration::from_secs(5);
/// `stats` of thousands of servers have some hundred kilobytes.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// Ask a running ringway for its numbers
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    ringway stats\n  \
    ringway stats 10.0.0.7:5000 settings\n  \
    ringway stats unix:/run/ringway.sock")]
pub(super) struct Args {
    /// Where it listens, `host:port` or `unix:/path` [default: 127.0.0.1:5000]; then which group of numbers: `settings`, …
    #[arg(value_name = "[ADDR] [WHAT]", num_args = 0..=2)]
    words: Vec<String>,
}

/// Asks and prints.
pub(super) fn run(args: &Args) -> ExitCode {
    let (address, what) = match split(&args.words) {
        Ok(parts) => parts,
        Err(why) => return output::failed(&why),
    };
    match ask(address, what) {
        Ok(reply) => match columns(&reply) {
            Ok(text) => output::answer(&text),
            Err(said) => output::failed(&format!("{address} answered: {said}")),
        },
        Err(error) => output::failed(&explain(address, &error)),
    }
}

/// A word with a colon is the address: `ringway stats settings` needs none.
fn split(words: &[String]) -> Result<(&str, &str), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (address, what) = match words.as_slice() {
        [] => (ADDRESS_DEFAULT, ""),
        [one] if one.contains(':') => (*one, ""),
        [one] => (ADDRESS_DEFAULT, *one),
        [address, what, ..] => (*address, *what),
    };
    if !address.contains(':') {
        return Err(format!("`{address}` has no port: write `{address}:5000`"));
    }
    if what.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("the group of numbers is one word".to_owned());
    }
    Ok((address, what))
}

fn ask(address: &str, what: &str) -> io::Result<String> {
    let line = if what.is_empty() { "stats\r\n".to_owned() } else { format!("stats {what}\r\n") };
    if let Some(path) = address.strip_prefix("unix:") {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        return converse(stream, &line);
    }
    let mut last = io::Error::new(ErrorKind::NotFound, "no such host");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return converse(stream, &line);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn converse(mut stream: impl Read + Write, line: &str) -> io::Result<String> {
    stream.write_all(line.as_bytes())?;
    let mut reply = Vec::new();
    let mut part = [0; 16 << 10];
    while !is_complete(&reply) {
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed in the middle of its answer"));
        }
        reply.extend_from_slice(&part[..count]);
        if reply.len() > REPLY_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer does not end"));
        }
    }
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// `END` after numbers; or one line that is none.
fn is_complete(reply: &[u8]) -> bool {
    if reply.starts_with(b"STAT ") {
        return reply.ends_with(b"\r\nEND\r\n");
    }
    reply.ends_with(b"\n")
}

/// Numbers in columns; `Err` is an answer that holds none.
fn columns(reply: &str) -> Result<String, String> {
    let lines: Vec<&str> = reply.lines().collect();
    match lines.as_slice() {
        ["END"] => return Ok("nothing to tell\n".to_owned()),
        [one] if !one.starts_with("STAT ") => return Err(shown(one)),
        _ => {}
    }
    let pairs: Vec<(&str, &str)> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("STAT "))
        .map(|stat| stat.split_once(' ').unwrap_or((stat, "")))
        .collect();
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    Ok(pairs
        .iter()
        .map(|(name, value)| format!("{}\n", format!("{:<width$}  {}", shown(name), shown(value)).trim_end()))
        .collect())
}

/// What a stranger sent, without what would move the terminal's cursor.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn explain(address: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
            format!(
                "nobody listens on {address} ({error}); `ringway` without arguments starts one on {ADDRESS_DEFAULT}"
            )
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("{address} does not answer"),
        _ => format!("{address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_columns() {
        let text = columns("STAT pid 7\r\nSTAT curr_connections 10\r\nSTAT empty \r\nEND\r\n").unwrap();
        assert_eq!(text, "pid               7\ncurr_connections  10\nempty\n");
        assert_eq!(columns("ERROR\r\n"), Err("ERROR".into()));
        assert_eq!(columns("END\r\n"), Ok("nothing to tell\n".into()));
    }

    #[test]
    fn the_words() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            split(&words).map(|(a, b)| (a.to_owned(), b.to_owned()))
        };
        assert_eq!(of(&[]), Ok((ADDRESS_DEFAULT.into(), String::new())));
        assert_eq!(of(&["settings"]), Ok((ADDRESS_DEFAULT.into(), "settings".into())));
        assert_eq!(of(&["[::1]:5"]), Ok(("[::1]:5".into(), String::new())));
        assert_eq!(of(&["a:5", "items"]), Ok(("a:5".into(), "items".into())));
        assert!(of(&["a", "items"]).is_err());
        assert!(of(&["a:5", "items\r\nflush_all"]).is_err());
    }

    #[test]
    fn an_answer_in_pieces_is_awaited() {
        assert!(!is_complete(b""));
        assert!(!is_complete(b"STAT a 1\r\n"));
        assert!(!is_complete(b"STAT END\r\nEND"));
        assert!(is_complete(b"STAT a 1\r\nEND\r\n"));
        assert!(is_complete(b"RESET\r\n"));
    }
}
