use alloc::collections::BTreeMap;
use althing_types::{Instant, Quorums, ReplicaId};
use core::time::Duration;

/// What backups have seen of how late the primary serves this client, and what the client does about it.
///
/// A backup that was shown a request can't know whether the primary ever got it. So once f + 1 backups say
/// that it serves the client late, the client sends what it asks next to all of them, signed: then they can
/// hold the primary to it, and a primary that goes on is replaced. Fewer than f + 1 may all be liars, who
/// would have the client sign for nothing.
#[derive(Debug)]
pub(super) struct Lateness {
    said_by: BTreeMap<ReplicaId, Instant>,
    /// How many requests are still sent so.
    left: u32,
    /// How many will be the next time.
    next: u32,
    /// When that last began.
    since: Instant,
}

/// So many requests are sent to all, the first time.
const FIRST: u32 = 16;
const MOST: u32 = 4096;

/// How long a backup's word counts.
const LIFETIME: Duration = Duration::from_secs(5);

/// After so much time without a reason the client is as it was.
const CALM: Duration = Duration::from_secs(60);

impl Default for Lateness {
    fn default() -> Self {
        Self { said_by: BTreeMap::new(), left: 0, next: FIRST, since: Instant::default() }
    }
}

impl Lateness {
    /// A backup says that the primary serves this client late.
    pub(super) fn hear(&mut self, now: Instant, from: ReplicaId, quorums: Quorums) {
        self.said_by.insert(from, now);
        self.said_by.retain(|_, at| now.since(*at) <= LIFETIME);
        if self.said_by.len() >= quorums.one_correct() && self.left == 0 {
            if now.since(self.since) > CALM {
                self.next = FIRST;
            }
            self.said_by.clear();
            (self.left, self.since) = (self.next, now);
            self.next = (2 * self.next).min(MOST);
        }
    }

    /// Whether the next request is to go to all, signed.
    pub(super) fn complains(&mut self) -> bool {
        let complains = self.left > 0;
        self.left = self.left.saturating_sub(1);
        complains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn f_plus_1_backups_make_a_client_complain_each_time_for_longer() {
        let quorums = Quorums::byzantine(4, 1).expect("four are enough");
        let mut lateness = Lateness::default();
        let mut complaints = |from: &[(u64, u16)]| {
            for (second, id) in from {
                lateness.hear(Instant(second * SECOND), ReplicaId(*id), quorums);
            }
            (0..MOST).filter(|_| lateness.complains()).count()
        };
        assert_eq!(complaints(&[(1, 1), (2, 1), (3, 1)]), 0, "one may lie");
        assert_eq!(complaints(&[(9, 2)]), 0, "the other has said so too long ago");
        assert_eq!(complaints(&[(10, 3)]), 16);
        assert_eq!(complaints(&[(11, 3)]), 0);
        assert_eq!(complaints(&[(12, 2)]), 32);
        assert_eq!(complaints(&[(90, 1), (90, 2)]), 16);
    }
}
