//! A connection and what becomes of its requests, over a pipe: the test is the server, and moves the clock.

mod bulk;
mod health;
mod life;
mod replies;

use super::{Destination, Dial, Shared};
use crate::config::{Pool, from_text};
use crate::health::Health;
use crate::net::{Budget, ReadBlock};
use crate::protocol::ascii::{Framed, Scratch, frame, parse_request};
use crate::protocol::{Admin, Line, Reply, Request, Value, Values};
use crate::route::{Call, Leaf, Moves, Sink, Slot};
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

const CLOSED: &str = "SERVER_ERROR Connection closed by the server.";
const DESYNC: &str = "SERVER_ERROR Received unexpected data from the server.";
const LATE: &str = "SERVER_ERROR Reply timeout";
const REFUSED: &str = "SERVER_ERROR connection error: connection refused";
const OUT_SLOW: &str = "SERVER_ERROR Server unavailable. Reason: mc_res_timeout";
const OUT_REFUSED: &str = "SERVER_ERROR Server unavailable. Reason: mc_res_connect_error";

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

    /// With a connection on which these are asked, one after the other, numbered from 1.
    async fn asked(settings: &str, questions: &[&str]) -> (Self, Server) {
        let stand = Self::new(settings);
        (1..).zip(questions).for_each(|(token, text)| stand.ask(token, text));
        let server = stand.accept(MODERN).await;
        (stand, server)
    }

    /// With a connection that has answered `get a` and has nothing to do.
    async fn idle(settings: &str) -> (Self, Server) {
        let (stand, mut server) = Self::asked(settings, &["get a"]).await;
        server.say("END|");
        stand.expect(&[(1, "")]).await;
        (stand, server)
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
            first_replies: Rc::default(),
        };
        Destination::expect_servers(&pool, &shared);
        let leaves = Destination::of_server(&pool, &pool.servers[index], &shared);
        Self { shared, leaves, told: Rc::default(), calls, refuses }
    }

    /// Sends what a client would write, `|` for a line end.
    fn ask(&self, token: u64, text: &str) {
        self.ask_as(token, text, Moves::Little);
    }

    /// The same of one that is expected to move so many bytes.
    fn ask_much(&self, token: u64, text: &str, bytes: usize) {
        self.ask_as(token, text, Moves::Much(bytes));
    }

    /// The same, and nobody wants to know what comes of it.
    fn ask_for_nobody(&self, text: &str) {
        self.send(text, Moves::Little, Slot::nowhere());
    }

    fn ask_as(&self, token: u64, text: &str, moves: Moves) {
        self.send(text, moves, Slot::new(Rc::clone(&self.told) as Rc<dyn Sink>, token));
    }

    fn send(&self, text: &str, moves: Moves, slot: Slot) {
        let call = Call { moves, ..Call::default() };
        let text = text.replace('|', "\r\n") + "\r\n";
        let Framed::Line { line, consumed } = frame(text.as_bytes(), 0) else { panic!("no line: {text}") };
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

    /// Nothing is under way, and nothing is held for anybody.
    fn expect_nothing_left(&self) {
        assert_eq!(self.count(|c| &c.server_outstanding), 0);
        assert_eq!(self.shared.budget.held_bytes(), 0);
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
