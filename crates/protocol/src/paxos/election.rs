//! How a leader is replaced: phase 1, for all numbers at once, and the reconciliation of what a majority has
//! accepted (Paxos Made Simple §3).
//!
//! A promise for a view says what its maker has accepted above its stable checkpoint. A leader that has those
//! of an agreement quorum starts its view at the highest stable checkpoint among them: up to there all is
//! decided. Above, it proposes for each number what was accepted there in the highest view, and the null
//! request where nothing was.
//!
//! A promise whose window ends below that start is void. It says nothing of the numbers above its window, and
//! its maker accepts nothing there as long as it knows only that checkpoint; so why it must not count is not
//! for what a replica that is merely slow could have accepted, but for what one could that has lost its disk
//! since: see `recovery`. A slow one learns of the checkpoint, and promises again.

use super::message::{PaxosMessage, Promise, StartView, Vote};
use super::persistence::{Deferred, Record};
use super::{Guard, Paxos, Step, VIEW_TIMER};
use crate::{Action, Misbehaviour};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{Digest, Instant, ReplicaId, Seq, View};
use core::time::Duration;

/// The view timeout doubles this often at most.
const MAX_DOUBLINGS: u32 = 8;

/// Where a view starts, and what was accepted last at each number above.
type Choice = (Seq, Vec<(Seq, Digest)>);

impl Paxos {
    /// Sets the view timer for what it has to guard now, and leaves it running if that is what it
    /// guards already.
    pub(super) fn update_guard(&mut self, step: &mut Step) {
        let is_held_up = self.state.is_in_view && self.waits_for_state();
        if is_held_up {
            self.state.held_up_until = step.now;
        }
        let is_done = self.state.is_in_view && self.is_over();
        let guard = if !self.is_voting() || is_held_up || is_done {
            None
        } else if self.state.is_in_view {
            // The leader too: it may hear nobody.
            let request = self.state.pending.oldest().map(Guard::Request);
            request.or_else(|| self.waiting_accepted()).or_else(|| self.waiting_end())
        } else {
            let left = self.state.promises.values().filter(|promise| promise.view >= self.state.view);
            let has_quorum = left.count() >= self.quorums().agreement();
            has_quorum.then_some(Guard::StartView(self.state.view))
        };
        if guard == self.state.guard {
            return;
        }
        self.state.guard = guard;
        step.actions.push(match guard {
            Some(guard) => Action::SetTimer { id: VIEW_TIMER, after: self.time_left(step.now, guard) },
            None => Action::CancelTimer(VIEW_TIMER),
        });
    }

    /// Whether this replica can execute nothing before a state is on its own disk, or here at all: no leader
    /// helps that.
    fn waits_for_state(&self) -> bool {
        let state = &self.state;
        let is_full = state.executed >= self.end_of_execution();
        let waits_for_disk = !state.keeping.is_empty() && (is_full || state.installed > state.stable_durable);
        waits_for_disk || state.fetching.is_some()
    }

    /// The number to execute next, if this replica has accepted something there or beyond. No client may ask
    /// for it, but a replica that recovers may wait for it.
    fn waiting_accepted(&self) -> Option<Guard> {
        let last = self.state.log.last_accepted()?;
        (last > self.state.executed).then(|| Guard::Accepted(self.state.executed.next()))
    }

    /// A request has a timeout from its arrival, or from the start of the view or the end of a wait for a state
    /// if that came later: it does not matter how many were served before it.
    fn time_left(&self, now: Instant, guard: Guard) -> Duration {
        let state = &self.state;
        let since = match guard {
            Guard::Request(arrival) => {
                state.pending.since(arrival).max(state.in_view_since).max(state.held_up_until)
            }
            Guard::Accepted(_) | Guard::StartView(_) | Guard::End(_) => now,
        };
        (since + self.view_timeout()).since(now)
    }

    /// How long this view may take: what the settings say in one that follows a view that worked, and twice as long in
    /// each after that.
    fn view_timeout(&self) -> Duration {
        let doublings = self.state.fruitless_views.saturating_sub(1).min(MAX_DOUBLINGS);
        self.config.settings.view_timeout * 2u32.pow(doublings)
    }

    pub(super) fn on_view_timer(&mut self, step: &mut Step) {
        if self.state.guard.take().is_some() {
            self.leave_view(step, self.state.view.next());
        }
    }

    /// As leader that is to stop: hands over to the next one, so that nobody has to wait for a timeout.
    pub(super) fn on_hand_over(&mut self, step: &mut Step) {
        if self.is_leading() && self.quorums().n() > 1 {
            self.step_out(step, self.state.view.next());
        }
    }

    /// Leaves a view that worked for another one. It was not in vain then, so that the next leader need not be
    /// given more time.
    fn step_out(&mut self, step: &mut Step, view: View) {
        if self.state.fruitless_views > 0 || !self.state.pending.is_empty() {
            self.leave_view(step, view);
        } else if self.is_voting() {
            self.promise(step, view);
        }
    }

    /// Gives up on the present view and asks for `view`.
    pub(super) fn leave_view(&mut self, step: &mut Step, view: View) {
        if self.is_voting() && view > self.state.view {
            self.state.fruitless_views = self.state.fruitless_views.saturating_add(1);
            self.promise(step, view);
        }
    }

    /// Promises `view`, which lies beyond the present one. That leaves once it is on disk.
    fn promise(&mut self, step: &mut Step, view: View) {
        let state = &mut self.state;
        (state.view, state.is_in_view) = (view, false);
        state.guard = None;
        state.start_view = None;
        (state.is_promise_durable, state.is_start_durable) = (false, false);
        step.actions.push(Action::CancelTimer(VIEW_TIMER));
        step.actions.push(Action::LeftView(view));
        let record = Record::Promised { view, is_in_view: false };
        state.outbox.persist(step.actions, &record, Deferred::Promise(view));
    }

    /// What this replica promises, as it stands. It accepts nothing any more in lower views, so all that changes
    /// is how much of it is decided.
    pub(super) fn own_promise(&self) -> Option<Promise> {
        let state = &self.state;
        let is_due = !state.is_in_view && state.is_promise_durable;
        let accepted = || state.log.accepted();
        is_due.then(|| Promise { view: state.view, stable: state.stable_checkpoint, accepted: accepted() })
    }

    /// Says to all what this replica promises, which is on disk, and counts it.
    pub(super) fn say_promise(&mut self, step: &mut Step) {
        if let Some(promise) = self.own_promise() {
            self.state.promises.insert(self.config.me, promise.clone());
            step.broadcast(PaxosMessage::Promise(promise));
        }
    }

    pub(super) fn on_promise(&mut self, step: &mut Step, from: ReplicaId, promise: Promise) {
        // Whoever leads proposes something for each number up to the last.
        let stable = promise.stable_seq();
        let end = Seq(stable.0.saturating_add(self.window()));
        if !promise.accepted.iter().all(|vote| stable < vote.seq && vote.seq <= end) {
            return self.accuse(step, from, Misbehaviour::InvalidMessage);
        }
        if let Some(checkpoint) = promise.stable {
            self.on_stable(step, checkpoint);
        }
        let known = self.state.promises.get(&from);
        let is_newer =
            |known: &Promise| (promise.view, promise.stable_seq()) > (known.view, known.stable_seq());
        if known.is_none_or(is_newer) {
            self.state.promises.insert(from, promise);
        }
    }

    /// Leaves the view where that has become useless: its leader has left it; or this replica leads it, and has
    /// lost an acceptor; or this one is all that is missing to a quorum in a later view.
    pub(super) fn follow_others(&mut self, step: &mut Step) {
        let (me, view) = (self.me(), self.state.view);
        let others = self.state.promises.iter().filter(|(from, _)| **from != me);
        let mut later: Vec<_> =
            others.map(|(_, promise)| promise.view).filter(|other| *other > view).collect();
        later.sort_unstable_by(|a, b| b.cmp(a));
        let Some(last) = later.first().copied() else { return };
        let leader_left = self.state.promises.get(&self.leader()).is_some_and(|promise| promise.view > view);
        if self.state.is_in_view && (self.is_leading() || leader_left) {
            self.step_out(step, last);
        } else if let Some(shared) = later.get(self.quorums().agreement() - 2) {
            self.leave_view(step, *shared);
        }
    }

    /// As leader of a view that has not started: starts it, once an agreement quorum has promised it and the
    /// batches are here.
    pub(super) fn start_own_view(&mut self, step: &mut Step) {
        let is_due = !self.state.is_in_view && self.leader() == self.me() && self.is_voting();
        if !is_due || !self.state.promises.contains_key(&self.config.me) {
            return;
        }
        let Some((start, values)) = self.choose() else { return };
        // The highest stable checkpoint is this replica's own then: nobody else's lies above.
        if self.state.stable < start {
            return;
        }
        let log = &self.state.log;
        let is_missing = |(seq, digest): &&(Seq, Digest)| {
            log.get(*seq).is_none_or(|entry| entry.batch(*digest).is_none()) && *digest != Digest::NULL
        };
        let missing: Vec<_> = values.iter().filter(is_missing).copied().collect();
        for (seq, digest) in &missing {
            self.fetch_batch(step, *seq, *digest);
        }
        if missing.is_empty() {
            self.lead(step, values);
        }
    }

    fn lead(&mut self, step: &mut Step, values: Vec<(Seq, Digest)>) {
        let view = self.state.view;
        let last = values.last().map_or(Seq(0), |(seq, _)| *seq);
        let start_view = StartView { view, stable: self.state.stable_checkpoint, values };
        self.begin_view(view, &start_view.values);
        // Before whatever this replica accepts in its own view: it starts that in no other way.
        let record = Record::Started(start_view.clone());
        self.state.outbox.persist(step.actions, &record, Deferred::StartView(view));
        self.state.start_view = Some(start_view);
        self.state.next_seq = last.max(self.state.executed).max(self.state.stable).next();
        self.state.in_view_since = step.now;
        step.actions.push(Action::EnteredView(view));
        self.take_start(step);
    }

    /// Where the view starts, and what has to be proposed above.
    fn choose(&self) -> Option<Choice> {
        let promised = || self.state.promises.values().filter(|promise| promise.view == self.state.view);
        let start = promised().map(Promise::stable_seq).max()?;
        let reaches = |promise: &&Promise| promise.stable_seq().0.saturating_add(self.window()) >= start.0;
        let counted: Vec<_> = promised().filter(reaches).collect();
        if counted.len() < self.quorums().agreement() {
            return None;
        }
        let mut last: BTreeMap<Seq, (View, Digest)> = BTreeMap::new();
        for Vote { seq, view, digest } in counted.iter().flat_map(|promise| &promise.accepted) {
            let known = last.entry(*seq).or_insert((*view, *digest));
            *known = (*known).max((*view, *digest));
        }
        let end = last.last_key_value().map_or(start, |(seq, _)| *seq);
        let value = |seq| last.get(&seq).map_or(Digest::NULL, |(_, digest)| *digest);
        let numbers = (start.0 + 1..=end.0).map(Seq);
        Some((start, numbers.map(|seq| (seq, value(seq))).collect()))
    }

    pub(super) fn on_start_view(&mut self, step: &mut Step, start_view: StartView) {
        let view = start_view.view;
        let is_known = self.state.is_in_view && self.state.start_view.is_some();
        if view < self.state.view || (view == self.state.view && is_known) || view == View(0) {
            return;
        }
        if let Some(checkpoint) = start_view.stable {
            self.on_stable(step, checkpoint);
        }
        self.follow_into(step, view, &start_view.values);
        self.state.start_view = Some(start_view);
        self.take_start(step);
    }

    /// Takes up what the leader proposes to start the present view with, as far as the window reaches.
    pub(super) fn take_start(&mut self, step: &mut Step) {
        let Some(start_view) = self.state.start_view.as_ref().filter(|_| self.state.is_in_view) else {
            return;
        };
        let in_window = start_view.values.iter().filter(|(seq, _)| self.is_in_window(*seq));
        for (seq, digest) in in_window.copied().collect::<Vec<_>>() {
            self.state.log.entry(seq).proposal = Some(digest);
            self.accept(step, seq);
        }
    }

    /// Puts the replica into a view that starts with these values, before it takes up any of them.
    pub(super) fn begin_view(&mut self, view: View, values: &[(Seq, Digest)]) {
        let state = &mut self.state;
        (state.view, state.is_in_view) = (view, true);
        state.guard = None;
        state.start_view = None;
        (state.is_promise_durable, state.is_start_durable) = (false, false);
        state.promises.retain(|_, promise| promise.view > view);
        state.log.start_view(values);
        state.wanted.clear();
        state.pending.reset_proposed();
    }

    /// This replica follows somebody else into the view that it was put into. That promises the view too.
    pub(super) fn enter_view(&mut self, step: &mut Step) {
        let view = self.state.view;
        self.state.in_view_since = step.now;
        let record = Record::Promised { view, is_in_view: true };
        self.state.outbox.persist(step.actions, &record, Deferred::Nothing);
        step.actions.push(Action::CancelTimer(VIEW_TIMER));
        step.actions.push(Action::EnteredView(view));
        self.forward_pending(step);
    }

    /// A view has started: passes on to its leader what waits here.
    pub(super) fn forward_pending(&mut self, step: &mut Step) {
        let leader = self.leader();
        for request in self.state.pending.iter().filter(|_| leader != self.me()) {
            step.send(leader, PaxosMessage::Forward(request.clone()));
        }
    }
}
