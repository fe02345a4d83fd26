//! Large requests apart from the order (*separate request transmission*, TOCS'02 §5.1.5): their clients send
//! them to all replicas, and the primary proposes them by name. So its link carries no more of them than any
//! other's.
//!
//! To believe and to vote for a proposal a backup has to have all of it, as ever: it puts together what was
//! named, and the digest tells whether that is what the primary means. A backup that can't asks for the
//! proposal as a whole, and nothing else is different. What that costs is one message there and one
//! back; a client that keeps its requests from a backup causes it ever more rarely.
//!
//! It asks at once, or where `separate_patience` says that requests take their time, once that is over: until then
//! what is named may still come by itself, and often is the larger part of what a link carries.

use super::message::{PbftMessage, PrePrepare};
use super::{Pbft, Step};
use crate::separate::ShortProposal;
use crate::{Batch, Misbehaviour, Request, separate};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{ClientId, Digest, ReplicaId, RequestNumber, Seq, View};

impl Pbft {
    /// A client has sent this request to the primary, and to this replica for whatever it is proposed as.
    pub(super) fn on_body(&mut self, step: &mut Step, request: Request) {
        let is_believed = !request.has_macs() || !self.distrust.has(step.now, request.client);
        if request.is_authentic && is_believed && self.is_separate(&request) {
            let settings = &self.config.settings;
            let name = (request.client, request.number);
            let room = separate::room(settings.max_batch_bytes, settings.pipeline);
            if self.pending.hold_body(request, room) {
                self.finish_proposals(step, name);
            }
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
    fn shortened(&self, proposal: &PrePrepare, digest: Digest) -> Option<ShortProposal> {
        let PrePrepare { view, seq, batch } = proposal;
        ShortProposal::of((*view, *seq, digest), batch, |request| self.is_separate(request))
    }

    pub(super) fn on_short_pre_prepare(
        &mut self,
        step: &mut Step,
        (from, key): (ReplicaId, u64),
        short: ShortProposal,
    ) {
        let (view, seq) = (short.view, short.seq);
        if from != self.quorums().primary(view) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
        match self.put_together(&short) {
            Some(batch) => self.take_whole(step, key, &short, batch),
            None if view == self.view && self.is_in_view && seq > self.executed => {
                if self.may_wait_for(&short) {
                    self.unfinished.hold(key, short);
                } else {
                    step.send(from, PbftMessage::FetchProposal { view, seq });
                }
            }
            None => {}
        }
    }

    /// Whether to wait for what this replica lacks of a proposal, as long as `separate_patience` says.
    fn may_wait_for(&self, short: &ShortProposal) -> bool {
        let settings = &self.config.settings;
        !settings.separate_patience.is_zero()
            && short.seq.0 <= self.high_watermark().0 + settings.log_size
            && short.requests() <= settings.max_batch_requests
            && self.fit_in_batch(short.whole.iter())
    }

    /// A client's request has come: puts together what waits for it.
    pub(super) fn finish_proposals(&mut self, step: &mut Step, name: (ClientId, RequestNumber)) {
        let mut unfinished = core::mem::take(&mut self.unfinished);
        let finished = unfinished.finish(name, |short| self.put_together(short));
        self.unfinished = unfinished;
        for (short, key, batch) in finished {
            self.take_whole(step, key, &short, batch);
        }
    }

    /// Takes a proposal that its primary has said under this key, put together, as if it had come so.
    fn take_whole(&mut self, step: &mut Step, key: u64, short: &ShortProposal, batch: Batch) {
        let (view, seq, from) = (short.view, short.seq, self.quorums().primary(short.view));
        let proposal = PrePrepare { view, seq, batch: Arc::new(batch) };
        let message = PbftMessage::PrePrepare(proposal.clone());
        if self.hold_if_early(step.now, (from, key), message).is_some() {
            self.take_proposal(step, from, proposal, short.digest);
            self.note_key(seq, from, key);
        }
    }

    /// Asks for the whole of what has been waited for in vain.
    pub(super) fn fetch_unfinished(&mut self, step: &mut Step) {
        self.unfinished.drop_before(self.view, self.executed);
        if !self.is_in_view {
            return;
        }
        let view = self.view;
        for seq in self.unfinished.overdue(self.patience()) {
            if self.log.get(seq).is_none_or(|entry| entry.assignment.is_none()) {
                step.send(self.primary(), PbftMessage::FetchProposal { view, seq });
            }
        }
    }

    /// Whether this batch may still come by itself, or from the primary.
    pub(super) fn may_come(&self, seq: Seq, digest: Digest) -> bool {
        self.is_in_view && self.unfinished.has((self.view, seq, digest), self.patience())
    }

    fn patience(&self) -> u32 {
        let settings = &self.config.settings;
        separate::periods(settings.separate_patience, settings.status_period)
    }

    /// The batch that is meant, if this replica has all of it.
    fn put_together(&self, short: &ShortProposal) -> Option<Batch> {
        if short.requests() > self.config.settings.max_batch_requests {
            return None;
        }
        short.put_together(&self.pending, |requests| self.fit_in_batch(requests.iter().copied()))
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
