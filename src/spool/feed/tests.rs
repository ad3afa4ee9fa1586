//! A feed that is written and read: over changes of files, torn lines, other writers, and never past a gap.

use super::*;
use proptest::prelude::*;
use std::fs::{self, OpenOptions};
use std::io::Write as _;

const ROOMY: u64 = 1 << 20;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringway-feed-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path); // of a test that was killed
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn feed(&self) -> PathBuf {
        self.0.join("feed")
    }

    fn open(&self, bytes_max: u64) -> FeedFile {
        FeedFile::open(&self.feed(), bytes_max, false).unwrap()
    }

    fn refused(&self) -> String {
        FeedFile::open(&self.feed(), ROOMY, false).err().unwrap().to_string()
    }

    fn reader(&self) -> Reader {
        Reader::new(&self.feed(), Start::Oldest)
    }

    fn add(&self, bytes: &[u8]) {
        OpenOptions::new().append(true).open(self.feed()).unwrap().write_all(bytes).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn append(feed: &mut FeedFile, keys: &[&str]) {
    feed.append(keys.iter().map(|key| key.as_bytes()), 7).unwrap();
}

fn keys(reader: &mut Reader) -> Vec<String> {
    let told = reader.read(usize::MAX).unwrap();
    told.into_iter().map(|told| String::from_utf8(told.key).unwrap()).collect()
}

fn error(reader: &mut Reader) -> String {
    reader.read(usize::MAX).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read_as_it_grows() {
    let scratch = Scratch::new("grows");
    let mut reader = scratch.reader();
    assert!(reader.read(9).unwrap().is_empty(), "it is not there yet");
    let mut feed = scratch.open(ROOMY);
    assert!(keys(&mut reader).is_empty());
    append(&mut feed, &["a", "b\u{1}\"é"]);
    append(&mut feed, &["c"]);
    assert_eq!(reader.read(1).unwrap()[0], Told { number: 1, time_ms: 7, key: b"a".to_vec() });
    assert_eq!(keys(&mut reader), ["b\u{1}\"é", "c"]);
    assert_eq!(reader.position().unwrap().next, 4);
    // another one goes on from there
    let position = reader.position().unwrap().to_string().parse().unwrap();
    append(&mut feed, &["d"]);
    assert_eq!(keys(&mut Reader::new(&scratch.feed(), Start::At(position))), ["d"]);
    let mut newest = Reader::new(&scratch.feed(), Start::Now);
    assert!(keys(&mut newest).is_empty());
    append(&mut feed, &["e"]);
    assert_eq!(keys(&mut newest), ["e"]);
}

#[test]
fn files_change_under_readers_and_other_writers() {
    let scratch = Scratch::new("rotation");
    let (mut one, mut other) = (scratch.open(1_000), scratch.open(1_000));
    let mut reader = scratch.reader();
    for number in 0..200 {
        let writer = if number % 3 == 0 { &mut one } else { &mut other };
        append(writer, &[&format!("key-{number}")]);
        assert_eq!(keys(&mut reader), [format!("key-{number}")]);
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
        assert!(bytes(&scratch.feed()) + bytes(&older(&scratch.feed())) <= 1_000);
    }
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 2, "nothing else is left");
    // whoever begins now has the two files that are there, whole
    let all = scratch.reader().read(usize::MAX).unwrap();
    assert!(all.len() > 10 && all.last().unwrap().number == 200, "{}", all.len());
    assert!(all.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
}

#[test]
fn who_comes_too_late_is_told_what_is_missing() {
    let scratch = Scratch::new("late");
    let mut feed = scratch.open(1_000);
    append(&mut feed, &["first"]);
    let mut reader = scratch.reader();
    assert_eq!(keys(&mut reader), ["first"]);
    let position = reader.position().unwrap().clone();
    for number in 0..100 {
        append(&mut feed, &[&format!("key-{number}")]);
    }
    let oldest = scratch.reader().read(1).unwrap()[0].number;
    let wanted = format!("deletes 2 to {} are not in the feed any more", oldest - 1);
    let said = error(&mut Reader::new(&scratch.feed(), Start::At(position)));
    assert!(said.starts_with(&wanted), "{said}");
    // one that has the old file open reads it to its end first
    let mut said = Vec::new();
    let missing = loop {
        match reader.read(1) {
            Ok(told) => said.extend(told.into_iter().map(|told| told.number)),
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!(said, (2..2 + said.len() as u64).collect::<Vec<_>>());
    let wanted = format!("deletes {} to {} are not", 2 + said.len(), oldest - 1);
    assert!(missing.starts_with(&wanted), "{missing}");
}

#[test]
fn a_torn_line_is_passed_by_and_a_lost_one_is_not() {
    let scratch = Scratch::new("torn");
    append(&mut scratch.open(ROOMY), &["a"]);
    scratch.add(b"{\"n\":2,\"t\":7,\"k\":\"to");
    let mut reader = scratch.reader();
    assert_eq!(keys(&mut reader), ["a"], "half a line is none yet");
    append(&mut scratch.open(ROOMY), &["b"]);
    assert_eq!(keys(&mut reader), ["b"]);
    assert_eq!(reader.broken_count, 1);
    scratch.add(b"rubbish\n{\"n\":5,\"t\":7,\"k\":\"e\"}\n");
    let wanted = "deletes 3 to 4 are not in the feed any more";
    assert!(error(&mut reader).starts_with(wanted));
    // what is written behind it does not use a number again
    append(&mut scratch.open(ROOMY), &["f"]);
    assert!(fs::read_to_string(scratch.feed()).unwrap().ends_with("{\"n\":6,\"t\":7,\"k\":\"f\"}\n"));
}

#[test]
fn a_line_that_lacks_only_its_end_has_used_its_number() {
    for rotates in [false, true] {
        let scratch = Scratch::new("endless");
        append(&mut scratch.open(ROOMY), &["a".repeat(60).as_str()]);
        scratch.add(b"{\"n\":2,\"t\":7,\"k\":\"b\"}");
        let bytes = fs::metadata(scratch.feed()).unwrap().len();
        append(&mut scratch.open(if rotates { bytes * 2 } else { ROOMY }), &["c"]);
        assert_eq!(older(&scratch.feed()).exists(), rotates);
        assert_eq!(keys(&mut scratch.reader())[1..], ["b", "c"], "rotates: {rotates}");
    }
}

#[test]
fn what_is_missing_between_the_two_files_is_told_after_what_is_before_it() {
    for is_removed in [true, false] {
        let scratch = Scratch::new(if is_removed { "between" } else { "broken" });
        let mut feed = scratch.open(1_000);
        let mut last = 0;
        while last < 3 || fs::read_to_string(scratch.feed()).unwrap().lines().count() != 3 {
            append(&mut feed, &["key"]);
            last += 1;
        }
        // two deletes are in the newer file
        let mut before = last - 2;
        if is_removed {
            fs::remove_file(scratch.feed()).unwrap();
            append(&mut feed, &["key"]);
        } else {
            let text = fs::read_to_string(older(&scratch.feed())).unwrap();
            let (kept, _) = text.trim_end().rsplit_once('\n').unwrap();
            fs::write(older(&scratch.feed()), format!("{kept}\nrubbish\n")).unwrap();
            before -= 1;
        }
        let mut reader = scratch.reader();
        let told = reader.read(usize::MAX).unwrap();
        assert_eq!(told.last().unwrap().number, before);
        let to = if is_removed { last } else { before + 1 };
        let wanted = format!("deletes {} to {to} are not in the feed any more", before + 1);
        for _ in 0..2 {
            let said = error(&mut reader);
            assert!(said.starts_with(&wanted), "{said}");
        }
    }
}

#[test]
fn what_is_before_a_gap_in_a_file_comes_before_it() {
    let scratch = Scratch::new("gap");
    append(&mut scratch.open(ROOMY), &["a", "b"]);
    scratch.add(b"{\"n\":4,\"t\":7,\"k\":\"d\"}\n");
    let mut reader = scratch.reader();
    assert_eq!(keys(&mut reader), ["a", "b"]);
    assert!(error(&mut reader).starts_with("deletes 3 to 3 are not in the feed any more"));
}

#[test]
fn another_feed_or_one_that_lost_its_end_is_not_followed() {
    let scratch = Scratch::new("other");
    append(&mut scratch.open(ROOMY), &["a", "b", "c"]);
    let mut reader = scratch.reader();
    assert_eq!(keys(&mut reader).len(), 3);
    let position = reader.position().unwrap().clone();
    let text = fs::read_to_string(scratch.feed()).unwrap();
    let kept: Vec<&str> = text.lines().take(2).collect();
    fs::write(scratch.feed(), kept.join("\n") + "\n").unwrap();
    let said = error(&mut Reader::new(&scratch.feed(), Start::At(position.clone())));
    assert!(said.starts_with("the feed ends before 4, with 1"), "{said}");
    fs::remove_file(scratch.feed()).unwrap();
    append(&mut scratch.open(ROOMY), &["a", "b", "c", "d"]);
    let said = error(&mut Reader::new(&scratch.feed(), Start::At(position.clone())));
    assert!(said.contains(&format!("not {}: it was begun anew", position.feed)), "{said}");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let scratch = Scratch::new("foreign");
    fs::write(scratch.feed(), "my notes\n").unwrap();
    assert!(scratch.refused().ends_with("this is no feed of ours; nothing was changed"));
    assert_eq!(error(&mut scratch.reader()), "this is no feed");
    let newer = "{\"feed\":\"6f1c0a5b22e94d07\",\"version\":2}\n";
    fs::write(scratch.feed(), newer).unwrap();
    assert!(scratch.refused().ends_with("a feed of a newer version (2); nothing was changed"));
    assert_eq!(error(&mut scratch.reader()), "a feed of a newer version, 2");
    assert_eq!(fs::read_to_string(scratch.feed()).unwrap(), newer);
    fs::remove_file(scratch.feed()).unwrap();
    fs::write(older(&scratch.feed()), "my notes\n").unwrap();
    assert!(scratch.refused().contains("feed.1: this is no feed of ours"));
    fs::remove_file(older(&scratch.feed())).unwrap();
    fs::create_dir(scratch.feed()).unwrap();
    assert!(scratch.refused().ends_with("this is no file; nothing was changed"));
    fs::remove_dir_all(&scratch.0).unwrap();
    assert!(scratch.refused().ends_with("its directory is not there"));
}

#[test]
fn a_file_that_somebody_removed_is_begun_again_and_goes_on_counting() {
    let scratch = Scratch::new("removed");
    let mut feed = scratch.open(ROOMY);
    append(&mut feed, &["a"]);
    fs::remove_file(scratch.feed()).unwrap();
    append(&mut feed, &["b"]);
    let told = scratch.reader().read(usize::MAX).unwrap();
    assert_eq!((told.len(), told[0].number), (1, 2));
}

proptest! {
    #[test]
    fn any_key_survives(key in proptest::collection::vec(any::<u8>(), 1..250)) {
        let mut line = Vec::new();
        write_line(9, 8, &key, &mut line);
        prop_assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        prop_assert!(line.len() < LINE_BYTES_MAX);
        prop_assert_eq!(parse_line(&line), Some(Told { number: 9, time_ms: 8, key }));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..200) {
        let scratch = Scratch::new("any");
        append(&mut scratch.open(ROOMY), &["a", "b", "c"]);
        let mut text = fs::read(scratch.feed()).unwrap();
        let at = at.min(text.len());
        text.splice(at..at, bytes);
        fs::write(scratch.feed(), text).unwrap();
        let mut reader = scratch.reader();
        let _ = reader.read(usize::MAX); // found or refused
        let _ = FeedFile::open(&scratch.feed(), ROOMY, false).map(|mut feed| append(&mut feed, &["d"]));
    }
}
