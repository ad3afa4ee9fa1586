//! Both dialects together: properties over random bytes and random requests, and what the tables of
//! `ascii` and `meta` are read with.

use proptest::prelude::*;

use super::ascii::{Framed, Scratch, frame, parse_reply, parse_request, write_multi_get, write_request};
use super::limits::{self, LINE_BYTES_MAX};
use super::{Cause, Keys, Line, LineError, Op, Request, Status, Value, WireBuf, letter_bit, meta};

pub(super) const BAD: &str = "CLIENT_ERROR bad command line format";

/// What is done with the first line of `sent`, in words short enough for a table.
pub(super) fn outcome(sent: &[u8]) -> String {
    let Framed::Line { line, consumed } = frame(sent, 0) else { return format!("{:?}", frame(sent, 0)) };
    let mut scratch = Scratch::default();
    match parse_request(line, consumed, &mut scratch) {
        Err(LineError { answer, swallow, close }) => {
            let answer = answer.unwrap_or("(nothing)");
            let swallow = if swallow == 0 { String::new() } else { format!(" +{swallow}") };
            format!("{answer}{swallow}{}", if close { " closed" } else { "" })
        }
        Ok(line) => written(&line),
    }
}

/// How the line would be sent on, ` quiet` behind it when the client shall hear nothing.
fn written(line: &Line<'_>) -> String {
    let mut out = WireBuf::new();
    let quiet = match line {
        Line::Request(request) | Line::Storage(request, _) => {
            let value = vec![b'.'; if let Line::Storage(_, length) = line { (*length).min(64) } else { 0 }];
            let request = Request { value: Value::Slice(&value), ..*request };
            if request.op.is_meta() {
                meta::write_request(&request, None, &mut out);
            } else {
                write_request(&request, &mut out);
            }
            request.quiet
        }
        Line::MultiGet(request) => {
            write_multi_get(request, &mut out);
            false
        }
        Line::Admin(admin) => return format!("{admin:?}"),
    };
    let text = String::from_utf8_lossy(out.single().unwrap()).into_owned();
    format!("{}{}", text.replace("\r\n", "|"), if quiet { " quiet" } else { "" })
}

pub(super) fn check(rows: &[(&str, &str)]) {
    let long = "k".repeat(251);
    for (sent, expected) in rows {
        let (key250, opq31, opq32) = (&long[1..], &"1".repeat(31), &"1".repeat(32));
        let sent = sent.replace("KEY251", &long).replace("KEY250", key250);
        let sent = sent.replace("OPQ31", opq31).replace("OPQ32", opq32);
        let expected = expected.replace("BAD", BAD).replace("KEY250", key250).replace("OPQ31", opq31);
        assert_eq!(outcome(format!("{sent}\r\n").as_bytes()), expected, "{sent:?}");
    }
}
/// Bytes that look enough like a line to reach every branch.
fn line_like() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "get",
            "gets",
            "gat",
            "gats",
            "set",
            "add",
            "cas",
            "append",
            "prepend",
            "replace",
            "incr",
            "decr",
            "delete",
            "touch",
            "mg",
            "ms",
            "md",
            "ma",
            "me",
            "mn",
            "flush_all",
            "verbosity",
            "stats",
            "watch",
            "noreply",
            "HTTP/1",
            "0",
            "1",
            "-1",
            "-",
            "007",
            "4294967296",
            "18446744073709551616",
            "key",
            "Zm9v",
            "Zg==",
            "b",
            "k",
            "q",
            "v",
            "T30",
            "N-1",
            "Tx",
            "O123",
            "MS",
            "MI",
            "M",
            "F5",
            "C7",
            "E7",
            "J1",
            "D2",
            "P",
            "L",
            "x",
            "I",
            "!",
            "z",
            "\r",
            "\t",
            ""
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
        (240usize..260).prop_map(|n| vec![b'k'; n]),
    ];
    prop::collection::vec((word, 1usize..3), 0..26).prop_map(|words| {
        let mut line = Vec::new();
        for (index, (word, spaces)) in words.into_iter().enumerate() {
            line.resize(line.len() + if index == 0 { spaces - 1 } else { spaces }, b' ');
            line.extend(word);
        }
        line
    })
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"noreply".to_vec()),
        prop::collection::vec(any::<u8>().prop_filter("no separator", |b| !b" \n".contains(b)), 1..=250)
    ]
}

/// What a request says, for comparing.
fn said(request: &Request<'_>) -> impl PartialEq + std::fmt::Debug + use<> {
    let Request { op, key, flags, exptime, number, meta, .. } = *request;
    let flags_sent: Vec<_> =
        meta.iter().filter(|(letter, _)| *letter != b'q').map(|(l, t)| (l, t.to_vec())).collect();
    let letters = meta.letters & !letter_bit(b'q');
    (
        (op, key.to_vec(), flags, exptime, number),
        (meta.token.to_vec(), flags_sent, letters, meta.opaque.map(<[u8]>::to_vec)),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), scanned in 0usize..500) {
        let mut scratch = Scratch::default();
        if let Framed::Line { line, consumed } = frame(&bytes, 0) {
            let _ = parse_request(line, consumed, &mut scratch);
        }
        let _ = frame(&bytes, scanned);
        let _ = parse_request(&bytes, bytes.len(), &mut scratch);
        let _ = parse_reply(&bytes);
    }

    /// Cut anywhere, a line is framed the same.
    #[test]
    fn framing_knows_no_segments(line in line_like(), cut in 0usize..2000) {
        let mut whole = line;
        whole.extend_from_slice(b"\r\nnext");
        let cut = cut.min(whole.len());
        let scanned = match frame(&whole[..cut], 0) {
            Framed::Incomplete => cut,
            early => {
                prop_assert_eq!(early, frame(&whole, 0));
                return Ok(());
            }
        };
        prop_assert_eq!(frame(&whole, scanned), frame(&whole, 0));
    }

    /// What is accepted is sent on as one line in one form, which reads as the same request again and is
    /// written the same again.
    #[test]
    fn accepted_lines_are_canonical(line in line_like()) {
        let mut scratch = Scratch::default();
        let consumed = line.len() + 2;
        // Framing lets none with a line end inside through, and no longer one, with or without its line end.
        let line: Vec<u8> = line.into_iter().filter(|b| *b != b'\n').collect();
        prop_assume!(line.starts_with(b"get") || line.len() < LINE_BYTES_MAX);
        let Ok(parsed) = parse_request(&line, consumed, &mut scratch) else { return Ok(()) };
        let (mut once, mut twice) = (WireBuf::new(), WireBuf::new());
        let mut again = Scratch::default();
        match parsed {
            Line::Admin(_) => {}
            Line::MultiGet(first) => {
                write_multi_get(&first, &mut once);
                let bytes = once.single().unwrap();
                let Framed::Line { line, consumed } = frame(bytes, 0) else { panic!("{bytes:?}") };
                prop_assert_eq!(consumed, bytes.len());
                let Ok(Line::MultiGet(second)) = parse_request(line, consumed, &mut again) else { panic!() };
                prop_assert_eq!(first.keys.iter().collect::<Vec<_>>(), second.keys.iter().collect::<Vec<_>>());
                write_multi_get(&second, &mut twice);
            }
            Line::Request(first) | Line::Storage(first, _) => {
                let value = if let Line::Storage(_, length) = parsed { vec![b'v'; length.min(99)] } else { vec![] };
                let first = Request { value: Value::Slice(&value), ..first };
                rewrite(&first, &mut once);
                let bytes = once.single().unwrap();
                let Framed::Line { line, consumed } = frame(bytes, 0) else { panic!("{bytes:?}") };
                let second = match parse_request(line, consumed, &mut again) {
                    Ok(Line::Request(second)) => second,
                    Ok(Line::Storage(second, length)) => {
                        prop_assert_eq!(length, value.len());
                        Request { value: Value::Slice(&value), ..second }
                    }
                    other => panic!("{other:?} after {bytes:?}"),
                };
                let block = if first.op.has_value() { value.len() + 2 } else { 0 };
                prop_assert_eq!(consumed + block, bytes.len());
                prop_assert!(!second.quiet);
                prop_assert_eq!(said(&first), said(&second));
                rewrite(&second, &mut twice);
            }
        }
        prop_assert_eq!(once.single(), twice.single());
    }

    /// Whatever a route may make of a request is a line that we ourselves would accept.
    #[test]
    fn written_requests_are_accepted(
        op in prop::sample::select(Op::ALL.to_vec()), key in key(), flags: u32, exptime: i32, number: u64,
        value in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let request = Request { flags, exptime, number, value: Value::Slice(&value), ..Request::new(op, &key) };
        let mut out = WireBuf::new();
        rewrite(&request, &mut out);
        let bytes = out.single().unwrap();
        let Framed::Line { line, consumed } = frame(bytes, 0) else { panic!("{bytes:?}") };
        let mut scratch = Scratch::default();
        match parse_request(line, consumed, &mut scratch) {
            Ok(Line::Request(parsed)) => {
                prop_assert!(!op.has_value());
                prop_assert_eq!((parsed.op, parsed.key, parsed.quiet), (op, &key[..], false));
            }
            Ok(Line::Storage(parsed, length)) => {
                prop_assert_eq!((parsed.op, parsed.key, parsed.quiet, length), (op, &key[..], false, value.len()));
                prop_assert_eq!(&bytes[consumed..consumed + length], &value[..]);
            }
            other => panic!("{other:?} after {bytes:?}"),
        }
    }
}

fn rewrite(request: &Request<'_>, out: &mut WireBuf) {
    if request.op.is_meta() {
        meta::write_request(request, None, out);
    } else {
        write_request(request, out);
    }
}

/// The numbers of memcached: 2 MiB, 1 MiB, 1 GiB, 30 days, INT_MAX - 2.
#[test]
fn limits_are_those_of_memcached() {
    assert_eq!((LINE_BYTES_MAX, limits::GET_LINE_BYTES_MAX), (2048, 2_097_152));
    assert_eq!((limits::KEY_BYTES_MAX, limits::OPAQUE_BYTES_MAX, limits::META_TOKENS_MAX), (250, 32, 20));
    assert_eq!((limits::VALUE_BYTES_MAX_DEFAULT, limits::VALUE_BYTES_MAX_MAX), (1_048_576, 1_073_741_824));
    assert_eq!((limits::DATA_BYTES_MAX, limits::RELATIVE_EXPTIME_MAX), (2_147_483_645, 2_592_000));
}

#[test]
fn every_cause_has_a_line_of_its_own() {
    let mut seen = Vec::new();
    for cause in Cause::ALL {
        assert!(cause.line().starts_with("SERVER_ERROR "), "{cause:?}");
        assert!(!seen.contains(&cause.line()), "{cause:?}");
        seen.push(cause.line());
        assert!(Status::Failed(cause).is_error());
    }
    assert!(Status::ErrorLine.is_error() && !Status::NotFound.is_error() && !Status::Stored.is_error());
}

#[test]
fn only_classic_gets_end_with_end() {
    let gets: Vec<Op> = Op::ALL.iter().copied().filter(|op| op.is_classic_get()).collect();
    assert_eq!(gets, [Op::Get, Op::Gets, Op::Gat, Op::Gats]);
}

#[test]
fn keys_lie_where_their_ranges_say() {
    let keys = Keys { text: b"get a bc", ranges: &[(4, 5), (6, 8)] };
    assert_eq!((keys.len(), keys.is_empty(), keys.key(0), keys.key(1)), (2, false, &b"a"[..], &b"bc"[..]));
    assert!(Keys { text: b"", ranges: &[] }.is_empty());
}

#[test]
fn watch_is_refused_whatever_follows() {
    for line in ["watch", "watch noreply", "watch fetchers noreply", "watch HTTP/1.1"] {
        assert_eq!(outcome(format!("{line}\r\n").as_bytes()), "ERROR", "{line}");
    }
}

#[test]
fn scratch_counts_what_it_keeps() {
    let mut scratch = Scratch::default();
    assert_eq!(scratch.held_bytes(), 0);
    let Framed::Line { line, consumed } = frame(b"get a b c\r\n", 0) else { panic!() };
    parse_request(line, consumed, &mut scratch).unwrap();
    let ranges = scratch.held_bytes();
    assert!((3 * 8..300).contains(&ranges), "{ranges}");
    scratch.key.reserve(1000);
    assert!(scratch.held_bytes() >= ranges + 1000);
}
