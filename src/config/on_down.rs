//! `on_down` of a pool: what becomes of the keys of a server that is knocked out.

use super::fault::{At, Findings, Problem};
use super::node::Node;
use super::path::Path;
use super::section::Section;
use super::value;
use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) const KEYS: &[&str] = &["type", "gutter", "exptime"];
const TYPES: &[(&str, Type)] = &[("fail", Type::Fail), ("failover", Type::Failover), ("eject", Type::Eject)];
/// `0s` leaves times to live as they are.
const EXPTIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 24 * 3600);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Fail,
    Failover,
    Eject,
}

/// What becomes of the keys of a server that is knocked out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// They fail at once.
    #[default]
    Fail,
    /// They go to the next servers on the ring, or to this pool, until it is back. There nothing lives longer than so many
    /// seconds, if that is not 0.
    Failover { gutter: Option<String>, exptime_s: i32 },
    /// They are placed as if it were not there.
    Eject,
}

impl OnDown {
    /// mcrouter's for its gutters.
    pub const EXPTIME_S_DEFAULT: i32 = 60;

    /// Reads a word, or a map with `type`; `None` is what is wrong and on record.
    pub(super) fn read(node: &Node, path: &Path<'_>, findings: &Findings) -> Option<Self> {
        let what = "`fail`, `failover` or `eject`";
        let named = match node {
            Node::Text(_) => Node::Map(vec![("type".to_owned(), node.clone())]),
            _ => node.clone(),
        };
        let section =
            Section::open(&named, path, findings, "`fail`, `failover`, `eject`, or a map with `type`")?;
        section.refuse_unknown(KEYS, &[]);
        if section.node("type").is_none() {
            findings.fault(path, At::Key, Problem::new("`type` is missing").help(what));
        }
        // of the word alone the place is that of the whole
        let kind = match node {
            Node::Text(_) => value::choice(node, what, TYPES)
                .map_err(|problem| findings.fault(path, At::Value, problem))
                .ok()?,
            _ => section.value("type", |node| value::choice(node, what, TYPES))?,
        };
        let gutter = section.value("gutter", |node| value::text(node, "the name of a pool"));
        let exptime = section.value("exptime", |node| value::duration(node, &EXPTIMES));
        let exptime = exptime.and_then(|exptime| i32::try_from(exptime.as_secs()).ok());
        match kind {
            Type::Failover => {
                Some(Self::Failover { gutter, exptime_s: exptime.unwrap_or(Self::EXPTIME_S_DEFAULT) })
            }
            Type::Fail | Type::Eject => {
                for key in ["gutter", "exptime"].iter().filter(|key| section.node(key).is_some()) {
                    section.fault(key, Problem::new(format!("`{key}` goes with `type: failover`")));
                }
                Some(if kind == Type::Eject { Self::Eject } else { Self::Fail })
            }
        }
    }
}
