use althing_crypto::{Domain, Keyring, hash};
use althing_types::{Instant, Quorums, ReplicaId};
use core::time::Duration;

/// Now and then a client shows a backup what it sends to the primary, so that backups can measure how the
/// primary serves clients that have no reason to complain yet.
///
/// Nobody but the client can tell which request that will be, or which backup: a primary that is quick
/// while it is watched has to be quick always.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// From when on the next one is shown; `None` before the first request.
    due: Option<Instant>,
    drawn: u64,
}

impl Witnesses {
    /// A client shows one request in this time, on average. It costs the group less than one frame in a
    /// hundred where clients are busy, and hardly more than nothing where they are not.
    const INTERVAL: Duration = Duration::from_millis(200);

    /// Whom to show a request that goes to `primary` now, if anybody.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        primary: ReplicaId,
        keyring: &Keyring,
        quorums: Quorums,
    ) -> Option<ReplicaId> {
        let is_first = self.due.is_none();
        if self.due.is_some_and(|due| now < due) || quorums.n() == 1 {
            return None;
        }
        let [pause, place] = self.draw(keyring);
        self.due = Some(now + Self::INTERVAL * (pause % 2000) / 1000);
        if is_first {
            return None;
        }
        let backups = quorums.n() - 1;
        let place = usize::try_from(place).unwrap_or(usize::MAX) % backups;
        quorums.replicas().filter(|id| *id != primary).nth(place)
    }

    /// Chance that nobody else can compute: a signature that is shown to nobody.
    fn draw(&mut self, keyring: &Keyring) -> [u32; 2] {
        self.drawn += 1;
        let signature = keyring.sign(Domain::Request, &self.drawn.to_le_bytes());
        let digest = hash("althing witness", &signature.0).0;
        let number =
            |at: usize| u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]]);
        [number(0), number(4)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::vec::Vec;
    use althing_crypto::Identity;
    use althing_types::{ClientId, GroupId, Principal};

    fn keyring(secret: u8) -> Keyring {
        let identity = Identity::from_secret_bytes(&[secret; 64]);
        let me = Principal::Client(ClientId(1));
        Keyring::new(GroupId([0; 16]), me, identity, Vec::new(), BTreeMap::new())
    }

    /// Which of 10 000 requests, one each millisecond, are shown to whom.
    fn shown(secret: u8) -> Vec<(u64, ReplicaId)> {
        let (keyring, quorums) = (keyring(secret), Quorums::byzantine(4, 1).expect("four are enough"));
        let mut witnesses = Witnesses::default();
        let mut choose = |ms: u64| witnesses.choose(Instant(ms * 1_000_000), ReplicaId(2), &keyring, quorums);
        (0..10_000).filter_map(|ms| Some((ms, choose(ms)?))).collect()
    }

    #[test]
    fn one_in_the_interval_is_shown_to_each_backup_and_never_to_the_primary() {
        let shown = shown(1);
        assert!((35..70).contains(&shown.len()), "{} in ten seconds", shown.len());
        let to: BTreeSet<_> = shown.iter().map(|(_, to)| to.0).collect();
        assert_eq!(to, BTreeSet::from([0, 1, 3]));
    }

    #[test]
    fn which_ones_follows_from_the_clients_secret() {
        assert_ne!(shown(1), shown(2));
        assert_eq!(shown(1), shown(1));
    }
}
