//! The doors of the room: a file, a text or flags in, a checked [`Config`] or every fault out.

use super::about::{Loaded, Origin};
use super::document;
use super::embedded;
use super::fault::{Fault, Faults, Source, Warning};
use super::mcrouter;
use super::nutcracker::{from_nutcracker, is_nutcrackers};
use super::pool::{Pool, Server, doubles};
use super::position::place_at;
use super::runtime_vars::RuntimeVars;
use super::server;
use super::source::{Follow, PoolSource};
use super::{CheckRoutes, Config, Place, Routes, Settings, show_bytes};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// A thousand pools of a hundred servers are 2 MB, a ConfigMap holds 1 MiB, and what is wrong with so much is found within
/// a second.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Of mcrouter's, which machines write, with long names: those thousand pools are 8 MB then. JSON is read faster than YAML.
const MCROUTERS_BYTES_MAX: usize = 9 << 20;

/// What [`Config::embedded_default`] holds.
const DEFAULT_SHARDS_COUNT: usize = 3;

/// Reads and checks a file; `-` is standard input. `check` looks at the routes (`route::check`).
pub fn load(path: &Path, check: CheckRoutes) -> Result<(Config, Vec<Warning>), Faults> {
    load_all(path, Origin::default(), check).map(|loaded| (loaded.config, loaded.warnings))
}

/// [`load`], with all that there is to tell of the configuration. The folder of `origin` is that of the file.
pub fn load_all(path: &Path, mut origin: Origin, check: CheckRoutes) -> Result<Loaded, Faults> {
    let bytes = read_or_fault(path)?;
    origin.folder = path.parent().map(Path::to_owned).unwrap_or_default();
    from_bytes(&path.display().to_string(), bytes, &origin, check)
}

pub(super) fn read_or_fault(path: &Path) -> Result<Vec<u8>, Faults> {
    read_bounded(path).map_err(|error| {
        Faults::of_file(&path.display().to_string(), format!("cannot read it: {error}"), None)
    })
}

/// The settings of a file, whatever else is wrong with it: for those who have to find a process that was started with it.
///
/// # Errors
/// Why nothing can be told of them, in a few words.
pub fn settings_of(path: &Path) -> Result<Settings, String> {
    let bytes = read_bounded(path).map_err(|error| format!("cannot read it: {error}"))?;
    let name = path.display().to_string();
    if is_mcrouters(&name, &bytes)? {
        return Ok(Settings::default());
    }
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
    document::settings_of(&Arc::new(Source { name, text }))
}

/// Reads a file of twemproxy's; `None` when it is none. `pool` may be left out when the file has one only.
pub fn load_nutcracker(path: &Path, pool: Option<&str>) -> Option<Result<(Config, Vec<Warning>), Faults>> {
    let text = String::from_utf8(read_bounded(path).ok()?).ok()?;
    is_nutcrackers(&text).then(|| from_nutcracker(&path.display().to_string(), &text, pool))
}

/// Checks a text; `name` is what faults call it.
pub fn from_text(name: &str, text: &str, check: CheckRoutes) -> Result<(Config, Vec<Warning>), Faults> {
    let loaded = from_bytes(name, text.as_bytes().to_vec(), &Origin::default(), check)?;
    Ok((loaded.config, loaded.warnings))
}

/// Checks the servers of `--server` flags: one pool named `main` with every default.
pub fn from_servers(entries: &[String]) -> Result<Config, Faults> {
    let mut faults = Vec::new();
    let flag = |entry: &String, message: String, help: Option<String>| {
        let text = entry.clone();
        let place = Place { line: 1, column: 1, bytes: 0..text.len() };
        let source = Arc::new(Source { name: "--server".into(), text });
        Fault { source, path: String::new(), message, help, place: Some(place) }
    };
    if let [entry] = entries
        && let Some(Ok(source)) = PoolSource::of_entry(entry)
    {
        let follow = Follow::of(&source);
        let pool = Pool { source: Some(source), follow, ..Pool::with_defaults("main", Vec::new()) };
        return Ok(Config {
            settings: Settings::default(),
            pools: vec![pool],
            routes: Routes::to_pool("main"),
        });
    }
    let mut servers: Vec<Option<Server>> = Vec::new();
    for entry in entries {
        let parsed = server::parse(entry);
        servers.push(match parsed {
            Ok(server) => Some(server),
            Err(problem) => {
                faults.push(flag(entry, problem.message, problem.help));
                None
            }
        });
    }
    for (i, problem) in doubles(&servers) {
        faults.push(flag(&entries[i], problem.message, None));
    }
    if !faults.is_empty() {
        return Err(Faults { list: faults, more_count: 0, asked: Vec::new() });
    }
    let pool = Pool::with_defaults("main", servers.into_iter().flatten().collect());
    Ok(Config { settings: Settings::default(), pools: vec![pool], routes: Routes::to_pool("main") })
}

impl Config {
    /// What `ringway` serves when it is told nothing: three embedded shards behind ketama, 64 MiB in all, so that the routing
    /// is real; a pool named `embedded`.
    #[must_use]
    pub fn embedded_default() -> Self {
        let servers = embedded::servers(DEFAULT_SHARDS_COUNT, embedded::MEMORY_DEFAULT);
        let pool = Pool::with_defaults("embedded", servers);
        Self { settings: Settings::default(), pools: vec![pool], routes: Routes::to_pool("embedded") }
    }
}

/// One byte more than allowed tells that there is more, without reading a device without end.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bound = MCROUTERS_BYTES_MAX as u64 + 1;
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(bound).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(bound).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn from_bytes(name: &str, bytes: Vec<u8>, origin: &Origin, check: CheckRoutes) -> Result<Loaded, Faults> {
    parse(name, bytes, origin, check).map_err(|mut faults| {
        // a value that does not fit is a fault of the place that asks for it
        faults.asked.extend(origin.runtime_vars_file.clone());
        faults
    })
}

fn parse(name: &str, bytes: Vec<u8>, origin: &Origin, check: CheckRoutes) -> Result<Loaded, Faults> {
    let is_mcrouters = is_mcrouters(name, &bytes)
        .map_err(|message| Faults::of_file(name, message, Some("is it the right file?".into())))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let sound_count = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let place = place_at(&text, sound_count);
        let source = Arc::new(Source { name: name.to_owned(), text });
        let message = "not UTF-8 text".to_owned();
        let fault = Fault { source, path: String::new(), message, help: None, place: Some(place) };
        Faults::of_one(fault)
    })?;
    let source = Arc::new(Source { name: name.to_owned(), text });
    let variables = match origin.runtime_vars_file.as_deref() {
        Some(path) => Some(RuntimeVars::read(path, read_or_fault(path)?)?),
        None => None,
    };
    if is_mcrouters {
        return mcrouter::read(&source, origin, variables.as_ref(), check);
    }
    document::read(&source, origin, variables.as_ref(), check)
}

/// A file that is named `.json`, or begins with `{`. (YAML may begin so too: then its name has to say that it is YAML.)
/// An error when it is too long for what it is.
fn is_mcrouters(name: &str, bytes: &[u8]) -> Result<bool, String> {
    let is_mcrouters = match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("json" | "jsonm") => true,
        Some("yaml" | "yml") => false,
        _ => begins_with_brace(&String::from_utf8_lossy(bytes)),
    };
    let bytes_max = if is_mcrouters { MCROUTERS_BYTES_MAX } else { FILE_BYTES_MAX };
    if bytes.len() > bytes_max {
        return Err(format!("longer than {}", show_bytes(bytes_max)));
    }
    Ok(is_mcrouters)
}

/// After white space and C's comments.
fn begins_with_brace(mut text: &str) -> bool {
    loop {
        text = text.trim_start();
        text = if let Some(rest) = text.strip_prefix("//") {
            rest.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(rest) = text.strip_prefix("/*") {
            rest.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            return text.starts_with('{');
        };
    }
}
