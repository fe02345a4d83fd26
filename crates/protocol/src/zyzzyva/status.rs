//! Retransmission, driven by what the others say they have, and the fetching of batches and assignments.

use super::message::{Status, ZyzzyvaMessage};
use super::mode::Mode;
use super::{STATUS_TIMER, Step, Zyzzyva};
use crate::{Action, Batch};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use althing_types::{Digest, Instant, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// How many assignments one status or request brings at most.
const RESEND_BURST: usize = 32;

/// A replica that waits for nothing sends its status only every so many periods.
pub(super) const IDLE_PERIODS: u64 = 10;

/// What the others last said of themselves.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Peers {
    statuses: BTreeMap<ReplicaId, Peer>,
    ticks: u64,
    /// What this replica had executed at the last tick, and whether it was behind of a stable checkpoint then.
    at_tick: (Seq, bool),
    /// What it had accepted then.
    accepted_at_tick: Seq,
}

impl Peers {
    /// How many others have said last what this holds for.
    pub(super) fn count(&self, holds: impl Fn(&Status) -> bool) -> usize {
        self.statuses.values().filter(|peer| holds(&peer.status)).count()
    }
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
struct Peer {
    status: Status,
    answered: Option<Instant>,
}

impl Zyzzyva {
    pub(super) fn on_status_timer(&mut self, step: &mut Step) {
        step.actions.push(Action::SetTimer { id: STATUS_TIMER, after: self.config.settings.status_period });
        self.peers.ticks += 1;
        let at_tick = core::mem::replace(&mut self.peers.at_tick, (self.executed, self.behind.is_some()));
        self.fetch_state_if_stuck(step, at_tick == (self.executed, true));
        let accepted = core::mem::replace(&mut self.peers.accepted_at_tick, self.log.last());
        self.abort_if_missing(step, accepted);
        self.hole_after = None;
        self.leave_liar_in_view(step);
        self.orders.forget_demand();
        self.take_along(step);
        if self.is_waiting() || self.peers.ticks.is_multiple_of(IDLE_PERIODS) {
            step.broadcast(ZyzzyvaMessage::Status(self.status()));
        }
    }

    fn status(&self) -> Status {
        Status {
            view: self.view,
            is_in_view: self.is_in_view,
            is_voting: self.is_voting(),
            stable: if self.behind.is_some() { self.stable } else { self.log.base() },
            accepted: self.log.last(),
            executed: self.executed,
        }
    }

    /// Whether something is under way that the others' help may finish.
    fn is_waiting(&self) -> bool {
        // One alone may say what it likes.
        let ahead = self.peers.count(|theirs| {
            theirs.view > self.view || theirs.accepted > self.log.last() || theirs.executed > self.executed
        });
        let base = self.log.base();
        !self.is_in_view
            || self.behind.is_some()
            || self.end.is_some()
            || !self.has_state()
            || !self.pending.is_empty()
            || !self.orders.is_empty()
            || !self.links.is_empty()
            || self.log.last() > self.executed
            || self.own_checkpoints.last_key_value().is_some_and(|(seq, _)| *seq > base)
            || ahead >= self.quorums().one_correct()
    }

    pub(super) fn on_status(&mut self, step: &mut Step, from: ReplicaId, status: Status) {
        let answer_again = self.config.settings.status_period / 2;
        let known = self.peers.statuses.get(&from);
        let last = known.and_then(|peer| peer.answered);
        let is_answered = last.is_some_and(|at| step.now.since(at) < answer_again);
        // What is on its way need not be sent again: only a peer that has not moved is helped.
        let is_stuck = known.is_some_and(|peer| {
            let known = peer.status;
            (known.accepted, known.executed, known.stable)
                == (status.accepted, status.executed, status.stable)
        });
        let answered = if is_answered { last } else { Some(step.now) };
        self.peers.statuses.insert(from, Peer { status, answered });
        if !status.is_voting && self.mode().needs_all() {
            self.abort(step);
        }
        if is_answered || from == self.me() {
            return;
        }
        self.help_into_view(step, from, status);
        if let Some(base) = self.base.clone().filter(|base| status.stable < base.checkpoint.seq) {
            step.send(from, ZyzzyvaMessage::RelayStable(base));
        }
        if is_stuck {
            self.resend_checkpoints(step, from, status);
            if status.view == self.view && status.is_in_view && self.is_in_view {
                if self.mode() == Mode::Chain {
                    self.link_again(step, from, status.accepted);
                } else {
                    self.relay_orders(step, from, status.accepted.next(), Seq(u64::MAX));
                }
            }
            self.resend_statements(step, from, status);
        }
    }

    fn help_into_view(&self, step: &mut Step, peer: ReplicaId, status: Status) {
        let misses_view = status.view < self.view || (status.view == self.view && !status.is_in_view);
        if !misses_view {
            return;
        }
        if let Some((new_view, certificate)) = self.entry.clone().filter(|_| self.is_in_view) {
            let certificate = Some(certificate);
            step.send(peer, ZyzzyvaMessage::RelayNewView { new_view, certificate });
        }
        if self.is_in_view {
            return;
        }
        if let Some(content) = self.own_view_change.clone().filter(|_| self.is_view_change_durable) {
            step.send_signed(peer, ZyzzyvaMessage::ViewChange(content));
        }
        if let Some(content) = self.own_new_view.clone().filter(|_| self.is_new_view_durable) {
            step.send_signed(peer, ZyzzyvaMessage::NewView(content));
        }
        if let Some(entering) = &self.entering {
            let new_view = entering.new_view.clone();
            let certificate = entering.certificate.clone();
            if entering.is_confirmed && self.is_voting() {
                let own = entering.choice.confirmation(self.view);
                step.send_signed(peer, ZyzzyvaMessage::Speculated(own));
            }
            step.send(peer, ZyzzyvaMessage::RelayNewView { new_view, certificate });
        }
    }

    fn resend_checkpoints(&self, step: &mut Step, peer: ReplicaId, status: Status) {
        let own = self.own_checkpoints.iter().filter(|(seq, _)| **seq > status.stable && self.is_voting());
        for (seq, (state, _)) in own.filter(|(_, (_, is_durable))| *is_durable) {
            let checkpoint = super::Checkpoint { seq: *seq, state: *state };
            step.send_signed(peer, ZyzzyvaMessage::Checkpoint(checkpoint));
        }
    }

    /// What this replica has said last to settle, and what it holds certificates for.
    fn resend_statements(&self, step: &mut Step, peer: ReplicaId, status: Status) {
        if let Some(said) = self.said.filter(|said| said.seq > status.executed && said.view == self.view) {
            step.send_signed(peer, ZyzzyvaMessage::Speculated(said));
        }
        for own in self.commitments.of(self.me()).filter(|own| own.seq > status.executed) {
            step.send(peer, ZyzzyvaMessage::Committed(own));
        }
    }

    /// Passes on the assignments of this view between two numbers, not too many and not too often: as primary its
    /// own, else what that has signed, or hearsay.
    pub(super) fn relay_orders(&mut self, step: &mut Step, to: ReplicaId, first: Seq, last: Seq) {
        if first > last || !self.mode().is_led() || !self.may_give(step, to, Seq(0)) {
            return;
        }
        let (view, is_leading) = (self.view, self.is_leading());
        let wanted = self.log.after(Seq(first.0.saturating_sub(1))).take_while(|(seq, _)| *seq <= last);
        let (durable, brought) = (self.durable, self.brought_to());
        let of_view = wanted.filter(|(seq, slot)| slot.view == view && *seq <= durable && *seq > brought);
        let mut has_given = false;
        for (seq, slot) in of_view.take(RESEND_BURST) {
            let message = match slot.order.clone() {
                Some(order) => ZyzzyvaMessage::RelayOrder(order),
                None if is_leading => ZyzzyvaMessage::OrderRequest(slot.order_request(seq)),
                None => ZyzzyvaMessage::Hearsay(slot.order_request(seq)),
            };
            step.send(to, message);
            has_given = true;
        }
        if has_given {
            self.given.insert((to, Seq(0)), step.now);
        }
    }

    /// Whether somebody may be given something: not again and again.
    pub(super) fn may_give(&self, step: &Step, to: ReplicaId, what: Seq) -> bool {
        let again = self.config.settings.status_period / 2;
        self.given.get(&(to, what)).is_none_or(|at| step.now.since(*at) >= again)
    }

    pub(super) fn on_fill_hole(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        view: View,
        first: Seq,
        last: Seq,
    ) {
        if self.is_in_view && view == self.view {
            self.relay_orders(step, from, first, last);
        }
    }

    /// Asks everybody for a batch that a new view brings along, again only after a while.
    pub(super) fn fetch_batch(&mut self, step: &mut Step, seq: Seq, digest: Digest) {
        let again = self.config.settings.status_period;
        let asked = self.wanted.get(&(seq, digest));
        if asked.is_none_or(|at| step.now.since(*at) >= again) {
            self.wanted.insert((seq, digest), step.now);
            step.broadcast(ZyzzyvaMessage::FetchBatch { seq, digest });
        }
    }

    pub(super) fn on_fetch_batch(&mut self, step: &mut Step, from: ReplicaId, seq: Seq, digest: Digest) {
        let accepted = self.log.get(seq).filter(|slot| slot.digest == digest).map(|slot| &slot.batch);
        let held = accepted.or_else(|| self.bodies.get(&(seq, digest)));
        if let Some(batch) = held.filter(|_| self.may_give(step, from, seq)).cloned() {
            self.given.insert((from, seq), step.now);
            step.send(from, ZyzzyvaMessage::BatchBody { seq, batch });
        }
    }

    pub(super) fn on_batch_body(&mut self, seq: Seq, batch: Arc<Batch>) {
        let digest = batch.digest();
        if self.wanted.remove(&(seq, digest)).is_some() {
            self.bodies.insert((seq, digest), batch);
        }
    }
}
