//! Answers that no server gave: the line that says a status in the words of the request's command.

use super::{Meta, Op, Reply, Request, Status};

/// The line with which memcached says `status` to `request`, without its line end. Empty where a classic get says
/// `END`. Meta lines echo what the client asked to have echoed, so that it can tell whose answer it is.
///
/// Only statuses without data: a hit or a number needs a server.
pub fn write_line(request: &Request<'_>, status: Status, out: &mut Vec<u8>) {
    if request.op.is_meta() {
        out.extend_from_slice(meta_word(request.op, status));
        write_echoes(&request.meta, out);
    } else {
        out.extend_from_slice(classic_words(status));
    }
}

/// The reply that mcrouter gives where nobody was asked or nobody is waited for (`createReply(DefaultReply)`):
/// updates were not stored, everything else was not found.
pub fn default_status(op: Op) -> Status {
    match op.class() {
        super::Class::UpdateLike => Status::NotStored,
        super::Class::GetLike => Status::Miss,
        super::Class::Other if op == Op::MetaDebug => Status::Miss,
        _ => Status::NotFound,
    }
}

/// Calls `tell` with a reply that says `status`.
pub fn reply_with(request: &Request<'_>, status: Status, tell: impl FnOnce(&Reply<'_>)) {
    let mut line = Vec::new();
    write_line(request, status, &mut line);
    tell(&Reply::line(status, &line));
}

const fn classic_words(status: Status) -> &'static [u8] {
    match status {
        Status::Stored => b"STORED",
        Status::NotStored => b"NOT_STORED",
        Status::Exists => b"EXISTS",
        Status::NotFound => b"NOT_FOUND",
        Status::Deleted => b"DELETED",
        Status::Touched => b"TOUCHED",
        Status::Ok => b"OK",
        // A classic get says END; the others are never said without a server.
        Status::Hit | Status::Miss | Status::Number | Status::ErrorLine | Status::Failed(_) => b"",
    }
}

const fn meta_word(op: Op, status: Status) -> &'static [u8] {
    match status {
        Status::Miss => b"EN",
        Status::NotStored => b"NS",
        Status::Exists => b"EX",
        Status::NotFound if matches!(op, Op::MetaGet | Op::MetaDebug) => b"EN",
        Status::NotFound => b"NF",
        _ => b"HD",
    }
}

/// The flags that come back whatever the answer is: opaque, key, and that the key is base64.
fn write_echoes(meta: &Meta<'_>, out: &mut Vec<u8>) {
    for (letter, token) in meta.iter() {
        match letter {
            b'O' => {
                out.extend_from_slice(b" O");
                out.extend_from_slice(token);
            }
            b'k' => {
                out.extend_from_slice(b" k");
                out.extend_from_slice(meta.token);
            }
            b'b' => out.extend_from_slice(b" b"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(request: &Request<'_>, status: Status) -> String {
        let mut line = Vec::new();
        write_line(request, status, &mut line);
        String::from_utf8(line).unwrap_or_default()
    }

    #[test]
    fn in_the_words_of_the_command() {
        assert_eq!(said(&Request::new(Op::Set, b"a"), Status::NotStored), "NOT_STORED");
        assert_eq!(said(&Request::new(Op::Get, b"a"), Status::Miss), "");
        let mut request = Request::new(Op::MetaSet, b"a");
        request.meta = Meta { token: b"a", flags: b"q Oxy k T30", letters: 0, opaque: None, token_count: 6 };
        assert_eq!(said(&request, Status::NotStored), "NS Oxy ka");
        request.op = Op::MetaGet;
        assert_eq!(said(&request, Status::Miss), "EN Oxy ka");
        request.op = Op::MetaDelete;
        assert_eq!(said(&request, Status::NotFound), "NF Oxy ka");
    }

    #[test]
    fn what_nobody_answered() {
        assert_eq!(default_status(Op::Set), Status::NotStored);
        assert_eq!(default_status(Op::Delete), Status::NotFound);
        assert_eq!(default_status(Op::Touch), Status::NotFound);
        assert_eq!(default_status(Op::MetaGet), Status::Miss);
    }
}
