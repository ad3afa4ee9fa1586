//! The last good configuration, as a file of its own: what serves when the configuration is wrong at the start.
//!
//! It holds the document as it was read: macros, imports, anchors and runtime variables are done with, so that nothing else is
//! needed to read it again. What would not be read as the same configuration is not written.

use super::about::{Loaded, Origin, Refused};
use super::document;
use super::fault::{Faults, Source};
use super::load::read_or_fault;
use super::mcrouter;
use super::node::Node;
use super::{CheckRoutes, Config, Dialect};
use std::path::Path;
use std::sync::Arc;

/// How such a file begins, after the two characters of a comment.
const TITLE: &str = "The last good configuration, kept by ringway; it is written anew at every change.\n";
/// A comment of YAML, and of mcrouter's JSON.
const COMMENTS: [(Dialect, &str); 2] = [(Dialect::Ringway, "# "), (Dialect::Mcrouter, "//")];

/// The text of such a file for a configuration that was just read from there; `None` when it cannot be said in one.
#[must_use]
pub fn last_good_text(loaded: &Loaded, origin: &Origin, check: CheckRoutes) -> Option<String> {
    let document = loaded.about.document.as_ref()?;
    let is_same = |text: &String| {
        from_text("last good", text, origin, check).is_ok_and(|again| again.config == loaded.config)
    };
    // As it is; or with the routes as they came to be, because runtime variables are in them.
    let texts = [Some(document.clone()), with_routes_of(&loaded.config, document)];
    texts.into_iter().flatten().filter_map(|node| text_of(&loaded.config, &node)).find(is_same)
}

/// Reads such a file, in the place of a configuration that is wrong.
///
/// # Errors
/// What is wrong with this one.
pub fn load_last_good(
    path: &Path,
    mut origin: Origin,
    refused: Refused,
    check: CheckRoutes,
) -> Result<Loaded, Faults> {
    let name = path.display().to_string();
    let text = String::from_utf8(read_or_fault(path)?)
        .map_err(|_| Faults::of_file(&name, "not UTF-8 text".to_owned(), None))?;
    origin.keeps_document = true;
    let mut loaded = from_text(&name, &text, &origin, check)?;
    loaded.about.instead_of = Some(refused);
    Ok(loaded)
}

fn with_routes_of(config: &Config, document: &Node) -> Option<Node> {
    let (Node::Map(document), Node::Map(routes)) = (document, &config.routes.document) else { return None };
    let is_route = |key: &str| routes.iter().any(|(name, _)| name == key);
    let others = document.iter().filter(|(key, _)| !is_route(key));
    // With mcrouter's files it is told by a flag, and is by the next start.
    let routes =
        routes.iter().filter(|(key, _)| key != "default_route" || config.routes.dialect == Dialect::Ringway);
    Some(Node::Map(others.chain(routes).cloned().collect()))
}

fn text_of(config: &Config, document: &Node) -> Option<String> {
    let (_, comment) = COMMENTS.into_iter().find(|(dialect, _)| *dialect == config.routes.dialect)?;
    Some(format!("{comment}{TITLE}{}\n", document.to_json()))
}

fn from_text(name: &str, text: &str, origin: &Origin, check: CheckRoutes) -> Result<Loaded, Faults> {
    let is_of = |comment: &str| text.strip_prefix(comment).is_some_and(|rest| rest.starts_with(TITLE));
    let dialect = COMMENTS.into_iter().find(|(_, comment)| is_of(comment)).map(|(dialect, _)| dialect);
    let source = Arc::new(Source { name: name.to_owned(), text: text.to_owned() });
    match dialect {
        Some(Dialect::Ringway) => document::read(&source, origin, None, check),
        Some(Dialect::Mcrouter) => mcrouter::read(&source, origin, None, check),
        None => Err(Faults::of_file(name, "not written by ringway".to_owned(), None)),
    }
}
