//! Configurations, good and bad. A file in `tests/configs/bad` says in trailing comments what has to be told about it, one
//! `# fault: LINE:COLUMN path: message (help)` per fault, all of them and no others, in the order of the text; `…` at the end
//! stands for any rest. A file in `good` may do so with `# warning:`; in JSON the comments begin with `//`. `BLESS=1` writes what is told now; read the diff.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use ringway::config::{
    self, BigValues, Config, DistanceTimeouts, Endpoint, Fault, Faults, Listen, McrouterOptions, Node,
    OnError, Routes, Tko, Warning, Workers,
};
use ringway::hash::{KeyHash, Placement};
use ringway::protocol::{Op, Request};
use ringway::route::{self, Route as _, When};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[test]
fn bad_files_are_told_all_their_faults() {
    let files = [yaml_files("tests/configs/bad"), files("tests/configs/bad", "json")].concat();
    assert!(files.len() >= 60);
    for file in files {
        let faults = config::load(&file, route::check_and_test).expect_err(&file.display().to_string());
        assert_eq!(faults.more_count, 0, "{}", file.display());
        compare(&file, "# fault: ", &faults.list.iter().map(told).collect::<Vec<_>>());
        let shown = faults.render(false);
        assert!(shown.contains(&format!("{} fault", faults.list.len())), "{shown}");
        assert!(!shown.contains('\u{1b}'), "plain text holds no colour: {shown}");
    }
}

#[test]
fn good_files_load() {
    for file in [yaml_files("tests/configs/good"), files("tests/configs/good", "json")].concat() {
        let (_, warnings) = loaded(&file);
        compare(&file, "# warning: ", &warnings.iter().map(|w| told(&w.0)).collect::<Vec<_>>());
    }
}

#[test]
fn every_good_file_can_be_kept_as_the_last_good_one() {
    let folder = std::env::temp_dir().join(format!("ringway-last-good-{}", std::process::id()));
    let all = [yaml_files("tests/configs/good"), files("tests/configs/good", "json"), yaml_files("config")];
    for file in all.concat() {
        let origin = config::Origin { keeps_document: true, ..config::Origin::default() };
        let loaded = config::load_all(&file, origin.clone(), route::check).unwrap();
        let text = config::last_good_text(&loaded, &origin, route::check);
        fs::write(&folder, text.unwrap_or_else(|| panic!("{} cannot be kept", file.display()))).unwrap();
        let refused = config::Refused { files: Vec::new(), faults: String::new() };
        let kept = config::load_last_good(&folder, origin, refused, route::check).unwrap();
        assert!(kept.config == loaded.config, "{}", file.display());
    }
    fs::write(&folder, "pools: {main: {servers: [a]}}").unwrap();
    let refused = config::Refused { files: Vec::new(), faults: String::new() };
    let other = config::load_last_good(&folder, config::Origin::default(), refused, route::check);
    assert!(other.unwrap_err().render(false).contains("not written by ringway"));
    fs::remove_file(&folder).unwrap();
}

#[test]
fn every_example_loads_without_a_warning() {
    let files = yaml_files("config");
    assert!(files.len() >= 6);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        const SCHEMA: &str = "# yaml-language-server: $schema=ringway.schema.json\n";
        if !text.starts_with(SCHEMA) && std::env::var_os("BLESS").is_some() {
            fs::write(&file, format!("{SCHEMA}{text}")).unwrap();
        }
        let text = fs::read_to_string(&file).unwrap();
        let rest = text.strip_prefix(SCHEMA).unwrap_or_else(|| panic!("{} names no schema", file.display()));
        let door = rest.lines().take(2).filter(|line| line.starts_with("# ")).count();
        assert_eq!(door, 2, "{} opens with two lines that say when to use it", file.display());
        let (_, warnings) = loaded(&file);
        assert_eq!(warnings, [], "{}", file.display());
    }
}

#[test]
fn default_yaml_says_the_defaults() {
    let (all, _) = loaded(Path::new("config/default.yaml"));
    let (least, _) = loaded(Path::new("tests/configs/good/least.yaml"));
    assert_eq!(all.settings, least.settings);
    let (all, least) = (&all.pools[0], &least.pools[0]);
    assert_eq!(
        (all.timeout, all.connect_timeout, all.on_error),
        (least.timeout, least.connect_timeout, least.on_error)
    );
    assert_eq!(all.tko, least.tko);
    assert_eq!(all.on_down, least.on_down);
    assert_eq!(all.connections_count, least.connections_count);
    assert_eq!(all.outstanding_count_max, least.outstanding_count_max);
    assert_eq!(all.hash, least.hash);
    assert_eq!((all.warms_connections, all.transition), (least.warms_connections, least.transition));
}

#[test]
fn every_key_and_name_is_in_the_readme() {
    let readme = fs::read_to_string("config/README.md").unwrap();
    // An unknown key that is near to none is answered with all that there are.
    for text in [
        "zzzzzzzz: 1\n",
        "limits: {zzzzzzzz: 1}\n",
        "pools: {p: {zzzzzzzz: 1}}\n",
        "spool: {zzzzzzzz: 1}\n",
        "pools: {p: {tko: {zzzzzzzz: 1}}}\n",
        "pools: {p: {transition: {zzzzzzzz: 1}}}\n",
        "pools: {p: {tko: {fail_open: {zzzzzzzz: 1}}}}\n",
    ] {
        let faults = config::from_text("t", text, route::check).unwrap_err();
        let help =
            faults.list.iter().find_map(|f| f.help.as_ref().filter(|h| h.starts_with("one of"))).unwrap();
        for key in help.split('`').skip(1).step_by(2) {
            assert!(readme.contains(&format!("`{key}`")), "config/README.md does not tell of `{key}`");
        }
    }
    for name in Placement::names().chain(KeyHash::names()) {
        assert!(readme.contains(&format!("`{name}`")), "config/README.md does not tell of `{name}`");
    }
}

#[test]
fn the_example_of_the_issue_says_what_it_says() {
    let (config, warnings) = loaded(Path::new("tests/configs/good/issue.yaml"));
    assert_eq!(warnings, []);
    assert_eq!(config.settings.listen.len(), 2);
    assert_eq!(config.settings.listen[1], Listen::Unix("/run/ringway/ringway.sock".into()));
    assert_eq!(config.settings.workers, Workers::Auto);
    assert_eq!(config.routes, Routes::to_pool(&config.pools[0].name));
    let pool = &config.pools[0];
    assert_eq!(pool.name, "main");
    assert_eq!(pool.timeout, Duration::from_millis(500));
    assert_eq!(pool.connect_timeout, Duration::from_millis(200));
    assert_eq!(pool.on_error, OnError::Miss);
    assert_eq!(pool.hash.placement, Placement::Ketama);
    let labels: Vec<String> = pool.servers.iter().map(config::Server::label).collect();
    assert_eq!(labels, ["10.0.0.1:11211", "10.0.0.2:11211", "c", "[::1]:11211", "unix:/run/mc.sock"]);
    assert_eq!(pool.servers[1].member.weight, 2);
    assert_eq!(pool.servers[2].endpoint, Endpoint::Host("cache-c.internal".into(), 11211));
}

#[test]
fn merged_keys_yield_to_written_ones() {
    let (config, _) = loaded(Path::new("tests/configs/good/merge.yaml"));
    let b = &config.pools[1];
    assert_eq!(b.servers[0].label(), "z:11211");
    assert_eq!((b.timeout, b.hash.key_hash), (Duration::from_millis(250), Some(KeyHash::Md5)));
    assert_eq!(config.routes, Routes::to_pool(&config.pools[1].name));
}

#[test]
fn mcrouters_files_and_what_they_are_converted_to_agree_on_every_key() {
    let keys: Vec<String> = (0..10_000)
        .map(|i| match i % 8 {
            0 => format!("user:{i}"),
            1 => format!("page:{i}:|#|name"),
            2 => format!("page:shard:{}:{i}", i % 3),
            3 => format!("hot:{i}"),
            4 => format!("/west/main/k{i}"),
            5 => format!("/*/*/k{i}"),
            6 => format!("shared:{i}"),
            _ => format!("k{i}"),
        })
        .collect();
    for file in files("tests/configs/good", "json") {
        let (written, warnings) = loaded(&file);
        let text = config::to_yaml(&route::in_our_words(&written));
        let (converted, _) = config::from_text("converted.yaml", &text, route::check)
            .unwrap_or_else(|faults| panic!("{}\n{text}\n{}", file.display(), faults.render(false)));
        let renamed = config::legal_names(&written);
        let mut meant = route::in_our_words(&written);
        for pool in &mut meant.pools {
            pool.name = renamed.get(&pool.name).unwrap_or(&pool.name).clone();
        }
        let mut read = converted.clone();
        for config in [&mut meant, &mut read] {
            if let Node::Map(document) = &mut config.routes.document {
                document.sort_by(|a, b| a.0.cmp(&b.0));
            }
        }
        assert_eq!(meant, read, "{}: what was written is what is read", file.display());
        let unread: Vec<String> =
            warnings.iter().map(|w| told(&w.0)).filter(|told| told.contains("is not read")).collect();
        let is_empty = |pool: &&config::Pool| pool.servers.is_empty();
        let empty: Vec<&str> = written.pools.iter().filter(is_empty).map(|pool| pool.name.as_str()).collect();
        same_keys(&routes_of(&written), &routes_of(&converted), &unread, &empty);
        let trees = (route::unconnected(&written).unwrap(), route::unconnected(&converted).unwrap());
        for (i, key) in keys.iter().enumerate() {
            // each key by some operations, all of them over the keys
            for op in Op::ALL.into_iter().skip(i % 4).step_by(4) {
                let request = Request::new(op, key.as_bytes());
                let mut of_written = trees.0.explain(&request).to_string();
                for (old, new) in &renamed {
                    of_written = of_written.replace(&format!("pool {old}"), &format!("pool {new}"));
                }
                let of_converted = trees.1.explain(&request).to_string();
                assert_eq!(of_written, of_converted, "{} {key} {op:?}\n{text}", file.display());
            }
        }
    }
}

/// The routes of either dialect, by prefix.
fn routes_of(config: &Config) -> Node {
    let Node::Map(document) = &config.routes.document else { panic!() };
    let of = |wanted: &str| document.iter().find(|(key, _)| key == wanted).map(|(_, node)| node.clone());
    let routes = of("routes")
        .or_else(|| Some(Node::Map(vec![(config.routes.default_prefix().to_owned(), of("route")?)])));
    Node::List(vec![routes.unwrap(), of("named_handles").unwrap_or(Node::Null)])
}

/// Every key of every route says the same, but for what is told not to be read, defaults that differ, and other names of
/// routes and pools. What names a pool without servers is something else.
#[track_caller]
fn same_keys(written: &Node, converted: &Node, unread: &[String], empty: &[&str]) {
    const DEFAULTS: &[&str] = &["hide_reply_flag", "index_range", "key_fraction_range"];
    match (written, converted) {
        (Node::Map(written), Node::Map(converted)) => {
            for (key, node) in written {
                match converted.iter().find(|(other, _)| other == key) {
                    Some(_) if matches!(key.as_str(), "type" | "pool" | "shadows") => {}
                    Some((_, other)) => same_keys(node, other, unread, empty),
                    None if key == "failover_policy" => {} // one of a type that means nothing
                    None => {
                        assert!(unread.iter().any(|told| told.contains(key)), "`{key}` is lost: {unread:?}")
                    }
                }
            }
            let is_there = |key: &String| written.iter().any(|(known, _)| known == key);
            for (key, _) in converted.iter().filter(|(key, _)| !is_there(key)) {
                assert!(DEFAULTS.contains(&key.as_str()), "`{key}` is new");
            }
        }
        (Node::List(written), Node::List(converted)) => {
            assert_eq!(written.len(), converted.len());
            written.iter().zip(converted).for_each(|(one, other)| same_keys(one, other, unread, empty));
        }
        (Node::Text(one), _) if empty.iter().any(|name| one.ends_with(&format!("|{name}"))) => {}
        (Node::Map(pool), Node::Text(null)) if null == "NullRoute" => {
            assert!(empty.iter().any(|name| format!("{pool:?}").contains(name)));
        }
        (Node::Map(pool), Node::Text(name)) => assert!(name.starts_with("Pool|"), "{pool:?} {name}"),
        (Node::Text(one), Node::Text(other)) if one.contains("Pool") => {
            assert_eq!(one.split('|').count(), other.split('|').count());
        }
        _ => assert_eq!(written, converted),
    }
}

#[test]
fn mcrouters_files_cut_and_garbled_are_told_or_taken() {
    for file in files("tests/configs/good", "json") {
        let text = fs::read_to_string(&file).unwrap();
        for (at, c) in text.char_indices().step_by(7) {
            let cut = &text[..at];
            let without = format!("{cut}{}", &text[at + c.len_utf8()..]);
            let doubled = format!("{cut}{c}{}", &text[at..]);
            let garbled =
                ["%", "@x(", "\\", "[", "{\"type\":", "-1e999,"].map(|g| format!("{cut}{g}{}", &text[at..]));
            for text in [cut, &without, &doubled].into_iter().chain(garbled.iter().map(String::as_str)) {
                if let Err(faults) = config::from_text("tests/configs/good/x.json", text, route::check) {
                    assert!(!faults.list.is_empty() && !faults.render(false).is_empty());
                }
            }
        }
    }
}

#[test]
fn timeouts_by_distance() {
    let ms = Duration::from_millis;
    let (config, _) = loaded(Path::new("config/regions.yaml"));
    let of = |config: &Config, name: &str| {
        let pool = config.pool(name).unwrap();
        pool.servers.iter().map(|server| pool.timeouts_of(server)).collect::<Vec<_>>()
    };
    assert_eq!(of(&config, "web"), [(ms(50), ms(50)); 2]);
    assert_eq!(of(&config, "api"), [(ms(100), ms(100))]);
    assert_eq!(of(&config, "far"), [(ms(1000), ms(700)), (ms(400), ms(400))]);
    assert_eq!(of(&config, "log"), [(ms(2000), ms(500))]);
    let (config, _) = loaded(Path::new("tests/configs/good/distances.yaml"));
    assert_eq!(of(&config, "main"), [(ms(50), ms(100)), (ms(1000), ms(100))]);
    let text = "pools: {a: {servers: [{address: s, timeout: 90ms}]}, b: {servers: [{address: s, timeout: 2s}]}}\nroute: a";
    let (config, _) = config::from_text("t", text, route::check).unwrap();
    assert_eq!((of(&config, "a"), of(&config, "b")), (vec![(ms(90), ms(90))], vec![(ms(2000), ms(500))]));
}

/// mcrouter's order: the distance counts more than the pool's `server_timeout`, and nothing of it is lost in YAML.
#[test]
fn mcrouters_timeouts_by_distance_are_converted() {
    let file = Path::new("tests/configs/good/mcrouter_regions.json");
    let ms = |ms| Some(Duration::from_millis(ms));
    let timeouts = |config: &Config| -> Vec<(u128, u128)> {
        config.pools.iter().map(|p| (p.timeout.as_millis(), p.connect_timeout.as_millis())).collect()
    };
    let converted = |config: &Config| {
        let text = config::to_yaml(&route::in_our_words(config));
        (config::from_text("converted.yaml", &text, route::check).unwrap().0, text)
    };
    let (plain, _) = loaded(file);
    assert_eq!(timeouts(&plain), [(300, 300), (1000, 200), (70, 70), (1000, 1000)]);
    let origin = config::Origin {
        options: McrouterOptions {
            here: Some("/west/main/".parse().unwrap()),
            distance_timeouts: DistanceTimeouts {
                within_cluster: ms(50),
                cross_cluster: None,
                cross_region: ms(400),
            },
            ..McrouterOptions::default()
        },
        ..config::Origin::default()
    };
    let told = config::load_all(file, origin, route::check).unwrap().config;
    assert_eq!(timeouts(&told), [(50, 300), (400, 200), (70, 70), (1000, 1000)]);
    let (read, text) = converted(&told);
    assert_eq!(
        (timeouts(&read), &read.pools[1].location),
        (timeouts(&told), &told.pools[1].location),
        "{text}"
    );
    assert_eq!(read.settings.distance_timeouts, told.settings.distance_timeouts);
    assert_eq!(read.routes.default_prefix(), "/west/main/");
    assert_eq!(text.matches("\n    timeout:").count(), 2, "only where the distance does not say it: {text}");
    // servers with timeouts of their own, through YAML and back
    let (own, _) = loaded(Path::new("tests/configs/good/distances.yaml"));
    let (read, text) = converted(&own);
    assert_eq!(read.pools[0].servers, own.pools[0].servers, "{text}");
}

/// One line of `config/README.md` for each row of its table of routes.
#[test]
fn every_route_has_an_example_that_loads() {
    let readme = fs::read_to_string("config/README.md").unwrap();
    let pools = "pools:\n  all: {servers: [h:1, h:2, h:3]}\n  a: {servers: [h:4]}\n  b: {servers: [h:5]}\n  c: {servers: [h:6]}\n";
    let (_, rest) = readme.split_once("### One of each\n").unwrap();
    let (_, rest) = rest.split_once("```yaml\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let examples: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    for example in &examples {
        let text = format!("{pools}route: {example}\n");
        config::from_text("t.yaml", &text, route::check)
            .unwrap_or_else(|faults| panic!("{example}: {faults}"));
    }
    let (_, table) = readme.split_once("| route | mcrouter's name |").unwrap();
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| `"));
    let rows: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert!(rows.len() > 40);
    for row in rows {
        let is_one = |example: &&str| {
            [format!("{{{row}:"), format!("{{type: {row},"), format!("\"{row}\"")]
                .iter()
                .any(|begin| example.starts_with(begin))
        };
        assert!(examples.iter().any(is_one), "no example of `{row}`");
    }
}

/// What mcrouter is told by flags holds for its file, and is not lost in YAML.
#[test]
fn mcrouters_options_are_converted() {
    let ms = Duration::from_millis;
    let text = r#"{
        "pools": {"A": {"servers": ["10.0.0.1:11211"]}, "B": {"servers": ["10.0.0.2:11211"], "server_timeout": 70}},
        "routes": [{"aliases": ["/./%mcr_opts-failures_until_tko%/"], "route": "PoolRoute|B"},
                   {"aliases": ["/././"], "route": "PoolRoute|A"}]
    }"#;
    let file = std::env::temp_dir().join(format!("ringway-options-{}.json", std::process::id()));
    fs::write(&file, text).unwrap();
    let read = |options: McrouterOptions| {
        let origin = config::Origin { options, ..config::Origin::default() };
        config::load_all(&file, origin, route::check).unwrap()
    };
    let options = McrouterOptions {
        server_timeout: ms(250),
        timeouts_until_tko: 5,
        probe_timeout_initial: ms(100),
        probe_timeout_max: ms(20),
        send_invalid_route_to_default: true,
        enable_flush_cmd: true,
        big_values: Some(BigValues { threshold_bytes: 1000, batch_count: 3, hides_flag: true }),
        ..McrouterOptions::default()
    };
    let told = read(options.clone());
    let off = read(McrouterOptions { disable_tko_tracking: true, ..options.clone() }).config;
    fs::remove_file(&file).unwrap();
    assert!(told.about.options.contains(&("failures_until_tko", "5".to_owned())));
    let told = told.config;
    let (read, text) = {
        let text = config::to_yaml(&route::in_our_words(&told));
        (config::from_text("converted.yaml", &text, route::check).unwrap().0, text)
    };
    let tko = Tko { timeouts_count: 5, probe_first: ms(100), probe_max: ms(100), ..Tko::MCROUTER };
    for config in [&told, &read] {
        let pools = &config.pools;
        assert_eq!((pools[0].timeout, pools[0].connect_timeout), (ms(250), ms(250)), "{text}");
        assert_eq!((pools[1].timeout, &pools[1].tko), (ms(70), &Some(tko.clone())), "{text}");
        assert!(config.settings.allow_flush, "{text}");
        let tree = route::unconnected(config).unwrap();
        let walked = |key: &str| tree.explain(&Request::new(Op::Set, key.as_bytes())).to_string();
        assert!(walked("k").contains("big_value") && walked("k").contains("10.0.0.1"), "{}", walked("k"));
        assert!(walked("/./5/k").contains("10.0.0.2"), "{}", walked("/./5/k"));
        assert!(walked("/no/where/k").contains("10.0.0.1"), "{}", walked("/no/where/k"));
    }
    assert_eq!(off.pools[0].tko, None);
    // with ours they would do nothing
    let ours = Path::new("tests/configs/good/least.yaml");
    let origin = |options| config::Origin { options, ..config::Origin::default() };
    let warned = |options| config::load_all(ours, origin(options), route::check).unwrap().warnings.len();
    assert_eq!((warned(options), warned(McrouterOptions::default())), (1, 0));
    for kept in ["split_threshold: 1000", "batch_size: 3", "hide_reply_flag: true"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
}

/// Where requests of all examples go: `tests/configs/explained.txt`, in which each file has lines `OP KEY -> servers`. After
/// `->` an `…` stands for what depends on the host or the hour.
#[test]
fn every_configuration_explains_where_requests_go() {
    let golden = Path::new("tests/configs/explained.txt");
    let text = fs::read_to_string(golden).unwrap();
    let bless = std::env::var_os("BLESS").is_some();
    let mut trees: Option<route::Root> = None;
    let mut seen = Vec::new();
    let mut written = String::new();
    for line in text.lines() {
        let Some(asked) = line.strip_prefix("  ") else {
            if !line.is_empty() && !line.starts_with('#') {
                trees = Some(route::unconnected(&loaded(Path::new(line)).0).unwrap());
                seen.push(PathBuf::from(line));
            }
            written.push_str(&format!("{line}\n"));
            continue;
        };
        let (asked, expected) = asked.split_once(" ->").unwrap_or((asked, ""));
        let (op, key) = asked.split_once(' ').unwrap();
        let op = Op::ALL.into_iter().find(|known| known.name() == op).unwrap();
        let explained = trees.as_ref().unwrap().explain(&Request::new(op, key.as_bytes()));
        let mut servers = Vec::new();
        servers_of(&explained, "", &mut servers);
        let told = if expected.trim() == "…" { "…".to_owned() } else { servers.join(", ") };
        written.push_str(&format!("  {asked} -> {told}\n"));
    }
    let all = [yaml_files("config"), yaml_files("tests/configs/good"), files("tests/configs/good", "json")]
        .concat();
    for file in all.iter().filter(|file| !seen.contains(file)) {
        // with BLESS its lines are written too
        let get = Request::new(Op::Get, b"user:42");
        assert!(!route::unconnected(&loaded(file).0).unwrap().explain(&get).label.is_empty());
        if bless {
            written.push_str(&format!("{}\n  get user:42 ->\n", file.display()));
        }
    }
    assert!(seen.len() >= 50);
    if written != text {
        if bless {
            return fs::write(golden, written).unwrap();
        }
        let differ = text.lines().zip(written.lines()).find(|(want, told)| want != told);
        panic!("{}: {differ:?} (BLESS=1 writes it)", golden.display());
    }
}

/// The servers in the order in which they are asked, each with why.
fn servers_of(explained: &route::Explained, why: &str, servers: &mut Vec<String>) {
    servers.extend(explained.target.as_ref().map(|target| format!("{why}{}", target.name)));
    for (when, child) in &explained.children {
        let why = match when {
            When::Now => why.to_owned(),
            When::Beside => "beside ".to_owned(),
            When::OnError => "after an error ".to_owned(),
            When::OnMiss => "after a miss ".to_owned(),
            When::If(condition) => format!("({condition}) "),
        };
        servers_of(child, &why, servers);
    }
}

#[test]
fn hostile_texts_are_faults() {
    // the machine is shared, and this is not optimised
    hostile_texts(1 << 18, Duration::from_secs(30));
}

/// A thousand pools of a hundred servers with long names.
#[test]
fn a_large_file_of_mcrouters_loads() {
    let pool = |i: usize| {
        let server =
            |j: usize| format!("\"cache-{i:04}-{j:03}.memcached.region-1.internal.example.com:11211\"");
        let servers: Vec<String> = (0..100).map(server).collect();
        format!("\"pool-{i:04}\": {{\"server_timeout\": 250, \"servers\": [{}]}}", servers.join(", "))
    };
    let pools: Vec<String> = (0..1_000).map(pool).collect();
    let policies: Vec<String> =
        (0..1_000).map(|i| format!("\"{i:04}:\": \"PoolRoute|pool-{i:04}\"")).collect();
    let text = format!(
        "{{\"pools\": {{{}}}, \"route\": {{\"type\": \"PrefixSelectorRoute\", \"policies\": {{{}}}, \"wildcard\": \"NullRoute\"}}}}",
        pools.join(",\n"),
        policies.join(", ")
    );
    assert!(text.len() > 6 << 20, "{}", text.len());
    let (config, warnings) = config::from_text("large.json", &text, route::check).unwrap();
    assert_eq!((config.pools.len(), config.pools[999].servers.len(), warnings.len()), (1_000, 100, 0));
}

#[test]
#[ignore = "needs an optimised build: cargo test --profile prove --test config -- --ignored"]
fn hostile_texts_as_long_as_may_be_are_faults_soon() {
    // with assertions on; the program itself is to need less than a second for each
    hostile_texts(4 << 20, Duration::from_secs(3));
}

/// What is a fault, however it is written and however long it is, within this time.
fn hostile_texts(bytes: usize, time_max: Duration) {
    let filled = |before: &str, unit: &str, after: &str| {
        // mcrouter's files may be longer
        let bytes = if before.starts_with('{') { bytes / 4 * 9 } else { bytes };
        let count = (bytes - before.len() - after.len()) / unit.len();
        format!("{before}{}{after}", unit.repeat(count))
    };
    let nested = |before: &str, open: &str, inner: &str, close: &str, after: &str| {
        format!("{before}{}{inner}{}{after}", open.repeat(10_000), close.repeat(10_000))
    };
    let doubling = |count: usize| {
        let handle = |i: usize| format!("  h{i}: {{all_sync: [h{}, h{}]}}\n", i + 1, i + 1);
        let handles: String = (0..count).map(handle).collect();
        format!("pools: {{a: {{servers: [x]}}}}\nnamed_handles:\n{handles}  h{count}: a\nroute: h0\n")
    };
    let pools = |count: usize| {
        let pool =
            |i: usize| format!("  p{i}: {{servers: [{{route: {{all_sync: [p{}, p{}]}}}}]}}\n", i + 1, i + 1);
        let pools: String = (0..count).map(pool).collect();
        format!("pools:\n{pools}  p{count}: {{servers: [x]}}\nroute: p0\n")
    };
    let a = "{\"pools\": {\"a\": {\"servers\": [\"x:1\"]}}, ";
    let cases: Vec<(&str, &str, String)> = vec![
        ("too long", "y.yaml", "a".repeat(10 << 20)),
        ("one word", "y.yaml", "a".repeat(bytes)),
        ("a lot of servers", "y.yaml", filled("pools: {a: {servers: [", "x:1,", "]}}")),
        ("a lot of the same route", "y.yaml", filled("pools: {a: {servers: [x]}}\nroute: {failover: [", "b,", "]}")),
        ("a lot of braces", "y.json", filled("{", "{", "")),
        ("a lot of a list", "y.json", filled(&format!("{a}\"route\": ["), "1,", "1]}")),
        ("a lot of calls", "y.json", filled(&format!("{a}\"route\": \""), "@if(", "\"}")),
        ("a lot of a parameter", "y.json", filled(&format!("{a}\"route\": \""), "%a%", "\"}")),
        ("nested deep", "y.yaml", nested("pools: {a: {servers: [x]}}\nroute: ", "{failover: [", "a", "]}", "\n")),
        ("nested deep in lists", "y.yaml", nested("pools: {a: {servers: [x]}}\nroute: ", "[", "a", "]", "\n")),
        (
            "nested deep in JSON",
            "y.json",
            nested(&format!("{a}\"route\": "), "{\"type\":\"AllSyncRoute\",\"children\":[", "\"a\"", "]}", "}"),
        ),
        ("short forms in short forms", "y.yaml", nested("pools: {a: {servers: [x]}}\nroute: '", "AllSyncRoute|", "a", "", "'\n")),
        ("a macro of itself", "y.json", format!("{a}\"macros\": {{\"m\": {{\"type\": \"macroDef\", \"params\": [], \"result\": \"@m()\"}}}}, \"route\": \"@m()\"}}")),
        (
            "a macro that doubles",
            "y.json",
            format!("{a}\"macros\": {{\"m\": {{\"type\": \"macroDef\", \"params\": [\"x\"], \"result\": [\"@m(%x%%x%)\", \"@m(%x%)\"]}}}}, \"route\": \"@m(y)\"}}"),
        ),
        ("a pool of itself", "y.yaml", "pools: {a: {servers: [{route: a}]}}\n".into()),
        ("handles of each other", "y.yaml", "pools: {a: {servers: [x]}}\nnamed_handles: {g: {failover: [h, a]}, h: {failover: [g, a]}}\nroute: g\n".into()),
        ("handles that double", "y.yaml", doubling(40)),
        ("pools that double", "y.yaml", pools(40)),
        ("an alias of itself", "y.yaml", "pools: &p {a: *p}\n".into()),
    ];
    for (what, name, text) in cases {
        let began = Instant::now();
        let faults = config::from_text(name, &text, route::check).expect_err(what);
        assert!(!faults.list.is_empty(), "{what}");
        let shown = faults.render(false);
        assert!(shown.len() < 1 << 20, "{what}: {} bytes of faults", shown.len());
        let took = began.elapsed();
        assert!(took < time_max, "{what} took {took:?}");
    }
}

#[test]
fn servers_of_flags() {
    let config = config::from_servers(&["10.0.0.1".into(), "b:1 weight=2 name=x".into()]).unwrap();
    assert_eq!(config.pools[0].servers[1].label(), "x");
    let faults = config::from_servers(&["a:x".into(), "b".into(), "b".into()]).unwrap_err();
    assert_eq!(faults.list.len(), 2);
    assert!(faults.to_string().starts_with("--server:1:1: `x` is not a port"), "{faults}");
    assert!(faults.render(false).contains("a:x"));
}

#[test]
fn the_embedded_default_has_three_shards_within_64_mib() {
    let config = Config::embedded_default();
    let bytes: Vec<usize> = (config.pools[0].servers.iter())
        .map(|server| match server.endpoint {
            Endpoint::Embedded(e) => e.memory_bytes_max,
            _ => panic!("{server:?}"),
        })
        .collect();
    assert_eq!(bytes.len(), 3);
    assert!(bytes.iter().sum::<usize>() <= 64 << 20);
}

#[test]
fn what_cannot_be_read() {
    let told = |faults: Faults| faults.to_string();
    assert!(
        told(config::load(Path::new("/no/such/file"), route::check).unwrap_err())
            .contains("cannot read it: No such file")
    );
    assert!(told(config::load(Path::new("/"), route::check).unwrap_err()).contains("cannot read it"));
    assert!(
        told(config::load(Path::new("/dev/zero"), route::check).unwrap_err()).contains("longer than 4MiB")
    );
    let many = "k: 1\n".repeat(10_000);
    let faults = config::from_text("many", &many, route::check).unwrap_err();
    assert_eq!(faults.list.len() + faults.more_count, 10_001, "9,999 doubles, an unknown key, no pools");
    assert!(faults.more_count > 9_000);
    for brackets in ["[", "{a: ", "- "] {
        let text = brackets.repeat(200_000);
        assert!(
            told(config::from_text("deep", &text, route::check).unwrap_err()).contains("nested too deep"),
            "{brackets}"
        );
    }
}

/// Written by `ringway schema > config/ringway.schema.json`.
#[test]
fn the_schema_in_the_folder_is_current() {
    let file = "config/ringway.schema.json";
    let current = route::schema().to_json() + "\n";
    if std::env::var_os("BLESS").is_some() {
        fs::write(file, &current).unwrap();
    }
    assert!(fs::read_to_string(file).is_ok_and(|kept| kept == current), "{file}: BLESS=1 writes it anew");
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    files(folder, "yaml")
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

fn loaded(file: &Path) -> (Config, Vec<Warning>) {
    config::load(file, route::check_and_test).unwrap_or_else(|faults| panic!("{}", faults.render(false)))
}

/// `LINE:COLUMN path: message (help)`.
fn told(fault: &Fault) -> String {
    let full = fault.to_string();
    full.strip_prefix(&format!("{}:", fault.source.name)).unwrap_or(&full).replacen(": ", " ", 1)
}

fn compare(file: &Path, mark: &str, told: &[String]) {
    let bytes = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let mark = &if file.extension().is_some_and(|e| e == "json") {
        mark.replace("# ", "// ")
    } else {
        mark.to_owned()
    };
    let expected: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(mark.as_str())).collect();
    let same = |(want, told): (&&str, &String)| match want.strip_suffix('…') {
        Some(start) => told.starts_with(start),
        None => told == want,
    };
    if expected.len() == told.len() && expected.iter().zip(told).all(same) {
        return;
    }
    if std::env::var_os("BLESS").is_some() {
        let kept = bytes.split_inclusive(|b| *b == b'\n').filter(|line| !line.starts_with(mark.as_bytes()));
        let mut written: Vec<u8> = kept.flatten().copied().collect();
        written.extend(told.iter().flat_map(|line| format!("{mark}{line}\n").into_bytes()));
        return fs::write(file, written).unwrap();
    }
    panic!(
        "{}:\n  expected\n    {}\n  told\n    {}",
        file.display(),
        expected.join("\n    "),
        told.join("\n    ")
    );
}
