//! Execution: speculatively what is accepted, and for good what is final, in order.

use super::history::Slot;
use super::mode::Mode;
use super::{Step, Zyzzyva};
use crate::{Action, Decision};
use alloc::sync::Arc;
use althing_types::Seq;

impl Zyzzyva {
    /// Whether this replica has the state that its log goes on from.
    pub(super) fn has_state(&self) -> bool {
        self.acknowledged >= self.log.base() && self.start.is_none_or(|start| self.executed >= start.seq)
    }

    /// Whether anything may be executed after what was. The engine has to say first that this was not the
    /// last, where it may have been. And a state that was fetched has to be on disk: so whoever signs a
    /// checkpoint can get to it from its own disk alone, whatever it hears first when it starts again.
    fn may_go_on(&self) -> bool {
        let is_acknowledged = !self.is_checkpoint(self.executed) || self.acknowledged >= self.executed;
        !self.is_over() && is_acknowledged && self.installed <= self.stable_durable
    }

    /// Executes for good what is final and on this replica's own disk.
    pub(super) fn execute_final(&mut self, step: &mut Step) {
        while self.executed < self.final_to.min(self.durable) && self.may_go_on() {
            let seq = self.executed.next();
            let Some(slot) = self.log.get(seq) else { return };
            let decision = self.decision(seq, slot);
            self.executed = seq;
            self.speculated = self.speculated.max(seq);
            for request in &decision.batch.requests {
                self.pending.note_executed(request.client, request.number);
            }
            self.count_final(&decision.batch);
            if self.is_in_view && !decision.batch.requests.is_empty() {
                self.fruitless_views = 0;
            }
            step.actions.push(Action::Execute(decision));
        }
    }

    /// Executes what is accepted, and on disk, before anything is known of the others.
    pub(super) fn speculate(&mut self, step: &mut Step) {
        let may_speculate = self.is_in_view && self.is_voting() && self.has_state() && self.may_go_on();
        while may_speculate && self.speculated < self.durable {
            let seq = self.speculated.next();
            if self.is_bound_otherwise(seq) || !self.may_speculate_at(seq) {
                return;
            }
            let slot = self.log.get(seq).expect("what comes after a state that is here is in the log");
            // Whatever view a batch came from, it is of this one now.
            let decision = Decision { view: self.view, ..self.decision(seq, slot) };
            let history = slot.history;
            self.speculated = seq;
            step.actions.push(Action::Speculate { decision, history, share: self.share() });
        }
    }

    fn decision(&self, seq: Seq, slot: &Slot) -> Decision {
        Decision {
            seq,
            view: slot.view,
            digest: slot.digest,
            batch: Arc::clone(&slot.batch),
            is_checkpoint: self.is_checkpoint(seq),
            is_eager: self.mode_of(slot.view) != Mode::Backup,
        }
    }

    /// Takes back what is not final.
    pub(super) fn roll_back(&mut self, step: &mut Step) {
        if self.speculated > self.executed {
            self.speculated = self.executed;
            step.actions.push(Action::Rollback);
        }
    }
}
