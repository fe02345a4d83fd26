//! Retransmission, driven by what the others say they have, and the fetching of batches that others have
//! accepted.

use super::log::Accepted;
use super::message::{Checkpoint, PaxosMessage, Proposal, Status, Vote};
use super::{Paxos, STATUS_TIMER, Step};
use crate::{Action, Batch};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_types::{Digest, Instant, ReplicaId, Seq};
use borsh::{BorshDeserialize, BorshSerialize};

/// How many sequence numbers one status brings again at most.
const RESEND_BURST: usize = 32;

/// A replica that waits for nothing sends its status only every so many periods.
const IDLE_PERIODS: u64 = 10;

/// And one that waits does so more often than that.
const SOON_PERIODS: u32 = 3;

/// What the others last said of themselves.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Peers {
    statuses: BTreeMap<ReplicaId, Peer>,
    ticks: u64,
    /// What this replica had executed at the last tick, and whether it was behind of a stable checkpoint then.
    at_tick: (Seq, bool),
}

impl Peers {
    /// How many have said last that they have executed less than this.
    pub(super) fn executed_below(&self, seq: Seq) -> usize {
        self.statuses.values().filter(|peer| peer.status.executed < seq).count()
    }
}

/// Who was asked for a batch, and when.
#[derive(Debug, Clone, Copy, BorshSerialize, BorshDeserialize)]
pub(super) struct Asked {
    /// Everybody, if that is nobody.
    whom: Option<ReplicaId>,
    /// How many status periods had ended by then.
    at: u64,
}

#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
struct Peer {
    status: Status,
    at: Instant,
    answered: Option<Instant>,
}

impl Paxos {
    pub(super) fn on_status_timer(&mut self, step: &mut Step) {
        step.actions.push(Action::SetTimer { id: STATUS_TIMER, after: self.config.settings.status_period });
        self.state.peers.ticks += 1;
        let now = (self.state.executed, self.state.behind.is_some());
        let at_tick = core::mem::replace(&mut self.state.peers.at_tick, now);
        self.fetch_state_if_stuck(step, at_tick == (self.state.executed, true));
        self.ask_where_others_stand(step);
        self.fetch_unfinished(step);
        self.retry_proposals(step);
        if self.is_waiting() || self.state.peers.ticks.is_multiple_of(IDLE_PERIODS) {
            step.broadcast(PaxosMessage::Status(self.status()));
        }
    }

    fn status(&self) -> Status {
        let state = &self.state;
        let (view, is_in_view, stable) = (state.view, state.is_in_view, state.stable);
        Status { view, is_in_view, stable, executed: state.executed }
    }

    /// Whether something is under way that the others' help may finish.
    fn is_waiting(&self) -> bool {
        let state = &self.state;
        let is_ahead = |peer: &Peer| {
            let theirs = peer.status;
            theirs.view > state.view || theirs.executed > state.executed || theirs.stable > state.stable
        };
        !state.is_in_view
            || state.behind.is_some()
            || !state.pending.is_empty()
            || !self.is_voting()
            || state.end.is_some()
            || state.log.last_seq().is_some_and(|last| last > state.executed)
            || state.own_checkpoints.last_key_value().is_some_and(|(seq, _)| *seq > state.stable)
            || state.peers.statuses.values().any(is_ahead)
    }

    pub(super) fn on_status(&mut self, step: &mut Step, from: ReplicaId, status: Status) {
        // A replica is in no view below one that it has promised: that was a former self.
        if self.state.promises.get(&from).is_some_and(|promise| promise.view > status.view) {
            self.state.promises.remove(&from);
        }
        let period = self.config.settings.status_period;
        let known = self.state.peers.statuses.get(&from);
        let last_answer = known.and_then(|peer| peer.answered);
        let is_answered = last_answer.is_some_and(|at| step.now.since(at) < period / 2);
        // What is on its way need not be sent again: only a peer that has not moved is helped.
        let is_stuck = known.is_some_and(|peer| {
            peer.status.executed == status.executed && peer.status.stable == status.stable
        });
        let is_soon = known.is_some_and(|peer| step.now.since(peer.at) < period * SOON_PERIODS);
        let answered = if is_answered { last_answer } else { Some(step.now) };
        self.state.peers.statuses.insert(from, Peer { status, at: step.now, answered });
        if is_answered {
            return;
        }
        if is_stuck && is_soon && from == self.leader() && !self.is_waiting() {
            // Perhaps for an answer to what got lost on its way here: it is to see that.
            step.send(from, PaxosMessage::Status(self.status()));
        }
        self.help_into_view(step, from, status);
        if let Some(checkpoint) = self.state.stable_checkpoint.filter(|_| status.stable < self.state.stable) {
            step.send(from, PaxosMessage::Stable(checkpoint));
        }
        if is_stuck {
            self.resend_checkpoints(step, from, status);
            self.resend_votes(step, from, status);
        }
    }

    fn help_into_view(&self, step: &mut Step, peer: ReplicaId, status: Status) {
        let state = &self.state;
        let misses_view = status.view < state.view || (status.view == state.view && !status.is_in_view);
        if !misses_view {
            return;
        }
        let is_sayable = !self.is_leading() || state.is_start_durable;
        if let Some(start_view) = state.start_view.clone().filter(|_| is_sayable) {
            step.send(peer, PaxosMessage::StartView(start_view));
        }
        if let Some(promise) = self.own_promise() {
            step.send(peer, PaxosMessage::Promise(promise));
        }
    }

    fn resend_checkpoints(&self, step: &mut Step, peer: ReplicaId, status: Status) {
        let said = self.state.own_checkpoints.range(..=self.state.made_durable);
        let is_missed = |seq: Seq| seq > status.stable && Some(seq) != self.state.end;
        for (seq, state) in said.filter(|(seq, _)| is_missed(**seq)) {
            step.send(peer, PaxosMessage::Checkpoint(Checkpoint { seq: *seq, state: *state }));
        }
        if let Some(own) = self.own_end() {
            step.send_signed(peer, PaxosMessage::Checkpoint(own));
        }
    }

    fn resend_votes(&self, step: &mut Step, peer: ReplicaId, status: Status) {
        let view = self.state.view;
        let missed = self.state.log.iter().filter(|(seq, _)| *seq > status.executed);
        for (seq, entry) in missed.take(RESEND_BURST) {
            if let Some((_, digest)) = entry.decided.filter(|_| seq <= self.state.executed) {
                step.send(peer, PaxosMessage::Decided { seq, digest });
                continue;
            }
            let Some(Accepted { view: accepted, digest, .. }) = entry.accepted.filter(|a| a.is_durable)
            else {
                continue;
            };
            // Also what the view was started with: the start may have been lost.
            let is_proposal = self.is_leading() && accepted == view;
            step.send(
                peer,
                match entry.batch(digest).filter(|_| is_proposal) {
                    Some(batch) => PaxosMessage::Accept(Proposal { view, seq, batch }),
                    None => PaxosMessage::Accepted(Vote { seq, view: accepted, digest }),
                },
            );
        }
    }

    /// Asks for a batch that others have, again only after a while, and not while what is missing of it may still come
    /// by itself: at first one of those who say that they have it, since each sends the whole, and later everybody.
    ///
    /// The while is a whole period of the status timer, and not of any clock: the time that a logical machine is given can
    /// be made to stand still.
    pub(super) fn fetch_batch(&mut self, step: &mut Step, seq: Seq, digest: Digest) {
        if self.may_come(seq, digest) {
            return;
        }
        let now = self.state.peers.ticks;
        let asked = self.state.wanted.get(&(seq, digest)).copied();
        if asked.is_some_and(|asked| now < asked.at + 2) {
            return;
        }
        self.state.mute.extend(asked.and_then(|asked| asked.whom));
        let whom = self.who_has(seq, digest).filter(|_| asked.is_none());
        self.state.wanted.insert((seq, digest), Asked { whom, at: now });
        let message = PaxosMessage::FetchBatch { seq, digest };
        match whom {
            Some(one) => step.send(one, message),
            None => step.broadcast(message),
        }
    }

    /// One of those who have accepted a batch: another one for each number, the leader only where nobody else has, and nobody
    /// who was asked in vain before.
    fn who_has(&self, seq: Seq, digest: Digest) -> Option<ReplicaId> {
        let entry = self.state.log.get(seq)?;
        let is_apt = |from: &ReplicaId| *from != self.me() && !self.state.mute.contains(from);
        let votes = entry.votes.iter().filter(|(from, (_, voted))| *voted == digest && is_apt(from));
        let (leader, others): (Vec<_>, Vec<_>) =
            votes.map(|(from, _)| *from).partition(|from| *from == self.leader());
        let candidates = if others.is_empty() { leader } else { others };
        let turn = usize::try_from(seq.0 % candidates.len().max(1) as u64).ok()?;
        candidates.get(turn).copied()
    }

    pub(super) fn on_fetch_batch(&mut self, step: &mut Step, from: ReplicaId, seq: Seq, digest: Digest) {
        let batch = self.state.log.get(seq).and_then(|entry| entry.batches.get(&digest)).cloned();
        if let Some(batch) = batch.filter(|_| self.may_give(step.now, (seq, digest, from))) {
            step.send(from, PaxosMessage::BatchBody { seq, batch });
        }
    }

    /// Whether a batch that was asked for may be given: not again and again.
    pub(super) fn may_give(&mut self, now: Instant, what: (Seq, Digest, ReplicaId)) -> bool {
        let again = self.config.settings.status_period / 2;
        let may = self.state.given.get(&what).is_none_or(|at| now.since(*at) >= again);
        if may {
            self.state.given.insert(what, now);
        }
        may
    }

    /// Takes up proposals whose batch was asked for in vain, or that came before this replica voted.
    fn retry_proposals(&mut self, step: &mut Step) {
        let proposed = self.state.log.iter().filter(|(_, entry)| entry.proposal.is_some());
        let proposed: Vec<_> = proposed.map(|(seq, _)| seq).collect();
        for seq in proposed {
            self.accept(step, seq);
        }
    }

    pub(super) fn on_batch_body(
        &mut self,
        step: &mut Step,
        from: ReplicaId,
        (seq, batch): (Seq, Arc<Batch>),
    ) {
        self.state.mute.remove(&from);
        let digest = batch.digest();
        if self.state.wanted.remove(&(seq, digest)).is_some() && self.is_in_window(seq) {
            self.state.log.entry(seq).batches.insert(digest, batch);
            self.accept(step, seq);
        }
    }
}
