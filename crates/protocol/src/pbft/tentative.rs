//! Tentative execution (OSDI'99 §5.1.2): a batch is executed as soon as this replica commits it, and all
//! before it are decided; the others' commits are not waited for.
//!
//! A client takes a result for final once an agreement quorum has reached it tentatively in the same view.
//! That is as safe as the commit phase, because it is the commit phase with the client in the place of a
//! replica: a tentative reply leaves only after this replica's own commit, so an agreement quorum of them
//! means an agreement quorum of commits for one batch at one number in one view. (In one view, and after
//! the same decisions before, a request can't stand at two numbers.)
//!
//! A replica that leaves the view takes the execution back. Until it has got as far again it answers no
//! query: a client may know the result already.
//!
//! It shortens the wait by one message, and asks one answer more of each client's replicas. So it is for
//! small batches, where latency is what counts, and never for one that makes a checkpoint.

use super::{Guard, Pbft, Step, Vote};
use crate::{Action, Batch, Decision};
use alloc::sync::Arc;
use althing_types::{Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// The batch that was handed out for execution before it was decided.
#[derive(Debug, Clone, Copy, BorshSerialize, BorshDeserialize)]
pub(super) struct Tentative {
    view: View,
    seq: Seq,
}

impl Pbft {
    /// Whether replicas execute a batch tentatively: by what all of them know of it.
    pub(super) fn is_eager(&self, seq: Seq, batch: &Batch) -> bool {
        let requests = batch.requests.len();
        if !self.can_be_eager() {
            return false;
        }
        (1..=self.config.settings.tentative_requests).contains(&requests) && !self.is_checkpoint(seq)
    }

    /// Executes the next batch if this replica has committed it, and its commit is on disk and sent.
    pub(super) fn execute_tentatively(&mut self, step: &mut Step) {
        let seq = self.executed.next();
        let may_vote = self.is_in_view && self.membership.is_voter();
        let may_execute = may_vote && !self.config.is_witness(self.me());
        if self.tentative.is_some() || !may_execute || seq > self.end_of_execution() || !self.may_go_on() {
            return;
        }
        let Some(entry) = self.log.get(seq) else { return };
        let Some((view, digest)) = entry.commits.get(&self.me()).copied() else { return };
        if view != self.view || entry.prepared != Some((view, digest)) {
            return;
        }
        let Some(batch) = entry.bodies.get(&digest).filter(|batch| self.is_eager(seq, batch)) else { return };
        let batch = Arc::clone(batch);
        self.tentative = Some(Tentative { view, seq });
        let (is_checkpoint, is_eager) = (false, true);
        let decision = Decision { seq, view, digest, batch, is_checkpoint, is_eager };
        step.actions.push(Action::ExecuteTentatively(decision));
    }

    /// Whether nobody waits for this replica's commit: it executes the batch tentatively, and nothing else
    /// is under way that could be executed only after it (TOCS'02 §5.1.2, piggybacked commits).
    pub(super) fn can_commit_wait(&self, vote: &Vote) -> bool {
        let Vote { seq, digest, .. } = *vote;
        let batch = self.log.get(seq).and_then(|entry| entry.bodies.get(&digest));
        self.config.settings.piggyback_commits
            && self.executed.next() == seq
            && self.log.last_seq() == Some(seq)
            && batch.is_some_and(|batch| self.is_eager(seq, batch))
    }

    /// What is tentative has to be decided within a view timeout. The client may be content with it and ask
    /// no more, while what it emits, and queries, still wait.
    pub(super) fn waiting_tentative(&self) -> Option<Guard> {
        self.tentative.map(|tentative| Guard::Tentative(tentative.seq))
    }

    /// Takes a tentative execution back once its view is over.
    pub(super) fn withdraw_tentative(&mut self, step: &mut Step) {
        if self.tentative.is_some_and(|tentative| !self.is_in_view || tentative.view != self.view) {
            self.forget_tentative();
            step.actions.push(Action::Rollback);
        }
    }

    /// The engine's state holds it no more. Queries are answered only from where it was on.
    pub(super) fn forget_tentative(&mut self) {
        if let Some(Tentative { seq, .. }) = self.tentative.take() {
            self.vouched = self.vouched.max(seq);
        }
    }
}
