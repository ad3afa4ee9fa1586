//! A planted bug, as a file says it:
//!
//! ```text
//! What is broken, in a line or two.
//! found by: late --count 10000        (or: test integration limits)
//! often: yes                          (on every commit; else only before a release)
//! file: src/upstream/inflight.rs
//! --- instead of
//! text that occurs once
//! --- is
//! other text
//! ```

use std::path::Path;

pub(super) struct Bug {
    pub(super) name: String,
    /// A part with its arguments; or `test`, the name of a test file, and which of its tests.
    pub(super) found_by: Vec<String>,
    pub(super) often: bool,
    file: String,
    old: String,
    new: String,
}

/// All of them, by name.
pub(super) fn all(directory: &Path) -> Vec<Bug> {
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let bugs = paths.iter().map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        Bug::parse(&name, &text).unwrap_or_else(|| panic!("{}: not a planted bug", path.display()))
    });
    bugs.collect()
}

impl Bug {
    fn parse(name: &str, text: &str) -> Option<Self> {
        let (head, edit) = text.split_once("--- instead of\n")?;
        let (old, new) = edit.split_once("--- is\n")?;
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some(Self {
            name: name.to_owned(),
            found_by: field("found by:")?.split(' ').map(str::to_owned).collect(),
            often: field("often:") == Some("yes"),
            file: field("file:")?.to_owned(),
            old: old.to_owned(),
            new: new.to_owned(),
        })
    }

    /// The file, and its text with the bug in it.
    pub(super) fn apply_to(&self, source: &Path) -> Result<(&str, String), String> {
        let text =
            std::fs::read_to_string(source.join(&self.file)).map_err(|e| format!("{}: {e}", self.file))?;
        match text.matches(&self.old).count() {
            1 => Ok((&self.file, text.replace(&self.old, &self.new))),
            count => Err(format!("the text to replace is {count} times in {}", self.file)),
        }
    }
}
