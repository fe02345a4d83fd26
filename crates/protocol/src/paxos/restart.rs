//! Starting: in a new group, from the records on disk, or without them. What one does that has lost its disk:
//! [`super::recovery`].

use super::log::Accepted;
use super::message::Vote;
use super::persistence::Record;
use super::recovery::Membership;
use super::{Paxos, STATUS_TIMER, Step};
use crate::{Action, Start};
use alloc::vec::Vec;
use althing_types::{ClientId, RequestNumber, Seq};

impl Paxos {
    pub(super) fn on_start(&mut self, step: &mut Step, start: Start) {
        step.actions.push(Action::SetTimer { id: STATUS_TIMER, after: self.config.settings.status_period });
        match start {
            // Whoever lied is none of a group that runs this: nobody else has written to its disk.
            Start::Recovered { stable, executed, records, is_closed, has_forgotten, is_doubtful: _ } => {
                let has_start = self.state.start.is_some_and(|start| stable >= start.seq);
                self.begin_at_start(stable, has_start);
                self.state.end = is_closed.then_some(stable);
                self.restore(step, (stable, &executed), records);
                // Cut off before it was on disk that it began anew.
                let was_cut_off = has_forgotten && !self.state.is_reborn;
                if self.quorums().n() > 1 && was_cut_off {
                    self.begin_anew(step);
                }
            }
            Start::Handover { executed, has_state } => {
                self.state.in_view_since = step.now;
                self.begin_at_start(executed, has_state);
                if self.state.has_forgotten {
                    self.begin_anew(step);
                }
                self.forward_pending(step);
            }
            // In a group of one nobody else knows anything either.
            Start::Amnesia if self.quorums().n() > 1 => {
                self.begin_at_start(Seq(0), false);
                self.begin_anew(step);
            }
            Start::Genesis | Start::Amnesia => {}
        }
        step.actions.push(if self.state.is_in_view {
            Action::EnteredView(self.state.view)
        } else {
            Action::LeftView(self.state.view)
        });
        self.ask_where_others_stand(step);
        self.say_promise(step);
        self.fetch_start(step);
        // It may have been cut off between the end of its instance and the next.
        self.sign_end(step);
    }

    fn restore(
        &mut self,
        step: &mut Step,
        (stable, executed): (Seq, &[(ClientId, RequestNumber)]),
        records: Vec<Vec<u8>>,
    ) {
        let state = &mut self.state;
        (state.executed, state.acknowledged, state.stable_durable) = (stable, stable, stable);
        for (client, number) in executed {
            state.pending.note_executed(*client, *number);
        }
        for record in records {
            // What this replica wrote itself it can read, unless the disk is damaged: then it knows no longer
            // what it has said.
            match althing_types::decode(&record, usize::MAX) {
                Ok(record) => self.replay(step, record),
                Err(_) => {
                    self.begin_anew(step);
                    break;
                }
            }
        }
        self.state.vouched = self.end_of_execution();
        let is_leading = self.is_leading();
        self.state.is_start_durable = is_leading && self.state.start_view.is_some();
        self.state.is_promise_durable = !self.state.is_in_view;
        self.resume_proposals();
        self.take_start(step);
    }

    /// Redoes what a record says, without doing again what it led to.
    fn replay(&mut self, step: &Step, record: Record) {
        let me = self.me();
        let state = &mut self.state;
        match record {
            Record::Accepted { view, seq, batch } if seq > state.stable => {
                let digest = batch.digest();
                let entry = state.log.entry(seq);
                entry.batches.insert(digest, batch);
                entry.accepted = Some(Accepted { view, digest, is_durable: true });
                entry.file(me, &Vote { seq, view, digest });
            }
            Record::Accepted { .. } => {}
            Record::Promised { view, is_in_view } => {
                (state.view, state.is_in_view) = (view, is_in_view);
                state.start_view = None;
            }
            Record::Started(start_view) => {
                (state.view, state.is_in_view) = (start_view.view, true);
                state.start_view = Some(start_view);
            }
            Record::Stable(checkpoint) => {
                state.stable = checkpoint.seq;
                state.own_checkpoints.insert(checkpoint.seq, checkpoint.state);
                state.stable_checkpoint = Some(checkpoint);
                state.log.truncate(checkpoint.seq);
            }
            Record::Decided { view, seq, digest, batch } if seq > state.stable => {
                let entry = state.log.entry(seq);
                entry.batches.extend(batch.map(|batch| (digest, batch)));
                entry.decided = Some((view, digest));
            }
            Record::Decided { .. } => {}
            Record::MadeCheckpoint(seq) => {
                state.made = state.made.max(seq);
                state.made_durable = state.made;
            }
            Record::Reborn { is_voter } => {
                state.is_reborn = true;
                if is_voter {
                    state.membership = Membership::Voter;
                } else {
                    self.become_learner(step.now);
                }
            }
        }
    }

    /// Takes up again what this replica has accepted in the present view, as its leader proposed it.
    fn resume_proposals(&mut self) {
        let (view, is_in_view) = (self.state.view, self.state.is_in_view);
        let accepted = self.state.log.accepted();
        for Vote { seq, digest, .. } in accepted.iter().filter(|vote| is_in_view && vote.view == view) {
            self.state.log.entry(*seq).proposal = Some(*digest);
        }
        let start = self.state.start_view.as_ref().and_then(|start| start.values.last());
        let last = accepted.last().map(|vote| vote.seq).max(start.map(|(seq, _)| *seq));
        self.state.next_seq = last.unwrap_or_default().max(self.state.executed).max(self.state.stable).next();
    }
}
