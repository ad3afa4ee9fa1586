//! A client of the simulation: what it sent, what it is owed, and what it may be told.

use super::{value_of, version_of};
use crate::support::Random;
use crate::support::room::Pipe;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// What is asked and what may be answered.
pub(super) enum Asked {
    Get(Vec<Vec<u8>>),
    MetaGet {
        key: Vec<u8>,
        opaque: u64,
    },
    /// `mg … q` and an `mn` behind it, for its silence has no end of its own.
    QuietGet {
        key: Vec<u8>,
        opaque: u64,
    },
    Set {
        key: Vec<u8>,
        version: u64,
        answers: &'static [&'static str],
        quiet: bool,
    },
    Delete {
        key: Vec<u8>,
        answers: &'static [&'static str],
    },
    /// Answered by the program itself, with a line that begins so.
    Own(&'static str),
}

impl Expected {
    pub(super) const fn is_sent(&self) -> bool {
        self.sent_at.is_some()
    }
}

impl Asked {
    fn shown(&self) -> String {
        match self {
            Self::Get(keys) => format!("get {}", keys.join(&b' ').escape_ascii()),
            Self::MetaGet { key, .. } | Self::QuietGet { key, .. } => format!("mg {}", key.escape_ascii()),
            Self::Set { key, .. } => format!("set {}", key.escape_ascii()),
            Self::Delete { key, .. } => format!("delete {}", key.escape_ascii()),
            Self::Own(line) => (*line).to_owned(),
        }
    }
}

pub(super) struct Expected {
    asked: Asked,
    /// Where it ends in the stream of the client's bytes.
    end: u64,
    /// When its last byte had been sent.
    sent_at: Option<Duration>,
}

pub(super) struct Client {
    pub(super) name: u64,
    pub(super) pipe: Pipe,
    unsent: VecDeque<u8>,
    sent: u64,
    queued: u64,
    input: Vec<u8>,
    pub(super) expected: VecDeque<Expected>,
    /// Since when the first of `expected` is the oldest.
    oldest_since: Duration,
    clock: Clock,
    /// Does not take its replies for now.
    pub(super) is_slow: bool,
    /// Will send no more, and is told no more after what it is owed.
    pub(super) is_finished: bool,
    /// What each of its own keys may hold now.
    known: HashMap<Vec<u8>, Vec<Option<u64>>>,
    versions: u64,
    told: Told,
    pub(super) answered: u64,
}

/// How its gets are answered.
#[derive(Clone, Copy)]
pub(super) struct Told {
    /// A get whose server failed has missed.
    pub(super) miss_on_error: bool,
    /// Keys of one get may be asked for one after the other, and some be told before an error.
    pub(super) is_routed: bool,
}

/// What is said to one client too many.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

/// How long the world has lasted; a jump counts as little more than one timeout, for in it no more than one request of
/// a client has had its time: the next one's began when the jump was over.
pub(super) type Clock = Rc<Cell<Duration>>;

/// Timers fire at whole milliseconds.
pub(super) const SLACK: Duration = Duration::from_millis(2);

/// What a look at its end of the pipe brought.
pub(super) enum Seen {
    Nothing,
    Something,
    /// The program has closed.
    Closed,
}

impl Client {
    pub(super) fn new(name: u64, pipe: Pipe, told: Told, clock: Clock) -> Self {
        Self {
            name,
            pipe,
            unsent: VecDeque::new(),
            sent: 0,
            queued: 0,
            input: Vec::new(),
            expected: VecDeque::new(),
            oldest_since: clock.get(),
            clock,
            is_slow: false,
            is_finished: false,
            known: HashMap::new(),
            versions: 0,
            told,
            answered: 0,
        }
    }

    /// Thinks of a request; its bytes wait to be sent.
    pub(super) fn ask(&mut self, random: &mut Random) {
        let key = if random.one_in(4) {
            format!("shared:{}", random.below(4)).into_bytes()
        } else {
            format!("c{}:{}", self.name, random.below(4)).into_bytes()
        };
        let shown = String::from_utf8_lossy(&key).into_owned();
        self.versions += 1;
        // Of one client and one seed, so that what others set to a shared key differs.
        let version = self.name << 32 | self.versions;
        let opaque = self.versions;
        const STORED: &[&str] = &["STORED"];
        let (bytes, asked) = match random.below(16) {
            0..4 => (format!("get {shown}\r\n").into_bytes(), Asked::Get(vec![key])),
            4..6 => {
                let own = |i| format!("c{}:{i}", self.name).into_bytes();
                let mut keys: Vec<Vec<u8>> = (0..=random.below(6)).map(|_| own(random.below(4))).collect();
                keys.push(key);
                ([b"get ", &keys.join(&b' ')[..], b"\r\n"].concat(), Asked::Get(keys))
            }
            6 => (format!("mg {shown} v O{opaque}\r\n").into_bytes(), Asked::MetaGet { key, opaque }),
            7 => {
                let text = format!("mg {shown} q v O{opaque}\r\nmn\r\n");
                (text.into_bytes(), Asked::QuietGet { key, opaque })
            }
            8..11 => {
                let quiet = random.one_in(4);
                let tail = if quiet { " noreply" } else { "" };
                let value = value_of(&key, version);
                let text = format!("set {shown} 0 0 {}{tail}\r\n", value.len());
                let bytes = [text.as_bytes(), &value, b"\r\n"].concat();
                (bytes, Asked::Set { key, version, answers: STORED, quiet })
            }
            11 => {
                let value = value_of(&key, version);
                let bytes = [format!("ms {shown} {}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
                (bytes, Asked::Set { key, version, answers: &["HD"], quiet: false })
            }
            12 => {
                let text = format!("delete {shown}\r\n");
                (text.into_bytes(), Asked::Delete { key, answers: &["DELETED", "NOT_FOUND"] })
            }
            13 => (format!("md {shown}\r\n").into_bytes(), Asked::Delete { key, answers: &["HD", "NF"] }),
            14 => (b"version\r\n".to_vec(), Asked::Own("VERSION ")),
            _ => (b"what is this\r\n".to_vec(), Asked::Own("ERROR")),
        };
        self.unsent.extend(&bytes);
        self.queued += bytes.len() as u64;
        self.expected.push_back(Expected { asked, end: self.queued, sent_at: None });
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends some of what waits.
    pub(super) fn send(&mut self, bytes_max: usize) {
        let count = self.unsent.len().min(bytes_max);
        let sent = self.pipe.send(&self.unsent.make_contiguous()[..count]).unwrap_or(0);
        self.unsent.drain(..sent);
        self.sent += sent as u64;
        let now = self.clock.get();
        for expected in self.expected.iter_mut().filter(|e| e.end <= self.sent) {
            expected.sent_at.get_or_insert(now);
        }
    }

    /// Takes what has come and compares it with what is due.
    pub(super) fn receive(&mut self, bytes_max: usize) -> Result<Seen, String> {
        let before = self.input.len();
        let is_open = self.pipe.receive(bytes_max, &mut self.input);
        let something = self.input.len() > before;
        if self.answered == 0 && !self.input.is_empty() && TOO_MANY.starts_with(&self.input) {
            self.is_finished = true; // it was turned away
            return Ok(if is_open { Seen::Something } else { Seen::Closed });
        }
        while let Some(count) = self.next()? {
            self.input.drain(..count);
            self.expected.pop_front();
            self.oldest_since = self.clock.get();
            self.answered += 1;
        }
        if self.is_finished && self.expected.is_empty() {
            self.input.clear(); // perhaps a word about a request that was never whole
        }
        if self.expected.is_empty() && !self.input.is_empty() {
            return Err(format!("said to a client that is owed nothing: {}", self.input.escape_ascii()));
        }
        Ok(match (is_open, something) {
            (false, _) => Seen::Closed,
            (true, true) => Seen::Something,
            (true, false) => Seen::Nothing,
        })
    }

    /// Since when the program owes it an answer, and how many requests may have their time one after the other: those
    /// in front that are answered in silence, and each key of a get that travels alone.
    pub(super) fn owed_since(&self) -> Option<(Duration, u32)> {
        let silent = |e: &&Expected| matches!(e.asked, Asked::Set { quiet: true, .. });
        let before = u32::try_from(self.expected.iter().take_while(silent).count()).unwrap();
        let first = self.expected.get(before as usize)?;
        let own = match &first.asked {
            Asked::Get(keys) if self.told.is_routed => u32::try_from(keys.len()).unwrap(),
            _ => 1,
        };
        Some((first.sent_at?.max(self.oldest_since), before + own))
    }

    pub(super) fn is_owed(&self) -> bool {
        !self.first_owed().is_empty()
    }

    pub(super) fn first_owed(&self) -> String {
        let owed = self.expected.iter().find(|e| !matches!(e.asked, Asked::Set { quiet: true, .. }));
        owed.map_or(String::new(), |e| e.asked.shown())
    }

    /// How many bytes answer the oldest request; `None`: not all of them are here.
    fn next(&mut self) -> Result<Option<usize>, String> {
        let Some(Expected { asked, sent_at, .. }) = self.expected.front() else { return Ok(None) };
        if let Asked::Set { key, version, quiet: true, .. } = asked {
            // Nobody says what became of it. It is over once something later is answered.
            if sent_at.is_none() || self.input.is_empty() {
                return Ok(None);
            }
            let known = self.known.entry(key.clone()).or_insert_with(|| vec![None]);
            known.extend([Some(*version), None]); // None: it was too large, and took the old one with it
            return Ok(Some(0));
        }
        let Some(line) = line_of(&self.input) else { return Ok(None) };
        let is_error = line.starts_with(b"SERVER_ERROR ");
        // A value that is too large is refused at its line; a quiet get ends with the `mn` behind it.
        if sent_at.is_none() && !is_error && !matches!(asked, Asked::QuietGet { .. }) {
            return Err(format!("answered before it was asked: {}", line.escape_ascii()));
        }
        let whole = line.len() + 2;
        let asked_text = asked.shown();
        let (answered, sent) = (self.answered, self.sent);
        let unfit = || {
            Err(format!(
                "not an answer to {asked_text}: {} (answered {answered}, sent {sent})",
                line.escape_ascii()
            ))
        };
        match asked {
            Asked::Own(beginning) => {
                if line.starts_with(beginning.as_bytes()) {
                    Ok(Some(whole))
                } else {
                    unfit()
                }
            }
            Asked::Set { key, version, answers, .. } => {
                let known = self.known.entry(key.clone()).or_insert_with(|| vec![None]);
                if answers.iter().any(|a| a.as_bytes() == line) {
                    *known = vec![Some(*version)];
                } else if line == b"SERVER_ERROR object too large for cache" || is_error {
                    // The old value may have been deleted in its place.
                    known.extend([Some(*version), None]);
                } else {
                    return unfit();
                }
                Ok(Some(whole))
            }
            Asked::Delete { key, answers } => {
                let known = self.known.entry(key.clone()).or_insert_with(|| vec![None]);
                if answers.iter().any(|a| a.as_bytes() == line) {
                    *known = vec![None];
                } else if is_error {
                    known.push(None);
                } else {
                    return unfit();
                }
                Ok(Some(whole))
            }
            Asked::MetaGet { key, opaque } | Asked::QuietGet { key, opaque } => {
                let is_quiet = matches!(asked, Asked::QuietGet { .. });
                let mut count = 0;
                let mut found = None;
                if is_error {
                    count = whole;
                } else if line.starts_with(b"EN") {
                    // Where a failure is told as a miss, the echo is the client's own opaque too.
                    if is_quiet || line != format!("EN O{opaque}").as_bytes() {
                        return unfit();
                    }
                    (count, found) = (whole, Some(None));
                } else if line.starts_with(b"VA ") {
                    let text = String::from_utf8_lossy(line);
                    let words: Vec<&str> = text.split(' ').collect();
                    if words.len() != 3 || words[2] != format!("O{opaque}") {
                        return unfit();
                    }
                    let length: usize = words[1].parse().map_err(|_| "no length".to_owned())?;
                    let Some(block) = self.input.get(whole..whole + length + 2) else { return Ok(None) };
                    let Some(version) = block.strip_suffix(b"\r\n").and_then(|v| version_of(key, v)) else {
                        return Err(format!("not a value of {}: {}", key.escape_ascii(), shown(block)));
                    };
                    (count, found) = (whole + length + 2, Some(Some(version)));
                } else if !(is_quiet && line == b"MN") {
                    return unfit();
                }
                if is_quiet {
                    match line_of(&self.input[count..]) {
                        Some(b"MN") => {}
                        Some(line) => return Err(format!("instead of MN: {}", line.escape_ascii())),
                        None => return Ok(None),
                    }
                    found = found.or((count == 0).then_some(None));
                    count += 4;
                }
                let key = key.clone();
                self.learn(&key, found)?;
                Ok(Some(count))
            }
            Asked::Get(keys) => {
                if is_error {
                    return Ok(Some(whole));
                }
                let Some((count, found)) = values(&self.input, keys, self.told.is_routed)? else {
                    return Ok(None);
                };
                for (key, found) in keys.clone().iter().zip(found) {
                    self.learn(key, found)?;
                }
                Ok(Some(count))
            }
        }
    }

    /// A key was found to hold this, or not to be there. `found` is `None` when nothing was said of it.
    fn learn(&mut self, key: &[u8], found: Option<Option<u64>>) -> Result<(), String> {
        let Some(found) = found else { return Ok(()) };
        if !key.starts_with(b"c") || (found.is_none() && self.told.miss_on_error) {
            return Ok(()); // everybody's key; or perhaps no miss but an error
        }
        let known = self.known.entry(key.to_vec()).or_insert_with(|| vec![None]);
        if !known.contains(&found) {
            return Err(format!("{} is {found:?}, which is none of {known:?}", key.escape_ascii()));
        }
        *known = vec![found];
        Ok(())
    }

    /// The longest that a request may take.
    pub(super) fn is_overdue(&self, timeout: Duration) -> Option<Duration> {
        let (since, count) = self.owed_since()?;
        // What follows a silent one begins at the end of the step in which that one's time was over, and no step is
        // longer than one timeout. (The silent one may have had all but the last moment of its time before the step.)
        let steps = (timeout + SLACK) * (count - 1);
        let late = (self.clock.get() - since).saturating_sub((timeout + SLACK) * count + steps);
        (!self.is_slow && !late.is_zero()).then_some(late)
    }
}

/// The answer to a classic get: its length, and for each key the version that was found, if it was told.
#[expect(
    clippy::type_complexity,
    reason = "a pair inside of what may be missing inside of what may be wrong"
)]
fn values(
    input: &[u8],
    keys: &[Vec<u8>],
    is_routed: bool,
) -> Result<Option<(usize, Vec<Option<Option<u64>>>)>, String> {
    let mut found = vec![None; keys.len()];
    let (mut at, mut next) = (0, 0);
    loop {
        let Some(line) = line_of(&input[at..]) else { return Ok(None) };
        at += line.len() + 2;
        if line == b"END" {
            return Ok(Some((at, found.into_iter().map(Some).collect())));
        }
        if is_routed && line.starts_with(b"SERVER_ERROR ") {
            // some of them, and not the others
            return Ok(Some((at, found.into_iter().map(|found| found.map(Some)).collect())));
        }
        let text = String::from_utf8_lossy(line);
        let words: Vec<&str> = text.split(' ').collect();
        let ["VALUE", name, "0", length] = words[..] else {
            return Err(format!("not an answer to a get: {}", line.escape_ascii()));
        };
        let Some(index) = (next..keys.len()).find(|i| keys[*i] == name.as_bytes()) else {
            return Err(format!("not asked for, or not in this place: {}", line.escape_ascii()));
        };
        next = index + 1;
        let length: usize = length.parse().map_err(|_| "no length".to_owned())?;
        let Some(block) = input.get(at..at + length + 2) else { return Ok(None) };
        found[index] = block.strip_suffix(b"\r\n").and_then(|v| version_of(&keys[index], v));
        if found[index].is_none() {
            return Err(format!("not a value of {name}: {}", shown(block)));
        }
        at += length + 2;
    }
}

fn line_of(bytes: &[u8]) -> Option<&[u8]> {
    bytes.windows(2).position(|w| w == b"\r\n").map(|end| &bytes[..end])
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(60)].escape_ascii().to_string()
}
