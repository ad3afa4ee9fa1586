//! What only a clock that is moved can show: the program runs inside the test, over pipes.

use crate::support::room::{self, Pipe, Room};
use ringway::config::{Pool, Settings};
use ringway::upstream::Dial;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::time::{Duration, advance};

/// The connections that were made to the only server.
type Dialled = Rc<RefCell<Vec<Pipe>>>;

/// A room before a server that says its version and then what the test says.
fn room_before_one(settings: &Settings) -> (Room, Dialled) {
    let text = "pools: {main: {servers: [\"127.0.0.1:1\"], timeout: 100ms}}\nroute: main\n";
    let (config, _) = ringway::config::from_text("test", text, ringway::route::check).unwrap();
    let pool: &Pool = &config.pools[0];
    let dialled = Dialled::default();
    let held = Rc::clone(&dialled);
    let dial = Dial::Memory(Rc::new(move |_| {
        let (mut near, far) = Pipe::pair(1 << 16);
        near.send(b"VERSION 1.6.45\r\n");
        held.borrow_mut().push(near);
        Ok(far)
    }));
    (Room::before(settings, pool, dial), dialled)
}

/// The same, and so many bytes for all buffers.
fn room_with(buffer_bytes_max: usize) -> (Room, Dialled) {
    let mut settings = Settings::default();
    settings.limits.buffer_bytes_max = buffer_bytes_max;
    room_before_one(&settings)
}

fn taken(client: &mut Pipe) -> String {
    let mut bytes = Vec::new();
    client.receive(usize::MAX, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

const TIMEOUT: &str = "SERVER_ERROR Reply timeout\r\n";

#[test]
fn a_request_behind_a_late_reply_has_no_more_than_its_own_time() {
    for late_reply_comes in [false, true] {
        room::run(async {
            let (room, server) = room_before_one(&Settings::default());
            let mut client = room.connect(1 << 16);
            client.send(b"get a\r\n");
            room.settle().await;
            advance(Duration::from_millis(102)).await;
            room.settle().await;
            assert_eq!(taken(&mut client), TIMEOUT);
            if late_reply_comes {
                server.borrow_mut()[0].send(b"END\r\n");
                room.settle().await;
            }
            client.send(b"get b\r\n");
            room.settle().await;
            advance(Duration::from_millis(102)).await;
            room.settle().await;
            assert_eq!(taken(&mut client), TIMEOUT, "the late reply came: {late_reply_comes}");
        });
    }
}

#[test]
fn who_waits_for_an_answer_may_ask_more_before_it_has_to_leave() {
    room::run(async {
        let (room, server) = room_before_one(&Settings::default());
        let (mut idle, mut client) = (room.connect(1 << 16), room.connect(1 << 16));
        client.send(b"get a\r\n");
        room.settle().await;
        room.context.ask_to_leave(2);
        room.settle().await;
        assert!(idle.is_closed() && !client.is_closed());
        client.send(b"get b\r\n");
        room.settle().await;
        server.borrow_mut()[0].send(b"END\r\n");
        room.settle().await;
        assert_eq!(taken(&mut client), "END\r\n");
        assert!(!client.is_closed());
        client.send(b"set c 0 0 1 noreply\r\nx\r\n");
        server.borrow_mut()[0].send(b"END\r\n");
        room.settle().await;
        assert_eq!(taken(&mut client), "END\r\n");
        assert!(!client.is_closed());
        server.borrow_mut()[0].send(b"STORED\r\n");
        room.settle().await;
        assert!(client.is_closed(), "nothing is under way, though nothing was to be said");
    });
}

#[test]
fn who_is_closed_for_want_of_memory_is_told_nothing_more() {
    room::run(async {
        let (room, _server) = room_with(5_000);
        let mut client = room.connect(1 << 16);
        // The replies to the first are too much when the get asks for room: what follows it has no place to be told in.
        client.send(&[&b"version\r\n".repeat(1_000)[..], b"get b\r\nwhat is this\r\n"].concat());
        room.settle().await;
        assert_eq!(room.counters.slow_clients_closed.value(), 1);
        assert_eq!(taken(&mut client), "");
    });
}

#[test]
fn who_holds_little_stays_when_others_send_more_than_servers_take() {
    room::run(async {
        let (room, server) = room_with(1_000_000);
        let mut small = room.connect(1 << 16);
        small.send(&[&b"get a\r\n"[..], &b"version\r\n".repeat(200)].concat());
        room.settle().await;
        // each comes with one read, so that nobody has a half-read one
        let mut large: Vec<Pipe> = (0..20).map(|_| room.connect(1 << 16)).collect();
        for client in &mut large {
            client.send(&[&b"set large 0 0 60000\r\n"[..], &[b'l'; 60_000], b"\r\n"].concat());
            room.settle().await;
        }
        assert!(room.counters.client_errors.value() > 0, "more is sent than fits");
        assert_eq!(room.counters.slow_clients_closed.value(), 0, "nobody's end would have made room");
        let (mut asked, mut before) = (Vec::new(), 1);
        while asked.len() != std::mem::replace(&mut before, asked.len()) {
            server.borrow_mut()[0].receive(usize::MAX, &mut asked);
            room.settle().await;
        }
        let count = |word| String::from_utf8_lossy(&asked).matches(word).count();
        let (stored, deleted) =
            (b"STORED\r\n".repeat(count("set large")), b"DELETED\r\n".repeat(count("delete large")));
        server.borrow_mut()[0].send(&[&b"END\r\n"[..], &stored, &deleted].concat());
        room.settle().await;
        let told = taken(&mut small);
        assert!(told.starts_with("END\r\nVERSION ") && told.matches("VERSION").count() == 200, "{told}");
    });
}

#[test]
fn who_holds_little_stays_when_that_of_one_who_holds_much_is_not_enough() {
    room::run(async {
        let (room, _server) = room_with(1_000_000);
        let mut small = room.connect(1 << 16);
        small.send(&[&b"get a\r\n"[..], &b"version\r\n".repeat(2_000)].concat());
        room.settle().await;
        // an eighth is always made free: what servers have not taken leaves less than that, but for what this one holds
        let mut sets = Vec::new();
        while room.counters.buffer_bytes.value() < 890_000 {
            let mut client = room.connect(1 << 16);
            client.send(&[&b"set large 0 0 9000\r\n"[..], &[b'l'; 9_000], b"\r\n"].concat());
            sets.push(client);
            room.settle().await;
        }
        let mut half = room.connect(1 << 16);
        half.send(b"set half 0 0 500000\r\n");
        while room.counters.slow_clients_closed.value() == 0 {
            assert!(room.counters.buffer_bytes.value() <= 1_000_000);
            half.send(&[b'h'; 30_000]);
            room.settle().await;
        }
        assert_eq!(room.counters.slow_clients_closed.value(), 1);
        advance(Duration::from_millis(102)).await;
        room.settle().await;
        let told = taken(&mut small);
        assert!(told.starts_with(TIMEOUT) && told.matches("VERSION").count() == 2_000, "{told}");
    });
}
