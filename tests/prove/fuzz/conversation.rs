//! How many answers bytes are owed, and whether some bytes are those answers: the accounts of a conversation, kept a
//! second time and without any of the state that a session has.

use super::targets::is_quiet_meta;
use ringway::protocol::ascii::{Framed, Scratch, frame, parse_request};
use ringway::protocol::{Admin, Line, Op};

/// What one request is owed.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    form: Form,
    /// The keys asked for by a classic get.
    keys: Vec<Vec<u8>>,
    /// It may be answered, or not.
    is_optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `VALUE`s and `END`, or an error.
    Values,
    /// `VA` with its block, or a line.
    Meta,
    Line,
    Stats,
}

/// What these bytes are owed, in order, and whether the connection is closed behind them.
pub(crate) fn owed(data: &[u8], value_bytes_max: usize) -> (Vec<Owed>, bool) {
    let mut list = Vec::new();
    let mut add = |form, keys, is_optional| list.push(Owed { form, keys, is_optional });
    if data.first() == Some(&0x80) {
        add(Form::Line, Vec::new(), false);
        return (list, true);
    }
    let (mut rest, mut scratch) = (data, Scratch::default());
    loop {
        let (line, consumed) = match frame(rest, 0) {
            Framed::Line { line, consumed } => (line, consumed),
            Framed::Incomplete => return (list, false),
            Framed::TooLong => return (list, true),
        };
        let mut after = consumed;
        match parse_request(line, consumed, &mut scratch) {
            Err(error) => {
                if error.answer.is_some() {
                    add(Form::Line, Vec::new(), false);
                }
                if error.close {
                    return (list, true);
                }
                after = after.saturating_add(usize::try_from(error.swallow).unwrap());
            }
            Ok(Line::Storage(request, length)) => {
                after += length + 2;
                let is_silent = request.quiet && !request.op.is_meta();
                if length > value_bytes_max {
                    // Refused at the line; what follows is passed over as it comes.
                    if !is_silent {
                        add(Form::Line, Vec::new(), false);
                    }
                } else {
                    let Some(block) = rest.get(consumed..after) else { return (list, false) };
                    let is_whole = block.ends_with(b"\r\n");
                    if !is_silent {
                        let is_optional = is_whole && is_quiet_meta(request.op, request.quiet);
                        add(Form::Meta, Vec::new(), is_optional);
                    }
                }
            }
            Ok(Line::Request(request)) => {
                let form = match request.op {
                    op if op.is_classic_get() => Form::Values,
                    op if op.is_meta() => Form::Meta,
                    _ => Form::Line,
                };
                let is_meta = request.op.is_meta();
                if !request.quiet || is_meta {
                    add(form, vec![request.key.to_vec()], is_quiet_meta(request.op, request.quiet));
                }
                debug_assert!(request.op != Op::Set, "a storage command has a block");
            }
            Ok(Line::MultiGet(request)) => {
                add(Form::Values, request.keys.iter().map(<[u8]>::to_vec).collect(), false);
            }
            Ok(Line::Admin(admin)) => match admin {
                Admin::Quit => return (list, true),
                Admin::Stats(_) => add(Form::Stats, Vec::new(), false),
                Admin::Verbosity { quiet: true } | Admin::FlushAll { quiet: true, .. } => {}
                _ => add(Form::Line, Vec::new(), false),
            },
        }
        match rest.get(after..) {
            Some(next) => rest = next,
            None => return (list, false),
        }
    }
}

/// Whether these bytes are the answers that are owed: no less, no more, values only of the keys that were asked for.
pub(crate) fn parse_replies(owed: &[Owed], mut answer: &[u8]) -> Result<(), String> {
    let certain = owed.iter().take_while(|o| !o.is_optional).count();
    for one in &owed[..certain] {
        answer = &answer[reply(one, answer)?..];
    }
    // From the first quiet request on nobody can tell whose answer is whose: only how many there may be.
    let most = owed.len() - certain;
    let least = owed[certain..].iter().filter(|o| !o.is_optional).count();
    let mut count = 0;
    while !answer.is_empty() {
        answer = &answer[any_reply(answer)?..];
        count += 1;
    }
    if (least..=most).contains(&count) {
        Ok(())
    } else {
        Err(format!("{count} answers instead of {least} to {most}, after {certain} that are right"))
    }
}

/// How many bytes answer this one.
fn reply(owed: &Owed, answer: &[u8]) -> Result<usize, String> {
    let line = line(answer)?;
    let is_error = [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"].iter().any(|e| line.starts_with(e));
    if is_error {
        return Ok(line.len() + 2);
    }
    match owed.form {
        Form::Values => values(answer, Some(&owed.keys)),
        Form::Stats if line.starts_with(b"STAT ") || line == b"END" => any_reply(answer),
        Form::Meta => any_reply(answer),
        Form::Line | Form::Stats => Ok(line.len() + 2),
    }
}

/// How many bytes the first answer has, whatever it answers.
fn any_reply(answer: &[u8]) -> Result<usize, String> {
    let first = line(answer)?;
    if first.starts_with(b"VALUE ") {
        return values(answer, None);
    }
    if first.starts_with(b"VA ") {
        let length = number(first.split(|b| *b == b' ').nth(1))?;
        return block(answer, first.len() + 2, length);
    }
    if first.starts_with(b"STAT ") {
        let mut at = 0;
        loop {
            let next = line(&answer[at..])?;
            at += next.len() + 2;
            if next == b"END" {
                return Ok(at);
            }
        }
    }
    Ok(first.len() + 2)
}

/// `VALUE`s and `END`; of these keys, in this order, where they are known.
fn values(answer: &[u8], keys: Option<&[Vec<u8>]>) -> Result<usize, String> {
    let (mut at, mut next) = (0, 0);
    loop {
        let line = line(&answer[at..])?;
        at += line.len() + 2;
        if line == b"END" {
            return Ok(at);
        }
        let mut words = line.split(|b| *b == b' ');
        if words.next() != Some(b"VALUE") {
            return Err(format!("among values: {}", line.escape_ascii()));
        }
        let key = words.next().unwrap_or_default();
        if let Some(keys) = keys {
            let Some(index) = (next..keys.len()).find(|i| keys[*i] == key) else {
                return Err(format!("not asked for: {}", line.escape_ascii()));
            };
            next = index + 1;
        }
        at = block(answer, at, number(words.nth(1))?)?;
    }
}

fn block(answer: &[u8], start: usize, length: usize) -> Result<usize, String> {
    let end = start + length + 2;
    let block = answer.get(start..end).ok_or("a block that is not whole")?;
    if block.ends_with(b"\r\n") { Ok(end) } else { Err("a block without its end".into()) }
}

fn line(answer: &[u8]) -> Result<&[u8], String> {
    let end = answer.windows(2).position(|w| w == b"\r\n");
    end.map(|end| &answer[..end]).ok_or_else(|| "an answer is missing or not whole".to_owned())
}

fn number(word: Option<&[u8]>) -> Result<usize, String> {
    let text = word.and_then(|w| std::str::from_utf8(w).ok()).ok_or("no number")?;
    text.parse().map_err(|_| format!("no number: {text}"))
}
