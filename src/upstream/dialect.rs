//! How a server reads requests, which its version tells. What an older one would read otherwise than we mean it is not
//! sent there: the connection is everybody's.

use crate::protocol::{MultiGet, Op, Request};

/// The later, the more of our requests it reads as we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dialect {
    /// Before memcached 1.6.18: no meta commands, or not today's. `ms` has its length in a flag or is not known at all, and the
    /// value is run as commands (before 1.6.10); a miss of `mg` does not tell its opaque. Nor a line of more than
    /// [`LINE_BYTES_OLD_MAX`], at which those before 1.6.14 hang up.
    Classic,
    /// Before 1.6.40: a line ends at a NUL, and a meta set of twenty tokens is refused without passing over its data block.
    /// So is whatever does not tell a version of memcached's.
    Meta,
    Today,
}

/// What those before 1.6.14 read without a line end; `get` and `gets` may be longer.
const LINE_BYTES_OLD_MAX: usize = 1024;
/// Tokens of a `ms` line, before 1.6.40.
const META_TOKENS_OLD_MAX: u8 = 19;
/// `gats`, the longest exptime, spaces, and the line's end.
const GAT_BYTES_MAX: usize = 24;

impl Dialect {
    /// Of the server that answers `version` with this line.
    pub(super) fn of_version(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        let version = text.trim_start_matches("VERSION ").trim_end();
        let numbers =
            version.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().unwrap_or(0));
        let mut numbers = numbers.chain(std::iter::repeat(0));
        let mut next = || numbers.next().unwrap_or(0);
        // others say "1.6.0 DF", "unknown" and the like
        let is_memcached = version.starts_with(|c: char| c.is_ascii_digit()) && !version.contains(' ');
        match (next(), next(), next()) {
            version if version >= (1, 6, 40) => Self::Today,
            version if version < (1, 6, 18) && is_memcached => Self::Classic,
            _ => Self::Meta,
        }
    }

    /// What a server must read to be sent this request.
    pub(super) fn needed_for(request: &Request<'_>) -> Self {
        let has_nul = |bytes: &[u8]| memchr::memchr(0, bytes).is_some();
        let meta = &request.meta;
        if !request.op.is_meta() {
            return if has_nul(request.key) { Self::Today } else { Self::Classic };
        }
        let sent = meta.token_count - u8::from(meta.has(b'q'));
        let is_long = request.op == Op::MetaSet && sent > META_TOKENS_OLD_MAX;
        if is_long || has_nul(meta.token) || has_nul(meta.flags) { Self::Today } else { Self::Meta }
    }

    pub(super) fn needed_for_multi(request: &MultiGet<'_>) -> Self {
        let keys = &request.keys;
        if keys.iter().any(|key| memchr::memchr(0, key).is_some()) {
            return Self::Today;
        }
        let may_be_long = matches!(request.op, Op::Get | Op::Gets);
        let is_short =
            || keys.iter().map(|key| key.len() + 1).sum::<usize>() <= LINE_BYTES_OLD_MAX - GAT_BYTES_MAX;
        if may_be_long || is_short() { Self::Classic } else { Self::Meta }
    }

    /// What the client is told whose request needs this.
    pub(super) const fn refusal(self) -> &'static [u8] {
        match self {
            Self::Classic | Self::Today => b"CLIENT_ERROR bad command line format",
            // not the server's failure: elsewhere it would be done behind its back
            Self::Meta => b"CLIENT_ERROR this server is older than memcached 1.6.18",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect::{self, Classic, Meta, Today};

    #[test]
    fn versions() {
        for (line, dialect) in [
            ("VERSION 1.6.45\r\n", Today),
            ("VERSION 1.6.40-ringway-0.1.0\r\n", Today),
            ("VERSION 2.0\r\n", Today),
            ("VERSION 1.6.39\r\n", Meta),
            ("VERSION 1.6.18\r\n", Meta),
            ("VERSION 1.6.17\r\n", Classic),
            ("VERSION 1.6.12-3-gabcdef0\r\n", Classic),
            ("VERSION 1.4\r\n", Classic),
            ("VERSION 1.6.0 DF\r\n", Meta),
            ("VERSION unknown\r\n", Meta),
            ("VERSION \r\n", Meta),
        ] {
            assert_eq!(Dialect::of_version(line.as_bytes()), dialect, "{line}");
        }
    }
}
