//! Ending at a checkpoint, and starting from one: how the members of a group change.
//!
//! An instance that is closed ends at a checkpoint `c`. Its primary fills up with null requests up to
//! there, and proposes nothing beyond; a primary that does not is voted out. What was proposed beyond
//! before is void, since nobody executes it: who has executed up to `c` knows that the instance is closed.
//! View changes are as ever, so `c` becomes stable as every other checkpoint does. Its certificate is the
//! proof of how the instance ended (its *abort history* is the state at `c`).
//!
//! The successor starts from `c` in view 0 (its *init history*). Whoever belongs to it has checked that
//! certificate, which is of another membership; so in the successor `c` is stable without any votes. Its
//! settings may be others: `c` need not be where its own checkpoints would lie.

use super::message::{Checkpoint, CheckpointCertificate};
use super::{Guard, Pbft, PbftConfig, Step};
use crate::Action;
use crate::legacy::Legacy;
use crate::outbox::Outbox;
use alloc::vec::Vec;
use althing_types::{Digest, Quorums, Seq};

/// What stands for the proof of the checkpoint that an instance starts from.
pub(super) fn start_certificate(start: Checkpoint) -> CheckpointCertificate {
    CheckpointCertificate { checkpoint: start, votes: Vec::new() }
}

impl Pbft {
    /// What this instance leaves to one in a group with these quorums.
    pub(crate) fn legacy(&self, quorums: Quorums) -> Legacy {
        Legacy {
            pending: self.pending.fit_for(quorums),
            is_hearsay: false,
            last_id: self.outbox.last_id(),
            has_forgotten: !self.membership.is_voter(),
            is_doubtful: !self.membership.is_settled(),
        }
    }

    /// The instance that goes on with a legacy from the state `start`. See
    /// [`Protocol::successor`](crate::Protocol::successor).
    pub(crate) fn heir(mut legacy: Legacy, config: PbftConfig, start: Option<(Seq, Digest)>) -> Self {
        let mut heir = Self::new(config);
        heir.start = start.map(|(seq, state)| Checkpoint { seq, state });
        heir.pending = legacy.checked_pending();
        heir.outbox = Outbox::after(legacy.last_id);
        (heir.has_forgotten, heir.is_doubtful) = (legacy.has_forgotten, legacy.is_doubtful);
        heir
    }

    /// The last number that may be executed in any case, and proposed.
    pub(super) fn end(&self) -> Seq {
        self.end.unwrap_or(Seq(u64::MAX))
    }

    /// Whether all that this instance has to execute is executed.
    pub(super) fn is_over(&self) -> bool {
        self.executed >= self.end()
    }

    pub(super) fn on_close(&mut self, step: &mut Step, seq: Seq) {
        if self.end.is_none() {
            let end = Seq(seq.0.next_multiple_of(self.config.settings.checkpoint_period));
            self.end = Some(end);
            self.fill_to = self.fill_to.max(end);
            self.say_if_closed(step);
        }
    }

    /// Says that the instance has ended, once its last checkpoint is stable and on disk with its state.
    pub(super) fn say_if_closed(&self, step: &mut Step) {
        let last = self.stable_certificate.as_ref().filter(|last| Some(last.checkpoint.seq) == self.end);
        if let Some(CheckpointCertificate { checkpoint, votes }) = last
            && self.stable_durable == checkpoint.seq
        {
            let Checkpoint { seq, state } = *checkpoint;
            step.actions.push(Action::Closed { seq, state, votes: votes.clone() });
        }
    }

    /// The primary has to bring this instance to its end.
    pub(super) fn waiting_end(&self) -> Option<Guard> {
        self.end.is_some().then_some(Guard::End(self.executed.next()))
    }

    /// Takes the checkpoint that this instance starts from for stable. `executed` is what this replica's
    /// state holds; if that is not there yet, it has to be brought there.
    pub(super) fn begin_at_start(&mut self, executed: Seq, has_state: bool) {
        let Some(start) = self.start else { return };
        self.executed = executed;
        self.acknowledged = executed;
        self.stable = start.seq;
        self.stable_certificate = Some(start_certificate(start));
        self.next_seq = start.seq.next();
        if has_state {
            self.stable_durable = start.seq;
            self.own_checkpoints.insert(start.seq, start.state);
            (self.made, self.made_durable) = (start.seq, start.seq);
        }
    }

    /// Fetches the state that this instance starts from, where this replica's own lies before it.
    pub(super) fn fetch_start(&mut self, step: &mut Step) {
        let Some(start) = self.start else { return };
        if self.executed < start.seq || !self.own_checkpoints.contains_key(&self.stable) {
            self.behind = Some(start_certificate(start));
            self.fetch_state(step);
        }
    }

    /// Whether this replica has the state that its instance starts from, or a later one.
    pub(super) fn has_started(&self) -> bool {
        self.start.is_none_or(|start| self.executed >= start.seq)
    }
}
