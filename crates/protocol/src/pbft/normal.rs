//! The normal case: three phases, and execution in order (PBFT §4.2).

use super::log::{Assignment, Entry, Tally};
use super::message::{PbftMessage, PrePrepare, Vote};
use super::persistence::{Deferred, Record};
use super::{Pbft, Step};
use crate::{Action, Auth, Batch, Decision, Misbehaviour, Request, batch};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{ClientId, Digest, ReplicaId, RequestNumber, Seq, View};

impl Pbft {
    pub(super) fn on_request(&mut self, step: &mut Step, request: Request) {
        let copy = request.clone();
        if self.admit(step, request) && self.is_in_view && !self.is_leading() {
            step.send(self.primary(), PbftMessage::Forward(copy));
        }
    }

    pub(super) fn on_forward(&mut self, step: &mut Step, request: Request) {
        self.admit(step, request);
    }

    fn admit(&mut self, step: &mut Step, request: Request) -> bool {
        let client = request.client;
        let has_macs = request.has_macs();
        if request.is_authentic && has_macs && self.distrust.has(step.now, client) {
            if !self.pending.has_executed(client, request.number) {
                step.actions.push(Action::MustSign { client, number: request.number });
            }
            return false;
        }
        let (number, is_complaint) = (request.number, !has_macs && !self.is_leading());
        let is_new = request.is_authentic && self.pending.insert(step.now, request);
        if is_new {
            self.finish_proposals(step, (client, number));
        }
        if is_new && is_complaint && self.is_under_way(client, number) {
            self.pending.note_client_in_batch(client);
        }
        is_new
    }

    /// Whether the primary of this view has proposed this request, and it is not executed yet.
    pub(super) fn is_under_way(&self, client: ClientId, number: RequestNumber) -> bool {
        self.log.above(self.executed).any(|entry| {
            let batch = entry.assignment.and_then(|assignment| entry.bodies.get(&assignment.digest));
            batch.is_some_and(|batch| {
                batch.requests.iter().any(|known| (known.client, known.number) == (client, number))
            })
        })
    }

    /// As primary: assigns numbers to waiting requests while the pipeline and the watermarks allow.
    /// What arrives while the pipeline is full, or while much is under way, gathers into the next batch.
    pub(super) fn propose(&mut self, step: &mut Step) {
        let settings = &self.config.settings;
        let (max_requests, max_bytes, pipeline) =
            (settings.max_batch_requests, settings.max_batch_bytes, settings.pipeline);
        while self.is_leading() && self.membership.is_voter() {
            let seq = self.next_seq;
            let last = self.high_watermark().min(self.end());
            let is_far = seq.0 > self.executed.0.saturating_add(pipeline);
            if seq > last || is_far || !self.may_stand_at(seq) {
                return;
            }
            // After a view without progress only signed requests: they are good for everybody.
            let signed_only = self.fruitless_views > 0;
            let batch = if self.pending.has_unproposed(signed_only) {
                if self.gathers() {
                    return;
                }
                let requests = self.pending.take_batch(max_requests, max_bytes, signed_only);
                Batch { time: step.now, requests }
            } else if seq <= self.fill_to {
                Batch::null()
            } else {
                return;
            };
            self.next_seq = seq.next();
            self.assign(step, seq, Arc::new(batch));
        }
    }

    /// Whether to wait for more requests.
    fn gathers(&self) -> bool {
        let settings = &self.config.settings;
        let waiting = self.pending.unproposed();
        if !settings.adaptive_batching || waiting >= settings.max_batch_requests {
            return false;
        }
        let assigned = |seq| {
            let entry = self.log.get(Seq(seq))?;
            Some(entry.bodies.get(&entry.assignment?.digest)?.requests.len())
        };
        let under_way: usize = (self.executed.0 + 1..self.next_seq.0).filter_map(assigned).sum();
        under_way >= settings.gather_from && batch::are_few(waiting, under_way)
    }

    fn assign(&mut self, step: &mut Step, seq: Seq, batch: Arc<Batch>) {
        let (view, digest) = (self.view, batch.digest());
        let entry = self.log.entry(seq);
        entry.assignment = Some(Assignment { is_accepted: true, ..Assignment::new(view, digest, true) });
        entry.bodies.insert(digest, Arc::clone(&batch));
        let proposal = PrePrepare { view, seq, batch };
        self.stand_for(step, view, seq, digest, Deferred::Propose(proposal));
    }

    pub(super) fn on_pre_prepare(&mut self, step: &mut Step, from: ReplicaId, proposal: PrePrepare) {
        if from != self.quorums().primary(proposal.view) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
        let digest = proposal.batch.digest();
        self.take_proposal(step, from, proposal, digest);
    }

    /// As backup: takes a proposal of the primary of its view.
    pub(super) fn take_proposal(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        proposal: PrePrepare,
        digest: Digest,
    ) {
        let PrePrepare { view, seq, batch } = proposal;
        if from == self.me() || !self.is_in_watermarks(seq) {
            return;
        }
        if view != self.view || !self.is_in_view {
            return self.keep_decidable(view, seq, digest, batch);
        }
        let is_authentic =
            batch.requests.iter().all(|request| request.is_authentic || self.pending.has_authentic(request));
        let is_settled = self.is_settled_by_new_view(seq);
        match self.log.entry(seq).assignment.as_mut() {
            Some(assignment) if assignment.digest != digest => {
                return self.accuse(step, from, Misbehaviour::ConflictingPrePrepare(view, seq), Vec::new());
            }
            Some(assignment) => {
                assignment.is_authentic |= is_authentic;
                assignment.has_primary = true;
            }
            None if is_settled => return,
            // It may be its clock that is wrong, or this replica's.
            None if batch.time > step.now + self.config.settings.max_clock_skew => return,
            None => {
                if !self.is_acceptable(&batch) {
                    return self.accuse(step, from, Misbehaviour::InvalidBatch(view, seq), Vec::new());
                }
                let assignment = Assignment::new(view, digest, is_authentic);
                self.log.entry(seq).assignment = Some(assignment);
                self.note_proposal(step.now, seq, &batch);
            }
        }
        self.log.entry(seq).bodies.insert(digest, batch);
        self.accept_assignment(step, seq);
        self.prepare_if_due(step, seq);
    }

    /// While this replica is alone in asking for a later view, the others may decide a batch, and be done
    /// with it before it could be fetched.
    fn keep_decidable(&mut self, view: View, seq: Seq, digest: Digest, batch: Arc<Batch>) {
        let is_left_behind = !self.is_in_view && view < self.view;
        if is_left_behind && self.is_acceptable(&batch) {
            let bodies = &mut self.log.entry(seq).bodies;
            if bodies.is_empty() {
                bodies.insert(digest, batch);
            }
        }
    }

    /// Whether a correct primary could have made this batch. Its own settings are the measure: a
    /// group's replicas share them.
    pub(super) fn is_acceptable(&self, batch: &Batch) -> bool {
        self.fit_in_batch(batch.requests.iter()) && (batch.is_null() || !batch.requests.is_empty())
    }

    /// Whether so many requests, of so many bytes, may be in one batch: one always may.
    pub(super) fn fit_in_batch<'a>(&self, requests: impl ExactSizeIterator<Item = &'a Request>) -> bool {
        let settings = &self.config.settings;
        batch::fit(requests, settings.max_batch_requests, settings.max_batch_bytes)
    }

    /// Votes for an assignment as soon as its batch is here and its requests may be believed: each
    /// authentic here, or f + 1 replicas stand for them, one of which is correct (TOCS'02 §3.2).
    pub(super) fn accept_assignment(&mut self, step: &mut Step, seq: Seq) {
        if !self.is_in_view || !self.membership.is_voter() || !self.may_stand_at(seq) {
            return;
        }
        let one_correct = self.quorums().one_correct();
        let Some(entry) = self.log.get_mut(seq) else { return };
        let Some(assignment) = entry.assignment.filter(|assignment| !assignment.is_accepted) else { return };
        let (view, digest) = (assignment.view, assignment.digest);
        let Some(batch) = entry.bodies.get(&digest).cloned() else {
            return self.fetch_batch(step, seq, digest);
        };
        if !assignment.is_authentic && entry.standing_for(&assignment) < one_correct {
            return;
        }
        entry.assignment = Some(Assignment { is_accepted: true, ..assignment });
        self.pending.note_proposed(&batch);
        // The primary's proposal stands for its prepare (PBFT §4.2).
        let is_backup = self.primary() != self.me();
        let vote = Vote { view, seq, digest };
        let then = if is_backup { Deferred::Prepare(vote) } else { Deferred::Nothing };
        self.stand_for(step, view, seq, digest, then);
        self.prepare_if_due(step, seq);
    }

    /// Notes in Q, and on disk, that this replica stands for a batch that it has.
    pub(super) fn stand_for(
        &mut self,
        step: &mut Step,
        view: View,
        seq: Seq,
        digest: Digest,
        then: Deferred,
    ) {
        let entry = self.log.entry(seq);
        if digest == Digest::NULL {
            entry.bodies.entry(digest).or_default();
        }
        let batch = Arc::clone(entry.bodies.get(&digest).expect("it has the batch that it stands for"));
        entry.note_pre_prepared(view, digest);
        self.outbox.persist(step.actions, &Record::PrePrepared { view, seq, batch }, then);
    }

    pub(super) fn on_prepare(&mut self, step: &mut Step, from: ReplicaId, vote: &Vote) {
        if from == self.quorums().primary(vote.view) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
        if self.file_vote(step, from, vote, |entry| &mut entry.prepares) {
            self.accept_assignment(step, vote.seq);
            self.prepare_if_due(step, vote.seq);
        }
    }

    pub(super) fn on_commit(&mut self, step: &mut Step, from: ReplicaId, vote: &Vote) {
        self.file_vote(step, from, vote, |entry| &mut entry.commits);
        if let Some((view, _)) = self.log.get(vote.seq).and_then(|entry| entry.committed(self.quorums())) {
            self.witness(vote.seq, view);
        }
    }

    pub(super) fn on_decided(&mut self, from: ReplicaId, seq: Seq, digest: Digest) {
        if seq > self.executed && self.is_in_watermarks(seq) {
            self.log.entry(seq).decided.entry(from).or_insert(digest);
        }
    }

    /// Files a vote of somebody else or of this replica; says whether it counts.
    fn file_vote(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        vote: &Vote,
        votes: impl FnOnce(&mut Entry) -> &mut alloc::collections::BTreeMap<ReplicaId, (View, Digest)>,
    ) -> bool {
        if !self.is_in_watermarks(vote.seq) {
            return false;
        }
        match Entry::file(votes(self.log.entry(vote.seq)), from, vote) {
            Tally::Counted => true,
            Tally::Stale => false,
            Tally::Conflict => {
                self.accuse(step, from, Misbehaviour::ConflictingVote(vote.view, vote.seq), Vec::new());
                false
            }
        }
    }

    /// Moves to phase three once the assignment has prepared.
    pub(super) fn prepare_if_due(&mut self, step: &mut Step, seq: Seq) {
        let quorums = self.quorums();
        let (is_in_view, is_voter) = (self.is_in_view, self.membership.is_voter());
        let Some(entry) = self.log.get_mut(seq) else { return };
        let Some(assignment) = entry.has_prepared(quorums) else { return };
        let certificate = (assignment.view, assignment.digest);
        if !is_in_view || !is_voter || entry.prepared == Some(certificate) {
            return;
        }
        entry.prepared = Some(certificate);
        let vote = Vote { view: assignment.view, seq, digest: assignment.digest };
        self.note_own_commit(vote);
        self.outbox.persist(step.actions, &Record::Prepared(vote), Deferred::Commit(vote));
    }

    /// Sends a prepare that is on disk, and counts it.
    pub(super) fn release_prepare(&mut self, step: &mut Step, vote: Vote) {
        if self.is_current(&vote) {
            step.broadcast(PbftMessage::Prepare(vote));
            self.on_prepare(step, self.me(), &vote);
        }
    }

    /// Sends a commit that is on disk, and counts it.
    pub(super) fn release_commit(&mut self, step: &mut Step, vote: Vote) {
        if self.is_current(&vote) {
            let message = PbftMessage::Commit(vote);
            step.actions.push(if self.can_commit_wait(&vote) {
                Action::Piggyback(message)
            } else {
                Action::Broadcast { message, auth: Auth::Mac }
            });
            self.on_commit(step, self.me(), &vote);
        }
    }

    /// Sends a proposal that is on disk.
    pub(super) fn release_proposal(&mut self, step: &mut Step, proposal: PrePrepare) {
        if self.is_in_view && proposal.view == self.view {
            let seq = proposal.seq;
            let Some(assignment) = self.log.get_mut(seq).and_then(|entry| entry.assignment.as_mut()) else {
                return;
            };
            assignment.is_durable = true;
            let digest = assignment.digest;
            self.announce_proposal(step, proposal, digest);
            // In a group of one the proposal alone prepares.
            self.prepare_if_due(step, seq);
        }
    }

    /// Whether a vote still means something: its view goes on and its number is not yet truncated.
    fn is_current(&self, vote: &Vote) -> bool {
        self.is_in_view && vote.view == self.view && self.is_in_watermarks(vote.seq)
    }

    /// Notes, also on disk, what is executed: a checkpoint says that this replica has the state, and has to
    /// be true after a restart as well.
    fn note_executed(&mut self, step: &mut Step, seq: Seq, digest: Digest, batch: &Arc<Batch>) {
        let entry = self.log.entry(seq);
        if entry.executed == Some(digest) {
            return;
        }
        entry.executed = Some(digest);
        entry.bodies.entry(digest).or_insert_with(|| Arc::clone(batch));
        if let Some((digest, batch)) = entry.executed() {
            self.outbox.persist(step.actions, &Record::Executed { seq, digest, batch }, Deferred::Nothing);
        }
    }

    /// The last number that may be executed before another stable checkpoint is on disk. So a replica
    /// that restarts knows how far it had come at most, whatever was not on disk yet.
    pub(super) fn end_of_execution(&self) -> Seq {
        Seq(self.stable_durable.0 + self.config.settings.log_size)
    }

    /// Whether anything may be executed after what was. The engine has to say first that this was not the
    /// last, where it may have been. And a state that was fetched has to be on disk: so whoever signs a
    /// checkpoint can get to it from its own disk alone, whatever it hears first when it starts again.
    pub(super) fn may_go_on(&self) -> bool {
        let is_acknowledged = !self.is_checkpoint(self.executed) || self.acknowledged >= self.executed;
        !self.is_over() && is_acknowledged && self.installed <= self.stable_durable
    }

    /// Executes what an agreement quorum has committed, f + 1 others have executed, or this replica had
    /// executed before it restarted, in order and without gaps.
    pub(super) fn execute_committed(&mut self, step: &mut Step) {
        loop {
            let seq = self.executed.next();
            if seq > self.end_of_execution() || !self.may_go_on() {
                return;
            }
            let Some(entry) = self.log.get(seq) else { return };
            let executed = || entry.executed.or_else(|| entry.executed_by_others(self.quorums()));
            let in_this_view = |digest| (self.view, digest);
            let decided = entry.committed(self.quorums()).or_else(|| executed().map(in_this_view));
            let Some((view, digest)) = decided else { return };
            let batch = match entry.bodies.get(&digest) {
                Some(batch) => Arc::clone(batch),
                None if digest == Digest::NULL => Arc::new(Batch::null()),
                None => return self.fetch_batch(step, seq, digest),
            };
            self.executed = seq;
            self.note_agreement(step.now, seq);
            self.note_executed(step, seq, digest, &batch);
            self.next_seq = self.next_seq.max(seq.next());
            for request in &batch.requests {
                self.pending.note_executed(request.client, request.number);
            }
            if self.is_in_view && !batch.requests.is_empty() {
                self.fruitless_views = 0;
            }
            self.tentative = None;
            let (is_checkpoint, is_eager) = (self.is_checkpoint(seq), self.is_eager(seq, &batch));
            let decision = Decision { seq, view, digest, batch, is_checkpoint, is_eager };
            step.actions.push(Action::Execute(decision));
        }
    }
}
