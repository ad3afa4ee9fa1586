//! mcrouter's hash functions against a second implementation, `tests/oracles/hashes.py`, which shares nothing with ours.

use crate::support::{Random, python};
use ringway::hash::{
    Member, Placement, Rendezvous, Ring, Spec, ch3_with_salt, spooky32, spooky64, weighted_ch3,
    weighted_ch3_with_salt,
};
use std::fmt::Write as _;

/// What the oracle is asked, and what ringway says itself.
#[derive(Default)]
struct Questions {
    text: String,
    ours: Vec<String>,
}

impl Questions {
    /// `what` is followed by the key.
    fn add(&mut self, what: &str, key: &[u8], ours: impl ToString) {
        let _ = write!(self.text, "{what} .");
        for byte in key {
            let _ = write!(self.text, "{byte:02x}");
        }
        self.text.push('\n');
        self.ours.push(ours.to_string());
    }

    fn compare(&self) {
        let theirs = python::ask("oracles/hashes.py", &self.text);
        let theirs: Vec<&str> = theirs.lines().collect();
        assert_eq!(theirs.len(), self.ours.len());
        let differ: Vec<String> = (self.text.lines().zip(&self.ours).zip(theirs))
            .filter(|((_, ours), theirs)| ours != theirs)
            .map(|((question, ours), theirs)| format!("{question}: ours {ours}, theirs {theirs}"))
            .collect();
        assert!(differ.is_empty(), "{} of {} differ, as {}", differ.len(), self.ours.len(), differ[0]);
    }
}

/// Keys as people have them, keys of shards, and bytes of every kind, of all lengths.
fn key(random: &mut Random, i: usize) -> Vec<u8> {
    let noise = |random: &mut Random, len: usize| (0..len).map(|_| random.below(256) as u8).collect();
    match i % 5 {
        0 => format!("user:{i}").into_bytes(),
        1 => format!("shard:{}:{i}", random.below(12)).into_bytes(),
        2 => format!("a-longer-key/{i}/{}", "x".repeat(random.below(200))).into_bytes(),
        3 => noise(random, i / 5 % 251),
        _ => [&b"s:"[..], &noise(random, 2), b":x"].concat(),
    }
}

fn member(_: usize) -> Member {
    Member { host: "h".into(), port: None, name: None, weight: 1 }
}

fn ring(placement: Placement, count: usize, lists: (&[f64], &[String]), salt: &str) -> Ring {
    let (weights, tags) = (lists.0.to_vec(), lists.1.to_vec());
    let spec = Spec { placement, weights, tags, salt: salt.into(), hash_stop: false, ..Spec::default() };
    Ring::build(&spec, &(0..count).map(member).collect::<Vec<_>>()).unwrap()
}

fn listed<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// Every length up to 300, on both sides of the 192 bytes where long messages begin; then far longer ones.
#[test]
fn spooky_of_every_length() {
    if !python::has_python() {
        return;
    }
    let mut random = Random::new(1);
    let mut questions = Questions::default();
    for len in (0..=300).flat_map(|len| [len; 6]).chain([383, 384, 385, 1_000, 4_096, 70_000]) {
        let key: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        let seed = [0, 0xface_2014, u32::MAX, random.below(1 << 32) as u32][random.below(4)];
        questions.add(&format!("spooky32 {seed}"), &key, spooky32(&key, seed));
        let seed = u64::from(seed) * 0x1_0000_0001;
        questions.add(&format!("spooky64 {seed}"), &key, spooky64(&key, seed));
    }
    questions.compare();
}

#[test]
fn placements_that_count_servers() {
    if !python::has_python() {
        return;
    }
    let mut random = Random::new(2);
    let mut questions = Questions::default();
    for count in [2, 3, 10, 100, 999] {
        let salt = ["", "pepper", "7"][count % 3];
        let ring = |placement| ring(placement, count, (&[], &[]), salt);
        let rings = [
            ("ch3", ring(Placement::Ch3)),
            ("crc32", ring(Placement::Crc32)),
            ("const_shard", ring(Placement::ConstShard)),
        ];
        for i in 0..1_000 {
            let key = key(&mut random, i);
            let salted = [&key, salt.as_bytes()].concat();
            for (name, ring) in &rings {
                questions.add(&format!("{name} {count}"), &salted, ring.pick(&key).unwrap());
            }
            let number = 2 + random.below(100) as u32;
            let numbered = [&key, number.to_string().as_bytes()].concat();
            questions.add(&format!("ch3 {count}"), &numbered, ch3_with_salt(&key, number, count));
        }
    }
    questions.compare();
}

#[test]
fn weighted_ch3_with_weights_of_all_kinds() {
    if !python::has_python() {
        return;
    }
    let mut random = Random::new(3);
    let mut questions = Questions::default();
    for count in [2, 3, 7, 20, 64] {
        for kind in 0..4 {
            let weights = weights(&mut random, count, kind);
            let what = format!("weighted_ch3 {}", listed(&weights));
            let salt = ["", "pepper"][kind % 2];
            let ring = ring(Placement::WeightedCh3, count, (&weights, &[]), salt);
            for i in 0..200 {
                let key = key(&mut random, i);
                questions.add(&what, &key, weighted_ch3(&key, &weights));
                questions.add(&what, &[&key, salt.as_bytes()].concat(), ring.pick(&key).unwrap());
                let numbered = [&key[..], b"31"].concat();
                questions.add(&what, &numbered, weighted_ch3_with_salt(&key, 31, &weights));
            }
        }
    }
    questions.compare();
}

#[test]
fn rendezvous_picks_and_ranks() {
    if !python::has_python() {
        return;
    }
    let mut random = Random::new(4);
    let mut questions = Questions::default();
    for count in [2, 3, 7, 40] {
        for kind in 0..4 {
            let tags: Vec<String> = (0..count).map(|i| format!("tag-{}.{i}", random.below(1_000))).collect();
            let weights = weights(&mut random, count, kind);
            let salt = ["", "pepper"][kind % 2];
            let plain = ring(Placement::Rendezvous, count, (&[], &tags), salt);
            let weighted = ring(Placement::WeightedRendezvous, count, (&weights, &tags), salt);
            let ranks = [None, Some(&weights[..])].map(|weights| Rendezvous::build(&tags, weights).unwrap());
            let (tags, weights) = (listed(&tags), listed(&weights));
            for i in 0..100 {
                let key = key(&mut random, i);
                let salted = [&key, salt.as_bytes()].concat();
                questions.add(&format!("rendezvous {tags}"), &salted, plain.pick(&key).unwrap());
                let what = format!("weighted_rendezvous {tags} {weights}");
                questions.add(&what, &salted, weighted.pick(&key).unwrap());
                let [plain, weighted] = [0, 1].map(|kind: usize| {
                    let mut out = Vec::new();
                    ranks[kind].rank(&key, &mut out);
                    listed(&out)
                });
                questions.add(&format!("rank {tags}"), &key, plain);
                questions.add(&format!("weighted_rank {tags} {weights}"), &key, weighted);
            }
        }
    }
    questions.compare();
}

/// All the same, all different, mostly zero, all zero.
fn weights(random: &mut Random, count: usize, kind: usize) -> Vec<f64> {
    let same = random.below(1_000) as f64 / 1_000.0 + 0.001;
    let mut one = |i: usize| match kind {
        0 => same.min(1.0),
        1 => random.below(1_001) as f64 / 1_000.0,
        2 if i == 1 => 0.25,
        _ => 0.0,
    };
    (0..count).map(&mut one).collect()
}
