//! `soak`: a mixed load for long, with values from 1 B to 1 MiB, and ten thousand clients that say nothing. Memory must
//! not grow while it goes on and must come back when it is over; threads and open files stay as many as they were.

use crate::plan::{Amount, Outcome, Plan, tell};
use crate::support::client::shown;
use crate::support::{Memcached, Proxy, Random, pool_of};
use crate::watch;
use crate::wire::{Wires, line_of};
use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const IDLE_CLIENTS: u64 = 10_000;
const CLIENTS: usize = 16;
const KEYS: usize = 400;
/// The largest value: together with its header it must fit into memcached's item of 1 MiB.
const VALUE_BYTES_MAX: usize = 1_000_000;
/// Files that the program and the harness need beside those of the idle clients.
const FILES_BESIDE: u64 = 500;
/// Resident memory of one idle client, at most.
const IDLE_BYTES_MAX: u64 = 4 * 1024;
/// What memory may grow by after the warm-up: the allocator takes its time to settle …
const SETTLING_BYTES_MAX: u64 = 16 << 20;
/// … and then, in an hour.
const SLOPE_BYTES_PER_H_MAX: f64 = (1 << 20) as f64;
/// A slope means something only over so long.
const SLOPE_TIME_MIN: Duration = Duration::from_secs(1_800);
/// What memory may be more than in the first rest when the load is over.
const KEPT_PART_MAX: f64 = 0.1;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let servers = Memcached::start_several(2);
    let addresses: Vec<&str> = servers.iter().map(Memcached::address).collect();
    let idle = idle_clients();
    let mut proxy = Proxy::with(&format!("workers: 2\n{}", pool_of(&addresses, "timeout: 10s")));
    let mut outcome = Outcome::default();
    let mut load = Load::new(&proxy, plan.random());
    // the first values make the program's buffers; what they cost is there before the idle clients are counted
    load.go_on(Duration::from_secs(2));
    let pid = proxy.pid();
    let before_idle = watch::rss_bytes(pid);
    let silent: Vec<TcpStream> = (0..idle).map(|_| TcpStream::connect(proxy.address()).unwrap()).collect();
    watch::until(Duration::from_secs(10), || watch::stat(&proxy, "curr_connections") > idle);
    let per_idle = watch::rss_bytes(pid).saturating_sub(before_idle) / idle.max(1);

    let time = match plan.amount {
        Amount::Time(time) => time,
        Amount::Count(seconds) => Duration::from_secs(seconds),
    };
    load.go_on(time / 3);
    let (warm, files, threads) = (watch::rss_bytes(pid), watch::files(pid), watch::threads(pid));
    let rested = rest(&mut load, pid);
    let samples = sample(&mut load, time - time / 3, pid);
    let highest = samples.iter().map(|(_, bytes)| *bytes).max().unwrap_or(warm);
    let (files_after, threads_after) = (watch::files(pid), watch::threads(pid));
    let left = rest(&mut load, pid);
    load.close();
    drop(silent);
    let all_left =
        watch::until(Duration::from_secs(10), || watch::stat(&proxy, "curr_connections") <= 1).is_some();

    let (slope, uncertain) = slope_bytes_per_h(&samples);
    outcome.checked = load.checked;
    outcome.wrong = load.wrong;
    outcome.rss_bytes_max = highest;
    let mut expect = |is_so: bool, what: String| {
        if !is_so {
            outcome.report_wrong(what);
        }
    };
    expect(per_idle <= IDLE_BYTES_MAX, format!("an idle client costs {per_idle} bytes"));
    expect(highest <= warm + SETTLING_BYTES_MAX, format!("memory grew from {warm} to {highest} bytes"));
    let is_long = time >= SLOPE_TIME_MIN;
    let is_flat = slope - 2.0 * uncertain <= SLOPE_BYTES_PER_H_MAX;
    expect(is_flat || !is_long, format!("memory grows by {slope:.0} bytes an hour"));
    let is_back = left as f64 <= rested as f64 * (1.0 + KEPT_PART_MAX);
    expect(is_back || !is_long, format!("{left} bytes are held after the load, {rested} before it"));
    expect(threads == threads_after, format!("{threads} threads became {threads_after}"));
    expect(files_after <= files, format!("{files} open files became {files_after}"));
    expect(all_left, "clients that have left are still counted".to_owned());
    let held = watch::stat(&proxy, "buffer_bytes");
    expect(held == 0, format!("{held} bytes are held when nobody waits"));
    expect(watch::stat(&proxy, "server_outstanding") == 0, "requests wait when nobody asks".to_owned());
    watch::expect_no_desync(&proxy, &mut outcome);
    watch::is_gone(&mut proxy, &mut outcome);
    outcome.more.push(format!(
        "idle_clients={idle} idle_bytes={per_idle} slope={:.0}±{:.0}K/h",
        slope / 1024.0,
        uncertain / 1024.0
    ));
    outcome.more.push(format!("rss_rested={}K rss_after={}K", rested / 1024, left / 1024));
    outcome.more.push(format!("files={files_after} threads={threads_after} errors={}", load.errors));
    outcome
}

/// How many idle clients there can be.
fn idle_clients() -> u64 {
    let files = watch::raise_descriptors();
    let idle = IDLE_CLIENTS.min(files.saturating_sub(FILES_BESIDE));
    if idle < IDLE_CLIENTS {
        println!("  only {idle} idle clients: a process may open {files} files");
    }
    idle
}

/// Goes on for so long, and looks at the program's memory once a second.
fn sample(load: &mut Load, time: Duration, pid: i32) -> Vec<(Duration, u64)> {
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed() < time {
        load.go_on(Duration::from_secs(1).min(time));
        samples.push((began.elapsed(), watch::rss_bytes(pid)));
    }
    samples
}

/// What the program holds when nothing is asked, at the lowest of some times: what the last values leave behind with the
/// allocator differs by megabytes.
fn rest(load: &mut Load, pid: i32) -> u64 {
    const TIMES: usize = 5;
    let rests = (0..TIMES).map(|_| {
        load.go_on(Duration::from_millis(300));
        load.rest();
        watch::rss_bytes(pid)
    });
    rests.min().unwrap_or(0)
}

/// How memory grows in an hour, and how uncertain that is (one standard error): the straight line through the lowest
/// sample of each minute. The values under way make the others jump by megabytes.
fn slope_bytes_per_h(samples: &[(Duration, u64)]) -> (f64, f64) {
    let minutes = samples.chunk_by(|a, b| a.0.as_secs() / 60 == b.0.as_secs() / 60);
    let lowest = minutes.filter_map(|minute| minute.iter().min_by_key(|(_, bytes)| *bytes));
    let points: Vec<(f64, f64)> =
        lowest.map(|(at, bytes)| (at.as_secs_f64() / 3600.0, *bytes as f64)).collect();
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / count, y + p.1 / count));
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if points.len() < 3 {
        return (0.0, f64::INFINITY);
    }
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
    let rest: f64 = points.iter().map(|p| (p.1 - y - slope * (p.0 - x)).powi(2)).sum();
    (slope, (rest / (count - 2.0) / spread).sqrt())
}

/// Clients that set and get values of all sizes, one request at a time each.
struct Load {
    wires: Wires,
    /// What each client waits for; `None` while it is not asked any more.
    due: Vec<Option<Due>>,
    random: Random,
    ready: VecDeque<usize>,
    /// Each key has one writer: the value that it has set last.
    held: Vec<Option<usize>>,
    pattern: Vec<u8>,
    goes_on: bool,
    checked: u64,
    errors: u64,
    wrong: u64,
}

#[derive(Clone, Copy)]
enum Due {
    Set { key: usize, length: usize, is_meta: bool },
    Get { key: usize, is_meta: bool },
}

impl Load {
    fn new(proxy: &Proxy, mut random: Random) -> Self {
        let mut wires = Wires::new(CLIENTS);
        (0..CLIENTS).for_each(|index| wires.connect(index, proxy.address()).unwrap());
        let pattern = (0..VALUE_BYTES_MAX / 8 + KEYS).flat_map(|_| random.any().to_le_bytes()).collect();
        Self {
            wires,
            due: vec![None; CLIENTS],
            random,
            ready: VecDeque::new(),
            held: vec![None; KEYS],
            pattern,
            goes_on: true,
            checked: 0,
            errors: 0,
            wrong: 0,
        }
    }

    fn go_on(&mut self, time: Duration) {
        let began = Instant::now();
        (0..CLIENTS).for_each(|index| {
            if self.due[index].is_none() {
                self.ask(index)
            }
        });
        while began.elapsed() < time {
            self.turn();
        }
    }

    /// Lets all answers come and asks no more.
    fn rest(&mut self) {
        self.goes_on = false;
        let began = Instant::now();
        while self.due.iter().any(Option::is_some) && began.elapsed() < Duration::from_secs(20) {
            self.turn();
        }
        self.wrong += self.due.iter().flatten().count() as u64;
        self.goes_on = true;
    }

    fn close(&mut self) {
        (0..CLIENTS).for_each(|index| self.wires.close(index));
    }

    fn turn(&mut self) {
        self.wires.wait(Duration::from_millis(50), &mut self.ready);
        while let Some(index) = self.ready.pop_front() {
            if self.look(index) {
                self.due[index] = None;
                if self.goes_on {
                    self.ask(index);
                }
            }
        }
    }

    fn ask(&mut self, index: usize) {
        let key = index + CLIENTS * self.random.below(KEYS / CLIENTS);
        let is_meta = self.random.one_in(2);
        let Some(wire) = self.wires.at(index) else { return };
        wire.shrink(64 * 1024);
        let due = if self.held[key].is_none() || self.random.one_in(4) {
            let length = size(&mut self.random);
            let line = if is_meta {
                format!("ms soak:{key} {length}\r\n")
            } else {
                format!("set soak:{key} 0 0 {length}\r\n")
            };
            wire.out.extend_from_slice(line.as_bytes());
            wire.out.extend_from_slice(&self.pattern[key..key + length]);
            wire.out.extend_from_slice(b"\r\n");
            Due::Set { key, length, is_meta }
        } else {
            let line = if is_meta { format!("mg soak:{key} v\r\n") } else { format!("get soak:{key}\r\n") };
            wire.out.extend_from_slice(line.as_bytes());
            Due::Get { key, is_meta }
        };
        self.due[index] = Some(due);
        self.wires.flush(index);
    }

    /// Whether the answer is there; looks at it then.
    fn look(&mut self, index: usize) -> bool {
        let (Some(wire), Some(due)) = (self.wires.at(index), self.due[index]) else { return false };
        let ahead = wire.ahead();
        let Some((line, head)) = line_of(ahead) else {
            assert!(!wire.is_over, "the program closed a connection");
            return false;
        };
        let (used, is_right) = match due {
            _ if line.starts_with(b"SERVER_ERROR") => {
                self.errors += 1;
                if let Due::Set { key, .. } = due {
                    self.held[key] = None;
                }
                (head, true)
            }
            Due::Set { key, length, is_meta } => {
                self.held[key] = Some(length);
                (head, line == if is_meta { &b"HD"[..] } else { b"STORED" })
            }
            // memcached makes room when it has none
            Due::Get { key, .. } if line == b"EN" || line == b"END" => {
                self.held[key] = None;
                (head, true)
            }
            Due::Get { key, is_meta } => {
                let length = self.held[key].unwrap_or(0);
                let tail = if is_meta { &b"\r\n"[..] } else { b"\r\nEND\r\n" };
                let Some(data) = ahead.get(head..head + length + tail.len()) else { return false };
                let wanted =
                    if is_meta { format!("VA {length}") } else { format!("VALUE soak:{key} 0 {length}") };
                let is_right = line == wanted.as_bytes()
                    && data[..length] == self.pattern[key..key + length]
                    && data.ends_with(tail);
                (head + length + tail.len(), is_right)
            }
        };
        if !is_right {
            tell(format_args!("{} is no answer", shown(line)));
            self.wrong += 1;
        }
        wire.take(used);
        self.checked += 1;
        true
    }
}

/// From 1 B to 1 MB, each power of two as likely as the others.
fn size(random: &mut Random) -> usize {
    let bits = random.below(20);
    (1 << bits) + random.below((1 << bits).min(VALUE_BYTES_MAX - (1 << bits)))
}
