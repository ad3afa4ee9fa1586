//! Timeouts by distance: a reply from the same cluster is overdue long before one from another continent.
//!
//! Where a pool is, its `region` and `cluster` say; where we are, the prefix of the default route says.

use super::fault::{At, Findings, Problem, quoted};
use super::node::Node;
use super::path::Path;
use super::section::Section;
use super::value::{self, TIMEOUTS};
use super::{Config, Routes};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// mcrouter's `--route-prefix`.
pub const DEFAULT_PREFIX: &str = "/././";

/// For pools that say where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DistanceTimeouts {
    pub within_cluster: Option<Duration>,
    /// To another cluster of our region.
    pub cross_cluster: Option<Duration>,
    pub cross_region: Option<Duration>,
}

/// A cluster of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub region: String,
    pub cluster: String,
}

/// Where we are, and what follows from it for others.
pub(super) struct Vantage {
    /// `None`: the prefix is none, which is told where routes are read.
    here: Option<Location>,
    timeouts: DistanceTimeouts,
}

impl DistanceTimeouts {
    /// The keys at the top of a file.
    pub(super) const KEYS: [&str; 3] =
        ["within_cluster_timeout", "cross_cluster_timeout", "cross_region_timeout"];

    pub(super) fn read(top: &Section<'_>) -> Self {
        let [within_cluster, cross_cluster, cross_region] =
            Self::KEYS.map(|key| top.value(key, |node| value::duration(node, &TIMEOUTS)));
        Self { within_cluster, cross_cluster, cross_region }
    }

    /// In the order of `KEYS`.
    #[must_use]
    pub fn list(&self) -> [Option<Duration>; 3] {
        [self.within_cluster, self.cross_cluster, self.cross_region]
    }

    /// Nobody is anywhere: they do nothing.
    pub(super) fn warn_unused(top: &Section<'_>) {
        for key in Self::KEYS.into_iter().filter(|key| top.node(key).is_some()) {
            let problem = Problem::new("it does nothing: no pool has a `region` and a `cluster`");
            top.findings.warn(&top.path.key(key), At::Key, problem);
        }
    }
}

impl Location {
    /// `region` and `cluster` of a pool.
    pub(super) fn read(pool: &Section<'_>) -> Option<Self> {
        let name = |key| {
            pool.value(key, |node| {
                let name = value::text(node, "a name")?;
                let problem = || Problem::new(format!("{} is not a name within a prefix", quoted(&name)));
                if is_name(&name) { Ok(name) } else { Err(problem().help("as `west` in `/west/main/`")) }
            })
        };
        let found = (name("region"), name("cluster"));
        for (key, other) in [("region", "cluster"), ("cluster", "region")] {
            if pool.node(key).is_some() && pool.node(other).is_none() {
                let problem = Problem::new(format!("`{key}` without `{other}`"));
                let problem = problem.help("both are needed to tell how far away it is");
                pool.findings.fault(&pool.path.key(key), At::Key, problem);
            }
        }
        let (Some(region), Some(cluster)) = found else { return None };
        Some(Self { region, cluster })
    }

    /// Of mcrouter's pool: what is no text it passes over, and one of the two alone means nothing.
    pub(super) fn read_mcrouters(pool: &Section<'_>) -> Option<Self> {
        let name = |key| match pool.node(key) {
            Some(Node::Text(name)) => (!name.is_empty()).then(|| name.clone()),
            Some(_) => {
                let problem = Problem::new(format!("`{key}` is no text: it is not read"));
                pool.findings.warn(&pool.path.key(key), At::Value, problem);
                None
            }
            None => None,
        };
        let (region, cluster) = (name("region"), name("cluster"));
        Some(Self { region: region?, cluster: cluster? })
    }
}

/// As a routing prefix.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/{}/", self.region, self.cluster)
    }
}

impl FromStr for Location {
    type Err = Problem;

    /// `/region/cluster/`.
    fn from_str(prefix: &str) -> Result<Self, Problem> {
        let names = prefix.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let names = names.and_then(|names| names.split_once('/'));
        let names = names.filter(|(region, cluster)| is_name(region) && is_name(cluster));
        let (region, cluster) = names.ok_or_else(|| {
            Problem::new(format!("{} is no routing prefix", quoted(prefix))).help("as in `/region/cluster/`")
        })?;
        Ok(Self { region: region.to_owned(), cluster: cluster.to_owned() })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '/'))
}

impl Vantage {
    pub(super) fn new(prefix: &str, timeouts: DistanceTimeouts) -> Self {
        Self { here: prefix.parse().ok(), timeouts }
    }

    pub(super) fn of(config: &Config) -> Self {
        Self::new(config.routes.default_prefix(), config.settings.distance_timeouts)
    }

    /// How long a reply from there may take; `None`: nobody has said.
    pub(super) fn timeout_to(&self, there: &Location) -> Option<Duration> {
        let here = self.here.as_ref()?;
        if here == there {
            self.timeouts.within_cluster
        } else if here.region == there.region {
            self.timeouts.cross_cluster
        } else {
            self.timeouts.cross_region
        }
    }
}

impl Routes {
    /// The prefix of those keys that have none.
    #[must_use]
    pub fn default_prefix(&self) -> &str {
        let Node::Map(document) = &self.document else { return DEFAULT_PREFIX };
        match document.iter().find(|(key, _)| key == "default_route") {
            Some((_, Node::Text(prefix))) => prefix,
            _ => DEFAULT_PREFIX,
        }
    }
}

/// A connection that may take longer than the whole request.
pub(super) fn warn_slow_connect(findings: &Findings, path: &Path<'_>, connect: Duration, timeout: Duration) {
    if connect > timeout {
        let message = format!(
            "longer than `timeout`, {}, which counts from the same moment",
            value::show_duration(timeout)
        );
        findings.warn(path, At::Value, Problem::new(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let of = |prefix: &str| prefix.parse::<Location>().ok().map(|l| (l.region, l.cluster));
        assert_eq!(of("/west/main/"), Some(("west".into(), "main".into())));
        assert_eq!(of(DEFAULT_PREFIX), Some((".".into(), ".".into())));
        for bad in ["", "/", "//", "/a/", "/a/b", "a/b/", "/a/b/c/", "/a//", "//b/", "/*/b/", "/a b/c/"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn three_distances() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let timeouts = DistanceTimeouts { within_cluster: ms(1), cross_cluster: ms(2), cross_region: ms(3) };
        let there = |prefix: &str| prefix.parse().unwrap();
        let vantage = Vantage::new("/west/main/", timeouts);
        assert_eq!(vantage.timeout_to(&there("/west/main/")), ms(1));
        assert_eq!(vantage.timeout_to(&there("/west/web/")), ms(2));
        assert_eq!(vantage.timeout_to(&there("/east/main/")), ms(3));
        let vantage = Vantage::new("/west/main/", DistanceTimeouts { cross_cluster: None, ..timeouts });
        assert_eq!(vantage.timeout_to(&there("/west/web/")), None);
    }
}
