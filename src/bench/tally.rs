//! What is counted while the load runs, by each thread for itself, and added up at the end.

use super::observe::Observed;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longer latencies count as this long; no run waits that long for an answer.
const LATENCY_NS_MAX: u64 = 100_000_000_000;
/// Different causes that are counted each for itself; a target that invents them must not fill the memory.
const CAUSES_COUNT_MAX: usize = 32;
/// All further ones together.
const OTHER_CAUSES: &str = "other causes";

/// The counts of one thread, or of all together.
#[derive(Debug)]
pub(super) struct Tally {
    /// Requests that were answered, well or not.
    pub(super) answered: u64,
    /// From sending to the whole answer; at a fixed rate from the moment the request was due.
    pub(super) latency: Histogram<u64>,
    /// At a fixed rate: from the moment a request was due to the moment it was written.
    pub(super) lateness: Histogram<u64>,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Values that are not what was stored under the key that was asked for.
    pub(super) wrong: u64,
    /// Error answers, requests without an answer, connections that were not to be had.
    pub(super) errors: u64,
    pub(super) first_wrong: Option<String>,
    pub(super) first_error: Option<String>,
    /// How many errors each cause had.
    pub(super) causes: BTreeMap<String, u64>,
    /// Due at the fixed rate, but never sent because the target did not keep up.
    pub(super) unsent: u64,
    /// From the beginning of the measurement to the last answer.
    pub(super) elapsed: Duration,
    /// By the one thread that looked; `None` also if the measurement never began.
    pub(super) observed: Option<Observed>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            answered: 0,
            latency: histogram(),
            lateness: histogram(),
            hits: 0,
            misses: 0,
            wrong: 0,
            errors: 0,
            first_wrong: None,
            first_error: None,
            causes: BTreeMap::new(),
            unsent: 0,
            elapsed: Duration::ZERO,
            observed: None,
        }
    }
}

/// Three digits are right, whatever the magnitude.
fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
        .unwrap_or_else(|error| unreachable!("constant bounds: {error}"));
    histogram.auto(false);
    histogram
}

impl Tally {
    /// The warm-up is over: what was counted is forgotten, but not what was wrong.
    pub(super) fn begin(&mut self) {
        self.answered = 0;
        self.hits = 0;
        self.misses = 0;
        self.latency.reset();
        self.lateness.reset();
    }

    #[inline]
    pub(super) fn on_answer(&mut self, latency_ns: u64) {
        self.answered += 1;
        self.latency.saturating_record(latency_ns);
    }

    pub(super) fn on_wrong(&mut self, text: impl FnOnce() -> String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert_with(text);
    }

    pub(super) fn on_error(&mut self, count: u64, text: impl FnOnce() -> String) {
        if count > 0 {
            let text = text();
            self.errors += count;
            self.first_error.get_or_insert_with(|| text.clone());
            self.blame(text, count);
        }
    }

    fn blame(&mut self, cause: String, count: u64) {
        let is_known = self.causes.contains_key(&cause);
        let cause =
            if is_known || self.causes.len() < CAUSES_COUNT_MAX { cause } else { OTHER_CAUSES.into() };
        *self.causes.entry(cause).or_default() += count;
    }

    /// Adds another thread's.
    pub(super) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.hits += other.hits;
        self.misses += other.misses;
        self.wrong += other.wrong;
        self.errors += other.errors;
        self.unsent += other.unsent;
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        self.first_error = self.first_error.take().or(other.first_error);
        for (cause, count) in other.causes {
            self.blame(cause, count);
        }
        self.observed = self.observed.take().or(other.observed);
        self.elapsed = self.elapsed.max(other.elapsed);
        for (mine, theirs) in [(&mut self.latency, other.latency), (&mut self.lateness, other.lateness)] {
            if mine.add(theirs).is_err() {
                unreachable!("both have the same constant bounds");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_causes_and_they_are_bounded() {
        let (mut tally, mut other) = (Tally::default(), Tally::default());
        tally.on_error(2, || "refused".into());
        tally.on_error(0, || "nothing".into());
        other.on_error(3, || "refused".into());
        for number in 0..CAUSES_COUNT_MAX * 2 {
            other.on_error(1, || format!("invented {number}"));
        }
        tally.add(other);
        assert_eq!(tally.errors, 5 + 2 * CAUSES_COUNT_MAX as u64);
        assert_eq!(tally.causes["refused"], 5);
        assert_eq!(tally.causes.values().sum::<u64>(), tally.errors);
        assert!(tally.causes.len() <= CAUSES_COUNT_MAX + 1 && tally.causes[OTHER_CAUSES] > 1);
        assert_eq!(tally.first_error.as_deref(), Some("refused"));
    }
}
