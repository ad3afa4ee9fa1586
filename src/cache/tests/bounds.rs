//! Bounds: bytes, threads, allocations, sharing.

use super::{START, Talk};
use crate::cache::Cache;
use crate::protocol::{Chunks, Op, Request, Value};
use crate::time::Now;
use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const NOW: Now = Now { unix_seconds: START };

fn set(cache: &Cache, key: &[u8], value: &[u8]) {
    let request = Request { value: Value::Slice(value), ..Request::new(Op::Set, key) };
    cache.execute(&request, NOW, &mut |reply| assert_eq!(reply.line, b"STORED"));
}

#[derive(Clone, Debug)]
struct Step {
    op: Op,
    key: u8,
    length: usize,
    exptime: i32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let op = prop_oneof![
        Just(Op::Set),
        Just(Op::Add),
        Just(Op::Append),
        Just(Op::Prepend),
        Just(Op::Replace),
        Just(Op::Incr),
        Just(Op::Decr),
        Just(Op::Get),
        Just(Op::Gat),
        Just(Op::Delete)
    ];
    let length = prop_oneof![0_usize..40, 100_usize..6_000, 15_000_usize..20_000];
    let step = (op, any::<u8>(), length, 0..4).prop_map(|(op, key, length, exptime)| Step {
        op,
        key,
        length,
        exptime,
    });
    proptest::collection::vec(step, 1..400)
}

use proptest::prelude::Just;

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn the_bytes_never_pass_the_bound(steps in steps(), memory in 30_000_usize..200_000) {
        let cache = Cache::new(memory, 1 << 20);
        let value = vec![b'1'; 20_000];
        for (index, step) in steps.iter().enumerate() {
            let key = format!("key-{}", step.key);
            let request = Request {
                exptime: step.exptime,
                number: u64::MAX / 2,
                value: if step.op.has_value() { Value::Slice(&value[..step.length]) } else { Value::Slice(&[]) },
                ..Request::new(step.op, key.as_bytes())
            };
            let mut replies = 0;
            let now = Now { unix_seconds: START + index as u32 / 10 };
            cache.execute(&request, now, &mut |_| replies += 1);
            assert_eq!(replies, 1);
            assert!(cache.stats().bytes <= memory as u64, "{:?} of {memory}", cache.stats());
        }
    }
}

#[test]
fn what_does_not_fit_is_evicted_and_the_newest_stays() {
    let cache = Cache::new(1 << 20, 1 << 20);
    for index in 0..10_000_u32 {
        let key = format!("key-{index}");
        set(&cache, key.as_bytes(), &[7; 1_000]);
        let mut found = false;
        cache
            .execute(&Request::new(Op::Get, key.as_bytes()), NOW, &mut |reply| found = reply.value.is_some());
        assert!(found, "what was just set is there");
    }
    let stats = cache.stats();
    assert!(stats.items > 700 && stats.bytes <= 1 << 20, "{stats:?}");
    assert_eq!(stats.evictions, 10_000 - stats.items);
}

#[test]
fn what_is_larger_than_the_shard_is_too_large() {
    let talk = Talk::with(100_000, 1 << 20);
    talk.expect("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    let value = "x".repeat(99_000);
    talk.expect(
        &format!("set a 0 0 99000\r\n{value}\r\nget a\r\n"),
        "SERVER_ERROR object too large for cache\r\nEND\r\n",
    );
}

#[test]
fn of_four_threads_that_add_a_key_one_wins() {
    let cache = Arc::new(Cache::new(1 << 20, 1 << 20));
    let wins = AtomicUsize::new(0);
    let total = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..500_u32 {
                    let key = round.to_be_bytes();
                    let request = Request { value: Value::Slice(b"0"), ..Request::new(Op::Add, &key) };
                    cache.execute(&request, NOW, &mut |reply| {
                        wins.fetch_add(usize::from(reply.line == b"STORED"), Ordering::Relaxed);
                    });
                    let request = Request { number: 1, ..Request::new(Op::Incr, &key) };
                    cache.execute(&request, NOW, &mut |_| {});
                }
            });
        }
    });
    for round in 0..500_u32 {
        cache.execute(&Request::new(Op::Get, &round.to_be_bytes()), NOW, &mut |reply| {
            total.fetch_add(usize::from(reply.value.unwrap().to_vec() == b"4"), Ordering::Relaxed);
        });
    }
    assert_eq!((wins.into_inner(), total.into_inner()), (500, 500), "no add twice, no increment lost");
}

#[test]
fn a_large_value_leaves_without_a_copy_and_keeps_no_foreign_block_alive() {
    let cache = Cache::new(1 << 20, 1 << 20);
    let block = Bytes::from(vec![b'x'; 100_000]);
    let mut chunks = Chunks::default();
    chunks.push(block.slice(10..20_010));
    chunks.push(block.slice(30_000..40_000));
    let request = Request { value: Value::Shared(&chunks), ..Request::new(Op::Set, b"a") };
    cache.execute(&request, NOW, &mut |_| {});
    let mut places = Vec::new();
    for _ in 0..2 {
        cache.execute(&Request::new(Op::Get, b"a"), NOW, &mut |reply| {
            let Some(Value::Shared(chunks)) = reply.value else { panic!("not shared") };
            assert_eq!((chunks.len(), chunks.parts().len()), (30_000, 1));
            places.push(chunks.parts()[0].as_ptr());
        });
    }
    assert_eq!(places[0], places[1], "the very same bytes");
    drop(chunks);
    assert!(block.is_unique(), "the block that was read into is free again");
}

#[test]
fn who_takes_a_reply_may_ask_again() {
    let cache = Cache::new(1 << 20, 1 << 20);
    set(&cache, b"a", b"1");
    let mut depth = 0;
    cache.execute(&Request::new(Op::Get, b"a"), NOW, &mut |_| {
        cache.execute(&Request::new(Op::Delete, b"a"), NOW, &mut |_| depth += 1);
    });
    assert_eq!((depth, cache.stats().items), (1, 0));
}

#[test]
fn the_dead_do_not_stay_when_nobody_asks_for_them() {
    let talk = Talk::new();
    for index in 0..20_000 {
        talk.say(format!("set k{index} 0 10 1\r\n1\r\n").as_bytes());
    }
    talk.say(b"set lasting 0 0 1\r\n1\r\n");
    for _ in 0..10 {
        talk.wait(5);
        talk.say(b"set lasting 0 0 1\r\n1\r\n");
    }
    assert_eq!((talk.cache.stats().items, talk.cache.stats().expired), (1, 20_000));
}

/// 64 MiB of small items are 300,000: a sweep that went on where the last one ended would need 37 for a round.
#[test]
fn one_sweep_finds_the_dead_behind_all_that_live() {
    let talk = Talk::new();
    for index in 0..30_000 {
        talk.say(format!("set lasting{index} 0 0 1\r\n1\r\n").as_bytes());
    }
    for index in 0..5_000 {
        talk.say(format!("set k{index} 0 10 1\r\n1\r\n").as_bytes());
    }
    talk.wait(10);
    talk.say(b"set lasting0 0 0 1\r\n1\r\n");
    assert_eq!((talk.cache.stats().items, talk.cache.stats().expired), (30_000, 5_000));
}

#[test]
fn a_large_cache_is_cut_into_parts_and_answers_as_one() {
    for (memory, item, parts) in [
        (64, 1, 1),
        (127, 1, 1),
        (128, 1, 2),
        (1_024, 1, 16),
        (1_024, 8, 4),
        (1_024, 64, 1),
        (1 << 20, 1, 1_024),
    ] {
        assert_eq!(Cache::new(memory << 20, item << 20).parts.len(), parts, "{memory} MiB, items of {item}");
    }
    let talk = Talk::with(256 << 20, 1 << 20);
    for index in 0..1_000 {
        talk.expect(&format!("set k{index} 0 0 1\r\n1\r\n"), "STORED\r\n");
    }
    for index in 0..1_000 {
        talk.expect(&format!("get k{index}\r\n"), &format!("VALUE k{index} 0 1\r\n1\r\nEND\r\n"));
    }
    assert_eq!(talk.cache.stats().items, 1_000);
    assert!(talk.cache.parts.iter().all(|part| part.lock().len() > 0), "each has some");
    talk.expect(
        "get k1 k2 k3\r\nflush_all\r\nget k1 k2 k3\r\n",
        "VALUE k1 0 1\r\n1\r\nVALUE k2 0 1\r\n1\r\nVALUE k3 0 1\r\n1\r\nEND\r\nOK\r\nEND\r\n",
    );
    assert_eq!((talk.cache.stats().items, talk.cache.stats().bytes), (0, 0));
}

/// Without a further token `me` takes the key as it is written, and that may be in another part.
#[test]
fn me_finds_its_key_in_whatever_part_it_is() {
    let talk = Talk::with(1 << 30, 1 << 20);
    for index in 100..150 {
        talk.expect(&format!("set a{index} 0 0 1\r\n1\r\n"), "STORED\r\n");
        let answer = talk.say(format!("me a{index} b\r\n").as_bytes());
        assert!(
            answer.starts_with(format!("ME a{index} ").as_bytes()),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}

/// The slots of small items would leave it no room.
#[test]
fn an_item_of_most_of_the_shard_fits_whatever_was_there_before() {
    let cache = Cache::new(1 << 20, 1 << 20);
    for index in 0..10_000_u32 {
        set(&cache, format!("key-{index}").as_bytes(), b"1");
    }
    set(&cache, b"large", &[7; 700_000]);
    let mut length = 0;
    cache.execute(&Request::new(Op::Get, b"large"), NOW, &mut |reply| {
        length = reply.value.map_or(0, |value| value.len());
    });
    let stats = cache.stats();
    assert_eq!((length, stats.evictions), (700_000, 10_001 - stats.items));
    assert!(stats.bytes <= 1 << 20, "{stats:?}");
}
