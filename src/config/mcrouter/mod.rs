//! mcrouter's own configuration files, unchanged.
//!
//! ```text
//! files ─► json ─► expand (macros, imports) ─► resolve (inherit, pools within routes) ─► pool, and the routes as they are
//! ```
//!
//! All of that is done on values that keep their places, whatever file they come from; so a fault of the room `route`, which
//! knows paths only, is found in the text by walking the same path through the resolved document.

mod builtin;
mod expand;
mod files;
mod loops;
mod options;
mod pool;
mod resolve;
mod server;
#[cfg(test)]
mod tests;

use super::about::{About, Loaded, Origin};
use super::distance::{DEFAULT_PREFIX, Vantage};
use super::document::placed;
use super::fault::{At, Fault, Faults, Finding, Findings, Problem, Source, quoted};
use super::json::{Json, Spot, Value};
use super::path::{Path, Step};
use super::runtime_vars::RuntimeVars;
use super::{CheckRoutes, Config, Dialect, Limits, Node, Pool, Routes, Settings};
use files::{Files, Trouble};
pub use options::{BigValues, McrouterOptions};
use resolve::Resolved;
use std::collections::HashSet;
use std::sync::Arc;

/// What [`Routes`] keeps.
const ROUTE_KEYS: &[&str] = &["route", "routes", "named_handles", TO_DEFAULT];
const KEYS: &[&str] = &["pools", "route", "routes", "named_handles", TO_DEFAULT];
/// A flag of mcrouter's; its file may say it too.
const TO_DEFAULT: &str = "send_invalid_route_to_default";

/// mcrouter takes values of any size and leaves it to the servers to refuse them, or to BigValueRoute to cut them.
const VALUE_BYTES_MAX: usize = 64 << 20;

/// Reads a document that is known to be UTF-8 and not too long.
pub(super) fn read(
    source: &Arc<Source>,
    origin: &Origin,
    variables: Option<&RuntimeVars>,
    check: CheckRoutes,
) -> Result<Loaded, Faults> {
    let files = Files::new(&origin.folder, source);
    let resolved = match resolved(&files, origin) {
        Ok(resolved) => resolved,
        Err(troubles) => {
            return Err(Faults { list: files.faults(troubles), more_count: 0, asked: files.asked() });
        }
    };
    let findings = Findings::default();
    let document = &resolved.document;
    let mut config = read_document(&resolved, origin, &findings);
    RuntimeVars::put_and_check(variables, config.as_mut(), check, &findings);
    let is_sound = findings.faults_count() == 0;
    let (faults, warnings) = placed(findings, Vec::<Fault>::new(), |list| {
        let spot = |finding: &Finding| {
            let word = finding.problem.word.as_deref();
            files.narrowed(spot_of(document, &finding.steps, finding.at), word)
        };
        files.places(&list.iter().map(spot).collect::<Vec<_>>())
    });
    match config {
        Some(mut config) if is_sound => {
            // only now, so that faults were found at their places
            if let Some(big) = &origin.options.big_values {
                config.routes.document = big.around(config.routes.document);
            }
            let sources = files.sources();
            let sources = sources.iter().chain(variables.map(|variables| &variables.source));
            let about = About::of(sources, origin.keeps_document.then(|| document.node()));
            let params = expand::global_params(&params_of(origin));
            let params = Node::map(params.iter().map(|(name, value)| (&**name, value.node())));
            let (asked, options) = (files.asked(), origin.options.list());
            let about = About { asked, options, global_params: params, ..about };
            Ok(Loaded { config, warnings, about })
        }
        _ => Err(Faults { asked: files.asked(), ..faults }),
    }
}

/// The document without macros, with every pool complete that a route names.
fn resolved(files: &Files, origin: &Origin) -> Result<Resolved, Vec<Trouble>> {
    let written = files.first().map_err(|trouble| vec![*trouble])?;
    let expanded = expand::document(&written, files, &params_of(origin)).map_err(|trouble| vec![*trouble])?;
    resolve::document(&expanded, files)
}

/// What flags give to macros.
fn params_of(origin: &Origin) -> Vec<(String, String)> {
    let options = origin.options.list().into_iter();
    let options = options.map(|(name, value)| (format!("mcr_opts-{name}"), value));
    let mut params: Vec<(String, String)> = options.chain(origin.params.iter().cloned()).collect();
    if let Some(here) = &origin.options.here {
        params.push(("default-route".to_owned(), here.to_string()));
        params.push(("default-region".to_owned(), here.region.clone()));
        params.push(("default-cluster".to_owned(), here.cluster.clone()));
    }
    params
}

fn read_document(resolved: &Resolved, origin: &Origin, findings: &Findings) -> Option<Config> {
    let Node::Map(entries) = resolved.document.node() else { return None };
    for (key, _) in entries.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
        findings.warn(&Path::ROOT.key(key), At::Key, Problem::new(format!("{} is not read", quoted(key))));
    }
    let path = Path::ROOT.key("pools");
    let options = &origin.options;
    let here = options.here.as_ref().map(ToString::to_string);
    let vantage = Vantage::new(here.as_deref().unwrap_or(DEFAULT_PREFIX), options.distance_timeouts);
    let mut unread = HashSet::new();
    let mut pools = Vec::new();
    if let Some((_, Node::Map(written))) = entries.iter().find(|(key, _)| key == "pools") {
        for (name, node) in written {
            if resolved.unnamed.contains(name) {
                if !resolved.bases.contains(name) {
                    let problem = Problem::new("no route leads to this pool: it is left out");
                    findings.warn(&path.key(name), At::Key, problem);
                }
                continue;
            }
            pools.push(Pool::read_mcrouters(
                name,
                node,
                &path.key(name),
                findings,
                options,
                &vantage,
                &mut unread,
            ));
        }
    }
    let is_said = entries.iter().any(|(key, _)| key == TO_DEFAULT);
    let routes = entries.into_iter().filter(|(key, _)| ROUTE_KEYS.contains(&key.as_str()));
    let default = here.map(|here| ("default_route".to_owned(), Node::Text(here)));
    let to_default = (options.send_invalid_route_to_default && !is_said)
        .then(|| (TO_DEFAULT.to_owned(), Node::Bool(true)));
    Some(Config {
        settings: Settings {
            limits: Limits { value_bytes_max: VALUE_BYTES_MAX, ..Limits::default() },
            allow_flush: options.enable_flush_cmd,
            distance_timeouts: options.distance_timeouts,
            ..Settings::default()
        },
        pools: pools.into_iter().collect::<Option<_>>()?,
        routes: Routes {
            dialect: Dialect::Mcrouter,
            document: Node::Map(routes.chain(default).chain(to_default).collect()),
        },
    })
}

/// The place of a path: of its key or its value; of what cannot be found the nearest thing above it.
fn spot_of(document: &Json, steps: &[Step], at: At) -> Spot {
    let mut here = document;
    let mut spot = Spot { end: document.spot.start, ..document.spot };
    for (i, step) in steps.iter().enumerate() {
        let is_last = i + 1 == steps.len();
        match (&here.value, step) {
            (Value::List(list), Step::Index(index)) => {
                let Some(item) = list.items.get(*index) else { return spot };
                (here, spot) = (item, item.spot);
            }
            (Value::Map(map), Step::Key(name, _)) => {
                let Some((key, value)) = map.entry(name) else { return spot };
                spot = if at == At::Value && is_last { value.spot } else { key.spot };
                here = value;
            }
            _ => return spot,
        }
    }
    spot
}
