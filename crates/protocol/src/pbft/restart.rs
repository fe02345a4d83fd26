//! Starting: in a new group or epoch, from the records on disk, or without them. What the records of one that
//! lost its past, or doubts it, are worth: [`super::recovery`].

use super::log::{Assignment, Entry, Log};
use super::message::{PbftMessage, Vote};
use super::persistence::Record;
use super::recovery::Membership;
use super::{Pbft, STATUS_TIMER, Step};
use crate::{Action, Start};
use alloc::vec::Vec;
use althing_types::{Digest, Seq, View};

impl Pbft {
    pub(super) fn on_start(&mut self, step: &mut Step, start: Start) {
        step.actions.push(Action::SetTimer { id: STATUS_TIMER, after: self.config.settings.status_period });
        match start {
            Start::Genesis => step.actions.push(Action::EnteredView(self.view)),
            Start::Handover { executed, has_state } => {
                self.in_view_since = step.now;
                self.begin_at_start(executed, has_state);
                step.actions.push(Action::EnteredView(self.view));
                if self.has_forgotten {
                    self.begin_anew(step);
                } else if self.is_doubtful {
                    self.begin_to_doubt(step.now);
                }
                self.ask_where_others_stand(step);
                self.forward_pending(step);
                self.fetch_start(step);
            }
            Start::Recovered { stable, executed, records, is_closed, has_forgotten, is_doubtful } => {
                let has_start = self.start.is_some_and(|start| stable >= start.seq);
                self.begin_at_start(stable, has_start);
                (self.executed, self.acknowledged) = (stable, stable);
                self.stable_durable = stable;
                self.end = is_closed.then_some(stable);
                for (client, number) in executed {
                    self.pending.note_executed(client, number);
                }
                for record in records {
                    // What this replica wrote itself it can read, unless the disk lies: then it knows
                    // no longer what it voted for.
                    match althing_types::decode(&record, usize::MAX) {
                        Ok(record) => self.replay(record),
                        Err(_) => {
                            self.begin_anew(step);
                            break;
                        }
                    }
                }
                self.recall(step, has_forgotten, is_doubtful);
                self.vouched = self.end_of_execution();
                self.say_if_closed(step);
                self.fetch_start(step);
                if let Some(content) = self.own_view_change.clone() {
                    step.actions.push(Action::LeftView(self.view));
                    step.broadcast_signed(PbftMessage::ViewChange(content));
                } else {
                    step.actions.push(Action::EnteredView(self.view));
                }
            }
            // In a group of one nobody else knows anything either.
            Start::Amnesia if self.quorums().n() == 1 => step.actions.push(Action::EnteredView(self.view)),
            Start::Amnesia => {
                self.begin_at_start(Seq(0), false);
                step.actions.push(Action::EnteredView(self.view));
                self.begin_anew(step);
                self.ask_where_others_stand(step);
                self.fetch_start(step);
            }
        }
    }

    /// What the records that it starts from are worth to this replica.
    fn recall(&mut self, step: &mut Step, has_forgotten: bool, is_doubtful: bool) {
        // Cut off before it was on disk that it began anew.
        let was_cut_off = has_forgotten && self.incarnation == 0 && self.quorums().n() > 1;
        // Answers to what it asked in its former life may have been kept.
        if was_cut_off || (is_doubtful && !self.membership.is_voter()) {
            if is_doubtful {
                self.drop_records();
            }
            self.begin_anew(step);
        } else if is_doubtful {
            self.begin_to_doubt(step.now);
        }
        if is_doubtful {
            self.ask_where_others_stand(step);
        }
    }

    /// Who does not vote has no use for what it stood for, nor for the view that somebody else may have put it
    /// into.
    fn drop_records(&mut self) {
        self.log = Log::default();
        self.new_view = None;
        (self.proven, self.last_commit) = (None, None);
        self.begin_view(View(0));
    }

    /// Redoes what a record says, without doing again what it led to.
    fn replay(&mut self, record: Record) {
        let me = self.me();
        match record {
            Record::PrePrepared { view, seq, batch } => {
                let digest = batch.digest();
                if seq <= self.stable {
                    return;
                }
                let is_backup = self.quorums().primary(view) != me;
                let entry = self.log.entry(seq);
                entry.bodies.insert(digest, batch);
                entry.note_pre_prepared(view, digest);
                if is_backup {
                    Entry::file(&mut entry.prepares, me, &Vote { view, seq, digest });
                }
                self.resume_assignment(view, seq, digest);
            }
            Record::Prepared(vote) => {
                self.note_own_commit(vote);
                if vote.seq <= self.stable {
                    return;
                }
                let entry = self.log.entry(vote.seq);
                entry.prepared = Some((vote.view, vote.digest));
                Entry::file(&mut entry.commits, me, &vote);
            }
            Record::Executed { seq, digest, batch } if seq > self.stable => {
                let entry = self.log.entry(seq);
                entry.executed = Some(digest);
                entry.bodies.extend(batch.map(|batch| (digest, batch)));
            }
            Record::Executed { .. } => {}
            Record::LeftView(content) => {
                self.view = content.view;
                self.is_in_view = false;
                self.new_view = None;
                self.own_new_view = None;
                self.own_view_change = Some(content);
                (self.is_view_change_durable, self.is_new_view_durable) = (true, false);
            }
            Record::MadeNewView(content) => {
                self.own_new_view = Some(content);
                self.is_new_view_durable = true;
            }
            Record::EnteredView(signed) => {
                self.resume_view(signed);
                self.resume_assignments();
            }
            Record::Stable(certificate) => {
                self.stable = certificate.checkpoint.seq;
                self.own_checkpoints.insert(self.stable, certificate.checkpoint.state);
                self.stable_certificate = Some(certificate);
                self.log.truncate(self.stable);
                self.next_seq = self.next_seq.max(self.stable.next());
            }
            Record::MadeCheckpoint(seq) => {
                self.made = self.made.max(seq);
                self.made_durable = self.made;
            }
            Record::EnteredFirstView => self.begin_view(View(0)),
            Record::Life { incarnation, is_voter } => {
                self.incarnation = incarnation;
                self.membership = if is_voter { Membership::Voter } else { Membership::learner(incarnation) };
            }
        }
    }

    /// Takes up again what this replica stands for of what the new view assigned. What it proposed or
    /// accepted later comes later.
    fn resume_assignments(&mut self) {
        let view = self.view;
        let resumed: Vec<_> = self
            .log
            .iter()
            .flat_map(|(seq, entry)| {
                entry.pre_prepared.iter().map(move |(digest, view)| (*view, seq, *digest))
            })
            .filter(|(pre_prepared, seq, digest)| {
                let assigned = self.log.get(*seq).and_then(|entry| entry.assignment);
                *pre_prepared == view && assigned.is_some_and(|assigned| assigned.digest == *digest)
            })
            .collect();
        for (view, seq, digest) in resumed {
            self.resume_assignment(view, seq, digest);
        }
    }

    fn resume_assignment(&mut self, view: View, seq: Seq, digest: Digest) {
        if view == self.view && self.is_in_view {
            let is_signed = self.is_settled_by_new_view(seq);
            let has_primary = is_signed || self.primary() == self.me();
            let resumed = Assignment::new(view, digest, true);
            let (is_accepted, is_durable) = (true, true);
            let assignment = Assignment { is_accepted, is_durable, has_primary, is_signed, ..resumed };
            self.log.entry(seq).assignment = Some(assignment);
            self.next_seq = self.next_seq.max(seq.next());
        }
    }
}
