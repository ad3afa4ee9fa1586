//! Which part of a key is hashed: twemproxy's `hash_tag` (nc_server.c, `server_pool_idx`) and mcrouter's hash stop `|#|`.

use memchr::{memchr, memmem};

/// What precedes it decides the server; what follows only tells keys apart on that server.
const HASH_STOP: &[u8] = b"|#|";

#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) hash_tag: Option<(u8, u8)>,
    pub(super) hash_stop: bool,
}

impl Scope {
    /// The hash stop is looked for first, then the tag in what is left.
    #[inline(always)]
    pub(super) fn of(self, key: &[u8]) -> &[u8] {
        let key = if self.hash_stop { before_stop(key) } else { key };
        match self.hash_tag {
            None => key,
            Some(tag) => between(key, tag).unwrap_or(key),
        }
    }
}

#[inline]
fn before_stop(key: &[u8]) -> &[u8] {
    // Hardly any key has a '|': one cheap look before the search for all three bytes.
    let Some(bar) = memchr(HASH_STOP[0], key) else { return key };
    memmem::find(&key[bar..], HASH_STOP).map_or(key, |at| &key[..bar + at])
}

/// From the first opening byte to the first closing byte after it, if anything stands between.
fn between(key: &[u8], (open, close): (u8, u8)) -> Option<&[u8]> {
    let inside = &key[memchr(open, key)? + 1..];
    let end = memchr(close, inside)?;
    (end > 0).then(|| &inside[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_tag_as_twemproxy() {
        let scope = Scope { hash_tag: Some((b'{', b'}')), hash_stop: false };
        for (key, hashed) in [
            ("user:{42}:name", "42"),
            ("{42}", "42"),
            ("a{1}{2}", "1"),
            ("a}b{c}d", "c"),
            ("{}42", "{}42"),
            ("{}{42}", "{}{42}"),
            ("{{42}}", "{42"),
            ("{42", "{42"),
            ("42}", "42}"),
            ("plain|#|tail", "plain|#|tail"),
            ("", ""),
        ] {
            assert_eq!(scope.of(key.as_bytes()), hashed.as_bytes(), "{key}");
        }
        let same = Scope { hash_tag: Some((b'$', b'$')), hash_stop: false };
        assert_eq!(same.of(b"a$tag$b"), b"tag");
    }

    #[test]
    fn hash_stop_as_mcrouter() {
        let scope = Scope { hash_tag: None, hash_stop: true };
        for (key, hashed) in [
            ("user:1:|#|name", "user:1:"),
            ("a|b|#c|#|d|#|e", "a|b|#c"),
            ("||#|x", "|"),
            ("|#|x", ""),
            ("no|#stop", "no|#stop"),
            ("a|#", "a|#"),
        ] {
            assert_eq!(scope.of(key.as_bytes()), hashed.as_bytes(), "{key}");
        }
        let both = Scope { hash_tag: Some((b'{', b'}')), hash_stop: true };
        assert_eq!(both.of(b"a{b}|#|{c}"), b"b");
        assert_eq!(both.of(b"a|#|{c}"), b"a");
    }
}
