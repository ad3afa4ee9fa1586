//! The JSON Schema for editors and the reader of configurations say the same.

use crate::support::{python, tool};
use ringway::{config, route};
use std::fs;
use std::path::{Path, PathBuf};

/// What `check` takes the schema takes, and of what `check` refuses for its shape it refuses most.
#[test]
fn good_files_keep_to_the_schema() {
    if !python::has_python() {
        return;
    }
    let document = |file: &Path| {
        let origin = config::Origin { keeps_document: true, ..config::Origin::default() };
        config::load_all(file, origin, route::check).unwrap().about.document.unwrap().to_json()
    };
    let good = [yaml_files("config"), yaml_files("tests/configs/good")].concat();
    let good: Vec<String> = good.iter().map(|file| document(file)).collect();
    let bad = [
        r#"{"pools": {}}"#,
        r#"{"pools": {"a": {"servers": ["x"]}}, "lissten": "127.0.0.1:1"}"#,
        r#"{"pools": {"a": {"servers": ["x"], "timeout": 500}}}"#,
        r#"{"pools": {"a": {"servers": ["x"], "timeout": "500"}}}"#,
        r#"{"pools": {"a": {"servers": [{"adress": "x"}]}}}"#,
        r#"{"pools": {"a": {"servers": ["x"], "hash": "ketamaa"}}}"#,
        r#"{"pools": {"a b": {"servers": ["x"]}}}"#,
        r#"{"pools": {"a": {"servers": ["x"]}}, "route": {"failoverr": ["a"]}}"#,
        r#"{"pools": {"a": {"servers": ["x"]}}, "route": {"failover": {"childs": ["a"]}}}"#,
        r#"{"pools": {"a": {"servers": ["x"]}}, "route": {"type": "failover", "childs": ["a"]}}"#,
        r#"{"pools": {"a": {"servers": ["x"]}}, "route": {"failover": ["a"], "shadow": "a"}}"#,
        r#"{"pools": {"a": {"servers": ["x"]}}, "limits": {"clients_max": 0}}"#,
        r#"{"pools": {"a": {"servers": ["x"]}}, "tests": [{"expect": {"pool": "a"}}]}"#,
    ];
    for text in bad {
        assert!(config::from_text("t.yaml", text, route::check).is_err(), "{text}");
    }
    let all = format!("[{}, [{}], [{}]]", route::schema().to_json(), good.join(","), bad.join(","));
    let said = python::ask("oracles/schema.py", &all);
    if tool("jsonschema, a library of Python", said != "missing\n") {
        assert_eq!(said, "");
    }
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|e| e == "yaml")).collect()
}
