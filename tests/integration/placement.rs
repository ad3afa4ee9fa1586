//! Keys are where the clients and proxies of old put them: those write, ringway reads.

use crate::support::nutcracker::{Nutcracker, has_nutcracker};
use crate::support::{Client, Memcached, Proxy, has_memcached, python};

const KEYS: usize = 10_000;

#[test]
fn twemproxys_ketama_with_every_hash() {
    if !has_nutcracker() || !has_memcached() {
        return;
    }
    let servers = Memcached::start_several(5);
    let plain = sorted(&servers);
    let theirs: Vec<String> = plain.iter().map(|a| format!("{a}:1")).collect();
    let hashes =
        ["one_at_a_time", "md5", "crc16", "crc32", "crc32a", "fnv1_64", "fnv1a_64", "fnv1_32", "fnv1a_32"];
    let mut differ = Vec::new();
    for hash in hashes.into_iter().chain(["hsieh", "murmur", "jenkins"]) {
        for (their, our) in [("ketama", "twemproxy"), ("modula", "modula")] {
            let (pool, our_pool) =
                (format!("hash: {hash}\ndistribution: {their}"), format!("hash: {our}\nkey_hash: {hash}"));
            write_through_twemproxy(&servers, &pool, &theirs);
            let missed = missed(&before(&plain, &our_pool));
            if missed > 0 {
                differ.push(format!("{their} with {hash}: {missed} of {KEYS}"));
            }
        }
    }
    assert!(differ.is_empty(), "keys are elsewhere: {differ:#?}");
}

#[test]
fn twemproxys_weights_and_names() {
    if !has_nutcracker() || !has_memcached() {
        return;
    }
    let servers = Memcached::start_several(6);
    let weights = [1, 2, 3, 1, 10, 5];
    let at = |n: usize| servers[n].address();
    let theirs = (0..6).map(|n| format!("{}:{}", at(n), weights[n])).collect::<Vec<_>>();
    let ours = (0..6).map(|n| format!("{} weight={}", at(n), weights[n])).collect::<Vec<_>>();
    agree(&servers, "hash: fnv1a_64", &theirs, "hash: twemproxy", &ours);
    let theirs = (0..6).map(|n| format!("{}:1 cache-{n}.example", at(n))).collect::<Vec<_>>();
    let ours = (0..6).map(|n| format!("{} name=cache-{n}.example", at(n))).collect::<Vec<_>>();
    agree(&servers, "hash: murmur", &theirs, "hash: twemproxy\nkey_hash: murmur", &ours);
    let theirs = (0..6).map(|n| format!("{}:{} n{n}", at(n), weights[n])).collect::<Vec<_>>();
    let ours = (0..6).map(|n| format!("{} name=n{n} weight={}", at(n), weights[n])).collect::<Vec<_>>();
    agree(&servers, "hash: md5", &theirs, "hash: twemproxy\nkey_hash: md5", &ours);
    agree(
        &servers,
        "hash: fnv1a_64\ndistribution: modula",
        &theirs,
        "hash: modula\nkey_hash: fnv1a_64",
        &ours,
    );
}

#[test]
fn twemproxys_configuration_converted() {
    if !has_nutcracker() || !has_memcached() {
        return;
    }
    let servers = Memcached::start_several(5);
    let weighted: Vec<String> = (0..5).map(|n| format!("{}:{}", servers[n].address(), 5 - n)).collect();
    let named: Vec<String> =
        (0..5).map(|n| format!("{}:1 {}", servers[n].address(), ["c", "bb", "a", "d", "aa"][n])).collect();
    for (pool, entries) in [
        ("hash: fnv1a_64", &weighted),
        ("hash: murmur\ndistribution: ketama", &named),
        ("hash: md5\ndistribution: modula", &weighted),
        ("hash: crc32\ndistribution: modula", &named),
        ("hash: jenkins\nhash_tag: \"{}\"", &weighted),
    ] {
        write_through_twemproxy(&servers, pool, entries);
        let pool = pool.replace('\n', "\n  ");
        let theirs =
            format!("alpha:\n  {pool}\n  timeout: 20000\n  servers:\n   - {}\n", entries.join("\n   - "));
        let (config, _) = ringway::config::from_nutcracker("nutcracker.yml", &theirs, None).unwrap();
        let ours = ringway::config::to_yaml(&config);
        reads_all(&theirs, &servers, &Proxy::with(&ours));
    }
}

#[test]
fn twemproxys_twenty_five_servers() {
    if !has_nutcracker() || !has_memcached() {
        return;
    }
    // 25 equal servers have 156 points each, not 160
    let servers = Memcached::start_several(25);
    let ours = sorted(&servers);
    let theirs: Vec<String> = ours.iter().map(|a| format!("{a}:1")).collect();
    agree(&servers, "hash: fnv1a_64", &theirs, "hash: twemproxy\nkey_hash: fnv1a_64", &ours);
    agree(&servers, "hash: jenkins\ndistribution: modula", &theirs, "hash: modula\nkey_hash: jenkins", &ours);
}

#[test]
fn twemproxys_hash_tag_and_one_server() {
    if !has_nutcracker() || !has_memcached() {
        return;
    }
    let servers = Memcached::start_several(5);
    let ours: Vec<String> = servers.iter().map(|s| s.address().to_owned()).collect();
    let theirs: Vec<String> = ours.iter().map(|a| format!("{a}:1")).collect();
    agree(&servers, "hash: fnv1a_64\nhash_tag: \"{}\"", &theirs, "hash: twemproxy\nhash_tag: \"{}\"", &ours);
    agree(
        &servers,
        "hash: crc32a\nhash_tag: \"$$\"",
        &theirs,
        "hash: twemproxy\nkey_hash: crc32a\nhash_tag: \"$$\"",
        &ours,
    );
    agree(&servers[..1], "hash: fnv1a_64", &theirs[..1], "hash: twemproxy", &ours[..1]);
}

#[test]
fn pylibmcs_ketama_weighted() {
    if !python::has_python() || !has_memcached() {
        return;
    }
    for count in [3, 25] {
        let servers = Memcached::start_several(count);
        let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
        written_by("write_pylibmc.py", &addresses);
        reads_all("pylibmc", &servers, &Proxy::before(&addresses, "hash: ketama\ntimeout: 20s"));
    }
}

#[test]
fn pymemcaches_hash_client() {
    if !python::has_python() || !has_memcached() {
        return;
    }
    let servers = Memcached::start_several(5);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    written_by("write_pymemcache.py", &addresses);
    reads_all("pymemcache", &servers, &Proxy::before(&addresses, "hash: pymemcache\ntimeout: 20s"));
}

#[test]
fn python_memcacheds_modulo() {
    if !python::has_python() || !has_memcached() {
        return;
    }
    // python-memcached hashes with (crc32 >> 16) & 0x7fff and takes it modulo: libmemcached's crc32 and modula
    let servers = Memcached::start_several(4);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    written_by("write_python_memcached.py", &addresses);
    reads_all(
        "python-memcached",
        &servers,
        &Proxy::before(&addresses, "hash: modula\nkey_hash: crc32\ntimeout: 20s"),
    );
}

/// The addresses as twemproxy sorts names: shorter ones first, then by their bytes. Its modula counts in that order,
/// ours in the order of the configuration.
fn sorted(servers: &[Memcached]) -> Vec<String> {
    let mut addresses: Vec<String> = servers.iter().map(|s| s.address().to_owned()).collect();
    addresses.sort_by_key(|a| (a.len(), a.clone()));
    addresses
}

/// Writes every key with a client in Python.
fn written_by(script: &str, addresses: &[&str]) {
    let count = KEYS.to_string();
    let mut arguments = vec![count.as_str()];
    arguments.extend(addresses);
    python::run(script, &arguments);
}

/// Writes every key through twemproxy and finds each through ringway.
fn agree(servers: &[Memcached], pool: &str, theirs: &[String], our_pool: &str, ours: &[String]) {
    write_through_twemproxy(servers, pool, theirs);
    reads_all(pool, servers, &before(ours, our_pool));
}

fn write_through_twemproxy(servers: &[Memcached], pool: &str, entries: &[String]) {
    for server in servers {
        server.client().ask("flush_all\r\n", "OK\r\n");
    }
    let nutcracker = Nutcracker::start(pool, entries);
    let mut client = nutcracker.client();
    for part in keys().chunks(200) {
        let sets: String = part.iter().map(|k| format!("set {k} 0 0 {}\r\n{k}\r\n", k.len())).collect();
        client.ask(sets, "STORED\r\n".repeat(part.len()));
    }
}

fn before(servers: &[String], pool: &str) -> Proxy {
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    Proxy::before(&servers, &format!("{pool}\ntimeout: 20s"))
}

/// Every key is a hit through ringway, and is on one server only.
fn reads_all(what: &str, servers: &[Memcached], proxy: &Proxy) {
    let missed = missed(proxy);
    assert!(missed == 0, "{what}: {missed} of {KEYS} keys are elsewhere");
    let items: Vec<u64> = servers.iter().map(|s| s.stat("curr_items")).collect();
    assert_eq!(items.iter().sum::<u64>(), KEYS as u64);
    assert!(!items.contains(&0), "a server without keys proves little: {items:?}");
}

/// How many keys are not there.
fn missed(proxy: &Proxy) -> usize {
    let mut client = proxy.client();
    let mut missed = 0;
    for part in keys().chunks(200) {
        client.send(part.iter().map(|k| format!("get {k}\r\n")).collect::<String>());
        missed += part.iter().filter(|key| found(&mut client, key).is_none()).count();
    }
    missed
}

fn found(client: &mut Client, key: &str) -> Option<()> {
    let line = client.line();
    if line == "END" {
        return None;
    }
    let flags =
        line.strip_prefix(&format!("VALUE {key} ")).and_then(|l| l.strip_suffix(&format!(" {}", key.len())));
    assert!(flags.is_some(), "asked for {key}, got {line}");
    client.expect(format!("{key}\r\nEND\r\n"));
    Some(())
}

/// Keys of many shapes: short and long, with tags and without, some with bytes above 0x7f.
fn keys() -> Vec<String> {
    (0..KEYS)
        .map(|n| match n % 8 {
            0 => format!("key{n}"),
            1 => format!("user:{n}:profile"),
            2 => format!("{{user{}}}:{n}", n % 977),
            3 => format!("a-rather-long-key/with/a/path/{:064}/{n}", n * 7919),
            4 => format!("{n}"),
            5 => format!("pre{{}}{n}"),
            6 => format!("${}${n}", n % 31),
            _ => format!("clé:ключ:{n}"),
        })
        .collect()
}
