//! Clients that ask all the time, as applications do: get, and set what was missed. Every value that comes is checked; what
//! is told to have failed is counted by what was told.

use crate::support::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const CLIENTS: usize = 2;
/// Of each client.
const KEYS: usize = 60;
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(1);

/// What the clients saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    /// By cause.
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) keys_failed: BTreeSet<String>,
    pub(crate) slowest: Duration,
}

pub(crate) struct Load {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn on(address: &str) -> Self {
        let (seen, is_over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let clients = (0..CLIENTS).map(|name| {
            let (seen, is_over, client) = (Arc::clone(&seen), Arc::clone(&is_over), Client::connect(address));
            thread::spawn(move || ask(client, name, &seen, &is_over))
        });
        let clients = clients.collect();
        Self { seen, is_over, clients }
    }

    /// What was seen since this was last asked.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// Until so much time has gone by; the clients ask meanwhile.
    pub(crate) fn for_a_while(&self, time: Duration) {
        thread::sleep(time);
        let is_asking = self.clients.iter().all(|client| !client.is_finished());
        assert!(is_asking, "a client has given up");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        for client in self.clients.drain(..) {
            let ended = client.join();
            assert!(ended.is_ok() || thread::panicking(), "a client has given up");
        }
    }
}

fn ask(mut client: Client, name: usize, seen: &Mutex<Seen>, is_over: &AtomicBool) {
    for key in (0..KEYS).cycle().map(|n| format!("load:{name}:{n}")) {
        if is_over.load(Relaxed) {
            return;
        }
        let is_miss = request(&mut client, seen, &key, &format!("get {key}\r\n"));
        if is_miss {
            request(&mut client, seen, &key, &format!("set {key} 0 0 {}\r\n{key}\r\n", key.len()));
        }
        thread::sleep(PAUSE);
    }
}

/// True when it was a get that missed.
fn request(client: &mut Client, seen: &Mutex<Seen>, key: &str, text: &str) -> bool {
    let asked = Instant::now();
    client.send(text);
    let line = client.line();
    if line.starts_with("VALUE ") {
        assert_eq!(line, format!("VALUE {key} 0 {}", key.len()));
        client.expect(format!("{key}\r\nEND\r\n"));
    }
    let took = asked.elapsed();
    let mut seen = seen.lock().unwrap();
    seen.requests += 1;
    seen.slowest = seen.slowest.max(took);
    if let Some(why) = line.strip_prefix("SERVER_ERROR ") {
        let why = why.split_once(". Reason").map_or(why, |(why, _)| why);
        *seen.failed.entry(why.to_owned()).or_default() += 1;
        seen.keys_failed.insert(key.to_owned());
    } else {
        assert!(line == "END" || line == "STORED" || line.starts_with("VALUE "), "{line}");
    }
    line == "END"
}
