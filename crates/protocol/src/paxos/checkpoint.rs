//! Checkpoints, and the truncation of the log.

use super::message::{Checkpoint, PaxosMessage};
use super::persistence::{Deferred, Record};
use super::{Paxos, Step};
use crate::Action;
use althing_types::{ClientId, Digest, ReplicaId, RequestNumber, Seq};

impl Paxos {
    pub(super) fn on_executed(&mut self, step: &mut Step, seq: Seq, state: Option<Digest>) {
        self.state.acknowledged = self.state.acknowledged.max(seq);
        let Some(state) = state.filter(|_| seq > self.state.stable) else { return };
        self.state.own_checkpoints.insert(seq, state);
        self.state.made = self.state.made.max(seq);
        // It is said only once it is on disk that it was made: see `recovery`.
        let then = Deferred::Checkpoint(Checkpoint { seq, state });
        if Some(seq) == self.state.end {
            for record in self.decisions() {
                self.state.outbox.persist(step.actions, &record, Deferred::Nothing);
            }
        }
        self.state.outbox.persist(step.actions, &Record::MadeCheckpoint(seq), then);
        // The others may have been faster.
        if let Some(checkpoint) = self.state.behind.take() {
            self.on_stable(step, checkpoint);
        }
    }

    pub(super) fn release_checkpoint(&mut self, step: &mut Step, own: Checkpoint) {
        self.state.made_durable = self.state.made_durable.max(own.seq);
        if Some(own.seq) == self.state.end {
            return self.sign_end(step);
        }
        // What this replica has made may have been replaced by a state that it fetched.
        if own.seq > self.state.stable && self.state.own_checkpoints.get(&own.seq) == Some(&own.state) {
            step.broadcast(PaxosMessage::Checkpoint(own));
            self.on_checkpoint(step, self.me(), own);
        }
    }

    pub(super) fn on_checkpoint(&mut self, step: &mut Step, from: ReplicaId, made: Checkpoint) {
        let Checkpoint { seq, state } = made;
        // One far ahead is learnt of once it is stable.
        if !self.is_in_window(seq) {
            return;
        }
        let makers = self.state.checkpoints.entry(seq).or_default();
        makers.insert(from, state);
        if makers.values().filter(|theirs| **theirs == state).count() >= self.quorums().agreement() {
            self.on_stable(step, made);
        }
    }

    /// A checkpoint is stable: if this replica shares its state the log is truncated, and else it is to be
    /// brought there.
    pub(super) fn on_stable(&mut self, step: &mut Step, stable: Checkpoint) {
        let Checkpoint { seq, state } = stable;
        let known = self.state.behind.map_or(self.state.stable, |behind| behind.seq);
        if seq <= self.state.stable || seq < known || self.state.keeping.iter().any(|kept| kept.seq >= seq) {
            return;
        }
        if self.state.own_checkpoints.get(&seq) == Some(&state) {
            return self.keep_state(step, stable);
        }
        // A target that the others have gone beyond is worth nothing any more; and what lies beyond the
        // window can't be executed up to.
        let is_fetching = self.state.fetching.is_some_and(|fetching| fetching.seq < seq);
        let is_out_of_reach = seq.0 > self.state.stable.0 + self.window();
        self.state.behind = Some(stable);
        if is_fetching || is_out_of_reach {
            self.fetch_state(step);
        }
    }

    /// A checkpoint becomes stable here once its state is on disk: this replica accepts and executes no further
    /// above the one before than its window is long, so that it can start again from that.
    fn keep_state(&mut self, step: &mut Step, checkpoint: Checkpoint) {
        let Checkpoint { seq, state } = checkpoint;
        self.state.behind.take_if(|behind| behind.seq <= seq);
        // The engine drops a transfer to here or below when it hears of `Stable`.
        self.state.fetching.take_if(|fetching| fetching.seq <= seq);
        step.actions.push(Action::Stable { seq, state });
        if self.state.keeping.is_empty() {
            step.actions.push(Action::KeepState { seq, state });
        }
        self.state.keeping.push_back(checkpoint);
    }

    pub(super) fn on_state_kept(&mut self, step: &mut Step, seq: Seq) {
        let kept = self.state.keeping.pop_front().filter(|kept| kept.seq == seq);
        self.make_stable(step, kept.expect("the state was asked to be kept, and no other since"));
        if let Some(Checkpoint { seq, state }) = self.state.keeping.front().copied() {
            step.actions.push(Action::KeepState { seq, state });
        }
    }

    fn make_stable(&mut self, step: &mut Step, checkpoint: Checkpoint) {
        let seq = checkpoint.seq;
        let state = &mut self.state;
        state.stable = seq;
        state.stable_checkpoint = Some(checkpoint);
        state.log.truncate(seq);
        state.wanted.retain(|(wanted, _), _| *wanted > seq);
        state.given.retain(|(given, ..), _| *given > seq);
        state.checkpoints = state.checkpoints.split_off(&seq.next());
        state.own_checkpoints = state.own_checkpoints.split_off(&seq);
        state.next_seq = state.next_seq.max(seq.next());
        step.actions.push(Action::Compact(self.records()));
        // After what was rewritten, so that the records belong to this state when this is on disk.
        let record = Record::Stable(checkpoint);
        self.state.outbox.persist(step.actions, &record, Deferred::Stable(seq));
        self.take_start(step);
        // What this replica promises holds more now.
        self.say_promise(step);
    }

    /// Fetches the state where execution alone can't bring this replica to the checkpoint that it is behind of:
    /// it executed past it into another state, or it was behind before and has not moved since. Others say what
    /// it lacks once they hear where it stands.
    pub(super) fn fetch_state_if_stuck(&mut self, step: &mut Step, is_stuck: bool) {
        let Some(behind) = self.state.behind else { return };
        if self.state.executed >= behind.seq || is_stuck {
            self.fetch_state(step);
        }
    }

    pub(super) fn fetch_state(&mut self, step: &mut Step) {
        let Some(behind) = self.state.behind else { return };
        let Checkpoint { seq, state } = behind;
        self.state.fetching = Some(behind);
        step.actions.push(Action::FetchState { seq, state });
    }

    pub(super) fn on_state_installed(
        &mut self,
        step: &mut Step,
        seq: Seq,
        executed: &[(ClientId, RequestNumber)],
    ) {
        let fetched = self.state.fetching.take().filter(|fetched| fetched.seq == seq);
        let fetched = fetched.expect("only the state last asked for is installed");
        let state = &mut self.state;
        (state.executed, state.acknowledged, state.installed) = (seq, seq, seq);
        state.next_seq = state.next_seq.max(seq.next());
        state.pending.forget_executed();
        for (client, number) in executed {
            state.pending.note_executed(*client, *number);
        }
        state.own_checkpoints.retain(|own, _| *own <= seq);
        state.own_checkpoints.insert(seq, fetched.state);
        // Those that the state has left behind and that are not under way to the disk never will be.
        state.keeping.truncate(1);
        self.keep_state(step, fetched);
    }
}
