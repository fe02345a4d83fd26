use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A point in time as one machine's clock shows it: nanoseconds since the Unix epoch.
///
/// A runtime hands it in and never lets it run backwards; it is not the same on two machines until
/// a protocol has ordered it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct Instant(pub u64);

impl Instant {
    /// Time from `earlier` to this point; zero when `earlier` lies later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}
