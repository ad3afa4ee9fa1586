//! A store over a disk that fails and loses power: what was accepted is found again, whatever happens.

use super::book::Book;
use super::disk::Disk;
use super::entry::{Delete, Why, write_delete, write_done};
use super::power::{Fails, Power};
use super::store::{Bounds, Cursor, Store, StoreError, Wanted};
use crate::config::OnFull;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const ADDRESSES: [&str; 2] = ["10.0.0.1:11211", "cache-1.cache:11211"];

fn bounds() -> Bounds {
    Bounds { bytes_max: 1 << 20, age_max: None, on_full: OnFull::Error, syncs_each: true }
}

/// A store and its books.
struct Spool {
    store: Store,
    book: Arc<Book>,
}

impl Spool {
    fn open(disk: &Power, bounds: Bounds) -> Self {
        Self::try_open(disk, bounds).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_open(disk: &Power, bounds: Bounds) -> Result<Self, StoreError> {
        let book = Arc::new(Book::default());
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Ok(Self { store: Store::open(disk, Arc::clone(&book), bounds)?, book })
    }

    /// Whether these deletes were accepted.
    fn append(&mut self, keys: &[(usize, u64)]) -> bool {
        self.append_at(keys, 1_000)
    }

    fn append_at(&mut self, keys: &[(usize, u64)], time_ms: u64) -> bool {
        let wanted = |(server, key): &(usize, u64)| Wanted {
            owed: self.book.server(ADDRESSES[*server]),
            pool: "main".into(),
            key: name(*key).into(),
        };
        let wanted: Vec<Wanted> = keys.iter().map(wanted).collect();
        self.store.append(&wanted, time_ms).is_ok()
    }

    fn is_pending(&self, (server, key): (usize, u64)) -> bool {
        let owed = self.book.server(ADDRESSES[server]);
        owed.number(owed.hash(&name(key))).is_some()
    }

    /// As if it was delivered.
    fn deliver(&mut self, (server, key): (usize, u64)) {
        let owed = self.book.server(ADDRESSES[server]);
        let hash = owed.hash(&name(key));
        let number = owed.number(hash).expect("it is pending");
        assert!(owed.remove(hash, number));
        self.store.done(Why::Delivered, vec![number]);
    }

    /// Keys that are to be delivered to a server, in order.
    fn looked(&mut self, server: usize, count_max: usize) -> Vec<Vec<u8>> {
        let owed = self.book.server(ADDRESSES[server]);
        owed.settle(u64::MAX);
        let (mut keys, mut cursor) = (Vec::new(), Some(Cursor::default()));
        while let Some(from) = cursor {
            let (found, next) = self.store.look(&owed, from, count_max).unwrap();
            assert!(found.len() <= count_max);
            keys.extend(found.into_iter().map(|pending| pending.key));
            cursor = next;
        }
        keys
    }
}

fn name(key: u64) -> Vec<u8> {
    format!("key:{key}:{}", "x".repeat(usize::try_from(key % 60).unwrap())).into_bytes()
}

/// The same numbers for the same seed.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 8
    }
}

#[test]
fn what_was_written_is_pending_again_in_its_order() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    assert!(spool.append(&[(0, 1), (0, 2), (1, 1)]) && spool.append(&[(0, 3)]));
    spool.deliver((0, 1));
    spool.store.write_done(0);
    for count_max in [1, 100] {
        let mut spool = Spool::open(&disk, bounds());
        assert_eq!(spool.book.pending(), 3);
        assert_eq!(spool.looked(0, count_max), [name(2), name(3)]);
        assert_eq!(spool.looked(1, count_max), [name(1)]);
    }
}

#[test]
fn a_clock_that_steps_changes_nothing() {
    let disk = Power::default();
    let aged = || Bounds { age_max: Some(Duration::from_secs(60)), ..bounds() };
    let mut spool = Spool::open(&disk, aged());
    for (key, time_ms) in [(1, 1_700_000_000_000), (2, 0), (3, u64::MAX), (4, 5)] {
        assert!(spool.append_at(&[(0, key)], time_ms));
        spool.store.expire(Instant::now());
    }
    spool.deliver((0, 2));
    spool.store.write_done(u64::MAX);
    let mut again = Spool::open(&disk, aged());
    again.store.expire(Instant::now());
    for mut spool in [spool, again] {
        assert_eq!(spool.looked(0, 9), [name(1), name(3), name(4)]);
        assert!(spool.append_at(&[(0, 5)], 0) && spool.is_pending((0, 5)));
    }
}

#[test]
fn a_delete_is_kept_for_its_time_though_one_of_its_key_was_there() {
    let (began, minute) = (Instant::now(), Duration::from_secs(60));
    let aged = Bounds { age_max: Some(minute * 60), ..bounds() };
    let mut spool = Spool::open(&Power::default(), aged);
    let covers = |spool: &Spool| spool.book.server(ADDRESSES[0]).covers(&name(1));
    assert!(spool.append(&[(0, 1), (0, 2)]));
    for passed in 1..=7 {
        spool.store.expire(began + minute * passed);
        assert!(covers(&spool), "a second one needs no entry");
    }
    for passed in 8..59 {
        spool.store.expire(began + minute * passed);
        assert!(!covers(&spool), "a second one would go with the first");
    }
    assert!(spool.append(&[(0, 1)]));
    for passed in 59..=70 {
        spool.store.expire(began + minute * passed);
        // those that came while the first stood for them were written up to the eighth minute
        assert_eq!((spool.is_pending((0, 1)), spool.is_pending((0, 2))), (true, passed <= 68));
    }
    spool.store.expire(began + minute * 180);
    assert_eq!((spool.book.pending(), spool.book.numbers.dropped.load(Relaxed)), (0, 2));
}

#[test]
fn only_what_is_settled_is_delivered() {
    let mut spool = Spool::open(&Power::default(), bounds());
    spool.append(&[(0, 1)]);
    let owed = spool.book.server(ADDRESSES[0]);
    owed.settle(spool.book.newest.load(Relaxed));
    spool.append(&[(0, 2)]);
    let (found, next) = spool.store.look(&owed, Cursor::default(), 9).unwrap();
    assert_eq!((found.len(), found[0].key.clone(), next), (1, name(1), None));
}

#[test]
fn a_newer_delete_of_a_key_stands_for_the_older_one() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    assert!(spool.append(&[(0, 1)]) && spool.append(&[(0, 2)]) && spool.append(&[(0, 1)]));
    assert_eq!(spool.looked(0, 9), [name(2), name(1)]);
    drop(spool);
    assert_eq!(Spool::open(&disk, bounds()).looked(0, 9), [name(2), name(1)]);
}

#[test]
fn files_go_when_nothing_in_them_is_pending() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    for key in 0..3_000 {
        assert!(spool.append(&[(0, key)]));
    }
    assert!(disk.list().unwrap().len() > 1);
    (0..3_000).for_each(|key| spool.deliver((0, key)));
    assert!(disk.list().unwrap().len() <= 1, "one is kept to be written to");
    spool.store.close(0);
    assert_eq!(disk.list().unwrap(), []);
}

#[test]
fn beyond_the_bound_deletes_are_refused_or_the_oldest_go() {
    for on_full in [OnFull::Error, OnFull::DropOldest] {
        let disk = Power::default();
        let mut spool = Spool::open(&disk, Bounds { on_full, ..bounds() });
        let accepted = (0..20_000).filter(|key| spool.append(&[(0, *key)])).count();
        let bytes: u64 = disk.list().unwrap().iter().map(|(_, bytes)| bytes).sum();
        assert!(bytes <= 1 << 20, "{bytes}");
        let dropped = spool.book.numbers.dropped.load(Relaxed);
        match on_full {
            OnFull::Error => assert!((5_000..20_000).contains(&accepted) && dropped == 0),
            OnFull::DropOldest => {
                assert!(accepted == 20_000 && dropped > 0);
                assert_eq!(spool.book.pending() as u64, 20_000 - dropped);
                assert!(!spool.is_pending((0, 0)) && spool.is_pending((0, 19_999)));
            }
        }
    }
}

#[test]
fn room_that_is_taken_by_what_is_done_with_is_used_again() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    // of every hundred one stays, for ever
    for key in 0..100_000 {
        assert!(spool.append(&[(0, key)]), "{key}");
        if key % 100 != 0 {
            spool.deliver((0, key));
        }
    }
    assert_eq!(spool.book.pending(), 1_000);
    drop(spool);
    let spool = Spool::open(&disk, bounds());
    assert!((0..1_000).all(|key| spool.is_pending((0, key * 100))));
}

#[test]
fn what_is_done_with_gives_room_though_it_is_spoken_of_beside_what_stays() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    // one server stays away, another one comes and goes
    assert!((0..1_000).all(|key| spool.append(&[(0, key)])));
    assert!(spool.append(&[(1, 99_999)]));
    for key in 0..40_000 {
        assert!(spool.append(&[(1, key)]), "{key}");
        spool.deliver((1, key));
        match key {
            3_000 => spool.deliver((1, 99_999)),
            _ if key % 100 == 0 => spool.store.write_done(0),
            _ => {}
        }
    }
    assert_eq!(spool.book.pending(), 1_000);
    spool.store.write_done(0);
    drop(spool);
    let spool = Spool::open(&disk, bounds());
    assert_eq!(spool.book.pending(), 1_000, "what was said to be done with was said again");
    assert!((0..1_000).all(|key| spool.is_pending((0, key))));
}

#[test]
fn what_is_done_with_gives_room_after_a_start_too() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    let count = (0..20_000).take_while(|key| spool.append(&[(0, *key)])).count() as u64;
    (0..count).filter(|key| key % 100 != 0).for_each(|key| spool.deliver((0, key)));
    spool.store.write_done(0);
    drop(spool);
    let mut spool = Spool::open(&disk, bounds());
    for key in count..2 * count - 2_000 {
        assert!(spool.append(&[(0, key)]), "{key}");
    }
    assert!((0..count).filter(|key| key % 100 == 0).all(|key| spool.is_pending((0, key))));
}

#[test]
fn a_spool_that_is_full_of_what_is_pending_is_not_rewritten() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    let count = (0..20_000).take_while(|key| spool.append(&[(0, *key)])).count() as u64;
    (0..count).filter(|key| key % 3 == 0).for_each(|key| spool.deliver((0, key)));
    let calls_count = disk.calls_count();
    assert!(!spool.append(&[(0, count)]));
    assert_eq!(disk.calls_count(), calls_count);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let disk = Power::default();
    disk.put("notes.txt", b"mine");
    let before = disk.files();
    assert!(matches!(Spool::try_open(&disk, bounds()), Err(StoreError::Foreign(_))));
    assert_eq!(disk.files(), before);
    let disk = Power::default();
    let id = super::segment::SegmentId { number: 1, salt: 2 };
    let mut newer = id.header(0);
    newer[8] = 2;
    let crc = crc32fast::hash(&newer[..28]).to_le_bytes();
    newer[28..].copy_from_slice(&crc);
    disk.put(&id.name(), &newer);
    let before = disk.files();
    assert!(matches!(Spool::try_open(&disk, bounds()), Err(StoreError::Newer(_, 2))));
    assert_eq!(disk.files(), before);
}

#[test]
fn another_directory_is_absorbed_in_its_order() {
    let (disk, other) = (Power::default(), Power::default());
    let mut theirs = Spool::open(&other, bounds());
    assert!(theirs.append(&[(0, 1), (0, 2), (1, 3)]));
    theirs.deliver((0, 2));
    theirs.store.write_done(0);
    drop(theirs);
    let mut spool = Spool::open(&disk, bounds());
    assert!(spool.append(&[(0, 9)]));
    let mut theirs = spool.store.open_other(Arc::new(other.clone())).unwrap();
    assert_eq!(spool.store.absorb(&mut theirs, 0).unwrap(), 2);
    assert_eq!(other.list().unwrap(), []);
    drop(spool);
    let mut spool = Spool::open(&disk, bounds());
    assert_eq!((spool.looked(0, 9), spool.looked(1, 9)), (vec![name(9), name(1)], vec![name(3)]));
}

#[test]
fn what_has_no_room_is_absorbed_later_and_no_delete_twice() {
    let (disk, other) = (Power::default(), Power::default());
    let mut theirs = Spool::open(&other, bounds());
    assert!((0..3_000).all(|key| theirs.append(&[(0, key)])));
    drop(theirs);
    let files_count = other.list().unwrap().len();
    let mut spool = Spool::open(&disk, Bounds { bytes_max: 200 << 10, ..bounds() });
    let mut theirs = spool.store.open_other(Arc::new(other.clone())).unwrap();
    let mut tries_count = 0;
    while spool.store.absorb(&mut theirs, 0).is_err() {
        let left_count = other.list().unwrap().len();
        tries_count += 1;
        assert!(left_count + tries_count <= files_count, "what has been copied goes there");
        for key in 0..3_000 {
            if spool.is_pending((0, key)) {
                spool.deliver((0, key));
            }
        }
    }
    assert!(tries_count > 0 && other.list().unwrap().is_empty());
    let numbers = &spool.book.numbers;
    assert_eq!(numbers.written.load(Relaxed), 3_000);
    assert_eq!(numbers.replayed.load(Relaxed) + spool.book.pending() as u64, 3_000);
}

#[test]
fn what_is_absorbed_survives_a_power_cut_at_any_moment() {
    let mut cuts_count = 0;
    for (seed, syncs_each, cuts_ours) in (0..3).flat_map(|seed| {
        [(true, true), (true, false), (false, true), (false, false)].map(|(each, ours)| (seed, each, ours))
    }) {
        for call in 0.. {
            let (disk, other) = (Power::default(), Power::default());
            let (owed, _) = run(&mut Spool::open(&other, small()), seed, 60);
            match cuts_ours {
                true => disk.fail_at(call, Fails::Off),
                false => other.fail_at(other.calls_count() + call, Fails::Off),
            }
            let mut spool = Spool::open(&disk, Bounds { syncs_each, ..bounds() });
            let mut theirs = spool.store.open_other(Arc::new(other.clone())).unwrap();
            let is_done = spool.store.absorb(&mut theirs, 0).is_ok();
            let ours = Spool::open(&disk.after_cut(random(call << 8 | seed)), bounds());
            let theirs = Spool::open(&other.after_cut(random(call << 8 | 99)), bounds());
            cuts_count += 1;
            for delete in &owed {
                let is_there = ours.is_pending(*delete) || theirs.is_pending(*delete);
                assert!(is_there, "seed {seed} call {call} ours {cuts_ours}: {delete:?} is lost");
            }
            if is_done {
                break;
            }
        }
    }
    assert!(cuts_count > 50, "{cuts_count}");
}

#[test]
fn a_sector_that_cannot_be_read_costs_what_it_hits_and_holds_up_nothing() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    assert!((0..3_000).all(|key| spool.append(&[(0, key)])));
    let (file, _) = disk.files().pop_first().unwrap();
    disk.spoil(&file, 50_000);
    // at a start
    let again = Spool::open(&disk, bounds());
    let left_count = again.book.pending();
    assert!((2_900..3_000).contains(&left_count), "{left_count}");
    assert!(again.book.numbers.broken_bytes.load(Relaxed) >= 4_096);
    // and while it runs: what is left is written elsewhere, what is lost is told
    spool.looked(0, 100);
    let numbers = &spool.book.numbers;
    assert_eq!(
        (spool.book.pending(), numbers.dropped.load(Relaxed)),
        (left_count, 3_000 - left_count as u64)
    );
    assert!(numbers.broken_bytes.load(Relaxed) >= 4_096);
    assert!(!disk.files().contains_key(&file));
    assert_eq!(spool.looked(0, 100).len(), left_count);
}

#[test]
fn a_file_that_is_gone_is_told_of_and_holds_up_nothing() {
    for is_looked_at in [true, false] {
        let disk = Power::default();
        let mut spool = Spool::open(&disk, Bounds { age_max: Some(Duration::from_secs(80)), ..bounds() });
        assert!(spool.append(&[(0, 1), (1, 2)]));
        let (file, _) = disk.files().pop_first().unwrap();
        disk.remove(&file).unwrap();
        if is_looked_at {
            assert!(spool.looked(0, 9).is_empty());
        } else {
            let now = Instant::now();
            [20, 120].into_iter().for_each(|passed| spool.store.expire(now + Duration::from_secs(passed)));
        }
        assert_eq!((spool.book.pending(), spool.book.numbers.dropped.load(Relaxed)), (0, 2));
        assert!(spool.append(&[(0, 3)]));
        assert_eq!(spool.looked(0, 9), [name(3)]);
    }
}

#[test]
fn a_segment_cut_or_changed_anywhere_costs_what_is_hit_and_nothing_else() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    assert!((0..8).all(|key| spool.append(&[(0, key)])));
    let (file, bytes) = disk.files().pop_first().unwrap();
    for at in 0..bytes.len() {
        let cut = Power::default();
        cut.put(&file, &bytes[..at]);
        let found = Spool::open(&cut, bounds());
        let count = found.book.pending() as u64;
        assert!((0..8).all(|key| found.is_pending((0, key)) == (key < count)), "cut at {at}");
        let changed = Power::default();
        let mut with_other = bytes.clone();
        with_other[at] = !with_other[at];
        changed.put(&file, &with_other);
        let found = Spool::open(&changed, bounds());
        // the first 32 bytes say nothing that is needed
        assert_eq!(found.book.pending(), if at < 32 { 8 } else { 7 }, "changed at {at}");
    }
}

/// A server's place in [`ADDRESSES`] and a key.
type Deletes = BTreeSet<(usize, u64)>;

/// Appends and delivers at random until it is told to stop: what was accepted and is still owed.
fn run(spool: &mut Spool, seed: u64, steps: usize) -> (Deletes, Deletes) {
    let mut random = random(seed);
    let (mut owed, mut tried) = (Deletes::new(), Deletes::new());
    for _ in 0..steps {
        let pick = random();
        let delete = ((pick % 2) as usize, pick / 2 % 12);
        match random() % 8 {
            0..=4 => {
                let other = (delete.0, 12 + delete.1);
                tried.extend([delete, other]);
                if spool.append(&[delete, other]) {
                    owed.extend([delete, other]);
                }
            }
            5 | 6 => {
                let one = owed.iter().nth(usize::try_from(pick % 24).unwrap()).copied();
                if let Some(one) = one {
                    owed.remove(&one);
                    spool.deliver(one);
                }
            }
            _ => spool.store.write_done(0),
        }
    }
    (owed, tried)
}

/// Small segments, so that there are many of them.
fn small() -> Bounds {
    Bounds { bytes_max: 8 << 10, ..bounds() }
}

#[test]
fn what_was_accepted_survives_a_power_cut_at_any_moment() {
    const STEPS: usize = 60;
    let mut cuts_count = 0;
    for seed in 0..3 {
        let disk = Power::default();
        run(&mut Spool::open(&disk, small()), seed, STEPS);
        for call in 0..disk.calls_count() {
            let disk = Power::default();
            disk.fail_at(call, Fails::Off);
            let (owed, tried) = run(&mut Spool::open(&disk, small()), seed, STEPS);
            for state in 0..6 {
                let found = Spool::open(&disk.after_cut(random(seed << 32 | call << 8 | state)), small());
                cuts_count += 1;
                for delete in &owed {
                    assert!(
                        found.is_pending(*delete),
                        "seed {seed} call {call} state {state}: {delete:?} is lost"
                    );
                }
                let known = tried.iter().filter(|delete| found.is_pending(**delete)).count();
                assert_eq!(
                    known,
                    found.book.pending(),
                    "seed {seed} call {call} state {state}: one is invented"
                );
            }
        }
    }
    assert!(cuts_count > 1_000, "{cuts_count}");
}

#[test]
fn a_disk_that_fails_once_costs_the_delete_that_is_told_so_and_no_other() {
    const STEPS: usize = 60;
    for seed in 0..3 {
        let disk = Power::default();
        run(&mut Spool::open(&disk, small()), seed, STEPS);
        for (call, how) in
            (0..disk.calls_count()).flat_map(|call| [(call, Fails::Full), (call, Fails::Broken)])
        {
            let disk = Power::default();
            disk.fail_at(call, how);
            let mut spool = Spool::open(&disk, small());
            let (owed, _) = run(&mut spool, seed, STEPS);
            assert!(owed.iter().all(|delete| spool.is_pending(*delete)), "seed {seed} call {call} {how:?}");
            drop(spool);
            let found = Spool::open(&disk, small());
            assert!(owed.iter().all(|delete| found.is_pending(*delete)), "seed {seed} call {call} {how:?}");
        }
    }
}

#[test]
fn what_can_never_be_made_safe_leaves_no_files_behind() {
    let disk = Power::default();
    let mut spool = Spool::open(&disk, bounds());
    assert!(spool.append(&[(0, 0)]));
    disk.fail_syncs();
    for key in 1..1_000 {
        assert!(!spool.append(&[(0, key)]));
        spool.store.write_done(0);
    }
    assert_eq!(disk.list().unwrap().len(), 1);
    // the first of them stands behind what was promised, and may be found there
    assert_eq!(Spool::open(&disk, bounds()).looked(0, 9)[0], name(0));
}

#[test]
fn the_number_of_a_delete_that_cannot_be_read_is_not_given_out_again() {
    let disk = Power::default();
    let id = super::segment::SegmentId { number: 1, salt: 7 };
    let mut bytes = id.header(0).to_vec();
    let pending = Delete { number: 2, time_ms: 0, pool: "p".into(), address: "x".into(), key: b"k".to_vec() };
    assert!(write_delete(&pending, id.salt, &mut bytes));
    // those from 3 to 9 stood between them
    assert!(write_done(Why::Delivered, &[9], id.salt, &mut bytes));
    disk.put(&id.name(), &bytes);
    let mut spool = Spool::open(&disk, bounds());
    assert!((0..10).all(|key| spool.append(&[(0, key)])));
    drop(spool);
    let spool = Spool::open(&disk, bounds());
    assert!((0..10).all(|key| spool.is_pending((0, key))));
}
