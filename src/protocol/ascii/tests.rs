//! What 1.6.45 answers, row by row of `memcached-answers.md` and of questions put to it on a socket; and
//! properties over random bytes and random requests.

use proptest::prelude::*;

use super::{Framed, ReplyLine, Scratch, frame, parse_reply, parse_request, write_multi_get, write_request};
use crate::protocol::limits::{GET_LINE_BYTES_MAX, LINE_BYTES_MAX};
use crate::protocol::{Admin, Line, LineError, Op, Request, Value, WireBuf, meta};

const BAD: &str = "CLIENT_ERROR bad command line format";

/// What is done with the first line of `sent`, in words short enough for a table.
pub(crate) fn outcome(sent: &[u8]) -> String {
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

fn check(rows: &[(&str, &str)]) {
    let long = "k".repeat(251);
    for (sent, expected) in rows {
        let sent = sent.replace("KEY251", &long).replace("KEY250", &long[1..]);
        let expected = expected.replace("BAD", BAD).replace("KEY250", &long[1..]);
        assert_eq!(outcome(format!("{sent}\r\n").as_bytes()), expected, "{sent:?}");
    }
}

#[test]
fn short_and_unknown_lines() {
    for short in [&b"\r\n"[..], b"\n", b"x\r\n", b" \n", b"mn\n", b"  \n"] {
        assert_eq!(outcome(short), BAD, "{short:?}");
    }
    assert_eq!(outcome(b"abc\n"), "ERROR");
    assert_eq!(outcome(b"\x80\0\0\0\r\n"), "ERROR");
    check(&[
        ("foo", "ERROR"),
        ("foo bar baz", "ERROR"),
        ("  ", "ERROR"),
        ("GET a", "ERROR"),
        (" get a", "ERROR"),
        (" version", "ERROR"),
        ("get\ta", "ERROR"),
        ("bget a", "ERROR"),
        ("quitx", "ERROR"),
        ("mgx a", "ERROR"),
        ("mz a", "ERROR"),
        ("foo noreply", "(nothing)"),
        ("GET / HTTP/1.0", "(nothing) closed"),
        (" get / HTTP/1.0", "(nothing) closed"),
        ("foo HTTP/", "(nothing) closed"),
        ("HTTP/1.0", "ERROR"),
        ("foo xHTTP/1.0", "ERROR"),
        ("foo HTTP/1.0 x", "ERROR"),
        ("get / HTTP/1.0", "get / HTTP/1.0|"),
        ("shutdown HTTP/1.0", "ERROR"),
    ]);
}

#[test]
fn gets() {
    check(&[
        ("get", BAD),
        ("gets", BAD),
        ("get ", BAD),
        ("get a", "get a|"),
        ("get a  ", "get a|"),
        ("get  a", "get a|"),
        ("gets a", "gets a|"),
        ("get a a b a", "get a a b a|"),
        ("get a  b ", "get a b|"),
        ("gets a b", "gets a b|"),
        ("get noreply", "get noreply|"),
        ("get a noreply", "get a noreply|"),
        ("get a\u{1}b", "get a\u{1}b|"),
        ("get cl\u{e9}", "get cl\u{e9}|"),
        ("get KEY250", "get KEY250|"),
        ("get KEY251", BAD),
        ("get a KEY251", BAD),
        ("get a KEY251 b", BAD),
        ("get a b KEY251", BAD),
        ("gat 10 a", "gat 10 a|"),
        ("gats -1 a b", "gats -1 a b|"),
        ("gat 10 noreply", "gat 10 noreply|"),
        ("gat", BAD),
        ("gat 10", BAD),
        ("gat x", BAD),
        ("gat - a", "gat 0 a|"),
        ("gat 010 a", "gat 10 a|"),
        ("gat x a", "CLIENT_ERROR invalid exptime argument"),
        ("gat x KEY251", "CLIENT_ERROR invalid exptime argument"),
        ("gat +5 a", "CLIENT_ERROR invalid exptime argument"),
        ("gat 2147483648 a", "CLIENT_ERROR invalid exptime argument"),
        ("gat -2147483648 a", "gat -2147483648 a|"),
        ("gat 000000000005 a", "CLIENT_ERROR invalid exptime argument"),
        ("gat 5 KEY251", BAD),
        ("gat 5 a KEY251", BAD),
    ]);
}

#[test]
fn storage() {
    check(&[
        ("set a 0 0 1", "set a 0 0 1|.|"),
        ("set a 0 0 0", "set a 0 0 0||"),
        ("set a 0 0 1 x", "set a 0 0 1|.|"),
        ("add  a 1 2  1 ", "add a 1 2 1|.|"),
        ("replace a 1 2 1", "replace a 1 2 1|.|"),
        ("append a 9 9 1", "append a 9 9 1|.|"),
        ("prepend a 9 9 1", "prepend a 9 9 1|.|"),
        ("set KEY250 0 0 1", "set KEY250 0 0 1|.|"),
        ("set KEY251 0 0 1", "BAD +3"),
        ("set KEY251 0 0 1 noreply", "(nothing) +3"),
        ("set", BAD),
        ("set noreply", BAD),
        ("set a 0 0", BAD),
        ("set a 0 0 noreply", BAD),
        ("set a x 0 1", "BAD +3"),
        ("set a -1 0 1", "BAD +3"),
        ("set a - 0 1", "BAD +3"),
        ("set a -0 0 1", "set a 0 0 1|.|"),
        ("set a +1 0 1", "set a 1 0 1|.|"),
        ("set a 01 0 1", "set a 1 0 1|.|"),
        ("set a 000000000000000000000000000000005 0 1", "set a 5 0 1|.|"),
        ("set a 4294967296 0 1", "set a 0 0 1|.|"),
        ("set a 18446744073709551615 0 1", "set a 4294967295 0 1|.|"),
        ("set a 18446744073709551616 0 1", "BAD +3"),
        ("set a -18446744073709551615 0 1", "set a 1 0 1|.|"),
        ("set a -9223372036854775808 0 1", "BAD +3"),
        ("set a -9223372036854775809 0 1", "set a 4294967295 0 1|.|"),
        ("set a x 0 1 noreply", "(nothing) +3"),
        ("set a 0 x 1", "BAD +3"),
        ("set a 0 - 1", "BAD +3"),
        ("set a 0 -5x 1", "BAD +3"),
        ("set a 0 -1 1", "set a 0 -1 1|.|"),
        ("set a 0 +1 1", "set a 0 1 1|.|"),
        ("set a 0 4294967296 1", "set a 0 0 1|.|"),
        ("set a 0 2147483648 1", "set a 0 -2147483648 1|.|"),
        ("set a 0 9223372036854775807 1", "set a 0 -1 1|.|"),
        ("set a 0 9223372036854775808 1", "BAD +3"),
        ("set a 0 -9223372036854775808 1", "set a 0 0 1|.|"),
        ("set a 0 -9223372036854775809 1", "BAD +3"),
        ("set a 0 0 x", BAD),
        ("set a 0 0 -1", BAD),
        ("set a 0 0 +1", BAD),
        ("set a 0 0 01", "set a 0 0 1|.|"),
        ("set a 0 0 00000000001", "set a 0 0 1|.|"),
        ("set a 0 0 000000000001", BAD),
        ("set a 0 0 -0", "set a 0 0 0||"),
        ("set a 0 0 -", "set a 0 0 0||"),
        ("set a x 0 2147483645", "BAD +2147483647"),
        ("set a 0 0 2147483646", BAD),
        ("set a 0 0 2147483647", BAD),
        ("set a 0 0 4294967296", BAD),
        ("set a 0 0 18446744073709551616", BAD),
        ("set a 0 0 1 noreply", "set a 0 0 1|.| quiet"),
        ("set a 0 0 1 noreply x", "set a 0 0 1|.|"),
        ("set a 0 0 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 noreply", "set a 0 0 1|.| quiet"),
        ("set a 0 0 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 noreply", "set a 0 0 1|.|"),
        ("cas a 0 0 1", "BAD +3"),
        ("cas a 0 0 1 x", "BAD +3"),
        ("cas a 0 0 1 noreply", "(nothing) +3"),
        ("cas a 0 0 1 5", "cas a 0 0 1 5|.|"),
        ("cas a 0 0 1 5 noreply", "cas a 0 0 1 5|.| quiet"),
        ("cas a 0 0 1 -0", "BAD +3"),
        ("cas a 0 0 1 +1", "BAD +3"),
        ("cas a 0 0 1 18446744073709551615", "cas a 0 0 1 18446744073709551615|.|"),
        ("cas a 0 0 1 18446744073709551616", "BAD +3"),
        ("cas a 0 0 1 0000000000000000000005", "cas a 0 0 1 5|.|"),
        ("cas a 0 0 1 00000000000000000000005", "BAD +3"),
    ]);
}

#[test]
fn delete_touch_and_arithmetic() {
    let delta = "CLIENT_ERROR invalid numeric delta argument";
    let exptime = "CLIENT_ERROR invalid exptime argument";
    check(&[
        ("delete", BAD),
        ("delete a", "delete a|"),
        ("delete a 0", "delete a|"),
        ("delete a 10", "delete a|"),
        ("delete a noreply", "delete a| quiet"),
        ("delete a 0 noreply", "delete a| quiet"),
        ("delete a 0 noreply x", "delete a|"),
        ("delete noreply", "delete noreply 0|"),
        ("delete noreply 0", "delete noreply 0|"),
        ("delete noreply noreply", "delete noreply 0| quiet"),
        ("delete KEY251", BAD),
        ("delete KEY251 noreply", "(nothing)"),
        ("touch", BAD),
        ("touch a", BAD),
        ("touch a 10", "touch a 10|"),
        ("touch a -1", "touch a -1|"),
        ("touch a -", "touch a 0|"),
        ("touch a 5 6", "touch a 5|"),
        ("touch a 05 noreply", "touch a 5| quiet"),
        ("touch a x", exptime),
        ("touch a +5", exptime),
        ("touch a 2147483648", exptime),
        ("touch a 000000000000005", exptime),
        ("touch a noreply", "(nothing)"),
        ("touch noreply 5", "touch noreply 5|"),
        ("touch KEY251 x", BAD),
        ("incr a", BAD),
        ("incr a 3", "incr a 3|"),
        ("decr a 05 noreply", "decr a 5| quiet"),
        ("incr a 5 6 7", "incr a 5|"),
        ("incr a 18446744073709551615", "incr a 18446744073709551615|"),
        ("incr a 18446744073709551616", delta),
        ("incr a 0000000000000000000005", "incr a 5|"),
        ("incr a 00000000000000000000005", delta),
        ("incr a x", delta),
        ("incr a -1", delta),
        ("incr a -0", delta),
        ("incr a +5", delta),
        ("incr a 5x", delta),
        ("incr a noreply", "(nothing)"),
        ("incr noreply 5", "incr noreply 5|"),
        ("incr KEY251 x", BAD),
    ]);
}

#[test]
fn administration() {
    let exptime = "CLIENT_ERROR invalid exptime argument";
    let ok = |delay: i32, quiet: bool| format!("{:?}", Admin::FlushAll { delay, quiet });
    let (loud, quiet) = ("Verbosity { quiet: false }", "Verbosity { quiet: true }");
    check(&[
        ("version", "Version"),
        ("version x", "Version"),
        ("quit", "Quit"),
        ("quit x", "Quit"),
        ("mn", "MetaNoop"),
        ("mn foo", "MetaNoop"),
        ("flush_all", &ok(0, false)),
        (" flush_all", &ok(0, false)),
        ("flush_all 0", &ok(0, false)),
        ("flush_all 10 foo", &ok(10, false)),
        ("flush_all -5", &ok(-5, false)),
        ("flush_all noreply", &ok(0, true)),
        ("flush_all 7 noreply", &ok(7, true)),
        ("flush_all x", exptime),
        ("flush_all +5", exptime),
        ("flush_all 2147483648", exptime),
        ("flush_all x noreply", "(nothing)"),
        ("flush_all noreply noreply", "(nothing)"),
        ("verbosity", BAD),
        ("verbosity x", BAD),
        ("verbosity -1", BAD),
        ("verbosity 4294967296", BAD),
        ("verbosity noreply", "(nothing)"),
        ("verbosity 1", loud),
        ("  verbosity 4294967295 2 3", loud),
        ("verbosity 1 noreply", quiet),
        ("shutdown", "ERROR"),
        ("shutdown noreply", "(nothing)"),
        ("lru", "ERROR"),
        ("lru mode flat", "ERROR"),
        ("lru_crawler metadump all", "ERROR"),
        ("slabs reassign 1 2", "ERROR"),
        ("cache_memlimit 1", "ERROR"),
        ("watch fetchers", "ERROR"),
        ("extstore free_memchunks 1 1", "ERROR"),
        ("refresh_certs", "ERROR"),
    ]);
    for (sent, rest) in
        [("stats\r\n", ""), ("stats  items \r\n", "items"), ("stats detail on\r\n", "detail on")]
    {
        assert_eq!(outcome(sent.as_bytes()), format!("{:?}", Admin::Stats(rest.as_bytes())));
    }
}

#[test]
fn framing() {
    assert_eq!(frame(b"get a\r\nx", 0), Framed::Line { line: b"get a", consumed: 7 });
    assert_eq!(frame(b"get a\n", 3), Framed::Line { line: b"get a", consumed: 6 });
    assert_eq!(frame(b"get a\r\r\n", 0), Framed::Line { line: b"get a\r", consumed: 8 });
    assert_eq!(frame(b"", 0), Framed::Incomplete);
    assert_eq!(frame(b"get a\r", 6), Framed::Incomplete);
    assert_eq!(frame(b"ab", 7), Framed::Incomplete);
    let of = |start: &str, length: usize, end: &str| {
        format!("{start}{}{end}", "x".repeat(length - start.len())).into_bytes()
    };
    assert_eq!(frame(&of("set ", LINE_BYTES_MAX, ""), 0), Framed::Incomplete);
    assert!(matches!(frame(&of("set ", LINE_BYTES_MAX, "\n"), 0), Framed::Line { .. }));
    assert_eq!(frame(&of("set ", LINE_BYTES_MAX + 1, ""), 0), Framed::TooLong);
    assert_eq!(frame(&of("set ", LINE_BYTES_MAX + 1, "\n"), 0), Framed::TooLong);
    assert_eq!(frame(&of("gat 0 ", LINE_BYTES_MAX + 1, "\n"), 0), Framed::TooLong);
    assert_eq!(frame(&of("get", LINE_BYTES_MAX + 1, "\n"), 0), Framed::TooLong);
    assert!(matches!(frame(&of("get ", LINE_BYTES_MAX + 1, "\n"), 0), Framed::Line { .. }));
    assert_eq!(frame(&of("gets ", LINE_BYTES_MAX + 1, ""), 0), Framed::Incomplete);
    let spaces = " ".repeat(100);
    assert_eq!(frame(&of(&format!("{spaces}get "), LINE_BYTES_MAX + 1, ""), 0), Framed::Incomplete);
    assert_eq!(frame(&of(&format!(" {spaces}get "), LINE_BYTES_MAX + 1, ""), 0), Framed::TooLong);
    assert_eq!(frame(&of("get ", GET_LINE_BYTES_MAX, ""), 0), Framed::Incomplete);
    assert_eq!(frame(&of("get ", GET_LINE_BYTES_MAX + 1, ""), 0), Framed::TooLong);
}

#[test]
fn replies() {
    use ReplyLine as R;
    let value = |key: &'static str, flags, len, cas| R::Value { key: key.as_bytes(), flags, len, cas };
    let rows: &[(&str, Option<R<'_>>)] = &[
        ("VALUE a 0 1", Some(value("a", 0, 1, None))),
        ("VALUE a 18446744073709551615 0 7", Some(value("a", u64::MAX, 0, Some(7)))),
        ("VALUE a 0 1073741824", Some(value("a", 0, 1 << 30, None))),
        ("VALUE a 0 1073741825", None),
        ("VALUE a 0 4294967293", None),
        ("VALUE a 0 18446744073709551617", None),
        ("VALUE a 0 01", None),
        ("VALUE a 00 1", None),
        ("VALUE a 0 -1", None),
        ("VALUE a 0 1 ", None),
        ("VALUE a 0  1", None),
        ("VALUE  a 0 1", None),
        ("VALUE a 0", None),
        ("VALUE a 0 1 2 3", None),
        ("VALUE a 0 1\r", None),
        ("VALUE", None),
        ("VA 1", None),
        ("END", Some(R::End)),
        ("END ", None),
        ("EN", None),
        ("STORED", Some(R::Stored)),
        ("NOT_STORED", Some(R::NotStored)),
        ("EXISTS", Some(R::Exists)),
        ("NOT_FOUND", Some(R::NotFound)),
        ("DELETED", Some(R::Deleted)),
        ("TOUCHED", Some(R::Touched)),
        ("OK", Some(R::Ok)),
        ("0", Some(R::Number(0))),
        ("9 ", Some(R::Number(9))),
        ("18446744073709551615", Some(R::Number(u64::MAX))),
        ("18446744073709551616", None),
        ("09", None),
        ("9x", None),
        ("9 9", None),
        ("VERSION 1.6.45", Some(R::Version(b"1.6.45"))),
        ("VERSION", None),
        ("ERROR", Some(R::Error)),
        ("ERROR Too many open connections", Some(R::Error)),
        ("ERRORS", None),
        ("CLIENT_ERROR bad data chunk", Some(R::Error)),
        ("SERVER_ERROR: shutdown not enabled", Some(R::Error)),
        ("SERVER_ERROR out of memory", Some(R::Error)),
        ("stored", None),
        ("", None),
        ("HD", None),
    ];
    for (line, expected) in rows {
        assert_eq!(parse_reply(line.as_bytes()), *expected, "{line:?}");
    }
    assert!(parse_reply(format!("VALUE {} 0 1", "k".repeat(251)).as_bytes()).is_none());
}

#[test]
fn written_values() {
    let mut out = WireBuf::new();
    let request =
        Request { flags: 7, exptime: -1, value: Value::Slice(b"a\r\nb"), ..Request::new(Op::Set, b"key") };
    write_request(&request, &mut out);
    assert_eq!(out.single().unwrap(), b"set key 7 -1 4\r\na\r\nb\r\n");
}

/// Bytes that look enough like a line to reach every branch.
pub(crate) fn line_like() -> impl Strategy<Value = Vec<u8>> {
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
pub(crate) fn said(request: &Request<'_>) -> impl PartialEq + std::fmt::Debug + use<> {
    let Request { op, key, flags, exptime, number, meta, .. } = *request;
    let flags_sent: Vec<_> =
        meta.iter().filter(|(letter, _)| *letter != b'q').map(|(l, t)| (l, t.to_vec())).collect();
    let letters = meta.letters & !crate::protocol::letter_bit(b'q');
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
