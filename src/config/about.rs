//! What a configuration is read from, and what there is to tell of it to those who ask a running process.

use super::Config;
use super::fault::{Faults, Source, Warning};
use super::mcrouter::McrouterOptions;
use super::node::Node;
use crate::hash::md5_hex;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a text of mcrouter's may refer to, and what mcrouter is told by flags.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Where paths of other files start.
    pub folder: PathBuf,
    /// Names and values of `--config-params`, for macros.
    pub params: Vec<(String, String)>,
    pub options: McrouterOptions,
    /// `--runtime-vars-file`: variables that routes may name.
    pub runtime_vars_file: Option<PathBuf>,
    /// Whether [`About::document`] is wanted: a copy of the whole document.
    pub keeps_document: bool,
}

/// A configuration that was read, and what there is to tell of it.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Warning>,
    pub about: About,
}

/// Where a configuration came from.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// As it was named on the command line; `None` where there was no file.
    pub file: Option<String>,
    /// Every file that was read, the configuration itself first, and the md5 of what it said.
    pub sources: Vec<(String, String)>,
    /// Files that the configuration asked for, there or not.
    pub asked: Vec<PathBuf>,
    /// What it says once macros, imports, anchors and merges are done.
    pub document: Option<Node>,
    /// mcrouter's options by its names, where the file is one of mcrouter's.
    pub options: Vec<(&'static str, String)>,
    /// What macros of mcrouter's may ask for without being told, by name.
    pub global_params: Node,
    /// Set when this is the last good one, and another one was wanted.
    pub instead_of: Option<Refused>,
    /// The text to keep as the last good one, where that is wanted.
    pub to_keep: Option<String>,
}

/// A configuration that was wrong at the start.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Where it was read from, as far as that is known, and what it asked for.
    pub files: Vec<PathBuf>,
    /// All that is wrong with it.
    pub faults: String,
}

impl Refused {
    #[must_use]
    pub fn of(file: &Path, faults: &Faults) -> Self {
        let sources = faults.list.iter().map(|fault| PathBuf::from(&fault.source.name));
        let files =
            once_each([file.to_owned()].into_iter().chain(sources).chain(faults.asked.iter().cloned()));
        Self { files, faults: faults.render(false) }
    }
}

impl About {
    pub(super) fn of<'a>(sources: impl IntoIterator<Item = &'a Arc<Source>>, document: Option<Node>) -> Self {
        let sources: Vec<(String, String)> = sources
            .into_iter()
            .map(|source| (source.name.clone(), md5_hex(source.text.as_bytes())))
            .collect();
        Self { file: sources.first().map(|(name, _)| name.clone()), sources, document, ..Self::default() }
    }

    /// Every file that was read or asked for, or that was wanted instead: changes of these bring another configuration.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        if let Some(refused) = &self.instead_of {
            return refused.files.clone();
        }
        let sources = self.sources.iter().map(|(name, _)| PathBuf::from(name));
        once_each(sources.chain(self.asked.iter().cloned()))
    }

    /// One md5 for all that was read: of the only file, else of all their md5s.
    #[must_use]
    pub fn digest(&self) -> String {
        match self.sources.as_slice() {
            [(_, md5)] => md5.clone(),
            several => {
                let all: String = several.iter().map(|(_, md5)| md5.as_str()).collect();
                md5_hex(all.as_bytes())
            }
        }
    }
}

/// In the order in which they come first.
fn once_each(files: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    files.filter(|file| seen.insert(file.clone())).collect()
}
