//! What it costs to go from a key to its leaf.
//!
//! Run with `cargo bench --bench route`.

mod cases;

use criterion::{Criterion, criterion_group, criterion_main};

fn route(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("route");
    for mut case in cases::route::cases() {
        group.bench_function(case.name, |bencher| bencher.iter(&mut case.call));
    }
}

criterion_group!(benches, route);
criterion_main!(benches);
