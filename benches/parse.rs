//! What parsing and writing cost: requests, replies, bytes per second.
//!
//! Run with `cargo bench --bench parse`.

mod cases;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn parse(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("parse");
    for mut case in cases::parse::cases() {
        group.throughput(Throughput::Bytes(case.bytes as u64));
        group.bench_function(case.name, |bencher| bencher.iter(&mut case.call));
    }
}

criterion_group!(benches, parse);
criterion_main!(benches);
