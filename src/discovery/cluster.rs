//! What a configuration endpoint (ElastiCache, Memorystore) says: `config get cluster`, and how older ones are asked.
//!
//! ```text
//! config get cluster
//! CONFIG cluster 0 147
//! 12
//! mycache.0001.use1.cache.amazonaws.com|10.0.0.1|11211 mycache.0002.…|10.0.0.2|11211
//!
//! END
//! ```

use super::answer::{Answer, Listed, Records};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// For all of it.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// The service says nothing about it; AWS' own client asks once a minute.
const TTL: Duration = Duration::from_secs(10);
/// A thousand nodes.
const ANSWER_BYTES_MAX: usize = 256 << 10;
const QUESTION: &str = "config get cluster\r\n";
/// Of engines before 1.4.14.
const OLD_QUESTION: &str = "get AmazonElastiCache:cluster\r\n";

/// Asks the first of these addresses that answers.
pub(super) async fn ask(addresses: &[SocketAddr]) -> Answer {
    let mut why = "no address is known".to_owned();
    for address in addresses {
        // Nothing is lost when the time is up: the connection is dropped with the future.
        match tokio::time::timeout(ASK_TIMEOUT, ask_one(*address)).await {
            Ok(Ok(records)) => return Answer::Found(records, TTL),
            Ok(Err(failure)) => why = format!("{address}: {failure}"),
            Err(_) => why = format!("{address}: no answer in time"),
        }
    }
    Answer::Failed(why)
}

async fn ask_one(address: SocketAddr) -> Result<Records, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let mut text = String::new();
    for question in [QUESTION, OLD_QUESTION] {
        text = say(&mut stream, question).await?;
        if text.contains('|') {
            break;
        }
    }
    parse(&text)
}

async fn say(stream: &mut TcpStream, question: &str) -> Result<String, String> {
    #[expect(clippy::disallowed_methods, reason = "whoever drops this drops the new connection with it")]
    stream.write_all(question.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await.map_err(|error| error.to_string())? == 0 {
            return Err("closed before the end of the answer".to_owned());
        }
        let is_error = answer.ends_with(b"\r\n") && answer.iter().filter(|b| **b == b'\n').count() == 1;
        if answer.ends_with(b"END\r\n")
            || (is_error && !answer.starts_with(b"CONFIG") && !answer.starts_with(b"VALUE"))
        {
            return String::from_utf8(answer).map_err(|_| "the answer is no text".to_owned());
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err("the answer has no end".to_owned());
        }
    }
}

/// Of the lines behind the first: the version, and one with all nodes.
fn parse(text: &str) -> Result<Records, String> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if !first.starts_with("CONFIG cluster ") && !first.starts_with("VALUE AmazonElastiCache:cluster ") {
        return Err("it does not know `config get cluster`".to_owned());
    }
    let version = lines.next().and_then(|line| line.trim().parse::<u64>().ok());
    let version = version.ok_or("there is no version in the answer")?;
    let nodes = lines.next().unwrap_or_default();
    let entries: Option<Vec<Listed>> = nodes.split_whitespace().map(node).collect();
    Ok(Records::List { version, entries: entries.ok_or("a node that is not `host|address|port`")? })
}

/// `host|address|port`; either of the first two may be empty.
fn node(text: &str) -> Option<Listed> {
    let mut parts = text.split('|');
    let (host, address, port) = (parts.next()?, parts.next()?, parts.next()?);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let address = if address.is_empty() { None } else { Some(address.parse::<IpAddr>().ok()?) };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let host = match (host, address) {
        ("", Some(address)) => address.to_string(),
        ("", None) => return None,
        (host, _) if host.len() <= 253 && host.chars().all(legal) => {
            host.trim_end_matches('.').to_ascii_lowercase()
        }
        _ => return None,
    };
    parts.next().is_none().then_some(Listed { host, port, name: None, weight: 1, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_their_version() {
        let text =
            "CONFIG cluster 0 70\r\n12\nA.example|10.0.0.1|11211 b.example||11212 |10.0.0.3|1\n\r\nEND\r\n";
        let Ok(Records::List { version, entries }) = parse(text) else { panic!("{:?}", parse(text)) };
        assert_eq!(version, 12);
        let told: Vec<_> = entries.iter().map(|e| (e.host.as_str(), e.port, e.address.is_some())).collect();
        assert_eq!(told, [("a.example", 11211, true), ("b.example", 11212, false), ("10.0.0.3", 1, true)]);
    }

    #[test]
    fn what_is_no_such_answer() {
        for text in [
            "",
            "ERROR\r\n",
            "END\r\n",
            "CONFIG cluster 0 1\r\nx\na|1.2.3.4|1\n",
            "CONFIG cluster 0 1\r\n1\na|1.2.3|1\n",
            "CONFIG cluster 0 1\r\n1\na|1.2.3.4|0\n",
            "CONFIG cluster 0 1\r\n1\na|1.2.3.4|1|2\n",
            "CONFIG cluster 0 1\r\n1\na b\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let none = parse("CONFIG cluster 0 1\r\n1\n\n\r\nEND\r\n");
        assert!(matches!(none, Ok(Records::List { entries, .. }) if entries.is_empty()));
    }
}
