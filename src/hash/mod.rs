//! Which server of a pool has a key: each placement as the client or proxy it is named after does it, bit for bit.
//!
//! Pure: no IO, no clock. A [`Ring`] is built once from a [`Spec`] and the pool's members and asked once per key.

mod names;

pub use names::{KeyHash, Placement};

/// How a pool places keys, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub placement: Placement,
    /// The hash function of keys where the placement lets one choose (`twemproxy`, `modula`, `ketama`); `None` = its own default.
    pub key_hash: Option<KeyHash>,
    /// Two bytes, e.g. `{` and `}`: only what is between them is hashed (twemproxy's `hash_tag`).
    pub hash_tag: Option<(u8, u8)>,
    /// mcrouter's hash stop: what follows `|#|` is not hashed.
    pub hash_stop: bool,
    /// Bytes above 0x7f are negative, as C's `char` is on x86; false = as on ARM.
    pub signed_char: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            placement: Placement::Ketama,
            key_hash: None,
            hash_tag: None,
            hash_stop: true,
            signed_char: true,
        }
    }
}

/// A server as the placement sees it: the strings that were configured, never a resolved address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Host name or address as written; the path for a unix socket.
    pub host: String,
    /// `None` for a unix socket.
    pub port: Option<u16>,
    /// A node name of its own (`name=` in the server entry).
    pub name: Option<String>,
    pub weight: u32,
}

/// Why a pool cannot be placed as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub String);
