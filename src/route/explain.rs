//! The tree that one request walks, without sending it: for `ringway explain` and for the admin key `route_handles`.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// A node that the request comes by, and where it goes from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// `failover`, `pool main`, `server 10.0.0.1:11211`.
    pub label: String,
    pub children: Vec<(When, Self)>,
    /// Where this is a leaf that sends over the network or to the embedded cache.
    pub target: Option<Target>,
}

/// A server, as one request reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As in the configuration: its name, else its address.
    pub name: String,
    pub address: String,
    /// The pool that it was reached through.
    pub pool: String,
    /// The key that it is asked for, which may be another than the client's.
    pub key: Vec<u8>,
}

/// When a child is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At once, and its reply is waited for.
    Now,
    /// At once, and nobody waits.
    Beside,
    /// If what was asked before failed.
    OnError,
    /// If what was asked before missed.
    OnMiss,
    /// If this holds.
    If(String),
}

impl When {
    /// What stands behind a node.
    fn in_words(&self) -> Cow<'static, str> {
        match self {
            Self::Now => "".into(),
            Self::Beside => "  (beside, nobody waits)".into(),
            Self::OnError => "  (after an error)".into(),
            Self::OnMiss => "  (after a miss)".into(),
            Self::If(condition) => format!("  ({condition})").into(),
        }
    }
}

impl Explained {
    #[must_use]
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), children: Vec::new(), target: None }
    }

    /// A leaf that stands for a server.
    #[must_use]
    pub fn server(label: impl Into<String>, target: Target) -> Self {
        Self { label: label.into(), children: Vec::new(), target: Some(target) }
    }

    /// With one more child.
    #[must_use]
    pub fn with(mut self, when: When, child: Self) -> Self {
        self.children.push((when, child));
        self
    }

    /// The names of all servers that might be asked, in order.
    #[cfg(test)]
    pub(super) fn servers(&self) -> Vec<&str> {
        self.asked(&|_| true).into_iter().map(|target| target.name.as_str()).collect()
    }

    /// The servers that are reached by these steps alone, in order.
    pub fn asked(&self, by: &impl Fn(&When) -> bool) -> Vec<&Target> {
        let mut targets = Vec::new();
        self.collect(by, &mut targets);
        targets
    }

    fn collect<'a>(&'a self, by: &impl Fn(&When) -> bool, targets: &mut Vec<&'a Target>) {
        targets.extend(&self.target);
        for (_, child) in self.children.iter().filter(|(when, _)| by(when)) {
            child.collect(by, targets);
        }
    }

    /// The servers that a request would be sent to now, if every answer were a miss: what mcrouter's `route(op,key)` tells.
    /// Where all of those that are asked first are out, those that come after an error take their place.
    #[must_use]
    pub fn would_ask(&self, is_out: &impl Fn(&Target) -> bool) -> Vec<&Target> {
        let mut targets: Vec<&Target> = self.target.iter().filter(|target| !is_out(target)).collect();
        for (when, child) in &self.children {
            if *when != When::OnError || targets.is_empty() {
                targets.extend(child.would_ask(is_out));
            }
        }
        targets
    }

    /// As a tree, a node a line, a space for each step down, as mcrouter's `route_handles(op,key)`.
    #[must_use]
    pub fn indented(&self) -> String {
        let mut text = String::new();
        self.indent(0, "", &mut text);
        text
    }

    fn indent(&self, depth: usize, when: &str, text: &mut String) {
        // writing to a String cannot fail
        let _ = writeln!(text, "{:depth$}{}{when}", "", self.label);
        for (when, child) in &self.children {
            child.indent(depth + 1, &when.in_words(), text);
        }
    }
}

/// As a tree, a node a line.
impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.label)?;
        draw(&self.children, &mut String::new(), f)
    }
}

fn draw(children: &[(When, Explained)], indent: &mut String, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, (when, child)) in children.iter().enumerate() {
        let is_last = i + 1 == children.len();
        let branch = if is_last { "└─ " } else { "├─ " };
        writeln!(f, "{indent}{branch}{}{}", child.label, when.in_words())?;
        let length = indent.len();
        indent.push_str(if is_last { "   " } else { "│  " });
        draw(&child.children, indent, f)?;
        indent.truncate(length);
    }
    Ok(())
}
