//! Execution of what is decided, in order and without gaps.

use super::{Paxos, Step};
use crate::{Action, Decision};
use althing_types::Seq;

impl Paxos {
    /// The last number that may be executed before another stable checkpoint is on disk. So a replica
    /// that restarts knows how far it had come at most.
    pub(super) fn end_of_execution(&self) -> Seq {
        Seq(self.state.stable_durable.0 + self.window())
    }

    /// Whether anything may be executed after what was. A state that was fetched has to be on disk first: so
    /// whoever makes a checkpoint can get to it from its own disk alone.
    fn may_go_on(&self) -> bool {
        let state = &self.state;
        let is_acknowledged = !self.is_checkpoint(state.executed) || state.acknowledged >= state.executed;
        is_acknowledged && state.installed <= state.stable_durable
    }

    /// Executes what an agreement quorum has accepted in one view, or somebody says is decided.
    pub(super) fn execute_decided(&mut self, step: &mut Step) {
        let quorums = self.quorums();
        loop {
            let seq = self.state.executed.next();
            if seq > self.end_of_execution().min(self.end()) || !self.may_go_on() {
                return;
            }
            let Some(entry) = self.state.log.get_mut(seq) else { return };
            let Some((view, digest)) = entry.decided.or_else(|| entry.chosen(quorums)) else { return };
            entry.decided = Some((view, digest));
            let Some(batch) = entry.batch(digest) else { return self.fetch_batch(step, seq, digest) };
            let state = &mut self.state;
            state.executed = seq;
            state.next_seq = state.next_seq.max(seq.next());
            for request in &batch.requests {
                state.pending.note_executed(request.client, request.number);
            }
            if state.is_in_view && !batch.requests.is_empty() {
                state.fruitless_views = 0;
            }
            let is_checkpoint = self.is_checkpoint(seq);
            let decision = Decision { seq, view, digest, batch, is_checkpoint, is_eager: false };
            step.actions.push(Action::Execute(decision));
        }
    }
}
