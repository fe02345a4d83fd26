//! Large requests apart from the order (*separate request transmission*, TOCS'02 §5.1.5): their clients send
//! them to all replicas, and the primary proposes them by name. So its link carries no more of them than any
//! other's.
//!
//! To believe and to vote for a proposal a backup has to have all of it, as ever: it puts together what was
//! named, and the digest tells whether that is what the primary means. A backup that can't asks for the
//! proposal as a whole, at once, and nothing else is different. What that costs is one message there and one
//! back; a client that keeps its requests from a backup causes it once in `SENT_WHOLE` requests.

use super::message::{PbftMessage, PrePrepare, ShortPrePrepare};
use super::{Pbft, Step};
use crate::{Batch, Misbehaviour, Request, separate};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, ReplicaId, Seq, View};

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
        let (whole, named) = separate::part(batch, |request| self.is_separate(request))?;
        Some(ShortPrePrepare { view: *view, seq: *seq, digest, time: batch.time, whole, named })
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
        let fits = |requests: &[&Request]| self.fit_in_batch(requests.iter().copied());
        let batch = separate::put_together(&self.pending, short.time, (&short.whole, &short.named), fits)?;
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
