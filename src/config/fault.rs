//! What is wrong with a configuration: every fault with its place, all of them at once.

use super::path::{Path, Shown, Step};
use super::render;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// More faults than this help nobody, and looking up their places would cost time; the rest is counted.
const FAULTS_COUNT_MAX: usize = 200;

/// The text that was read, and what people call it: a file name, `--server`.
#[derive(PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} bytes)", self.name, self.text.len())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub source: Arc<Source>,
    /// The path in the document, e.g. `pools.main.servers[2]`; empty for the whole document.
    pub path: String,
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// `None` when the fault has no place in the text (a file that cannot be read).
    pub place: Option<Place>,
}

/// A place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// Invariant: within the text and on character boundaries.
    pub bytes: Range<usize>,
}

/// All that is wrong. Invariant: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    pub list: Vec<Fault>,
    /// How many were found beyond those listed.
    pub more_count: usize,
    /// Other files that were asked for, there or not: to mend one of them may be enough.
    pub asked: Vec<PathBuf>,
}

/// Something that works and is most likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub Fault);

impl Faults {
    /// As rustc shows errors; `styled` adds colour, for a terminal.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        render::faults(self, styled)
    }

    /// A fault of a whole file, e.g. that it cannot be read.
    pub(super) fn of_file(name: &str, message: String, help: Option<String>) -> Self {
        let source = Arc::new(Source { name: name.to_owned(), text: String::new() });
        Self::of_one(Fault { source, path: String::new(), message, help, place: None })
    }

    pub(super) fn of_one(fault: Fault) -> Self {
        Self { list: vec![fault], more_count: 0, asked: Vec::new() }
    }
}

impl Warning {
    /// As rustc shows warnings.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        render::warning(self, styled)
    }
}

/// One line: `file:line:column: path: message`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.name)?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.list {
            writeln!(f, "{fault}")?;
        }
        if self.more_count > 0 {
            writeln!(f, "and {} more", self.more_count)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A fault that does not know yet where it is: what the parsers of single values return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    pub help: Option<String>,
    /// The word of the value that is to blame; the whole value when `None`.
    pub(super) word: Option<String>,
    /// Whether ` line: N` ends the message once the place is known, as mcrouter writes it.
    pub(super) ends_with_line: bool,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, word: None, ends_with_line: false }
    }

    pub(crate) fn with_line(mut self) -> Self {
        self.ends_with_line = true;
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn at(mut self, word: &str) -> Self {
        self.word = Some(word.to_owned());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl std::error::Error for Problem {}

/// Which part of an entry a finding points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Key,
    Value,
}

/// A problem and the path where it was met; its place is looked up when reading is over.
pub(super) struct Finding {
    pub(super) steps: Vec<Step>,
    pub(super) at: At,
    pub(super) problem: Problem,
    pub(super) is_warning: bool,
}

/// Where the readers put what they find, so that the first fault does not hide the next.
#[derive(Default)]
pub struct Findings {
    list: RefCell<Vec<Finding>>,
    faults_count: Cell<usize>,
    more_count: Cell<usize>,
}

impl Findings {
    pub(crate) fn fault(&self, path: &Path<'_>, at: At, problem: Problem) {
        self.faults_count.set(self.faults_count.get() + 1);
        self.push(path, at, problem, false);
    }

    pub(crate) fn warn(&self, path: &Path<'_>, at: At, problem: Problem) {
        self.push(path, at, problem, true);
    }

    fn push(&self, path: &Path<'_>, at: At, problem: Problem, is_warning: bool) {
        let mut list = self.list.borrow_mut();
        if list.len() < FAULTS_COUNT_MAX {
            list.push(Finding { steps: path.steps(), at, problem, is_warning });
        } else if !is_warning {
            self.more_count.set(self.more_count.get() + 1);
        }
    }

    /// Nothing more is kept; [`Self::count_one_more`] is all that is left to do.
    pub(crate) fn is_full(&self) -> bool {
        self.list.borrow().len() >= FAULTS_COUNT_MAX
    }

    pub(crate) fn count_one_more(&self) {
        self.faults_count.set(self.faults_count.get() + 1);
        self.more_count.set(self.more_count.get() + 1);
    }

    pub(crate) fn faults_count(&self) -> usize {
        self.faults_count.get()
    }

    /// All that somebody else found, as warnings; whether there was a fault among them.
    pub(crate) fn warn_all(&self, of: Self) -> bool {
        let has_fault = of.faults_count() > 0;
        for finding in of.list.into_inner() {
            let mut list = self.list.borrow_mut();
            if list.len() < FAULTS_COUNT_MAX {
                list.push(Finding { is_warning: true, ..finding });
            }
        }
        has_fault
    }

    /// The first fault in one line.
    pub(crate) fn first(&self) -> Option<String> {
        let list = self.list.borrow();
        list.iter().find(|f| !f.is_warning).map(|f| format!("{}: {}", Shown(&f.steps), f.problem))
    }

    /// What was found, and how many faults were found beyond the bound.
    pub(super) fn finish(self) -> (Vec<Finding>, usize) {
        (self.list.into_inner(), self.more_count.get())
    }
}

/// A piece of user text for a message: short, in backticks, without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(|c| c.escape_debug()).collect();
    // escape_debug escapes quotes as well; in backticks that only confuses.
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
