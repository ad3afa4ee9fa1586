//! Understanding answers, as the bytes come: nothing is kept of a value but how much of it was right.
//!
//! On purpose not ringway's own parser: what checks must not make the same mistakes as what is checked.

use super::data::{Data, decimal};
use super::plan::Dialect;
use super::request::{Asked, Shape};
use super::tally::Tally;

/// No answer has a longer line; a peer that sends one is not a memcached.
const LINE_BYTES_MAX: usize = 8_192;

/// What the bytes at hand brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The request is answered, well or not.
    Done,
    /// All bytes are used up, the answer is not whole.
    More,
    /// What came cannot be an answer: the connection is of no further use.
    Lost(String),
}

/// Between two bytes of an answer.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    body: Option<Body>,
    /// Of a get with several keys: those before this place have been answered, or were missed.
    place: u32,
    /// Keys that this get found.
    found: u32,
}

/// A value under way.
#[derive(Clone, Copy, Debug)]
struct Body {
    /// `None`: what is wrong with it has been said, its bytes are only passed over.
    key: Option<u32>,
    /// Bytes of it that came, line end included.
    at: usize,
    /// As announced, without line end.
    len: usize,
    /// All that came is what the key holds.
    right: bool,
}

/// What a line brought.
enum Verdict {
    Done,
    /// An error, which ends an answer too.
    Failed,
    Body(Body),
    Lost(String),
}

impl Reader {
    /// Takes from the front of `bytes` what belongs to the answer to `asked`.
    pub(super) fn read(
        &mut self,
        bytes: &mut &[u8],
        asked: Asked,
        shape: &Shape,
        data: &Data,
        tally: &mut Tally,
    ) -> Step {
        loop {
            if let Some(body) = &mut self.body {
                match body.take(bytes, data) {
                    None => return Step::More,
                    Some(false) => return Step::Lost("no line end after a value".into()),
                    Some(true) => {}
                }
                if let (Some(key), false) = (body.key, body.right) {
                    tally.on_wrong(|| format!("key {key}: the value is not what was stored"));
                }
                self.body = None;
                if shape.dialect == Dialect::Meta {
                    return self.done();
                }
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else { return self.keep(bytes) };
            let (line, rest) = bytes.split_at(end + 1);
            *bytes = rest;
            let verdict = if self.partial.is_empty() {
                self.on_line(line, asked, shape, data, tally)
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                let verdict = self.on_line(&whole, asked, shape, data, tally);
                whole.clear();
                self.partial = whole;
                verdict
            };
            match verdict {
                Verdict::Done => {
                    if !asked.is_set {
                        tally.misses += u64::from(shape.keys_per_get - self.found);
                    }
                    return self.done();
                }
                Verdict::Failed => return self.done(),
                Verdict::Body(body) => self.body = Some(body),
                Verdict::Lost(why) => return Step::Lost(why),
            }
        }
    }

    /// The beginning of a line, until more comes.
    fn keep(&mut self, bytes: &mut &[u8]) -> Step {
        if self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            return Step::Lost(format!("a line of more than {LINE_BYTES_MAX} bytes: {}", shown(bytes)));
        }
        self.partial.extend_from_slice(bytes);
        *bytes = &[];
        Step::More
    }

    fn done(&mut self) -> Step {
        self.place = 0;
        self.found = 0;
        Step::Done
    }

    fn on_line(
        &mut self,
        line: &[u8],
        asked: Asked,
        shape: &Shape,
        data: &Data,
        tally: &mut Tally,
    ) -> Verdict {
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Verdict::Lost(format!("a line that ends without CR: {}", shown(line)));
        };
        let verdict = match (shape.dialect, asked.is_set) {
            (Dialect::Classic, true) => (line == b"STORED").then_some(Verdict::Done),
            (Dialect::Meta, true) => (line == b"HD").then_some(Verdict::Done),
            (Dialect::Classic, false) if line == b"END" => Some(Verdict::Done),
            (Dialect::Classic, false) => {
                line.strip_prefix(b"VALUE ").and_then(|rest| self.on_value(rest, asked, shape, data, tally))
            }
            (Dialect::Meta, false) if line == b"EN" => Some(Verdict::Done),
            // Without flags asked for, the length is all there is.
            (Dialect::Meta, false) => line
                .strip_prefix(b"VA ")
                .and_then(decimal)
                .map(|len| Verdict::Body(self.found(asked.key, true, len, data, tally))),
        };
        verdict.unwrap_or_else(|| on_other(line, tally))
    }

    /// `<key> <flags> <bytes>`; `None` when it is not that.
    fn on_value(
        &mut self,
        rest: &[u8],
        asked: Asked,
        shape: &Shape,
        data: &Data,
        tally: &mut Tally,
    ) -> Option<Verdict> {
        let mut words = rest.split(|b| *b == b' ');
        let (key, flags, len) = (words.next()?, words.next()?, decimal(words.next()?)?);
        if words.next().is_some() {
            return None;
        }
        // In the order of the keys and each once, as memcached does.
        let number = data.number(key).filter(|number| *number < shape.keys_count);
        let place = number.map(|number| shape.place_of(asked.key, number));
        let expected = place.filter(|p| (self.place..shape.keys_per_get).contains(p));
        let (Some(place), Some(number)) = (expected, number) else {
            tally.on_wrong(|| format!("{} was not asked for, or not here", shown(key)));
            return Some(Verdict::Body(Body::passed_over(len)));
        };
        self.place = place + 1;
        Some(Verdict::Body(self.found(number, flags == b"0", len, data, tally)))
    }

    /// A value of `len` bytes begins for `key`, which was asked for; what its line says is checked here.
    fn found(&mut self, key: u32, flags_right: bool, len: u64, data: &Data, tally: &mut Tally) -> Body {
        self.found += 1;
        tally.hits += 1;
        let expected = data.value_len(key);
        if flags_right && len == expected as u64 {
            return Body { key: Some(key), at: 0, len: expected, right: true };
        }
        tally.on_wrong(|| match flags_right {
            true => format!("key {key}: {len} bytes announced, {expected} stored"),
            false => format!("key {key}: flags that nobody set"),
        });
        Body::passed_over(len)
    }
}

impl Body {
    const fn passed_over(len: u64) -> Self {
        // At most ten digits.
        Self { key: None, at: 0, len: len as usize, right: true }
    }

    /// Takes what there is of it: `Some` when it is whole, and whether it ended in a line end.
    fn take(&mut self, bytes: &mut &[u8], data: &Data) -> Option<bool> {
        let (mine, rest) = bytes.split_at(bytes.len().min(self.len.saturating_sub(self.at)));
        if let Some(key) = self.key {
            self.right = self.right && data.is_value(key, self.at, mine);
        }
        self.at += mine.len();
        *bytes = rest;
        while self.at >= self.len && self.at < self.len + 2 {
            let (byte, rest) = bytes.split_first()?;
            if *byte != b"\r\n"[self.at - self.len] {
                return Some(false);
            }
            self.at += 1;
            *bytes = rest;
        }
        (self.at == self.len + 2).then_some(true)
    }
}

/// Any other line: an error in step if it looks like one, otherwise nonsense.
fn on_other(line: &[u8], tally: &mut Tally) -> Verdict {
    const WORDS: [&[u8]; 10] = [
        b"ERROR",
        b"CLIENT_ERROR",
        b"SERVER_ERROR",
        b"NOT_STORED",
        b"EXISTS",
        b"NOT_FOUND",
        b"NS",
        b"EX",
        b"NF",
        b"BUSY",
    ];
    let word = line.split(|b| *b == b' ').next().unwrap_or_default();
    if !WORDS.contains(&word) {
        return Verdict::Lost(format!("not an answer to what was asked: {}", shown(line)));
    }
    tally.on_error(1, || shown(line));
    Verdict::Failed
}

/// For messages: at most the first 120 bytes, nothing unprintable.
pub(super) fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(120)];
    cut.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::Plan;

    /// Reads `answer` cut into pieces of `piece` bytes; the steps that were not `More`, and what was counted.
    fn read(plan: &Plan, asked: Asked, answer: &[u8], piece: usize) -> (Vec<Step>, Tally) {
        let (shape, data) = (Shape::new(plan), Data::new(plan));
        let (mut reader, mut tally, mut steps) = (Reader::default(), Tally::default(), Vec::new());
        for mut bytes in answer.chunks(piece) {
            while !bytes.is_empty() {
                match reader.read(&mut bytes, asked, &shape, &data, &mut tally) {
                    Step::More => {}
                    Step::Done => steps.push(Step::Done),
                    lost @ Step::Lost(_) => return (vec![lost], tally),
                }
            }
        }
        (steps, tally)
    }

    fn plan(keys_per_get: u32, dialect: Dialect) -> Plan {
        Plan { keys_per_get, dialect, value_bytes: "40".parse().unwrap(), ..super::super::tests::plan() }
    }

    fn value(plan: &Plan, key: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Data::new(plan).write_value(key, &mut out);
        out
    }

    const GET: Asked = Asked { key: 3, is_set: false, at_ns: 0 };
    const SET: Asked = Asked { key: 3, is_set: true, at_ns: 0 };

    fn values(plan: &Plan, keys: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        for key in keys {
            out.extend_from_slice(format!("VALUE k{key} 0 40\r\n").as_bytes());
            out.extend_from_slice(&value(plan, *key));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"END\r\n");
        out
    }

    #[test]
    fn right_answers_are_right_however_they_are_cut() {
        let (many, meta) = (plan(3, Dialect::Classic), plan(1, Dialect::Meta));
        let mut va = b"VA 40\r\n".to_vec();
        va.extend_from_slice(&value(&meta, 3));
        va.extend_from_slice(b"\r\n");
        let cases: [(&Plan, Asked, Vec<u8>, u64, u64); 6] = [
            (&many, GET, values(&many, &[3, 4, 5]), 3, 0),
            (&many, GET, values(&many, &[5]), 1, 2),
            (&many, GET, values(&many, &[]), 0, 3),
            (&many, SET, b"STORED\r\n".to_vec(), 0, 0),
            (&meta, GET, va, 1, 0),
            (&meta, GET, b"EN\r\n".to_vec(), 0, 1),
        ];
        for (plan, asked, answer, hits, misses) in cases {
            for piece in [1, 2, 3, 7, 1_000] {
                let (steps, tally) = read(plan, asked, &answer.repeat(2), piece);
                assert_eq!(steps, [Step::Done, Step::Done], "{piece}");
                assert_eq!((tally.hits, tally.misses), (2 * hits, 2 * misses));
                assert_eq!((tally.wrong, tally.errors), (0, 0));
            }
        }
    }

    #[test]
    fn wrong_values_are_counted_and_the_connection_lives() {
        let plan = plan(3, Dialect::Classic);
        let mut flipped = values(&plan, &[3]);
        flipped[30] ^= 1;
        let text = |answer: &str| answer.as_bytes().to_vec();
        let cases = [
            (flipped, "not what was stored"),
            (values(&plan, &[4, 3]), "k3 was not asked for"),
            (values(&plan, &[3, 3]), "k3 was not asked for"),
            (values(&plan, &[6]), "k6 was not asked for"),
            (text("VALUE k3 0 2\r\nab\r\nEND\r\n"), "2 bytes announced, 40 stored"),
            (text(&String::from_utf8(values(&plan, &[3])).unwrap().replace(" 0 40", " 1 40")), "flags"),
        ];
        for (answer, why) in cases {
            let (steps, tally) = read(&plan, GET, &answer, 5);
            assert_eq!((steps.as_slice(), tally.wrong), ([Step::Done].as_slice(), 1), "{why}");
            assert!(tally.first_wrong.as_ref().is_some_and(|w| w.contains(why)), "{:?}", tally.first_wrong);
        }
    }

    #[test]
    fn errors_are_answers_and_nonsense_is_not() {
        let plan = plan(3, Dialect::Classic);
        let (steps, tally) = read(&plan, GET, b"SERVER_ERROR Reply timeout\r\n", 4);
        assert_eq!((steps, tally.errors, tally.misses), (vec![Step::Done], 1, 0));
        assert_eq!(tally.first_error.as_deref(), Some("SERVER_ERROR Reply timeout"));
        for (asked, answer) in [
            (SET, "END\r\n"),
            (GET, "STORED\r\n"),
            (GET, "END\n"),
            (GET, "VALUE k3 0 x\r\n"),
            (GET, "VALUE k3 0 2\r\nabc\r\n"),
        ] {
            let (steps, _) = read(&plan, asked, answer.as_bytes(), 100);
            assert!(matches!(steps.as_slice(), [Step::Lost(_)]), "{answer:?}: {steps:?}");
        }
        let (steps, _) = read(&plan, GET, &[b'x'; 10_000], 100);
        assert!(matches!(steps.as_slice(), [Step::Lost(_)]));
    }
}
