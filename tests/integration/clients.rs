//! Real client libraries and tools speak through ringway: scripts of `tests/clients` converse with the embedded cache
//! and with three memcached. Each loses its connection in the middle, by asking for the key `cut-the-line`.

use crate::support::{Cutter, Directory, Memcached, Proxy};
use crate::support::{has_latest, has_memcached, on_path, pool_of, python, tool};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn pymemcache() {
    converse_in_python("converse_pymemcache.py");
}

#[test]
fn pylibmc() {
    converse_in_python("converse_pylibmc.py");
}

#[test]
fn python_memcached() {
    converse_in_python("converse_python_memcached.py");
}

#[test]
fn perl_cache_memcached_fast() {
    converse_as_package("libcache-memcached-fast-perl", &["perl"], "converse_perl_fast.pl");
}

#[test]
fn perl_cache_memcached() {
    converse_as_package("libcache-memcached-perl", &["perl"], "converse_perl.pl");
}

#[test]
fn php_memcached() {
    converse_as_package("php-memcached", &["php"], "converse_php.php");
}

#[test]
fn java_spymemcached() {
    let java = ["java", "-cp", "/usr/share/java/spymemcached.jar"];
    converse_as_package("libspymemcached-java", &java, "Spymemcached.java");
}

#[test]
fn node_memcached() {
    converse_in_node("converse_node_memcached.js");
}

#[test]
fn node_memcache_client() {
    converse_in_node("converse_node_client.js");
}

#[test]
fn libmemcached_tools() {
    converse_as_package("libmemcached-tools", &["bash"], "converse_tools.sh");
}

/// libmemcached's own test of servers finds as much right with ringway as with memcached.
#[test]
fn memccapable_passes_what_it_passes_on_memcached() {
    if !has_package("libmemcached-tools") || !has_latest() {
        return;
    }
    let memcached = Memcached::latest();
    let expected = capabilities(memcached.address());
    assert!(expected.len() > 20, "{expected:?}");
    let embedded = Proxy::with("allow_flush: true\npools: {main: {embedded: {memory: 64MiB}}}\n");
    assert_eq!(capabilities(embedded.address()), expected);
    let servers = Memcached::start_several(3);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let proxy = Proxy::with(&format!("allow_flush: true\n{}", pool_of(&addresses, "timeout: 20s")));
    assert_eq!(capabilities(proxy.address()), expected);
}

/// A collector of numbers that knows memcached reads ours.
#[test]
fn collectd_reads_the_stats() {
    if !has_package("collectd-core") || !has_memcached() {
        return;
    }
    let embedded = Proxy::embedded();
    let server = Memcached::start();
    let proxy = Proxy::before(&[server.address()], "");
    for address in [embedded.address(), proxy.address()] {
        let names = collected(address);
        for name in [
            "uptime",
            "connections-opened",
            "memcached_connections-current",
            "memcached_command-get",
            "memcached_command-set",
            "memcached_octets",
            "memcached_ops-hits",
            "memcached_ops-misses",
            "ps_count", // what was 0 so far is left out: there is no ps_cputime yet
        ] {
            assert!(names.contains(name), "no {name} in {names:?}");
        }
    }
}

/// memcached's own script prints them.
#[test]
fn memcached_tool_reads_the_stats() {
    let script = "/usr/share/memcached/scripts/memcached-tool";
    if !tool(script, Path::new(script).exists()) {
        return;
    }
    let proxy = Proxy::embedded();
    for (about, expected) in
        [("stats", "curr_connections"), ("settings", "cas_enabled"), ("display", "Item_Size")]
    {
        let text = run(&["perl", script], &[proxy.address(), about]);
        assert!(text.contains(expected), "{about}: {text}");
    }
}

/// The table in the README names the versions that these tests run.
#[test]
fn the_readme_tells_the_versions() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let requirements = read("tests/clients/requirements.txt");
    let package = read("tests/clients/node/package.json");
    let is_bookworm =
        std::fs::read_to_string("/etc/os-release").is_ok_and(|t| t.contains("VERSION_ID=\"12\""));
    let readme = read("README.md");
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .skip_while(|l| !l.starts_with("| client "))
        .skip(2)
        .take_while(|l| l.starts_with('|'))
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 10, "the table of clients is not in the README");
    for row in rows {
        let [client, version, source] = row[..] else { panic!("{row:?}") };
        match source.split_once(' ') {
            Some(("pip", name)) => {
                assert!(requirements.contains(&format!("{name}=={version}\n")), "{client}")
            }
            Some(("npm", name)) => {
                assert!(package.contains(&format!("\"{name}\": \"{version}\"")), "{client}");
            }
            Some(("Debian", name)) if is_bookworm && has_package(name) => {
                let shown = run(&["dpkg-query", "-W", "-f", "${Version}"], &[name]);
                assert!(shown.starts_with(version), "{client}: {shown}");
            }
            Some(("Debian", _)) => {}
            _ => panic!("{row:?}"),
        }
    }
}

fn converse_in_python(script: &str) {
    if python::has_python() {
        converse(|address| python::run(script, &[address]));
    }
}

fn converse_in_node(script: &str) {
    let is_there = on_path("node") && root().join("tests/clients/node/node_modules").is_dir();
    if tool("node with the packages of tests/clients/node", is_there) {
        converse(|address| run(&["node", &path_of(script)], &[address]));
    }
}

/// The client is in this package of Debian.
fn converse_as_package(package: &str, program: &[&str], script: &str) {
    if has_package(package) && tool(program[0], on_path(program[0])) {
        let path = path_of(script);
        let program: Vec<&str> = program.iter().copied().chain([path.as_str()]).collect();
        converse(|address| run(&program, &[address]));
    }
}

/// Holds a conversation with the embedded cache and with three servers, each over a line that can be cut.
fn converse(hold: impl Fn(&str) -> String) {
    if !has_memcached() {
        return;
    }
    let embedded = Proxy::start(&["run", "--listen", "127.0.0.1:0"]);
    hold(Cutter::before(embedded.address()).address());
    let servers = Memcached::start_several(3);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let proxy = Proxy::before(&addresses, "timeout: 20s");
    hold(Cutter::before(proxy.address()).address());
    for proxy in [&embedded, &proxy] {
        assert_eq!(stat(proxy, "desync_detected"), "0");
    }
}

/// Each test of memccapable and whether it passed, for example `ascii cas [pass]`.
fn capabilities(address: &str) -> BTreeSet<String> {
    let (host, port) = address.split_once(':').unwrap();
    let output = Command::new("timeout").args(["60", "memccapable", "-a", "-h", host, "-p", port]).output();
    let output = output.unwrap();
    // it writes the name of a test and then, by another way, how it went
    let outcomes = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&outcomes).replace("[pass]", "[pass]\n").replace("[FAIL]", "[FAIL]\n");
    text.lines()
        .filter(|l| l.starts_with("ascii"))
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn stat(proxy: &Proxy, name: &str) -> String {
    let mut client = proxy.client();
    client.send("stats\r\n");
    let wanted = format!("STAT {name} ");
    client.lines_to_end().iter().find_map(|l| l.strip_prefix(&wanted).map(str::to_owned)).unwrap()
}

/// The names of what collectd makes of the stats, for example `memcached_ops-hits`.
fn collected(address: &str) -> BTreeSet<String> {
    let (host, port) = address.split_once(':').unwrap();
    let directory = Directory::new();
    let configuration = format!(
        "BaseDir \"{}\"\nPIDFile \"{}\"\nHostname \"h\"\nInterval 1\nLoadPlugin memcached\nLoadPlugin csv\n\
         <Plugin csv>\nDataDir \"stdout\"\n</Plugin>\n\
         <Plugin memcached>\n<Instance \"x\">\nAddress \"{host}\"\nPort \"{port}\"\n</Instance>\n</Plugin>\n",
        directory.file(""),
        directory.file("pid"),
    );
    let path = directory.write("collectd.conf", &configuration);
    let mut command = Command::new("timeout");
    let mut child = command
        .args(["60", "collectd", "-f", "-C", &path])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut names = BTreeMap::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(name) = line.strip_prefix("PUTVAL h/memcached-x/").and_then(|l| l.split(' ').next()) else {
            continue;
        };
        // several threads print: when a name comes a third time, the first look at the stats is told in full
        let times = names.entry(name.to_owned()).or_insert(0);
        *times += 1;
        if *times == 3 {
            break;
        }
    }
    // the one that watches over it passes this on
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    names.into_keys().collect()
}

/// Runs a program that ends well within a minute or two. Gives what it printed.
fn run(program: &[&str], arguments: &[&str]) -> String {
    let output = Command::new("timeout").arg("120").args(program).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program:?} {arguments:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Whether Debian's package of this name is installed.
fn has_package(name: &str) -> bool {
    let asked = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", name]).output();
    tool(name, asked.is_ok_and(|o| o.stdout == b"installed"))
}

fn path_of(script: &str) -> String {
    root().join("tests/clients").join(script).display().to_string()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
