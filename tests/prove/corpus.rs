//! Kept inputs: what was once found, and what the transcripts and configurations of the other tests say.

use crate::support::transcript;
use std::fs;
use std::path::{Path, PathBuf};

/// The conversations of `tests/transcripts`, as bytes of the client: title and bytes.
pub(crate) fn conversations() -> Vec<(String, Vec<u8>)> {
    transcript::all().into_iter().map(|case| (case.title.clone(), case.sent())).collect()
}

/// The inputs kept for a target of the fuzzer: name and bytes.
pub(crate) fn of_target(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut list = files(&Path::new("tests/fuzz/corpus").join(name));
    match name {
        "parse_request" | "session" => list.extend(conversations()),
        "parse_reply" | "server_bytes" => {
            list.extend(transcript::all().into_iter().map(|case| (case.title.clone(), case.answers())));
        }
        "config_yaml" => {
            for folder in ["tests/configs/good", "tests/configs/bad", "config"] {
                list.extend(files(Path::new(folder)));
            }
        }
        other => panic!("no such target: {other}"),
    }
    // Nothing can be mutated that is not there; nobody needs megabytes.
    list.retain(|(_, bytes)| bytes.len() <= 100_000);
    assert!(!list.is_empty(), "nothing is kept for {name}");
    list
}

/// Every file of a folder, in order.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}
