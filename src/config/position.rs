//! Where in the text a path of the document is: a second pass by a parser that keeps positions, for printing only.
//! The only door to granit-parser. What the document *says* is decided by `yaml`; here nothing is refused: what cannot be
//! found (the parsers may disagree) gets the place of the nearest thing above it.

use super::fault::{At, Place};
use super::path::Step;
use granit_parser::{Event, Options, Parser, Span};
use std::collections::HashMap;
use std::ops::Range;

/// How deep `<<` is followed when a key is looked up in what was merged in.
const MERGE_DEPTH_MAX: usize = 8;

/// The places of everything in one document.
pub(super) struct Positions<'t> {
    text: &'t str,
    /// Every node; the root is the first.
    spots: Vec<Spot<'t>>,
    /// Anchor to spot.
    anchors: HashMap<usize, usize>,
}

struct Spot<'t> {
    place: Place,
    kind: Kind<'t>,
}

/// Numbers are indices into `Positions::spots`.
enum Kind<'t> {
    Scalar(std::borrow::Cow<'t, str>),
    List(Vec<usize>),
    /// Invariant: a key without its value occurs only while building, as the last entry.
    Map(Vec<(usize, Option<usize>)>),
    Alias(usize),
}

impl<'t> Positions<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        // room that is not used costs nothing; to grow again and again would copy a large file's places many times
        let spots = Vec::with_capacity(text.len() / 4);
        let mut this = Self { text, spots, anchors: HashMap::new() };
        let mut options = Options::default();
        options.set_emit_comments(false);
        let mut open = Vec::new();
        for event in Parser::new_from_str_with_options(text, options) {
            // A syntax error here: keep what was seen before it.
            let Ok((event, span)) = event else { break };
            match event {
                Event::Scalar(scalar, _, anchor, _) => {
                    this.add(&open, &span, Kind::Scalar(scalar), anchor);
                }
                Event::SequenceStart(_, anchor, _) => {
                    let id = this.add(&open, &span, Kind::List(Vec::new()), anchor);
                    open.push(id);
                }
                Event::MappingStart(_, anchor, _) => {
                    let id = this.add(&open, &span, Kind::Map(Vec::new()), anchor);
                    open.push(id);
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                }
                Event::Alias(anchor) => {
                    this.add(&open, &span, Kind::Alias(anchor), 0);
                }
                // One document is all that we read.
                Event::DocumentEnd => break,
                _ => {}
            }
        }
        this
    }

    /// The place of a path: of its key or its value, narrowed to `word` where the value spells it out.
    pub(super) fn place(&self, steps: &[Step], at: At, word: Option<&str>) -> Place {
        let mut best = Place { line: 1, column: 1, bytes: 0..0 };
        let mut here = 0;
        for (i, step) in steps.iter().enumerate() {
            let Some((key, value)) = self.child(here, step, 0) else { return best };
            let is_last = i + 1 == steps.len();
            best = match (at, key) {
                (At::Value, _) if is_last && !self.spots[value].place.bytes.is_empty() => {
                    self.narrow(value, word)
                }
                (_, Some(key)) => self.spots[key].place.clone(),
                // An entry of a list has no key; one that is empty (`- ` alone) keeps its own point.
                (_, None) => self.spots[value].place.clone(),
            };
            here = value;
        }
        best
    }

    fn add(&mut self, open: &[usize], span: &Span, kind: Kind<'t>, anchor: usize) -> usize {
        let id = self.spots.len();
        self.spots.push(Spot { place: place_of(span), kind });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        if let Some(parent) = open.last().and_then(|&parent| self.spots.get_mut(parent)) {
            match &mut parent.kind {
                Kind::List(entries) => entries.push(id),
                Kind::Map(entries) => match entries.last_mut() {
                    Some((_, value @ None)) => *value = Some(id),
                    _ => entries.push((id, None)),
                },
                Kind::Scalar(_) | Kind::Alias(_) => {}
            }
        }
        id
    }

    /// Key (if it has one) and value of the step below `id`.
    fn child(&self, id: usize, step: &Step, depth: usize) -> Option<(Option<usize>, usize)> {
        let spot = self.spots.get(self.target(id))?;
        match (&spot.kind, step) {
            (Kind::List(entries), Step::Index(index)) => entries.get(*index).map(|&value| (None, value)),
            (Kind::Map(entries), Step::Key(key, nth)) => {
                let mut same = entries.iter().filter(|(k, _)| self.scalar(*k) == Some(key));
                if let Some((key, value)) = same.nth(*nth) {
                    return Some((Some(*key), value.unwrap_or(*key)));
                }
                self.merged(entries, step, depth)
            }
            _ => None,
        }
    }

    /// Looks for a key in the maps that `<<` brings in.
    fn merged(
        &self,
        entries: &[(usize, Option<usize>)],
        step: &Step,
        depth: usize,
    ) -> Option<(Option<usize>, usize)> {
        if depth >= MERGE_DEPTH_MAX {
            return None;
        }
        let from = entries.iter().filter(|(k, _)| self.scalar(*k) == Some("<<"));
        for (_, value) in from {
            let value = self.target((*value)?);
            let found = match &self.spots[value].kind {
                Kind::List(maps) => maps.iter().find_map(|&map| self.child(map, step, depth + 1)),
                _ => self.child(value, step, depth + 1),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn target(&self, id: usize) -> usize {
        match self.spots.get(id).map(|spot| &spot.kind) {
            Some(Kind::Alias(anchor)) => self.anchors.get(anchor).copied().unwrap_or(id),
            _ => id,
        }
    }

    fn scalar(&self, id: usize) -> Option<&str> {
        match &self.spots.get(self.target(id))?.kind {
            Kind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The part of a value that is `word`, where it is written once and as it is meant; else the whole value.
    fn narrow(&self, id: usize, word: Option<&str>) -> Place {
        let place = &self.spots[id].place;
        let narrowed = word.filter(|word| !word.is_empty()).and_then(|word| {
            let written = self.text.get(place.bytes.clone())?;
            let at = written.find(word)?;
            let before = &written[..at];
            if written.rfind(word) != Some(at) || before.contains('\n') {
                return None;
            }
            let start = place.bytes.start + at;
            let column = place.column + before.chars().count();
            Some(Place { line: place.line, column, bytes: start..start + word.len() })
        });
        narrowed.unwrap_or_else(|| place.clone())
    }
}

/// The place of a byte offset, for faults that the YAML parser or the file itself gives.
pub(super) fn place_at(text: &str, offset: usize) -> Place {
    let mut start = offset.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let end = text[start..].chars().next().filter(|c| *c != '\n').map_or(start, |c| start + c.len_utf8());
    Place {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        bytes: start..end,
    }
}

/// The place of a line and a column, both from 1. At the end of a text the YAML parser tells a line too many.
pub(super) fn place_at_column(text: &str, line: usize, column: usize) -> Place {
    let mut start = 0;
    for _ in 1..line {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => return place_at(text, text.len()),
        }
    }
    let offset = text[start..].char_indices().nth(column - 1).map_or(text.len(), |(at, _)| start + at);
    place_at(text, offset)
}

/// Where a second document starts, for the fault that says so.
pub(super) fn second_document(text: &str) -> Option<Place> {
    let mut documents_count = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        if matches!(event, Event::DocumentStart(..)) {
            documents_count += 1;
            if documents_count == 2 {
                return Some(place_of(&span));
            }
        }
    }
    None
}

fn place_of(span: &Span) -> Place {
    let bytes: Range<usize> = span.byte_range().unwrap_or(0..0);
    Place { line: span.start.line(), column: span.start.col() + 1, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::path::Path;

    fn place(text: &str, path: &Path<'_>, at: At, word: Option<&str>) -> (usize, usize, String) {
        let place = Positions::of(text).place(&path.steps(), at, word);
        (place.line, place.column, text[place.bytes].to_owned())
    }

    #[test]
    fn keys_values_and_words() {
        let text = "pools:\n  main:\n    servers: [\"a:1 weight=0\", b]\n    t:\n";
        let (root, main) = (Path::ROOT, Path::ROOT.key("pools"));
        let main = main.key("main");
        let servers = main.key("servers");
        let first = servers.index(0);
        assert_eq!(place(text, &root, At::Value, None), (1, 1, String::new()));
        assert_eq!(place(text, &servers, At::Key, None), (3, 5, "servers".into()));
        assert_eq!(place(text, &first, At::Value, None), (3, 15, "\"a:1 weight=0\"".into()));
        assert_eq!(place(text, &first, At::Value, Some("weight=0")), (3, 20, "weight=0".into()));
        assert_eq!(place(text, &main.key("t"), At::Value, None), (4, 5, "t".into()));
        assert_eq!(place(text, &main.key("none"), At::Value, None), (2, 3, "main".into()));
    }

    #[test]
    fn aliases_merges_and_repeats() {
        let text = "a: &x {t: 1, é: 2}\nb:\n  <<: *x\n  u: 3\n  u: 4\nc: *x\n";
        let (a, b) = (Path::ROOT.key("b"), Path::ROOT.key("c"));
        assert_eq!(place(text, &a.key("t"), At::Value, None), (1, 11, "1".into()));
        assert_eq!(place(text, &a.nth_key("u", 1), At::Key, None), (5, 3, "u".into()));
        assert_eq!(place(text, &b, At::Value, None), (6, 4, "*x".into()));
        assert_eq!(place(text, &b.key("é"), At::Value, None), (1, 17, "2".into()));
    }

    #[test]
    fn a_broken_end_keeps_what_was_before() {
        assert_eq!(place("a: 1\nb: [", &Path::ROOT.key("a"), At::Value, None), (1, 4, "1".into()));
    }
}
