//! What a server does where its site has to be brought up: it asks servers of other sites for what the site lacks, and
//! puts what comes in order. What the site takes is checked by all its servers, so a wrong answer costs a
//! question.

use super::Outpost;
use super::io::{OutpostOutput, SiteMessage};
use crate::machine::LogicalMachine;
use crate::operation::SiteEvent;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_protocol::Replicable;
use althing_replica::{Parts, Service, Want};
use althing_types::{Digest, Instant, ReplicaId, Seq, SiteId, encode};
use core::time::Duration;

/// Servers of a site take turns in asking: one has so many ticks to bring something.
const TICKS_PER_TURN: u64 = 3;

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
        let busy_until =
            self.fetching.served_until.get(&(site, server)).copied().unwrap_or_default().max(now);
        if busy_until.since(now) > Duration::from_secs(1) {
            return;
        }
        let Some(parts) = machine.supply(seq, state, want) else { return };
        let bytes = encode(&SiteMessage::Fetched(parts));
        let nanos = bytes.len() as u64 * 1_000_000_000 / self.config.supply_bytes_per_second.max(1);
        self.fetching.served_until.insert((site, server), busy_until + Duration::from_nanos(nanos));
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
