//! Bytes to requests and replies, and requests back to bytes.

use super::{Case, keys};
use ringway::protocol::ascii::{self, Framed, Scratch};
use ringway::protocol::{Line, Op, Request, Value, WireBuf, meta};
use std::hint::black_box;

const KEY: &[u8] = b"user:000007919:profile:v2:abcde";

pub(crate) fn cases() -> Vec<Case> {
    let multi_get = [
        b"get".as_slice(),
        &keys(50).iter().flat_map(|k| [b" ", &k[..]].concat()).collect::<Vec<_>>(),
        b"\r\n",
    ];
    vec![
        request("get", &[b"get ", KEY, b"\r\n"].concat()),
        request("set", &[b"set ", KEY, b" 0 0 100\r\n"].concat()),
        request("mg", &[b"mg ", KEY, b" v f t O123\r\n"].concat()),
        request("ms", &[b"ms ", KEY, b" 100 T60 F5\r\n"].concat()),
        request("get of 50 keys", &multi_get.concat()),
        reply("STORED", b"STORED\r\n"),
        reply("VALUE", &[b"VALUE ", KEY, b" 0 100\r\n"].concat()),
        meta_reply("VA", b"VA 100 f0 t-1 O123\r\n"),
        write("write get", Op::Get, &[]),
        write("write set", Op::Set, &[b'v'; 100]),
    ]
}

/// Framed and taken apart, as the session does it.
fn request(name: &'static str, bytes: &[u8]) -> Case {
    let bytes = bytes.to_vec();
    let mut scratch = Scratch::default();
    Case::new(name, bytes.len(), move || {
        let Framed::Line { line, consumed } = ascii::frame(black_box(&bytes), 0) else { return };
        let parsed = ascii::parse_request(line, consumed, &mut scratch);
        debug_assert!(matches!(&parsed, Ok(Line::Request(_) | Line::Storage(..) | Line::MultiGet(_))));
        black_box(&parsed);
    })
}

fn reply(name: &'static str, bytes: &[u8]) -> Case {
    let bytes = bytes.to_vec();
    Case::new(name, bytes.len(), move || {
        let Framed::Line { line, .. } = ascii::frame(black_box(&bytes), 0) else { return };
        black_box(&ascii::parse_reply(line));
    })
}

fn meta_reply(name: &'static str, bytes: &[u8]) -> Case {
    let bytes = bytes.to_vec();
    Case::new(name, bytes.len(), move || {
        let Framed::Line { line, .. } = ascii::frame(black_box(&bytes), 0) else { return };
        black_box(&meta::parse_reply(line));
    })
}

fn write(name: &'static str, op: Op, value: &'static [u8]) -> Case {
    let mut out = WireBuf::default();
    Case::new(name, KEY.len() + value.len(), move || {
        let request = Request { value: Value::Slice(value), ..Request::new(op, KEY) };
        ascii::write_request(black_box(&request), &mut out);
        black_box(&out);
        out.clear();
    })
}
