//! Leaving a primary that does not serve (Zyzzyva §3.3), and gathering what the next one starts from.
//! How a view is entered: [`super::entering`].

use super::choice;
use super::gathering::Progress;
use super::message::{NewView, Signed, ViewChange, ZyzzyvaMessage};
use super::mode::Mode;
use super::persistence::{Deferred, Record};
use super::{Guard, Step, VIEW_TIMER, Zyzzyva, ZyzzyvaSettings, statement};
use crate::{Action, Misbehaviour};
use althing_types::{Instant, View};
use core::time::Duration;

/// The view-change timeout doubles this often at most.
const MAX_DOUBLINGS: u32 = 8;

/// Who has left a view alone is followed after so many view timeouts.
const LONE_TIMEOUTS: u32 = 16;

/// No replica is so many views behind that it does not hear of a new view first.
const FAR_VIEWS: u64 = 1 << 32;

impl Zyzzyva {
    /// Sets the view timer for what it has to guard now, and leaves it running if that is what it
    /// guards already.
    pub(super) fn update_guard(&mut self, step: &mut Step) {
        let waits_for_disk = self.waits_for_disk();
        if waits_for_disk {
            self.held_up_until = step.now;
        }
        let is_held_up = self.is_in_view && waits_for_disk;
        let guard = if !self.is_voting() || self.is_over() || is_held_up {
            None
        } else if !self.is_in_view {
            // Who asks for a later view has left this one too.
            let left = self.view_changes.values().filter(|signed| signed.content.view >= self.view);
            (left.count() >= self.quorums().agreement()).then_some(Guard::NewView(self.view))
        } else {
            let request = self.pending.oldest_signed().map(Guard::Request);
            let is_speculative = self.log.last() > self.executed;
            self.waiting_end()
                .or(request)
                .or_else(|| is_speculative.then_some(Guard::Final(self.executed.next())))
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
        let is_full = self.log.last().0 >= self.stable_durable.0 + self.config.settings.log_size;
        !self.keeping.is_empty() && (is_full || self.installed > self.stable_durable)
    }

    /// A request has a timeout from its arrival, or from the start of the view or the end of a wait for
    /// this replica's own disk if that came later: it does not matter how many were served before it.
    fn time_left(&self, now: Instant, guard: Guard) -> Duration {
        let since = match guard {
            Guard::Request(arrival) => {
                self.pending.since(arrival).max(self.in_view_since).max(self.held_up_until)
            }
            Guard::Final(_) | Guard::NewView(_) | Guard::End(_) => now,
        };
        (since + self.timeout()).since(now)
    }

    /// How long is waited for a view. One that needs all is not worth much, since the next will do without.
    fn timeout(&self) -> Duration {
        let ZyzzyvaSettings { view_timeout, settle_patience, .. } = self.config.settings;
        if self.mode().needs_all() {
            return (view_timeout / 4).max(2 * settle_patience);
        }
        // The view after one that worked has the timeout itself.
        let doublings = self.fruitless_views.saturating_sub(1).min(MAX_DOUBLINGS);
        view_timeout * 2u32.pow(doublings)
    }

    pub(super) fn on_view_timer(&mut self, step: &mut Step) {
        if self.guard.take().is_none() {
            return;
        }
        self.leave_view(step, self.view.next());
    }

    /// Gives up on the present view and asks for `view`.
    pub(super) fn leave_view(&mut self, step: &mut Step, view: View) {
        if self.is_voting() && view > self.view {
            // It says nothing of a primary that one in which all are needed has ended.
            if !self.mode().needs_all() {
                self.fruitless_views = self.fruitless_views.saturating_add(1);
            }
            self.drop_requests_that_stall();
            self.ask_for_view(step, view);
        }
    }

    pub(super) fn ask_for_view(&mut self, step: &mut Step, view: View) {
        self.name_unbelieved(step);
        self.begin_to_leave(step, view);
        let view_change = ViewChange {
            view,
            stable: self.base.clone(),
            certificate: self.certificate.clone(),
            log: self.log.digests(),
        };
        self.own_view_change = Some(view_change.clone());
        let record = Record::LeftView(view_change.clone());
        self.outbox.persist(step.actions, &record, Deferred::ViewChange(view_change));
    }

    /// The present view is over here; `view` has not started.
    pub(super) fn begin_to_leave(&mut self, step: &mut Step, view: View) {
        self.set_out_for(view);
        step.actions.push(Action::CancelTimer(VIEW_TIMER));
        step.actions.push(Action::LeftView(view));
    }

    pub(super) fn set_out_for(&mut self, view: View) {
        self.view = view;
        self.is_in_view = false;
        self.guard = None;
        self.entry = None;
        self.entering = None;
        self.own_new_view = None;
        (self.is_view_change_durable, self.is_new_view_durable) = (false, false);
        self.orders.clear();
        self.links.clear();
        self.progress = Progress::default();
        self.shown = None;
        self.hole_after = None;
    }

    pub(super) fn on_view_change(&mut self, step: &mut Step, signed: Signed<ViewChange>) {
        let (signer, view) = (signed.signer, signed.content.view);
        let said = |signed: &Signed<ViewChange>| {
            statement(&ZyzzyvaMessage::ViewChange(signed.content.clone()), &signed.proof)
        };
        if !choice::is_well_formed(&self.terms(), &signed.content) {
            let misbehaviour = Misbehaviour::InvalidViewChange(view);
            return self.accuse(step, signer, misbehaviour, alloc::vec![said(&signed)]);
        }
        if view.0 > self.view.0.saturating_add(FAR_VIEWS) {
            return;
        }
        if let Some(known) = self.view_changes.get(&signer) {
            if known.content.view == view && known.content != signed.content {
                let statements = alloc::vec![said(known), said(&signed)];
                return self.accuse(step, signer, Misbehaviour::ConflictingViewChange(view), statements);
            }
            if known.content.view >= view {
                return;
            }
        }
        if let Some(certificate) = signed.content.stable.clone() {
            self.on_certificate(step, certificate);
        }
        self.view_changes.insert(signer, signed);
    }

    /// Follows f + 1 replicas that ask for later views: one of them is correct.
    pub(super) fn join_view_change(&mut self, step: &mut Step) {
        let asked = self.view_changes.values().map(|signed| signed.content.view);
        let mut later: alloc::vec::Vec<_> = asked.filter(|view| *view > self.view).collect();
        later.sort_unstable_by(|a, b| b.cmp(a));
        let Some(view) = later.get(self.quorums().one_correct() - 1).copied() else { return };
        // Who tries something faster says nothing of this view's primary.
        if self.is_in_view && self.mode() == Mode::Backup && view == self.anew() {
            self.step_out_to(step, view);
        } else {
            self.leave_view(step, view);
        }
    }

    /// Takes along, after a while, who has left this view alone: it can't come back, and while it is away no
    /// client is answered by all. A faulty replica can end a view so, and no two of them within that while.
    pub(super) fn take_along(&mut self, step: &mut Step) {
        let is_away = self.view_changes.values().any(|signed| signed.content.view > self.view);
        if !self.is_in_view || !is_away {
            self.lone_since = None;
            return;
        }
        let since = *self.lone_since.get_or_insert(step.now);
        let patience = self.config.settings.view_timeout * LONE_TIMEOUTS;
        if step.now.since(since.max(self.in_view_since)) >= patience {
            self.lone_since = None;
            self.step_out(step);
        }
    }

    /// As primary: hands the view over to the next one, before it stops.
    pub(super) fn on_hand_over(&mut self, step: &mut Step) {
        let matters = self.is_leading() || (self.is_in_view && self.mode().needs_all());
        if matters && self.quorums().n() > 1 {
            self.step_out(step);
        }
    }

    /// Leaves a view that worked for the next one. It was not in vain then, so that the next primary need
    /// not be given more time, nor ask clients for signatures.
    pub(super) fn step_out(&mut self, step: &mut Step) {
        self.step_out_to(step, self.view.next());
    }

    fn step_out_to(&mut self, step: &mut Step, view: View) {
        if self.fruitless_views > 0 || self.pending.oldest_signed().is_some() {
            self.leave_view(step, view);
        } else if self.is_voting() {
            self.drop_requests_that_stall();
            self.ask_for_view(step, view);
        }
    }

    /// As primary of a view that has not started: starts it, once enough others ask for it.
    pub(super) fn start_new_view(&mut self, step: &mut Step) {
        let is_due = !self.is_in_view && self.primary() == self.me() && self.is_voting();
        if !is_due || self.own_new_view.is_some() || self.entering.is_some() {
            return;
        }
        let asking = self.view_changes.values().filter(|signed| signed.content.view == self.view);
        let view_changes: alloc::vec::Vec<_> = asking.cloned().collect();
        if view_changes.len() >= self.quorums().agreement() {
            let new_view = NewView { view: self.view, view_changes };
            self.own_new_view = Some(new_view.clone());
            let record = Record::MadeNewView(new_view.clone());
            self.outbox.persist(step.actions, &record, Deferred::NewView(new_view));
        }
    }

    /// A view has started: passes on to its primary what waits here.
    pub(super) fn forward_pending(&mut self, step: &mut Step) {
        if !self.is_leading() && self.mode() != Mode::Quorum {
            let primary = self.primary();
            for request in self.pending.iter() {
                step.send(primary, ZyzzyvaMessage::Forward(request.clone()));
            }
        }
    }
}
