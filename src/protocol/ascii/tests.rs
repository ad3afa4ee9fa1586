//! What 1.6.45 answers, row by row of `memcached-answers.md` and of questions put to it on a socket.

use super::{Framed, ReplyLine, Scratch, frame, parse_more_keys, parse_reply, write_request};
use crate::protocol::limits::{GET_KEYS_MAX, GET_LINE_BYTES_MAX, LINE_BYTES_MAX};
use crate::protocol::tests::{BAD, check, outcome};
use crate::protocol::{Admin, Op, Request, Value, WireBuf};

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
        ("noreply", "(nothing)"),
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
fn keys_of_a_get_have_a_bound() {
    let line = |count: usize| ["get", &" k".repeat(count), "\n"].concat();
    assert!(outcome(line(GET_KEYS_MAX).as_bytes()).starts_with("get k k"));
    assert_eq!(outcome(line(GET_KEYS_MAX + 1).as_bytes()), "CLIENT_ERROR too many keys in one get");
}

#[test]
fn the_keys_of_a_get_are_the_same_in_pieces() {
    let line = b"gets  a bb   c d  ";
    let mut scratch = Scratch::default();
    for count_max in 1..6 {
        let (mut at, mut keys) = (4, Vec::new());
        loop {
            let (piece, next) = parse_more_keys(&line[at..], count_max, &mut scratch);
            assert!(piece.len() == count_max || next.is_none());
            keys.extend(piece.iter().map(<[u8]>::to_vec));
            match next {
                Some(next) => at += next,
                None => break,
            }
        }
        assert_eq!(keys, [&b"a"[..], b"bb", b"c", b"d"], "{count_max} at a time");
    }
    assert!(parse_more_keys(b"", 1, &mut scratch).0.is_empty());
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
