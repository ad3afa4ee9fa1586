//! The node that ringway runs on: a bridge, and behind it a network namespace for each pod, with a memcached and an address of
//! its own. When a pod ends, so does its namespace: its address answers nothing any more, as in a cluster.

use crate::support::dns::Dns;
use crate::support::process::Process;
use crate::support::{Client, Directory, PATIENCE, Proxy};
use ringway::config;
use ringway::hash::Ring;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SRV: &str = "_memcache._tcp.mc.example";
const PORT: u16 = 11211;
/// Keys of which it is looked up which pod has them.
pub(crate) const KEYS: usize = 400;
/// Of every record.
pub(crate) const TTL: Duration = Duration::from_secs(1);

/// What all scenes stand on: the loopback, and the bridge that pods are connected to.
pub(crate) fn set_up() {
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["link", "add", "br0", "type", "bridge"]);
    run("ip", &["addr", "add", "10.77.0.1/16", "dev", "br0"]);
    run("ip", &["link", "set", "br0", "up"]);
    run("nft", &["add table inet trouble"]);
    run("nft", &["add chain inet trouble in { type filter hook input priority 0; }"]);
    run("nft", &["add chain inet trouble out { type filter hook output priority 0; }"]);
}

/// What the network does to packets; until it is dropped.
pub(crate) struct Trouble;

impl Trouble {
    /// Nothing passes to or from this address.
    pub(crate) fn cut(ip: Ipv4Addr) -> Self {
        run("nft", &[&format!("add rule inet trouble out ip daddr {ip} drop")]);
        run("nft", &[&format!("add rule inet trouble in ip saddr {ip} drop")]);
        Self
    }

    /// So many of a hundred packets to and from pods are lost.
    pub(crate) fn loss(percent: u8) -> Self {
        let dice = format!("numgen random mod 100 < {percent} drop");
        run("nft", &[&format!("add rule inet trouble out ip daddr 10.77.0.0/16 {dice}")]);
        run("nft", &[&format!("add rule inet trouble in ip saddr 10.77.0.0/16 {dice}")]);
        Self
    }
}

/// A wire that is slow until this is dropped.
pub(crate) struct Slow(String);

impl Drop for Slow {
    fn drop(&mut self) {
        run("tc", &["qdisc", "del", "dev", &self.0, "root"]);
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        run("nft", &["flush table inet trouble"]);
    }
}

/// A memcached with an address of its own.
pub(crate) struct Pod {
    pub(crate) ip: Ipv4Addr,
    /// The number of its address, which its namespace and its wire are called after.
    number: u16,
    process: Process,
}

impl Pod {
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0x0101);
        let number = NEXT.fetch_add(1, Relaxed);
        let [high, low] = number.to_be_bytes();
        let ip = Ipv4Addr::new(10, 77, high, low);
        let pod = format!("pod{number}");
        batch(
            &[],
            &format!("netns add {pod}\nlink add {pod} master br0 up type veth peer name eth0 netns {pod}\n"),
        );
        batch(&["-n", &pod], &format!("link set lo up\naddr add {ip}/16 dev eth0\nlink set eth0 up\n"));
        let listen = ip.to_string();
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &pod,
            "memcached",
            "-u",
            "root",
            "-l",
            &listen,
            "-p",
            &PORT.to_string(),
        ]);
        command.args(["-U", "0", "-t", "1", "-m", "16", "-c", "512"]);
        let process = Process::start(&mut command);
        let pod = Self { ip, number, process };
        let deadline = Instant::now() + PATIENCE;
        // memcached tells nobody that it listens
        while TcpStream::connect((ip, PORT)).is_err() {
            assert!(Instant::now() < deadline, "no memcached at {ip}: {}", pod.process.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
        pod
    }

    /// What goes to it is late from now on, and how; `None` where the kernel can do neither.
    pub(crate) fn slow(&self) -> Option<(Slow, &'static str)> {
        const WAYS: [(&str, &str); 2] = [
            ("netem delay 30ms 10ms", "a pod's wire is 30 ms longer (netem)"),
            ("tbf rate 16kbit burst 1600 latency 2s", "a pod's wire has 16 kbit/s (tbf)"),
        ];
        let wire = format!("pod{}", self.number);
        let way = WAYS.iter().find(|(discipline, _)| {
            let mut command = Command::new("tc");
            command.args(["qdisc", "add", "dev", &wire, "root"]).args(discipline.split(' '));
            command.output().unwrap().status.success()
        });
        if way.is_none() {
            eprintln!("SKIPPED: the kernel has neither netem nor tbf");
        }
        way.map(|(_, what)| (Slow(wire), *what))
    }

    /// Its process ends at once; its address is there for as long as it is.
    pub(crate) fn kill(&self) {
        self.process.signal(rustix::process::Signal::KILL);
    }

    fn client(&self) -> Client {
        Client::connect(&format!("{}:{PORT}", self.ip))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.kill();
        self.process.exit();
        // the wire goes with it
        batch(&[], &format!("link del pod{0}\nnetns del pod{0}\n", self.number));
    }
}

/// Pods of one StatefulSet, the name server that knows them, and the proxy that asks it.
pub(crate) struct Cluster {
    pub(crate) dns: Dns,
    pub(crate) pods: BTreeMap<usize, Pod>,
    pub(crate) proxy: Proxy,
    pub(crate) client: Client,
    generation: u64,
    _files: Directory,
}

impl Cluster {
    /// `pool`: more of the pool.
    pub(crate) fn of(count: usize, pool: &str) -> Self {
        Self::with_timeout("200ms", count, pool)
    }

    pub(crate) fn with_timeout(timeout: &str, count: usize, pool: &str) -> Self {
        let dns = Dns::start();
        dns.set_ttl(u32::try_from(TTL.as_secs()).unwrap());
        let pods: BTreeMap<usize, Pod> = (0..count).map(|n| (n, Pod::start())).collect();
        publish(&dns, &pods);
        let files = Directory::new();
        let file = files.write("resolv.conf", "options timeout:1 attempts:1\n");
        let proxy = Proxy::with(&format!(
            "resolver: {{servers: \"{}\", file: {file}}}\n\
             pools:\n  main: {{srv: {SRV}, timeout: {timeout}, connect_timeout: {timeout}, \
             tko: {{probe_timeout_max: 1s}}{pool}}}\n\
             route: main\n",
            dns.address()
        ));
        let mut client = proxy.client();
        client.await_stat("discovery_members", count as u64);
        Self { dns, pods, proxy, client, generation: 0, _files: files }
    }

    /// The name server tells of the pods that there are.
    pub(crate) fn publish(&self) {
        publish(&self.dns, &self.pods);
    }

    pub(crate) fn connects(&mut self) -> u64 {
        self.client.stat("server_connects")
    }

    /// Until so many servers are served with, since `began`.
    pub(crate) fn await_members(&mut self, count: usize, began: Instant) -> Duration {
        self.client.await_stat("discovery_members", count as u64);
        began.elapsed()
    }

    /// Until this pod answers through the proxy, since `began`.
    pub(crate) fn await_served(&mut self, pod: usize, began: Instant) -> Duration {
        let names: Vec<usize> = self.pods.keys().copied().collect();
        let key = (0..).map(key).find(|key| owner(&names, key) == pod).unwrap();
        loop {
            self.client.send(format!("get {key}\r\n"));
            let line = self.client.line();
            if line.starts_with("VALUE ") {
                self.client.line();
                self.client.expect("END\r\n");
            }
            if !line.starts_with("SERVER_ERROR ") {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "pod {pod} is not served: {line}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Which pod has each key, as the pods themselves say; checked to be the one that the ring says for these names.
    pub(crate) fn owners(&mut self) -> Vec<usize> {
        self.generation += 1;
        let value = format!("{:04}", self.generation);
        for n in 0..KEYS {
            self.client.ask(format!("set {} 0 0 4\r\n{value}\r\n", key(n)), "STORED\r\n");
        }
        let mut owners = vec![usize::MAX; KEYS];
        for (name, pod) in &self.pods {
            let mut client = pod.client();
            let keys: Vec<String> = (0..KEYS).map(key).collect();
            for some in keys.chunks(100) {
                client.send(format!("get {}\r\n", some.join(" ")));
                for pair in client.lines_to_end().chunks(2) {
                    let n: usize = pair[0].split([' ', ':']).nth(2).unwrap().parse().unwrap();
                    if pair[1] == value {
                        assert_eq!(owners[n], usize::MAX, "two pods have {}", key(n));
                        owners[n] = *name;
                    }
                }
            }
        }
        let names: Vec<usize> = self.pods.keys().copied().collect();
        let by_ring: Vec<usize> = owners_by_ring(&names);
        assert_eq!(owners, by_ring, "where the keys are, and where they are by the names of the pods");
        owners
    }

    /// Every pod has as many connections as it should: `connections` (1) of the one worker, and no more.
    pub(crate) fn assert_one_connection_each(&self) {
        for (name, pod) in &self.pods {
            let mut client = pod.client();
            // who asks is connected too; a prober may be about to leave
            let deadline = Instant::now() + PATIENCE;
            while client.stat("curr_connections") != 2 {
                assert!(
                    Instant::now() < deadline,
                    "pod {name}: {} connections",
                    client.stat("curr_connections")
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn publish(dns: &Dns, pods: &BTreeMap<usize, Pod>) {
    for (name, pod) in pods {
        dns.set_addresses(&host(*name), &[&pod.ip.to_string()]);
    }
    let hosts: Vec<String> = pods.keys().map(|name| host(*name)).collect();
    match hosts.is_empty() {
        true => dns.remove(SRV),
        false => dns.set_targets(SRV, &hosts.iter().map(|host| (host.as_str(), PORT)).collect::<Vec<_>>()),
    }
}

fn host(name: usize) -> String {
    format!("mc-{name}.mc.example")
}

fn key(n: usize) -> String {
    format!("owned:{n}")
}

/// How many of the keys are elsewhere.
pub(crate) fn moved(before: &[usize], after: &[usize]) -> (usize, usize) {
    (before.iter().zip(after).filter(|(before, after)| before != after).count(), KEYS)
}

/// Which of the pods of these names has a key.
pub(crate) fn owner(names: &[usize], key: &str) -> usize {
    names[ring_of(names).pick(key.as_bytes()).unwrap()]
}

fn owners_by_ring(names: &[usize]) -> Vec<usize> {
    let ring = ring_of(names);
    (0..KEYS).map(|n| names[ring.pick(key(n).as_bytes()).unwrap()]).collect()
}

fn ring_of(names: &[usize]) -> Ring {
    let servers: Vec<String> = names.iter().map(|name| format!("\"{}:{PORT}\"", host(*name))).collect();
    let text = format!("pools: {{p: {{servers: [{}]}}}}", servers.join(", "));
    let (config, _) = config::from_text("t", &text, |_, _| {}).unwrap();
    Ring::build(&config.pools[0].hash, &config.pools[0].members()).unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Several commands of `ip` at once.
fn batch(arguments: &[&str], commands: &str) {
    let mut command = Command::new("ip");
    command.args(arguments).args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
}
