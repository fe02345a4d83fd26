//! Ending at a checkpoint, and starting from one: how the members of a group change.
//!
//! An instance that is closed ends at a checkpoint `c`. Its primary fills up with null requests up to there; a
//! primary that does not is voted out. Nobody accepts anything beyond `c`, since the order waits at every
//! checkpoint until the engine has said that it is executed, and so whether it is the last. As at every
//! checkpoint all is settled there, and the certificate proves how the instance ended.
//!
//! The successor starts from `c` in view 0; there `c` is stable without any votes.

use super::message::{Checkpoint, CheckpointCertificate};
use super::mode::Mode;
use super::{Guard, Step, Zyzzyva, ZyzzyvaConfig};
use crate::Action;
use crate::legacy::Legacy;
use crate::outbox::Outbox;
use alloc::vec::Vec;
use althing_types::{Digest, Quorums, Seq};

/// What stands for the proof of the checkpoint that an instance starts from.
fn start_certificate(start: Checkpoint) -> CheckpointCertificate {
    CheckpointCertificate { checkpoint: start, votes: Vec::new() }
}

impl Zyzzyva {
    /// What this instance leaves to one in a group with these quorums.
    pub(crate) fn legacy(&self, quorums: Quorums) -> Legacy {
        Legacy {
            pending: self.pending.fit_for(quorums),
            is_hearsay: false,
            last_id: self.outbox.last_id(),
            has_forgotten: self.has_forgotten,
            is_doubtful: false,
        }
    }

    /// The instance that goes on with a legacy from the state `start`. See
    /// [`Protocol::successor`](crate::Protocol::successor).
    ///
    /// Whom somebody else may have spoken for does not vote, like one that has lost its disk.
    pub(crate) fn heir(mut legacy: Legacy, config: ZyzzyvaConfig, start: Option<(Seq, Digest)>) -> Self {
        let mut heir = Self::new(config);
        heir.start = start.map(|(seq, state)| Checkpoint { seq, state });
        heir.pending = legacy.checked_pending();
        heir.outbox = Outbox::after(legacy.last_id);
        heir.has_forgotten = (legacy.has_forgotten || legacy.is_doubtful) && heir.quorums().n() > 1;
        heir
    }

    /// The instance that goes on with these settings from the state `start` where this one ended; `None` is the
    /// initial state. See [`Protocol::successor`](crate::Protocol::successor).
    #[must_use]
    pub fn succeeded_by(&self, config: ZyzzyvaConfig, start: Option<(Seq, Digest)>) -> Self {
        Self::heir(self.legacy(config.quorums), config, start)
    }

    /// The last number that may be accepted in any case.
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
            // Nobody fills up a view that nobody leads.
            if self.mode() == Mode::Quorum {
                self.abort(step);
            }
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
        (self.executed, self.acknowledged, self.speculated) = (executed, executed, executed);
        self.final_to = executed;
        self.stable = start.seq;
        self.stable_certificate = Some(start_certificate(start));
        self.replay_jump(start_certificate(start));
        if has_state {
            self.stable_durable = start.seq;
            self.own_checkpoints.insert(start.seq, (start.state, false));
        }
    }

    /// Fetches the state that this instance starts from, where this replica's own lies before it.
    pub(super) fn fetch_start(&mut self, step: &mut Step) {
        let Some(start) = self.start else { return };
        if self.executed < start.seq || !self.own_checkpoints.contains_key(&start.seq) {
            self.behind = Some(start_certificate(start));
            self.fetch_state(step);
        }
    }
}
