//! Single values: counts, sizes, durations, names. Each says what it expected and what it found.

use super::fault::{Problem, quoted};
use super::node::Node;
use super::section::nearest_help;
use std::ops::RangeInclusive;
use std::time::Duration;

const BYTE_UNITS: &[(&str, u128)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];
const MS: Duration = Duration::from_millis(1);
const TIME_UNITS: &[(&str, u128)] = &[
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

pub(crate) fn text(node: &Node, what: &str) -> Result<String, Problem> {
    match node {
        Node::Text(text) => Ok(text.clone()),
        Node::Integer(_) | Node::Float(_) | Node::Bool(_) => {
            Err(expected(what, node).help("put it in quotes to make it text"))
        }
        _ => Err(expected(what, node)),
    }
}

pub(crate) fn boolean(node: &Node) -> Result<bool, Problem> {
    match node {
        Node::Bool(value) => Ok(*value),
        _ => Err(expected("`true` or `false`", node)),
    }
}

pub(crate) fn count(node: &Node, range: &RangeInclusive<usize>) -> Result<usize, Problem> {
    let what = format!("a number from {} to {}", range.start(), range.end());
    match node {
        Node::Integer(value) => {
            usize::try_from(*value).ok().filter(|v| range.contains(v)).ok_or_else(|| expected(&what, node))
        }
        _ => Err(expected(&what, node)),
    }
}

/// A name out of a table.
pub(crate) fn choice<T: Copy>(node: &Node, what: &str, all: &[(&str, T)]) -> Result<T, Problem> {
    let name = if let Node::Text(name) = node { name.as_str() } else { "" };
    let found = all.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        expected(what, node).help(nearest_help(name, &known))
    })
}

/// A size: bytes, or a number with its unit.
pub(crate) fn bytes(node: &Node, range: &RangeInclusive<usize>) -> Result<usize, Problem> {
    let what = format!("a size from {} to {}", show_bytes(*range.start()), show_bytes(*range.end()));
    let amount = match node {
        Node::Integer(value) => u128::try_from(*value).ok(),
        Node::Text(text) => match quantity(text) {
            Some((digits, decimals, unit)) if !unit.is_empty() => {
                let Some((_, factor)) = BYTE_UNITS.iter().find(|(name, _)| *name == unit) else {
                    return Err(expected(&what, node).help(byte_unit_help(unit)));
                };
                scaled(digits, decimals, *factor)
            }
            _ => {
                let help = "bytes, or a number with its unit as in `64KiB`, `4MB`, `1GiB`";
                return Err(expected(&what, node).help(help));
            }
        },
        _ => None,
    };
    amount
        .and_then(|amount| usize::try_from(amount).ok())
        .filter(|amount| range.contains(amount))
        .ok_or_else(|| expected(&what, node))
}

/// A duration, or `off`; `example` for whoever wrote something else.
pub(crate) fn duration_or_off(
    node: &Node,
    range: &RangeInclusive<Duration>,
    example: &str,
) -> Result<Option<Duration>, Problem> {
    match node {
        Node::Text(text) if text == "off" => Ok(None),
        _ => duration(node, range)
            .map(Some)
            .map_err(|problem| problem.help(format!("`off`, or a time such as `{example}`"))),
    }
}

/// A duration: a number with its unit; without one nobody can tell seconds from milliseconds.
pub(crate) fn duration(node: &Node, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
    let what =
        format!("a duration from {} to {}", show_duration(*range.start()), show_duration(*range.end()));
    let unit_help = "write a unit, as in `500ms`, `2s`, `1m`";
    let nanos = match node {
        Node::Integer(_) | Node::Float(_) => {
            return Err(Problem::new(format!("{} has no unit", node.kind())).help(unit_help));
        }
        Node::Text(text) => quantity(text).and_then(|(digits, decimals, unit)| {
            let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
            scaled(digits, decimals, *factor)
        }),
        _ => None,
    };
    let nanos = nanos.ok_or_else(|| expected(&what, node).help(unit_help))?;
    let duration = u64::try_from(nanos).ok().map(Duration::from_nanos);
    duration.filter(|duration| range.contains(duration)).ok_or_else(|| expected(&what, node))
}

/// `1.5GiB` → (15, 1, "GiB"): digits without the point, how many stood behind it, unit.
fn quantity(text: &str) -> Option<(u128, u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty()
        || part.contains('.')
        || number.len() > 20
        || (part.is_empty() && number.contains('.'))
    {
        return None;
    }
    let digits = format!("{whole}{part}").parse().ok()?;
    Some((digits, u32::try_from(part.len()).ok()?, unit.trim_start_matches(' ')))
}

fn scaled(digits: u128, decimals: u32, factor: u128) -> Option<u128> {
    digits.checked_mul(factor)?.checked_div(10u128.checked_pow(decimals)?)
}

fn byte_unit_help(unit: &str) -> String {
    let meant = match unit.chars().next().map(|c| c.to_ascii_uppercase()) {
        Some(first @ ('K' | 'M' | 'G' | 'T')) => format!("write `{first}iB` (1024) or `{first}B` (1000)"),
        _ => "units are B, KiB, MiB, GiB, KB, MB, GB".to_owned(),
    };
    format!("{} is not a unit: {meant}", quoted(unit))
}

/// The largest unit that divides it.
pub(crate) fn show_bytes(bytes: usize) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// The largest unit that divides it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if !duration.subsec_micros().is_multiple_of(1_000) {
        return format!("{}us", duration.as_micros());
    }
    if ms == 0 {
        return "0s".into();
    }
    for (unit, factor) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

pub(crate) fn expected(what: &str, node: &Node) -> Problem {
    Problem::new(format!("expected {what}, found {}", node.kind()))
}

/// Time limits of requests: shorter than the timers' resolution is not kept, longer than an hour is not meant.
pub(crate) const TIMEOUTS: RangeInclusive<Duration> = MS..=Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Node {
        Node::Text(text.into())
    }

    #[test]
    fn sizes() {
        let all = 0..=usize::MAX;
        for (text, want) in [
            ("64KiB", 65_536),
            ("4MB", 4_000_000),
            ("1.5GiB", 3 << 29),
            ("10 MiB", 10 << 20),
            ("7B", 7),
            ("0.5KiB", 512),
        ] {
            assert_eq!(bytes(&t(text), &all), Ok(want), "{text}");
        }
        assert_eq!(bytes(&Node::Integer(1024), &all), Ok(1024));
        for text in
            ["", "MiB", "1", "1..5MiB", "1.MiB", "-1MiB", "1e3B", "1MiBs", "99999999999999999999TiB", ".5MiB"]
        {
            assert!(bytes(&t(text), &all).is_err(), "{text}");
        }
        assert!(bytes(&t("1M"), &all).unwrap_err().help.unwrap().contains("`MiB` (1024) or `MB` (1000)"));
        assert!(bytes(&Node::Integer(-1), &all).is_err());
    }

    #[test]
    fn durations() {
        let range = TIMEOUTS;
        for (text, ms) in [("500ms", 500), ("2s", 2_000), ("1m", 60_000), ("1.5s", 1_500), ("1h", 3_600_000)]
        {
            assert_eq!(duration(&t(text), &range), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "0s", "2h", "1d", "1 min", "-1s", "s"] {
            assert!(duration(&t(text), &range).is_err(), "{text}");
        }
        assert!(duration(&Node::Integer(500), &range).unwrap_err().help.unwrap().contains("write a unit"));
    }

    #[test]
    fn shown_in_the_largest_unit() {
        assert_eq!(show_bytes(1 << 20), "1MiB");
        assert_eq!(show_bytes(1_000), "1000B");
        assert_eq!(show_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(show_duration(Duration::from_secs(60)), "1m");
    }
}
