//! Conversations in files: what is sent, what is answered. The form is told at the head of every file.

use super::client::{Client, shown};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// One conversation.
pub(crate) struct Case {
    /// `file: title`.
    pub(crate) title: String,
    /// Where it holds; everywhere when empty.
    places: Vec<String>,
    /// Where it holds only step by step.
    stepwise: Vec<String>,
    steps: Vec<Step>,
}

/// Bytes sent together, and the answer to them.
#[derive(Default)]
struct Step {
    sent: Vec<u8>,
    answer: Vec<(Option<String>, Vec<Piece>)>,
}

/// A part of an expected answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    /// Any number.
    Number,
    /// This number, or one more or less.
    Near(i64),
    /// The rest of the line.
    Rest,
    /// The connection is closed.
    Closed,
}

/// Who is spoken with.
pub(crate) struct Target<'a> {
    pub(crate) name: &'static str,
    pub(crate) address: &'a str,
    /// Its place and the places that include it.
    pub(crate) places: &'static [&'static str],
}

/// Every case of every file.
pub(crate) fn all() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let cases: Vec<Case> = files.iter().flat_map(|f| parse(f)).collect();
    assert!(cases.len() > 150, "the transcripts are not there");
    cases
}

/// Holds the conversations with the target, each step by step and all at once; says everything that differs.
pub(crate) fn hold(cases: &[Case], target: &Target<'_>) {
    report(target, cases, |case| {
        case.by_steps(target).map_err(|e| format!("step by step: {e}"))?;
        if case.stepwise.iter().any(|p| target.places.contains(&p.as_str())) {
            return Ok(());
        }
        case.at_once(target).map_err(|e| format!("all at once: {e}"))
    });
}

/// Holds the conversations with the client's bytes cut in two at every place.
pub(crate) fn hold_cut(cases: &[Case], target: &Target<'_>) {
    report(target, cases, |case| case.cut_everywhere(target));
}

fn report(target: &Target<'_>, cases: &[Case], hold: impl Fn(&Case) -> Result<(), String>) {
    let here: Vec<&Case> = cases.iter().filter(|c| c.is_for(target)).collect();
    let faults: Vec<String> =
        here.iter().filter_map(|case| hold(case).err().map(|e| format!("{}\n  {e}", case.title))).collect();
    let (count, all) = (faults.len(), here.len());
    assert!(
        faults.is_empty(),
        "{}: {count} of {all} conversations differ\n{}",
        target.name,
        faults.join("\n")
    );
}

impl Case {
    /// All that the client sends.
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.steps.iter().flat_map(|s| s.sent.iter().copied()).collect()
    }

    /// All that is answered, numbers as they may be.
    pub(crate) fn answers(&self) -> Vec<u8> {
        let pieces = self.steps.iter().flat_map(|s| &s.answer).flat_map(|(_, pieces)| pieces);
        pieces.filter_map(|p| if let Piece::Byte(b) = p { Some(*b) } else { None }).collect()
    }

    fn is_for(&self, target: &Target<'_>) -> bool {
        self.places.is_empty() || self.places.iter().any(|p| target.places.contains(&p.as_str()))
    }

    fn by_steps(&self, target: &Target<'_>) -> Result<(), String> {
        let mut client = self.fresh(target);
        let mut closed = false;
        for step in &self.steps {
            let sent = client.try_send(&step.sent);
            if closed {
                break;
            }
            sent.map_err(|e| e.to_string())?;
            let answer = step.answer_of(target);
            closed = answer.contains(&Piece::Closed);
            expect(&mut client, &answer).map_err(|e| format!("after {}\n  {e}", shown(&step.sent)))?;
        }
        in_step(&mut client, closed)
    }

    fn at_once(&self, target: &Target<'_>) -> Result<(), String> {
        let mut client = self.fresh(target);
        let (sent, answer) = self.whole(target);
        client.try_send(&sent).map_err(|e| e.to_string())?;
        expect(&mut client, &answer)?;
        in_step(&mut client, answer.contains(&Piece::Closed))
    }

    fn cut_everywhere(&self, target: &Target<'_>) -> Result<(), String> {
        let (sent, answer) = self.whole(target);
        let closes = answer.contains(&Piece::Closed);
        let mut other = Client::connect(target.address);
        let mut client = self.fresh(target);
        for at in cuts(sent.len()) {
            forget(&mut other, &self.keys());
            if closes {
                client = self.fresh(target);
            }
            client.try_send(&sent[..at]).map_err(|e| e.to_string())?;
            // one worker serves both: when the other is answered, the first part has been read
            other.ask("mn\r\n", "MN\r\n");
            let rest = client.try_send(&sent[at..]);
            if !closes {
                rest.map_err(|e| e.to_string())?;
            }
            let told = |e| format!("cut after {}\n  {e}", shown(&sent[..at]));
            expect(&mut client, &answer).map_err(told)?;
            in_step(&mut client, closes).map_err(told)?;
        }
        Ok(())
    }

    /// A connection, with none of the keys there.
    fn fresh(&self, target: &Target<'_>) -> Client {
        forget(&mut Client::connect(target.address), &self.keys());
        let client = Client::connect(target.address);
        client.set_patience(Duration::from_secs(5));
        client
    }

    fn whole(&self, target: &Target<'_>) -> (Vec<u8>, Vec<Piece>) {
        let sent = self.steps.iter().flat_map(|s| s.sent.iter().copied()).collect();
        let mut answer = Vec::new();
        for step in &self.steps {
            answer.extend(step.answer_of(target));
            if answer.contains(&Piece::Closed) {
                break;
            }
        }
        (sent, answer)
    }

    /// Every word that may be a key, as `md` wants it.
    fn keys(&self) -> BTreeSet<Vec<u8>> {
        let mut keys = BTreeSet::new();
        let lines = self.steps.iter().flat_map(|s| s.sent.split(|b| *b == b'\n'));
        for line in lines.filter(|l| l.len() < 4096) {
            let words: Vec<&[u8]> = line.split(|b| b" \r".contains(b)).filter(|w| !w.is_empty()).collect();
            let is_wide = words.first().is_some_and(|w| w.starts_with(b"g"));
            let count = if is_wide { words.len() } else { 2 };
            for word in words.iter().take(count).skip(1).filter(|w| w.len() <= 250) {
                keys.insert(word.to_vec());
                if words.contains(&&b"b"[..]) {
                    keys.insert([word, &b" b"[..]].concat());
                }
            }
        }
        keys
    }
}

impl Step {
    fn answer_of(&self, target: &Target<'_>) -> Vec<Piece> {
        let here =
            |place: &Option<String>| place.as_ref().is_none_or(|p| target.places.contains(&p.as_str()));
        self.answer.iter().filter(|(place, _)| here(place)).flat_map(|(_, pieces)| pieces.clone()).collect()
    }
}

/// Deletes these keys.
fn forget(client: &mut Client, keys: &BTreeSet<Vec<u8>>) {
    let mut request = Vec::new();
    for key in keys {
        request.extend_from_slice(b"md ");
        request.extend_from_slice(key);
        request.extend_from_slice(b" q\r\n");
    }
    client.send([&request[..], b"mn\r\n"].concat());
    while client.line() != "MN" {}
}

/// Where to cut: everywhere, in a long text only near its ends.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    let near = if length < 50_000 { 300 } else { 25 };
    (1..length).filter(move |at| *at < near || length - at < near / 2)
}

fn in_step(client: &mut Client, closed: bool) -> Result<(), String> {
    if closed {
        return Ok(());
    }
    client.try_send(b"mn\r\n").map_err(|e| e.to_string())?;
    let mn: Vec<Piece> = b"MN\r\n".iter().map(|b| Piece::Byte(*b)).collect();
    expect(client, &mn).map_err(|e| format!("out of step: {e}"))
}

/// Reads until the answer is complete or wrong.
fn expect(client: &mut Client, answer: &[Piece]) -> Result<(), String> {
    let (closes, pieces) = match answer.split_last() {
        Some((Piece::Closed, pieces)) => (true, pieces),
        _ => (false, answer),
    };
    loop {
        match compare(client.ahead(), pieces) {
            Compared::Same(length) => {
                client.take_ahead(length);
                break;
            }
            Compared::Wrong => {
                return Err(format!("got      {}\n  expected {}", shown(client.ahead()), written(pieces)));
            }
            Compared::Short => {}
        }
        match client.try_read_more() {
            Ok(true) => {}
            Ok(false) => {
                return Err(format!(
                    "closed after {}\n  expected     {}",
                    shown(client.ahead()),
                    written(pieces)
                ));
            }
            Err(e) => {
                let (got, wanted) = (shown(client.ahead()), written(pieces));
                return Err(format!("{e}\n  got      {got}\n  expected {wanted}"));
            }
        }
    }
    while closes && client.try_read_more().map_err(|e| format!("not closed: {e}"))? {}
    if closes && !client.ahead().is_empty() {
        return Err(format!("said before it closed: {}", shown(client.ahead())));
    }
    Ok(())
}

enum Compared {
    /// The answer is there; so many bytes.
    Same(usize),
    /// Right as far as it goes.
    Short,
    Wrong,
}

fn compare(got: &[u8], pieces: &[Piece]) -> Compared {
    let mut at = 0;
    for piece in pieces {
        let rest = &got[at..];
        if rest.is_empty() {
            return Compared::Short;
        }
        let length = match piece {
            Piece::Byte(b) => usize::from(rest[0] == *b),
            Piece::Number => rest.iter().take_while(|b| b.is_ascii_digit()).count(),
            Piece::Near(n) => {
                let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                let text = std::str::from_utf8(&rest[..length]).unwrap();
                if rest.len() > length && text.parse::<i64>().is_ok_and(|m| (m - n).abs() <= 1) {
                    length
                } else if rest.len() == length {
                    return Compared::Short;
                } else {
                    0
                }
            }
            Piece::Rest => rest.iter().take_while(|b| !b"\r\n".contains(b)).count(),
            Piece::Closed => 0,
        };
        if length == 0 {
            return Compared::Wrong;
        }
        at += length;
    }
    Compared::Same(at)
}

fn written(pieces: &[Piece]) -> String {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Byte(b) => bytes.push(*b),
            Piece::Number => bytes.push(b'#'),
            Piece::Near(n) => bytes.extend(format!("{{~{n}}}").bytes()),
            Piece::Rest => bytes.extend(b"{*}"),
            Piece::Closed => bytes.extend(b"{closed}"),
        }
    }
    shown(&bytes)
}

fn parse(path: &Path) -> Vec<Case> {
    let file = path.file_stem().unwrap().to_string_lossy();
    let text = std::fs::read_to_string(path).unwrap();
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{}:{}", path.display(), number + 1);
        if let Some(title) = line.strip_prefix("## ") {
            let title = format!("{file}: {title}");
            cases.push(Case { title, places: Vec::new(), stepwise: Vec::new(), steps: Vec::new() });
        } else if line.is_empty() || line.starts_with('#') {
            // for the reader only
        } else if let Some(case) = cases.last_mut() {
            case.take_line(line).unwrap_or_else(|e| panic!("{}: {e}", place()));
        } else {
            panic!("{}: a line before the first title", place());
        }
    }
    cases
}

impl Case {
    fn take_line(&mut self, line: &str) -> Result<(), String> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        if let Some(places) = line.strip_prefix("@ ") {
            self.places = words(places);
        } else if let Some(places) = line.strip_prefix("@stepwise ") {
            self.stepwise = words(places);
        } else if let Some(text) = line.strip_prefix('>') {
            if self.steps.last().is_none_or(|s| !s.answer.is_empty()) {
                self.steps.push(Step::default());
            }
            let step = self.steps.last_mut().expect("there is one now");
            for piece in pieces(text, false)? {
                let Piece::Byte(b) = piece else { return Err("only an answer can be open".into()) };
                step.sent.push(b);
            }
        } else if let Some(text) = line.strip_prefix('<') {
            let step = self.steps.last_mut().ok_or("an answer to nothing")?;
            let (place, text) = match text.strip_prefix('@') {
                Some(rest) => {
                    let (place, _) = rest.split_once(' ').unwrap_or((rest, ""));
                    (Some(place.to_owned()), &rest[place.len()..])
                }
                None => (None, text),
            };
            step.answer.push((place, pieces(text, true)?));
        } else {
            return Err(format!("not a line of a transcript: {line:?}"));
        }
        Ok(())
    }
}

/// The bytes of one line; the first character, a space, only sets it off.
fn pieces(text: &str, is_answer: bool) -> Result<Vec<Piece>, String> {
    let text = text.strip_prefix(' ').unwrap_or(text);
    if is_answer && text == "{closed}" {
        return Ok(vec![Piece::Closed]);
    }
    let mut pieces = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'\\' if after.is_empty() => return Ok(pieces),
            b'\\' => {
                let (byte, length) = escape(after)?;
                pieces.push(Piece::Byte(byte));
                rest = &after[length..];
            }
            b'#' if is_answer => pieces.push(Piece::Number),
            b'{' => match place_holder(after) {
                Some((held, length)) => {
                    pieces.extend(held);
                    rest = &after[length..];
                }
                None => pieces.push(Piece::Byte(b'{')),
            },
            b => pieces.push(Piece::Byte(*b)),
        }
    }
    pieces.extend([Piece::Byte(b'\r'), Piece::Byte(b'\n')]);
    Ok(pieces)
}

fn escape(after: &[u8]) -> Result<(u8, usize), String> {
    match after {
        [b'r', ..] => Ok((b'\r', 1)),
        [b'n', ..] => Ok((b'\n', 1)),
        [b'\\', ..] => Ok((b'\\', 1)),
        [b'x', high, low, ..] => {
            let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
            match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => Ok((high * 16 + low, 3)),
                _ => Err("\\x wants two digits".into()),
            }
        }
        _ => Err("an unknown escape".into()),
    }
}

/// `{c:N}`, `{~N}` or `{*}`, after the brace, and how many bytes it takes.
fn place_holder(after: &[u8]) -> Option<(Vec<Piece>, usize)> {
    let end = after.iter().position(|b| *b == b'}')?;
    let inside = std::str::from_utf8(&after[..end]).ok()?;
    let held = if inside == "*" {
        vec![Piece::Rest]
    } else if let Some(number) = inside.strip_prefix('~') {
        vec![Piece::Near(number.parse().ok()?)]
    } else {
        let (letter, count) = inside.split_once(':')?;
        let [letter] = letter.as_bytes() else { return None };
        vec![Piece::Byte(*letter); count.parse().ok()?]
    };
    Some((held, end + 1))
}
