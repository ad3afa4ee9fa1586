//! The spool's store over a disk in memory, whose power is cut at any of its calls, or which fails at it: with every delete safe
//! before it is acknowledged (`sync: each`), none is lost, and none is invented, whatever the clock says meanwhile.

use crate::plan::{Outcome, Plan};
use crate::support::Random;
use ringway::config::OnFull;
use ringway::spool::disk::Disk;
use ringway::spool::power::{Fails, Power};
use ringway::spool::{Book, Bounds, Store, Wanted, Why};
use std::collections::BTreeSet;
use std::sync::Arc;

const STEPS: usize = 60;
/// States in which a disk may be found after one cut.
const STATES: u64 = 8;
const ADDRESSES: [&str; 2] = ["10.0.0.1:11211", "cache-1.cache:11211"];

/// A server's place in [`ADDRESSES`] and a key.
type Deletes = BTreeSet<(usize, usize)>;

/// States that were recovered from.
pub(crate) fn run(plan: &Plan) -> Outcome {
    // some sixty calls, each with three failures and several states
    plan.each("history", 60 * (2 + STATES), one)
}

fn one(seed: u64) -> Outcome {
    let mut outcome = Outcome::default();
    let disk = Power::default();
    history(&mut Spool::open(&disk), seed);
    for call in 0..disk.calls_count() {
        for how in [Fails::Full, Fails::Broken, Fails::Off] {
            let disk = Power::default();
            disk.fail_at(call, how);
            let (owed, tried) = history(&mut Spool::open(&disk), seed);
            outcome.faults += 1;
            let states = if how == Fails::Off { STATES } else { 1 };
            for state in 0..states {
                let mut random = Random::new(seed ^ call << 32 ^ state << 56);
                let found = match how {
                    Fails::Off => Spool::open(&disk.after_cut(|| random.any() >> 8)),
                    _ => Spool::open(&disk),
                };
                outcome.checked += 1;
                for delete in owed.iter().filter(|delete| !found.is_pending(**delete)) {
                    outcome.report_lost(format_args!("{delete:?} at call {call}, {how:?}, state {state}"));
                }
                let known = tried.iter().filter(|delete| found.is_pending(**delete)).count();
                if known != found.book.pending() {
                    outcome
                        .report_wrong(format_args!("one is invented at call {call}, {how:?}, state {state}"));
                }
            }
        }
    }
    outcome
}

struct Spool {
    store: Store,
    book: Arc<Book>,
}

impl Spool {
    /// With segments so small that there are many.
    fn open(disk: &Power) -> Self {
        let bounds = Bounds { bytes_max: 8 << 10, age_max: None, on_full: OnFull::Error, syncs_each: true };
        let (book, disk) = (Arc::new(Book::default()), Arc::new(disk.clone()) as Arc<dyn Disk>);
        let store = Store::open(disk, Arc::clone(&book), bounds).unwrap_or_else(|error| panic!("{error}"));
        Self { store, book }
    }

    fn is_pending(&self, (server, key): (usize, usize)) -> bool {
        self.book.server(ADDRESSES[server]).is_pending(&name(key))
    }
}

fn name(key: usize) -> Vec<u8> {
    format!("key:{key}:{}", "x".repeat(key % 60)).into_bytes()
}

/// Appends and delivers: what was acknowledged and is still owed, and all that was ever tried.
fn history(spool: &mut Spool, seed: u64) -> (Deletes, Deletes) {
    let mut random = Random::new(seed);
    let (mut owed, mut tried) = (Deletes::new(), Deletes::new());
    for _ in 0..STEPS {
        let delete = (random.below(2), random.below(12));
        let pick = random.below(24);
        // a clock that steps to and fro, by centuries
        let time_ms = random.any() >> (20 + random.below(24));
        match random.below(8) {
            0..=4 => {
                let both = [delete, (delete.0, 12 + delete.1)];
                let wanted = both.map(|(server, key)| Wanted {
                    owed: spool.book.server(ADDRESSES[server]),
                    pool: "main".into(),
                    key: name(key).into(),
                });
                tried.extend(both);
                if spool.store.append(&wanted, time_ms).is_ok() {
                    owed.extend(both);
                }
            }
            5 | 6 => {
                if let Some(one) = owed.iter().nth(pick).copied() {
                    owed.remove(&one);
                    let number = spool.book.server(ADDRESSES[one.0]).take_out(&name(one.1));
                    spool.store.done(Why::Delivered, number.into_iter().collect());
                }
            }
            _ => spool.store.write_done(time_ms),
        }
    }
    (owed, tried)
}
