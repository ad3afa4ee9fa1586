//! What mcrouter is told by flags and not by its file: ringway takes flags of the same names with mcrouter's files.

use crate::config::{DistanceTimeouts, FailOpen, Location, Node, Tko};
use std::time::Duration;

/// mcrouter's options that say what becomes of requests, with its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct McrouterOptions {
    /// `--route-prefix`: where we are, and where keys without a prefix go.
    pub here: Option<Location>,
    /// `--within-cluster-timeout-ms` and its like.
    pub distance_timeouts: DistanceTimeouts,
    /// Of pools that do not say it.
    pub server_timeout: Duration,
    pub timeouts_until_tko: u32,
    pub probe_timeout_initial: Duration,
    pub probe_timeout_max: Duration,
    /// No server is ever knocked out.
    pub disable_tko_tracking: bool,
    /// Keys with a prefix that is nobody's go where those without one go.
    pub send_invalid_route_to_default: bool,
    pub enable_flush_cmd: bool,
    /// `None`: values go as they are.
    pub big_values: Option<BigValues>,
}

/// Values are cut before anything else is done with them: what a BigValueRoute around everything says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigValues {
    pub threshold_bytes: usize,
    pub batch_count: usize,
    pub hides_flag: bool,
}

impl Default for McrouterOptions {
    fn default() -> Self {
        Self {
            here: None,
            distance_timeouts: DistanceTimeouts::default(),
            server_timeout: Duration::from_secs(1),
            timeouts_until_tko: Tko::MCROUTER.timeouts_count,
            probe_timeout_initial: Tko::MCROUTER.probe_first,
            probe_timeout_max: Tko::MCROUTER.probe_max,
            disable_tko_tracking: false,
            send_invalid_route_to_default: false,
            enable_flush_cmd: false,
            big_values: None,
        }
    }
}

impl McrouterOptions {
    /// mcrouter's own names (not always those of the flags) and what they are, as `options` and macros have them.
    #[must_use]
    pub fn list(&self) -> Vec<(&'static str, String)> {
        let ms = |time: Duration| time.as_millis().to_string();
        let toggle = |is_on| u8::from(is_on).to_string();
        let [within, cluster, region] =
            self.distance_timeouts.list().map(|time| ms(time.unwrap_or_default()));
        let big = self.big_values.as_ref();
        let batch_count = big.map_or(BigValues::BATCH_COUNT_DEFAULT, |big| big.batch_count);
        vec![
            ("server_timeout_ms", ms(self.server_timeout)),
            ("within_cluster_timeout_ms", within),
            ("cross_cluster_timeout_ms", cluster),
            ("cross_region_timeout_ms", region),
            ("failures_until_tko", self.timeouts_until_tko.to_string()),
            ("probe_delay_initial_ms", ms(self.probe_timeout_initial)),
            ("probe_delay_max_ms", ms(self.probe_timeout_max)),
            ("disable_tko_tracking", toggle(self.disable_tko_tracking)),
            ("send_invalid_route_to_default", toggle(self.send_invalid_route_to_default)),
            ("enable_flush_cmd", toggle(self.enable_flush_cmd)),
            ("big_value_split_threshold", big.map_or(0, |big| big.threshold_bytes).to_string()),
            ("big_value_batch_size", batch_count.to_string()),
            ("big_value_hide_reply_flag", toggle(big.is_some_and(|big| big.hides_flag))),
        ]
    }

    /// When the servers of a pool are knocked out.
    pub(super) fn tko(&self, fail_open: Option<FailOpen>) -> Option<Tko> {
        let tko = Tko {
            timeouts_count: self.timeouts_until_tko,
            probe_first: self.probe_timeout_initial,
            probe_max: self.probe_timeout_max.max(self.probe_timeout_initial),
            fail_open,
            ..Tko::MCROUTER
        };
        (!self.disable_tko_tracking).then_some(tko)
    }
}

impl BigValues {
    /// `--big-value-batch-size`.
    pub const BATCH_COUNT_DEFAULT: usize = 10;

    /// The routes of a document, each within a BigValueRoute.
    pub(super) fn around(&self, mut document: Node) -> Node {
        if let Node::Map(document) = &mut document {
            for (key, node) in document {
                match (key.as_str(), node) {
                    ("route", node) => self.wrap(node),
                    ("routes", Node::Map(routes)) => routes.iter_mut().for_each(|(_, node)| self.wrap(node)),
                    ("routes", Node::List(entries)) => {
                        let maps = entries.iter_mut().filter_map(|entry| match entry {
                            Node::Map(entry) => Some(entry),
                            _ => None,
                        });
                        let routes = maps.flatten().filter(|(key, _)| key == "route");
                        routes.for_each(|(_, node)| self.wrap(node));
                    }
                    _ => {}
                }
            }
        }
        document
    }

    fn wrap(&self, node: &mut Node) {
        let target = std::mem::replace(node, Node::Null);
        *node = Node::map([
            ("type", Node::from("BigValueRoute")),
            ("target", target),
            ("split_threshold", Node::Integer(self.threshold_bytes as i128)),
            ("batch_size", Node::Integer(self.batch_count as i128)),
            ("hide_reply_flag", Node::Bool(self.hides_flag)),
        ]);
    }
}
