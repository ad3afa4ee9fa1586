//! What is answered otherwise, and why. Nothing else may differ.

use super::commands::Command;

/// Whose answer differs from that of memcached today.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Ringway's, on purpose.
    Ringway,
    /// The one of Debian 12, and therefore also what ringway before it says.
    Debian,
}

pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) side: Side,
    /// Why it stays so.
    #[expect(dead_code, reason = "for the reader")]
    reason: &'static str,
    pub(super) differs: fn(&Command) -> bool,
}

pub(super) const KNOWN: &[Known] = &[
    Known {
        name: "long_key_in_get",
        side: Side::Ringway,
        reason: "memcached adds a second line end, and throws away answers that are not sent yet: a bug of its own",
        differs: |c| {
            let line = first_line(c);
            line.starts_with(b"g") && words(line).any(|w| w.len() > 250)
        },
    },
    Known {
        name: "bad_get_in_a_pipeline",
        side: Side::Ringway,
        reason: "the same: an error of get, gets, gat or gats throws away answers that are not sent yet",
        differs: |c| {
            let line = first_line(c);
            !c.is_valid && line.starts_with(b"ga") && words(line).count() < 3
        },
    },
    Known {
        name: "long_line",
        side: Side::Ringway,
        reason: "memcached closes at 2 KiB without a newline; whether it has seen one depends on how bytes arrive",
        differs: |c| first_line(c).len() > 2_048 && !c.bytes.starts_with(b"get "),
    },
    Known {
        name: "http",
        side: Side::Ringway,
        reason: "both close without a word; memcached throws away answers that are not sent yet",
        differs: |c| c.bytes.starts_with(b"GET / HTTP"),
    },
    Known {
        name: "loose_base64",
        side: Side::Ringway,
        reason: "1.6.45 takes base64 with stray bytes for a key; ringway does not, for other readers take it otherwise",
        differs: |c| {
            let key = words(first_line(c)).nth(1).unwrap_or_default();
            let is_strict = key.len().is_multiple_of(4) && key.iter().all(u8::is_ascii_alphanumeric);
            c.bytes.starts_with(b"m") && words(first_line(c)).any(|w| w == b"b") && !is_strict
        },
    },
    Known {
        name: "key_made_by_n",
        side: Side::Ringway,
        reason: "memcached shows a key in base64 raw when N, x, an append or a longer number made the item anew, line ends \
                 included; ringway refuses to have such keys shown",
        differs: |c| {
            let mut flags = words(first_line(c)).skip(2);
            c.bytes.starts_with(b"m")
                && flags.clone().any(|w| w == b"b")
                && flags.any(|w| w.starts_with(b"N"))
        },
    },
    Known {
        name: "number_with_t",
        side: Side::Ringway,
        reason: "memcached sets T on an item that it has just replaced: when the number got longer, as ringway does, and \
                 also while a get of it in the same pipeline is not sent yet",
        differs: |c| c.bytes.starts_with(b"ma ") && words(first_line(c)).skip(2).any(|w| w.starts_with(b"T")),
    },
    Known {
        name: "not_understood",
        side: Side::Debian,
        reason: "1.6.18 says ERROR where 1.6.45 says what is wrong, and does not pass over the value of a refused set",
        differs: |c| !c.is_valid,
    },
    Known {
        name: "meta_flags",
        side: Side::Debian,
        reason: "1.6.18 refuses flags that 1.6.45 knows or lets pass, and answers some with other flags",
        differs: |c| c.bytes.starts_with(b"m") && !c.bytes.starts_with(b"mn"),
    },
];

fn first_line(command: &Command) -> &[u8] {
    let end = command.bytes.iter().position(|b| *b == b'\n').unwrap_or(command.bytes.len());
    &command.bytes[..end]
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    line.split(|b| b" \r".contains(b)).filter(|word| !word.is_empty())
}
