//! One request, as the client asks it and as it reaches a server, and what an honest server answers.
//!
//! Answers follow from the key alone, so whoever sees one knows whose it is: values are made of the key, and whether
//! something is stored, found or deleted is a matter of the key's hash.

use crate::support::Random;

/// The operations that are tried, each at every place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Get,
    Gets,
    /// A `get` of four keys, one of which the healthy server has.
    Multi,
    Gat,
    Set,
    Add,
    Cas,
    Incr,
    Delete,
    Touch,
    MetaGet,
    MetaSet,
}

pub(super) const OPS: [Op; 12] = [
    Op::Get,
    Op::Gets,
    Op::Multi,
    Op::Gat,
    Op::Set,
    Op::Add,
    Op::Cas,
    Op::Incr,
    Op::Delete,
    Op::Touch,
    Op::MetaGet,
    Op::MetaSet,
];

impl Op {
    pub(super) const fn is_meta(self) -> bool {
        matches!(self, Self::MetaGet | Self::MetaSet)
    }

    pub(super) const fn is_storage(self) -> bool {
        matches!(self, Self::Set | Self::Add | Self::Cas | Self::MetaSet)
    }

    /// `VALUE` lines and `END`.
    pub(super) const fn is_classic_get(self) -> bool {
        matches!(self, Self::Get | Self::Gets | Self::Multi | Self::Gat)
    }
}

/// A request, on either side of ringway.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) op: Op,
    pub(super) keys: Vec<String>,
    /// Of meta requests: the client's, or on the server's side the one that must come back.
    pub(super) opaque: Option<String>,
    /// Of the data block, where there is one.
    pub(super) data_bytes: usize,
}

impl Question {
    /// Some request for these keys; `hit`: it finds what it asks for.
    pub(super) fn new(op: Op, keys: Vec<String>, random: &mut Random) -> Self {
        let opaque = (op.is_meta() && random.one_in(2)).then(|| format!("c{}", random.below(100_000)));
        let data_bytes = match op.is_storage() {
            true if random.one_in(16) => 16_384 + random.below(20_000),
            true => random.below(300),
            false => 0,
        };
        Self { op, keys, opaque, data_bytes }
    }

    pub(super) fn key(&self) -> &str {
        &self.keys[0]
    }

    /// What the client sends.
    pub(super) fn text(&self) -> Vec<u8> {
        let (key, length) = (self.key(), self.data_bytes);
        let opaque = self.opaque.as_ref().map_or_else(String::new, |o| format!(" O{o}"));
        let mut text = match self.op {
            Op::Get | Op::Multi => format!("get {}\r\n", self.keys.join(" ")),
            Op::Gets => format!("gets {key}\r\n"),
            Op::Gat => format!("gat 100 {key}\r\n"),
            Op::Set => format!("set {key} 7 0 {length}\r\n"),
            Op::Add => format!("add {key} 7 0 {length}\r\n"),
            Op::Cas => format!("cas {key} 7 0 {length} 99\r\n"),
            Op::Incr => format!("incr {key} 3\r\n"),
            Op::Delete => format!("delete {key}\r\n"),
            Op::Touch => format!("touch {key} 100\r\n"),
            Op::MetaGet => format!("mg {key} v{opaque}\r\n"),
            Op::MetaSet => format!("ms {key} {length}{opaque}\r\n"),
        }
        .into_bytes();
        if self.op.is_storage() {
            text.resize(text.len() + length, b'd');
            text.extend_from_slice(b"\r\n");
        }
        text
    }

    /// What arrived at a server: the line without its end.
    pub(super) fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let op = match words[0] {
            "get" if words.len() > 2 => Op::Multi,
            "get" => Op::Get,
            "gets" => Op::Gets,
            "gat" => Op::Gat,
            "set" => Op::Set,
            "add" => Op::Add,
            "cas" => Op::Cas,
            "incr" => Op::Incr,
            "delete" => Op::Delete,
            "touch" => Op::Touch,
            "mg" => Op::MetaGet,
            "ms" => Op::MetaSet,
            _ => panic!("the server was asked {line:?}"),
        };
        let keys = match op {
            Op::Multi => &words[1..],
            Op::Gat => &words[2..3],
            _ => &words[1..2],
        };
        let length = match op {
            Op::Set | Op::Add | Op::Cas => words[4],
            Op::MetaSet => words[2],
            _ => "0",
        };
        let opaque = words.iter().skip(1).find_map(|w| w.strip_prefix('O')).filter(|_| op.is_meta());
        Self {
            op,
            keys: keys.iter().map(|&k| k.to_owned()).collect(),
            opaque: opaque.map(str::to_owned),
            data_bytes: length.parse().unwrap(),
        }
    }

    /// What an honest server answers, and what the client must see of it.
    pub(super) fn answer(&self) -> Vec<u8> {
        let hash = hash_of(self.key());
        let opaque = self.opaque.as_ref().map_or_else(String::new, |o| format!(" O{o}"));
        let line = match self.op {
            Op::Get | Op::Gets | Op::Gat | Op::Multi => {
                let mut answer: Vec<u8> = self.keys.iter().flat_map(|k| Hit::of(self, k).written()).collect();
                answer.extend_from_slice(b"END\r\n");
                return answer;
            }
            Op::MetaGet if is_missing(self.key()) => format!("EN{opaque}\r\n"),
            Op::MetaGet => return Hit::of(self, self.key()).written(),
            Op::Set => "STORED\r\n".into(),
            Op::Add => (if hash.is_multiple_of(2) { "STORED\r\n" } else { "NOT_STORED\r\n" }).into(),
            Op::Cas => ["STORED\r\n", "EXISTS\r\n", "NOT_FOUND\r\n"][hash as usize % 3].into(),
            Op::Incr => format!("{}\r\n", 100 + hash % 1_000_000_000),
            Op::Delete => (if hash.is_multiple_of(2) { "DELETED\r\n" } else { "NOT_FOUND\r\n" }).into(),
            Op::Touch => (if hash.is_multiple_of(2) { "TOUCHED\r\n" } else { "NOT_FOUND\r\n" }).into(),
            Op::MetaSet => format!("HD{opaque}\r\n"),
        };
        line.into_bytes()
    }
}

/// The parts of an answer with a value, to be written, or to be spoilt one by one before.
#[derive(Clone)]
pub(super) struct Hit {
    op: Op,
    missing: bool,
    /// What proves whose answer it is: the key, in the meta dialect the opaque.
    pub(super) name: Option<Vec<u8>>,
    pub(super) flags: String,
    pub(super) length: String,
    pub(super) cas: Option<String>,
    pub(super) data: Vec<u8>,
    /// Behind everything else on the line.
    pub(super) tail: String,
}

impl Hit {
    pub(super) fn of(question: &Question, key: &str) -> Self {
        let data = value_of(key);
        let name = match question.op.is_meta() {
            true => question.opaque.as_ref().map(|o| o.as_bytes().to_vec()),
            false => Some(key.as_bytes().to_vec()),
        };
        Self {
            op: question.op,
            missing: is_missing(key),
            name,
            flags: "7".into(),
            length: data.len().to_string(),
            cas: (question.op == Op::Gets).then(|| (hash_of(key) % 1_000_000).to_string()),
            data,
            tail: String::new(),
        }
    }

    /// `VALUE …` without `END`, or `VA …`; nothing when it is a miss.
    pub(super) fn written(&self) -> Vec<u8> {
        if self.missing {
            return Vec::new();
        }
        let Self { flags, length, tail, .. } = self;
        let name = self.name.as_deref();
        let mut answer = Vec::with_capacity(self.data.len() + 300);
        if self.op.is_meta() {
            // What a lie about a length makes of `ms`, which has no value to tell, is a `VA` as well.
            answer.extend_from_slice(format!("VA {length}").as_bytes());
            if let Some(name) = name {
                answer.extend_from_slice(b" O");
                answer.extend_from_slice(name);
            }
        } else {
            answer.extend_from_slice(b"VALUE ");
            answer.extend_from_slice(name.unwrap_or_default());
            answer.extend_from_slice(format!(" {flags} {length}").as_bytes());
            if let Some(cas) = &self.cas {
                answer.extend_from_slice(format!(" {cas}").as_bytes());
            }
        }
        answer.extend_from_slice(tail.as_bytes());
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(&self.data);
        answer.extend_from_slice(b"\r\n");
        answer
    }
}

/// Keys that no server has end like this.
pub(super) fn is_missing(key: &str) -> bool {
    key.ends_with('-')
}

/// The only value that a key can have: small ones mostly, some that are passed on without a copy.
pub(super) fn value_of(key: &str) -> Vec<u8> {
    let mut random = Random::new(hash_of(key));
    let length = if random.one_in(12) { 16_384 + random.below(30_000) } else { 1 + random.below(200) };
    format!("<{key}>").bytes().cycle().take(length).collect()
}

/// FNV-1a.
pub(super) fn hash_of(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
