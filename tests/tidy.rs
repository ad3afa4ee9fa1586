//! The few rules of ARCHITECTURE.md that a test can keep, by reading the source as text.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may import. A new edge is a visible change of this list; none may go up.
const ROOMS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("hash", &[]),
    ("time", &[]),
    ("sync", &[]),
    ("raw", &[]),
    ("config", &["hash", "protocol"]), // protocol: its limits are defaults
    ("health", &["time", "sync"]),
    ("stats", &["time", "sync"]),
    ("route", &["protocol", "hash", "config", "stats", "time"]),
    ("discovery", &["config", "stats", "sync"]),
    ("net", &["config", "stats", "protocol", "raw"]), // protocol: the buffers that are written
    ("upstream", &["route", "protocol", "health", "net", "config", "stats", "time"]),
    ("cache", &["route", "protocol", "stats", "time", "sync"]),
    ("bench", &[]), // the load tool shares nothing with what it checks
    ("spool", &["route", "protocol", "config", "stats", "sync"]),
    ("admin", &["route", "config", "health", "stats", "cache", "spool", "protocol", "sync", "net"]),
    ("client", &["admin", "route", "protocol", "net", "config", "stats", "time"]),
    ("proxy", &["*"]), // the composition root
    ("cli", &["proxy", "discovery", "config", "admin", "route", "hash", "protocol", "spool", "bench"]),
    ("lib", &["*"]),
    ("main", &["cli"]),
];

/// Foreign crates and the only places that may name them. Replacing one touches one file.
const DOORS: &[(&str, &[&str])] = &[
    ("nom", &["protocol/ascii/parse_", "protocol/meta/parse_"]),
    ("serde_yaml", &["config/yaml.rs"]),
    ("granit_parser", &["config/position.rs"]),
    ("jsonc_parser", &["config/json.rs"]),
    ("annotate_snippets", &["config/"]),
    ("hickory_resolver", &["discovery/dns.rs"]),
    ("hyper", &["admin/http.rs"]),
    ("notify_debouncer_mini", &["proxy/watch.rs"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("quick_cache", &["cache/"]),
    ("tracing_subscriber", &["cli/", "main.rs"]),
    ("mimalloc", &["main.rs"]),
    ("libmimalloc_sys", &["raw.rs"]),
    ("wide", &["hash/md5.rs", "protocol/ascii/scan.rs"]),
    ("socket2", &["net/"]),
    ("hash_ring", &[]), // the oracle of tests and benches
];

/// Files of one room that know each other in a circle, and why they may.
const CIRCLES: &[(&str, &[&str])] = &[
    // execute hands an operation to the file of its kind; those give back execute's `Body`
    ("cache", &["classic", "execute", "meta_change", "meta_get"]),
    // a session and what it is made of: the context lists sessions, the turn wakes them
    ("client", &["context", "dispatch", "input", "reply_queue", "session", "sweep", "turn"]),
    // `pool` has the types, the others read parts of them
    ("config", &["embedded", "placement", "pool", "server", "source"]),
    // a fault can show itself
    ("config", &["fault", "render"]),
];

/// Crates that these rooms know nothing of: they do no IO, read no clock, say nothing.
const PURE: &[(&str, &[&str])] = &[
    ("protocol", &["tokio", "serde", "tracing", "std::net", "std::time::Instant", "std::time::SystemTime"]),
    ("hash", &["tokio", "serde", "tracing", "std::net", "std::time"]),
    ("route", &["socket2", "std::net", "rustix"]),
];

/// A source file: its path below `src`, and its code without comments, strings and tests.
struct Source {
    path: String,
    text: String,
    code: String,
}

#[test]
fn every_file_opens_with_a_sentence() {
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|s| !s.text.lines().next().is_some_and(|l| l.starts_with("//! ") && l.len() > 12))
        .map(|s| s.path)
        .collect();
    assert!(faults.is_empty(), "no `//!` and a sentence at the top of {faults:#?}");
}

#[test]
fn imports_go_down() {
    let mut faults = Vec::new();
    for source in sources() {
        let room = room_of(&source.path);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            faults.push(format!("{}: the room `{room}` is not in the list of rooms", source.path));
            continue;
        };
        for other in rooms_named(&source.code) {
            if other != room && !allowed.contains(&"*") && !allowed.contains(&other.as_str()) {
                faults.push(format!("{}: `{room}` must not know `{other}`", source.path));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_list_of_rooms_has_no_cycle() {
    for (index, (name, below)) in ROOMS.iter().enumerate() {
        for other in below.iter().filter(|o| **o != "*") {
            let at = ROOMS.iter().position(|(n, _)| n == other).unwrap();
            assert!(at < index, "`{name}` knows `{other}`, which does not stand below it");
        }
    }
}

#[test]
fn foreign_crates_come_in_by_one_door() {
    let mut faults = Vec::new();
    for source in sources() {
        for (name, doors) in DOORS {
            if names(&source.code, name) && !doors.iter().any(|d| source.path.starts_with(d)) {
                faults.push(format!("{} names {name}; its door is {doors:?}", source.path));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn pure_rooms_stay_pure() {
    let mut faults = Vec::new();
    for source in sources() {
        for (room, foreign) in PURE.iter().filter(|(room, _)| *room == room_of(&source.path)) {
            for name in foreign.iter().filter(|name| names(&source.code, name)) {
                faults.push(format!("{}: `{room}` must not know {name}", source.path));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn unsafe_stays_in_one_file() {
    let files: Vec<String> =
        sources().into_iter().filter(|s| s.code.contains("unsafe")).map(|s| s.path).collect();
    assert_eq!(files, ["raw.rs"], "a second file with `unsafe`");
}

#[test]
fn dependencies_come_from_the_registry_and_are_locked() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    for source in lock.lines().filter(|l| l.starts_with("source = ")) {
        assert_eq!(source, "source = \"registry+https://github.com/rust-lang/crates.io-index\"");
    }
}

#[test]
fn files_of_a_room_know_each_other_without_a_cycle() {
    let mut faults = Vec::new();
    let all = sources();
    let rooms: BTreeSet<String> = all.iter().map(|s| room_of(&s.path).to_owned()).collect();
    for room in rooms {
        let files: Vec<(&str, &str)> = all
            .iter()
            .filter(|s| room_of(&s.path) == room && s.path.matches('/').count() == 1)
            .map(|s| (s.path[room.len() + 1..].trim_end_matches(".rs"), s.code.as_str()))
            // mod.rs is the door and the registry the list of routes: they name all
            .filter(|(name, _)| !["mod", "registry", "tests"].contains(name))
            .collect();
        let edges = |code: &str| -> Vec<usize> {
            let known = siblings_named(code, &room);
            files.iter().enumerate().filter(|(_, (n, _))| known.contains(*n)).map(|(i, _)| i).collect()
        };
        let edges: Vec<Vec<usize>> = files.iter().map(|(_, code)| edges(code)).collect();
        let reach: Vec<BTreeSet<usize>> = (0..files.len()).map(|start| reachable(&edges, start)).collect();
        let circles: BTreeSet<Vec<&str>> = (0..files.len())
            .map(|a| (0..files.len()).filter(|b| reach[a].contains(b) && reach[*b].contains(&a)).collect())
            .map(|circle: Vec<usize>| circle.into_iter().map(|file| files[file].0).collect())
            .filter(|circle: &Vec<&str>| circle.len() > 1)
            .collect();
        for circle in circles {
            if !CIRCLES.iter().any(|(name, known)| *name == room && known == &circle) {
                faults.push(format!("{room}: {}", circle.join(", ")));
            }
        }
    }
    assert!(faults.is_empty(), "files that know each other in a circle: {faults:#?}");
}

/// The files that can be come to from this one.
fn reachable(edges: &[Vec<usize>], start: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut next = edges[start].clone();
    while let Some(file) = next.pop() {
        if seen.insert(file) {
            next.extend(&edges[file]);
        }
    }
    seen
}

/// `protocol/ascii/frame.rs` → `protocol`, `time.rs` → `time`.
fn room_of(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The rooms after `crate::` and `ringway::`, also in `use crate::{a, b::c}`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "ringway::"] {
        for (at, _) in code.match_indices(root) {
            found.extend(first_names(&code[at + root.len()..]));
        }
    }
    found.retain(|name| ROOMS.iter().any(|(room, _)| room == name));
    found
}

/// The files of the same room that are named, by `super::` or from the root.
fn siblings_named(code: &str, room: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["super::".to_owned(), format!("crate::{room}::")] {
        for (at, _) in code.match_indices(&root) {
            if !code[..at].ends_with("super::") {
                found.extend(first_names(&code[at + root.len()..]));
            }
        }
    }
    found
}

/// `a::b` → a; `{a::b, c}` → a, c.
fn first_names(text: &str) -> Vec<String> {
    let name = |t: &str| t.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(inside) = text.strip_prefix('{') else { return vec![name(text)] };
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(inside[start..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(inside[start..at].trim_start()));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// Whether the code names this crate or path, as `name::…`, `use name;` or in an attribute.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let begins = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '.');
        let is_path = after.starts_with("::") || (code[..at].ends_with("use ") && after.starts_with(';'));
        let is_item = name.contains("::") && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        begins && (is_path || is_item)
    })
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    assert!(files.len() > 20, "the source is not there");
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let path = file.strip_prefix(&root).unwrap().display().to_string();
            let code = if path.ends_with("tests.rs") { String::new() } else { code_of(&text) };
            Source { path, text, code }
        })
        .collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Without comments, without text in quotes, and without the tests at the bottom, which may know more.
fn code_of(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let mut code = String::new();
    for line in text[..end].lines() {
        let mut in_quotes = false;
        let mut previous = ' ';
        for c in line.trim_start().chars() {
            if c == '"' && previous != '\\' && previous != '\'' {
                in_quotes = !in_quotes;
            }
            if c == '/' && previous == '/' && !in_quotes {
                code.pop();
                break;
            }
            if !in_quotes {
                code.push(c);
            }
            previous = c;
        }
        code.push('\n');
    }
    code
}
