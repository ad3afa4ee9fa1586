//! `tests`: what a configuration expects of its own routes, so that a change which moves a key says so before it is rolled out.
//!
//! ```yaml
//! tests:
//!   - expect: {key: user:1, op: get, pool: main, server: cache-0}
//! ```

use super::{Explained, Route, Target, When, unconnected};
use crate::config::{At, Config, Findings, Node, Path, Problem, Section, nearest_help, quoted, value};
use crate::protocol::{Op, Request, limits::KEY_BYTES_MAX};
use std::collections::BTreeSet;

/// The keys of `expect`, and what they are.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("key", "the key of the request"),
    ("op", "the operation: get (default), set, delete, mg, …"),
    ("pool", "the pool, or pools, that are asked and waited for"),
    ("server", "the server, or servers, that are asked and waited for, by name or address"),
    ("beside", "the pools that get a copy nobody waits for"),
    ("on_error", "the pools that are asked after an error"),
    ("on_miss", "the pools that are asked after a miss"),
];

/// One entry of `tests`.
struct Expectation {
    index: usize,
    op: Op,
    key: String,
    /// A key of [`KEYS`] and the names under it.
    wanted: Vec<(&'static str, BTreeSet<String>)>,
}

/// Whether `tests` is written as it should be.
pub(super) fn check(config: &Config, findings: &Findings) {
    read(config, findings);
}

/// Walks each expected request; what comes out differently is a fault.
pub(super) fn run(config: &Config, findings: &Findings) {
    // what is wrong with them was told by `check`
    let expectations = read(config, &Findings::default());
    if expectations.is_empty() {
        return;
    }
    let path = Path::ROOT.key("tests");
    let root = match unconnected(config) {
        Ok(root) => root,
        Err(why) => return findings.fault(&path, At::Key, Problem::new(why)),
    };
    for expectation in expectations {
        let entry = path.index(expectation.index);
        let explained = root.explain(&Request::new(expectation.op, expectation.key.as_bytes()));
        for (key, names) in &expectation.wanted {
            if let Some(came) = difference(key, names, &explained) {
                let (op, of_key) = (expectation.op.name(), &expectation.key);
                let problem = Problem::new(format!("{}: {came}", quoted(&format!("{op} {of_key}"))))
                    .help(format!("`ringway explain {of_key} --op {op} -c …` shows why"));
                findings.fault(&entry.key("expect").key(key), At::Value, problem);
            }
        }
    }
}

fn read(config: &Config, findings: &Findings) -> Vec<Expectation> {
    let Node::Map(document) = &config.routes.document else { return Vec::new() };
    let Some((_, node)) = document.iter().find(|(key, _)| key == "tests") else { return Vec::new() };
    let path = Path::ROOT.key("tests");
    let Node::List(list) = node else {
        let help = "as in `- expect: {key: user:1, pool: main}`";
        findings.fault(&path, At::Value, value::expected("a list of tests", node).help(help));
        return Vec::new();
    };
    let read = |(i, node)| read_one(config, i, node, &path.index(i), findings);
    list.iter().enumerate().filter_map(read).collect()
}

fn read_one(
    config: &Config,
    index: usize,
    node: &Node,
    path: &Path<'_>,
    findings: &Findings,
) -> Option<Expectation> {
    let section = Section::open(node, path, findings, "a test, `expect: {key: …, pool: …}`")?;
    section.refuse_unknown(&["expect"], &[]);
    let path = path.key("expect");
    let expect = Section::open(section.node("expect")?, &path, findings, "a map of what is expected")?;
    let known: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
    expect.refuse_unknown(&known, &[]);
    if expect.node("key").is_none() {
        findings.fault(&path, At::Key, Problem::new("`key` is missing"));
    }
    let key = expect.value("key", read_key);
    let op = match expect.node("op") {
        Some(_) => expect.value("op", read_op),
        None => Some(Op::Get),
    };
    let mut wanted = Vec::new();
    for (name, _) in &KEYS[2..] {
        if expect.node(name).is_some() {
            let pools = if *name == "server" { None } else { Some(config) };
            wanted.push((*name, expect.value(name, |node| read_names(node, pools))?));
        }
    }
    if wanted.is_empty() {
        let help = "`pool`, `server`, `beside`, `on_error` or `on_miss`";
        findings.fault(&path, At::Key, Problem::new("nothing is expected").help(help));
    }
    Some(Expectation { index, op: op?, key: key?, wanted })
}

fn read_key(node: &Node) -> Result<String, Problem> {
    let key = value::text(node, "a key")?;
    let is_legal = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b > b' ' && b != 0x7f);
    if is_legal {
        Ok(key)
    } else {
        Err(Problem::new(format!("a key has 1 to {KEY_BYTES_MAX} bytes, no spaces")))
    }
}

fn read_op(node: &Node) -> Result<Op, Problem> {
    let all: Vec<(&str, Op)> = Op::ALL.into_iter().map(|op| (op.name(), op)).collect();
    value::choice(node, "an operation", &all)
}

/// One name or a list of them; those of pools are looked up.
fn read_names(node: &Node, pools: Option<&Config>) -> Result<BTreeSet<String>, Problem> {
    let list = if let Node::List(list) = node { list.as_slice() } else { std::slice::from_ref(node) };
    let mut names = BTreeSet::new();
    for node in list {
        let name = value::text(node, "a name, or a list of names")?;
        if let Some(config) = pools
            && config.pool(&name).is_none()
        {
            let known: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
            let problem = Problem::new(format!("there is no pool {}", quoted(&name)));
            return Err(problem.help(nearest_help(&name, &known)).at(&name));
        }
        names.insert(name);
    }
    Ok(names)
}

/// What came instead of these names, in words; `None`: they came.
fn difference(key: &str, wanted: &BTreeSet<String>, explained: &Explained) -> Option<String> {
    let turn = match key {
        "beside" => |when: &When| *when == When::Beside,
        "on_error" => |when: &When| *when == When::OnError,
        "on_miss" => |when: &When| *when == When::OnMiss,
        _ => |_: &When| false,
    };
    let is_first = matches!(key, "pool" | "server");
    let mut targets = Vec::new();
    collect(explained, is_first, &turn, &mut targets);
    let mut came = BTreeSet::new();
    for target in targets {
        came.insert(match key {
            // by the word that was expected, else as it is called
            "server" if wanted.contains(&target.address) => target.address.as_str(),
            "server" => target.name.as_str(),
            _ => target.pool.as_str(),
        });
    }
    if came.iter().copied().eq(wanted.iter().map(String::as_str)) {
        return None;
    }
    let names: Vec<String> = came.into_iter().map(quoted).collect();
    let names = if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") };
    Some(match key {
        "pool" => format!("the pool is {names}"),
        "server" => format!("the server is {names}"),
        "beside" => format!("beside goes to {names}"),
        "on_error" => format!("after an error comes {names}"),
        _ => format!("after a miss comes {names}"),
    })
}

/// The servers whose turn comes at the first step that is not "now": at one of these, or, where `is_in`, at none.
fn collect<'e>(
    explained: &'e Explained,
    is_in: bool,
    turn: &impl Fn(&When) -> bool,
    targets: &mut Vec<&'e Target>,
) {
    targets.extend(explained.target.iter().filter(|_| is_in));
    for (when, child) in &explained.children {
        if *when == When::Now {
            collect(child, is_in, turn, targets);
        } else if turn(when) {
            targets.extend(child.asked(&|_| true));
        }
    }
}
