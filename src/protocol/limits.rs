//! Numbers of the protocol, each with its source in memcached.

/// `KEY_MAX_LENGTH`: a key, or the base64 form of one, is at most this long.
pub const KEY_BYTES_MAX: usize = 250;
/// A line without its newline may grow to this before memcached closes the connection without a word
/// (`proto_text.c`, since 1.6.14). `get` and `gets` are exempt: their bound is ours ([`GET_LINE_BYTES_MAX`]).
pub const LINE_BYTES_MAX: usize = 2048;
/// memcached has no bound on the keys of one `get`; ours keeps one client from filling the process.
/// 2 MiB are at least 8,000 of the longest keys, and 100,000 of twenty bytes.
pub const GET_LINE_BYTES_MAX: usize = 2 << 20;
/// Keys of one `get`. Ours as well: what is remembered of a key while its get is under way is many times as long as the
/// shortest key.
pub const GET_KEYS_MAX: usize = 1 << 17;
/// `MFLAG_MAX_OPT_LENGTH`: tokens of a meta line including command and key.
pub const META_TOKENS_MAX: usize = 20;
/// `MFLAG_MAX_OPAQUE_LENGTH`: an opaque flag including its letter `O`.
pub const OPAQUE_BYTES_MAX: usize = 32;
/// `<bytes>` above this is `CLIENT_ERROR bad command line format` (INT_MAX − 2).
pub const DATA_BYTES_MAX: u32 = i32::MAX as u32 - 2;
/// memcached's default item size, header included; the largest value is a little less.
pub const VALUE_BYTES_MAX_DEFAULT: usize = 1 << 20;
/// The largest item size that memcached can be set to (`-I`).
pub const VALUE_BYTES_MAX_MAX: usize = 1 << 30;
/// Relative times end here (30 days); what is larger is an absolute unix time (`realtime()`).
pub const RELATIVE_EXPTIME_MAX: i32 = 60 * 60 * 24 * 30;
