use std::time::Duration;

/// Pauses that double up to a limit, each shortened by up to half at random, so that nodes that
/// lost each other at the same moment do not come back at the same moment.
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(self.max);
        pause.mul_f64(1.0 - 0.5 * random_fraction())
    }

    /// Starts anew, because dialling succeeded.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }
}

/// A number from 0 to 1. Without a source of randomness pauses are merely not jittered.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_anew() {
        let (min, max) = (Duration::from_millis(20), Duration::from_secs(1));
        let mut backoff = Backoff::new(min, max);
        for whole_ms in [20, 40, 80, 160, 320, 640, 1000, 1000, 1000] {
            let whole = Duration::from_millis(whole_ms);
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= min);
    }

    #[test]
    fn pauses_differ() {
        let pauses = (0..100).map(|_| Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).pause());
        assert!(pauses.collect::<std::collections::HashSet<_>>().len() > 1);
    }
}
