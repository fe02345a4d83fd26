use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// The least and the most that takes a turn at once, in bytes: a packet, and what one read asks for.
const CHUNK_BYTES: (usize, usize) = (1500, 64 << 10);

/// For how long of the uplink one turn lasts, if a packet does not last longer.
const TURN: Duration = Duration::from_millis(2);

/// What a site can send on, one packet after the other: it has a rate, and whoever comes first is served first.
///
/// Those who have more to send come again when they are served, behind all who came meanwhile: they take turns.
#[derive(Debug)]
pub(super) struct Uplink {
    bps: Option<u64>,
    /// When all that was given to it has left.
    free_at: Mutex<Instant>,
}

impl Uplink {
    /// One with this rate, in bits a second.
    pub(super) fn new(bps: Option<u64>) -> Self {
        Self { bps, free_at: Mutex::new(Instant::now()) }
    }

    /// How much to send in one turn at most, in bytes.
    pub(super) fn chunk_bytes(&self) -> usize {
        let (least, most) = CHUNK_BYTES;
        let Some(bps) = self.bps else { return most };
        let in_turn = u128::from(bps) * TURN.as_micros() / 8_000_000;
        usize::try_from(in_turn).unwrap_or(most).clamp(least, most)
    }

    /// Takes the next turn for so many bytes, not before `from`, and tells when the last of them has left.
    pub(super) fn send(&self, bytes: usize, from: Instant) -> Instant {
        let Some(bps) = self.bps else { return from };
        let nanos = u128::from(bytes as u64) * 8 * 1_000_000_000 / u128::from(bps);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().expect("no holder panics");
        *free_at = (*free_at).max(from) + takes;
        *free_at
    }

    /// For how long what was given to it keeps it busy.
    pub(super) fn backlog(&self) -> Duration {
        self.free_at.lock().expect("no holder panics").saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_one_after_the_other_at_the_rate() {
        let uplink = Uplink::new(Some(8_000_000));
        let start = Instant::now();
        let ms = |n: u64| start + Duration::from_millis(n);
        assert_eq!(uplink.send(1000, ms(10)), ms(11));
        assert_eq!(uplink.send(2000, ms(10)), ms(13));
        assert_eq!(uplink.send(1000, ms(20)), ms(21));
        assert!(uplink.backlog() > Duration::ZERO);
    }

    #[test]
    fn without_a_rate_bytes_leave_at_once() {
        let uplink = Uplink::new(None);
        let now = Instant::now();
        assert_eq!(uplink.send(1 << 30, now), now);
        assert_eq!(uplink.backlog(), Duration::ZERO);
    }

    #[test]
    fn a_turn_is_a_packet_at_least_and_a_read_at_most() {
        let chunk = |bps| Uplink::new(bps).chunk_bytes();
        assert_eq!([chunk(Some(1_000)), chunk(Some(10_000_000)), chunk(Some(u64::MAX))], [1500, 2500, 65536]);
        assert_eq!(chunk(None), 65536);
    }
}
