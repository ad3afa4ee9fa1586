//! The tree that one request walks, without sending it: for `ringway explain` and for the admin key `route_handles`.

use std::fmt::{self, Write};

/// A node that the request comes by, and where it goes from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// `failover`, `pool main`, `server 10.0.0.1:11211`.
    pub label: String,
    pub children: Vec<(When, Self)>,
    /// The server's name, where this is a leaf that sends over the network or to the embedded cache.
    pub server: Option<String>,
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

impl Explained {
    #[must_use]
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), children: Vec::new(), server: None }
    }

    /// A leaf that stands for a server.
    #[must_use]
    pub fn server(label: impl Into<String>, name: impl Into<String>) -> Self {
        Self { label: label.into(), children: Vec::new(), server: Some(name.into()) }
    }

    /// With one more child.
    #[must_use]
    pub fn with(mut self, when: When, child: Self) -> Self {
        self.children.push((when, child));
        self
    }

    /// The servers that would be asked, in order; those that are asked only after a failure or a miss included.
    #[must_use]
    pub fn servers(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.collect(&mut names);
        names
    }

    fn collect<'a>(&'a self, names: &mut Vec<&'a str>) {
        names.extend(self.server.as_deref());
        for (_, child) in &self.children {
            child.collect(names);
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
        write!(f, "{indent}{branch}{}", child.label)?;
        match when {
            When::Now => f.write_char('\n')?,
            When::Beside => f.write_str("  (beside, nobody waits)\n")?,
            When::OnError => f.write_str("  (after an error)\n")?,
            When::OnMiss => f.write_str("  (after a miss)\n")?,
            When::If(condition) => writeln!(f, "  ({condition})")?,
        }
        let length = indent.len();
        indent.push_str(if is_last { "   " } else { "│  " });
        draw(&child.children, indent, f)?;
        indent.truncate(length);
    }
    Ok(())
}
