//! A name server that does what it is told, over UDP and TCP: records, times to live, truncation, failures, silence, lies. The
//! order of each answer is another one, as in a cluster.

use super::process::PATIENCE;
use super::random::Random;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const OPT: u16 = 41;
const NXDOMAIN: u8 = 3;
/// Without EDNS.
const UDP_BYTES_MAX: usize = 512;

/// What is wrong with its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    ServFail,
    Refused,
    /// Nothing is answered, connections stay open.
    Silent,
    /// Another answer than the one that is due: a wrong id, a wrong question.
    WrongId,
    WrongQuestion,
    /// Bytes that are no answer.
    Garbage,
    /// An answer that ends too early.
    Cut,
    /// Every UDP answer says that there is more, and has nothing.
    Truncated,
    /// A name that is an alias of itself.
    Circle,
}

#[derive(Clone, Debug)]
pub(crate) enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Srv(String, u16),
    Cname(String),
}

#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<Record>>,
    ttl: u32,
    fault: Fault,
    /// Names that were asked for, with the number of questions; over TCP too.
    asked: HashMap<String, usize>,
    asked_over_tcp: usize,
    /// SRV answers bring the addresses of their targets.
    brings_addresses: bool,
}

/// A running name server.
pub(crate) struct Dns {
    address: SocketAddr,
    zone: Arc<(Mutex<Zone>, Condvar)>,
    is_over: Arc<AtomicBool>,
}

impl Dns {
    /// On a free port of 127.0.0.1; without names, with a time to live of one second.
    pub(crate) fn start() -> Self {
        let zone = Zone { ttl: 1, brings_addresses: true, ..Zone::default() };
        let zone = Arc::new((Mutex::new(zone), Condvar::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (udp, tcp) = std::iter::repeat_with(sockets).take(100).flatten().next().expect("no free port");
        let address = udp.local_addr().unwrap();
        let (of_udp, of_tcp) = (Arc::clone(&zone), Arc::clone(&zone));
        let (udp_over, tcp_over) = (Arc::clone(&is_over), Arc::clone(&is_over));
        thread::spawn(move || serve_udp(&udp, &of_udp, &udp_over));
        thread::spawn(move || serve_tcp(&tcp, &of_tcp, &tcp_over));
        Self { address, zone, is_over }
    }

    /// `resolver:` of a configuration.
    pub(crate) fn resolver(&self) -> String {
        format!("resolver: \"{}\"\n", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the name has these records and no others. (With none it exists all the same.)
    pub(crate) fn set(&self, name: &str, records: Vec<Record>) {
        self.zone.0.lock().unwrap().records.insert(name.to_owned(), records);
    }

    /// The name has these addresses.
    pub(crate) fn set_addresses(&self, name: &str, addresses: &[&str]) {
        let record = |text: &&str| match text.parse() {
            Ok(std::net::IpAddr::V4(ip)) => Record::A(ip),
            Ok(std::net::IpAddr::V6(ip)) => Record::Aaaa(ip),
            Err(error) => panic!("{text}: {error}"),
        };
        self.set(name, addresses.iter().map(record).collect());
    }

    /// The name has these targets and ports.
    pub(crate) fn set_targets(&self, name: &str, targets: &[(&str, u16)]) {
        self.set(name, targets.iter().map(|(host, port)| Record::Srv((*host).to_owned(), *port)).collect());
    }

    /// There is no such name.
    pub(crate) fn remove(&self, name: &str) {
        self.zone.0.lock().unwrap().records.remove(name);
    }

    pub(crate) fn set_ttl(&self, seconds: u32) {
        self.zone.0.lock().unwrap().ttl = seconds;
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.zone.0.lock().unwrap().fault = fault;
    }

    /// Whether SRV answers bring the addresses of their targets.
    pub(crate) fn bring_addresses(&self, brings: bool) {
        self.zone.0.lock().unwrap().brings_addresses = brings;
    }

    /// How often a name was asked for.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.zone.0.lock().unwrap().asked.get(name).copied().unwrap_or(0)
    }

    /// All names that were asked for, in order.
    pub(crate) fn names_asked(&self) -> Vec<String> {
        let mut names: Vec<String> = self.zone.0.lock().unwrap().asked.keys().cloned().collect();
        names.sort();
        names
    }

    pub(crate) fn asked_over_tcp(&self) -> usize {
        self.zone.0.lock().unwrap().asked_over_tcp
    }

    /// Waits until the name was asked for so many times more.
    pub(crate) fn await_asked(&self, name: &str, more: usize) {
        let (zone, changed) = &*self.zone;
        let zone = zone.lock().unwrap();
        let wanted = zone.asked.get(name).copied().unwrap_or(0) + more;
        let is_short = |zone: &mut Zone| zone.asked.get(name).copied().unwrap_or(0) < wanted;
        let waited = changed.wait_timeout_while(zone, PATIENCE, is_short).unwrap().1;
        assert!(!waited.timed_out(), "{name} was not asked for again");
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        // both wake up and see that it is over
        let _ = TcpStream::connect(self.address);
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[], self.address));
    }
}

fn sockets() -> Option<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
    let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
    Some((udp, tcp))
}

fn serve_udp(socket: &UdpSocket, zone: &(Mutex<Zone>, Condvar), is_over: &AtomicBool) {
    let mut buffer = [0; 4096];
    let mut random = Random::new(1);
    loop {
        let received = socket.recv_from(&mut buffer);
        if is_over.load(Relaxed) {
            return;
        }
        let Ok((length, peer)) = received else { continue };
        if let Some(answer) = answer(&buffer[..length], zone, &mut random, false) {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Arc<(Mutex<Zone>, Condvar)>, is_over: &Arc<AtomicBool>) {
    for stream in listener.incoming() {
        if is_over.load(Relaxed) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        let zone = Arc::clone(zone);
        thread::spawn(move || {
            let mut random = Random::new(2);
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                if stream.read_exact(&mut question).is_err() {
                    return;
                }
                if let Some(answer) = answer(&question, &zone, &mut random, true) {
                    let length = u16::try_from(answer.len()).expect("an answer of 64 KiB at most");
                    let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
                    if stream.write_all(&framed).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// A question as it came.
struct Asked {
    name: String,
    kind: u16,
    /// Where the question ends.
    end: usize,
    /// What the asker takes over UDP.
    udp_bytes_max: usize,
}

fn parse(question: &[u8]) -> Option<Asked> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]);
    let end = at + 4;
    let has_opt = question.get(end) == Some(&0) && question.get(end + 1..end + 3) == Some(&OPT.to_be_bytes());
    let udp_bytes_max = if has_opt {
        usize::from(u16::from_be_bytes([*question.get(end + 3)?, *question.get(end + 4)?]))
    } else {
        UDP_BYTES_MAX
    };
    Some(Asked { name: labels.join("."), kind, end, udp_bytes_max })
}

fn answer(
    question: &[u8],
    zone: &(Mutex<Zone>, Condvar),
    random: &mut Random,
    is_tcp: bool,
) -> Option<Vec<u8>> {
    let asked = parse(question)?;
    let (zone, changed) = zone;
    let mut zone = zone.lock().unwrap();
    *zone.asked.entry(asked.name.clone()).or_default() += 1;
    zone.asked_over_tcp += usize::from(is_tcp);
    changed.notify_all();
    let (rcode, answers, more) = match zone.fault {
        Fault::Silent => return None,
        Fault::Garbage => return Some((0..40).map(|_| random.any().to_le_bytes()[0]).collect()),
        Fault::ServFail => (2, Vec::new(), Vec::new()),
        Fault::Refused => (5, Vec::new(), Vec::new()),
        Fault::Circle => {
            (0, vec![record(&asked.name, &Record::Cname(asked.name.clone()), zone.ttl)], Vec::new())
        }
        _ => zone.look_up(&asked, random),
    };
    let mut head = question[..asked.end].to_vec();
    head[2] = 0x84 | (head[2] & 1); // an answer, of who knows; recursion as it was wished
    head[3] = rcode;
    let soa = if answers.is_empty() && matches!(rcode, 0 | NXDOMAIN) {
        vec![soa(&asked.name, zone.ttl)]
    } else {
        Vec::new()
    };
    let bytes_max = if is_tcp { usize::from(u16::MAX) } else { asked.udp_bytes_max };
    let mut text = head.clone();
    let mut counts = [0_u16; 3];
    let mut is_cut = zone.fault == Fault::Truncated && !is_tcp;
    if !is_cut {
        for (section, records) in [&answers, &soa, &more].into_iter().enumerate() {
            for record in records {
                if text.len() + record.len() > bytes_max {
                    is_cut |= section == 0; // what is additional may be left out
                    break;
                }
                text.extend_from_slice(record);
                counts[section] += 1;
            }
        }
    }
    text[2] |= if is_cut { 2 } else { 0 };
    text[4..6].copy_from_slice(&1_u16.to_be_bytes());
    for (section, count) in counts.iter().enumerate() {
        text[6 + 2 * section..8 + 2 * section].copy_from_slice(&count.to_be_bytes());
    }
    match zone.fault {
        Fault::WrongId => text[0] ^= 0x55,
        Fault::WrongQuestion => text[13] ^= 1,
        Fault::Cut => text.truncate(text.len() * 2 / 3),
        _ => {}
    }
    Some(text)
}

impl Zone {
    /// The response code, the answers, and what comes along.
    fn look_up(&self, asked: &Asked, random: &mut Random) -> (u8, Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let Some(records) = self.records.get(&asked.name) else { return (NXDOMAIN, Vec::new(), Vec::new()) };
        let mut answers = Vec::new();
        let mut more = Vec::new();
        for found in records {
            let fits = match found {
                Record::A(_) => asked.kind == A,
                Record::Aaaa(_) => asked.kind == AAAA,
                Record::Srv(..) => asked.kind == SRV,
                Record::Cname(_) => true,
            };
            if fits {
                answers.push(record(&asked.name, found, self.ttl));
            }
            let target = match found {
                Record::Srv(target, _) if fits && self.brings_addresses => target,
                Record::Cname(target) => target,
                _ => continue,
            };
            for found in self.records.get(target).into_iter().flatten() {
                let is_address = matches!(found, Record::A(_) | Record::Aaaa(_));
                match found {
                    _ if asked.kind == SRV && is_address => more.push(record(target, found, self.ttl)),
                    Record::A(_) if asked.kind == A => answers.push(record(target, found, self.ttl)),
                    Record::Aaaa(_) if asked.kind == AAAA => answers.push(record(target, found, self.ttl)),
                    _ => {}
                }
            }
        }
        for i in (1..answers.len()).rev() {
            answers.swap(i, random.below(i + 1));
        }
        (0, answers, more)
    }
}

fn record(name: &str, found: &Record, ttl: u32) -> Vec<u8> {
    let (kind, data) = match found {
        Record::A(ip) => (A, ip.octets().to_vec()),
        Record::Aaaa(ip) => (AAAA, ip.octets().to_vec()),
        Record::Cname(target) => (CNAME, written(target)),
        Record::Srv(target, port) => {
            let numbers = [0_u16, 100, *port].map(u16::to_be_bytes).concat();
            (SRV, [numbers, written(target)].concat())
        }
    };
    of_kind(name, kind, ttl, &data)
}

fn soa(name: &str, ttl: u32) -> Vec<u8> {
    let zone = name.split_once('.').map_or(name, |(_, rest)| rest);
    let numbers = [1, 3600, 600, 86_400, ttl].map(u32::to_be_bytes).concat();
    of_kind(zone, SOA, ttl, &[written("ns"), written("root"), numbers].concat())
}

fn of_kind(name: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    let head = [kind.to_be_bytes(), 1_u16.to_be_bytes()].concat();
    [written(name), head, ttl.to_be_bytes().to_vec(), length.to_be_bytes().to_vec(), data.to_vec()].concat()
}

fn written(name: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        text.push(u8::try_from(label.len()).unwrap());
        text.extend_from_slice(label.as_bytes());
    }
    text.push(0);
    text
}
