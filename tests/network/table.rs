//! One row for each thing that happened, as docs/outages.md has them.

use crate::load::Seen;
use std::fmt;
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) seen: Seen,
    /// Of how many keys; that it is those which the ring says is checked.
    pub(crate) keys_moved: (usize, usize),
    /// To servers, while it happened.
    pub(crate) connects: u64,
    /// `None`: there was nothing to wait for.
    pub(crate) converged: Option<Duration>,
}

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| what happens | requests | failed | slowest | keys moved | connections made | converged after |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for Row { what, seen, keys_moved: (moved, of), connects, converged } in &self.rows {
            let failed: Vec<String> =
                seen.failed.iter().map(|(why, count)| format!("{count} × {why}")).collect();
            let failed = if failed.is_empty() { "0".to_owned() } else { failed.join(", ") };
            let converged =
                converged.map_or_else(|| "–".to_owned(), |time| format!("{} ms", time.as_millis()));
            let slowest = seen.slowest.as_millis();
            let requests = seen.requests;
            writeln!(
                f,
                "| {what} | {requests} | {failed} | {slowest} ms | {moved} of {of} | {connects} | {converged} |"
            )?;
        }
        Ok(())
    }
}
