//! Who of the other sites is not believed, and how much is looked at of what costs a check and says nothing.

use alloc::collections::BTreeMap;
use althing_crypto::site::{SiteSignature, SiteStatement};
use althing_types::{Instant, ReplicaId, SiteId};
use core::time::Duration;

/// For how many ticks a server of another site is not listened to at most.
const MOST_TICKS_DEAF: u32 = 64;

/// For how many ticks nothing from a site is believed unchecked when one of its servers was and deceived.
const TICKS_WARY: u32 = 1024;

/// The servers of other sites that have sent what their sites have not signed.
///
/// To find that out costs as much as a good signature, and a correct server sends none, except once in its life where a
/// server of its own site has lied to it: so the first time each is heard on, and what is wrong may come in several parts;
/// and then it is listened to no more for a while, twice as long each time.
#[derive(Default)]
pub(super) struct Distrust {
    until: BTreeMap<(SiteId, ReplicaId), (Instant, u32)>,
    /// What was wrong last.
    wrong: BTreeMap<(SiteId, ReplicaId), (SiteStatement, SiteSignature)>,
    /// Since when each has repeated nothing that was looked at.
    repeated: BTreeMap<(SiteId, ReplicaId), Instant>,
    /// Until when nothing of a site is believed unchecked.
    wary: BTreeMap<SiteId, Instant>,
}

impl Distrust {
    pub(super) fn is_distrusted(&self, now: Instant, who: (SiteId, ReplicaId)) -> bool {
        self.until.get(&who).is_some_and(|(until, _)| now < *until)
    }

    /// Whether all that comes from a site is to be checked first.
    pub(super) fn is_wary(&self, now: Instant, site: SiteId) -> bool {
        self.wary.get(&site).is_some_and(|until| now < *until)
    }

    /// Whether what it repeats is looked at: once in a tick.
    pub(super) fn may_repeat(&mut self, now: Instant, who: (SiteId, ReplicaId), tick: Duration) -> bool {
        let may = self.repeated.get(&who).is_none_or(|then| now.since(*then) >= tick);
        if may {
            self.repeated.insert(who, now);
        }
        may
    }

    /// Whether that is what it has sent wrong last.
    pub(super) fn is_known_wrong(
        &self,
        who: (SiteId, ReplicaId),
        signed: &(SiteStatement, SiteSignature),
    ) -> bool {
        self.wrong.get(&who) == Some(signed)
    }

    /// It has sent something wrong, under this signature if it has one. Who has not for long begins anew.
    pub(super) fn on_wrong(
        &mut self,
        now: Instant,
        who: (SiteId, ReplicaId),
        tick: Duration,
        signed: Option<(SiteStatement, SiteSignature)>,
    ) {
        let most = tick * MOST_TICKS_DEAF;
        let known = self.until.get(&who).filter(|(until, _)| now.since(*until) < most);
        let ticks = known.map_or(0, |(_, ticks)| (2 * ticks).clamp(1, MOST_TICKS_DEAF));
        self.until.insert(who, (now + tick * ticks, ticks));
        self.wrong.extend(signed.map(|signed| (who, signed)));
        self.on_deceived(now, who.0, tick);
    }

    /// A server of a site was believed, and what it sent was wrong. It may have been lied to, and then sends what is right
    /// at once: so it is heard, as long as that is right.
    pub(super) fn on_deceived(&mut self, now: Instant, site: SiteId, tick: Duration) {
        self.wary.insert(site, now + tick * TICKS_WARY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const TICK: Duration = Duration::from_millis(100);

    #[test]
    fn who_sends_wrong_signatures_costs_ever_less_and_begins_anew_after_a_long_while() {
        let (liar, other) = ((SiteId(1), ReplicaId(0)), (SiteId(1), ReplicaId(1)));
        let mut distrust = Distrust::default();
        let mut checked = Vec::new();
        for ms in 0..60_000 {
            let now = Instant(ms * 1_000_000);
            assert!(!distrust.is_distrusted(now, other));
            if !distrust.is_distrusted(now, liar) {
                distrust.on_wrong(now, liar, TICK, None);
                checked.push(ms);
            }
        }
        assert_eq!(checked[..9], [0, 1, 101, 301, 701, 1501, 3101, 6301, 12_701]);
        assert!(checked[9..].windows(2).all(|pair| pair[1] - pair[0] == 6400) && checked.len() > 13);
        let later = Instant(1_000_000 * 1_000_000);
        distrust.on_wrong(later, liar, TICK, None);
        assert!(!distrust.is_distrusted(later + TICK, liar));
    }

    #[test]
    fn where_one_server_of_a_site_has_deceived_none_is_believed_for_long() {
        let (site, other) = (SiteId(1), SiteId(2));
        let (mut distrust, start) = (Distrust::default(), Instant(5_000_000_000));
        assert!(!distrust.is_wary(start, site));
        distrust.on_deceived(start, site, TICK);
        assert!(!distrust.is_distrusted(start, (site, ReplicaId(0))), "it is heard");
        assert!(distrust.is_wary(start + TICK * 1023, site) && !distrust.is_wary(start, other));
        assert!(!distrust.is_wary(start + TICK * 1024, site));
        distrust.on_wrong(start, (other, ReplicaId(3)), TICK, None);
        assert!(distrust.is_wary(start + TICK, other), "so too where it was checked at once");
    }
}
