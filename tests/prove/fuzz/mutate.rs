//! Inputs that are almost right: kept ones with lines, words, numbers and bytes changed, taken out, doubled and mixed.

use crate::support::Random;

/// No input grows beyond this.
const BYTES_MAX: usize = 16 * 1024;

/// Words that mean something to one of the ways in.
const WORDS: &[&[u8]] = &[
    b"get ",
    b"gets ",
    b"gat 0 ",
    b"set a 0 0 1\r\nx\r\n",
    b"cas ",
    b"mg ",
    b"ms ",
    b"md ",
    b"ma ",
    b"me ",
    b"mn\r\n",
    b" noreply",
    b" q",
    b" v",
    b" k",
    b" b",
    b" O1",
    b" MA",
    b" N0",
    b" T0",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"  ",
    b"VALUE a0 0 1\r\nx\r\nEND\r\n",
    b"END\r\n",
    b"STORED\r\n",
    b"VA 1 O0\r\nx\r\n",
    b"HD\r\n",
    b"EN\r\n",
    b"NF\r\n",
    b"NOT_FOUND\r\n",
    b"DELETED\r\n",
    b"TOUCHED\r\n",
    b"EXISTS\r\n",
    b"SERVER_ERROR x\r\n",
    b"ERROR\r\n",
    b"OK\r\n",
    b"version\r\n",
    b"stats\r\n",
    b"flush_all\r\n",
    b"verbosity 1\r\n",
    b"quit\r\n",
    b"GET / HTTP/1.1\r\n",
    b"\x80",
    b"pools: ",
    b"servers: ",
    b"- ",
    b": ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"&a ",
    b"*a",
    b"<<: ",
    b"#",
    b"'",
    b"\"",
    b"|\n",
    b"embedded: ",
    b"1ms",
    b"1MiB",
    b"\t",
    b"!!str ",
    b"---\n",
    b"route: ",
    b"\xff",
    b"\xe2\x80\xae",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "00",
    "250",
    "251",
    "2047",
    "2048",
    "2049",
    "16383",
    "16384",
    "16385",
    "20000",
    "20001",
    "1048576",
    "2147483645",
    "2147483646",
    "2147483647",
    "2147483648",
    "4294967293",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "2592000",
    "2592001",
];

/// Makes inputs of kept ones.
pub(crate) struct Mutator<'a> {
    kept: &'a [(String, Vec<u8>)],
    random: Random,
}

impl<'a> Mutator<'a> {
    pub(crate) const fn new(kept: &'a [(String, Vec<u8>)], random: Random) -> Self {
        Self { kept, random }
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.one_kept().to_vec();
        bytes.truncate(BYTES_MAX);
        for _ in 0..=self.random.below(6) {
            self.change(&mut bytes);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn one_kept(&mut self) -> &'a [u8] {
        &self.kept[self.random.below(self.kept.len())].1
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.random.below(bytes.len() + 1);
        match self.random.below(12) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.random.below(8),
            1 if at < bytes.len() => bytes[at] = self.random.any().to_le_bytes()[0],
            2 => {
                let end = (at + 1 + self.random.below(8)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            3 | 4 => insert(bytes, at, WORDS[self.random.below(WORDS.len())]),
            5 | 6 => self.change_number(bytes, at),
            7 => {
                let line = self.a_line(bytes);
                insert(bytes, at, &line);
            }
            8 => {
                let (start, end) = line_at(bytes, at);
                drop(bytes.drain(start..end));
            }
            9 => {
                let other = self.one_kept();
                let line = self.a_line(other);
                let (start, _) = line_at(bytes, at);
                insert(bytes, start, &line);
            }
            10 => {
                let (start, end) = line_at(bytes, at);
                let line = bytes[start..end].to_vec();
                for _ in 0..self.random.below(20) {
                    insert(bytes, start, &line);
                }
            }
            _ => bytes.truncate(at),
        }
    }

    fn change_number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(found) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
        let start = at + found;
        let count = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        let number = NUMBERS[self.random.below(NUMBERS.len())];
        bytes.splice(start..start + count, number.bytes());
    }

    fn a_line(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (start, end) = line_at(bytes, self.random.below(bytes.len() + 1));
        bytes[start..end].to_vec()
    }
}

/// The line around this place, with its end.
fn line_at(bytes: &[u8], at: usize) -> (usize, usize) {
    let start = bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
    let end = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |p| at + p + 1);
    (start, end)
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    if bytes.len() + more.len() <= BYTES_MAX {
        bytes.splice(at..at, more.iter().copied());
    }
}
