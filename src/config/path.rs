//! Where in the document something is said: `pools.main.servers[2]`. Borrowed while reading, so that a sound file costs no
//! allocation for paths; owned once a fault needs it.

use std::borrow::Cow;
use std::fmt;

/// A place on the way down; each step borrows the one above it.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Self>,
    step: Option<Link<'a>>,
}

#[derive(Clone, Copy)]
enum Link<'a> {
    Key(&'a str, usize),
    Index(usize),
}

/// One step of an owned path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A key of a map, and which of those spelled so: 0 unless the file says it twice.
    Key(String, usize),
    /// An entry of a list.
    Index(usize),
}

impl<'a> Path<'a> {
    pub(crate) const ROOT: Self = Self { parent: None, step: None };

    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        self.nth_key(key, 0)
    }

    /// The key's n-th occurrence in its map, counted from 0.
    pub(crate) fn nth_key(&'a self, key: &'a str, nth: usize) -> Self {
        Self { parent: Some(self), step: Some(Link::Key(key, nth)) }
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Some(Link::Index(index)) }
    }

    /// The steps from the root down.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut here = Some(self);
        while let Some(path) = here {
            match path.step {
                Some(Link::Key(key, nth)) => steps.push(Step::Key(key.to_owned(), nth)),
                Some(Link::Index(index)) => steps.push(Step::Index(index)),
                None => {}
            }
            here = path.parent;
        }
        steps.reverse();
        steps
    }
}

/// An owned path as people write it.
pub(crate) struct Shown<'a>(pub(crate) &'a [Step]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key, _) => {
                    if i > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(&key_text(key))?;
                }
            }
        }
        Ok(())
    }
}

/// Plain keys as they are; others quoted, so that a path is one word and holds no control characters.
fn key_text(key: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '<');
    if !key.is_empty() && key.len() <= 80 && key.chars().all(plain) {
        return Cow::Borrowed(key);
    }
    let mut short: String = key.chars().take(40).collect();
    if short.len() < key.len() {
        short.push('…');
    }
    Cow::Owned(format!("{short:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_written() {
        let root = Path::ROOT;
        let pools = root.key("pools");
        let main = pools.key("my pool");
        let servers = main.key("servers");
        assert_eq!(Shown(&servers.index(2).steps()).to_string(), "pools.\"my pool\".servers[2]");
        assert_eq!(Shown(&root.steps()).to_string(), "");
    }
}
