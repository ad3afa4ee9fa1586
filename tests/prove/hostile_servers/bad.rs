//! The sixty ways in which a server answers wrongly, and what the clients must see of each.

use super::question::{Hit, Op, Question};
use crate::support::Random;

/// What a client must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What an honest server says.
    Right,
    /// That the server failed, in ringway's own words.
    Failed,
    /// One of both: the bytes race with the end of the connection.
    RightOrFailed,
    /// The same as an honest server's with this at the end of its line.
    RightWith(&'static str),
    /// That the server does not have it.
    Miss,
    /// Gets that may be asked twice are answered by the next connection; all else fails.
    RightIfAskedAgain,
    /// Exactly this.
    Exactly(Vec<u8>),
    /// This, or that the server failed.
    ExactlyOrFailed(Vec<u8>),
}

/// What the server does after the bad bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Answers the rest of what it was asked, as if nothing were wrong.
    GoesOn,
    /// The same, and then closes.
    GoesOnAndCloses,
    Closes,
    Resets,
    /// Says no more, and closes when the clients have been answered.
    IsSilent,
    /// Says no more until the clients have been answered, then all that it left out.
    IsLate,
}

/// One bad reply to one request.
pub(super) struct Bad {
    /// Instead of the honest answer.
    pub(super) bytes: Vec<u8>,
    pub(super) then: Then,
    /// What is told to those that were answered before.
    pub(super) before: Told,
    /// What is told to whoever asked at that place, at the next one (always an `mg` that finds something), and at
    /// all others behind.
    pub(super) at: Told,
    pub(super) next: Told,
    pub(super) after: Told,
    /// The connection must be gone by the time that the clients are answered.
    pub(super) gone: bool,
    /// The last so many bytes in segments of their own, so many milliseconds apart.
    pub(super) byte_by_byte: Option<(usize, u64)>,
    /// What belongs behind the bytes, when the server is late with it.
    pub(super) rest: Vec<u8>,
}

/// Whether a way costs a timeout each time: those are tried many at a time.
pub(super) fn is_silent(way: usize) -> bool {
    way >= QUICK
}

/// Whether a value is answered before it has come whole.
pub(super) fn is_early(way: usize) -> bool {
    (EARLY..QUICK).contains(&way)
}

pub(super) fn name(way: usize) -> &'static str {
    WAYS[way].0
}

/// What the server does in this way, when the request at place `place` is `asked` and the one behind it `next`.
pub(super) fn bad(way: usize, asked: &Question, next: &Question, place: usize, random: &mut Random) -> Bad {
    (WAYS[way].1)(&Scene { asked, next, place, cut: random.any() })
}

/// What a way needs to know.
struct Scene<'a> {
    asked: &'a Question,
    next: &'a Question,
    /// From 1 to 16.
    place: usize,
    /// Some number.
    cut: u64,
}

pub(super) const COUNT: usize = WAYS.len();
const QUICK: usize = COUNT - 4;
const EARLY: usize = QUICK - 2;
const _: () = assert!(COUNT == 60);

type Way = (&'static str, fn(&Scene<'_>) -> Bad);

const WAYS: &[Way] = &[
    // Whose answer is it?
    ("the key's last byte is another", |s| spoilt(s, |h| last(h, b'~'))),
    ("the key of the next request", |s| {
        let other = if s.asked.op.is_meta() {
            s.next.opaque.clone().unwrap_or_default()
        } else {
            s.next.key().into()
        };
        spoilt(s, |h| h.name = Some(other.into_bytes()))
    }),
    ("the key without its last byte", |s| spoilt(s, |h| _ = name_of(h).pop())),
    ("the key and a byte more", |s| spoilt(s, |h| name_of(h).push(b'0'))),
    ("no key", |s| spoilt(s, |h| name_of(h).clear())),
    ("a key of 251 bytes", |s| spoilt(s, |h| name_of(h).resize(251, b'k'))),
    ("the key and a NUL", |s| spoilt(s, |h| name_of(h).push(0))),
    ("a value of somebody else before the right one", |s| lie([&stranger(s)[..], &honest(s)].concat())),
    ("a value of somebody else before END", |s| match s.asked.op {
        op if op.is_classic_get() => {
            let answer = honest(s);
            let (values, end) = answer.split_at(answer.len() - 5);
            lie([values, &stranger(s)[..], end].concat())
        }
        _ => lie(stranger(s)),
    }),
    // In which order, and how many?
    ("this answer and the next one swapped", |s| lie([s.next.answer(), honest(s)].concat())),
    ("values in another order, or twice", |s| match s.asked.op {
        Op::Multi => {
            let mut keys = s.asked.keys.clone();
            keys.reverse();
            lie(Question { keys, ..s.asked.clone() }.answer())
        }
        _ => twice(s),
    }),
    ("a value twice", |s| match s.asked.op {
        op if op.is_classic_get() => {
            let first = Hit::of(s.asked, s.asked.key()).written();
            lie([&first[..], &honest(s)].concat())
        }
        _ => twice(s),
    }),
    ("one reply too many: a value", |s| one_more(s, &stranger(s))),
    ("one reply too many: STORED", |s| one_more(s, b"STORED\r\n")),
    ("one reply too many: an error", |s| {
        let line = b"SERVER_ERROR out of memory\r\n";
        Bad { next: Told::Exactly(line.to_vec()), ..one_more(s, line) }
    }),
    ("an empty line more", |s| one_more(s, b"\r\n")),
    ("the whole answer twice", twice),
    ("one reply too few", |_| lie(Vec::new())),
    // How long?
    ("length 4294967293", |s| length(s, "4294967293")),
    ("length 4294967296", |s| length(s, "4294967296")),
    ("length 2^64", |s| length(s, "18446744073709551616")),
    ("length 2^64-1", |s| length(s, "18446744073709551615")),
    ("length 2^63", |s| length(s, "9223372036854775808")),
    ("length 2^31-1", |s| length(s, "2147483647")),
    ("length 2^31-3", |s| length(s, "2147483645")),
    ("length 2^30+1", |s| length(s, "1073741825")),
    ("length -1", |s| length(s, "-1")),
    ("a length with a sign", |s| spoilt(s, |h| h.length.insert(0, '+'))),
    ("a length with a zero before it", |s| spoilt(s, |h| h.length.insert(0, '0'))),
    ("no length", |s| length(s, "")),
    ("a length with a letter", |s| spoilt(s, |h| h.length.push('x'))),
    ("a length one too small", |s| spoilt(s, |h| h.length = (h.data.len() - 1).to_string())),
    ("a length one too large", |s| spoilt(s, |h| h.length = (h.data.len() + 1).to_string())),
    ("length 2^30, and everything else is swallowed", |s| {
        // A data block where none can be is a lie at once; elsewhere it may be 1 GiB long and never ends.
        let is_value = s.asked.op.is_classic_get() || s.asked.op == Op::MetaGet;
        let bad = length(s, "1073741824");
        if is_value { Bad { then: Then::GoesOnAndCloses, gone: false, ..bad } } else { bad }
    }),
    ("flags beyond 64 bits", |s| match s.asked.op.is_meta() {
        true => length(s, "999999999999999999999999999999"),
        false => spoilt(s, |h| h.flags = "18446744073709551616".into()),
    }),
    ("a cas where none is due, or none where one is", |s| match s.asked.op {
        Op::Gets => spoilt(s, |h| h.cas = None),
        op if op.is_meta() => spoilt(s, |h| h.tail = " O1 O1".into()),
        _ => spoilt(s, |h| h.cas = Some("5".into())),
    }),
    ("no opaque, or one to a classic request", |s| match s.asked.op {
        Op::MetaSet => lie(b"HD\r\n".to_vec()),
        Op::MetaGet => spoilt(s, |h| h.name = None),
        _ => lie(b"HD O1\r\n".to_vec()),
    }),
    ("a flag that nobody knows", |s| {
        // Later servers may say more than we know of: the meta dialect passes it on.
        const FLAG: &str = " Zunknown";
        let answer = honest(s);
        let (line, rest) = answer.split_at(line_end(&answer));
        let told = [line, FLAG.as_bytes(), rest].concat();
        if s.asked.op.is_meta() { Bad { at: Told::RightWith(FLAG), ..passed(told) } } else { lie(told) }
    }),
    // What is a line?
    ("no END, or no line end", |s| {
        let answer = honest(s);
        let cut = if s.asked.op.is_classic_get() { 5 } else { 2 };
        lie(answer[..answer.len() - cut].to_vec())
    }),
    ("END twice, or before everything", |s| match s.asked.op {
        op if op.is_classic_get() => one_more(s, b"END\r\n"),
        _ => lie([b"END\r\n", &honest(s)[..]].concat()),
    }),
    ("a miss before the value", |s| {
        let miss = match (s.asked.op, &s.asked.opaque) {
            (Op::MetaGet, Some(opaque)) => format!("EN O{opaque}\r\n"),
            (op, _) if op.is_classic_get() => "END\r\n".into(),
            _ => return lie([b"EN\r\n", &honest(s)[..]].concat()),
        };
        Bad { at: Told::Miss, ..lie([miss.as_bytes(), &honest(s)[..]].concat()) }
    }),
    ("a bare line feed", |s| {
        let answer = honest(s);
        let end = line_end(&answer);
        lie([&answer[..end], &answer[end + 1..]].concat())
    }),
    ("a carriage return within the line", |s| lie([&honest(s)[..2], b"\r", &honest(s)[2..]].concat())),
    ("a NUL in the line", |s| {
        let answer = honest(s);
        let end = line_end(&answer);
        lie([&answer[..end], b"\0", &answer[end..]].concat())
    }),
    ("a space before the line", |s| lie([b" ", &honest(s)[..]].concat())),
    ("a line without end", |_| lie(b"VALUE ".iter().copied().chain([b'x'; 300_000]).collect())),
    ("a line without end that begins as a get", |_| {
        lie(b"get ".iter().copied().chain([b'x'; 300_000]).collect())
    }),
    ("an unknown status", |_| lie(b"MAYBE\r\n".to_vec())),
    ("another program", |s| match s.cut % 3 {
        0 => lie(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
        1 => lie(b"VERSION 1.6.45\r\n".to_vec()),
        _ => lie([b"\x81\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n".as_slice()].concat()),
    }),
    ("an answer of the other dialect", |s| match s.asked.op {
        Op::MetaGet => lie([Hit::of(&classic(s), s.asked.key()).written(), b"END\r\n".to_vec()].concat()),
        Op::MetaSet => lie(b"STORED\r\n".to_vec()),
        op if op.is_classic_get() => lie(b"VA 1\r\nx\r\n".to_vec()),
        _ => lie(b"HD\r\n".to_vec()),
    }),
    // Errors are answers.
    ("an error", |s| {
        let line: &[u8] = match s.cut % 4 {
            0 => b"ERROR\r\n",
            1 => b"CLIENT_ERROR bad data chunk\r\n",
            2 => b"SERVER_ERROR object too large for cache\r\n",
            _ => b"SERVER_ERROR \x1b[31m\x07 \0 \xff\xfe text of a stranger\r\n",
        };
        Bad { at: Told::Exactly(line.to_vec()), ..passed(line.to_vec()) }
    }),
    // Where does it end?
    ("closed at some byte", |s| ends(s, Then::Closes)),
    ("reset at some byte", |s| ends(s, Then::Resets)),
    ("byte by byte", |s| Bad { byte_by_byte: Some((200, 0)), at: Told::Right, ..passed(honest(s)) }),
    // Two answer a large value before it has come whole.
    ("an error before the value has come", |_| {
        let line = b"SERVER_ERROR object too large for cache\r\n".to_vec();
        Bad { at: Told::Exactly(line.clone()), ..passed(line) }
    }),
    ("an error in the midst of the value, and the end", |s| {
        let line = b"SERVER_ERROR out of memory writing get response\r\n".to_vec();
        match s.asked.op {
            Op::Multi => {
                let answer = [Hit::of(s.asked, s.asked.key()).written(), line.clone()].concat();
                Bad { at: Told::Exactly(line), ..passed(answer) }
            }
            op if op.is_storage() => Bad {
                at: Told::ExactlyOrFailed(line.clone()),
                // The reset of a server that has not read everything may overtake its answers; and what was not yet
                // on its way waits for the next connection.
                before: Told::RightOrFailed,
                next: Told::RightOrFailed,
                after: Told::RightOrFailed,
                then: Then::Closes,
                gone: false,
                ..lie(line)
            },
            op if op.is_classic_get() => lie([Hit::of(s.asked, s.asked.key()).written(), line].concat()),
            _ => Bad { next: Told::Exactly(line.clone()), ..one_more(s, &line) },
        }
    }),
    // The silent ones stand last: each costs a timeout.
    ("not a word", |_| Bad { then: Then::IsSilent, gone: false, ..lie(Vec::new()) }),
    ("half of it, and the rest when it is too late", |s| {
        let answer = honest(s);
        let cut = 1 + usize::try_from(s.cut % (answer.len() as u64 - 1)).unwrap();
        let (half, rest) = answer.split_at(cut);
        Bad { then: Then::IsLate, gone: false, rest: rest.to_vec(), ..lie(half.to_vec()) }
    }),
    ("length 2^30, and not a word more", |s| {
        let bad = length(s, "1073741824");
        let is_value = s.asked.op.is_classic_get() || s.asked.op == Op::MetaGet;
        if is_value { Bad { then: Then::IsSilent, gone: false, ..bad } } else { bad }
    }),
    ("a byte now and then", |s| Bad { byte_by_byte: Some((12, 20)), at: Told::Right, ..passed(honest(s)) }),
];

/// Where the first line's `\r\n` is.
fn line_end(answer: &[u8]) -> usize {
    answer.windows(2).position(|w| w == b"\r\n").expect("an answer is a line at least")
}

fn honest(s: &Scene<'_>) -> Vec<u8> {
    s.asked.answer()
}

/// A value, or what stands for it, of a key that nobody asked for.
fn stranger(s: &Scene<'_>) -> Vec<u8> {
    let mut hit = Hit::of(s.asked, "stranger");
    if s.asked.op.is_meta() {
        hit.name = Some(b"0stranger".to_vec());
    }
    hit.written()
}

/// The same question in the classic dialect.
fn classic(s: &Scene<'_>) -> Question {
    Question { op: Op::Get, ..s.asked.clone() }
}

/// Not an answer to what was asked: the connection goes, and everything on it fails.
fn lie(bytes: Vec<u8>) -> Bad {
    Bad {
        bytes,
        then: Then::GoesOn,
        before: Told::Right,
        at: Told::Failed,
        next: Told::Failed,
        after: Told::Failed,
        gone: true,
        byte_by_byte: None,
        rest: Vec::new(),
    }
}

/// An answer, if a strange one: nobody else notices.
fn passed(bytes: Vec<u8>) -> Bad {
    Bad { next: Told::Right, after: Told::Right, gone: false, ..lie(bytes) }
}

/// The right answer and something that nobody asked for.
fn one_more(s: &Scene<'_>, more: &[u8]) -> Bad {
    Bad { at: Told::Right, ..lie([&honest(s)[..], more].concat()) }
}

fn twice(s: &Scene<'_>) -> Bad {
    one_more(s, &honest(s))
}

/// The answer with the value of the (first) key, after somebody meddled with its parts.
fn spoilt(s: &Scene<'_>, meddle: impl FnOnce(&mut Hit)) -> Bad {
    let mut hit = Hit::of(s.asked, s.asked.key());
    let length = hit.length.clone();
    meddle(&mut hit);
    if s.asked.op == Op::MetaSet && hit.length == length {
        let mut line = b"HD O".to_vec();
        line.extend_from_slice(hit.name.as_deref().unwrap_or_default());
        line.extend_from_slice(hit.tail.as_bytes());
        line.extend_from_slice(b"\r\n");
        return lie(line);
    }
    let mut answer = hit.written();
    if !s.asked.op.is_meta() {
        let rest = Question { keys: s.asked.keys[1..].to_vec(), op: Op::Multi, ..s.asked.clone() };
        answer.extend_from_slice(&if rest.keys.is_empty() { b"END\r\n".to_vec() } else { rest.answer() });
    }
    lie(answer)
}

fn length(s: &Scene<'_>, text: &str) -> Bad {
    spoilt(s, |hit| hit.length = text.into())
}

fn name_of(hit: &mut Hit) -> &mut Vec<u8> {
    hit.name.get_or_insert_default()
}

fn last(hit: &mut Hit, byte: u8) {
    let name = name_of(hit);
    name.pop();
    name.push(byte);
}

/// The connection ends somewhere in the answer.
fn ends(s: &Scene<'_>, then: Then) -> Bad {
    let answer = honest(s);
    let cut = usize::try_from(s.cut % answer.len() as u64).unwrap();
    let bad = Bad { then, gone: false, ..lie(answer[..cut].to_vec()) };
    if then == Then::Resets {
        // A reset throws away what was not yet taken, and so may all of it.
        let told = if s.place > 1 || cut > 0 { Told::RightOrFailed } else { Told::RightIfAskedAgain };
        return Bad { before: Told::RightOrFailed, at: told.clone(), next: told.clone(), after: told, ..bad };
    }
    if s.place > 1 || cut > 0 {
        return bad;
    }
    // It looks as if the connection had been closed while it was idle.
    let told = || Told::RightIfAskedAgain;
    Bad { at: told(), next: told(), after: told(), ..bad }
}
