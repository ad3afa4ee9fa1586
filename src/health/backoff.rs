//! Pauses that grow, each with jitter, so that workers and nodes do not knock in step.

use std::time::Duration;

/// The pauses between probes: as mcrouter's, each half as long again as the one before, with 5 to 50 % on top.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first.min(max), max }
    }

    /// The next pause. `random` is any number.
    pub fn pause(&mut self, random: u64) -> Duration {
        /// Steps of the jitter: thousandths.
        const STEPS: u64 = 1000;
        let step = u32::try_from(random % STEPS).unwrap_or(0);
        let pause = self.next.mul_f64(1.05 + f64::from(step) * 0.45 / 1000.0);
        self.next = (self.next + self.next / 2).min(self.max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_by_half_up_to_the_longest() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(10_000), ms(60_000));
        let pauses: Vec<Duration> = (0..7).map(|_| backoff.pause(0)).collect();
        let bases = [10_000, 15_000, 22_500, 33_750, 50_625, 60_000, 60_000];
        assert_eq!(pauses, bases.map(|base| ms(base).mul_f64(1.05)));
        assert_eq!(Backoff::new(ms(9), ms(5)).pause(0), ms(5).mul_f64(1.05), "the first is bounded too");
    }

    #[test]
    fn jitter_is_from_5_to_50_percent() {
        for random in (0..5_000).chain([u64::MAX]) {
            let pause = Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).pause(random);
            assert!((1.05..1.5).contains(&pause.as_secs_f64()), "{pause:?}");
        }
    }
}
