//! A question to the admin port, and its answer.

use super::client::Client;

/// The status and the text that this answers.
pub(crate) fn ask(address: &str, request: &str) -> (u16, String) {
    try_ask(address, request).unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// The same of one that may be gone.
pub(crate) fn try_ask(address: &str, request: &str) -> std::io::Result<(u16, String)> {
    let mut client = Client::try_connect(address)?;
    client.try_send(format!("{request} HTTP/1.1\r\nhost: ringway\r\n\r\n").as_bytes())?;
    while client.try_read_more()? {}
    let answer = String::from_utf8_lossy(client.ahead());
    let (head, text) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, text.to_owned()))
}
