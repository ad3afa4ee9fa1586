//! `tko`: when a server is knocked out, and when it is looked at again. The names are those of mcrouter's options.

use super::fault::{At, Findings, Problem};
use super::node::Node;
use super::path::Path;
use super::section::{Hint, Section};
use super::value::{self, TIMEOUTS};
use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) const KEYS: &[&str] =
    &["timeouts_until_tko", "probe_timeout_initial", "probe_timeout_max", "tko_on_disconnect", "fail_open"];
const HINTS: &[Hint] = &[
    ("timeouts", "write `timeouts_until_tko`"),
    ("failures_until_tko", "write `timeouts_until_tko`"),
    ("probe_first", "write `probe_timeout_initial`"),
    ("probe_max", "write `probe_timeout_max`"),
    ("tko_tracker", "write `fail_open: {upper: 3, lower: 1}`"),
];
pub(super) const FAIL_OPEN_KEYS: &[&str] = &["upper", "lower"];
const FAIL_OPEN_HINTS: &[Hint] = &[
    ("num_tko_threshold_upper", "write `upper`"),
    ("num_tko_threshold_lower", "write `lower`"),
    ("percent_tko_threshold_upper", "write `upper`, as in `50%`"),
    ("percent_tko_threshold_lower", "write `lower`, as in `50%`"),
];
const TIMEOUTS_UNTIL_TKO: RangeInclusive<usize> = 1..=1_000_000;
const COUNTS: RangeInclusive<usize> = 0..=1_000_000;

/// When a server is knocked out, and when it is looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tko {
    /// Timeouts in a row until a server is knocked out.
    pub timeouts_count: u32,
    /// The pause before the first probe, and the longest; each has jitter.
    pub probe_first: Duration,
    pub probe_max: Duration,
    /// A connection that breaks knocks its server out, even if it was idle.
    pub on_disconnect: bool,
    pub fail_open: Option<FailOpen>,
}

/// When so many servers of the pool are out, no further one is knocked out until it is down to the lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailOpen {
    pub upper: Share,
    pub lower: Share,
}

/// So many servers of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    Count(usize),
    Percent(usize),
}

impl Tko {
    /// Ours: looked at again soon, and only what cannot be used is out.
    pub const DEFAULT: Self = Self {
        timeouts_count: 3,
        probe_first: Duration::from_millis(100),
        probe_max: Duration::from_secs(10),
        on_disconnect: false,
        fail_open: None,
    };

    /// mcrouter's.
    pub const MCROUTER: Self = Self {
        timeouts_count: 3,
        probe_first: Duration::from_secs(10),
        probe_max: Duration::from_secs(60),
        on_disconnect: true,
        fail_open: None,
    };

    /// Reads `off`, or a map; `None` is `off`, or what is wrong and on record.
    pub(super) fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Self> {
        if matches!(node, Node::Text(text) if text == "off") {
            return None;
        }
        let section = Section::open(node, path, findings, "`off`, or a map as in `{timeouts_until_tko: 3}`")?;
        section.refuse_unknown(KEYS, HINTS);
        let duration = |key| section.value(key, |node| value::duration(node, &TIMEOUTS));
        let timeouts = section.value("timeouts_until_tko", |node| value::count(node, &TIMEOUTS_UNTIL_TKO));
        let timeouts = timeouts.and_then(|count| u32::try_from(count).ok());
        let first = duration("probe_timeout_initial").unwrap_or(Self::DEFAULT.probe_first);
        let max = duration("probe_timeout_max").unwrap_or_else(|| Self::DEFAULT.probe_max.max(first));
        if max < first {
            let message = format!("less than `probe_timeout_initial`, {}", value::show_duration(first));
            findings.fault(&path.key("probe_timeout_max"), At::Value, Problem::new(message));
        }
        let fail_open = path.key("fail_open");
        Some(Self {
            timeouts_count: timeouts.unwrap_or(Self::DEFAULT.timeouts_count),
            probe_first: first,
            probe_max: max,
            on_disconnect: section.value("tko_on_disconnect", value::boolean).unwrap_or_default(),
            fail_open: section.node("fail_open").and_then(|node| FailOpen::read(node, &fail_open, findings)),
        })
    }
}

impl FailOpen {
    fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Self> {
        let section = Section::open(node, path, findings, "a map as in `{upper: 50%, lower: 25%}`")?;
        section.refuse_unknown(FAIL_OPEN_KEYS, FAIL_OPEN_HINTS);
        for key in FAIL_OPEN_KEYS {
            if section.node(key).is_none() {
                findings.fault(path, At::Key, Problem::new(format!("`{key}` is missing")));
            }
        }
        let share = |key| section.value(key, Share::read);
        let (upper, lower) = (share("upper")?, share("lower")?);
        let is_less = match (upper, lower) {
            (Share::Count(upper), Share::Count(lower)) | (Share::Percent(upper), Share::Percent(lower)) => {
                lower < upper
            }
            _ => true,
        };
        if !is_less {
            section.fault("lower", Problem::new("not less than `upper`"));
        }
        Some(Self { upper, lower })
    }

    /// Upper and lower number for a pool of so many servers.
    #[must_use]
    pub fn counts(&self, servers_count: usize) -> (usize, usize) {
        // The pool must not be open while nobody is out.
        let upper = self.upper.count(servers_count).max(1);
        (upper, self.lower.count(servers_count).min(upper - 1))
    }
}

impl Share {
    fn read(node: &Node) -> Result<Self, Problem> {
        let what = "a number of servers, or a share as in `50%`";
        match node {
            Node::Text(text) => {
                let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
                let percent = percent.filter(|percent| *percent <= 100).map(Self::Percent);
                percent.ok_or_else(|| value::expected(what, node))
            }
            _ => value::count(node, &COUNTS).map(Self::Count),
        }
    }

    const fn count(self, servers_count: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (servers_count * percent).div_ceil(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_pool() {
        let of = |upper, lower| FailOpen { upper, lower };
        let percent = of(Share::Percent(50), Share::Percent(20));
        assert_eq!(percent.counts(10), (5, 2));
        assert_eq!(percent.counts(3), (2, 1));
        assert_eq!(percent.counts(1), (1, 0));
        assert_eq!(of(Share::Count(3), Share::Count(1)).counts(100), (3, 1));
        assert_eq!(of(Share::Count(0), Share::Percent(100)).counts(4), (1, 0));
    }
}
