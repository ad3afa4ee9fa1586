//! Reading one map of the document: take the keys that are known, refuse the others and name the nearest.

use super::fault::{At, Findings, Problem, quoted};
use super::node::Node;
use super::path::Path;

/// Farther names are no typing errors; also keeps the distance cheap on absurd keys.
const NAME_BYTES_MAX: usize = 64;

/// A map that is being read.
pub(crate) struct Section<'a> {
    map: &'a [(String, Node)],
    pub(crate) path: &'a Path<'a>,
    pub(crate) findings: &'a Findings,
}

/// A key that belongs elsewhere, or comes from another program: what to write instead.
pub(crate) type Hint = (&'static str, &'static str);

impl<'a> Section<'a> {
    /// `what` completes "expected …" when the node is not a map.
    pub(crate) fn open(
        node: &'a Node,
        path: &'a Path<'a>,
        findings: &'a Findings,
        what: &str,
    ) -> Option<Self> {
        if let Node::Map(map) = node {
            return Some(Self { map, path, findings });
        }
        findings.fault(path, At::Value, Problem::new(format!("expected {what}, found {}", node.kind())));
        None
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.map.iter().map(|(key, _)| key.as_str())
    }

    pub(crate) fn node(&self, key: &str) -> Option<&'a Node> {
        self.map.iter().find(|(k, _)| k == key).map(|(_, node)| node)
    }

    /// The key's value; `None` when it is absent, or when it is wrong, which is then on record.
    pub(crate) fn value<T>(&self, key: &str, parse: impl FnOnce(&Node) -> Result<T, Problem>) -> Option<T> {
        match parse(self.node(key)?) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.findings.fault(&self.path.key(key), At::Value, problem);
                None
            }
        }
    }

    pub(crate) fn fault(&self, key: &str, problem: Problem) {
        self.findings.fault(&self.path.key(key), At::Value, problem);
    }

    /// Every key that is not in `known` is a fault.
    pub(crate) fn refuse_unknown(&self, known: &[&str], hints: &[Hint]) {
        self.refuse_unknown_with(known, |key, _| {
            hints.iter().find(|(name, _)| *name == key).map(|(_, hint)| (*hint).to_owned())
        });
    }

    /// The same, with hints that depend on the value.
    pub(crate) fn refuse_unknown_with(&self, known: &[&str], hint: impl Fn(&str, &Node) -> Option<String>) {
        for (key, node) in self.map {
            if known.contains(&key.as_str()) {
                continue;
            }
            // A million unknown keys are not a million distances.
            if self.findings.is_full() {
                self.findings.count_one_more();
                continue;
            }
            let help = hint(key, node).unwrap_or_else(|| nearest_help(key, known));
            let problem = Problem::new(format!("unknown key {}", quoted(key))).help(help);
            self.findings.fault(&self.path.key(key), At::Key, problem);
        }
    }
}

/// "did you mean …", or all that there are.
pub(crate) fn nearest_help(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of {}", listed(known)),
    }
}

fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let lower = name.to_lowercase().replace('-', "_");
    // `time`, `conn`: the beginning of one name only.
    let mut begun = known.iter().filter(|k| lower.len() >= 3 && k.starts_with(&lower));
    if let (Some(only), None) = (begun.next(), begun.next()) {
        return Some(only);
    }
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase().replace('-', "_")), *k))
        .filter(|(distance, k)| *distance <= (k.len().max(lower.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// `a`, `b`, `c`; a few dozen at most.
fn listed(names: &[&str]) -> String {
    const SHOWN_COUNT_MAX: usize = 40;
    let mut text = names.iter().take(SHOWN_COUNT_MAX).map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN_COUNT_MAX {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name() {
        let known = ["servers", "timeout", "connect_timeout", "hash"];
        assert_eq!(nearest("server", &known), Some("servers"));
        assert_eq!(nearest("connectTimeout", &known), Some("connect_timeout"));
        assert_eq!(nearest("connect-timeout", &known), Some("connect_timeout"));
        assert_eq!(nearest("time", &known), Some("timeout"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), &known), None);
    }
}
