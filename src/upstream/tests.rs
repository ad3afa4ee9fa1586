//! Replies find their requests, or the connection ends: the pairing alone, without a socket.

use super::bulk::Bulk;
use super::inflight::{Asked, Check, Entry, Inflight, New, Verdict};
use crate::protocol::{Op, Reply, Status, Values};
use crate::route::{Sink, Slot};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Default)]
struct Waiting(RefCell<Vec<(u64, Status)>>);

impl Sink for Waiting {
    fn is_waiting(&self) -> bool {
        true
    }

    fn hit(&self, _token: u64, _index: usize, _reply: &Reply<'_>) {}

    fn fill(&self, token: u64, reply: &Reply<'_>) {
        self.0.borrow_mut().push((token, reply.status));
    }
}

fn slot(waiting: &Rc<Waiting>, token: u64) -> Slot {
    Slot::new(Rc::clone(waiting) as Rc<dyn Sink>, token)
}

fn request(op: Op, line: &'static str, check: Check, deadline: Instant) -> New<'static> {
    New {
        asked: Asked::One(op),
        check,
        deadline,
        resent: false,
        repeatable: op == Op::Get,
        line: line.as_bytes(),
        shared: None,
        size: 10,
        bulk_bytes: 0,
        unknown_keys: 0,
        waited: false,
    }
}

fn get(key_line: &'static str) -> New<'static> {
    request(Op::Get, key_line, Check::Keys { start: 4 }, Instant::now())
}

/// One request in flight and what a line means for it.
fn verdict(new: New<'static>, line: &str) -> Verdict {
    let waiting = Rc::new(Waiting::default());
    let mut inflight = Inflight::default();
    inflight.push(new, slot(&waiting, 1));
    inflight.on_written(10);
    inflight.judge(line.as_bytes())
}

#[test]
fn classic_replies_are_judged_by_what_was_asked() {
    let value = Verdict::Value { length: 3, index: 0 };
    assert_eq!(verdict(get("get a"), "VALUE a 0 3"), value);
    assert_eq!(verdict(get("get a"), "VALUE b 0 3"), Verdict::Desync, "another key");
    assert_eq!(verdict(get("get a"), "VALUE a 0 3 7"), Verdict::Desync, "a cas that was not asked for");
    assert_eq!(verdict(get("get a"), "VALUE a 0 03"), Verdict::Desync, "no server writes numbers so");
    assert_eq!(verdict(get("get a"), "END"), Verdict::Done(Status::Miss));
    assert_eq!(verdict(get("get a"), "STORED"), Verdict::Desync);
    assert_eq!(verdict(get("get a"), "SERVER_ERROR x"), Verdict::Done(Status::ErrorLine));
    let now = Instant::now();
    let of = |op, line: &str| verdict(request(op, "", Check::Kind, now), line);
    assert_eq!(of(Op::Set, "STORED"), Verdict::Done(Status::Stored));
    assert_eq!(of(Op::Set, "EXISTS"), Verdict::Desync, "only cas can meet another version");
    assert_eq!(of(Op::Cas, "EXISTS"), Verdict::Done(Status::Exists));
    assert_eq!(of(Op::Incr, "18446744073709551615"), Verdict::Done(Status::Number));
    assert_eq!(of(Op::Incr, "18446744073709551616"), Verdict::Desync, "no 64-bit number");
    assert_eq!(of(Op::Delete, "DELETED"), Verdict::Done(Status::Deleted));
    assert_eq!(of(Op::Delete, "TOUCHED"), Verdict::Desync);
    assert_eq!(of(Op::Touch, "TOUCHED"), Verdict::Done(Status::Touched));
    for op in [Op::Cas, Op::Incr, Op::Decr, Op::Delete, Op::Touch] {
        assert_eq!(of(op, "NOT_FOUND"), Verdict::Done(Status::NotFound), "{op:?}");
    }
    assert_eq!(of(Op::Set, "NOT_FOUND"), Verdict::Desync, "a set needs nothing that is there");
}

#[test]
fn meta_replies_carry_the_opaque_that_is_due() {
    let now = Instant::now();
    let own = || request(Op::MetaGet, "", Check::OwnOpaque(7), now);
    assert_eq!(verdict(own(), "HD O7"), Verdict::Done(Status::Hit));
    assert_eq!(verdict(own(), "EN O7"), Verdict::Done(Status::Miss));
    assert_eq!(verdict(own(), "HD O8"), Verdict::Desync);
    assert_eq!(verdict(own(), "HD"), Verdict::Desync);
    assert_eq!(verdict(own(), "VA 5 O7"), Verdict::Value { length: 5, index: 0 });
    assert_eq!(verdict(own(), "CLIENT_ERROR bad token"), Verdict::Done(Status::ErrorLine));
    let given = || request(Op::MetaSet, "abc", Check::Opaque { start: 0 }, now);
    assert_eq!(verdict(given(), "HD Oabc"), Verdict::Done(Status::Stored));
    assert_eq!(verdict(given(), "NS Oabc"), Verdict::Done(Status::NotStored));
    assert_eq!(verdict(given(), "HD Oabd"), Verdict::Desync);
}

#[test]
fn meta_replies_are_judged_by_what_was_asked() {
    let of = |op, line: &str| verdict(request(op, "k", Check::Keys { start: 0 }, Instant::now()), line);
    let changes = [Op::MetaSet, Op::MetaDelete, Op::MetaArithmetic];
    for (op, status) in changes.into_iter().zip([Status::Stored, Status::Deleted, Status::Number]) {
        assert_eq!(of(op, "HD"), Verdict::Done(status), "{op:?}");
        assert_eq!(of(op, "NF"), Verdict::Done(Status::NotFound), "{op:?}");
        assert_eq!(of(op, "NS"), Verdict::Done(Status::NotStored), "{op:?}");
        assert_eq!(of(op, "EX"), Verdict::Done(Status::Exists), "{op:?}");
        assert_eq!(of(op, "EN"), Verdict::Desync, "{op:?}");
    }
    assert_eq!(of(Op::MetaArithmetic, "VA 2"), Verdict::Value { length: 2, index: 0 });
    assert_eq!(of(Op::MetaSet, "VA 2"), Verdict::Desync);
    assert_eq!(of(Op::MetaGet, "NF"), Verdict::Desync);
    assert_eq!(of(Op::MetaDebug, "ME k size=1"), Verdict::Done(Status::Hit));
    assert_eq!(of(Op::MetaDebug, "ME j size=1"), Verdict::Desync, "another key");
    assert_eq!(of(Op::MetaDebug, "EN"), Verdict::Done(Status::Miss), "it names no key");
}

#[test]
fn a_connection_is_behind_while_the_oldest_that_was_sent_is_overdue() {
    let waiting = Rc::new(Waiting::default());
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let expire = |inflight: &mut Inflight| inflight.expire(now, |_, _, _| {});
    let mut inflight = Inflight::default();
    inflight.push(request(Op::Get, "get a", Check::Kind, now), slot(&waiting, 1));
    inflight.push(request(Op::Get, "get b", Check::Kind, later), slot(&waiting, 2));
    expire(&mut inflight);
    assert!(!inflight.is_behind(), "it has not been sent");
    inflight.on_written(20);
    assert!(inflight.is_behind());
    inflight.pop();
    assert!(!inflight.is_behind());
    inflight.give_up_front();
    assert!(!inflight.is_behind(), "it came in time");

    let mut inflight = Inflight::default();
    inflight.push(New { waited: true, ..request(Op::Get, "get a", Check::Kind, now) }, slot(&waiting, 3));
    inflight.on_written(10);
    expire(&mut inflight);
    assert!(!inflight.is_behind(), "it came late");
}

#[test]
fn a_multi_get_counts_off_the_keys_that_miss() {
    let waiting = Rc::new(Waiting::default());
    let mut inflight = Inflight::default();
    let new = New { asked: Asked::Multi(Op::Get), ..get("get a b c a") };
    inflight.push(new, slot(&waiting, 1));
    inflight.on_written(10);
    assert_eq!(inflight.judge(b"VALUE b 0 1"), Verdict::Value { length: 1, index: 1 });
    let again = inflight.judge(b"VALUE b 0 1");
    assert_eq!(again, Verdict::Value { length: 1, index: 1 }, "its value was not whole yet");
    inflight.count_off();
    assert_eq!(inflight.judge(b"VALUE a 0 1"), Verdict::Value { length: 1, index: 3 }, "the second a");
    inflight.count_off();
    assert_eq!(inflight.judge(b"VALUE c 0 1"), Verdict::Desync, "c was before it");
    assert_eq!(inflight.judge(b"VALUE a 0 1 5"), Verdict::Desync, "a cas that was not asked for");
    assert_eq!(inflight.judge(b"STORED"), Verdict::Desync);
    assert_eq!(inflight.judge(b"SERVER_ERROR x"), Verdict::Done(Status::ErrorLine));
    let mut with_cas = multi_get(Op::Gets, "get a b");
    assert_eq!(with_cas.judge(b"VALUE b 0 1"), Verdict::Desync, "no cas");
    assert_eq!(with_cas.judge(b"VALUE b 0 1 5"), Verdict::Value { length: 1, index: 1 });
    assert_eq!(with_cas.judge(b"END"), Verdict::Done(Status::Ok));
}

#[test]
fn long_lines_are_kept_beside_the_others() {
    let waiting = Rc::new(Waiting::default());
    let long = |line: &'static str| {
        let shared = Some(bytes::Bytes::from_static(line.as_bytes()));
        New { asked: Asked::Multi(Op::Get), shared, ..get(line) }
    };
    let queue = |requests: Vec<New<'static>>| {
        let mut inflight = Inflight::default();
        for (number, new) in (1..).zip(requests) {
            inflight.push(new, slot(&waiting, number));
        }
        inflight
    };
    let mut inflight = queue(vec![long("get e f"), get("get g"), long("get h i")]);
    // what was sent on a connection that is lost goes in front
    inflight.prepend(queue(vec![get("get a"), long("get b c"), get("get d")]));
    inflight.on_written(60);
    for (reply, index) in [("a", 0), ("c", 1), ("d", 0), ("f", 1), ("g", 0), ("h", 0)] {
        let verdict = inflight.judge(format!("VALUE {reply} 0 1").as_bytes());
        assert_eq!(verdict, Verdict::Value { length: 1, index }, "{reply}");
        inflight.pop();
    }
    assert_eq!((inflight.len(), inflight.held_bytes()), (0, 0));
}

/// A get of several keys, sent.
fn multi_get(op: Op, line: &'static str) -> Inflight {
    let mut inflight = Inflight::default();
    let new = New { asked: Asked::Multi(op), ..get(line) };
    inflight.push(new, slot(&Rc::new(Waiting::default()), 1));
    inflight.on_written(10);
    inflight
}

/// What is taken from the front of `bytes` in one go: how many bytes, and the keys' indexes.
fn taken(inflight: &mut Inflight, bytes: &[u8]) -> (usize, Vec<u32>) {
    let mut found = Vec::new();
    let used = inflight.take_values(bytes, &mut found);
    assert_eq!(used, found.last().map_or(0, |last| last.end));
    let values = Values { bytes: &bytes[..used], found: &found };
    for ((index, reply), found) in values.iter().zip(&found) {
        let told = String::from_utf8_lossy(reply.line).into_owned();
        let length = told.split(' ').nth(3).and_then(|length| length.parse().ok());
        assert_eq!((index, length), (found.index as usize, reply.value.map(|value| value.len())), "{told}");
    }
    (used, found.iter().map(|found| found.index).collect())
}

#[test]
fn whole_values_are_taken_together() {
    let get = || multi_get(Op::Get, "get a bb c a");
    let all = b"VALUE a 0 1\r\nx\r\nVALUE c 7 2\r\nyz\r\nVALUE a 0 0\r\n\r\nEND\r\n";
    assert_eq!(taken(&mut get(), all), (all.len() - 5, vec![0, 2, 3]));
    for (bytes, why) in [
        (&b"VALUE bb 0 1\r\nx\r\nVALUE a 0 1\r\nx\r\nVALUE c 0 1\r\nx\r\n"[..], "c was before a"),
        (b"VALUE bb 0 1\r\nx\r\nVALUE b 0 1\r\nx\r\n", "half a key"),
        (b"VALUE bb 0 1\r\nx\r\nVALUE cc 0 1\r\nx\r\n", "more than a key"),
        (b"VALUE bb 0 1\r\nx\r\nVALUE c 0 1 5\r\nx\r\n", "a cas that was not asked for"),
        (b"VALUE bb 0 1\r\nx\r\nVALUE c 0 01\r\nx\r\n", "no server writes numbers so"),
        (b"VALUE bb 0 1\r\nx\r\nVALUE c 0 1\nx\r\n", "nor lines"),
        (b"VALUE bb 0 1\r\nx\r\nVALUE c 0 1\r\nxx\r\n", "the data block is longer than was said"),
        (b"VALUE bb 0 1\r\nx\r\nVALUE c 0 16384\r\nx\r\n", "a large one"),
        (b"VALUE bb 0 1\r\nx\r\nVALUE c 0 18446744073709551615\r\nx\r\n", "a very large one"),
        (b"VALUE bb 0 1\r\nx\r\nVALUE c 0\r\n", "no length"),
        (b"VALUE bb 0 1\r\nx\r\nSERVER_ERROR x\r\n", "no value at all"),
    ] {
        let (used, indexes) = taken(&mut get(), bytes);
        let fits = if why == "c was before a" { vec![1, 3] } else { vec![1] };
        assert_eq!((used, indexes), (17 * fits.len() - (fits.len() - 1), fits), "{why}");
    }
    assert_eq!(taken(&mut multi_get(Op::Gets, "get a b"), b"VALUE b 0 1 5\r\nx\r\n"), (18, vec![1]));
    assert_eq!(taken(&mut multi_get(Op::Gets, "get a b"), b"VALUE b 0 1\r\nx\r\n"), (0, vec![]));
    let mut single = Inflight::default();
    single.push(self::get("get a"), slot(&Rc::new(Waiting::default()), 1));
    single.on_written(10);
    assert_eq!(
        taken(&mut single, b"VALUE a 0 1\r\nx\r\n"),
        (0, vec![]),
        "a get of one key ends with its END"
    );
}

#[test]
fn values_that_come_in_pieces_are_taken_when_they_are_whole() {
    let all = b"VALUE bb 0 10\r\nVALUE c 0 \r\nVALUE a 0 0\r\n\r\n";
    for cut in 0..all.len() {
        let mut inflight = multi_get(Op::Get, "get a bb c a");
        let (used, mut indexes) = taken(&mut inflight, &all[..cut]);
        if let Some(end) = all[used..cut].iter().position(|byte| *byte == b'\n') {
            // What the reader does: the line is there, its value is not.
            let line = all[used..used + end].strip_suffix(b"\r").unwrap();
            assert!(matches!(inflight.judge(line), Verdict::Value { .. }));
        }
        let (more, rest) = taken(&mut inflight, &all[used..]);
        indexes.extend(rest);
        assert_eq!((used + more, indexes), (all.len(), vec![1, 3]), "cut at {cut}");
    }
}

#[test]
fn a_late_reply_is_counted_off_in_its_place() {
    let waiting = Rc::new(Waiting::default());
    let mut inflight = Inflight::default();
    let now = Instant::now();
    let later = now + Duration::from_secs(9);
    inflight.push(request(Op::Get, "get a", Check::Keys { start: 4 }, now), slot(&waiting, 1));
    inflight.push(request(Op::Get, "get b", Check::Keys { start: 4 }, later), slot(&waiting, 2));
    inflight.on_written(20);
    inflight.expire(now, |slot, _, _| slot.fill(&Reply::failed(crate::protocol::Cause::Timeout)));
    assert_eq!(waiting.0.borrow().len(), 1, "only the first had its time");
    assert_eq!((inflight.len(), inflight.late()), (2, 1));
    assert_eq!(inflight.next_deadline(), Some(later));
    assert_eq!(inflight.judge(b"VALUE b 0 1"), Verdict::Desync, "a's reply is due first");
    assert_eq!(inflight.judge(b"END"), Verdict::Done(Status::Miss));
    assert!(inflight.pop().is_some_and(|e| e.slot.is_none()), "nobody waits for it");
    assert_eq!(inflight.late(), 0);
    assert_eq!(inflight.judge(b"VALUE b 0 1"), Verdict::Value { length: 1, index: 0 });
}

#[test]
fn nothing_is_due_before_it_is_written() {
    let waiting = Rc::new(Waiting::default());
    let mut inflight = Inflight::default();
    inflight.push(get("get a"), slot(&waiting, 1));
    assert!(!inflight.is_due());
    inflight.on_written(1);
    assert!(inflight.is_due(), "a server may refuse before it has read all");
}

#[test]
fn a_lost_connection_loses_what_was_begun_and_keeps_the_rest() {
    let waiting = Rc::new(Waiting::default());
    let mut inflight = Inflight::default();
    for (token, line) in [(1, "get a"), (2, "get b"), (3, "get c")] {
        inflight.push(get(line), slot(&waiting, token));
    }
    inflight.on_written(13); // all of a, three bytes of b
    let (lost, torn) = inflight.lose();
    let lines: Vec<&[u8]> = lost.iter().map(|(_, line)| &line[..]).collect();
    assert_eq!(lines, [b"get a", b"get b"]);
    assert_eq!(torn, 7, "the rest of b must not be sent to anybody");
    assert!(!inflight.is_due(), "c waits for the next connection");

    let mut again = Inflight::default();
    again.push(get("get b"), slot(&waiting, 2));
    inflight.prepend(again);
    inflight.on_written(10);
    assert_eq!(inflight.judge(b"VALUE b 0 1"), Verdict::Value { length: 1, index: 0 });
    assert!(inflight.pop().is_some());
    assert!(!inflight.is_due(), "only b was sent again so far");
    inflight.on_written(10);
    assert!(inflight.is_due());
    assert_eq!(inflight.judge(b"VALUE c 0 1"), Verdict::Value { length: 1, index: 0 });
}

#[test]
fn what_is_sent_again_may_be_due_out_of_order() {
    let waiting = Rc::new(Waiting::default());
    let (soon, later) = (Instant::now(), Instant::now() + Duration::from_secs(9));
    let mut again = Inflight::default();
    for (token, deadline) in [(1, later), (2, soon)] {
        again.push(request(Op::Get, "get a", Check::Keys { start: 4 }, deadline), slot(&waiting, token));
    }
    let mut inflight = Inflight::default();
    again.push(request(Op::Get, "get a", Check::Keys { start: 4 }, later), slot(&waiting, 3));
    inflight.prepend(again);
    inflight.push(request(Op::Get, "get a", Check::Keys { start: 4 }, soon), slot(&waiting, 4));
    assert_eq!(inflight.next_deadline(), Some(soon));
    inflight.expire(soon, |slot, _, _| slot.fill(&Reply::failed(crate::protocol::Cause::Timeout)));
    let timeout = Status::Failed(crate::protocol::Cause::Timeout);
    assert_eq!(waiting.0.borrow()[..], [(2, timeout), (4, timeout)]);
    inflight.push(request(Op::Get, "get a", Check::Keys { start: 4 }, soon), slot(&waiting, 5));
    inflight.on_written(10);
    drop(inflight.pop());
    assert_eq!(inflight.next_deadline(), Some(soon), "of the last one");
}

#[test]
fn flush_all_is_answered_by_ok_or_an_error() {
    let all = || New { asked: Asked::FlushAll, ..get("") };
    assert_eq!(verdict(all(), "OK"), Verdict::Done(Status::Ok));
    assert_eq!(verdict(all(), "CLIENT_ERROR flush_all not allowed"), Verdict::Done(Status::ErrorLine));
    assert_eq!(verdict(all(), "STORED"), Verdict::Desync);
}

#[test]
fn memory_is_given_back_after_a_burst_and_kept_otherwise() {
    let waiting = Rc::new(Waiting::default());
    let after = |count: u64, answered: u64| {
        let mut inflight = Inflight::default();
        (0..count).for_each(|token| inflight.push(get("get a"), slot(&waiting, token)));
        inflight.on_written(10 * usize::try_from(count).unwrap());
        (0..answered).for_each(|_| drop(inflight.pop()));
        inflight.shrink();
        inflight.room().0
    };
    assert_eq!(after(4096, 4096), 4096, "as much as is kept");
    assert_eq!(after(4097, 4097), 0);
    assert!(after(4097, 4096) > 4096, "one of them waits");

    let after_line = |bytes: usize| {
        let mut inflight = Inflight::default();
        let line = vec![b'k'; bytes];
        let new = New { line: &line, ..get("") };
        inflight.push(new, slot(&waiting, 1));
        assert_eq!(inflight.held_bytes(), size_of::<Entry>() + bytes);
        inflight.on_written(10);
        drop(inflight.pop());
        assert_eq!(inflight.held_bytes(), 0, "what is kept is little");
        inflight.room().1
    };
    assert_eq!(after_line(256 * 1024), 256 * 1024, "as much as is kept");
    assert_eq!(after_line(256 * 1024 + 1), 0);
}

#[test]
fn lines_that_were_answered_make_room_for_others() {
    let waiting = Rc::new(Waiting::default());
    let mut inflight = Inflight::default();
    for token in 0..100_000 {
        inflight.push(get("get a_line_of_thirty_three_bytes_"), slot(&waiting, token));
        inflight.on_written(10);
        if token >= 10 {
            drop(inflight.pop());
        }
        assert!(inflight.held_bytes() < 512 * 1024, "{} after {token}", inflight.held_bytes());
    }
}

#[test]
fn what_waits_in_front_of_a_connection_is_counted() {
    let mut bulk = Bulk::default();
    bulk.begin([&b"a"[..], b"b", b"c"].into_iter(), true, 0);
    bulk.begin([&b"d"[..]].into_iter(), true, 1);
    // nothing is written yet: these are their keys, how many there are of each, and how often each is there
    assert_eq!(bulk.held_bytes(), 3 * 8 + 2 * 2 + 3 * 16);
}

#[test]
fn a_slot_that_is_dropped_answers() {
    let waiting = Rc::new(Waiting::default());
    drop(slot(&waiting, 5));
    assert_eq!(waiting.0.borrow()[..], [(5, Status::Failed(crate::protocol::Cause::Aborted))]);
}
