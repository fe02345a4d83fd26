//! What a server does where its site has to be brought up: it asks servers of other sites for what the site lacks, and
//! puts what comes in order. What the site takes is checked by all its servers, so a wrong answer costs a
//! question.

use super::Outpost;
use super::io::{OutpostOutput, SiteMessage};
use crate::machine::LogicalMachine;
use crate::operation::SiteEvent;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_protocol::Replicable;
use althing_replica::{Parts, Service, Want};
use althing_types::{Digest, Instant, ReplicaId, Seq, SiteId, encode};
use core::time::Duration;

/// Servers of a site take turns in asking: one has so many ticks to bring something.
const TICKS_PER_TURN: u64 = 3;

/// How far ahead of its rate a server of another site may be given something.
const MOST_OWED: Duration = Duration::from_secs(1);

/// What a server knows of what its site fetches, and gives to others.
#[derive(Default)]
pub(super) struct Fetching {
    /// What the site wanted when that was last looked at.
    wanted: Option<(Seq, Digest, Want)>,
    /// How many ticks it has wanted just that.
    ticks: u64,
    /// Whom this server asks, by a number that goes through all servers of the other sites.
    source: u64,
    /// Whether it has asked for just that.
    has_asked: bool,
    /// Whether it has been given an answer, which is on its way into the order.
    has_answer: bool,
    /// When each server of another site will have been given, at the rate that it may be, what it was: one that asks
    /// for more than it needs takes nothing away from its fellows.
    served_until: BTreeMap<(SiteId, ReplicaId), Instant>,
}

impl Fetching {
    /// Whether a server of another site may be given something.
    fn may_be_given(&self, now: Instant, who: (SiteId, ReplicaId)) -> bool {
        self.served_until.get(&who).is_none_or(|until| until.since(now) <= MOST_OWED)
    }

    /// It is given so many bytes, of what all together may be given in a second: the sites that ask share that, and of
    /// each site the servers that do.
    fn give(&mut self, now: Instant, who: (SiteId, ReplicaId), bytes: usize, bytes_per_second: u64) {
        self.served_until.retain(|_, until| *until > now);
        let others = || self.served_until.keys().filter(|it| **it != who);
        let sites: BTreeSet<SiteId> = others().map(|(site, _)| *site).filter(|site| *site != who.0).collect();
        let fellows = others().filter(|(site, _)| *site == who.0).count();
        let shared = (bytes * (1 + sites.len()) * (1 + fellows)) as u64;
        let nanos = shared.saturating_mul(1_000_000_000) / bytes_per_second.max(1);
        let from = self.served_until.get(&who).copied().unwrap_or(now);
        self.served_until.insert(who, from + Duration::from_nanos(nanos));
    }
}

impl Outpost {
    /// Asks for what the site lacks, if it is this server's turn.
    pub(super) fn fetch<P: Replicable, S: Service>(
        &mut self,
        machine: &LogicalMachine<P, S>,
        outputs: &mut Vec<OutpostOutput>,
    ) {
        let wanted = machine.wanted();
        if wanted != self.fetching.wanted {
            (self.fetching.ticks, self.fetching.has_asked, self.fetching.has_answer) = (0, false, false);
            self.fetching.wanted = wanted;
        }
        let Some((seq, state, want)) = &self.fetching.wanted else { return };
        let servers = self.servers().count() as u64;
        let is_turn = self.fetching.ticks / TICKS_PER_TURN % servers == u64::from(self.config.server.0);
        if !is_turn || self.fetching.has_asked {
            return;
        }
        self.fetching.has_asked = true;
        let message = SiteMessage::Fetch { seq: *seq, state: *state, want: want.clone() };
        if let Some((site, server)) = self.source(self.fetching.source) {
            outputs.push(OutpostOutput::ToSite { site, server, bytes: encode(&message).into() });
        }
    }

    /// Time passes: who was asked may not have what is wanted.
    pub(super) fn tick_fetching(&mut self) {
        self.fetching.ticks += 1;
        if self.fetching.has_asked && self.fetching.ticks.is_multiple_of(TICKS_PER_TURN) {
            (self.fetching.has_asked, self.fetching.has_answer) = (false, false);
            self.fetching.source += 1;
        }
    }

    /// The servers of the other sites, one after the other, each site in turn.
    fn source(&self, turn: u64) -> Option<(SiteId, ReplicaId)> {
        let others =
            (0u16..).zip(&self.config.links.groups).filter(|(site, _)| *site != self.config.links.site.0);
        let others: Vec<_> = others.collect();
        let (site, servers) = others.get(usize::try_from(turn % others.len().max(1) as u64).ok()?)?;
        let server = turn / others.len() as u64 % servers.n() as u64;
        Some((SiteId(*site), ReplicaId(u16::try_from(server).ok()?)))
    }

    /// A server of another site wants parts of a checkpoint.
    pub(super) fn on_fetch<P: Replicable, S: Service>(
        &mut self,
        now: Instant,
        (site, server): (SiteId, ReplicaId),
        (seq, state, want): (Seq, Digest, &Want),
        machine: &LogicalMachine<P, S>,
        outputs: &mut Vec<OutpostOutput>,
    ) {
        if !self.fetching.may_be_given(now, (site, server)) {
            return;
        }
        let Some(parts) = machine.supply(seq, state, want) else { return };
        let bytes = encode(&SiteMessage::Fetched(parts));
        self.fetching.give(now, (site, server), bytes.len(), self.config.supply_bytes_per_second);
        outputs.push(OutpostOutput::ToSite { site, server, bytes: bytes.into() });
    }

    /// It has given them, or what it says they are.
    pub(super) fn on_fetched(&mut self, (site, server): (SiteId, ReplicaId), parts: Parts) {
        let was_asked = self.fetching.has_asked && self.source(self.fetching.source) == Some((site, server));
        let is_wanted = self.fetching.wanted.is_some() && !self.fetching.has_answer;
        if was_asked && is_wanted {
            self.fetching.has_answer = true;
            self.control.push(SiteEvent::Fetched(parts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_in_a_second_is_bounded_for_all_together_and_shared_by_sites() {
        const SECONDS: u64 = 60;
        const RATE: u64 = 500_000;
        let mut fetching = Fetching::default();
        // All servers of a site, and one of another, ask as often as they can.
        let greedy = [0, 1, 2, 3].map(|server| (SiteId(1), ReplicaId(server)));
        let single = (SiteId(2), ReplicaId(0));
        let mut given = BTreeMap::new();
        for now in (0..SECONDS * 100).map(|step| Instant(step * 10_000_000)) {
            for who in greedy.into_iter().chain([single]) {
                if fetching.may_be_given(now, who) {
                    fetching.give(now, who, 50_000, RATE);
                    *given.entry(who).or_insert(0) += 50_000;
                }
            }
        }
        let total: u64 = given.values().sum();
        assert!((SECONDS * RATE..SECONDS * RATE * 11 / 10).contains(&total), "{total}");
        assert!(given[&single] * 5 > total * 2, "about half: {} of {total}", given[&single]);
        // Who asks alone has all of it.
        let later = Instant(2 * SECONDS * 1_000_000_000);
        fetching.give(later, single, 50_000, RATE);
        assert_eq!(fetching.served_until[&single].since(later), Duration::from_millis(100));
    }
}
