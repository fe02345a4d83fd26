//! The normal case: a leader proposes, and the others accept.

use super::log::Accepted;
use super::message::{PaxosMessage, Proposal, Vote};
use super::persistence::{Deferred, Record};
use super::{Paxos, Step};
use crate::{Batch, Misbehaviour, Request, batch};
use alloc::sync::Arc;
use althing_types::{Digest, ReplicaId, Seq, View};

impl Paxos {
    pub(super) fn on_request(&mut self, step: &mut Step, request: Request) {
        if !request.is_authentic {
            return;
        }
        let copy = request.clone();
        if !self.state.pending.insert(step.now, request) {
            return;
        }
        self.finish_proposals(step, (copy.client, copy.number));
        if self.state.is_in_view && !self.is_leading() {
            step.send(self.leader(), PaxosMessage::Forward(copy));
        }
    }

    /// The sender has found the request authentic, whatever its MACs look like from here.
    pub(super) fn on_forward(&mut self, step: &mut Step, request: Request) {
        let name = (request.client, request.number);
        if self.state.pending.insert(step.now, Request { is_authentic: true, ..request }) {
            self.finish_proposals(step, name);
        }
    }

    /// As leader: assigns numbers to waiting requests while the pipeline and the log allow.
    /// What arrives while the pipeline is full, or while much is under way, gathers into the next batch.
    pub(super) fn propose(&mut self, step: &mut Step) {
        let settings = &self.config.settings;
        let (max_requests, max_bytes, pipeline, log_size) =
            (settings.max_batch_requests, settings.max_batch_bytes, settings.pipeline, settings.log_size);
        while self.is_leading() && self.is_voting() {
            let seq = self.state.next_seq;
            let is_far = seq.0 > self.state.executed.0.saturating_add(pipeline);
            if is_far || seq.0 > self.state.stable.0 + log_size || seq > self.end() {
                return;
            }
            let batch = if self.state.pending.has_unproposed(false) {
                if self.gathers() {
                    return;
                }
                let requests = self.state.pending.take_batch(max_requests, max_bytes, false);
                Batch { time: step.now, requests }
            } else if seq <= self.state.fill_to {
                Batch::null()
            } else {
                return;
            };
            self.state.next_seq = seq.next();
            let digest = batch.digest();
            let entry = self.state.log.entry(seq);
            entry.batches.insert(digest, Arc::new(batch));
            entry.proposal = Some(digest);
            self.accept(step, seq);
        }
    }

    /// Whether to wait for more requests.
    fn gathers(&self) -> bool {
        let settings = &self.config.settings;
        let waiting = self.state.pending.unproposed();
        if !settings.adaptive_batching || waiting >= settings.max_batch_requests {
            return false;
        }
        let proposed = |seq| {
            let entry = self.state.log.get(Seq(seq))?;
            Some(entry.batches.get(&entry.proposal?)?.requests.len())
        };
        let under_way: usize = (self.state.executed.0 + 1..self.state.next_seq.0).filter_map(proposed).sum();
        under_way >= settings.gather_from && batch::are_few(waiting, under_way)
    }

    pub(super) fn on_accept(&mut self, step: &mut Step, from: ReplicaId, proposal: Proposal) {
        let digest = proposal.batch.digest();
        if from != self.quorums().primary(proposal.view) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage);
        }
        self.take_proposal(step, from, proposal, digest);
    }

    /// Takes a proposal from its leader, which has accepted it.
    pub(super) fn take_proposal(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        proposal: Proposal,
        digest: Digest,
    ) {
        let Proposal { view, seq, batch } = proposal;
        if from == self.me() {
            return;
        }
        self.follow_into(step, view, &[]);
        if !self.is_in_window(seq) {
            return;
        }
        let entry = self.state.log.entry(seq);
        entry.batches.insert(digest, batch);
        entry.file(from, &Vote { seq, view, digest });
        if view == self.state.view {
            entry.proposal = Some(digest);
            self.accept(step, seq);
        }
    }

    /// Accepts what the leader of this view proposes, as soon as it is here: notes that, also on disk, and says so
    /// once it is there.
    pub(super) fn accept(&mut self, step: &mut Step, seq: Seq) {
        let view = self.state.view;
        if !self.state.is_in_view || !self.is_voting() {
            return;
        }
        let Some(entry) = self.state.log.get_mut(seq) else { return };
        let Some(digest) = entry.proposal else { return };
        if entry.accepted.is_some_and(|accepted| accepted.view == view) {
            return;
        }
        let Some(batch) = entry.batch(digest) else { return self.fetch_batch(step, seq, digest) };
        entry.accepted = Some(Accepted { view, digest, is_durable: false });
        self.state.pending.note_proposed(&batch);
        let then = Deferred::Accepted(Vote { seq, view, digest });
        self.state.outbox.persist(step.actions, &Record::Accepted { view, seq, batch }, then);
    }

    /// Says what this replica has accepted, which is on disk, and counts it.
    pub(super) fn release_accepted(&mut self, step: &mut Step, vote: Vote) {
        let Vote { seq, view, digest } = vote;
        let me = self.me();
        let is_leading = self.is_leading();
        let Some(entry) = self.state.log.get_mut(seq) else { return };
        let is_last = |accepted: &&mut Accepted| accepted.view == view;
        let Some(accepted) = entry.accepted.as_mut().filter(is_last) else { return };
        accepted.is_durable = true;
        entry.file(me, &vote);
        if view != self.state.view || !self.state.is_in_view {
            // It is in the promise that this replica has made since.
            return;
        }
        let batch = entry.batch(digest).filter(|_| is_leading && !self.is_from_start(seq));
        match batch {
            Some(batch) => self.announce_proposal(step, Proposal { view, seq, batch }, digest),
            None => step.broadcast(PaxosMessage::Accepted(vote)),
        }
    }

    /// Whether the start of the present view proposes something for a number, as everybody knows.
    pub(super) fn is_from_start(&self, seq: Seq) -> bool {
        let start = self.state.start_view.as_ref();
        start.is_some_and(|start| start.values.binary_search_by_key(&seq, |(seq, _)| *seq).is_ok())
    }

    pub(super) fn on_accepted(&mut self, from: ReplicaId, vote: &Vote) {
        if self.is_in_window(vote.seq) {
            self.state.log.entry(vote.seq).file(from, vote);
            self.witness(vote.seq);
        }
    }

    pub(super) fn on_decided(&mut self, seq: Seq, digest: Digest) {
        if seq > self.state.executed && self.is_in_window(seq) {
            let view = self.state.view;
            self.state.log.entry(seq).decided.get_or_insert((view, digest));
        }
    }

    /// Goes into a view that its leader has started, if this replica has promised none above.
    pub(super) fn follow_into(&mut self, step: &mut Step, view: View, values: &[(Seq, Digest)]) {
        if view > self.state.view || (view == self.state.view && !self.state.is_in_view) {
            self.begin_view(view, values);
            self.enter_view(step);
        }
    }
}
