//! The meta rows of `memcached-answers.md`, and what 1.6.45 said to further questions on a socket.

use proptest::prelude::*;

use super::{MetaCode, MetaReply, parse_reply, write_line_without_opaque, write_request};
use crate::protocol::ascii::{Scratch, parse_request};
use crate::protocol::tests::{BAD, check};
use crate::protocol::{Line, Op, Request, Value, WireBuf};

const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";
const DUPLICATE: &str = "CLIENT_ERROR duplicate flag";
const INVALID: &str = "CLIENT_ERROR invalid flag";
const BAD_KEY: &str = "CLIENT_ERROR error decoding key";
const TOO_MANY: &str = "CLIENT_ERROR options flags are too long";
const MA_FLAG: &str = "CLIENT_ERROR invalid or duplicate flag";

#[test]
fn meta_get() {
    check(&[
        ("mg", BAD),
        ("mg a", "mg a|"),
        ("mg a v", "mg a v|"),
        ("mg a v k O123 q", "mg a v k O123| quiet"),
        ("mg  a   k  O1  ", "mg a k O1|"),
        ("mg a s f c t h l k O9 v", "mg a s f c t h l k O9 v|"),
        ("mg a vfoo qbar kbaz", "mg a vfoo kbaz| quiet"),
        ("mg a !", BAD),
        ("mg a {", BAD),
        ("mg a \u{7f}", BAD),
        ("mg a \u{e9}", BAD),
        ("mg a k k !", BAD),
        ("mg a v v", DUPLICATE),
        ("mg a Ox Oy", DUPLICATE),
        ("mg a S100", INVALID),
        ("mg a 5", INVALID),
        ("mg a _", INVALID),
        ("mg a z", INVALID),
        ("mg a noreply", INVALID),
        ("mg a x", "mg a x|"),
        ("mg a I", "mg a I|"),
        ("mg a Mz", "mg a Mz|"),
        ("mg a P L1", "mg a P L1|"),
        ("mg a OOPQ31", "mg a OOPQ31|"),
        ("mg a OOPQ32", "CLIENT_ERROR opaque token too long"),
        ("mg a O", "mg a O|"),
        ("mg KEY251", BAD),
        ("mg KEY251 b", BAD),
        ("mg Zm9v b k v", "mg Zm9v b k v|"),
        ("mg foo! b", BAD_KEY),
        ("mg Zg b", BAD_KEY),
        ("mg Zg= b", BAD_KEY),
        ("mg Zg== b", "mg Zg== b|"),
        ("mg Zm-_ b", BAD_KEY),
        ("mg ==== b", BAD_KEY),
        (
            "mg a k v t f c s h l u O1 N30 R30 T30 E5 C5 q P",
            "mg a k v t f c s h l u O1 N30 R30 T30 E5 C5 P| quiet",
        ),
        ("mg a k v t f c s h l u O1 N30 R30 T30 E5 C5 q b P1 L1 k1", TOO_MANY),
        ("mg a k v t f c s h l u O1 N30 R30 T30 E5 C5 q P L x I M F J D !", TOO_MANY),
        ("mg a k v t f c s h l u O1 N30 R30 T30 E5 C5 q P L x !", BAD),
    ]);
}

#[test]
fn numbers_in_flags() {
    check(&[
        ("mg a T-5", "mg a T-5|"),
        ("mg a T-", "mg a T-|"),
        ("mg a T030", "mg a T030|"),
        ("mg a T00000000005", "mg a T00000000005|"),
        ("mg a T000000000005", BAD_TOKEN),
        ("mg a T", BAD_TOKEN),
        ("mg a T k", BAD_TOKEN),
        ("mg a T+30", BAD_TOKEN),
        ("mg a T99999999999", BAD_TOKEN),
        ("mg a T5x", BAD_TOKEN),
        ("mg a T5\tx", BAD_TOKEN),
        ("mg a Nx", BAD_TOKEN),
        ("mg a Rx", BAD_TOKEN),
        ("mg a C", BAD_TOKEN),
        ("mg a C-1", BAD_TOKEN),
        ("mg a C-0", BAD_TOKEN),
        ("mg a C0000000000000000000005", "mg a C0000000000000000000005|"),
        ("mg a C00000000000000000000005", BAD_TOKEN),
        ("mg a E18446744073709551616", BAD_TOKEN),
        ("mg a D5 J6", "mg a D5 J6|"),
        ("mg a Dx", "CLIENT_ERROR invalid numeric delta value"),
        ("mg a Jx", "CLIENT_ERROR invalid numeric initial value"),
        ("mg a F", BAD),
        ("mg a Fx", BAD),
        ("mg a F-1", BAD),
        ("mg a F4294967295", "mg a F4294967295|"),
        ("mg a F4294967296", BAD),
        ("mg a F000000000005", BAD),
        ("mg a Fx Tx", BAD_TOKEN),
        ("mg a Tx Fx", BAD_TOKEN),
        ("mg a Tx Jx", "CLIENT_ERROR invalid numeric initial value"),
        ("mg a Tx z", INVALID),
        ("mg a Tx k k", DUPLICATE),
    ]);
}

#[test]
fn meta_set() {
    let mode = "CLIENT_ERROR invalid mode for ms M token +3";
    check(&[
        ("ms", BAD),
        ("ms a", BAD),
        ("ms a x", BAD),
        ("ms a -1", BAD),
        ("ms a +1", BAD),
        ("ms a S5", BAD),
        ("ms a 000000000001", BAD),
        ("ms a 2147483646", BAD),
        ("ms a 2147483645 z", "CLIENT_ERROR invalid flag +2147483647"),
        ("ms a 1", "ms a 1|.|"),
        ("ms a 01", "ms a 1|.|"),
        ("ms a -0", "ms a 0||"),
        ("ms a 1 q ME", "ms a 1 ME|.| quiet"),
        ("ms a 1 MSx", "ms a 1 MSx|.|"),
        ("ms a 1 MA N5", "ms a 1 MA N5|.|"),
        ("ms a 1 MX", mode),
        ("ms a 1 Me", mode),
        ("ms a 1 M", mode),
        ("ms a 1 MX OOPQ32", mode),
        ("ms a 1 OOPQ32", "CLIENT_ERROR opaque token too long +3"),
        ("ms a 1 !", BAD),
        ("ms a 1 v v", "CLIENT_ERROR duplicate flag +3"),
        ("ms a 1 S5", "CLIENT_ERROR invalid flag +3"),
        ("ms a 1 Fx", "CLIENT_ERROR bad command line format +3"),
        ("ms a 1 T99999999999", "CLIENT_ERROR bad token in command line format +3"),
        ("ms KEY251 1", "CLIENT_ERROR bad command line format +3"),
        ("ms foo! 1 b", "CLIENT_ERROR error decoding key +3"),
        ("ms a 2 F7 T60 k O5 c s b", "CLIENT_ERROR error decoding key +4"),
        ("ms a 2 F7 T60 k O5", "ms a 2 F7 T60 k O5|..|"),
        (
            "ms a 1 k v t f c s h l u O1 N30 R30 T30 E5 C5 q",
            "ms a 1 k v t f c s h l u O1 N30 R30 T30 E5 C5|.| quiet",
        ),
        (
            "ms a 1 k v t f c s h l u O1 N30 R30 T30 E5 C5 q P1 L1",
            "CLIENT_ERROR options flags are too long +3",
        ),
    ]);
}

#[test]
fn other_commands() {
    let mode = "CLIENT_ERROR invalid mode for ma M token";
    check(&[
        ("md  ", BAD),
        ("md a", "md a|"),
        ("md a q", "md a| quiet"),
        ("md a Mx", "md a Mx|"),
        ("md a I T30", "md a I T30|"),
        ("md a x", "md a x|"),
        ("md a Tx", BAD_TOKEN),
        ("md foo! b", BAD_KEY),
        ("md a OOPQ32", "CLIENT_ERROR opaque token too long"),
        ("md KEY251", BAD),
        ("ma a", "ma a|"),
        ("ma a N60 J10 v t", "ma a N60 J10 v t|"),
        ("ma a MD D100 v", "ma a MD D100 v|"),
        ("ma a M+", "ma a M+|"),
        ("ma a M-x", "ma a M-x|"),
        ("ma a MX", mode),
        ("ma a M", mode),
        ("ma a Md", mode),
        ("ma a MX OOPQ32", mode),
        ("ma a OOPQ32", "CLIENT_ERROR opaque token too long"),
        ("ma a !", BAD),
        ("ma a z", MA_FLAG),
        ("ma a Tx", MA_FLAG),
        ("ma a Dx", MA_FLAG),
        ("ma a MI MD", MA_FLAG),
        ("ma foo! b", MA_FLAG),
        ("ma KEY251", MA_FLAG),
        ("ma a k v t f c s h l u O1 N30 R30 T30 E5 C5 q b P1 L1", MA_FLAG),
        ("me", BAD),
        ("me a", "me a|"),
        ("me KEY251", BAD),
        ("me Zm9v b", "me Zm9v b|"),
        ("me Zm9v b x", "me Zm9v b x|"),
        ("me foo! b", "me foo! b|"),
        ("me foo! b x", BAD),
        ("me foo z", "me foo z|"),
        ("me foo !", BAD),
        ("me foo a b c d e f g h i j k l m n o p", "me foo a b c d e f g h i j k l m n o p|"),
    ]);
}

#[test]
fn fields() {
    let mut scratch = Scratch::default();
    let parsed = parse_request(b"mg AAECIA== b v Oab T30", 99, &mut scratch);
    let Ok(Line::Request(request)) = parsed else { panic!("{parsed:?}") };
    assert_eq!((request.op, request.key), (Op::MetaGet, &b"\0\x01\x02 "[..]));
    assert_eq!(request.meta.token, b"AAECIA==");
    assert_eq!((request.meta.opaque, request.meta.token_count), (Some(&b"ab"[..]), 6));
    assert!(request.meta.has(b'b') && request.meta.has(b'T') && !request.meta.has(b'q'));
    assert_eq!(request.meta.token_of(b'T'), Some(&b"30"[..]));

    for (line, key) in [(&b"me Zm9v b"[..], &b"foo"[..]), (b"me foo! b", b"foo!"), (b"me Zm9v k b", b"Zm9v")]
    {
        let parsed = parse_request(line, 99, &mut scratch);
        let Ok(Line::Request(request)) = parsed else { panic!("{parsed:?}") };
        assert_eq!(request.key, key);
    }
}

#[test]
fn our_opaque() {
    let rows: &[(&str, &str, bool)] = &[
        ("mg a", "mg a O7\r\n", true),
        ("mg a q v", "mg a v O7\r\n", true),
        ("mg a O1", "mg a O1\r\n", false),
        ("mg a O", "mg a O\r\n", false),
        ("me a", "me a\r\n", false),
        ("md a q", "md a O7\r\n", true),
        ("ms a 2 k", "ms a 2 k O7\r\nhi\r\n", true),
        // 18 tokens without ours, 19 with it: what older servers take.
        ("mg a k v t f c s h l u N3 R3 T3 E5 C5 P q", "mg a k v t f c s h l u N3 R3 T3 E5 C5 P O7\r\n", true),
        (
            "mg a k v t f c s h l u N3 R3 T3 E5 C5 P L x",
            "mg a k v t f c s h l u N3 R3 T3 E5 C5 P L x O7\r\n",
            false,
        ),
    ];
    for (line, expected, added) in rows {
        let mut scratch = Scratch::default();
        let Ok(Line::Request(request) | Line::Storage(request, _)) =
            parse_request(line.as_bytes(), line.len() + 2, &mut scratch)
        else {
            panic!("{line}")
        };
        let request = Request { value: Value::Slice(b"hi"), ..request };
        let mut out = WireBuf::new();
        assert_eq!(write_request(&request, Some(7), &mut out), *added, "{line}");
        if *added || !expected.contains("O7") {
            assert_eq!(String::from_utf8_lossy(out.single().unwrap()), *expected);
        }
    }
    let long = format!("mg a P{}", "p".repeat(2030));
    let mut scratch = Scratch::default();
    let Ok(Line::Request(request)) = parse_request(long.as_bytes(), 2048, &mut scratch) else { panic!() };
    assert!(!write_request(&request, Some(7), &mut WireBuf::new()));
}

#[test]
fn replies() {
    let reply = |code, len, flags: &'static str, opaque: Option<&'static str>, key: Option<&'static str>| {
        Some(MetaReply {
            code,
            len,
            flags: flags.as_bytes(),
            opaque: opaque.map(str::as_bytes),
            key: key.map(str::as_bytes),
        })
    };
    let rows = [
        ("HD", reply(MetaCode::Hd, 0, "", None, None)),
        ("HD ka O5", reply(MetaCode::Hd, 0, " ka O5", Some("5"), Some("a"))),
        (
            "VA 2 s2 f5 c9 t-1 h1 l0 ka O9 W",
            reply(MetaCode::Va, 2, " s2 f5 c9 t-1 h1 l0 ka O9 W", Some("9"), Some("a")),
        ),
        ("VA 0 t30 Z", reply(MetaCode::Va, 0, " t30 Z", None, None)),
        ("VA 1073741824", reply(MetaCode::Va, 1 << 30, "", None, None)),
        ("VA 1 kZm9v b", reply(MetaCode::Va, 1, " kZm9v b", None, Some("Zm9v"))),
        ("EN", reply(MetaCode::En, 0, "", None, None)),
        ("EN O7", reply(MetaCode::En, 0, " O7", Some("7"), None)),
        ("NF", reply(MetaCode::Nf, 0, "", None, None)),
        ("NS", reply(MetaCode::Ns, 0, "", None, None)),
        ("EX O", reply(MetaCode::Ex, 0, " O", Some(""), None)),
        ("MN", reply(MetaCode::Mn, 0, "", None, None)),
        (
            "ME a exp=-1 la=0 cas=76 size=61",
            reply(MetaCode::Me, 0, " exp=-1 la=0 cas=76 size=61", None, Some("a")),
        ),
        ("VA", None),
        ("VA ", None),
        ("VA x", None),
        ("VA 01", None),
        ("VA 1x", None),
        ("VA  1", None),
        ("VA 1073741825", None),
        ("VA 18446744073709551617", None),
        ("HD O1 O2", None),
        ("HD ka kb", None),
        ("HDx", None),
        ("MN x", None),
        ("ME", None),
        ("H", None),
        ("", None),
        ("END", None),
        ("ERROR", None),
        ("CLIENT_ERROR invalid flag", None),
    ];
    for (line, expected) in rows {
        assert_eq!(parse_reply(line.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn opaque_taken_out() {
    for (line, expected) in [
        ("HD O5", "HD"),
        ("HD ka O5", "HD ka"),
        ("HD ka O5 W", "HD ka W"),
        ("VA 2 O5 s2", "VA 2 s2"),
        ("EN", "EN"),
        ("HD kO5 c1", "HD kO5 c1"),
    ] {
        let mut out = b"before".to_vec();
        write_line_without_opaque(line.as_bytes(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("before{expected}"));
    }
}

proptest! {
    #[test]
    fn no_reply_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_reply(&bytes);
        let mut out = Vec::new();
        write_line_without_opaque(&bytes, &mut out);
        prop_assert!(out.len() <= bytes.len());
    }

    /// Any key in base64 comes through whole, and is sent on as it was written.
    #[test]
    fn base64_keys(key in prop::collection::vec(any::<u8>(), 1..=187)) {
        use base64::Engine as _;
        let mut encoded = [0; 252];
        let length = base64::engine::general_purpose::STANDARD.encode_slice(&key, &mut encoded).unwrap();
        let token = std::str::from_utf8(&encoded[..length]).unwrap();
        let line = format!("mg {token} b");
        let mut scratch = Scratch::default();
        let parsed = parse_request(line.as_bytes(), line.len() + 2, &mut scratch);
        if token.len() > 250 {
            prop_assert!(parsed.is_err());
        } else {
            let Ok(Line::Request(request)) = parsed else { panic!("{parsed:?}") };
            prop_assert_eq!(request.key, &key[..]);
            prop_assert_eq!(request.meta.token, token.as_bytes());
        }
    }
}
