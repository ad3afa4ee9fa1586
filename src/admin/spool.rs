//! What `stats` and `stats spool` say of the spool: what is pending, how old it is, what became of the rest.

use super::line::stat;
use crate::spool::{Spool, age_s};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The lines of `stats`; none where there is no spool.
pub(super) fn numbers(spool: Option<&Spool>, text: &mut String) {
    let Some(spool) = spool else { return };
    let numbers = &spool.book().numbers;
    stat(text, "spool_pending", spool.book().pending());
    stat(text, "spool_oldest_s", spool.oldest_s());
    let counters: &[(&str, &AtomicU64)] = &[
        ("spool_written", &numbers.written),
        ("spool_collapsed", &numbers.collapsed),
        ("spool_replayed", &numbers.replayed),
        ("spool_cancelled", &numbers.cancelled),
        ("spool_dropped", &numbers.dropped),
        ("spool_moved", &numbers.moved),
        ("spool_refused", &numbers.refused),
        ("spool_replay_errors", &numbers.replay_errors),
        ("spool_disk_errors", &numbers.disk_errors),
        ("spool_broken_bytes", &numbers.broken_bytes),
        ("spool_feed_written", &numbers.feed_written),
        ("spool_feed_refused", &numbers.feed_refused),
        ("spool_asynclog_errors", &numbers.asynclog_errors),
        ("spool_bytes", &numbers.bytes),
        ("spool_segments", &numbers.segments),
        ("spool_syncs", &numbers.syncs),
        ("spool_sync_us", &numbers.sync_us),
        ("spool_sync_us_max", &numbers.sync_us_max),
    ];
    for (name, counter) in counters {
        stat(text, name, counter.load(Relaxed));
    }
}

/// `stats spool`: these numbers, and each server that is owed something.
pub(super) fn servers(spool: Option<&Spool>) -> String {
    let mut text = String::new();
    numbers(spool, &mut text);
    for owed in spool.map(|spool| spool.book().servers()).unwrap_or_default() {
        if let Some(oldest_ms) = owed.oldest_ms() {
            stat(
                &mut text,
                &owed.address,
                format_args!("pending:{} oldest_s:{}", owed.count(), age_s(oldest_ms)),
            );
        }
    }
    text.push_str("END\r\n");
    text
}
