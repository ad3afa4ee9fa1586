//! What must hold for any bytes at all. One function for each way in; a panic is the report.
//!
//! `tests/prove/fuzz` calls them with mutations of what is kept, `tests/fuzz` hands them to libFuzzer.

use super::conversation::{owed, parse_replies};
use crate::support::Random;
use crate::support::room::{self, Pipe, Room};
use ringway::config::{self, Pool, Settings};
use ringway::protocol::ascii::{self, Framed, ReplyLine, Scratch, frame};
use ringway::protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use ringway::protocol::{Line, Meta, Op, Request, Value, WireBuf, letter_bit, meta};
use ringway::upstream::Dial;
use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::LazyLock;
use tokio::time::{Duration, advance};

/// A way in.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// How often it is called for one call of the slowest.
    pub(crate) weight: u64,
    /// What an input may cost of the processor. A configuration is its author's own, and is read once.
    pub(crate) time_ms_max: u64,
}

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "parse_request", run: parse_request, weight: 10, time_ms_max: 100 },
    Target { name: "parse_reply", run: parse_reply, weight: 10, time_ms_max: 100 },
    Target { name: "session", run: session, weight: 1, time_ms_max: 100 },
    Target { name: "server_bytes", run: server_bytes, weight: 1, time_ms_max: 100 },
    Target { name: "config_yaml", run: config_yaml, weight: 1, time_ms_max: 1_000 },
];

/// Lines of clients: framed within what is there, and what is understood is written so that it is understood again.
pub(crate) fn parse_request(data: &[u8]) {
    let mut rest = data;
    let (mut scratch, mut again) = (Scratch::default(), Scratch::default());
    while let Framed::Line { line, consumed } = framed(rest) {
        match ascii::parse_request(line, consumed, &mut scratch) {
            Ok(Line::Request(request)) => assert_written_the_same(&request, &mut again),
            Ok(Line::Storage(mut request, length)) => {
                let value = &rest[consumed..rest.len().min(consumed + length)];
                request.value = Value::Slice(value);
                assert_written_the_same(&request, &mut again);
            }
            Ok(Line::MultiGet(request)) => {
                let mut out = WireBuf::default();
                ascii::write_multi_get(&request, &mut out);
                let written = out.single().expect("nothing is shared");
                let Framed::Line { line: line_again, consumed } = frame(written, 0) else {
                    panic!("no line")
                };
                assert_eq!(consumed, written.len());
                let Ok(Line::MultiGet(second)) = ascii::parse_request(line_again, consumed, &mut again)
                else {
                    panic!("{} is no multi-get", written.escape_ascii())
                };
                assert!(request.keys.iter().eq(second.keys.iter()) && request.op == second.op);
                assert_eq!(request.exptime, second.exptime);
                // from the third key on, three at a time
                let mut left = request.keys.iter().skip(2);
                let mut at = (request.keys.len() > 2).then(|| request.keys.start_of(2));
                while let Some(start) = at {
                    let (piece, next) = ascii::parse_more_keys(&line[start..], 3, &mut again);
                    assert!(piece.iter().all(|key| left.next() == Some(key)));
                    at = next.map(|next| start + next);
                }
                assert_eq!(left.next(), None);
            }
            Ok(Line::Admin(_)) | Err(_) => {}
        }
        rest = &rest[consumed..];
    }
}

/// The first line; the same wherever an earlier look ended.
fn framed(bytes: &[u8]) -> Framed<'_> {
    let whole = frame(bytes, 0);
    if let Framed::Line { line, consumed } = whole {
        assert!(consumed <= bytes.len() && line.len() < consumed && bytes[consumed - 1] == b'\n');
        assert!(!line.contains(&b'\n'));
        for scanned in [1, consumed / 2, consumed - 1] {
            if scanned < consumed {
                assert_eq!(frame(bytes, scanned), whole);
                assert!(!matches!(frame(&bytes[..scanned], 0), Framed::Line { .. }));
            }
        }
    }
    whole
}

fn written(request: &Request<'_>, own_opaque: Option<u32>) -> (Vec<u8>, bool) {
    let mut out = WireBuf::default();
    let mut added = false;
    if request.op.is_meta() {
        added = meta::write_request(request, own_opaque, &mut out);
    } else {
        ascii::write_request(request, &mut out);
    }
    (out.single().expect("nothing is shared").to_vec(), added)
}

/// What we send on is read by us, and so by memcached, as what the client asked; and it is answered.
fn assert_written_the_same(request: &Request<'_>, scratch: &mut Scratch) {
    assert!(!request.key.is_empty() && request.key.len() <= KEY_BYTES_MAX);
    for own in [None, Some(7)] {
        let (bytes, added) = written(request, own);
        let Framed::Line { line, consumed } = frame(&bytes, 0) else {
            panic!("no line: {}", bytes.escape_ascii())
        };
        let parsed = ascii::parse_request(line, consumed, scratch);
        let mut second = match parsed {
            Ok(Line::Request(second)) => second,
            Ok(Line::Storage(second, length)) => {
                assert_eq!(length, request.value.len());
                second
            }
            other => panic!("{} is {other:?}", bytes.escape_ascii()),
        };
        let end = consumed + if request.op.has_value() { request.value.len() + 2 } else { 0 };
        assert_eq!(end, bytes.len(), "one request, whole: {}", bytes.escape_ascii());
        assert!(!second.quiet, "it has no answer: {}", bytes.escape_ascii());
        second.value = request.value;
        assert_eq!(request.op, second.op);
        assert_eq!(request.key, second.key, "{}", bytes.escape_ascii());
        let numbers = |r: &Request<'_>| (r.flags, r.exptime, r.number);
        assert_eq!(numbers(request), numbers(&second));
        let opaque = |m: &Meta<'_>| m.opaque.map(<[u8]>::to_vec);
        let letters = request.meta.letters & !letter_bit(b'q');
        if added {
            assert_eq!(opaque(&second.meta).as_deref(), Some(b"7".as_slice()));
            assert_eq!(letters | letter_bit(b'O'), second.meta.letters);
        } else {
            assert_eq!(opaque(&request.meta), opaque(&second.meta));
            assert_eq!(letters, second.meta.letters);
            assert_eq!(written(&second, None).0, bytes, "written twice");
        }
    }
}

/// The shorter way to read a `VALUE` with its block sees what the longer one sees, or nothing.
fn assert_read_the_same(bytes: &[u8], line: &[u8], consumed: usize, reply: Option<ReplyLine<'_>>) {
    let Some(value) = bytes.strip_prefix(ascii::VALUE) else { return };
    let tail = &value[ascii::first_word(value).len()..];
    for has_cas in [false, true] {
        let block = match reply {
            Some(ReplyLine::Value { len, cas, .. }) if cas.is_some() == has_cas => {
                let is_whole = bytes.get(consumed + len..).is_some_and(|end| end.starts_with(b"\r\n"));
                (is_whole && bytes[line.len()] == b'\r').then_some((consumed, consumed + len + 2))
            }
            Some(_) => None,
            // perhaps for its key, and that is not looked at here
            None => continue,
        };
        let read = ascii::after_value_key(tail, has_cas, usize::MAX);
        let places = read.map(|(data, after)| (bytes.len() - data.len(), bytes.len() - after.len()));
        assert_eq!(places, block, "{}", line.escape_ascii());
    }
}

/// Lines of servers: what is understood says the line again, to the letter.
pub(crate) fn parse_reply(data: &[u8]) {
    let mut rest = data;
    while let Framed::Line { line, consumed } = framed(rest) {
        let parsed = ascii::parse_reply(line);
        assert_read_the_same(rest, line, consumed, parsed);
        if let Some(reply) = parsed {
            let text = |t: &str| t.as_bytes().to_vec();
            let said = match reply {
                ReplyLine::Value { key, flags, len, cas } => {
                    assert!(len <= VALUE_BYTES_MAX_MAX && !key.is_empty() && key.len() <= KEY_BYTES_MAX);
                    let cas = cas.map_or(String::new(), |c| format!(" {c}"));
                    [b"VALUE ", key, format!(" {flags} {len}{cas}").as_bytes()].concat()
                }
                ReplyLine::End => text("END"),
                ReplyLine::Stored => text("STORED"),
                ReplyLine::NotStored => text("NOT_STORED"),
                ReplyLine::Exists => text("EXISTS"),
                ReplyLine::NotFound => text("NOT_FOUND"),
                ReplyLine::Deleted => text("DELETED"),
                ReplyLine::Touched => text("TOUCHED"),
                // A number keeps the width that it once had.
                ReplyLine::Number(number) => {
                    let mut said = number.to_string().into_bytes();
                    said.resize(line.len().max(said.len()), b' ');
                    said
                }
                ReplyLine::Ok => text("OK"),
                ReplyLine::Version(version) => [b"VERSION ", version].concat(),
                ReplyLine::Error => line.to_vec(),
            };
            assert_eq!(said, line);
        }
        // Of the others our opaque is taken out; `me` takes none.
        if let Some(reply) = meta::parse_reply(line).filter(|reply| reply.code != meta::MetaCode::Me) {
            assert!(reply.len <= VALUE_BYTES_MAX_MAX);
            let mut shown = Vec::new();
            meta::write_line_without_opaque(line, &mut shown);
            let second = meta::parse_reply(&shown).expect("still a reply");
            assert_eq!((second.code, second.len, second.key), (reply.code, reply.len, reply.key));
            assert_eq!(second.opaque, None);
        }
        rest = &rest[consumed..];
    }
}

/// Seeds of choices that belong to the bytes, so that the same bytes are always treated the same.
fn choices(data: &[u8]) -> Random {
    let fold = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    Random::new(data.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Sends in these pieces, and perhaps says that no more will come; all that is answered, and whether the connection was closed.
pub(crate) async fn converse(room: &Room, pieces: &[&[u8]], finishes: bool) -> (Vec<u8>, bool) {
    let mut client = room.connect(1 << 20);
    let mut answer = Vec::new();
    for piece in pieces {
        let mut piece = *piece;
        while !piece.is_empty() {
            let Some(sent) = client.send(piece) else { break };
            piece = &piece[sent..];
            room.settle().await;
            client.receive(usize::MAX, &mut answer);
        }
    }
    if finishes {
        client.finish();
        room.settle().await;
    }
    loop {
        let before = answer.len();
        let is_open = client.receive(usize::MAX, &mut answer);
        room.settle().await;
        if !is_open || answer.len() == before {
            return (answer, !is_open);
        }
    }
}

/// The bytes in up to eight pieces.
pub(crate) fn pieces<'a>(data: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = (0..random.below(8)).map(|_| random.below(data.len() + 1)).collect();
    cuts.extend([0, data.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|w| &data[w[0]..w[1]]).filter(|p| !p.is_empty()).collect()
}

fn small_limits() -> Settings {
    let mut settings = Settings { allow_flush: true, ..Settings::default() };
    settings.limits.value_bytes_max = 20_000;
    settings
}

/// A client of the embedded cache: n requests in, n replies out, however the bytes come, and before the connection is closed
/// to one that has said that it will send no more.
pub(crate) fn session(data: &[u8]) {
    let settings = small_limits();
    let (owed, closes) = owed(data, settings.limits.value_bytes_max);
    room::run(async {
        let whole = converse(&Room::embedded(&settings), &[data], false).await;
        let cut = converse(&Room::embedded(&settings), &pieces(data, &mut choices(data)), true).await;
        assert_eq!((whole.1, cut.1), (closes, true), "closed or not");
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        // `stats` counts reads, which are not the same ones.
        if !data.windows(5).any(|w| w == b"stats") {
            assert!(whole.0 == cut.0, "cut differently: {}\nand {}", shown(&whole.0), shown(&cut.0));
        }
        for (answer, _) in [whole, cut] {
            if let Err(text) = parse_replies(&owed, &answer) {
                panic!("{text}: {}", shown(&answer));
            }
        }
    });
}

/// What is in flight when the hostile server speaks.
const IN_FLIGHT: [&[u8]; 18] = [
    b"get a0\r\n",
    b"set a1 0 0 1\r\nx\r\n",
    b"mg a2 v\r\n",
    b"get a3 b3 c3\r\n",
    b"delete a4\r\n",
    b"incr a5 1\r\n",
    b"mg a6 v O123\r\n",
    b"gets a7\r\n",
    b"ms a8 1\r\nx\r\n",
    b"md a9\r\n",
    b"ma a10 v\r\n",
    b"touch a11 0\r\n",
    b"gat 0 a12\r\n",
    b"me a13\r\n",
    b"cas a14 0 0 1 1\r\nx\r\n",
    b"get a15\r\n",
    b"gets a16 b16\r\n",
    b"flush_all\r\n",
];

/// All of that, and a line that is long enough to be shared.
fn in_flight() -> Vec<u8> {
    let key = |number| format!(" {number:0>200}");
    let long: String = (0..100).map(key).collect();
    [&IN_FLIGHT.concat()[..], b"get", long.as_bytes(), b"\r\n"].concat()
}

/// A server that says anything, and all of it once more when it is too late: each of them is answered once, in order, and none
/// with what is another's.
pub(crate) fn server_bytes(data: &[u8]) {
    static REQUESTS: LazyLock<Vec<u8>> = LazyLock::new(in_flight);
    let settings = small_limits();
    let mut random = choices(data);
    let refuses = random.one_in(4);
    room::run(async {
        let held: Rc<RefCell<Vec<Pipe>>> = Rc::default();
        let dialled = Rc::clone(&held);
        let dial = Dial::Memory(Rc::new(move |_| {
            let mut dialled = dialled.borrow_mut();
            if refuses && !dialled.is_empty() {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            let (mut near, far) = Pipe::pair(1 << 20);
            near.send(b"VERSION 1.6.45\r\n");
            dialled.push(near);
            Ok(far)
        }));
        let pool = hostile_pool();
        let room = Room::before(&settings, &pool, dial);
        let mut client = room.connect(1 << 20);
        client.send(&REQUESTS);
        room.settle().await;
        let mut answer = Vec::new();
        for piece in pieces(data, &mut random) {
            // Always the latest: what was sent again is on that one.
            let sent = held.borrow_mut().last_mut().and_then(|pipe| pipe.send(piece));
            if sent.is_none() {
                break;
            }
            room.settle().await;
            client.receive(usize::MAX, &mut answer);
        }
        if random.one_in(2) {
            held.borrow_mut().clear();
            room.settle().await;
        }
        advance(pool.timeout * 2).await;
        room.settle().await;
        if let Some(pipe) = held.borrow_mut().last_mut() {
            pipe.send(data);
        }
        room.settle().await;
        client.receive(usize::MAX, &mut answer);
        let (owed, _) = owed(&REQUESTS, settings.limits.value_bytes_max);
        if let Err(text) = parse_replies(&owed, &answer) {
            panic!("{text}: {}", answer.escape_ascii());
        }
        drop(client);
        room.settle().await;
        assert_eq!(room.context.sessions_count(), 0);
    });
}

fn hostile_pool() -> Pool {
    thread_local! {
        static POOL: Pool = {
            let text = "pools: {main: {servers: [\"127.0.0.1:1\"], timeout: 100ms}}\nroute: main\n";
            config::from_text("fuzz", text, ringway::route::check).expect("a good config").0.pools.remove(0)
        };
    }
    POOL.with(Pool::clone)
}

/// A configuration: good, or refused with a place that is in the text. Both can be shown.
pub(crate) fn config_yaml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match config::from_text("fuzz", &text, ringway::route::check) {
        Ok((config, warnings)) => {
            // mcrouter takes a route without a pool, and a pool without servers.
            let may_be_empty = config.routes.dialect == config::Dialect::Mcrouter;
            assert!(may_be_empty || !config.pools.is_empty());
            for pool in &config.pools {
                assert!(may_be_empty || pool.source.is_some() || !pool.servers.is_empty());
                assert!(pool.timeout > Duration::ZERO);
                let names: Vec<String> = pool.servers.iter().map(config::Server::label).collect();
                assert!(names.iter().all(|n| !n.is_empty()));
            }
            for warning in &warnings {
                let _ = warning.render(false);
            }
        }
        Err(faults) => {
            assert!(!faults.list.is_empty());
            for fault in &faults.list {
                if let Some(place) = &fault.place {
                    assert!(
                        fault.source.text.get(place.bytes.clone()).is_some(),
                        "{place:?} is not in the text"
                    );
                    assert!(place.line >= 1 && place.column >= 1);
                }
            }
            assert!(!faults.render(false).is_empty() && !faults.to_string().is_empty());
        }
    }
}

/// Whether an operation says something that its client sees only at times.
pub(crate) fn is_quiet_meta(op: Op, quiet: bool) -> bool {
    quiet && op.is_meta() && op != Op::MetaDebug
}
