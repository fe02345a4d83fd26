//! Ending at a checkpoint, and starting from one: how the members of a group change, and what it runs.
//!
//! An instance that is closed ends at a checkpoint `c`. Its leader fills up with null requests up to there, and
//! proposes nothing beyond; one that does not is replaced. What was proposed beyond before is void, since nobody
//! executes it: who has executed up to `c` knows that the instance is closed.
//!
//! Other checkpoints are stable at the word of a majority, which nobody who was not there can check. That `c` is
//! has to be proven to whoever follows: so each replica signs this one, and a majority of signatures is the proof.
//! A signature says that its maker has the state at `c`, and can get to it from its own disk alone:
//! - It is on its disk. So whoever has fetched it signs as well.
//! - Or it has executed up to there, and its records say what, before it signs. What is decided is else not written
//!   down, since others tell it again; but those may be in the next epoch by then, and say only that.
//!
//! Who is in the next epoch says nothing here any more. So all who are still heard lack the proof, and are given
//! signatures for as long as they ask where others stand; nobody has to keep the proof itself.
//!
//! The successor starts from `c` in view 0. Whoever belongs to it has checked the proof; so in the successor `c` is
//! stable without any votes. Its period may be another one: `c` need not be where its own checkpoints would lie.

use super::message::{Checkpoint, PaxosMessage};
use super::persistence::Record;
use super::{Guard, Paxos, PaxosConfig, Step};
use crate::Action;
use crate::legacy::Legacy;
use crate::outbox::Outbox;
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{Digest, Quorums, ReplicaId, Seq};

impl Paxos {
    /// What this instance leaves to one in a group with these quorums.
    pub(crate) fn legacy(&self, quorums: Quorums) -> Legacy {
        Legacy {
            pending: self.state.pending.fit_for(quorums),
            is_hearsay: true,
            last_id: self.state.outbox.last_id(),
            has_forgotten: !self.is_voting(),
            is_doubtful: false,
        }
    }

    /// The instance that goes on with a legacy from the state `start`. See
    /// [`Protocol::successor`](crate::Protocol::successor).
    ///
    /// Where nobody lies, there is nothing to doubt.
    pub(crate) fn heir(legacy: Legacy, config: PaxosConfig, start: Option<(Seq, Digest)>) -> Self {
        let mut heir = Self::new(config);
        let state = &mut heir.state;
        state.start = start.map(|(seq, state)| Checkpoint { seq, state });
        state.pending = legacy.pending;
        state.outbox = Outbox::after(legacy.last_id);
        state.has_forgotten = legacy.has_forgotten;
        heir
    }

    /// The last number that may be executed in any case, and proposed.
    pub(super) fn end(&self) -> Seq {
        self.state.end.unwrap_or(Seq(u64::MAX))
    }

    /// Whether all that this instance has to execute is executed.
    pub(super) fn is_over(&self) -> bool {
        self.state.executed >= self.end()
    }

    pub(super) fn on_close(&mut self, step: &mut Step, seq: Seq) {
        if self.state.end.is_none() {
            let end = Seq(seq.0.next_multiple_of(self.config.settings.checkpoint_period));
            self.state.end = Some(end);
            self.state.fill_to = self.state.fill_to.max(end);
            // Where its state was fetched.
            self.sign_end(step);
        }
    }

    /// The leader has to bring this instance to its end.
    pub(super) fn waiting_end(&self) -> Option<Guard> {
        self.state.end.is_some().then_some(Guard::End(self.state.executed.next()))
    }

    /// The state at the end, where this replica can get to it from its own disk alone.
    pub(super) fn own_end(&self) -> Option<Checkpoint> {
        let state = &self.state;
        let end = state.end?;
        let is_executed = state.made_durable >= end && state.installed < end;
        let digest = *state.own_checkpoints.get(&end)?;
        let own = Checkpoint { seq: end, state: digest };
        (state.stable_durable >= end || is_executed).then_some(own)
    }

    /// Says once, for whoever follows, what the state at the end is.
    pub(super) fn sign_end(&mut self, step: &mut Step) {
        let said = self.state.signatures.get(&self.config.me).map(|(said, _)| *said);
        if let Some(own) = self.own_end().filter(|own| Some(*own) != said) {
            step.broadcast_signed(PaxosMessage::Checkpoint(own));
        }
    }

    /// Somebody has signed a checkpoint: the instance ends there, as this replica may yet have to find out.
    pub(super) fn file_signature(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        signed: Checkpoint,
        proof: Proof,
    ) {
        self.state.signatures.insert(from, (signed, proof));
        self.say_if_closed(step);
    }

    /// Says that the instance has ended, once its last checkpoint is on disk with its state and a majority has
    /// signed it.
    pub(super) fn say_if_closed(&self, step: &mut Step) {
        let state = &self.state;
        let is_last = |last: &Checkpoint| Some(last.seq) == state.end && state.stable_durable == last.seq;
        let Some(last) = state.stable_checkpoint.filter(is_last) else { return };
        let signed = state.signatures.iter().filter(|(_, (signed, _))| *signed == last);
        let votes: Vec<_> = signed.map(|(signer, (_, proof))| (*signer, proof.clone())).collect();
        if votes.len() >= self.quorums().agreement() {
            step.actions.push(Action::Closed { seq: last.seq, state: last.state, votes });
        }
    }

    /// What was decided since the stable checkpoint, for the records of one that has executed it to the end: with
    /// the batch where it is not what this replica has accepted.
    pub(super) fn decisions(&self) -> Vec<Record> {
        let state = &self.state;
        let decided = state.log.iter().filter(|(seq, _)| *seq <= state.executed);
        let record = |(seq, entry): (Seq, &super::log::Entry)| {
            let (view, digest) = entry.decided?;
            let is_accepted = entry.accepted.is_some_and(|accepted| accepted.digest == digest);
            let batch = if is_accepted { None } else { entry.batch(digest) };
            Some(Record::Decided { view, seq, digest, batch })
        };
        decided.filter_map(record).collect()
    }

    /// Takes the checkpoint that this instance starts from for stable. `executed` is what this replica's
    /// state holds; if that is not there yet, it has to be brought there.
    pub(super) fn begin_at_start(&mut self, executed: Seq, has_state: bool) {
        let state = &mut self.state;
        let Some(start) = state.start else { return };
        (state.executed, state.acknowledged) = (executed, executed);
        (state.stable, state.stable_checkpoint) = (start.seq, Some(start));
        state.next_seq = start.seq.next();
        if has_state {
            state.stable_durable = start.seq;
            state.own_checkpoints.insert(start.seq, start.state);
            (state.made, state.made_durable) = (start.seq, start.seq);
        }
    }

    /// Fetches the state that this instance starts from, where this replica's own lies before it.
    pub(super) fn fetch_start(&mut self, step: &mut Step) {
        let Some(start) = self.state.start else { return };
        if self.state.executed < start.seq || !self.state.own_checkpoints.contains_key(&self.state.stable) {
            self.state.behind = Some(start);
            self.fetch_state(step);
        }
    }

    /// Whether this replica has the state that its instance starts from, or a later one.
    pub(super) fn has_started(&self) -> bool {
        self.state.start.is_none_or(|start| self.state.executed >= start.seq)
    }
}
