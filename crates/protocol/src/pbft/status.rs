//! Retransmission, driven by what the others say they have (TOCS'02 §5.2), and the fetching of
//! batches that others agreed on.

use super::message::{PbftMessage, PrePrepare, Status, Vote};
use super::{Pbft, STATUS_TIMER, Step};
use crate::{Action, Batch};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, Instant, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// How many sequence numbers one status brings again at most.
const RESEND_BURST: usize = 32;

/// A replica that waits for nothing sends its status only every so many periods.
const IDLE_PERIODS: u64 = 10;

/// And one that waits does so more often than that.
const SOON_PERIODS: u32 = 3;

/// What the others last said of themselves.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Peers {
    statuses: BTreeMap<ReplicaId, Peer>,
    ticks: u64,
    /// What this replica had executed at the last tick, and whether it was behind of a stable checkpoint then.
    at_tick: (Seq, bool),
}

impl Peers {
    /// How many were last in a view below this one.
    pub(super) fn in_view_below(&self, view: View) -> usize {
        let statuses = self.statuses.values().map(|peer| &peer.status);
        statuses.filter(|status| status.is_in_view && status.view < view).count()
    }

    /// Who finds the primary of this view, which it is in, below a floor, and has said so for the last time
    /// no longer ago than `lifetime`. Whoever does says so again and again; who has fallen silent can't take
    /// it back.
    pub(super) fn suspecting(
        &self,
        view: View,
        now: Instant,
        lifetime: Duration,
    ) -> impl Iterator<Item = ReplicaId> {
        let suspects = move |Peer { status, at, .. }: &Peer| {
            let is_about_it = status.is_in_view && status.view == view && status.is_suspicious;
            is_about_it && now.since(*at) <= lifetime
        };
        self.statuses.iter().filter(move |(_, peer)| suspects(peer)).map(|(from, _)| *from)
    }

    /// How many have said last that they have executed less than this.
    pub(super) fn executed_below(&self, seq: Seq) -> usize {
        self.statuses.values().filter(|peer| peer.status.executed < seq).count()
    }
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
struct Peer {
    status: Status,
    at: Instant,
    answered: Option<Instant>,
}

impl Pbft {
    pub(super) fn on_status_timer(&mut self, step: &mut Step) {
        step.actions.push(Action::SetTimer { id: STATUS_TIMER, after: self.config.settings.status_period });
        self.peers.ticks += 1;
        let at_tick = core::mem::replace(&mut self.peers.at_tick, (self.executed, self.behind.is_some()));
        self.fetch_state_if_stuck(step, at_tick == (self.executed, true));
        self.ask_where_others_stand(step);
        self.leave_if_astray(step);
        self.ask_for_return(step);
        self.fetch_unfinished(step);
        self.retry_assignments(step);
        self.review_primary(step);
        if self.is_waiting() || self.peers.ticks.is_multiple_of(IDLE_PERIODS) {
            step.broadcast(PbftMessage::Status(self.status()));
        }
    }

    pub(super) fn status(&self) -> Status {
        // Who may come back to a view is to be helped into that one.
        let view = self.rejoinable().unwrap_or(self.view);
        Status {
            view,
            is_in_view: self.is_in_view,
            stable: self.stable,
            executed: self.executed,
            is_suspicious: self.floors.is_suspicious(),
        }
    }

    /// Who says within that time again where it stands waits for something.
    fn soon(&self) -> Duration {
        self.config.settings.status_period * SOON_PERIODS
    }

    /// Whether something is under way that the others' help may finish.
    fn is_waiting(&self) -> bool {
        // One alone may say what it likes.
        let is_ahead = |peer: &&Peer| {
            let theirs = peer.status;
            theirs.view > self.view || theirs.executed > self.executed || theirs.stable > self.stable
        };
        let ahead = self.peers.statuses.values().filter(is_ahead).count();
        !self.is_in_view
            || self.floors.is_suspicious()
            || self.behind.is_some()
            || self.awaits_digest()
            || self.end.is_some()
            || !self.has_started()
            || !self.pending.is_empty()
            || !self.membership.is_voter()
            || self.log.last_seq().is_some_and(|last| last > self.executed)
            || self.own_checkpoints.last_key_value().is_some_and(|(seq, _)| *seq > self.stable)
            || ahead >= self.quorums().one_correct()
    }

    pub(super) fn on_status(&mut self, step: &mut Step, from: ReplicaId, status: Status) {
        self.note_return(from, status);
        let answer_again = self.config.settings.status_period / 2;
        let known = self.peers.statuses.get(&from);
        let is_answered =
            known.and_then(|peer| peer.answered).is_some_and(|at| step.now.since(at) < answer_again);
        // What is on its way need not be sent again: only a peer that has not moved is helped.
        let is_stuck = known.is_some_and(|peer| {
            peer.status.executed == status.executed && peer.status.stable == status.stable
        });
        let answered = if is_answered { known.and_then(|peer| peer.answered) } else { Some(step.now) };
        let is_waiting = is_stuck && known.is_some_and(|peer| step.now.since(peer.at) < self.soon());
        self.peers.statuses.insert(from, Peer { status, at: step.now, answered });
        if is_answered {
            return;
        }
        if is_waiting && from == self.primary() && !self.is_waiting() {
            // Perhaps for an answer to what got lost on its way here: it is to see that.
            step.send(from, PbftMessage::Status(self.status()));
        }
        self.help_into_view(step, from, status);
        if let Some(certificate) = self.stable_certificate.clone().filter(|_| status.stable < self.stable) {
            step.send(from, PbftMessage::RelayStable(certificate));
        }
        if is_stuck {
            self.resend_checkpoints(step, from, status);
            self.resend_votes(step, from, status);
        }
    }

    fn help_into_view(&self, step: &mut Step, peer: ReplicaId, status: Status) {
        let misses_view = status.view < self.view || (status.view == self.view && !status.is_in_view);
        if !misses_view {
            return;
        }
        if self.is_in_view {
            step.actions.extend(self.new_view.clone().map(|signed| Action::Send {
                to: peer,
                message: PbftMessage::RelayNewView(signed),
                auth: crate::Auth::Mac,
            }));
        } else {
            if let Some(content) = self.own_view_change.clone().filter(|_| self.is_view_change_durable) {
                step.send_signed(peer, PbftMessage::ViewChange(content));
            }
            if let Some(content) = self.own_new_view.clone().filter(|_| self.is_new_view_durable) {
                step.send_signed(peer, PbftMessage::NewView(content));
            }
        }
    }

    fn resend_checkpoints(&self, step: &mut Step, peer: ReplicaId, status: Status) {
        for (seq, state) in
            self.own_checkpoints.range(..=self.made_durable).filter(|(seq, _)| **seq > status.stable)
        {
            let checkpoint = super::Checkpoint { seq: *seq, state: *state };
            step.send_signed(peer, PbftMessage::Checkpoint(checkpoint));
            self.tell_made(step, peer, checkpoint);
        }
    }

    fn resend_votes(&self, step: &mut Step, peer: ReplicaId, status: Status) {
        let me = self.me();
        let missed = self.log.iter().filter(|(seq, _)| *seq > status.executed);
        for (seq, entry) in missed.take(RESEND_BURST) {
            let own = |votes: &BTreeMap<_, _>| {
                votes.get(&me).map(|(view, digest)| Vote { view: *view, seq, digest: *digest })
            };
            let proposal = entry.assignment.filter(|a| a.is_durable && self.is_leading());
            if let Some((assignment, batch)) = proposal.and_then(|a| Some((a, entry.bodies.get(&a.digest)?)))
            {
                // Numbers that the new view itself assigned need no proposal; one more does no harm.
                let proposal = PrePrepare { view: assignment.view, seq, batch: Arc::clone(batch) };
                step.send(peer, PbftMessage::PrePrepare(proposal));
            }
            if let Some(vote) = own(&entry.prepares) {
                step.send(peer, PbftMessage::Prepare(vote));
            }
            if let Some(vote) = own(&entry.commits) {
                step.send(peer, PbftMessage::Commit(vote));
            }
            if let Some(digest) = entry.executed.filter(|_| seq <= self.executed) {
                step.send(peer, PbftMessage::Decided { seq, digest });
            }
        }
    }

    /// Asks everybody for a batch that others agreed on, again only after a while, and not while what is missing of
    /// it may still come by itself.
    pub(super) fn fetch_batch(&mut self, step: &mut Step, seq: Seq, digest: Digest) {
        if self.may_come(seq, digest) {
            return;
        }
        let again = self.config.settings.status_period;
        let asked = self.wanted.get(&(seq, digest));
        if asked.is_none_or(|at| step.now.since(*at) >= again) {
            self.wanted.insert((seq, digest), step.now);
            step.broadcast(PbftMessage::FetchBatch { seq, digest });
        }
    }

    pub(super) fn on_fetch_batch(&mut self, step: &mut Step, from: ReplicaId, seq: Seq, digest: Digest) {
        let batch = self.log.get(seq).and_then(|entry| entry.bodies.get(&digest)).cloned();
        if let Some(batch) = batch.filter(|_| self.may_give(step.now, (seq, digest, from))) {
            step.send(from, PbftMessage::BatchBody { seq, batch });
        }
    }

    /// Whether a batch that was asked for may be given: not again and again.
    pub(super) fn may_give(&mut self, now: Instant, what: (Seq, Digest, ReplicaId)) -> bool {
        let again = self.config.settings.status_period / 2;
        let may = self.given.get(&what).is_none_or(|at| now.since(*at) >= again);
        if may {
            self.given.insert(what, now);
        }
        may
    }

    /// Takes up assignments whose batch was asked for in vain, that came before this replica voted, or
    /// that it had accepted before it started again.
    fn retry_assignments(&mut self, step: &mut Step) {
        let is_assigned = |entry: &super::log::Entry| entry.assignment.is_some();
        let assigned: Vec<_> =
            self.log.iter().filter(|(_, entry)| is_assigned(entry)).map(|(seq, _)| seq).collect();
        for seq in assigned {
            self.accept_assignment(step, seq);
            self.prepare_if_due(step, seq);
        }
    }

    pub(super) fn on_batch_body(&mut self, step: &mut Step, seq: Seq, batch: Arc<Batch>) {
        let digest = batch.digest();
        if self.wanted.remove(&(seq, digest)).is_some() && self.is_in_watermarks(seq) {
            self.log.entry(seq).bodies.insert(digest, batch);
            self.accept_assignment(step, seq);
        }
    }
}
