//! A connection and what becomes of its requests, over a pipe: the test is the server, and moves the clock.

use super::{Destination, Dial, Shared};
use crate::config::{Pool, from_text};
use crate::health::Health;
use crate::net::{Budget, ReadBlock};
use crate::protocol::ascii::{Framed, Scratch, frame, parse_request};
use crate::protocol::{Admin, Line, Reply, Request, Value, Values};
use crate::route::{Call, Leaf, Sink, Slot};
use crate::stats::{Counter, Counters, Stats};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::runtime::{Builder, LocalOptions};

const MODERN: &str = "1.6.45";
const OLD: &str = "1.6.18";
/// Of the pools here.
const TIMEOUT: Duration = Duration::from_secs(1);
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// Time stands still until nothing else is left to do, then goes on to what is next.
fn run(work: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(work);
}

/// Until everything that can happen without the clock has happened.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Until what is asked now has waited long enough.
async fn time_out() {
    tokio::time::sleep(TIMEOUT).await;
    settle().await;
}

/// One server as a worker has it.
struct Stand {
    shared: Shared,
    leaves: Vec<Rc<dyn Leaf>>,
    told: Rc<Told>,
    /// The other ends of the connections that were made, oldest first.
    calls: Rc<RefCell<Vec<DuplexStream>>>,
    refuses: Rc<Cell<bool>>,
}

/// What clients were told: the token, and the line with what follows it.
#[derive(Default)]
struct Told {
    list: RefCell<Vec<(u64, String)>>,
    /// All clients are gone.
    is_deaf: Cell<bool>,
}

fn shown(reply: &Reply<'_>) -> String {
    let line = String::from_utf8_lossy(reply.line);
    let end = if reply.miss_on_error { " (a miss)" } else { "" };
    match reply.value.map_or(0, |value| value.len()) {
        0 => format!("{line}{end}"),
        length => format!("{line}+{length}{end}"),
    }
}

impl Sink for Told {
    fn hit(&self, token: u64, index: usize, reply: &Reply<'_>) {
        self.list.borrow_mut().push((token, format!("{index}: {}", shown(reply))));
    }

    fn hits(&self, token: u64, values: &Values<'_>) {
        values.iter().for_each(|(index, reply)| self.hit(token, index, &reply));
    }

    fn fill(&self, token: u64, reply: &Reply<'_>) {
        self.list.borrow_mut().push((token, shown(reply)));
    }

    fn is_waiting(&self) -> bool {
        !self.is_deaf.get()
    }
}

fn pool(settings: &str) -> Pool {
    let text = format!("pools: {{main: {{timeout: 1s, servers: [a:1, b:2], {settings}}}}}\nroute: main\n");
    let (mut config, _) = from_text("test", &text, crate::route::check).expect("a good configuration");
    config.pools.remove(0)
}

impl Stand {
    fn new(settings: &str) -> Self {
        Self::beside(settings, Arc::default())
    }

    /// The same server in another worker or pool: what is known of its health is shared.
    fn beside(settings: &str, health: Arc<Health>) -> Self {
        Self::of_server(0, settings, health)
    }

    fn of_server(index: usize, settings: &str, health: Arc<Health>) -> Self {
        let pool = pool(settings);
        let calls = Rc::<RefCell<Vec<DuplexStream>>>::default();
        let refuses = Rc::<Cell<bool>>::default();
        let dial = {
            let (calls, refuses) = (Rc::clone(&calls), Rc::clone(&refuses));
            Dial::Memory(Rc::new(move |_| {
                if refuses.get() {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let (near, far) = duplex(1 << 20);
                calls.borrow_mut().push(far);
                Ok(near)
            }))
        };
        let counters = Stats::new(1).of(0);
        let shared = Shared {
            budget: Budget::new(BUFFER_BYTES_MAX, Arc::clone(&counters)),
            counters,
            block: Rc::new(RefCell::new(ReadBlock::default())),
            dial,
            health,
            jitter_seed: 0,
            late_count_max: Rc::new(Cell::new(3)),
            bulk_bytes_max: Rc::new(Cell::new(512 << 10)),
        };
        Destination::expect_servers(&pool, &shared);
        let leaves = Destination::of_server(&pool, &pool.servers[index], &shared);
        Self { shared, leaves, told: Rc::default(), calls, refuses }
    }

    /// Sends what a client would write, `|` for a line end.
    fn ask(&self, token: u64, text: &str) {
        self.ask_much(token, text, 0);
    }

    /// The same of one that is expected to move so many bytes.
    fn ask_much(&self, token: u64, text: &str, bulk_bytes: usize) {
        let call = Call { bulk_bytes, ..Call::default() };
        let text = text.replace('|', "\r\n") + "\r\n";
        let Framed::Line { line, consumed } = frame(text.as_bytes(), 0) else { panic!("no line: {text}") };
        let slot = Slot::new(Rc::clone(&self.told) as Rc<dyn Sink>, token);
        let leaf = &self.leaves[0];
        match parse_request(line, consumed, &mut Scratch::default()).expect("a good line") {
            Line::Request(request) => leaf.send(&request, &call, slot),
            Line::Storage(request, length) => {
                let value = Value::Slice(&text.as_bytes()[consumed..consumed + length]);
                leaf.send(&Request { value, ..request }, &call, slot);
            }
            Line::MultiGet(keys) => leaf.send_multi(&keys, &call, slot),
            Line::Admin(Admin::FlushAll { delay, .. }) => leaf.flush_all(delay, slot),
            other => panic!("{other:?}"),
        }
    }

    /// The next connection that was made, once it has proved itself to be a memcached's.
    async fn accept(&self, version: &str) -> Server {
        settle().await;
        let mut server = Server(self.calls.borrow_mut().remove(0));
        server.expect("version|").await;
        server.say(&format!("VERSION {version}|"));
        settle().await;
        server
    }

    /// What was told since this was last asked, once nothing more comes without the clock.
    async fn told(&self) -> Vec<(u64, String)> {
        settle().await;
        self.told.list.take()
    }

    async fn expect(&self, told: &[(u64, &str)]) {
        let told: Vec<_> = told.iter().map(|(token, text)| (*token, (*text).to_owned())).collect();
        assert_eq!(self.told().await, told);
    }

    fn count(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        counter(&self.shared.counters).value()
    }

    /// How many connections wait to be accepted.
    fn calls(&self) -> usize {
        self.calls.borrow().len()
    }
}

/// The server's end of a connection.
struct Server(DuplexStream);

impl Server {
    /// What has come, all of it.
    async fn heard(&mut self) -> String {
        settle().await;
        let mut bytes = vec![0; 1 << 20];
        let mut buf = ReadBuf::new(&mut bytes);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = std::pin::Pin::new(&mut self.0).poll_read(&mut cx, &mut buf); // perhaps there is nothing
        String::from_utf8_lossy(buf.filled()).replace("\r\n", "|")
    }

    async fn expect(&mut self, text: &str) {
        assert_eq!(self.heard().await, text);
    }

    /// Says this, `|` for a line end.
    fn say(&mut self, text: &str) {
        let bytes = text.replace('|', "\r\n").into_bytes();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let said = std::pin::Pin::new(&mut self.0);
        let said = said.poll_write(&mut cx, &bytes);
        assert!(matches!(said, std::task::Poll::Ready(Ok(count)) if count == bytes.len()), "there is room");
    }

    /// Whether the other side has closed.
    async fn is_closed(&mut self) -> bool {
        self.heard().await; // what came before its end
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(1), self.0.read(&mut byte)).await;
        matches!(read, Ok(Ok(0)))
    }
}

const CLOSED: &str = "SERVER_ERROR Connection closed by the server.";
const DESYNC: &str = "SERVER_ERROR Received unexpected data from the server.";
const LATE: &str = "SERVER_ERROR Reply timeout";
const REFUSED: &str = "SERVER_ERROR connection error: connection refused";
const OUT_SLOW: &str = "SERVER_ERROR Server unavailable. Reason: mc_res_timeout";
const OUT_REFUSED: &str = "SERVER_ERROR Server unavailable. Reason: mc_res_connect_error";

#[test]
fn what_is_asked_before_there_is_a_connection_leaves_with_it() {
    run(async {
        let stand = Stand::new("");
        assert_eq!(stand.calls(), 0, "nobody has asked anything");
        stand.ask(1, "get a");
        stand.ask(2, "set b 5 0 1|x");
        stand.ask(3, "flush_all 7");
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|set b 5 0 1|x|flush_all 7|").await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 3);
        server.say("VALUE a 0 3|foo|END|STORED|OK|");
        stand.expect(&[(1, "VALUE a 0 3+3"), (2, "STORED"), (3, "OK")]).await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        assert_eq!(stand.count(|c| &c.server_connects), 1);
        assert_eq!(stand.count(|c| &c.server_connections), 1);
        assert_eq!(stand.count(|c| &c.server_bytes_written), 36);
        assert_eq!(stand.count(|c| &c.server_bytes_read), 35);
        assert_eq!(stand.calls(), 0, "one connection is enough");
        stand.ask(4, "flush_all -1");
        server.expect("flush_all 0|").await;
    });
}

#[test]
fn meta_requests_are_known_by_their_opaques() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "mg a v");
        stand.ask(2, "mg b Omine v");
        stand.ask(3, "me c");
        stand.ask(4, "ms d 2|xx");
        let mut server = stand.accept(MODERN).await;
        server.expect("mg a v O0|mg b Omine v|me c|ms d 2 O1|xx|").await;
        server.say("VA 1 O0|x|EN|me c exp=-1|HD O1|");
        stand.expect(&[(1, "VA 1+1"), (2, DESYNC), (3, DESYNC), (4, DESYNC)]).await;
        assert_eq!(stand.count(|c| &c.desync_detected), 1, "EN without the opaque that is due");
        stand.ask(5, "mg b Omine");
        stand.ask(6, "me Zm9v b");
        stand.ask(7, "me c");
        stand.ask(8, "ma e");
        let mut server = stand.accept(MODERN).await;
        server.expect("mg b Omine|me Zm9v b|me c|ma e O2|").await;
        server.say("HD Omine|ME Zm9v exp=-1|ME other exp=-1|");
        stand.expect(&[(5, "HD Omine"), (6, "ME Zm9v exp=-1"), (7, DESYNC), (8, DESYNC)]).await;
    });
}

#[test]
fn several_keys_are_told_one_by_one() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "gets a b c d");
        stand.ask(2, "gats 60 a b");
        let mut server = stand.accept(MODERN).await;
        server.expect("gets a b c d|gats 60 a b|").await;
        let large = "x".repeat(20_000);
        server.say(&format!("VALUE b 0 3 9|foo|VALUE d 1 20000 10|{large}|EN"));
        stand.expect(&[(1, "1: VALUE b 0 3 9+3"), (1, "3: VALUE d 1 20000 10+20000")]).await;
        server.say("D|VALUE b 0 1 4|y|END|");
        stand.expect(&[(1, ""), (2, "1: VALUE b 0 1 4+1"), (2, "")]).await;
        // more keys than are kept with the other lines
        let keys: String = (0..3_000).map(|n| format!(" key{n}")).collect();
        stand.ask(3, &format!("get{keys}"));
        server.expect(&format!("get{keys}|")).await;
        server.say("VALUE key2999 0 1|z|END|");
        stand.expect(&[(3, "2999: VALUE key2999 0 1+1"), (3, "")]).await;
        assert_eq!(stand.count(|c| &c.buffer_bytes), 0);
    });
}

#[test]
fn a_value_may_come_in_any_number_of_pieces() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "get small");
        stand.ask(2, "get large");
        stand.ask(3, "mg large v");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        let large = "x".repeat(16_384);
        let all = format!("VALUE small 0 3|foo|END|VALUE large 0 16384|{large}|END|VA 16384 O0|{large}|");
        let all = all.replace('|', "\r\n");
        for piece in all.as_bytes().chunks(700) {
            server.say(std::str::from_utf8(piece).unwrap());
            settle().await;
        }
        let expected = [(1, "VALUE small 0 3+3"), (2, "VALUE large 0 16384+16384"), (3, "VA 16384+16384")];
        stand.expect(&expected).await;
        assert_eq!(stand.count(|c| &c.buffer_bytes), 0, "nothing is kept");
    });
}

#[test]
fn a_request_that_has_waited_long_enough_is_answered_and_its_reply_thrown_away() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|").await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.ask(2, "get b");
        stand.expect(&[]).await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.expect(&[(1, LATE)]).await;
        assert_eq!(stand.count(|c| &c.server_timeouts), 1);
        server.say("VALUE a 0 3|old|END|VALUE b 0 3|new|END|");
        stand.expect(&[(2, "VALUE b 0 3+3")]).await;
        assert_eq!(stand.count(|c| &c.server_late), 1);
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        assert_eq!(stand.count(|c| &c.server_closed), 0);
    });
}

#[test]
fn a_server_that_is_silent_loses_its_connection() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        tokio::time::sleep(TIMEOUT * 3).await;
        tokio::time::sleep(TIMEOUT).await;
        assert!(!server.is_closed().await, "it may still come");
        time_out().await;
        assert!(server.is_closed().await, "three timeouts after its own");
        assert_eq!(stand.count(|c| &c.server_closed), 1);
        assert_eq!(stand.count(|c| &c.server_connections), 0);
        stand.expect(&[(1, LATE)]).await;
        assert_eq!(stand.calls(), 0, "there is nothing to ask");
    });
}

#[test]
fn a_late_reply_is_waited_for_while_others_come() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.ask(1, "get a b");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        for _ in 0..8 {
            tokio::time::sleep(TIMEOUT - Duration::from_millis(10)).await;
            server.say("VALUE a 0 1|x|VALUE b 0 ");
            settle().await;
            server.say("1|x|END|");
            stand.ask(2, "get a b");
        }
        let told = stand.told().await;
        assert!(told.iter().all(|(_, text)| !text.starts_with("SERVER_ERROR")), "{told:?}");
        assert!(!server.is_closed().await);
    });
}

#[test]
fn too_many_late_replies_end_the_connection() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.shared.late_count_max.set(3);
        for token in 1..=3 {
            stand.ask(token, "get a");
        }
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        time_out().await;
        stand.expect(&[(1, LATE), (2, LATE), (3, LATE)]).await;
        assert!(!server.is_closed().await, "as many as may be");
        stand.ask(4, "set a 0 0 1|x");
        time_out().await;
        stand.expect(&[(4, LATE)]).await;
        assert!(server.is_closed().await);
    });
}

#[test]
fn a_queue_that_is_full_takes_no_more() {
    run(async {
        let stand = Stand::new("outstanding_max: 2");
        for token in 1..=3 {
            stand.ask(token, "get a");
        }
        let full = "SERVER_ERROR Max pending requests (2) reached for destination \"a:1\".";
        assert_eq!(stand.told.list.take(), [(3, full.to_owned())]);
        assert_eq!(stand.count(|c| &c.server_queue_full), 1);
        let mut server = stand.accept(MODERN).await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        stand.ask(4, "get a");
        stand.expect(&[]).await;
    });
}

#[test]
fn nothing_large_is_queued_when_memory_is_short() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        let budget = &stand.shared.budget;
        budget.change(0, BUFFER_BYTES_MAX + 1);
        stand.ask(2, &format!("set a 0 0 20000|{}", "x".repeat(20_000)));
        stand.ask(3, "set a 0 0 1|x");
        stand.expect(&[(2, "SERVER_ERROR Max pending bytes reached: memory is short.")]).await;
        server.expect("get a|set a 0 0 1|x|").await;
        budget.change(BUFFER_BYTES_MAX + 1, BUFFER_BYTES_MAX * 5 / 4);
        tokio::time::sleep(TIMEOUT / 4).await;
        stand.ask(4, "get a");
        stand.expect(&[(4, "SERVER_ERROR Max pending bytes reached: memory is short.")]).await;
        assert_eq!(stand.count(|c| &c.server_queue_full), 2);
        server.say("STORED|");
        stand.expect(&[(3, "STORED")]).await;
        budget.change(BUFFER_BYTES_MAX * 5 / 4, 0);
        assert_eq!(budget.held_bytes(), 0);
    });
}

#[test]
fn what_waits_is_counted() {
    run(async {
        let stand = Stand::new("");
        let value = "x".repeat(30_000);
        stand.ask(1, &format!("set a 0 0 30000|{value}"));
        let held = stand.shared.budget.held_bytes();
        assert!((30_000..70_000).contains(&held), "{held}");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        stand.ask(2, "get a");
        server.heard().await;
        let held = stand.shared.budget.held_bytes();
        assert!((1..2_000).contains(&held), "what is sent is no longer here: {held}");
        server.say(&format!("STORED|VALUE a 0 30000|{}", &value[..20_000]));
        stand.expect(&[(1, "STORED")]).await;
        let held = stand.shared.budget.held_bytes();
        assert!((20_000..100_000).contains(&held), "what has come of a value: {held}");
        drop(server);
        stand.expect(&[(2, CLOSED)]).await;
        assert_eq!(stand.shared.budget.held_bytes(), 0);
    });
}

#[test]
fn a_large_value_for_which_there_is_no_room_is_passed_over() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "get a");
        stand.ask(2, "get b");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        let value = "x".repeat(30_000);
        stand.shared.budget.change(0, BUFFER_BYTES_MAX);
        server.say(&format!("VALUE a 0 30000|{}", &value[..20_000]));
        stand.expect(&[(1, "SERVER_ERROR out of memory writing get response")]).await;
        stand.shared.budget.change(BUFFER_BYTES_MAX, 0);
        server.say(&format!("{}|END|VALUE b 0 1|y|END|", &value[20_000..]));
        stand.expect(&[(2, "VALUE b 0 1+1")]).await;
        assert_eq!(stand.shared.budget.held_bytes(), 0);
    });
}

#[test]
fn nothing_is_kept_for_clients_that_are_gone() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        stand.told.is_deaf.set(true);
        let value = "x".repeat(30_000);
        server.say(&format!("VALUE a 0 30000|{}", &value[..20_000]));
        settle().await;
        let held = stand.shared.budget.held_bytes();
        assert!(held < 2_000, "{held}");
        stand.told.list.take();
        stand.told.is_deaf.set(false);
        stand.ask(2, "get b");
        server.say(&format!("{}|END|END|", &value[20_000..]));
        stand.expect(&[(2, "")]).await;
    });
}

#[test]
fn what_was_on_a_connection_that_is_lost_fails_and_what_was_not_goes_on_the_next() {
    run(async {
        let stand = Stand::new("on_error: miss");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|").await;
        server.say("VALUE a 0 10|half");
        settle().await;
        stand.ask(2, "get b");
        server.heard().await;
        drop(server);
        let closed = format!("{CLOSED} (a miss)");
        stand.expect(&[(1, &closed), (2, &closed)]).await;
        assert_eq!(stand.count(|c| &c.server_closed), 1);
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        assert_eq!(stand.count(|c| &c.server_resent), 0, "it had answered something");
        stand.ask(3, "get c");
        let mut server = stand.accept(MODERN).await;
        server.expect("get c|").await;
    });
}

#[test]
fn a_get_that_meets_a_closed_connection_is_sent_once_more() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        stand.ask(2, "get b");
        stand.ask(3, "set c 0 0 1|x");
        stand.ask(4, "gets d e");
        server.expect("get a|get b|set c 0 0 1|x|gets d e|").await;
        drop(server);
        stand.expect(&[(3, CLOSED)]).await;
        assert_eq!(stand.count(|c| &c.server_resent), 2);
        stand.ask(5, "get f");
        let mut server = stand.accept(MODERN).await;
        server.expect("get b|gets d e|get f|").await;
        server.say("END|");
        stand.expect(&[(2, "")]).await;
        drop(server);
        stand.expect(&[(4, CLOSED), (5, CLOSED)]).await;
        stand.ask(6, "get g");
        let server = stand.accept(MODERN).await;
        drop(server);
        settle().await;
        let server = stand.accept(MODERN).await;
        drop(server);
        stand.expect(&[(6, CLOSED)]).await;
        assert_eq!(stand.count(|c| &c.server_resent), 3, "not again and again");
    });
}

#[test]
fn who_says_what_nobody_asked_is_not_believed() {
    for (asked, said) in [
        ("", "END|"),
        ("get a", "VALUE b 0 1|x|END|"),
        ("get a", "VALUE a 0 1|x|STORED|"),
        ("get a", "VALUE a 0 1|xyz|END|"),
        ("get a", "VALUE a 0 1073741825|"),
        ("get a b", "VALUE b 0 1|x|VALUE a 0 1|x|END|"),
        ("get a", "what\n"),
        ("set a 0 0 1|x", "DELETED|"),
    ] {
        run(async {
            let stand = Stand::new("");
            let server = if asked.is_empty() {
                stand.ask(1, "get a");
                let mut server = stand.accept(MODERN).await;
                server.say("END|");
                stand.expect(&[(1, "")]).await;
                server
            } else {
                stand.ask(1, asked);
                stand.accept(MODERN).await
            };
            let mut server = server;
            server.heard().await;
            server.say(said);
            assert!(server.is_closed().await, "{said:?} to {asked:?}");
            assert_eq!(stand.count(|c| &c.desync_detected), 1, "{said:?} to {asked:?}");
            let told = stand.told().await;
            assert!(told.iter().all(|(_, text)| text == DESYNC || text.starts_with("1: ")), "{told:?}");
            assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        });
    }
}

#[test]
fn servers_that_read_lines_otherwise_are_not_asked() {
    run(async {
        let stand = Stand::new("");
        stand.ask(1, "get a");
        let mut server = stand.accept(OLD).await;
        let flags = "k v f s c t h l u x I P L N1 T1 R1 O1";
        for text in ["get a\0b", "get a\0b c", "mg a\0b v", "mg a O\0 v", &format!("ms a 1 {flags}|x")] {
            stand.ask(2, text);
            let told = stand.told.list.take();
            assert_eq!(told, [(2, "CLIENT_ERROR bad command line format".to_owned())], "{text:?}");
        }
        server.expect("get a|").await;
        stand.ask(3, &format!("ms a 1 q {}|x", &flags[2..]));
        server.expect(&format!("ms a 1 {}|x|", &flags[2..])).await;
        drop(server);
        stand.told().await;
        stand.ask(4, "get b");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        stand.ask(5, "get a\0b");
        server.expect("get a\0b|").await;
    });
}

#[test]
fn timeouts_in_a_row_knock_a_server_out_until_it_answers_a_request() {
    run(async {
        let stand = Stand::new("");
        let totals = || stand.shared.health.totals().counts();
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        stand.ask(2, "get b");
        stand.expect(&[]).await;
        let before = stand.leaves[0].changes();
        time_out().await;
        stand.expect(&[(1, LATE), (2, LATE)]).await;
        server.say("END|SERVER_ERROR busy|");
        settle().await;
        assert!(!stand.leaves[0].is_out());
        stand.ask(3, "get c");
        time_out().await;
        stand.expect(&[(3, LATE)]).await;
        assert!(stand.leaves[0].is_out(), "late answers and errors are no sign of life");
        assert_ne!(stand.leaves[0].changes(), before);
        assert_eq!((stand.count(|c| &c.server_tkos), totals()), (1, (0, 1)));
        stand.ask(4, "get d");
        assert_eq!(stand.told.list.take(), [(4, OUT_SLOW.to_owned())]);
        assert_eq!(stand.count(|c| &c.server_tko_requests), 1);
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Whoever says its version may still not answer requests.
        let mut probed = stand.accept(MODERN).await;
        probed.expect("mg __ringway_probe__|").await;
        drop(probed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(stand.leaves[0].is_out());
        assert_eq!(stand.count(|c| &c.server_connect_errors), 1);
        let mut probed = stand.accept(MODERN).await;
        probed.expect("mg __ringway_probe__|").await;
        probed.say("EN|");
        settle().await;
        assert!(!stand.leaves[0].is_out());
        assert_eq!((stand.count(|c| &c.server_probes), totals()), (2, (0, 0)));
        assert!(probed.is_closed().await, "a probe has a connection of its own");
        // The connection of the requests is still there, and so is what is late on it.
        server.say("END|");
        stand.ask(5, "get e");
        server.heard().await;
        server.say("VALUE e 0 1|x|END|");
        stand.expect(&[(5, "VALUE e 0 1+1")]).await;
    });
}

#[test]
fn an_answer_forgives_timeouts() {
    run(async {
        let stand = Stand::new("tko: {timeouts_until_tko: 2}");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        time_out().await;
        for token in 2..6 {
            server.say("END|");
            stand.ask(token, "get a");
            settle().await;
            server.say("END|");
            stand.ask(9, "get a");
            time_out().await;
        }
        assert!(!stand.leaves[0].is_out());
        assert_eq!(stand.count(|c| &c.server_timeouts), 5);
        stand.ask(10, "get a");
        time_out().await;
        stand.told().await;
        assert!(stand.leaves[0].is_out(), "two in a row");
    });
}

#[test]
fn a_server_that_refuses_connections_is_out_until_it_says_its_version() {
    run(async {
        let stand = Stand::new("");
        stand.refuses.set(true);
        stand.ask(1, "get a");
        stand.ask(2, "get b");
        stand.expect(&[(1, REFUSED), (2, REFUSED)]).await;
        assert_eq!(stand.count(|c| &c.server_connect_errors), 1);
        assert_eq!(stand.shared.health.totals().counts(), (1, 0));
        stand.ask(3, "get c");
        stand.expect(&[(3, OUT_REFUSED)]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(stand.count(|c| &c.server_probes), 1);
        stand.refuses.set(false);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _probed = stand.accept(MODERN).await;
        settle().await;
        assert!(!stand.leaves[0].is_out());
        stand.ask(4, "get d");
        let mut server = stand.accept(MODERN).await;
        server.expect("get d|").await;
    });
}

#[test]
fn pauses_between_probes_are_the_pools() {
    run(async {
        let stand = Stand::new("tko: {probe_timeout_initial: 10s, probe_timeout_max: 60s}");
        stand.refuses.set(true);
        stand.ask(1, "get a");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(stand.count(|c| &c.server_probes), 0);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(stand.count(|c| &c.server_probes), 1);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let probes = stand.count(|c| &c.server_probes);
        assert!((8..15).contains(&probes), "{probes}");
    });
}

#[test]
fn a_server_may_be_asked_whatever_it_does() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.refuses.set(true);
        for token in 1..6 {
            stand.ask(token, "get a");
            stand.expect(&[(token, REFUSED)]).await;
        }
        assert_eq!(stand.count(|c| &c.server_connect_errors), 5);
        assert_eq!((stand.count(|c| &c.server_tkos), stand.leaves[0].is_out()), (0, false));
        stand.refuses.set(false);
        stand.ask(6, "get a");
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|").await;
        assert_eq!(stand.shared.health.totals().counts(), (0, 0));
    });
}

#[test]
fn a_pool_that_is_never_out_does_not_mind_what_others_found() {
    run(async {
        let health = Arc::<Health>::default();
        let (strict, lenient) = (Stand::beside("", Arc::clone(&health)), Stand::beside("tko: off", health));
        strict.refuses.set(true);
        strict.ask(1, "get a");
        strict.expect(&[(1, REFUSED)]).await;
        assert!(strict.leaves[0].is_out() && !lenient.leaves[0].is_out());
    });
}

#[test]
fn not_too_many_servers_of_a_pool_are_out() {
    run(async {
        for (settings, both) in [("", true), ("tko: {fail_open: {upper: 50%, lower: 0}}", false)] {
            let health = Arc::<Health>::default();
            let stands = [0, 1].map(|index| Stand::of_server(index, settings, Arc::clone(&health)));
            for stand in &stands {
                stand.refuses.set(true);
                stand.ask(1, "get a");
                stand.expect(&[(1, REFUSED)]).await;
            }
            assert!(stands[0].leaves[0].is_out());
            assert_eq!(stands[1].leaves[0].is_out(), both);
        }
    });
}

#[test]
fn a_connection_that_breaks_may_knock_its_server_out() {
    run(async {
        for (settings, is_out) in [("", false), ("tko: {tko_on_disconnect: true}", true)] {
            let stand = Stand::new(settings);
            stand.ask(1, "get a");
            let mut server = stand.accept(MODERN).await;
            server.say("END|");
            stand.expect(&[(1, "")]).await;
            drop(server);
            settle().await;
            assert_eq!(stand.leaves[0].is_out(), is_out);
            assert_eq!(stand.count(|c| &c.server_tkos), u64::from(is_out));
        }
    });
}

#[test]
fn who_ends_a_connection_itself_knocks_nobody_out() {
    run(async {
        let stand = Stand::new("tko: {tko_on_disconnect: true, timeouts_until_tko: 9}");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        tokio::time::sleep(TIMEOUT * 5).await;
        assert!(server.is_closed().await);
        assert!(!stand.leaves[0].is_out(), "it was late, which is counted as that");
        stand.expect(&[(1, LATE)]).await;
    });
}

#[test]
fn the_one_who_probes_is_replaced_when_it_leaves() {
    run(async {
        let health = Arc::<Health>::default();
        let one = Stand::beside("", Arc::clone(&health));
        let other = Stand::beside("", health);
        one.refuses.set(true);
        one.ask(1, "get a");
        one.expect(&[(1, REFUSED)]).await;
        assert!(other.leaves[0].is_out(), "it is the same server");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(one.count(|c| &c.server_probes) > 0);
        assert_eq!(other.count(|c| &c.server_probes), 0);
        let probes = one.count(|c| &c.server_probes);
        drop(one.leaves);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(one.shared.counters.server_probes.value(), probes, "it is none of its any more");
        other.ask(2, "get a");
        other.expect(&[(2, OUT_REFUSED)]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _probed = other.accept(MODERN).await;
        settle().await;
        assert!(!other.leaves[0].is_out());
        assert_eq!(other.count(|c| &c.server_probes), 1);
    });
}

#[test]
fn who_asks_whether_it_is_out_has_it_probed() {
    run(async {
        let health = Arc::<Health>::default();
        let one = Stand::beside("", Arc::clone(&health));
        let other = Stand::beside("", health);
        one.refuses.set(true);
        one.ask(1, "get a");
        one.expect(&[(1, REFUSED)]).await;
        drop(one.leaves);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(other.leaves[0].is_out());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _probed = other.accept(MODERN).await;
        settle().await;
        assert!(!other.leaves[0].is_out());
    });
}

#[test]
fn a_connection_that_takes_too_long_is_given_up() {
    run(async {
        let stand = Stand::new("connect_timeout: 300ms");
        stand.ask(1, "get a");
        settle().await;
        assert_eq!(stand.calls(), 1, "it was called, and does not say its version");
        tokio::time::sleep(Duration::from_millis(300)).await;
        stand.expect(&[(1, "SERVER_ERROR connection timeout")]).await;
        stand.ask(2, "get a");
        stand.expect(&[(2, "SERVER_ERROR Server unavailable. Reason: mc_res_connect_timeout")]).await;
    });
}

#[test]
fn what_nobody_waits_for_any_more_is_not_sent() {
    run(async {
        let stand = Stand::new("connect_timeout: 3s, tko: off");
        stand.ask(1, "set a 0 0 1|x");
        time_out().await;
        stand.expect(&[(1, LATE)]).await;
        stand.ask(2, "get b");
        let mut server = stand.accept(MODERN).await;
        server.expect("get b|").await;
        server.say("END|");
        stand.expect(&[(2, "")]).await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
    });
}

#[test]
fn a_connection_ends_when_nobody_needs_it_and_all_is_answered() {
    run(async {
        let mut stand = Stand::new("");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        stand.leaves.clear();
        assert!(!server.is_closed().await);
        server.say("END|");
        assert!(server.is_closed().await);
        stand.expect(&[(1, "")]).await;
        assert_eq!(stand.count(|c| &c.server_connections), 0);
    });
    run(async {
        let mut stand = Stand::new("tko: {tko_on_disconnect: true}");
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.say("END|");
        settle().await;
        stand.leaves.clear();
        assert!(server.is_closed().await, "at once");
        assert_eq!(stand.shared.health.totals().counts(), (0, 0));
    });
    run(async {
        let mut stand = Stand::new("");
        stand.ask(1, "get a");
        stand.leaves.clear();
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|").await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        assert!(server.is_closed().await);
    });
}

#[test]
fn a_connection_can_be_made_before_it_is_needed() {
    run(async {
        let stand = Stand::new("");
        let mut warmed = stand.leaves[0].warm().expect("a server can be connected to");
        settle().await;
        assert!(warmed.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty));
        let mut server = stand.accept(MODERN).await;
        assert!(warmed.await.is_err(), "it ends with the attempt");
        stand.ask(1, "get a");
        server.expect("get a|").await;
        assert_eq!(stand.calls(), 0);
    });
    run(async {
        let stand = Stand::new("");
        stand.refuses.set(true);
        assert!(stand.leaves[0].warm().unwrap().await.is_err());
        settle().await;
        assert!(stand.leaves[0].is_out());
        assert!(stand.leaves[0].warm().unwrap().await.is_err(), "nobody knocks while it is out");
        assert_eq!(stand.count(|c| &c.server_connect_errors), 1);
    });
}

#[test]
fn a_server_with_several_connections_has_a_leaf_for_each() {
    run(async {
        let stand = Stand::new("connections: 3");
        assert_eq!(stand.leaves.len(), 3);
        let warmed: Vec<_> = stand.leaves.iter().map(|leaf| leaf.warm().unwrap()).collect();
        settle().await;
        assert_eq!(stand.calls(), 3);
        drop(warmed);
        assert_eq!(stand.leaves[2].name(), "a:1");
    });
}

#[test]
fn results_are_counted_by_their_kind() {
    run(async {
        let stats = Stats::new(1);
        let mut stand = Stand::new("tko: off, connect_timeout: 100ms");
        stand.shared.counters = stats.of(0);
        let pool = pool("tko: off, connect_timeout: 100ms, outstanding_max: 12");
        stand.leaves = Destination::of_server(&pool, &pool.servers[0], &stand.shared);
        for text in [
            "delete a",
            "touch a 0",
            "get a",
            "get a",
            "add a 0 0 1|x",
            "set a 0 0 1|x",
            "incr a 1",
            "flush_all",
            "cas a 0 0 1 7|x",
            "get a",
            "get a",
            "get a",
            "get too-many",
        ] {
            stand.ask(1, text);
        }
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        let told = &stats.servers()[0];
        assert_eq!((told.outstanding_count, told.connections_count), (12, 1));
        server.say("DELETED|TOUCHED|VALUE a 0 1|x|END|END|NOT_STORED|STORED|5|OK|EXISTS|");
        server.say("CLIENT_ERROR x|SERVER_ERROR y|");
        settle().await;
        drop(server);
        settle().await;
        stand.refuses.set(true);
        stand.ask(1, "get a");
        settle().await;
        stand.refuses.set(false);
        stand.ask(1, "get a");
        tokio::time::sleep(Duration::from_millis(200)).await;
        stand.calls.borrow_mut().clear();
        stand.ask(1, "get a");
        let mut server = stand.accept(MODERN).await;
        server.heard().await;
        time_out().await;
        let told = stats.servers().remove(0);
        let of = |name: &str| told.results[crate::stats::RESULTS.iter().position(|r| *r == name).unwrap()];
        let all: Vec<(&str, u64)> = crate::stats::RESULTS
            .iter()
            .map(|name| (*name, of(name)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            all,
            [
                ("deleted", 1),
                ("touched", 1),
                ("found", 1),
                ("notfound", 1),
                ("notstored", 1),
                ("stored", 2),
                ("ok", 1),
                ("exists", 1),
                ("timeout", 1),
                ("connect_timeout", 1),
                ("connect_error", 1),
                ("busy", 1),
                ("client_error", 1),
                ("remote_error", 2),
            ]
        );
        assert_eq!(told.last_failure, Some("timeout"));
        assert_eq!(told.outstanding_count, 1, "its reply has not come");
    });
}

/// Expected of a value that is large.
const MUCH: usize = 300_000;

#[test]
fn what_moves_much_lets_others_pass() {
    run(async {
        let stand = Stand::new("");
        for token in 1..=4 {
            stand.ask_much(token, &format!("get large{token}"), MUCH);
        }
        stand.ask(5, "get small");
        stand.ask(6, "get a b");
        let mut server = stand.accept(MODERN).await;
        server.expect("get large1|get large2|get small|get a b|").await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 6);
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        server.expect("get large3|").await;
        stand.ask_much(7, "set a 0 0 1|x", 1);
        server.say("END|END|END|");
        stand.expect(&[(2, ""), (5, ""), (6, "")]).await;
        server.expect("get large4|").await;
        server.say("END|");
        server.expect("set a 0 0 1|x|").await;
        server.say("END|STORED|");
        stand.expect(&[(3, ""), (4, ""), (7, "STORED")]).await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        assert_eq!(stand.shared.budget.held_bytes(), 0);
    });
}

#[test]
fn one_that_moves_more_than_may_be_goes_alone() {
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get a", 1 << 30);
        stand.ask_much(2, "get b c", 1 << 30);
        let mut server = stand.accept(MODERN).await;
        server.expect("get a|").await;
        server.say("END|");
        server.expect("get b c|").await;
        server.say("VALUE c 0 1|x|END|");
        stand.expect(&[(1, ""), (2, "1: VALUE c 0 1+1"), (2, "")]).await;
    });
}

#[test]
fn for_one_key_a_connection_stays_a_queue() {
    let large = format!("set k 0 0 20000|{}", "x".repeat(20_000));
    for (then, waits) in [
        ("get k", true),
        ("delete k", true),
        ("get j k l", true),
        ("mg k", true),
        ("flush_all", true),
        ("get j", false),
        ("get i j", false),
    ] {
        run(async {
            let stand = Stand::new("");
            stand.ask_much(1, "get first", 1 << 30);
            stand.ask_much(2, "get read", 1);
            stand.ask_much(3, &large, 1);
            stand.ask(4, "get read");
            stand.ask(5, then);
            let mut server = stand.accept(MODERN).await;
            let passed = if waits { String::new() } else { format!("{then}|") };
            server.expect(&format!("get first|get read|{passed}")).await;
            server.say("END|END|");
            let heard = server.heard().await.replace(" O0", "").replace("flush_all 0", "flush_all");
            let behind = if waits { format!("{then}|") } else { String::new() };
            assert_eq!(heard, format!("get read|{large}|{behind}"));
            // and nothing of it is remembered
            stand.ask_much(6, "get first", 1 << 30);
            stand.ask_much(7, "get read", 1);
            stand.ask(8, "get k");
            server.expect("get first|get k|").await;
        });
    }
}

#[test]
fn what_waits_for_its_turn_has_its_time_too() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.ask_much(1, "get first", 1 << 30);
        let mut server = stand.accept(MODERN).await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.ask_much(2, "get a", 1);
        stand.ask_much(3, "set b 0 0 1|x", 1);
        time_out().await;
        stand.expect(&[(1, LATE), (2, LATE), (3, LATE)]).await;
        assert_eq!(stand.count(|c| &c.server_timeouts), 3);
        stand.ask_much(4, "get c", 1);
        server.expect("get first|").await;
        server.say("END|");
        server.expect("get c|").await;
        server.say("END|");
        stand.expect(&[(4, "")]).await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        assert_eq!(stand.shared.budget.held_bytes(), 0);
    });
}

#[test]
fn what_is_read_for_nobody_is_not_asked() {
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "get a", 1);
        stand.ask_much(3, "set b 0 0 1|x", 1);
        let mut server = stand.accept(MODERN).await;
        server.expect("get first|").await;
        stand.told.is_deaf.set(true);
        server.say("END|");
        server.expect("set b 0 0 1|x|").await;
        server.say("STORED|");
        stand.expect(&[(1, ""), (2, "SERVER_ERROR aborted"), (3, "STORED")]).await;
        assert_eq!(stand.count(|c| &c.server_outstanding), 0);
        assert_eq!(stand.shared.budget.held_bytes(), 0);
    });
}

#[test]
fn what_waits_for_its_turn_survives_the_connection() {
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, &format!("set b 0 0 20000|{}", "x".repeat(20_000)), 1);
        stand.ask_much(3, &format!("get{}", " key".repeat(5_000)), 1);
        let mut server = stand.accept(MODERN).await;
        server.expect("get first|").await;
        server.say("VALUE first 0 5|x");
        drop(server);
        stand.expect(&[(1, CLOSED)]).await;
        let mut server = stand.accept(MODERN).await;
        let expected = format!("set b 0 0 20000|{}|get{}|", "x".repeat(20_000), " key".repeat(5_000));
        server.expect(&expected).await;
        server.say("STORED|");
        drop(server);
        stand.expect(&[(2, "STORED"), (3, CLOSED)]).await;
    });
    run(async {
        let stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "set b 0 0 1|x", 1);
        stand.refuses.set(true);
        stand.expect(&[(1, REFUSED), (2, REFUSED)]).await;
        assert_eq!(stand.shared.budget.held_bytes(), 0);
    });
    run(async {
        let mut stand = Stand::new("");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "get second", 1);
        stand.leaves.clear();
        let mut server = stand.accept(MODERN).await;
        server.say("END|");
        server.expect("get first|get second|").await;
        server.say("END|");
        stand.expect(&[(1, ""), (2, "")]).await;
        assert!(server.is_closed().await);
    });
}

#[test]
fn the_queue_is_as_long_with_those_that_wait() {
    run(async {
        let stand = Stand::new("outstanding_max: 2");
        stand.ask_much(1, "get first", 1 << 30);
        stand.ask_much(2, "get second", 1);
        stand.ask(3, "get third");
        assert_eq!(stand.told.list.take().len(), 1);
    });
}

#[test]
fn who_has_waited_for_its_turn_has_no_more_time_than_others() {
    run(async {
        let stand = Stand::new("tko: off");
        stand.ask_much(1, "get first", 1 << 30);
        let mut server = stand.accept(MODERN).await;
        tokio::time::sleep(TIMEOUT / 10).await;
        stand.ask_much(2, "get large", 1);
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.ask(3, "get small");
        server.expect("get first|get small|").await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        server.expect("get large|").await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.expect(&[(2, LATE)]).await;
        tokio::time::sleep(TIMEOUT / 2).await;
        stand.expect(&[(3, LATE)]).await;
        server.say("END|END|");
        stand.ask(4, "get small");
        settle().await;
        server.say("END|");
        stand.expect(&[(4, "")]).await;
    });
}
