//! mcrouter's asynclog: its lines and where it puts them, so that programs that read or write them go on working.
//!
//! ```text
//! ["AS1.0", 1700000000.25, "C", ["10.0.0.1", 11211, "delete key\r\n"]]
//! ["AS2.0", 1700000000.25, "C", {"s":"mcrouter","f":"","r":"","h":"[10.0.0.1]:11211","p":"main","k":"key","a":{}}]
//! DIR/20231114T22-1699999200/20231114T221320-1700000000-SERVICE-ROUTER-tTHREAD-NUMBER
//! ```
//! A JSON text holds characters, a key any bytes. As mcrouter does it, bytes that are no UTF-8 stand there as they are, so a
//! line of such a key is no JSON to strict readers; it is read here, to the byte.

use super::entry::Delete;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    As1,
    As2,
}

/// Bytes that are no UTF-8 are read as characters that nobody uses, from this one on.
const STRAY: u32 = 0x10_ff00;

/// The line of a delete, with its line end.
#[must_use]
pub fn write_line(delete: &Delete, version: Version) -> Vec<u8> {
    let (host, port) = split_address(&delete.address);
    let time = delete.time_ms as f64 / 1_000.0;
    let value = match version {
        Version::As1 => {
            let command = format!("{}\r\n", command(&delete.key));
            json!(["AS1.0", time, "C", [host, port, command]])
        }
        Version::As2 => json!(["AS2.0", time, "C", {
            "s": "ringway", "f": "", "r": "", "h": format!("[{host}]:{port}"),
            "p": delete.pool, "k": characters(&delete.key), "a": {},
        }]),
    };
    bytes(&format!("{value}\n"))
}

/// `delete KEY`; a key that would not be one word goes in base64, so that a program which sends the line on sends one command.
fn command(key: &[u8]) -> String {
    let mut line = String::new();
    crate::route::with_delete(key, |request| {
        let word = if request.meta.token.is_empty() { request.key } else { request.meta.token };
        line = format!("{} {}", request.op.name(), characters(word));
        if request.op.is_meta() {
            line.push_str(" b");
        }
    });
    line
}

/// Reads a line of either version.
///
/// # Errors
/// What is wrong with it.
pub fn parse_line(line: &[u8]) -> Result<Delete, String> {
    let text = characters(line);
    let value: Value = serde_json::from_str(text.trim()).map_err(|error| error.to_string())?;
    let [version, time, _, what] = value.as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err("not a list of four".to_owned());
    };
    let time_ms = time.as_f64().filter(|time| (0.0..1e13).contains(time)).ok_or("the time is no number")?;
    let time_ms = (time_ms * 1_000.0).round() as u64;
    let text_of = |value: &Value| value.as_str().map(str::to_owned);
    match version.as_str() {
        Some("AS1.0") => {
            let [host, port, command] = what.as_array().map(Vec::as_slice).unwrap_or_default() else {
                return Err("no list of host, port and command".to_owned());
            };
            let (Some(host), Some(port), Some(command)) = (text_of(host), port.as_u64(), text_of(command))
            else {
                return Err("host, port or command is missing".to_owned());
            };
            let key = key_of(&command)?;
            Ok(Delete { number: 0, time_ms, pool: String::new(), address: joined(&host, port), key })
        }
        Some("AS2.0") => {
            let field = |name: &str| what.get(name).and_then(Value::as_str);
            let (Some(host), Some(key)) = (field("h"), field("k")) else {
                return Err("`h` or `k` is missing".to_owned());
            };
            let (host, port) = host.rsplit_once(':').ok_or("`h` has no port")?;
            let port = port.parse().map_err(|_| "`h` has no port")?;
            let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
            let pool = field("p").unwrap_or_default().to_owned();
            Ok(Delete { number: 0, time_ms, pool, address: joined(host, port), key: bytes(key) })
        }
        _ => Err("neither AS1.0 nor AS2.0".to_owned()),
    }
}

fn key_of(command: &str) -> Result<Vec<u8>, String> {
    use base64::Engine as _;
    let line = command.strip_suffix("\r\n").unwrap_or(command);
    if let Some(key) = line.strip_prefix("delete ") {
        return Ok(bytes(key));
    }
    let token = line.strip_prefix("md ").and_then(|rest| rest.strip_suffix(" b")).ok_or("no delete")?;
    let mut key = vec![0; token.len()];
    let length = base64::engine::general_purpose::STANDARD
        .decode_slice(token, &mut key)
        .map_err(|error| format!("no base64: {error}"))?;
    key.truncate(length);
    Ok(key)
}

/// `10.0.0.1:11211`, `[::1]:11211`, `unix:/path` → host and port; a path has port 0.
fn split_address(address: &str) -> (&str, u64) {
    let Some((host, port)) = address.rsplit_once(':').filter(|_| !address.starts_with("unix:")) else {
        return (address, 0);
    };
    let Ok(port) = port.parse() else { return (address, 0) };
    (host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host), port)
}

fn joined(host: &str, port: u64) -> String {
    match host {
        _ if host.starts_with("unix:") => host.to_owned(),
        _ if host.contains(':') => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// The file that mcrouter would write this delete to, below its directory.
#[must_use]
pub fn file_of(time_ms: u64) -> String {
    const HOUR: u64 = 3_600;
    let seconds = time_ms / 1_000;
    let (hour, quarter) = (seconds / HOUR * HOUR, seconds / 900 * 900);
    let (day, time) = calendar(quarter);
    format!("{day}T{}-{hour}/{day}T{time}-{quarter}-ringway-0-t0-0", &time[..2])
}

/// `YYYYMMDD` and `HHMMSS` of seconds since 1970, in UTC.
#[must_use]
pub fn calendar(seconds: u64) -> (String, String) {
    // days to a civil date: years begin in March, so that the leap day is the last one
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    (
        format!("{year:04}{month:02}{day:02}"),
        format!("{:02}{:02}{:02}", rest / 3_600, rest / 60 % 60, rest % 60),
    )
}

/// Any bytes as characters: those that are no UTF-8 as strays.
fn characters(bytes: &[u8]) -> Cow<'_, str> {
    let is_stray = |c: char| u32::from(c) >= STRAY;
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains(is_stray)
    {
        return Cow::Borrowed(text);
    }
    let stray = |byte: &u8| char::from_u32(STRAY + u32::from(*byte));
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_stray(c) {
                text.extend(c.encode_utf8(&mut [0; 4]).as_bytes().iter().filter_map(stray));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().filter_map(stray));
    }
    Cow::Owned(text)
}

/// The way back.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(u32::from(c).wrapping_sub(STRAY)) {
            Ok(stray) if stray >= 0x80 => bytes.push(stray),
            _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delete(address: &str, key: &[u8]) -> Delete {
        let pool = "main".to_owned();
        Delete { number: 0, time_ms: 1_700_000_000_250, pool, address: address.to_owned(), key: key.to_vec() }
    }

    #[test]
    fn lines_are_mcrouters() {
        let said =
            |version| String::from_utf8(write_line(&delete("10.0.0.1:11211", b"key"), version)).unwrap();
        let wanted = r#"["AS1.0",1700000000.25,"C",["10.0.0.1",11211,"delete key\r\n"]]"#;
        assert_eq!(said(Version::As1).trim_end(), wanted);
        let line: Value = serde_json::from_str(&said(Version::As2)).unwrap();
        let wanted = json!({"s":"ringway","f":"","r":"","h":"[10.0.0.1]:11211","p":"main","k":"key","a":{}});
        assert_eq!(line, json!(["AS2.0", 1_700_000_000.25, "C", wanted]));
    }

    #[test]
    fn lines_with_spaces_and_other_attributes_are_read() {
        let line = br#"["AS2.0", 1700000000, "C", {"s":"x","f":"web","r":"us","h":"[::1]:11211","p":"A","k":"a\u00e9","a":{"z":1}}]"#;
        let read = parse_line(line).unwrap();
        let (address, key) = (read.address.as_str(), read.key.as_slice());
        assert_eq!((address, read.pool.as_str(), key), ("[::1]:11211", "A", "aé".as_bytes()));
        for wrong in
            ["", "[]", "{}", "[1,2,3,4]", r#"["AS1.0",1,"C",["h",1,"set k"]]"#, r#"["AS3.0",1,"C",{}]"#]
        {
            assert!(parse_line(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_are_where_mcrouter_puts_them() {
        assert_eq!(
            file_of(1_700_000_000_250),
            "20231114T22-1699999200/20231114T220000-1699999200-ringway-0-t0-0"
        );
        assert_eq!(calendar(951_782_400), ("20000229".into(), "000000".into()));
    }

    proptest! {
        #[test]
        fn any_key_survives_both(key in proptest::collection::vec(any::<u8>(), 1..180), place in 0_usize..4) {
            let key = if place == 3 { [&key[..], "\u{10ffff}".as_bytes()].concat() } else { key };
            let address = ["10.0.0.1:11211", "[2001:db8::1]:11211", "cache-0.cache:11211", "unix:/run/m.sock"][place];
            for version in [Version::As1, Version::As2] {
                let line = write_line(&delete(address, &key), version);
                prop_assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
                let read = parse_line(&line).unwrap();
                prop_assert_eq!((read.address.as_str(), &read.key), (address, &key));
            }
        }
    }
}
