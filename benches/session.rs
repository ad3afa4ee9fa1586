//! What a request costs in a session in front of the embedded cache, through a unix socket in one thread.
//!
//! Run with `cargo bench --bench session`. Half of it is the kernel's; `scripts/icount` shows our half alone.

mod cases;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn session(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("session");
    for mut case in cases::session::cases() {
        group.throughput(Throughput::Elements(case.batch as u64));
        group.bench_function(case.name, |bencher| bencher.iter(&mut case.call));
    }
}

criterion_group!(benches, session);
criterion_main!(benches);
