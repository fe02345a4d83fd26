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

/// How a span of time is encoded in what is replicated: nanoseconds, as in an [`Instant`]. For borsh's `serialize_with`
/// and `deserialize_with`, since borsh knows no [`Duration`].
pub mod nanos {
    use borsh::{BorshDeserialize, BorshSerialize, io};
    use core::time::Duration;

    fn nanos_of(span: Duration) -> u64 {
        u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes a span.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn serialize<W: io::Write>(span: &Duration, writer: &mut W) -> io::Result<()> {
        nanos_of(*span).serialize(writer)
    }

    /// Reads a span.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn deserialize<R: io::Read>(reader: &mut R) -> io::Result<Duration> {
        u64::deserialize_reader(reader).map(Duration::from_nanos)
    }

    /// Writes a span that may not be known.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn serialize_option<W: io::Write>(span: &Option<Duration>, writer: &mut W) -> io::Result<()> {
        span.map(nanos_of).serialize(writer)
    }

    /// Reads a span that may not be known.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn deserialize_option<R: io::Read>(reader: &mut R) -> io::Result<Option<Duration>> {
        Ok(Option::deserialize_reader(reader)?.map(Duration::from_nanos))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}
