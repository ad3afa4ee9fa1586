//! The same conversations with memcached, with the embedded cache, and with ringway before memcached.

use crate::support::transcript::{Target, all, hold, hold_cut};
use crate::support::{Memcached, Proxy, Relay, has_latest};

const EMBEDDED: &[&str] = &["embedded", "ringway"];
const PROXIED: &[&str] = &["proxied", "ringway"];

#[test]
fn memcached_answers_as_written() {
    if !has_latest() {
        return;
    }
    let server = Memcached::latest();
    hold(&all(), &Target { name: "memcached", address: server.address(), places: &["memcached"] });
}

#[test]
fn embedded_cache_answers_as_memcached() {
    let proxy = Proxy::embedded();
    hold(&all(), &Target { name: "the embedded cache", address: proxy.address(), places: EMBEDDED });
}

#[test]
fn embedded_cache_answers_the_same_however_the_bytes_come() {
    let proxy = Proxy::embedded();
    hold_cut(&all(), &Target { name: "the embedded cache", address: proxy.address(), places: EMBEDDED });
}

#[test]
fn ringway_before_memcached_answers_as_memcached() {
    if !has_latest() {
        return;
    }
    let server = Memcached::latest();
    let proxy = before(server.address());
    hold(&all(), &Target { name: "ringway before memcached", address: proxy.address(), places: PROXIED });
}

#[test]
fn ringway_before_memcached_answers_the_same_however_the_bytes_come() {
    if !has_latest() {
        return;
    }
    let server = Memcached::latest();
    let proxy = before(server.address());
    hold_cut(&all(), &Target { name: "ringway before memcached", address: proxy.address(), places: PROXIED });
}

#[test]
fn ringway_answers_the_same_when_the_server_speaks_a_byte_at_a_time() {
    if !has_latest() {
        return;
    }
    let server = Memcached::latest();
    let relay = Relay::to(server.address());
    let proxy = before(relay.address());
    hold(&all(), &Target { name: "ringway before a slow relay", address: proxy.address(), places: PROXIED });
}

/// Ringway in front of one server, so that `flush_all` may pass.
fn before(server: &str) -> Proxy {
    Proxy::with(&format!(
        "allow_flush: true\npools:\n  main:\n    servers: [\"{server}\"]\n    timeout: 10s\nroute: main\n"
    ))
}
