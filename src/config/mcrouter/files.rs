//! The files of one configuration: itself, what it imports, the pools that are files of their own.

use crate::config::json::{self, Json, Spot, Syntax};
use crate::config::{Fault, Place, Source};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// More are not written by hand.
const FILES_COUNT_MAX: usize = 1_000;
/// All of them together.
const BYTES_MAX: usize = 32 << 20;

/// Something that is wrong at a place of one of the files.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) spot: Spot,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Trouble {
    pub(super) fn new(spot: Spot, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { spot, message: message.into(), help: None })
    }

    pub(super) fn help(mut self: Box<Self>, help: impl Into<String>) -> Box<Self> {
        self.help = Some(help.into());
        self
    }
}

impl From<Syntax> for Box<Trouble> {
    fn from(syntax: Syntax) -> Self {
        Trouble::new(syntax.spot, syntax.message)
    }
}

/// Every text that was read, by its number in [`Spot::file`].
pub(super) struct Files {
    folder: PathBuf,
    sources: RefCell<Vec<Arc<Source>>>,
    /// By the path as written, so that no file is read twice.
    read: RefCell<HashMap<String, Json>>,
    /// Where a file was looked for, also where there is none: when it comes or is mended the configuration is another one.
    asked: RefCell<BTreeSet<PathBuf>>,
    bytes_left: Cell<usize>,
}

/// Why a file cannot be had.
pub(super) enum Missing {
    /// It cannot be read; where there is something to use instead, that is no fault.
    Unread(String),
    /// It was read and is no JSON, or it is too much.
    Wrong(Box<Trouble>),
}

impl Files {
    pub(super) fn new(folder: &Path, first: &Arc<Source>) -> Self {
        Self {
            folder: folder.to_owned(),
            sources: RefCell::new(vec![Arc::clone(first)]),
            read: RefCell::default(),
            asked: RefCell::default(),
            bytes_left: Cell::new(BYTES_MAX),
        }
    }

    /// The document that all begins with.
    pub(super) fn first(&self) -> Result<Json, Box<Trouble>> {
        let source = Arc::clone(&self.sources.borrow()[0]);
        Ok(json::parse(0, &source.text)?)
    }

    /// Another file: `file:/absolute`, or a path from the configuration's folder; who asks stands at `spot`.
    pub(super) fn json(&self, path: &str, spot: Spot) -> Result<Json, Missing> {
        if let Some(json) = self.read.borrow().get(path) {
            return Ok(json.clone());
        }
        let too_much = |why: &str| Missing::Wrong(Trouble::new(spot, why));
        if self.sources.borrow().len() > FILES_COUNT_MAX {
            return Err(too_much("more than 1,000 files"));
        }
        if self.asked.borrow().len() < FILES_COUNT_MAX {
            self.asked.borrow_mut().insert(self.path(path));
        }
        let text = self.text(path).map_err(Missing::Unread)?;
        let Some(left) = self.bytes_left.get().checked_sub(text.len()) else {
            return Err(too_much("the files are longer than 32MiB together"));
        };
        self.bytes_left.set(left);
        let number = u32::try_from(self.sources.borrow().len()).unwrap_or(u32::MAX);
        let name = self.path(path).display().to_string();
        self.sources.borrow_mut().push(Arc::new(Source { name, text: text.clone() }));
        let json = json::parse(number, &text).map_err(|syntax| Missing::Wrong(syntax.into()))?;
        self.read.borrow_mut().insert(path.to_owned(), json.clone());
        Ok(json)
    }

    /// All that were read, in that order.
    pub(super) fn sources(&self) -> Vec<Arc<Source>> {
        self.sources.borrow().clone()
    }

    /// All that were looked for besides the first one, there or not.
    pub(super) fn asked(&self) -> Vec<PathBuf> {
        self.asked.borrow().iter().cloned().collect()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path.strip_prefix("file:").unwrap_or(path))
    }

    fn text(&self, path: &str) -> Result<String, String> {
        let path = self.path(path);
        let why = |error: &dyn std::fmt::Display| format!("cannot read `{}`: {error}", path.display());
        // a pipe or a device might never end
        if !std::fs::metadata(&path).map_err(|error| why(&error))?.is_file() {
            return Err(why(&"not a file"));
        }
        let mut text = String::new();
        let file = std::fs::File::open(&path).map_err(|error| why(&error))?;
        let bound = BYTES_MAX as u64 + 1;
        file.take(bound).read_to_string(&mut text).map_err(|error| why(&error))?;
        Ok(text)
    }

    /// The faults of these troubles.
    pub(super) fn faults(&self, troubles: Vec<Trouble>) -> Vec<Fault> {
        let spots: Vec<Spot> = troubles.iter().map(|trouble| trouble.spot).collect();
        let places = self.places(&spots).into_iter();
        let fault = |(trouble, (source, place)): (Trouble, (Arc<Source>, Place))| Fault {
            source,
            path: String::new(),
            message: trouble.message,
            help: trouble.help,
            place: Some(place),
        };
        troubles.into_iter().zip(places).map(fault).collect()
    }

    /// Lines and columns, by one walk through each text.
    pub(super) fn places(&self, spots: &[Spot]) -> Vec<(Arc<Source>, Place)> {
        let sources = self.sources.borrow();
        let mut order: Vec<usize> = (0..spots.len()).collect();
        order.sort_by_key(|i| spots[*i]);
        let mut places: Vec<Option<(Arc<Source>, Place)>> = vec![None; spots.len()];
        let (mut file, mut offset, mut line, mut column) = (u32::MAX, 0, 1, 1);
        for i in order {
            let spot = spots[i];
            let source = &sources[(spot.file as usize).min(sources.len() - 1)];
            if spot.file != file {
                (file, offset, line, column) = (spot.file, 0, 1, 1);
            }
            let start = source.text.floor_char_boundary(spot.start as usize);
            for c in source.text[offset..start].chars() {
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            offset = start;
            let end = source.text.floor_char_boundary(spot.end as usize).max(start);
            places[i] = Some((Arc::clone(source), Place { line, column, bytes: start..end }));
        }
        places.into_iter().flatten().collect()
    }

    /// The part of a value that is this word, where it is written once; else the whole value.
    pub(super) fn narrowed(&self, spot: Spot, word: Option<&str>) -> Spot {
        let sources = self.sources.borrow();
        let narrow = || {
            let text = sources.get(spot.file as usize)?.text.get(spot.start as usize..spot.end as usize)?;
            let word = word.filter(|word| !word.is_empty())?;
            let at = text.find(word).filter(|at| text.rfind(word) == Some(*at))?;
            let start = spot.start + u32::try_from(at).ok()?;
            Some(Spot { start, end: start + u32::try_from(word.len()).ok()?, ..spot })
        };
        narrow().unwrap_or(spot)
    }
}
