//! `transition` of a pool: how long, after a change of its servers, those that had the keys before are still asked.

use super::fault::Findings;
use super::node::Node;
use super::path::Path;
use super::section::{Hint, Section};
use super::value;
use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) const KEYS: &[&str] = &["for", "copy", "rate"];
const HINTS: &[Hint] = &[("time", "write `for`"), ("duration", "write `for`"), ("window", "write `for`")];
/// Items that live for longer than a day are few, and their servers are wanted back.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3_600);
const RATES: RangeInclusive<usize> = 1..=1_000_000;

/// What becomes of keys whose server is another one since a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// For so long after a change.
    pub time: Duration,
    /// What is found at the former server is copied to the new one.
    pub copies: bool,
    /// Copies a second, of all workers together.
    pub rate_per_s: u32,
}

impl Transition {
    /// Most of what is used at all is used within minutes.
    pub const DEFAULT: Self = Self { time: Duration::from_secs(600), copies: true, rate_per_s: 10_000 };

    /// `None` is what is wrong and on record.
    pub(super) fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Self> {
        let section = Section::open(node, path, findings, "a map as in `{for: 10m}`")?;
        section.refuse_unknown(KEYS, HINTS);
        let rate = section.value("rate", |node| value::count(node, &RATES));
        Some(Self {
            time: section.value("for", |node| value::duration(node, &TIMES)).unwrap_or(Self::DEFAULT.time),
            copies: section.value("copy", value::boolean).unwrap_or(Self::DEFAULT.copies),
            rate_per_s: rate.and_then(|rate| u32::try_from(rate).ok()).unwrap_or(Self::DEFAULT.rate_per_s),
        })
    }
}
