//! Whole rings against what their originals answer, and the helpers of the room's other tests.

use super::*;

/// A line of `vectors.csv`: 300 keys hashed by mcrouter's own C code (`lib/fbi/hash.c`).
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) murmur64a: u64,
    pub(super) crc32: u32,
    /// (number of servers, index)
    pub(super) ch3: Vec<(u32, u32)>,
}

pub(super) fn mcrouter_rows() -> impl Iterator<Item = Row> {
    let mut lines = include_str!("vectors.csv").lines();
    let sizes: Vec<u32> =
        lines.next().unwrap().split(',').filter_map(|name| name.strip_prefix("ch3_")?.parse().ok()).collect();
    lines.map(move |line| {
        let mut cells = line.split(',');
        let mut cell = || cells.next().unwrap();
        let (key, murmur64a, crc32) = (cell(), cell().parse().unwrap(), cell().parse().unwrap());
        let ch3 = sizes.iter().map(|&size| (size, cell().parse().unwrap())).collect();
        Row { key, murmur64a, crc32, ch3 }
    })
}

pub(super) fn member(host: &str, port: u16, weight: u32) -> Member {
    Member { host: host.into(), port: Some(port), name: None, weight }
}

/// mc-0, mc-1, … of weight 1.
pub(super) fn equal(count: usize, port: u16) -> Vec<Member> {
    (0..count).map(|i| member(&format!("mc-{i}"), port, 1)).collect()
}

pub(super) fn weighted(weights: &[u32]) -> Vec<Member> {
    weights
        .iter()
        .enumerate()
        .map(|(i, &weight)| member(&format!("10.0.1.{}", i + 1), 11211, weight))
        .collect()
}

/// The bytes from 0x80 upwards round to 0x7f, and the same backwards: keys of mcrouter's tests.
pub(super) fn all_bytes() -> (Vec<u8>, Vec<u8>) {
    let up: Vec<u8> = (0..=255).map(|i: u8| i.wrapping_add(128)).collect();
    let down = up.iter().rev().copied().collect();
    (up, down)
}

/// How often each index was picked.
pub(super) fn counts(len: usize, picks: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut counts = vec![0; len];
    picks.for_each(|index| counts[index] += 1);
    counts
}

/// A spec with the lists that the placement needs for so many members.
fn spec(placement: Placement, count: usize) -> Spec {
    let weights = if placement.has_weight_list() { count } else { 0 };
    let tags = if placement.has_tags() { count } else { 0 };
    Spec {
        placement,
        weights: (0..weights).map(|i| 1.0 / (1 + i) as f64).collect(),
        tags: (0..tags).map(|i| format!("tag-{i}")).collect(),
        ..Spec::default()
    }
}

fn ring(placement: &str, key_hash: Option<&str>, members: &[Member]) -> Ring {
    let placement = Placement::from_name(placement).unwrap();
    let key_hash = key_hash.map(|name| KeyHash::from_name(name).unwrap());
    Ring::build(&Spec { placement, key_hash, ..Spec::default() }, members).unwrap()
}

const KEYS: [&str; 5] = ["foo", "bar", "user:1", "user:2", "session:abc"];

#[test]
fn three_servers_on_the_default_port() {
    for (placement, key_hash, picks) in [
        ("twemproxy", None, [1, 2, 0, 0, 2]),
        ("twemproxy", Some("md5"), [1, 2, 0, 1, 1]),
        ("ketama", None, [1, 2, 0, 1, 1]),
        ("ketama", Some("fnv1a_64"), [1, 2, 0, 0, 2]),
        ("spymemcached", None, [1, 2, 0, 1, 1]),
        ("pymemcache", None, [2, 0, 0, 2, 0]),
    ] {
        let ring = ring(placement, key_hash, &equal(3, 11211));
        assert_eq!(KEYS.map(|key| ring.pick(key.as_bytes()).unwrap()), picks, "{placement} {key_hash:?}");
    }
}

#[test]
fn weights_and_ports() {
    let members =
        [("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 2)].map(|(host, weight)| member(host, 11212, weight));
    for (placement, picks) in [("ketama", [1, 0, 2, 0, 2]), ("twemproxy", [0, 2, 1, 1, 0])] {
        let ring = ring(placement, None, &members);
        assert_eq!(KEYS.map(|key| ring.pick(key.as_bytes()).unwrap()), picks, "{placement}");
        assert_eq!(ring.explain(b"foo").points, 480);
    }
}

#[test]
fn a_hash_past_the_last_point_wraps() {
    // The key and weights are libmemcached's own test of the wrap.
    let members = weighted(&[600, 300, 200, 350, 1000, 800, 950, 100]);
    let ring = ring("ketama", None, &members);
    let told = ring.explain(b"VDEAAAAA");
    let Some(Rule::Hashed { table: rule::Table::Points(points), .. }) = &ring.rule else {
        panic!("no points")
    };
    assert!(told.hash.unwrap() > points.point(points.len() - 1).0.into());
    assert_eq!(told.index, Some(points.point(0).1 as usize));
}

#[test]
fn mcrouter_rings() {
    for Row { key, ch3, crc32, .. } in mcrouter_rows() {
        for (count, index) in ch3.into_iter().filter(|row| row.0 <= 100) {
            let members = equal(count as usize, 11211);
            assert_eq!(ring("ch3", None, &members).pick(key.as_bytes()), Some(index as usize));
            let crc32 = (crc32 & 0x7fff_ffff) % count;
            assert_eq!(ring("crc32", None, &members).pick(key.as_bytes()), Some(crc32 as usize));
        }
    }
}

#[test]
fn modulo_rings() {
    let members = equal(7, 11211);
    for key in KEYS.map(str::as_bytes) {
        let by = |hash: KeyHash| Some(hash.hash(key, true) as usize % 7);
        assert_eq!(ring("gomemcache", None, &members).pick(key), by(KeyHash::Crc32a));
        assert_eq!(ring("modula", None, &members).pick(key), by(KeyHash::Fnv1a64));
        assert_eq!(ring("modula", Some("one_at_a_time"), &members).pick(key), by(KeyHash::OneAtATime));
    }
}

/// Key number i of the fixtures.
fn fixture_key(i: usize) -> Vec<u8> {
    let n = i.to_string();
    let n = n.as_bytes();
    match i % 6 {
        0 => [b"user:", n].concat(),
        1 => [b"session:", n, b":token"].concat(),
        2 => ["café:".as_bytes(), n].concat(),
        3 => ["€".as_bytes(), n, b"\xff\x80"].concat(),
        4 => [b"a-rather-long-key-that-fills-more-than-one-md5-block/", n, b"/item"].concat(),
        _ => n.to_vec(),
    }
}

/// The server of each key of a fixture's line: digits of base 62.
fn fixture_picks(digits: &str) -> Vec<u32> {
    const BASE62: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    digits.chars().map(|digit| BASE62.find(digit).unwrap() as u32).collect()
}

fn assert_places_fixture(ring: &Ring, digits: &str, line: &str) {
    let keys: Vec<Vec<u8>> = (0..1_000).map(fixture_key).collect();
    let mut picks = Vec::new();
    ring.pick_many(keys.iter().map(Vec::as_slice), &mut picks);
    assert_eq!(picks, fixture_picks(digits), "{line}");
}

#[test]
fn as_libmemcached_itself() {
    let mut socket = member("/run/mc.sock", 0, 350);
    socket.port = None;
    let mixed = [
        member("10.0.0.1", 11211, 600),
        member("10.0.0.2", 11212, 300),
        member("cache.example", 11211, 1),
        socket,
        member("10.0.0.5", 11211, 1000),
    ];
    let lines = include_str!("fixtures/libmemcached.txt").lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let [placement, key_hash, servers, digits] = *line.split(' ').collect::<Vec<_>>() else {
            panic!("{line}")
        };
        let members = match servers.strip_prefix("equal") {
            Some(count) => equal(count.parse().unwrap(), 11211),
            None => mixed.to_vec(),
        };
        assert_places_fixture(&ring(placement, Some(key_hash), &members), digits, line);
    }
}

#[test]
fn as_pymemcache_itself() {
    let lines = include_str!("fixtures/pymemcache.txt").lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let [placement, port, servers, digits] = *line.split(' ').collect::<Vec<_>>() else {
            panic!("{line}")
        };
        let count = servers.trim_start_matches("equal").parse().unwrap();
        let members = equal(count, port.parse().unwrap());
        assert_places_fixture(&ring(placement, None, &members), digits, line);
    }
}

#[test]
fn one_member_or_none() {
    for &(name, placement) in Placement::ALL {
        let mut out = Vec::new();
        let none = Ring::build(&spec(placement, 0), &[]).unwrap();
        none.pick_many(KEYS.map(str::as_bytes), &mut out);
        assert_eq!((none.pick(b"foo"), none.len(), none.is_empty(), out.len()), (None, 0, true, 0), "{name}");
        let one = Ring::build(&spec(placement, 1), &equal(1, 11211)).unwrap();
        one.pick_many(KEYS.map(str::as_bytes), &mut out);
        assert_eq!((one.pick(b"foo"), one.len(), &*out), (Some(0), 1, &[0; 5][..]), "{name}");
        assert_eq!(one.explain(b"foo").hash, None);
    }
}

#[test]
fn what_cannot_be_placed() {
    let fault = |spec: Spec, members: &[Member]| Ring::build(&spec, members).unwrap_err().0;
    for &(name, placement) in Placement::ALL {
        let spec = spec(placement, 2);
        assert!(fault(spec.clone(), &weighted(&[1, 0])).contains("weight 0"), "{name}");
        let heavy = Ring::build(&spec, &weighted(&[1, 2]));
        assert_eq!(heavy.is_ok(), placement.has_weights(), "{name}");
        let hashed = Ring::build(&Spec { key_hash: Some(KeyHash::Md5), ..spec }, &equal(2, 11211));
        assert_eq!(hashed.is_ok(), placement.has_key_hash(), "{name}");
    }
}

#[test]
fn lists_have_one_entry_for_each_server() {
    let members = equal(2, 11211);
    let build = |spec: Spec| Ring::build(&spec, &members);
    for &(name, placement) in Placement::ALL {
        let fits = spec(placement, 2);
        assert!(build(fits.clone()).is_ok(), "{name}");
        for count in [1, 3] {
            let weights = Spec { weights: vec![1.0; count], ..fits.clone() };
            let tags = Spec { tags: vec!["a".into(); count], ..fits.clone() };
            assert!(build(weights).is_err() && build(tags).is_err(), "{name}");
        }
        for weight in [-0.1, 1.5, f64::NAN, f64::INFINITY] {
            let built = build(Spec { weights: vec![1.0, weight], ..fits.clone() });
            assert_eq!(built.is_ok(), placement == Placement::WeightedRendezvous && weight == 1.5, "{name}");
        }
    }
}

#[test]
fn a_salt_stands_behind_the_part_that_counts() {
    let salt = "-pepper".to_owned();
    for &(name, placement) in Placement::ALL.iter().filter(|row| row.1 != Placement::Random) {
        let plain = Ring::build(&spec(placement, 5), &equal(5, 11211)).unwrap();
        let salted =
            Ring::build(&Spec { salt: salt.clone(), ..spec(placement, 5) }, &equal(5, 11211)).unwrap();
        let keys: Vec<Vec<u8>> = (0..250).map(fixture_key).collect();
        let mut many = Vec::new();
        salted.pick_many(keys.iter().map(Vec::as_slice), &mut many);
        for (key, many) in keys.iter().zip(many) {
            let expected = plain.explain(&[key, salt.as_bytes()].concat()).index;
            let stopped = [key, &b"|#|tail"[..]].concat();
            assert_eq!((salted.pick(key), Some(many as usize)), (expected, expected), "{name}");
            assert_eq!((salted.pick(&stopped), salted.explain(key).index), (expected, expected), "{name}");
            assert_eq!(salted.explain(&stopped).hashed, &key[..], "{name}");
        }
    }
    let long = |placement, len| {
        let spec = Spec { salt: "s".repeat(len), ..spec(placement, 2) };
        Ring::build(&spec, &equal(2, 11211)).is_ok()
    };
    assert!(long(Placement::Ch3, SALT_BYTES_MAX) && !long(Placement::Ch3, SALT_BYTES_MAX + 1));
    assert!(!long(Placement::Random, 1), "it hashes nothing");
}

#[test]
fn ch3_with_a_number_as_the_salt() {
    for i in 0..500 {
        let (key, weights) = (format!("key:{i}"), [1.0, 0.3, 0.6]);
        for salt in [0, 2, 31, 4_000_000_000] {
            let salted = format!("{key}{salt}");
            let (key, salted) = (key.as_bytes(), salted.as_bytes());
            assert_eq!(ch3_with_salt(key, salt, 7), ch3::index(ch3::hash(salted), 7) as usize);
            assert_eq!(weighted_ch3_with_salt(key, salt, &weights), weighted_ch3(salted, &weights));
        }
    }
    assert_eq!((ch3_with_salt(b"k", 2, 1), ch3_with_salt(b"k", 2, 0)), (0, 0));
    assert_eq!((weighted_ch3(b"k", &[]), weighted_ch3(b"k", &[0.0])), (0, 0));
}

#[test]
fn tag_stop_and_sign_reach_the_ring() {
    let members = equal(3, 11211);
    let build = |spec| Ring::build(&spec, &members).unwrap();
    let tagged = build(Spec { hash_tag: Some((b'{', b'}')), ..Spec::default() });
    assert_eq!(tagged.explain(b"a{foo}b"), tagged.explain(b"foo"));
    assert_eq!(tagged.explain(b"foo|#|b").hashed, b"foo");
    let unstopped = build(Spec { hash_stop: false, ..Spec::default() });
    assert_eq!(unstopped.explain(b"foo|#|b").hashed, b"foo|#|b");
    for (signed_char, hash) in [(true, 503_911_478), (false, 525_515_318)] {
        let ring = build(Spec { placement: Placement::Twemproxy, signed_char, ..Spec::default() });
        assert_eq!(ring.explain("clé".as_bytes()).hash, Some(hash));
    }
}

mod any_key {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn has_one_place_however_one_asks(
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40),
            servers in 2usize..40,
            signed_char: bool,
            hash_tag in prop::option::of(any::<(u8, u8)>()),
            salt in "[a-z]{0,9}",
        ) {
            let members = equal(servers, 11211);
            for &(name, placement) in Placement::ALL {
                let salt = if placement == Placement::Random { String::new() } else { salt.clone() };
                let spec = Spec { signed_char, hash_tag, salt, ..spec(placement, servers) };
                let ring = Ring::build(&spec, &members).unwrap();
                let mut many = Vec::new();
                ring.pick_many(keys.iter().map(Vec::as_slice), &mut many);
                prop_assert_eq!(many.len(), keys.len());
                for (key, &index) in keys.iter().zip(&many) {
                    prop_assert!((index as usize) < servers, "{}", name);
                    if placement != Placement::Random {
                        prop_assert_eq!(ring.pick(key), Some(index as usize), "{}", name);
                        prop_assert_eq!(ring.explain(key).index, Some(index as usize), "{}", name);
                    }
                }
            }
        }
    }
}

#[test]
fn a_ring_without_members_is_empty() {
    assert!(ring("ketama", None, &[]).is_empty());
    assert!(!ring("ketama", None, &equal(1, 1)).is_empty() && !ring("ketama", None, &equal(2, 1)).is_empty());
}

/// Every placement: without anybody left out it is `pick`; whoever is left out is not picked, and keys of the others stay.
#[test]
fn among_those_that_are_accepted() {
    const SERVERS: usize = 7;
    for &(name, placement) in Placement::ALL {
        let ring = Ring::build(&spec(placement, SERVERS), &equal(SERVERS, 11211)).unwrap();
        let mut heirs = [0; SERVERS];
        for i in 0..700_u64 {
            let key = format!("{:x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)); // alike, twemproxy's hash leaves them together
            let key = key.as_bytes();
            let Some(home) = ring.place(key) else {
                assert_eq!(ring.pick_where(key, |server| server == 3), Some(3), "{name}");
                continue;
            };
            assert_eq!(ring.pick_where(key, |_| true), Some(home), "{name}");
            assert_eq!(ring.pick_where(key, |server| server != (home + 1) % SERVERS), Some(home), "{name}");
            let heir = ring.pick_where(key, |server| server != home).unwrap();
            assert_ne!(heir, home, "{name}");
            heirs[heir] += 1;
            assert_eq!(ring.pick_where(key, |server| server == 2), Some(2), "{name}");
            assert_eq!(ring.pick_where(key, |_| false), None, "{name}");
        }
        assert!(ring.place(b"k").is_none() || heirs.iter().all(|keys| *keys > 30), "{name}: {heirs:?}");
    }
    let alone = Ring::build(&Spec::default(), &equal(1, 11211)).unwrap();
    assert_eq!((alone.pick_where(b"k", |_| true), alone.pick_where(b"k", |_| false)), (Some(0), None));
}

/// `Ring::check` says what `Ring::build` would.
#[test]
fn checked_is_built() {
    for (_, placement) in Placement::ALL {
        for (weights, tags, list) in
            [(vec![1], 1, 1), (vec![1, 1], 2, 2), (vec![3, 1], 2, 2), (vec![1, 1, 1], 2, 3)]
        {
            let members = weighted(&weights);
            let weights = if placement.has_weight_list() { vec![0.5; list] } else { Vec::new() };
            let tags =
                if placement.has_tags() { (0..tags).map(|i| format!("t{i}")).collect() } else { Vec::new() };
            let spec = Spec { placement: *placement, weights, tags, ..Spec::default() };
            assert_eq!(Ring::check(&spec, &members), Ring::build(&spec, &members).map(drop), "{spec:?}");
        }
    }
}
