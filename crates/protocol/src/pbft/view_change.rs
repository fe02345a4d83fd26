//! View changes: leaving a primary that does not serve, and starting under the next without losing
//! what the last may have committed (TOCS'02 §4.4).

use super::log::Assignment;
use super::message::{NewView, PbftMessage, Signed, Status, ViewChange};
use super::persistence::{Deferred, Record};
use super::{Guard, Pbft, Step, VIEW_TIMER, choice, statement};
use crate::{Action, Batch, Misbehaviour, Request};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, Instant, ReplicaId, Seq, View};
use core::time::Duration;

/// The view-change timeout doubles this often at most.
const MAX_DOUBLINGS: u32 = 8;

/// No replica is so many views behind that it does not hear of a new view first.
const FAR_VIEWS: u64 = 1 << 32;

impl Pbft {
    /// Sets the view timer for what it has to guard now, and leaves it running if that is what it
    /// guards already.
    pub(super) fn update_guard(&mut self, step: &mut Step) {
        let waits_for_disk = self.waits_for_disk();
        if waits_for_disk {
            self.held_up_until = step.now;
        }
        let is_held_up = self.is_in_view && waits_for_disk;
        let guard = if !self.membership.is_voter() || self.is_over() || is_held_up {
            None
        } else if !self.is_in_view {
            // Who asks for a later view has left this one too.
            let left = self.wished_views().filter(|view| *view >= self.view);
            let has_quorum = left.count() >= self.quorums().agreement();
            has_quorum.then_some(Guard::NewView(self.view))
        } else {
            // The primary too: f others may have executed what it waits for, with the help of f that
            // have fallen silent since, and f may have given up on it. It takes one more.
            let request = self.pending.oldest_signed().map(Guard::Request);
            self.waiting_end()
                .or(request)
                .or_else(|| self.waiting_null().map(Guard::Null))
                .or_else(|| self.waiting_tentative())
        };
        if guard == self.guard {
            return;
        }
        self.guard = guard;
        step.actions.push(match guard {
            Some(guard) => Action::SetTimer { id: VIEW_TIMER, after: self.time_left(step.now, guard) },
            None => Action::CancelTimer(VIEW_TIMER),
        });
    }

    /// Whether this replica can execute nothing before a state is on its own disk: no primary helps that.
    fn waits_for_disk(&self) -> bool {
        let is_full = self.executed >= self.end_of_execution();
        !self.keeping.is_empty() && (is_full || self.installed > self.stable_durable)
    }

    /// The number to execute next, if this replica stands for a null request there. No client asks for
    /// it, but a replica that recovers may wait for it.
    fn waiting_null(&self) -> Option<Seq> {
        let seq = self.executed.next();
        let assignment = self.log.get(seq)?.assignment?;
        (assignment.is_accepted && assignment.digest == Digest::NULL).then_some(seq)
    }

    /// A request has a timeout from its arrival, or from the start of the view or the end of a wait for
    /// this replica's own disk if that came later: it does not matter how many were served before it.
    fn time_left(&self, now: Instant, guard: Guard) -> Duration {
        let since = match guard {
            Guard::Request(arrival) => {
                self.pending.since(arrival).max(self.in_view_since).max(self.held_up_until)
            }
            Guard::Null(_) | Guard::Tentative(_) | Guard::NewView(_) | Guard::End(_) => now,
        };
        (since + self.view_timeout()).since(now)
    }

    /// How long this view may take: what the settings say in one that follows a view that worked, and twice as long in
    /// each after that (OSDI'99 §4.5.2).
    pub(super) fn view_timeout(&self) -> Duration {
        let doublings = self.fruitless_views.saturating_sub(1).min(MAX_DOUBLINGS);
        self.config.settings.view_timeout * 2u32.pow(doublings)
    }

    pub(super) fn on_view_timer(&mut self, step: &mut Step) {
        if self.guard.take().is_some() {
            self.leave_view(step, self.view.next());
        }
    }

    /// Gives up on the present view and asks for `view`.
    pub(super) fn leave_view(&mut self, step: &mut Step, view: View) {
        if !self.membership.is_voter() || view <= self.view {
            return;
        }
        self.drop_requests_that_stall(step);
        self.fruitless_views = self.fruitless_views.saturating_add(1);
        self.ask_for_view(step, view);
    }

    /// Asks for `view`, which lies beyond the present one.
    pub(super) fn ask_for_view(&mut self, step: &mut Step, view: View) {
        self.view = view;
        self.is_in_view = false;
        // Before the engine hears that it is in another view.
        self.withdraw_tentative(step);
        self.guard = None;
        self.floors.begin_view();
        (self.left_at, self.committing) = (step.now, None);
        self.new_view = None;
        self.own_new_view = None;
        (self.is_view_change_durable, self.is_new_view_durable) = (false, false);
        step.actions.push(Action::CancelTimer(VIEW_TIMER));
        step.actions.push(Action::LeftView(view));
        let view_change = ViewChange {
            view,
            incarnation: self.incarnation,
            stable: self.stable_certificate.clone(),
            prepared: self.log.prepared(),
            pre_prepared: self.log.pre_prepared(),
        };
        self.own_view_change = Some(view_change.clone());
        let record = Record::LeftView(view_change.clone());
        self.outbox.persist(step.actions, &record, Deferred::ViewChange(view_change));
    }

    /// Requests with MACs may be good for one replica and bad for another, and so hold up the order.
    /// The view ends: what came so from clients that were caught, or stands in this replica's own
    /// proposals that nobody prepared, is dropped. A correct client asks again, and signs.
    fn drop_requests_that_stall(&mut self, step: &mut Step) {
        let is_leading = self.is_leading();
        let mut caught = Vec::new();
        let mut unprepared = Vec::new();
        for (_, entry) in self.log.iter() {
            let Some(assignment) = entry.assignment else { continue };
            let Some(batch) = entry.bodies.get(&assignment.digest) else { continue };
            let has_prepared = entry.prepared == Some((assignment.view, assignment.digest));
            let with_macs = batch.requests.iter().filter(|request| request.has_macs());
            if is_leading && !has_prepared {
                unprepared.extend(with_macs.map(|request| request.client));
            } else if !assignment.is_authentic && !assignment.is_accepted {
                let is_bad = |r: &&Request| !r.is_authentic && !self.pending.has_authentic(r);
                caught.extend(with_macs.filter(is_bad).map(|request| request.client));
            }
        }
        for client in unprepared {
            self.pending.drop_unsigned(client);
        }
        self.name_caught(step, &caught);
    }

    fn view_changes_for(&self, view: View) -> impl Iterator<Item = &Signed<ViewChange>> {
        self.view_changes.values().filter(move |signed| signed.content.view == view)
    }

    pub(super) fn on_view_change(&mut self, step: &mut Step, signed: Signed<ViewChange>) {
        let (signer, view) = (signed.signer, signed.content.view);
        let said = |signed: &Signed<ViewChange>| {
            statement(&PbftMessage::ViewChange(signed.content.clone()), &signed.proof)
        };
        if !choice::is_well_formed(&self.terms(), &signed.content) {
            return self.accuse(
                step,
                signer,
                Misbehaviour::InvalidViewChange(view),
                alloc::vec![said(&signed)],
            );
        }
        // Signed while somebody had the replica, and kept: it would count for ever more than what that says.
        let is_from_future = signed.content.incarnation > Self::last_incarnation(step.now);
        if is_from_future || view.0 > self.view.0.saturating_add(FAR_VIEWS) {
            return;
        }
        // A replica that lost its disk begins anew: it can't be held to what it has forgotten.
        let known = self.view_changes.get(&signer);
        if let Some(known) = known.filter(|known| known.content.incarnation >= signed.content.incarnation) {
            let is_same_life = known.content.incarnation == signed.content.incarnation;
            if is_same_life && known.content.view == view && known.content != signed.content {
                let statements = alloc::vec![said(known), said(&signed)];
                return self.accuse(step, signer, Misbehaviour::ConflictingViewChange(view), statements);
            }
            if !is_same_life || known.content.view >= view {
                return;
            }
        }
        if let Some(certificate) = signed.content.stable.clone() {
            self.on_certificate(step, certificate);
        }
        self.returned.remove(&signer);
        self.view_changes.insert(signer, signed);
    }

    /// Takes down whether a replica says that it is in a view below the one that it had asked for.
    pub(super) fn note_return(&mut self, from: ReplicaId, status: Status) {
        let asked = self.view_changes.get(&from).map(|signed| signed.content.view);
        if status.is_in_view && asked.is_some_and(|asked| status.view < asked) {
            self.returned.insert(from);
        } else {
            self.returned.remove(&from);
        }
    }

    /// The views that replicas ask for, without those that they have taken back.
    fn wished_views(&self) -> impl Iterator<Item = View> {
        let asking = self.view_changes.iter().filter(|(signer, _)| !self.returned.contains(signer));
        asking.map(|(_, signed)| signed.content.view)
    }

    /// Follows f + 1 replicas that ask for later views: one of them is correct (TOCS'02 §4.4).
    pub(super) fn join_view_change(&mut self, step: &mut Step) {
        let mut later: Vec<_> = self.wished_views().filter(|view| *view > self.view).collect();
        later.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(view) = later.get(self.quorums().one_correct() - 1) {
            self.leave_view(step, *view);
        }
    }

    /// As primary of a view that has not started: starts it, once the view changes suffice to decide
    /// every number and the batches are here (condition A3).
    pub(super) fn start_new_view(&mut self, step: &mut Step) {
        let is_due = !self.is_in_view && self.primary() == self.me() && self.membership.is_voter();
        if !is_due || self.own_new_view.is_some() {
            return;
        }
        let view_changes: Vec<_> = self.view_changes_for(self.view).cloned().collect();
        let contents: Vec<_> = view_changes.iter().map(|signed| &signed.content).collect();
        let Some(choice) = choice::choose(self.quorums(), self.config.settings.log_size, &contents) else {
            return;
        };
        let proposals = choice.proposals;
        let missing: Vec<_> =
            proposals.iter().copied().filter(|(seq, digest)| self.is_missing(*seq, *digest)).collect();
        for (seq, digest) in &missing {
            self.fetch_batch(step, *seq, *digest);
        }
        if missing.is_empty() {
            // What it proposes it stands for, as after any pre-prepare: Q holds it before the new
            // view leaves.
            let stable = self.stable;
            for (seq, digest) in proposals.iter().copied().filter(|(seq, _)| *seq > stable) {
                self.stand_for(step, self.view, seq, digest, Deferred::Nothing);
            }
            let new_view = NewView { view: self.view, view_changes, proposals };
            self.own_new_view = Some(new_view.clone());
            let record = Record::MadeNewView(new_view.clone());
            self.outbox.persist(step.actions, &record, Deferred::NewView(new_view));
        }
    }

    /// Whether this replica can't stand for the batch: it has not got it, or has no place for it yet.
    fn is_missing(&self, seq: Seq, digest: Digest) -> bool {
        let has_body = digest == Digest::NULL
            || self.log.get(seq).is_some_and(|entry| entry.bodies.contains_key(&digest));
        let is_known = seq <= self.stable || (self.is_in_watermarks(seq) && has_body);
        !is_known
    }

    pub(super) fn on_new_view(&mut self, step: &mut Step, signed: Signed<NewView>) {
        let view = signed.content.view;
        let is_return = self.rejoinable() == Some(view);
        if (view < self.view && !is_return) || (view == self.view && self.is_in_view) {
            return;
        }
        if choice::is_valid_new_view(&self.terms(), signed.signer, &signed.content) {
            if is_return {
                self.take_back_view_change(step);
                self.proven = Some(view);
            } else if self.is_forgetful(&signed.content) {
                return self.wait_for_proof(step);
            }
            return self.enter_view(step, signed);
        }
        let said = statement(&PbftMessage::NewView(signed.content), &signed.proof);
        self.accuse(step, signed.signer, Misbehaviour::InvalidNewView(view), alloc::vec![said]);
        if view == self.view && signed.signer == self.primary() {
            self.leave_view(step, view.next());
        }
    }

    fn enter_view(&mut self, step: &mut Step, signed: Signed<NewView>) {
        let new_view = &signed.content;
        let stables = new_view.view_changes.iter().filter_map(|vc| vc.content.stable.clone());
        if let Some(certificate) = stables.max_by_key(|certificate| certificate.checkpoint.seq) {
            self.on_certificate(step, certificate);
        }
        let proposals = new_view.proposals.clone();
        self.resume_view(signed.clone());
        self.in_view_since = step.now;
        self.outbox.persist(step.actions, &Record::EnteredView(signed), Deferred::Nothing);
        step.actions.push(Action::EnteredView(self.view));
        for (seq, _) in &proposals {
            self.accept_assignment(step, *seq);
        }
        self.forward_pending(step);
    }

    /// A view has started: passes on to its primary what waits here.
    pub(super) fn forward_pending(&mut self, step: &mut Step) {
        if !self.is_leading() {
            let primary = self.primary();
            for request in self.pending.iter() {
                step.send(primary, PbftMessage::Forward(request.clone()));
            }
        }
    }

    /// Puts the replica into the view that `signed` starts, with the assignments it makes.
    pub(super) fn resume_view(&mut self, signed: Signed<NewView>) {
        let content = &signed.content;
        let last = content.proposals.last().map_or(Seq(0), |(seq, _)| *seq);
        let start = content.start();
        self.begin_view(content.view);
        self.new_view = Some(signed);
        self.assign_from_new_view();
        self.next_seq = last.max(start).max(self.stable).next();
    }

    /// Takes up what the new view of the present view assigned, as far as the log reaches. What lies
    /// beyond it comes when the log gets there: nothing else may be voted for at those numbers.
    pub(super) fn assign_from_new_view(&mut self) {
        let Some(content) = self.new_view.as_ref().map(|signed| &signed.content) else { return };
        let view = content.view;
        let (low, high) = (self.stable, self.high_watermark());
        for (seq, digest) in content.proposals.iter().copied().filter(|(seq, _)| low < *seq && *seq <= high) {
            let entry = self.log.entry(seq);
            if entry.assignment.is_some() {
                continue;
            }
            if digest == Digest::NULL {
                entry.bodies.insert(digest, Arc::new(Batch::null()));
            }
            entry.assignment = Some(Assignment { is_signed: true, ..Assignment::new(view, digest, true) });
            if let Some(batch) = entry.bodies.get(&digest) {
                self.pending.note_proposed(batch);
            }
        }
    }

    /// Whether the new view of the present view says something about a number: what it assigned stays,
    /// and what lies below its start is decided.
    pub(super) fn is_settled_by_new_view(&self, seq: Seq) -> bool {
        self.new_view.as_ref().is_some_and(|signed| {
            let NewView { proposals, .. } = &signed.content;
            seq <= signed.content.start() || proposals.iter().any(|(assigned, _)| *assigned == seq)
        })
    }

    /// Puts the replica into a view, without any assignment.
    pub(super) fn begin_view(&mut self, view: View) {
        self.view = view;
        self.is_in_view = true;
        self.guard = None;
        self.committing = None;
        self.own_view_change = None;
        self.own_new_view = None;
        self.floors.begin_view();
        self.log.start_view();
        self.wanted.clear();
        self.pending.reset_proposed();
    }
}
