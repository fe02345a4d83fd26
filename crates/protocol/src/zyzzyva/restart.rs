//! Starting: in a new group or epoch, from the records on disk, or without them.
//!
//! A replica that starts from its records accepts again what it had accepted, of the view that it was in, and
//! executes up to the last checkpoint that it had made: what came after that is speculative again, whatever it
//! knew. It says again what it may have said before, and nothing else.
//!
//! One that has lost its disk may have accepted, certified or confirmed anything in any view, and has reported
//! nothing of it to the views since. So it votes on nothing in this instance, nor, since it can't tell in which
//! epoch it was when it lost its disk, in those that follow. It takes over what the others find final, and the
//! state at checkpoints.

use super::choice;
use super::entering::Entering;
use super::message::{OrderRequest, Signed, ZyzzyvaMessage};
use super::persistence::{Deferred, Record};
use super::{STATUS_TIMER, Step, Zyzzyva};
use crate::{Action, Start};
use alloc::vec::Vec;
use althing_types::{ClientId, RequestNumber, Seq};

impl Zyzzyva {
    pub(super) fn on_start(&mut self, step: &mut Step, start: Start) {
        step.actions.push(Action::SetTimer { id: STATUS_TIMER, after: self.config.settings.status_period });
        self.begin(step, start);
        if self.has_forgotten {
            // For ever, whatever it writes from now on.
            self.outbox.persist(step.actions, &Record::Forgotten, Deferred::Nothing);
        }
    }

    fn begin(&mut self, step: &mut Step, start: Start) {
        match start {
            Start::Genesis => step.actions.push(Action::EnteredView(self.view)),
            Start::Handover { executed, has_state } => {
                self.in_view_since = step.now;
                self.begin_at_start(executed, has_state);
                step.actions.push(Action::EnteredView(self.view));
                self.forward_pending(step);
                self.fetch_start(step);
            }
            Start::Recovered { stable, executed, records, is_closed, has_forgotten, is_doubtful } => {
                // Nobody checks what somebody else may have written.
                self.has_forgotten |= (has_forgotten || is_doubtful) && self.quorums().n() > 1;
                self.recover(stable, &executed, records);
                self.end = is_closed.then_some(stable);
                self.say_if_closed(step);
                self.resume(step);
            }
            Start::Amnesia => {
                // In a group of one nobody else knows anything either.
                self.has_forgotten = self.quorums().n() > 1;
                self.begin_at_start(Seq(0), false);
                step.actions.push(Action::EnteredView(self.view));
                self.fetch_start(step);
            }
        }
    }

    fn recover(&mut self, stable: Seq, executed: &[(ClientId, RequestNumber)], records: Vec<Vec<u8>>) {
        let has_start = self.start.is_some_and(|start| stable >= start.seq);
        self.begin_at_start(stable, has_start);
        (self.executed, self.acknowledged, self.speculated) = (stable, stable, stable);
        (self.stable, self.stable_durable) = (self.stable.max(stable), stable);
        self.final_to = stable;
        for (client, number) in executed {
            self.pending.note_executed(*client, *number);
        }
        for record in records {
            // What this replica wrote itself it can read, unless the disk lies: then it knows no longer what
            // it has said.
            match althing_types::decode(&record, usize::MAX) {
                Ok(record) => self.replay(record),
                Err(_) => {
                    self.has_forgotten = self.quorums().n() > 1;
                    break;
                }
            }
        }
        self.durable = self.log.last();
        self.vouched = self.durable;
        for (_, slot) in self.log.after(self.executed) {
            self.pending.note_proposed(&slot.batch);
        }
    }

    /// Goes on with what it was at.
    fn resume(&mut self, step: &mut Step) {
        if self.is_in_view {
            self.begin_trial(step.now);
            step.actions.push(Action::EnteredView(self.view));
        } else {
            step.actions.push(Action::LeftView(self.view));
        }
        if let Some(content) = self.own_view_change.clone() {
            step.broadcast_signed(ZyzzyvaMessage::ViewChange(content));
        }
        if let Some(entering) = self.entering.as_ref().filter(|_| self.is_voting()) {
            let own = entering.choice.confirmation(self.view);
            step.broadcast_signed(ZyzzyvaMessage::Speculated(own));
        }
        let held = self.certificate.as_ref().map(|certificate| certificate.speculation);
        if let Some(held) = held.filter(|held| held.view == self.view) {
            self.release_commitment(step, held);
        }
        let base = self.base.clone().filter(|base| base.checkpoint.seq > self.final_to);
        if base.is_some() {
            self.behind = base;
            self.fetch_state(step);
        }
        self.fetch_start(step);
    }

    /// Redoes what a record says, without doing again what it led to.
    fn replay(&mut self, record: Record) {
        match record {
            Record::Forgotten => self.has_forgotten = true,
            Record::Accepted { view, seq, batch, proof } => {
                if seq <= self.stable || seq != self.log.last().next() {
                    return;
                }
                let digest = batch.digest();
                let history = self.log.history_with(digest);
                let order = proof.map(|proof| Signed {
                    signer: self.quorums().primary(view),
                    content: OrderRequest { view, seq, history, batch: alloc::sync::Arc::clone(&batch) },
                    proof,
                });
                self.log.push(view, digest, batch, order);
            }
            Record::Certificate(certificate) => {
                self.certificate = Some(certificate);
                self.is_certificate_durable = true;
            }
            Record::Body { seq, batch } => drop(self.bodies.insert((seq, batch.digest()), batch)),
            Record::SetOut(view) => self.set_out_for(view),
            Record::LeftView(content) => {
                self.set_out_for(content.view);
                self.own_view_change = Some(content);
                self.is_view_change_durable = true;
            }
            Record::Overruled(confirmed) => {
                self.overruled = Some(confirmed);
                // It may have been handed to disk before that.
                self.entering = None;
            }
            Record::MadeNewView(content) => {
                self.own_new_view = Some(content);
                self.is_new_view_durable = true;
            }
            Record::Confirmed(new_view) => {
                let view = new_view.content.view;
                if view > self.view {
                    self.set_out_for(view);
                    self.own_view_change = None;
                }
                let choice = choice::choice_of(&self.terms(), &new_view.content);
                let (is_recorded, is_confirmed) = (true, true);
                self.entering =
                    Some(Entering { is_recorded, is_confirmed, ..Entering::new(new_view, choice) });
            }
            Record::Entered { new_view, certificate } => {
                let choice = choice::choice_of(&self.terms(), &new_view.content);
                self.begin_view(new_view, choice, certificate);
            }
            Record::InView { new_view, certificate } => {
                self.view = new_view.content.view;
                self.is_in_view = true;
                self.entry = Some((new_view, certificate));
            }
            Record::MadeCheckpoint(own) => {
                self.final_to = self.final_to.max(own.seq);
            }
            Record::Stable(certificate) => {
                let seq = certificate.checkpoint.seq;
                if seq <= self.stable {
                    self.stable_certificate = Some(certificate.clone());
                }
                if seq <= self.log.base() && self.base.is_some() {
                    return;
                }
                if seq <= self.stable {
                    self.replay_jump(certificate);
                } else if seq == self.log.last() {
                    self.log.begin_anew_at(certificate.checkpoint);
                    self.final_to = self.final_to.max(seq);
                    self.base = Some(certificate);
                }
            }
            Record::Jumped(certificate) => {
                if certificate.checkpoint.seq <= self.stable {
                    self.stable_certificate = Some(certificate.clone());
                }
                // Where the view that it entered meanwhile starts from there, what that starts with is kept.
                if certificate.checkpoint.seq > self.log.base() || self.base.is_none() {
                    self.replay_jump(certificate);
                }
            }
        }
    }
}
