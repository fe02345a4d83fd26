use crate::dice::{Dice, nanos};
use althing_types::Instant;
use std::time::Duration;

/// When every simulation starts, as a clock without skew shows it: 2026-01-01.
const EPOCH: u64 = 1_767_225_600_000_000_000;

/// A host's clock: apart from virtual time by an offset, and running a little faster or slower.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    offset: u64,
    /// How much faster than virtual time it runs, in parts per million; may be negative.
    drift_ppm: i64,
}

impl Clock {
    /// A true one: what clients go by.
    pub(crate) const TRUE: Self = Self { offset: 0, drift_ppm: 0 };

    /// A clock at most `skew` ahead of a true one, with a drift of at most a thousandth.
    pub(crate) fn random(dice: &mut Dice, skew: Duration) -> Self {
        let offset = dice.below(nanos(skew) + 1);
        let drift_ppm = i64::try_from(dice.below(2_001)).expect("small") - 1_000;
        Self { offset, drift_ppm }
    }

    /// What the clock shows at virtual time `now`.
    pub(crate) fn read(&self, now: u64) -> Instant {
        let drift = i128::from(now) * i128::from(self.drift_ppm) / 1_000_000;
        let shown = i128::from(EPOCH + self.offset + now) + drift;
        Instant(u64::try_from(shown).expect("simulations take seconds, not centuries"))
    }

    /// How much virtual time passes while the clock counts `local`.
    pub(crate) fn virtual_time(&self, local: Duration) -> u64 {
        let rate = 1_000_000 + i128::from(self.drift_ppm);
        let real = i128::from(nanos(local)) * 1_000_000 / rate;
        u64::try_from(real).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_more_and_waits_less() {
        let fast = Clock { offset: 5, drift_ppm: 5_000 };
        let second = 1_000_000_000;
        assert_eq!(fast.read(second).0 - EPOCH, 5 + second + second / 200);
        let waited = fast.virtual_time(Duration::from_secs(1));
        assert!((994_000_000..996_000_000).contains(&waited), "{waited}");
    }
}
