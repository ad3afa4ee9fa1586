//! What a ring is built from, and whether that can be done.

use super::{KeyHash, Placement, ch3};

/// How a pool places keys, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub placement: Placement,
    /// The hash function of keys where the placement lets one choose. `None` = its own default: md5 for `ketama`, fnv1a_64 for
    /// `twemproxy` and `modula` (libmemcached's default distribution is `modula` with `one_at_a_time`).
    pub key_hash: Option<KeyHash>,
    /// Two bytes, e.g. `{` and `}`: only what is between them is hashed (twemproxy's `hash_tag`).
    pub hash_tag: Option<(u8, u8)>,
    /// mcrouter's hash stop: what follows `|#|` is not hashed.
    pub hash_stop: bool,
    /// Bytes above 0x7f are negative, as C's `char` is on x86; false = as on ARM.
    pub signed_char: bool,
    /// mcrouter's `salt`: hashed behind what is hashed of the key, so that two pools of the same servers spread keys
    /// differently. At most [`SALT_BYTES_MAX`].
    pub salt: String,
    /// One per member with `weighted_ch3` (0 to 1) and `weighted_rendezvous` (not negative), else empty. The weights of the
    /// members are another thing: whole numbers, and only for rings with points.
    pub weights: Vec<f64>,
    /// One per member with `rendezvous` and `weighted_rendezvous`, else empty: what is hashed instead of the member's address.
    pub tags: Vec<String>,
}

/// Together with the longest key it fits on the stack.
pub const SALT_BYTES_MAX: usize = 256;

impl Default for Spec {
    fn default() -> Self {
        Self {
            placement: Placement::Ketama,
            key_hash: None,
            hash_tag: None,
            hash_stop: true,
            signed_char: true,
            salt: String::new(),
            weights: Vec::new(),
            tags: Vec::new(),
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

/// Whether the placement can do what is asked of it. Rules are built only of what has passed here.
pub(super) fn check(spec: &Spec, members: &[Member]) -> Result<(), SpecError> {
    let placement = spec.placement.name();
    let fail = |why: String| Err(SpecError(why));
    if spec.key_hash.is_some() && !spec.placement.has_key_hash() {
        return fail(format!(
            "placement `{placement}` has a hash function of its own; only ketama, twemproxy and modula let one choose"
        ));
    }
    if spec.placement.is_ch3() && members.len() > ch3::SERVERS_MAX {
        return fail(format!("placement `{placement}` ends at {} servers", ch3::SERVERS_MAX));
    }
    if spec.salt.len() > SALT_BYTES_MAX {
        return fail(format!("a salt of {} bytes; at most {SALT_BYTES_MAX}", spec.salt.len()));
    }
    if !spec.salt.is_empty() && spec.placement == Placement::Random {
        return fail(format!("placement `{placement}` hashes nothing, so it knows no salt"));
    }
    check_lists(spec, members.len())?;
    for Member { host, weight, .. } in members {
        if *weight == 0 {
            return fail(format!("server `{host}` has weight 0; the least is 1"));
        }
        if *weight > 1 && !spec.placement.has_weights() {
            return fail(format!(
                "placement `{placement}` knows no weights of servers, but server `{host}` has {weight}; only ketama, \
                 twemproxy and modula do"
            ));
        }
    }
    Ok(())
}

fn check_lists(spec: &Spec, count: usize) -> Result<(), SpecError> {
    let placement = spec.placement.name();
    for (what, has, len) in [
        ("weights", spec.placement.has_weight_list(), spec.weights.len()),
        ("tags", spec.placement.has_tags(), spec.tags.len()),
    ] {
        if has && len != count {
            return Err(SpecError(format!(
                "placement `{placement}` needs one of its `{what}` for each server: {len} for {count}"
            )));
        }
        if !has && len != 0 {
            return Err(SpecError(format!("placement `{placement}` knows no list of {what}")));
        }
    }
    let greatest = if spec.placement == Placement::WeightedCh3 { 1.0 } else { f64::MAX };
    match spec.weights.iter().find(|weight| !(0.0..=greatest).contains(*weight)) {
        Some(weight) if greatest == 1.0 => {
            Err(SpecError(format!("a weight of {weight}; they are from 0 to 1")))
        }
        Some(weight) => Err(SpecError(format!("a weight of {weight}; the least is 0"))),
        None => Ok(()),
    }
}
