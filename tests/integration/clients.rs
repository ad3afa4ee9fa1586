//! Real client libraries speak through ringway.

use crate::support::{Memcached, Proxy, has_memcached, python};

#[test]
fn pymemcache_through_the_embedded_cache_and_through_servers() {
    converse("converse_pymemcache.py");
}

#[test]
fn pylibmc_through_the_embedded_cache_and_through_servers() {
    converse("converse_pylibmc.py");
}

#[test]
fn python_memcached_through_the_embedded_cache_and_through_servers() {
    converse("converse_python_memcached.py");
}

fn converse(script: &str) {
    if !python::has_python() || !has_memcached() {
        return;
    }
    let embedded = Proxy::start(&["run", "--listen", "127.0.0.1:0"]);
    python::run(script, &[embedded.address()]);
    let servers = Memcached::start_several(3);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let proxy = Proxy::before(&addresses, "timeout: 20s");
    python::run(script, &[proxy.address()]);
}
