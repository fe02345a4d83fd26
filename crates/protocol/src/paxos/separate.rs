//! Large requests apart from the order (*separate request transmission*, TOCS'02 §5.1.5): their clients send
//! them to all replicas, and the leader proposes them by name. So its link carries no more of them than any
//! other's.
//!
//! An acceptor accepts such a proposal once it has all of it, and the digest tells whether that is what the
//! leader means. One that lacks something asks for the whole, at once or after `separate_patience`: until then what is
//! named may still come by itself.

use super::message::{PaxosMessage, Proposal};
use super::{Paxos, Step};
use crate::separate::ShortProposal;
use crate::{Batch, Misbehaviour, Request, batch, separate};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{ClientId, Digest, ReplicaId, RequestNumber, Seq, View};

impl Paxos {
    /// A client has sent this request to the leader, and to this replica for whatever it is proposed as.
    pub(super) fn on_body(&mut self, step: &mut Step, request: Request) {
        if request.is_authentic && self.is_separate(&request) {
            let settings = &self.config.settings;
            let name = (request.client, request.number);
            let room = separate::room(settings.max_batch_bytes, settings.pipeline);
            if self.state.pending.hold_body(request, room) {
                self.finish_proposals(step, name);
            }
        }
    }

    fn is_separate(&self, request: &Request) -> bool {
        let least = self.config.settings.separate_bytes;
        least > 0 && request.operation.len() >= least
    }

    /// Tells the others, each as shortly as it can do with.
    pub(super) fn announce_proposal(&mut self, step: &mut Step, proposal: Proposal, digest: Digest) {
        let Some(short) = self.shortened(&proposal, digest) else {
            return step.broadcast(PaxosMessage::Accept(proposal));
        };
        let others: Vec<_> = self.quorums().replicas().filter(|id| *id != self.me()).collect();
        let mut lacking = BTreeSet::new();
        for other in &others {
            let lacked = short.named.iter().filter(|named| self.state.lacked.take(*other, named.client));
            if lacked.count() > 0 {
                lacking.insert(*other);
            }
        }
        for other in others {
            step.send(
                other,
                if lacking.contains(&other) {
                    PaxosMessage::Accept(proposal.clone())
                } else {
                    PaxosMessage::ShortAccept(short.clone())
                },
            );
        }
    }

    /// The proposal with its large requests by name, if there are any.
    fn shortened(&self, proposal: &Proposal, digest: Digest) -> Option<ShortProposal> {
        let Proposal { view, seq, batch } = proposal;
        ShortProposal::of((*view, *seq, digest), batch, |request| self.is_separate(request))
    }

    pub(super) fn on_short_accept(&mut self, step: &mut Step, from: ReplicaId, short: ShortProposal) {
        let (view, seq) = (short.view, short.seq);
        if from != self.quorums().primary(view) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage);
        }
        match self.put_together(&short) {
            Some(batch) => self.take_whole(step, &short, batch),
            None if view >= self.state.view && seq > self.state.executed => {
                self.follow_into(step, view, &[]);
                if self.may_wait_for(&short) {
                    self.state.unfinished.hold(0, short);
                } else {
                    step.send(from, PaxosMessage::FetchProposal { view, seq });
                }
            }
            None => {}
        }
    }

    /// Whether to wait for what this replica lacks of a proposal, as long as `separate_patience` says.
    fn may_wait_for(&self, short: &ShortProposal) -> bool {
        let settings = &self.config.settings;
        !settings.separate_patience.is_zero()
            && self.is_in_window(short.seq)
            && short.requests() <= settings.max_batch_requests
    }

    /// A client's request has come: puts together what waits for it.
    pub(super) fn finish_proposals(&mut self, step: &mut Step, name: (ClientId, RequestNumber)) {
        let mut unfinished = core::mem::take(&mut self.state.unfinished);
        let finished = unfinished.finish(name, |short| self.put_together(short));
        self.state.unfinished = unfinished;
        for (short, _, batch) in finished {
            self.take_whole(step, &short, batch);
        }
    }

    /// Takes a proposal that its leader has made, put together, as if it had come so.
    fn take_whole(&mut self, step: &mut Step, short: &ShortProposal, batch: Batch) {
        let from = self.quorums().primary(short.view);
        let proposal = Proposal { view: short.view, seq: short.seq, batch: Arc::new(batch) };
        self.take_proposal(step, from, proposal, short.digest);
    }

    /// Asks for the whole of what has been waited for in vain.
    pub(super) fn fetch_unfinished(&mut self, step: &mut Step) {
        self.state.unfinished.drop_before(self.state.view, self.state.executed);
        if !self.state.is_in_view {
            return;
        }
        let view = self.state.view;
        for seq in self.state.unfinished.overdue(self.patience()) {
            if self.state.log.get(seq).is_none_or(|entry| entry.proposal.is_none()) {
                step.send(self.leader(), PaxosMessage::FetchProposal { view, seq });
            }
        }
    }

    /// Whether this batch may still come by itself, or from the leader.
    pub(super) fn may_come(&self, seq: Seq, digest: Digest) -> bool {
        self.state.is_in_view && self.state.unfinished.has((self.state.view, seq, digest), self.patience())
    }

    fn patience(&self) -> u32 {
        let settings = &self.config.settings;
        separate::periods(settings.separate_patience, settings.status_period)
    }

    /// The batch that is meant, if this replica has all of it.
    fn put_together(&self, short: &ShortProposal) -> Option<Batch> {
        let settings = &self.config.settings;
        let fits = |requests: &[&Request]| {
            batch::fit(requests.iter().copied(), settings.max_batch_requests, settings.max_batch_bytes)
        };
        short.put_together(&self.state.pending, fits)
    }

    /// As leader: somebody lacks some of what this replica has proposed by name.
    pub(super) fn on_fetch_proposal(&mut self, step: &mut Step, from: ReplicaId, view: View, seq: Seq) {
        if view != self.state.view || !self.is_leading() {
            return;
        }
        let Some(entry) = self.state.log.get(seq) else { return };
        let Some(accepted) = entry.accepted.filter(|a| a.is_durable && a.view == view) else { return };
        let Some(batch) = entry.batch(accepted.digest) else { return };
        if !self.may_give(step.now, (seq, accepted.digest, from)) {
            return;
        }
        let lacked: Vec<_> =
            batch.requests.iter().filter(|r| self.is_separate(r)).map(|r| r.client).collect();
        lacked.into_iter().for_each(|client| self.state.lacked.note(from, client));
        step.send(from, PaxosMessage::Accept(Proposal { view, seq, batch }));
    }
}
