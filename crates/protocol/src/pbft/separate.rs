//! Large requests apart from the order (*separate request transmission*, TOCS'02 §5.1.5): their clients send
//! them to all replicas, and the primary proposes them by name. So its link carries no more of them than any
//! other's.
//!
//! To believe and to vote for a proposal a backup has to have all of it, as ever: it puts together what was
//! named, and the digest tells whether that is what the primary means. A backup that can't asks for the
//! proposal as a whole, at once, and nothing else is different. What that costs is one message there and one
//! back; a client that keeps its requests from backups causes it once in [`PROPOSED_WHOLE`] requests.

use super::message::{NamedRequest, PbftMessage, PrePrepare, ShortPrePrepare};
use super::{Pbft, Step};
use crate::{Batch, Misbehaviour, Request};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{ClientId, Digest, ReplicaId, Seq, View};

/// A client whose request a backup lacked has so many proposed as a whole from then on.
const PROPOSED_WHOLE: u32 = 64;

/// The most clients of which that is remembered.
const MAX_REMEMBERED: usize = 4096;

/// As primary: clients whose requests backups lacked, and how many are still to be proposed as a whole.
#[derive(Debug, Default)]
pub(super) struct Lacked(BTreeMap<ClientId, u32>);

impl Lacked {
    fn note(&mut self, client: ClientId) {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&client) {
            self.0.pop_first();
        }
        self.0.insert(client, PROPOSED_WHOLE);
    }

    /// Whether the next request of this client is to be proposed as a whole.
    fn take(&mut self, client: ClientId) -> bool {
        let Some(left) = self.0.get_mut(&client) else { return false };
        *left -= 1;
        if *left == 0 {
            self.0.remove(&client);
        }
        true
    }
}

impl Pbft {
    /// A client has sent this request to the primary, and to this replica for whatever it is proposed as.
    pub(super) fn on_body(&mut self, step: &Step, request: Request) {
        let is_believed = !request.has_macs() || !self.distrust.has(step.now, request.client);
        if request.is_authentic && is_believed && self.is_separate(&request) {
            self.pending.hold_body(request);
        }
    }

    fn is_separate(&self, request: &Request) -> bool {
        let least = self.config.settings.separate_bytes;
        least > 0 && request.operation.len() >= least
    }

    /// What says that to backups, as short as they can do with.
    pub(super) fn announcement(&mut self, proposal: PrePrepare, digest: Digest) -> PbftMessage {
        let PrePrepare { view, seq, batch } = proposal;
        let mut named = Vec::new();
        for (place, request) in (0u32..).zip(&batch.requests) {
            if self.is_separate(request) && !self.lacked.take(request.client) {
                named.push(NamedRequest { place, client: request.client, number: request.number });
            }
        }
        if named.is_empty() {
            return PbftMessage::PrePrepare(PrePrepare { view, seq, batch });
        }
        let is_whole = |place: &u32| named.binary_search_by_key(place, |named| named.place).is_err();
        let whole = (0u32..).zip(&batch.requests).filter(|(place, _)| is_whole(place));
        let whole = whole.map(|(_, request)| request.clone()).collect();
        PbftMessage::ShortPrePrepare(ShortPrePrepare { view, seq, digest, time: batch.time, whole, named })
    }

    pub(super) fn on_short_pre_prepare(&mut self, step: &mut Step, from: ReplicaId, short: ShortPrePrepare) {
        let (view, seq, digest) = (short.view, short.seq, short.digest);
        if from != self.quorums().primary(view) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
        match self.put_together(short) {
            Some(batch) => {
                let proposal = PrePrepare { view, seq, batch: Arc::new(batch) };
                let message = PbftMessage::PrePrepare(proposal.clone());
                if self.hold_if_early(step.now, from, message).is_some() {
                    self.take_proposal(step, from, proposal, digest);
                }
            }
            None if view == self.view && self.is_in_view && seq > self.executed => {
                step.send(from, PbftMessage::FetchProposal { view, seq });
            }
            None => {}
        }
    }

    /// The batch that is meant, if this replica has all of it.
    fn put_together(&self, short: ShortPrePrepare) -> Option<Batch> {
        let ShortPrePrepare { digest, time, whole, named, .. } = short;
        if whole.len().saturating_add(named.len()) > self.config.settings.max_batch_requests {
            return None;
        }
        let mut requests = Vec::with_capacity(whole.len() + named.len());
        let mut whole = whole.into_iter();
        for NamedRequest { place, client, number } in named {
            let before = usize::try_from(place).ok()?.checked_sub(requests.len())?;
            requests.extend(whole.by_ref().take(before));
            requests.push(self.pending.named(client, number)?.clone());
        }
        requests.extend(whole);
        let batch = Batch { time, requests };
        (batch.digest() == digest).then_some(batch)
    }

    /// As primary: a backup lacks some of what this replica has proposed by name.
    pub(super) fn on_fetch_proposal(&mut self, step: &mut Step, from: ReplicaId, view: View, seq: Seq) {
        if view != self.view || !self.is_leading() {
            return;
        }
        let Some(entry) = self.log.get(seq) else { return };
        let Some(assignment) = entry.assignment.filter(|assignment| assignment.is_durable) else { return };
        let Some(batch) = entry.bodies.get(&assignment.digest).cloned() else { return };
        if !self.may_give(step.now, (seq, assignment.digest, from)) {
            return;
        }
        let lacked: Vec<_> = batch.requests.iter().filter(|request| self.is_separate(request)).collect();
        lacked.iter().for_each(|request| self.lacked.note(request.client));
        step.send(from, PbftMessage::PrePrepare(PrePrepare { view, seq, batch }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_lacked_once_is_whole_for_a_while() {
        let mut lacked = Lacked::default();
        let client = ClientId(1);
        assert!(!lacked.take(client));
        lacked.note(client);
        let times = (0..1000).take_while(|_| lacked.take(client)).count();
        assert_eq!((times, lacked.0.len()), (64, 0));
        (0..2 * MAX_REMEMBERED as u64).for_each(|id| lacked.note(ClientId(id)));
        assert_eq!(lacked.0.len(), MAX_REMEMBERED);
    }
}
