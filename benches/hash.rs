//! What it costs to find a key's server: each placement, the key hashes, a multi-get, and the crate hash_ring beside ours.
//!
//! Run with `cargo bench --bench hash`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway::hash::{KeyHash, Member, Placement, Ring, Spec};

fn members(count: usize) -> Vec<Member> {
    (0..count).map(|i| Member { host: format!("mc-{i}"), port: Some(11211), name: None, weight: 1 }).collect()
}

/// 30 bytes each: a common length.
fn keys() -> Vec<Vec<u8>> {
    (0..1_024).map(|i| format!("user:{:09}:profile:v2:abcde", i * 7_919).into_bytes()).collect()
}

fn ring(placement: Placement, key_hash: Option<KeyHash>, servers: usize) -> Ring {
    let mut spec = Spec { placement, key_hash, ..Spec::default() };
    if placement.has_weight_list() {
        spec.weights = (0..servers).map(|i| if i % 2 == 0 { 1.0 } else { 0.5 }).collect();
    }
    if placement.has_tags() {
        spec.tags = (0..servers).map(|i| format!("tag-{i}")).collect();
    }
    Ring::build(&spec, &members(servers)).expect("a plain spec builds")
}

fn pick(bench: &mut Criterion) {
    let keys = keys();
    let mut group = bench.benchmark_group("pick");
    let mut time = |name: &str, ring: &Ring| {
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 1) % keys.len();
                ring.pick(black_box(&keys[at]))
            });
        });
    };
    for &(name, placement) in Placement::ALL {
        for servers in [3, 100] {
            time(&format!("{name}/{servers}"), &ring(placement, None, servers));
        }
    }
    for &(name, key_hash) in KeyHash::ALL {
        time(&format!("twemproxy-{name}/3"), &ring(Placement::Twemproxy, Some(key_hash), 3));
    }
}

fn pick_many(bench: &mut Criterion) {
    let keys = keys();
    let mut group = bench.benchmark_group("pick_many");
    for placement in [Placement::Ketama, Placement::Twemproxy] {
        let ring = ring(placement, None, 3);
        for count in [2, 8, 50] {
            group.throughput(Throughput::Elements(count as u64));
            let mut out = Vec::with_capacity(count);
            group.bench_function(format!("{}/{count}", placement.name()), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    ring.pick_many(black_box(&keys[..count]).iter().map(Vec::as_slice), &mut out);
                    out.len()
                });
            });
        }
    }
}

fn the_crate(bench: &mut Criterion) {
    let names = members(3).iter().map(|member| format!("{}:11211", member.host)).collect();
    let ring = hash_ring::HashRing::new(names, 160);
    let keys: Vec<String> = keys().into_iter().filter_map(|key| String::from_utf8(key).ok()).collect();
    let mut at = 0;
    bench.bench_function("the crate hash_ring/3", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % keys.len();
            ring.get_node(black_box(keys[at].clone())).is_some()
        });
    });
}

criterion_group!(benches, pick, pick_many, the_crate);
criterion_main!(benches);
