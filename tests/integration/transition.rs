//! Servers that come and go while clients read: with a transition nobody misses what was there, and nobody reads what is old.

use crate::support::{
    Client, Directory, Memcached, Mock, Proxy, Random, dead_address, has_latest, has_memcached, pool_of,
};
use std::net::TcpListener;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const KEYS: usize = 300;
/// (Timeouts of a busy machine.)
const SOFT: &str = "transition: {for: 10m}\ntimeout: 20s\nconnect_timeout: 5s";

/// Four servers, and a proxy in front of the first `count`.
fn start(count: usize, pool: &str) -> (Vec<Memcached>, Proxy) {
    start_these(Memcached::latest, count, pool)
}

fn start_these(server: fn() -> Memcached, count: usize, pool: &str) -> (Vec<Memcached>, Proxy) {
    let servers: Vec<Memcached> = (0..4).map(|_| server()).collect();
    let proxy = Proxy::with(&first(count, &servers, pool));
    (servers, proxy)
}

fn first(count: usize, servers: &[Memcached], pool: &str) -> String {
    let addresses: Vec<&str> = servers[..count].iter().map(Memcached::address).collect();
    pool_of(&addresses, pool)
}

fn set_all(client: &mut Client, value: &str) {
    for key in 0..KEYS {
        client.ask(format!("set key:{key} {key} 1000 {}\r\n{value}\r\n", value.len()), "STORED\r\n");
    }
}

/// How many keys are there, all of them with this value.
fn hits(client: &mut Client, value: &str) -> usize {
    let mut count = 0;
    for key in 0..KEYS {
        client.send(format!("get key:{key}\r\n"));
        let lines = client.lines_to_end();
        assert!(
            lines.is_empty() || lines == [format!("VALUE key:{key} {key} {}", value.len()), value.into()]
        );
        count += usize::from(!lines.is_empty());
    }
    count
}

fn hits_at_once(client: &mut Client) -> usize {
    let keys: Vec<String> = (0..KEYS).map(|key| format!("key:{key}")).collect();
    client.send(format!("get {}\r\n", keys.join(" ")));
    client.lines_to_end().len() / 2
}

#[test]
fn nothing_is_missed_when_servers_come_or_go() {
    if !has_latest() {
        return;
    }
    for (before, after) in [(3, 4), (4, 3)] {
        for pool in ["", SOFT] {
            let (servers, proxy) = start(before, pool);
            let mut client = proxy.client();
            set_all(&mut client, "old");
            proxy.reload(&mut client, &first(after, &servers, pool));
            let (apart, at_once) = (hits(&mut client, "old"), hits_at_once(&mut client));
            if pool.is_empty() {
                let missed = KEYS - apart;
                assert!((KEYS / 8..KEYS / 2).contains(&missed), "{before} → {after}: {missed} missed");
                continue;
            }
            assert_eq!((apart, at_once), (KEYS, KEYS), "{before} → {after}");
            let copies = client.stat("transition_copies");
            assert!((KEYS as u64 / 8..KEYS as u64 / 2).contains(&copies), "{copies}");
            assert_eq!(client.stat("transition_hits_old"), copies, "each is asked for there once");
            assert_eq!((client.stat("transition_active"), client.stat("desync_detected")), (1, 0));
            assert!((1..=600).contains(&client.stat("transition_ends_in")));
            // as they were: their flags were looked at above
            for key in 0..KEYS {
                client.send(format!("mg key:{key} t\r\n"));
                let left: u32 = client.line().strip_prefix("HD t").unwrap().parse().unwrap();
                assert!((900..=1000).contains(&left), "{left}");
            }
        }
    }
}

#[test]
fn servers_that_take_no_cas_from_others_will_do() {
    if !has_memcached() {
        return;
    }
    let (servers, proxy) = start_these(Memcached::start, 3, SOFT);
    let mut client = proxy.client();
    set_all(&mut client, "old");
    proxy.reload(&mut client, &first(4, &servers, SOFT));
    for _ in 0..2 {
        assert_eq!(hits(&mut client, "old"), KEYS);
    }
    let (found, copied) = (client.stat("transition_hits_old"), client.stat("transition_copies"));
    assert!(found == copied || found == copied + 1, "{found} found, {copied} copied");
}

#[test]
fn what_was_written_or_deleted_since_is_never_old_again() {
    if !has_latest() {
        return;
    }
    let (servers, proxy) = start(3, SOFT);
    let mut client = proxy.client();
    let (three, four) = (first(3, &servers, SOFT), first(4, &servers, SOFT));
    set_all(&mut client, "old");
    proxy.reload(&mut client, &four);
    hits(&mut client, "old");
    set_all(&mut client, "new");
    for yaml in [&three, &four, &three] {
        proxy.reload(&mut client, yaml);
        assert_eq!(hits(&mut client, "new"), KEYS);
    }
    for key in 0..KEYS {
        client.ask(format!("delete key:{key}\r\n"), "DELETED\r\n");
    }
    for yaml in [&four, &three] {
        proxy.reload(&mut client, yaml);
        assert_eq!(hits(&mut client, "new"), 0);
    }
    for key in 0..KEYS {
        client.ask(format!("set key:{key} 0 0 1\r\n5\r\n"), "STORED\r\n");
    }
    proxy.reload(&mut client, &four);
    for key in 0..KEYS {
        client.ask(format!("incr key:{key} 2\r\nadd key:{key} 0 0 1\r\n9\r\n"), "7\r\nNOT_STORED\r\n");
    }
    proxy.reload(&mut client, &three);
    for key in 0..KEYS {
        client.ask(format!("get key:{key}\r\n"), format!("VALUE key:{key} 0 1\r\n7\r\nEND\r\n"));
    }
}

#[test]
fn it_ends_and_servers_that_left_are_let_go() {
    if !has_latest() {
        return;
    }
    let soft = "transition: {for: 1s}";
    let (servers, proxy) = start(4, soft);
    let mut client = proxy.client();
    set_all(&mut client, "old");
    proxy.reload(&mut client, &first(3, &servers, soft));
    client.await_stat("transition_active", 0);
    client.await_stat("server_connections", 3);
    assert!(hits(&mut client, "old") < KEYS, "nobody is asked any more");
    assert_eq!(client.stat("transition_ends_in"), 0);
}

#[test]
fn servers_that_are_found_by_name_are_followed_too() {
    if !has_latest() {
        return;
    }
    let servers: Vec<Memcached> = (0..4).map(|_| Memcached::latest()).collect();
    let list =
        |count: usize| servers[..count].iter().map(|s| format!("{}\n", s.address())).collect::<String>();
    let directory = Directory::new();
    let write = |count: usize| {
        let new = directory.write("new", &list(count));
        std::fs::rename(new, directory.file("servers")).unwrap();
    };
    write(3);
    let pool = format!("file: {}, refresh: {{max: 100ms}}, timeout: 20s", directory.file("servers"));
    let proxy = Proxy::with(&format!("pools: {{main: {{{pool}, transition: {{for: 10m}}}}}}\nroute: main\n"));
    let mut client = proxy.client();
    client.await_stat("discovery_members", 3);
    set_all(&mut client, "old");
    write(4);
    client.await_stat("transition_active", 1);
    assert_eq!(hits(&mut client, "old"), KEYS);
    assert!(client.stat("transition_copies") > 0);
}

#[test]
fn a_worker_that_is_new_knows_what_was_before() {
    if !has_latest() {
        return;
    }
    let read_only = "transition: {copy: false}";
    let (servers, proxy) = start(4, read_only);
    let mut client = proxy.client();
    set_all(&mut client, "old");
    proxy.reload(&mut client, &format!("workers: 2\n{}", first(3, &servers, read_only)));
    for mut client in (0..8).map(|_| proxy.client()) {
        assert_eq!(hits(&mut client, "old"), KEYS);
    }
}

#[test]
fn servers_that_have_left_are_emptied_too() {
    if !has_latest() {
        return;
    }
    let (servers, proxy) = start(4, SOFT);
    let mut client = proxy.client();
    set_all(&mut client, "old");
    proxy.reload(&mut client, &format!("allow_flush: true\n{}", first(3, &servers, SOFT)));
    client.ask("flush_all\r\n", "OK\r\n");
    assert_eq!(hits(&mut client, "old"), 0);
}

#[test]
fn new_servers_are_connected_to_before_they_are_used() {
    let (one, two, three) = (Mock::forgetful(), Mock::forgetful(), Mock::forgetful());
    let proxy = Proxy::before(&[one.address()], "");
    let mut client = proxy.client();
    assert_eq!(client.stat("server_connections"), 0, "at the start the first request connects");
    client.ask("get a\r\n", "END\r\n");
    proxy.reload(&mut client, &pool_of(&[one.address(), two.address()], ""));
    assert_eq!(client.stat("server_connections"), 2);
    let cold = pool_of(&[one.address(), two.address(), three.address()], "warm_connect: false");
    proxy.reload(&mut client, &cold);
    assert_eq!(client.stat("server_connections"), 2);
}

#[test]
fn a_new_server_that_does_not_answer_holds_nobody_up() {
    let one = Mock::forgetful();
    let proxy = Proxy::before(&[one.address()], "");
    let mut client = proxy.client();
    client.ask("get a\r\n", "END\r\n");
    // it takes connections and says nothing
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent, refusing) = (silent.local_addr().unwrap().to_string(), dead_address());
    let began = Instant::now();
    proxy.reload(&mut client, &pool_of(&[one.address(), &refusing, &silent], "connect_timeout: 300ms"));
    assert!(began.elapsed() >= Duration::from_millis(300), "it was waited for");
    assert_eq!(client.stat("server_connections"), 1);
}

/// Sets, counts up and deletes its keys, each through any of the proxies; `known`: what is there.
fn write(clients: &mut [Client], random: &mut Random, prefix: &str, known: &mut [Option<u64>]) {
    for _ in 0..600 {
        let client = random.below(clients.len());
        let (client, place) = (&mut clients[client], random.below(known.len()));
        let key = format!("{prefix}{place}");
        match random.below(4) {
            0 => {
                client.send(format!("delete {key}\r\n"));
                assert!(matches!(client.line().as_str(), "DELETED" | "NOT_FOUND"));
                known[place] = None;
            }
            1 => {
                client.send(format!("incr {key} 1\r\n"));
                match (client.line().parse::<u64>(), &mut known[place]) {
                    (Ok(new), Some(value)) => {
                        *value += 1;
                        assert_eq!(new, *value, "{key}");
                    }
                    (Ok(new), None) => panic!("{key} counts {new} after it was deleted"),
                    (Err(_), _) => {} // a copy that was taken back is a miss
                }
            }
            _ => {
                let value = random.below(1 << 40) as u64;
                client.ask(format!("set {key} 0 0 13\r\n{value:013}\r\n"), "STORED\r\n");
                known[place] = Some(value);
            }
        }
    }
}

#[test]
fn through_several_proxies_nothing_old_is_left_behind() {
    if !has_latest() {
        return;
    }
    const WRITERS: usize = 3;
    let (servers, one) = start(3, SOFT);
    let two = Proxy::with(&first(3, &servers, SOFT));
    let proxies = [&one, &two];
    let addresses = proxies.map(Proxy::address);
    let connect = || addresses.map(Client::connect);
    let mut known: Vec<Vec<Option<u64>>> = vec![vec![None; 60]; WRITERS];
    for (round, count) in [3, 4, 3, 2, 4, 3].into_iter().enumerate() {
        if round > 0 {
            for proxy in proxies {
                proxy.reload(&mut proxy.client(), &first(count, &servers, SOFT));
            }
        }
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let is_over = &is_over;
            for seed in 0..2 {
                let (mut clients, mut random) = (connect(), Random::new(seed));
                // whoever reads brings copies about
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let key = format!("{}:{}", random.below(WRITERS), random.below(60));
                        let client = &mut clients[random.below(2)];
                        client.send(format!("get {key}\r\n"));
                        client.lines_to_end();
                    }
                });
            }
            let mut writers = Vec::new();
            for (writer, known) in known.iter_mut().enumerate() {
                let (mut clients, seed) = (connect(), (round * WRITERS + writer) as u64);
                let work = move || write(&mut clients, &mut Random::new(seed), &format!("{writer}:"), known);
                writers.push(scope.spawn(work));
            }
            let ended: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(ended.iter().all(Result::is_ok), "round {round}");
        });
        // a get waits for what its own proxy has under way: the third one sees what is left
        let mut clients = connect();
        let (mut hits, mut wanted) = (0, 0);
        for (writer, known) in known.iter().enumerate() {
            for (place, known) in known.iter().enumerate() {
                let mut get = |proxy: usize| {
                    clients[proxy].send(format!("get {writer}:{place}\r\n"));
                    clients[proxy].lines_to_end().get(1).map(|value| value.trim().parse::<u64>().unwrap())
                };
                let _ = (get(0), get(1));
                let found = get(0);
                assert!(
                    found.is_none() || found == *known,
                    "round {round}, {writer}:{place}: {found:?}, {known:?}"
                );
                hits += usize::from(found.is_some());
                wanted += usize::from(known.is_some());
            }
        }
        assert!(hits * 10 >= wanted * 9, "round {round}: {hits} of {wanted}");
    }
}

#[test]
fn a_delete_through_one_proxy_wins_over_a_copy_by_another() {
    if !has_latest() {
        return;
    }
    let (servers, one) = start(3, SOFT);
    let two = Proxy::with(&first(3, &servers, SOFT));
    let (mut copying, mut deleting) = (one.client(), two.client());
    let keys: Vec<String> = (0..1_500).map(|key| format!("key:{key}")).collect();
    let mut found = 0;
    for count in [4, 3, 4, 3] {
        for key in &keys {
            deleting.ask(format!("set {key} 0 0 3\r\nold\r\n"), "STORED\r\n");
        }
        one.reload(&mut copying, &first(count, &servers, SOFT));
        two.reload(&mut deleting, &first(count, &servers, SOFT));
        let start = Barrier::new(2);
        thread::scope(|scope| {
            let (keys, start) = (&keys, &start);
            let (copying, deleting) = (&mut copying, &mut deleting);
            let copies = scope.spawn(move || {
                start.wait();
                let hits = keys.chunks(20).map(|keys| {
                    keys.iter().for_each(|key| copying.send(format!("get {key}\r\n")));
                    keys.iter().filter(|_| !copying.lines_to_end().is_empty()).count()
                });
                hits.sum::<usize>()
            });
            scope.spawn(move || {
                start.wait();
                for keys in keys.chunks(20) {
                    keys.iter().for_each(|key| deleting.send(format!("delete {key}\r\n")));
                    keys.iter().for_each(|_| assert_eq!(deleting.line(), "DELETED"));
                }
            });
            found += copies.join().unwrap();
        });
        for key in &keys {
            // which waits for a copy that is under way there
            copying.send(format!("get {key}\r\n"));
            copying.lines_to_end();
            deleting.ask(format!("get {key}\r\n"), "END\r\n");
        }
    }
    assert!((1..4 * keys.len()).contains(&found), "neither was always faster: {found}");
}
