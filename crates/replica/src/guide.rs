//! Showing the way: whoever speaks in an epoch that has ended, replica or client, gets the links that lead on
//! from there.

use crate::Service;
use crate::epochs::{Place, Tenure};
use crate::frame::ClientMessage;
use crate::io::{Output, Report};
use crate::membership::links_from;
use crate::replica::Replica;
use crate::transfer::EngineMessage;
use alloc::vec::Vec;
use althing_crypto::PublicIdentity;
use althing_protocol::Protocol;
use althing_types::{ClientId, Epoch, Instant, Principal, ReplicaId};
use core::time::Duration;

/// One replica or client is shown links once in so long a time.
const SHOW_INTERVAL: Duration = Duration::from_millis(20);
/// As many replicas are remembered to have been shown some.
const MAX_SHOWN: usize = 1024;

impl Tenure {
    /// Whether this one has not been shown any links just now.
    fn may_show(&mut self, now: Instant, to: &PublicIdentity) -> bool {
        let key = to.to_bytes();
        let is_due = self.shown.get(&key).is_none_or(|at| now.since(*at) >= SHOW_INTERVAL);
        if is_due {
            if self.shown.len() >= MAX_SHOWN {
                self.shown.clear();
            }
            self.shown.insert(key, now);
        }
        is_due
    }
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// As [`Self::show_to_replica`], to one whose channel belongs to this place.
    pub(crate) fn show_to(&mut self, now: Instant, to: ReplicaId, epoch: Epoch, outputs: &mut Vec<Output>) {
        let member = self.tenure.as_ref().and_then(|tenure| tenure.membership.member(to));
        if let Some(key) = member.map(|member| member.key) {
            self.show_to_replica(now, &key, epoch, outputs);
        }
    }

    /// Shows a replica that speaks in an earlier epoch how that ended. One that speaks in a later epoch is
    /// asked, by speaking in this one: it may be all that is left of those who know the way.
    pub(crate) fn show_to_replica(
        &mut self,
        now: Instant,
        to: &PublicIdentity,
        epoch: Epoch,
        outputs: &mut Vec<Output>,
    ) {
        let Some(tenure) = &mut self.tenure else { return };
        let is_retired = matches!(tenure.place, Place::Retired);
        let message = if epoch > tenure.membership.epoch && !is_retired {
            EngineMessage::AskStart
        } else {
            EngineMessage::Succession(links_from(&tenure.links, epoch))
        };
        let is_empty = matches!(&message, EngineMessage::Succession(links) if links.is_empty());
        if is_empty || !tenure.may_show(now, to) {
            return;
        }
        match tenure.membership.place_of(to).filter(|_| !is_retired) {
            Some(id) => self.outbound.send_engine(id, message, outputs),
            None => {
                let frames = self.outbound.seal_stray(message);
                outputs.extend(frames.into_iter().map(|frame| Output::SendStray { to: *to, frame }));
            }
        }
    }

    /// As [`Self::show_to_replica`], to a client of the directory. Says whether it was shown any now.
    pub(crate) fn show_to_client(
        &mut self,
        now: Instant,
        to: ClientId,
        epoch: Epoch,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let Some(tenure) = &mut self.tenure else { return false };
        let shown = tenure.shown_to_clients.get(&to);
        if shown.is_some_and(|at| now.since(*at) < SHOW_INTERVAL) {
            return false;
        }
        let links = links_from(&tenure.links, epoch);
        let has_some = !links.is_empty();
        if has_some {
            tenure.shown_to_clients.insert(to, now);
            self.outbound.send_client(to, ClientMessage::Succession(links), outputs);
        }
        has_some
    }

    /// Clients that wait for something are told at once where to go.
    pub(crate) fn show_to_clients(&mut self, now: Instant, epoch: Epoch, outputs: &mut Vec<Output>) {
        for client in self.admission.clients() {
            self.show_to_client(now, client, epoch, outputs);
        }
    }

    /// Bytes from a replica that has no place in this epoch.
    pub(crate) fn on_stray(
        &mut self,
        now: Instant,
        from: &PublicIdentity,
        bytes: &[u8],
        outputs: &mut Vec<Output>,
    ) {
        match self.opener.peek(bytes) {
            Ok((_, Some(EngineMessage::Succession(links)))) => self.on_links(links),
            Ok((epoch, _)) => self.show_to_replica(now, from, epoch, outputs),
            Err(reason) => {
                let from = Principal::Replica(ReplicaId(u16::MAX));
                outputs.push(Output::Report(Report::Refused { from, reason }));
            }
        }
    }
}
