//! The arguments of a meta command to a [`Line`].
//!
//! Every flag that any meta command knows is accepted on all of them, as 1.6.45 does: it reads flags in one
//! place (`_meta_flag_preparse`) and lets each command ignore what means nothing to it. Errors are weighed
//! as there: a first byte that is no letter or digit spoils the line, a double or unknown flag ends the
//! reading, a bad number is remembered while reading goes on, so the last bad one is the one told of.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::protocol::ascii::parse_token::{
    TOKENS_SEEN_MAX, Tokens, data_len, strict_i32, strict_u32, strict_u64,
};
use crate::protocol::limits::{KEY_BYTES_MAX, META_TOKENS_MAX, OPAQUE_BYTES_MAX};
use crate::protocol::{Line, LineError, Meta, Op, Request, letter_bit};

const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";

/// Reads what follows the command word of `op`. A base64 key is decoded into `decoded`.
pub(in crate::protocol) fn parse_request<'a>(
    op: Op,
    arguments: &'a [u8],
    decoded: &'a mut Vec<u8>,
) -> Result<Line<'a>, LineError> {
    let mut tokens = Tokens::new(arguments);
    let token = tokens.next().ok_or(LineError::BAD_FORMAT)?;
    match op {
        Op::MetaSet => {
            let length = tokens.next().and_then(data_len).ok_or(LineError::BAD_FORMAT)?;
            let written = Written::read(token, 3, tokens)?;
            let request =
                checked(op, &written, decoded).map_err(|text| LineError::said(text).swallowing(length))?;
            Ok(Line::Storage(request, usize::try_from(length).map_err(|_| LineError::BAD_FORMAT)?))
        }
        Op::MetaDebug => {
            let written = Written::read(token, 2, tokens)?;
            debug(&written, decoded).map(Line::Request)
        }
        _ => {
            let written = Written::read(token, 2, tokens)?;
            checked(op, &written, decoded).map(Line::Request).map_err(LineError::said)
        }
    }
}

/// A meta line as it stands, its flags seen only from outside.
struct Written<'a> {
    token: &'a [u8],
    flags: Tokens<'a>,
    /// Tokens on the line, those before the flags included; counted no further than memcached sees.
    token_count: u8,
}

impl<'a> Written<'a> {
    /// Looks at the first byte of each flag. memcached's tokenizer does this before anything else and then
    /// knows nothing of the line, not even its data block: so nothing is passed over here.
    fn read(token: &'a [u8], taken: u8, flags: Tokens<'a>) -> Result<Self, LineError> {
        let mut token_count = taken;
        for flag in flags.clone().take(TOKENS_SEEN_MAX.saturating_sub(usize::from(taken))) {
            if !matches!(flag.first(), Some(b'A'..=b'z' | b'0'..=b'9')) {
                return Err(LineError::BAD_FORMAT);
            }
            token_count = token_count.saturating_add(1);
        }
        Ok(Self { token, flags, token_count })
    }
}

/// The request, or what the client is told.
fn checked<'a>(op: Op, written: &Written<'a>, decoded: &'a mut Vec<u8>) -> Result<Request<'a>, &'static str> {
    let (key, meta) = flags(written, decoded).map_err(|text| match op {
        // 1.6.45 hides what was wrong behind one text for this command alone.
        Op::MetaArithmetic => "CLIENT_ERROR invalid or duplicate flag",
        _ => text,
    })?;
    if let Some(mode) = meta.token_of(b'M') {
        match (op, mode.first()) {
            (Op::MetaSet, Some(b'E' | b'A' | b'P' | b'R' | b'S')) => {}
            (Op::MetaSet, _) => return Err("CLIENT_ERROR invalid mode for ms M token"),
            (Op::MetaArithmetic, Some(b'I' | b'+' | b'D' | b'-')) => {}
            (Op::MetaArithmetic, _) => return Err("CLIENT_ERROR invalid mode for ma M token"),
            _ => {}
        }
    }
    // 1.6.45 forgets that a key came in base64 when `N`, `x`, an append or a longer number makes the item anew, and shows
    // it as it is: a line end in it would be taken for the end of the reply, and what follows for the replies of others.
    let may_show = matches!(op, Op::MetaGet | Op::MetaArithmetic) && (meta.has(b'k') || meta.has(b'N'));
    if may_show && meta.has(b'b') && key.iter().any(|byte| *byte <= b' ') {
        return Err(BAD_FORMAT);
    }
    if meta.opaque.is_some_and(|o| o.len() >= OPAQUE_BYTES_MAX) {
        return Err("CLIENT_ERROR opaque token too long");
    }
    Ok(Request { quiet: meta.has(b'q'), meta, ..Request::new(op, key) })
}

/// Reads all flags: the key, decoded when they say so, and the rest.
fn flags<'a>(written: &Written<'a>, decoded: &'a mut Vec<u8>) -> Result<(&'a [u8], Meta<'a>), &'static str> {
    let token = written.token;
    if token.len() > KEY_BYTES_MAX {
        return Err(BAD_FORMAT);
    }
    if usize::from(written.token_count) > META_TOKENS_MAX {
        return Err("CLIENT_ERROR options flags are too long");
    }
    let mut letters = 0u64;
    let mut opaque = None;
    let mut key_len = None;
    let mut fault = None;
    for flag in written.flags.clone() {
        let Some((&letter, argument)) = flag.split_first() else { continue };
        let bit = letter_bit(letter);
        if letters & bit != 0 {
            return Err("CLIENT_ERROR duplicate flag");
        }
        letters |= bit;
        let is_good = match letter {
            b'b' => {
                key_len = decode_key(token, decoded);
                key_len.is_some()
            }
            b'N' | b'T' | b'R' => strict_i32(argument).is_some(),
            b'C' | b'E' | b'J' | b'D' => strict_u64(argument).is_some(),
            b'F' => strict_u32(argument).is_some(),
            b'O' => {
                opaque = Some(argument);
                true
            }
            b'k' | b'q' | b'v' | b'f' | b's' | b'c' | b't' | b'h' | b'l' | b'u' | b'x' | b'I' | b'M'
            | b'P' | b'L' => true,
            _ => return Err("CLIENT_ERROR invalid flag"),
        };
        if !is_good {
            fault = Some(fault_text(letter, fault));
        }
    }
    if let Some(text) = fault {
        return Err(text);
    }
    let key = if letters & letter_bit(b'b') == 0 {
        token
    } else {
        let decoded: &'a [u8] = decoded;
        key_len.and_then(|length| decoded.get(..length)).ok_or(BAD_FORMAT)?
    };
    let meta = Meta { token, flags: written.flags.rest(), letters, opaque, token_count: written.token_count };
    Ok((key, meta))
}

/// What is said of a bad argument to `letter`. `F` has no words of its own: it keeps those of an earlier one.
fn fault_text(letter: u8, earlier: Option<&'static str>) -> &'static str {
    match letter {
        b'b' => "CLIENT_ERROR error decoding key",
        b'J' => "CLIENT_ERROR invalid numeric initial value",
        b'D' => "CLIENT_ERROR invalid numeric delta value",
        b'F' => earlier.unwrap_or(BAD_FORMAT),
        _ => BAD_TOKEN,
    }
}

/// `me <key> [b]`: its flags are not checked. `b` counts only as the first one; and, a quirk of 1.6.45,
/// only when a further token follows is a key refused that is not base64.
fn debug<'a>(written: &Written<'a>, decoded: &'a mut Vec<u8>) -> Result<Request<'a>, LineError> {
    let token = written.token;
    if token.len() > KEY_BYTES_MAX {
        return Err(LineError::BAD_FORMAT);
    }
    let is_base64 = written.flags.clone().next() == Some(b"b");
    let key_len = if is_base64 { decode_key(token, decoded) } else { None };
    if is_base64 && key_len.is_none() && written.token_count >= 4 {
        return Err(LineError::BAD_FORMAT);
    }
    let decoded: &'a [u8] = decoded;
    let key = key_len.and_then(|length| decoded.get(..length)).unwrap_or(token);
    if key_len.is_some() && key.iter().any(|byte| *byte <= b' ') {
        return Err(LineError::BAD_FORMAT); // it would be shown as it is: see `checked`
    }
    let meta = Meta {
        token,
        flags: written.flags.rest(),
        letters: if is_base64 { letter_bit(b'b') } else { 0 },
        opaque: None,
        token_count: written.token_count,
    };
    Ok(Request { meta, ..Request::new(Op::MetaDebug, key) })
}

/// memcached takes `YR==` for `YQ==` (the bits that do not fit are dropped) and so do we.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Decodes into `decoded`, which then holds the key in so many of its first bytes. Only the standard
/// alphabet with full padding: 1.6.45 also takes forms with stray bytes, which other readers take otherwise.
fn decode_key(token: &[u8], decoded: &mut Vec<u8>) -> Option<usize> {
    decoded.resize(KEY_BYTES_MAX, 0);
    BASE64.decode_slice(token, decoded).ok().filter(|length| *length > 0)
}
