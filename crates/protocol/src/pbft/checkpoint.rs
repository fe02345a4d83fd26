//! Checkpoints, their certificates, and the truncation of the log (PBFT §4.3).

use super::message::{Checkpoint, CheckpointCertificate, PbftMessage};
use super::persistence::{Deferred, Record};
use super::{Pbft, Step, choice, statement};
use crate::{Action, Misbehaviour};
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{ClientId, Digest, ReplicaId, RequestNumber, Seq};

impl Pbft {
    pub(super) fn on_executed(&mut self, step: &mut Step, seq: Seq, state: Option<Digest>) {
        self.acknowledged = self.acknowledged.max(seq);
        // Who stands in signs what executors have told it, as any witness: others count on that.
        if let Some(state) = state.filter(|_| !self.config.is_witness(self.me())) {
            self.make_checkpoint(step, seq, state);
        }
    }

    /// Has it written that this replica made a checkpoint.
    pub(super) fn make_checkpoint(&mut self, step: &mut Step, seq: Seq, state: Digest) {
        if seq <= self.stable {
            return;
        }
        self.own_checkpoints.insert(seq, state);
        self.made = self.made.max(seq);
        // It is said only once it is on disk that it was made: see `recovery`.
        let then = Deferred::Checkpoint(Checkpoint { seq, state });
        self.outbox.persist(step.actions, &Record::MadeCheckpoint(seq), then);
        // The others may have been faster.
        if let Some(certificate) = self.behind.take() {
            self.on_certificate(step, certificate);
        }
    }

    pub(super) fn release_checkpoint(&mut self, step: &mut Step, own: Checkpoint) {
        self.made_durable = self.made_durable.max(own.seq);
        if own.seq > self.stable {
            step.broadcast_signed(PbftMessage::Checkpoint(own));
            for witness in self.config.settings.witnesses.clone() {
                self.tell_made(step, witness, own);
            }
        }
    }

    pub(super) fn on_checkpoint(&mut self, step: &mut Step, from: ReplicaId, own: Checkpoint, proof: Proof) {
        let Checkpoint { seq, state } = own;
        // One far ahead is learnt from its certificate, once it is stable.
        if !self.is_in_watermarks(seq) || !self.is_checkpoint(seq) {
            return;
        }
        let votes = self.checkpoints.entry(seq).or_default();
        match votes.get(&from) {
            Some((known, _)) if *known == state => return,
            Some((known, known_proof)) => {
                let other = Checkpoint { seq, state: *known };
                let statements = [(own, &proof), (other, known_proof)]
                    .map(|(checkpoint, proof)| statement(&PbftMessage::Checkpoint(checkpoint), proof));
                self.accuse(step, from, Misbehaviour::ConflictingCheckpoint(seq), statements.to_vec());
                // Somebody who had it may have signed the other one, for all checkpoints to come.
                if self.own_checkpoints.get(&seq) != Some(&state) {
                    return;
                }
            }
            None => {}
        }
        let votes = self.checkpoints.entry(seq).or_default();
        votes.insert(from, (state, proof));
        let agreeing: Vec<_> = votes
            .iter()
            .filter(|(_, (theirs, _))| *theirs == state)
            .map(|(signer, (_, proof))| (*signer, proof.clone()))
            .collect();
        if agreeing.len() >= self.quorums().agreement() {
            self.on_certificate(step, CheckpointCertificate { checkpoint: own, votes: agreeing });
        }
    }

    pub(super) fn on_relayed_certificate(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        certificate: CheckpointCertificate,
    ) {
        if choice::is_certificate(&self.terms(), &certificate) {
            self.on_certificate(step, certificate);
        } else {
            self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
    }

    /// A checkpoint is proven stable: if this replica shares its state the log is truncated, and
    /// else it is to be brought there.
    pub(super) fn on_certificate(&mut self, step: &mut Step, certificate: CheckpointCertificate) {
        let Checkpoint { seq, state } = certificate.checkpoint;
        let known = self.behind.as_ref().map_or(self.stable, |behind| behind.checkpoint.seq);
        if seq <= self.stable || seq < known || self.keeping.iter().any(|kept| kept.checkpoint.seq >= seq) {
            return;
        }
        self.accuse_of_wrong_checkpoint(step, seq, state);
        if self.own_checkpoints.get(&seq) == Some(&state) {
            self.keep_state(step, certificate);
        } else {
            // A target that the others have gone beyond is worth nothing any more; and what lies
            // beyond the log can't be executed up to.
            let is_fetching = self.fetching.as_ref().is_some_and(|fetching| fetching.checkpoint.seq < seq);
            let is_out_of_reach = seq > self.high_watermark();
            self.behind = Some(certificate);
            if is_fetching || is_out_of_reach {
                self.fetch_state(step);
            }
        }
    }

    fn accuse_of_wrong_checkpoint(&mut self, step: &mut Step, seq: Seq, state: Digest) {
        let wrong: Vec<_> = self
            .checkpoints
            .get(&seq)
            .into_iter()
            .flatten()
            .filter(|(_, (theirs, _))| *theirs != state)
            .map(|(signer, (theirs, proof))| (*signer, Checkpoint { seq, state: *theirs }, proof.clone()))
            .collect();
        for (signer, checkpoint, proof) in wrong {
            let said = statement(&PbftMessage::Checkpoint(checkpoint), &proof);
            self.accuse(step, signer, Misbehaviour::WrongCheckpoint(seq), alloc::vec![said]);
        }
    }

    /// A proven checkpoint becomes stable here once its state is on disk: this replica votes and
    /// executes no further above the one before than a log is long, so that it can start again from that.
    fn keep_state(&mut self, step: &mut Step, certificate: CheckpointCertificate) {
        let Checkpoint { seq, state } = certificate.checkpoint;
        if self.behind.as_ref().is_some_and(|behind| behind.checkpoint.seq <= seq) {
            self.behind = None;
        }
        // The engine drops a transfer to here or below when it hears of `Stable`.
        self.fetching.take_if(|fetching| fetching.checkpoint.seq <= seq);
        step.actions.push(Action::Stable { seq, state });
        if self.keeping.is_empty() {
            step.actions.push(Action::KeepState { seq, state });
        }
        self.keeping.push_back(certificate);
    }

    pub(super) fn on_state_kept(&mut self, step: &mut Step, seq: Seq) {
        let kept = self.keeping.pop_front().filter(|kept| kept.checkpoint.seq == seq);
        self.make_stable(step, kept.expect("the state was asked to be kept, and no other since"));
        if let Some(Checkpoint { seq, state }) = self.keeping.front().map(|next| next.checkpoint) {
            step.actions.push(Action::KeepState { seq, state });
        }
    }

    fn make_stable(&mut self, step: &mut Step, certificate: CheckpointCertificate) {
        let checkpoint = certificate.checkpoint;
        let seq = checkpoint.seq;
        self.stable = seq;
        self.stable_certificate = Some(certificate);
        self.log.truncate(seq);
        self.wanted.retain(|(wanted, _), _| *wanted > seq);
        self.given.retain(|(given, ..), _| *given > seq);
        self.checkpoints = self.checkpoints.split_off(&seq.next());
        self.own_checkpoints = self.own_checkpoints.split_off(&seq);
        self.attested.truncate(seq);
        self.next_seq = self.next_seq.max(seq.next());
        self.assign_from_new_view();
        step.actions.push(Action::Compact(self.records()));
        // After what was rewritten, so that the records belong to this state when this is on disk.
        let certificate = self.stable_certificate.clone().expect("it was set above");
        self.outbox.persist(step.actions, &Record::Stable(certificate), Deferred::Stable(seq));
        self.release_early(step);
        self.stand_in_if_missed(step, checkpoint);
    }

    /// Fetches the state where execution alone can't bring this replica to the checkpoint that it is behind of:
    /// it executed past it into another state, or it was behind before and has not moved since. Others say what
    /// it lacks once they hear where it stands.
    pub(super) fn fetch_state_if_stuck(&mut self, step: &mut Step, is_stuck: bool) {
        let Some(behind) = &self.behind else { return };
        let seq = behind.checkpoint.seq;
        let has_diverged = self.executed >= seq;
        if has_diverged || is_stuck {
            self.fetch_state(step);
        }
    }

    pub(super) fn fetch_state(&mut self, step: &mut Step) {
        let Some(behind) = &self.behind else { return };
        let Checkpoint { seq, state } = behind.checkpoint;
        self.fetching = Some(behind.clone());
        step.actions.push(Action::FetchState { seq, state });
    }

    pub(super) fn on_state_installed(
        &mut self,
        step: &mut Step,
        seq: Seq,
        executed: &[(ClientId, RequestNumber)],
    ) {
        if self.fetching.is_none() {
            return self.on_standing_in(seq);
        }
        let fetched = self.fetching.take().filter(|fetched| fetched.checkpoint.seq == seq);
        let fetched = fetched.expect("only the state last asked for is installed");
        (self.executed, self.acknowledged, self.installed) = (seq, seq, seq);
        self.forget_tentative();
        // It may have come by another way than the state that it has now.
        self.log.forget_executed();
        self.pending.forget_executed();
        for (client, number) in executed {
            self.pending.note_executed(*client, *number);
        }
        self.own_checkpoints.retain(|own, _| *own <= seq);
        self.own_checkpoints.insert(seq, fetched.checkpoint.state);
        // Those that the state has left behind and that are not under way to the disk never will be.
        self.keeping.truncate(1);
        self.keep_state(step, fetched);
    }
}
