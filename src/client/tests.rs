//! Replies leave in the order of requests, whatever order they come in: the queue alone, without a socket.

use super::context::Context;
use super::multi::{Multi, Piece, Split};
use super::reply_queue::{How, NEW_REPLY_BYTES, Progress, ReplyQueue, part_token};
use crate::admin::{Admin, Current, Process};
use crate::config::Settings;
use crate::hash::{Ring, Spec};
use crate::net::{Budget, Stream};
use crate::protocol::{Cause, Keys, Op, Reply, Status, Value};
use crate::route::{Moves, PoolRoute, Root};
use crate::stats::Stats;
use bytes::Buf;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn context() -> Rc<Context> {
    let stats = Stats::new(1);
    let ring = Ring::build(&Spec::default(), &[]).expect("an empty ring");
    let pool = PoolRoute::new("none".to_owned(), ring, Vec::new(), 1, crate::config::OnError::Error);
    let process = Process::new(Current::default(), stats.clone(), Arc::default());
    Context::new(
        Rc::new(Root::of_pool(pool)),
        stats.of(0),
        &Settings::default(),
        Rc::default(),
        Rc::new(Admin::new(Arc::new(process))),
        Arc::default(),
        Budget::new(1 << 20, stats.of(0)),
        Rc::default(),
    )
}

fn take(queue: &mut ReplyQueue) -> String {
    let mut bytes = Vec::new();
    while queue.out.has_remaining() {
        let chunk = queue.out.chunk().to_vec();
        queue.out.advance(chunk.len());
        bytes.extend(chunk);
    }
    String::from_utf8(bytes).expect("text")
}

const HIT: Reply<'static> = Reply::with_value(Status::Hit, b"VALUE a 0 1", Value::Slice(b"x"));
const HIT_TEXT: &str = "VALUE a 0 1\r\nx\r\nEND\r\n";

#[test]
fn replies_leave_in_order() {
    let context = context();
    let mut queue = ReplyQueue::default();
    let first = queue.push(How::plain(Op::Get, false));
    let second = queue.push(How::plain(Op::Set, false));
    let third = queue.push(How::plain(Op::Get, false));
    queue.end_batch();
    assert_eq!(queue.fill(&context, third, &HIT), Progress::None);
    assert_eq!(queue.fill(&context, second, &Reply::line(Status::Stored, b"STORED")), Progress::None);
    assert_eq!(take(&mut queue), "");
    assert_eq!(queue.fill(&context, first, &Reply::line(Status::Miss, b"")), Progress::Batch);
    assert_eq!(take(&mut queue), format!("END\r\nSTORED\r\n{HIT_TEXT}"));
    assert!(queue.is_empty());
}

#[test]
fn a_part_of_a_batch_is_told_apart_from_the_whole() {
    let context = context();
    let mut queue = ReplyQueue::default();
    let first = queue.push(How::plain(Op::Get, false));
    let second = queue.push(How::plain(Op::Get, false));
    queue.end_batch();
    let next_batch = queue.push(How::plain(Op::Get, false));
    queue.end_batch();
    assert_eq!(queue.fill(&context, first, &HIT), Progress::Partial);
    assert_eq!(queue.fill(&context, second, &HIT), Progress::Batch, "the next batch is not waited for");
    assert_eq!(queue.fill(&context, next_batch, &HIT), Progress::Batch);
}

#[test]
fn answers_of_our_own_keep_their_place() {
    let context = context();
    let mut queue = ReplyQueue::default();
    queue.push_line(&context, "VERSION x");
    let get = queue.push(How::plain(Op::Get, false));
    queue.push_line(&context, "MN");
    assert_eq!(take(&mut queue), "VERSION x\r\n");
    assert_eq!(queue.fill(&context, get, &HIT), Progress::Batch);
    assert_eq!(take(&mut queue), format!("{HIT_TEXT}MN\r\n"));
}

#[test]
fn quiet_requests_leave_out_what_is_expected() {
    let cases = [
        (Op::Set, Status::Stored, true),
        (Op::Set, Status::ErrorLine, true),
        (Op::MetaGet, Status::Miss, true),
        (Op::MetaGet, Status::Hit, false),
        (Op::MetaSet, Status::Stored, true),
        (Op::MetaSet, Status::NotStored, false),
        (Op::MetaDelete, Status::Deleted, true),
        (Op::MetaDelete, Status::NotFound, false),
        (Op::MetaArithmetic, Status::Number, true),
        (Op::MetaArithmetic, Status::Failed(Cause::Timeout), false),
    ];
    for (op, status, is_silent) in cases {
        let context = context();
        let mut queue = ReplyQueue::default();
        let token = queue.push(How::plain(op, true));
        queue.fill(&context, token, &Reply::line(status, b"X"));
        assert_eq!(take(&mut queue).is_empty(), is_silent, "{op:?} {status:?}");
        assert!(queue.is_empty());
    }
}

#[test]
fn a_failed_get_is_a_miss_where_the_pool_says_so() {
    let told = |op, miss_line: Option<&[u8]>, reply: &Reply<'_>| {
        let context = context();
        let mut queue = ReplyQueue::default();
        let how = How { miss_line: miss_line.map(Into::into), ..How::plain(op, false) };
        let token = queue.push(how);
        queue.fill(&context, token, &Reply { miss_on_error: true, ..*reply });
        take(&mut queue)
    };
    let failed = Reply::failed(Cause::Timeout);
    assert_eq!(told(Op::Get, None, &failed), "END\r\n");
    assert_eq!(told(Op::MetaGet, None, &failed), "EN\r\n");
    assert_eq!(told(Op::MetaGet, Some(b"EN O7"), &failed), "EN O7\r\n");
    assert_eq!(told(Op::Set, None, &failed), "SERVER_ERROR Reply timeout\r\n", "only gets miss");
    let busy = Reply::line(Status::ErrorLine, b"SERVER_ERROR out of memory");
    assert_eq!(told(Op::Get, None, &busy), "END\r\n");
    let wrong = Reply::line(Status::ErrorLine, b"CLIENT_ERROR bad data");
    assert_eq!(told(Op::Get, None, &wrong), "CLIENT_ERROR bad data\r\n", "the client's fault is told");
}

/// `get a b c b` over two leaves: a and c on one, both b on the other.
fn multi() -> Box<Multi> {
    let mut split = Split::default();
    split.leaves.extend([0, 1, 0, 1]);
    let mut multi = Box::<Multi>::default();
    let keys = Keys { text: b"get a b c b", ranges: &[(4, 5), (6, 7), (8, 9), (10, 11)] };
    multi.split(&keys, &mut split);
    assert_eq!(split.parts(), [(0, vec![(4, 5), (8, 9)]), (1, vec![(6, 7), (10, 11)])]);
    multi
}

fn value(line: &'static str) -> Reply<'static> {
    Reply::with_value(Status::Hit, line.as_bytes(), Value::Slice(b"x"))
}

#[test]
fn the_parts_of_a_multi_get_become_one_answer_in_order() {
    let context = context();
    let mut queue = ReplyQueue::default();
    let token = queue.push_multi(How::plain(Op::Get, false), multi());
    let done = Reply::line(Status::Ok, b"");
    queue.hit(&context, part_token(token, 1), 0, &value("VALUE b 0 1"));
    queue.hit(&context, part_token(token, 1), 1, &value("VALUE b 0 1"));
    assert_eq!(queue.fill(&context, part_token(token, 1), &done), Progress::None);
    queue.hit(&context, part_token(token, 0), 1, &value("VALUE c 0 1"));
    assert_eq!(queue.fill(&context, part_token(token, 0), &done), Progress::Batch);
    let expected = "VALUE b 0 1\r\nx\r\nVALUE c 0 1\r\nx\r\nVALUE b 0 1\r\nx\r\nEND\r\n";
    assert_eq!(take(&mut queue), expected);
    queue.on_written(&context, expected.len());
    assert_eq!((queue.reply_bytes(), context.budget.held_bytes()), (0, 0), "every byte is given back");
}

#[test]
fn a_failed_part_makes_one_error_line_or_misses() {
    for (miss_on_error, expected) in
        [(false, "SERVER_ERROR Reply timeout\r\n"), (true, "VALUE a 0 1\r\nx\r\nEND\r\n")]
    {
        let context = context();
        let mut queue = ReplyQueue::default();
        let token = queue.push_multi(How::plain(Op::Get, false), multi());
        queue.hit(&context, part_token(token, 0), 0, &value("VALUE a 0 1"));
        queue.fill(&context, part_token(token, 0), &Reply::line(Status::Ok, b""));
        queue.fill(&context, part_token(token, 1), &Reply { miss_on_error, ..Reply::failed(Cause::Timeout) });
        assert_eq!(take(&mut queue), expected);
        assert_eq!(queue.moves(1), Moves::Little, "what was found tells how large they are");
        let mut other = ReplyQueue::default();
        let token = other.push_multi(How::plain(Op::Get, false), multi());
        let failed = Reply { miss_on_error, ..Reply::failed(Cause::Timeout) };
        (0..2).for_each(|part| _ = other.fill(&context, part_token(token, part), &failed));
        assert_eq!(other.moves(1), Moves::Unknown(1), "nothing tells nothing");
    }
}

/// One key of a longer get.
fn piece(piece: Piece) -> Box<Multi> {
    let mut split = Split::default();
    split.leaves.push(0);
    let mut multi = Box::<Multi>::default();
    multi.split(&Keys { text: b"get a b c", ranges: &[(4, 5), (6, 7), (8, 9)] }, &mut split);
    assert_eq!((multi.keys_count(), multi.asked_bytes()), (1, 1));
    (multi.piece, multi.alone_count) = (piece, 1);
    multi
}

#[test]
fn a_get_in_pieces_ends_behind_the_last_and_has_its_own_error() {
    let context = context();
    let mut queue = ReplyQueue::default();
    let push = |queue: &mut ReplyQueue, of| queue.push_multi(How::plain(Op::Get, false), piece(of));
    let hit = value("VALUE a 0 1");
    let failed = Reply::failed(Cause::Timeout);
    let first = [Piece::Front, Piece::Front, Piece::Last].map(|of| push(&mut queue, of));
    let second = push(&mut queue, Piece::Front);
    queue.fill(&context, first[1], &failed);
    queue.fill(&context, first[0], &hit);
    assert!(!queue.end_failed_get(&context), "it is the one before that has failed");
    assert_eq!(queue.fill(&context, first[2], &hit), Progress::Partial);
    assert_eq!(take(&mut queue), "VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\nx\r\nSERVER_ERROR Reply timeout\r\n");
    assert!(!queue.end_failed_get(&context));
    queue.fill(&context, second, &hit);
    let last = push(&mut queue, Piece::Last);
    queue.fill(&context, last, &hit);
    assert_eq!(take(&mut queue), "VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
    // of the third, the rest is not asked for: at once, or behind what is under way
    let told = "SERVER_ERROR Reply timeout\r\n";
    let fails = push(&mut queue, Piece::Front);
    queue.fill(&context, fails, &failed);
    assert!(queue.end_failed_get(&context));
    assert_eq!(take(&mut queue), told);
    let (fails, other) = (push(&mut queue, Piece::Front), push(&mut queue, Piece::Front));
    queue.fill(&context, fails, &failed);
    assert!(queue.end_failed_get(&context));
    assert_eq!(take(&mut queue), "");
    queue.fill(&context, other, &hit);
    assert_eq!(take(&mut queue), format!("VALUE a 0 1\r\nx\r\n{told}"));
    assert!(queue.is_empty());
}

#[test]
fn one_question_to_all_has_one_answer() {
    let context = context();
    let mut queue = ReplyQueue::default();
    let token = queue.push_all(2, false);
    assert_eq!(queue.fill(&context, token, &Reply::line(Status::Ok, b"OK")), Progress::None);
    assert_eq!(queue.fill(&context, token, &Reply::failed(Cause::Closed)), Progress::Batch);
    assert_eq!(take(&mut queue), "SERVER_ERROR Connection closed by the server.\r\n");
}

#[test]
fn who_has_moved_here_needs_no_free_place() {
    let context = context();
    let mut settings = Settings::default();
    settings.limits.clients_count_max = 1;
    context.adopt(context.root(), &settings);
    assert!(context.admit(false) && !context.admit(false));
    assert!(context.admit(true));
    assert!(!context.admit(false));
}

/// Somebody who sends without end must not keep the worker for as long as he sends.
#[tokio::test(flavor = "local")]
async fn one_client_with_much_to_ask_lets_others_have_their_turn() {
    const LINES: usize = 100_000; // some four hundred turns
    let context = context();
    let answered = |lines: usize| "MN\r\n".repeat(lines).len();
    let (mut greedy, his) = tokio::io::duplex(answered(LINES));
    let sent = greedy.write("mn\r\n".repeat(LINES).as_bytes()).await;
    assert_eq!(sent.expect("there is room"), 4 * LINES);
    let (mut other, others) = tokio::io::duplex(64);
    assert_eq!(other.write(b"mn\r\n").await.expect("there is room"), 4);
    for stream in [his, others] {
        tokio::task::spawn_local(super::session::serve(Rc::clone(&context), Stream::Memory(stream)));
    }
    let mut line = [0; 4];
    assert_eq!((other.read(&mut line).await.expect("an answer"), &line), (4, b"MN\r\n"));
    let mut answers = vec![0; answered(LINES)];
    let early = greedy.read(&mut answers).await.expect("answers");
    assert!(
        (1..answered(LINES / 2)).contains(&early),
        "{early} bytes were written before anybody else had a turn"
    );
    let mut read = early;
    while read < answers.len() {
        read += greedy.read(&mut answers[read..]).await.expect("in the end all are answered");
    }
    assert!(answers.chunks(4).all(|line| line == b"MN\r\n"));
}

/// Nor must many of them, each with a turn of its own.
#[tokio::test(flavor = "local")]
async fn of_clients_with_much_to_ask_few_come_before_one_with_little() {
    const CLIENTS: usize = 40;
    const LINES: usize = 4_000; // some sixteen turns of each
    const TURN_BYTES: u64 = 4 * 256;
    let context = context();
    let mut greedy = Vec::new();
    let (mut other, others) = tokio::io::duplex(64);
    tokio::task::spawn_local(super::session::serve(Rc::clone(&context), Stream::Memory(others)));
    for _ in 0..CLIENTS {
        let (mut client, stream) = tokio::io::duplex(4 * LINES);
        let sent = client.write("mn\r\n".repeat(LINES).as_bytes()).await;
        assert_eq!(sent.expect("there is room"), 4 * LINES);
        tokio::task::spawn_local(super::session::serve(Rc::clone(&context), Stream::Memory(stream)));
        greedy.push(client);
    }
    let turns = || context.counters.bytes_written.value() / TURN_BYTES;
    while turns() < CLIENTS as u64 {
        tokio::task::yield_now().await; // each has its first
    }
    for _ in 0..10 {
        let before = turns();
        assert_eq!(other.write(b"mn\r\n").await.expect("there is room"), 4);
        let mut line = [0; 4];
        assert_eq!((other.read(&mut line).await.expect("an answer"), &line), (4, b"MN\r\n"));
        let meanwhile = turns() - before;
        assert!(meanwhile < CLIENTS as u64 / 2, "{meanwhile} turns of others came before an answer");
    }
    for client in &mut greedy {
        let mut left = 4 * LINES;
        while left > 0 {
            left -= client.read(&mut vec![0; left]).await.expect("in the end all are answered");
        }
    }
}

#[test]
fn much_is_under_way_when_replies_are_large_and_many() {
    let context = context(); // with a mebibyte for all buffers
    let is_much = |replies: usize, reply_bytes, waiting| {
        (0..replies).for_each(|_| context.learn_reply(reply_bytes));
        context.counters.server_outstanding.add(waiting);
        let is_much = context.much_is_under_way();
        context.counters.server_outstanding.sub(waiting);
        is_much
    };
    assert!(!is_much(1_000, 100, 5_000), "small ones may be many");
    assert!(!is_much(1, 100_000, 1_000) && is_much(9, 100_000, 1_000), "a few large ones are seen at once");
    assert!(!is_much(0, 0, 10), "and may be few");
    assert!(!is_much(2_000, 100, 5_000), "what was long ago is forgotten");
}

#[test]
fn a_client_may_have_the_less_under_way_the_more_wait_for_servers() {
    let context = context();
    let share = |waiting| {
        context.counters.server_outstanding.add(waiting);
        let share = context.share_count();
        context.counters.server_outstanding.sub(waiting);
        share
    };
    assert_eq!([0, 512].map(share), [usize::MAX; 2], "few are nobody's harm");
    assert_eq!([513, 1_024, 2_000].map(share), [31, 16, 8]);
    assert_eq!([4_000, 1_000_000].map(share), [8, 8], "it goes on");
}

#[test]
fn values_count_for_their_client_until_they_are_answered() {
    let context = context();
    let mut queue = ReplyQueue::default();
    let set = || How { value_bytes: 1 << 20, ..How::plain(Op::Set, false) };
    let tokens = [queue.push(set()), queue.push(set())];
    for (token, left) in tokens.into_iter().rev().zip([1 << 20, 0]) {
        queue.fill(&context, token, &Reply::line(Status::Stored, b"STORED"));
        take(&mut queue);
        assert!((left..left + NEW_REPLY_BYTES).contains(&queue.expected_bytes()));
    }
}

#[test]
fn what_new_clients_ask_for_counts_as_much_until_it_is_known() {
    let context = context();
    let answer = |queue: &mut ReplyQueue, value: &[u8]| {
        let token = queue.push(How::plain(Op::Get, false));
        let hit = Reply { value: Some(Value::Slice(value)), ..Reply::line(Status::Hit, b"VALUE k 0 1") };
        queue.fill(&context, token, &hit);
        take(queue);
    };
    let (mut small, mut large) = (ReplyQueue::default(), ReplyQueue::default());
    assert_eq!(small.moves(50), Moves::Unknown(50));
    let (refused, set) = (small.push(How::plain(Op::Get, false)), small.push(How::plain(Op::Set, false)));
    let unknown = context.first_replies.expected_bytes(1);
    small.fill(&context, refused, &Reply::failed(Cause::NoMemory));
    assert_eq!(small.moves(1), Moves::Unknown(1), "no answer says nothing of it");
    small.fill(&context, set, &Reply::line(Status::Stored, b"STORED"));
    take(&mut small);
    assert_eq!(context.first_replies.expected_bytes(1), unknown, "a set says nothing of others' gets");
    assert_eq!(small.moves(50), Moves::Little, "it has shown what it asks for");
    answer(&mut large, &[b'l'; 200_000]);
    assert!(matches!(large.moves(1), Moves::Much(200_000..)));
    assert!(context.first_replies.expected_bytes(1) > unknown);
    (0..50).for_each(|_| answer(&mut ReplyQueue::default(), &[b'l'; 200_000]));
    (0..1_000).for_each(|_| answer(&mut small, b"1"));
    let expected = context.first_replies.expected_bytes(1);
    assert!(expected > 190_000, "new ones ask for much, whatever those do who are known");
}
