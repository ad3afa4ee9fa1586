//! What the tests stand on: the program, real servers, scripted servers, a client. Shared by `tests/integration` and
//! `tests/prove`.

pub(crate) mod client;
pub(crate) mod cutter;
pub(crate) mod directory;
pub(crate) mod dns;
pub(crate) mod http;
pub(crate) mod leftovers;
pub(crate) mod memcached;
pub(crate) mod mock;
pub(crate) mod nutcracker;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod python;
pub(crate) mod random;
pub(crate) mod relay;
pub(crate) mod room;
pub(crate) mod transcript;
pub(crate) mod troubled_relay;

pub(crate) use client::Client;
pub(crate) use cutter::Cutter;
pub(crate) use directory::Directory;
pub(crate) use dns::Dns;
pub(crate) use memcached::{Memcached, has_latest, has_memcached};
pub(crate) use mock::{Mock, usual_answer};
pub(crate) use process::PATIENCE;
pub(crate) use proxy::{Proxy, pool_of};
pub(crate) use random::Random;
pub(crate) use relay::Relay;

/// Whether a tool is there. When not, the test is skipped with a line, or fails where all tests must run.
pub(crate) fn tool(name: &str, is_there: bool) -> bool {
    if !is_there {
        let strict = std::env::var_os("RINGWAY_TESTS_STRICT").is_some();
        assert!(!strict, "{name} is missing; scripts/test installs it");
        eprintln!("SKIPPED: {name} is missing; scripts/test installs it");
    }
    is_there
}

/// Whether a program of this name can be started.
pub(crate) fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// An address of 127.0.0.1 where nobody listens.
pub(crate) fn dead_address() -> String {
    // Kept, so that nobody else is given the port; who wants it by its number may bind beside it.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    Box::leak(Box::new(socket)).local_addr().unwrap().as_socket().unwrap().to_string()
}

/// Waits until it is so; what is waited for is said when it never is.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not {what}");
        std::thread::yield_now();
    }
}
