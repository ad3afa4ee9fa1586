//! Replies find their requests, or the connection ends: the pairing alone, without a socket.

use super::inflight::{Asked, Check, Inflight, New, Verdict};
use crate::protocol::{Op, Reply, Status};
use crate::route::{Sink, Slot};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Default)]
struct Waiting(RefCell<Vec<(u64, Status)>>);

impl Sink for Waiting {
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
        size: 10,
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
    inflight.expire(now, |slot| slot.fill(&Reply::failed(crate::protocol::Cause::Timeout)));
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
    inflight.on_written(20);
    assert_eq!(inflight.judge(b"VALUE b 0 1"), Verdict::Value { length: 1, index: 0 });
    assert!(inflight.pop().is_some());
    assert!(inflight.is_due());
    assert_eq!(inflight.judge(b"VALUE c 0 1"), Verdict::Value { length: 1, index: 0 });
}

#[test]
fn a_slot_that_is_dropped_answers() {
    let waiting = Rc::new(Waiting::default());
    drop(slot(&waiting, 5));
    assert_eq!(waiting.0.borrow()[..], [(5, Status::Failed(crate::protocol::Cause::Aborted))]);
}
