//! Checkpoints of the final state, their certificates, and the truncation of the log (Zyzzyva §3.4).
//!
//! Only what is final is signed, so that a certificate needs no view. The order goes on beyond a checkpoint
//! once that is certified; its state may still be on its way to the disk then.

use super::message::{Checkpoint, CheckpointCertificate, ZyzzyvaMessage};
use super::persistence::{Deferred, Record};
use super::{Step, Zyzzyva, choice, statement};
use crate::{Action, Misbehaviour};
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{ClientId, Digest, ReplicaId, RequestNumber, Seq};

impl Zyzzyva {
    pub(super) fn on_executed(&mut self, step: &mut Step, seq: Seq, state: Option<Digest>) {
        self.acknowledged = self.acknowledged.max(seq);
        let Some(state) = state else { return };
        if seq <= self.stable {
            return;
        }
        self.own_checkpoints.insert(seq, (state, false));
        // Whoever signs it gets to it again from its own disk: what led there is final there too.
        let own = Checkpoint { seq, state };
        self.outbox.persist(step.actions, &Record::MadeCheckpoint(own), Deferred::Checkpoint(own));
        // The others may have been faster, or it was known before this replica started.
        let known = self.base.clone().filter(|base| base.checkpoint.seq == seq);
        if let Some(certificate) = self.behind.take().or(known) {
            self.on_certificate(step, certificate);
        }
    }

    pub(super) fn release_checkpoint(&mut self, step: &mut Step, own: Checkpoint) {
        if let Some((state, is_durable)) = self.own_checkpoints.get_mut(&own.seq)
            && *state == own.state
        {
            *is_durable = true;
        }
        if own.seq > self.stable && self.is_voting() {
            step.broadcast_signed(ZyzzyvaMessage::Checkpoint(own));
        }
    }

    pub(super) fn on_checkpoint(&mut self, step: &mut Step, from: ReplicaId, own: Checkpoint, proof: Proof) {
        let Checkpoint { seq, state } = own;
        // One far ahead is learnt from its certificate, once it is stable.
        if seq <= self.stable || seq > self.high_watermark() || !self.is_checkpoint(seq) {
            return;
        }
        let votes = self.checkpoints.entry(seq).or_default();
        match votes.get(&from) {
            Some((known, _)) if *known == state => return,
            Some((known, known_proof)) => {
                let other = Checkpoint { seq, state: *known };
                let statements = [(own, &proof), (other, known_proof)]
                    .map(|(checkpoint, proof)| statement(&ZyzzyvaMessage::Checkpoint(checkpoint), proof));
                let misbehaviour = Misbehaviour::ConflictingCheckpoint(seq);
                return self.accuse(step, from, misbehaviour, statements.to_vec());
            }
            None => drop(votes.insert(from, (state, proof))),
        }
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

    /// A checkpoint is proven stable: the order goes on from there if this replica shares its state, and
    /// else it is to be brought there.
    pub(super) fn on_certificate(&mut self, step: &mut Step, certificate: CheckpointCertificate) {
        let Checkpoint { seq, state } = certificate.checkpoint;
        let known = self.behind.as_ref().map_or(self.stable, |behind| behind.checkpoint.seq);
        if seq <= self.stable || seq < known || self.keeping.iter().any(|kept| kept.checkpoint.seq >= seq) {
            return;
        }
        self.accuse_of_wrong_checkpoint(step, seq, state);
        if self.own_checkpoints.get(&seq).is_some_and(|(own, _)| *own == state) {
            if seq > self.log.base() {
                self.go_on_from(step, &certificate);
            }
            self.keep_state(step, certificate);
        } else {
            // A target that the others have gone beyond is worth nothing any more.
            let is_fetching = self.fetching.as_ref().is_some_and(|fetching| fetching.checkpoint.seq < seq);
            let is_out_of_reach = seq > self.next_checkpoint();
            self.behind = Some(certificate);
            if is_fetching || is_out_of_reach {
                self.fetch_state(step);
            }
        }
    }

    /// The checkpoint that the order waits at is stable.
    fn go_on_from(&mut self, step: &mut Step, certificate: &CheckpointCertificate) {
        self.log.begin_anew_at(certificate.checkpoint);
        self.base = Some(certificate.clone());
        self.commitments.forget_up_to(certificate.checkpoint.seq);
        self.outbox.persist(step.actions, &Record::Stable(certificate.clone()), Deferred::Nothing);
    }

    /// Goes on from a stable checkpoint that this replica has not got to by itself. What it had accepted lies
    /// before it, and counts no longer.
    pub(super) fn jump_to(&mut self, step: &mut Step, certificate: &CheckpointCertificate) {
        self.replay_jump(certificate.clone());
        self.outbox.persist(step.actions, &Record::Jumped(certificate.clone()), Deferred::Nothing);
    }

    pub(super) fn replay_jump(&mut self, certificate: CheckpointCertificate) {
        let seq = certificate.checkpoint.seq;
        self.log.jump_to(certificate.checkpoint);
        self.durable = seq;
        self.commitments.forget_up_to(seq);
        self.base = Some(certificate);
    }

    fn accuse_of_wrong_checkpoint(&mut self, step: &mut Step, seq: Seq, state: Digest) {
        let votes = self.checkpoints.get(&seq).into_iter().flatten();
        for (signer, (theirs, proof)) in votes.filter(|(_, (theirs, _))| *theirs != state) {
            let checkpoint = Checkpoint { seq, state: *theirs };
            let said = statement(&ZyzzyvaMessage::Checkpoint(checkpoint), proof);
            self.accuse(step, *signer, Misbehaviour::WrongCheckpoint(seq), alloc::vec![said]);
        }
    }

    /// A proven checkpoint becomes stable here once its state is on disk: this replica accepts no further
    /// above the one before than a log is long, so that it can start again from that.
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
        let seq = certificate.checkpoint.seq;
        self.stable = seq;
        self.stable_certificate = Some(certificate.clone());
        self.log.truncate(seq);
        self.wanted.retain(|(wanted, _), _| *wanted > seq);
        self.bodies.retain(|(held, _), _| *held > seq);
        self.given.retain(|(_, given), _| *given == Seq(0) || *given > seq);
        self.orders.forget_up_to(seq);
        self.checkpoints = self.checkpoints.split_off(&seq.next());
        self.own_checkpoints = self.own_checkpoints.split_off(&seq);
        step.actions.push(Action::Compact(self.records()));
        // After what was rewritten, so that the records belong to this state when this is on disk.
        self.outbox.persist(step.actions, &Record::Stable(certificate), Deferred::Stable(seq));
    }

    /// Fetches the state where execution alone can't bring this replica to the checkpoint that it is behind of:
    /// it executed past it into another state, its log lies beyond it, or it was behind before and has not moved
    /// since. Others say what it lacks once they hear where it stands.
    pub(super) fn fetch_state_if_stuck(&mut self, step: &mut Step, is_stuck: bool) {
        let Some(behind) = &self.behind else { return };
        let seq = behind.checkpoint.seq;
        if self.executed >= seq || self.log.base() >= seq || is_stuck {
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
        let fetched = self.fetching.take().filter(|fetched| fetched.checkpoint.seq == seq);
        let fetched = fetched.expect("only the state last asked for is installed");
        (self.executed, self.acknowledged, self.installed, self.speculated) = (seq, seq, seq, seq);
        self.final_to = self.final_to.max(seq);
        self.pending.forget_executed();
        for (client, number) in executed {
            self.pending.note_executed(*client, *number);
        }
        if seq > self.log.base() {
            self.jump_to(step, &fetched);
        }
        self.own_checkpoints.retain(|own, _| *own < seq);
        self.own_checkpoints.insert(seq, (fetched.checkpoint.state, false));
        // Those that the state has left behind and that are not under way to the disk never will be.
        self.keeping.truncate(1);
        self.keep_state(step, fetched);
    }
}
