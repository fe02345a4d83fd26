//! Large requests apart from the order (*separate request transmission*, TOCS'02 §5.1.5): their clients send
//! them to all replicas, and the primary proposes them by name. So its link carries no more of them than any
//! other's.
//!
//! To believe and to vote for a proposal a backup has to have all of it, as ever: it puts together what was
//! named, and the digest tells whether that is what the primary means. A backup that can't asks for the
//! proposal as a whole, at once, and nothing else is different. What that costs is one message there and one
//! back; a client that keeps its requests from a backup causes it once in [`SENT_WHOLE`] requests.

use super::message::{NamedRequest, PbftMessage, PrePrepare, ShortPrePrepare};
use super::{Pbft, Step};
use crate::{Batch, Misbehaviour, Request};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{ClientId, Digest, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// A backup that lacked a client's request is sent so many of that client as a whole from then on.
const SENT_WHOLE: u32 = 64;

/// The most clients of which that is remembered, for all backups together.
const MAX_REMEMBERED: usize = 4096;

/// As primary: whose requests which backup lacked, and how many it is still to be sent as a whole. A backup
/// that lies changes only what it is sent itself.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Lacked(BTreeMap<(ReplicaId, ClientId), u32>);

impl Lacked {
    fn note(&mut self, backup: ReplicaId, client: ClientId) {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&(backup, client)) {
            self.0.pop_first();
        }
        self.0.insert((backup, client), SENT_WHOLE);
    }

    /// Whether the next request of this client is to be sent to this backup as a whole.
    fn take(&mut self, backup: ReplicaId, client: ClientId) -> bool {
        let Some(left) = self.0.get_mut(&(backup, client)) else { return false };
        *left -= 1;
        if *left == 0 {
            self.0.remove(&(backup, client));
        }
        true
    }
}

impl Pbft {
    /// A client has sent this request to the primary, and to this replica for whatever it is proposed as.
    pub(super) fn on_body(&mut self, step: &Step, request: Request) {
        let is_believed = !request.has_macs() || !self.distrust.has(step.now, request.client);
        if request.is_authentic && is_believed && self.is_separate(&request) {
            let settings = &self.config.settings;
            let under_way = usize::try_from(settings.pipeline).unwrap_or(usize::MAX);
            self.pending.hold_body(request, settings.max_batch_bytes.saturating_mul(under_way));
        }
    }

    fn is_separate(&self, request: &Request) -> bool {
        let least = self.config.settings.separate_bytes;
        least > 0 && request.operation.len() >= least
    }

    /// Tells the backups, each as shortly as it can do with.
    pub(super) fn announce_proposal(&mut self, step: &mut Step, proposal: PrePrepare, digest: Digest) {
        let Some(short) = self.shortened(&proposal, digest) else {
            return step.broadcast(PbftMessage::PrePrepare(proposal));
        };
        let backups = self.quorums().replicas().filter(|id| *id != self.me()).collect::<Vec<_>>();
        let mut lacking = BTreeSet::new();
        for backup in &backups {
            let lacked = short.named.iter().filter(|named| self.lacked.take(*backup, named.client));
            if lacked.count() > 0 {
                lacking.insert(*backup);
            }
        }
        if lacking.is_empty() {
            return step.broadcast(PbftMessage::ShortPrePrepare(short));
        }
        for backup in backups {
            step.send(
                backup,
                if lacking.contains(&backup) {
                    PbftMessage::PrePrepare(proposal.clone())
                } else {
                    PbftMessage::ShortPrePrepare(short.clone())
                },
            );
        }
    }

    /// The proposal with its large requests by name, if there are any.
    fn shortened(&self, proposal: &PrePrepare, digest: Digest) -> Option<ShortPrePrepare> {
        let PrePrepare { view, seq, batch } = proposal;
        let (mut whole, mut named) = (Vec::new(), Vec::new());
        for (place, request) in (0u32..).zip(&batch.requests) {
            if self.is_separate(request) {
                named.push(NamedRequest { place, client: request.client, number: request.number });
            } else {
                whole.push(request.clone());
            }
        }
        let short = ShortPrePrepare { view: *view, seq: *seq, digest, time: batch.time, whole, named };
        (!short.named.is_empty()).then_some(short)
    }

    pub(super) fn on_short_pre_prepare(
        &mut self,
        step: &mut Step,
        (from, key): (ReplicaId, u64),
        short: ShortPrePrepare,
    ) {
        let (view, seq, digest) = (short.view, short.seq, short.digest);
        if from != self.quorums().primary(view) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
        match self.put_together(&short) {
            Some(batch) => {
                let proposal = PrePrepare { view, seq, batch: Arc::new(batch) };
                let message = PbftMessage::PrePrepare(proposal.clone());
                if self.hold_if_early(step.now, (from, key), message).is_some() {
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
    fn put_together(&self, short: &ShortPrePrepare) -> Option<Batch> {
        if short.whole.len().saturating_add(short.named.len()) > self.config.settings.max_batch_requests {
            return None;
        }
        let mut requests = Vec::new();
        let mut whole = short.whole.iter();
        for NamedRequest { place, client, number } in &short.named {
            let before = usize::try_from(*place).ok()?.checked_sub(requests.len())?;
            requests.extend(whole.by_ref().take(before));
            requests.push(self.pending.named(*client, *number)?);
        }
        requests.extend(whole);
        // One that is named again and again would be copied as often.
        if !self.fit_in_batch(requests.iter().copied()) {
            return None;
        }
        let batch = Batch { time: short.time, requests: requests.into_iter().cloned().collect() };
        (batch.digest() == short.digest).then_some(batch)
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
        lacked.iter().for_each(|request| self.lacked.note(from, request.client));
        step.send(from, PbftMessage::PrePrepare(PrePrepare { view, seq, batch }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_requests_were_lacked_are_sent_whole_there_for_a_while() {
        let mut lacked = Lacked::default();
        let (backup, client) = (ReplicaId(1), ClientId(1));
        assert!(!lacked.take(backup, client));
        lacked.note(backup, client);
        assert!(!lacked.take(ReplicaId(2), client));
        let times = (0..1000).take_while(|_| lacked.take(backup, client)).count();
        assert_eq!((times, lacked.0.len()), (64, 0));
        (0..2 * MAX_REMEMBERED as u64).for_each(|id| lacked.note(backup, ClientId(id)));
        assert_eq!(lacked.0.len(), MAX_REMEMBERED);
    }
}
