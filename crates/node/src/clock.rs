use std::time::{SystemTime, UNIX_EPOCH};

use althing_types::Instant;

/// The wall clock, kept from running backwards: while the system's clock is set back, it stands.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    last: Instant,
}

impl WallClock {
    /// The time now.
    pub(crate) fn now(&mut self) -> Instant {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Instant(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX));
        self.last = self.last.max(now);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_runs_backwards() {
        let mut clock = WallClock { last: Instant(u64::MAX - 1) };
        assert_eq!(clock.now(), Instant(u64::MAX - 1));
        let mut clock = WallClock::default();
        let first = clock.now();
        assert!(first > Instant(1_600_000_000_000_000_000) && clock.now() >= first);
    }
}
