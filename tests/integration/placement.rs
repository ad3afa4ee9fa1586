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
    let plain: Vec<String> = servers.iter().map(|s| s.address().to_owned()).collect();
    for hash in [
        "one_at_a_time",
        "md5",
        "crc16",
        "crc32",
        "crc32a",
        "fnv1_64",
        "fnv1a_64",
        "fnv1_32",
        "fnv1a_32",
        "hsieh",
        "murmur",
        "jenkins",
    ] {
        let theirs: Vec<String> = plain.iter().map(|a| format!("{a}:1")).collect();
        agree(
            &servers,
            &format!("hash: {hash}"),
            &theirs,
            &format!("hash: twemproxy\nkey_hash: {hash}"),
            &plain,
        );
    }
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
fn twemproxys_twenty_five_servers() {
    if !has_nutcracker() || !has_memcached() {
        return;
    }
    // 25 equal servers have 156 points each, not 160
    let servers = Memcached::start_several(25);
    let ours: Vec<String> = servers.iter().map(|s| s.address().to_owned()).collect();
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
        reads_all(&servers, &Proxy::before(&addresses, "hash: ketama\ntimeout: 20s"));
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
    reads_all(&servers, &Proxy::before(&addresses, "hash: pymemcache\ntimeout: 20s"));
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
    reads_all(&servers, &Proxy::before(&addresses, "hash: modula\nkey_hash: crc32\ntimeout: 20s"));
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
    for server in servers {
        server.client().ask("flush_all\r\n", "OK\r\n");
    }
    let nutcracker = Nutcracker::start(pool, theirs);
    let mut client = nutcracker.client();
    for part in keys().chunks(200) {
        let sets: String = part.iter().map(|k| format!("set {k} 0 0 {}\r\n{k}\r\n", k.len())).collect();
        client.ask(sets, "STORED\r\n".repeat(part.len()));
    }
    let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
    reads_all(servers, &Proxy::before(&ours, &format!("{our_pool}\ntimeout: 20s")));
}

/// Every key is a hit through ringway, and is on one server only.
fn reads_all(servers: &[Memcached], proxy: &Proxy) {
    let mut client = proxy.client();
    let mut missed = Vec::new();
    for part in keys().chunks(200) {
        client.send(part.iter().map(|k| format!("get {k}\r\n")).collect::<String>());
        for key in part {
            if found(&mut client, key).is_none() {
                missed.push(key.clone());
            }
        }
    }
    let few = &missed[..missed.len().min(5)];
    assert!(missed.is_empty(), "{} of {KEYS} keys are elsewhere, as {few:?}", missed.len());
    let items: u64 = servers.iter().map(|s| s.stat("curr_items")).sum();
    assert_eq!(items, KEYS as u64);
    let least = servers.iter().map(|s| s.stat("curr_items")).min().unwrap();
    assert!(least > 0, "a server without keys proves little");
}

fn found(client: &mut Client, key: &str) -> Option<()> {
    let line = client.line();
    if line == "END" {
        return None;
    }
    assert_eq!(line, format!("VALUE {key} 0 {}", key.len()));
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
