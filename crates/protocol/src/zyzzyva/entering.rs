//! Entering a view (Zyzzyva §3.3, view confirmation): each replica computes what the new view starts with,
//! gets the batches, and signs that it accepts all of it. An agreement quorum of such statements is a
//! certificate *of the new view*. Only with that on disk a replica is in the view; it says `Committed` then,
//! and executes anew what it starts with.
//!
//! A replica confirms one new view of each number, whatever the primary sent to others. So of two that a
//! faulty primary made only one can be confirmed by a quorum, and whoever confirmed the other may follow it
//! once it sees the certificate.

use super::choice::{self, Choice};
use super::message::{NewView, Signed, ZyzzyvaMessage};
use super::persistence::{Deferred, Record};
use super::{Step, Zyzzyva, statement};
use crate::{Action, Batch, CommitCertificate, Misbehaviour, Speculation};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// A new view that has not started here.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct Entering {
    pub(super) new_view: Signed<NewView>,
    pub(super) choice: Choice,
    /// Whether the record of it and its batches was handed to disk.
    pub(super) is_recorded: bool,
    /// Whether that is on disk, so that its confirmation may leave, again and again.
    pub(super) is_confirmed: bool,
    /// The proof that an agreement quorum has confirmed it.
    pub(super) certificate: Option<CommitCertificate>,
    /// Whether the record of that was handed to disk.
    pub(super) is_certified: bool,
}

impl Entering {
    pub(super) fn new(new_view: Signed<NewView>, choice: Choice) -> Self {
        Self {
            new_view,
            choice,
            is_recorded: false,
            is_confirmed: false,
            certificate: None,
            is_certified: false,
        }
    }
}

impl Zyzzyva {
    /// A new view, from its primary or passed on by somebody who may be in it already.
    pub(super) fn on_new_view(
        &mut self,
        step: &mut Step,
        signed: Signed<NewView>,
        certificate: Option<CommitCertificate>,
    ) {
        let view = signed.content.view;
        if view < self.view || (view == self.view && self.is_in_view) {
            return;
        }
        if !choice::is_valid_new_view(&self.terms(), signed.signer, &signed.content) {
            let said = statement(&ZyzzyvaMessage::NewView(signed.content), &signed.proof);
            self.accuse(step, signed.signer, Misbehaviour::InvalidNewView(view), alloc::vec![said]);
            if view == self.view && signed.signer == self.primary() {
                self.leave_view(step, view.next());
            }
            return;
        }
        // Those that were lost on their way here: who has seen a quorum of them waits for the view with a timeout.
        for report in &signed.content.view_changes {
            self.on_view_change(step, report.clone());
        }
        let choice = choice::choice_of(&self.terms(), &signed.content);
        let certificate = certificate.filter(|certificate| {
            let is_of_it = certificate.speculation == choice.confirmation(view);
            is_of_it && certificate.is_complete(self.quorums())
        });
        let known = self.entering.as_ref().filter(|known| known.new_view.content.view == view);
        let is_same = known.is_some_and(|known| known.choice == choice);
        if known.is_some_and(|known| known.is_certified)
            || (known.is_some() && !is_same && certificate.is_none())
        {
            return;
        }
        if !is_same {
            self.prepare_to_enter(step, signed, choice);
        }
        if let Some(entering) = &mut self.entering {
            entering.certificate = entering.certificate.take().or(certificate);
        }
    }

    fn prepare_to_enter(&mut self, step: &mut Step, signed: Signed<NewView>, choice: Choice) {
        let view = signed.content.view;
        if view > self.view {
            self.begin_to_leave(step, view);
            self.own_view_change = None;
        }
        if let Some(stable) = choice.stable.clone().filter(|stable| stable.checkpoint.seq > self.stable) {
            self.on_certificate(step, stable);
        }
        self.wanted.clear();
        // This replica confirms one of each view: it may follow another one, but not confirm that too.
        let confirmed = self.entering.as_ref().filter(|known| known.is_recorded);
        let confirmed = confirmed.map(|known| known.choice.confirmation(view));
        if let Some(confirmed) = confirmed.filter(|_| !self.is_overruled_in(view)) {
            self.overruled = Some(confirmed);
            self.outbox.persist(step.actions, &Record::Overruled(confirmed), Deferred::Nothing);
        }
        let has_confirmed = self.is_overruled_in(view);
        let needed: Vec<_> = choice.batches().collect();
        self.bodies.retain(|held, _| needed.contains(held));
        self.entering = Some(Entering { is_recorded: has_confirmed, ..Entering::new(signed, choice) });
    }

    /// Whether this replica has confirmed another start of this view than the one that it follows.
    pub(super) fn is_overruled_in(&self, view: View) -> bool {
        self.overruled.is_some_and(|confirmed| confirmed.view == view)
    }

    /// Whether this replica must not sign its history at this number in its view: it has signed another there, as it
    /// confirmed the start of the view that it does not follow.
    pub(super) fn is_bound_otherwise(&self, seq: Seq) -> bool {
        let other = self.overruled.filter(|other| (other.view, other.seq) == (self.view, seq));
        other.is_some_and(|other| self.log.history_at(seq) != Some(other.history))
    }

    /// The batch that a new view brings along, if it is here.
    fn held(&self, seq: Seq, digest: Digest) -> Option<Arc<Batch>> {
        if digest == Digest::NULL {
            return Some(Arc::new(Batch::null()));
        }
        let accepted = self.log.get(seq).filter(|slot| slot.digest == digest).map(|slot| &slot.batch);
        accepted.or_else(|| self.bodies.get(&(seq, digest))).map(Arc::clone)
    }

    /// What a new view brings along and this replica lacks.
    fn missing(&self, choice: &Choice) -> Vec<(Seq, Digest)> {
        let base = self.log.base();
        let is_missing = |(seq, digest): &(Seq, Digest)| *seq > base && self.held(*seq, *digest).is_none();
        choice.batches().filter(is_missing).collect()
    }

    /// Confirms a new view once its batches are here, and on disk.
    pub(super) fn confirm_new_view(&mut self, step: &mut Step) {
        let Some(entering) = self.entering.as_ref().filter(|entering| !entering.is_recorded) else { return };
        let missing = self.missing(&entering.choice);
        for (seq, digest) in &missing {
            self.fetch_batch(step, *seq, *digest);
        }
        if !missing.is_empty() {
            return;
        }
        self.record_bodies(step);
        let Some(entering) = &mut self.entering else { return };
        entering.is_recorded = true;
        let new_view = entering.new_view.clone();
        let own = entering.choice.confirmation(new_view.content.view);
        self.outbox.persist(step.actions, &Record::Confirmed(new_view), Deferred::Confirm(own));
    }

    fn record_bodies(&mut self, step: &mut Step) {
        for ((seq, _), batch) in &self.bodies {
            let record = Record::Body { seq: *seq, batch: Arc::clone(batch) };
            self.outbox.persist(step.actions, &record, Deferred::Nothing);
        }
    }

    /// What a new view brings along is on disk.
    pub(super) fn release_confirmation(&mut self, step: &mut Step, own: Speculation) {
        let view = self.view;
        let entering = self.entering.as_mut().filter(|entering| entering.choice.confirmation(view) == own);
        if let Some(entering) = entering {
            entering.is_confirmed = true;
            if self.is_voting() {
                step.broadcast_signed(ZyzzyvaMessage::Speculated(own));
            }
        }
    }

    /// Enters a view that an agreement quorum has confirmed.
    pub(super) fn enter_if_confirmed(&mut self, step: &mut Step) {
        let Some(entering) = self.entering.as_ref().filter(|e| e.is_recorded && !e.is_certified) else {
            return;
        };
        let speculation = entering.choice.confirmation(self.view);
        let certificate = entering.certificate.clone().or_else(|| {
            let votes = self.speculations.votes_for(speculation);
            let made = CommitCertificate { speculation, votes };
            Some(made).filter(|made| made.is_complete(self.quorums()))
        });
        let Some(certificate) = certificate else { return };
        let missing = self.missing(&entering.choice);
        if !missing.is_empty() {
            // Of one that it did not confirm itself.
            for (seq, digest) in missing {
                self.fetch_batch(step, seq, digest);
            }
            return;
        }
        self.record_bodies(step);
        let Some(entering) = &mut self.entering else { return };
        entering.is_certified = true;
        entering.certificate = Some(certificate.clone());
        let new_view = entering.new_view.clone();
        let record = Record::Entered { new_view, certificate };
        self.outbox.persist(step.actions, &record, Deferred::Enter(self.view));
    }

    /// The certificate of a new view is on disk.
    pub(super) fn release_entry(&mut self, step: &mut Step, view: View) {
        let is_due =
            self.entering.as_ref().is_some_and(|e| e.is_certified && e.new_view.content.view == view);
        if !is_due {
            return;
        }
        let Some(Entering { new_view, choice, certificate: Some(certificate), .. }) = self.entering.take()
        else {
            return;
        };
        self.roll_back(step);
        self.begin_view(new_view, choice, certificate.clone());
        self.begin_trial(step.now);
        self.drop_doubted(step.now);
        self.in_view_since = step.now;
        step.actions.push(Action::EnteredView(view));
        self.release_commitment(step, certificate.speculation);
        self.forward_pending(step);
    }

    /// Puts the replica into the view that `new_view` starts, with the batches of its choice.
    pub(super) fn begin_view(
        &mut self,
        new_view: Signed<NewView>,
        choice: Choice,
        certificate: CommitCertificate,
    ) {
        let view = new_view.content.view;
        self.bring_along(view, &choice);
        self.view = view;
        self.is_in_view = true;
        self.guard = None;
        (self.own_view_change, self.own_new_view) = (None, None);
        self.certificate = Some(certificate.clone());
        self.is_certificate_durable = true;
        self.entry = Some((new_view, certificate));
        self.entering = None;
        self.bodies.clear();
        self.wanted.clear();
        self.pending.reset_proposed();
        for (_, slot) in self.log.after(self.executed) {
            self.pending.note_proposed(&slot.batch);
        }
    }

    /// The last number that the present view started with.
    pub(super) fn brought_to(&self) -> Seq {
        self.entry.as_ref().map_or(Seq(0), |(_, certificate)| certificate.speculation.seq)
    }

    /// Replaces what this replica has accepted after the last stable checkpoint by what a view starts with.
    fn bring_along(&mut self, view: View, choice: &Choice) {
        let batches: Vec<_> = choice
            .batches()
            .filter(|(seq, _)| *seq > self.log.base())
            .map(|(seq, digest)| (digest, self.held(seq, digest).expect("it was fetched before")))
            .collect();
        if let Some(stable) = choice.stable.clone().filter(|stable| stable.checkpoint.seq > self.log.base()) {
            self.replay_jump(stable);
        }
        self.log.drop_after_base();
        for (digest, batch) in batches {
            self.log.push(view, digest, batch, None);
        }
        self.durable = self.log.last();
    }
}
