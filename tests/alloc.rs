//! The law of the direct path: a small get, set or mg costs no heap allocation in steady state, whatever the placement.
//!
//! The proxy runs inside this process over a scripted server; threads of the test itself are not counted.

#![allow(unsafe_code)] // an allocator cannot be written without
#![allow(clippy::unwrap_used)] // a test may

use ringway::config::{Config, Loaded};
use ringway::hash::{Member, Placement, Rendezvous, Ring, SALT_BYTES_MAX, Spec};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Threads of the test are not counted.
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if !EXEMPT.get() {
        ALLOCATIONS.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers every get with a hit of 100 bytes, every set with STORED, every mg with VA.
fn serve(stream: TcpStream) {
    EXEMPT.set(true);
    stream.set_nodelay(true).unwrap();
    let mut input = BufReader::new(stream.try_clone().unwrap());
    let mut output = stream;
    let value = "v".repeat(100);
    let mut line = String::new();
    loop {
        line.clear();
        if input.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[0] {
            "version" => "VERSION 1.6.45\r\n".to_owned(),
            "get" => {
                let mut text = String::new();
                for key in &words[1..] {
                    text += &format!("VALUE {key} 0 100\r\n{value}\r\n");
                }
                text + "END\r\n"
            }
            "mg" => {
                let opaque = words.iter().find(|w| w.starts_with('O')).map_or("", |w| *w);
                format!("VA 100 {opaque}\r\n{value}\r\n")
            }
            "set" => {
                let mut block = vec![0; words[4].parse::<usize>().unwrap() + 2];
                input.read_exact(&mut block).unwrap();
                "STORED\r\n".to_owned()
            }
            other => panic!("unexpected {other}"),
        };
        output.write_all(answer.as_bytes()).unwrap();
    }
}

fn start_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        EXEMPT.set(true);
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Sends `request` `times` times, each after the answer to the one before.
fn ask(stream: &mut UnixStream, request: &[u8], answer_bytes: usize, times: usize) {
    let mut answer = vec![0; answer_bytes];
    for _ in 0..times {
        stream.write_all(request).unwrap();
        stream.read_exact(&mut answer).unwrap();
    }
}

/// Runs `work` and counts what it allocates. Meant for a moment in which no other thread does anything.
fn counted(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Relaxed);
    EXEMPT.set(false);
    work();
    EXEMPT.set(true);
    ALLOCATIONS.load(Relaxed) - before
}

/// The longest key with the longest salt, and with weights that let WeightedCh3 try to the end.
fn picks_allocate_nothing() {
    const SERVERS: usize = 20;
    let members = (0..SERVERS).map(|i| Member { host: format!("h{i}"), port: None, name: None, weight: 1 });
    let members: Vec<Member> = members.collect();
    let tags: Vec<String> = (0..SERVERS).map(|i| format!("tag-{i}")).collect();
    let weights = [0.0; SERVERS];
    for &(name, placement) in Placement::ALL {
        let salt = if placement == Placement::Random { 0 } else { SALT_BYTES_MAX };
        let spec = Spec {
            placement,
            salt: "s".repeat(salt),
            weights: if placement.has_weight_list() { weights.to_vec() } else { Vec::new() },
            tags: if placement.has_tags() { tags.clone() } else { Vec::new() },
            ..Spec::default()
        };
        let ring = Ring::build(&spec, &members).unwrap();
        for key in ["k".repeat(250), "é".repeat(125)] {
            assert_eq!(counted(|| _ = ring.pick(key.as_bytes())), 0, "{name}");
            let one_is_out = |server| server != 7;
            assert_eq!(counted(|| _ = ring.pick_where(key.as_bytes(), one_is_out)), 0, "{name}");
        }
    }
    let rendezvous = Rendezvous::build(&tags, Some(&[0.5; SERVERS])).unwrap();
    let mut out = Vec::with_capacity(SERVERS);
    assert_eq!(counted(|| rendezvous.rank(b"key", &mut out)), 0, "a ranking");
}

fn read(text: &str) -> Config {
    ringway::config::from_text("test", text, ringway::route::check).expect("a good config").0
}

/// A key of the pool `moving`, as long as `key:1`, that has the same server in both.
fn key_that_stays(before: &Config, after: &Config) -> String {
    let ring = |config: &Config| {
        let pool = config.pool("moving").unwrap();
        Ring::build(&pool.hash, &pool.members()).unwrap()
    };
    let (before, after) = (ring(before), ring(after));
    let stays = |key: &String| before.pick(key.as_bytes()) == after.pick(key.as_bytes());
    let keys = || (100..1_000).map(|number| format!("m:{number}"));
    assert!(keys().any(|key| !stays(&key)), "nothing moves");
    keys().find(stays).unwrap()
}

/// Until the second configuration serves.
fn await_reload(path: &Path) {
    let stream = UnixStream::connect(path).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    loop {
        (&stream).write_all(b"stats\r\n").unwrap();
        let stats: Vec<String> =
            lines.by_ref().map(Result::unwrap).take_while(|line| line != "END").collect();
        // one answer may have been written while it changed
        if ["STAT config_reloads 1", "STAT transition_active 1"]
            .iter()
            .all(|told| stats.iter().any(|s| s == told))
        {
            return;
        }
    }
}

#[test]
fn small_requests_allocate_nothing() {
    EXEMPT.set(true);
    picks_allocate_nothing();
    let servers: Vec<String> = (0..3).map(|_| start_server().to_string()).collect();
    let servers = servers.join(", ");
    let directory = std::env::temp_dir().join(format!("ringway-alloc-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("ringway.sock");
    // `f`: six selects, one below the other, and a pool; `m`: a pool whose last server gets another weight
    let text = |weight: u32| {
        format!(
            r#"
listen: "unix:{}"
workers: 1
limits: {{client_stall_timeout: 4s}}
pools:
  main: {{servers: [{servers}]}}
  ejecting: {{servers: [{servers}], on_down: eject}}
  moving: {{servers: [{servers} weight={weight}], transition: {{}}}}
named_handles:
  chosen: {{hash: {{children: [{{random: {{children: [main, main]}}}}, main]}}}}
  grouped: {{routing_group: {{default_policy: {{host_id: {{children: [chosen, chosen]}}}}}}}}
route: {{prefix: {{policies: {{e: ejecting, m: moving, f: {{operation: {{default_policy: grouped}}}}}}, wildcard: main}}}}
"#,
            path.display()
        )
    };
    let (before, after) = (read(&text(1)), read(&text(9)));
    let stays = key_that_stays(&before, &after);
    let loaded =
        |config: &Config| Loaded { config: config.clone(), warnings: Vec::new(), about: Default::default() };
    let first = loaded(&before);
    // asked for at once: nobody knows whether it changed while the first was read
    thread::spawn(move || {
        let reread: ringway::proxy::Reread = Box::new(move || Ok(loaded(&after)));
        ringway::proxy::run(first, Some(reread), None, |_| ())
    });
    let mut stream = loop {
        if let Ok(stream) = UnixStream::connect(&path) {
            break stream;
        }
        thread::yield_now();
    };
    await_reload(&path);

    let set = format!("set key:1 0 0 100\r\n{}\r\n", "v".repeat(100));
    let set_below = set.replace("key:1", "f:y:1");
    let value_bytes = "VALUE key:1 0 100\r\n".len() + 102;
    let pipeline = "get key:1\r\nget key:2\r\nget key:3\r\nget key:4\r\n";
    let get = value_bytes + 5;
    let in_transition = format!("get {stays}\r\n");
    let cases: [(&str, &str, usize); 10] = [
        ("get", "get key:1\r\n", get),
        ("set", &set, "STORED\r\n".len()),
        ("mg", "mg key:1 v\r\n", "VA 100\r\n".len() + 102),
        ("mg with an opaque", "mg key:1 v O77\r\n", "VA 100 O77\r\n".len() + 102),
        ("four gets at once", pipeline, 4 * get),
        ("get from a pool that ejects", "get e:y:1\r\n", get),
        ("get of a key that stays while others move", &in_transition, get),
        ("get through six selects", "get f:y:1\r\n", get),
        ("set through six selects", &set_below, "STORED\r\n".len()),
        ("mg through six selects", "mg f:y:1 v\r\n", "VA 100\r\n".len() + 102),
    ];
    for (name, request, answer) in cases {
        // What is used again must first have been needed once: on a busy machine a batch is torn in new ways now and then.
        let allocations = (0..6).map(|_| {
            let before = ALLOCATIONS.load(Relaxed);
            ask(&mut stream, request.as_bytes(), answer, 2_000);
            ALLOCATIONS.load(Relaxed) - before
        });
        let counts: Vec<u64> = allocations.skip(1).take_while(|count| *count > 0).collect();
        assert!(counts.len() < 5, "heap allocations in each 2,000 times {name}: {counts:?}");
    }
    let _ = std::fs::remove_dir_all(&directory);
}
