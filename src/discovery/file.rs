//! A file with the servers, written by a template, a script or another program: a line for each,
//! `HOST:PORT [NAME] [WEIGHT]`, also `HOST:PORT:WEIGHT [NAME]` as twemproxy has it and `HOST:PORT [weight=N] [name=NAME]` as our
//! own entries. `#` begins a comment; quotes, dashes and commas of lists are taken as decoration.
//!
//! Whoever writes it in place may be in the middle of it, between two lines: another text is taken when two looks in a row have
//! found the same (`table`). A last line without its end is no sign of that, since many write lists so.

use super::answer::{Answer, Listed, Records};
use crate::config::SERVERS_COUNT_MAX;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// 16,384 lines of a long name each.
const FILE_BYTES_MAX: u64 = 4 << 20;
const WEIGHT_MAX: u32 = 65_535;
/// As in a configuration: rings and lists are as long as this.
const WEIGHT_SUM_MAX: u64 = 4 << 20;
const NAME_BYTES_MAX: usize = 250;
const PORT_DEFAULT: u16 = 11_211;
/// It is looked at so often: that costs less than what watching a folder has of traps.
const TTL: Duration = Duration::from_secs(1);

/// Reads it. What is no list or not there changes nothing; a file that is empty but for comments has no servers.
pub(super) fn read(path: &Path) -> Answer {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Answer::Failed(error.to_string());
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Answer::Failed("it is longer than 4MiB".to_owned());
    }
    let Ok(text) = String::from_utf8(bytes) else { return Answer::Failed("it is no text".to_owned()) };
    match parse(&text) {
        Ok(entries) => Answer::Found(Records::List { version: 0, entries }, TTL),
        Err(why) => Answer::Failed(why),
    }
}

fn parse(text: &str) -> Result<Vec<Listed>, String> {
    let mut entries: Vec<Listed> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let line = line.strip_prefix("- ").unwrap_or(line).trim().trim_matches([',', '"', '\'']).trim();
        if line.is_empty() {
            continue;
        }
        if entries.len() == SERVERS_COUNT_MAX {
            return Err(format!("more than {SERVERS_COUNT_MAX} servers"));
        }
        entries
            .push(entry(line).ok_or_else(|| format!("line {} is not `HOST:PORT [NAME] [WEIGHT]`", i + 1))?);
    }
    let sum: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
    if sum > WEIGHT_SUM_MAX {
        return Err(format!("the weights sum up to {sum}; at most {WEIGHT_SUM_MAX}"));
    }
    Ok(entries)
}

fn entry(line: &str) -> Option<Listed> {
    let mut words = line.split_whitespace();
    let (host, port, weight) = address(words.next()?)?;
    let mut listed = Listed { host, port, name: None, weight: weight.unwrap_or(1), address: None };
    for word in words {
        match word.split_once('=') {
            Some(("weight", weight)) => listed.weight = parse_weight(weight)?,
            Some(("name", name)) => listed.name = Some(name.to_owned()),
            Some(_) => return None,
            // a name comes before a weight
            None if listed.name.is_some() => listed.weight = parse_weight(word)?,
            None => listed.name = Some(word.to_owned()),
        }
    }
    let is_sound =
        |name: &String| (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control);
    listed.name.as_ref().is_none_or(is_sound).then_some(listed)
}

/// `HOST`, `HOST:PORT`, `HOST:PORT:WEIGHT`, `[IP6]:PORT`.
fn address(text: &str) -> Option<(String, u16, Option<u32>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest.strip_prefix(':').unwrap_or(rest))
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let (port, weight) = match rest.split_once(':') {
        Some((port, weight)) => (port, Some(parse_weight(weight)?)),
        None => (rest, None),
    };
    let port = if port.is_empty() { PORT_DEFAULT } else { port.parse().ok().filter(|port| *port != 0)? };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let is_host = !host.is_empty() && host.len() <= 253 && host.chars().all(legal);
    is_host.then(|| (host.trim_end_matches('.').to_ascii_lowercase(), port, weight))
}

fn parse_weight(text: &str) -> Option<u32> {
    text.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let text = "# by a template\n10.0.0.1:11211\n  - \"a.example:11212 alpha 3\",\n10.0.0.2:11211:2 beta\n\
                    [::1]:5 name=six weight=4\nplain\n\n";
        let told: Vec<_> = parse(text)
            .unwrap()
            .into_iter()
            .map(|e| (e.host, e.port, e.name.unwrap_or_default(), e.weight))
            .collect();
        let of = |host: &str, port, name: &str, weight| (host.to_owned(), port, name.to_owned(), weight);
        assert_eq!(
            told,
            [
                of("10.0.0.1", 11211, "", 1),
                of("a.example", 11212, "alpha", 3),
                of("10.0.0.2", 11211, "beta", 2),
                of("::1", 5, "six", 4),
                of("plain", 11211, "", 1),
            ]
        );
    }

    #[test]
    fn one_bad_line_is_enough() {
        for line in
            ["a:0", "a:x", ":1", "a:1 n 0", "a:1 n 1 1 x=", "[x]:1", "a/b:1", "a:1:0", "a:1 weight=70000"]
        {
            let why = parse(&format!("ok:1\n{line}\n")).unwrap_err();
            assert!(why.contains("line 2"), "{line}: {why}");
        }
    }
}
